"""Generated images with their recipe as PNG text, and sheets of images."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
import unicodedata
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from condgen.contracts import MAX_PIXELS, CondgenError, CondgenWarning, to_json

KEY = "condgen"
SHEET = "condgen-sheet"
"""Keys of texts in PNG files: the recipe of an image, and the mark of a sheet of images."""
MEASURED = 500
"""Characters of a text that may appear on a sheet; no cell has room for more."""
TEXTS = "texts"
"""Key of the texts in the `info` of a sheet."""


@dataclass(frozen=True)
class GeneratedImage:
    """One generated image.

    Args:
        image: PIL, RGB or L.
        recipe: prompt and prior, `labels` by name, or an operation with its fields (`pipelines.editing`); seed,
            options, size, model and model_id. It suffices to generate the image again.
        clip_score: cosine similarity of image and prompt in the model's space; None without a prompt.
        ms: duration of the generation in milliseconds.
    """

    image: Image.Image
    recipe: dict
    clip_score: float | None
    ms: float

    @property
    def prompt(self) -> str:
        """The prompt, or the labels as text."""
        return prompt_of(self.recipe)

    @property
    def seed(self) -> int:
        return self.recipe["seed"]

    def png(self) -> bytes:
        """The image as PNG, including its recipe."""
        return png_with_recipe(self.image, self.recipe, parameters(self.recipe))

    @property
    def file_name(self) -> str:
        """A file name from prompt or labels and seed, valid on every file system."""
        labels = self.recipe.get("labels", {}).items()
        text = " ".join(f"{v}" if k == "label" else f"{k} {_plain(v)}" for k, v in labels)
        return f"{slug(text or self.prompt)}-{self.seed}.png"

    def save(self, folder: Path | str) -> Path:
        """Writes the PNG into a folder, which is created if missing; returns its path, see `write_beside`."""
        return write_beside(make_folder(folder) / self.file_name, self.png())


def prompt_of(recipe: dict) -> str:
    """The prompt of a recipe, the title of an operation, or labels as text: `label: Sneaker, age: 30`."""
    if "labels" not in recipe:
        return recipe["title" if "operation" in recipe else "prompt"]
    return ", ".join(f"{name}: {_plain(value)}" for name, value in recipe["labels"].items()) or "anything"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def parameters(recipe: dict) -> str:
    """The recipe as one string, in the form that other programs read."""
    rest = {
        k: v
        for k, v in recipe.items()
        if k not in ("prompt", "labels", "title", "negative") and not isinstance(v, dict | list)
    }
    names = {"steps": "Steps", "guidance": "CFG scale", "seed": "Seed", "model": "Model", "model_id": "Model hash"}
    facts = ", ".join(f"{names.get(k, k)}: {v}" for k, v in rest.items() if k != "size")
    negative = f"Negative prompt: {recipe['negative']}\n" if recipe.get("negative") else ""
    return f"{prompt_of(recipe)}\n{negative}{facts}, Size: {recipe['size']}x{recipe['size']}"


def read_recipe(path: Path | str) -> dict:
    """Reads the recipe in a PNG.

    Raises:
        CondgenError: the file is missing, is not an image, or contains no recipe of condgen.
    """
    path = Path(path)
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS or image.is_animated:
                raise ValueError(f"{image.width} x {image.height} pixels, animated: {image.is_animated}")
            text = image.text.get(KEY)  # decodes the pixels, for text chunks may follow them
    except OSError as error:
        raise CondgenError(f"{path} cannot be read as an image ({error.strerror or 'not a PNG'}).") from None
    except Exception as error:  # a decoder fed with arbitrary bytes may raise nearly anything
        raise CondgenError(f"{path} is a damaged image ({str(error)[:200]}).") from None
    if not text:
        raise CondgenError(f"{path} carries no recipe. Only PNG files that condgen wrote can be replayed.")
    return recipe_of(text, path)


def recipe_of(text: str, path: Path | str) -> dict:
    """The recipe in the text `KEY` of a PNG; `CondgenError` where it is damaged or of a translation."""
    try:
        recipe = json.loads(text)
        if isinstance(recipe, dict) and "translated" in recipe:
            raise CondgenError(f"{path} was translated from another image, not generated: see condgen translate.")
        condition = {"labels"} if "labels" in recipe else {"prompt", "prior"}
        condition = {"title"} if "operation" in recipe else condition
        if not isinstance(recipe, dict) or not {"seed", "model", "model_id", *condition} <= set(recipe):
            raise ValueError("a field is missing")
        if not isinstance(recipe.get("labels", {}), dict):
            raise ValueError("labels are not named")
    except (ValueError, TypeError, RecursionError):
        raise CondgenError(f"The recipe in {path} is damaged.") from None
    return recipe


def slug(text: str, limit: int = 60) -> str:
    """A short ASCII file name for any text; a hash keeps names distinct where characters are lost."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    short = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if short and len(short) <= limit and re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") == short:
        return short
    return f"{short[:limit].strip('-') or 'image'}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def make_folder(folder: Path | str) -> Path:
    """Creates a folder; `CondgenError` where it cannot be written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        probe = folder / f".condgen-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise CondgenError(
            f"The folder {str(folder)!r} cannot be written ({reason}). Choose another with -o."
        ) from None
    return folder


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CondgenError(f"{path} could not be written ({error.strerror}).") from None


def write_beside(path: Path, data: bytes) -> Path:
    """Writes a file and returns its path; adds a number to the name if another file or folder has it.

    A file with the same bytes is overwritten.
    """
    free, number = path, 1
    while free.is_dir() or (free.exists() and free.read_bytes() != data):
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    write_bytes(free, data)
    return free


def is_written_here(path: Path) -> bool:
    """Whether a PNG is a generated image or a sheet, by the texts before its pixels."""
    with suppress(OSError, struct.error), open(path, "rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return False
        while True:
            size, kind = struct.unpack(">I4s", file.read(8))
            if kind in (b"IDAT", b"IEND"):
                return False
            start = file.read(min(size, 20)) if kind in (b"iTXt", b"tEXt") else b""
            if start.partition(b"\0")[0].decode("latin-1") in (KEY, SHEET):
                return True
            file.seek(size - len(start) + 4, os.SEEK_CUR)
    return False


def png_bytes(image: Image.Image, **kwargs) -> bytes:
    """An image as PNG; a sheet of `grid` is marked as one."""
    buffer = io.BytesIO()
    if SHEET in image.info:
        mark = PngImagePlugin.PngInfo()
        mark.add_text(SHEET, image.info[SHEET])
        kwargs = {"pnginfo": mark} | kwargs
    image.save(buffer, "PNG", **kwargs)
    return buffer.getvalue()


def png_with_recipe(image: Image.Image, recipe: dict, parameters: str) -> bytes:
    """A PNG with two texts: `parameters`, which other programs read, and `condgen`, the recipe as JSON."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt("parameters", parameters.encode("utf-8", "replace").decode())
    text.add_itxt(KEY, to_json(recipe, ensure_ascii=True, sort_keys=True))
    return png_bytes(image, pnginfo=text)


def tile(text: str, cell: int = 160) -> Image.Image:
    """A text as an image, for a sheet."""
    size, margin, step = (14, 10, 18) if cell > 100 else (11, 2, 14)
    image = Image.new("RGB", (cell, cell), (245, 245, 245))
    lines = _wrap(text, size, cell - 2 * margin, most=min(7, cell // step))
    draw = ImageDraw.Draw(image)
    for k, line in enumerate(lines):
        draw_line(draw, (margin, (cell - step * len(lines)) / 2 + step * k), line, size)
    if not text.isascii():
        image.info[TEXTS] = [text]
    return image


def draw_line(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill=(40, 40, 40)) -> None:
    """Draws one line of text in any writing, see `fonts.lettering`."""
    if text.isascii():
        draw.text(place, text, fill=fill, font=ImageFont.load_default(size=size))
    else:
        from condgen.files.fonts import lettering

        lettering(text, size).draw(draw, place, fill)


def grid(images: list[Image.Image | None], labels: list[str], columns: int = 0, cell: int = 160) -> Image.Image:
    """A sheet of images with a line of text under each.

    Args:
        images: all square; None leaves a cell empty.
        labels: one per image; '' for none.
        columns: number of columns; 0 makes the sheet about square.
        cell: edge of an image on the sheet in pixels; small images are enlarged without smoothing.

    Returns:
        The sheet; `info[TEXTS]` holds the texts if no font here has all their letters, see `write_sheet`.
    """
    columns = columns or min(len(images), max(1, round(len(images) ** 0.5 * 1.2)))
    rows = -(-len(images) // columns)
    texts, labels = _numbered(images, labels)
    wrapped = [_wrap(label, 11, cell - 4) for label in labels]
    text_height = 14 * max([len(lines) for lines in wrapped] or [0]) + 4
    pad = 6
    sheet = Image.new("RGB", (pad + columns * (cell + pad), pad + rows * (cell + text_height + pad)), "white")
    sheet.info[SHEET] = f"{len(images)} images"
    draw = ImageDraw.Draw(sheet)
    for i, (image, lines) in enumerate(zip(images, wrapped)):
        if image is None:
            continue
        x, y = pad + i % columns * (cell + pad), pad + i // columns * (cell + text_height + pad)
        smooth = Image.Resampling.LANCZOS if image.width > cell else Image.Resampling.NEAREST
        sheet.paste(image.convert("RGB").resize((cell, cell), smooth), (x, y))
        draw.rectangle((x, y, x + cell - 1, y + cell - 1), outline=(210, 210, 210))
        for k, line in enumerate(lines):
            draw_line(draw, (x + 2, y + cell + 2 + 14 * k), line, 11)
    if texts:
        sheet.info[TEXTS] = texts
    return sheet


def gif(frames: list[Image.Image], ms: int) -> bytes:
    """A GIF that plays forwards and backwards in a loop; a frame lasts `ms`, the first and the last half a second."""
    durations = [500, *[ms] * (len(frames) - 2), 500][: len(frames)]
    frames, durations = frames + frames[-2:0:-1], durations + durations[-2:0:-1]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return out.getvalue()


def _numbered(images: list[Image.Image | None], labels: list[str]) -> tuple[list[str], list[str]]:
    """The texts of all cells if no font has some of their letters, else none; and the labels, with numbers then."""
    texts = [label or (image.info.get(TEXTS, [""])[0] if image else "") for image, label in zip(images, labels)]
    if all(text.isascii() for text in texts):
        return [], labels
    from condgen.files.fonts import can_be_drawn

    if all(map(can_be_drawn, texts)):
        return [], labels
    return texts, [f"#{k} {label}".rstrip() if text else "" for k, (text, label) in enumerate(zip(texts, labels), 1)]


def write_sheet(path: Path, sheet: Image.Image, keep: bool = False) -> Path:
    """Writes a sheet as PNG; where letters could not be drawn, an HTML page with the texts beside it. Returns the path.

    Warns of that page.

    Args:
        keep: a file of that name stays, see `write_beside`.
    """
    if keep:
        path = write_beside(path, png_bytes(sheet))
    else:
        write_bytes(path, png_bytes(sheet))
    if TEXTS in sheet.info:
        from condgen.files.fonts import HINT, page_beside

        page = path.with_suffix(".html")
        write_bytes(page, page_beside(path, sheet.info[TEXTS]).encode("utf-8", "replace"))
        text = f"No font here has some letters of the texts on {path.name}: they stand in {page}. {HINT}"
        warnings.warn(text, CondgenWarning, stacklevel=2)
    return path


def _wrap(text: str, size: int, width: int, most: int = 3) -> list[str]:
    lines: list[str] = []
    text = text if text.isascii() else text[:MEASURED]
    length = _measure(text, size)
    words: list[str] = []
    for word in text.split():
        words += [word] if len(word) <= width and length(word) <= width else _pieces(word, width, length)
    for word in words:
        if lines and length(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + " ..."]
    return lines


def _measure(text: str, size: int) -> Callable[[str], float]:
    """Function from a part of the text to its width in pixels."""
    if text.isascii():
        return ImageFont.load_default(size=size).getlength
    from condgen.files.fonts import lettering

    return lambda part: lettering(part, size).length


def _pieces(word: str, width: int, length: Callable[[str], float]) -> list[str]:
    """Cuts a word that is too long for a line; not before combining marks."""
    if word.isascii():
        longest = max(1, int(width / length("m")))
        return [word[i : i + longest] for i in range(0, len(word), longest)]
    pieces = [""]
    for c in word:
        if pieces[-1] and not unicodedata.combining(c) and length(pieces[-1] + c) > width:
            pieces.append("")
        pieces[-1] += c
    return pieces
