"""Several models on one data set with the same budget, side by side: the question is which to take.

compare(["digits-cvae", "digits-cgan", "digits-diffusion"], "report", minutes=1)   # trains them first
compare(["runs/scenes/model", "runs/gan/model"], "report")                         # takes them as they are
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, ProgressCallback, SamplingOption
from condgen.data.batches.captions import to_float
from condgen.data.datasets.labels import LabelledImages
from condgen.decoders import DECODERS
from condgen.evaluation.class_to_image import Quick, evaluate_labels, read_labelled
from condgen.evaluation.embed import generate_prompts
from condgen.evaluation.report import cell, finite, table_of
from condgen.evaluation.scenes import pictures_judged, scene_eval
from condgen.files.images import grid, make_folder, png_bytes, write_bytes
from condgen.files.plots import Curve, plot
from condgen.files.registry import find, found
from condgen.pipelines.auto import load_folder, task_of
from condgen.pipelines.base import to_pil
from condgen.pipelines.class_to_image import ClassToImage
from condgen.recipes import RECIPES, train
from condgen.recipes.table import LABELS

FILES = ("report.json", "report.md", "report.html", "side_by_side.png", "time.png", "cost.png")
TURNED = {
    "steps": (1, 2, 4, 8, 12, 24),
    "guidance": (1.0, 1.5, 2.0, 3.0),
    "temperature": (0.2, 0.4, 0.6, 0.8, 1.0),
    "truncation": (0.5, 1.0, 2.0, 4.0),
}
"""Options that quality is measured at other settings of, where a model has them; the first says what an image costs."""
SHOWN = 10
"""Labels or prompts on the sheet."""
SCORES = (
    ("accuracy", "accuracy", "overall", "generated"),
    ("sd of it", "accuracy", "overall", "sd"),
    ("accuracy, real", "accuracy", "overall", "real"),
    ("all attributes, seen", "accuracy_seen", "all of them", "generated"),
    ("all attributes, never seen", "accuracy_never_seen", "all of them", "generated"),
    ("CAS", "classifier_trained_on_generated", "", "generated"),
    ("CAS, real", "classifier_trained_on_generated", "", "real"),
    ("Fréchet distance", "distances", "frechet", "generated"),
    ("sd of the distance", "distances", "frechet", "sd"),
    ("Fréchet distance, real", "distances", "frechet", "real"),
    ("kernel distance", "distances", "kernel", "generated"),
    ("precision", "coverage", "precision", "generated"),
    ("recall", "coverage", "recall", "generated"),
    ("density", "coverage", "density", "generated"),
    ("coverage", "coverage", "coverage", "generated"),
    ("memorised", "memorisation", "memorised", "generated"),
    ("images a second", "speed", "painting", "images a second"),
)
"""Title, and where it is in a report: section, how its row begins, column. `real`: what real images get."""


@dataclass
class Contestant:
    """A model that is compared.

    Args:
        name: what it is called in the report.
        model: a ClassToImage or a TextToImage.
        prior: of a TextToImage, the one to use.
        run: the folder of its training, where it is known.
    """

    name: str
    model: ClassToImage
    prior: str | None = None
    run: Path | None = None

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        return (
            self.model.sampling_options
            if isinstance(self.model, ClassToImage)
            else self.model.sampling_options(self.prior)
        )

    @cached_property
    def how(self) -> dict:
        """What to tell `generate_batch` beside the options."""
        return {"prior": self.prior} if self.prior else {}

    def facts(self) -> dict[str, float | int | str | None]:
        """What it is, and what it took."""
        last = [line for line in self.lines() if line.get("stage") == "decoder" and "seconds" in line]
        taken = {"training minutes": last[-1]["seconds"] / 60, "images seen": last[-1]["images"]} if last else {}
        weights = sum(p.numel() for p in self.model.decoder.parameters())
        own = {"decoder": DECODERS.name_of(self.model.decoder)} | ({"prior": self.prior} if self.prior else {})
        return own | {"parameters of the decoder": weights} | taken

    def lines(self) -> list[dict]:
        """The metrics of its training."""
        path = None if self.run is None else self.run / "metrics.jsonl"
        if path is None or not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def curve(self, measure: str) -> Curve:
        """A measure over the minutes of its training."""
        points = [(line["seconds"] / 60, line[measure]) for line in self.lines() if measure in line]
        return Curve(self.name, [x for x, _ in points], [y for _, y in points])


class LabelExam:
    """The images and the small examination that all models of labels share, read once the first model is there.

    Args:
        data: where the images are; '' for what the model knows of itself.
        judge: folder to keep the classifier in.
    """

    def __init__(self, data: str, judge: Path):
        self.data, self.judge = data, judge
        self._known: Quick | None = None

    def _read(self, model: ClassToImage) -> Quick:
        if self._known is None:
            self._known = Quick(*read_labelled(model, self.data, "test", {}), judge=self.judge)
        return self._known

    def pictures(self, model: ClassToImage) -> tuple[LabelledImages, LabelledImages]:
        """Training and test images."""
        known = self._read(model)
        return known.train, known.test

    def quick(self, model: ClassToImage, **options: float) -> dict[str, float]:
        """See `evaluation.labels.Quick`."""
        return self._read(model)(model, **options)


def compare(
    entries: Sequence[str], out: Path | str, data: str = "", minutes: float = 2.0, seed: int = 0,
    seeds: Sequence[int] = (0, 1, 2), per_label: int = 100, prompts: int = 25,
    progress: ProgressCallback = lambda share, what: None,
) -> dict:  # fmt: skip
    """Trains or takes models, judges them alike, and writes FILES.

    Args:
        entries: names of recipes, which are trained into `out/runs` (the same call again takes them from there), or
            names or paths of models. All must paint from labels, or all from captions of scenes; of the latter every
            prior is a contestant of its own.
        out: folder of the report.
        data: of the recipes; and of the judge, where it is not what the models know of themselves.
        minutes: budget of every training.
        seed: of every training.
        seeds: of the images that are judged; means and deviations are over these.
        per_label: images of every label.
        prompts: of every task of SceneEval, four images each.
        progress: called with progress.

    Returns:
        The report, as written to `report.json`.

    Raises:
        CondgenError: fewer than two entries, unknown ones, or ones that cannot be compared.
    """
    out = Path(out)
    if len(set(entries)) < 2:
        raise CondgenError("Name at least two recipes or models to compare; `condgen list` shows them.")
    recipes = [entry for entry in entries if entry in RECIPES and entry not in found()]
    models = {entry: find(entry) for entry in entries if entry not in recipes}
    tasks = {entry: task_of(folder) for entry, folder in models.items()}
    if other := [entry for entry, task in tasks.items() if task not in ("class-to-image", "text-to-image")]:
        raise CondgenError(f"{other[0]} paints neither from labels nor from words. Judge it with `condgen evaluate`.")
    check_recipes(recipes, data)
    by_label = {task == "class-to-image" for task in tasks.values()} | {True for _ in recipes}
    if len(by_label) > 1:
        raise CondgenError("Some of these paint from labels and others from words: nothing can be asked of all.")
    make_folder(out)
    exam = LabelExam(data, out / "judge")
    contestants: list[Contestant] = []
    for entry in dict.fromkeys(entries):
        folder = models.get(entry) or _trained(entry, out, minutes, seed, exam)
        contestants += _entered(entry, folder, {c.name for c in contestants})
    if by_label.pop():
        report, sheet = _by_label(contestants, exam, tuple(seeds), per_label, progress)
    else:
        report, sheet = _by_words(contestants, data, tuple(seeds), prompts, progress)
    report = finite({"compared": [c.name for c in contestants], "seeds": list(seeds)} | report)
    _write(out, report, sheet)
    progress(1.0, "done")
    return report


def check_recipes(recipes: Sequence[str], data: str) -> None:
    """Raises `CondgenError` for recipes that cannot be compared, before the first is trained."""
    if wordy := [name for name in recipes if RECIPES[name].family != LABELS]:
        raise CondgenError(
            f"{wordy[0]} does not paint from labels, and only such recipes are trained here. Train it first, and "
            "compare the models of runs; `condgen benchmark` puts those that are told nothing side by side."
        )
    own = {data or RECIPES[name].base.data for name in recipes}
    if "" in own:
        raise CondgenError(f"The recipe {recipes[0]} needs labelled images: give their folder or table with --data.")
    if len(own) > 1:
        raise CondgenError(f"The recipes learn from different data ({', '.join(sorted(own))}): name one with --data.")


def _trained(recipe: str, out: Path, minutes: float, seed: int, exam: LabelExam) -> Path:
    base = RECIPES[recipe].config()
    config = replace(base, data=exam.data or base.data, minutes=minutes, seed=seed, watch=6)
    return train(recipe, out / "runs" / recipe, config, exam.quick)


def _entered(entry: str, folder: Path, taken: set[str]) -> list[Contestant]:
    """The contestants that a model folder stands for; where a name is taken, the whole path tells them apart."""
    model = load_folder(folder)
    run = folder.parent if (folder.parent / "metrics.jsonl").is_file() else None
    name = entry if entry in RECIPES or entry in found() else (run or folder).name
    name = entry if any(one == name or one.startswith(f"{name},") for one in taken) else name
    if isinstance(model, ClassToImage):
        return [Contestant(name, model, run=run)]
    return [Contestant(f"{name}, {prior} prior", model, prior, run) for prior in model.priors]


def _by_label(contestants, exam: LabelExam, seeds, per_label, progress: ProgressCallback) -> tuple[dict, Image.Image]:
    train_set, test = exam.pictures(contestants[0].model)
    rows, confused, costs = {}, {}, {}
    for k, c in enumerate(contestants):

        def own(share: float, what: str, k: int = k, name: str = c.name) -> None:
            progress((k + share) / len(contestants), f"{name}: {what}")

        report, _ = evaluate_labels(c.model, train_set, test, per_label, seeds, exam.judge, progress=own)
        rows[c.name] = summary(report)
        confused[c.name] = {name: line["generated"] for name, line in report.get("accuracy", {}).items()}
        confused.setdefault("real test images", {n: x["real"] for n, x in report.get("accuracy", {}).items()})
        costs[c.name] = _turned(c, partial(exam.quick, c.model))
        head = report["judge"]
    labels = [{f.name: value} for f in contestants[0].model.attributes[:1] for value in f.values[:SHOWN]]
    labels = labels or [{}]
    report = {"kind": "labels", "data": test.name, "judge": head, "models": _facts(contestants), "scores": rows}
    report |= {"accuracy": confused, "options": costs}
    report["time"] = {c.name: c.curve("accuracy").rows() for c in contestants}
    return report, side_by_side(contestants, labels, [", ".join(one.values()) or "anything" for one in labels])


def summary(report: dict) -> dict[str, float]:
    """A line of the table of scores from a whole report: what the first row of a section says that begins so."""
    line: dict[str, float] = {}
    for title, section, row, column in SCORES:
        for name, values in report.get(section, {}).items():
            if name.startswith(row) and column in values:
                line.setdefault(title, values[column])
    return line


def _by_words(contestants, data, seeds, prompts, progress: ProgressCallback) -> tuple[dict, Image.Image]:
    if data or any(not str(c.model.about.get("recipe")).startswith("scenes") for c in contestants):
        raise CondgenError("Only models of scenes can be compared by words: their images need no other judge.")
    sides: dict[str, dict[str, dict]] = {"scene_eval_seen": {}, "scene_eval_held_out": {}}
    costs = {}
    for k, c in enumerate(contestants):
        for side, rows in enumerate(sides.values()):
            progress((k + side / 2) / len(contestants), c.name)
            scores = [scene_eval(c.model, bool(side), prompts, 4, seed, **c.how)[0] for seed in seeds]
            rows[c.name] = {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}
            spread = float(np.std([s["overall"] for s in scores], ddof=1)) if len(seeds) > 1 else float("nan")
            rows[c.name]["sd of overall"] = spread

        def quick(c=c, **options) -> dict[str, float]:
            began = time.perf_counter()
            scores, _ = scene_eval(c.model, False, 8, 1, 1, **c.how, **options)
            took, n = time.perf_counter() - began, sum(pictures_judged(False, 8, 1, 1).values())
            return {"overall": scores["overall"], "milliseconds an image": 1000 * took / n, "N": n}

        costs[c.name] = _turned(c, quick)
    asked = list(RECIPES["scenes32"].examples)
    report = {"kind": "words", "models": _facts(contestants), **sides, "options": costs}
    report["time"] = {c.name: c.curve("seen/overall").rows() for c in contestants}
    return report, side_by_side(contestants, asked, asked)


def _facts(contestants: Sequence[Contestant]) -> dict[str, dict]:
    return {c.name: c.facts() for c in contestants}


def _turned(c: Contestant, quick: Callable[..., dict[str, float]]) -> dict[str, dict]:
    """Quality with the options as they are, and with one of them turned."""
    own = {option.name for option in c.sampling_options}
    rows = {"as it is": quick()}
    return rows | {
        f"{name} {value:g}": quick(**{name: value}) for name in TURNED if name in own for value in TURNED[name]
    }


def side_by_side(contestants: Sequence[Contestant], asked: list, captions: list[str], each: int = 3) -> Image.Image:
    """A sheet with a row for everything asked for: the same seeds by every contestant."""
    pictures: list[Image.Image] = []
    labels: list[str] = []
    for k, (one, caption) in enumerate(zip(asked, captions)):
        for c in contestants:
            generated = generate_prompts(c.model, [one] * each, [1000 * k + i for i in range(each)], **c.how)
            pictures += to_pil(to_float(generated))
            labels += [f"{c.name}: {caption}", *[""] * (each - 1)]
    return grid(pictures, labels, columns=each * len(contestants), cell=96)


def _write(out: Path, report: dict, sheet: Image.Image) -> None:
    measure = "accuracy" if report["kind"] == "labels" else "overall"
    time_curves = [Curve(name, *points) for name, points in report["time"].items() if points[0]]
    cost_curves = [
        Curve(name, [row["milliseconds an image"] for row in own], [row[measure] for row in own])
        for name, rows in report["options"].items()
        for own in [[row for how, row in rows.items() if how.startswith("steps")] or [rows["as it is"]]]
    ]
    drawn = {
        "side_by_side.png": ("The same wishes and seeds", png_bytes(sheet)),
        "time.png": (f"{measure} over the minutes of training", plot(time_curves, "minutes of training", measure)),
        "cost.png": (
            f"{measure} against the cost of an image",
            plot(cost_curves, "milliseconds an image", measure, log=True),
        ),
    }
    drawn = {name: (title, png) for name, (title, png) in drawn.items() if png}
    write_bytes(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    write_bytes(out / "report.md", markdown(report, {name: title for name, (title, _) in drawn.items()}).encode())
    write_bytes(out / "report.html", page(report, drawn).encode())
    for name, (_, png) in drawn.items():
        write_bytes(out / name, png)


EXPLAINED = {
    "models": "What was trained, and for how long.",
    "scores": "Each model judged alike, means over the seeds; *real* is what real images get in the model's place.",
    "accuracy": "Of the images of each label, the share that the judge recognises.",
    "options": "A smaller examination with one option turned: what an image costs, and what it is worth.",
    "scene_eval_seen": "SceneEval on combinations that training showed.",
    "scene_eval_held_out": "SceneEval on combinations that it never showed.",
}


def _head(report: dict) -> list[str]:
    told = [f"{len(report['compared'])} models, {len(report['seeds'])} seeds."]
    if "judge" in report:
        told += [f"Data: {report['data']}.", *[f"{name}: {cell(value)}." for name, value in report["judge"].items()]]
    return told


def _tables(report: dict) -> dict[str, dict[str, dict]]:
    """Title -> rows of every table of the report."""
    tables = {name: report[name] for name in EXPLAINED if report.get(name) and name != "options"}
    rows_of_options = {f"{name}, {how}": row for name, rows in report["options"].items() for how, row in rows.items()}
    return tables | {"options": rows_of_options}


def markdown(report: dict, drawn: dict[str, str]) -> str:
    """The report for people; `drawn` are the names of images beside it, with their titles."""
    lines = [f"# {' · '.join(report['compared'])}", "", *_head(report), ""]
    for name, title in drawn.items():
        lines += [f"![{title}]({name})", ""]
    for name, rows in _tables(report).items():
        lines += [f"## {name.replace('_', ' ')}", "", EXPLAINED[name], "", *table_of(rows)]
    return "\n".join(lines)


def page(report: dict, drawn: dict[str, tuple[str, bytes]]) -> str:
    """The report as one HTML file, images inside; `drawn` are their titles and PNGs by name."""
    parts = [f"<h1>{escape(' · '.join(report['compared']))}</h1>", *[f"<p>{escape(one)}</p>" for one in _head(report)]]
    for title, png in drawn.values():
        inside = base64.b64encode(png).decode()
        parts += [f"<h2>{escape(title)}</h2>", f'<img alt="{escape(title)}" src="data:image/png;base64,{inside}">']
    for name, rows in _tables(report).items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        head = "".join(f"<th>{escape(column)}</th>" for column in ["", *columns])
        body = "".join(
            f"<tr><th>{escape(title)}</th>"
            + "".join(f"<td>{escape(cell(row.get(column, '')))}</td>" for column in columns)
            + "</tr>"
            for title, row in rows.items()
        )
        explained = f"<h2>{escape(name.replace('_', ' '))}</h2><p>{escape(EXPLAINED[name])}</p>"
        parts.append(f"{explained}<div class=wide><table><tr>{head}</tr>{body}</table></div>")
    return PAGE.format(title=escape(" · ".join(report["compared"])), body="\n".join(parts))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
img {{ max-width: 100% }} table {{ border-collapse: collapse; font-size: 13px }} .wide {{ overflow-x: auto }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }}
th:first-child {{ text-align: left }}
</style></head><body>
{body}
</body></html>
"""
