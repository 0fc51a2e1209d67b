"""GANs without a condition: layouts, codes, what a turn changes, and what images tell of their codes."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from condgen.baselines.gans import (
    BatchNorm,
    Codes,
    Gan,
    GanConfig,
    GanCritic,
    GanObjective,
    GanTraining,
    category_nats,
    continuous_nats,
)
from condgen.nn.specs import ImageSpec
from condgen.pipelines.auto import load_folder
from condgen.pipelines.latent import LatentModel

INFO = GanConfig(code=4, width=8, categories=3, continuous=2), ImageSpec(8, 1)


@pytest.mark.parametrize("image_channels", [1, 3])
@pytest.mark.parametrize("body", ["mlp", "dcgan"])
@pytest.mark.parametrize("size", [8, 16, 28, 32, 64, 128])
def test_every_size_comes_out_and_goes_in(size, body, image_channels):
    spec = ImageSpec(size, image_channels)
    config = GanConfig(body, code=6, width=4, norm="batch", categories=3, continuous=1)
    gan, critic = Gan(config, spec).train(), GanCritic(config, spec).train()
    pictures = gan(torch.randn(4, config.latent))
    assert pictures.shape == (4, image_channels, size, size) and pictures.abs().max() <= 1
    assert critic(pictures).shape == (4, 1 + 3 + 2) and critic.phi(pictures).shape == (4, critic.width)
    assert critic.category(pictures).shape == (4, 3)


def test_the_classic_layout_is_that_of_the_paper():
    """100 numbers to 4 x 4 x 512, and by four transposed convolutions to 64 x 64; back by as many."""
    config, spec = GanConfig(code=100, width=64, norm="batch"), ImageSpec(64, 3)
    up = [layer.weight.shape[:2] for layer in Gan(config, spec).modules() if isinstance(layer, nn.ConvTranspose2d)]
    down = [layer.weight.shape[:2] for layer in GanCritic(config, spec).modules() if isinstance(layer, nn.Conv2d)]
    assert up == [(512, 256), (256, 128), (128, 64), (64, 3)]
    assert down == [(64, 3), (128, 64), (256, 128), (512, 256)]
    assert Gan(config, spec).body[0].weight.shape == (512 * 16, 100)
    norms = [
        sum(isinstance(m, BatchNorm) for m in net.modules()) for net in (Gan(config, spec), GanCritic(config, spec))
    ]
    assert norms == [4, 3]  # none where pixels come in or go out
    assert not any(isinstance(m, BatchNorm) for m in GanCritic(replace(config, norm="none"), spec).modules())


@pytest.mark.parametrize("size", [4, 9, 18, 25, 100])
def test_a_size_that_cannot_be_halved_is_refused_by_name(size):
    with pytest.raises(ValueError, match=r"--data\.size"):
        Gan(GanConfig(), ImageSpec(size))
    assert Gan(GanConfig(body="mlp", width=4), ImageSpec(size)).eval()(torch.zeros(1, 100)).shape[-1] == size


def test_codes_are_laid_out_as_they_say():
    gan = Gan(*INFO)
    z = gan.draw([torch.Generator().manual_seed(s) for s in range(600)])
    assert z.shape == (600, INFO[0].latent) == (600, 9)
    codes = Codes.of(z, INFO[0])
    assert torch.equal(codes.joined(), z)
    assert torch.equal(codes.category.sum(1), torch.ones(600)) and set(codes.category.unique().tolist()) == {0.0, 1.0}
    assert (codes.category.mean(0) - 1 / 3).abs().max() < 0.07
    assert abs(codes.noise.std() - 1) < 0.05
    assert codes.continuous.abs().max() <= 1 and abs(codes.continuous.std() - 1 / math.sqrt(3)) < 0.05
    assert torch.equal(gan.draw([torch.Generator().manual_seed(7)]), z[7:8])  # a seed names an image


def test_batch_norm_is_torchs():
    own, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    theirs.weight.data.copy_(own.weight)
    for _ in range(3):
        x = torch.randn(8, 3, 4, 4) * 2 + 1
        torch.testing.assert_close(own(x), theirs(x))
    torch.testing.assert_close(own.var, theirs.running_var)
    torch.testing.assert_close(own.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(
    "rules", [GanObjective(gamma=1.0), GanObjective(loss="ns", gamma=0.0, augment=0.0)], ids=["modern", "classic"]
)
@pytest.mark.parametrize("turn, other", [("generator", "discriminator"), ("discriminator", "generator")])
def test_a_turn_leaves_the_other_player_without_gradient(turn, other, rules):
    training = GanTraining(Gan(*INFO), rules).train()
    learned = [p.requires_grad for p in training.parameters()]
    training.loss({"image": torch.rand(6, 1, 8, 8)}, turn)["loss"].backward()
    assert any(p.grad is not None and p.grad.any() for p in training.parameters_of(turn))
    assert all(p.grad is None for p in training.parameters_of(other))
    assert [p.requires_grad for p in training.parameters()] == learned


def test_what_is_read_of_codes_is_reported_as_information():
    """Read perfectly, a category of K values tells ln K; read by chance, codes tell nothing or less."""
    category = F.one_hot(torch.arange(12) % 3, 3).float()
    assert category_nats(100 * category, category).item() == pytest.approx(math.log(3))
    assert category_nats(torch.zeros(12, 3), category).item() == pytest.approx(0, abs=1e-6)
    c = torch.rand(20_000, 1) * 2 - 1
    blind = torch.cat([torch.zeros_like(c), torch.full_like(c, math.log(1 / math.sqrt(3)))], 1)
    # a normal of the right width falls short of an even distribution by ln(sqrt(2 pi e / 12)) and never exceeds it
    assert continuous_nats(blind, c).item() == pytest.approx(-math.log(math.sqrt(2 * math.pi * math.e / 12)), abs=0.01)
    for error in (0.1, 0.3):
        read = torch.cat([c + error * torch.randn_like(c), torch.full_like(c, math.log(error))], 1)
        truth = math.log(2) - math.log(error * math.sqrt(2 * math.pi * math.e))
        assert continuous_nats(read, c).item() == pytest.approx(truth, abs=0.02)


def test_categories_find_known_factors():
    """Three kinds of images, a bright third each: the bound rises to ln 3, and the critic tells the kinds apart."""
    kinds = torch.full((3, 1, 9, 9), -1.0)
    for k in range(3):
        kinds[k, :, :, 3 * k : 3 * k + 3] = 1.0
    torch.manual_seed(0)
    config = GanConfig("mlp", code=2, width=16, categories=3)
    training = GanTraining(Gan(config, ImageSpec(9, 1)), GanObjective(gamma=0.1, augment=0.0)).train()
    players = {t: torch.optim.Adam(training.parameters_of(t), 2e-3, betas=(0.0, 0.99)) for t in training.turns}
    for _ in range(500):
        batch = {"image": kinds[torch.randint(3, (48,))] + 0.05 * torch.randn(48, 1, 9, 9)}
        for turn, optimiser in players.items():
            training.zero_grad()
            told = training.loss(batch, turn)
            told["loss"].backward()
            optimiser.step()
    assert told["nats_category"] > 0.9 * math.log(3)
    with torch.inference_mode():
        found = training.critic.eval().category(kinds).argmax(1)
    assert sorted(found.tolist()) == [0, 1, 2]


def test_a_model_comes_back_with_its_critic(tmp_path):
    torch.manual_seed(0)
    model = LatentModel(Gan(*INFO), {"name": "info"}, critic=GanCritic(*INFO))
    model.save(tmp_path / "info")
    again = load_folder(tmp_path / "info")
    assert not again.encodes and again.latent == 9 and again.network == "gan"
    torch.testing.assert_close(again.sample(range(3)), model.sample(range(3)))
    torch.testing.assert_close(again.sample([2]), model.sample(range(3))[2:], rtol=1e-4, atol=1e-5)
    images = torch.rand(4, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(again.critic.phi(images), model.critic.phi(images))
