"""The studio in headless Chromium: what a visitor sees and clicks."""

from __future__ import annotations

import re
import shutil
import time

import pytest

from condgen.files.images import read_recipe
from tests.studio.test_studio import PROMPT, colourful_model, count_steps, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["gpu", "quic", "background-networking", "component-update", "sync"]
FLAGS = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{feature}" for feature in QUIET)]
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium")]


@pytest.fixture(scope="module")
def model():
    return colourful_model()


@pytest.fixture(scope="module")
def steps(model):
    return count_steps(model)


@pytest.fixture(scope="module")
def address(model, steps, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("gradio"), model) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    playwright.expect.set_options(timeout=60_000)
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """The studio, opened; at the end nothing was asked of other hosts and nothing failed in the console."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    page, foreign, faults = context.new_page(), [], []
    ours = (address, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(ours) else foreign.append(request.url))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(60_000)
    page.goto(address)
    prompt_of(page).wait_for()
    yield page
    context.close()
    assert foreign == [] and faults == []


def prompt_of(page):
    return page.get_by_role("textbox", name="Prompt")


def number(page, name):
    return page.get_by_role("spinbutton", name=re.compile(f"^(number input for )?{name}$"))


def pictures_of(page):
    return page.locator("#images .gallery-item img")


def says(page, pattern):
    playwright.expect(page.locator("#canvas")).to_contain_text(re.compile(pattern))


def paint(page, prompt=PROMPT, count=1):
    number(page, "Images").fill(str(count))
    prompt_of(page).fill(prompt)
    prompt_of(page).press("Enter")


def test_enter_generates_and_the_download_carries_the_recipe(page, tmp_path):
    paint(page, count=2)
    says(page, "2 images, seeds")
    playwright.expect(pictures_of(page)).to_have_count(2)
    assert pictures_of(page).first.evaluate("img => [img.naturalWidth, getComputedStyle(img).imageRendering]") == [
        32,
        "pixelated",
    ]
    seed = page.get_by_role("textbox", name="Last seed").input_value()
    pictures_of(page).first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    download.value.save_as(tmp_path / "picture.png")
    recipe = read_recipe(tmp_path / "picture.png")
    assert (recipe["prompt"], str(recipe["seed"])) == (PROMPT, seed)


def test_all_images_come_as_a_zip(page, tmp_path):
    paint(page, count=2)
    says(page, "2 images, seeds")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all (zip)").click()
    assert download.value.suggested_filename == "a-red-circle-above-a-blue-square.zip"


def test_last_seed_can_be_used_again(page):
    paint(page)
    says(page, "1 image, seed")
    first = pictures_of(page).first.get_attribute("alt")
    page.get_by_role("button", name="Reuse last seed").click()
    seed = page.get_by_role("textbox", name="Last seed").input_value()
    playwright.expect(number(page, "Seed")).to_have_value(seed)
    prompt_of(page).press("Enter")
    page.wait_for_timeout(500)
    says(page, f"1 image, seed {seed}")
    assert pictures_of(page).first.get_attribute("alt") == first
    page.get_by_role("button", name="Random seed").click()
    playwright.expect(number(page, "Seed")).to_have_value("-1")


def test_preview_progress_and_stop_keep_what_is_finished(page):
    number(page, "Steps").fill("200")
    paint(page, count=16)
    says(page, r"image 1 of 16, step \d+ of 200")
    assert page.locator("#canvas img").get_attribute("src").startswith("data:image/png")
    says(page, "image 2 of 16")
    page.get_by_role("button", name="Stop", exact=True).click()
    says(page, "Stopped")
    kept = pictures_of(page).count()
    assert 1 <= kept < 16
    page.wait_for_timeout(700)
    assert pictures_of(page).count() == kept
    playwright.expect(page.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    number(page, "Steps").fill("4")
    paint(page)
    says(page, "1 image, seed")


def test_enter_while_generation_does_not_generate_twice(page, steps):
    number(page, "Steps").fill("100")
    before = len(steps)
    paint(page, count=2)
    says(page, "image 1 of 2")
    prompt_of(page).press("Enter")
    says(page, "2 images, seeds")
    page.wait_for_timeout(700)
    assert 2 * 100 <= len(steps) - before < 3 * 100
    playwright.expect(page.get_by_role("button", name="Generate", exact=True)).to_be_visible()


def test_leaving_the_page_stops_generation(browser, address, steps):
    page = browser.new_page()
    page.goto(address)
    number(page, "Steps").fill("200")
    paint(page, count=16)
    says(page, "image 1 of 16")
    page.close()
    deadline = time.monotonic() + 60
    while (seen := len(steps)) is not None and time.monotonic() < deadline:
        time.sleep(0.7)
        if len(steps) == seen:
            return
    pytest.fail("it still paints for nobody")


def test_mistakes_and_unseen_words_are_reported(page):
    paint(page, "   ")
    playwright.expect(page.get_by_test_id("toast-body")).to_contain_text("The prompt is empty")
    playwright.expect(page.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    paint(page, "a red zebra")
    playwright.expect(page.get_by_text("not read: zebra")).to_be_visible()
    says(page, "1 image, seed")


def test_options_follow_the_prior(page):
    playwright.expect(number(page, "Best of")).to_be_hidden()
    page.get_by_role("combobox", name="Prior").click()
    page.get_by_role("option", name="diffusion").click()
    playwright.expect(number(page, "Best of")).to_be_visible()
    paint(page)
    says(page, "1 image, seed")
    page.get_by_role("combobox", name="Prior").click()
    page.get_by_role("option", name="none").click()
    playwright.expect(number(page, "Best of")).to_be_hidden()


def test_recipe_of_an_image_fills_the_controls(page, tmp_path):
    generated = next(
        iter(colourful_model().generate("a large red circle", seed=11, prior="diffusion", steps=3, best_of=5))
    )
    page.get_by_role("button", name="Recipe of an image").click()
    page.locator("input[type=file]").set_input_files(generated.save(tmp_path))
    playwright.expect(prompt_of(page)).to_have_value("a large red circle")
    values = {"Seed": "11", "Steps": "3", "Best of": "5", "Images": "1"}
    for name, value in values.items():
        playwright.expect(number(page, name)).to_have_value(value)
    playwright.expect(page.locator("#recipe")).to_contain_text("0123456789abcdef")


def test_nothing_in_a_recipe_runs(page, tmp_path):
    other = colourful_model()
    other.about["name"] = "<img src=x onerror=alert(1)>"
    other.model_id = "another"
    page.on("dialog", lambda dialog: pytest.fail("a recipe ran code"))
    page.get_by_role("button", name="Recipe of an image").click()
    page.locator("input[type=file]").set_input_files(next(iter(other.generate("a red circle"))).save(tmp_path))
    playwright.expect(page.get_by_test_id("toast-body")).to_contain_text("generated by another model, '<img")


def test_phone_has_no_sideways_scroll(page):
    page.set_viewport_size({"width": 390, "height": 844})
    paint(page, count=2)
    says(page, "2 images, seeds")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_example_fills_the_prompt(page):
    page.get_by_role("button", name="a large green triangle").click()
    playwright.expect(prompt_of(page)).to_have_value("a large green triangle")
