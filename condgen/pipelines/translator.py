"""Translators in use: image to image, one way where pairs were learned from, both ways where there were none.

model = condgen.load("runs/shapes/model")
circles = model.translate(squares)                # (N, C, S, S) in [-1, 1]
squares = model.translate(circles, to="squares")
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor, nn

from condgen.baselines.translation_nets import NETS
from condgen.contracts import CondgenError, listed, short
from condgen.data.batches.captions import to_float
from condgen.data.sources.images import fit, open_image
from condgen.data.synthetic.pairs import edges as edges_of
from condgen.files.images import KEY, make_folder, png_bytes, slug, write_beside
from condgen.files.registry import INDEX, TRANSLATORS
from condgen.files.weights import load_part, save_part
from condgen.pipelines.base import index_of, model_id_of, to_pil, write_index

ROWS = 64
"""Images that go through a network at a time."""
THERE, BACK = "a_to_b", "b_to_a"
"""Folders of the generators; one who learned from pairs knows no way back."""


@dataclass(frozen=True)
class Translation:
    """One image, translated.

    Args:
        source: the file that it was read from.
        given: what of it was translated, PIL.
        image: what came of it, PIL.
        recipe: `translated`, the name of the file; `to`, size, model and model_id.
    """

    source: Path
    given: Image.Image
    image: Image.Image
    recipe: dict[str, Any]

    @property
    def to(self) -> str:
        """The side that it was translated to."""
        return self.recipe["to"]

    def save(self, folder: Path | str) -> Path:
        """Writes a PNG with its recipe into a folder, which is made if missing; gives its path, see `write_beside`."""
        told = ", ".join(f"{name}: {value}" for name, value in self.recipe.items())
        text = PngImagePlugin.PngInfo()
        text.add_itxt("parameters", told.encode("utf-8", "replace").decode())
        text.add_itxt(KEY, json.dumps(self.recipe, ensure_ascii=True, sort_keys=True))
        name = f"{slug(self.source.stem)}-{slug(self.to)}.png"
        return write_beside(make_folder(folder) / name, png_bytes(self.image, pnginfo=text))


class Translator:
    """One generator, or two.

    Args:
        nets: by their folder: THERE and, where there is a way back, BACK.
        sides: what a and b are called.
        about: what `model_index.json` says beyond the parts.
        model_id: sixteen hex digits that name the weights.
    """

    TASK = "image-to-image"
    TAGS = ("image-to-image", "image-translation")

    path: Path | None = None
    """The folder that it was read from."""

    def __init__(self, nets: dict[str, nn.Module], sides: tuple[str, str], about: dict | None = None, model_id=""):
        self.nets, self.sides, self.about, self.model_id = nets, tuple(sides), about or {}, model_id
        for net in nets.values():
            net.eval()

    @property
    def name(self) -> str:
        return self.about.get("name", "translator")

    @property
    def stack(self) -> str:
        """What it is made of, for its card."""
        learned = "without pairs" if self.both_ways else "from pairs"
        return f"A translator of images ({' to '.join(self.sides)}; {_kind_of(self.nets[THERE])}), learned {learned},"

    @property
    def size(self) -> int:
        """Edge S of the images."""
        return self.nets[THERE].spec.size

    @property
    def both_ways(self) -> bool:
        """Whether it knows the way back."""
        return BACK in self.nets

    @property
    def targets(self) -> tuple[str, ...]:
        """What it can translate to; the first unless something else is asked for."""
        return self.sides[::-1] if self.both_ways else self.sides[1:]

    @property
    def device(self) -> torch.device:
        return next(self.nets[THERE].parameters()).device

    def to(self, device: torch.device | str) -> Translator:
        """Moves it."""
        for net in self.nets.values():
            net.to(device)
        return self

    def net(self, to: str = "") -> nn.Module:
        """The generator that translates to a side; `CondgenError` names what there is."""
        to = to or self.targets[0]
        if to not in self.targets:
            raise CondgenError(f"{self.name} does not translate to {short(to)}. It does to {listed(self.targets)}.")
        return self.nets[THERE if to == self.targets[0] else BACK]

    @torch.inference_mode()
    def translate(self, images: Tensor, to: str = "") -> Tensor:
        """(N, C, S, S) in [-1, 1], any number -> (N, K, S, S) in [-1, 1] on the CPU.

        Grey images are taken for coloured ones, and colours made grey, where it reads the other.

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
        parts = recoloured(images, net.spec.reads).split(ROWS)
        return torch.cat([net(part.to(self.device)).clamp(-1, 1).float().cpu() for part in parts])

    def translations(
        self,
        files: Iterable[Path | str],
        to: str = "",
        resize: Literal["crop", "pad"] | None = None,
        edges: bool = False,
    ) -> Iterator[Translation]:
        """Translates image files, one after the other.

        Args:
            to: one of `targets`.
            resize: how images that are not square become so; None as those of the training did.
            edges: translate their edges, see `data.drawn_pairs.edges`.

        Raises:
            CondgenError: there is no such target, or a file is no image; the message names it.
        """
        to, trained = to or self.targets[0], self.about.get("reading")
        resize = resize or ("pad" if isinstance(trained, dict) and trained.get("resize") == "pad" else "crop")
        for source in map(Path, files):
            pixels = fit(open_image(source), self.size, resize)[None]
            given = recoloured(to_float(edges_of(pixels) if edges else pixels), self.net(to).spec.reads)
            recipe = {"translated": source.name, "to": to, "size": self.size}
            recipe |= {"model": self.name, "model_id": self.model_id}
            (before,), (after,) = to_pil(given), to_pil(self.translate(given, to))
            yield Translation(source, before, after, recipe)

    def save(self, folder: Path | str, card: str = "") -> None:
        """Writes the model directory."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, net in self.nets.items():
            save_part(net, folder / name, half=True)
        head = {"net": _kind_of(self.nets[THERE]), "both_ways": self.both_ways, "sides": list(self.sides)}
        write_index(folder, TRANSLATORS, head, {"size": self.size} | self.about, card)

    @classmethod
    def load(cls, folder: Path | str) -> Translator:
        """Reads a model directory, without network and without pickle.

        Raises:
            CondgenError: something is missing, damaged or of another kind; the message names the file.
        """
        folder = Path(folder)
        index = read_index(folder)
        nets = {name: load_part(kind, folder / name) for name, kind in parts_of(index).items()}
        own = ("_class_name", "format", "net", "both_ways", "sides")
        about = {name: value for name, value in index.items() if name not in own}
        model = cls(nets, tuple(index["sides"]), about, model_id_of(folder))
        model.path = folder
        return model


def recoloured(images: Tensor, channels: int) -> Tensor:
    """(N, 1 or 3, S, S) with so many channels; grey is brightness (ITU-R BT.601)."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor((0.299, 0.587, 0.114), device=images.device)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json`; `CondgenError` when it is missing or not of a translator."""
    index = index_of(folder, TRANSLATORS)
    sides = index.get("sides")
    sound = isinstance(sides, list) and len(sides) == 2 and all(isinstance(one, str) and one for one in sides)
    if not sound or sides[0] == sides[1]:
        raise CondgenError(f"{folder / INDEX} names the sides {short(sides)}, expected two names.")
    if index.get("net") not in [*NETS]:
        raise CondgenError(f"{folder / INDEX} names the net {short(index.get('net'))}, expected {' or '.join(NETS)}.")
    return index


def parts_of(index: dict[str, Any]) -> dict[str, type[nn.Module]]:
    """Folder -> class of every part with weights that an index names."""
    names = (THERE, BACK) if index.get("both_ways") is True else (THERE,)
    return dict.fromkeys(names, NETS[index["net"]])


def _kind_of(net: nn.Module) -> str:
    """The name of a generator's kind in NETS."""
    return next(kind for kind, cls in NETS.items() if type(net) is cls)
