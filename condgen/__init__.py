"""condgen: train and run your own DALL-E 2.

    import condgen

    model = condgen.load()
    for painting in condgen.generate("a red circle above a blue square", n=4, seed=1):
        painting.save("out")

Importing this package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CondgenError", "encode", "evaluate", "generate", "load", "sample", "search", "train"]

if TYPE_CHECKING:
    from condgen.evaluation import evaluate
    from condgen.recipes import train
    from condgen.retrieval.search import encode, search


def __getattr__(name: str) -> Any:
    if name == "train":
        from condgen.recipes import train

        return train
    if name == "evaluate":
        from condgen.evaluation import evaluate

        return evaluate
    if name in ("encode", "search"):
        from condgen.retrieval import search

        return getattr(search, name)
    if name == "CondgenError":
        from condgen.contracts import CondgenError

        return CondgenError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(path_or_name=None):
    """Loads a model: a path, a name that `condgen list` shows, or nothing for the one in the package.

    What comes is a TextToImage, a ClassToImage, a LatentModel, a Translator, a TextImageEncoder or an ImageEncoder, as
    the model's index says; its `path` is the folder that it was read from. Encoders of other libraries are named by
    their folder, or as local-dir:PATH, transformers:PATH, hf-hub:OWNER/NAME or open_clip:ARCHITECTURE.
    """
    from condgen.pipelines.auto import open_named

    return open_named(path_or_name)


def generate(prompts, n=1, seed=0, model=None, **options):
    """Paints prompts with a model (see `load`); yields paintings. `options` are the model's own sampling options."""
    from condgen.files.registry import find
    from condgen.pipelines.text_to_image import TextToImage

    return TextToImage.load(find(model)).generate(prompts, n=n, seed=seed, **options)


def sample(wanted, n=1, seed=0, *, model, **options):
    """Paints labels with a model of labels: "Sneaker", {"smiling": 1, "age": 30}, or several; yields paintings."""
    from condgen.files.registry import find
    from condgen.pipelines.class_to_image import ClassToImage

    return ClassToImage.load(find(model)).sample(wanted, n=n, seed=seed, **options)
