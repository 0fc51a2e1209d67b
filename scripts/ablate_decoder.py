"""What makes a decoder learn fast? Trains small variations of the scenes decoder for the same time and compares errors.

    python scripts/ablate_decoder.py runs/scenes runs/decoders --minutes 4

The first folder is a run with a trained encoder and priors, which all variations share; each sees the same
images in the same order, with one thread, at a learning rate that does not fall. The error is that of x_0 under the
running mean of the weights, in units of the data's variance, on scenes that training never saw. Running it again goes
on where it stopped.
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
from condgen.decoders.diffusion import DiffusionDecoder
from condgen.diffusion.objectives import add_noise
from condgen.evaluation import markdown
from condgen.evaluation.embed import embed_images
from condgen.nn.conditioning import condition
from condgen.pipelines.text_to_image import TextToImage, generator
from condgen.recipes import RECIPES, train
from condgen.tasks.text_to_image import TextToImageTaskConfig

LEVELS = (0.97, 0.85, 0.6)


def variations(start: Path, minutes: float) -> dict[str, TextToImageTaskConfig]:
    base = RECIPES["scenes32"].config(stage="decoder", init_from=str(start), minutes=minutes, eval_count=0)
    base = replace(base, fit_decoder=replace(base.fit_decoder, decay_start=1.0, warmup=0.1))

    def fit(**changes) -> TextToImageTaskConfig:
        return replace(base, fit_decoder=replace(base.fit_decoder, **changes))

    def shape(**changes) -> TextToImageTaskConfig:
        return replace(base, decoder=replace(base.decoder, **changes))

    def objective(**changes) -> TextToImageTaskConfig:
        return replace(base, decoder_objective=replace(base.decoder_objective, **changes))

    return {
        "as shipped": base,
        "AdamW at 1.5e-3": fit(optimiser="adamw", lr=1.5e-3),
        "AdamW at 3e-3": fit(optimiser="adamw", lr=3e-3),
        "batch 64": fit(batch=64),
        "EDM's preconditioning": shape(objective="edm"),
        "channels 32 64": shape(channels=(32, 64)),
        "channels 48 64, depth 1": shape(channels=(48, 64), depth=1),
        "channels 64 64, depth 1": shape(channels=(64, 64), depth=1),
        "no layout loss": objective(layout=0.0),
        "never told the prior's guess": objective(guessed=0.0),
    }


@torch.inference_mode()
def judge(model: TextToImage, n: int = 768) -> dict[str, float]:
    """Errors told the image's own embedding, and told what the model's prior draws, both with the words."""
    data = scenes(n, 30_000, model.size, negatives="none")
    decoder: DiffusionDecoder = model.decoder
    own = data.captions[:, 1] >= 0
    text = model.embed_text([data.texts[c[k]] for c, k in zip(data.captions, own.astype(int))])
    told = {
        "own embedding": model.normalizer(embed_images(model.clip, data.images)),
        "drawn by the prior": model.draw_embed(text, [generator(i) for i in range(n)]),
    }
    x_0 = (to_float(data.images) - decoder.mean) / decoder.sd
    eps = torch.randn(x_0.shape, generator=generator(0))
    row = {}
    for name, z in told.items():
        for level in LEVELS:
            errors = []
            for part in torch.arange(n).split(128):
                t = torch.full((len(part),), level)
                said = decoder.encode_cond(condition(z[part], text.tokens[part]))
                guess = decoder.denoise(add_noise(x_0[part], eps[part], t), t, said)
                errors.append(F.mse_loss(guess, x_0[part]) * len(part))
            row[f"{name}, t = {level}"] = sum(errors).item() / n
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = {}
    for name, config in variations(args.start, args.minutes).items():
        folder = args.out / name.replace(" ", "_").replace("'", "").replace(",", "")
        model = TextToImage.load(train("scenes32", folder, config))
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        table[name] = {"pictures": lines[-1]["images"]} | judge(model)
        print(name, table[name], flush=True)
    (args.out / "table.json").write_text(json.dumps(table, indent=2))
    about = f"{args.minutes:g} minutes each, one thread, seed 0"
    print(markdown({"model": "decoders", "model_id": about, "variations": table}))


if __name__ == "__main__":
    main()
