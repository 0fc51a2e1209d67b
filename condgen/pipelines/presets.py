"""Sets of options that weigh quality against time: `model.generate(prompt, **PRESETS["quality"])`.

Importing this module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable

from condgen.contracts import CondgenError, SamplingOption, short

PRESETS: dict[str, dict[str, int]] = {"fast": {"steps": 6}, "default": {}, "quality": {"candidates": 2}}
"""Name -> arguments of `TextToImage.generate`; measured in docs/results.md, section "Re-ranking"."""


def preset_of(name: str, options: Iterable[SamplingOption]) -> dict[str, int]:
    """The arguments of a preset.

    Args:
        options: sampling options of the model.

    Raises:
        CondgenError: there is no such preset, or it sets an option that the model does not have.
    """
    if name not in PRESETS:
        raise CondgenError(f"There is no preset {short(name)}; choose {', '.join(PRESETS)}.")
    known = {option.name for option in options} | {"candidates"}
    if missing := sorted(set(PRESETS[name]) - known):
        raise CondgenError(
            f"The preset {name} sets {', '.join(missing)}, which this model does not have. Leave the preset out."
        )
    return dict(PRESETS[name])
