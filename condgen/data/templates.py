"""Captions of classes: sentence templates, and the words for a class that fill them.

Text-conditional models train on them, and encoders classify with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from condgen.contracts import CondgenError, short
from condgen.data.sources.tables import clean

GAP = "{}"

GENERIC = (
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "a small photo of a {}",
    "a close-up photo of a {}",
    "a clear picture of a {}",
    "this is a {}",
    "a {}",
)
DIGITS = (
    "a handwritten {}",
    "a handwritten digit: {}",
    "the digit {}",
    "the number {}",
    "a picture of a handwritten {}",
    "a scan of the digit {}",
    "a {} written by hand",
    "somebody wrote a {}",
)
FASHION = (
    "a photo of a {}",
    "a picture of a {}",
    "a grey photo of a {}",
    "a {} on a black background",
    "a product photo of a {}",
    "a small picture of a {} from a catalogue",
    "this is a {}",
    "a {}",
)
CIFAR = (
    "a photo of a {}",
    "a small photo of a {}",
    "a blurry photo of a {}",
    "a low resolution photo of a {}",
    "a cropped photo of a {}",
    "a picture of a {} in colour",
    "this is a {}",
    "a {}",
)
KINDS = (
    (r"fashion[-_ ]?mnist|\bfmnist", FASHION),
    (r"(?<![a-z])mnist|\bdigits\b|handwritten", DIGITS),
    (r"cifar[-_ ]?100?(?!\d)", CIFAR),
)
"""Pattern of the name of a data set -> its templates; the first match is used."""

WORDS = {"t-shirt/top": "t-shirt", "trouser": "pair of trousers"}
"""Spoken forms of class names."""
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_VOWEL = re.compile(
    r"(?!uni|use|usu|eu|one\b|once|ufo|ut[ei])[aeiou]|(?:hour|honest|honou?r|heir)|(?:8|11\b|18\b)", re.I
)


def templates_of(data: str) -> tuple[str, ...]:
    """The templates for data such as `fashion-mnist`, `torchvision:CIFAR10` or `digits`; general ones by default."""
    return next((own for sound, own in KINDS if re.search(sound, data.lower())), GENERIC)


def class_words(name: str) -> str:
    """The words for a class: `T-shirt/top` -> t-shirt, `Ankle boot` -> ankle boot, 3 -> three, `maple_tree` -> maple
    tree. A name without letters is kept.
    """
    plain = clean(name).replace("_", " ").lower()
    if plain in WORDS:
        return WORDS[plain]
    if plain.isascii() and plain.isdecimal() and len(plain) == 1:
        return NUMBERS[int(plain)]
    return " ".join(plain.split("/")[0].split()) or name


def fill(template: str, words: str) -> str:
    """Fills a template; `a` right before the gap becomes `an` before a vowel sound.

    Raises:
        CondgenError: the template has no gap, or two.
    """
    if template.count(GAP) != 1:
        raise CondgenError(
            f"A template needs one {GAP} for the class, as in 'a photo of a {GAP}'; got {short(template)}."
        )
    vowel = bool(_VOWEL.match(words))
    template = re.sub(r"\b(a)n?(?= \{\})", r"\1n" if vowel else r"\1", template, flags=re.I)
    return template.replace(GAP, words)


def class_captions(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Returns the captions of every class, one per template.

    Args:
        names: names of the classes, as in the data.
        templates: see `templates_of`.

    Raises:
        CondgenError: there is no template, a template has no gap, or two classes have the same captions.
    """
    if not templates:
        raise CondgenError(f"There is no template. Give at least one, such as 'a photo of a {GAP}'.")
    words = [class_words(name) for name in names]
    if len(set(words)) < len(words):  # the words of two names are equal: use the names
        words = [clean(name) or name for name in names]
    if twice := sorted({one for one in words if words.count(one) > 1}):
        raise CondgenError(f"Two classes are called {short(twice[0])}. Give every class a distinct name.")
    return [[fill(template, one) for template in templates] for one in words]
