"""What images a run learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Pictures:
    """What to train on.

    Args:
        size: edge of the images, a power of two from 16.
        scenes: how many scenes to draw, when the data is scenes.
        negatives: wrong captions for scenes: none; seen, made of combinations that training may see; all.
        image: name of the column of images; empty guesses.
        text: name of the column of captions, or several with commas; empty guesses.
        split: name of the column that tells the split; empty guesses.
        use: which split to train on.
        where: keep only rows with these values, e.g. `vendor=noto`.
        how: how images that are not square become so.
        max_bad: share of unusable rows above which training refuses.
        shift: largest random shift in pixels while the decoder trains.
        stream: read shards (.tar, .parquet) while training, in place of all into memory: where the images would take
            more than 2 GB there, always, or never.
        buffer: images of a stream to shuffle among; 0 takes as many as fit into 256 MB. Two such windows are held.
    """

    size: int = 32
    scenes: int = 80_000
    negatives: Literal["none", "seen", "all"] = "seen"
    image: str = ""
    text: str = ""
    split: str = ""
    use: str = "train"
    where: str = ""
    how: Literal["crop", "pad"] = "crop"
    max_bad: float = 0.01
    shift: int = 0
    stream: Literal["auto", "always", "never"] = "auto"
    buffer: int = 0

    def reading(self) -> dict[str, str]:
        """How captioned images are read, whatever the split; the index of a model stores it."""
        columns = {"image_column": self.image, "caption_column": self.text, "split_column": self.split}
        return columns | {"filter": self.where, "resize": self.how}


@dataclass(frozen=True)
class Labelled:
    """What labelled images to train on, see `data.labels.open_labelled`.

    Args:
        size: edge of the images; 0 takes them as they are.
        colours: channels, 1 or 3; 0 takes them as they are.
        image: name of the column of images; empty guesses.
        label: name of the column of the class; empty guesses.
        attributes: names of further columns to paint by.
        split: name of the column that tells the split; empty guesses.
        use: which split to train on.
        how: how images that are not square become so.
        max_bad: share of unusable rows above which training refuses.
        shift: largest random shift in pixels.
        flip: mirror every second image.
    """

    size: int = 0
    image_channels: int = 0
    image: str = ""
    label: str = ""
    attributes: tuple[str, ...] = ()
    split: str = ""
    use: str = "train"
    how: Literal["crop", "pad"] = "crop"
    max_bad: float = 0.01
    shift: int = 0
    flip: bool = False


@dataclass(frozen=True)
class AnyPictures:
    """What images to look at, see `data.anything.open_any`.

    Args:
        size: edge of the images; 0 takes them as they are.
        colours: channels, 1 or 3; 0 takes them as they are.
        image: name of the column of images; empty guesses.
        text: name of the column of captions, where they tell which images there are.
        label: name of the column of the class, which is only judged by; empty guesses.
        split: name of the column that tells the split; empty guesses.
        use: which split to train on.
        where: keep only rows with these values, e.g. `vendor=noto`.
        without: classes to leave out, with commas between them.
        how: how images that are not square become so.
        max_bad: share of unusable rows above which training refuses.
    """

    size: int = 0
    image_channels: int = 0
    image: str = ""
    text: str = ""
    label: str = ""
    split: str = ""
    use: str = "train"
    where: str = ""
    without: str = ""
    how: Literal["crop", "pad"] = "crop"
    max_bad: float = 0.01

    def reading(self) -> dict[str, Any]:
        """How the images are read, whatever the split: arguments of `data.anything.open_any`."""
        return {
            "size": self.size, "image_channels": self.image_channels, "image_column": self.image,
            "caption_column": self.text, "label_column": self.label, "filter": self.where,
            "exclude_classes": self.without, "resize": self.how, "max_bad_fraction": self.max_bad,
            "split_column": self.split,
        }  # fmt: skip
