"""Operations on images in the studio, without the web page: plans of checked images, see `editing_run.carry_out`.

plan = plan_variations(editor_of(model), read(model, "cat.png"), strength=0.5, count=4, seed=7)
"""

from __future__ import annotations

import re
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from condgen.contracts import CondgenError, CondgenWarning, short
from condgen.pipelines.base import Pipeline
from condgen.pipelines.editing.base import Editor, End, InputImage, Operation
from condgen.pipelines.editing.edit import METHODS, Edit, edits, tries
from condgen.pipelines.editing.inversion import STEPS, Invert
from condgen.pipelines.editing.mix import guidance_of, mixture, path_between
from condgen.pipelines.editing.probe import (
    Components,
    drawn_embeds,
    known_prompts,
    reconstructions_of,
)
from condgen.pipelines.editing.vary import STRENGTH, WITH_WORDS, Vary, guidance_at
from condgen.pipelines.generation import EmbeddingPipeline
from condgen.studio.session import (
    BUSY,
    MAX_IMAGES,
    RANDOM_SEEDS,
    SEEDS,
    check_integer,
    check_number,
    check_text,
)
from condgen.studio.studio import without_folders

BETWEEN = (3, 15)
"""Images of a strip between two ends."""
ENDS = 4
"""Ends of a mixture on the page."""
TRIED = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Values of a slider that are tried side by side."""
THETAS = {name: method.theta for name, method in METHODS.items()}
"""Method of a change -> its usual theta."""
MOST_STEPS = 100
"""Steps of an inversion, at most."""


@dataclass(frozen=True)
class Piece:
    """One image of a plan.

    Args:
        operation: what it is decoded from.
        seed: its seed.
        caption: the text under it.
        options: sampling options that differ from the defaults of the operation.
        tries: the operations among whose images the best is kept, see `edit.kept`; () for `operation` alone.
    """

    operation: Operation
    seed: int
    caption: str
    options: Mapping[str, float]
    tries: tuple[Operation, ...] = ()

    @property
    def operations(self) -> tuple[Operation, ...]:
        return self.tries or (self.operation,)


@dataclass(frozen=True)
class Plan:
    """Checked images to make.

    Args:
        editor: makes them.
        pieces: the images in their order.
        moves: whether they are the frames of an animation.
        inverts: the image whose reconstruction is asked for.
        notes: warnings of its words.
    """

    editor: Editor
    pieces: tuple[Piece, ...]
    moves: bool = False
    inverts: InputImage | None = None
    notes: tuple[str, ...] = ()


# What is asked for ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def editor_of(model: Pipeline) -> Editor:
    """The editor of a model, which keeps the inversions of its last images.

    Raises:
        CondgenError: the model decodes no image embeddings.
    """
    if not isinstance(model, EmbeddingPipeline):
        raise CondgenError(
            f"{model.name} {model.kind().summary}. This needs a model of image embeddings: one that generates images "
            "from text, or from embeddings that a prior draws."
        )
    return Editor(model)


def read(model: EmbeddingPipeline, path: Path) -> InputImage:
    """An image file as a model reads it; its name is without the time that kept images have."""
    with without_folders(path):
        image = InputImage.read(model, path)
    return replace(image, name=re.sub(r"^\d{6}-", "", image.name))


def noted(make: Callable[..., Plan], *args: Any, **options: Any) -> Plan:
    """The plan of `make`, with the warnings that were given while it was made."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CondgenWarning)
        plan = make(*args, **options)
    notes = dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, CondgenWarning))
    return replace(plan, notes=tuple(notes))


def plan_variations(
    editor: Editor, image: InputImage, strength: Any = None, words: Any = "", count: Any = 4, seed: Any = -1,
    options: Any = None,
) -> Plan:  # fmt: skip
    """Variations of an image; a strength of None is the default, several strengths have one image each.

    Raises:
        CondgenError: a value has the wrong type or is out of range, as for all plans.
    """
    words = check_text("The words", words, empty=True)
    each = isinstance(strength, tuple)
    strength = (WITH_WORDS if words else STRENGTH) if strength is None else strength
    seeds, options, pieces = _seeds(seed, 1 if each else count), _numbers(options), []
    for value in strength if each else [strength]:
        check_number("The strength", value)
        operation = Vary(image, value, words)
        operation.check(editor.model)
        own = editor.with_guidance(lambda usual, value=value: guidance_at(value, usual), options)
        pieces += [Piece(operation, one, f"strength {value:g}" if each else f"seed {one}", own) for one in seeds]
    return _checked(editor, pieces)


def plan_between(
    editor: Editor, ends: Sequence[End], count: Any = 8, seed: Any = -1, noise: Any = "slerp", prior: Any = "",
    options: Any = None,
) -> Plan:  # fmt: skip
    """A strip of images between two ends, each words or an image, and an animation of it."""
    count = check_integer("The number of images", count, *BETWEEN)
    ends = _ends(ends)
    if len(ends) == 2 and len({end.png if isinstance(end, InputImage) else end for end in ends}) == 1:
        raise CondgenError("Both ends are the same, so there is nothing between them. Give another end.")
    seeds, path = _seeds(seed, 1), path_between(_mixture(editor, ends, None, noise, prior), count)
    options = _guided(editor, ends, noise, options)
    pieces = [Piece(one, seed, f"{one.weights[1]:.0%}", options) for one in path for seed in seeds]
    return replace(_checked(editor, pieces), moves=True)


def plan_mixture(
    editor: Editor, ends: Sequence[End], weights: Any = None, count: Any = 4, seed: Any = -1, noise: Any = "slerp",
    prior: Any = "", options: Any = None,
) -> Plan:  # fmt: skip
    """Images of one mixture of several ends with weights, by default equal ones."""
    seeds, ends = _seeds(seed, count), _ends(ends)
    made = _mixture(editor, ends, weights, noise, prior)
    options = _guided(editor, ends, noise, options)
    return _checked(editor, [Piece(made, one, f"seed {one}", options) for one in seeds])


def plan_changes(
    editor: Editor, image: InputImage, source: Any, target: Any, theta: Any = None, method: str = "prior-diff",
    noise: Any = None, count: Any = 1, seed: Any = -1, options: Any = None,
) -> Plan:  # fmt: skip
    """Changes in an image of what differs between two sentences, see `editing.edit`.

    Args:
        theta: how far to go; None for the default of the method; several have one image each.
        noise: the level at which generation begins; None tries several and keeps the best image, ten times the work.
        options: sampling options, and `prior`.
    """
    source, target = check_text("The words of the image", source, True), check_text("The new words", target)
    options = dict(options) if isinstance(options, Mapping) else options
    prior = (options.pop("prior", "") if isinstance(options, dict) else "") or None
    options, each = _numbers(options), isinstance(theta, tuple)
    for value in [*(theta if each else [theta]), noise]:
        if value is not None:
            check_number("Theta and the noise level", value)
    seeds, pieces = _seeds(seed, 1 if each else count), []
    for value in theta if each else [theta]:
        operation: Operation = edits(editor.model, image, source, target, value, method, noise, prior)
        group, own = (), options
        if value == 0:
            operation, own = Invert(image), {}
        elif noise is None and isinstance(operation, Edit):
            group = tuple(tries(operation))
        pieces += [Piece(operation, one, f"theta {value:g}" if each else f"seed {one}", own, group) for one in seeds]
    return _checked(editor, pieces)


def plan_reconstruction(editor: Editor, image: InputImage, steps: Any = STEPS) -> Plan:
    """The reconstruction of an image by inversion."""
    steps = check_integer("The number of steps", steps, 1, MOST_STEPS)
    plan = _checked(editor, [Piece(Invert(image), 0, "reconstruction", {"steps": steps})])
    return replace(plan, inverts=image)


def plan_components(editor: Editor, image: InputImage, seed: Any = -1) -> Plan:
    """What 1, 2, 4, ... principal components of the embedding of an image keep of it."""
    (seed,) = _seeds(seed, 1)
    with BUSY, torch.inference_mode():
        components = components_of(editor.model)
        made = reconstructions_of(editor, image, components)
    pieces = []
    for one in made:
        share = components.share[: one.dims].sum().item()
        pieces.append(Piece(one, seed, f"{one.dims} component{'s' * (one.dims > 1)}, {share:.0%}", {}))
    return _checked(editor, pieces)


@lru_cache(maxsize=1)
def components_of(model: EmbeddingPipeline) -> Components:
    """The principal components of embeddings that the prior of a model draws."""
    return Components.fit(drawn_embeds(model, known_prompts(model) if model.reads_text else []))


def _mixture(editor: Editor, ends: Sequence[End], weights: Any, noise: Any, prior: Any):
    if not isinstance(noise, str) or not isinstance(prior, str):
        raise CondgenError(f"Noise and prior are names, got {short((noise, prior))}.")
    for weight in weights if isinstance(weights, list | tuple) else ():
        check_number("A weight", weight)
    known = [*editor.model.priors, "none"] if editor.model.reads_text else [""]
    if prior and prior not in known:
        raise CondgenError(f"The prior must be one of {', '.join(known)}, got {short(prior)}.")
    return mixture(editor.model, ends, weights, noise, prior)


def _ends(ends: Sequence[Any]) -> list[End]:
    return [end if isinstance(end, InputImage) else check_text("An end", end) for end in ends]


def _guided(editor: Editor, ends: Sequence[End], noise: str, options: Any) -> dict[str, float]:
    return editor.with_guidance(lambda own: guidance_of(ends, noise, editor.inverts, own), _numbers(options))


def _seeds(seed: Any, count: Any) -> range:
    """The seeds of `count` images; -1 for a random first one."""
    count = check_integer("The number of images", count, 1, MAX_IMAGES)
    seed = check_integer("The seed", seed, -1, SEEDS - count)
    first = secrets.randbelow(RANDOM_SEEDS) if seed == -1 else seed
    return range(first, first + count)


def _numbers(options: Any) -> dict[str, float]:
    options = {} if options is None else options
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise CondgenError(f"The options must be numbers by name, got {short(options)}.")
    for name, value in options.items():
        check_number(name, value)
    return dict(options)


def _checked(editor: Editor, pieces: Sequence[Piece]) -> Plan:
    for piece in pieces:
        piece.operation.check(editor.model)
        editor.steps_of(piece.operation, dict(piece.options))  # options that are unknown or out of range
    return Plan(editor, tuple(pieces))
