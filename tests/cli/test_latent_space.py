"""`condgen manifold`: every tool from the shell, on models that were never trained, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from condgen.baselines.autoencoders import Autoencoder, AutoencoderConfig
from condgen.baselines.gans import Gan, GanConfig
from condgen.pipelines.latent import LatentModel
from tests.cli.test_cli import HEAVY, imported
from tests.test_errors import refused

TOOLS = {
    "interpolate": (["0", "5", "--steps", "3", "--ways", "line"], "how_real", "interpolation.gif"),
    "traverse": (["3", "--latents", "2,0", "--steps", "3"], "latents", "traversal.png"),
    "arithmetic": (["--plus", "3", "--plus", "label=8", "--minus", "0,1", "-n", "5"], "how_real", "arithmetic.png"),
    "edit": (["--to", "3", "--from", "8", "--strengths", "0,1"], "edited", "edit.png"),
    "jacobian": (["0", "1", "--across", "4"], "sensitivity", "tangents.png"),
    "project": (["0", "1", "--spoil", "noise", "--rounds", "2"], "projection", "projection.png"),
    "holes": (["-n", "30"], "holes", "map.png"),
    "novelty": (["--odd", "3"], "novelty", "novelty.png"),
    "neighbours": (["0", "1", "-k", "3"], "neighbours", "neighbours.png"),
    "likelihood": (["--samples", "2", "-n", "5"], "likelihood", "bound.png"),
}


@pytest.fixture(scope="module")
def spaces(tmp_path_factory) -> Path:
    """A folder with an untrained VAE and an untrained GAN of digits."""
    folder = tmp_path_factory.mktemp("spaces")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = Autoencoder(AutoencoderConfig(8, 1, body="mlp", hidden=(16,), latent=4, variational=True))
        gan = Gan(GanConfig(size=8, image_channels=1))
    for name, net in (("vae", vae), ("gan", gan)):
        LatentModel(net, {"name": name, "data": "digits", "pictures": {}}).save(folder / name)
    return folder


@pytest.fixture
def manifold(condgen, spaces, monkeypatch):
    """Runs a tool: manifold("holes", "vae", "-n", 30)."""
    monkeypatch.setenv("CONDGEN_MODELS", str(spaces))
    return lambda tool, *words: condgen("manifold", tool, *words)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_tells_numbers_and_writes_pictures(manifold, tool):
    words, section, sheet = TOOLS[tool]
    code, out, err = manifold(tool, "vae", *words, "--json", "-o", "there")
    assert code == 0, err
    told = json.loads(out)
    assert told["model"] == "vae" and told[section] and f"there/{sheet}" in told["files"]
    for file in told["files"]:
        with Image.open(file) as picture:
            picture.load()


def test_options_stand_anywhere_and_numbers_are_a_table(manifold):
    code, out, _ = manifold("interpolate", "vae", "--steps", "3", "0", "5", "--ways", "pixels")
    assert code == 0 and "## how real" in out and "line of pixels" in out and Path("out/interpolation.png").exists()


def test_a_gan_answers_what_it_can(manifold):
    for tool, words in (("interpolate", ["--steps", "3"]), ("traverse", ["--steps", "2"]), ("jacobian", ["seed:1"]),
                        ("project", ["0", "--starts", "1", "--steps", "2"])):  # fmt: skip
        code, _, err = manifold(tool, "gan", *words)
        assert code == 0, err


@pytest.mark.parametrize(
    "tool, words",
    [("holes", []), ("novelty", ["--odd", "3"]), ("neighbours", ["0"]), ("arithmetic", ["--plus", "3"]),
     ("edit", ["--to", "3"]), ("interpolate", ["0", "1"]), ("jacobian", ["0"]), ("traverse", ["0"])],
)  # fmt: skip
def test_a_gan_cannot_be_asked_for_the_code_of_a_picture(manifold, tool, words):
    refused(manifold(tool, "gan", *words), "gan", "no encoder", "project")


@pytest.mark.parametrize(
    "tool, words, message",
    [
        ("interpolate", ["cat.png", "0"], ["'cat.png' is no image", "Its classes are"]),
        ("interpolate", ["0"], ["even number of images"]),
        ("interpolate", ["0", "1", "--steps", "2"], ["3 steps or more"]),
        ("interpolate", ["0", "1", "--ways", "spiral"], ["pixels, line, sphere"]),
        ("interpolate", ["0", "99999"], ["no image 99999"]),
        ("interpolate", ["0", "1", "--stpes", "4"], ["Did you mean", "--steps"]),
        ("interpolate", ["bad.png", "0"], ["bad.png"]),
        ("traverse", ["--latents", "4"], ["Latents are 0 to 3"]),
        ("traverse", ["--latents", "two"], ["--latents", "two"]),
        ("traverse", ["--range", "0"], ["range"]),
        ("arithmetic", [], ["no set of images"]),
        ("arithmetic", ["--plus", "eleven"], ["'eleven' is no image"]),
        ("arithmetic", ["--plus", "3", "-n", "0"], ["-n", "1 or more"]),
        ("edit", ["--to", "eleven"], ["eleven"]),
        ("edit", ["--to", "3", "--attribute", "hat"], ["no 'hat'", "label"]),
        ("edit", ["--to", "3", "--from", "3"], ["itself"]),
        ("edit", ["--to", "3", "--strengths", ""], ["strengths"]),
        ("jacobian", ["0", "--across", "0"], ["across"]),
        ("project", ["0", "--rounds", "0"], ["1 or more"]),
        ("holes", ["-n", "0"], ["-n", "1 or more"]),
        ("holes", ["--false-alarms", "2"], ["between 0 and 1"]),
        ("novelty", [], ["--odd"]),
        ("novelty", ["--odd", "eleven"], ["eleven"]),
        ("novelty", ["--odd", "3", "--false-alarms", "0"], ["between 0 and 1"]),
        ("neighbours", ["0", "-k", "0"], ["-k", "1 or more"]),
        ("likelihood", ["--samples", "0"], ["1 sample"]),
        ("likelihood", ["-n", "-3"], ["-n", "1 or more"]),
        ("holes", ["--seed", "-1"], ["seed", "-1"]),
        ("holes", ["--data", "nowhere"], ["nowhere"]),
        ("holes", ["--told", "label=3"], ["is told nothing"]),
        ("holes", ["--split", "middle"], ["middle"]),
    ],
)
def test_what_cannot_be_done_is_one_line(manifold, tool, words, message):
    Path("bad.png").write_bytes(b"\x89PNG nothing")
    refused(manifold(tool, "vae", *words), *message)


def test_words_before_weights(manifold, condgen, tmp_path):
    refused(condgen("manifold"), "TOOL")
    refused(condgen("manifold", "interpolat", "vae"), "interpolat")
    refused(manifold("holes", "vea"), "Did you mean vae?")
    assert not imported(["manifold", "--help"], tmp_path) & HEAVY
