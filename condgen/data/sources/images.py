"""Opens untrusted image files as RGB images and square arrays.

PIL decodes the images, and only in the formats listed here. The size is read from the header before a pixel is decoded,
EXIF orientation is applied, 16-bit and float values are scaled from a range that holds for the whole data set (PIL
would clip them to white), transparent pixels are composited over a background, animations yield their first frame, and
texts that unpack to megabytes are not read.

Lists the files of a folder of data; what condgen wrote among them is no data.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from condgen.contracts import MAX_PIXELS, CondgenError, CondgenWarning, listed
from condgen.data.formats.registry import AVIF, BY_SUFFIX, HEIF, UNREAD, Listing, suffix_of, walk
from condgen.data.options import RGB, WHITE, Resize
from condgen.data.progress import UP_TO
from condgen.files.images import is_written_here
from condgen.files.registry import INDEX

LARGEST = 170_000_000
"""Maximum number of pixels of a baseline JPEG, which can be decoded at a half, a quarter or an eighth of its size."""
REDUCED = f"more than {MAX_PIXELS // 1_000_000} million pixels, read at reduced size"
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "QOI", "SGI", "DDS", "ICO"),
    *(["AVIF"] if AVIF else []),
)
"""The formats of PIL that are read from files of any name. HEIC photos are read too with pillow-heif."""
HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"))
"""Bytes 4 to 12 of a HEIC photo."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
ASIDE = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""PNG chunks that PIL decompresses although they are not needed."""
Range = tuple[float, ...]
"""() or the values that become black and white."""
DEEP = (0, 65535)
RANGE_HINT = "--data.value_range '[LOW, HIGH]', data check: --value-range LOW,HIGH"
SCALED = "which cannot be scaled from a range of values. Save it with 8 bits a channel"
RUN, MODEL = "a training run", "a model"
EVERY = 1000
"""Most PNG files of a folder that are all looked at; of more, only the first, the last and those named like sheets."""
_SHEET = re.compile(r"(search|grid|sheet)(-\d+)?\.png", re.I)
NO_IMAGES = {
    b"<!doctype html": "a web page, saved under the name of an image",
    b"<html": "a web page, saved under the name of an image",
    b"<?xml": "an XML text, such as an SVG drawing or the answer of a server",
    b"<svg": "an SVG drawing",
    b"version https://git-lfs": "a pointer of Git LFS: the file itself is fetched by git lfs pull",
    b"pk\x03\x04": "a zip archive",
    b"%pdf": "a PDF document",
    b"8bps": "a file of Photoshop",
}
"""How files begin that bear the name of an image by mistake, in lower case."""
HEAD = 64


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # sizes are checked here


class ImageError(CondgenError):
    """An image that cannot be used.

    Args:
        reason: `missing file`, `corrupt image`, `too large image`, `unknown range of values` or `not read: ` with the
            name of the format.
        message: names the image and what to do.
        detail: details of the reason, in a few words.
    """

    def __init__(self, reason: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.reason, self.detail = reason, detail


def open_image(
    source: str | os.PathLike[str] | bytes, *, background: RGB = WHITE, value_range: Range = (), name: str = ""
) -> Image.Image:
    """Opens one image.

    Args:
        source: path of a file, or the bytes of one.
        background: RGB, 0 to 255, shown through transparent pixels.
        value_range: the values of a 16-bit or float image that become black and white; () takes 0 and 65535 for 16 bits
            and refuses others.
        name: name of the image in messages; by default its path.

    Returns:
        The first frame, upright, as a PIL image of mode RGB.

    Raises:
        ImageError: the image is unusable; the message names it, the fault and what to do.
    """
    return decode(source, background=background, value_range=value_range, name=name)[0]


def decode(
    source: str | os.PathLike[str] | bytes, *, background: RGB = WHITE, value_range: Range = (), name: str = ""
) -> tuple[Image.Image, tuple[str, ...]]:
    """Like `open_image`, also returns notes on unusual properties: 16-bit, CMYK, palette, 1-bit, alpha, animated."""
    name = name or ("the image" if isinstance(source, bytes) else os.fspath(source))
    try:
        try:
            return _first_frame(source, background, value_range, name)
        except ValueError:  # PIL refuses a PNG with texts that unpack to megabytes, but its pixels may be valid
            content = source if isinstance(source, bytes) else Path(source).read_bytes()
            if not content.startswith(SIGNATURE):
                raise
            return _first_frame(_without_texts(content), background, value_range, name)
    except CondgenError:
        raise
    except FileNotFoundError:
        raise ImageError("missing file", f"{name} is not there. Check the path.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, f"more than {MAX_PIXELS}") from None
    except UnidentifiedImageError:
        raise _unidentified(source, name) from None
    except Exception as error:  # a decoder may raise almost any exception on arbitrary bytes
        raise _corrupt(name, f"{type(error).__name__}: {error}".splitlines()[0][:200]) from None


def _first_frame(
    source: str | os.PathLike[str] | bytes, background: RGB, value_range: Range, name: str
) -> tuple[Image.Image, tuple[str, ...]]:
    own = BY_SUFFIX.get(suffix_of(name))
    formats = (*FORMATS, own) if own else FORMATS
    if HEIF and _head(source)[4:12] in HEIC:
        from pillow_heif import register_heif_opener

        register_heif_opener()
        formats = ("HEIF",)
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
        notes = _check_size(image, name) + _notes(image)
        image.load()
        rgb = _over(_eight_bit(_upright(image), name, value_range), background)
        if "16-bit" in notes and not image.mode.startswith("I") and value_range not in ((), DEEP):
            raise ImageError("16-bit colours", f"{name} has 16-bit colours, {SCALED}.", "save it with 8 bits a channel")
        if "16-bit" in notes and not value_range:
            most = max(high for _, high in rgb.getextrema())
            notes += next(((text,) for high, text in UP_TO.items() if most <= (high + 128) // 257), ())
        return rgb, (*notes, "animated") if _is_animated(image) else notes


def _without_texts(content: bytes) -> bytes:
    """Removes the texts and the colour profile from a PNG."""
    kept, at = [content[: len(SIGNATURE)]], len(SIGNATURE)
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")  # length, kind, content, checksum
        if content[at + 4 : at + 8] not in ASIDE:
            kept.append(content[at:end])
        at = end
    return b"".join(kept)


def fit(
    image: Image.Image,
    size: int,
    resize: Resize = "crop",
    *,
    background: RGB = WHITE,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> np.ndarray:
    """Makes an RGB image square.

    Args:
        image: mode RGB, any size.
        size: edge length S in pixels.
        resize: `crop` keeps the largest centred square; `pad` keeps the whole image and fills with the background.
        resample: the filter; Lanczos is antialiased.

    Returns:
        uint8 (3, S, S); images of edge S keep their pixels.
    """
    if size < 1 or resize not in ("crop", "pad"):
        raise CondgenError(f"Images are resized to a size >= 1 by 'crop' or 'pad', got size {size} and {resize!r}.")
    width, height = image.size
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        square = image.crop(box) if side == size else image.resize((size, size), resample, box)
    else:
        side = max(width, height)
        inner = (max(1, round(width * size / side)), max(1, round(height * size / side)))
        square = Image.new("RGB", (size, size), background)
        shrunk = image if side == size else image.resize(inner, resample)
        square.paste(shrunk, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.ascontiguousarray(np.asarray(square, np.uint8).transpose(2, 0, 1))


def _head(source: str | os.PathLike[str] | bytes) -> bytes:
    """The first bytes of an image."""
    if isinstance(source, bytes):
        return source[:HEAD]
    with open(source, "rb") as file:
        return file.read(HEAD)


def _unidentified(source: str | os.PathLike[str] | bytes, name: str) -> ImageError:
    """The error for bytes that PIL does not know: what they are, by their beginning and by the name."""
    head, suffix = _head(source), suffix_of(name)
    if head[4:12] in HEIC:
        suffix = ".heic"
    if why := UNREAD.get(suffix):
        return ImageError(f"not read: {suffix}", f"{name} cannot be read: {why}.", why)
    for start, what in NO_IMAGES.items():
        if head.lstrip().lower().startswith(start):
            return _corrupt(name, what)
    if not head:
        return _corrupt(name, "an empty file")
    return _corrupt(name, f"none of {', '.join((*FORMATS, *BY_SUFFIX.values()))}")


def _corrupt(name: str, what: str) -> ImageError:
    message = f"{name} is not an image that can be read ({what}). Replace it, or save it again as PNG or JPEG."
    return ImageError("corrupt image", message, what)


def _too_large(name: str, pixels: str) -> ImageError:
    limit = f"{MAX_PIXELS // 1_000_000} million"
    message = f"{name} has {pixels} pixels; the limit is {limit}. Make it smaller."
    return ImageError("too large image", message, f"{pixels} pixels")


def _check_size(image: Image.Image, name: str) -> tuple[str, ...]:
    """Refuses an image that is too large, by its header; a large JPEG is decoded at a fraction of its size."""
    (width, height), noted = image.size, ()
    if MAX_PIXELS < width * height <= LARGEST and image.format == "JPEG" and not image.info.get("progressive"):
        scale = next(scale for scale in (2, 4, 8) if width * height <= MAX_PIXELS * scale * scale)
        image.draft(None, (width // scale, height // scale))
        (width, height), noted = image.size, (REDUCED,)
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height}")
    return noted


def _notes(image: Image.Image) -> tuple[str, ...]:
    """Notes on unusual properties. Call it before the pixels are loaded, which clears the file's layout."""
    deep = image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    found = {
        "16-bit": deep,
        "CMYK": image.mode == "CMYK",
        "palette": image.mode in ("P", "PA"),
        "1-bit": image.mode == "1",
        "alpha": image.has_transparency_data,
    }
    return tuple(name for name, true in found.items() if true)


def _is_animated(image: Image.Image) -> bool:
    try:
        # Cameras write a preview as a second frame (MPO), which is not an animation.
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # the second frame is broken; only the first is used
        return True


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation, and ignores broken EXIF data."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _eight_bit(image: Image.Image, name: str, value_range: Range = ()) -> Image.Image:
    """Scales 16-bit and float grey from a range of values to 0 to 255; other modes are unchanged.

    Without a range 16-bit grey is scaled by 1/257, so that 65535 becomes 255.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ImageError("values that are not finite", f"{name} holds NaN or infinite values. Replace them.")
    if value_range:
        low, high = value_range
        share = (values.astype(np.float64) - low) / (high - low)
        grey = Image.fromarray((share.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    elif image.mode == "F" or values.min() < 0 or values.max() > 65535:
        found = f"{values.min():.6g} to {values.max():.6g}"
        message = (
            f"{name} holds numbers that are neither 8 nor 16 bits wide ({found}). Say which become black and white "
            f"({RANGE_HINT}), or save it as an 8-bit or 16-bit PNG."
        )
        raise ImageError("unknown range of values", message, f"{found}: {RANGE_HINT}")
    else:
        grey = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _over(image: Image.Image, background: RGB) -> Image.Image:
    """Composites an image over the background; returns mode RGB."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")


# Files of a folder ----------------------------------------------------------------------------------------------------


def files_below(folder: Path) -> list[Path]:
    """All files below a folder in a fixed order, see `list_files`."""
    return list_files(folder).files


def list_files(folder: Path) -> Listing:
    """Lists the files below a folder, except hidden ones and what condgen wrote there, see `registry.walk`.

    Runs, models, reports and embeddings are left out with a warning, and so are generated images among others, unless
    they have captions; a folder of generated images alone is data.

    Raises:
        CondgenError: the folder itself is a run or a model.
    """
    ours: dict[str, str] = {}

    def is_ours(home: Path, folders: list[str], names: list[str]) -> bool:
        what = kind_of_output(home, folders, names)
        if what in (RUN, MODEL) and home == folder:
            raise CondgenError(f"{folder} is {what} of condgen, and no data. Give the folder of the images.")
        if what and home != folder:
            ours[home.relative_to(folder).as_posix()] = what
        return bool(what) and home != folder

    listing = walk(folder, is_ours)
    by_home: dict[Path, list[Path]] = {}
    for file in listing.files:
        by_home.setdefault(file.parent, []).append(file)
    written = set().union(*map(_written, by_home.values()))
    found = Listing(folder, [file for file in listing.files if file not in written], listing.unread)
    if not found.images:
        found.files = listing.files  # a synthetic data set
    elif not any(file.stem == "metadata" for file in found.files):  # which decides what is data
        ours |= {file.relative_to(folder).as_posix(): "written by condgen" for file in sorted(written)}
    if ours:
        text = listed([f"{name} ({what})" for name, what in ours.items()])
        warnings.warn(f"{folder}: left out, since condgen wrote it: {text}.", CondgenWarning, stacklevel=2)
    return found


def kind_of_output(folder: Path, folders: Collection[str], names: Collection[str]) -> str:
    """What condgen wrote into a folder, such as `a training run`; "" for other folders.

    Args:
        folders, names: the names of its folders and of its files.
    """
    if "config.yaml" in names and {"checkpoints", "samples", "parts"}.intersection(folders):
        with suppress(OSError), open(folder / "config.yaml", "rb") as file:
            if file.read(7) == b"recipe:":
                return RUN
    if INDEX in names:
        return MODEL
    if {"report.json", "report.md"} <= set(names):
        return "a report"
    if "manifest.json" in names and any(name.startswith("embeds-") for name in names):
        return "embeddings"
    return ""


def is_output(folder: Path) -> bool:
    """Whether condgen wrote a folder as a whole, see `kind_of_output`."""
    names = os.listdir(folder)
    return bool(kind_of_output(folder, names, names))


def _written(files: list[Path]) -> set[Path]:
    """The files of one folder that are generated images, sheets, or vectors."""
    pngs = sorted(file for file in files if file.suffix.lower() == ".png")
    looked_at = pngs
    if len(pngs) > EVERY and not any(map(is_written_here, (pngs[0], pngs[-1]))):
        looked_at = [file for file in pngs if _SHEET.fullmatch(file.name)]
    out = {file for file in looked_at if is_written_here(file) and not file.with_suffix(".txt").exists()}
    return out | {file for file in files if _holds_vectors(file)}


def _holds_vectors(file: Path) -> bool:
    """Whether a file holds embeddings with their rows, see `retrieval.vectors`; read from the end of a parquet file."""
    if file.name.endswith(".npy.jsonl"):
        return file.with_suffix("").is_file()
    if file.suffix != ".parquet":
        return False
    with suppress(OSError), open(file, "rb") as table:
        table.seek(-min(os.path.getsize(file), 2**16), os.SEEK_END)
        end = table.read()
        return b"condgen" in end and b'"space"' in end and b"embedding" in end
    return False
