"""The Train tab in a browser."""

import re

import pytest

from tests.studio.support import BROWSER, open_tab, opened, serving
from tests.studio.test_accessibility_browser import faults
from tests.studio.test_runs import write_run
from tests.studio.test_trainings import TINY

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
pytestmark = BROWSER
LONG = 150_000
"""Milliseconds that a process of condgen may take to start on a busy machine."""


def choose_recipe(page, name: str) -> None:
    page.get_by_role("searchbox", name="Find a recipe").fill(name)
    page.get_by_role("button", name=f"Choose {name}", exact=True).click()


def run_of(page, name: str):
    return page.locator("#runs li").filter(has=page.get_by_role("button", name=name, exact=True))


def test_a_training_is_started_watched_stopped_resumed_and_used(page):
    open_tab(page, "Train")
    choose_recipe(page, "digits-gan")
    expect(page.locator("#run-name input, #run-name textarea")).to_have_value("my-digits-gan")
    page.get_by_label("Minutes").fill("0.15")
    page.get_by_label("Further options").fill(TINY)
    command = (
        r"condgen train digits-gan -o .*my-digits-gan --minutes=0\.15 --fit\.batch=32 --gan\.width=4 --eval_count=3"
    )
    expect(page.locator("#train-command :is(input, textarea)")).to_have_value(re.compile(command))
    page.get_by_role("button", name="Start training").click()
    row = run_of(page, "my-digits-gan")
    expect(row.locator(".tr-state")).to_have_text("running", timeout=LONG)
    expect(page.locator("#run-film img")).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Stop: my-digits-gan").click()
    expect(page.locator("#train-status")).to_contain_text("saves a checkpoint")
    expect(row.locator(".tr-state")).to_have_text("stopped", timeout=LONG)
    page.get_by_role("button", name="Resume: my-digits-gan").click()
    expect(row.locator(".tr-state")).to_have_text("finished", timeout=LONG)
    expect(page.locator("#run-details svg[role=img]").first).to_be_visible()
    assert faults(page) == []
    page.get_by_role("button", name="Use this model now: my-digits-gan").click()
    expect(page.get_by_role("combobox", name="Model", exact=True)).to_have_value("my-digits-gan")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator("#images .cg-cell .cg-buttons").first).to_be_visible()


def test_a_wrong_option_is_said_and_nothing_starts(page):
    open_tab(page, "Train")
    choose_recipe(page, "digits-vae")
    page.get_by_label("Further options").fill("--out /tmp/x")
    expect(page.locator("#train-note")).to_contain_text("use the field for the name of the run")
    page.get_by_label("Further options").fill("--autoencoder.latend 3")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#train-note")).to_contain_text("Did you mean --autoencoder.latent", timeout=LONG)


def test_the_choice_survives_a_reload(page):
    open_tab(page, "Train")
    choose_recipe(page, "squares2circles")
    page.get_by_label("Further options").fill("--seed 3")
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    open_tab(page, "Train")
    expect(page.locator("#recipes .tr-one")).to_contain_text("squares2circles")
    expect(page.get_by_label("Further options")).to_have_value("--seed 3")


def test_data_are_checked_and_lead_to_recipes(page):
    open_tab(page, "Train")
    page.locator("#train-data :is(input, textarea)").fill("digits")
    page.get_by_role("button", name="Check the data").click()
    expect(page.locator("#train-report")).to_contain_text("1797 of 1797", timeout=LONG)
    expect(page.locator("#train-report img")).to_be_visible()
    assert faults(page) == []
    page.get_by_role("button", name="labels-cvae").click()
    expect(page.locator("#recipes .tr-one")).to_contain_text("labels-cvae")


def test_a_film_is_moved_by_keyboard(browser, models, tmp_path):
    from PIL import Image

    folder = write_run(tmp_path / "runs" / "old")
    (folder / "samples").mkdir()
    for images in (64, 128, 256):
        Image.new("RGB", (40, 40), (images - 1, 0, 0)).save(folder / "samples" / f"gan-{images:09d}.png")
    with serving(tmp_path, models) as address, opened(browser, address, 390, 844) as page:
        open_tab(page, "Train")
        page.get_by_role("tab", name="Trainings", exact=True).click()
        caption = page.locator("#run-film p")
        expect(caption).to_have_text("gan, 256 images")
        page.get_by_role("slider", name="Sample sheet").focus()
        page.keyboard.press("ArrowLeft")
        expect(caption).to_have_text("gan, 128 images")
        page.keyboard.press("Home")
        expect(caption).to_have_text("gan, 64 images")
        page.get_by_role("button", name="Play").click()
        expect(caption).to_have_text("gan, 256 images")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_visitors_are_given_the_reason(browser, models, tmp_path):
    with (
        serving(tmp_path, models, several=True, trains=False) as address,
        opened(browser, address) as page,
    ):
        open_tab(page, "Train")
        expect(page.locator("#train-refusal")).to_contain_text("only on the machine of the studio")
        expect(page.locator("#recipes")).to_be_hidden()
