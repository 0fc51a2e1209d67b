"""Detects the shapes in an image of a scene by fixed rules, to evaluate composition.

Foreground is the distance from the ground along the nearest colour, things are connected components, a colour is the
nearest palette entry, and a shape is the one of the five with the largest overlap at the same place and area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from condgen.data.synthetic.grammar import COLOURS, SHAPES, Thing
from condgen.data.synthetic.scenes import BACKGROUND, PALETTE, coverage

MIN_AREA = 12 / 32**2  # fraction of the canvas; smaller components are ignored
MIN_OVERLAP = 0.75
MAX_COLOUR_DISTANCE = 60.0
NEIGHBOURS = ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]
"""Connects a pixel to its four neighbours, within one mask of a stack."""

# area of every shape in units of r^2, and how far its centroid lies below its centre in units of r
_AREA = np.array([np.pi, 1.76**2, 1.8, 2 * 1.15**2, 2 * 2 * 0.68 - 0.68**2])
_CENTROID = np.array([0, 0, 0.2, 0, 0])


@dataclass(frozen=True)
class Seen(Thing):
    """A detected thing; `shape` or `colour` is '?' if nothing fits. `overlap` is in [0, 1]."""

    overlap: float


def detect(images: np.ndarray) -> list[list[Seen]]:
    """Detects the things in every image, largest first.

    Args:
        images: uint8 (N, 3, S, S).
    """
    return [things for start in range(0, len(images), 256) for things in _detect(images[start : start + 256])]


def _detect(images: np.ndarray) -> list[list[Seen]]:
    size = images.shape[-1]
    alpha, nearest = _unmix(images.astype(np.float32))
    labels = _components(alpha > 0.5)
    parts = [
        (i, mask)
        for i in range(len(images))
        for label in np.unique(labels[i][labels[i] > 0])[::-1]
        for mask in _split(labels[i] == label, nearest[i], size)
    ]
    out: list[list[Seen]] = [[] for _ in images]
    if not parts:
        return out
    owner = np.array([i for i, _ in parts])
    masks = np.stack([mask for _, mask in parts])
    soft = np.where(ndimage.binary_dilation(masks, NEIGHBOURS), alpha[owner].clip(0, 1), 0)
    others = np.zeros_like(masks)  # a dilated part must not take pixels of its neighbour
    for i in np.unique(owner):
        own = np.flatnonzero(owner == i)
        total = masks[own].sum(0)
        others[own] = total[None] - masks[own] > 0
    soft[others] = 0
    for k, thing in enumerate(_name(soft, masks, images[owner], size)):
        out[owner[k]].append(thing)
    return [sorted(things, key=lambda thing: -thing.r) for things in out]


def _unmix(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Models every pixel as ground + alpha (colour - ground): alpha and the index of the best colour, (N, S, S)."""
    away = pixels - BACKGROUND[None, :, None, None]
    ways = PALETTE - BACKGROUND  # (8, 3)
    alpha = np.einsum("nchw,kc->nkhw", away, ways) / (ways**2).sum(1)[None, :, None, None]
    alpha = alpha.clip(0, 1.1)
    error = sum((away[:, None, c] - alpha * ways[None, :, c, None, None]) ** 2 for c in range(3))
    best = error.argmin(1)
    return np.take_along_axis(alpha, best[:, None], 1)[:, 0], best


def _components(masks: np.ndarray) -> np.ndarray:
    """Labels the 4-connected components of masks (N, S, S): positive labels, 0 outside.

    Components are numbered from the last pixel to the first.
    """
    return ndimage.label(masks[:, ::-1, ::-1], NEIGHBOURS)[0][:, ::-1, ::-1]


def _split(mask: np.ndarray, nearest: np.ndarray, size: int) -> list[np.ndarray]:
    """Splits a blob by colour if two or more colours cover at least a quarter of it each; drops specks."""
    area = mask.sum()
    if area < MIN_AREA * size**2:
        return []
    share = np.bincount(nearest[mask], minlength=len(COLOURS)) / area
    main = np.flatnonzero(share >= 0.25)
    if len(main) < 2:
        return [mask]
    parts = [mask & (nearest == colour) for colour in main]
    return [part for part in parts if part.sum() >= MIN_AREA * size**2]


def _name(soft: np.ndarray, masks: np.ndarray, pixels: np.ndarray, size: int) -> list[Seen]:
    """Classifies M parts by shape and colour; soft, masks: (M, S, S), pixels: (M, 3, S, S)."""
    grid = np.arange(size) + 0.5
    area = soft.sum((1, 2)).clip(1e-6)
    x = (soft.sum(1) * grid).sum(1) / area
    y = (soft.sum(2) * grid).sum(1) / area
    overlaps = np.zeros((len(soft), len(SHAPES)))
    for kind in range(len(SHAPES)):
        r = np.sqrt(area / _AREA[kind])
        template = coverage(np.full(len(soft), kind), x, y - _CENTROID[kind] * r, r, size)
        overlaps[:, kind] = np.minimum(soft, template).sum((1, 2)) / np.maximum(soft, template).sum((1, 2)).clip(1e-6)
    out = []
    for k, kind in enumerate(overlaps.argmax(1)):
        core = masks[k] & (soft[k] > 0.8)
        core = core if core.sum() >= 4 else masks[k]
        distance = np.linalg.norm(PALETTE - np.median(pixels[k][:, core], axis=1), axis=1)
        colour = COLOURS[distance.argmin()] if distance.min() <= MAX_COLOUR_DISTANCE else "?"
        shape = SHAPES[kind] if overlaps[k, kind] >= MIN_OVERLAP else "?"
        r = np.sqrt(area[k] / _AREA[kind])
        centre_y = (y[k] - _CENTROID[kind] * r) / size
        out.append(Seen(colour, shape, float(r / size), float(x[k] / size), float(centre_y), float(overlaps[k, kind])))
    return out
