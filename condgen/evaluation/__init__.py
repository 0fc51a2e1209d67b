"""The judge: does a model paint what the words say, and which part of the corridor is to thank or blame?

`evaluate` writes JSON, Markdown and a sheet of images. For models of scenes: SceneEval on seen and on held-out
combinations, the swap test of the encoder, the prior report, the paper's ablation. For models of captioned images:
retrieval, the prior report and CLIP scores, on images that training never saw; and where the images are composed of
known layers, whether they show the right ones. For models of labels: what an independent classifier sees, and how far
the images are from real ones. For translators: how near they come to the truth, or what is lost there and back. For
encoders, and for whatever else has features: what can be read off these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from condgen import distributed
from condgen.contracts import CondgenError, ProgressCallback
from condgen.evaluation.layers import evaluate_parts, read_exam
from condgen.evaluation.report import check_out, finite, markdown, write
from condgen.evaluation.scenes import evaluate_scenes, scene_eval
from condgen.evaluation.text_to_image import evaluate_captions, read_pictures

__all__ = ["evaluate", "markdown", "scene_eval"]
TUNE = 20_000
"""Images that an encoder is trained on with every share of the labels."""


def evaluate(
    model, out: Path | str | None = None, data: str = "", split: str = "test", prompts: int = 50, pictures: int = 4,
    ablate: int = 20, against: Sequence = (), parts: str = "", image_column: str | None = None,
    caption_column: str | None = None, split_column: str | None = None, filter: str | None = None,
    resize: str | None = None,
    per_label: int = 100, seeds: int | None = None, judge: Path | str | None = None, combined: Sequence[str] = (),
    inception: Path | str | None = None, features: bool = False, label_column: str | None = None,
    templates: Sequence[str] = (), train_pictures: int = 0, tune: int = TUNE, importance: int = 50,
    progress: ProgressCallback = lambda share, what: None,
) -> dict:  # fmt: skip
    """Judges a model.

    Args:
        model: an encoder, a Translator, a TextToImage or ClassToImage, a path or a name.
        out: folder for `report.json`, `report.md` and `sheet.png`; None writes nothing.
        data: captioned images to judge on; needed unless the model paints scenes. Or labelled images, by default
            those of the training.
        split: which part of `data`.
        prompts: per task of SceneEval, or captions of every table of parts.
        pictures: per prompt.
        ablate: prompts (per task, or per table of parts) for each line of the ablation; 0 leaves it out.
        against: other models, paths or names: of scenes, each a line of the ablation, one whose decoder was told texts
            for instance; where features are judged, each a line of their tables.
        parts: `parts.parquet`, to judge images made of known layers by their head and glasses.
        image_column, caption_column, split_column, filter, resize: how `data` is read, see
            `data.sources.load_captions`; None as the model's own training images were, an empty name guesses.
        per_label, combined, inception: see `labels.evaluate_labels`.
        seeds: how often the images of a model of labels are painted anew, by default 3; how often some of the labels
            are drawn for a new head, by default once.
        features: judge what the model sees in images, see `eyes.features_of`, and not what it paints; so encoders
            always are. `data` holds labelled images, with a training and a test split, or captioned ones.
        label_column: column of the classes.
        templates: sentences with a gap for a class, `a photo of a {}`; by default those that go with the data.
        train_pictures: of the training images, probes are fitted on at most so many; 0 for all.
        tune: images that an encoder sees when it is trained on 1, 10 and 100 % of the labels; 0 leaves that out.
        importance: of VAEs: codes an image for the importance-weighted likelihood; 0 leaves it out.
        judge: folder to keep classifiers in; by default `judge` in the folder of the report.
        progress: called with progress.

    Returns:
        the report, as written to `report.json`; a number that cannot be told is None.

    Raises:
        CondgenError: a number out of range, or no, missing or unusable data; before anything is painted.
    """
    counts = (("prompts", prompts, 1), ("pictures", pictures, 1), ("ablate", ablate, 0), ("per-label", per_label, 1))
    counts += (("seeds", 3 if seeds is None else seeds, 1), ("train-pictures", train_pictures, 0), ("tune", tune, 0))
    counts += (("importance", importance, 0),)
    for name, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise CondgenError(f"--{name} must be an integer from {least}, got {str(value)[:40]!r}.")
    if out is not None:
        check_out(Path(out))
    if parts and not data:
        raise CondgenError("To judge parts, give the folder of the test tables with --data.")
    model, *others = (_load(one) if one is None or isinstance(one, str | Path) else one for one in (model, *against))
    asked = {"image_column": image_column, "split_column": split_column, "resize": resize, "filter": filter}
    by_features = features or hasattr(model, "embed_image")
    by_label = not by_features and hasattr(model, "attributes")
    by_codes = not by_features and hasattr(model, "decode")
    of_labels = {"per-label": per_label != 100, "judge": judge, "combined": combined, "inception": inception}
    of_features = {
        "label-column": label_column,
        "template": templates,
        "train-pictures": train_pictures,
        "tune": tune != TUNE,
    }
    if hasattr(model, "translate"):
        given = {"parts": parts, "against": others, "caption-column": caption_column}
        given |= {"image-column": image_column, "features": features}
        given |= (
            {"split-column": split_column, "filter": filter, "resize": resize, "seeds": seeds} | of_labels | of_features
        )
        given["importance"] = importance != 50
        _refuse("other models", "a translator", given)
    elif by_features:
        _refuse("what models paint", "features", {"parts": parts} | of_labels)
    else:
        _refuse("features (--features)", "what it paints", of_features)
        if by_codes:
            _refuse("models that are told something", "one that is told nothing", {"parts": parts, "against": others})
        else:
            _check_kind(
                by_label,
                {"caption-column": caption_column, "parts": parts, "against": others},
                {"seeds": seeds} | of_labels,
            )
        if any(hasattr(other, "attributes") for other in others) or (others and (data or not ablate)):
            raise CondgenError(
                "--against adds lines to the ablation of scenes: leave --data out, and --ablate above 0."
            )
    sheets, drawn = {}, {}
    if hasattr(model, "translate"):
        from condgen.evaluation.translation import evaluate_translation, read_sides

        report, sheets = evaluate_translation(model, read_sides(model, data, split), progress)
    elif by_features:
        from condgen.evaluation import representations  # trains, and the other judges need not load that

        what = representations.Asked(
            data, split, asked | {"label_column": label_column, "caption_column": caption_column}, train_pictures
        )
        report, sheets, drawn = representations.evaluate_features(
            [model, *others], what, templates, tune, seeds or 1, progress
        )
    elif by_label:
        from condgen.evaluation import class_to_image as labels  # trains, and the other judges need not load that

        train, test = labels.read_labelled(model, data, split, asked)
        place = judge or (Path(out) / "judge" if out is not None else None)
        more = {"judge": place and Path(place), "combined": combined, "inception": inception and Path(inception)}
        report, sheets = labels.evaluate_labels(
            model, train, test, per_label, range(seeds or 3), progress=progress, **more
        )
    elif by_codes:
        from condgen.evaluation import autoencoder as latents  # trains, and the other judges need not load that
        from condgen.evaluation import samples

        train, test = latents.read_any(model, data, split, asked)
        report = {"kind": "codes", "data": test.name}
        if model.encodes:
            more, sheets["sheet"] = latents.evaluate_autoencoder(model, train, test, importance, progress)
            report |= more
        if not model.encodes or model.variational or model.mixture is not None:
            place = judge or (Path(out) / "judge" if out is not None else None)
            paths = {"judge": place and Path(place), "inception": inception and Path(inception)}
            more, drawn_of = samples.evaluate_samples(model, train, test, range(seeds or 3), progress=progress, **paths)
            report, sheets = report | more, sheets | drawn_of
    elif data:
        known = read_pictures(model, data, split, asked | {"caption_column": caption_column})
        exam = read_exam(Path(data), Path(parts), prompts, model.size) if parts else None
        report, sheets["sheet"] = evaluate_captions(model, known, pictures, progress)
        if exam is not None:
            more, sheets["sheet"] = evaluate_parts(model, exam, pictures, ablate, progress)
            report |= more
    elif str(model.about.get("recipe")).startswith("scenes"):
        report, sheets["sheet"] = evaluate_scenes(model, prompts, pictures, ablate, progress, others)
    else:
        raise CondgenError(f"{model.name} does not paint scenes: give captioned images to judge on with --data.")
    report = finite({"model": model.name, "model_id": model.model_id} | report)
    progress(1.0, "done")
    if out is not None and not distributed.rank():
        write(Path(out), report, sheets, drawn)
    return report


def _refuse(other: str, this: str, given: dict[str, object]) -> None:
    """Raises `CondgenError` where something is asked that is for judging something else."""
    if wrong := [f"--{name}" for name, value in given.items() if value]:
        raise CondgenError(f"{', '.join(wrong)} is for judging {other}; judged here is {this}. Leave it out.")


def _check_kind(by_label: bool, words: dict[str, object], labels: dict[str, object]) -> None:
    """Raises `CondgenError` where something is asked that a judge of this kind does not look at."""
    if wrong := [f"--{name}" for name, given in (words if by_label else labels).items() if given]:
        kind, other = ("labels", "captions") if by_label else ("captions", "labels")
        raise CondgenError(f"{', '.join(wrong)} is for models of {other}; this model paints by {kind}. Leave it out.")


def _load(path_or_name: Path | str | None):
    from condgen.pipelines.auto import load_pipeline

    return load_pipeline(path_or_name)
