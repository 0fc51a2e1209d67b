"""How many files of condgen a command goes through: the way through the code stays short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

TESTS = Path(__file__).parent
TINY = [
    "--total_images",
    "16",
    "--data.size",
    "16",
    "--eval_count",
    "1",
    "--fit_clip.batch",
    "8",
    "--fit_prior.batch",
    "8",
    "--fit_decoder.batch",
    "8",
    "--clip.embed_dim",
    "16",
    "--clip.image_width",
    "8",
    "--clip.text_width",
    "16",
    "--clip.depth",
    "1",
    "--clip.heads",
    "2",
    "--prior.width",
    "16",
    "--prior.depth",
    "1",
    "--prior.heads",
    "2",
    "--decoder.width",
    "16",
    "--decoder.heads",
    "2",
    "--decoder.channels",
    "[8,16]",
    "--decoder.depth",
    "1",
    "--decoder.steps",
    "2",
]


def captioned(folder: Path) -> Path:
    """48 images of noise with captions."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["file_name,text"]
    for k in range(48):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{k}.png")
        lines.append(f"{k}.png,a {('red', 'blue', 'green')[k % 3]} square number {k % 5}")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def walk(folder: Path, *argv: object) -> int:
    """The number of files that run a function in a command."""
    command = [sys.executable, str(TESTS / "walk.py"), *map(str, argv)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(next(line for line in done.stderr.splitlines() if line.startswith("run: ")).split()[1])


def test_generate(tmp_path):
    assert walk(tmp_path, "generate", "a red circle") <= 30


def test_train_captions(tmp_path):
    data = captioned(tmp_path / "data")
    assert walk(tmp_path, "train", "captions", "-o", "run", "--data", data, *TINY) <= 55
