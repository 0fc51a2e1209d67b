"""Compares several models on one data set, trained with equal budgets.

compare(["digits-cvae", "digits-cgan", "digits-diffusion"], "report", minutes=1)   # trains them first
compare(["runs/scenes/model", "runs/gan/model"], "report")                         # trained models
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condgen.benchmarks.compare_report import write
from condgen.contracts import CondgenError, ProgressCallback, SamplingOption, finite
from condgen.data.batches.base import to_float
from condgen.decoders import DECODERS
from condgen.evaluation.base import Report
from condgen.evaluation.class_to_image import QuickEvaluation, evaluate_on, read_labelled
from condgen.evaluation.embed import generate_prompts
from condgen.evaluation.options import ClassToImageOptions
from condgen.evaluation.scenes import images_evaluated, scene_eval
from condgen.files.images import grid, make_folder
from condgen.files.plots import Curve
from condgen.files.registry import find, found, refuse_ambiguous
from condgen.pipelines.auto import load_folder, task_of
from condgen.pipelines.base import to_pil
from condgen.pipelines.class_to_image import ClassToImage
from condgen.recipes import RECIPES, train
from condgen.recipes.table import LABELS

SETTINGS = {
    "steps": (1, 2, 4, 8, 12, 24),
    "guidance": (1.0, 1.5, 2.0, 3.0),
    "temperature": (0.2, 0.4, 0.6, 0.8, 1.0),
    "truncation": (0.5, 1.0, 2.0, 4.0),
}
"""Values of sampling options at which the quality is measured, for models that have the option."""
SHOWN = 10
"""Classes or prompts on the sheet."""
SCORES = (
    ("accuracy", "accuracy", "overall", "generated"),
    ("sd of accuracy", "accuracy", "overall", "sd"),
    ("accuracy, real", "accuracy", "overall", "real"),
    ("all attributes, seen", "accuracy_seen", "all attributes", "generated"),
    ("all attributes, unseen", "accuracy_unseen", "all attributes", "generated"),
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
    ("images per second", "speed", "generation", "images per second"),
)
"""Title -> position in a report: section, prefix of the row, column. `real` is the score of real images."""


@dataclass(frozen=True)
class Budget:
    """Budget of training and evaluation, the same for all models.

    Args:
        minutes: duration of every training.
        seed: seed of every training.
        seeds: number of seeds of generated images; means and deviations are over these.
        per_label: images of every class.
        prompts: prompts of every task of SceneEval, with four images each.
    """

    minutes: float = 2.0
    seed: int = 0
    seeds: int = 3
    per_label: int = 100
    prompts: int = 25


@dataclass
class Candidate:
    """A model in the comparison.

    Args:
        name: title of the model in the report.
        model: a ClassToImage or a TextToImage.
        run: folder of its training run, if known.
        arguments: arguments of `generate_batch`: the prior of a TextToImage.
    """

    name: str
    model: Any
    run: Path | None = None
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        options = self.model.sampling_options
        return options(self.arguments["prior"]) if self.arguments else options

    def facts(self) -> dict[str, float | int | str]:
        """Kind and size of the model, and the cost of its training."""
        last = [line for line in self.metrics if line.get("stage") == "decoder" and "seconds" in line]
        cost = {"training minutes": last[-1]["seconds"] / 60, "images seen": last[-1]["images"]} if last else {}
        weights = sum(p.numel() for p in self.model.decoder.parameters())
        facts = {"decoder": DECODERS.name_of(self.model.decoder), **self.arguments}
        return facts | {"parameters of the decoder": weights} | cost

    @cached_property
    def metrics(self) -> list[dict]:
        """The logged metrics of the training run."""
        path = None if self.run is None else self.run / "metrics.jsonl"
        if path is None or not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def curve(self, measure: str) -> Curve:
        """Curve of a measure over the minutes of training."""
        points = [(line["seconds"] / 60, line[measure]) for line in self.metrics if line.get(measure) is not None]
        return Curve(self.name, [x for x, _ in points], [y for _, y in points])


class SharedData:
    """The images and the classifier that all class-to-image models share; read with the settings of the first model.

    Args:
        options: the data, and the folder of the classifier.
    """

    def __init__(self, options: ClassToImageOptions):
        self.options = options
        self._quick: QuickEvaluation | None = None

    def quick(self, model: ClassToImage, **options: float) -> dict[str, float]:
        """The quick evaluation of a model, see `class_to_image.QuickEvaluation`."""
        return self.read(model)(model, **options)

    def read(self, model: ClassToImage) -> QuickEvaluation:
        """Reads the images, and builds the quick evaluation on them."""
        if self._quick is None:
            self._quick = QuickEvaluation(*read_labelled(model, self.options), classifiers=self.options.classifiers)
        return self._quick


def compare(
    entries: Sequence[str], out: Path | str, data: str = "",
    progress: ProgressCallback = lambda share, message: None, **budget: Any,
) -> dict[str, Any]:  # fmt: skip
    """Evaluates models with one protocol, training recipes first, and writes `compare_report.FILES`.

    Args:
        entries: names of recipes, which are trained into `out/runs` (a repeated call continues there), or names or
            paths of models. All must be class-to-image models, or all text-to-image models of scenes, where every
            prior is a candidate.
        out: folder of the report.
        data: data of training and evaluation; by default that of the models.
        progress: called with progress.
        budget: see Budget.

    Returns:
        The report, as written to `report.json`.

    Raises:
        CondgenError: fewer than two entries, unknown ones, or ones that cannot be compared.
    """
    out, budget = Path(out), Budget(**budget)
    if len(set(entries)) < 2:
        raise CondgenError("Name at least two recipes or models to compare; `condgen list` shows them.")
    recipes = [entry for entry in entries if entry in RECIPES and entry not in found()]
    for entry in recipes:
        refuse_ambiguous(entry, "a recipe of condgen")
    models = {entry: find(entry) for entry in entries if entry not in recipes}
    tasks = {entry: task_of(folder) for entry, folder in models.items()}
    if other := [entry for entry, task in tasks.items() if task not in ("class-to-image", "text-to-image")]:
        raise CondgenError(
            f"{other[0]} generates neither from labels nor from texts. Evaluate it with `condgen evaluate`."
        )
    check_recipes(recipes, data)
    by_label = {task == "class-to-image" for task in tasks.values()} | {True for _ in recipes}
    if len(by_label) > 1:
        raise CondgenError("Some of these generate from labels and others from texts: no condition fits all.")
    make_folder(out)
    options = ClassToImageOptions(
        data=data, per_label=budget.per_label, seeds=budget.seeds, classifiers=out / "classifiers"
    )
    shared = SharedData(options)
    candidates: list[Candidate] = []
    for entry in dict.fromkeys(entries):
        folder = models.get(entry) or _train(entry, out, budget, shared)
        candidates += _candidates(entry, folder, {c.name for c in candidates})
    if by_label.pop():
        report, sheet = _by_label(candidates, shared, budget, progress)
    else:
        report, sheet = _by_text(candidates, data, budget, progress)
    report = finite({"compared": [c.name for c in candidates], "seeds": list(range(budget.seeds))} | report)
    write(out, report, sheet)
    progress(1.0, "done")
    return report


def check_recipes(recipes: Sequence[str], data: str) -> None:
    """Raises `CondgenError` for recipes that cannot be compared, before any is trained."""
    if others := [name for name in recipes if RECIPES[name].family != LABELS]:
        raise CondgenError(
            f"{others[0]} is no class-to-image recipe, and only those are trained here. Train it first, and compare "
            "the models of runs; `condgen benchmark` compares unconditional ones."
        )
    sources = {data or RECIPES[name].base.data.path for name in recipes}
    if "" in sources:
        raise CondgenError(f"The recipe {recipes[0]} needs labelled images: give their folder or table with --data.")
    if len(sources) > 1:
        raise CondgenError(f"The recipes use different data ({', '.join(sorted(sources))}): name one with --data.")


def _train(recipe: str, out: Path, budget: Budget, shared: SharedData) -> Path:
    config = RECIPES[recipe].config(minutes=budget.minutes, seed=budget.seed, eval_count=6)
    config = replace(config, data=replace(config.data, path=shared.options.data or config.data.path))
    return train(recipe, out / "runs" / recipe, config, shared.quick)


def _candidates(entry: str, folder: Path, taken: set[str]) -> list[Candidate]:
    """The candidates in a model folder, named by its full path where the name is taken."""
    model = load_folder(folder)
    run = folder.parent if (folder.parent / "metrics.jsonl").is_file() else None
    name = entry if entry in RECIPES or entry in found() else (run or folder).name
    name = entry if any(one == name or one.startswith(f"{name},") for one in taken) else name
    if isinstance(model, ClassToImage):
        return [Candidate(name, model, run)]
    return [Candidate(f"{name}, {prior} prior", model, run, {"prior": prior}) for prior in model.priors]


def _by_label(
    candidates: list[Candidate], shared: SharedData, budget: Budget, progress: ProgressCallback
) -> tuple[Report, Image.Image]:
    data = shared.read(candidates[0].model)
    scores, accuracy, options, facts = {}, {}, {}, {}
    for k, c in enumerate(candidates):

        def report_progress(share: float, message: str, k: int = k, name: str = c.name) -> None:
            progress((k + share) / len(candidates), f"{name}: {message}")

        report = evaluate_on(c.model, data.train, data.test, shared.options, progress=report_progress).report
        scores[c.name] = summary(report)
        accuracy[c.name] = {name: line["generated"] for name, line in report.get("accuracy", {}).items()}
        accuracy.setdefault("real test images", {n: x["real"] for n, x in report.get("accuracy", {}).items()})
        options[c.name] = at_settings(c, partial(shared.quick, c.model))
        facts = report["classifier"]
    labels = [{a.name: value} for a in candidates[0].model.attributes[:1] for value in a.values[:SHOWN]]
    report = {"kind": "class_to_image", "data": data.test.name, "classifier": facts, "models": _facts(candidates)}
    report |= {"scores": scores, "accuracy": accuracy, "options": options}
    report["time"] = {c.name: c.curve("accuracy").rows() for c in candidates}
    captions = [", ".join(one.values()) for one in labels]
    return report, side_by_side(candidates, labels or [{}], captions or ["unconditional"])


def summary(report: Report) -> dict[str, float]:
    """The row of a report in the table of scores, see SCORES."""
    line: dict[str, float] = {}
    for title, section, row, column in SCORES:
        for name, values in report.get(section, {}).items():
            if name.startswith(row) and column in values:
                line.setdefault(title, values[column])
    return line


def _by_text(
    candidates: list[Candidate], data: str, budget: Budget, progress: ProgressCallback
) -> tuple[Report, Image.Image]:
    if data or any(not str(c.model.about.get("recipe")).startswith("scenes") for c in candidates):
        raise CondgenError("Of text-to-image models only those of scenes can be compared, without --data.")
    sides: dict[str, dict[str, dict]] = {"scene_eval_seen": {}, "scene_eval_held_out": {}}
    options = {}
    for k, c in enumerate(candidates):
        for side, rows in enumerate(sides.values()):
            progress((k + side / 2) / len(candidates), c.name)
            scores = [
                scene_eval(c.model, bool(side), budget.prompts, 4, seed, **c.arguments)[0]
                for seed in range(budget.seeds)
            ]
            rows[c.name] = {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}
            overall = [s["overall"] for s in scores]
            rows[c.name]["sd of overall"] = float(np.std(overall, ddof=1)) if len(overall) > 1 else float("nan")
        options[c.name] = at_settings(c, partial(_quick_scene_eval, c))
    prompts = list(RECIPES["scenes32"].examples)
    report = {"kind": "scenes", "models": _facts(candidates), **sides, "options": options}
    report["time"] = {c.name: c.curve("seen/overall").rows() for c in candidates}
    return report, side_by_side(candidates, prompts, prompts)


def _quick_scene_eval(candidate: Candidate, **options: float) -> dict[str, float]:
    began = time.perf_counter()
    scores, _ = scene_eval(candidate.model, False, 8, 1, 1, **candidate.arguments, **options)
    took, n = time.perf_counter() - began, sum(images_evaluated(False, 8, 1, 1).values())
    return {"overall": scores["overall"], "milliseconds per image": 1000 * took / n, "N": n}


def _facts(candidates: Sequence[Candidate]) -> dict[str, dict]:
    return {c.name: c.facts() for c in candidates}


def at_settings(candidate: Candidate, quick: Callable[..., dict[str, float]]) -> dict[str, dict]:
    """Quality with the default sampling options, and with one option changed at a time."""
    there = {option.name for option in candidate.sampling_options}
    settings = [(name, value) for name, values in SETTINGS.items() if name in there for value in values]
    return {"default": quick()} | {f"{name} {value:g}": quick(**{name: value}) for name, value in settings}


def side_by_side(candidates: Sequence[Candidate], conditions: list, captions: list[str], each: int = 3) -> Image.Image:
    """A sheet with a row for every condition, which shows images of all candidates with equal seeds."""
    images: list[Image.Image] = []
    labels: list[str] = []
    for k, (condition, caption) in enumerate(zip(conditions, captions)):
        seeds = [1000 * k + i for i in range(each)]
        for c in candidates:
            images += to_pil(to_float(generate_prompts(c.model, [condition] * each, seeds, **c.arguments)))
            labels += [f"{c.name}: {caption}", *[""] * (each - 1)]
    return grid(images, labels, columns=each * len(candidates), cell=96)
