"""Exact resume: k steps, a stop, and k more in fresh objects equal 2 k steps, bit for bit, for all that trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from condgen.data.batches.augment import Augment
from condgen.data.batches.captions import CaptionBatches
from condgen.data.batches.pairs import PairBatches
from condgen.data.batches.views import ViewBatches
from condgen.data.datasets.pairs import Pairs
from condgen.data.synthetic.scenes import scenes
from condgen.decoders.upsampler import UpsamplerTraining
from condgen.training.trainer import COUNTERS, FitConfig, Trainer
from tests.test_contracts import PICTURES as FEW
from tests.test_contracts import TRAINABLES, make
from tests.tiny import tiny_model
from tests.training.test_training import Line, TwoTurns, draw, run

PICTURES, BATCH, K = 10, 4, 4
"""An epoch is two and a half batches, so that the stop after K steps lies in the middle of the second one."""


def fresh_fit(cls, optimiser):
    """What a new process would build; every row of embeddings that any Trainable asks for is in its batches."""
    config = FitConfig(total_images=2 * K * BATCH, batch=BATCH, optimiser=optimiser)
    if cls in (Line, TwoTurns):
        return Trainer(cls(), draw, config, seed=5)
    model = tiny_model()
    if cls.__module__.endswith("selfsup"):
        images = np.random.default_rng(0).integers(0, 256, (FEW, 1, 8, 8), np.uint8)
        torch.manual_seed(5)
        return Trainer(make(cls, model), ViewBatches(images, BATCH, 5, Augment(), noise=2), config, seed=5)
    if cls.__module__.endswith("translation"):
        sides = np.random.default_rng(0).integers(0, 256, (2, PICTURES, 3, 16, 16), np.uint8)
        torch.manual_seed(5)
        return Trainer(make(cls, model), PairBatches(Pairs(*sides), BATCH, 5, shift=1, flip=True), config, seed=5)
    data = scenes(PICTURES, 0, model.size, negatives="seen")
    views = CaptionBatches(data, model.tokenizer.encode(data.texts), BATCH, seed=5, negatives=2, shift=1)
    if cls is UpsamplerTraining:
        views.cache("low", torch.rand(PICTURES, 3, 16, 16, generator=torch.Generator().manual_seed(1)), per="image")
    for name, rows, per in (
        ("image_embed", PICTURES, "image"), ("z", PICTURES, "image"),
        ("text_embed", len(data.texts), "text"), ("guess", len(data.texts), "text"),
    ):  # fmt: skip
        rng = torch.Generator().manual_seed(len(name))
        values = torch.nn.functional.normalize(torch.randn(rows, 16, generator=rng), dim=-1)
        views.cache(name, values, per=per)
    torch.manual_seed(5)  # of weights that a training adds to its model's
    return Trainer(make(cls, model), views, config, seed=5)


def everything(fit):
    """Weights, running mean, optimiser states and counters, flat."""
    found = {f"weights {k}": v for k, v in fit.model.state_dict().items()}
    found |= {f"mean {k}": v for k, v in fit.ema.state_dict().items()}
    for turn, some in fit.optimisers.items():
        for i, own in enumerate(some):
            for p, state in own.state_dict()["state"].items():
                found |= {f"{turn} {i} {p} {k}": torch.as_tensor(v) for k, v in state.items()}
    return found | {name: torch.tensor(getattr(fit, name)) for name in COUNTERS if name != "seconds"}


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
@pytest.mark.parametrize("cls", [*TRAINABLES, Line, TwoTurns], ids=lambda c: c.__name__)
def test_resume_is_exact(cls, optimiser, tmp_path):
    straight = fresh_fit(cls, optimiser)
    run(straight, 2 * K)
    first = fresh_fit(cls, optimiser)
    run(first, K)
    assert K * BATCH % PICTURES, "the stop must lie in the middle of an epoch"
    first.save(tmp_path)
    torch.manual_seed(123)  # whatever a new process has drawn by then
    torch.randn(7)
    second = fresh_fit(cls, optimiser)
    assert second.resume(tmp_path) == [] and second.count == K
    run(second, 2 * K)
    wanted, got = everything(straight), everything(second)
    assert wanted.keys() == got.keys() and len(wanted) > 10
    for name, value in wanted.items():
        assert torch.equal(value, got[name]), name


def test_the_promise_covers_every_stage():
    names = {cls.__name__ for cls in TRAINABLES}
    assert names >= {"ClipTraining", "RegressionTraining", "DiffusionPriorTraining", "DiffusionTraining"}
