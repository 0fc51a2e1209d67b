"""Class- and attribute-conditional generation: labels and attributes -> image, without a text encoder.

model = ClassToImage.load("runs/fashion/model")
for generated in model.sample({"label": "Sneaker"}, n=4, seed=7):
    generated.save("out")
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from condgen.contracts import (
    Batch,
    CondgenError,
    CondgenWarning,
    Decoder,
    SamplingOption,
    check_options,
    recorded_options,
    short,
)
from condgen.data.attributes import LABEL, Attribute
from condgen.data.batches.labels import condition_of
from condgen.decoders import DECODERS
from condgen.files.images import GeneratedImage
from condgen.files.registry import INDEX
from condgen.files.weights import config_from
from condgen.pipelines.base import Progress, generator, network_of, numbered, seeds_from
from condgen.pipelines.generation import GenerationPipeline

Condition = Mapping[str, object]
"""Values by attribute: {"label": "Sneaker"}, {"smiling": 1, "age": 30}; other attributes are unspecified."""
WEAK = "decoder_weak"
"""Folder of the weak version of a decoder, for autoguidance."""


class ClassToImage(GenerationPipeline):
    """A decoder and the attributes that it is conditioned on.

    Args:
        decoder: a decoder whose spec gives the number of values of each attribute.
        attributes: in the order of the decoder's spec.
        about, model_id: see `Pipeline`.

    Raises:
        CondgenError: the decoder was trained on other attributes.
    """

    hub_task = "unconditional-image-generation"  # the closest task of the hub
    tags = ("label-to-image", "class-conditional")
    described = ("decoder", "weak", "attributes")
    half_parts = ("decoder",)

    def __init__(
        self, decoder: Decoder, attributes: Sequence[Attribute], about: dict | None = None, model_id: str = ""
    ):
        self.decoder, self.attributes = decoder, tuple(attributes)
        cardinalities = tuple(attribute.cardinality for attribute in self.attributes)
        if not cardinalities or tuple(decoder.spec.cardinalities) != cardinalities:
            listing = ", ".join(f"{attribute.name}: {attribute.cardinality}" for attribute in self.attributes) or "none"
            raise CondgenError(
                f"The decoder reads attributes of {list(decoder.spec.cardinalities)} values (0 for a number), the "
                f"model names {listing}. The folder mixes two models; export it again."
            )
        weak = {WEAK: self.weak} if self.weak is not None else {}
        super().__init__(decoder, {"decoder": decoder} | weak, about, model_id)

    @property
    def stack(self) -> str:  # type: ignore[override]
        names = ", ".join(attribute.name for attribute in self.attributes)
        return f"A {DECODERS.name_of(self.decoder)} decoder conditioned on {names},"

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        """Options of the decoder."""
        return self.decoder.sampling_options

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices.

        Raises:
            CondgenError: this model has attributes but no label.
        """
        return self.attribute(LABEL).values

    @property
    def attribute_summary(self) -> str:
        """All attributes with their values or ranges, in one line."""
        return "; ".join(f"{attribute.name} ({values_text(attribute)})" for attribute in self.attributes)

    @property
    def weak(self) -> nn.Module | None:
        """The weak version of the decoder for autoguidance, or None."""
        return getattr(self.decoder, "weak", None)

    def attribute(self, name: object) -> Attribute:
        """An attribute by name; for an unknown name, `CondgenError` lists the attributes."""
        by_name = {attribute.name: attribute for attribute in self.attributes}
        if name in by_name:
            return by_name[name]
        close = difflib.get_close_matches(str(name), by_name, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise CondgenError(
            f"This model has no attribute {short(name)}.{hint} Its attributes are {self.attribute_summary}."
        )

    def resolve(self, condition: Condition | str) -> dict[str, str | float]:
        """Converts a condition to the model's spelling and order of attributes; a string is a label.

        Warns of numbers outside the range of the training data.

        Raises:
            CondgenError: an attribute or value is unknown, or a value has the wrong type.
        """
        if isinstance(condition, str):
            condition = {LABEL: condition}
        if not isinstance(condition, Mapping):
            raise CondgenError(f"A condition must be a label or a dict of attributes, got {short(condition)}.")
        for name in condition:
            self.attribute(name)
        values: dict[str, str | float] = {}
        for attribute in self.attributes:
            if attribute.name not in condition:
                continue
            value = condition[attribute.name]
            target = attribute.encode(value)
            if attribute.values:
                values[attribute.name] = attribute.format_target(target)
                continue
            values[attribute.name] = number = float(value)  # type: ignore[arg-type]
            slack = (attribute.high - attribute.low) / 100
            if not attribute.low - slack <= number <= attribute.high + slack:
                text = f"The model saw {attribute.name} from {attribute.low:g} to {attribute.high:g}, not {value}."
                warnings.warn(text, CondgenWarning, stacklevel=3)
        return values

    def cond_batch(self, conditions: Sequence[Condition | str]) -> Batch:
        """Encodes conditions as a batch for the decoder; errors and warnings as in `resolve`."""
        targets = np.full((len(conditions), len(self.attributes)), math.nan, dtype=np.float32)
        for row, condition in zip(targets, conditions):
            values = self.resolve(condition)
            for column, attribute in enumerate(self.attributes):
                if attribute.name in values:
                    row[column] = attribute.encode(values[attribute.name])
        return {name: value.to(self.device) for name, value in condition_of(targets).items()}

    def generate_batch(
        self, conditions: Sequence[Condition | str], seeds: Sequence[int], **options: float
    ) -> Iterator[Progress]:
        """Generates condition i with seed i, all in one batch; yields after every step.

        Image i draws its noise from seed i alone. Its last bits may depend on the size of the batch, because sums are
        rounded differently.
        """
        options = check_options(self.sampling_options, options)
        if isinstance(conditions, str | Mapping) or len(conditions) != len(seeds) or not len(seeds):
            raise CondgenError(f"Expected one condition per seed: got {short(conditions)} for {len(seeds)} seeds.")
        rng = [generator(seed) for seed in seeds]
        yield from numbered(self.decoder.sample(self.cond_batch(conditions), rng, **options), options)

    def sample(
        self, conditions: Condition | str | Iterable[Condition | str], n: int = 1, seed: int = 0, **options: float
    ) -> Iterator[GeneratedImage]:
        """Generates n images of every condition; image i has seed `seed + i`.

        They are generated in batches; on a CPU, the bytes of a small image depend on condition, seed,
        options and weights alone.
        """
        one = isinstance(conditions, str | Mapping)
        resolved = [self.resolve(condition) for condition in ([conditions] if one else conditions)]
        if not resolved:
            raise CondgenError(f"There is no condition. The attributes of this model are {self.attribute_summary}.")
        seeds = seeds_from(seed, n)
        yield from self._in_batches(resolved, seeds, **check_options(self.sampling_options, options))

    def _facts(self, conditions, seeds, images, **options: float):
        recorded = recorded_options(self.sampling_options, check_options(self.sampling_options, options))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CondgenWarning)
            labels = [self.resolve(condition) for condition in conditions]
        return [({"labels": label, "seed": seed} | recorded, None) for label, seed in zip(labels, seeds, strict=True)]

    def _options_of(self, recipe: dict[str, Any]) -> tuple[SamplingOption, ...]:
        return self.sampling_options

    def _generate_from(self, recipe: dict[str, Any], options: dict[str, float]) -> Iterator[GeneratedImage]:
        return self._again(self.resolve(recipe["labels"]), recipe, **options)

    def part_fields(self) -> dict[str, Any]:
        return {
            "decoder": DECODERS.name_of(self.decoder),
            "weak": self.weak is not None,
            "attributes": [_to_json(attribute) for attribute in self.attributes],
            "size": self.size,
            "image_channels": self.image_channels,
        }

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        attributes_of(index, path)
        decoder = network_of(DECODERS, index, "decoder", path, "diffusion")
        return {"decoder": decoder} | ({WEAK: decoder} if index.get("weak") is True else {})

    @classmethod
    def _arguments(cls, index, parts) -> dict[str, Any]:
        if WEAK in parts:
            parts["decoder"].guide_by(parts[WEAK])
        return {"decoder": parts["decoder"], "attributes": attributes_of(index)}

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        spec = modules["decoder"].spec
        attributes = {one.name: values_text(one, most=100) for one in attributes_of(index, folder / INDEX)}
        return {"size": spec.size, "attributes": attributes, "image_channels": spec.image_channels}


def values_text(attribute: Attribute, most: int = 20) -> str:
    """At most `most` values of an attribute, or the range of its numbers."""
    if attribute.values:
        more = f", ... {attribute.cardinality} in all" if attribute.cardinality > most else ""
        return ", ".join(attribute.values[:most]) + more
    known = math.isfinite(attribute.low + attribute.high)
    return f"{attribute.low:g} to {attribute.high:g}" if known else "a number"


def attributes_of(index: dict[str, Any], path: Path = Path(INDEX)) -> tuple[Attribute, ...]:
    """The attributes that an index describes; `CondgenError` names `path` and the first damaged one."""
    described = index.get("attributes")
    if not isinstance(described, list) or not described:
        raise CondgenError(f"{path} describes no attributes, got {short(described)}. Copy or export the model again.")
    attributes = tuple(_from_json(one, path) for one in described)
    if len({attribute.name for attribute in attributes}) < len(attributes):
        names = ", ".join(attribute.name for attribute in attributes)
        raise CondgenError(f"{path} describes two attributes of one name ({names}). Copy or export the model again.")
    return attributes


def _to_json(attribute: Attribute) -> dict[str, Any]:
    """Converts an attribute to JSON; an infinite limit becomes null."""
    return {name: None if value in (-math.inf, math.inf) else value for name, value in asdict(attribute).items()}


def _from_json(described: object, path: Path) -> Attribute:
    """The inverse of `_to_json`; `CondgenError` names `path`."""
    try:
        known = {name: value for name, value in described.items() if value is not None}  # type: ignore[attr-defined]
        attribute = config_from(Attribute, {"values": None} | known, path)
        texts = (attribute.name, *attribute.values)
        valid = all(texts) and len(set(attribute.values)) == attribute.cardinality and math.isfinite(attribute.mean)
        if valid and 0 < attribute.sd < math.inf and attribute.low <= attribute.high:
            return attribute
    except (AttributeError, CondgenError):
        pass
    raise CondgenError(f"{path} describes an attribute as {short(described)}. Copy or export the model again.")
