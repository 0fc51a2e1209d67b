"""condgen: train and run your own DALL-E 2.

    import condgen

    model = condgen.load()
    for generated in condgen.generate("a red circle above a blue square", n=4, seed=1):
        generated.save("out")

Importing this package imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["CondgenError", "encode", "evaluate", "generate", "load", "sample", "search", "train"]
_MODULES = {
    "CondgenError": "condgen.contracts",
    "encode": "condgen.retrieval.search",
    "evaluate": "condgen.evaluation",
    "search": "condgen.retrieval.search",
    "train": "condgen.recipes",
}
"""Public name -> the module that defines it, imported when the name is used."""

if TYPE_CHECKING:
    from condgen.evaluation import evaluate
    from condgen.recipes import train
    from condgen.retrieval.search import encode, search


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(path_or_name=None):
    """Loads a model by path or by a name that `condgen list` shows; None loads the one in the package.

    The result is a TextToImage, ClassToImage, EmbeddingToImage, UnconditionalDecoder, LatentModel, Translator,
    TextImageEncoder or ImageEncoder, as the index of the model says; its `path` is the folder it was loaded from.
    Encoders of other libraries are named by their folder, or as local-dir:PATH, transformers:PATH, hf-hub:OWNER/NAME or
    open_clip:ARCHITECTURE.
    """
    from condgen.pipelines.auto import load_pipeline

    return load_pipeline(path_or_name)


def generate(prompts, n=1, seed=0, model=None, **options):
    """Generates images from prompts with a model (see `load`); yields GeneratedImages.

    `options` are sampling options of the model.
    """
    from condgen.files.registry import find
    from condgen.pipelines.text_to_image import TextToImage

    return TextToImage.load(find(model)).generate(prompts, n=n, seed=seed, **options)


def sample(conditions, n=1, seed=0, *, model, **options):
    """Generates images from labels: "Sneaker", {"smiling": 1, "age": 30}, or several; yields GeneratedImages.

    `options` are sampling options of the model, which must be a ClassToImage.
    """
    from condgen.files.registry import find
    from condgen.pipelines.class_to_image import ClassToImage

    return ClassToImage.load(find(model)).sample(conditions, n=n, seed=seed, **options)
