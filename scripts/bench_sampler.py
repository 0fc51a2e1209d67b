"""Compares level spacings, solvers and step counts of a model of scenes on SceneEval, see docs/results.md.

    python scripts/bench_sampler.py spacing --prompts 50 --seed 1
    python scripts/bench_sampler.py solver --prompts 50 --seed 1
    python scripts/bench_sampler.py steps --prompts 50 --model scenes32 runs/few/model
    python scripts/bench_sampler.py sheet --model scenes32 runs/few/model -o docs/images/few-steps.png

All rows of a table share prompts, embeddings of the prior and noise. Every command prints a table in Markdown, with
the failures per task, and the difference to the first row in images with the standard error of this paired difference.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import condgen
from condgen.contracts import Batch
from condgen.data.batches.base import to_uint8
from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.grammar import say
from condgen.data.synthetic.prompts import questions
from condgen.diffusion.objectives import Denoiser
from condgen.diffusion.samplers import T_MAX, Guided, levels, noise
from condgen.files.images import grid, write_sheet
from condgen.metrics.geneval import TASKS, is_exact, passes, score
from condgen.nn.conditioning import condition, null_cond
from condgen.pipelines.base import generator, to_pil

AT_A_TIME = 64


# Spacings: steps -> steps + 1 levels t from almost 1 to 0 -------------------------------------------------------------


def shift_by(shift: float) -> Callable[[int], list[float]]:
    """Evenly spaced levels, shifted; shift 2 is the default of the package."""

    def spacing(steps: int) -> list[float]:
        even = [T_MAX * (1 - i / steps) for i in range(steps + 1)]
        return [shift * t / (1 + (shift - 1) * t) for t in even]

    return spacing


def karras(rho: float, high: float = 80.0, low: float = 0.02) -> Callable[[int], list[float]]:
    """EDM's spacing of sigma = t / (1 - t) (Karras et al., 2022), equation 5."""

    def spacing(steps: int) -> list[float]:
        sigmas = np.linspace(high ** (1 / rho), low ** (1 / rho), steps) ** rho
        return [*(float(s / (1 + s)) for s in sigmas), 0.0]

    return spacing


def log_snr(high: float = 6.0, low: float = -3.0) -> Callable[[int], list[float]]:
    """Even in the logarithm of sigma (Lu et al., 2022), from `high` to `low`."""
    return lambda steps: [*(1 / (1 + math.exp(-x)) for x in np.linspace(high, low, steps)), 0.0]


@dataclass(frozen=True)
class Way:
    """A way to sample.

    Args:
        steps: steps of the solver.
        spacing: see above.
        order: order of the multistep solver in log SNR, 1 to 3.
        exact: second order with the exact integral of the exponential weight, in place of the midpoint rule.
        heun: number of first steps that are Heun's, each of two calls.
        sde: share of new noise in steps from above the level `sde_above`, 1 is that of the SDE.
        sde_above: see `sde`.
        extrapolation: share of the second-order term, 1 is that of the solver and 0 DDIM.
        high_order_below: steps from above this level are of first order.
        clamp: whether x_0 is clamped to the range of images before every step.
        restart: the solver forgets its past at every so many steps; 0 never.
        guidance: scale, by default that of the model.
        low, high: the interval of levels that are guided.
    """

    steps: int = 12
    spacing: Callable[[int], list[float]] = levels
    order: int = 2
    exact: bool = False
    heun: int = 0
    sde: float = 0.0
    sde_above: float = 0.9
    extrapolation: float = 1.0
    high_order_below: float = 1.0
    clamp: bool = False
    restart: int = 0
    guidance: float | None = None
    low: float = 0.0
    high: float = 1.0


@torch.inference_mode()
def solve(denoise: Denoiser, x: Tensor, cond: Batch, way: Way, rng: list[torch.Generator]) -> Tensor:
    """x_T -> x_0 along the levels of a way, by a multistep solver in the data prediction."""
    t, past = way.spacing(way.steps), []
    for i in range(way.steps):
        x_0 = denoise(x, torch.full((len(x),), t[i]), cond)
        if t[i + 1] == 0:
            return x_0
        past = [] if way.restart and i % way.restart == 0 else past
        now, then = math.log((1 - t[i]) / t[i]), math.log((1 - t[i + 1]) / t[i + 1])
        h, d = then - now, x_0
        if i < way.heun:
            ahead = _step(x, x_0, t[i], t[i + 1], h)
            d = (x_0 + denoise(ahead, torch.full((len(x),), t[i + 1]), cond)) / 2
        elif way.order > 1 and past and t[i] <= way.high_order_below:
            before, was = past[-1]
            slope = (x_0 - before) / (now - was)
            phi_1, phi_2, phi_3 = _phis(h)
            d = x_0 + slope * h * way.extrapolation * (phi_2 / phi_1 if way.exact else 0.5)
            if way.order > 2 and len(past) > 1:
                earlier, first = past[-2]
                slope_2 = (slope - (before - earlier) / (was - first)) / (now - first)
                d = x_0 + ((slope + slope_2 * (now - was)) * h * phi_2 + 2 * slope_2 * h**2 * phi_3) / phi_1
        past.append((x_0, now))
        x_next = _step(x, d, t[i], t[i + 1], h)
        if way.sde and t[i] > way.sde_above:
            # SDE-DPM-Solver++ (Lu et al., 2022), equation 18, for a share of the noise
            e = math.exp(-h * way.sde)
            a, s = 1 - t[i + 1], t[i + 1]
            x_next = s / t[i] * e * x + a * (1 - math.exp(-h) * e) * d
            x_next = x_next + s * math.sqrt(1 - e**2) * noise(tuple(x.shape[1:]), rng)
        x = x_next
    return x


def _phis(h: float) -> tuple[float, float, float]:
    """The integrals of exp(u - h) u^k / k! over u in [0, h], over h^(k+1), for k = 0, 1, 2."""
    phi_1 = -math.expm1(-h) / h
    phi_2 = (1 - phi_1) / h
    phi_3 = (0.5 - phi_2) / h
    return phi_1, phi_2, phi_3


def _step(x: Tensor, d: Tensor, t: float, s: float, h: float) -> Tensor:
    return s / t * x - (1 - s) * math.expm1(-h) * d


# Evaluation -----------------------------------------------------------------------------------------------------------


class Questions:
    """Prompts of SceneEval, seen and held out, with the embeddings of the prior and the noise of a model.

    Args:
        model: a TextToImage of scenes.
        prompts: per task and side, at most.
        images: images per prompt.
        seed: of the prompts and of the first image.
        tasks: names of tasks.
    """

    def __init__(self, model, prompts: int, images: int, seed: int, tasks: tuple[str, ...] = TASKS):
        self.model, self.seed = model, seed
        sides = [(side, t, m) for side in (False, True) for t in tasks for m in questions(t, prompts, side, seed)]
        self.asked = [one for one in sides for _ in range(images)]

    def batches(self) -> Iterator[tuple[Batch, list[torch.Generator], list]]:
        """Condition, generators after the prior has drawn from them, and the questions of a batch."""
        for start in range(0, len(self.asked), AT_A_TIME):
            part = self.asked[start : start + AT_A_TIME]
            text = self.model.embed_text([say(m) for _, _, m in part])
            rng = [generator(1_000_003 * self.seed + start + i) for i in range(len(part))]
            z = self.model.draw_embed(text, rng)
            yield condition(z, text.tokens), rng, part


Draw = Callable[[Batch, list[torch.Generator]], Tensor]


def draw_with(model, way: Way) -> Draw:
    """Samples of the decoder of a model: condition, generators -> images (B, 3, S, S)."""
    decoder = model.decoder

    @torch.inference_mode()
    def draw(cond: Batch, rng: list[torch.Generator]) -> Tensor:
        encoded, null = decoder.encode_cond(cond), decoder.encode_cond(null_cond(cond))
        w = decoder.config.guidance if way.guidance is None else way.guidance
        guided = Guided(decoder.denoise, lambda _: null, w, way.low, way.high)
        if way.clamp:
            low, high = (-1 - decoder.mean) / decoder.sd, (1 - decoder.mean) / decoder.sd
            unclamped = guided
            guided = lambda x_t, t, cond: unclamped(x_t, t, cond).clamp(low, high)  # noqa: E731
        shape = (decoder.spec.image_channels, decoder.spec.size, decoder.spec.size)
        x = solve(guided, noise(shape, rng), encoded, way, rng)
        return (x * decoder.sd + decoder.mean).clamp(-1, 1)

    return draw


def default_of(model, **options: float) -> Draw:
    """Samples of the decoder as the package draws them."""

    def draw(cond: Batch, rng: list[torch.Generator]) -> Tensor:
        *_, images = model.decoder.sample(cond, rng, **options)
        return images

    return draw


def evaluate(asked: Questions, draw: Draw) -> dict:
    """Scores of a way to sample: `passed` of every image, scores per side, seconds of process time."""
    results: dict[bool, list] = {False: [], True: []}
    passed, seconds = [], 0.0
    for cond, rng, part in asked.batches():
        began = time.process_time()
        images = draw(cond, rng)
        seconds += time.process_time() - began
        for (side, task, meaning), seen in zip(part, detect(to_uint8(images)), strict=True):
            ok = passes(task, meaning, seen)
            results[side].append((task, ok, bool(seen) and is_exact(meaning, seen)))
            passed.append((task, ok, results[side][-1][2]))
    return {"results": results, "passed": passed, "seconds": seconds}


def row_of(name: str, found: dict, first: dict) -> dict[str, str]:
    """A row of the table."""
    scores = {side: score(found["results"][side]) for side in (False, True)}
    n, exact = len(found["passed"]), np.array([e for _, _, e in found["passed"]], float)
    change = exact - np.array([e for _, _, e in first["passed"]], float)
    failures = [sum(not ok for t, ok, _ in found["passed"] if t == task) for task in TASKS]
    error = change.std() * math.sqrt(n)
    return {
        "sampling": name,
        "seen": f"{scores[False]['overall']:.3f}",
        "held out": f"{scores[True]['overall']:.3f}",
        "exact": f"{exact.mean():.3f} ± {exact.std() / math.sqrt(n):.3f}",
        "more exact images": f"{change.sum():+.0f} ± {error:.0f}",
        "failures per task": " ".join(map(str, failures)),
        "images/s": f"{n / found['seconds']:.0f}",
    }


# Commands -------------------------------------------------------------------------------------------------------------

SPACING = {
    "12 steps, shift 2": Way(),
    "24 steps, shift 2": Way(24),
    "shift 1": Way(spacing=shift_by(1)),
    "shift 1.5": Way(spacing=shift_by(1.5)),
    "shift 3": Way(spacing=shift_by(3)),
    "shift 4": Way(spacing=shift_by(4)),
    "EDM, rho 7, 80 to .02": Way(spacing=karras(7)),
    "EDM, rho 7, 40 to .1": Way(spacing=karras(7, 40, 0.1)),
    "EDM, rho 3, 80 to .2": Way(spacing=karras(3, 80, 0.2)),
    "even in log SNR": Way(spacing=log_snr(6, -1.6)),
}
SOLVER = {
    "12 steps, DPM-Solver++": Way(),
    "24 steps, DPM-Solver++": Way(24),
    "12 steps, DDIM": Way(order=1),
    "12 steps, third order": Way(order=3),
    "10 steps, 2 of Heun first": Way(10, heun=2),
    "12 steps, noise above .9": Way(sde=1.0, sde_above=0.9),
    "12 steps, guidance below .98": Way(high=0.98),
    "8 steps, DPM-Solver++": Way(8),
    "8 steps, exact integral": Way(8, exact=True),
    "8 steps, restarted at every 2": Way(8, restart=2),
    "8 steps, half the extrapolation": Way(8, extrapolation=0.5),
    "8 steps, second order below .6": Way(8, high_order_below=0.6),
    "8 steps, x_0 clamped": Way(8, clamp=True),
    "8 steps, DDIM": Way(8, order=1),
    "6 steps, DPM-Solver++": Way(6),
    "6 steps, DDIM": Way(6, order=1),
    "4 steps, DPM-Solver++": Way(4),
    "4 steps, DDIM": Way(4, order=1),
    "2 steps, DPM-Solver++": Way(2),
    "2 steps, DDIM": Way(2, order=1),
}


def table(asked: Questions, draws: dict[str, Draw]) -> None:
    """Prints a row for every way to draw, as soon as it is known."""
    print(f"{len(asked.asked)} images a row, seed {asked.seed}; failures of {', '.join(TASKS)}\n")
    first = None
    for name, draw in draws.items():
        found = evaluate(asked, draw)
        row = row_of(name, found, first or found)
        if first is None:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        first = first or found
        print(f"| {' | '.join(row.values())} |", flush=True)


def own_draws(models: list, steps: list[int]) -> dict[str, Draw]:
    """The decoder of every model as the package samples it, with each number of steps; if distilled, with its own."""
    draws = {}
    for model in models:
        known = model.decoder.config
        for n in [known.steps] if known.distilled else steps:
            draws[f"{model.name}, {n} steps"] = default_of(model, steps=n)
    return draws


def sheet(asked: Questions, draws: dict[str, Draw], out: Path) -> None:
    """Writes a row of images for every way to draw; the columns share prompt and noise."""
    images, labels, columns = [], [], 12
    for name, draw in draws.items():
        cond, rng, part = next(asked.batches())
        chosen = [k * len(part) // columns for k in range(columns)]
        few = {key: value[chosen] for key, value in cond.items()}
        images += to_pil(draw(few, [rng[k] for k in chosen]))
        labels += [say(part[k][2]) if not k else name for k in chosen]
    write_sheet(out, grid(images, labels, columns=columns, cell=96))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("spacing", "solver", "steps", "sheet"))
    parser.add_argument("--model", nargs="+", default=["scenes32"], help="names or paths (default the bundled model)")
    parser.add_argument("--prompts", type=int, default=50, help="prompts for each task and side (default 50)")
    parser.add_argument("--images", type=int, default=1, help="images for each prompt (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of prompts and images (default 0)")
    parser.add_argument("--steps", type=int, nargs="+", default=[12, 4, 2], help="of models that are not distilled")
    parser.add_argument("--rows", nargs="+", help="only these rows of `spacing` or `solver`, beside the first")
    parser.add_argument("-o", "--out", type=Path, default=Path("few-steps.png"), help="file of the sheet")
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = [condgen.load(name) for name in args.model]
    asked = Questions(models[0], args.prompts, args.images, args.seed)
    if args.what in ("steps", "sheet"):
        draws = own_draws(models, args.steps)
    else:
        ways = SPACING if args.what == "spacing" else SOLVER
        chosen = [name for k, name in enumerate(ways) if not k or not args.rows or name in args.rows]
        draws = {name: draw_with(models[0], ways[name]) for name in chosen}
    if args.what == "sheet":
        return sheet(asked, draws, args.out)
    table(asked, draws)


if __name__ == "__main__":
    main()
