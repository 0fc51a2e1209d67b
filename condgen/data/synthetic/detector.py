"""Detects the shapes in an image of a scene by fixed rules, to evaluate composition.

Foreground is the distance from the ground along the nearest colour, things are connected components, a colour is the
nearest palette entry, and a shape is the one of the five with the largest overlap at the same place and area.

Where no upright shape fits well, turned ones are tried, and straight cuts of the component into parts that each are a
shape, so that things of one colour that touch are counted apart. A square turned by more than 22.5 degrees is a
diamond, and the reverse. Things that overlap, or interlock so that no straight line separates them, remain one thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from condgen.data.synthetic.grammar import COLOURS, SHAPES, Thing
from condgen.data.synthetic.scenes import BACKGROUND, MOST, PALETTE, coverage

VERSION = 2
"""Of the detector, recorded in reports. Version 1 knew upright shapes only and did not separate things that touch."""
MIN_AREA = 12 / 32**2  # fraction of the canvas; smaller components are ignored
MIN_OVERLAP = 0.75
MAX_COLOUR_DISTANCE = 60.0
CLEAR = 0.88
"""Overlap from which an upright shape is accepted without trying others."""
TURNED = 0.86
"""Minimum overlap of a turned shape; a looser limit would name shapes that are merely odd."""
PART = 0.88
"""Minimum overlap of every part of a component that is cut."""
GAIN = 0.04
"""Least increase of the overlap by turning a shape."""
SMALLEST = 0.09
"""Minimum radius of the parts of a cut, as a fraction of the canvas."""
CUTS = np.deg2rad(np.arange(0, 180, 15))
"""Directions of the normals of cuts."""
_TURNS = {
    "circle": (), "square": (-22, -15, -8, 8, 15, 22), "triangle": tuple(range(15, 360, 15)),
    "diamond": (-22, -15, -8, 8, 15, 22), "cross": (-37, -30, -22, -15, -8, 8, 15, 22, 30, 37, 45),
}  # fmt: skip
"""Degrees by which each shape is turned; others are equal to these by symmetry, or are another shape."""
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
        image = images[owner[k]]
        out[owner[k]] += [thing] if thing.overlap >= CLEAR else _looked_at_again(thing, soft[k], masks[k], image)
    return [sorted(things, key=lambda thing: -thing.r) for things in out]


def _looked_at_again(thing: Seen, soft: np.ndarray, mask: np.ndarray, pixels: np.ndarray) -> list[Seen]:
    """A component that no upright shape fits well: turned, or, where no shape fits at all, cut into parts.

    It is unchanged where neither fits better.

    Args:
        thing: what the component was taken for. soft, mask: (S, S). pixels: (3, S, S).
    """
    size = len(mask)
    one = _name(soft[None], mask[None], pixels[None], size, turned=True)[0]
    if one.overlap < max(TURNED, thing.overlap + GAIN):
        one = thing
    parts = _cut(soft, mask, size) if one.overlap < MIN_OVERLAP else []
    if len(parts) < 2:
        return [one]
    softs, masks = (np.stack(own) for own in zip(*parts))
    named = _name(softs, masks, np.broadcast_to(pixels, (len(parts), *pixels.shape)), size)
    return named


def _cut(soft: np.ndarray, mask: np.ndarray, size: int, most: int = MOST) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cuts a component by straight lines into two to `most` shapes: (soft, mask) of each; empty if that is impossible.

    A cut splits off one shape; the rest is a shape, or is cut again.
    """
    if most < 2 or mask.sum() < 2 * MIN_AREA * size**2:
        return []
    sides = np.concatenate([_sides(mask, angle) for angle in CUTS])  # (K, S, S), one side of each line
    pairs = np.stack([sides, ~sides], 1)
    masks = pairs & mask
    enough = (masks.sum((2, 3)) >= MIN_AREA * size**2).all(1)
    softs, masks = (soft * pairs)[enough], masks[enough]
    if not len(softs):
        return []
    overlap, radius = _overlaps(softs.reshape(-1, size, size), size)
    best = overlap.argmax(1)
    fits = overlap.max(1).reshape(-1, 2) * (radius[np.arange(len(best)), best].reshape(-1, 2) >= SMALLEST * size)
    both = fits.min(1)
    if both.max() >= PART:
        k = both.argmax()
        return list(zip(softs[k], masks[k]))
    if most == 2:
        return []
    for k in fits.max(1).argsort()[::-1][:3]:
        if fits[k].max() < PART:
            break
        good = fits[k].argmax()
        if rest := _cut(softs[k, 1 - good], masks[k, 1 - good], size, most - 1):
            return [(softs[k, good], masks[k, good]), *rest]
    return []


def _sides(mask: np.ndarray, angle: float) -> np.ndarray:
    """Half planes whose edges cross a mask, a pixel apart, at right angles to a direction: bool (K, S, S)."""
    grid = np.arange(len(mask)) + 0.5
    along = np.cos(angle) * grid[None, :] + np.sin(angle) * grid[:, None]
    low, high = along[mask].min(), along[mask].max()
    return along < np.arange(low + 3, high - 2)[:, None, None]


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


def _overlaps(soft: np.ndarray, size: int, turned: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Intersection over union of M parts (M, S, S) with each shape of their area and centroid, and its radius: (M, 5).

    Args:
        turned: takes the largest overlap over the turns of a shape in place of the upright one.
    """
    grid = np.arange(size) + 0.5
    area = soft.sum((1, 2)).clip(1e-6)
    x = (soft.sum(1) * grid).sum(1) / area
    y = (soft.sum(2) * grid).sum(1) / area
    overlaps, radii = np.zeros((len(soft), len(SHAPES))), np.zeros((len(soft), len(SHAPES)))
    for kind, shape in enumerate(SHAPES):
        radii[:, kind] = r = np.sqrt(area / _AREA[kind])
        for degrees in _TURNS[shape] if turned else (0,):
            drop, turn = _CENTROID[kind] * r, np.deg2rad(degrees)
            centre = x + drop * np.sin(turn), y - drop * np.cos(turn)
            template = coverage(np.full(len(soft), kind), *centre, r, size, turn)
            union = np.maximum(soft, template).sum((1, 2)).clip(1e-6)
            own = np.minimum(soft, template).sum((1, 2)) / union
            overlaps[:, kind] = np.maximum(overlaps[:, kind], own)
    return overlaps, radii


def _name(soft: np.ndarray, masks: np.ndarray, pixels: np.ndarray, size: int, turned: bool = False) -> list[Seen]:
    """Classifies M parts by shape and colour; soft, masks: (M, S, S), pixels: (M, 3, S, S)."""
    grid = np.arange(size) + 0.5
    area = soft.sum((1, 2)).clip(1e-6)
    x = (soft.sum(1) * grid).sum(1) / area
    y = (soft.sum(2) * grid).sum(1) / area
    overlaps, radii = _overlaps(soft, size, turned)
    out = []
    for k, kind in enumerate(overlaps.argmax(1)):
        core = masks[k] & (soft[k] > 0.8)
        core = core if core.sum() >= 4 else masks[k]
        distance = np.linalg.norm(PALETTE - np.median(pixels[k][:, core], axis=1), axis=1)
        colour = COLOURS[distance.argmin()] if distance.min() <= MAX_COLOUR_DISTANCE else "?"
        shape = SHAPES[kind] if overlaps[k, kind] >= MIN_OVERLAP else "?"
        r = radii[k, kind]
        centre_y = (y[k] - _CENTROID[kind] * r) / size
        out.append(Seen(colour, shape, float(r / size), float(x[k] / size), float(centre_y), float(overlaps[k, kind])))
    return out
