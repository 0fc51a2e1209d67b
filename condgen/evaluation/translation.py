"""Evaluation of translators.

With targets, the similarity of translations to their targets; without targets, the similarity after a cycle. For
squares and circles, which the detector recognises, the shares of objects with a changed shape and with unchanged other
attributes. Every row is followed by that of the identity as a baseline.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback
from condgen.data.batches.base import to_float, to_uint8
from condgen.data.datasets.pairs import Pairs, Unpaired
from condgen.data.sources.sides import open_sides
from condgen.data.synthetic.detector import Seen, detect
from condgen.evaluation.base import Findings, Report, register
from condgen.evaluation.distribution import rgb
from condgen.evaluation.options import TranslationOptions
from condgen.metrics.image_quality import similarity
from condgen.pipelines.translator import Translator, with_channels

DRAWN = 500
"""Images of each side that are drawn for a test."""
IN_A_ROW, SHOWN = 8, 16
"""Images in a row of the sheet, and translations on it."""
IDENTITY = "identity"
SHAPES = {"squares": "square", "circles": "circle"}
NEAR, ALIKE = 0.06, 0.2
"""Tolerances: of the position of an object, as a share of the canvas, and of its size, relative."""


def read_sides(model: Translator, options: TranslationOptions) -> Unpaired:
    """Reads images of both sides as in training, as pairs where these are known; synthetic images are drawn anew.

    Raises:
        CondgenError: there are none, or they cannot be read.
    """
    trained = model.about.get("reading")
    if not isinstance(trained, dict) or not isinstance(trained.get("origin"), str):
        raise CondgenError(f"{model.name} does not say how its images were read. Export it again.")
    how = trained | {"size": model.size, "names": model.sides}
    if how.pop("given", True) and not options.data:
        raise CondgenError(f"Name the images to evaluate {model.name} on with --data.")
    paired = not model.both_ways or bool(how.get("match")) or how["origin"] not in ("files", "shapes")
    try:
        return open_sides(options.data, paired, options.split, 0, DRAWN, **how)
    except TypeError as error:
        raise CondgenError(
            f"The index of {model.name} says in unknown words how its images were read ({error})."
        ) from None


@register(Translator, options=TranslationOptions)
def evaluate_translator(model: Translator, options: TranslationOptions, progress: ProgressCallback) -> Findings:
    """Evaluates a translator on held-out images."""
    return evaluate_translation(model, read_sides(model, options), progress)


def evaluate_translation(
    model: Translator, data: Unpaired, progress: ProgressCallback = lambda share, message: None
) -> Findings:
    """Evaluates a translator.

    Args:
        model: a translator with one direction or both.
        data: pairs, or images of both sides.
        progress: called with progress.

    Returns:
        Findings; the sheet `sheet` shows images, their translations, and the targets or the reconstructions.
    """
    report: Report = {"kind": "translation", "data": data.name}
    progress(0.1, "translating")
    ways = [(data.a, data.b, model.targets[0])] + ([(data.b, data.a, model.targets[1])] if model.both_ways else [])
    if isinstance(data, Pairs):
        report["translation"] = {}
        for given, target, to in ways:
            for name, row in faithful(model, given, target, to).items():
                report["translation"][f"to {to}" if name == "translated" else f"to {to}, {name}"] = row
    if model.both_ways:
        progress(0.5, "translating back")
        report["cycle"] = {f"by {to}": cycle(model, given, to) for given, _, to in ways}
        if set(model.sides) == set(SHAPES):
            progress(0.8, "detecting the shapes")
            report["attributes"] = {}
            for given, _, to in ways:
                translated = to_uint8(model.translate(to_float(given), to))
                for name, images in ((f"to {to}", translated), (f"to {to}, {IDENTITY}", given)):
                    report["attributes"][name] = attributes(given, images, SHAPES[to])
    return Findings(report, {"sheet": [(label, rgb(image), True) for image, label in zip(*sheet_of(model, data))]})


def faithful(model: Translator, given: np.ndarray, target: np.ndarray, to: str = "") -> dict[str, dict[str, float]]:
    """Similarity of translations and, as a baseline, of the input images to their targets, uint8 (N, C, S, S)."""
    x = to_float(given)
    translated = to_float(to_uint8(model.translate(x, to)))
    y = with_channels(to_float(target), translated.shape[1])
    rows = {"translated": translated, IDENTITY: with_channels(x, y.shape[1])}
    return {name: compare(images, y) | {"N": len(y)} for name, images in rows.items()}


def compare(images: Tensor, target: Tensor) -> dict[str, float]:
    """`metrics.image_quality.similarity`, and the mean absolute difference of intensities in [0, 1]."""
    return similarity(images, target) | {"L1": float((images - target).abs().mean() / 2)}


def cycle(model: Translator, given: np.ndarray, to: str) -> dict[str, float]:
    """Similarity of images, uint8 (N, C, S, S), to their translations to a side and back.

    The intermediate image is rounded to eight bits, so that no information is hidden in invisible differences.
    """
    x = to_float(given)
    there = to_float(to_uint8(model.translate(x, to)))
    back = next(side for side in model.targets if side != to)
    return compare(model.translate(there, back), x) | {"N": len(x)}


def attributes(before: np.ndarray, after: np.ndarray, shape: str) -> dict[str, float]:
    """Shares of the objects in scenes, uint8 (N, 3, S, S), that have the target shape after translation and that keep
    colour, position and size; and the share of scenes that keep the number of objects.

    Objects are matched one to one by distance. One that is gone counts as changed in all attributes.
    """
    kept, same_number = [], []
    for things, now in zip(detect(before), detect(after)):
        same_number.append(len(things) == len(now))
        kept += _kept(things, now, shape)
    shares = np.array(kept, float).reshape(-1, 4).mean(0)
    found = dict(zip(("shape", "colour", "position", "size"), map(float, shares)))
    return found | {"number": float(np.mean(same_number)), "N": len(kept)}


def _kept(things: list[Seen], now: list[Seen], shape: str) -> list[tuple[bool, bool, bool, bool]]:
    apart = np.array([[np.hypot(a.x - b.x, a.y - b.y) for b in now] for a in things]).reshape(len(things), len(now))
    partner = dict(zip(*linear_sum_assignment(apart)))
    out = []
    for i, a in enumerate(things):
        if i not in partner:
            out.append((False,) * 4)
            continue
        b = now[partner[i]]
        out.append((b.shape == shape, b.colour == a.colour, apart[i, partner[i]] < NEAR, abs(b.r / a.r - 1) < ALIKE))
    return out


def sheet_of(model: Translator, data: Unpaired) -> tuple[list[np.ndarray], list[str]]:
    """Images uint8 (C, S, S) in rows of eight and their labels: input, translation, and the target or the
    reconstruction; without targets, first one direction, then the other.
    """
    images, labels = [], []
    if isinstance(data, Pairs):
        for k in range(0, min(len(data), SHOWN), IN_A_ROW):
            given, truth = data.a[k : k + IN_A_ROW], data.b[k : k + IN_A_ROW]
            rows = {model.sides[0]: given, "translated": to_uint8(model.translate(to_float(given))), "truth": truth}
            _add(rows, images, labels)
    else:
        for given, to, side in ((data.a, *model.sides[::-1]), (data.b, *model.sides)):
            x = to_float(given[:IN_A_ROW])
            there = model.translate(x, to)
            rows = {side: given[:IN_A_ROW], f"to {to}": to_uint8(there)}
            _add(rows | {"and back": to_uint8(model.translate(there, side))}, images, labels)
    return images, labels


def _add(rows: dict[str, np.ndarray], images: list[np.ndarray], labels: list[str]) -> None:
    """Adds rows of a sheet, filled up with white."""
    for label, row in rows.items():
        empty = IN_A_ROW - len(row)
        images += [*row, *[np.full_like(row[0], 255)] * empty]
        labels += [label] * len(row) + [""] * empty


def scores_of(model: Translator, data: Unpaired) -> dict[str, float]:
    """Scores for the curves of a training; with pairs, the first score is better when higher."""
    if isinstance(data, Pairs):
        return {name: x for name, x in faithful(model, data.a, data.b)["translated"].items() if name != "N"}
    found = {f"cycle L1 by {to}": cycle(model, x, to)["L1"] for x, to in zip((data.a, data.b), model.targets)}
    if set(model.sides) == set(SHAPES):
        changed = to_uint8(model.translate(to_float(data.a)))
        now = attributes(data.a, changed, SHAPES[model.targets[0]])
        found |= {name: now[name] for name in ("shape", "colour", "number")}
    return found
