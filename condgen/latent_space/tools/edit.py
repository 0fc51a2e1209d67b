"""Change an attribute of held-out images along a latent direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages
from condgen.latent_space.adapters import LatentSpace, as_float, as_space
from condgen.latent_space.measures import realism, rmse
from condgen.latent_space.registry import Tool, ToolCall, option, register, separated
from condgen.latent_space.result import Analysis, Numbers, evenly_spaced, sheet
from condgen.metrics.probes import Probe, linear_probe

SHOWN = 8
"""Edited images on the sheet."""
MAX_IMAGES = 5_000
"""Maximum numbers of images for fitting a direction or classifier, and of edited images."""
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
METHODS = ("means", "probe", "lda")
Classifier = Callable[[Tensor], np.ndarray]
"""Images (N, C, S, S) -> int64 (N, A), the predicted value of every attribute; -1 where there is no prediction."""


@dataclass(frozen=True)
class Edit(Analysis):
    """The result of `edit`: the direction (Z,), where a step of 1 is the distance between the classes, and the held-out
    images at every strength, (N, strengths, C, S, S)."""

    direction: Tensor
    images: Tensor


def edit(
    space: LatentSpace, train: LabelledImages, test: LabelledImages, attribute: str, target: str, source: str = "",
    strengths: Sequence[float] = STRENGTHS, method: str = "means", classifier: Classifier | None = None,
) -> Edit:  # fmt: skip
    """Fits the latent direction of an attribute on labelled images, and moves held-out images along it.

    Args:
        train: images to fit the direction on, and the classifier if none is given.
        test: held-out images with the same attributes; those without the target value are edited.
        attribute: name of an attribute, such as `label`.
        target: value after the edit.
        source: value before the edit; by default any other.
        strengths: lengths of the step: 1 is the distance between the classes; 0 is the reconstruction.
        method: `means`, the difference of the means; `probe`, the normal of a logistic regression; `lda`, the normal of
            a linear discriminant, which removes the variation within the classes. Each is scaled to the distance
            between the classes along it.
        classifier: recognises the attributes of an image; by default a linear probe on pixels for every attribute.

    Raises:
        CondgenError: the attribute or value is unknown, or there are no images of it.

    References:
        Deep Feature Interpolation for Image Content Changes (Upchurch et al., 2017), for the means
        Interpreting the Latent Space of GANs for Semantic Face Editing (Shen et al., 2020), for the normal
    """
    space = as_space(space)
    column, factor = categorical(train, attribute)
    wanted = factor.encode(target)
    start = factor.encode(source) if source else None
    if not strengths:
        raise CondgenError("There are no strengths to edit by. Name at least one.")
    if start == wanted:
        raise CondgenError(f"{short(target)} cannot be edited into itself: choose another source value.")
    if [f.name for f in test.attributes] != [f.name for f in train.attributes]:
        raise CondgenError(f"{test.name} and {train.name} have different attributes.")

    def split(data: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
        values = data.targets[:, column]
        other = values == start if start is not None else (values != wanted) & ~np.isnan(values)
        return tuple(
            np.flatnonzero(part)[evenly_spaced(int(part.sum()), MAX_IMAGES)] for part in (values == wanted, other)
        )

    yes, no = split(train)
    edited = split(test)[1]
    for rows, what in ((yes, target), (no, source or "of another value"),
                       (edited, f"{source or 'of another value'}, held out")):  # fmt: skip
        if len(rows) < 2:
            raise CondgenError(f"There are {len(rows)} images with {attribute} {what}; at least two are needed.")
    direction = fit_direction(space.encode(train.images[yes]), space.encode(train.images[no]), method)
    x = as_float(test.images[edited])
    latents = space.encode(x)
    images = torch.stack([space.decode(latents + s * direction) for s in strengths], 1)
    numbers = _numbers(
        images, x, test.targets[edited], test, classifier or PixelProbe(train), (column, wanted), strengths
    )
    numbers["realism"] = {f"strength {s:g}": realism(space, images[:, i], None) for i, s in enumerate(strengths)}
    captions = ["image", *(f"{s:g}" for s in strengths)]
    title = f"{source or 'any'} to {target}"
    rows = [(title, torch.cat([x[k : k + 1], images[k]]), captions) for k in evenly_spaced(len(x), SHOWN)]
    return Edit(numbers, {"edit.png": sheet(rows)}, direction, images)


def categorical(data: LabelledImages, name: str) -> tuple[int, Attribute]:
    """A categorical attribute and its column.

    Raises:
        CondgenError: there is no attribute of that name, or it is a number.
    """
    found = {factor.name: (column, factor) for column, factor in enumerate(data.attributes) if factor.values}
    if name not in found:
        raise CondgenError(
            f"{data.name} has no categorical attribute {short(name)}; it has {', '.join(found) or 'none'}."
        )
    return found[name]


def fit_direction(yes: Tensor, no: Tensor, method: str) -> Tensor:
    """The direction from latents without an attribute (M, Z) to latents with it (N, Z), see `edit`: (Z,)."""
    gap = yes.mean(0) - no.mean(0)
    if method == "means":
        return gap
    latents, labels = torch.cat([no, yes]), torch.cat([torch.zeros(len(no)), torch.ones(len(yes))]).long()
    if method == "probe":
        normal = linear_probe(latents, labels, 2).weight.diff(dim=0)[0]
    elif method == "lda":
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        found = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(latents.numpy(), labels.numpy())
        normal = torch.from_numpy(found.coef_[0]).float()
    else:
        raise CondgenError(f"The method of a direction is one of {', '.join(METHODS)}, got {short(method)}.")
    unit = normal / normal.norm().clamp(min=1e-12)
    return unit * (gap @ unit)


class PixelProbe:
    """A classifier that does not use the latent space: a linear probe on pixels for every categorical attribute."""

    def __init__(self, train: LabelledImages):
        self.attributes = train.attributes
        self.probes: dict[int, Probe] = {}
        for column, factor in enumerate(train.attributes):
            rows = np.flatnonzero(~np.isnan(train.targets[:, column]))
            rows = rows[evenly_spaced(len(rows), MAX_IMAGES)]
            if factor.values and len(rows):
                labels = torch.from_numpy(train.targets[rows, column]).long()
                pixels = as_float(train.images[rows]).flatten(1)
                self.probes[column] = linear_probe(pixels, labels, factor.cardinality, steps=50)

    def __call__(self, images: Tensor) -> np.ndarray:
        predicted = np.full((len(images), len(self.attributes)), -1)
        for column, probe in self.probes.items():
            predicted[:, column] = probe(images.flatten(1)).numpy()
        return predicted


def _numbers(
    images: Tensor, x: Tensor, targets: np.ndarray, test: LabelledImages, classifier: Classifier,
    wanted: tuple[int, float], strengths: Sequence[float],
) -> Numbers:  # fmt: skip
    """For every strength, the shares of images with the target value and with unchanged other attributes, and RMSE."""
    column, value = wanted
    few = evenly_spaced(len(test), MAX_IMAGES).numpy()
    real = classifier(as_float(test.images[few]))
    others = [k for k, factor in enumerate(test.attributes) if k != column and (real[:, k] >= 0).any()]
    table = {}
    for i, strength in enumerate(strengths):
        predicted = classifier(images[:, i])
        row = {"has the value": float((predicted[:, column] == value).mean())}
        for k in others:
            row[f"{test.attributes[k].name} kept"] = float((predicted[:, k] == targets[:, k]).mean())
        table[f"strength {strength:g}"] = row | {"change": rmse(images[:, i], x).mean().item()}
    accuracy = {"images edited": len(x)}
    for k in (column, *others):
        accuracy[f"{test.attributes[k].name}, accuracy on real images"] = float(
            (real[:, k] == test.targets[few, k]).mean()
        )
    return {"edited": table, "classifier": {"held-out images": accuracy}}


def run(call: ToolCall) -> Edit:
    args, train = call.args, call.source.train
    classifier = call.fit_classifier(train, args.classifier) if args.classifier and call.fit_classifier else None
    test = call.source.test
    return edit(call.space, train, test, args.attribute, args.to, args.start, args.strengths, args.method, classifier)


OPTIONS = (
    option("--attribute", default="label", metavar="NAME", help="the class or attribute of the data to change"),
    option("--to", required=True, metavar="VALUE", help="value that the images shall get"),
    option("--from", dest="start", default="", metavar="VALUE", help="value that they have (default any other)"),
    option("--strengths", type=separated(float), default=STRENGTHS, metavar="S,S",
           help="how far; 1 is the distance between the classes (default 0,0.5,1,1.5,2)"),
    option("--method", choices=METHODS, default="means",
           help="direction by the class means, the normal of a probe, or a linear discriminant"),
    option("--classifier", type=Path, metavar="FOLDER",
           help="evaluate with a classifier that is trained first and kept here (default a linear probe on pixels)"),
)  # fmt: skip
register(Tool("edit", __doc__, OPTIONS, run))
