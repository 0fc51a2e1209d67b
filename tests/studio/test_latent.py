"""The Latent space tab without a browser: what the sliders do, checks, and the API."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradio_client import handle_file
from PIL import Image

from condgen.contracts import CondgenError
from condgen.latent_space import interpolate
from condgen.pipelines.base import to_pil
from condgen.studio.tabs.latent.controls import DIRECTION, SLIDERS, LatentControls, check_seed
from tests.studio.support import tiny_gan, tiny_vae
from tests.tiny import tiny_model


def pixels(image) -> np.ndarray:
    return np.asarray(image if isinstance(image, Image.Image) else Image.open(image))


@pytest.fixture
def digit(tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(path)
    return path


# Controls -------------------------------------------------------------------------------------------------------------


def test_dimensions_of_a_vae_are_ordered_by_their_divergence():
    controls = LatentControls.of(tiny_vae())
    nats = [float(note.split("says ")[1].split(" nats")[0]) for note in controls.notes]
    assert len(controls.dimensions) == SLIDERS and nats == sorted(nats, reverse=True)


def test_dimensions_of_a_gan_are_ordered_by_what_they_change():
    model = tiny_gan()
    with torch.no_grad():
        first = next(layer for layer in model.net.modules() if isinstance(layer, torch.nn.Linear))
        first.weight[:, 3] *= 20
        first.weight[:, 1] = 0
    controls = LatentControls.of(model)
    assert controls.dimensions[0] == 3 and controls.dimensions[-1] == 1 and len(controls.notes) == 5
    z = controls.start("seed:3").z
    assert np.array_equal(pixels(controls.image(z)), pixels(controls.image(controls.moved(z, {1: 4.0}))))


def test_a_slider_moves_one_dimension_by_standard_deviations():
    model = tiny_vae()
    controls = LatentControls.of(model)
    assert controls.sd.tolist() == pytest.approx([1] * 10, abs=0.2)  # those of the prior
    start = controls.start("seed:7")
    z = model.draw([7])
    assert start.given is None and start.text == "seed 7" and torch.equal(start.z, z)
    moved = controls.moved(start.z, {4: 1.5})
    assert torch.equal(moved[:, 4], z[:, 4] + 1.5 * controls.sd[4])
    assert torch.equal(torch.cat([moved[:, :4], moved[:, 5:]], 1), torch.cat([z[:, :4], z[:, 5:]], 1))


def test_thumbnails_are_the_start_moved_to_both_sides():
    controls = LatentControls.of(tiny_vae())
    z = controls.start("seed:2").z
    shown = controls.directions(z)
    assert len(shown) == SLIDERS
    for k, (low, high) in zip(controls.dimensions, shown):
        assert np.abs(pixels(low).astype(int) - pixels(controls.image(controls.moved(z, {k: -DIRECTION})))).max() <= 1
        assert np.abs(pixels(high).astype(int) - pixels(controls.image(controls.moved(z, {k: DIRECTION})))).max() <= 1


def test_checks():
    controls = LatentControls.of(tiny_vae())
    assert controls.check_shifts({"3": 1, 4: -2.5}) == {3: 1.0, 4: -2.5} and check_seed(7.0) == "seed:7"
    for bad in ([], 3, {"10": 1}, {"-1": 1}, {"a": 1}, {True: 1}, {"1": 4.1}, {"1": "2"}, {"1": float("nan")}):
        with pytest.raises(CondgenError):
            controls.check_shifts(bad)
    for bad in (-1, 0.5, "7", None, 2**63, True):
        with pytest.raises(CondgenError):
            check_seed(bad)
    with pytest.raises(CondgenError, match="an autoencoder, a VAE or a GAN"):
        LatentControls.of(tiny_model())


# The API --------------------------------------------------------------------------------------------------------------


def test_a_seed_is_decoded_and_moved(client):
    result = client.predict("vae", 5, None, {"2": -1}, api_name="/decode")
    assert result["captions"] == ["seed 5", "moved"] and len(result["dimensions"]) == SLIDERS
    assert np.array_equal(pixels(result["images"][0]), pixels(to_pil(tiny_vae().sample([5]))[0]))


def test_an_image_is_shown_as_it_is_read_and_beside_its_reconstruction(client, digit):
    result = client.predict("vae", image=handle_file(str(digit)), api_name="/decode")
    model, image = tiny_vae(), torch.from_numpy(pixels(digit).copy())[None, None].float() / 127.5 - 1
    assert result["captions"] == ["the image", "its reconstruction"]
    assert np.array_equal(pixels(result["images"][0]), pixels(digit))
    assert np.array_equal(pixels(result["images"][1]), pixels(to_pil(model.decode(model.encode(image)))[0]))


def test_interpolations_are_those_of_the_library(client, digit):
    result = client.predict("gan", 3, 4, steps=5, api_name="/interpolate_latents")
    ends = tiny_gan().draw([3, 4])
    expected = interpolate(tiny_gan(), ends[:1], ends[1:], 5)
    assert np.array_equal(pixels(result["sheet"]), pixels(expected.first_sheet))
    assert Image.open(result["film"]).format == "GIF" and Image.open(result["film"]).n_frames >= 5
    again = client.predict("vae", first_image=handle_file(str(digit)), steps=3, api_name="/interpolate_latents")
    assert Image.open(again["sheet"]).width < Image.open(result["sheet"]).width


BAD = [
    ({"model": "words"}, "choose an autoencoder"),
    ({"model": "vae", "seed": -1}, "whole number from 0"),
    ({"model": "vae", "shifts": {"1": 5}}, "from -4 to 4"),
    ({"model": "vae", "image": {"path": "/etc/hostname"}}, "uploaded file"),
    ({"model": "vae", "image": "/etc/hostname"}, "uploaded file"),
]


@pytest.mark.parametrize("given, message", BAD)
def test_refusals_say_why(client, given, message):
    with pytest.raises(Exception, match=message):
        client.predict(**given, api_name="/decode")


def test_a_gan_reads_no_image_and_damaged_files_are_named_without_their_folder(client, digit, tmp_path):
    with pytest.raises(Exception, match="no encoder"):
        client.predict("gan", image=handle_file(str(digit)), api_name="/decode")
    (tmp_path / "torn.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"torn\.png is not an image") as error:
        client.predict("vae", image=handle_file(str(tmp_path / "torn.png")), api_name="/decode")
    assert "/" not in str(error.value).split("torn.png")[0]
