"""Measures the operations on image embeddings with the bundled model on held-out scenes, see docs/results.md.

    python scripts/bench_editing.py vary --images 200 --seeds 2
    python scripts/bench_editing.py mix --images 200
    python scripts/bench_editing.py inversion
    python scripts/bench_editing.py edit --images 500

Every subcommand prints a table in Markdown with the number of images and the seeds, or JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import condgen
from condgen.data.batches.base import to_float, to_uint8
from condgen.data.sources.captions import load_captions
from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.edits import CHANGES, SceneEdit, draw_edits, in_place, is_done
from condgen.files.images import GeneratedImage
from condgen.metrics.image_quality import MAX_PSNR, psnr
from condgen.pipelines.editing.base import Editor, InputImage
from condgen.pipelines.editing.edit import CHANGED, best, edits
from condgen.pipelines.editing.guide import Guide
from condgen.pipelines.editing.inversion import Invert

BATCH = 50
Rows = list[dict[str, Any]]
"""Rows of a table, all with the same columns."""


def shown(rows: Rows) -> str:
    """The rows as a table in Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def held_out_scenes(n: int, seed: int, size: int) -> tuple[Any, list[str]]:
    """Images of n held-out scenes, uint8 (n, 3, S, S), and a caption of each, with its relation, number or size."""
    from condgen.data.synthetic.grammar import captions_of
    from condgen.data.synthetic.scenes import draw_scenes, render

    layout, things = draw_scenes(n, seed, held_out=True)
    return render(layout, size), [captions_of(own)[0] for own in things]


def inputs_of(model, images) -> list:
    """uint8 (N, 3, S, S) as input images of a model."""
    from PIL import Image

    from condgen.pipelines.editing.base import InputImage

    return [InputImage.read(model, Image.fromarray(image.transpose(1, 2, 0).copy())) for image in images]


def generated(pipeline, conditions: list, seeds: list[int], **options) -> torch.Tensor:
    """Image i of condition i and seed i, (N, 3, S, S) as it is saved; `BATCH` at a time."""
    found = []
    for start in range(0, len(seeds), BATCH):
        rows = slice(start, start + BATCH)
        *_, last = pipeline.generate_batch(conditions[rows], seeds[rows], **options)
        found.append(to_float(to_uint8(last.images)))
    return torch.cat(found)


def kept(images: torch.Tensor, captions: list[str]) -> float:
    """Share of the images that show what their caption says and nothing else, by the detector."""
    from condgen.data.synthetic.detector import detect
    from condgen.data.synthetic.grammar import parse
    from condgen.metrics.geneval import is_exact

    seen = detect(to_uint8(images))
    return sum(bool(own) and is_exact(parse(text), own) for text, own in zip(captions, seen)) / len(captions)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean Euclidean distance of images in [-1, 1]."""
    return (a - b).flatten(1).norm(dim=1).mean().item()


def vary(model, args: argparse.Namespace) -> Rows:
    """variations by strength: what they keep, and how far they are apart"""
    from condgen.pipelines.auto import load_pipeline
    from condgen.pipelines.editing.base import Editor
    from condgen.pipelines.editing.vary import Vary, guidance_at

    pixels, captions = held_out_scenes(args.images, 90_000, model.size)
    images, inputs = to_float(pixels), inputs_of(model, pixels)
    features, default = load_pipeline("models/emoji-clip"), model.decoder.sampling_options[0].default
    editor, rows = Editor(model), []

    def add(name: str, made: list[torch.Tensor]) -> None:
        embeds = [features.embed_image(one) for one in made]
        pairs = [(a, b) for a in range(len(made)) for b in range(a)]
        rows.append({
            "images": name, "N": len(made) * len(images),
            "keeps the caption": sum(kept(one, captions) for one in made) / len(made),
            "distance of two, pixels": sum(distance(made[a], made[b]) for a, b in pairs) / len(pairs),
            "of two, features": sum((1 - (embeds[a] * embeds[b]).sum(1)).mean().item() for a, b in pairs) / len(pairs),
            "distance to the image": sum(distance(one, images) for one in made) / len(made),
        })  # fmt: skip

    for words in (False, True):
        for strength in (0.25, 0.5, 0.75, 1.0)[3 * words :]:
            asked = [Vary(image, strength, text if words else "") for image, text in zip(inputs, captions)]
            options = {"guidance": guidance_at(strength, default)}
            made = [generated(editor, asked, [seed] * len(asked), **options) for seed in range(args.seeds)]
            add(f"strength {strength}" + (", with its words" if words else ""), made)
    add("two seeds of its words", [generated(model, captions, [k] * len(captions)) for k in range(args.seeds)])
    return rows


def is_rising(values: torch.Tensor, tolerance: float) -> torch.Tensor:
    """Whether the columns of (K, N) rise, up to a tolerance, (N,)."""
    return (values.diff(dim=0) >= -tolerance).all(0)


def mix(model, args: argparse.Namespace) -> Rows:
    """interpolations of pairs: whether they come monotonically closer to one end and leave the other"""
    from condgen.data.synthetic.detector import MIN_OVERLAP, detect
    from condgen.metrics.image_quality import psnr
    from condgen.pipelines.editing.base import Editor
    from condgen.pipelines.editing.mix import guidance_of, mixture, path_between

    n, rows = args.images, []
    pixels, _ = held_out_scenes(2 * n, 91_000, model.size)
    a, b = to_float(pixels[:n]), to_float(pixels[n:])
    inputs, default = inputs_of(model, pixels), model.decoder.sampling_options[0].default
    with torch.inference_mode():
        embed_a, embed_b = (torch.cat([model.embed_image(part) for part in side.split(BATCH)]) for side in (a, b))
    for noise in args.noise:
        editor = Editor(model)
        paths = [path_between(mixture(model, pair, None, noise, None), 9) for pair in zip(inputs[:n], inputs[n:])]
        guidance = guidance_of(inputs[:1], noise, True, default)
        steps = [generated(editor, list(step), [0] * n, guidance=guidance) for step in zip(*paths)]
        with torch.inference_mode():
            near = [torch.stack([(model.embed_image(x) * end).sum(1) for x in steps]) for end in (embed_a, embed_b)]
        far = [torch.stack([(x - end).flatten(1).norm(dim=1) for x in steps]) for end in (a, b)]
        row = {"noise": noise, "pairs": n, "PSNR of the ends": (psnr(steps[0], a) + psnr(steps[-1], b)) / 2}
        for images, every in ((3, 4), (5, 2), (9, 1)):
            for tolerance in (0.0, 0.02):
                size = far[0].amax(0)
                encoder = is_rising(-near[0][::every], tolerance) & is_rising(near[1][::every], tolerance)
                by_pixels = is_rising(far[0][::every] / size, tolerance) & is_rising(-far[1][::every] / size, tolerance)
                for name, good in (("encoder", encoder), ("pixels", by_pixels)):
                    row[f"{name}, {images} images, tolerance {tolerance}"] = good.float().mean().item()
        seen = [own for step in steps[1:-1] for own in detect(to_uint8(step))]
        clean = [bool(own) and all(one.overlap >= MIN_OVERLAP and "?" not in one.kind for one in own) for own in seen]
        rows.append(row | {"images of whole shapes": sum(clean) / len(clean)})
    return rows


def held_out(model: Any, args: argparse.Namespace) -> list[InputImage]:
    """Images that the model has not seen: those of --data, or scenes."""
    if not args.data:
        return inputs_of(model, held_out_scenes(args.images, 7, model.size)[0])
    return inputs_of(model, load_captions(args.data, size=model.size, split="all").images[: args.images])


def inversion(model: Any, args: argparse.Namespace) -> Rows:
    """PSNR of reconstructions from inverted noise, in dB, by the number of steps"""
    editor, images, rows = Editor(model), held_out(model, args), []
    before = torch.stack([image.pixels(model) for image in images])
    for steps in (5, 12, 25, 50):
        began = time.perf_counter()
        generated = editor.apply([Invert(image) for image in images], [0], steps=steps)
        after = torch.stack([InputImage.read(model, one.image).pixels(model) for one in generated])
        took = (time.perf_counter() - began) / len(images)
        own = sorted(min(MAX_PSNR, psnr(a[None], b[None])) for a, b in zip(after, before))
        facts = {
            "PSNR mean": sum(own) / len(own),
            "worst": own[0],
            "share >= 30 dB": sum(p >= 30 for p in own) / len(own),
        }
        rows.append({"N": len(own), "steps": steps} | facts | {"s/image": took})
    return rows


def edit(model: Any, args: argparse.Namespace) -> Rows:
    """edits of held-out scenes in words: change made and all else kept"""
    pixels, wanted = draw_edits(args.images, seed=args.first_seed, size=model.size)
    files, editor = inputs_of(model, pixels), Editor(model)

    def of(theta: float | None = None, method: str = "prior-diff", noise: float | None = None) -> list:
        return [edits(model, file, one.source, one.target, theta, method, noise) for file, one in zip(files, wanted)]

    def repainted() -> Iterator[GeneratedImage]:
        return editor.apply([Guide(one.target) for one in wanted], [args.first_seed])

    def applied(*how: Any) -> Iterator[GeneratedImage]:
        return editor.apply(of(*how), [args.first_seed])

    methods: dict[str, Callable[[], Iterator[GeneratedImage]]] = {
        "repainted from the new words": repainted,
        "text-diff, theta 0.35": lambda: applied(0.35, "text-diff"),
        "text-diff, theta 1": lambda: applied(1.0, "text-diff"),
        "prior-diff, theta 1, noise level 1": lambda: applied(1.0, "prior-diff", 1.0),
        "prior-diff, theta 1, noise level 0.85": lambda: applied(1.0, "prior-diff", 0.85),
        "prior-diff, theta 1, level and noise chosen": lambda: best(editor, of(1.0), [args.first_seed]),
    }
    return [{"method": name} | _judged(wanted, pixels, list(run())) for name, run in methods.items()]


def _judged(wanted: list[SceneEdit], before: np.ndarray, images: list[GeneratedImage]) -> dict[str, float]:
    """Shares of edits that are done, of all and of every change, and that are done with everything in its place."""
    after = np.stack([np.asarray(one.image).transpose(2, 0, 1) for one in images])
    seen = detect(after)
    done = np.array([is_done(one, things) for one, things in zip(wanted, seen)])
    place = np.array([in_place(one, things) for one, things in zip(wanted, seen)])
    by = {name: done[[one.change == name for one in wanted]].mean() for name in CHANGES}
    changed = (np.abs(after.astype(int) - before).max(1) > CHANGED).mean()
    ms = sum(one.ms for one in images) / len(images)
    facts = (
        {"N": len(wanted), "done": done.mean()}
        | by
        | {"and in place": (done & place).mean(), "pixels changed": changed}
    )
    return {name: float(value) for name, value in facts.items()} | {"N": len(wanted), "ms/image": round(ms)}


COMMANDS: dict[str, Callable[[Any, argparse.Namespace], Rows]] = {
    "edit": edit,
    "inversion": inversion,
    "mix": mix,
    "vary": vary,
}
"""Subcommand -> the function that measures it; its docstring is the help."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=COMMANDS, help="; ".join(f"{k}: {v.__doc__}" for k, v in COMMANDS.items()))
    parser.add_argument("--model", help="a name or path (default the bundled model)")
    parser.add_argument("--images", type=int, default=200, help="held-out scenes (default 200)")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each (default 2)")
    parser.add_argument("--noise", nargs="+", default=["slerp", "fixed"], help="of mix (default both)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the scenes and images of `edit` (default 0)")
    parser.add_argument("--data", help="captioned images in place of scenes, for `inversion`")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = COMMANDS[args.what](condgen.load(args.model), args)
    print(json.dumps(rows, indent=2) if args.json else shown(rows))


if __name__ == "__main__":
    main()
