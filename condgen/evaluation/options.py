"""Options of `condgen.evaluate`, a dataclass for each kind of model; the command line offers their fields as flags.

Importing this module imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from condgen.contracts import CondgenError


def option(default: Any, help: str, minimum: int | None = None, **argument: Any) -> Any:
    """A dataclass field with its default and the arguments of `argparse.add_argument`."""
    kind = {"type": int} if minimum is not None else {}
    return field(default=default, metadata={"minimum": minimum, "argument": {"help": help} | kind | argument})


def names(text: str) -> tuple[str, ...]:
    """Splits names separated by commas."""
    return tuple(name for name in text.split(",") if name)


def flag(name: str) -> str:
    """The command-line flag of an option."""
    return "--" + {"templates": "template"}.get(name, name).replace("_", "-")


class Options:
    """Checks the range of every integer.

    Raises:
        CondgenError: a value is not an integer, or is too small.
    """

    title: ClassVar[str]

    def __post_init__(self) -> None:
        for one in fields(self):
            value, minimum = getattr(self, one.name), one.metadata["minimum"]
            if minimum is None or (value is None and one.default is None):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise CondgenError(f"{flag(one.name)} must be an integer from {minimum}, got {str(value)[:40]!r}.")


@dataclass(frozen=True)
class DataOptions(Options):
    """The images to evaluate on."""

    title: ClassVar[str] = "data"
    data: str = option("", "images to evaluate on (default: the training data; scenes are drawn)", metavar="PATH")
    split: str = option("test", "split of the data (default test)")


@dataclass(frozen=True)
class ReadingOptions(DataOptions):
    """Options of reading images; None means as for training, an empty string guesses."""

    title: ClassVar[str] = "reading images (default: as for training; '' guesses a column)"
    image_column: str | None = option(None, "column of the images", metavar="COLUMN")
    split_column: str | None = option(None, "column of the split", metavar="COLUMN")
    filter: str | None = option(None, "use these rows only; several separated by commas", metavar="COLUMN=VALUE")
    resize: str | None = option(None, "how images become square", choices=("crop", "pad"))


@dataclass(frozen=True)
class CaptionOptions(ReadingOptions):
    """Captioned images."""

    title: ClassVar[str] = "captioned images"
    caption_column: str | None = option(None, "column of the captions", metavar="COLUMN")


@dataclass(frozen=True)
class ComparisonOptions(Options):
    """Further models to compare with."""

    title: ClassVar[str] = "text-to-image models of scenes, and representations"
    compare_with: tuple = option((), "another model to evaluate beside it", action="append", metavar="MODEL")


@dataclass(frozen=True)
class RepeatOptions(Options):
    """Number of repetitions with different seeds."""

    title: ClassVar[str] = "all but text-to-image models and translators"
    seeds: int | None = option(
        None, "repetitions: of sampling (default 3), or of fine-tuning (default 1)", 1, metavar="K"
    )


@dataclass(frozen=True)
class ComparedOptions(Options):
    """The networks in whose features generated images are compared with real ones."""

    title: ClassVar[str] = "text-to-image, class-to-image and unconditional models"
    classifiers: Path | None = option(  # noqa: RUF009
        None, "folder that keeps classifiers (default REPORT/classifiers)", type=Path, metavar="FOLDER"
    )
    inception: Path | None = option(  # noqa: RUF009
        None, "Inception weights, to compute FID", type=Path, metavar="FILE"
    )


@dataclass(frozen=True)
class SampleOptions(RepeatOptions, ComparedOptions, ReadingOptions):
    """Generated images compared with real ones."""

    title: ClassVar[str] = "class-to-image and unconditional models"


@dataclass(frozen=True)
class TextToImageOptions(ComparisonOptions, ComparedOptions, CaptionOptions):
    """Options of text-to-image models."""

    title: ClassVar[str] = "text-to-image models"
    prompts: int = option(50, "prompts of each task (default 50)", 1, metavar="N")
    images_per_prompt: int = option(4, "images of each prompt (default 4)", 1, metavar="N")
    ablate: int = option(
        20, "prompts of each task for every row of the ablation; 0 for none (default 20)", 0, metavar="N"
    )
    candidates: int = option(
        1, "images of every seed, of which the one that the encoder finds nearest to the prompt is kept (default 1)", 1,
        metavar="N",
    )  # fmt: skip
    scene_eval: int = option(
        1, "version of SceneEval: 2 asks for 3 to 10 facts a prompt; --prompts are those of each number of facts "
        "(default 1)", 1, choices=(1, 2), metavar="V",
    )  # fmt: skip
    layers: str = option("", "parquet of the layers that the images are composed of (Nouns)", metavar="FILE")


@dataclass(frozen=True)
class ClassToImageOptions(SampleOptions):
    """Options of class-to-image models."""

    title: ClassVar[str] = "class-to-image models"
    per_label: int = option(100, "images of each class (default 100)", 1, metavar="N")
    combined: tuple[str, ...] = option((), "attributes whose values make up a combination", type=names, metavar="A,B")


@dataclass(frozen=True)
class UnconditionalOptions(SampleOptions):
    """Options of autoencoders and GANs."""

    title: ClassVar[str] = "autoencoders"
    importance_samples: int = option(
        50, "codes per image for the likelihood of a VAE; 0 for none (default 50)", 0, metavar="K"
    )


@dataclass(frozen=True)
class TranslationOptions(DataOptions):
    """Options of translators."""

    title: ClassVar[str] = "translators"


@dataclass(frozen=True)
class RepresentationOptions(RepeatOptions, ComparisonOptions, CaptionOptions):
    """Options of representations; probes are fitted on the split `train` and scored on `split`."""

    title: ClassVar[str] = "representations: encoders, and other models with --features"
    label_column: str | None = option(None, "column of the classes", metavar="COLUMN")
    templates: tuple[str, ...] = option(
        (), "caption of a class for zero-shot, such as 'a photo of a {}' (default: those of the data); repeatable",
        action="append", metavar="TEXT",
    )  # fmt: skip
    train_images: int = option(0, "fit probes on at most N images; 0 for all (default)", 0, metavar="N")
    finetune_images: int = option(
        20_000, "images seen in fine-tuning on 1, 10 and 100 %% of the labels; 0 for none (default 20000)", 0,
        metavar="N",
    )  # fmt: skip


KINDS = (TextToImageOptions, ClassToImageOptions, UnconditionalOptions, TranslationOptions, RepresentationOptions)
