"""Translates names of version 1 in files and commands to current names.

Readers of weights, configs, indices, runs and command lines call these functions; writers use current names only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

CLASSES = {"Normaliser": "EmbeddingNormalizer", "LabelToImage": "ClassToImage"}
"""Class names in `config.json` and `model_index.json`."""
MODULES = {"said": "cond_encoder", "normaliser": "normalizer"}
"""Components of the names of tensors: `decoder.said.words` is `decoder.cond_encoder.words`."""
CONFIG_FIELDS = {"colours": "image_channels", "levels": "cardinalities"}
"""Fields of the `config.json` of a network."""
INDEX_FIELDS = {"colours": "image_channels", "pictures": "reading", "factors": "attributes"}
"""Fields of `model_index.json`."""
MANIFEST_FIELDS = {"pictures": "images", "normaliser": "normalizer"}
"""Fields of the `manifest.json` of embeddings."""
READING_FIELDS = {
    "colours": "image_channels", "image": "image_column", "text": "caption_column", "label": "label_column",
    "attributes": "attribute_columns", "split": "split_column", "how": "resize", "where": "filter",
    "where_a": "filter_a", "where_b": "filter_b", "max_bad": "max_bad_fraction", "without": "exclude_classes",
}  # fmt: skip
"""Fields of the reading options in the index."""
COMMANDS = {"manifold": "latent-space", "shelf": "benchmark"}
"""Commands."""
TOOLS = {"novelty": "anomaly"}
"""Tools of `condgen latent-space`."""
_READING_OPTIONS = {"--where": "--filter", "--how": "--resize"}
_COLUMN_OPTIONS = {"--image": "--image-column", "--text": "--caption-column", "--label": "--label-column"}
_TOOL_OPTIONS = {
    "--told": "--cond", "--odd": "--anomaly-class", "--against": "--anomaly-data", "--ways": "--paths",
    "--latents": "--dimensions", "--spoil": "--corrupt", "--how": "--method", "--judge": "--classifier",
    "--where": "--filter", "--attributes": "--attribute-columns",
}  # fmt: skip
OPTIONS = {
    "benchmark": {"--collection": "--dataset", "--chapters": "--sections"},
    "data": {"--split": "--split-column", "--attributes": "--attribute-columns"} | _COLUMN_OPTIONS | _READING_OPTIONS,
    "embed": {"--max-bad": "--max-bad-fraction"} | _COLUMN_OPTIONS | _READING_OPTIONS,
    "encode": {"--text-column": "--caption-column"} | _READING_OPTIONS,
    "evaluate": {
        "--against": "--compare-with",
        "--judge": "--classifiers",
        "--parts": "--layers",
        "--pictures": "--images-per-prompt",
        "--train-pictures": "--train-images",
        "--tune": "--finetune-images",
        "--importance": "--importance-samples",
    }
    | _COLUMN_OPTIONS
    | _READING_OPTIONS,
    "latent-space": _TOOL_OPTIONS,
    "search": {"--text-column": "--caption-column"} | _READING_OPTIONS,
    "translate": {"--how": "--resize"},
}
"""Options of the command line, by current command."""


RUN_FIELDS = {
    "data": "data.path", "images": "total_images", "watch": "eval_count", "weak": "autoguidance_fraction",
    "start": "init_from", "way": "kind", "method": "kind", "text": "text_tower", "label": "label_column",
    "val": "validation_split", "flip": "random_flip",
}  # fmt: skip
"""Options of a training run that are in no section."""
RUN_SECTIONS = {"pictures": "data"} | {
    f"fit_{stage}": "fit" for stage in ("autoencoder", "gan", "selfsup", "translation", "clip", "decoder")
}
"""Sections of the options of a training run; `fit_clip` and `fit_decoder` keep their names in text-to-image runs."""
DATA_FIELDS = READING_FIELDS | {
    "use": "split", "shift": "random_shift", "flip": "random_flip", "drawn": "num_samples",
}  # fmt: skip
FIT_FIELDS = {"clip": "max_grad_norm", "images": "total_images", "ema": "ema_gamma", "decay_from": "decay_start"}
OBJECTIVE_FIELDS = {
    "told": "conditioning", "guessed": "prior_sample_prob", "both": "drop_all", "z": "drop_embed",
    "words": "drop_text", "each": "drop_attr",
}  # fmt: skip
RUN_KINDS = {
    "decoder": ("diffusion", "decoder"), "cgan": ("cgan", "decoder"), "cvae": ("cvae", "decoder"),
    "cgan_objective": ("cgan", "objective"), "cvae_objective": ("cvae", "objective"),
    "paired": ("paired", "objective"), "unpaired": ("unpaired", "objective"),
}  # fmt: skip
"""Old sections, which a run had for every kind of model -> the kind, and its current section."""
RUN_VALUES = {"decoder_objective.conditioning": {"image": "image_embed", "text": "text_embed"}}
"""Current name of an option -> old and current names of its values."""


def class_name(name: Any) -> Any:
    """The current name of a class."""
    return CLASSES.get(name, name) if isinstance(name, str) else name


def fields(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A dict with its keys renamed, in the same order."""
    return {names.get(key, key): value for key, value in values.items()}


def config(values: dict[str, Any]) -> dict[str, Any]:
    """Translates the contents of a network's `config.json`."""
    return fields(values, CONFIG_FIELDS)


def index(values: dict[str, Any]) -> dict[str, Any]:
    """Translates the contents of `model_index.json`."""
    out = fields(values, INDEX_FIELDS)
    out["_class_name"] = class_name(values.get("_class_name"))
    if isinstance(out.get("reading"), dict):
        out["reading"] = fields(out["reading"], READING_FIELDS)
    return out


def manifest(values: Any) -> Any:
    """Translates the `manifest.json` of stored embeddings."""
    if not isinstance(values, dict) or not isinstance(values.get("files"), list):
        return values
    files = [fields(file, MANIFEST_FIELDS) if isinstance(file, dict) else file for file in values["files"]]
    return fields(values, MANIFEST_FIELDS) | {"files": files}


def tensor_name(name: str) -> str:
    """The current name of a tensor in a state dict."""
    return ".".join(MODULES.get(part, part) for part in name.split("."))


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts: {"fit": {"lr": 1}} -> {"fit.lr": 1}; tuples become lists, as in YAML."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return out


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = out
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return out


def run_option(name: str, names: Collection[str], kind: str = "", per_kind: bool = True) -> str:
    """The current name of an option of a training run, `fit.lr`; empty if it belongs to another kind of model.

    Args:
        names: options of the run.
        kind: kind of model of the run.
        per_kind: the name comes from a run with sections for every kind, where `decoder` means the diffusion decoder.
    """
    section, _, leaf = name.rpartition(".")
    if name == "decoder_objective.layout":
        return "objective.layout" if kind == "diffusion" else ""
    if section in RUN_KINDS and (section != "decoder" or per_kind):
        of_kind, section = RUN_KINDS[section]
        return f"{section}.{leaf}" if of_kind == kind else ""
    if name in names:
        return name
    if not section:
        return RUN_FIELDS.get(name, name) if RUN_FIELDS.get(name) in names else name
    leaves = {"pictures": DATA_FIELDS, "decoder_objective": OBJECTIVE_FIELDS}.get(section, FIT_FIELDS)
    for one in (section, RUN_SECTIONS.get(section, section)):
        for new in (leaves.get(leaf, leaf), leaf):
            if f"{one}.{new}" in names:
                return f"{one}.{new}"
    return name


def has_sections_per_kind(names: Iterable[str]) -> bool:
    """True if options come from a run with sections for every kind of model."""
    return any(name.partition(".")[0] in RUN_KINDS.keys() - {"decoder"} for name in names)


def run_config(values: dict[str, Any], names: Collection[str], kind: str = "") -> dict[str, Any]:
    """Translates the YAML of a training run; options of other kinds of models are omitted.

    Args:
        names: options of the run, such as `fit.lr`.
        kind: kind of model of the run, if the values name none.
    """
    old = flat(values)
    kind = next((old[name] for name in ("kind", "way", "method") if isinstance(old.get(name), str)), kind)
    per_kind = has_sections_per_kind(old)
    new = {run_option(name, names, kind, per_kind): value for name, value in old.items()}
    return nested({name: run_value(name, value) for name, value in new.items() if name})


def run_value(name: str, value: Any) -> Any:
    """The current name of a value of an option."""
    return RUN_VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value
