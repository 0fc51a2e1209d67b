"""Definitions shared by all packages: protocols of models, sampling options, ranges of options, errors, notation.

Legend, used in every docstring of the package:

    B  images or captions in a batch      C, H, W  channels, height, width of an image
    L  tokens of a caption                  D        width of the shared embedding space
    images inside: float, (B, C, H, W), in [-1, 1]; at the edges PIL or uint8
    text_embed, image_embed: (B, D), unit length; z: image_embed after the normalizer (mean 0, sd 1 per dimension)
    x_t = (1 - t) x_0 + t eps: t = 0 is the image, t = 1 is noise; sigma = t / (1 - t)
    guidance w: null + w (conditional - null); w = 1 is off

Importing this module imports nothing heavy.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Batch = dict[str, "Tensor"]
"""A plain dict of tensors (Accelerate does not move dataclasses to the device)."""

ProgressCallback = Callable[[float, str], None]
"""Called with the completed fraction in [0, 1] and a message."""

MAX_PIXELS = 64_000_000
"""Maximum number of pixels of an image; checked in its header, before it is decoded."""


class Undefined(float):
    """A score that is not defined for the given data: NaN, with the reason."""

    reason: str

    def __new__(cls, reason: str) -> Undefined:
        self = super().__new__(cls, "nan")
        self.reason = reason
        return self


class CondgenError(Exception):
    """An error that the user can fix. The message names what was given, what was expected and what to do next.

    The command line prints it without a traceback and exits with 2; the studio shows it as a message.
    """


class CondgenWarning(UserWarning):
    """A warning that the user should read but need not act on."""


_OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is a lack of memory: of Python and NumPy, of torch on the CPU, or of an accelerator."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == 12):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def out_of_memory(error: BaseException, advice: str) -> str:
    """One line about a lack of memory, with how much was asked for where the error says so."""
    found = re.search(r"allocate (\d[\d.]*) ?([KMGTPE]?i?B|bytes)", str(error))
    asked = f" ({float(found[1]) / 2**30:,.2f} GiB were asked for)" if found and found[2] == "bytes" else (
        f" ({found[1]} {found[2]} were asked for)" if found else ""
    )  # fmt: skip
    place = "device" if "cuda" in str(error).lower() or "mps" in str(error).lower() else "computer"
    return f"The memory of this {place} is not enough{asked}. {advice}"


def short(value: object) -> str:
    """The repr of a value in at most sixty characters, for messages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, lists in lists in lists
        return f"a {type(value).__name__} of enormous size"
    return text if len(text) <= 60 else text[:57] + "..."


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names from a file for a message: at most `most`, each in at most sixty characters; `none` for none."""
    shown = [name if len(name) <= 60 else name[:57] + "..." for name in names]
    return (", ".join(shown[:most]) or "none") + (f" and {len(shown) - most} more" if len(shown) > most else "")


def finite(value: Any) -> Any:
    """Replaces numbers that JSON does not have, NaN and infinity, by None, in dicts, lists and tuples of any depth."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(value: Any, **options: Any) -> str:
    """A value as JSON; numbers that JSON does not have become null. `options` are those of `json.dumps`."""
    return json.dumps(finite(value), allow_nan=False, **options)


def limited(
    default: Any = MISSING,
    low: float | None = None,
    high: float | None = None,
    longest: int | None = None,
    added: bool = False,
) -> Any:
    """A field of a config dataclass with its range, which `check_ranges` and the readers of files enforce.

    Args:
        default: value when nothing is given; without one the field is required.
        low, high: inclusive range of the number, or of every number of a tuple.
        longest: most entries of a tuple.
        added: the field is newer than some saved models, see `files.weights.fingerprint`.
    """
    limits = {"min": low, "max": high, "longest": longest, "added": added or None}
    return field(default=default, metadata={name: value for name, value in limits.items() if value is not None})


def out_of_range(limits: Any, value: Any) -> str:
    """Describes the allowed values of a field, by its metadata; empty where the value is in range or no number."""
    values = value if isinstance(value, tuple | list) else (value,)
    if len(values) > limits.get("longest", len(values)):
        return f"it must have at most {limits['longest']} entries"
    low, high = limits.get("min"), limits.get("max")
    least, most = (-(2**63) if low is None else low), (2**63 - 1 if high is None else high)
    numbers = [x for x in values if isinstance(x, int | float) and not isinstance(x, bool)]
    if all(least <= x <= most for x in numbers):  # a comparison with a value that is not a number fails
        return ""
    if low is not None and high is not None:
        return f"it must be from {low:g} to {high:g}"
    if high is not None or any(x > most for x in numbers):
        return f"it must be at most {most:g}"
    return f"it must be at least {least:g}"


def check_ranges(config: Any, prefix: str = "") -> None:
    """Checks every number of a tree of config dataclasses against the range of its field, see `limited`.

    Raises:
        CondgenError: a number is out of range; the message names the option, `--{prefix}NAME`.
    """
    for one in fields(config):
        value, name = getattr(config, one.name), f"{prefix}{one.name}"
        if is_dataclass(value):
            check_ranges(value, f"{name}.")
        elif expected := out_of_range(one.metadata, value):
            raise CondgenError(f"--{name} is {short(value)}; {expected}.")


@dataclass(frozen=True)
class SamplingOption:
    """One option of a sampler: command-line flags and studio sliders are built from it.

    Args:
        name: keyword of `sample`.
        default: value when none is given.
        low, high: inclusive range.
        kind: `int` or `float`.
        help: one line for people.
        advanced: the studio has no slider for it, and recipes leave it out at its default.
        added: recipes leave it out at its default, so that images generated before the option existed are replayed
            byte for byte.
    """

    name: str
    default: float
    low: float
    high: float
    kind: Literal["int", "float"]
    help: str
    advanced: bool = False
    added: bool = False

    def check(self, value: float) -> float | int:
        """Returns the value in its kind, or raises `CondgenError` when it is no number or out of range."""
        expected = f"a{'n integer' if self.kind == 'int' else ' number'} from {self.low:g} to {self.high:g}"
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high or (self.kind == "int" and value != int(value)):
            raise CondgenError(f"{self.name} must be {expected}, got {short(value)}.")
        return int(value) if self.kind == "int" else float(value)


def check_options(options: Iterable[SamplingOption], values: dict[str, float]) -> dict[str, float]:
    """Fills in defaults and checks ranges; a name that is not among the options is an error."""
    by_name = {option.name: option for option in options}
    if unknown := sorted(set(values) - set(by_name)):
        raise CondgenError(f"This model has no option {', '.join(unknown)}; it has {', '.join(sorted(by_name))}.")
    return {name: option.check(values.get(name, option.default)) for name, option in by_name.items()}


def recorded_options(declared: Iterable[SamplingOption], options: dict[str, float]) -> dict[str, float]:
    """The options that a recipe records: all, except `advanced` and `added` ones at their default."""
    optional = {option.name: option.default for option in declared if option.advanced or option.added}
    return {name: value for name, value in options.items() if name not in optional or value != optional[name]}


@runtime_checkable
class Trainable(Protocol):
    """A module with its training objective, as the training loop takes it.

    `turns` names the optimisers in the order they step (one, or two for a GAN).
    """

    turns: tuple[str, ...]

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        """The parameters of the optimizer of this turn; turns share none."""

    def loss(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        """A dict with the scalar `loss` and any further scalars worth plotting."""


@runtime_checkable
class HasMemory(Protocol):
    """A Trainable with a memory bank or a queue.

    `memory` names its buffers. They are saved and resumed like weights but not averaged, and `loss` does not change
    them: the training loop calls `remember` after an update, and not after a skipped step. Every process must compute
    the same memory.
    """

    memory: tuple[str, ...]

    def remember(self) -> None:
        """Updates the memory with the batch of the last `loss`."""


@runtime_checkable
class Latent(Protocol):
    """A model with a latent space, see `condgen.latent_space`."""

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, C, S, S) in [-1, 1] -> latents (N, Z)."""

    def decode(self, z: Tensor) -> Tensor:
        """Latents (N, Z) -> images (N, C, S, S) in [-1, 1]."""


@runtime_checkable
class Encoder(Protocol):
    """A module that embeds texts and images into one space; a tokenizer beside it gives the tokens.

    Args:
        size: edge S of its input images; an encoder that resizes images itself has `resizes = True`.
        embed_dim: width D of its embeddings.
        vocab: number of token ids.
        context: tokens of a text, L.
        log_scale: logarithm of the inverse temperature.
        bias: added to the logits by the sigmoid loss, or None.
    """

    size: int
    embed_dim: int
    vocab: int
    context: int
    log_scale: nn.Parameter
    bias: nn.Parameter | None

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> unit vectors (B, D)."""

    def embed_text(self, tokens: Tensor) -> Tensor:
        """int64 (B, L) -> unit vectors (B, D)."""

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> features for probes (B, F)."""


@runtime_checkable
class Decoder(Protocol):
    """A model that samples images from a condition.

    `sampling_options` are the options of `sample`, a generator that yields the estimate of the images, (B, C, H, W) in
    [-1, 1], after every step; the last one is the result.
    """

    sampling_options: tuple[SamplingOption, ...]

    def sample(self, cond: Batch, rng: list[torch.Generator], **options: float) -> Iterator[Tensor]:
        """Samples `len(rng)` images. Image i draws its noise from generator i alone, independent of the batch."""
