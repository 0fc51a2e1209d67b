"""Measures the upsamplers of a model of scenes, see the section Cascade of docs/results.md.

    python scripts/bench_cascade.py scenes --prompts 25 --images 1
    python scripts/bench_cascade.py held-out --images 100
    python scripts/bench_cascade.py chain --images 100
    python scripts/bench_cascade.py speed --images 5
    python scripts/bench_cascade.py sheet -o docs/images/cascade.png

Every command prints a table in Markdown; `sheet` writes images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import condgen
from condgen.data.batches.base import to_float, to_uint8
from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.grammar import captions_of, parse, say
from condgen.data.synthetic.prompts import questions
from condgen.data.synthetic.scenes import BACKGROUND, PALETTE, draw_scenes, render
from condgen.files.images import grid, write_sheet
from condgen.metrics.geneval import TASKS, is_exact, passes, score
from condgen.metrics.image_quality import psnr, ssim
from condgen.nn.layers import one_thread
from condgen.pipelines.base import generator, to_pil

Row = dict[str, Any]
AT_A_TIME = 16


def chain(model, prompts: list[str], seeds: list[int], **options) -> dict[int, Tensor]:
    """Size -> images (B, 3, S, S): those of the decoder and of every upsampler after it, of one run."""
    size = model.sizes[-1]
    return {p.images.shape[-1]: p.images for p in model.generate_batch(prompts, seeds, size=size, **options)}


def bicubic(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, size=(size, size), mode="bicubic").clamp(-1, 1)


def scenes(model, args: argparse.Namespace) -> list[Row]:
    """SceneEval of the same images at every size, beside bicubic interpolation."""
    rows = []
    for side, held_out in (("seen", False), ("held out", True)):
        jobs = [(task, m) for task in TASKS for m in questions(task, args.prompts, held_out, 0)]
        jobs = [job for job in jobs for _ in range(args.images)]
        results: dict[str, list] = {}
        for start in range(0, len(jobs), AT_A_TIME):
            part = jobs[start : start + AT_A_TIME]
            made = chain(model, [say(m) for _, m in part], [start + k for k in range(len(part))], **options_of(args))
            named = {str(size): images for size, images in made.items()}
            named[f"{model.sizes[-1]}, bicubic"] = bicubic(made[model.size], model.sizes[-1])
            for name, images in named.items():
                found = zip(part, detect(to_uint8(images)), strict=True)
                results.setdefault(name, []).extend(
                    (t, passes(t, m, s), bool(s) and is_exact(m, s)) for (t, m), s in found
                )
        for name, found in results.items():
            scores = score(found)
            rows.append({"prompts": side, "pixels": name, "images": len(found)} | scores)
    return rows


def options_of(args: argparse.Namespace) -> dict[str, float]:
    given = {"upsample_steps": args.steps, "upsample_augmentation": args.augmentation}
    return {name: value for name, value in given.items() if value is not None}


def held_out(model, args: argparse.Namespace) -> list[Row]:
    """PSNR and SSIM against scenes drawn at the size, of held-out combinations; the smaller image is drawn too."""
    layout, _ = draw_scenes(args.images, 77, True)
    drawn = {size: to_float(render(layout, size)) for size in model.sizes}
    with torch.inference_mode():
        z = model.normalizer(model.clip.embed_image(drawn[model.size]))
    rows = []
    for low, size in pairwise(model.sizes):
        for way, images in ways(model.upsamplers[size], drawn[low], z):
            each = [psnr(a[None], b[None]) for a, b in zip(images, drawn[size], strict=True)]
            found = {
                "PSNR": psnr(images, drawn[size]),
                "mean PSNR": float(np.mean(each)),
                "SSIM": ssim(images, drawn[size]),
            }
            rows.append({"sizes": f"{low} to {size}", "way": way, "images": args.images} | found)
    return rows


def ways(upsampler, low: Tensor, z: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Large images made in several ways."""
    yield "bilinear", upsampler.enlarge(low)
    yield "bicubic", bicubic(low, upsampler.spec.factor * low.shape[-1])
    for steps, level in product((1, 2, 4), (0.0, 0.1, 0.2)):
        rng = [generator(k) for k in range(len(low))]
        options = {"upsample_steps": steps, "upsample_augmentation": level}
        *_, images = upsampler.upsample(low, rng, z, **options)
        yield f"{steps} steps, augmentation {level:g}", images
    *_, images = upsampler.upsample(low, [generator(k) for k in range(len(low))], None, upsample_steps=2)
    yield "2 steps, without the embedding", images


def whole_chain(model, args: argparse.Namespace) -> list[Row]:
    """All upsamplers in a row on true small scenes: PSNR, SSIM, and the share of pixels that blend two colours."""
    layout, _ = draw_scenes(args.images, 77, True)
    size, steps = model.sizes[-1], args.steps or 4
    true, low = (to_float(render(layout, edge)) for edge in (size, model.size))
    with torch.inference_mode():
        z = model.normalizer(model.clip.embed_image(low))
    made, rng = low, [generator(k) for k in range(args.images)]
    for upsampler in model.upsamplers.values():
        *_, made = upsampler.upsample(made, rng, z, upsample_steps=steps)
    found = {"true": true, "bicubic": bicubic(low, size), f"upsamplers, {steps} steps": made}
    scores = {"PSNR": lambda x: psnr(x, true), "SSIM": lambda x: ssim(x, true), "blended": blended}
    return [
        {"way": way, "images": args.images} | {name: of(images) for name, of in scores.items()}
        for way, images in found.items()
    ]


def blended(images: Tensor) -> float:
    """Share of pixels that are farther than 24 of 255 from the ground and from every colour of scenes."""
    colours = torch.from_numpy(np.concatenate([PALETTE, BACKGROUND[None]]))
    pixels = torch.from_numpy(to_uint8(images)).permute(0, 2, 3, 1).reshape(-1, 3).float()
    return float(np.mean([(torch.cdist(part, colours).min(1).values > 24).float().mean() for part in pixels.chunk(64)]))


def speed(model, args: argparse.Namespace) -> list[Row]:
    """CPU seconds of an image of every size with one thread: median of some images generated alone."""
    rows = []
    for size in model.sizes:
        for steps in (1, 2, 4) if size > model.size else (0,):
            options = {"size": size, "upsample_steps": steps} if steps else {}
            seconds = []
            with one_thread():
                for seed in range(args.images):
                    began = time.process_time()
                    next(model.generate("a red circle above a blue square", seed=seed, **options))
                    seconds.append(time.process_time() - began)
            rows.append({"pixels": size, "steps of upsamplers": steps, "CPU seconds": float(np.median(seconds)),
                         "least": min(seconds), "images": args.images})  # fmt: skip
    return rows


def real(model, args: argparse.Namespace) -> list[Row]:
    """The detector on true scenes of every size: share whose captions it finds exactly."""
    rows = []
    for size in model.sizes:
        layout, things = draw_scenes(args.images, 99, None)
        found = detect(render(layout, size))
        right = [is_exact(parse(captions_of(scene)[0]), seen) for scene, seen in zip(things, found, strict=True)]
        rows.append({"pixels": size, "images": len(right), "right": float(np.mean(right))})
    return rows


def sheet(model, args: argparse.Namespace) -> list[Row]:
    """Writes images of the decoder, by repeated pixels and by bicubic interpolation, and of every upsampler."""
    prompts, large = model.about["examples"][:6], model.sizes[-1]
    made = chain(model, prompts, list(range(len(prompts))), **options_of(args))
    rows = {f"{model.size} pixels": F.interpolate(made[model.size], size=(large, large))}
    rows["bicubic"] = bicubic(made[model.size], large)
    rows |= {f"{size} pixels": F.interpolate(made[size], size=(large, large)) for size in model.sizes[1:]}
    images = [image for row in rows.values() for image in to_pil(row)]
    labels = [name if k else f"{name}: {prompt}" for k, name in enumerate(rows) for prompt in prompts]
    write_sheet(args.out, grid(images, labels, columns=len(prompts), cell=large))
    return [{"sheet": str(args.out), "images": len(images)}]


COMMANDS = {"scenes": scenes, "held-out": held_out, "chain": whole_chain, "speed": speed, "real": real, "sheet": sheet}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=COMMANDS, help="; ".join(f"{k}: {v.__doc__}" for k, v in COMMANDS.items()))
    parser.add_argument("--model", help="a name or path (default the bundled model)")
    parser.add_argument("--prompts", type=int, default=50, help="prompts for each task (default 50)")
    parser.add_argument("--images", type=int, default=2, help="images for each prompt, or altogether (default 2)")
    parser.add_argument("--steps", type=int, help="denoising steps of every upsampler")
    parser.add_argument("--augmentation", type=float, help="noise added to an image before it is enlarged")
    parser.add_argument("-o", "--out", type=Path, default=Path("cascade.png"), help="file of the sheet")
    args = parser.parse_args()
    rows = COMMANDS[args.what](condgen.load(args.model), args)
    cells = [list(rows[0]), ["---"] * len(rows[0])]
    cells += [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row.values()] for row in rows]
    print("\n".join(f"| {' | '.join(line)} |" for line in cells))


if __name__ == "__main__":
    main()
