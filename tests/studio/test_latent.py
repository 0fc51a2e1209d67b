"""The studio's tab of codes: the gate, what it shows against the models themselves, what it must not tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from PIL import Image

from condgen.baselines.autoencoders import Autoencoder, AutoencoderConfig
from condgen.baselines.gans import Gan, GanConfig
from condgen.contracts import CondgenError
from condgen.latent_space import interpolate
from condgen.nn.specs import ImageSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.latent import LatentModel
from condgen.studio import latent
from condgen.studio.latent import LatentControls, check_shifts, check_source, latent_models, page_of
from tests.tiny import tiny_model


def tiny_vae() -> LatentModel:
    """An untrained VAE of digits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Autoencoder(AutoencoderConfig("mlp", latent=10, hidden=(16,), variational=True), ImageSpec(8, 1))
    return LatentModel(net, {"name": "vae"}, "3" * 16)


def tiny_gan() -> LatentModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LatentModel(Gan(GanConfig(body="mlp", width=8, code=5), ImageSpec(8, 3)), {"name": "gan"}, "4" * 16)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> latent.Shelf:
    """A VAE, a GAN, and a folder that only says that it is one."""
    home = tmp_path_factory.mktemp("models")
    tiny_vae().save(home / "vae")
    tiny_gan().save(home / "gan" / "model")
    tiny_vae().save(home / "torn")
    (home / "torn" / "autoencoder" / "config.json").unlink()
    tiny_model().save(home / "words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDGEN_MODELS", str(home))
        patch.chdir(home)
        return latent_models()


@pytest.fixture(scope="module")
def address(shelf, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        from condgen.studio.app import Studio, launch

        page = Studio(tiny_model(), shelf).page
        launch(page, server_name="127.0.0.1", share=False, prevent_thread_lock=True, quiet=True)
        try:
            yield page.local_url.rstrip("/")
        finally:
            page.close()


@pytest.fixture
def client(address, tmp_path):
    return Client(address, verbose=False, download_files=str(tmp_path))


@pytest.fixture
def digit(tmp_path):
    path = tmp_path / "digit.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
    return path


def pixels(picture) -> np.ndarray:
    return np.asarray(picture if isinstance(picture, Image.Image) else Image.open(picture).convert("L"))


# Codes ----------------------------------------------------------------------------------------------------------------


def test_models_with_codes_are_found_and_no_others(shelf):
    assert set(shelf) == {"gan", "torn", "vae"} and not set(latent_models())
    assert next(iter(latent_models(tiny_vae()))) == "vae"
    assert [*latent_models(shelf["gan"])] == ["gan"]  # a run is called by its own name, not `model`


def test_sliders_of_a_vae_are_ordered_by_what_they_say():
    codes = LatentControls.of(tiny_vae())
    nats = [
        float(told.removeprefix(f"latent {k}, KL ")) for k, told in zip(codes.dimensions, codes.labels, strict=True)
    ]
    assert len(nats) == latent.SLIDERS and nats == sorted(nats, reverse=True)


def test_sliders_of_a_gan_are_ordered_by_what_they_change():
    model = tiny_gan()
    with torch.no_grad():
        first = next(layer for layer in model.net.modules() if isinstance(layer, torch.nn.Linear))
        first.weight[:, 3] *= 20
        first.weight[:, 1] = 0
    codes = LatentControls.of(model)
    assert codes.dimensions[0] == 3 and codes.dimensions[-1] == 1 and len(codes.labels) == 5
    still, same = (codes.decode("seed:3", [0, 0, 0, 0, move]) for move in (0, 4))
    assert len(still) == 1 and np.array_equal(pixels(same[0][0]), pixels(same[1][0]))


def test_a_slider_moves_one_number_by_standard_deviations():
    model = tiny_vae()
    codes = LatentControls.of(model)
    assert codes.sd.tolist() == pytest.approx([1] * 10, abs=0.2)  # the prior's
    (before, said), (after, _) = codes.decode("seed:7", [0, 1.5, *[0] * 6])
    z = model.draw([7])
    assert said == "seed 7" and np.array_equal(pixels(before), pixels(to_pil(model.decode(z))[0]))
    z[:, codes.dimensions[1]] += 1.5 * codes.sd[codes.dimensions[1]]
    assert np.array_equal(pixels(after), pixels(to_pil(model.decode(z))[0]))


# The gate -------------------------------------------------------------------------------------------------------------


def test_the_gate():
    assert check_source(7.0, None) == "seed:7" and check_source(None, "a.png") == "a.png"
    for bad in ((-1, None), (0.5, None), ("7", None), (None, None), (2**63, None), (1, {"path": "x"})):
        with pytest.raises(CondgenError):
            check_source(*bad)
    for bad in (4.1, -5, float("nan"), "1", None, True):
        with pytest.raises(CondgenError, match="Slider 2"):
            check_shifts((0, bad))


BAD = [
    ({"model": "words"}, "model|choices"),
    ({"model": "vae", "seed": -1}, "0 to"),
    ({"model": "vae", "seed": 1.5}, "whole number"),
    ({"model": "vae", "latent_1": 5}, "maximum value 4|from -4"),
    ({"model": "torn"}, "config.json"),
]


@pytest.mark.parametrize("asked, message", BAD)
def test_what_is_refused_is_reported(client, shelf, asked, message):
    with pytest.raises(Exception, match=message) as error:
        client.predict(**asked, api_name="/decode")
    assert str(shelf["vae"].parent) not in str(error.value)


def test_a_gan_reads_no_image_and_what_is_none_is_reported_without_its_place(client, digit, tmp_path):
    for name in ("decode", "interpolate"):
        place = {"image" if name == "decode" else "second_image": handle_file(str(digit))}
        with pytest.raises(Exception, match="no encoder"):
            client.predict(model="gan", **place, api_name=f"/{name}")
    (tmp_path / "torn.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"torn\.png is not an image") as error:
        client.predict(model="vae", image=handle_file(str(tmp_path / "torn.png")), api_name="/decode")
    assert "/" not in str(error.value).split("torn.png")[0]


# The API --------------------------------------------------------------------------------------------------------------


def test_the_api_names_the_questions(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/generate", "/decode", "/interpolate"}
    names = [one["parameter_name"] for one in endpoints["/decode"]["parameters"]]
    assert names == ["model", "seed", "image", *(f"latent_{k}" for k in range(1, latent.SLIDERS + 1))]


def test_a_seed_is_decoded(client):
    pictures, told = client.predict(model="vae", seed=5, latent_2=-1, api_name="/decode")
    assert [one["caption"] for one in pictures] == ["seed 5", "shifted"] and told.startswith("vae: latent ")
    assert np.array_equal(pixels(pictures[0]["image"]), pixels(to_pil(tiny_vae().sample([5]))[0]))


def test_an_image_is_shown_beside_what_its_code_generates(client, digit):
    pictures, _ = client.predict(model="vae", image=handle_file(str(digit)), api_name="/decode")
    assert [one["caption"] for one in pictures] == ["the image", "its reconstruction"]
    model, image = tiny_vae(), torch.from_numpy(pixels(digit).copy())[None, None].float() / 127.5 - 1
    assert np.array_equal(pixels(pictures[0]["image"]), pixels(digit))
    assert np.array_equal(pixels(pictures[1]["image"]), pixels(to_pil(model.decode(model.encode(image)))[0]))


def test_the_way_between_two_is_that_of_the_latent_space(client, digit):
    sheet, film = client.predict(model="gan", first=3, second=4, steps=5, api_name="/interpolate")
    model = tiny_gan()
    ends = model.draw([3, 4])
    expected = interpolate(model, ends[:1], ends[1:], 5)
    assert np.array_equal(pixels(sheet), pixels(expected.first_sheet.convert("L")))
    assert Image.open(film).format == "GIF" and Image.open(film).n_frames >= 5
    more, _ = client.predict(model="vae", first_image=handle_file(str(digit)), steps=3, api_name="/interpolate")
    assert Image.open(more).width < Image.open(sheet).width


# Pages ----------------------------------------------------------------------------------------------------------------


def labels_of(page) -> set[str]:
    return {component.get("props", {}).get("label") for component in page.config["components"]}


def test_the_tab_is_there_only_where_there_is_something_to_show(shelf, tmp_path, monkeypatch):
    from condgen.studio.app import build

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONDGEN_MODELS", raising=False)
    assert "Latent space" not in labels_of(build(tiny_model()))
    monkeypatch.setenv("CONDGEN_MODELS", str(shelf["vae"].parent))
    assert {"Generate", "Latent space", "Prompt"} <= labels_of(build(tiny_model()))


def test_a_model_with_codes_has_a_page_of_its_own(shelf, tmp_path, monkeypatch):
    from condgen.studio.app import build

    monkeypatch.chdir(tmp_path)
    page = build(str(shelf["vae"]))
    assert "Model" in labels_of(page) and "Prompt" not in labels_of(page)
    assert "Model" in labels_of(build(tiny_vae()))
    assert labels_of(page_of({"vae": tiny_vae()}, lambda: None)) == labels_of(page)
