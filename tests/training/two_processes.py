"""Run by test_ranks.py in every process of a launcher: `gradients OUT`, `resume OUT`, `fault OUT` or `split OUT`."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from condgen import distributed
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.encoders.selfsup import SelfsupObjective
from condgen.training.fsdp import whole
from condgen.training.trainer import FitConfig, Trainer
from tests.test_contracts import TRAINABLES, batch, make
from tests.tiny import tiny_model
from tests.training.test_training import Line, TwoTurns

CONFIG = FitConfig(total_images=400, batch=4, lr=1e-2)
SPLIT = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block,ResBlock",
}  # fmt: skip
"""What Accelerate's launcher says to its processes where a config asks for FSDP."""


def trainables() -> dict:
    """Every Trainable of the package by name, and some in other ways; always the same weights."""
    out = {}
    for cls in TRAINABLES:
        torch.manual_seed(1)
        out[cls.__name__] = make(cls, tiny_model()).train()
    # what it draws for a whole batch, and the first quarter of one, are others than those of two halves
    for name in ("CganTraining", "GanTraining"):
        out[name].objective = replace(out[name].objective, penalised=1.0, augment=0.0)
    one = out["DistillationTraining"]
    one.objective = replace(one.objective, between=0.0)
    torch.manual_seed(1)
    out["chunks"] = ClipTraining(tiny_model().clip, ClipObjective(chunk=1)).train()
    for name, objective in (("InstanceTraining", {"noise": 2}), ("SimCLRTraining", {"chunk": 1})):
        cls, own = type(out[name]), SelfsupObjective(dim=8, hidden=16, temperature=0.1, **objective)
        torch.manual_seed(1)
        out[f"{name} {next(iter(objective))}"] = make(cls, tiny_model(), objective=own).train()
    return out


def whole_batch(step: int = 0) -> dict:
    """Four images, others in every step."""
    given = batch(tiny_model())
    extra = torch.randn(given["z"].shape, generator=torch.Generator().manual_seed(step))
    return {name: value.roll(step, 0) for name, value in given.items()} | {"guess": extra}


def part_of(given: dict) -> dict:
    """What this process sees of a batch."""
    return {name: value.chunk(distributed.world())[distributed.rank()] for name, value in given.items()}


def gradients(out: Path) -> None:
    """Writes the gradient of every weight, as the wrapped model gives it."""
    found = {}
    for name, trainable in trainables().items():
        fit = Trainer(trainable, lambda step: part_of(whole_batch(step)), CONFIG)
        for turn in trainable.turns:
            trainable.zero_grad(set_to_none=True)
            given = part_of(whole_batch())
            torch.manual_seed(100 + distributed.rank())
            fit.backward(fit.objective(given, turn)["loss"])
            own = {n: whole(p.grad) for n, p in trainable.named_parameters() if p.grad is not None}
            for key, grad in own.items():
                assert torch.equal(grad, distributed.mean(grad)), f"{name} {key} differs between the processes"
            found |= {f"{name}/{turn}/{key}": grad for key, grad in own.items()}
    if not distributed.rank():
        save_file(found, out / "gradients.safetensors")


NAMES = [*trainables(), "TwoTurns"]


def fit_of(name: str) -> Trainer:
    """A training of one of NAMES, always the same."""
    model = TwoTurns() if name == "TwoTurns" else trainables()[name]
    return Trainer(model, lambda s: part_of(whole_batch(s) | {"x": whole_batch(s)["z"][:, :4]}), CONFIG, seed=5)


def resume(out: Path) -> None:
    """k steps, stop, resume and k more equal 2 k steps, bit for bit, in each process."""
    for name in NAMES:
        straight, first, second = fit_of(name), fit_of(name), fit_of(name)
        run(straight, 6)
        run(first, 3)
        first.save(out / name)
        distributed.barrier()
        assert second.resume(out / name) == [] and second.count == 3
        run(second, 6)
        for key, value in straight.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[key]), f"{name} {key}"
            assert torch.equal(value, distributed.mean(value).to(value.dtype)), f"{name} {key}"
        for key, value in straight.ema.mean.items():
            assert torch.equal(value, second.ema.mean[key]), f"{name} {key}"


def fault(out: Path) -> None:
    """A loss that is not finite in one process alone: both leave the step out, and go on with the same weights."""

    class Faulty(Line):
        def loss(self, batch, turn):
            bad = distributed.rank() == 1 and batch["step"].item() == 2
            return {"loss": super().loss(batch, turn)["loss"] * (float("nan") if bad else 1.0)}

    fit = Trainer(Faulty(), lambda step: {"x": whole_batch(step)["z"][:, :4], "step": torch.tensor(step)}, CONFIG)
    skipped = []
    for step in fit:
        skipped.append(step.skipped)
        if step.count == 5:
            break
    assert skipped == [0, 0, 1, 1, 1], skipped
    for value in fit.trained().values():
        assert torch.equal(value, distributed.mean(value))


def furthest(one: dict, other: dict) -> float:
    return max(float((value - other[key]).abs().max()) for key, value in one.items() if value.ndim)


def split(out: Path) -> None:
    """Split weights become what whole ones do, and each goes on from the other's checkpoints; writes the deviations."""
    told = {}
    for name in (name for name in NAMES if "chunk" not in name):
        os.environ |= dict.fromkeys(SPLIT, "")
        plain, plain_on = fit_of(name), fit_of(name)
        os.environ |= SPLIT
        parts, parts_on, after_plain = fit_of(name), fit_of(name), fit_of(name)
        assert parts.sharded and not plain.sharded
        held = sum(p.to_local().numel() for p in parts.model.parameters() if p.ndim)
        began = {key: value.clone() for key, value in plain.model.state_dict().items()}
        for fit, place in ((plain, "plain"), (parts, "split")):
            run(fit, 2)
            fit.save(out / place / name)
            distributed.barrier()
            run(fit, 4)
        for fit, place in ((parts_on, "split"), (plain_on, "split"), (after_plain, "plain")):
            assert fit.resume(out / place / name) == [] and fit.count == 2
            run(fit, 4)
        trained, straight = parts.trained(), plain.trained()
        assert all(torch.equal(value, trained[key]) for key, value in parts_on.trained().items()), name
        total = sum(p.numel() for p in plain.model.parameters() if p.ndim)
        weights = {key: value for key, value in straight.items() if key not in plain.memory}
        told[name] = {"held": held / total, "moved": furthest(weights, began)} | {
            "split": furthest(trained, straight),
            "split, then whole": furthest(plain_on.trained(), straight),
            "whole, then split": furthest(after_plain.trained(), straight),
        }
        snapshot = parts.snapshot()
        assert all(type(p.data) is torch.Tensor for p in snapshot.parameters())
        assert all(torch.equal(value, trained[key]) for key, value in snapshot.state_dict().items())
    if not distributed.rank():
        (out / "deviations.json").write_text(json.dumps(told))


def run(fit: Trainer, steps: int) -> None:
    for step in fit:
        if step.count == steps:
            return


if __name__ == "__main__":
    distributed.join()
    assert distributed.world() == 2
    {"gradients": gradients, "resume": resume, "fault": fault, "split": split}[sys.argv[1]](Path(sys.argv[2]))
    distributed.leave()
