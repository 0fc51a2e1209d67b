"""The side door in use: labels and attributes -> image, without an encoder of words.

model = ClassToImage.load("runs/fashion/model")
for painting in model.sample({"label": "Sneaker"}, n=4, seed=7):
    painting.save("out")
"""

from __future__ import annotations

import difflib
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from condgen.data.datasets.labels import coded
from condgen.files.images import GeneratedImage
from condgen.files.registry import INDEX, LABELS
from condgen.files.weights import load_part, save_part
from condgen.pipelines.base import (
    DECODERS,
    Progress,
    generator,
    index_of,
    kind_of,
    model_id_of,
    seeds_from,
    to_pil,
    write_index,
)

Wanted = Mapping[str, object]
"""What is asked of an image: {"label": "Sneaker"}, {"smiling": 1, "age": 30}; the other attributes stay open."""


WEAK = "decoder_weak"
"""Folder of the weak version of a decoder."""


class ClassToImage:
    """A decoder, and the attributes that its codes stand for.

    Args:
        decoder: paints conditions of codes; its config says how many values each attribute has.
        attributes: in the order of the codes.
        about: what `model_index.json` says beyond the decoder and the attributes.
        model_id: sixteen hex digits that name the weights.

    Raises:
        CondgenError: the decoder was trained on other attributes.
    """

    TASK = "unconditional-image-generation"  # hubs know no task nearer to it
    TAGS = ("label-to-image", "class-conditional")

    path: Path | None = None
    """The folder that it was read from."""

    def __init__(
        self, decoder: Decoder, attributes: Sequence[Attribute], about: dict | None = None, model_id: str = ""
    ):
        self.decoder, self.attributes, self.about, self.model_id = decoder, tuple(attributes), about or {}, model_id
        levels = tuple(attribute.cardinality for attribute in self.attributes)
        if not levels or tuple(decoder.spec.cardinalities) != levels:
            told = ", ".join(f"{attribute.name}: {attribute.cardinality}" for attribute in self.attributes) or "none"
            raise CondgenError(
                f"The decoder reads attributes of {list(decoder.spec.cardinalities)} values (0 for a number), "
                f"the model names {told}. The folder mixes two models; export it again."
            )
        decoder.eval()

    @property
    def name(self) -> str:
        return self.about.get("name", "model")

    @property
    def stack(self) -> str:
        """What it is made of, for its card."""
        return f"A decoder ({kind_of(self.decoder)}) conditioned on {', '.join(a.name for a in self.attributes)},"

    @property
    def size(self) -> int:
        """Edge of the images."""
        return self.decoder.spec.size

    @property
    def image_channels(self) -> int:
        """Channels of the images, 1 or 3."""
        return self.decoder.spec.image_channels

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        """Every option of the decoder."""
        return self.decoder.sampling_options

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their codes.

        Raises:
            CondgenError: this model paints from attributes alone.
        """
        return self.attribute(LABEL).values

    @property
    def known_attributes(self) -> str:
        """Every attribute with what it can be, for people."""
        return "; ".join(f"{attribute.name} ({span(attribute)})" for attribute in self.attributes)

    @property
    def device(self) -> torch.device:
        return next(self.decoder.parameters()).device

    def to(self, device: torch.device | str) -> ClassToImage:
        """Moves the decoder."""
        self.decoder.to(device)
        if self.weak is not None:
            self.weak.to(device)
        return self

    @property
    def weak(self) -> nn.Module | None:
        """The weak version of the decoder to guide by, where there is one."""
        return getattr(self.decoder, "weak", None)

    def attribute(self, name: object) -> Attribute:
        """An attribute by its name; `CondgenError` names the nearest, and what there is."""
        by_name = {attribute.name: attribute for attribute in self.attributes}
        if name in by_name:
            return by_name[name]
        close = difflib.get_close_matches(str(name), by_name, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise CondgenError(f"This model knows nothing of {short(name)}.{hint} It knows {self.known_attributes}.")

    def read(self, wanted: Wanted | str) -> dict[str, str | float]:
        """What is wanted in the model's own words and order: names of values, numbers. A mere text is a label.

        Numbers outside of what training saw are warned of.

        Raises:
            CondgenError: an unknown attribute or value, or a value of the wrong kind.
        """
        if isinstance(wanted, str):
            wanted = {LABEL: wanted}
        if not isinstance(wanted, Mapping):
            raise CondgenError(f"What is wanted must be a label or names with values, got {short(wanted)}.")
        asked = {name: (self.attribute(name), value) for name, value in wanted.items()}
        told: dict[str, str | float] = {}
        for attribute in self.attributes:
            if attribute.name in asked:
                value = asked[attribute.name][1]
                code = attribute.encode(value)
                told[attribute.name] = attribute.format_target(code) if attribute.values else float(value)  # type: ignore[arg-type]
                if not attribute.values and not _within(attribute, told[attribute.name]):
                    text = f"The model saw {attribute.name} from {attribute.low:g} to {attribute.high:g}, not {value}."
                    warnings.warn(text, CondgenWarning, stacklevel=3)
        return told

    def condition(self, wanted: Sequence[Wanted | str]) -> Batch:
        """Wishes as codes, see `data.labelled.coded`; errors and warnings as in `read`."""
        targets = np.full((len(wanted), len(self.attributes)), math.nan, dtype=np.float32)
        for row, one in zip(targets, wanted):
            told = self.read(one)
            for place, attribute in enumerate(self.attributes):
                if attribute.name in told:
                    row[place] = attribute.encode(told[attribute.name])
        return {name: value.to(self.device) for name, value in coded(targets).items()}

    def generate_batch(
        self, wanted: Sequence[Wanted | str], seeds: Sequence[int], **options: float
    ) -> Iterator[Progress]:
        """Paints wish i with seed i in one batch; yields after every step.

        Image i draws its noise from seed i alone, but sums of a batch of another size may be rounded otherwise: the
        same image, to within the last bits.
        """
        options = check_options(self.sampling_options, options)
        if isinstance(wanted, str | Mapping) or len(wanted) != len(seeds) or not len(seeds):
            raise CondgenError(f"There must be a wish for every seed: got {short(wanted)} for {len(seeds)} seeds.")
        rng = [generator(seed) for seed in seeds]
        steps = int(options.get("steps", 1))
        for step, images in enumerate(self.decoder.sample(self.condition(wanted), rng, **options), 1):
            yield Progress(min(step, steps), steps, images)

    def sample(
        self, wanted: Wanted | str | Iterable[Wanted | str], n: int = 1, seed: int = 0, **options: float
    ) -> Iterator[GeneratedImage]:
        """Paints every wish n times; image i has seed `seed + i`.

        Each image is painted alone, so that its bytes depend on nothing but the wish, seed, options and weights.
        """
        conditions = [self.read(one) for one in ([wanted] if isinstance(wanted, str | Mapping) else wanted)]
        if not conditions:
            raise CondgenError(f"Nothing is asked for. This model knows {self.known_attributes}.")
        seeds = seeds_from(seed, n)
        options = check_options(self.sampling_options, options)
        for condition in conditions:
            for own in seeds:
                *_, (_, generated) = self.generate_steps(condition, own, **options)
                yield generated

    def generate_steps(
        self, wanted: Wanted | str, seed: int, **options: float
    ) -> Iterator[tuple[Progress, GeneratedImage | None]]:
        """Paints one image and yields every step; the last comes with the finished painting."""
        began = time.perf_counter()
        options = check_options(self.sampling_options, options)
        for progress in self.generate_batch([wanted], [seed], **options):
            yield progress, None
        ms = (time.perf_counter() - began) * 1000
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CondgenWarning)
            labels = self.read(wanted)
        recipe = {"labels": labels, "seed": seed, **recorded_options(self.sampling_options, options)}
        recipe |= {"size": self.size, "model": self.name, "model_id": self.model_id}
        yield progress, GeneratedImage(to_pil(progress.images)[0], recipe, None, ms)

    def save(self, folder: Path | str, card: str = "", half: bool = True) -> None:
        """Writes the model directory.

        Args:
            folder: made if missing.
            card: text of the model card, `README.md`.
            half: store the decoder with 16 bits; it is computed with 32.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_part(self.decoder, folder / "decoder", half)
        if self.weak is not None:
            save_part(self.weak, folder / WEAK, half)
        head = {
            "decoder": kind_of(self.decoder),
            "weak": self.weak is not None,
            "attributes": [_written(attribute) for attribute in self.attributes],
        }
        write_index(folder, LABELS, head, {"size": self.size, "image_channels": self.image_channels} | self.about, card)

    @classmethod
    def load(cls, folder: Path | str) -> ClassToImage:
        """Reads a model directory, without network and without pickle.

        Raises:
            CondgenError: something is missing, damaged or of another kind; the message names the file.
        """
        folder = Path(folder)
        index = read_index(folder)
        parts = {name: load_part(kind, folder / name) for name, kind in parts_of(index).items()}
        if WEAK in parts:
            parts["decoder"].guide_by(parts[WEAK])
        model = cls(
            parts["decoder"],
            factors_of(index, folder / INDEX),
            about={
                k: v for k, v in index.items() if k not in ("_class_name", "format", "decoder", "weak", "attributes")
            },
            model_id=model_id_of(folder),
        )
        model.path = folder
        return model


def _within(attribute: Attribute, number: float) -> bool:
    """Whether training saw numbers like this one; a hundredth of the range beyond is no news."""
    slack = (attribute.high - attribute.low) / 100
    return attribute.low - slack <= number <= attribute.high + slack


def span(attribute: Attribute, most: int = 20) -> str:
    """What an attribute can be, for people: its values, or the range of its numbers."""
    if attribute.values:
        return ", ".join(attribute.values[:most]) + (
            f", ... {attribute.cardinality} in all" if attribute.cardinality > most else ""
        )
    return f"{attribute.low:g} to {attribute.high:g}" if math.isfinite(attribute.low + attribute.high) else "a number"


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json`; `CondgenError` when it is missing or not of this kind."""
    index = index_of(folder, LABELS)
    factors_of(index, folder / INDEX)
    return index


def parts_of(index: dict[str, Any]) -> dict[str, type[nn.Module]]:
    """Folder -> class of every part with weights that an index names."""
    own = DECODERS[index.get("decoder", "diffusion")]
    return {"decoder": own} | ({WEAK: own} if index.get("weak") is True else {})


def factors_of(index: dict[str, Any], path: Path) -> tuple[Attribute, ...]:
    """The attributes that an index describes; `CondgenError` names `path` and the first that is none."""
    described = index.get("attributes")
    if not isinstance(described, list) or not described:
        raise CondgenError(f"{path} describes no attributes, got {short(described)}. Copy or export the model again.")
    attributes = tuple(_factor(one, path) for one in described)
    if len({attribute.name for attribute in attributes}) < len(attributes):
        told = ", ".join(attribute.name for attribute in attributes)
        raise CondgenError(f"{path} describes two attributes of one name ({told}). Copy or export the model again.")
    return attributes


def _written(attribute: Attribute) -> dict[str, Any]:
    """An attribute as JSON, which knows no infinity: a range that nobody knows is null."""
    limits = {"low": attribute.low, "high": attribute.high}
    numbers = {"mean": attribute.mean, "sd": attribute.sd} | {
        k: v if math.isfinite(v) else None for k, v in limits.items()
    }
    return {"name": attribute.name, "values": list(attribute.values)} | numbers


def _factor(described: object, path: Path) -> Attribute:
    """What `_written` wrote."""
    try:
        known = {key: value for key, value in described.items() if value is not None}  # type: ignore[attr-defined]
        attribute = Attribute(**known | {"values": tuple(known["values"])})
        texts = (attribute.name, *attribute.values)
        numbers = (attribute.mean, attribute.sd, attribute.low, attribute.high)
        sound = isinstance(known["values"], list) and all(isinstance(text, str) and text for text in texts)
        sound = (
            sound
            and len(set(attribute.values)) == attribute.cardinality
            and all(type(n) in (int, float) for n in numbers)
        )
        if (
            not sound
            or not math.isfinite(attribute.mean)
            or not 0 < attribute.sd < math.inf
            or not attribute.low <= attribute.high
        ):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        told = short(described)
        raise CondgenError(f"{path} describes an attribute as {told}. Copy or export the model again.") from None
    return attribute
