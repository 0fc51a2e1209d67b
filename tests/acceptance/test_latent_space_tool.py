"""Adding a latent-space tool takes one file and one call: this file defines one and runs it on the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from condgen.baselines.autoencoders import Autoencoder, AutoencoderConfig
from condgen.cli.main import main
from condgen.latent_space import Analysis, Tool, ToolCall, option, register
from condgen.latent_space.registry import TOOLS, images_option
from condgen.latent_space.result import sheet
from condgen.nn.specs import ImageSpec
from condgen.pipelines.latent import LatentModel

# The tool -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shrinking(Analysis):
    """The result of the tool."""


def run(call: ToolCall) -> Shrinking:
    """Multiplies latents by a factor and decodes them."""
    latents = call.space.encode(call.source.load_images(call.names(4)))
    shrunk = call.space.decode(call.args.factor * latents)
    norms = {
        "before": latents.norm(dim=1).mean().item(),
        "after": (call.args.factor * latents).norm(dim=1).mean().item(),
    }
    return Shrinking({"norm": {"mean": norms}}, {"shrunk.png": sheet([("shrunk", shrunk, [])])})


OPTIONS = (
    images_option("four of the data"),
    option("--factor", type=float, default=0.5, metavar="F", help="factor of the latents"),
)
TOOL = Tool("shrink", "multiply latents by a factor", OPTIONS, run)


# Its use --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Autoencoder(AutoencoderConfig(body="mlp", hidden=(16,), latent=4), ImageSpec(8, 1))
    LatentModel(net, {"name": "tiny", "data": "digits"}).save(Path("model"))
    register(TOOL)
    yield "model"
    del TOOLS[TOOL.name]


def test_a_tool_of_one_file_runs_on_the_command_line(model, capsys):
    assert main(["latent-space", "shrink", model, "3", "--factor", "0.25", "7", "--json", "-o", "sheets"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["norm"]["mean"]["after"] == pytest.approx(result["norm"]["mean"]["before"] / 4)
    with Image.open(result["files"][0]) as image:
        image.load()
    assert main(["latent-space", "shrink", model, "--fcator", "1"]) == 2
    assert "Did you mean --factor?" in capsys.readouterr().err


def test_its_help_is_listed(model, capsys):
    for words, expected in (
        (["latent-space", "--help"], TOOL.help),
        (["latent-space", "shrink", "--help"], "(default 0.5)"),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert expected in capsys.readouterr().out


def test_a_name_is_registered_once(model):
    with pytest.raises(ValueError, match="registered twice"):
        register(TOOL)
