"""Evaluation of images composed of known layers: the share that shows the layers named in the caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from condgen.contracts import CondgenError, ProgressCallback
from condgen.evaluation.base import Example, Findings, Report
from condgen.evaluation.embed import generate_prompts
from condgen.evaluation.nouns.recognizer import LayerRecognizer
from condgen.evaluation.options import TextToImageOptions
from condgen.evaluation.scenes import ABLATION, ablation_of
from condgen.text import clean

PARTS = ("head", "glasses")
COLUMNS = ("caption", *PARTS)
ROWS = {
    name: ABLATION[name]
    for name in (
        "full stack", "regression prior", "diffusion prior", "text embedding fed zero-shot",
        "image embedding alone (no words)", "words alone (no image embedding)", "no guidance",
    )
} | {"guidance 4": {"guidance": 4.0}}  # fmt: skip
BATCH = 64


@dataclass(frozen=True)
class Protocol:
    """The recognizer, and the rows of every test table by the name of its file."""

    recognizer: LayerRecognizer
    tables: dict[str, list[dict]]


def read_protocol(data: Path, layers: Path, n: int, size: int) -> Protocol:
    """Reads what `evaluate_layers` needs.

    Args:
        data: folder of the test tables, or one of them.
        layers: table of the layers.
        n: captions of every table.
        size: edge length of the images.

    Raises:
        CondgenError: a file is missing or no such table, or the layers have another size.
    """
    recognizer = LayerRecognizer.from_parquet(layers)
    if recognizer.side != size:
        raise CondgenError(
            f"The layers of {layers} have {recognizer.side} x {recognizer.side} pixels, the images of the model "
            f"{size} x {size}. Give layers of that size with --layers."
        )
    files = sorted(data.glob("test*.parquet")) if data.is_dir() else [data]
    tables = {file.stem: rows for file in files if (rows := _read_rows(file, n))}
    if not tables:
        columns = ", ".join(COLUMNS)
        raise CondgenError(f"{data} has no test*.parquet with rows in the columns {columns}, which --layers needs.")
    return Protocol(recognizer, tables)


def _read_rows(file: Path, n: int) -> list[dict]:
    """The first n rows of a test table; none when it has other columns."""
    import pyarrow.parquet as pq

    try:
        if not set(COLUMNS) <= set(pq.read_schema(file).names):
            return []
        rows = pq.read_table(file, columns=list(COLUMNS)).slice(0, n).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise CondgenError(f"{file} is no parquet table of captions and layers ({error}).") from None
    for number, row in enumerate(rows, 1):
        caption = isinstance(row["caption"], str) and clean(row["caption"])
        if not caption or not all(isinstance(row[part], int) for part in PARTS):
            expected = f"a caption and the index of {' and '.join(PARTS)}"
            raise CondgenError(f"{file}, row {number}: expected {expected}, got {str(row)[:80]}.")
    return rows


def evaluate_layers(model, protocol: Protocol, options: TextToImageOptions, progress: ProgressCallback) -> Findings:
    """The share of images with the right head, the right glasses and both, for every test table; and the ablation.

    Args:
        model: a TextToImage.
        protocol: see `read_protocol`.
        options: images of every caption, candidates of each, captions for each row of the ablation.
        progress: called with progress.
    """
    recognizer, tables, each, ablate = protocol.recognizer, protocol.tables, options.images_per_prompt, options.ablate
    report: Report = {"layers": {}, "layers_ablation": {}}
    shown: list[Example] = []
    for k, (name, rows) in enumerate(tables.items()):
        progress(0.2 * k, f"layers, {name}")
        asked = [row for row in rows for _ in range(each)]
        generated, expected = _generate(model, asked, candidates=options.candidates), _expected(asked)
        report["layers"][name] = recognizer.score(generated, expected)
        few = slice(0, 24 * each, each)
        found = recognizer.explain(generated[few])
        right = torch.stack([found[part] == expected[part][few] for part in PARTS]).all(0).tolist()
        shown += [(row["caption"], image, ok) for row, image, ok in zip(asked[few], generated[few], right)]
    for k, (title, how) in enumerate(ablation_of(model, ROWS).items() if ablate else ()):
        progress(0.5 + 0.5 * k / len(ROWS), f"ablation: {title}")
        line = {}
        for name, rows in tables.items():
            scores = recognizer.score(_generate(model, rows[:ablate], **how), _expected(rows[:ablate]))
            line |= {f"{name} {part}": scores[part] for part in (*PARTS, "all")}
        report["layers_ablation"][title] = line
    return Findings(report, {"sheet": shown})


def _generate(model, rows: list[dict], **options) -> np.ndarray:
    """Generates an image for the caption of every row; the k-th has seed k."""
    parts = []
    for start in range(0, len(rows), BATCH):
        captions = [row["caption"] for row in rows[start : start + BATCH]]
        parts.append(generate_prompts(model, captions, [*range(start, start + len(captions))], **options))
    return np.concatenate(parts)


def _expected(rows: list[dict]) -> dict[str, torch.Tensor]:
    return {part: torch.tensor([row[part] for row in rows]) for part in PARTS}
