"""What one can do with image embeddings: operations on images and prompts, each one file.

Every operation is a dataclass that says what one image is decoded from, see `base.Operation`; its fields stand in the
recipe of the image, so that the image can be replayed.
"""

from __future__ import annotations

from importlib import import_module

OPERATIONS = {
    "edit": "edit",
    "guide": "guide",
    "invert": "inversion",
    "mix": "mix",
    "probe": "probe",
    "text-diff": "text_diff",
    "vary": "vary",
}
"""Name of an operation in recipes -> module of this package that defines it, as the class OPERATION."""


def find_operation(name: object) -> type | None:
    """The class of an operation, None for an unknown name."""
    known = isinstance(name, str) and name in OPERATIONS
    return import_module(f"{__name__}.{OPERATIONS[name]}").OPERATION if known else None
