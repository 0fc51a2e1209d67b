"""Trains variations of the scenes encoder or decoder with one thing changed each, and compares them.

    python scripts/ablate.py encoder runs/encoders --images 60000
    python scripts/ablate.py decoder runs/decoders --init-from runs/scenes --minutes 4

Encoders are compared by swapped captions and retrieval. Decoders share the encoder and priors of the run `--init-from`
and train for the same time at a constant learning rate; they are compared by the error of x_0 in units of the data's
variance, on scenes that training never showed. All variations see the same images in the same order, on one thread. The
same command continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
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
from condgen.evaluation.scenes import SIDES, scene_swaps
from condgen.files.weights import load_part
from condgen.metrics.retrieval import retrieval_at_1
from condgen.nn.conditioning import condition
from condgen.pipelines.text_to_image import TextToImage, generator
from condgen.recipes import RECIPES, train
from condgen.tasks.text_to_image import TextToImageTaskConfig

TIMES = (0.97, 0.85, 0.6)
Changes = dict[str, dict]
"""Field of the config -> its changes."""
ENCODERS: dict[str, Changes] = {
    "as shipped": {},
    "mean pool": {"clip": {"pool": "mean"}},
    "no negatives": {"clip_objective": {"negatives": 0}},
    "negatives of unseen combinations too": {"data": {"negatives": "all"}},
    "no caption loss": {"clip_objective": {"caption": 0.0}},
}
DECODERS: dict[str, Changes] = {
    "as shipped": {},
    "AdamW at 1.5e-3": {"fit_decoder": {"optimiser": "adamw", "lr": 1.5e-3}},
    "AdamW at 3e-3": {"fit_decoder": {"optimiser": "adamw", "lr": 3e-3}},
    "batch 64": {"fit_decoder": {"batch": 64}},
    "EDM's preconditioning": {"decoder": {"objective": "edm"}},
    "channels 32 64": {"decoder": {"channels": (32, 64)}},
    "channels 48 64, depth 1": {"decoder": {"channels": (48, 64), "depth": 1}},
    "channels 64 64, depth 1": {"decoder": {"channels": (64, 64), "depth": 1}},
    "no layout loss": {"decoder_objective": {"layout": 0.0}},
    "no samples of the prior": {"decoder_objective": {"prior_sample_prob": 0.0}},
}


def changed(config: TextToImageTaskConfig, changes: Changes) -> TextToImageTaskConfig:
    return replace(config, **{name: replace(getattr(config, name), **own) for name, own in changes.items()})


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
def score_decoder(run: Path, n: int = 768) -> dict[str, float]:
    """Errors of x_0 given the text and the embedding of the image, or a sample of the prior."""
    model = TextToImage.load(run / "model")
    data, decoder = scenes(n, 30_000, model.size, negatives="none"), model.decoder
    which = (data.captions[:, 1] >= 0).astype(int)
    text = model.embed_text([data.texts[captions[k]] for captions, k in zip(data.captions, which)])
    embeds = {
        "image embedding": model.normalizer(embed_images(model.clip, data.images)),
        "prior sample": model.draw_embed(text, [generator(i) for i in range(n)]),
    }
    x_0 = (to_float(data.images) - decoder.mean) / decoder.sd
    eps = torch.randn(x_0.shape, generator=generator(0))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    row = {"images": lines[-1]["images"]}
    for name, z in embeds.items():
        for time in TIMES:
            errors = []
            for part in torch.arange(n).split(128):
                t = torch.full((len(part),), time)
                cond = decoder.encode_cond(condition(z[part], text.tokens[part]))
                predicted = decoder.denoise(add_noise(x_0[part], eps[part], t), t, cond)
                errors.append(F.mse_loss(predicted, x_0[part]) * len(part))
            row[f"{name}, t = {time}"] = sum(errors).item() / n
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("encoder", "decoder"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=60_000, help="that every encoder sees")
    parser.add_argument("--init-from", type=Path, help="run with the encoder and priors of all decoders")
    parser.add_argument("--minutes", type=float, default=4.0, help="of every decoder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.part == "encoder":
        base, about = RECIPES["scenes32"].config(stage="clip"), f"{args.images:,} images, seed 0"
        base = changed(base, {"fit_clip": {"total_images": args.images}})
        variations, score = ENCODERS, score_encoder
    else:
        options = {"stage": "decoder", "init_from": str(args.init_from), "minutes": args.minutes, "eval_count": 0}
        base, about = RECIPES["scenes32"].config(**options), f"{args.minutes:g} minutes each, one thread, seed 0"
        base = changed(base, {"fit_decoder": {"decay_start": 1.0, "warmup": 0.1}})
        variations, score = DECODERS, score_decoder
    table = {}
    for name, changes in variations.items():
        run = args.out / name.replace(" ", "_").replace("'", "").replace(",", "")
        train("scenes32", run, changed(base, changes))
        table[name] = score(run)
        print(name, table[name], flush=True)
        (args.out / "table.json").write_text(json.dumps(table, indent=2))
    print(markdown({"model": f"{args.part}s", "model_id": about, "variations": table}))


if __name__ == "__main__":
    main()
