"""Evaluation of models.

`evaluate` writes JSON, Markdown and sheets of images. The metrics depend on the pipeline:

    text-to-image    scenes: SceneEval on seen and held-out combinations, the encoder's swap test, priors, ablation;
                     captioned images: words that an independent classifier sees, distances, copies, retrieval,
                     priors, CLIP score; images composed of known layers: correct layers
    class-to-image   accuracy of an independent classifier, Fréchet and kernel distances, precision, recall, copies
    autoencoders     reconstruction compared with PCA, likelihood; distances as above if they generate
    GANs             distances as above
    images without captions, unconditional decoders: distances as above
    translators      distance to the target, cycle consistency
    encoders         nearest neighbours, linear probe, zero-shot, fine-tuning, retrieval, collapse

Each module registers its evaluation for a pipeline class, see `base.register`.
"""

from __future__ import annotations

import importlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError, ProgressCallback
from condgen.evaluation.options import KINDS, Options, flag
from condgen.evaluation.report import markdown

__all__ = ["evaluate", "markdown"]
MODULES = ("text_to_image", "class_to_image", "autoencoder", "translation", "representations")
"""The modules that register evaluations."""


def evaluate(
    model: Any, data: str = "", out: Path | str | None = None, features: bool = False,
    progress: ProgressCallback = lambda share, message: None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Evaluates a model.

    Args:
        model: a pipeline, on the device to compute on, or a path or name of one.
        data: images to evaluate on; by default the training data.
        out: folder for `report.json`, `report.md` and sheets of images; None writes nothing.
        features: evaluate the model's features of images instead of its generated images; always true for encoders.
        progress: called with progress.
        options: options for this kind of model, see `evaluation.options`.

    Returns:
        the report, as written to `report.json`; a number that is not finite is None, and the section `not_defined`
        says why.

    Raises:
        CondgenError: an option is out of range or belongs to another kind of model; data is missing or unusable. Most
            errors are raised before anything is generated.
    """
    from condgen import distributed
    from condgen.contracts import finite
    from condgen.evaluation.base import EVALUATIONS, REPRESENTATIONS, evaluation_of
    from condgen.evaluation.report import UNDEFINED, check_out, reasons, write

    out = None if out is None else Path(out)
    if out is not None:
        check_out(out)
    for name in MODULES:
        importlib.import_module(f"condgen.evaluation.{name}")
    model = load(model)
    evaluation = EVALUATIONS[REPRESENTATIONS] if features else evaluation_of(model)
    chosen = make_options(evaluation.options, {"data": str(data)} | options, model.name)
    if hasattr(chosen, "compare_with"):
        chosen = replace(chosen, compare_with=tuple(load(other).to(model.device) for other in chosen.compare_with))
    if getattr(chosen, "classifiers", out) is None and out is not None:
        chosen = replace(chosen, classifiers=out / "classifiers")
    found = evaluation.run(model, chosen, progress)
    report = finite({"model": model.name, "model_id": model.model_id} | found.report)
    if why := reasons(found.report):
        report[UNDEFINED] = why
    progress(1.0, "done")
    if out is not None and not distributed.rank():
        write(out, report, found.sheets, found.figures)
    return report


def make_options(kind: type[Options], given: dict[str, Any], model: str = "") -> Options:
    """Builds the options of a kind of evaluation from names and values.

    Raises:
        CondgenError: an option that this kind does not have; a value out of range.
    """
    accepted = {one.name for one in fields(kind)}
    for name in [name for name in given if name not in accepted]:
        others = [other.title for other in KINDS if name in {one.name for one in fields(other)}]
        if not others:
            raise CondgenError(f"evaluate has no option {name}. Of {kind.title} there are {', '.join(accepted)}.")
        raise CondgenError(
            f"{flag(name)} is an option of {' and of '.join(others)}; {model or 'this'} is evaluated with the options "
            f"of {kind.title}. Leave it out."
        )
    paths = {name: Path(given[name]) for name in ("classifiers", "inception") if given.get(name)}
    return kind(**given | paths)


def load(model: Any) -> Any:
    """Returns a pipeline unchanged; loads one by its path or name."""
    if model is not None and not isinstance(model, str | Path):
        return model
    from condgen.pipelines.auto import load_pipeline

    return load_pipeline(model)
