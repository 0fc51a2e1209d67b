"""What fixtures of the first edition are compared by: images, vectors, weights, through public entry points.

`make_fixtures.py` and the tests share this file, so that both measure the same thing. It uses the command line
(`condgen.cli.main.main`), `condgen.load` and files, and no other part of condgen.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import shlex
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file

PROMPTS = (("a red circle above a blue square", 1), ("three green triangles", 2))
LATENT_SEEDS, LABEL_SEEDS = (1, 2), (1, 2)
PACKED = (".safetensors", ".pt")
"""Files that are kept gzipped."""


def condgen_main(*words: object) -> int:
    """Runs one condgen command in this process; gives its exit code."""
    from condgen.cli.main import main

    try:
        return main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)


def run(*words: object) -> None:
    """Runs one condgen command, which must succeed."""
    code = condgen_main(*words)
    assert code == 0, f"condgen {' '.join(map(str, words))}: exit code {code}"


def options_of(verb: str) -> set[str]:
    """Every option that a command of the first edition understands today, its old names included; `` is no command."""
    from condgen.cli.latent_space import tool_parser
    from condgen.cli.main import overview, parser_of
    from condgen.files import renamed
    from condgen.latent_space.registry import find_tool

    command, *tool = verb.split() or [""]
    command = renamed.COMMANDS.get(command, command)
    if command == "train":  # parses its own; its options are those of the recipes
        return {"-h", "--help"}
    parser = parser_of(command) if command else overview()
    if command == "latent-space" and tool:
        parser = tool_parser(find_tool(renamed.TOOLS.get(tool[0], tool[0])))
    for action in parser._actions:
        if tool and isinstance(action, argparse._SubParsersAction) and command != "latent-space":
            parser = action.choices[tool[0]]
    return {*parser._option_string_actions, *renamed.OPTIONS.get(command, {})}


def lacks_only_the_folder(recipe: str, *words: str) -> tuple[bool, str]:
    """Whether `condgen train RECIPE WORDS` without -o has nothing to complain of but the missing -o; and what it says.

    Options are read before that is found out, and nothing is trained.
    """
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = condgen_main("train", recipe, *words)
    text = stderr.getvalue()
    error = next((line for line in text.splitlines() if "error" in line), "")
    return code == 2 and " -o " in error, text


def is_understood(command: str) -> bool:
    """Whether the command line knows the command, its recipe and every option; models and data need not be there."""
    words = shlex.split(command)[1:]
    if words[0] == "train":
        if "-o" in words:
            place = words.index("-o")
            del words[place : place + 2]
        return len(words) > 1 and lacks_only_the_folder(*words[1:])[0]
    from condgen.cli.main import parse

    try:
        parse(words)
    except (Exception, SystemExit):
        return False
    return True


def probe() -> str:
    """sha256 of a small fixed computation: it is equal where torch rounds alike (same kernels, same CPU features)."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng)

    x, image = draw(24, 40), draw(2, 12, 16, 16).requires_grad_()
    kernel = draw(20, 12, 3, 3).requires_grad_()
    y = torch.nn.functional.conv2d(image, kernel, padding=1)
    y = torch.nn.functional.group_norm(y, 4)
    torch.nn.functional.silu(y).square().mean().backward()
    q = draw(2, 2, 9, 8)
    parts = [
        x @ draw(40, 33), x.exp(), x.softmax(1), torch.nn.functional.layer_norm(x, (40,)), torch.tanh(x),
        torch.nn.functional.gelu(x), torch.nn.functional.scaled_dot_product_attention(q, q, q), y, image.grad,
        kernel.grad, torch.fft.fft(x).real, x.norm(dim=1), x.log_softmax(1), torch.sin(x),
    ]  # fmt: skip
    return hashlib.sha256(b"".join(part.detach().contiguous().numpy().tobytes() for part in parts)).hexdigest()


def sha(array: np.ndarray) -> str:
    """The first 16 hex digits of the sha256 of an array's dtype, shape and values."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()[:16]


def pack(source: Path, place: Path) -> None:
    """Copies a folder; files of weights are gzipped."""
    for file in sorted(file for file in source.rglob("*") if file.is_file()):
        target = place / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in PACKED:
            target.with_name(f"{target.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        else:
            shutil.copyfile(file, target)


def unpack(source: Path, place: Path) -> Path:
    """Copies a folder that `pack` wrote as it was before; gives `place`."""
    for file in sorted(file for file in source.rglob("*") if file.is_file()):
        target = place / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".gz":
            target.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        else:
            shutil.copyfile(file, target)
    return place


def only_image(folder: Path) -> np.ndarray:
    """Pixels of the only PNG in a folder, uint8 (S, S) or (S, S, 3)."""
    (file,) = folder.glob("*.png")
    with Image.open(file) as image:
        return np.asarray(image)


def outputs_of(kind: str, model: Path, data: Path, scratch: Path, labels: list[list[str]] | None = None) -> dict:
    """What a model makes of fixed inputs.

    Args:
        kind: text, labels, latent, encoder, image-encoder or translator.
        model: its folder.
        data: folder of the fixtures' data, with `photos/` in it.
        scratch: empty folder for what the commands write.
        labels: of a label model: for each image the options that say what to generate.

    Returns:
        name -> array: images uint8 (S, S) or (S, S, 3), vectors float32 (N, D).
    """
    found, photos = {}, data / "photos"
    if kind == "text":
        for prompt, seed in PROMPTS:
            run("generate", prompt, "--seed", seed, "--model", model, "-o", scratch / f"{seed}")
            found[f"image of seed {seed}"] = only_image(scratch / f"{seed}")
    elif kind == "labels":
        for seed, words in zip(LABEL_SEEDS, labels or ()):
            run("sample", "--model", model, *words, "--seed", seed, "-o", scratch / f"{seed}")
            found[f"image of seed {seed}"] = only_image(scratch / f"{seed}")
    elif kind == "latent":
        for seed in LATENT_SEEDS:
            run("sample", "--model", model, "-n", 1, "--seed", seed, "-o", scratch / f"{seed}")
            found[f"image of seed {seed}"] = only_image(scratch / f"{seed}")
        found |= latent_vectors(model)
    elif kind == "translator":
        import condgen

        for target in condgen.load(model).targets:
            run("translate", model, photos / "0.png", "--to", target, "-o", scratch / target)
            found[f"0.png to {target}"] = only_image(scratch / target)
    else:
        texts = () if kind == "image-encoder" else ("--text", PROMPTS[0][0], "--text", PROMPTS[1][0])
        run("encode", model, *texts, "--data", photos, "-o", scratch / "vectors.npy")
        found["vectors of texts and images"] = np.load(scratch / "vectors.npy")
    return found


def latent_vectors(model: Path) -> dict:
    """Codes of two fixed images, float32 (2, Z), and these decoded, float32 (2, C, S, S); {} without an encoder."""
    import condgen

    loaded = condgen.load(model)
    if not loaded.encodes:
        return {}
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, loaded.size, loaded.size, generator=rng)  # all autoencoder fixtures are of grey images
    codes = loaded.encode(images * 2 - 1)
    return {"codes of two images": codes.numpy(), "two codes decoded": loaded.decode(codes).numpy()}


def weights_of(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Every safetensors file of a model folder: relative path -> tensor name -> array."""
    files = sorted(folder.glob("*/*.safetensors"))
    return {file.relative_to(folder).as_posix(): load_file(file) for file in files}


def shas(weights: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, str]]:
    """The same with hashes in the place of arrays."""
    return {file: {name: sha(array) for name, array in sorted(part.items())} for file, part in weights.items()}
