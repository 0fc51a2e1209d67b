"""Describes what is out of proportion in a data set: image sizes, classes, captions, and data with too little in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from condgen.text import printable

MUCH_LARGER, LONG_SIDE = 64, 4
"""An image is much larger with this many times the median number of pixels, and elongated with this ratio of sides."""
UNBALANCED, MOST = 20, 0.5
"""Classes are unbalanced if the largest has this many times the images of the median one; a caption is frequent if
more than this share of the images have it."""


def unusual_sizes(sizes: Mapping[tuple[int, int], int], first: Mapping[tuple[int, int], str]) -> list[str]:
    """What is unusual about the sizes of images.

    Args:
        sizes: (width, height) in pixels -> number of images.
        first: (width, height) -> name of the first such image.
    """
    total, lines = sum(sizes.values()), []
    if not total:
        return lines
    middle = median_of(sizes)
    area = middle[0] * middle[1]
    large = {size: count for size, count in sizes.items() if size[0] * size[1] >= MUCH_LARGER * area}
    if large:
        size = max(large, key=lambda one: one[0] * one[1])
        lines.append(
            f"{sum(large.values())} of {total} images are much larger than the median of {_named(middle)}: "
            f"{printable(first[size])} is {_named(size)}. They cost time and memory while they are read"
        )
    long = {size: count for size, count in sizes.items() if max(size) >= LONG_SIDE * min(size)}
    if long:
        size = max(long, key=lambda one: max(one) / min(one))
        kept = min(size) / max(size)
        lines.append(
            f"{sum(long.values())} of {total} images are more than {LONG_SIDE} times as long as wide: of "
            f"{printable(first[size])}, {_named(size)}, a square crop keeps {kept:.0%} (train: --data.resize pad keeps "
            "all)"
        )
    return lines


def unbalanced(name: str, counts: Mapping[str, int]) -> list[str]:
    """Says that one class has far more images than the others; `counts` are the images of each."""
    there = sorted(count for count in counts.values() if count)
    if len(there) < 2:
        return []
    most, middle = there[-1], there[(len(there) - 1) // 2]
    if most < UNBALANCED * middle:
        return []
    largest = max(counts, key=lambda value: counts[value])
    return [
        f"{name} is unbalanced: {printable(largest)} has {most:,} of {sum(there):,} images ({most / sum(there):.1%}), "
        f"{most // middle:,} times as many as the median value. A model sees the others as rarely"
    ]


def too_little(
    images: int, different: int, captions: Mapping[str, int], values: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Says what there is only one of.

    Args:
        images, different: number of images, and of different ones.
        captions: caption -> number of images.
        values: attribute -> value -> number of images.
    """
    lines = []
    if different == 1:
        many = "one image" if images == 1 else f"{images} images, all equal"
        lines.append(f"{many}: a model can reproduce it and nothing else; clip and selfsup need different images")
    if images > 1 and captions:
        caption, count = max(captions.items(), key=lambda item: item[1])
        if len(captions) == 1:
            lines.append("all captions are equal: they cannot steer a model; clip needs different ones")
        elif count > MOST * images and count > 2:
            lines.append(f"{count} of {images} images have the caption {printable(caption[:60])!r}")
    for name, counts in values.items():
        if images > 1 and sum(count > 0 for count in counts.values()) == 1:
            lines.append(f"{name} has one value only: it cannot steer a model, and no accuracy is defined")
    return lines


def median_of(sizes: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """The size of the image in the middle, by its number of pixels."""
    ordered = sorted(Counter(sizes).items(), key=lambda item: item[0][0] * item[0][1])
    middle, seen = sum(sizes.values()) / 2, 0
    for size, count in ordered:
        seen += count
        if seen >= middle:
            return size
    raise ValueError("there are no images")


def _named(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
