"""The decoders of one pass: what training a CVAE and a cGAN means, piece by piece."""

import pytest
import torch

from condgen.decoders.cgan import CganObjective, CganTraining, truncated
from condgen.decoders.cvae import CvaeObjective, CvaeTraining
from condgen.nn.adversarial import augment, diversity
from condgen.nn.conditioning import DecoderObjective
from tests.tiny import tiny_decoder

READS = {"size": 16, "image_channels": 1, "cardinalities": (4,)}


def batch(n: int = 8) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    targets = torch.arange(n)[:, None] % 4
    image = targets[..., None, None] / 2 - 0.75 + 0.05 * torch.randn(n, 1, 16, 16)
    return {"image": image, "targets": targets.float(), "has_targets": torch.ones(n, 1, dtype=torch.bool)}


def test_truncation_bounds_the_noise_and_keeps_its_order():
    normal = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    for bound in (0.05, 0.7, 2.0):
        cut = truncated(normal, bound)
        assert cut.abs().max() <= bound + 1e-6
        assert torch.equal(cut.argsort(), normal.argsort())
    torch.testing.assert_close(truncated(normal, 8.0), normal, atol=1e-4, rtol=1e-4)


def test_augmentation_changes_its_share_and_passes_gradients():
    torch.manual_seed(0)
    images = torch.rand(400, 1, 16, 16, requires_grad=True)
    assert torch.equal(augment(images, 0.0), images)
    changed = (augment(images, 0.2) != images).flatten(1).any(1).float().mean()
    assert abs(changed - (1 - 0.8**3)) < 0.1  # three changes, each with a chance of 0.2; a shift may be none
    augment(images, 1.0).sum().backward()
    assert images.grad.abs().sum() > 0


def test_diversity_is_one_for_real_images_and_zero_after_a_collapse():
    torch.manual_seed(0)
    real = torch.randn(64, 1, 8, 8)
    assert diversity(torch.randn(64, 1, 8, 8), real) == pytest.approx(1, abs=0.05)
    assert diversity(real[:1].expand_as(real), real) == 0


@pytest.mark.parametrize("turn, other", [("generator", "discriminator"), ("discriminator", "generator")])
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_a_turn_leaves_the_other_player_without_gradient(turn, other, gamma):
    own = CganObjective(gamma=gamma, mismatched=0.5)
    training = CganTraining(tiny_decoder("cgan", READS), own, DecoderObjective()).train()
    training.loss(batch(), turn)["loss"].backward()
    assert any(p.grad is not None and p.grad.any() for p in training.parameters_of(turn))
    assert all(p.grad is None for p in training.parameters_of(other))
    assert all(p.requires_grad for p in training.parameters())


def test_the_critic_gets_the_condition():
    """The same images under other labels get other logits."""
    training = CganTraining(tiny_decoder("cgan", READS), CganObjective(augment=0), DecoderObjective())
    given = batch()
    cond = {name: given[name] for name in ("targets", "has_targets")}
    both = (cond, cond | {"targets": cond["targets"].roll(1, 0)})
    right, wrong = (
        training.discriminate(given["image"], training.critic.encode_cond(training.cond_encoder(c))) for c in both
    )
    assert not torch.allclose(right, wrong)


def test_the_bound_is_likelihood_plus_divergence_with_the_optimal_sigma():
    training = CvaeTraining(tiny_decoder("cvae", READS), CvaeObjective(), DecoderObjective(drop_all=0)).eval()
    told = training.loss(batch())
    pixels = 16 * 16
    torch.testing.assert_close(told["loss"] * pixels, told["nll"] + told["kl"])
    # where sigma is the root of the mean squared error, the likelihood is that of the normal's entropy
    entropy = pixels * (0.5 + torch.log(told["sigma"]) + 0.5 * torch.log(torch.tensor(2 * torch.pi)))
    torch.testing.assert_close(told["nll"], entropy)


def test_warmup_and_free_bits_make_the_code_cheaper():
    losses = {}
    for name, own in {"plain": {}, "warm": {"warmup": 10}, "free": {"free_bits": 100.0}}.items():
        torch.manual_seed(0)
        training = CvaeTraining(tiny_decoder("cvae", READS), CvaeObjective(**own), DecoderObjective(drop_all=0)).train()
        torch.manual_seed(1)
        losses[name] = training.loss(batch())["loss"].item()
    assert losses["warm"] < losses["plain"] < losses["free"]
