"""Options for choosing and reading images and labels, shared by functions, recipes, the command line and model
indices."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from condgen.contracts import CondgenError, limited

if TYPE_CHECKING:
    from condgen.data.datasets.captions import CaptionedImages
    from condgen.data.datasets.labels import LabelledImages
    from condgen.data.datasets.pairs import Unpaired
    from condgen.data.streaming.stream import Stream

Resize = Literal["crop", "pad"]
RGB = tuple[int, int, int]
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a data set, shared by its splits. Columns with empty names are guessed.

    Args:
        image_column: column of the image, or of its file name.
        caption_column: column of the captions; several separated by commas.
        label_column: column of the class.
        attribute_columns: columns of further attributes; guessed only if there is no label.
        guess_attributes: if no label and no attributes are named, use every suitable column as an attribute.
        split_column: column of the split.
        filter: keep only rows with these values, e.g. `vendor=noto,heldout_pair=false`.
        column_types: what columns hold where the guess is wrong, `text` or `number`, e.g. `code=text,price=number`.
        exclude_classes: classes to leave out, separated by commas.
        class_names: names of the classes 0, 1, 2 ..., if the data only has their numbers.
        resize: `crop` images to the largest centred square, or `pad` them to a square.
        background: RGB, 0 to 255, under transparent pixels and around padded images.
        value_range: lowest and highest value of 16-bit and float images, which become black and white; () takes 0 and
            65535 for 16 bits and refuses floats.
        max_bad_fraction: fraction of rows, 0 to 1, that may be unusable; they are left out with a `CondgenWarning`.

    Raises:
        CondgenError: an unknown `resize`, a filter that is not `column=value`, or an unknown type of a column.
    """

    image_column: str = ""
    caption_column: str = ""
    label_column: str = ""
    attribute_columns: tuple[str, ...] = ()
    guess_attributes: bool = True
    split_column: str = ""
    filter: str = ""
    column_types: str = ""
    exclude_classes: str = ""
    class_names: tuple[str, ...] = ()
    resize: Resize = "crop"
    background: RGB = WHITE
    value_range: tuple[float, ...] = ()
    max_bad_fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.resize not in ("crop", "pad"):
            raise CondgenError(f"Images are resized by 'crop' or 'pad', got {self.resize!r}.")
        if not _is_colour(self.background):
            raise CondgenError(f"background is RGB, three whole numbers from 0 to 255, got {self.background!r}.")
        for name in ("attribute_columns", "class_names", "background", "value_range"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        low, high = self.value_range if len(self.value_range) == 2 else (0, 0 if self.value_range else 1)
        if not -1e30 < low < high < 1e30:
            raise CondgenError(f"A range of values is its lowest and its highest one, got {list(self.value_range)}.")
        self.types  # noqa: B018 (raises)

    @classmethod
    def stored(cls, reading: object, **changes: Any) -> ReadOptions:
        """Restores the options in a model's index, to read other images like those of its training.

        Args:
            reading: options in the index; fields that are unknown or of another type are ignored.
            changes: fields that replace stored ones; None keeps the stored one.
        """
        kinds = {
            "guess_attributes": bool,
            "attribute_columns": list | tuple,
            "class_names": list | tuple,
            "background": list | tuple,
            "value_range": list | tuple,
            "max_bad_fraction": float | int,
        }
        known = {}
        for name in FIELDS if isinstance(reading, dict) else ():
            if isinstance(reading.get(name), kinds.get(name, str)):
                known[name] = reading[name]
        if not _is_colour(known.get("background")):
            known.pop("background", None)
        if known.get("resize") not in ("crop", "pad"):
            known.pop("resize", None)
        return cls(**known | {name: value for name, value in changes.items() if value is not None})

    def but(self, **changes: Any) -> ReadOptions:
        """A copy with some fields changed."""
        return replace(self, **changes) if changes else self

    @property
    def selected(self) -> tuple[str, ...]:
        """Names of the fields that select columns, rows or class names and are not empty."""
        return tuple(name for name in SELECTING if getattr(self, name))

    @property
    def conditions(self) -> tuple[tuple[str, str], ...]:
        """The filter as (column, value) pairs."""
        return _pairs("filter", self.filter, "value")

    @property
    def types(self) -> dict[str, str]:
        """The columns whose type is given, each with `text` or `number`."""
        pairs = _pairs("column_types", self.column_types, "text or column=number")
        if wrong := [kind for _, kind in pairs if kind not in ("text", "number")]:
            raise CondgenError(f"A column holds text or number, got column_types={self.column_types!r} ({wrong[0]!r}).")
        return dict(pairs)


def _is_colour(value: object) -> bool:
    whole = isinstance(value, list | tuple) and len(value) == 3 and all(type(one) is int for one in value)
    return whole and all(0 <= one <= 255 for one in value)


def _pairs(name: str, given: str, value: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in given.split(",") if part.strip()]
    if any(not column.strip() or not equals for column, equals, _ in pairs):
        raise CondgenError(f"{name}={given!r} is not column={value}; separate several by commas.")
    return tuple((column.strip(), value.strip()) for column, _, value in pairs)


FIELDS = tuple(field.name for field in fields(ReadOptions))
COLUMNS = ("image_column", "caption_column", "label_column", "attribute_columns", "split_column")
SELECTING = (*COLUMNS, "filter", "column_types", "class_names")
DEFAULTS = ReadOptions()


@dataclass(frozen=True)
class _DataConfig:
    """Options that all images share.

    Args:
        path: where the images are.
        size: edge of the images in pixels; 0 keeps their size.
        split: part to train on.
        split_column: column that names the part; guessed if empty.
        image_column: column of the images; guessed if empty.
        column_types: what columns hold where the guess is wrong: text or number, e.g. `code=text,price=number`.
        resize: how images become square.
        value_range: lowest and highest value of 16-bit and float images, e.g. '[0, 4095]'; empty takes 0 and 65535.
        max_bad_fraction: largest fraction of unreadable rows that training accepts.
        background: RGB, 0 to 255, shown through transparent pixels.
    """

    path: str = ""
    size: int = limited(0, low=0)
    split: str = "train"
    split_column: str = ""
    image_column: str = ""
    column_types: str = ""
    resize: Literal["crop", "pad"] = "crop"
    value_range: tuple[float, ...] = ()
    max_bad_fraction: float = 0.01
    background: tuple[int, int, int] = WHITE


@dataclass(frozen=True)
class CaptionData(_DataConfig):
    """Captioned images.

    Args:
        path: folder, table or shards of images with captions; empty draws scenes, if the recipe can.
        size: edge of the images in pixels, a power of two from 16.
        caption_column: column of the captions, or several separated by commas; guessed if empty.
        filter: keeps only rows with these values, e.g. `vendor=noto`.
        random_shift: largest random shift in pixels while the decoder trains.
        scenes: number of scenes to draw, if the data are scenes.
        negatives: wrong captions for scenes: none; seen, only of combinations in the training set; all.
        templates: captions of scenes: 1; 2 draws every second scene of SceneEval-2, with 3 to 10 facts a caption.
        stream: read shards (.tar, .parquet) during training instead of loading all images into memory: auto does so
            if the images would take more than 2 GB.
        buffer: size of the shuffle buffer of a stream in images; 0 takes as many as fit into 256 MB. Two are held.
    """

    size: int = limited(32, low=1)
    caption_column: str = ""
    filter: str = ""
    random_shift: int = limited(0, low=0)
    scenes: int = limited(80_000, low=1)
    negatives: Literal["none", "seen", "all"] = "seen"
    templates: int = limited(1, low=1, high=2)
    stream: Literal["auto", "always", "never"] = "auto"
    buffer: int = limited(0, low=0)

    def options(self, **changes: Any) -> ReadOptions:
        """Options for reading the images."""
        return ReadOptions(**self.reading() | changes, max_bad_fraction=self.max_bad_fraction)

    def reading(self) -> dict[str, str]:
        """Options for reading the images, without the split; a model stores them for later evaluation."""
        return {name: getattr(self, name) for name in READING}

    def open(self, split: str = "", shards: bool = False) -> CaptionedImages | Stream:
        """Opens the captioned images of a split, by default the one to train on; `shards` streams shards of any size.

        Raises:
            CondgenError: no or unusable data.
        """
        from condgen.data.sources.captions import open_captioned

        stream = "shards" if shards and self.stream == "auto" else self.stream
        return open_captioned(self.path, self.size, self.options(), stream=stream, split=split or self.split)


READING = (
    *("image_column", "caption_column", "split_column", "filter", "column_types", "resize", "background"),
    "value_range",
)


@dataclass(frozen=True)
class LabelData(_DataConfig):
    """Images with a class or attributes.

    Args:
        path: `digits`, or a folder or table of labelled images.
        image_channels: 1 or 3; 0 keeps what they have.
        label_column: column of the class; guessed if empty.
        attribute_columns: further columns to generate by.
        random_shift: largest random shift in pixels.
        random_flip: mirror every second image.
    """

    image_channels: int = 0
    label_column: str = ""
    attribute_columns: tuple[str, ...] = ()
    random_shift: int = limited(0, low=0)
    random_flip: bool = False

    def reading(self) -> dict[str, Any]:
        """Options for reading the images, without the split: arguments of `open_labelled`."""
        out = _without(self, "path", "split", "random_shift", "random_flip")
        return out | {"attribute_columns": list(self.attribute_columns)}

    def open(self) -> LabelledImages:
        """Opens the images to train on; raises `CondgenError` for missing or unusable data."""
        from condgen.data.sources.labels import open_labelled

        return open_labelled(self.path, split=self.split, **self.reading())


@dataclass(frozen=True)
class ImageData(_DataConfig):
    """Images of any kind; labels are only used to evaluate.

    Args:
        path: `digits`, `scenes`, a folder of images, or labelled or captioned ones in any form.
        image_channels: 1 or 3; 0 keeps what they have.
        caption_column: column of the captions, if these decide which images are read.
        label_column: column of the class; guessed if empty.
        filter: keeps only rows with these values, e.g. `vendor=noto`.
        exclude_classes: classes to leave out, separated by commas.
    """

    image_channels: int = 0
    caption_column: str = ""
    label_column: str = ""
    filter: str = ""
    exclude_classes: str = ""

    def reading(self) -> dict[str, Any]:
        """Options for reading the images, without the split: arguments of `open_any`."""
        return _without(self, "path", "split")

    def open(self) -> LabelledImages:
        """Opens the images to train on; raises `CondgenError` for missing or unusable data."""
        from condgen.data.sources.open_images import open_any

        return open_any(self.path, split=self.split, **self.reading())


@dataclass(frozen=True)
class SidesData:
    """Images of two kinds.

    Args:
        path: a folder with a/ and b/, images side by side, or the folder of the tables; empty for drawn images.
        origin: files; edges or grey of any images; scenes by day and by night; squares and circles.
        size: edge of the images in pixels.
        num_samples: number of images of each side to draw, for drawn images.
        a: folder or table of the first side below the path; empty looks for a, trainA or images side by side.
        b: folder or table of the second side.
        filter_a: keeps only these rows of the first table, e.g. `vendor=noto`.
        filter_b: keeps only these rows of the second table.
        match: column of the tables that identifies the partners.
        names: names of the two sides, for `condgen translate --to NAME`.
        split: part to train on.
        resize: how images become square.
        value_range: lowest and highest value of 16-bit and float images, e.g. '[0, 4095]'; empty takes 0 and 65535.
        random_shift: largest random shift in pixels.
        random_flip: mirror every second image.
    """

    path: str = ""
    origin: Literal["files", "edges", "grey", "night", "shapes"] = "files"
    size: int = limited(64, low=1)
    num_samples: int = limited(10_000, low=1)
    a: str = ""
    b: str = ""
    filter_a: str = ""
    filter_b: str = ""
    match: str = ""
    names: tuple[str, ...] = ()
    split: str = "train"
    resize: Literal["crop", "pad"] = "crop"
    value_range: tuple[float, ...] = ()
    random_shift: int = limited(2, low=0)
    random_flip: bool = True

    def reading(self) -> dict[str, Any]:
        """Options for reading or drawing the images, without the split: arguments of `open_sides`."""
        out = _without(self, "path", "split", "num_samples", "random_shift", "random_flip")
        return out | {"names": list(self.names)}

    def open(self, paired: bool, seed: int) -> Unpaired:
        """Opens the images to train on; raises `CondgenError` for missing or unusable data."""
        from condgen.data.sources.sides import open_sides

        return open_sides(self.path, paired, self.split, seed, self.num_samples, **self.reading())


def _without(config: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if name not in names}
