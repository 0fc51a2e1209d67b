"""The Latent space tab in a browser."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.studio.support import BROWSER, choose, open_tab, opened

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER


def begin(page, model):
    open_tab(page, "Latent space")
    choose(page, model)
    playwright.expect(page.locator(".cg-shown img")).to_have_attribute("src", re.compile("^data:image/png"))


def source(page):
    return page.locator(".cg-shown img").get_attribute("src")


def changed(page, before):
    playwright.expect(page.locator(".cg-shown img")).not_to_have_attribute("src", before)
    return source(page)


def test_the_image_follows_arrow_keys_and_the_mouse_while_it_drags_and_stays_over_a_reload(page, tmp_path):
    begin(page, "vae")
    sliders, first = page.get_by_role("slider", name=re.compile("^Dimension")), source(page)
    playwright.expect(sliders).to_have_count(8)
    sliders.nth(1).focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    second = changed(page, first)
    box = sliders.nth(2).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=4)
    changed(page, second)  # the button is still down
    page.mouse.up()
    page.wait_for_timeout(800)
    last = source(page)
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    open_tab(page, "Latent space")
    playwright.expect(page.locator(".cg-shown img")).to_have_attribute("src", last)
    page.get_by_role("button", name="Reset sliders").click()
    playwright.expect(page.locator(".cg-shown img")).to_have_attribute("src", first)


def test_an_image_is_shown_whole_beside_its_reconstruction_and_ends_are_interpolated(page, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)).save(tmp_path / "wide.png")
    begin(page, "vae")
    page.locator("#latent-start input[type=file]").set_input_files(tmp_path / "wide.png")
    starts = page.locator(".cg-starts figcaption")
    playwright.expect(starts).to_have_text(["as the model reads it", "its reconstruction"])
    page.get_by_role("button", name="Interpolate").click()
    results = page.locator("#latent-between img")
    playwright.expect(results).to_have_count(2)
    playwright.expect(page.locator("#latent-progress")).to_contain_text("from seed 1 to seed 2")
    assert results.last.evaluate("(image) => image.src").endswith(".gif")
    assert not page.get_by_role("button", name="Share").count()


def test_a_gan_has_seeds_alone_and_other_models_a_sentence(page):
    open_tab(page, "Latent space")
    playwright.expect(page.get_by_text("This tab needs a model with a latent space")).to_be_visible()
    begin(page, "gan")
    playwright.expect(page.locator("#latent-start")).to_be_hidden()
    before = source(page)
    page.locator("#latent-start-seed textarea, #latent-start-seed input").fill("77")
    changed(page, before)


def test_a_phone_has_no_sideways_scroll_and_the_image_stays_in_view(browser, address):
    with opened(browser, address, 390, 844) as page:
        begin(page, "vae")
        last = page.get_by_role("slider", name=re.compile("^Dimension")).last
        last.scroll_into_view_if_needed()
        box = page.locator(".cg-shown").bounding_box()
        assert 0 <= box["y"] < 844 - 100
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
