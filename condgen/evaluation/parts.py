"""The judge of pictures that are composed of known layers: does the picture show the layers that its caption names?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from condgen.contracts import CondgenError
from condgen.evaluation.embeds import Example, Told, paint
from condgen.metrics.parts import PartsJudge

JUDGED = ("head", "glasses")
WAYS: dict[str, dict] = {
    "full stack": {},
    "diffusion prior": {"prior": "diffusion"},
    "text embedding fed zero-shot": {"prior": "none"},
    "image embedding alone (no words)": {"use_words": False},
    "words alone (no image embedding)": {"use_z": False},
    "no guidance": {"guidance": 1.0},
    "guidance 4": {"guidance": 4.0},
}


def read_rows(data: Path, n: int) -> dict[str, list[dict]]:
    """The first n rows of every test table of a folder, by the name of the file.

    Raises:
        CondgenError: there is no table whose rows name the judged parts.
    """
    import pyarrow.parquet as pq

    files = sorted(data.glob("test*.parquet")) if data.is_dir() else [data]
    columns = ["caption", *JUDGED]
    found = {}
    for file in files:
        if set(columns) <= set(pq.read_schema(file).names):
            found[file.stem] = pq.read_table(file, columns=columns).slice(0, n).to_pylist()
    if not found:
        raise CondgenError(f"{data} has no test*.parquet with the columns {', '.join(columns)} to judge parts by.")
    return found


def evaluate_parts(model, data: Path, parts: Path, n: int, pictures: int, ablate: int, told: Told):
    """Right head, right glasses, both, for every test table; and the ablation.

    Args:
        model: a TextToImage.
        data: folder of the test tables.
        parts: table of the layers.
        n: captions of every table.
        pictures: of every caption.
        ablate: captions for each line of the ablation; 0 leaves it out.

    Returns:
        (report, examples for the sheet)
    """
    judge = PartsJudge.from_parquet(parts)
    tables = read_rows(data, n)
    report: dict = {"parts": {}, "parts_ablation": {}}
    shown: list[Example] = []
    for k, (name, rows) in enumerate(tables.items()):
        told(0.2 * k, f"parts, {name}")
        asked = [row for row in rows for _ in range(pictures)]
        painted, wanted = _painted(model, asked), _wanted(asked)
        report["parts"][name] = judge.score(painted, wanted)
        few = slice(0, 24 * pictures, pictures)
        found = judge.explain(painted[few])
        right = torch.stack([found[part] == wanted[part][few] for part in JUDGED]).all(0).tolist()
        shown += [(row["caption"], picture, ok) for row, picture, ok in zip(asked[few], painted[few], right)]
    for k, (way, how) in enumerate(WAYS.items() if ablate else ()):
        told(0.5 + 0.5 * k / len(WAYS), f"ablation: {way}")
        line = {}
        for name, rows in tables.items():
            scores = judge.score(_painted(model, rows[:ablate], **how), _wanted(rows[:ablate]))
            line |= {f"{name} {part}": scores[part] for part in (*JUDGED, "all")}
        report["parts_ablation"][way] = line
    return report, shown


def _painted(model, rows: list[dict], batch: int = 64, **how) -> np.ndarray:
    """A picture of every row's caption; the k-th has seed k."""
    captions = [row["caption"] for row in rows]
    starts = range(0, len(rows), batch)
    return np.concatenate(
        [paint(model, some, [*range(k, k + len(some))], **how) for k in starts for some in [captions[k : k + batch]]]
    )


def _wanted(rows: list[dict]) -> dict[str, torch.Tensor]:
    return {part: torch.tensor([row[part] for row in rows]) for part in JUDGED}
