"""The judge of images that are composed of known layers: does the image show the layers that its caption names?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from condgen.contracts import CondgenError, ProgressCallback
from condgen.evaluation.embed import Example, generate_prompts
from condgen.metrics.layers import PartsJudge
from condgen.text import clean

JUDGED = ("head", "glasses")
COLUMNS = ("caption", *JUDGED)
WAYS: dict[str, dict] = {
    "full stack": {},
    "regression prior": {"prior": "regression"},
    "diffusion prior": {"prior": "diffusion"},
    "text embedding fed zero-shot": {"prior": "none"},
    "image embedding alone (no words)": {"use_words": False},
    "words alone (no image embedding)": {"use_z": False},
    "no guidance": {"guidance": 1.0},
    "guidance 4": {"guidance": 4.0},
}


@dataclass(frozen=True)
class Exam:
    """Who judges, and what is asked for: the rows of every test table, by the name of its file."""

    judge: PartsJudge
    tables: dict[str, list[dict]]


def read_exam(data: Path, parts: Path, n: int, size: int) -> Exam:
    """Reads all that `evaluate_parts` needs.

    Args:
        data: folder of the test tables, or one of them.
        parts: table of the layers.
        n: captions of every table.
        size: edge of the images that will be judged.

    Raises:
        CondgenError: a file is missing or no such table, or the layers have another size.
    """
    judge = PartsJudge.from_parquet(parts)
    if judge.side != size:
        raise CondgenError(
            f"The layers of {parts} have {judge.side} x {judge.side} pixels, the model paints {size} x {size}. "
            "Give layers of that size with --parts."
        )
    files = sorted(data.glob("test*.parquet")) if data.is_dir() else [data]
    tables = {file.stem: rows for file in files if (rows := _read_rows(file, n))}
    if not tables:
        told = ", ".join(COLUMNS)
        raise CondgenError(f"{data} has no test*.parquet with rows in the columns {told} to judge parts by.")
    return Exam(judge, tables)


def _read_rows(file: Path, n: int) -> list[dict]:
    """The first n rows of a test table; none when it has other columns."""
    import pyarrow.parquet as pq

    try:
        if not set(COLUMNS) <= set(pq.read_schema(file).names):
            return []
        rows = pq.read_table(file, columns=list(COLUMNS)).slice(0, n).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise CondgenError(f"{file} is no parquet table to judge parts by ({error}).") from None
    for number, row in enumerate(rows, 1):
        said = isinstance(row["caption"], str) and clean(row["caption"])
        if not said or not all(isinstance(row[part], int) for part in JUDGED):
            told = f"a caption and the index of {' and '.join(JUDGED)}"
            raise CondgenError(f"{file}, row {number}: expected {told}, got {str(row)[:80]}.")
    return rows


def evaluate_parts(
    model, exam: Exam, pictures: int, ablate: int, progress: ProgressCallback
) -> tuple[dict, list[Example]]:
    """Right head, right glasses, both, for every test table; and the ablation.

    Args:
        model: a TextToImage.
        exam: see `read_exam`.
        pictures: of every caption.
        ablate: captions for each line of the ablation; 0 leaves it out.

    Returns:
        (report, examples for the sheet)
    """
    judge, tables = exam.judge, exam.tables
    report: dict = {"parts": {}, "parts_ablation": {}}
    shown: list[Example] = []
    for k, (name, rows) in enumerate(tables.items()):
        progress(0.2 * k, f"parts, {name}")
        asked = [row for row in rows for _ in range(pictures)]
        generated, wanted = _painted(model, asked), _wanted(asked)
        report["parts"][name] = judge.score(generated, wanted)
        few = slice(0, 24 * pictures, pictures)
        found = judge.explain(generated[few])
        right = torch.stack([found[part] == wanted[part][few] for part in JUDGED]).all(0).tolist()
        shown += [(row["caption"], picture, ok) for row, picture, ok in zip(asked[few], generated[few], right)]
    for k, (way, how) in enumerate(WAYS.items() if ablate else ()):
        if how.get("prior", "none") not in (*model.priors, "none"):
            continue
        progress(0.5 + 0.5 * k / len(WAYS), f"ablation: {way}")
        line = {}
        for name, rows in tables.items():
            scores = judge.score(_painted(model, rows[:ablate], **how), _wanted(rows[:ablate]))
            line |= {f"{name} {part}": scores[part] for part in (*JUDGED, "all")}
        report["parts_ablation"][way] = line
    return report, shown


def _painted(model, rows: list[dict], batch: int = 64, **how) -> np.ndarray:
    """An image of every row's caption; the k-th has seed k."""
    captions = [row["caption"] for row in rows]
    starts = range(0, len(rows), batch)
    return np.concatenate(
        [
            generate_prompts(model, some, [*range(k, k + len(some))], **how)
            for k in starts
            for some in [captions[k : k + batch]]
        ]
    )


def _wanted(rows: list[dict]) -> dict[str, torch.Tensor]:
    return {part: torch.tensor([row[part] for row in rows]) for part in JUDGED}
