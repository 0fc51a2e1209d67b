"""Registries of networks: each kind is one file with a `Kind`, and one call of `register`.

DECODERS.register("toy", DecoderKind(ToyDecoder, ToyConfig, ToyTraining, ToyObjective))

Building, loading, evaluation, the command line and the contract tests read the registries: `decoders.DECODERS`,
`priors.PRIORS`, `baselines.LATENT_NETWORKS` and `baselines.TRANSLATION_NETWORKS`. A kind is imported when it is first
looked up. Importing this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from condgen.contracts import CondgenError, short

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Kind:
    """A kind of network and its training.

    Args:
        network: class of the network, built as `network(config, spec)`; both are kept as attributes.
        config: dataclass of its options.
        training: builds the Trainable around a network; its further arguments depend on the family.
        objective: dataclass of the options of that training, None where it has none.
        calibrate: sets statistics of an untrained network from training data, in place: images (N, C, S, S) in [-1, 1];
            of a prior a dict of `image_embed` and `text_embed`, (N, D) each.
        configure: completes a config by such training data, before the network is built.
    """

    network: type[nn.Module]
    config: type
    training: Callable[..., nn.Module] | None = None
    objective: type | None = None
    calibrate: Callable[[nn.Module, Any], None] | None = None
    configure: Callable[[Any, Any], Any] | None = None


def kind_in(module: str, name: str = "KIND") -> Callable[[], Any]:
    """A function that imports a module and returns the kind in it."""
    return lambda: getattr(import_module(module), name)


K = TypeVar("K", bound=Kind)


class Registry(Mapping[str, K], Generic[K]):
    """The kinds of a family by name.

    Args:
        family: its name in messages, e.g. `decoder`.
    """

    def __init__(self, family: str):
        self.family = family
        self._kinds: dict[str, K | Callable[[], K]] = {}

    def register(self, name: str, kind: K | Callable[[], K]) -> None:
        """Adds a kind.

        Args:
            name: its name on the command line and in the index of models.
            kind: the kind, or a function that imports it.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._kinds:
            raise ValueError(f"There is a {self.family} {name!r} already.")
        self._kinds[name] = kind

    def unregister(self, name: str) -> None:
        """Removes a kind."""
        del self._kinds[name]

    def __getitem__(self, name: str) -> K:
        kind = self._kinds[name]
        if not isinstance(kind, Kind):
            kind = self._kinds[name] = kind()
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._kinds

    def find(self, name: Any) -> K:
        """A kind by name; for an unknown name, `CondgenError` lists the kinds."""
        if name not in self:
            raise CondgenError(f"There is no {self.family} {short(name)}; choose from {', '.join(self)}.")
        return self[name]

    def name_of(self, network: nn.Module) -> str:
        """The name of a network's kind; `CondgenError` where its class is not registered."""
        for name in sorted(self, key=lambda name: not isinstance(self._kinds[name], Kind)):  # the imported ones first
            if type(network) is self[name].network:
                return name
        raise CondgenError(f"{type(network).__name__} is not registered as a {self.family}.")

    def kind_of(self, network: nn.Module) -> K:
        """The kind of a network; errors as in `name_of`."""
        return self[self.name_of(network)]
