import math
from dataclasses import replace

import pytest
import torch

from condgen.contracts import CondgenError
from condgen.decoders.diffusion import DiffusionDecoder, DiffusionDecoderConfig, DiffusionObjective, DiffusionTraining
from condgen.diffusion.objectives import EDM, XPrediction
from condgen.diffusion.samplers import SOLVERS
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.nn.conditioning import DecoderObjective, condition
from condgen.nn.specs import CondSpec, EncoderSpec

SPEC = CondSpec(size=16, embed_dim=8, vocab=9, context=5)


def looked_at(guessed: float) -> tuple[torch.Tensor, torch.Tensor]:
    """bool (B,): whose loss hangs on the image's own embedding, and whose on the prior's guess."""
    torch.manual_seed(0)
    conditioning = DecoderObjective(drop_all=0, drop_embed=0, prior_sample_prob=guessed)
    decoder = DiffusionDecoder(DiffusionDecoderConfig(channels=(8, 16), width=16), SPEC)
    training = DiffusionTraining(decoder, DiffusionObjective(), conditioning)
    torch.nn.init.normal_(training.decoder.unet.out.weight, std=0.1)
    z, guess = torch.randn(16, 8, requires_grad=True), torch.randn(16, 8, requires_grad=True)
    image, tokens = torch.rand(16, 3, 16, 16) * 2 - 1, torch.randint(1, 9, (16, 5))
    loss = training.loss({"image": image, "tokens": tokens, "z": z, "guess": guess})["loss"]
    found = torch.autograd.grad(loss, [z, guess], allow_unused=True)
    own, other = (torch.zeros(16, 8) if g is None else g for g in found)
    return own.any(1), other.any(1)


@pytest.mark.parametrize("guessed", [0.0, 0.5, 1.0])
def test_a_sample_gets_the_embedding_of_its_image_or_the_prediction(guessed):
    own, other = looked_at(guessed)
    assert (own ^ other).all()
    assert other.all() == (guessed == 1.0) and own.all() == (guessed == 0.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_solver_of_the_config_generates(solver):
    """From the same noise all solvers come to nearly the same image, and not by the same steps."""
    torch.manual_seed(0)
    config = DiffusionDecoderConfig(channels=(8, 16), width=16, solver=solver)
    decoder = DiffusionDecoder(config, SPEC).eval()
    torch.nn.init.normal_(decoder.unet.out.weight, std=0.05)
    cond = condition(torch.zeros(1, 8), torch.ones(1, 5).long())
    first = {name: last(decoder, name, cond) for name in (solver, "dpm++")}
    assert (first[solver] - first["dpm++"]).abs().mean() < 0.02
    assert (solver == "dpm++") == torch.equal(first[solver], first["dpm++"])


def last(decoder: DiffusionDecoder, solver: str, cond) -> torch.Tensor:
    object.__setattr__(decoder.config, "solver", solver)
    *_, x = decoder.sample(cond, [torch.Generator().manual_seed(1)], steps=40)
    return x


TOWERS = {"grid": {}, "patch": {"image": "patch", "patch": 4}, "resnet": {"image": "resnet", "patch": 1}}


def tower(kind: str) -> torch.nn.Module:
    torch.manual_seed(3)
    config = CLIPConfig(image_width=8, text_width=8, embed_dim=8, heads=2, depth=1, vocab=9, context=5, **TOWERS[kind])
    return CLIP(config, EncoderSpec(16)).image.eval()


def training_with(encoder, **options) -> tuple[DiffusionTraining, dict]:
    torch.manual_seed(0)
    decoder = DiffusionDecoder(DiffusionDecoderConfig(channels=(8, 16), width=16, layout_mlp=True), SPEC)
    conditioning = DecoderObjective(drop_all=0, drop_embed=0, drop_text=0, noise=0)
    training = DiffusionTraining(decoder, DiffusionObjective(**options), conditioning, encoder)
    image = torch.rand(6, 3, 16, 16) * 2 - 1
    return training, {"image": image, "z": torch.randn(6, 8), "tokens": torch.randint(1, 9, (6, 5))}


@pytest.mark.parametrize("kind", TOWERS)
def test_the_perceptual_loss_is_zero_for_the_image_and_grows_with_the_error(kind):
    training, batch = training_with(tower(kind), perceptual=1.0)
    x_0, t = (batch["image"] - training.decoder.mean) / training.decoder.sd, torch.full((6,), 0.5)
    assert training._perceptual(x_0, batch["image"], t).item() == pytest.approx(0, abs=1e-9)
    errors = [training._perceptual(x_0 + k * torch.randn_like(x_0), batch["image"], t).item() for k in (0.05, 0.2, 0.8)]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_the_perceptual_loss_weighs_by_noise_level_and_ends_where_it_says():
    training, batch = training_with(tower("grid"), perceptual=1.0, perceptual_below=0.8)
    x = torch.zeros(6, 3, 16, 16)
    at = {t: training._perceptual(x, batch["image"], torch.full((6,), t)).item() for t in (0.2, 0.6, 0.79, 0.8, 0.95)}
    assert at[0.2] == pytest.approx(2 * at[0.6], rel=1e-4) and at[0.79] > 0
    assert at[0.8] == at[0.95] == 0


def test_the_encoder_of_the_perceptual_loss_is_neither_trained_nor_saved():
    encoder = tower("grid").requires_grad_(True)
    with_it, batch = training_with(encoder, perceptual=1.0)
    without, _ = training_with(None, perceptual=1.0)
    assert with_it.state_dict().keys() == without.state_dict().keys()
    losses = with_it.loss(batch)
    losses["loss"].backward()
    assert losses["perceptual"] > 0 and "perceptual" not in without.loss(batch)
    assert all(p.grad is None for p in encoder.parameters())


def test_several_draws_are_the_mean_of_losses_with_one_condition():
    """The samples of a draw keep their own image and condition, and the layout loss does not count them twice."""
    training, batch = training_with(None, draws=3)
    torch.nn.init.normal_(training.decoder.unet.out.weight, std=0.1)
    several = [training.loss(batch) for _ in range(60)]
    training.objective = replace(training.objective, draws=1)
    single = [training.loss(batch) for _ in range(180)]
    for name in ("denoising", "layout"):
        means = [sum(one[name].item() for one in some) / len(some) for some in (several, single)]
        assert means[0] == pytest.approx(means[1], rel=0.05)
    deviation = [torch.tensor([one["denoising"].item() for one in some]).std() for some in (several, single)]
    assert deviation[0].item() == pytest.approx(deviation[1].item() / math.sqrt(3), rel=0.4)


def test_noise_levels_of_training_are_those_of_the_options_or_of_the_objective():
    assert DiffusionObjective().noise_levels(EDM()) == EDM()
    assert DiffusionObjective(levels=(1.1, 0.9), floor=0.3).noise_levels(XPrediction()) == XPrediction(1.1, 0.9, 0.3)
    t = torch.tensor([0.1, 0.3, 0.6])
    assert XPrediction(floor=0.3).weight(t).tolist() == pytest.approx([1 / 0.09, 1 / 0.09, 1 / 0.36], rel=1e-5)
    for wrong in ((1.0,), (1.0, 0.0), (1.0, -2.0)):
        with pytest.raises(CondgenError, match="levels"):
            DiffusionObjective(levels=wrong)


@pytest.mark.parametrize("kind", TOWERS)
def test_feature_maps_depend_on_what_is_near(kind):
    """A changed corner changes the maps there; for convolutions it changes them nowhere else."""
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    other = image.clone()
    other[..., :2, :2] += 0.5
    for one, two in zip(tower(kind).feature_maps(image), tower(kind).feature_maps(other), strict=True):
        assert one.ndim == 4 and len(one) == 1
        changed = (one - two).abs().sum(1)[0] > 1e-6
        assert changed[0, 0]
