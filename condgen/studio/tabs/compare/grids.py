"""What is compared: every cell of a table of images with its settings, checked before the first image is generated.

settings = Settings("scenes32", prompt="a red circle", seed=7)
plan = options_plan(library.open, settings, ("steps", "2, 4, 8"), ("words", "red > blue, green"))
"""

from __future__ import annotations

import re
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from condgen.contracts import CondgenError, CondgenWarning, short
from condgen.pipelines.base import Pipeline
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio.session import (
    EXTRAS,
    MAX_IMAGES,
    RANDOM,
    RANDOM_SEEDS,
    SEEDS,
    Request,
    check,
    check_integer,
    presets_of,
    priors_of,
    sampling_options_of,
)
from condgen.studio.tabs.compare.axes import MAX_MODELS, Axis, axes_of, check_cells, heading, seeds_of

Open = Callable[[str], Pipeline]
"""The loaded model of a name."""


@dataclass(frozen=True)
class Settings:
    """What one image is generated with: plain values, as `session.check` takes them.

    Args:
        size: edge in pixels; None for that of the decoder.
        candidates: None for those of the preset.
    """

    model: str
    prompt: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    prior: str = ""
    preset: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    candidates: int | None = None

    def request(self, open_model: Open) -> tuple[Pipeline, Request]:
        """The model and the checked request; errors as in `session.check`."""
        model = open_model(self.model)
        condition = self.labels if isinstance(model, ClassToImage) else self.prompt
        seed = check_integer("The seed", self.seed, 0, SEEDS - 1)
        options = {**self.options, "size": self.size, "candidates": self.candidates}
        asked = check(model, condition, 1, seed, self.prior, self.preset, options)
        return model, asked


BASE = ("seed", "prior", "preset", "options", "size", "candidates")
"""Fields of `Settings` that have defaults."""


def base_settings(model: str, prompt: Any = "", labels: Any = None, given: Any = None) -> Settings:
    """The settings that the cells have in common; a seed of -1, or none, is a random one.

    Args:
        given: values of BASE by name.

    Raises:
        CondgenError: a value has the wrong type, or a name is unknown.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping) or not set(given) <= set(BASE):
        raise CondgenError(f"The settings must be some of {', '.join(BASE)}, got {short(given)}.")
    options, labels = given.get("options") or {}, {} if labels is None else labels
    if not isinstance(prompt, str) or not isinstance(labels, Mapping) or not isinstance(options, Mapping):
        raise CondgenError("Expected a text as prompt, and labels and options by name.")
    if extra := sorted(set(options) & set(EXTRAS)):
        raise CondgenError(f"{extra[0]} is no sampling option of a comparison; the settings are {', '.join(BASE)}.")
    seed = check_integer("The seed", given.get("seed", RANDOM), -1, SEEDS - 1)
    seed = secrets.randbelow(RANDOM_SEEDS) if seed == RANDOM else seed
    return Settings(model, prompt, **dict(given) | {"labels": dict(labels), "options": dict(options), "seed": seed})


@dataclass(frozen=True)
class Plan:
    """A table of images to generate.

    Args:
        title: what is compared, in a line.
        axes: what the rows and the columns stand for.
        rows, columns: headings.
        cells: (row, column) -> settings.
        notes: what is left out.
    """

    title: str
    axes: tuple[str, str]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: dict[tuple[int, int], Settings]
    notes: tuple[str, ...] = ()


# Plans ----------------------------------------------------------------------------------------------------------------


def options_plan(open_model: Open, base: Settings, x: Any, y: Any = None, models: Sequence[str] = ()) -> Plan:
    """The images of all values of one or two options.

    Args:
        x, y: name of an option and its values, see `Axis.values`; y may be None.
        models: names of models that can be values.

    Raises:
        CondgenError: an option is unknown, a value is wrong, or there are too many; the message names the cell.
    """
    known = axes_of(open_model(base.model), models)
    (x_axis, columns), (y_axis, rows) = _axis(known, x, "X"), _axis(known, y, "Y") if y else (None, [None])
    if y_axis and y_axis.name == x_axis.name:
        raise CondgenError(f"X and Y are both {x_axis.label}. Choose two different options.")
    check_cells(len(columns) * len(rows))
    cells, notes = {}, {}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            values = {x_axis.name: column} | ({y_axis.name: row} if y_axis else {})
            own, note = _adapted(open_model, base, values.get("model", base.model), set(values))
            notes |= dict.fromkeys(note)
            cells[i, j] = _with(own, values)
    titles = x_axis.label, y_axis.label if y_axis else ""
    headings = [tuple(map(heading, values)) for values in (rows, columns)]
    return Plan(" x ".join(filter(None, titles)), titles[::-1], *headings, cells, tuple(notes))


def _axis(known: dict[str, Axis], given: Any, which: str) -> tuple[Axis, list]:
    name, values = given if isinstance(given, list | tuple) and len(given) == 2 else (given, "")
    if not isinstance(name, str) or name not in known:
        raise CondgenError(f"{which} must be one of {', '.join(known)}, got {short(name)}.")
    return known[name], known[name].values(values)


def _with(base: Settings, values: Mapping[str, Any]) -> Settings:
    """Settings with other values of options; words of the prompt are replaced at once."""
    words = {}
    for name, value in values.items():
        if name == "words":
            words[value[0].lower()] = value[1]
        elif name.startswith("labels."):
            base = replace(base, labels=base.labels | {name.removeprefix("labels."): value})
        elif name in ("model", "seed", "prior", "preset", "size", "candidates"):
            base = replace(base, **{name: value})
        else:
            base = replace(base, options=base.options | {name: value})
    return replace(base, prompt=replaced(base.prompt, words)) if words else base


def replaced(prompt: str, words: Mapping[str, str]) -> str:
    """A prompt with whole words replaced, in any case; `CondgenError` for a word that is not in it."""
    longest = sorted(words, key=len, reverse=True)
    for word in longest:
        if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE):
            raise CondgenError(f"The prompt does not contain {short(word)}, so it cannot be replaced.")
    pattern = rf"(?<!\w)({'|'.join(map(re.escape, longest))})(?!\w)"
    return re.sub(pattern, lambda match: words[match[0].lower()], prompt, flags=re.IGNORECASE)


def models_plan(open_model: Open, base: Settings, models: Sequence[str], seeds: Any) -> Plan:
    """One condition over several models, every seed a row.

    Models that cannot read it are left out, and so is what a model does not have of the settings; notes name them.

    Raises:
        CondgenError: no model is left, there are too many, or a value is wrong.
    """
    if not isinstance(models, list | tuple) or not models or not all(isinstance(name, str) for name in models):
        raise CondgenError(f"Choose the models to compare, one to {MAX_MODELS}; got {short(models)}.")
    models = list(dict.fromkeys(models))
    if len(models) > MAX_MODELS:
        raise CondgenError(f"{len(models)} models are too many to compare at once; choose at most {MAX_MODELS}.")
    rows = seeds_of(seeds)
    check_cells(len(rows) * len(models))
    opened = {name: open_model(name) for name in models}
    kind = TextToImage if base.prompt.strip() else ClassToImage if base.labels else _kind(opened[models[0]])
    reasons = {name: _unread(model, kind, base) for name, model in opened.items()}
    notes = tuple(f"{name} is left out: {reason}" for name, reason in reasons.items() if reason)
    models = [name for name in models if not reasons[name]]
    if not models:
        raise CondgenError(" ".join(notes))
    adapted = {name: _adapted(open_model, base, name) for name in models}
    notes += tuple(note for _, own in adapted.values() for note in own)
    cells = {
        (i, j): replace(adapted[name][0], seed=seed) for i, seed in enumerate(rows) for j, name in enumerate(models)
    }
    return Plan("Models", ("Seed", "Model"), tuple(map(str, rows)), tuple(models), cells, notes)


def priors_plan(open_model: Open, base: Settings, seeds: Any) -> Plan:
    """One condition over all priors of a model, every seed a row; `none` is the text embedding itself."""
    priors = priors_of(open_model(base.model))
    if len(priors) < 2:
        raise CondgenError(f"{base.model} has no priors to compare. Compare models, or choose a model with priors.")
    return options_plan(open_model, base, ("prior", priors), ("seed", seeds_of(seeds)))


def prompts_plan(open_model: Open, base: Settings, prompts: Sequence[str], count: Any = 1) -> Plan:
    """Several prompts, each a row of `count` seeds."""
    count = check_integer("The number of images", count, 1, MAX_IMAGES)
    if not isinstance(open_model(base.model), TextToImage):
        raise CondgenError(f"{base.model} reads no prompts; choose a text-to-image model.")
    unique = list(dict.fromkeys(prompts))
    check_cells(len(unique) * count)
    repeated = len(prompts) - len(unique)
    notes = (f"{repeated} repeated prompt{'s are' if repeated > 1 else ' is'} left out.",) if repeated else ()
    seeds = [base.seed + k for k in range(count)]
    cells = {
        (i, j): replace(base, prompt=prompt, seed=seed)
        for i, prompt in enumerate(unique) for j, seed in enumerate(seeds)
    }  # fmt: skip
    return Plan("Prompts", ("Prompt", "Seed"), tuple(unique), tuple(map(str, seeds)), cells, notes)


def _kind(model: Pipeline) -> type:
    return next((kind for kind in (TextToImage, ClassToImage) if isinstance(model, kind)), Pipeline)


def _unread(model: Pipeline, kind: type, base: Settings) -> str:
    """Why a model cannot take part; '' if it can."""
    if _kind(model) is not kind or not model.kind().task.startswith(("text-to-", "class-to-", "unconditional")):
        return f"it {model.kind().summary}."
    if kind is ClassToImage:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CondgenWarning)
                model.resolve(base.labels)
        except CondgenError as error:
            return str(error)
    return ""


def _adapted(open_model: Open, base: Settings, name: str, varied: Set[str] = frozenset()) -> tuple[Settings, list[str]]:
    """Settings for another model, which may have other priors, presets and options; and what is left out.

    Args:
        varied: settings that each cell has its own of.
    """
    if name == base.model:
        return base, []
    model, notes = open_model(name), []
    priors = priors_of(model)
    if base.prior and base.prior not in priors:
        own = f"; its default, {priors[0]}, is used" if priors else ""
        notes += [] if "prior" in varied else [f"{name} has no prior {base.prior}{own}."]
        base = replace(base, prior="")
    if base.preset not in ("", *presets_of(model)):
        notes += [] if "preset" in varied else [f"{name} has no preset {short(base.preset)}; the default is used."]
        base = replace(base, preset="default")
    known = {one.name for prior in priors or [""] for one in sampling_options_of(model, prior)}
    if missing := [option for option in base.options if option not in known]:
        notes += [f"{name} has no option {', '.join(missing)}."]
    options = {option: value for option, value in base.options.items() if option in known}
    return replace(base, model=name, options=options), notes


def checked(open_model: Open, plan: Plan) -> Plan:
    """The plan, if all of its cells can be generated; the first error names its cell."""
    for (i, j), settings in in_order(plan.cells):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CondgenWarning)
                settings.request(open_model)
        except CondgenError as error:
            titles = zip(plan.axes, (plan.rows[i], plan.columns[j]))
            where = ", ".join(f"{axis} {_brief(title)}" for axis, title in titles if axis)
            raise CondgenError(f"{where}: {error}") from None
    return plan


def _brief(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def in_order(cells: Mapping[tuple[int, int], Settings]) -> list[tuple[tuple[int, int], Settings]]:
    """The cells row by row, but all of a model together, so that each is loaded once."""
    models = list(dict.fromkeys(settings.model for settings in cells.values()))
    return sorted(cells.items(), key=lambda cell: (models.index(cell[1].model), cell[0]))
