"""Names of the first edition and their present names: the one place where old files and commands are translated.

Readers of weights, configs, indices, runs and command lines call these functions; writers use the present names alone.
"""

from __future__ import annotations

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
"""What the index says of how the training data were read."""
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
"""Options of the command line, by present command."""


def class_name(name: Any) -> Any:
    """The present name of a class."""
    return CLASSES.get(name, name) if isinstance(name, str) else name


def fields(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A dict with its keys renamed, in the same order."""
    return {names.get(key, key): value for key, value in values.items()}


def config(values: dict[str, Any]) -> dict[str, Any]:
    """What a network's `config.json` holds."""
    return fields(values, CONFIG_FIELDS)


def index(values: dict[str, Any]) -> dict[str, Any]:
    """What `model_index.json` holds."""
    out = fields(values, INDEX_FIELDS)
    out["_class_name"] = class_name(values.get("_class_name"))
    if isinstance(out.get("reading"), dict):
        out["reading"] = fields(out["reading"], READING_FIELDS)
    return out


def manifest(values: Any) -> Any:
    """The `manifest.json` of stored embeddings."""
    if not isinstance(values, dict) or not isinstance(values.get("files"), list):
        return values
    files = [fields(file, MANIFEST_FIELDS) if isinstance(file, dict) else file for file in values["files"]]
    return fields(values, MANIFEST_FIELDS) | {"files": files}


def tensor_name(name: str) -> str:
    """The name of a tensor of a state dict."""
    return ".".join(MODULES.get(part, part) for part in name.split("."))
