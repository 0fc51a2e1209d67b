"""Checks a config before anything is written: ranges of numbers, and that every module can be built and called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, CondgenError, check_ranges

Build = Callable[[], tuple[nn.Module, Batch]]
"""Builds a Trainable and a batch for it."""


def dry_run(config: Any, modules: dict[str, Build]) -> None:
    """Checks a config on torch's `meta` device, without allocating weights.

    Args:
        config: a tree of config dataclasses.
        modules: section of the config -> function that builds the module of these options and a batch.

    Raises:
        CondgenError: a number is out of range, or options do not fit together; the message names the option.
    """
    check_ranges(config)
    for section, build in modules.items():
        try:
            with torch.device("meta"):
                module, batch = build()
                for turn in module.turns:
                    module.loss(batch, turn)
        except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise CondgenError(f"The options --{section}.* do not fit together: {reason}.") from None


def images(size: int, channels: int = 3) -> Tensor:
    """(2, C, S, S), a batch of black images."""
    return torch.zeros(2, channels, size, size)


def token_ids() -> Tensor:
    """int64 (2, 4), a batch of captions."""
    return torch.ones(2, 4, dtype=torch.long)
