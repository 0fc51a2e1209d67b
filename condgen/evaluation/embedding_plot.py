"""A plot of an embedding: images as thumbnails at the positions of their features, by PCA and by t-SNE."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from condgen.files.images import draw_line, png_bytes

EDGE, MARGIN, THUMB = 1100, 24, 30
"""Pixels of a panel, of its margin, of the edge of the largest thumbnail."""
MOST = 24
"""Classes with a colour and a name."""


def plot_embedding(
    features: Tensor, images: np.ndarray, labels: np.ndarray | None = None, names: Sequence[str] = ()
) -> bytes:
    """A PNG with two panels, PCA on the left and t-SNE on the right. Frames have the colours of the classes.

    Args:
        features: (N, F), of more than three images; a thousand are enough.
        images: uint8 (N, C, S, S).
        labels: classes of the images, int64 (N,).
        names: names of the classes.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    unit = F.normalize(features, dim=1).numpy()
    main = PCA(min(50, *unit.shape), random_state=0).fit_transform(unit)
    near = TSNE(init="pca", perplexity=min(30, (len(unit) - 1) / 3), random_state=0).fit_transform(main)
    colours = [colour_of(k, min(len(names), MOST)) for k in range(min(len(names), MOST))]
    font = ImageFont.load_default(18)
    legend = 0 if labels is None or not names else 30 * -(-len(colours) // 6) + 10
    canvas = Image.new("RGB", (2 * EDGE + 3 * MARGIN, EDGE + 2 * MARGIN + 20 + legend), "white")
    draw = ImageDraw.Draw(canvas)
    for panel, (title, places) in enumerate((("PCA", main[:, :2]), ("t-SNE", near))):
        left = MARGIN + panel * (EDGE + MARGIN)
        draw.text((left, 8), title, "black", font)
        _scatter(canvas, (left, MARGIN + 12), places, images, labels, colours)
    for k, colour in enumerate(colours if legend else ()):
        x, y = MARGIN + (k % 6) * (canvas.width // 6), EDGE + 2 * MARGIN + 16 + 30 * (k // 6)
        draw.rectangle((x, y, x + 18, y + 18), colour)
        draw_line(draw, (x + 26, y - 2), names[k][:28], 18, "black")
    return png_bytes(canvas)


def colour_of(k: int, among: int) -> tuple[int, int, int]:
    """RGB of class k: evenly spaced hues, every second one darker."""
    red, green, blue = colorsys.hsv_to_rgb(k / max(among, 1), 0.9, 0.95 if k % 2 == 0 else 0.65)
    return round(255 * red), round(255 * green), round(255 * blue)


def _scatter(
    canvas: Image.Image, corner: tuple[int, int], places: np.ndarray, images: np.ndarray,
    labels: np.ndarray | None, colours: list[tuple[int, int, int]],
) -> None:  # fmt: skip
    """Draws thumbnails at their positions; centres dimensions without spread, as collapsed features have."""
    if places.shape[1] < 2:
        places = np.concatenate([places, np.zeros_like(places)], 1)
    low, high = places.min(0), places.max(0)
    spread = np.where(high > low, high - low, 1.0)
    edge = min(THUMB, images.shape[-1])
    inside = EDGE - edge - 4
    for i, place in enumerate(np.where(high > low, (places - low) / spread, 0.5)):
        x, y = (corner[axis] + round(float(place[axis]) * inside) for axis in (0, 1))
        thumb = Image.fromarray(np.broadcast_to(images[i], (3, *images.shape[2:])).transpose(1, 2, 0).copy())
        framed = Image.new("RGB", (edge + 4, edge + 4), _frame(labels, i, colours))
        framed.paste(thumb.resize((edge, edge), Image.Resampling.LANCZOS), (2, 2))
        canvas.paste(framed, (x, y))


def _frame(labels: np.ndarray | None, i: int, colours: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    known = labels is not None and labels[i] < len(colours)
    return colours[labels[i]] if known else (200, 200, 200)
