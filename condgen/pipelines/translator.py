"""Image-to-image translation: in one direction after training on pairs, in both after unpaired training.

model = condgen.load("runs/shapes/model")
circles = model.translate(squares)                # (N, C, S, S) in [-1, 1]
squares = model.translate(circles, to="squares")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from condgen.baselines import TRANSLATION_NETWORKS
from condgen.contracts import CondgenError, listed, short
from condgen.data.batches.base import to_float
from condgen.data.options import ReadOptions
from condgen.data.sources.images import fit, open_image
from condgen.data.synthetic.pairs import edges as edges_of
from condgen.files.images import make_folder, png_with_recipe, slug, write_beside
from condgen.pipelines.base import Pipeline, network_of, to_pil

ROWS = 64
"""Images that go through a generator at a time."""
FORWARD, BACKWARD = "a_to_b", "b_to_a"
"""Folders of the generators; a model trained on pairs has FORWARD only."""


@dataclass(frozen=True)
class Translation:
    """One translated image.

    Args:
        source: the file it was read from.
        given: the input of the generator, PIL.
        image: its output, PIL.
        recipe: `translated`, the name of the file; `to`, size, model and model_id.
    """

    source: Path
    given: Image.Image
    image: Image.Image
    recipe: dict[str, Any]

    @property
    def to(self) -> str:
        """The target side of the translation."""
        return self.recipe["to"]

    def save(self, folder: Path | str) -> Path:
        """Writes a PNG with its recipe into a folder, created if missing; returns its path, see `write_beside`."""
        return write_beside(make_folder(folder) / self.file_name, self.png())

    @property
    def file_name(self) -> str:
        return f"{slug(self.source.stem)}-{slug(self.to)}.png"

    def png(self) -> bytes:
        """The image as a PNG with its recipe."""
        parameters = ", ".join(f"{name}: {value}" for name, value in self.recipe.items())
        return png_with_recipe(self.image, self.recipe, parameters)


class Translator(Pipeline):
    """A translator with one generator, or two for both directions.

    Args:
        nets: generators by folder: FORWARD and, for the other direction, BACKWARD.
        sides: names of the source and target side.
        about, model_id: see `Pipeline`.
    """

    hub_task = "image-to-image"
    tags = ("image-to-image", "image-translation")
    default_name = "translator"
    described = ("net", "both_ways", "sides")
    half_parts = (FORWARD, BACKWARD)

    def __init__(self, nets: dict[str, nn.Module], sides: tuple[str, str], about: dict | None = None, model_id=""):
        self.nets, self.sides = nets, tuple(sides)
        super().__init__(nets[FORWARD], nets, about, model_id)

    @property
    def stack(self) -> str:  # type: ignore[override]
        learned = "without pairs" if self.both_ways else "from pairs"
        return f"An image translator ({' to '.join(self.sides)}; {self._network}), trained {learned},"

    @property
    def _network(self) -> str:
        """The kind of its generators."""
        return TRANSLATION_NETWORKS.name_of(self.main)

    @property
    def both_ways(self) -> bool:
        """True if the model translates in both directions."""
        return BACKWARD in self.nets

    @property
    def targets(self) -> tuple[str, ...]:
        """The possible target sides; the first is the default."""
        return self.sides[::-1] if self.both_ways else self.sides[1:]

    def net(self, to: str = "") -> nn.Module:
        """The generator that translates to a side; for an unknown side, `CondgenError` lists the targets."""
        to = to or self.targets[0]
        if to not in self.targets:
            raise CondgenError(f"{self.name} does not translate to {short(to)}. It does to {listed(self.targets)}.")
        return self.nets[FORWARD if to == self.targets[0] else BACKWARD]

    def translate(self, images: Tensor, to: str = "") -> Tensor:
        """(N, C, S, S) in [-1, 1], any N -> (N, K, S, S) in [-1, 1] on the CPU.

        Images are converted to the channels that the generator reads, grey or RGB.

        Args:
            to: one of `targets`.

        Raises:
            CondgenError: there is no such target, or the images have another size.
        """
        net = self.net(to)
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2:] != (self.size, self.size):
            raise CondgenError(
                f"{self.name} translates images of {self.size} x {self.size} pixels, in a tensor (N, 1 or 3, "
                f"{self.size}, {self.size}); got {tuple(images.shape)}."
            )
        return self._in_chunks(lambda part: net(part).clamp(-1, 1), with_channels(images, net.spec.reads), ROWS)

    def translations(
        self,
        files: Iterable[Path | str],
        to: str = "",
        resize: Literal["crop", "pad"] | None = None,
        edges: bool = False,
    ) -> Iterator[Translation]:
        """Translates image files, one at a time.

        Args:
            to: one of `targets`.
            resize: `crop` or `pad` to a square; None as in training.
            edges: translate the edges of the images, see `data.synthetic.pairs.edges`.

        Raises:
            CondgenError: there is no such target, or a file is no image; the message names it.
        """
        to, reading = to or self.targets[0], ReadOptions.stored(self.about.get("reading"))
        resize = resize or reading.resize
        for source in map(Path, files):
            pixels = fit(open_image(source, value_range=reading.value_range), self.size, resize)[None]
            given = with_channels(to_float(edges_of(pixels) if edges else pixels), self.net(to).spec.reads)
            recipe = {"translated": source.name, "to": to, "size": self.size}
            recipe |= {"model": self.name, "model_id": self.model_id}
            (before,), (after,) = to_pil(given), to_pil(self.translate(given, to))
            yield Translation(source, before, after, recipe)

    def part_fields(self) -> dict[str, Any]:
        return {"net": self._network, "both_ways": self.both_ways, "sides": list(self.sides), "size": self.size}

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        sides = index.get("sides")
        valid = isinstance(sides, list) and len(sides) == 2 and all(isinstance(one, str) and one for one in sides)
        if not valid or sides[0] == sides[1]:
            raise CondgenError(f"{path} names the sides {short(sides)}, expected two names.")
        names = (FORWARD, BACKWARD) if index.get("both_ways") is True else (FORWARD,)
        return dict.fromkeys(names, network_of(TRANSLATION_NETWORKS, index, "net", path))

    @classmethod
    def _arguments(cls, index, parts) -> dict[str, Any]:
        return {"nets": parts, "sides": tuple(index["sides"])}

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        size = next(iter(modules.values())).spec.size
        return {"size": size, "translates": (" and " if len(modules) > 1 else " to ").join(index["sides"])}


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Converts images (N, 1 or 3, S, S) to grey or RGB; grey is brightness (ITU-R BT.601)."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor((0.299, 0.587, 0.114), device=images.device)
    return (images * weights[:, None, None]).sum(1, keepdim=True)
