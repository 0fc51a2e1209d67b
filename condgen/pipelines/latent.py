"""Unconditional models: autoencoders and GANs decode latents to images; autoencoders also encode images.

model = condgen.load("runs/vae/model")
model.decode(model.encode(images))       # reconstructions
model.sample(range(16))                  # new images, one per seed
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from condgen.baselines import LATENT_NETWORKS
from condgen.contracts import CondgenError
from condgen.files.images import GeneratedImage
from condgen.pipelines.base import Pipeline, generator, network_of, seeds_from, to_pil

if TYPE_CHECKING:
    from condgen.baselines.gans import GanCritic
    from condgen.baselines.mixture import Mixture

OPTIONAL = ("mixture", "critic")
"""Parts that a model may have besides its network."""


def _optional(name: str) -> property:
    """Property for an optional part: one of the modules, or None; it can be set."""

    def assign(model: LatentModel, part: nn.Module | None) -> None:
        model.modules.pop(name, None)
        if part is not None:
            model.modules[name] = part.eval()

    return property(lambda model: model.modules.get(name), assign)


class LatentModel(Pipeline):
    """An autoencoder or a GAN.

    Args:
        net: a network of a kind in `baselines.LATENT_NETWORKS`.
        about, model_id: see `Pipeline`.
        mixture: the distribution that latents are drawn from, if the network has no prior.
        critic: the critic of a GAN, for its features.
    """

    hub_task = "unconditional-image-generation"
    described = ("net", *OPTIONAL)
    mixture, critic = map(_optional, OPTIONAL)

    def __init__(
        self, net: nn.Module, about: dict[str, Any] | None = None, model_id: str = "", mixture: Mixture | None = None,
        critic: GanCritic | None = None,
    ):  # fmt: skip
        self.net = net
        super().__init__(net, {self.network: net}, about, model_id)
        self.mixture, self.critic = mixture, critic

    @property
    def network(self) -> str:
        """The kind of its network."""
        return LATENT_NETWORKS.name_of(self.net)

    @property
    def tags(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.network, "unconditional-image-generation")

    @property
    def stack(self) -> str:  # type: ignore[override]
        network = f"{'variational ' if self.variational else ''}{self.network}" if self.encodes else "GAN"
        return f"A {network} (body {self.net.config.body}, {self.latent} latent dimensions)"

    @property
    def latent(self) -> int:
        """Number Z of latent dimensions."""
        return self.net.config.latent

    @property
    def encodes(self) -> bool:
        """True if the model has an encoder."""
        return self.net.encodes

    @property
    def variational(self) -> bool:
        """True if an image has a distribution of latents, and therefore a likelihood."""
        return self.net.variational

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, S, S) in [-1, 1], any N -> latents (N, Z) on the CPU, the mean where there is a distribution.

        Raises:
            CondgenError: the model has no encoder.
        """
        self.check_encodes()
        return self._in_chunks(self.net.encode, images)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, C, S, S) -> mean and log variance of the latents, (N, Z) each; None where they have no variance."""
        self.check_encodes()
        both = [
            self._in_chunks(lambda part, k=k: self.net.posterior(part)[k], images) for k in range(self.variational + 1)
        ]
        return both[0], both[1] if self.variational else None

    def decode(self, z: Tensor) -> Tensor:
        """Latents (N, Z), any N -> images (N, C, S, S) in [-1, 1] on the CPU."""
        return self._in_chunks(self.net.decode, z).clamp(-1, 1)

    def draw(self, seeds: Sequence[int]) -> Tensor:
        """New latents, (N, Z) on the CPU, one per seed: from the prior, or from the mixture where there is none.

        Raises:
            CondgenError: there is neither; or a seed is out of range.
        """
        rng = [generator(seed) for seed in seeds]
        if not self.encodes or self.variational:
            return self.net.draw(rng)
        if self.mixture is None:
            when = "its run fits one at its end" if "unfinished" in self.about else "export its run again"
            raise CondgenError(f"{self.name} has no prior and no mixture to draw latents from: {when}.")
        return self.mixture.draw(rng)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """New images, (N, C, S, S) in [-1, 1] on the CPU, one per seed."""
        return self.decode(self.draw(seeds))

    def generate(self, n: int = 1, seed: int = 0) -> Iterator[GeneratedImage]:
        """Generates n images with their recipes, one at a time; image i has seed `seed + i`."""
        for image_seed in seeds_from(seed, n):
            began = time.perf_counter()
            image = to_pil(self.sample([image_seed]))[0]
            recipe = {"labels": {}, "seed": image_seed, "size": self.size}
            recipe |= {"model": self.name, "model_id": self.model_id}
            yield GeneratedImage(image, recipe, None, (time.perf_counter() - began) * 1000)

    def _generate_from(self, recipe: dict[str, Any], options: dict[str, float]) -> Iterator[GeneratedImage]:
        return self.generate(seed=recipe["seed"])

    def check_encodes(self) -> None:
        """Raises `CondgenError` where there is no encoder."""
        if not self.encodes:
            raise CondgenError(
                f"{self.name} is a {self.network}, which has no encoder: `condgen latent-space project` searches for "
                "the latent of an image."
            )

    def part_fields(self) -> dict[str, Any]:
        return {"net": self.network} | {name: getattr(self, name) is not None for name in OPTIONAL}

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        from condgen.baselines.gans import GanCritic
        from condgen.baselines.mixture import Mixture

        optional = {"mixture": Mixture, "critic": GanCritic}
        named = {name: optional[name] for name in OPTIONAL if index.get(name) is True}
        return {index["net"]: network_of(LATENT_NETWORKS, index, "net", path)} | named

    @classmethod
    def _arguments(cls, index, parts) -> dict[str, Any]:
        return {"net": parts.pop(index["net"])} | parts

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        net = modules[index["net"]]
        size = {"size": net.spec.size, "image_channels": net.spec.image_channels}
        return size | {"latent": net.config.latent}
