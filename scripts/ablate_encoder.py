"""What makes an encoder bind colour to shape? Trains small variations of the scenes encoder and swaps their captions.

    python scripts/ablate_encoder.py runs/encoders --images 60000

Every variation sees the same images in the same order. Running it again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from condgen.data.synthetic.scenes import scenes
from condgen.encoders.clip import CLIP
from condgen.encoders.tokenizer import Tokenizer
from condgen.evaluation import markdown
from condgen.evaluation.embed import embed_images, embed_texts, same_text
from condgen.evaluation.scenes import SIDES, scene_swaps
from condgen.files.weights import load_part
from condgen.metrics.retrieval import retrieval_at_1
from condgen.recipes import RECIPES, train
from condgen.tasks.text_to_image import TextToImageTaskConfig


def variations(images: int) -> dict[str, TextToImageTaskConfig]:
    base = RECIPES["scenes32"].config(stage="clip")
    base = replace(base, fit_clip=replace(base.fit_clip, total_images=images))
    return {
        "as shipped": base,
        "mean pool": replace(base, clip=replace(base.clip, pool="mean")),
        "no negatives": replace(base, clip_objective=replace(base.clip_objective, negatives=0)),
        "negatives of unseen combinations too": replace(base, data=replace(base.data, negatives="all")),
        "no caption loss": replace(base, clip_objective=replace(base.clip_objective, caption=0.0)),
    }


def judge(parts: Path) -> dict[str, float]:
    clip, tokenizer = load_part(CLIP, parts / "clip"), Tokenizer.load(parts / "tokenizer")
    row = {}
    for side, held_out in SIDES.items():
        swaps = scene_swaps(clip, tokenizer, held_out)
        data = scenes(500, 20_000, clip.size, held_out, negatives="none")
        text = embed_texts(clip, tokenizer, [data.texts[i] for i in data.captions[:, 0]])
        recall = retrieval_at_1(text, embed_images(clip, data.images), same_text(data, len(data)))
        told = {k: swaps[k] for k in ("colour", "shape", "relation")} | {"R@1 of 500": recall}
        row |= {f"{side} {k}": v for k, v in told.items()}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=60_000)
    args = parser.parse_args()
    table = {}
    for name, config in variations(args.images).items():
        run = args.out / name.replace(" ", "_")
        train("scenes32", run, config)
        table[name] = judge(run / "parts")
        (args.out / "table.json").write_text(json.dumps(table, indent=2))
    print(markdown({"model": "encoders", "model_id": f"{args.images:,} images, seed 0", "variations": table}))


if __name__ == "__main__":
    main()
