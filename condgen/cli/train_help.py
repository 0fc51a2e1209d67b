"""The help of `condgen train RECIPE`: the options of its parts, the common ones first."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import Any

from condgen.text import printable

WIDTH = 100
RARE = {
    "": ("save_every", "embeds", "stage", "distill"),
    "data": (
        "image_channels", "max_bad_fraction", "buffer", "scenes", "negatives", "match", "exclude_classes",
        "column_types", "value_range", "background", "templates",
    ),
    "fit": (
        "warmup", "decay_start", "schedule", "weight_decay", "beta_1", "beta_2", "max_grad_norm", "ema_gamma",
        "optimiser",
    ),
    "prior": ("dims", "buckets"),
    "decoder": ("layout_mlp", "distilled"),
    "objective": ("levels", "floor", "draws", "perceptual", "perceptual_below"),
    "clip": ("pool", "vocab", "context", "image_depth", "stages", "norm", "bias", "patch"),
}  # fmt: skip
"""Section -> options that only --help-all shows, as it does all of `*_objective`, of upsamplers and of distillation."""
TITLES = {
    "": "Run", "data": "Data", "decoder": "Decoder", "prior": "Priors", "clip": "Encoder", "upsampler": "Upsamplers",
    "fit": "Training", "objective": "Loss", "net": "Generator", "gan": "Generator and discriminator",
}  # fmt: skip


def help_text(name: str, recipe: Any, base: Any, everything: bool) -> str:
    """Lists the options of a recipe; those of RARE only with `everything`."""
    sizes = f"of the model: {', '.join(recipe.sizes)}" if recipe.sizes else "of the model, which has one"
    sizes += " (pixels: --data.size)" if hasattr(base.data, "size") else ""
    own = [("-o, --out RUN", "folder of the run; running the command again resumes it")]
    own += [("--data PATH", "short for --data.path")]
    own += [("--device DEVICE", "cpu, cuda, cuda:1 or mps; by default a GPU if there is one")]
    own += [("--processes N", "on the cores of this machine; long runs use every free core")]
    own += [("--size S", sizes), ("--config FILE", "YAML with any of these options; may be given more than once")]
    lines = [
        f"usage: condgen train {name} -o RUN [--data PATH] [OPTION VALUE ...]",
        "",
        textwrap.fill(recipe.help, WIDTH),
        "",
    ]
    lines += [_line(*pair) for pair in own]
    names = [f.name for f in dataclasses.fields(base) if dataclasses.is_dataclass(getattr(base, f.name))]
    sections = {"": base} | {
        n: getattr(base, n) for n in sorted(names, key=lambda n: (n != "data", n.startswith("fit")))
    }
    hidden = 0
    for section, config in sections.items():
        rows, described = [], _documented(type(config))
        for field in dataclasses.fields(config):
            value, key = getattr(config, field.name), f"{section}.{field.name}".lstrip(".")
            if value is None or dataclasses.is_dataclass(value):
                continue
            if not everything and _is_rare(section, field.name):
                hidden += 1
                continue
            text = described.get(field.name, "")
            text = text if everything else re.split(r"(?<!e\.g)\. |; ", text)[0].rstrip(".")
            rows.append(_line(f"--{key} {_shown(value)}", text))
        lines += ["", _title(section), *rows] if rows else []
    lines += ["", "Values are the defaults. Lists are written '[1, 2]'. --print_config writes all options as YAML."]
    lines += [f"--help-all shows {hidden} more options."] if hidden else []
    return "\n".join(printable(line) for line in "\n".join(lines).split("\n"))


def _documented(cls: type) -> dict[str, str]:
    """Name of a field -> its text below `Args:` in the docstrings of a class and of its bases."""
    out: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, args = (inspect.cleandoc(one.__doc__ or "")).partition("Args:\n")
        for names, text in re.findall(r"^    ([\w, ]+): (.*(?:\n {8}.*)*)", args.split("\n\n")[0], re.M):
            for name in names.split(", "):
                if not (name in out and text.startswith("see ")):
                    out[name] = " ".join(text.split())
    return out


def _is_rare(section: str, name: str) -> bool:
    kind = "fit" if section.startswith("fit") else section
    return section.endswith(("_objective", "upsampler", "distill")) or name in RARE.get(kind, ())


def _title(section: str) -> str:
    kind, _, stage = section.partition("_")
    if kind == "fit" and stage:
        return f"Training of the {stage}"
    return TITLES.get(section, f"{section[:1].upper()}{section[1:].replace('_', ' ')}")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"'{list(value)}'"
    return "''" if value == "" else str(value).lower() if isinstance(value, bool) else f"{value}"


def _line(option: str, text: str) -> str:
    """Formats an option and its help, truncated to WIDTH columns."""
    first, *rest = textwrap.wrap(text, WIDTH - 37, break_on_hyphens=False) or [""]
    lines = [f"  {option:<34} {first}", *(" " * 37 + line for line in rest)]
    if len(option) > 34:
        lines = [f"  {option}", *(" " * 37 + line for line in ([first] if first else []) + rest)]
    return "\n".join(lines)
