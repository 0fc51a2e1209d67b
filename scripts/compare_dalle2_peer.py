"""Trains and samples DALLE2-pytorch on embeddings that `compare_dalle2.py` wrote; that script calls this one.

    VENV/bin/python scripts/compare_dalle2_peer.py WORK --prior-minutes 3 --decoder-minutes 17

It needs no condgen. `WORK/data` holds the shared data, `WORK/dalle2` gets the checkpoints of `DiffusionPriorTrainer`
and `DecoderTrainer`, `report.json` and the images. Minutes are those of the processor, on one thread; the same command
continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Settings = dict[str, dict[str, Any]]
SETTINGS: Settings = {
    "net": {"depth": 3, "heads": 4, "dim_head": 32, "normformer": True},
    "prior": {"timesteps": 1000, "sample_timesteps": 64, "cond_drop_prob": 0.1},
    "unet": {
        "dim": 32, "dim_mults": (1, 2), "num_resnet_blocks": 1, "attn_heads": 4, "memory_efficient": True,
        "channels": 3, "cond_dim": 64, "cond_on_text_encodings": True,
    },
    "decoder": {
        "timesteps": 1000, "sample_timesteps": 50, "learned_variance": True,
        "image_cond_drop_prob": 0.1, "text_cond_drop_prob": 0.2,
    },
    "prior_trainer": {"lr": 1e-3, "wd": 1e-2, "max_grad_norm": 0.5},
    "decoder_trainer": {"lr": 1e-3, "wd": 1e-2, "max_grad_norm": 0.5},
    "ema": {"ema_beta": 0.99, "ema_update_after_step": 100, "ema_update_every": 1},
    "schedule": {"warmup": 0.02, "prior_batch": 64, "decoder_batch": 32, "save_every": 60},
    "sampling": {"batch": 64, "prior_candidates": 2},
}  # fmt: skip
"""Arguments of its classes by name, and our own: batches, the share of the minutes in which the learning rate rises
before it falls to zero along a cosine, CPU seconds between checkpoints, candidates of the prior as in its `DALLE2`."""
STEPS = (0.02, 0.2, 0.5)
"""Where the error of x_0 is measured, as fractions of the diffusion time steps."""


def open_data(folder: Path) -> dict[str, Tensor]:
    """The arrays of the folder by name, see `compare_dalle2.write_data`; images stay on the disk."""
    return {path.stem: torch.from_numpy(np.load(path, mmap_mode="c")) for path in sorted(folder.glob("*.npy"))}


def lr_at(done: float, peak: float, warmup: float) -> float:
    """The learning rate after a share `done` of the minutes: a linear rise, then half a cosine to zero."""
    rise = (done + 1e-3) / max(warmup, 1e-9)
    return peak * min(1.0, rise) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


def batches(data: dict[str, Tensor], size: int, seed: int, first: int, images: bool) -> Iterator[dict[str, Tensor]]:
    """Batches from step `first` on: epochs in a random order, with one of the captions of each image at random."""
    count = len(data["image_embed"])
    per_epoch, step = count // size, first
    while True:
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(count)
        for k in range(place, per_epoch):
            rows = torch.from_numpy(np.sort(order[k * size : (k + 1) * size]))
            captions = data["captions"][rows]
            draw = torch.from_numpy(np.random.default_rng((seed, step, 1)).random(size))
            text = captions.gather(1, (draw * (captions >= 0).sum(1)).long()[:, None])[:, 0].long()
            batch = {"image_embed": data["image_embed"][rows], "text_encodings": data["text_encodings"][text].float()}
            more = {"image": data["images"][rows].float() / 255} if images else {"text_embed": data["text_embed"][text]}
            yield batch | more
            step += 1


def build(settings: Settings, data: dict[str, Tensor]) -> tuple[nn.Module, nn.Module]:
    """The trainers of its prior and of its decoder, for embeddings and captions of the sizes of the data."""
    from accelerate import Accelerator
    from dalle2_pytorch import Decoder, DiffusionPrior, DiffusionPriorNetwork, Unet
    from dalle2_pytorch.trainer import DecoderTrainer, DiffusionPriorTrainer

    accelerator, s = Accelerator(cpu=True), settings
    dim, (length, width) = data["image_embed"].shape[1], data["text_encodings"].shape[1:]
    net = DiffusionPriorNetwork(dim=dim, max_text_len=length, **s["net"])
    prior = DiffusionPrior(net, image_embed_dim=dim, **s["prior"])
    unet = Unet(image_embed_dim=dim, text_embed_dim=width, max_text_len=length, **s["unet"])
    decoder = Decoder(unet, image_size=data["images"].shape[-1], **s["decoder"])
    return (
        DiffusionPriorTrainer(prior, accelerator=accelerator, **s["prior_trainer"], **s["ema"]),
        DecoderTrainer(decoder, accelerator=accelerator, **s["decoder_trainer"], **s["ema"]),
    )


def train(
    trainer: nn.Module,
    optimizer: torch.optim.Optimizer,
    place: Path,
    draw: Callable[[int], Iterator[dict[str, Tensor]]],
    minutes: float,
    schedule: dict[str, Any],
) -> dict[str, float]:
    """Trains for so many minutes of the processor, from the checkpoint if there is one; returns steps and seconds."""
    step, seconds, peak = 0, 0.0, optimizer.param_groups[0]["lr"]
    if place.exists():
        state = torch.load(place, weights_only=False)  # written here; its own `load` fails on torch from 2.6 on
        (trainer.load if hasattr(trainer, "diffusion_prior") else trainer.load_state_dict)(state)
        step, seconds = state["our_step"], state["our_seconds"]
    saved = shown = seconds
    source, losses = draw(step), []
    while seconds < 60 * minutes:
        began = time.process_time()
        batch = next(source)
        losses.append(trainer(**batch))
        for group in optimizer.param_groups:
            group["lr"] = lr_at(seconds / (60 * minutes), peak, schedule["warmup"])
        trainer.update()
        step += 1
        seconds += time.process_time() - began
        if seconds - shown > 20:
            shown = seconds
            images = f"{step * len(batch['image_embed']):,} images"
            print(f"{place.stem}: {seconds:.0f} core-seconds, {images}, loss {np.mean(losses):.4f}", flush=True)
            losses = []
        if seconds - saved > schedule["save_every"] or seconds >= 60 * minutes:
            saved = seconds
            aside = place.with_suffix(".tmp")
            trainer.save(str(aside), our_step=step, our_seconds=seconds)
            aside.rename(place)
    return {"steps": step, "seconds": seconds}


@torch.no_grad()
def denoising_errors(decoder: nn.Module, unet: nn.Module, data: dict[str, Tensor], n: int = 256) -> dict[str, float]:
    """Squared errors of x_0 in [-1, 1] on scenes that training did not show, given their embeddings and captions."""
    scheduler, out = decoder.noise_schedulers[0], {}
    x_0 = data["check_images"][:n].float() / 127.5 - 1
    cond = {"image_embed": data["check_image_embed"][:n], "text_encodings": data["check_text_encodings"][:n].float()}
    rng = torch.Generator().manual_seed(0)
    for share in STEPS:
        t = torch.full((n,), int(share * scheduler.num_timesteps))
        x_t = scheduler.q_sample(x_0, t, torch.randn(x_0.shape, generator=rng))
        eps = unet(x_t, t, **cond)[:, : x_0.shape[1]]  # the rest is its learned variance
        x = scheduler.predict_start_from_noise(x_t, t, eps).clamp(-1, 1)
        out[f"{share:g}"] = (x - x_0).square().mean().item()
    return out


@torch.no_grad()
def draw_embeds(trainer: nn.Module, text_embed: Tensor, encodings: Tensor, candidates: int, steps: int) -> Tensor:
    """Image embeddings (N, D) of prompts, each the nearest to the text of several, as in `DiffusionPrior.sample`."""
    cond = {"text_embed": text_embed, "text_encodings": encodings}
    drawn = [trainer.p_sample_loop(text_embed.shape, text_cond=cond, timesteps=steps) for _ in range(candidates)]
    z = torch.stack([nn.functional.normalize(one, dim=-1) for one in drawn])
    best = (z * nn.functional.normalize(text_embed, dim=-1)).sum(-1).argmax(0)
    return z[best, torch.arange(len(best))]


def sample(
    trainers: tuple[nn.Module, nn.Module], data: dict[str, Tensor], name: str, guidance: float, settings: Settings
) -> dict[str, np.ndarray]:
    """Images of the prompts `name`: `given`, by the embeddings that were given with them, and `own`, by its own prior.

    Returns:
        uint8 (N, 3, S, S) each, and the seconds of the processor that `own` took; for `choose` only `given`
    """
    prior, decoder = trainers
    text_embed, encodings = data[f"{name}_text_embed"], data[f"{name}_text_encodings"].float()
    options, out = settings["sampling"], {}

    def draw(z: Tensor) -> np.ndarray:
        torch.manual_seed(1)
        cond = {"image_embed": z, "text_encodings": encodings}
        images = decoder.sample(**cond, cond_scale=guidance, max_batch_size=options["batch"])
        return (images.clamp(0, 1) * 255).round().byte().numpy()

    out["given"] = draw(data[f"{name}_given_embed"])
    if name != "choose":
        torch.manual_seed(0)
        began, steps = time.process_time(), settings["prior"]["sample_timesteps"]
        out["own"] = draw(draw_embeds(prior, text_embed, encodings, options["prior_candidates"], steps))
        out["seconds"] = np.array(time.process_time() - began)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--prior-minutes", type=float, default=3.0)
    parser.add_argument("--decoder-minutes", type=float, default=17.0)
    parser.add_argument("--sample", default="", help="prompts and guidance, for example choose:1,choose:3,seen:3")
    parser.add_argument("--settings", type=json.loads, default={}, help="changes of SETTINGS, as JSON")
    parser.add_argument("--name", default="dalle2", help="folder below WORK")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = {name: values | args.settings.get(name, {}) for name, values in SETTINGS.items()}
    out, data, schedule = args.work / args.name, open_data(args.work / "data"), settings["schedule"]
    out.mkdir(parents=True, exist_ok=True)
    prior, decoder = trainers = build(settings, data)
    report: dict[str, Any] = {"settings": settings, "python": sys.version.split()[0], "torch": torch.__version__}
    for name, trainer, optimizer, minutes in (
        ("prior", prior, prior.optimizer, args.prior_minutes),
        ("decoder", decoder, decoder.optim0, args.decoder_minutes),
    ):
        size, images = schedule[f"{name}_batch"], name == "decoder"

        def draw(first: int, size: int = size, images: bool = images) -> Iterator[dict[str, Tensor]]:
            return batches(data, size, 0, first, images)

        report[name] = train(trainer, optimizer, out / f"{name}.pt", draw, minutes, schedule)
        report[name] |= {"images": report[name]["steps"] * size}
        model = trainer.diffusion_prior if name == "prior" else trainer.decoder
        report[name] |= {"parameters": sum(p.numel() for p in model.parameters())}
    report["errors of x_0"] = denoising_errors(decoder.decoder, decoder.unets[0].eval(), data)
    for job in filter(None, args.sample.split(",")):
        name, guidance = job.split(":")
        place = out / f"images-{name}-{float(guidance):g}.npz"
        if not place.exists():
            aside = place.with_name(f"unfinished-{place.name}")
            np.savez_compressed(aside, **sample(trainers, data, name, float(guidance), settings))
            aside.rename(place)
            print(f"sampled {name} with guidance {guidance}", flush=True)
    (out / "report.json").write_text(json.dumps(report, indent=2))
    print(json.dumps(report["errors of x_0"]))


if __name__ == "__main__":
    main()
