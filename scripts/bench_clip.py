"""Compares training steps of our CLIP and of open_clip, with the same towers, weights, batch and precision.

    python scripts/bench_clip.py --json out.json
    python scripts/bench_clip.py --device cuda --precision bf16 --size 32 --width 512 --depth 12 --batch 1024

Steps of both alternate, so that other load affects both alike. A repeat is the median of its steps; the ratio is taken
within a repeat, and reported with minimum and maximum. On one CPU thread, process time is measured. `resnet` has no
counterpart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from open_clip import CLIP as OpenClip
from open_clip import ClipLoss
from torch import Tensor, nn

from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.encoders.interop.convert import tensors_there
from condgen.encoders.tokenizer import END, PAD
from condgen.nn.specs import EncoderSpec

Step = Callable[[], float]


def towers(args: argparse.Namespace, image: str = "patch") -> CLIPConfig:
    """Ours; `resnet` is as wide and deep as it is by default."""
    tower = {"image_width": args.width, "image_depth": args.depth, "patch": args.patch} if image == "patch" else {}
    return CLIPConfig(
        embed_dim=args.embed, vocab=args.vocab, context=args.context, image=image, text="clip", text_width=args.width,
        depth=args.depth, heads=args.heads, **tower,
    )  # fmt: skip


def twin(clip: CLIP) -> OpenClip:
    """Open_clip's model of the same shape, with the same weights."""
    c = clip.config
    vision = {"layers": c.image_depth or c.depth, "width": c.image_width, "head_width": c.image_width // c.heads}
    text = {"context_length": c.context, "vocab_size": c.vocab, "width": c.text_width, "heads": c.heads}
    other = OpenClip(
        c.embed_dim,
        vision | {"patch_size": c.patch, "image_size": clip.size},
        text | {"layers": c.depth, "pool_type": "eos", "eos_id": END},
        output_dict=True,
    )
    weights = tensors_there(clip, "open_clip", c.vocab)
    weights["token_embedding.weight"] = clip.text.token.weight  # the order of the ids stays ours here
    other.load_state_dict(weights)
    return other


def batch_of(args: argparse.Namespace) -> dict[str, Tensor]:
    """Noise, and captions of random lengths that all differ."""
    rng = torch.Generator().manual_seed(1)
    tokens = torch.randint(END + 1, args.vocab, (args.batch, args.context), generator=rng)
    ends = torch.randint(args.context // 2, args.context, (args.batch, 1), generator=rng)
    places = torch.arange(args.context)
    tokens = tokens.masked_fill(places == ends, END).masked_fill(places > ends, PAD)
    ids = torch.arange(args.batch)
    images = torch.rand(args.batch, 3, args.size, args.size, generator=rng) * 2 - 1
    given = {"image": images, "tokens": tokens, "text_id": ids, "true_ids": ids[:, None]}
    return {name: value.to(args.device) for name, value in given.items()}


class Theirs(nn.Module):
    """Open_clip's model with its loss."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.model, self.criterion = twin(clip), ClipLoss()

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": self.criterion(**self.model(batch["image"], batch["tokens"]))}


def stepper(model: nn.Module, batch: dict[str, Tensor], args: argparse.Namespace, optimise: bool) -> Step:
    """One step, in seconds: forward, loss, backward, and with `optimise` the update by AdamW."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    kind = torch.device(args.device).type
    clock = time.process_time if kind == "cpu" and args.threads == 1 else time.perf_counter
    wait = torch.cuda.synchronize if kind == "cuda" else lambda: None

    def step() -> float:
        wait()
        began = clock()
        with torch.autocast(kind, torch.bfloat16) if args.precision == "bf16" else nullcontext():
            loss = model.loss(batch)["loss"]
        loss.backward()
        if optimise:
            optimiser.step()
        optimiser.zero_grad()
        wait()
        return clock() - began

    return step


def measured(steps: dict[str, Step], repeats: int, count: int) -> dict[str, list[float]]:
    """Median seconds of a step of each, for every repeat."""
    for step in steps.values():
        step(), step()
    out: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats):
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for k in range(count):
            for name in sorted(steps, reverse=(repeat + k) % 2 == 1):
                taken[name].append(steps[name]())
        for name, seconds in taken.items():
            out[name].append(statistics.median(seconds))
    return out


def compared(args: argparse.Namespace) -> tuple[dict, list[dict]]:
    """How far losses and gradients of the two are apart, and a row for steps without and with the optimiser."""
    batch = batch_of(args)
    torch.manual_seed(0)
    clip = CLIP(towers(args), EncoderSpec(args.size))
    models = {"theirs": Theirs(clip), "ours": ClipTraining(clip, ClipObjective(negatives=0, caption=0))}
    losses, slopes = {}, {}
    for name, model in models.items():
        model.to(args.device).train()
        loss = model.loss(batch)["loss"]
        loss.backward()
        losses[name] = loss.item()
        slopes[name] = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
        model.zero_grad()
    agree = {
        "parameters": sum(p.numel() for p in clip.parameters()),
        "loss": losses["ours"],
        "loss apart": abs(losses["ours"] - losses["theirs"]),
        "gradient norm apart, relative": abs(slopes["ours"] / slopes["theirs"] - 1),
    }
    rows = []
    for optimise in (False, True):
        steps = {name: stepper(model, batch, args, optimise) for name, model in models.items()}
        taken = measured(steps, args.repeats, args.steps)
        ratios = [theirs / ours for theirs, ours in zip(taken["theirs"], taken["ours"])]
        speed = {name: args.batch / statistics.median(seconds) for name, seconds in taken.items()}
        title = f"forward, loss, backward{', AdamW' if optimise else ''}"
        spread = {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        rows.append({"step": title, "ours": speed["ours"], "open_clip": speed["theirs"], **spread})
    return agree, rows


def residual(args: argparse.Namespace) -> dict:
    """A row for our residual tower, for information."""
    model = (
        ClipTraining(CLIP(towers(args, "resnet"), EncoderSpec(args.size)), ClipObjective(negatives=0, caption=0))
        .to(args.device)
        .train()
    )
    taken = measured({"ours": stepper(model, batch_of(args), args, True)}, args.repeats, args.steps)
    speed = args.batch / statistics.median(taken["ours"])
    return {"step": "our resnet tower, AdamW", "ours": speed, "open_clip": None, "ratio": None}


def lines_of(report: dict) -> list[str]:
    """The report as Markdown."""
    lines = ["| step | ours, images/s | open_clip, images/s | ratio | least to most |", "|---|---|---|---|---|"]
    for row in report["rows"]:
        if row["ratio"] is None:
            lines.append(f"| {row['step']} | {row['ours']:.0f} | | | |")
        else:
            spread = f"{row['ratio']:.3f} | {row['least']:.3f} to {row['most']:.3f}"
            lines.append(f"| {row['step']} | {row['ours']:.0f} | {row['open_clip']:.0f} | {spread} |")
    agreement = ", ".join(f"{name} {value:.3g}" for name, value in report["agree"].items())
    return [*lines, "", f"Same weights: {agreement}.", f"{report['machine']}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--towers", choices=("patch", "resnet"), default="patch", help="resnet: a line for it, too")
    shape = {"size": 32, "patch": 4, "width": 128, "depth": 4, "heads": 4, "embed": 128, "context": 16, "vocab": 1000}
    for name, value in (shape | {"batch": 128, "repeats": 5, "steps": 6}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    agree, rows = compared(args)
    if args.towers == "resnet":
        rows.append(residual(args))
    where = (
        torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else f"CPU, {args.threads} threads"
    )
    asked = {name: getattr(args, name) for name in (*shape, "batch", "repeats", "steps", "precision")}
    report = {"machine": where, "torch": torch.__version__, "asked": asked, "agree": agree, "rows": rows}
    print("\n".join(lines_of(report)))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
