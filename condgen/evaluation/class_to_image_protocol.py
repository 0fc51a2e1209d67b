"""What a model of labelled images is asked for, and the real images that its answers are held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages


@dataclass(frozen=True)
class Exam:
    """What is asked of a model, the same for every seed.

    Args:
        train, test: real images, coded by the attributes of the model.
        codes: float32 (N, A), what is asked of every image; NaN where nothing is.
        sides: name -> int64 rows of `targets` whose accuracy is told under that name.
        held: int64 (K,), the rows that are held against the test images.
        against: int64 (K,), these images of `test`: as many of every class as `held` asks for.
    """

    train: LabelledImages
    test: LabelledImages
    targets: np.ndarray
    sides: dict[str, np.ndarray]
    held: np.ndarray
    against: np.ndarray

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self.test.attributes

    @property
    def judged(self) -> list[int]:
        """Numbers of the attributes that have values."""
        return [k for k, attribute in enumerate(self.attributes) if attribute.values]

    def real(self, seed: int) -> np.ndarray:
        """As many training images as are held against the test, drawn alike."""
        return like(self.train.targets, self.targets[self.held], self.judged, np.random.default_rng((seed, 3)))


def read_exam(
    attributes: Sequence[Attribute], train: LabelledImages, test: LabelledImages, per_label: int,
    combined: Sequence[str] = (),
) -> Exam:  # fmt: skip
    """What will be asked, see `labels.evaluate_labels`: by class where one attribute has values, else by test images.

    Raises:
        CondgenError: see there.
    """
    attributes = tuple(attributes)
    train, test = aligned(train, attributes), aligned(test, attributes)
    judged = [k for k, attribute in enumerate(attributes) if attribute.values]
    if not judged:
        names = ", ".join(attribute.name for attribute in attributes)
        raise CondgenError(f"The model paints by {names}: numbers alone, and no classes or attributes to judge by.")
    if combined and len(judged) == 1:
        raise CondgenError(f"The model paints by {attributes[judged[0]].name} alone; there are no combinations.")
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
        return Exam(train, test, test.targets[against], sides, np.arange(len(against)), against)
    k = judged[0]
    targets = np.full((per_label * attributes[k].cardinality, len(attributes)), np.nan, np.float32)
    targets[:, k] = np.repeat(np.arange(attributes[k].cardinality), per_label)
    held, against = [], []
    for value in range(attributes[k].cardinality):
        there = [np.flatnonzero(data.targets[:, k] == value) for data in (train, test)]
        n = min(per_label, *(len(rows) for rows in there))
        held.append(value * per_label + np.arange(n))
        against.append(rng.permutation(there[1])[:n])
    held, against = np.concatenate(held), np.concatenate(against)
    if not len(held):
        raise CondgenError(
            f"No {attributes[k].name} that the model paints is in both training and test images of {test.name}; there "
            "is nothing to hold its images against. Look at them with `condgen data check`."
        )
    return Exam(train, test, targets, {"overall": np.arange(len(targets))}, held, against)


def aligned(data: LabelledImages, attributes: Sequence[Attribute]) -> LabelledImages:
    """The same images with codes for these attributes; a value that they do not have becomes unknown.

    Raises:
        CondgenError: the data says nothing of one of them.
    """
    if data.attributes == tuple(attributes):
        return data
    own = {attribute.name: k for k, attribute in enumerate(data.attributes)}
    if missing := [attribute.name for attribute in attributes if attribute.name not in own]:
        raise CondgenError(
            f"{data.name} tells {', '.join(own) or 'nothing'} of its images, but the model paints by "
            f"{', '.join(missing)}. Judge it on images that are labelled as its training images were."
        )
    targets = [_recoded(data.targets[:, own[f.name]], data.attributes[own[f.name]], f) for f in attributes]
    return replace(data, attributes=tuple(attributes), targets=np.stack(targets, 1).astype(np.float32))


def _recoded(targets: np.ndarray, own: Attribute, wanted: Attribute) -> np.ndarray:
    if not wanted.values:
        return (targets * own.sd + own.mean - wanted.mean) / wanted.sd
    place = {name: float(k) for k, name in enumerate(wanted.values)}
    return np.array(
        [math.nan if math.isnan(code) else place.get(own.format_target(code), math.nan) for code in targets]
    )


def never_seen(train: LabelledImages, test: LabelledImages, combined: Sequence[str] = ()) -> np.ndarray:
    """bool (N,): whether no training image has the values of a test image, all of them together.

    Args:
        train, test: with the same attributes. What is unknown of an image is a value like any other.
        combined: names of the attributes to look at; by default all that have values.

    Raises:
        CondgenError: there is no such attribute, or it has no values.
    """
    names = [attribute.name for attribute in train.attributes if attribute.values]
    if wrong := [name for name in combined if name not in names]:
        raise CondgenError(f"{', '.join(wrong)} cannot be part of a combination; there are {', '.join(names)}.")
    own = [k for k, attribute in enumerate(train.attributes) if attribute.name in (combined or names)]
    there = {tuple(row) for row in np.nan_to_num(train.targets[:, own], nan=-1).tolist()}
    return np.array([tuple(row) not in there for row in np.nan_to_num(test.targets[:, own], nan=-1).tolist()], bool)


def said(attributes: Sequence[Attribute], targets: np.ndarray) -> dict[str, object]:
    """A row of codes as it is asked of a model: names of values, and numbers; what is unknown is not named."""
    known = [(attribute, float(code)) for attribute, code in zip(attributes, targets) if not math.isnan(code)]
    return {f.name: f.values[int(code)] if f.values else code * f.sd + f.mean for f, code in known}


def like(targets: np.ndarray, wanted: np.ndarray, judged: list[int], rng: np.random.Generator) -> np.ndarray:
    """Rows of `targets`, as many as are wanted, or all: of one attribute as many of every value, of several any."""
    order = rng.permutation(len(targets))
    if len(judged) > 1:
        return order[: len(wanted)]
    own, asked = targets[order, judged[0]], wanted[:, judged[0]]
    return np.concatenate([order[own == value][: (asked == value).sum()] for value in np.unique(asked)])
