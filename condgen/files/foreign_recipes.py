"""The recipe in an image of any program: condgen, AUTOMATIC1111 and its relatives, Fooocus, InvokeAI, ComfyUI.

    found = read_any("image.png")
    found.program, found.recipe  # "AUTOMATIC1111", {"prompt": "a castle", "seed": 5, "steps": 20, "guidance": 7.0}

Pixels are not decoded, and every text has a limit, so that hostile files do no harm.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from condgen.contracts import MAX_PIXELS, CondgenError
from condgen.files.images import KEY, SHEET, recipe_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 2**20
"""Bytes of a text that is read."""
MAX_CHUNKS = 20_000
MAX_STRING = 10_000
"""Characters of a prompt that are read."""
NAMES = {"Steps": "steps", "CFG scale": "guidance", "Seed": "seed", "Model": "model", "Size": "size"}
"""Settings in the text of AUTOMATIC1111 that condgen has too."""
USER_COMMENT, EXIF, CAMERA = 0x9286, 0x8769, 0x0110
"""Tags of EXIF."""
SEEDS = ("seed", "noise_seed")
"""Names of seeds in ComfyUI."""


@dataclass(frozen=True)
class FoundRecipe:
    """What a program wrote into an image.

    Args:
        program: the name of the program.
        recipe: of condgen, as in `GeneratedImage`; of others what was found of `prompt`, `negative`, `seed`, `steps`,
            `guidance`, `model` and `size`.
        rest: further settings as text; condgen does not have them.
    """

    program: str
    recipe: dict[str, Any]
    rest: dict[str, str] = field(default_factory=dict)


def read_any(path: Path | str) -> FoundRecipe:
    """Reads the recipe in a PNG, or in the EXIF of a JPEG or WebP.

    Raises:
        CondgenError: the file is missing, no such image, too large, or has no recipe that can be read.
    """
    return recipe_in(texts_of(Path(path)), path)


def recipe_in(texts: dict[str, str], path: Path | str) -> FoundRecipe:
    """The recipe in the texts of an image; errors as in `read_any`."""
    if KEY in texts:
        return FoundRecipe("condgen", recipe_of(texts[KEY], path))
    if SHEET in texts:
        raise CondgenError(f"{path} is a sheet of several images, which has no recipe of its own.")
    for keys, read in READERS:
        text = next((texts[key] for key in keys if texts.get(key)), "")
        found = read(text) if text else None
        if found is not None and found.recipe:
            return found
    raise CondgenError(
        f"{path} has no recipe that can be read. Looked for those of condgen, AUTOMATIC1111, Fooocus, InvokeAI and "
        "ComfyUI. Programs that send or edit images often remove them."
    )


# Texts in files -------------------------------------------------------------------------------------------------------


def texts_of(path: Path) -> dict[str, str]:
    """The texts in an image by name; errors as in `read_any`."""
    try:
        with open(path, "rb") as file:
            if file.read(8) == SIGNATURE:
                return dict(_png_texts(file))
    except OSError as error:
        raise CondgenError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, struct.error, zlib.error) as error:
        raise CondgenError(f"{path} is a damaged image ({str(error)[:200]}).") from None
    return _exif_texts(path)


def _png_texts(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """The texts of a PNG after its signature, before and after its pixels; the first of a name counts."""
    known: set[str] = set()
    total = 0
    for number in range(MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            if number == 0:
                raise ValueError("it ends after its first bytes")
            return
        size, kind = struct.unpack(">I4s", header)
        if number == 0:
            width, height = struct.unpack(">II", file.read(8))
            if kind != b"IHDR" or not 0 < width * height <= MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels" if kind == b"IHDR" else "no header")
            file.seek(size - 8 + 4, 1)
            continue
        if kind == b"IEND":
            return
        if kind == b"acTL":
            raise ValueError("it is animated")
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            file.seek(size + 4, 1)
            continue
        if size > MAX_TEXT:
            raise ValueError(f"a text of {size:,} bytes")
        name, text = _png_text(kind, file.read(size))
        file.seek(4, 1)
        total += len(text)
        if total > 4 * MAX_TEXT:
            raise ValueError("its texts are too large")
        if name not in known:
            known.add(name)
            yield name, text


def _png_text(kind: bytes, data: bytes) -> tuple[str, str]:
    """Name and text of a chunk."""
    name, _, rest = data.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif packed:
        rest = rest[1:]
    if packed:
        unpack = zlib.decompressobj()
        rest = unpack.decompress(rest, MAX_TEXT)
        if unpack.unconsumed_tail:
            raise ValueError("a packed text that is too large")
    encoding = "utf-8" if kind == b"iTXt" else "latin-1"
    return name.decode("latin-1"), rest.decode(encoding, "replace")


def _exif_texts(path: Path) -> dict[str, str]:
    """The texts in the EXIF of a JPEG or WebP, under the names that PNG files have."""
    try:
        with Image.open(path, formats=("JPEG", "WEBP")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise CondgenError(f"{path} is too large ({image.width} x {image.height} pixels).")
            exif = image.getexif()
            comment, camera = exif.get_ifd(EXIF).get(USER_COMMENT, ""), exif.get(CAMERA, "")
    except CondgenError:
        raise
    except Exception:  # a decoder fed with arbitrary bytes may raise nearly anything
        raise CondgenError(f"{path.name} cannot be read as an image (not a PNG, JPEG or WebP).") from None
    texts = {"parameters": _comment(comment)}
    if isinstance(camera, str) and camera.startswith("prompt:"):  # ComfyUI
        texts["prompt"] = camera.removeprefix("prompt:")
    return texts


def _comment(value: Any) -> str:
    """The text of a `UserComment` of EXIF, which begins with the name of its encoding."""
    if isinstance(value, str):
        return value[:MAX_TEXT]
    data = value[:MAX_TEXT] if isinstance(value, bytes) else b""
    if not data.startswith(b"UNICODE\0"):
        return data.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace").strip("\0")
    data = data[8:]
    big = data[::2].count(0) > data[1::2].count(0)
    return data.decode("utf-16-be" if big else "utf-16-le", "replace")


# Programs -------------------------------------------------------------------------------------------------------------


def _parameters(text: str) -> FoundRecipe | None:
    """The text of AUTOMATIC1111, Forge and others, or the JSON of Fooocus."""
    if text.lstrip().startswith("{"):
        return _fooocus(_parsed(text))
    lines = text.replace("\r\n", "\n").strip().split("\n")
    settings = dict(_settings(lines[-1]))
    if len(settings) < 3:
        settings = {}
    else:
        lines.pop()
    prompt, negative = [], []
    into = prompt
    for line in lines:
        if line.strip().startswith("Negative prompt:"):
            into, line = negative, line.strip().removeprefix("Negative prompt:")
        into.append(line.strip())
    values = {NAMES[name]: value for name, value in settings.items() if name in NAMES}
    rest = {name: value for name, value in settings.items() if name not in NAMES}
    program = "Fooocus" if "Fooocus" in settings.get("Version", "") else "AUTOMATIC1111"
    return _found(program, {"prompt": "\n".join(prompt), "negative": "\n".join(negative), **values}, rest)


def _settings(line: str) -> Iterator[tuple[str, str]]:
    """The settings in a line such as `Steps: 20, Sampler: Euler a, Lora: "a: 1, b: 2"`."""
    parts, start, quoted = [], 0, False
    for mark in re.finditer(r'\\.|[",]', line):
        if mark[0] == '"':
            quoted = not quoted
        elif mark[0] == "," and not quoted:
            parts.append(line[start : mark.start()])
            start = mark.end()
    parts.append(line[start:])
    for part in parts[:200]:
        name, colon, value = part.partition(":")
        if colon and 0 < len(name.strip()) <= 60:
            value = value.strip()
            whole = len(value) > 1 and value[0] == value[-1] == '"'
            yield name.strip(), re.sub(r"\\(.)", r"\1", value[1:-1]) if whole else value


def _fooocus(data: Any) -> FoundRecipe | None:
    if not isinstance(data, dict):
        return None
    names = {"prompt": "prompt", "negative_prompt": "negative", "seed": "seed", "steps": "steps",
             "guidance_scale": "guidance", "base_model": "model", "resolution": "size"}  # fmt: skip
    return _found("Fooocus", {names[k]: v for k, v in data.items() if k in names}, _others(data, names))


def _invokeai(text: str) -> FoundRecipe | None:
    data = _parsed(text)
    if not isinstance(data, dict):
        return None
    image = data.get("image")
    data = {**data, **image} if isinstance(image, dict) else data  # up to version 2: `sd-metadata`
    names = {"positive_prompt": "prompt", "prompt": "prompt", "negative_prompt": "negative", "seed": "seed",
             "steps": "steps", "cfg_scale": "guidance", "model": "model", "model_weights": "model"}  # fmt: skip
    values = {names[k]: v for k, v in data.items() if k in names}
    model, prompt = values.get("model"), values.get("prompt")
    if isinstance(model, dict):
        values["model"] = model.get("name") or model.get("model_name") or model.get("key")
    if isinstance(prompt, list):
        parts = [part.get("prompt") if isinstance(part, dict) else part for part in prompt[:100]]
        values["prompt"] = " ".join(part for part in parts if isinstance(part, str))
    values["size"] = f"{data.get('width')}x{data.get('height')}"
    return _found("InvokeAI", values, _others(data, [*names, "width", "height", "image"]))


def _comfyui(text: str) -> FoundRecipe | None:
    """The first sampler of a graph, and the texts and numbers that lead to it."""
    graph = _parsed(text)
    nodes = {k: v for k, v in graph.items() if isinstance(v, dict)} if isinstance(graph, dict) else {}
    inputs = {k: node["inputs"] for k, node in nodes.items() if isinstance(node.get("inputs"), dict)}
    samplers = [k for k, given in inputs.items() if _has_seed(given) and _linked(given, "positive", inputs)]
    samplers += [k for k, given in inputs.items() if _linked(given, "guider", inputs)]
    samplers += [k for k, given in inputs.items() if _has_seed(given)]
    if not samplers:
        return None
    first = samplers[0]
    before = [inputs[key] for key in _upstream(first, inputs)]
    values = {
        name: next((given[key] for given in before for key in keys if isinstance(given.get(key), int | float)), None)
        for name, keys in {"seed": SEEDS, "steps": ["steps"], "guidance": ["cfg", "guidance"]}.items()
    }
    ends = {name: next((given[name] for given in before if _linked(given, name, inputs)), None)
            for name in ("positive", "negative", "conditioning")}  # fmt: skip
    values["prompt"] = _text_of(ends["positive"] or ends["conditioning"], inputs)
    values["negative"] = _text_of(ends["negative"], inputs)
    files = (given.get(key) for given in before for key in ("ckpt_name", "unet_name"))
    values["model"] = next((name for name in files if isinstance(name, str)), None)
    sizes = [(given.get("width"), given.get("height")) for given in before]
    values["size"] = next((f"{w}x{h}" for w, h in sizes if isinstance(w, int) and isinstance(h, int)), None)
    return _found("ComfyUI", values, {"nodes": str(len(nodes))})


def _has_seed(given: dict) -> bool:
    return any(key in given for key in SEEDS)


def _linked(given: dict, name: str, inputs: dict) -> bool:
    """Whether an input of a node is the output of another node."""
    link = given.get(name)
    return isinstance(link, list) and bool(link) and isinstance(link[0], str) and link[0] in inputs


def _upstream(start: str, inputs: dict) -> list[str]:
    """A node and all that lead to it, the nearest first."""
    order = [start]
    seen = {start}
    for key in order:
        for name in inputs[key]:
            if _linked(inputs[key], name, inputs) and inputs[key][name][0] not in seen:
                seen.add(inputs[key][name][0])
                order.append(inputs[key][name][0])
    return order


def _text_of(link: Any, inputs: dict) -> str:
    """The first text that leads to a link."""
    if link is None:
        return ""
    for key in _upstream(link[0], inputs):
        for name in ("text", "text_g", "t5xxl", "clip_l", "prompt", "positive", "string", "value"):
            text = inputs[key].get(name)
            if isinstance(text, str) and text.strip():
                return text
    return ""


READERS = (
    (("parameters",), _parameters),
    (("invokeai_metadata", "sd-metadata"), _invokeai),
    (("prompt",), _comfyui),
)
"""Names of texts, and what reads them."""


def _parsed(text: str) -> Any:
    """A text as JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _found(program: str, values: dict[str, Any], rest: dict[str, str]) -> FoundRecipe | None:
    """A recipe of the values that have the right type."""
    recipe: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("seed", "steps", "guidance"):
            number = _number(value)
            if number is not None and (name == "guidance" or number == int(number)):
                recipe[name] = number if name == "guidance" else int(number)
        elif name == "size":
            edges = re.findall(r"\d{1,5}", value)[:2] if isinstance(value, str) else []
            recipe |= {"size": f"{edges[0]}x{edges[1]}"} if len(edges) == 2 else {}
        elif isinstance(value, str) and value.strip():
            recipe[name] = value.strip()[:MAX_STRING]
    if not {"prompt", "seed"} & set(recipe):
        return None
    return FoundRecipe(program, recipe, rest)


def _number(value: Any) -> int | float | None:
    """A finite number, also of a text; None for anything else."""
    if isinstance(value, str) and len(value) <= 25:
        text = value.strip()
        if re.fullmatch(r"\d+", text, re.ASCII):
            return int(text)
        value = float(text) if re.fullmatch(r"\d+\.\d+", text, re.ASCII) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if 0 <= value < 2**64 else None
    return value if math.isfinite(value) and 0 <= value < 2**64 else None


def _others(data: dict[str, Any], known: Any) -> dict[str, str]:
    """The settings of other names that are texts or numbers."""
    rest = {str(k)[:60]: v for k, v in list(data.items())[:200] if k not in known}
    return {k: str(v)[:500] for k, v in rest.items() if isinstance(v, str | int | float) and v != ""}
