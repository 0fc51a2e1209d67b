"""Texts of any writing on sheets: letters where a font has them, a page beside the sheet where none has."""

import shutil
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from condgen.contracts import CondgenWarning
from condgen.files import fonts
from condgen.files.images import TEXTS, draw_line, grid, tile, write_sheet
from condgen.files.plots import Curve, plot

BY_MATPLOTLIB = ["красный кот", "Ελλάδα", "őşž ł", "հայերեն", "საქართველო"]
RIGHT_TO_LEFT = ["قطة حمراء", "חתול אדום"]
ELSEWHERE = ["红色的猫", "เเมวสีแดง", "लाल बिल्ली", "고양이", "ねこ", "\U0001f9a9 bird"]


@pytest.fixture
def system_without_fonts(monkeypatch):
    """Only the fonts of Pillow and matplotlib, as in a small container."""
    monkeypatch.setattr(fonts, "_folders", list)
    fonts._font_files.cache_clear()
    yield
    fonts._font_files.cache_clear()


def picture():
    return Image.new("RGB", (8, 8), "pink")


def ink(text: str) -> np.ndarray:
    image = Image.new("L", (200, 30), 255)
    draw_line(ImageDraw.Draw(image), (2, 2), text, 14, 0)
    return np.asarray(image)


def boxes_in(text: str) -> bool:
    """Whether a part of a text is drawn with a font that shows a box for one of its letters."""
    for part, font in fonts.lettering(text, 20).runs:
        box = bytes(font.getmask(fonts.NO_GLYPH))
        if any(bytes(font.getmask(c)) == box for c in part if fonts._is_drawn(c)):
            return True
    return False


@pytest.mark.parametrize("text", ["a red cat", "café", *BY_MATPLOTLIB, *RIGHT_TO_LEFT, *ELSEWHERE, "кот 红 قطة a 🐱"])
def test_no_letter_is_a_box(system_without_fonts, text):
    assert not boxes_in(text)


@pytest.mark.parametrize("text", [*BY_MATPLOTLIB, *(RIGHT_TO_LEFT if features.check("raqm") else [])])
def test_matplotlib_brings_letters_everywhere(system_without_fonts, text):
    sheet = grid([picture()], [text])
    assert fonts.can_be_drawn(text) and TEXTS not in sheet.info
    assert (ink(text) < 128).sum() > 20 and not np.array_equal(ink(text), ink(text[::-1]))


@pytest.mark.parametrize("text", ELSEWHERE)
def test_other_letters_stand_on_a_page_beside_the_sheet(system_without_fonts, tmp_path, text):
    sheet = grid([picture(), tile(text), picture()], ["a cat", "", f"{text}, seed 1 <b>"])
    with pytest.warns(CondgenWarning, match=r"grid\.png: they stand in .*grid\.html"):
        path = write_sheet(tmp_path / "grid.png", sheet)
    page = (tmp_path / "grid.html").read_text("utf-8")
    assert '<img src="grid.png"' in page and f'<li value="2" dir="auto">{text}</li>' in page
    assert f'<li value="3" dir="auto">{text}, seed 1 &lt;b&gt;</li>' in page and path.is_file()


def test_a_font_of_the_system_is_found(tmp_path, monkeypatch):
    """By its letters: a copy of a font under another name, in a folder of fonts."""
    import matplotlib

    own = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    shutil.copy(own, tmp_path / "Some Font.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path, tmp_path / "none"])
    monkeypatch.setattr(fonts, "_default_has", lambda c: c.isascii())
    fonts._font_files.cache_clear()
    assert set(fonts._font_files()[1:]) == {str(tmp_path / "broken.ttf"), str(tmp_path / "Some Font.ttf")}
    assert fonts.can_be_drawn("кот") and fonts._codes(str(tmp_path / "broken.ttf")) == frozenset()
    fonts._font_files.cache_clear()


def test_without_shaping_right_to_left_stands_beside(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    assert not fonts.can_be_drawn("قطة حمراء") and not fonts.can_be_drawn("חתול") and fonts.can_be_drawn("кот")


def test_latin_texts_are_drawn_as_ever():
    image = Image.new("L", (200, 30), 255)
    ImageDraw.Draw(image).text((2, 2), "a red “cat” · 3", fill=0, font=ImageFont.load_default(size=14))
    assert np.array_equal(np.asarray(image), ink("a red “cat” · 3"))


def test_plots_have_the_letters_or_say_so(system_without_fonts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plot([Curve("красный", [1.0, 2.0], [1.0, 2.0])], "x", "y")
    with pytest.warns(CondgenWarning, match="No font here has some letters"):
        assert plot([Curve("红色的", [1.0, 2.0], [1.0, 2.0])], "x", "y")


def test_a_caption_of_thousands_of_letters_costs_little():
    assert grid([picture()], ["猫" * 100_000]).size[1] < 400
