"""The unconditional prior learns a distribution of embeddings, and a seed names a draw."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from condgen.contracts import CondgenError
from condgen.files.weights import load_part, save_part
from condgen.priors.transformer import EmbeddingNormalizer, EmbeddingSpec
from condgen.priors.unconditional import UnconditionalPrior, UnconditionalPriorConfig, UnconditionalPriorTraining
from condgen.training.trainer import FitConfig, Trainer
from tests.tiny import tiny_prior


def rng(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_seed_names_a_draw_whatever_the_others_are():
    prior = tiny_prior()
    many, one, other = prior.draw(rng(5, 6, 7)), prior.draw(rng(6)), prior.draw(rng(8))
    assert many.shape == (3, 16) and many.isfinite().all()
    torch.testing.assert_close(many[1:2], one, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(one, other, atol=0.1)


def test_its_steps_change_a_draw_and_have_a_range():
    prior = tiny_prior()
    assert not torch.equal(prior.draw(rng(0)), prior.draw(rng(0), prior_steps=2))
    for wrong in ({"prior_steps": 0}, {"prior_steps": 2.5}, {"best_of": 2}):
        with pytest.raises(CondgenError, match=next(iter(wrong))):
            prior.draw(rng(0), **wrong)


def test_saved_and_loaded_it_draws_the_same(tmp_path):
    prior = tiny_prior(space="here")
    save_part(prior, tmp_path)
    loaded = load_part(UnconditionalPrior, tmp_path)
    assert loaded.spec == prior.spec and torch.equal(loaded.draw(rng(1, 2)), prior.draw(rng(1, 2)))


def test_untrained_it_draws_the_normal_distribution_that_it_begins_with():
    """The output begins at zero, so that the denoiser is the best one for normal data."""
    prior = UnconditionalPrior(UnconditionalPriorConfig(width=8, depth=1), EmbeddingSpec(4, "")).eval()
    z = prior.draw(rng(*range(2000)))
    assert z.mean(0).abs().max() < 0.1 and (z.std(0) - 1).abs().max() < 0.1


def test_it_learns_two_groups_of_embeddings():
    torch.manual_seed(0)
    centres = F.normalize(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), dim=1)
    group = torch.arange(512) % 4 == 0  # a quarter is of the second group
    embeds = F.normalize(centres[group.long()] + 0.05 * torch.randn(512, 4), dim=1)
    normalizer = EmbeddingNormalizer.fit(embeds, "")
    prior = UnconditionalPrior(UnconditionalPriorConfig(width=64, depth=2), EmbeddingSpec(4, ""))
    training = UnconditionalPriorTraining(prior, normalizer)

    def batch(step: int) -> dict[str, torch.Tensor]:
        rows = torch.randint(512, (128,), generator=torch.Generator().manual_seed(step))
        return {"image_embed": embeds[rows]}

    trainer = Trainer(training, batch, FitConfig(total_images=128 * 400, batch=128, lr=5e-3), seed=0)
    for _ in trainer:
        pass
    drawn = normalizer.back(trainer.snapshot().prior.draw(rng(*range(400))))
    nearest = (drawn @ centres.T).max(1)
    assert (nearest.values > 0.95).float().mean() > 0.95  # between the groups there is nothing
    assert 0.15 < (nearest.indices == 1).float().mean() < 0.35
