"""Measures inpainting, images to begin from, image prompts and re-ranking with the bundled model on scenes.

    python scripts/bench_guide.py inpaint --images 150
    python scripts/bench_guide.py rerank --images 50

Every subcommand prints a table in Markdown, or JSON; see docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

import condgen
from condgen.data.batches.base import to_float, to_uint8
from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.grammar import (
    COLOURS,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Meaning,
    captions_of,
    parse,
    relation_of,
    say,
)
from condgen.data.synthetic.prompts import questions
from condgen.data.synthetic.scenes import draw_scenes, render
from condgen.files.images import grid
from condgen.metrics.diversity import mean_distance
from condgen.metrics.geneval import TASKS, is_exact, passes, score
from condgen.pipelines.base import Candidate
from condgen.pipelines.editing.base import Editor
from condgen.pipelines.editing.decoding import Decoding
from condgen.pipelines.editing.guide import Guide, guides

BATCH = 16
Rows = list[dict[str, Any]]


def generated(model: Any, operations: list[Guide], candidate: int = 0, **options: float) -> np.ndarray:
    """One image of every operation, uint8 (N, 3, S, S); the k-th has seed k."""
    editor, parts = Editor(model), []
    for start in range(0, len(operations), BATCH):
        part = operations[start : start + BATCH]
        seeds = [Candidate(seed, candidate) for seed in range(start, start + len(part))]
        *_, last = editor.generate_batch(part, seeds, **options)
        parts.append(to_uint8(last.images))
    return np.concatenate(parts)


def to_image(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array.transpose(1, 2, 0) if array.ndim == 3 else array)


def pairs(n: int, held_out: bool, size: int) -> list[dict[str, Any]]:
    """Scenes of two different things in a relation: both things, the image, the image of each alone."""
    layout, things = draw_scenes(12 * n, 31, held_out)
    rows = [k for k, (a, *rest) in enumerate(things) if len(rest) == 1 and a.kind != rest[0].kind
            and relation_of(a, rest[0])][:n]  # fmt: skip
    images = render(layout[np.array(rows)], size)
    alone = []
    for thing in (0, 1):
        part = layout[np.array(rows)]
        part.shape[:, 1 - thing] = -1
        alone.append(render(part, size))
    return [{"a": things[k][0], "b": things[k][1], "both": images[i], "first": alone[0][i]}
            for i, k in enumerate(rows)]  # fmt: skip


def box_around(changed: np.ndarray, margin: int = 2) -> np.ndarray:
    """White in the bounding box of the changed pixels, widened by a margin; uint8 (S, S)."""
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    mask = np.zeros(changed.shape, np.uint8)
    mask[max(0, rows[0] - margin) : rows[-1] + 1 + margin, max(0, columns[0] - margin) : columns[-1] + 1 + margin] = 255
    return mask


def inpaint(model: Any, args: argparse.Namespace) -> Rows:
    """removes, replaces and adds one of two things; exact by the detector, and the kept pixels"""
    rows: Rows = []
    for side, held_out in (("seen", False), ("held out", True)):
        scenes, rng = pairs(args.images, held_out, model.size), np.random.default_rng(0)
        for task in ("remove", "replace", "add"):
            jobs, asked, kept = [], [], []
            for scene in scenes:
                a, b = scene["a"], scene["b"]
                mask = box_around((scene["both"] != scene["first"]).any(0))
                relation, kind, init = relation_of(a, b), b.kind, scene["both"]
                if task == "remove":
                    meaning = Meaning((a.kind,))
                elif task == "replace":
                    others = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in (a.kind, b.kind)]
                    kind = others[rng.integers(len(others))]
                    meaning = Meaning((a.kind, kind), relation=relation)
                else:
                    init, meaning = scene["first"], Meaning((a.kind, kind), relation=relation)
                    mask = empty_half(init, relation)
                jobs += guides(model, say(meaning), init=to_image(init), mask=to_image(mask))
                asked.append(meaning)
                kept.append((init, mask == 0))
            began, text = time.process_time(), model.embed_text([say(m) for m in asked])
            tried = np.stack([generated(model, jobs, k) for k in range(args.candidates)], 1)
            seconds = (time.process_time() - began) / len(jobs) / args.candidates
            scores = torch.stack([model.clip_score(to_float(one), text) for one in tried.swapaxes(0, 1)], 1)
            for count in range(1, args.candidates + 1):
                found = tried[np.arange(len(jobs)), scores[:, :count].argmax(1).numpy()]
                exact = [bool(seen) and is_exact(m, seen) for m, seen in zip(asked, detect(found))]
                same = [(one[:, keep] == init[:, keep]).all() for one, (init, keep) in zip(found, kept)]
                rows.append({"scenes": side, "task": task, "candidates": count, "exact": float(np.mean(exact)),
                             "kept": float(np.mean(same)), "s/image": seconds * count, "N": len(jobs)})  # fmt: skip
                print(rows[-1], file=sys.stderr, flush=True)
            if args.sheet:
                show(args.sheet, f"{side} {task}", jobs, found, exact)
    return rows


def empty_half(init: np.ndarray, relation: str) -> np.ndarray:
    """White where the second thing belongs: everything on its side of the first, up to two pixels from it."""
    filled = np.abs(init.astype(int) - init[:, :1, :1]).max(0) > 8
    rows, columns = np.flatnonzero(filled.any(1)), np.flatnonzero(filled.any(0))
    mask = np.zeros(filled.shape, np.uint8)
    {"above": mask[rows[-1] + 2 :], "below": mask[: rows[0] - 1], "left of": mask[:, columns[-1] + 2 :],
     "right of": mask[:, : columns[0] - 1]}[relation][:] = 255  # fmt: skip
    return mask


def show(path: str, name: str, jobs: list[Guide], found: np.ndarray, exact: list[bool]) -> None:

    cells, texts = [], []
    for job, image, right in [*zip(jobs, found, exact)][:24]:
        cells += [job.init.image(), (job.mask or job.init).image(), to_image(image)]
        texts += ["", "", ("" if right else "(wrong) ") + job.prompt]
    grid(cells, texts, 12, 80).save(f"{path}-{name.replace(' ', '-')}.png")


def init(model: Any, args: argparse.Namespace) -> Rows:
    """one thing of held-out scenes changed by words from an image, by noise level: exact, and both things' places"""
    rows: Rows = []
    scenes, rng = pairs(args.images, True, model.size), np.random.default_rng(0)
    for level in (0.7, 0.8, 0.85, 0.9, 0.95, 1.0):
        jobs, asked = [], []
        for scene in scenes:
            a, b = scene["a"], scene["b"]
            colour = COLOURS[(COLOURS.index(b.colour) + 1 + rng.integers(7)) % 8]
            meaning = Meaning((a.kind, (colour, b.shape)), relation=relation_of(a, b))
            jobs += guides(model, say(meaning), init=to_image(scene["both"]), noise=level)
            asked.append(meaning)
        found = generated(model, jobs)
        seen = detect(found)
        exact = [is_exact(m, one) for m, one in zip(asked, seen)]
        moved = [places(scene, m, one) for scene, m, one, ok in zip(scenes, asked, seen, exact) if ok]
        distance = float(np.mean(moved or [np.nan]))
        rows.append({"noise": level, "exact": float(np.mean(exact)), "moved": distance, "N": len(jobs)})
        if args.sheet:
            show(args.sheet, f"init {level}", jobs, found, exact)
    return rows


def places(scene: dict[str, Any], meaning: Meaning, seen: list) -> float:
    """Mean distance of both things from where they were, in image edges."""
    where = {one.kind: one for one in seen}
    old, new = (scene["a"], scene["b"]), [where[kind] for kind in meaning.kinds]
    return float(np.mean([np.hypot(p.x - q.x, p.y - q.y) for p, q in zip(old, new)]))


def weights(model: Any, args: argparse.Namespace) -> Rows:
    """the prompt of one held-out scene and the image of another, by weight: exact for either, similarity to both"""
    rows: Rows = []
    layout, things = draw_scenes(2 * args.images, 32, True)
    images = render(layout, model.size)
    first, second = things[: args.images], things[args.images :]
    asked = [parse(captions_of(one)[0]) for one in first]
    shown = [parse(captions_of(one)[0]) for one in second]
    embed = model.embed_image(to_float(images[args.images :]))
    for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
        jobs = []
        for meaning, image in zip(asked, images[args.images :]):
            jobs += guides(model, say(meaning), image=to_image(image), image_weight=weight)
        found = generated(model, jobs)
        seen, own = detect(found), model.embed_image(to_float(found))
        text = model.embed_text([say(m) for m in asked]).embed
        rows.append({
            "weight": weight,
            "exact for the prompt": float(np.mean([bool(s) and is_exact(m, s) for m, s in zip(asked, seen)])),
            "exact for the image": float(np.mean([bool(s) and is_exact(m, s) for m, s in zip(shown, seen)])),
            "cosine to the prompt": (own * text).sum(1).mean().item(),
            "cosine to the image": (own * embed).sum(1).mean().item(),
            "N": len(jobs),
        })  # fmt: skip
    return rows


def rerank(model: Any, args: argparse.Namespace) -> Rows:
    """SceneEval with 1, 2 and 4 candidates, 4 images a prompt, and their variety; --images: prompts a task"""
    rows: Rows = []
    for side, held_out in (("seen", False), ("held out", True)):
        asked = [(task, m) for task in TASKS for m in questions(task, args.images, held_out, 0)]
        jobs = [job for job in asked for _ in range(4)]
        images, scores, seconds = all_candidates(model, [say(m) for _, m in jobs], 4)
        rows += [reranked(model, side, jobs, images, scores, k, seconds * k) for k in (1, 2, 4)]
    return rows


def all_candidates(model: Any, prompts: list[str], count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Images uint8 (N, count, 3, S, S), their scores (N, count), and the seconds of one candidate."""
    images, scores, began = [], [], time.process_time()
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        text, seeds = model.embed_text(part), range(start, start + len(part))
        own = []
        for k in range(count):
            *_, last = model.generate_batch(part, [Candidate(seed, k) for seed in seeds])
            own.append(to_uint8(last.images))
        images.append(np.stack(own, 1))
        scores.append(np.stack([model.clip_score(to_float(one), text).numpy() for one in own], 1))
    seconds = (time.process_time() - began) / len(prompts) / count
    return np.concatenate(images), np.concatenate(scores), seconds


def reranked(model, side: str, jobs: list, images: np.ndarray, scores: np.ndarray, k: int, seconds: float) -> dict:
    """One row: the best of the first k candidates."""
    found = images[np.arange(len(jobs)), scores[:, :k].argmax(1)]
    seen = detect(found)
    results = [(task, passes(task, m, s), bool(s) and is_exact(m, s)) for (task, m), s in zip(jobs, seen)]
    scored = score(results)
    flat = torch.from_numpy(found).flatten(1).float() / 255
    own = condgen.load("models/nouns32").embed_image(to_float(found))
    return {
        "scenes": side, "candidates": k, "overall": scored["overall"], "exact": scored["exact"],
        "distance of pixels": float(np.mean([mean_distance(flat[i : i + 4]) for i in range(0, len(jobs), 4)])),
        "distance of features": float(np.mean([mean_distance(own[i : i + 4]) for i in range(0, len(jobs), 4)])),
        "s/image": seconds, "N": len(jobs),
    } | {task: scored[task] for task in TASKS}  # fmt: skip


OPEN = [
    *(f"a {a} {relation} a {b}" for a in SHAPES for b in SHAPES if a != b for relation in RELATIONS[:3:2]),
    *(f"{number} {a}{'es' if a == 'cross' else 's'}" for a in SHAPES for number in list(NUMBERS)[:2]),
    *(f"a {size} {a}" for a in SHAPES for size in SIZES),
]
"""60 prompts that leave the colour open."""


@dataclass(frozen=True)
class Partly(Guide):
    """Steers away from the z of the negative words alone, or from the words alone."""

    part: str = "words"

    def decoding(self, editor: Editor, rng: torch.Generator, options: dict[str, float]) -> Decoding:
        same = torch.Generator().set_state(rng.get_state())  # the noise of the prompt's z
        row = super().decoding(editor, rng, options)
        if not self.negative or self.part == "words":
            return row
        z = editor.z_of(self.negative, same, options)
        return replace(row, negative=self.negative if self.part == "both" else "", negative_z=z)


def negative(model: Any, args: argparse.Namespace) -> Rows:
    """away from a colour: that colour seen where prompts leave it open, and exact where they name others"""
    rows: Rows = []
    full = [m for task in TASKS for m in questions(task, 40, False, 0) if all(args.negative not in k for k in m.kinds)]
    full = full[:: len(full) // len(OPEN)][: len(OPEN)]
    for guidance in (2.0, 4.0, 6.0):
        for part in ("none", "z", "words", "both"):
            away = "" if part == "none" else args.negative
            jobs = [Partly(prompt, negative=away, part=part) for prompt in [*OPEN, *map(say, full)]]
            found = generated(model, jobs, guidance=guidance)
            seen = detect(found)
            free, named = seen[: len(OPEN)], seen[len(OPEN) :]
            rows.append({
                "guidance": guidance, "away from": part,
                args.negative: float(np.mean([any(args.negative in one.kind for one in things) for things in free])),
                "nothing": float(np.mean([not things for things in free])),
                "shapes right": float(np.mean([*map(shapes_fit, OPEN, free)])),
                "exact": float(np.mean([bool(things) and is_exact(m, things) for m, things in zip(full, named)])),
                "N": len(OPEN),
            })  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
            if args.sheet:
                cells = [to_image(one) for one in found]
                grid(cells, [job.prompt for job in jobs], 12, 80).save(f"{args.sheet}-{part}-{guidance:g}.png")
    return rows


def shapes_fit(prompt: str, things: list) -> bool:
    """Whether the shapes are those of a prompt of OPEN, as many as it says."""
    words = prompt.replace("crosses", "cross").split()
    named = [shape for word in words for shape in SHAPES if word.rstrip("s") == shape.rstrip("s")]
    return sorted(named * NUMBERS.get(words[0], 1)) == sorted(one.shape for one in things)


COMMANDS: dict[str, Callable[[Any, argparse.Namespace], Rows]] = {
    "inpaint": inpaint, "init": init, "weights": weights, "rerank": rerank, "negative": negative,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=COMMANDS, help="; ".join(f"{k}: {v.__doc__}" for k, v in COMMANDS.items()))
    parser.add_argument("--model", help="a name or path (default the bundled model)")
    parser.add_argument("--images", type=int, default=150, help="scenes, or prompts of each task (default 150)")
    parser.add_argument("--candidates", type=int, default=2, help="of inpaint (default 2)")
    parser.add_argument("--sheet", metavar="PATH", default="", help="beginning of the names of sheets of images")
    parser.add_argument("--negative", default="red", help="a word that `negative` steers away from (default red)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with torch.inference_mode():
        rows = COMMANDS[args.what](condgen.load(args.model), args)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in line] for line in lines]
    print("\n".join(f"| {' | '.join(line)} |" for line in cells))


if __name__ == "__main__":
    main()
