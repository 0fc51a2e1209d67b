"""Attributes as directions among codes: arithmetic on sets of images, and editing along a direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages
from condgen.latent_space.adapters import Images, LatentSpace, as_float, decoded, encoded
from condgen.latent_space.neighbours import realism
from condgen.latent_space.result import Analysis, Numbers, apart, evenly, sheet
from condgen.metrics.probes import Probe, linear_probe

SHOWN = 8
"""Images of a set, or edited images, on the sheet."""
MOST = 5_000
"""Images that a direction or a judge learns from, and images that are edited."""
Judge = Callable[[Tensor], np.ndarray]
"""Images (N, C, S, S) -> int64 (N, A), the value that it sees of every factor; -1 where it sees none."""


# Arithmetic -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arithmetic(Analysis):
    """What `arithmetic` found.

    Args:
        code: (1, Z).
        image: what it is painted as, (1, C, S, S).
    """

    code: Tensor
    image: Tensor


def arithmetic(
    space: LatentSpace, plus: Sequence[Images], minus: Sequence[Images] = (), among: Images | None = None
) -> Arithmetic:
    """Adds and subtracts the mean codes of sets of images: smiling women less women, plus men.

    Args:
        plus, minus: sets of images, (N, C, S, S) each.
        among: real images, to measure how near the result is to any of these.

    Raises:
        CondgenError: no set, an empty one, or no encoder.

    References:
        Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford et al.,
        2016), section 6.3.2
    """
    if not plus:
        raise CondgenError("There is no set of images to start from. Name one at least.")
    terms = [(sign, as_float(images)) for sign, sets in ((1, plus), (-1, minus)) for images in sets]
    codes = [encoded(space, images).mean(0, keepdim=True) for _, images in terms]
    code = sum(sign * z for (sign, _), z in zip(terms, codes))
    image = decoded(space, code)
    pixels = sum(sign * images.mean(0, keepdim=True) for sign, images in terms).clamp(-1, 1)
    table = {"codes": realism(space, image, among), "pixels": realism(space, pixels, among)}
    rows = [
        ("plus" if sign > 0 else "minus", torch.cat([decoded(space, z), images[:SHOWN]]), ["mean of the codes"])
        for (sign, images), z in zip(terms, codes)
    ]
    rows.append(("the result", torch.cat([image, pixels]), ["by codes", "by pixels"]))
    return Arithmetic({"how_real": table}, {"arithmetic.png": sheet(rows)}, code, image)


# Editing --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edit(Analysis):
    """What `edit` found.

    Args:
        direction: (Z,); a step of 1 along it goes from the mean of one class to that of the other.
        images: of held-out images at every strength, (N, strengths, C, S, S).
    """

    direction: Tensor
    images: Tensor


def edit(
    space: LatentSpace, known: LabelledImages, held: LabelledImages, attribute: str, value: str, against: str = "",
    strengths: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0), how: Literal["means", "probe", "lda"] = "means",
    judge: Judge | None = None,
) -> Edit:  # fmt: skip
    """Finds the direction of an attribute among codes of labelled images, and takes held-out images along it.

    Args:
        known: images that the direction, and the judge where none is given, are learned from.
        held: images, with the same factors, that neither has seen; those that are edited are not of `value`.
        attribute: name of a factor, such as `label`.
        value: of it, what images shall become.
        against: of it, what they are; by default anything else.
        strengths: 1 goes as far as the classes are apart; 0 stays, and shows what the space itself changes.
        how: `means`, the difference of the means; `probe`, the normal of a logistic regression; `lda`, of a linear
            discriminant, which takes out what both classes vary in. All as long as the classes are apart along them.
        judge: tells what an image shows; by default a linear probe on pixels for every factor with values.

    Raises:
        CondgenError: no such attribute or value, or no images of it.

    References:
        Deep Feature Interpolation for Image Content Changes (Upchurch et al., 2017), for the means
        Interpreting the Latent Space of GANs for Semantic Face Editing (Shen et al., 2020), for the normal
    """
    place, factor = factor_of(known, attribute)
    wanted = factor.encode(value)
    start = factor.encode(against) if against else None
    if not strengths:
        raise CondgenError("There are no strengths to edit by. Name one at least.")
    if start == wanted:
        raise CondgenError(f"{short(value)} cannot be edited into itself: name something else after against.")
    if [f.name for f in held.attributes] != [f.name for f in known.attributes]:
        raise CondgenError(f"{held.name} and {known.name} tell different things of their images.")

    def sides(data: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
        own = data.targets[:, place]
        other = own == start if start is not None else (own != wanted) & ~np.isnan(own)
        return tuple(np.flatnonzero(side)[evenly(int(side.sum()), MOST)] for side in (own == wanted, other))

    yes, no = sides(known)
    asked = sides(held)[1]
    for rows, what in ((yes, value), (no, against or "anything else"), (asked, against or "anything else, held out")):
        if len(rows) < 2:
            raise CondgenError(f"There are {len(rows)} images with {attribute} {what}; two at least are needed.")
    direction = direction_of(encoded(space, known.images[yes]), encoded(space, known.images[no]), how)
    x = as_float(held.images[asked])
    codes = encoded(space, x)
    images = torch.stack([decoded(space, codes + s * direction) for s in strengths], 1)
    judge = judge or PixelProbe(known)
    numbers = _numbers(images, x, held.targets[asked], held, judge, (place, wanted), strengths)
    numbers["how_real"] = {f"strength {s:g}": realism(space, images[:, i], None) for i, s in enumerate(strengths)}
    few = evenly(len(x), SHOWN)
    told = ["the image", *(f"{s:g}" for s in strengths)]
    rows = [(f"{against or 'anything'} to {value}", torch.cat([x[k : k + 1], images[k]]), told) for k in few]
    return Edit(numbers, {"edit.png": sheet(rows)}, direction, images)


def factor_of(data: LabelledImages, name: str) -> tuple[int, Attribute]:
    """A factor with values, and its place.

    Raises:
        CondgenError: there is none of that name, or it is a number.
    """
    for place, factor in enumerate(data.attributes):
        if factor.name == name and factor.values:
            return place, factor
    told = ", ".join(factor.name for factor in data.attributes if factor.values) or "nothing with values"
    raise CondgenError(f"{data.name} tells no {short(name)} of its images; it tells {told}.")


def direction_of(yes: Tensor, no: Tensor, how: str) -> Tensor:
    """From codes without an attribute (M, Z) to codes with it (N, Z): (Z,), see `edit`."""
    gap = yes.mean(0) - no.mean(0)
    if how == "means":
        return gap
    codes, labels = torch.cat([no, yes]), torch.cat([torch.zeros(len(no)), torch.ones(len(yes))]).long()
    if how == "probe":
        normal = linear_probe(codes, labels, 2).weight.diff(dim=0)[0]
    elif how == "lda":
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        found = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(codes.numpy(), labels.numpy())
        normal = torch.from_numpy(found.coef_[0]).float()
    else:
        raise CondgenError(f"A direction is found by means, probe or lda, not by {short(how)}.")
    unit = normal / normal.norm().clamp(min=1e-12)
    return unit * (gap @ unit)


class PixelProbe:
    """A judge that is independent of the space: a linear probe on pixels for every factor with values."""

    def __init__(self, known: LabelledImages):
        self.attributes = known.attributes
        self.probes: dict[int, Probe] = {}
        for place, factor in enumerate(known.attributes):
            rows = np.flatnonzero(~np.isnan(known.targets[:, place]))
            rows = rows[evenly(len(rows), MOST)]
            if factor.values and len(rows):
                labels = torch.from_numpy(known.targets[rows, place]).long()
                pixels = as_float(known.images[rows]).flatten(1)
                self.probes[place] = linear_probe(pixels, labels, factor.cardinality, steps=50)

    def __call__(self, images: Tensor) -> np.ndarray:
        seen = np.full((len(images), len(self.attributes)), -1)
        for place, probe in self.probes.items():
            seen[:, place] = probe(images.flatten(1)).numpy()
        return seen


def _numbers(
    images: Tensor, x: Tensor, codes: np.ndarray, held: LabelledImages, judge: Judge, to: tuple[int, float],
    strengths: Sequence[float],
) -> Numbers:  # fmt: skip
    """Of every strength: how many have got the attribute, how many keep the others, and how far the image went."""
    place, wanted = to
    few = evenly(len(held), MOST).numpy()
    real = judge(as_float(held.images[few]))
    others = [k for k, factor in enumerate(held.attributes) if k != place and (real[:, k] >= 0).any()]
    table = {}
    for i, strength in enumerate(strengths):
        seen = judge(images[:, i])
        row = {"shows it": float((seen[:, place] == wanted).mean())}
        for k in others:
            row[f"{held.attributes[k].name} kept"] = float((seen[:, k] == codes[:, k]).mean())
        table[f"strength {strength:g}"] = row | {"change": apart(images[:, i], x).mean().item()}
    right = {"images edited": len(x)}
    for k in (place, *others):
        right[f"{held.attributes[k].name}, right on real images"] = float((real[:, k] == held.targets[few, k]).mean())
    return {"edited": table, "judge": {"held-out images": right}}
