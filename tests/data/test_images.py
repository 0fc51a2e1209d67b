"""Untrusted images: what each odd mode becomes, what is refused, and that fitting changes no more than it must."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.sources.images import MAX_PIXELS, ImageError, decode, fit, open_image


def as_bytes(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def raw_png(width: int, height: int, depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand: PIL cannot write 16-bit colour, nor a header that lies."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"tRNS", extra) if extra else b""
    ends = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + ends


def pixel(image: Image.Image, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_rgb_passes_unchanged_from_file_and_from_bytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(as_bytes(Image.fromarray(noise)))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()):
        image, oddities = decode(source)
        assert np.array_equal(np.asarray(image), noise) and oddities == ()


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 257, 32768], [40000, 65534, 65535]], np.uint16)
    image, oddities = decode(as_bytes(Image.fromarray(values)))
    assert np.array_equal(np.asarray(image)[:, :, 0], np.round(values / 257).astype(np.uint8))
    assert oddities == ("16-bit",)


def test_sixteen_bit_grey_with_a_clear_value_shows_the_background():
    rows = b"\0" + struct.pack(">HH", 1000, 65535)
    image, oddities = decode(raw_png(2, 1, 16, 0, rows, struct.pack(">H", 1000)), background=(9, 8, 7))
    assert (pixel(image), pixel(image, (1, 0))) == ((9, 8, 7), (255, 255, 255))
    assert "16-bit" in oddities and "alpha" in oddities


def test_sixteen_bit_colour_is_within_one_level():
    rows = b"\0" + struct.pack(">HHH", 0, 32896, 65535)
    image, oddities = decode(raw_png(1, 1, 16, 2, rows))
    assert np.abs(np.array(pixel(image)) - (0, 128, 255)).max() <= 1 and oddities == ("16-bit",)


def test_floating_point_is_refused_because_its_range_is_unknown():
    with pytest.raises(ImageError, match="neither 8 nor 16") as caught:
        open_image(as_bytes(Image.new("F", (2, 2), 0.5), "TIFF"))
    assert caught.value.reason == "unknown range of values"


def test_every_kind_of_transparency_shows_the_background():
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    red = Image.new("RGB", (2, 1), (255, 0, 0))
    clear = {
        "RGBA": as_bytes(Image.new("RGBA", (1, 1), (0, 0, 0, 0))),
        "LA": as_bytes(Image.new("LA", (1, 1), (0, 0))),
        "palette": as_bytes(palette, transparency=0),
        "RGB with a clear colour": as_bytes(red, transparency=(255, 0, 0)),
        "WebP": as_bytes(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "WEBP", lossless=True),
        "GIF": as_bytes(palette, "GIF", transparency=0),
    }
    for kind, content in clear.items():
        image, oddities = decode(content)
        assert pixel(image) == (255, 255, 255) and "alpha" in oddities, kind
        assert pixel(open_image(content, background=(1, 2, 3))) == (1, 2, 3), kind
    assert pixel(open_image(clear["palette"]), (1, 0)) == (0, 0, 255)


def test_half_transparent_black_over_white_is_mid_grey():
    value = pixel(open_image(as_bytes(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))))
    assert value == (127, 127, 127)


def test_cmyk_one_bit_and_palette_become_rgb():
    cyan, oddities = decode(as_bytes(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=95))
    assert oddities == ("CMYK",) and np.abs(np.array(pixel(cyan)) - (0, 255, 255)).max() < 8
    white, oddities = decode(as_bytes(Image.new("1", (3, 3), 1)))
    assert oddities == ("1-bit",) and pixel(white) == (255, 255, 255)
    green = Image.new("RGB", (3, 3), (0, 255, 0)).convert("P", palette=Image.Palette.ADAPTIVE)
    image, oddities = decode(as_bytes(green))
    assert oddities == ("palette",) and pixel(image) == (0, 255, 0)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(form):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    image, oddities = decode(as_bytes(frames[0], form, save_all=True, append_images=frames[1:], lossless=True))
    assert pixel(image) == (255, 0, 0) and "animated" in oddities


def test_the_preview_that_cameras_add_is_no_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    image, oddities = decode(as_bytes(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert oddities == () and pixel(image)[0] > 250


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (16, 8), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    upright = open_image(as_bytes(image, "JPEG", exif=exif, quality=95))
    assert upright.size == (8, 16)
    assert pixel(upright, (4, 2))[0] < 30 and pixel(upright, (4, 13))[0] > 225


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_lose_the_image():
    content = as_bytes(Image.new("RGB", (4, 4), (10, 20, 30)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\1")
    assert open_image(content).size == (4, 4)


@pytest.mark.parametrize("edge", [8001, 9500, 20000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_header_alone_is_enough_to_refuse_a_bomb(edge):
    assert edge * edge > MAX_PIXELS
    with pytest.raises(ImageError, match=r"bomb\.png.*limit is 64 million") as caught:
        open_image(raw_png(edge, edge, 8, 2, b""), name="bomb.png")
    assert caught.value.reason == "too large image"


def test_what_is_no_image_is_named(tmp_path):
    good = as_bytes(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))
    faults = {
        "empty.png": b"",
        "page.jpg": b"<html>404</html>",
        "half.png": good[: len(good) // 2],
        "half.jpg": as_bytes(Image.open(io.BytesIO(good)), "JPEG")[:900],
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # PIL would start Ghostscript
    }
    for name, content in faults.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=name) as caught:
            open_image(tmp_path / name)
        expected = "not read: .eps" if name == "drawing.eps" else "corrupt image"
        assert caught.value.reason == expected and "0x" not in str(caught.value)
    with pytest.raises(ImageError, match=r"none\.png is not there") as caught:
        open_image(tmp_path / "none.png")
    assert caught.value.reason == "missing file"
    with pytest.raises(ImageError):
        open_image(tmp_path)


SEEDS = [
    as_bytes(Image.new(mode, (12, 9)), form)
    for mode, form in [("RGB", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("RGBA", "WEBP"), ("L", "TIFF"), ("1", "BMP")]
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_an_image_or_an_image_error(seed, damage):
    content = bytearray(seed)
    for place, value in damage:
        content[int(place * len(content))] = value
    try:
        assert open_image(bytes(content)).mode == "RGB"
    except ImageError as error:
        assert error.reason


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.sampled_from(["crop", "pad"]))
def test_any_image_fits_any_size(width, height, size, how):
    square = fit(Image.new("RGB", (width, height), (10, 20, 30)), size, how, background=(10, 20, 30))
    assert square.shape == (3, size, size) and square.dtype == np.uint8 and square.flags["C_CONTIGUOUS"]
    assert (square == np.array([10, 20, 30], np.uint8)[:, None, None]).all()


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_pixels_are_kept_where_the_size_fits(how):
    noise = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(fit(Image.fromarray(noise), 8, how), noise.transpose(2, 0, 1))


def test_crop_takes_the_middle_and_pad_keeps_everything():
    wide = np.random.default_rng(2).integers(0, 256, (8, 20, 3), np.uint8)
    assert np.array_equal(fit(Image.fromarray(wide), 8), wide[:, 6:14].transpose(2, 0, 1))
    padded = fit(Image.fromarray(wide), 20, "pad", background=(1, 2, 3))
    assert np.array_equal(padded[:, 6:14], wide.transpose(2, 0, 1))
    assert (padded[:, :6] == np.array([1, 2, 3])[:, None, None]).all()


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = fit(Image.fromarray(stripes), 16)
    assert np.abs(shrunk[:, :, 2:-2].astype(int) - 128).max() < 6


@pytest.mark.parametrize("size, how", [(0, "crop"), (8, "stretch")])
def test_a_wrong_size_or_way_is_refused(size, how):
    with pytest.raises(CondgenError, match="crop"):
        fit(Image.new("RGB", (4, 4)), size, how)
