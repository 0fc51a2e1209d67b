"""Memories of self-supervision: a queue and a bank, changed by what was seen and by nothing else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from condgen.contracts import CondgenError, HasMemory
from condgen.data.batches.base import to_float
from condgen.encoders.selfsup import METHODS, InstanceTraining, MoCoTraining, SelfsupObjective
from condgen.losses import instance_softmax
from condgen.training.trainer import FitConfig, Trainer
from tests.tiny import tiny_backbone

SMALL = {"dim": 8, "hidden": 16}


def views(n, seed=0, colours=1):
    rng = torch.Generator().manual_seed(seed)
    one, other = torch.rand(2, n, colours, 8, 8, generator=rng) * 2 - 1
    return {"view_1": one, "view_2": other}


def keys_of(trainable, batch):
    with torch.no_grad():
        return trainable.key_encoder(batch["view_2"])


@pytest.mark.parametrize("sizes", [(3, 3, 3), (2, 5, 1, 4), (7, 7), (9, 2), (20,)])
def test_the_queue_holds_the_last_keys_whatever_the_batches(sizes):
    torch.manual_seed(0)
    moco = MoCoTraining(tiny_backbone(), SelfsupObjective(**SMALL, queue=7, key_momentum=1.0), 100)
    began, seen, count = moco.queue.clone(), [], 0
    for k, n in enumerate(sizes):
        batch = views(n, k) | {"index": torch.arange(count, count + n)}
        seen.append(keys_of(moco, batch))
        moco.loss(batch)
        moco.remember()
        count += n
    seen = torch.cat(seen)[-7:]
    order = [int(i) for i in moco.queued]
    assert sorted(i for i in order if i >= 0) == list(range(max(0, count - 7), count))
    for place, number in enumerate(order):
        expected = began[place] if number < 0 else seen[number - max(0, count - 7)]
        torch.testing.assert_close(moco.queue[place], expected)


def test_the_slow_copy_follows_and_has_no_gradient():
    moco = MoCoTraining(tiny_backbone(), SelfsupObjective(**SMALL, queue=4, key_momentum=0.9), 9)
    fast, slow = (next(m.parameters()) for m in (moco.encoder, moco.key_encoder))
    before = slow.clone()
    with torch.no_grad():
        fast.add_(1)
    moco.remember()
    torch.testing.assert_close(slow, 0.9 * before + 0.1 * fast)
    moco.loss(views(3) | {"index": torch.arange(3)})["loss"].backward()
    assert all(p.grad is None for p in moco.key_encoder.parameters()) and fast.grad is not None


def test_an_image_is_no_wrong_answer_to_itself():
    moco = MoCoTraining(tiny_backbone(), SelfsupObjective(**SMALL, queue=5), 9)
    batch = views(1) | {"index": torch.tensor([3])}
    with torch.no_grad():
        moco.queue[2] = keys_of(moco, batch)
        as_another = moco.loss(batch)["loss"]
        moco.queued[2] = 3
        assert moco.loss(batch)["loss"] < as_another


def test_a_queue_longer_than_the_data_is_refused():
    with pytest.raises(CondgenError, match=r"4096.*100 images.*--objective\.queue 100"):
        MoCoTraining(tiny_backbone(), SelfsupObjective(), 100)


def test_the_bank_moves_towards_what_was_seen_and_stays_on_the_sphere():
    torch.manual_seed(0)
    own = InstanceTraining(tiny_backbone(), SelfsupObjective(**SMALL, bank_momentum=0.7), 10)
    before, batch = own.bank.clone(), views(4) | {"index": torch.tensor([8, 1, 1, 5])}
    z = own.encoder(batch["view_1"]).detach()
    loss = own.loss(batch)["loss"]
    torch.testing.assert_close(loss, instance_softmax(z, before, batch["index"], 0.1))
    assert torch.equal(own.bank, before)  # a step that is left out leaves it alone
    own.remember()
    for row, k in ((8, 0), (1, 2), (5, 3)):  # of the image that was there twice the last look counts
        torch.testing.assert_close(own.bank[row], F.normalize(0.7 * before[row] + 0.3 * z[k], dim=0))
    rest = [i for i in range(10) if i not in (8, 1, 5)]
    assert torch.equal(own.bank[rest], before[rest])
    torch.testing.assert_close(own.bank.norm(dim=1), torch.ones(10))
    own.remember()  # nothing was seen since
    assert torch.equal(own.bank[rest], before[rest])


def test_a_first_look_fills_the_bank_with_what_the_encoder_sees():
    torch.manual_seed(0)
    instance = InstanceTraining(tiny_backbone(), SelfsupObjective(**SMALL), 5).train()
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), np.uint8)
    instance.fill_bank(images)
    with torch.no_grad():
        torch.testing.assert_close(instance.bank, instance.encoder(to_float(images)))
    assert instance.training


def test_the_partition_is_estimated_once():
    own = InstanceTraining(tiny_backbone(), SelfsupObjective(**SMALL, noise=2), 10)
    batch = views(4) | {"index": torch.arange(4), "noise": torch.randint(10, (4, 2))}
    own.loss(batch)
    assert own.log_z.isinf()
    own.remember()
    first = own.log_z.clone()
    own.loss(views(4, 1) | {"index": torch.arange(4), "noise": torch.randint(10, (4, 2))})
    own.remember()
    assert first.isfinite() and torch.equal(own.log_z, first)


@pytest.mark.parametrize("method", METHODS)
def test_grey_images_are_those_of_three_equal_channels(method):
    torch.manual_seed(0)
    trainable = METHODS[method](tiny_backbone(), SelfsupObjective(**SMALL, queue=4), 9)
    index = {"index": torch.arange(3)}
    grey = views(3)
    rgb = {name: view.expand(-1, 3, -1, -1) for name, view in grey.items()}
    torch.testing.assert_close(trainable.loss(grey | index)["loss"], trainable.loss(rgb | index)["loss"])


@pytest.mark.parametrize("method", ["moco", "instance"])
def test_a_step_that_is_left_out_is_not_remembered_and_memories_are_not_averaged(method):
    torch.manual_seed(0)
    trainable = METHODS[method](tiny_backbone(), SelfsupObjective(**SMALL, queue=4), 9)
    assert isinstance(trainable, HasMemory)

    def draw(step):
        batch = views(2, step) | {"index": torch.tensor([step % 9, (step + 1) % 9])}
        return batch | ({"view_1": batch["view_1"] * float("nan")} if step == 1 else {})

    fit = Trainer(trainable, draw, FitConfig(total_images=100, batch=2))
    assert not fit.memory & fit.ema.mean.keys()
    states = []
    for step in fit:
        states.append({name: value.clone() for name, value in trainable.state_dict().items()})
        if step.count == 3:
            break
    assert step.skipped == 1
    for name in fit.memory:
        assert torch.equal(states[0][name], states[1][name])
    assert any(not torch.equal(states[1][name], states[2][name]) for name in fit.memory)
    trained = fit.trained()
    assert all(torch.equal(trained[name], states[2][name]) for name in fit.memory)
