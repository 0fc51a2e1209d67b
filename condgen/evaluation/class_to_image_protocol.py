"""What a model of labelled images is asked for, and the real images that its answers are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.datasets.labels import LabelledPictures
from condgen.data.factors import Attribute


@dataclass(frozen=True)
class Exam:
    """What is asked of a model, the same for every seed.

    Args:
        train, test: real images, coded by the factors of the model.
        codes: float32 (N, A), what is asked of every image; NaN where nothing is.
        sides: name -> int64 rows of `codes` whose accuracy is told under that name.
        held: int64 (K,), the rows that are held against the test images.
        against: int64 (K,), these images of `test`: as many of every class as `held` asks for.
    """

    train: LabelledPictures
    test: LabelledPictures
    codes: np.ndarray
    sides: dict[str, np.ndarray]
    held: np.ndarray
    against: np.ndarray

    @property
    def factors(self) -> tuple[Attribute, ...]:
        return self.test.factors

    @property
    def judged(self) -> list[int]:
        """Numbers of the factors that have values."""
        return [k for k, factor in enumerate(self.factors) if factor.values]

    def real(self, seed: int) -> np.ndarray:
        """As many training images as are held against the test, drawn alike."""
        return like(self.train.codes, self.codes[self.held], self.judged, np.random.default_rng((seed, 3)))


def read_exam(
    factors: Sequence[Attribute], train: LabelledPictures, test: LabelledPictures, per_label: int,
    combined: Sequence[str] = (),
) -> Exam:  # fmt: skip
    """What will be asked, see `labels.evaluate_labels`: by class where one factor has values, else by test images.

    Raises:
        CondgenError: see there.
    """
    factors = tuple(factors)
    train, test = aligned(train, factors), aligned(test, factors)
    judged = [k for k, factor in enumerate(factors) if factor.values]
    if not judged:
        names = ", ".join(factor.name for factor in factors)
        raise CondgenError(f"The model paints by {names}: numbers alone, and no classes or attributes to judge by.")
    if combined and len(judged) == 1:
        raise CondgenError(f"The model paints by {factors[judged[0]].name} alone; there are no combinations.")
    rng = np.random.default_rng(0)
    if len(judged) > 1:
        new = never_seen(train, test, combined)
        sides = {}
        for side, rows in (("seen", np.flatnonzero(~new)), ("never_seen", np.flatnonzero(new))):
            if len(rows):
                sides[side] = rng.permutation(rows)[: 10 * per_label]
        against = np.concatenate(list(sides.values()))
        starts = np.cumsum([0, *(len(rows) for rows in sides.values())])
        sides = {side: np.arange(a, b) for side, a, b in zip(sides, starts[:-1], starts[1:])}
        return Exam(train, test, test.codes[against], sides, np.arange(len(against)), against)
    k = judged[0]
    codes = np.full((per_label * factors[k].cardinality, len(factors)), np.nan, np.float32)
    codes[:, k] = np.repeat(np.arange(factors[k].cardinality), per_label)
    held, against = [], []
    for value in range(factors[k].cardinality):
        there = [np.flatnonzero(data.codes[:, k] == value) for data in (train, test)]
        n = min(per_label, *(len(rows) for rows in there))
        held.append(value * per_label + np.arange(n))
        against.append(rng.permutation(there[1])[:n])
    held, against = np.concatenate(held), np.concatenate(against)
    if not len(held):
        raise CondgenError(
            f"No {factors[k].name} that the model paints is in both training and test images of {test.name}; there "
            "is nothing to hold its images against. Look at them with `condgen data check`."
        )
    return Exam(train, test, codes, {"overall": np.arange(len(codes))}, held, against)


def aligned(data: LabelledPictures, factors: Sequence[Attribute]) -> LabelledPictures:
    """The same images with codes for these factors; a value that they do not have becomes unknown.

    Raises:
        CondgenError: the data says nothing of one of them.
    """
    if data.factors == tuple(factors):
        return data
    own = {factor.name: k for k, factor in enumerate(data.factors)}
    if missing := [factor.name for factor in factors if factor.name not in own]:
        raise CondgenError(
            f"{data.name} tells {', '.join(own) or 'nothing'} of its images, but the model paints by "
            f"{', '.join(missing)}. Judge it on images that are labelled as its training images were."
        )
    codes = [_recoded(data.codes[:, own[f.name]], data.factors[own[f.name]], f) for f in factors]
    return replace(data, factors=tuple(factors), codes=np.stack(codes, 1).astype(np.float32))


def _recoded(codes: np.ndarray, own: Attribute, wanted: Attribute) -> np.ndarray:
    if not wanted.values:
        return (codes * own.sd + own.mean - wanted.mean) / wanted.sd
    place = {name: float(k) for k, name in enumerate(wanted.values)}
    return np.array([math.nan if math.isnan(code) else place.get(own.format_target(code), math.nan) for code in codes])


def never_seen(train: LabelledPictures, test: LabelledPictures, combined: Sequence[str] = ()) -> np.ndarray:
    """bool (N,): whether no training image has the values of a test image, all of them together.

    Args:
        train, test: with the same factors. What is unknown of an image is a value like any other.
        combined: names of the factors to look at; by default all that have values.

    Raises:
        CondgenError: there is no such factor, or it has no values.
    """
    names = [factor.name for factor in train.factors if factor.values]
    if wrong := [name for name in combined if name not in names]:
        raise CondgenError(f"{', '.join(wrong)} cannot be part of a combination; there are {', '.join(names)}.")
    own = [k for k, factor in enumerate(train.factors) if factor.name in (combined or names)]
    there = {tuple(row) for row in np.nan_to_num(train.codes[:, own], nan=-1).tolist()}
    return np.array([tuple(row) not in there for row in np.nan_to_num(test.codes[:, own], nan=-1).tolist()], bool)


def said(factors: Sequence[Attribute], codes: np.ndarray) -> dict[str, object]:
    """A row of codes as it is asked of a model: names of values, and numbers; what is unknown is not named."""
    known = [(factor, float(code)) for factor, code in zip(factors, codes) if not math.isnan(code)]
    return {f.name: f.values[int(code)] if f.values else code * f.sd + f.mean for f, code in known}


def like(codes: np.ndarray, wanted: np.ndarray, judged: list[int], rng: np.random.Generator) -> np.ndarray:
    """Rows of `codes`, as many as are wanted, or all: of one factor as many of every value, of several any."""
    order = rng.permutation(len(codes))
    if len(judged) > 1:
        return order[: len(wanted)]
    own, asked = codes[order, judged[0]], wanted[:, judged[0]]
    return np.concatenate([order[own == value][: (asked == value).sum()] for value in np.unique(asked)])
