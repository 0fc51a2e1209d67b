"""A prior in one file and one call: trained, stopped and resumed, exported, loaded, sampled and evaluated."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import condgen
from condgen.cli.main import main
from condgen.contracts import Batch, SamplingOption, check_options
from condgen.kinds import Kind
from condgen.nn.specs import TextSpec
from condgen.priors import PRIORS
from condgen.priors.transformer import EmbeddingNormalizer, PriorConfig, PriorTraining
from condgen.recipes import train
from tests.stopping import two_sittings
from tests.tasks.test_text_to_image import small

# The prior ------------------------------------------------------------------------------------------------------------


class ToyPrior(nn.Module):
    """text -> z, by a linear map of the text embedding."""

    sampling_options = (SamplingOption("toy_shrink", 1.0, 0, 1, "float", "factor of z"),)

    def __init__(self, config: PriorConfig, spec: TextSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self.map = nn.Linear(spec.embed_dim, spec.embed_dim)

    @torch.inference_mode()
    def draw(
        self,
        text_embed: Tensor,
        tokens: Tensor,
        rng: list[torch.Generator],
        normalizer: EmbeddingNormalizer,
        **options: float,
    ) -> Tensor:
        return check_options(self.sampling_options, options)["toy_shrink"] * self.map(text_embed)


class ToyTraining(PriorTraining):
    """A Trainable around the toy prior."""

    def loss(self, batch: Batch, turn: str = "prior") -> dict[str, Tensor]:
        return {"loss": F.mse_loss(self.prior.map(batch["text_embed"]), self.normalizer(batch["image_embed"]))}


KIND = Kind(ToyPrior, PriorConfig, ToyTraining)


# Its use --------------------------------------------------------------------------------------------------------------

FIT = {"total_images": 32, "batch": 16}


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PRIORS.register("toy", KIND)
    yield
    PRIORS.unregister("toy")


def test_it_goes_through_the_command_line(capsys):
    sizes = {
        "clip": {"embed_dim": 16, "image_width": 8, "text_width": 16, "depth": 1, "heads": 2},
        "decoder": {"channels": [8, 16], "depth": 1, "heads": 2, "width": 16, "word_depth": 1, "steps": 2},
        "data": {"scenes": 96},
    }
    flags = [f"--{section}.{name}={value}" for section, values in sizes.items() for name, value in values.items()]
    flags += [f"--fit_{stage}.{name}={n}" for stage in ("clip", "prior", "decoder") for name, n in FIT.items()]
    assert main(["train", "scenes32", "-o", "run", "--prior.kinds=[toy]", "--eval_count=1", *flags]) == 0
    model = capsys.readouterr().out.split()[-1]

    assert main(["info", model, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parts"]["prior_toy"]["class"] == "ToyPrior" and facts["priors"] == ["toy", "none"]

    assert main(["generate", "a red circle", "--model", model, "--toy-shrink=0.5", "-o", "images"]) == 0
    text = condgen.load(model).embed_text(["a red circle"])
    full, half = (condgen.load(model).draw_embed(text, [], toy_shrink=s) for s in (1.0, 0.5))
    torch.testing.assert_close(half, full / 2)

    capsys.readouterr()
    flags = ["--prompts", "1", "--images-per-prompt", "1", "--ablate", "1", "--json"]
    assert main(["evaluate", model, *flags]) == 0
    assert "toy" in capsys.readouterr().out


def test_stopped_and_resumed_it_ends_as_it_would_have(tmp_path, monkeypatch):
    first = train("scenes32", tmp_path / "first", small(stage="clip"))
    config = small(stage="prior", init_from=str(first), prior={"kinds": ("toy",)}, save_every=0.0)
    runs = two_sittings("scenes32", config, "prior toy", tmp_path, monkeypatch)
    assert len({(run / "parts/prior_toy/model.safetensors").read_bytes() for run in runs}) == 1
