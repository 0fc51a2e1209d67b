"""Fonts for the texts on sheets and plots: that of Pillow, that of matplotlib, and those of the system.

`images.grid` asks for them only where a text is not ASCII.
"""

from __future__ import annotations

import html
import os
import sys
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont, features

from condgen.contracts import CondgenWarning

MISSING = "\u2026"
"""Drawn in place of letters that no font has."""
NO_GLYPH = "\ue000"
"""A character of private use, which fonts show as a box."""
SHAPED = ((0x0900, 0x0DFF), (0x1000, 0x109F), (0x1780, 0x17FF))
"""Scripts of India, Burmese and Khmer, whose letters change beside each other."""
HINT = "Install fonts that have them, for example the Noto fonts, and run the command again."


@dataclass(frozen=True)
class Lettering:
    """A text with the fonts that it is drawn with.

    Args:
        runs: parts of the text in the order in which they are drawn, each with its font.
        complete: whether there is a font for every letter; the other letters are replaced by MISSING.
    """

    runs: tuple[tuple[str, ImageFont.FreeTypeFont], ...]
    complete: bool

    @property
    def length(self) -> float:
        """Width in pixels."""
        return sum(font.getlength(part) for part, font in self.runs)

    def draw(self, draw: ImageDraw.ImageDraw, place: tuple[float, float], fill: object) -> None:
        """Draws the text with its upper left corner at a place."""
        x, y = place
        for part, font in self.runs:
            draw.text((x, y), part, fill=fill, font=font)
            x += font.getlength(part)


def lettering(text: str, size: int) -> Lettering:
    """Chooses fonts for a text: one that has all letters, else one for every part.

    Args:
        text: one line.
        size: size of the letters in pixels.
    """
    needed = {c for c in text if _is_drawn(c)}
    if all(_default_has(c) for c in needed) and not any(_is_shaped(c) for c in needed):
        return Lettering(((text, _default(size)),), True)
    if whole := next((path for path in _font_files() if _has_all(path, needed) and _loaded(path, size)), None):
        return Lettering(((text, _loaded(whole, size)),), all(map(_can_shape, needed)))
    runs: list[tuple[str, ImageFont.FreeTypeFont]] = []
    complete = True
    for c in text:
        font = runs[-1][1] if runs and not _is_drawn(c) else _font_for(c, size) or _default(size)
        known = not _is_drawn(c) or _font_for(c, size) is not None
        complete &= known
        part = c if known else MISSING
        if runs and runs[-1][1] is font:
            if known or not runs[-1][0].endswith(MISSING):
                runs[-1] = (runs[-1][0] + part, font)
        else:
            runs.append((part, font))
    if _is_right_to_left(text):
        runs.reverse()
    return Lettering(tuple(runs), complete)


def can_be_drawn(text: str) -> bool:
    """Whether there is a font for every letter of a text."""
    return text.isascii() or lettering(text, 11).complete


def plot_labels(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Families of fonts for a matplotlib plot, and its labels; letters that no font has are replaced by MISSING.

    `matplotlib.rc_context({"font.family": families})` makes use of the families. Warns where letters are replaced.
    """
    from matplotlib import font_manager

    families, labels = ["DejaVu Sans"], []
    for text in texts:
        made = lettering(text, 11)
        for path in (font.path for _, font in made.runs if isinstance(getattr(font, "path", None), str)):
            font_manager.fontManager.addfont(path)
            families.append(font_manager.FontProperties(fname=path).get_name())
        labels.append(text if made.complete else "".join(part for part, _ in made.runs))
    if labels != list(texts):
        warnings.warn(f"No font here has some letters of the plot's labels. {HINT}", CondgenWarning, stacklevel=3)
    return list(dict.fromkeys(families)), labels


def page_beside(path: Path, labels: Sequence[str]) -> str:
    """An HTML page with a sheet and the texts of its cells, which a browser has the letters for."""
    rows = "\n".join(
        f'<li value="{k}" dir="auto">{html.escape(label)}</li>' for k, label in enumerate(labels, 1) if label
    )
    name = html.escape(path.name)
    return (
        f'<!doctype html>\n<meta charset="utf-8">\n<title>{name}</title>\n<img src="{name}" alt="{name}">\n'
        f"<ol>\n{rows}\n</ol>\n"
    )


def _is_drawn(c: str) -> bool:
    return not c.isspace() and unicodedata.category(c) not in ("Cf", "Cc") and not "\ufe00" <= c <= "\ufe0f"


def _is_shaped(c: str) -> bool:
    """Whether a letter needs an order from right to left, or another form beside others."""
    return unicodedata.bidirectional(c) in ("R", "AL", "AN") or any(low <= ord(c) <= high for low, high in SHAPED)


def _is_right_to_left(text: str) -> bool:
    first = next((c for c in text if unicodedata.bidirectional(c) in ("L", "R", "AL")), "a")
    return unicodedata.bidirectional(first) != "L"


def _can_shape(c: str) -> bool:
    return not _is_shaped(c) or features.check("raqm")


@cache
def _default_has(c: str) -> bool:
    font = ImageFont.load_default(size=20)
    return bytes(font.getmask(c)) != bytes(font.getmask(NO_GLYPH))


def _font_for(c: str, size: int) -> ImageFont.FreeTypeFont | None:
    if not _can_shape(c):
        return None
    if _default_has(c) and not _is_shaped(c):
        return _default(size)
    return next((font for path in _font_files() if ord(c) in _codes(path) and (font := _loaded(path, size))), None)


@cache
def _default(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


@cache
def _loaded(path: str, size: int) -> ImageFont.FreeTypeFont | None:
    """None for a font that has images of one size only, as coloured emoji do."""
    try:
        return ImageFont.truetype(path, size)
    except OSError:
        return None


@cache
def _codes(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError, ValueError):  # a damaged file, or a format that is not known
        return frozenset()


def _has_all(path: str, letters: set[str]) -> bool:
    return all(ord(c) in _codes(path) for c in letters)


@cache
def _font_files() -> tuple[str, ...]:
    """That of matplotlib, then those of the system; upright ones of normal weight first."""
    import matplotlib

    found = [path for folder in _folders() if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
    fonts = [path for path in found if path.suffix.lower() in (".ttf", ".otf", ".ttc")]
    special = ("bold", "italic", "oblique", "mono", "light", "black", "thin", "condensed", "serif")

    def order(path: Path) -> tuple[int, str]:
        return sum(word in path.name.lower() for word in special), path.name

    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return (str(own), *(str(path) for path in sorted(fonts, key=order)))


def _folders() -> list[Path]:
    home, share = Path.home(), os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", home)) / "Microsoft" / "Windows" / "Fonts"
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts", local]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    shared = [Path(folder) / "fonts" for folder in share.split(":") if folder]
    return [*shared, home / ".fonts", home / ".local" / "share" / "fonts"]
