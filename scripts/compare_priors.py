"""Compares the priors of a run, and those of a model on whose encoder they were trained, with the model's decoder.

    condgen train scenes32 --stage prior --encoder scenes32 --prior.kinds '[autoregressive, diffusion, regression]' \
        --fit_prior.total_images 150000 -o runs/priors
    python scripts/compare_priors.py runs/priors --model scenes32 --prompts 12 --images 2

For every prior, on captions of seen and of held-out combinations: cosine of its embeddings to the true ones, R@1 of
500, ratio of the variances, seconds of computing for 100 embeddings in batches of 16, and SceneEval of the images.
`none` is the text embedding itself. Every row is written to `priors.json` in the run folder when it is done; rows that
are there are kept.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import condgen
from condgen.contracts import CondgenError, to_json
from condgen.data.synthetic.scenes import scenes
from condgen.evaluation import markdown
from condgen.evaluation.embed import embed_images, same_text
from condgen.evaluation.scenes import SIDES, scene_eval
from condgen.files.weights import load_part
from condgen.metrics.retrieval import prior_report
from condgen.nn.layers import PerImage
from condgen.pipelines.base import generator
from condgen.pipelines.text_to_image import TextToImage
from condgen.priors import PRIORS
from condgen.priors.transformer import EmbeddingNormalizer

N, BATCH = 500, 16
"""Images of each side that embeddings are compared on; captions in a batch of the timing."""


def models_of(run: Path, model: TextToImage) -> dict[str, tuple[TextToImage, str]]:
    """Name of a row -> a model and the prior to use.

    Raises:
        CondgenError: the run has no priors, or not those of the model's encoder and normalizer.
    """
    priors = {name: run / "parts" / f"prior_{name}" for name in PRIORS}
    found = {name: load_part(PRIORS[name].network, folder) for name, folder in priors.items() if folder.is_dir()}
    if not found:
        raise CondgenError(f"{run} has no trained priors; expected some in {run / 'parts'}.")
    normalizer = load_part(EmbeddingNormalizer, run / "parts" / "normaliser")
    if any(not torch.allclose(x, getattr(model.normalizer, name), atol=1e-4) for name, x in normalizer.named_buffers()):
        raise CondgenError(f"{run} has other training embeddings than {model.name}: train it on the data of the model.")
    own = TextToImage(model.clip, model.tokenizer, model.normalizer, found, model.decoder, model.about)
    rows = {"none": (own, "none")} | {name: (own, name) for name in found}
    return rows | {f"{name} of {model.name}": (model, name) for name in model.priors}


@torch.inference_mode()
def score(model: TextToImage, prior: str, prompts: int, images: int) -> dict[str, float]:
    """The row of a prior."""
    row = {}
    for side, held_out in SIDES.items():
        data = scenes(N, 20_000, model.size, held_out, negatives="none")
        text = model.embed_text([data.texts[i] for i in data.captions[:N, 0]])
        z = model.draw_embed(text, [generator(i) for i in range(N)], prior)
        found = prior_report(
            model.normalizer.back(z), embed_images(model.clip, data.images), text.embed, same_text(data, N)
        )
        row |= {f"{side} {name}": found[name] for name in ("cos_true", "recall_at_1", "variance_ratio")}
    some = model.embed_text([data.texts[i] for i in data.captions[:BATCH, 0]])
    began = time.process_time()
    with PerImage(BATCH):
        model.draw_embed(some, [generator(i) for i in range(BATCH)], prior)
    row["seconds for 100"] = (time.process_time() - began) * 100 / BATCH
    for side, held_out in SIDES.items():
        found, _ = scene_eval(model, held_out, prompts, images, prior=prior)
        row |= {f"{side} {name}": found[name] for name in ("overall", "exact")}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="with trained priors")
    parser.add_argument("--model", default="scenes32", help="whose encoder the run was trained on")
    parser.add_argument("--prompts", type=int, default=12, help="of each task of SceneEval")
    parser.add_argument("--images", type=int, default=2, help="of each prompt")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, place = condgen.load(args.model), args.run / "priors.json"
    table = json.loads(place.read_text()) if place.exists() else {}
    for name, (own, prior) in models_of(args.run, model).items():
        if name not in table:
            table[name] = score(own, prior, args.prompts, args.images)
            place.write_text(to_json(table, indent=2))
        print(name, table[name], flush=True)
    asked = f"{args.prompts} prompts of each task, {args.images} images each"
    print(markdown({"model": model.name, "model_id": f"{model.model_id}, {asked}", "priors": table}))


if __name__ == "__main__":
    main()
