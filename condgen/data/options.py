"""How images and their labels are read: one set of names for functions, recipes, command line and model indices."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from condgen.contracts import CondgenError

Resize = Literal["crop", "pad"]
RGB = tuple[int, int, int]
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class ReadOptions:
    """How a data set is read, the same for every split. Empty names of columns are guessed.

    Args:
        image_column: the image, or the name of its file.
        caption_column: the captions; several columns with commas between them.
        label_column: the class.
        attribute_columns: further attributes; guessed only where there is no label.
        guess_attributes: without a label and attributes, take every suitable column as an attribute.
        split_column: the split of a row.
        filter: keeps rows by their columns: `vendor=noto,heldout_pair=false`.
        exclude_classes: classes to leave out, with commas between them.
        class_names: names of the classes 0, 1, 2 ..., where the data only numbers them.
        resize: `crop` images to the largest centred square, or `pad` them to a square.
        background: RGB, 0 to 255, under transparent pixels and around padded images.
        max_bad_fraction: fraction of rows, 0 to 1, that may be unusable; these are left out with a `CondgenWarning`.

    Raises:
        CondgenError: another way to resize, or a filter that is not `column=value`.
    """

    image_column: str = ""
    caption_column: str = ""
    label_column: str = ""
    attribute_columns: tuple[str, ...] = ()
    guess_attributes: bool = True
    split_column: str = ""
    filter: str = ""
    exclude_classes: str = ""
    class_names: tuple[str, ...] = ()
    resize: Resize = "crop"
    background: RGB = WHITE
    max_bad_fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.resize not in ("crop", "pad"):
            raise CondgenError(f"Images are resized by 'crop' or 'pad', got {self.resize!r}.")
        for name in ("attribute_columns", "class_names", "background"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def stored(cls, reading: object, **changes: Any) -> ReadOptions:
        """The options in a model's index, so that other images are read as those of its training were.

        Args:
            reading: of the index; fields that are unknown or of another type are ignored.
            changes: fields that replace stored ones; None keeps the stored one.
        """
        kinds = {
            "guess_attributes": bool,
            "attribute_columns": list | tuple,
            "class_names": list | tuple,
            "max_bad_fraction": float | int,
        }
        known = {}
        for name in FIELDS if isinstance(reading, dict) else ():
            if isinstance(reading.get(name), kinds.get(name, str)) and name != "background":
                known[name] = reading[name]
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
        pairs = [part.partition("=") for part in self.filter.split(",") if part.strip()]
        if any(not column.strip() or not equals for column, equals, _ in pairs):
            raise CondgenError(f"filter={self.filter!r} is not column=value, several with commas between them.")
        return tuple((column.strip(), value.strip()) for column, _, value in pairs)


FIELDS = tuple(field.name for field in fields(ReadOptions))
COLUMNS = ("image_column", "caption_column", "label_column", "attribute_columns", "split_column")
SELECTING = (*COLUMNS, "filter", "class_names")
DEFAULTS = ReadOptions()
