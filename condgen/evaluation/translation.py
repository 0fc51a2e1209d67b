"""The judge of translators.

With partners at hand, how near a translation comes to the partner; without, how much is lost on the way there and back.
Of squares and circles, which a detector without learned parts can see, whether the shape has changed and the rest has
stayed. Beside every number stands that of doing nothing.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback
from condgen.data.batches.captions import to_float, to_uint8
from condgen.data.datasets.pairs import Pairs, Unpaired
from condgen.data.sources.sides import open_sides
from condgen.data.synthetic.detector import Seen, detect
from condgen.evaluation.distribution import rgb
from condgen.evaluation.embed import Example
from condgen.metrics.image_quality import similarity
from condgen.pipelines.translator import Translator, with_channels

DRAWN = 500
"""Images of each side that are drawn for a test."""
IN_A_ROW, SHOWN = 8, 16
"""Images in a row of the sheet, and translations on it."""
NOTHING = "nothing done"
SHAPES = {"squares": "square", "circles": "circle"}
NEAR, ALIKE = 0.06, 0.2
"""A thing has stayed where it moved by less than so much of the canvas, and is as large up to so large a share."""


def read_sides(model: Translator, data: str, split: str) -> Unpaired:
    """Images to judge on, read as those of the training; what was drawn there is drawn anew. With partners where it
    is known who they are.

    Raises:
        CondgenError: there are none, or they cannot be read.
    """
    trained = model.about.get("reading")
    if not isinstance(trained, dict) or not isinstance(trained.get("origin"), str):
        raise CondgenError(f"{model.name} does not say how its images were read. Export it again.")
    asked = trained | {"size": model.size, "names": model.sides}
    if asked.pop("given", True) and not data:
        raise CondgenError(f"Name the images to judge {model.name} on with --data.")
    paired = not model.both_ways or bool(asked.get("match")) or asked["origin"] not in ("files", "shapes")
    try:
        return open_sides(data, paired, split, 0, DRAWN, **asked)
    except TypeError as error:
        raise CondgenError(f"{model.name} says how its images were read in other words than ours ({error}).") from None


def evaluate_translation(
    model: Translator, data: Unpaired, progress: ProgressCallback = lambda share, what: None
) -> tuple[dict, dict[str, list[Example]]]:
    """Judges a translator on images that training never saw.

    Args:
        model: one way or both ways.
        data: with partners, or none.

    Returns:
        (report, sheets): `sheet` shows images, their translations, and the partners or the way back.
    """
    report: dict = {"kind": "translation", "data": data.name}
    progress(0.1, "translating")
    ways = [(data.a, data.b, model.targets[0])] + ([(data.b, data.a, model.targets[1])] if model.both_ways else [])
    if isinstance(data, Pairs):
        report["translation"] = {}
        for given, wanted, to in ways:
            scores = faithful(model, given, wanted, to)
            for name, row in scores.items():
                report["translation"][f"to {to}" if name == "translated" else f"to {to}, {name}"] = row
    if model.both_ways:
        progress(0.5, "and back")
        report["there_and_back"] = {f"by {to}": there_and_back(model, given, to) for given, _, to in ways}
        if set(model.sides) == set(SHAPES):
            progress(0.8, "looking at the shapes")
            report["attributes"] = {}
            for given, _, to in ways:
                done = to_uint8(model.translate(to_float(given), to))
                for name, images in ((f"to {to}", done), (f"to {to}, {NOTHING}", given)):
                    report["attributes"][name] = attributes(given, images, SHAPES[to])
    return report, {"sheet": [(label, rgb(image), True) for image, label in zip(*sheet_of(model, data))]}


def faithful(model: Translator, given: np.ndarray, wanted: np.ndarray, to: str = "") -> dict[str, dict[str, float]]:
    """How near translations, and the images as they are, come to their partners, uint8 (N, C, S, S)."""
    x = to_float(given)
    done = to_float(to_uint8(model.translate(x, to)))
    y = with_channels(to_float(wanted), done.shape[1])
    tried = {"translated": done, NOTHING: with_channels(x, y.shape[1])}
    return {name: likeness(images, y) | {"N": len(y)} for name, images in tried.items()}


def likeness(images: Tensor, truth: Tensor) -> dict[str, float]:
    """`metrics.image_quality.similarity`, and the mean absolute difference of intensities in [0, 1]."""
    return similarity(images, truth) | {"L1": float((images - truth).abs().mean() / 2)}


def there_and_back(model: Translator, given: np.ndarray, to: str) -> dict[str, float]:
    """What is left of images, uint8 (N, C, S, S), that were translated to a side and back; by way of eight bits, so
    that nothing can be hidden below what an image shows."""
    x = to_float(given)
    there = to_float(to_uint8(model.translate(x, to)))
    back = next(side for side in model.targets if side != to)
    return likeness(model.translate(there, back), x) | {"N": len(x)}


def attributes(before: np.ndarray, after: np.ndarray, wanted: str) -> dict[str, float]:
    """Of the things in scenes, uint8 (N, 3, S, S), the share whose shape is the wanted one after translation, and whose
    colour, place and size are as before; and the share of the scenes that show as many things.

    A thing is held against the one next to it, each against one. One that is gone has kept nothing.
    """
    kept, same_number = [], []
    for things, now in zip(detect(before), detect(after)):
        same_number.append(len(things) == len(now))
        kept += _kept(things, now, wanted)
    shares = np.array(kept, float).reshape(-1, 4).mean(0)
    told = dict(zip(("shape", "colour", "place", "size"), map(float, shares)))
    return told | {"number": float(np.mean(same_number)), "N": len(kept)}


def _kept(things: list[Seen], now: list[Seen], wanted: str) -> list[tuple[bool, bool, bool, bool]]:
    apart = np.array([[np.hypot(a.x - b.x, a.y - b.y) for b in now] for a in things]).reshape(len(things), len(now))
    partner = dict(zip(*linear_sum_assignment(apart)))
    out = []
    for i, a in enumerate(things):
        if i not in partner:
            out.append((False,) * 4)
            continue
        b = now[partner[i]]
        out.append((b.shape == wanted, b.colour == a.colour, apart[i, partner[i]] < NEAR, abs(b.r / a.r - 1) < ALIKE))
    return out


def sheet_of(model: Translator, data: Unpaired) -> tuple[list[np.ndarray], list[str]]:
    """Images uint8 (C, S, S) in rows of eight, and what they are: given, translated, and the partner or the way back;
    of those that go both ways without partners, first the one and then the other way.
    """
    images, labels = [], []
    if isinstance(data, Pairs):
        for k in range(0, min(len(data), SHOWN), IN_A_ROW):
            given, truth = data.a[k : k + IN_A_ROW], data.b[k : k + IN_A_ROW]
            rows = {model.sides[0]: given, "translated": to_uint8(model.translate(to_float(given))), "truth": truth}
            _add(rows, images, labels)
    else:
        for given, to, own in ((data.a, *model.sides[::-1]), (data.b, *model.sides)):
            x = to_float(given[:IN_A_ROW])
            there = model.translate(x, to)
            rows = {own: given[:IN_A_ROW], f"to {to}": to_uint8(there)}
            _add(rows | {"and back": to_uint8(model.translate(there, own))}, images, labels)
    return images, labels


def _add(rows: dict[str, np.ndarray], images: list[np.ndarray], labels: list[str]) -> None:
    """Adds rows of a sheet, filled up with white."""
    for label, row in rows.items():
        empty = IN_A_ROW - len(row)
        images += [*row, *[np.full_like(row[0], 255)] * empty]
        labels += [label] * len(row) + [""] * empty


def scores_of(model: Translator, data: Unpaired) -> dict[str, float]:
    """A few numbers for the curves of a training; of pairs the first is the higher the better."""
    if isinstance(data, Pairs):
        return {name: x for name, x in faithful(model, data.a, data.b)["translated"].items() if name != "N"}
    found = {f"cycle L1 by {to}": there_and_back(model, x, to)["L1"] for x, to in zip((data.a, data.b), model.targets)}
    if set(model.sides) == set(SHAPES):
        changed = to_uint8(model.translate(to_float(data.a)))
        now = attributes(data.a, changed, SHAPES[model.targets[0]])
        found |= {name: now[name] for name in ("shape", "colour", "number")}
    return found
