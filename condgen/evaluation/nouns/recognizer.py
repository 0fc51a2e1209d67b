"""Recognises the layers that an image is composed of, without learned parts.

An image is explained by a stack: of each part one layer, or none, laid over each other from the bottom to the top. The
stack is found by least squares, one part after the other while the rest is held fixed. Layers compete by how much of
the image's error they remove where they are visible; no layer at all removes none. Generated images are often a little
soft, so blurred layers are tried as well.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from condgen.contracts import CondgenError

NOUNS_ORDER = ("background", "body", "accessory", "head", "glasses")
SWEEPS = 3  # rounds over all parts; with two, one true image in some thousands is still badly explained
MIN_GAIN = 1e-3  # squared error, colours in [0, 1], summed over the image: above what rounding makes up
TWIN_STEP = 16 / 255  # two colours that differ by less in every channel are hard to tell apart
TWIN_SHARE = 0.05  # two layers that differ in fewer of their pixels are near twins


class LayerRecognizer:
    """Recognises the layers that images are composed of.

    Args:
        layers: for each part, bottom first, its layers as uint8 RGBA (K, S, S, 4), not premultiplied.
        names: for each part, the names of its K layers; not used here.
        blurs: standard deviations in pixels of the softness to try; 0 is sharp.
        max_error: root mean square error in levels of 255, over the pixels where a part is visible, beyond which it is
            not recognised. Noise of standard deviation s alone makes an error of s.
    """

    def __init__(
        self,
        layers: dict[str, Tensor],
        names: dict[str, Sequence[str]] | None = None,
        blurs: Sequence[float] = (0.0, 0.5, 0.7),
        max_error: float = 30.0,
    ):
        self.order = tuple(layers)
        self.names = names or {}
        self.max_error = max_error
        sharp = {part: _premultiplied(torch.as_tensor(rgba)) for part, rgba in layers.items()}
        self.side = next(iter(sharp.values())).shape[-1]
        if any(rgba.shape[1:] != (4, self.side, self.side) for rgba in sharp.values()):
            raise ValueError(f"layers must be square RGBA of one size, (K, {self.side}, {self.side}, 4) for every part")
        self._blurred = [{part: _split(_soften(rgba, blur)) for part, rgba in sharp.items()} for blur in blurs]
        self._sharp = {part: _split(rgba) for part, rgba in sharp.items()}

    @classmethod
    def from_parquet(cls, path: str | Path, order: Sequence[str] = NOUNS_ORDER, **options) -> LayerRecognizer:
        """From a table with columns image (RGBA), part, index, name. `order` names the parts to use, bottom first.

        Raises:
            CondgenError: the file is missing or another table.
        """
        try:
            layers, names = _read_layers(path, order)
            return cls(layers, names, **options)
        except (OSError, ValueError, TypeError, LookupError, Image.DecompressionBombError) as error:
            raise CondgenError(
                f"{path} is no table of layers ({error}). Expected a parquet with the columns image, part, index, name."
            ) from None

    def explain(self, images: Tensor, batch: int = 512) -> dict[str, Tensor]:
        """The layer that each image shows, for every part.

        Args:
            images: uint8 (N, 3, S, S), tensor or array.
            batch: images worked on at a time; the answer does not depend on it.

        Returns:
            int64 (N,) for each part: the index of the layer, or -1 where no layer is visible or fits well enough.
        """
        images = torch.as_tensor(images).cpu()
        if images.dtype != torch.uint8 or images.shape[1:] != (3, self.side, self.side):
            expected = f"uint8 (N, 3, {self.side}, {self.side})"
            raise ValueError(f"images must be {expected}, got {images.dtype} {tuple(images.shape)}")
        found = [self._explain(some.flatten(2).float() / 255) for some in images.split(batch)]
        return {part: torch.cat([one[part] for one in found]) for part in self.order}

    def score(self, images: Tensor, expected: dict[str, Tensor]) -> dict[str, float]:
        """The shares of images that show the expected layers.

        Args:
            images: uint8 (N, 3, S, S).
            expected: for each part of interest, the index of its layer, (N,).

        Returns:
            shares of the N images: for each part, those with the right layer; `all`, those with every part right;
            `<part>_unrecognised`, those in which no layer of the part was recognised (they count as wrong).
        """
        found = self.explain(images)
        expected = {part: torch.as_tensor(index).cpu() for part, index in expected.items()}
        if any(index.shape != (len(images),) for index in expected.values()):
            raise ValueError(f"expected needs one index for each of the {len(images)} images")
        right = {part: (found[part] == index) & (index >= 0) for part, index in expected.items()}
        right["all"] = torch.stack(list(right.values())).all(0)
        right |= {f"{part}_unrecognised": found[part] < 0 for part in expected}
        return {key: hits.float().mean().item() for key, hits in right.items()}

    def differences(self, part: str) -> Tensor:
        """Share of the pixels in which two layers of a part differ, (K, K), of those that either of them covers.

        A pixel that only one of them covers counts as different. Pixels that every layer of a higher part covers are
        ignored.
        """
        above = self.order[self.order.index(part) + 1 :]
        hidden = [self._sharp[higher][1][:-1].amin(0) > 0.5 for higher in above]
        visible = ~torch.stack(hidden).any(0) if hidden else True
        colour, alpha = (each[:-1] for each in self._sharp[part])
        covers = (alpha > 0.5) & visible
        rows = []
        for i in range(len(colour)):
            far = (colour - colour[i]).abs().amax(1, keepdim=True) > TWIN_STEP
            differ = (far & covers & covers[i]) | (covers ^ covers[i])
            rows.append(differ.sum((1, 2)) / (covers | covers[i]).sum((1, 2)).clamp(min=1))
        return torch.stack(rows)

    @cached_property
    def twins(self) -> dict[str, list[tuple[int, int]]]:
        """For each part, the pairs of nearly equal layers, which are recognised partly by chance."""
        close = {part: (self.differences(part) < TWIN_SHARE).triu(1).nonzero().tolist() for part in self.order}
        return {part: [tuple(pair) for pair in pairs] for part, pairs in close.items()}

    def _explain(self, x: Tensor) -> dict[str, Tensor]:
        """x: (N, 3, P) in [0, 1], P pixels. The best stack over all blurs; layers that fit badly are -1."""
        canvas = x.mean(2, keepdim=True).expand_as(x)
        best, least = {}, torch.full((len(x),), torch.inf)
        for layers in self._blurred:
            stack, error = self._fit(x, canvas, layers)
            better = error < least
            best = {part: torch.where(better, stack[part], best.get(part, stack[part])) for part in self.order}
            least = torch.minimum(error, least)
        return best

    def _fit(self, x: Tensor, canvas: Tensor, layers: dict) -> tuple[dict[str, Tensor], Tensor]:
        """Coordinate descent from an empty stack. Returns the layers (-1: none) and the squared error, (N,)."""
        chosen = {part: torch.full((len(x),), len(layers[part][0]) - 1) for part in self.order}
        placed = {part: tuple(each[chosen[part]] for each in layers[part]) for part in self.order}
        for _ in range(SWEEPS):
            for i, part in enumerate(self.order):
                below, _ = _lay([placed[p] for p in self.order[:i]], canvas)
                above, clear = _lay([placed[p] for p in self.order[i + 1 :]], torch.zeros_like(x))
                chosen[part] = _gains(x - above, below, clear, *layers[part]).argmax(1)
                placed[part] = tuple(each[chosen[part]] for each in layers[part])
        error = (x - _lay(list(placed.values()), canvas)[0]).square().mean(1, keepdim=True)
        clear = torch.ones_like(error)
        for part in reversed(self.order):
            visible = clear * placed[part][1]
            clear = clear - visible
            rms = 255 * ((error * visible).sum((1, 2)) / visible.sum((1, 2)).clamp(min=1e-6)).sqrt()
            none = len(layers[part][0]) - 1
            chosen[part] = torch.where((chosen[part] == none) | (rms > self.max_error), -1, chosen[part])
        return chosen, error.sum((1, 2))


def _read_layers(path: str | Path, order: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """For each part its layers, uint8 (K, S, S, 4), and their names."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["image", "part", "index", "name"]).to_pylist()
    layers, names = {}, {}
    for part in order:
        chosen = sorted((row for row in rows if row["part"] == part), key=lambda row: row["index"])
        if [row["index"] for row in chosen] != list(range(len(chosen))) or not chosen:
            raise ValueError(f"the indices of part {part!r} must be 0, 1, 2, ... without gaps")
        images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGBA") for row in chosen]
        layers[part] = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        names[part] = [row["name"] for row in chosen]
    return layers, names


def _premultiplied(rgba: Tensor) -> Tensor:
    """uint8 (K, S, S, 4) to float (K + 1, 4, S, S) in [0, 1], colour times alpha; the last layer is clear: none."""
    rgba = rgba.permute(0, 3, 1, 2).float() / 255
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
    return F.pad(rgba, (0, 0, 0, 0, 0, 0, 0, 1))


def _soften(images: Tensor, blur: float) -> Tensor:
    """Gaussian blur of (K, C, S, S) by a standard deviation in pixels; the border is continued."""
    if blur == 0:
        return images
    reach = max(1, round(4 * blur))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / blur) ** 2)
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    flat = F.pad(images.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(flat, kernel[None, None]).view_as(images)


def _split(rgba: Tensor) -> tuple[Tensor, Tensor]:
    """(K, 4, S, S) to colour (K, 3, P) and alpha (K, 1, P)."""
    return rgba[:, :3].flatten(2), rgba[:, 3:].flatten(2)


def _lay(layers: list[tuple[Tensor, Tensor]], under: Tensor) -> tuple[Tensor, Tensor]:
    """Lay premultiplied (colour, alpha) over `under` (N, 3, P). Returns that and how much shines through, (N, 1, P)."""
    clear = torch.ones_like(under[:, :1])
    for colour, alpha in layers:
        under, clear = colour + (1 - alpha) * under, clear * (1 - alpha)
    return under, clear


def _gains(x: Tensor, below: Tensor, clear: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    """The squared error that each of K layers removes when it is laid over `below`, (N, K).

    With d = x - clear * below and a layer that adds h = clear * (colour - alpha * below), that is |d|^2 - |d - h|^2 =
    2 <d, h> - |h|^2, which falls into products of matrices.
    """
    touched = alpha.amax((0, 1)) > 1e-3  # pixels that no layer covers only cost time
    x, below, clear, colour, alpha = (each[..., touched] for each in (x, below, clear, colour, alpha))
    d, under = clear * (x - clear * below), clear * below
    inner = _dot(d, colour) - _dot((d * below).sum(1), alpha)
    square = _dot(clear**2, colour.square().sum(1)) - 2 * _dot(clear * under, colour * alpha)
    square = square + _dot(under.square().sum(1), alpha**2)
    gains = 2 * inner - square
    gains[:, -1] = MIN_GAIN
    return gains


def _dot(images: Tensor, layers: Tensor) -> Tensor:
    """Inner product of every image (N, ...) with every layer (K, ...): (N, K)."""
    return images.flatten(1) @ layers.flatten(1).T
