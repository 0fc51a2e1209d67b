"""Trains variations of the scenes encoder or decoder with one thing changed each, and compares them.

    python scripts/ablate.py encoder runs/encoders --images 60000
    python scripts/ablate.py decoder runs/decoders --init-from scenes32 --minutes 4 --rows "the recipe" "before"

Encoders are compared by swapped captions and retrieval. Decoders share the encoder and priors of the model or run
`--init-from` and train for equal times, in minutes of one core (the processor's time, so that other programs do not
matter much); they are compared by SceneEval, by the causes of its failures, and by the error of x_0 in units of the
data's variance on scenes that training never showed. All variations of one seed see the same images in the same order,
on one thread. The same command continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from condgen.data.batches.base import to_float
from condgen.data.synthetic.scenes import scenes
from condgen.diffusion.objectives import add_noise
from condgen.encoders.clip import CLIP
from condgen.encoders.tokenizer import Tokenizer
from condgen.evaluation import markdown
from condgen.evaluation.embed import embed_images, embed_texts, same_text
from condgen.evaluation.scenes import SIDES, scene_eval_images, scene_swaps, scores_of
from condgen.files.weights import load_part
from condgen.metrics.retrieval import retrieval_at_1
from condgen.nn.conditioning import condition
from condgen.pipelines.text_to_image import TextToImage, generator
from condgen.recipes import RECIPES, train
from condgen.recipes.table import changed
from condgen.training import trainer

TIMES = (0.93, 0.85, 0.6)
Changes = dict[str, dict]
"""Field of the config -> its changes."""
ENCODERS: dict[str, Changes] = {
    "as shipped": {},
    "mean pool": {"clip": {"pool": "mean"}},
    "no negatives": {"clip_objective": {"negatives": 0}},
    "negatives of unseen combinations too": {"data": {"negatives": "all"}},
    "no caption loss": {"clip_objective": {"caption": 0.0}},
}
BEFORE: Changes = {
    "decoder": {"channels": (48, 96), "layout_mlp": False},
    "objective": {"levels": (), "floor": 0.0, "draws": 1, "perceptual": 0.0},
    "fit_decoder": {"batch": 32},
}
"""The recipe of 0.2.0 and earlier."""
DECODERS: dict[str, Changes] = {
    "the recipe": {},
    "before": BEFORE,
    "no perceptual loss": {"objective": {"perceptual": 0.0}},
    "perceptual loss below t = .85 only": {"objective": {"perceptual_below": 0.85}},
    "perceptual loss, half the weight": {"objective": {"perceptual": 5.0}},
    "perceptual loss, twice the weight": {"objective": {"perceptual": 20.0}},
    "noise levels as before": {"objective": {"levels": (), "floor": 0.0}},
    "noise levels N(1.4, 1)": {"objective": {"levels": (1.4, 1.0)}},
    "layout without an MLP": {"decoder": {"layout_mlp": False}},
    "no layout loss": {"objective": {"layout": 0.0}},
    "one draw, batch 32": {"objective": {"draws": 1}, "fit_decoder": {"batch": 32}},
    "four draws, batch 8": {"objective": {"draws": 4}, "fit_decoder": {"batch": 8}},
    "channels 48 96": {"decoder": {"channels": (48, 96)}},
    "fewer parts dropped": {"decoder_objective": {"drop_embed": 0.05, "drop_text": 0.05}},
    "no samples of the prior": {"decoder_objective": {"prior_sample_prob": 0.0}},
    "learning rate 5e-3": {"fit_decoder": {"lr": 5e-3}},
    "learning rate falls from .3 on": {"fit_decoder": {"decay_start": 0.3}},
    "AdamW at 1.5e-3": {"fit_decoder": {"optimiser": "adamw", "lr": 1.5e-3}},
    "EDM's preconditioning": {"decoder": {"objective": "edm"}},
}


def score_encoder(run: Path) -> dict[str, float]:
    """Accuracy on swapped captions and retrieval, on both sides of the split."""
    clip, tokenizer = load_part(CLIP, run / "parts" / "clip"), Tokenizer.load(run / "parts" / "tokenizer")
    row = {}
    for side, held_out in SIDES.items():
        swaps = scene_swaps(clip, tokenizer, held_out)
        data = scenes(500, 20_000, clip.size, held_out, negatives="none")
        text = embed_texts(clip, tokenizer, [data.texts[i] for i in data.captions[:, 0]])
        recall = retrieval_at_1(text, embed_images(clip, data.images), same_text(data, len(data)))
        row |= {f"{side} {kind}": swaps[kind] for kind in ("colour", "shape", "relation")}
        row[f"{side} R@1 of 500"] = recall
    return row


@torch.inference_mode()
def score_decoder(run: Path, prompts: int, n: int = 512) -> dict[str, float | str]:
    """SceneEval with two images a prompt, its commonest failures, and errors of x_0 given a sample of the prior."""
    model = TextToImage.load(run / "model")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    row: dict[str, float | str] = {"images": lines[-1]["images"]}
    for side, held_out in SIDES.items():
        images = scene_eval_images(model, held_out, prompts, 2, seed=5)
        scores, causes = scores_of(images), Counter(one.cause for one in images if one.cause)
        row |= {f"{side} {name}": scores[name] for name in ("overall", "exact")}
        row[f"{side} failures"] = ", ".join(f"{cause} {count}" for cause, count in causes.most_common(3))
    return row | {f"error, t = {level}": error for level, error in errors(model, n).items()}


def errors(model: TextToImage, n: int) -> dict[float, float]:
    """Noise level -> squared error of x_0 on n unseen scenes, given samples of the prior."""
    data, decoder = scenes(n, 30_000, model.size, negatives="none"), model.decoder
    which = (data.captions[:, 1] >= 0).astype(int)
    text = model.embed_text([data.texts[captions[k]] for captions, k in zip(data.captions, which)])
    z = model.draw_embed(text, [generator(i) for i in range(n)])
    x_0 = (to_float(data.images) - decoder.mean) / decoder.sd
    eps, out = torch.randn(x_0.shape, generator=generator(0)), {}
    for level in TIMES:
        total = 0.0
        for part in torch.arange(n).split(128):
            t = torch.full((len(part),), level)
            cond = decoder.encode_cond(condition(z[part], text.tokens[part]))
            predicted = decoder.denoise(add_noise(x_0[part], eps[part], t), t, cond)
            total += F.mse_loss(predicted, x_0[part]).item() * len(part)
        out[level] = total / n
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("encoder", "decoder"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=60_000, help="that every encoder sees")
    parser.add_argument(
        "--init-from", default="scenes32", help="model or run with the encoder and priors of all decoders"
    )
    parser.add_argument("--minutes", type=float, default=4.0, help="of one core, of every decoder")
    parser.add_argument("--prompts", type=int, default=25, help="per task of SceneEval, at most; two images each")
    parser.add_argument("--rows", nargs="+", help="variations; all by default")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = RECIPES["scenes32"]
    if args.part == "encoder":
        base = changed(recipe.config(stage="clip", seed=args.seed), {"fit_clip": {"total_images": args.images}})
        variations, score, about = ENCODERS, score_encoder, f"{args.images:,} images, seed {args.seed}"
    else:
        trainer.clock = time.process_time
        base = recipe.config(
            stage="decoder", init_from=args.init_from, minutes=args.minutes, eval_count=0, seed=args.seed
        )
        variations, score = DECODERS, partial(score_decoder, prompts=args.prompts)
        about = f"{args.minutes:g} core-minutes each, seed {args.seed}"
    table = {}
    for name in args.rows or variations:
        run = args.out / f"{name}-{args.seed}".replace(" ", "_").replace("'", "").replace(",", "")
        train("scenes32", run, changed(base, variations[name]))
        table[name] = score(run)
        print(name, table[name], flush=True)
        (args.out / f"table-{args.seed}.json").write_text(json.dumps(table, indent=2))
    print(markdown({"model": f"{args.part}s", "model_id": about, "variations": table}))


if __name__ == "__main__":
    main()
