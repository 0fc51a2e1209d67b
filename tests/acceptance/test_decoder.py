"""A decoder in one file and one call: trained, stopped and resumed, exported, loaded, sampled and evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import condgen
from condgen.cli.main import main
from condgen.contracts import Batch, SamplingOption, check_options, limited
from condgen.decoders import DECODERS, DecoderKind
from condgen.diffusion.samplers import noise
from condgen.nn.conditioning import CondEncoderConfig, DecoderObjective, build_cond_encoder
from condgen.nn.specs import CondSpec
from condgen.recipes import RECIPES
from condgen.training.trainer import FitConfig
from tests.stopping import two_sittings

# The decoder ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToyConfig(CondEncoderConfig):
    """Options of the toy decoder.

    Args:
        width, heads, word_depth: see `CondEncoderConfig`.
        hidden: width of the hidden layer.
    """

    hidden: int = limited(16, low=1)


class ToyDecoder(nn.Module):
    """cond, noise -> image, by an MLP."""

    sampling_options = (SamplingOption("contrast", 1.0, 0, 2, "float", "factor of the output"),)

    def __init__(self, config: ToyConfig, spec: CondSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self.cond_encoder = build_cond_encoder(config, spec)
        self.hidden = nn.Linear(config.width + 1, config.hidden)
        self.out = nn.Linear(config.hidden, spec.image_channels * spec.size**2)

    def forward(self, z: Tensor, cond: Batch) -> Tensor:
        h = self.hidden(torch.cat([self.cond_encoder(cond)["vector"], z], 1)).relu()
        return self.out(h).tanh().unflatten(1, (self.spec.image_channels, self.spec.size, self.spec.size))

    @torch.inference_mode()
    def sample(self, cond: Batch, rng: list[torch.Generator], **options: float) -> Iterator[Tensor]:
        options = check_options(self.sampling_options, options)
        z = noise((1,), rng).to(self.out.weight.device)
        yield (options["contrast"] * self(z, cond)).clamp(-1, 1)


@dataclass(frozen=True)
class ToyObjective:
    """How the toy decoder is trained.

    Args:
        power: of the absolute error.
    """

    power: float = limited(2.0, low=1)


class ToyTraining(nn.Module):
    """A Trainable around the toy decoder."""

    turns = ("decoder",)

    def __init__(self, decoder: ToyDecoder, objective: ToyObjective, conditioning: DecoderObjective):
        super().__init__()
        self.decoder, self.objective, self.conditioning = decoder, objective, conditioning

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "decoder") -> dict[str, Tensor]:
        z = torch.randn(len(batch["image"]), 1, device=batch["image"].device)
        error = self.decoder(z, self.conditioning(batch)) - batch["image"]
        return {"loss": error.abs().pow(self.objective.power).mean()}


KIND = DecoderKind(ToyDecoder, ToyConfig, ToyTraining, ToyObjective)


# Its use --------------------------------------------------------------------------------------------------------------

RECIPE = "digits-diffusion"
FIT = {"total_images": 64, "batch": 16}


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DECODERS.register("toy", KIND)
    yield
    DECODERS.unregister("toy")


def test_it_goes_through_the_command_line(capsys):
    flags = [f"--fit.{name}={value}" for name, value in FIT.items()]
    train = ["train", RECIPE, "--kind", "toy", "-o", "run", *flags, "--eval_count", "1"]
    assert main([*train, "--decoder.hidden", "0"]) == 2
    assert "--decoder.hidden is 0; it must be at least 1." in capsys.readouterr().err
    assert main([*train, "--objective.power", "1.5", "--decoder.hidden", "8"]) == 0
    model = capsys.readouterr().out.split()[-1]

    assert main(["info", model, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parts"]["decoder"]["class"] == "ToyDecoder" and facts["options"]["decoder"][0]["name"] == "contrast"
    assert facts["index"]["decoder"] == "toy"

    assert main(["sample", "--model", model, "--label", "3", "-n", "2", "--contrast", "0.5", "-o", "images"]) == 0
    loaded = condgen.load(model)
    assert loaded.decoder.config.hidden == 8 and loaded.decoder.spec.size == 8
    last = next(loaded.sample("3", contrast=2.0))
    assert last.image.size == (8, 8) and last.recipe["contrast"] == 2.0

    capsys.readouterr()
    assert main(["evaluate", model, "--data", "digits", "--per-label", "4", "--seeds", "1", "--json"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_stopped_and_resumed_it_ends_as_it_would_have(tmp_path, monkeypatch):
    config = RECIPES[RECIPE].config(kind="toy", fit=FitConfig(**FIT), eval_count=1, save_every=0.0)
    whole, halves = two_sittings(RECIPE, config, "decoder", tmp_path, monkeypatch)
    assert (whole / "decoder/model.safetensors").read_bytes() == (halves / "decoder/model.safetensors").read_bytes()
