"""The model card: describes a model, its training data and its training."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import yaml

from condgen.files.renamed import flat

LICENCE_OF_SCENES = "MIT, as condgen itself; the training images are drawn by it."
LICENCE_OF_DATA = "that of the training images applies; name it here before you share the model."


def write_card(model, recipe: str, base, config, metrics: Path, num_images: int) -> str:
    """The model card as Markdown, with the header that model hubs read.

    Args:
        model: the TextToImage or ClassToImage.
        recipe: name of its recipe.
        base: the recipe's config.
        config: the run's config.
        metrics: path of `metrics.jsonl` of the run.
        num_images: number of training images.
    """
    header = yaml.safe_dump(
        {"library_name": "condgen", "pipeline_tag": model.hub_task, "tags": list(model.tags)},
        sort_keys=False,
    )
    stages = _stages(metrics)
    lines = [
        "---",
        header.strip(),
        "---",
        "",
        f"# {model.name}",
        "",
        f"{model.stack} at {model.size} x {model.size} pixels, trained from scratch by condgen's recipe `{recipe}`.",
        "",
        f"- **Data**: {model.about.get('data')}, {num_images:,} training images.",
        f"- **Licence**: {LICENCE_OF_SCENES if not config.data.path else LICENCE_OF_DATA}",
        *_pretrained(config),
        "- **Weights**: safetensors; of priors, decoders and translators 16 bits, of all else 32; computed with 32.",
        f"- **Command**: `{command(recipe, base, config)}`",
        "",
        "| stage | images seen | training minutes |",
        "|---|---|---|",
        *[f"| {s} | {line['images']:,} | {line.get('seconds', 0) / 60:.1f} |" for s, line in stages.items()],
        "",
        "## Config",
        "",
        "```yaml",
        yaml.safe_dump(_shareable(config), sort_keys=False).strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _shareable(config) -> dict:
    """The config as plain values, without the paths of the training machine."""
    plain = json.loads(json.dumps(asdict(config)))
    plain["data"]["path"] = "DATA" if plain["data"]["path"] else ""
    return plain | _folder_names(config)


def _folder_names(config) -> dict[str, str]:
    paths = {name: getattr(config, name) for name in ("init_from", "embeds") if hasattr(config, name)}
    names = {name: Path(path).resolve().name if path else "" for name, path in paths.items()}
    return names | {n: _encoder_name(getattr(config, n)) for n in ("encoder", "text_tower") if hasattr(config, n)}


def _pretrained(config) -> list[str]:
    """A line about the parts that were not trained from scratch."""
    names = [_encoder_name(getattr(config, name)) for name in ("encoder", "text_tower") if getattr(config, name, "")]
    return [f"- **Pretrained**: {', '.join(names)}, whose own licence holds too."] if names else []


def _encoder_name(name: str) -> str:
    """`transformers:/home/me/clip` -> `transformers:clip`; names that are not paths are unchanged."""
    kind, colon, path = name.rpartition(":")
    local = not colon or kind in ("local-dir", "transformers")
    return f"{kind}{colon}{Path(path).name}" if local else name


def command(recipe: str, base, config) -> str:
    """The command that repeats a training; it omits options that are equal to those of the recipe.

    It includes the stage only if the run started from another run, because `minutes` then count for that stage alone;
    otherwise the stage is merely the last one that was trained.
    """
    kind = getattr(config, "kind", None)
    other_kind = kind != getattr(base, "kind", None)
    before = flat(asdict(base.with_kind(kind) if other_kind else base))
    now = flat(asdict(config)) | _folder_names(config)
    hidden = ("data.path",) if now.get("init_from") else ("data.path", "stage")
    changed = {k: v for k, v in now.items() if before.get(k) != v and k not in hidden}
    changed |= {"kind": kind} if other_kind else {}
    flags = [f"--{k} {shlex.quote(str(v))}" for k, v in changed.items()]
    data = ["--data DATA"] if config.data.path != base.data.path else []
    return " ".join([f"condgen train {recipe} -o RUN", *data, *flags])


def _stages(metrics: Path) -> dict[str, dict]:
    """The last entry of every stage; incomplete lines after a crash are skipped."""
    last: dict[str, dict] = {}
    if metrics.is_file():
        for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and {"stage", "images", "seconds"} <= entry.keys():
                    last[entry["stage"]] = entry
    return last
