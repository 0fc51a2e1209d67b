"""Operations on images and prompts, and the pipeline that decodes what they ask for.

list(Editor(model).apply([Guide("a red circle", image=InputImage.read(model, "cat.png"))], seeds=[1, 2]))
"""

from __future__ import annotations

import base64
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from condgen.contracts import CondgenError, CondgenWarning, SamplingOption, check_options, recorded_options, short
from condgen.data.batches.base import to_float
from condgen.data.options import ReadOptions
from condgen.data.sources.images import fit, open_image
from condgen.decoders import DECODERS
from condgen.files.images import GeneratedImage, png_bytes
from condgen.nn.layers import one_thread
from condgen.pipelines.base import Progress, generator, numbered
from condgen.pipelines.editing import find_operation
from condgen.pipelines.editing.decoding import Decoding, init_of, negative_of
from condgen.pipelines.generation import EmbeddingPipeline, GenerationPipeline


@dataclass(frozen=True)
class InputImage:
    """An image as a model reads it. Recipes contain its pixels, so that they can be replayed without the file.

    Args:
        name: name of its file.
        png: its pixels, S x S, as a PNG file in base64.
    """

    name: str
    png: str

    @classmethod
    def read(cls, model: EmbeddingPipeline, image: str | os.PathLike[str] | Image.Image | Self) -> Self:
        """Reads an image file, or a PIL image, as the model's training images were read.

        Raises:
            CondgenError: it is no readable image; the message names it.
        """
        if isinstance(image, cls):
            return image
        reading = ReadOptions.stored(model.about.get("reading"))
        name, rgb = open_input(image, reading.value_range)
        pixels = fit(rgb, model.size, reading.resize)
        if model.image_channels == 1:
            pixels = np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))[None]
        shown = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        return cls(name, base64.b64encode(png_bytes(shown)).decode())

    def image(self) -> Image.Image:
        """The pixels as a PIL image; `CondgenError` where they are damaged."""
        try:
            png = base64.b64decode(self.png, validate=True)
        except ValueError:
            raise CondgenError(f"The recipe is damaged: the pixels of {short(self.name)} are not base64.") from None
        return open_image(png, name=f"the image {short(self.name)}")

    def pixels(self, model: EmbeddingPipeline) -> Tensor:
        """(C, S, S) in [-1, 1] on the device of the model.

        Raises:
            CondgenError: it was read for a model of another size.
        """
        image = self.image()
        if image.size != (model.size, model.size):
            raise CondgenError(
                f"The image {self.name} was read at {image.width} x {image.height} pixels, the model generates "
                f"{model.size} x {model.size}: read it for this model."
            )
        array = np.asarray(image).transpose(2, 0, 1)[: model.image_channels]
        return to_float(array.copy()).to(model.device)

    @property
    def stem(self) -> str:
        return Path(self.name).stem


def open_input(image: Any, value_range: tuple[float, ...] = ()) -> tuple[str, Image.Image]:
    """Name and RGB pixels of the path of an image, or of a PIL image; `value_range` as in `open_image`.

    Raises:
        CondgenError: it is neither, or cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        path = Path(image).expanduser()
        return path.name, open_image(path, value_range=value_range)
    if not isinstance(image, Image.Image):
        raise CondgenError(f"Expected the path of an image, or a PIL image, got {short(image)}.")
    try:
        png = png_bytes(image)
    except (OSError, ValueError):
        raise CondgenError(
            f"A PIL image of {image.width} x {image.height} pixels and mode {image.mode} cannot be read: "
            "convert it to RGB, with at least one pixel."
        ) from None
    return "image", open_image(png, value_range=value_range, name="the image")


KEPT = 2**28
"""Bytes of embeddings and noises of input images that are kept, at most."""

End = str | InputImage
"""What an embedding is taken from: a prompt, or an image."""


@dataclass(frozen=True)
class Operation:
    """One operation; the fields of a subclass are prompts, images, numbers, or tuples of them.

    Files that define one end with OPERATION = THE_CLASS and are named in `editing.OPERATIONS`.
    """

    name: ClassVar[str]
    """Its name in recipes."""
    uses_prior: ClassVar[bool] = False
    """Whether it takes the options of the prior named by its field `prior`, '' for the default one."""
    defaults: ClassVar[dict[str, float]] = {}
    """Its own defaults of sampling options."""

    def decoding(self, editor: Editor, rng: torch.Generator, options: dict[str, float]) -> Decoding:
        """What the image of one seed is decoded from.

        Args:
            editor: embeds, predicts and inverts.
            rng: the generator of the seed; the noise of the decoder is drawn from it afterwards.
            options: all sampling options.
        """
        raise NotImplementedError

    def begins_at(self, editor: Editor) -> tuple[InputImage, ...]:
        """The images whose inverted noise it begins at."""
        return ()

    @property
    def title(self) -> str:
        """One line for people, also the beginning of the file name."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """The prompt that the result should fit, '' if there is none."""
        return ""

    def check(self, model: EmbeddingPipeline) -> None:
        """Raises `CondgenError` for a value out of range, or a model that cannot do it."""

    def to_json(self) -> dict[str, Any]:
        """Its fields for a recipe."""
        return {"operation": self.name} | {one.name: _plain(getattr(self, one.name)) for one in fields(self)}


def operation_from(recipe: dict[str, Any]) -> Operation:
    """The operation of a recipe; `CondgenError` where it is unknown or damaged."""
    kind = find_operation(recipe.get("operation"))
    if kind is None:
        raise CondgenError(f"The recipe names the operation {short(recipe.get('operation'))}, which condgen has not.")
    values = {}
    for one in fields(kind):
        if one.name not in recipe and one.default is MISSING:
            raise CondgenError(f"The recipe is damaged: the operation {kind.name} has no {one.name}.")
        if one.name in recipe:
            values[one.name] = _parsed(recipe[one.name])
    return kind(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, InputImage):
        return {"name": value.name, "png": value.png}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _parsed(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"name", "png"} and all(isinstance(text, str) for text in value.values()):
            return InputImage(**value)
        raise CondgenError(f"The recipe is damaged: {short(value)} is no image.")
    return tuple(_parsed(one) for one in value) if isinstance(value, list) else value


class Editor(GenerationPipeline):
    """Generates the images of operations with the parts of a model.

    Args:
        model: a model that decodes image embeddings.
    """

    def __init__(self, model: EmbeddingPipeline):
        super().__init__(model.main, model.modules, model.about, model.model_id)
        self.model, self.path, self.exact = model, model.path, model.exact
        self._kept: dict[Any, Tensor] = {}

    @property
    def default_name(self) -> str:  # type: ignore[override]
        return self.model.default_name

    @property
    def inverts(self) -> bool:
        """Whether sampling can begin at given noise or at an image."""
        return DECODERS.kind_of(self.model.decoder).inverts

    @property
    def upsamplers(self) -> dict[int, nn.Module]:  # type: ignore[override]
        return self.model.upsamplers

    def apply(
        self, operations: Sequence[Operation], seeds: Sequence[int], candidates: int = 1, **options: float
    ) -> Iterator[GeneratedImage]:
        """One image for every operation and seed; the operations are of one kind.

        Args:
            candidates: images of every seed, of which the one nearest to the words is kept, see `reranking`.
            options: sampling options, and `size`, one of `sizes`.

        Raises:
            CondgenError: an option is unknown or out of range, or the model cannot do it.
        """
        for operation in operations:
            operation.check(self.model)
        larger, options = self.enlargement(options.pop("size", None), options)
        self._options(operations[0], options)
        options |= larger.arguments if larger else {}
        if candidates == 1:
            yield from self._in_batches(operations, seeds, **options)
            return
        from condgen.pipelines.reranking import rerank

        yield from rerank(self, operations, [one.words for one in operations], seeds, candidates, **options)

    def generate_batch(
        self, operations: Sequence[Operation], seeds: Sequence[int], size: int | None = None, **options: float
    ) -> Iterator[Progress]:
        """Image i of operation i and seed i, all in one batch; yields after every step.

        What they are decoded from is computed when this is called, one image after the other, so that it does not
        depend on the batch.
        """
        larger, options = self.enlargement(size, options)
        model, options = self.model, self._options(operations[0], options)
        rng = [generator(seed) for seed in seeds]
        with torch.inference_mode(), one_thread() if self.is_exact else nullcontext():
            rows = [one.decoding(self, own, options) for one, own in zip(operations, rng, strict=True)]
            z = torch.stack([row.z for row in rows])
            cond = model.condition(z, [row.prompt for row in rows])
            cond["has_z"] = torch.tensor([row.use_z for row in rows], device=model.device)
            more = negative_of(model, rows)
        of_decoder = {option.name: options[option.name] for option in model.decoder.sampling_options}
        if more and of_decoder.get("guidance") == 1:
            warnings.warn("Guidance 1 is off, so negative words have no effect.", CondgenWarning, stacklevel=2)
        init = init_of(rows)
        more |= {} if init is None else {"init": init}
        frames = numbered(model.decoder.sample(cond, rng, **more, **of_decoder), of_decoder)
        return larger(frames, z, rng) if larger else frames

    def _options(self, operation: Operation, options: dict[str, float]) -> dict[str, float]:
        return check_options(self._declared(operation), options)

    def _declared(self, operation: Operation) -> tuple[SamplingOption, ...]:
        options = self.model.decoder.sampling_options
        if operation.uses_prior:
            options = self.model.sampling_options(getattr(operation, "prior", "") or None)
        own = operation.defaults
        return tuple(replace(one, default=own[one.name]) if one.name in own else one for one in options)

    def with_guidance(self, guidance: Callable[[float], float], options: dict[str, float]) -> dict[str, float]:
        """Options with a guidance that depends on that of the model, unless one is given or the decoder has none."""
        declared = self.model.decoder.sampling_options
        return {one.name: guidance(one.default) for one in declared if one.name == "guidance"} | options

    # For operations ---------------------------------------------------------------------------------------------------

    def z_of(self, end: End, rng: torch.Generator, options: dict[str, float], prior: str = "") -> Tensor:
        """z of an image, or of a prompt as the prior draws it, (D,)."""
        if isinstance(end, InputImage):
            return self._once(("z", end), lambda: self.model.normalizer(self.embed(end)[None])[0])
        known = {option.name for option in self.model.sampling_options(prior or None)}
        of_decoder = {option.name for option in self.model.decoder.sampling_options}
        of_prior = {name: value for name, value in options.items() if name in known - of_decoder}
        text = self.model.embed_text([end])
        return self.model.draw_embed(text, [rng], prior or None, **of_prior)[0]

    def embed(self, image: InputImage) -> Tensor:
        """The unit vector of an image, (D,)."""
        return self._once(("embed", image), lambda: self.model.embed_image(image.pixels(self.model)[None])[0])

    def inverted(self, image: InputImage, steps: int) -> Tensor:
        """The noise of an image, (C, S, S), from which the decoder generates it with the z of the image and no words.

        See `diffusion.inversion`.
        """
        return self._once(("inverted", image, steps), lambda: list(self._inversion(image, steps))[-1])

    def inverting(self, image: InputImage, steps: int) -> Iterator[int]:
        """Inverts an image and yields the number of every step; `inverted` then returns the result at once."""
        states = self._inversion(image, steps)
        last = None
        for step, state in enumerate(states, 1):
            last = state
            yield step
        self._once(("inverted", image, steps), lambda: last)

    def pending(self, operation: Operation, options: dict[str, float]) -> list[tuple[InputImage, int]]:
        """The images, each with a number of steps, that an operation has inverted before its first image begins."""
        steps = int(self._options(operation, options).get("steps", 1))
        return [(one, steps) for one in operation.begins_at(self) if ("inverted", one, steps) not in self._kept]

    def steps_of(self, operation: Operation, options: dict[str, float]) -> int:
        """The number of steps of one image."""
        return int(self._options(operation, options).get("steps", 1))

    def _inversion(self, image: InputImage, steps: int) -> Iterator[Tensor]:
        model, z = self.model, self.z_of(image, generator(0), {})[None]
        frames = model.decoder.invert(image.pixels(model)[None], model.condition(z, [""]), steps)
        yield from (noise[0] for noise in self._exactly(frames, 1))

    def _once(self, key: Any, compute: Callable[[], Tensor]) -> Tensor:
        """What is computed once for all images, with the same bits for every size of the batch."""
        if key not in self._kept:
            if sum(one.nbytes for one in self._kept.values()) > KEPT:
                self._kept.pop(next(iter(self._kept)))
            with one_thread() if self.is_exact else nullcontext(), torch.inference_mode():
                self._kept[key] = compute()
        return self._kept[key]

    # Recipes ----------------------------------------------------------------------------------------------------------

    def _facts(self, operations, seeds, images: Tensor, **options: float):
        declared = self._declared(operations[0])
        recorded = recorded_options(declared, self._options(operations[0], options))
        scores = [self.model.score(image[None], one.words) for image, one in zip(images, operations)]
        return [
            (one.to_json() | {"title": one.title, "seed": seed} | recorded, score)
            for one, seed, score in zip(operations, seeds, scores, strict=True)
        ]

    def replay(self, recipe: dict[str, Any]) -> GeneratedImage:
        self.check_size_of(recipe)
        operation = operation_from(recipe)
        operation.check(self.model)
        declared = (*self._declared(operation), *self.options_of_size(recipe.get("size", self.size)))
        names = {option.name for option in declared}
        options = {name: value for name, value in recipe.items() if name in names}
        return next(self._again(operation, recipe, **options))


def check_inverts(model: EmbeddingPipeline) -> None:
    """Raises `CondgenError` unless the decoder can begin at given noise or at an image."""
    if not Editor(model).inverts:
        kinds = ", ".join(name for name in DECODERS if DECODERS[name].inverts)
        raise CondgenError(
            f"{model.name} has a {DECODERS.name_of(model.decoder)} decoder, which cannot begin at an image or at its "
            f"noise; this needs a decoder of the kind {kinds}."
        )
