"""The conditions that a class-to-image model is evaluated on, and the real images to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages


@dataclass(frozen=True)
class Protocol:
    """The conditions that images are generated for, equal for every seed.

    Args:
        train, test: real images, with targets for the attributes of the model.
        targets: float32 (N, A), the condition of every generated image; NaN where an attribute is not given.
        groups: name -> int64 rows of `targets` whose accuracy is reported under that name.
        compared: int64 (K,), the rows that are compared with test images.
        reference: int64 (K,), rows of these test images: as many of every class as in `compared`.
    """

    train: LabelledImages
    test: LabelledImages
    targets: np.ndarray
    groups: dict[str, np.ndarray]
    compared: np.ndarray
    reference: np.ndarray

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self.test.attributes

    @property
    def categorical(self) -> list[int]:
        """Indices of the attributes that have values."""
        return [k for k, attribute in enumerate(self.attributes) if attribute.values]

    def real_rows(self, seed: int) -> np.ndarray:
        """Rows of training images with the number and classes of the compared images."""
        rng = np.random.default_rng((seed, 3))
        return matching_rows(self.train.targets, self.targets[self.compared], self.categorical, rng)

    def caption(self, i: int) -> str:
        """The condition of an image in words."""
        known = [(a, target) for a, target in zip(self.attributes, self.targets[i]) if not math.isnan(target)]
        return ", ".join(attribute.format_target(target) for attribute, target in known)


def make_protocol(
    attributes: Sequence[Attribute], train: LabelledImages, test: LabelledImages, per_label: int,
    combined: Sequence[str] = (),
) -> Protocol:  # fmt: skip
    """Builds the protocol: every class where one attribute has values, else the targets of test images.

    Args:
        attributes: attributes of the model.
        train, test, per_label, combined: see `class_to_image.evaluate_on`.

    Raises:
        CondgenError: the data lacks an attribute of the model, or there is nothing to evaluate by.
    """
    attributes = tuple(attributes)
    train, test = aligned(train, attributes), aligned(test, attributes)
    categorical = [k for k, attribute in enumerate(attributes) if attribute.values]
    if not categorical:
        names = ", ".join(attribute.name for attribute in attributes)
        raise CondgenError(f"The model is conditioned on {names}: numbers alone, no classes or attributes to evaluate.")
    first = attributes[categorical[0]]
    if combined and len(categorical) == 1:
        raise CondgenError(f"The model is conditioned on {first.name} alone; there are no combinations.")
    rng = np.random.default_rng(0)
    if len(categorical) > 1:
        unseen = unseen_combinations(train, test, combined)
        groups = {}
        for name, rows in (("seen", np.flatnonzero(~unseen)), ("unseen", np.flatnonzero(unseen))):
            if len(rows):
                groups[name] = rng.permutation(rows)[: 10 * per_label]
        reference = np.concatenate(list(groups.values()))
        starts = np.cumsum([0, *(len(rows) for rows in groups.values())])
        groups = {name: np.arange(a, b) for name, a, b in zip(groups, starts[:-1], starts[1:])}
        return Protocol(train, test, test.targets[reference], groups, np.arange(len(reference)), reference)
    k = categorical[0]
    targets = np.full((per_label * first.cardinality, len(attributes)), np.nan, np.float32)
    targets[:, k] = np.repeat(np.arange(first.cardinality), per_label)
    compared, reference = [], []
    for value in range(first.cardinality):
        there = [np.flatnonzero(data.targets[:, k] == value) for data in (train, test)]
        n = min(per_label, *(len(rows) for rows in there))
        compared.append(value * per_label + np.arange(n))
        reference.append(rng.permutation(there[1])[:n])
    compared, reference = np.concatenate(compared), np.concatenate(reference)
    if not len(compared):
        raise CondgenError(
            f"No {first.name} of the model is in both training and test images of {test.name}; there is nothing to "
            "compare with. Inspect the data with `condgen data check`."
        )
    return Protocol(train, test, targets, {"overall": np.arange(len(targets))}, compared, reference)


def aligned(data: LabelledImages, attributes: Sequence[Attribute]) -> LabelledImages:
    """The images with targets for these attributes; a value that an attribute does not have becomes unknown.

    Raises:
        CondgenError: the data lacks one of them.
    """
    if data.attributes == tuple(attributes):
        return data
    there = {attribute.name: k for k, attribute in enumerate(data.attributes)}
    if missing := [attribute.name for attribute in attributes if attribute.name not in there]:
        raise CondgenError(
            f"{data.name} has the attributes {', '.join(there) or 'none'}, but the model is conditioned on "
            f"{', '.join(missing)}. Evaluate it on images that are labelled as its training images were."
        )
    targets = [_recoded(data.targets[:, there[a.name]], data.attributes[there[a.name]], a) for a in attributes]
    return replace(data, attributes=tuple(attributes), targets=np.stack(targets, 1).astype(np.float32))


def _recoded(targets: np.ndarray, old: Attribute, new: Attribute) -> np.ndarray:
    if not new.values:
        return (targets * old.sd + old.mean - new.mean) / new.sd
    place = {name: float(k) for k, name in enumerate(new.values)}
    return np.array(
        [math.nan if math.isnan(target) else place.get(old.format_target(target), math.nan) for target in targets]
    )


def unseen_combinations(train: LabelledImages, test: LabelledImages, combined: Sequence[str] = ()) -> np.ndarray:
    """bool (N,), true for test images whose combination of values occurs in no training image.

    Args:
        train, test: with the same attributes. An unknown value counts as a value.
        combined: names of the attributes that make up a combination; by default all that have values.

    Raises:
        CondgenError: there is no such attribute, or it has no values.
    """
    names = [attribute.name for attribute in train.attributes if attribute.values]
    if wrong := [name for name in combined if name not in names]:
        raise CondgenError(f"{', '.join(wrong)} cannot be part of a combination; there are {', '.join(names)}.")
    columns = [k for k, attribute in enumerate(train.attributes) if attribute.name in (combined or names)]
    rows_of = (map(tuple, np.nan_to_num(data.targets[:, columns], nan=-1).tolist()) for data in (train, test))
    there = set(next(rows_of))
    return np.array([row not in there for row in next(rows_of)], bool)


def condition_of(attributes: Sequence[Attribute], targets: np.ndarray) -> dict[str, object]:
    """Converts a row of targets to a condition: names of values, and numbers; unknown ones are omitted."""
    known = [(attribute, float(target)) for attribute, target in zip(attributes, targets) if not math.isnan(target)]
    return {a.name: a.values[int(target)] if a.values else target * a.sd + a.mean for a, target in known}


def matching_rows(
    targets: np.ndarray, wanted: np.ndarray, categorical: list[int], rng: np.random.Generator
) -> np.ndarray:
    """Random rows of `targets`, `wanted` or all; with one attribute, equally many of every value."""
    order = rng.permutation(len(targets))
    if len(categorical) > 1:
        return order[: len(wanted)]
    values, asked = targets[order, categorical[0]], wanted[:, categorical[0]]
    return np.concatenate([order[values == value][: (asked == value).sum()] for value in np.unique(asked)])
