"""Disentanglement of spaces whose latents are known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from condgen.baselines.autoencoders import Autoencoder, AutoencoderConfig
from condgen.cli.main import main
from condgen.contracts import CondgenError
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages
from condgen.latent_space.tools.disentangle import disentangle, read_factors
from condgen.nn.specs import ImageSpec
from condgen.pipelines.latent import LatentModel

LEVELS = (3, 4, 8)


def bars(n=600):
    """Grey images of 8 x 8: the top, middle and bottom rows are as bright as the factors a, b and c."""
    rng = np.random.default_rng(0)
    levels = np.stack([rng.integers(0, k, n) for k in LEVELS], axis=1)
    bright = (levels / (np.array(LEVELS) - 1) * 255).astype(np.uint8)
    images = np.repeat(np.repeat(bright[:, :, None], 8, axis=2), [3, 3, 2], axis=1)[:, None]
    factors = tuple(Attribute(name, tuple(map(str, range(k)))) for name, k in zip("abc", LEVELS))
    return LabelledImages(images, factors, levels.astype(np.float32), "bars")


class Rows:
    """A space whose code is the brightness of the three bars, turned by a matrix and scaled; and one idle number."""

    name, size, image_channels, latent = "rows", 8, 1, 4

    def __init__(self, turn=None, scale=1.0):
        self.turn, self.scale = torch.eye(3) if turn is None else turn, scale

    def encode(self, images):
        code = images[:, 0, [0, 3, 6], 0] @ self.turn
        return self.scale * torch.cat([code, torch.zeros(len(code), 1)], dim=1)

    def decode(self, z):
        bright = (z[:, :3] / self.scale) @ self.turn.T
        return bright.repeat_interleave(torch.tensor([3, 3, 2]), 1)[:, None, :, None].expand(-1, 1, -1, 8)


def rotated():
    return torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]


def test_one_dimension_per_factor_scores_one():
    found = disentangle(Rows(), bars())
    dci = [f"DCI {name} (permutation)" for name in ("disentanglement", "completeness", "informativeness")]
    for name in ("MIG", *dci, "FactorVAE score"):
        assert found.scores[name] > 0.97, name
    assert found.scores["active latents"] == 3 and found.scores["mse"] == pytest.approx(0, abs=1e-9)
    told = {name: row["most informative"] for name, row in found.numbers["factors"].items()}
    assert told == {"a": "latent 0", "b": "latent 1", "c": "latent 2"}
    assert list(found.numbers["information_as_a_share_of_entropy"]) == [f"latent {k}" for k in range(4)]


def test_a_rotated_latent_scores_less_and_is_as_informative():
    straight, other = (disentangle(space, bars()) for space in (Rows(), Rows(rotated())))
    assert other.scores["MIG"] < 0.5 * straight.scores["MIG"]
    assert other.scores["DCI disentanglement (permutation)"] < 0.6
    assert other.scores["mse"] == pytest.approx(0, abs=1e-9)


def test_the_scale_of_a_plain_autoencoder_does_not_matter():
    small, large = (disentangle(Rows(scale=scale), bars()).scores for scale in (1e-3, 10.0))
    assert small == pytest.approx(large, abs=1e-6)


def test_a_report_has_sheets_and_is_reproducible(tmp_path):
    one, two = (disentangle(Rows(rotated()), bars(), n=300) for _ in range(2))
    assert one.numbers == two.numbers and one.sheets == two.sheets
    assert [path.name for path in one.save(tmp_path)] == ["information.png", "traversals.png"]
    assert one.scores["N"] == 300 and one.information.shape == (4, 3) and one.factors == ("a", "b", "c")


def test_constant_factors_and_images_of_unknown_ones_are_left_out():
    data = bars()
    codes = np.column_stack([data.targets, np.zeros(len(data)), data.targets[:, 0] * 1.7 - 3]).astype(np.float32)
    codes[:100, 0] = np.nan
    more = (*data.attributes, Attribute("same", ("one", "other")), Attribute("number"))
    found = disentangle(Rows(), replace(data, attributes=more, targets=codes))
    assert found.factors == ("a", "b", "c", "number") and found.scores["N"] == 500
    assert found.numbers["factors"]["number"]["gap"] == pytest.approx(found.numbers["factors"]["a"]["gap"])


def test_unsuitable_data_are_refused():
    data = bars()
    with pytest.raises(CondgenError, match="1 of them vary"):
        disentangle(Rows(), replace(data, attributes=data.attributes[:1], targets=data.targets[:, :1]))
    with pytest.raises(CondgenError, match="has 100 images whose factors"):
        disentangle(Rows(), data.rows(np.arange(100)))
    with pytest.raises(CondgenError, match="same latent to all"):
        disentangle(Rows(scale=0.0), data)
    blind = Rows()
    blind.encodes = False
    with pytest.raises(CondgenError, match="no encoder"):
        disentangle(blind, data)


def test_factors_are_read_in_the_size_of_the_space():
    space = Rows()
    space.size, space.about = 16, {"data": "scenes"}
    data = read_factors(space)
    assert data.size == 16 and data.image_channels == 1
    assert [factor.name for factor in data.attributes] == ["shape", "colour", "size", "x", "y"]
    assert [factor.name for factor in read_factors(space, factors=("x", "y")).attributes] == ["x", "y"]
    space.about = {}
    with pytest.raises(CondgenError, match="--data"):
        read_factors(space)


def test_the_command_line_scores_a_model(tmp_path, capsys):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Autoencoder(AutoencoderConfig("mlp", latent=3, hidden=(8,), variational=True), ImageSpec(16, 3))
    LatentModel(net, {"name": "tiny", "data": "scenes"}).save(tmp_path / "model")
    asked = ["latent-space", "disentangle", str(tmp_path / "model"), "-n", "300", "-o", str(tmp_path / "out"), "--json"]
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["disentanglement"]["tiny"]["N"] == 300 and list(told["factors"]) == [
        "shape",
        "colour",
        "size",
        "x",
        "y",
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"information.png", "traversals.png"}
    assert main([*asked, "--attribute-columns", "x,hue"]) == 2
    assert "no factor 'hue'" in capsys.readouterr().err
