"""Measures the time to the first image, of generation, of training every stage, and of checkpoints.

    python scripts/bench.py --threads 2 --json

Each figure is the best of three, of checkpoints the worst; ratios are taken within one run. $TMPDIR is the disk of the
checkpoints.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path


def best(call: Callable[[], object], times: int = 3) -> float:
    """Seconds, the best of a few."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


def command(*words: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


def starting() -> dict[str, float]:
    """Seconds to the help and to the first image, beside importing torch alone."""
    torch = best(command("-c", "import torch"))
    ready = best(command("-c", "import condgen; m = condgen.load(); m.embed_text(['a red circle'])"))
    with tempfile.TemporaryDirectory() as out:
        first = best(command("-m", "condgen", "generate", "a red circle above a blue square", "-o", out))
    return {
        "help_s": best(command("-m", "condgen", "--help")),
        "import_torch_s": torch,
        "ready_to_sample_s": ready,
        "ready_over_torch": ready / torch,
        "first_image_s": first,
    }


def generation() -> dict[str, float]:
    """Milliseconds an image, one at a time and in a batch."""
    import condgen

    model = condgen.load()
    next(model.generate("a red circle"))
    one = best(lambda: next(model.generate("a red circle above a blue square")))
    many = best(lambda: list(model.generate_batch(["a red circle above a blue square"] * 64, list(range(64)))))
    return {"one_ms": one * 1000, "batch_of_64_ms": many / 64 * 1000}


def training(recipe: str, size: str | None, steps: int = 8) -> dict[str, float]:
    """Images per second of encoder and decoder, and the share of time that checkpoints take."""
    import torch

    from condgen.decoders.diffusion import DiffusionDecoder, DiffusionObjective, DiffusionTraining
    from condgen.encoders.clip import CLIP
    from condgen.encoders.clip_objective import ClipObjective, ClipTraining
    from condgen.nn.conditioning import DecoderObjective
    from condgen.nn.specs import CondSpec, EncoderSpec
    from condgen.recipes import RECIPES
    from condgen.training.trainer import FitConfig, Trainer

    config = RECIPES[recipe].config(size)
    edge, context, vocab = config.data.size, 16, 1000
    clip = CLIP(replace(config.clip, vocab=vocab, context=context), EncoderSpec(edge))
    spec = CondSpec(edge, embed_dim=config.clip.embed_dim, vocab=vocab, context=context)
    decoder = DiffusionDecoder(config.decoder, spec)
    models = {
        "clip": (ClipTraining(clip, ClipObjective(negatives=0)), config.fit_clip.batch),
        "decoder": (DiffusionTraining(decoder, DiffusionObjective(), DecoderObjective()), config.fit_decoder.batch),
    }
    found = {}
    for name, (model, batch) in models.items():
        ids = torch.arange(batch)
        given = {
            "image": torch.rand(batch, 3, edge, edge) * 2 - 1, "tokens": torch.randint(3, vocab, (batch, context)),
            "text_id": ids, "true_ids": ids[:, None], "z": torch.randn(batch, config.clip.embed_dim),
        }  # fmt: skip
        fit = Trainer(model, lambda step, given=given: given, FitConfig(total_images=batch * (steps + 2), batch=batch))
        seen = list(fit)
        found[f"{name}_images_per_s"] = batch * steps / (seen[-1].seconds - seen[1].seconds)
        with tempfile.TemporaryDirectory() as place:
            taken = max(best(lambda fit=fit, place=place: fit.save(Path(place)), times=1) for _ in range(3))
        found[f"{name}_checkpoint_s"] = taken
        found[f"{name}_checkpoint_share"] = taken / (config.save_every + taken)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves its own choice")
    parser.add_argument("--only", choices=("training",), help="leave the rest out")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = {} if args.only else {"starting": starting()}
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    report["machine"] = {"threads": torch.get_num_threads(), "gpu": torch.cuda.is_available()}
    if not args.only:
        report["generation"] = generation()
    for recipe, size in (("scenes32", None), ("captions", "tiny"), ("captions", "small")):
        report[f"training {recipe} {size or ''}".strip()] = training(recipe, size)
    if args.json:
        print(json.dumps(report, indent=2))
        return
    for group, figures in report.items():
        print(group)
        for name, value in figures.items():
            print(f"  {name:24} {value:,.4g}" if isinstance(value, float) else f"  {name:24} {value}")


if __name__ == "__main__":
    main()
