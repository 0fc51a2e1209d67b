"""The model card: describes a model, its training data and its training."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import yaml

from condgen.files import registry
from condgen.files.renamed import flat
from condgen.files.weights import whole

LICENCE_OF_SCENES = "MIT, as condgen itself; the training images are drawn by it."
LICENCE_OF_DATA = "that of the training images applies; name it here before you share the model."
HUB_LICENCES = {
    "MIT": "mit", "CC-BY-SA 4.0": "cc-by-sa-4.0", "CC-BY 4.0": "cc-by-4.0", "CC0": "cc0-1.0",
    "Apache-2.0": "apache-2.0",
}  # fmt: skip
"""Beginning of a licence in a card -> its identifier on model hubs; `other` for all else."""
OPAQUE = '''def opaque(image):
    """Shows the background of training through transparent pixels."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, {background}), image).convert("RGB")'''
USE = {
    "transformers": """from PIL import Image
from transformers import pipeline

{opaque}

classify = pipeline("zero-shot-image-classification", model="FOLDER")
image = opaque(Image.open("image.png"))
print(classify(image, candidate_labels=["dog", "cat"], hypothesis_template={template!r}))""",
    "open_clip": """import open_clip
import torch
from PIL import Image

{opaque}

model, preprocess = open_clip.create_model_from_pretrained("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
texts = [{template!r}.format(label) for label in ("dog", "cat")]
with torch.inference_mode():
    image = model.encode_image(preprocess(opaque(Image.open("image.png")))[None], normalize=True)
    print(image @ model.encode_text(tokenizer(texts), normalize=True).T)""",
}
"""Code that classifies an image, by library."""


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
        f"{model.stack} at {model.size} x {model.size} pixels{_larger(model)}, trained from scratch by condgen's "
        f"recipe `{recipe}`.",
        "",
        f"- **Data**: {model.about.get('data')}, {num_images:,} training images.",
        *_distilled(model),
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
        yaml.safe_dump(_used(_shareable(config)), sort_keys=False).strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _larger(model) -> str:
    sizes = model.about.get("upsamplers", [])
    return f", with upsamplers to {' and '.join(map(str, sizes))}" if sizes else ""


def _distilled(model) -> list[str]:
    """A line about a decoder of few steps."""
    known = getattr(model.main, "config", None)
    if not getattr(known, "distilled", 0):
        return []
    return [
        f"- **Steps**: {known.steps}, the default; the decoder was distilled to so many, with a guidance scale of "
        f"{known.distilled:g} in its weights. Guidance is therefore 1 by default, and more is on top of it."
    ]


def _shareable(config) -> dict:
    """The config as plain values, without the paths of the training machine."""
    plain = json.loads(json.dumps(asdict(config)))
    plain["data"]["path"] = "DATA" if plain["data"]["path"] else ""
    return plain | _folder_names(config)


def _used(config: dict) -> dict:
    """Leaves out the options that had no effect: empty ones, and those of parts that were not trained or drawn."""
    without = {"save_every", "eval_count", "prompts"}
    encoder = {"clip", "clip_objective", "fit_clip", "backbone", "augment", "encoder_objective", "fit_encoder"}
    without |= encoder if config.get("encoder") or config.get("unconditional") else set()
    without |= {"prior", "fit_prior"} if config.get("unconditional") else set()
    without |= set() if config.get("upsample") else {"upsampler", "upsampler_objective", "fit_upsampler"}
    drawn = {"scenes", "negatives", "num_samples", "templates"} if config["data"].get("path") else set()
    without |= set() if config.get("distill") else {"distill_objective", "fit_distill"}
    data = {name: value for name, value in config["data"].items() if name not in drawn}
    kept = {name: value for name, value in (config | {"data": data}).items() if name not in without}
    return {name: _without_empty(value) if isinstance(value, dict) else value for name, value in kept.items()
            if not _is_empty(value) and (value or name not in ("minutes", "total_images"))}  # fmt: skip


def _without_empty(section: dict) -> dict:
    return {name: value for name, value in section.items() if not _is_empty(value)}


def _is_empty(value) -> bool:
    return value is None or value in ("", [], {})


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


def command(recipe: str, base, config, run: Path | None = None) -> str:
    """The command that repeats a training; it omits options that are equal to those of the recipe.

    Args:
        run: the run folder, for the owner's own use: the command then has the actual paths and the stage.

    For others it has no paths of the training machine, and includes the stage only if the run started from another
    run, because `minutes` then count for that stage alone; otherwise the stage is merely the last one that was trained.
    """
    kind = getattr(config, "kind", None)
    other_kind = kind != getattr(base, "kind", None)
    before = flat(asdict(base.with_kind(kind) if other_kind else base))
    now = flat(asdict(config)) | ({} if run else _folder_names(config))
    hidden = ("data.path",) if run else ("data.path",) if now.get("init_from") else ("data.path", "stage")
    changed = {k: v for k, v in now.items() if before.get(k) != v and k not in hidden}
    changed |= {"kind": kind} if other_kind else {}
    flags = [f"--{k} {shlex.quote(str(v))}" for k, v in changed.items()]
    data = [f"--data {shlex.quote(config.data.path) if run else 'DATA'}"] if config.data.path != base.data.path else []
    return " ".join([f"condgen train {recipe} -o {shlex.quote(str(run)) if run else 'RUN'}", *data, *flags])


RUN_FILES = {
    "model/": "the finished model with its card, `model/README.md`",
    "unfinished/": "a model of the last checkpoint, written on request while the run is not finished",
    "samples/": "sample sheets made during training, named by stage and images seen",
    "metrics.jsonl": "losses, speed and scores, one JSON object a line",
    "tensorboard/": "the same as curves",
    "config.yaml": "all options of the run",
    "data.json": "digests of the training data, which must not change",
    "status.json": "whether `model/` holds the latest weights, and what the run has done",
    "parts/": "the parts of the model that are trained, and the best state so far",
    "checkpoints/": "the last two states of every stage, to go on from; the model works without them",
    "embeds/": "embeddings of data that are too large for memory",
    "faults/": "batches whose loss was not finite",
}
"""Files and folders of a run -> their content; the last two are in some runs only."""


def write_run_readme(run: Path, recipe: str, base, config) -> None:
    """Writes the `README.md` of a run folder: its files, and the commands to go on, to look and to use the model."""
    again, place = command(recipe, base, config, run), shlex.quote(str(run))
    lines = [
        f"# A training run of condgen: {recipe}",
        "",
        "| file | content |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in RUN_FILES.items()),
        "",
        "Go on after a stop, or train a finished run longer with more `--minutes` or `--total_images`:",
        "",
        f"    {again}",
        "",
        "Describe the model, or the last checkpoint of a run that is not finished, and copy it to a folder of its own:",
        "",
        f"    condgen info {place}",
        f"    condgen export {place} -o FOLDER",
        "",
        "All commands take the run folder as a model, for example `condgen generate PROMPT --model RUN` or "
        "`condgen sample --model RUN`. Curves of the training:",
        "",
        f"    tensorboard --logdir {shlex.quote(str(run / 'tensorboard'))}",
        "",
    ]
    with whole(run / "README.md") as file:
        file.write_text("\n".join(lines), encoding="utf-8")


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


def exported_facts(folder: Path) -> dict:
    """What the card of an exported encoder repeats about a model: name, data, licence, and how it reads images."""
    about, licence = registry.about(folder), ""
    with suppress(OSError):
        lines = (folder / "README.md").read_text(encoding="utf-8", errors="replace").splitlines()
        licence = next((line.partition(":")[2].strip() for line in lines if line.startswith("- **Licence**")), "")
    return {"name": about.get("name"), "data": about.get("data"), "licence": licence, "reading": about.get("reading")}


def export_card(library: str, net, context: int, facts: dict) -> str:
    """The card of an encoder that another library reads: use, what differs from condgen, data and licence.

    Args:
        library: open_clip or transformers.
        net: the encoder.
        context: tokens of its tokenizer in condgen.
        facts: see `exported_facts`; what is missing is called unknown.
    """
    reading = facts.get("reading") if isinstance(facts.get("reading"), dict) else {}
    templates, background = reading.get("templates") or [], tuple(reading.get("background") or (255, 255, 255))
    licence = facts.get("licence") or LICENCE_OF_DATA
    hub = next((name for start, name in HUB_LICENCES.items() if licence.startswith(start)), "other")
    tags = ["clip", "zero-shot-image-classification"]
    header = {"library_name": library, "pipeline_tag": tags[1], "license": hub, "tags": tags}
    sentences = f"- **Templates** of its training: {', '.join(f'`{one}`' for one in templates)}" if templates else (
        "- **Templates**: none, it was trained on captions; write texts as they are written there."
    )  # fmt: skip
    code = USE[library].format(
        opaque=OPAQUE.format(background=background), template=templates[0] if templates else "{}"
    )
    lines = [
        "---", yaml.safe_dump(header, sort_keys=False).strip(), "---", "",
        f"# {facts.get('name') or 'CLIP'}", "",
        f"A contrastive encoder of images and texts (CLIP) at {net.size} x {net.size} pixels, exported by condgen for "
        f"{library}.", "",
        f"- **Data**: {facts.get('data') or 'unknown'}.",
        f"- **Licence**: {licence}",
        sentences,
        f"- **Context**: trained on texts of up to {context} tokens, the end among them. The position of every token "
        "after these is that of the last one; condgen cuts longer texts instead, as `max_length` with truncation does.",
        f"- **Transparent pixels** showed the colour {background} in training. {library} drops alpha when it converts "
        "images to RGB, which shows what is under them, often black, and costs most of the accuracy: convert images "
        "yourself, as below.",
        *([f"- **Other shapes**: images were padded to a square with {background}; {library} cuts out the centre."]
          if reading.get("resize") == "pad" else []),
        "", "```python", code, "```", "",
    ]  # fmt: skip
    return "\n".join(lines)
