"""`condgen latent-space`: every tool on the command line, on untrained models, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from condgen.baselines.autoencoders import Autoencoder, AutoencoderConfig
from condgen.baselines.gans import Gan, GanConfig
from condgen.nn.specs import ImageSpec
from condgen.pipelines.latent import LatentModel
from tests.cli.test_cli import HEAVY, imported
from tests.test_errors import refused

TOOLS = {
    "interpolate": (["0", "5", "--steps", "3", "--paths", "line"], "realism", "interpolation.gif"),
    "traverse": (["3", "--dimensions", "2,0", "--steps", "3"], "latents", "traversal.png"),
    "arithmetic": (["--plus", "3", "--plus", "label=8", "--minus", "0,1", "-n", "5"], "realism", "arithmetic.png"),
    "edit": (["--to", "3", "--from", "8", "--strengths", "0,1"], "edited", "edit.png"),
    "jacobian": (["0", "1", "--across", "4"], "sensitivity", "tangents.png"),
    "project": (["0", "1", "--corrupt", "noise", "--rounds", "2"], "projection", "projection.png"),
    "holes": (["-n", "30"], "holes", "map.png"),
    "anomaly": (["--anomaly-class", "3"], "anomaly", "anomaly.png"),
    "neighbours": (["0", "1", "-k", "3"], "neighbours", "neighbours.png"),
    "likelihood": (["--samples", "2", "-n", "5"], "likelihood", "bound.png"),
}


@pytest.fixture(scope="module")
def spaces(tmp_path_factory) -> Path:
    """A folder with an untrained VAE and an untrained GAN of digits."""
    folder = tmp_path_factory.mktemp("spaces")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = Autoencoder(AutoencoderConfig(body="mlp", hidden=(16,), latent=4, variational=True), ImageSpec(8, 1))
        gan = Gan(GanConfig(), ImageSpec(8, 1))
    for name, net in (("vae", vae), ("gan", gan)):
        LatentModel(net, {"name": name, "data": "digits", "reading": {}}).save(folder / name)
    return folder


@pytest.fixture
def latent_space(condgen, spaces, monkeypatch):
    """Runs a tool: latent_space("holes", "vae", "-n", 30)."""
    monkeypatch.setenv("CONDGEN_MODELS", str(spaces))
    return lambda tool, *words: condgen("latent-space", tool, *words)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_prints_numbers_and_writes_images(latent_space, tool):
    words, section, sheet = TOOLS[tool]
    code, out, err = latent_space(tool, "vae", *words, "--json", "-o", "there")
    assert code == 0, err
    told = json.loads(out)
    assert told["model"] == "vae" and told[section] and f"there/{sheet}" in told["files"]
    for file in told["files"]:
        with Image.open(file) as picture:
            picture.load()


def test_options_stand_anywhere_and_numbers_are_a_table(latent_space):
    code, out, _ = latent_space("interpolate", "vae", "--steps", "3", "0", "5", "--paths", "pixels")
    assert code == 0 and "## realism" in out and "line of pixels" in out and Path("out/interpolation.png").exists()


def test_tools_that_work_without_an_encoder(latent_space):
    for tool, words in (("interpolate", ["--steps", "3"]), ("traverse", ["--steps", "2"]), ("jacobian", ["seed:1"]),
                        ("project", ["0", "--starts", "1", "--steps", "2"])):  # fmt: skip
        code, _, err = latent_space(tool, "gan", *words)
        assert code == 0, err


@pytest.mark.parametrize(
    "tool, words",
    [("holes", []), ("anomaly", ["--anomaly-class", "3"]), ("neighbours", ["0"]), ("arithmetic", ["--plus", "3"]),
     ("edit", ["--to", "3"]), ("interpolate", ["0", "1"]), ("jacobian", ["0"]), ("traverse", ["0"])],
)  # fmt: skip
def test_tools_that_need_an_encoder_refuse_a_gan(latent_space, tool, words):
    refused(latent_space(tool, "gan", *words), "gan", "no encoder", "project")


@pytest.mark.parametrize(
    "tool, words, message",
    [
        ("interpolate", ["cat.png", "0"], ["'cat.png' is no image", "Its classes are"]),
        ("interpolate", ["0"], ["even number of images"]),
        ("interpolate", ["0", "1", "--steps", "2"], ["3 steps or more"]),
        ("interpolate", ["0", "1", "--paths", "spiral"], ["pixels, line, sphere"]),
        ("interpolate", ["0", "99999"], ["no image 99999"]),
        ("interpolate", ["0", "1", "--stpes", "4"], ["Did you mean", "--steps"]),
        ("interpolate", ["bad.png", "0"], ["bad.png"]),
        ("traverse", ["--dimensions", "4"], ["from 0 to 3"]),
        ("traverse", ["--dimensions", "two"], ["--dimensions", "two"]),
        ("traverse", ["--range", "0"], ["range"]),
        ("arithmetic", [], ["no set of images"]),
        ("arithmetic", ["--plus", "eleven"], ["'eleven' is no image"]),
        ("arithmetic", ["--plus", "3", "-n", "0"], ["-n", "1 or more"]),
        ("edit", ["--to", "eleven"], ["eleven"]),
        ("edit", ["--to", "3", "--attribute", "hat"], ["no categorical attribute 'hat'", "label"]),
        ("edit", ["--to", "3", "--from", "3"], ["itself"]),
        ("edit", ["--to", "3", "--strengths", ""], ["strengths"]),
        ("jacobian", ["0", "--across", "0"], ["across"]),
        ("project", ["0", "--rounds", "0"], ["1 or more"]),
        ("holes", ["-n", "0"], ["-n", "1 or more"]),
        ("holes", ["--false-alarms", "2"], ["between 0 and 1"]),
        ("anomaly", [], ["--anomaly-class"]),
        ("anomaly", ["--anomaly-class", "eleven"], ["eleven"]),
        ("anomaly", ["--anomaly-class", "3", "--false-alarms", "0"], ["between 0 and 1"]),
        ("neighbours", ["0", "-k", "0"], ["-k", "1 or more"]),
        ("likelihood", ["--samples", "0"], ["1 sample"]),
        ("likelihood", ["-n", "-3"], ["-n", "1 or more"]),
        ("holes", ["--seed", "-1"], ["seed", "-1"]),
        ("holes", ["--data", "nowhere"], ["nowhere"]),
        ("holes", ["--cond", "label=3"], ["unconditional"]),
        ("holes", ["--split", "middle"], ["middle"]),
    ],
)
def test_errors_are_one_line(latent_space, tool, words, message):
    Path("bad.png").write_bytes(b"\x89PNG nothing")
    refused(latent_space(tool, "vae", *words), *message)


def test_names_are_checked_before_weights_are_loaded(latent_space, condgen, tmp_path):
    refused(condgen("latent-space"), "TOOL")
    refused(condgen("latent-space", "interpolat", "vae"), "interpolat")
    refused(latent_space("holes", "vea"), "Did you mean vae?")
    assert not imported(["latent-space", "--help"], tmp_path) & HEAVY


def test_old_names_warn_and_work(latent_space, condgen):
    code, out, err = condgen("manifold", "novelty", "vae", "--odd", "3", "--json")
    assert code == 0 and "anomaly" in json.loads(out)
    for old, new in (("manifold", "latent-space"), ("novelty", "anomaly"), ("--odd", "--anomaly-class")):
        assert f"{old} is now called {new}" in err
