"""Models that are told nothing: an autoencoder or a GAN in use, codes to images and, where it can, back.

model = condgen.load("runs/vae/model")
model.decode(model.encode(images))       # what it keeps of images
model.sample(range(16))                  # new ones, a seed names each
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condgen.baselines.autoencoders import Autoencoder
from condgen.baselines.gans import Gan, GanCritic
from condgen.baselines.mixture import Mixture
from condgen.contracts import CondgenError, short
from condgen.files.images import GeneratedImage
from condgen.files.registry import INDEX, LATENTS
from condgen.files.weights import load_part, save_part
from condgen.pipelines.base import generator, index_of, model_id_of, seeds_from, to_pil, write_index

ROWS = 256
"""Images or codes that go through a network at a time."""
NETS: dict[str, type[nn.Module]] = {"autoencoder": Autoencoder, "gan": Gan}
"""Kind -> class."""
BESIDE: dict[str, type[nn.Module]] = {"mixture": Mixture, "critic": GanCritic}
"""Parts that may stand beside the network."""


class LatentModel:
    """An autoencoder or a GAN.

    Args:
        net: one of NETS.
        about: what `model_index.json` says beyond the parts.
        model_id: sixteen hex digits that name the weights.
        mixture: where new codes are drawn from, where the net has no prior of its own.
        critic: of a GAN, for its features.
    """

    TASK = "unconditional-image-generation"

    path: Path | None = None
    """The folder that it was read from."""

    def __init__(
        self, net: nn.Module, about: dict[str, Any] | None = None, model_id: str = "", mixture: Mixture | None = None,
        critic: GanCritic | None = None,
    ):  # fmt: skip
        self.net, self.about, self.model_id, self.mixture = net.eval(), about or {}, model_id, mixture
        self.critic = critic and critic.eval()

    @property
    def name(self) -> str:
        return self.about.get("name", "model")

    @property
    def kind(self) -> str:
        """Its net's name in NETS."""
        return next(kind for kind, cls in NETS.items() if type(self.net) is cls)

    @property
    def TAGS(self) -> tuple[str, ...]:
        """For the card."""
        return (self.kind, "unconditional-image-generation")

    @property
    def stack(self) -> str:
        """What it is made of, for its card."""
        shape = self.net.config
        kind = f"{'variational ' if self.variational else ''}{self.kind}" if self.encodes else self.kind.upper()
        return f"A {kind} (body {shape.body}, codes of {self.latent} numbers)"

    @property
    def size(self) -> int:
        """Edge S of the images."""
        return self.net.spec.size

    @property
    def image_channels(self) -> int:
        """Channels C of the images."""
        return self.net.spec.image_channels

    @property
    def latent(self) -> int:
        """Length Z of the codes."""
        return self.net.config.latent

    @property
    def encodes(self) -> bool:
        """Whether there is a way from images to codes."""
        return hasattr(self.net, "posterior")

    @property
    def variational(self) -> bool:
        """Whether an image has a distribution of codes, and so a likelihood."""
        return self.encodes and self.net.variational

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: torch.device | str) -> LatentModel:
        """Moves it."""
        for part in (self.net, self.critic):
            if part is not None:
                part.to(device)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, S, S) in [-1, 1], any number -> codes (N, Z) on the CPU, the mean where there is a distribution.

        Raises:
            CondgenError: it has no encoder.
        """
        self.check_encodes()
        return self._in_chunks(self.net.encode, images)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, C, S, S) -> mean and log variance of the codes, (N, Z) each, or None where they are points."""
        self.check_encodes()
        both = [
            self._in_chunks(lambda part, k=k: self.net.posterior(part)[k], images) for k in range(self.variational + 1)
        ]
        return both[0], both[1] if self.variational else None

    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, Z), any number -> images (N, C, S, S) in [-1, 1] on the CPU."""
        return self._in_chunks(self.net.decode, z).clamp(-1, 1)

    def draw(self, seeds: Sequence[int]) -> Tensor:
        """New codes, (N, Z) on the CPU, one for each seed: of the prior, or of the mixture where there is none.

        Raises:
            CondgenError: there is neither; or a seed is out of range.
        """
        rng = [generator(seed) for seed in seeds]
        if not self.encodes or self.variational:
            return self.net.draw(rng)
        if self.mixture is None:
            raise CondgenError(f"{self.name} has no prior and no mixture to draw codes from: export its run again.")
        return self.mixture.draw(rng)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """New images, (N, C, S, S) in [-1, 1] on the CPU, one for each seed."""
        return self.decode(self.draw(seeds))

    def generate_images(self, n: int = 1, seed: int = 0) -> Iterator[GeneratedImage]:
        """n new images with their recipe; image i has seed `seed + i`, and is painted alone."""
        for own in seeds_from(seed, n):
            began = time.perf_counter()
            image = to_pil(self.sample([own]))[0]
            recipe = {"labels": {}, "seed": own, "size": self.size, "model": self.name, "model_id": self.model_id}
            yield GeneratedImage(image, recipe, None, (time.perf_counter() - began) * 1000)

    def check_encodes(self) -> None:
        """Raises `CondgenError` where there is no way from images to codes."""
        if not self.encodes:
            raise CondgenError(
                f"{self.name} is a {self.kind}, which has no encoder: `condgen latent-space project` searches for the "
                "latent of an image."
            )

    @torch.inference_mode()
    def _in_chunks(self, compute: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        return torch.cat([compute(part.to(self.device)).float().cpu() for part in rows.split(ROWS)])

    def save(self, folder: Path | str, card: str = "") -> None:
        """Writes the model directory, with weights of 32 bits."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_part(self.net, folder / self.kind)
        beside = {name: part for name in BESIDE if (part := getattr(self, name)) is not None}
        for name, part in beside.items():
            save_part(part, folder / name)
        head = {"net": self.kind} | {name: name in beside for name in BESIDE}
        write_index(folder, LATENTS, head, self.about, card)

    @classmethod
    def load(cls, folder: Path | str) -> LatentModel:
        """Reads a model directory, without network and without pickle.

        Raises:
            CondgenError: something is missing, damaged or of another kind; the message names the file.
        """
        folder = Path(folder)
        index = index_of(folder, LATENTS)
        parts = {name: load_part(kind, folder / name) for name, kind in parts_of(index, folder).items()}
        about = {name: value for name, value in index.items() if name not in ("_class_name", "format", "net", *BESIDE)}
        model = cls(parts.pop(index["net"]), about, model_id_of(folder), **parts)
        model.path = folder
        return model


def parts_of(index: dict, folder: Path) -> dict[str, type[nn.Module]]:
    """Folder -> class of every part that an index names.

    Raises:
        CondgenError: it names a net that there is not.
    """
    kind = index.get("net")
    if not isinstance(kind, str) or kind not in NETS:
        raise CondgenError(f"{folder / INDEX} names the net {short(kind)}, expected one of {', '.join(NETS)}.")
    return {kind: NETS[kind]} | {name: kinds for name, kinds in BESIDE.items() if index.get(name) is True}
