"""The judge: does a model paint what the words say, and which part of the corridor is to thank or blame?

`evaluate` writes JSON, Markdown and a sheet of pictures. For models of scenes: SceneEval on seen and on held-out
combinations, the swap test of the encoder, the prior report, the paper's ablation. For models of captioned pictures:
retrieval, the prior report and CLIP scores, on pictures that training never saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError
from condgen.data.captions import CaptionedPictures
from condgen.data.detector import detect
from condgen.data.exam import questions
from condgen.data.grammar import captions_of, parse, say, swaps_of
from condgen.data.scenes import draw_scenes, render, scenes
from condgen.data.views import to_float, to_uint8
from condgen.metrics.alignment import prior_report, retrieval_at_1, swap_accuracy
from condgen.metrics.composition import TASKS, is_exact, passes, score
from condgen.paintings import grid

BATCH = 64
SIDES = {"seen": False, "held_out": True}
Told = Callable[[float, str], None]
"""Called with the share that is done and a line about it."""


def scene_eval(
    model, held_out: bool, prompts: int = 50, pictures: int = 4, seed: int = 0, **how
) -> tuple[dict[str, float], list[tuple[str, np.ndarray, bool]]]:
    """SceneEval: the six tasks, judged by the detector.

    Args:
        model: a TextToImage of scenes.
        held_out: ask for combinations that training never showed.
        prompts: per task, at most.
        pictures: per prompt.
        seed: of prompts and noise.
        how: passed to `paint`: prior, use_z, use_words, dials.

    Returns:
        (scores, examples): see `metrics.composition.score`; (caption, uint8 (3, S, S), passed), one a prompt.
    """
    asked = [(task, m) for task in TASKS for m in questions(task, prompts, held_out, seed)]
    jobs = [(task, m, seed + i) for task, m in asked for i in range(pictures)]
    results, examples = [], []
    for start in range(0, len(jobs), BATCH):
        part = jobs[start : start + BATCH]
        painted = _paint(model, [say(m) for _, m, _ in part], [s for *_, s in part], **how)
        for (task, meaning, own), picture, seen in zip(part, painted, detect(painted)):
            results.append((task, passes(task, meaning, seen), bool(seen) and is_exact(meaning, seen)))
            if own == seed:
                examples.append((say(meaning), picture, results[-1][1]))
    return score(results), examples


def _paint(model, prompts: list[str], seeds: list[int], **how) -> np.ndarray:
    *_, last = model.paint(prompts, seeds, **how)
    return to_uint8(last.images)


def scene_swaps(clip, tokenizer, held_out: bool, n: int = 2000, seed: int = 1) -> dict[str, float]:
    """How often the encoder prefers a scene's caption to the one with colours, shapes or relation swapped."""
    layout, things = draw_scenes(n, seed + 10_000, held_out)
    rng = np.random.default_rng(seed)
    captions = [captions_of(scene, rng)[0] for scene in things]
    image_embed = embed_images(clip, render(layout, clip.config.size))
    text_embed = embed_texts(clip, tokenizer, captions)
    out = {}
    for kind in ("colour", "shape", "relation", "size", "number"):
        wrong = [(i, say(swaps[kind])) for i, c in enumerate(captions) if kind in (swaps := swaps_of(parse(c)))]
        rows = [i for i, _ in wrong]
        out[kind] = swap_accuracy(
            image_embed[rows], text_embed[rows], embed_texts(clip, tokenizer, [t for _, t in wrong])
        )
    return out


def priors_report(model, data: CaptionedPictures, n: int = 500) -> dict[str, dict[str, float]]:
    """`metrics.alignment.prior_report` of every prior of the model, on n pictures with their first caption."""
    ids = data.captions[:n, 0]
    image_embed = embed_images(model.clip, data.images[:n])
    text = model.embed_text([data.texts[i] for i in ids])
    out = {}
    for name in [*model.priors, "none"]:
        rng = [torch.Generator().manual_seed(i) for i in range(len(ids))]
        embed = model.normaliser.back(model.draw_embed(text, rng, name))
        out[name] = prior_report(embed, image_embed, text.embed, same_text(data, n))
    return out


def same_text(data: CaptionedPictures, n: int) -> Tensor:
    """bool (n, n): whether the first caption of picture i is among the captions of picture j."""
    own = data.captions[:n]
    return torch.from_numpy((own[:, None, :1] == own[None, :, :]).any(-1))


@torch.inference_mode()
def embed_images(clip, images: np.ndarray) -> Tensor:
    """uint8 (N, 3, S, S) -> unit vectors (N, D)."""
    device = clip.log_scale.device
    return torch.cat([clip.embed_image(to_float(images[i : i + 256]).to(device)) for i in range(0, len(images), 256)])


@torch.inference_mode()
def embed_texts(clip, tokenizer, texts: list[str]) -> Tensor:
    """Texts -> unit vectors (N, D), without the checks of a prompt."""
    parts = [torch.from_numpy(tokenizer.encode(texts[i : i + 512])) for i in range(0, len(texts), 512)]
    return torch.cat([clip.embed_text(part.to(clip.log_scale.device)) for part in parts])


ABLATION: dict[str, dict] = {
    "full stack": {},
    "diffusion prior": {"prior": "diffusion"},
    "text embedding fed zero-shot": {"prior": "none"},
    "image embedding alone (no words)": {"use_words": False},
    "text embedding zero-shot, no words": {"prior": "none", "use_words": False},
    "words alone (no image embedding)": {"use_z": False},
    "no guidance": {"guidance": 1.0},
    "guidance 3": {"guidance": 3.0},
    "6 steps": {"steps": 6},
    "24 steps": {"steps": 24},
}
"""How the corridor is cut short, one way at a time."""


def evaluate_scenes(model, prompts: int, pictures: int, ablate: int, told: Told) -> tuple[dict, list]:
    """The whole report of a model of scenes, and examples for the sheet."""
    report: dict = {"kind": "scenes", "scene_eval": {}, "swap_accuracy": {}, "prior": {}, "ablation": {}}
    examples = []
    for k, (side, held_out) in enumerate(SIDES.items()):
        told(0.05 + 0.25 * k, f"SceneEval, {side}")
        report["scene_eval"][side], shown = scene_eval(model, held_out, prompts, pictures)
        examples += shown[:: max(1, len(shown) // 24)][:24]
        told(0.25 + 0.25 * k, f"encoder and priors, {side}")
        report["swap_accuracy"][side] = scene_swaps(model.clip, model.tokenizer, held_out)
        data = scenes(500, 20_000, model.size, held_out, negatives="none")
        report["prior"][side] = priors_report(model, data)
    if ablate:
        for k, (name, how) in enumerate(ABLATION.items()):
            if how.get("prior", "none") not in (*model.priors, "none"):
                continue
            told(0.55 + 0.45 * k / len(ABLATION), f"ablation: {name}")
            scores = {side: scene_eval(model, held, ablate, 1, 1, **how)[0] for side, held in SIDES.items()}
            report["ablation"][name] = {f"{s} {x}": scores[s][x] for s in SIDES for x in ("overall", "exact")}
    return report, examples


def evaluate_captions(model, data: CaptionedPictures, pictures: int, told: Told, n: int = 500) -> tuple[dict, list]:
    """The report of a model of captioned pictures, on pictures it never saw."""
    n = min(n, len(data))
    captions = [data.texts[i] for i in data.captions[:n, 0]]
    told(0.1, "encoder and priors")
    text = embed_texts(model.clip, model.tokenizer, captions)
    images = embed_images(model.clip, data.images[:n])
    same = same_text(data, n)
    report: dict = {"kind": "captions", "data": data.name, "pictures": n}
    report["retrieval"] = {
        "text to image R@1": retrieval_at_1(text, images, same),
        "image to text R@1": retrieval_at_1(images, text, same.T),
    }
    report["prior"] = {"test": priors_report(model, data, n)}
    report["clip_score"] = {"true pictures": (images * text).sum(1).mean().item()}
    shown, scores = [], []
    few = captions[: min(n, 64)]
    for i in range(pictures):
        told(0.4 + 0.6 * i / pictures, "painting test captions")
        painted = _paint(model, few, list(range(1000 * i, 1000 * i + len(few))))
        scores.append((embed_images(model.clip, painted) * text[: len(few)]).sum(1).mean().item())
        shown += [(c, p, True) for c, p in zip(few, painted)] if i == 0 else []
    report["clip_score"]["painted"] = float(np.mean(scores))
    return report, shown[:48]


def evaluate(
    model, out: Path | str | None = None, data: str = "", split: str = "test", prompts: int = 50, pictures: int = 4,
    ablate: int = 20, parts: str = "", told: Told = lambda share, what: None,
) -> dict:  # fmt: skip
    """Judges a model.

    Args:
        model: a TextToImage, a path or a name.
        out: folder for `report.json`, `report.md` and `sheet.png`; None writes nothing.
        data: captioned pictures to judge on; needed unless the model paints scenes.
        split: which part of `data`.
        prompts: per task of SceneEval.
        pictures: per prompt.
        ablate: prompts per task for each line of the ablation; 0 leaves it out.
        parts: `parts.parquet`, to judge pictures made of known layers by their head and glasses.
        told: called with progress.

    Returns:
        the report, as written to `report.json`.
    """
    if not hasattr(model, "paint"):
        from condgen import load

        model = load(model)
    if not data and model.about.get("recipe", "").startswith("scenes"):
        report, shown = evaluate_scenes(model, prompts, pictures, ablate, told)
    else:
        if not data:
            raise CondgenError(f"{model.name} does not paint scenes: give captioned pictures to judge on with --data.")
        from condgen.data.sources import load_captions

        report, shown = evaluate_captions(model, load_captions(data, model.size, split=split), pictures, told)
    report = {"model": model.name, "model_id": model.model_id} | report
    told(1.0, "done")
    if out is not None:
        _write(Path(out), report, shown)
    return report


def _write(out: Path, report: dict, shown: list) -> None:
    from PIL import Image

    from condgen.paintings import make_folder, write_bytes

    make_folder(out)
    write_bytes(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    write_bytes(out / "report.md", markdown(report).encode())
    pictures = [Image.fromarray(picture.transpose(1, 2, 0)) for _, picture, _ in shown]
    labels = [("" if ok else "(wrong) ") + caption for caption, _, ok in shown]
    grid(pictures, labels, columns=8, cell=128).save(out / "sheet.png")


def markdown(report: dict, level: int = 1) -> str:
    """A report as Markdown: one table for every group of equal keys."""
    lines = [f"{'#' * level} {report['model']} ({report['model_id']})", ""] if level == 1 else []
    for name, value in report.items():
        if not isinstance(value, dict):
            continue
        lines += [f"{'#' * (level + 1)} {name.replace('_', ' ')}", ""]
        rows = {k: v for k, v in value.items() if isinstance(v, dict)}
        if rows and all(isinstance(x, dict) for row in rows.values() for x in row.values()):
            lines.append(markdown(value, level + 1))
        elif rows:
            lines += _table(rows)
        else:
            lines += _table({"": value})
    return "\n".join(lines) + "\n"


def _table(rows: dict[str, dict[str, float]]) -> list[str]:
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[c]:.3f}" if c in row else "" for c in columns) + " |")
    return [*lines, ""]
