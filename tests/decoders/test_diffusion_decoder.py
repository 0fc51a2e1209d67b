import pytest
import torch

from condgen.decoders.diffusion import DiffusionDecoder, DiffusionDecoderConfig, DiffusionObjective, DiffusionTraining
from condgen.diffusion.samplers import SOLVERS
from condgen.nn.conditioning import DecoderObjective, condition
from condgen.nn.specs import CondSpec

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
