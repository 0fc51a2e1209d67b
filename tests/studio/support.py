"""For the tests of the studio: a tiny model of every kind, a server, and a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from condgen.baselines.autoencoders import Autoencoder, AutoencoderConfig
from condgen.baselines.gans import Gan, GanConfig
from condgen.nn.specs import ImageSpec
from condgen.pipelines.encoder import TextImageEncoder
from condgen.pipelines.latent import LatentModel
from condgen.pipelines.text_to_image import TextToImage
from condgen.pipelines.translator import Translator
from tests.tiny import tiny_images, tiny_labels, tiny_model, tiny_translator, tiny_unconditional

PROMPT = "a red circle above a blue square"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["gpu", "quic", "background-networking", "component-update", "sync"]
FLAGS = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{feature}" for feature in QUIET)]
BROWSER = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium")]
"""Marks of a module of browser tests: `pytestmark = BROWSER`."""


def colourful_model() -> TextToImage:
    """The tiny text-to-image model with its zero weights changed, so that images differ from seed to seed."""
    model = tiny_model()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.decoder.parameters():
            if not weight.any():
                weight.add_(torch.randn(weight.shape, generator=rng) * 0.1)
    model.model_id = "0123456789abcdef"
    return model


def tiny_vae() -> LatentModel:
    """An untrained VAE of images of 8 x 8 grey pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Autoencoder(AutoencoderConfig("mlp", latent=10, hidden=(16,), variational=True), ImageSpec(8, 1))
    return LatentModel(net, {"name": "vae"}, "3" * 16)


def tiny_gan() -> LatentModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LatentModel(Gan(GanConfig(body="mlp", width=8, code=5), ImageSpec(8, 3)), {"name": "gan"}, "4" * 16)


def save_models(folder: Path) -> dict[str, Path]:
    """Saves a model of every kind; its folder by name: words, shoes, vae, gan, photos, plain, clip, sides."""
    words = colourful_model()
    models: dict[str, Any] = {
        "words": words,
        "shoes": tiny_labels(),
        "vae": tiny_vae(),
        "gan": tiny_gan(),
        "photos": tiny_images(),
        "plain": tiny_unconditional(),
        "clip": TextImageEncoder(words.clip, words.tokenizer, {"name": "clip"}),
        "sides": Translator({"a_to_b": tiny_translator()}, ("squares", "circles"), {"name": "sides"}),
    }
    for name, model in models.items():
        model.about["name"] = name
        model.save(folder / name)
    return {name: folder / name for name in models}


@contextmanager
def serving(
    folder: Path, models: Path | None = None, model: Any = None, network: dict[str, Any] | None = None, **options: Any
) -> Iterator[str]:
    """A studio on a free port, its files and outputs in `folder`; gives its address.

    Args:
        models: the only folder where models are found, beside `runs/` in `folder`.
        model: see `studio.app.build`, as are `options`; by default `words`.
        network: options of `studio.app.launch`, such as `auth`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "served"))
        patch.setattr("condgen.files.registry.folders", lambda: [models, folder / "runs"] if models else [])
        patch.setattr("condgen.files.registry.RUNS", folder / "runs")
        from condgen.studio.app import build, launch

        page = build(model if model is not None else "words", outputs=folder / "outputs", **options)
        place = {"server_name": "127.0.0.1", "share": False, "prevent_thread_lock": True, "quiet": True}
        launch(page, **place, **(network or {}))
        try:
            yield page.local_url.rstrip("/")
        finally:
            page.close()


@contextmanager
def opened(
    browser: Any, address: str, width: int = 1440, height: int = 900, path: str = "", reloads: bool = False,
    **options: Any,
) -> Iterator[Any]:  # fmt: skip
    """The studio in a new browser profile; at the end no other host was asked, and the console has no error.

    Args:
        reloads: the page is left while it computes, which Gradio's client reports as an exception of its own.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
    page, foreign, faults = context.new_page(), [], []
    ours = (address, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(ours) else foreign.append(request.url))

    def listen(message: Any) -> None:
        ended = ["AbortError", "Connection errored out"]  # requests of Gradio that a reload ended
        ended += ["Unexpected client exception"] * reloads
        if message.type == "error" and not any(text in message.text for text in ended):
            faults.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(60_000)
    page.goto(address + path)
    page.wait_for_function("window.condgen && window.condgen.remembers")
    yield page
    context.close()
    assert foreign == [] and faults == [], (foreign, faults)


def choose(page: Any, model: str) -> None:
    """Chooses a model in the header."""
    page.get_by_role("combobox", name="Model", exact=True).select_option(model)


def open_tab(page: Any, title: str) -> None:
    """Opens a tab; on a narrow page it may be in the menu of those that do not fit."""
    tab = page.get_by_role("tab", name=title, exact=True)
    if tab.count():
        tab.click()
        return
    more, listed = page.locator("#tabs .overflow-menu").first, page.locator("#tabs .overflow-dropdown").first
    for _ in range(10):  # the menu closes when the page changes below it, as after a choice of the model
        if not listed.is_visible():
            more.locator("> button").click()
        with suppress(Exception):
            return listed.get_by_role("button", name=title, exact=True).click(timeout=2000)
    raise AssertionError(f"The menu of tabs does not lead to {title}.")


def number(page: Any, name: str) -> Any:
    """The number field of a slider."""
    return page.get_by_role("spinbutton", name=re.compile(f"^(number input for )?{name}$"))
