"""The Gallery tab in a browser, and what a crash leaves."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from condgen.files.images import gif, grid, parameters, png_bytes, png_with_recipe, read_recipe
from tests.studio.support import BROWSER, PROMPT, number, open_tab, opened, serving

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER
ROOT = Path(__file__).parents[2]
CELLS = "#gallery .cg-cell"


def fill(folder, count):
    """Images of two days and two models, a sheet, an animation, and a damaged file."""
    for i in range(count):
        day = folder / f"2026-01-0{1 + i % 2}"
        day.mkdir(parents=True, exist_ok=True)
        recipe = {"prompt": f"number {i} <b>bold</b>", "seed": i, "prior": "none", "steps": 4, "size": 8}
        recipe |= {"model": ["words", "other"][i % 2], "model_id": "8" * 16}
        image = Image.new("RGB", (8, 8), (i * 20 % 256, 90, 200))
        (day / f"{i:06d}-number-{i}.png").write_bytes(png_with_recipe(image, recipe, parameters(recipe)))
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    (folder / "sheet.png").write_bytes(png_bytes(grid(frames, ["a", "b"])))
    (folder / "strip.gif").write_bytes(gif(frames, 100))
    (folder / "damaged <i>.png").write_bytes(b"\x89PNG\r\n\x1a\n?")


@pytest.fixture
def studio(browser, models, tmp_path):
    """A page of a studio with kept images, and their folder."""
    fill(tmp_path / "outputs", 8)
    with serving(tmp_path, models) as address, opened(browser, address) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        open_tab(page, "Gallery")
        playwright.expect(page.locator(CELLS)).to_have_count(11)
        yield page, tmp_path / "outputs"


def cell(page, name):
    return page.locator(CELLS, has_text=name)


def test_images_are_shown_by_day_and_filtered(studio):
    page, _ = studio
    days = page.locator("#gallery h2").all_inner_texts()
    assert days[1:] == ["Friday, 2 January 2026", "Thursday, 1 January 2026"]
    playwright.expect(page.locator("#gallery-numbers")).to_contain_text("11 images, ")
    playwright.expect(cell(page, "damaged <i>.png")).to_contain_text("cannot be read")
    page.get_by_role("textbox", name="Search").fill("BOLD number 3")
    playwright.expect(page.locator(CELLS)).to_have_count(1)
    playwright.expect(page.locator("#gallery-numbers")).to_contain_text("1 of 11 images")
    page.get_by_role("textbox", name="Search").fill("nothing like this")
    playwright.expect(page.locator("#gallery .cg-empty")).to_contain_text("No image matches")
    page.get_by_role("textbox", name="Search").fill("")
    playwright.expect(page.locator(CELLS)).to_have_count(11)
    for name, option, count in (("Made by", "other", 4), ("Day", "2026-01-02", 4), ("Made by", "words", 0)):
        page.get_by_role("listbox", name=name).or_(page.get_by_label(name)).first.click()
        page.locator("#gallery-filters").get_by_role("option", name=option).click()
        playwright.expect(page.locator(CELLS)).to_have_count(count)


def test_stars_deletion_and_download_of_several(studio):
    page, outputs = studio
    bar = page.get_by_role("group", name="Selected images")
    playwright.expect(bar.get_by_role("button", name="Delete")).to_be_disabled()
    for name in ("number 1 ", "number 2 ", "strip.gif"):
        cell(page, name).get_by_role("checkbox").check()
    playwright.expect(bar).to_contain_text("3 selected")
    bar.get_by_role("button", name="Star", exact=True).click()
    playwright.expect(page.locator(f"{CELLS}.starred")).to_have_count(3)
    with page.expect_download() as download:
        bar.get_by_role("button", name="Download").click()
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert len(names) == 4 and {"strip.gif", "recipes.json"} <= set(names)
    cell(page, "strip.gif").get_by_role("checkbox").uncheck()
    bar.get_by_role("button", name="Delete").click()
    playwright.expect(page.locator(CELLS)).to_have_count(9)
    playwright.expect(bar).not_to_contain_text("selected")
    playwright.expect(page.locator("#gallery-numbers")).to_contain_text("9 images")
    assert not list(outputs.rglob("*number-1.png")) and not list(outputs.rglob("*number-2.png"))
    assert (outputs / "strip.gif").exists() and (outputs / "stars.json").read_text() == '["strip.gif"]'
    page.get_by_role("checkbox", name="Only with a star").check()
    playwright.expect(page.locator(CELLS)).to_have_count(1)


def test_actions_of_one_image_by_keyboard(studio):
    page, outputs = studio
    star = cell(page, "number 5 ").get_by_role("button", name=re.compile("^Star: number 5"))
    star.focus()
    page.keyboard.press("Enter")
    playwright.expect(page.locator(f"{CELLS}.starred")).to_have_count(1)
    playwright.expect(star).to_be_focused()
    cell(page, "number 5 ").get_by_role("button", name=re.compile("^More")).click()
    page.get_by_role("button", name="Delete", exact=True).locator("visible=true").last.click()
    playwright.expect(page.locator(CELLS)).to_have_count(10)
    playwright.expect(page.locator("#gallery-numbers")).to_contain_text("10 images")
    assert not list(outputs.rglob("*number-5.png"))
    assert cell(page, "sheet.png").locator("[data-action]").evaluate_all("all => all.map(x => x.dataset.action)") == [
        "star", "star", "delete",
    ]  # fmt: skip


def test_an_image_fills_the_controls_it_was_made_with(studio):
    page, _ = studio
    cell(page, "number 4 ").get_by_role("button", name=re.compile("^Use all settings")).click()
    playwright.expect(page.get_by_role("textbox", name="Prompt")).to_have_value("number 4 <b>bold</b>")
    playwright.expect(page.get_by_role("textbox", name="Seed")).to_have_value("4")


def test_new_images_are_there_when_the_tab_is_opened_again(studio):
    page, outputs = studio
    fill(outputs, 10)
    open_tab(page, "Generate")
    open_tab(page, "Gallery")
    playwright.expect(page.locator(CELLS)).to_have_count(13)


def test_pages(studio):
    page, outputs = studio
    fill(outputs, 130)
    open_tab(page, "Generate")
    open_tab(page, "Gallery")
    playwright.expect(page.locator(CELLS)).to_have_count(60)
    page.locator(f"{CELLS} input[type=checkbox]").first.check()
    page.get_by_role("button", name="Next page").click()
    page.get_by_role("button", name="Next page").click()
    playwright.expect(page.locator(CELLS)).to_have_count(13)
    playwright.expect(page.get_by_role("button", name="Next page")).to_be_disabled()
    playwright.expect(page.get_by_role("group", name="Selected images")).to_contain_text("1 selected")
    page.get_by_role("spinbutton", name="Page of 3").fill("2")
    page.keyboard.press("Enter")
    playwright.expect(page.locator(CELLS)).to_have_count(60)


def test_a_recipe_of_another_program_is_shown(studio, tmp_path):
    page, _ = studio
    info = PngImagePlugin.PngInfo()
    text = f"{PROMPT}\nSteps: 20, Sampler: <i>Euler</i>, CFG scale: 3, Seed: 77, Size: 512x512, Model: xl"
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "foreign.png", pnginfo=info)
    page.get_by_role("button", name=re.compile("Read an image")).click()
    page.locator("#read-image input[type=file]").set_input_files(tmp_path / "foreign.png")
    table = page.get_by_role("table", name="Recipe")
    for row in ("Written by AUTOMATIC1111", f"Prompt {PROMPT}", "Seed 77", "Sampler <i>Euler</i>"):
        playwright.expect(table.get_by_role("row", name=row)).to_be_visible()
    playwright.expect(page.locator("#recipe")).to_contain_text("Not taken over")
    page.get_by_role("button", name="Use in Generate").click()
    playwright.expect(page.get_by_role("textbox", name="Prompt")).to_have_value(PROMPT)
    playwright.expect(page.get_by_role("textbox", name="Seed")).to_have_value("77")
    playwright.expect(page.locator("#progress")).to_contain_text("filled in")
    open_tab(page, "Gallery")
    (tmp_path / "none.png").write_bytes(png_bytes(Image.new("RGB", (8, 8))))
    page.locator("#read-image").get_by_role("button", name=re.compile("Remove|Clear")).first.click()
    playwright.expect(table).to_have_count(0)
    page.locator("#read-image input[type=file]").set_input_files(tmp_path / "none.png")
    playwright.expect(page.get_by_role("alert")).to_contain_text("none.png has no recipe that can be read")
    playwright.expect(table).to_have_count(0)


def test_an_image_that_is_not_kept_is_shown_with_a_note(browser, models, tmp_path):
    with serving(tmp_path, models, limit=1) as address, opened(browser, address) as page:
        page.get_by_role("textbox", name="Prompt").fill(PROMPT)
        page.keyboard.press("Control+Enter")
        playwright.expect(
            page.locator("#images .cg-note", has_text="Not kept: the folder outputs is full")
        ).to_have_count(4)
        with page.expect_download() as download:
            page.locator("#images .cg-cell a[download]").first.click()
        assert read_recipe(download.value.path())["prompt"] == PROMPT
        page.reload()
        playwright.expect(page.locator("#images .cg-note", has_text="Not kept")).to_have_count(4)
        open_tab(page, "Gallery")
        playwright.expect(page.locator(f"{CELLS} .cg-note", has_text="Not kept")).to_have_count(4)


def test_the_gallery_fits_a_phone(browser, models, tmp_path):
    fill(tmp_path / "outputs", 6)
    with serving(tmp_path, models) as address, opened(browser, address, 390, 844) as page:
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text="Gallery").click()
        playwright.expect(page.locator(CELLS)).to_have_count(9)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        boxes = page.locator(f"{CELLS} :is(button, a, input):visible").evaluate_all(
            "all => all.map((x) => x.getBoundingClientRect()).filter((x) => Math.min(x.width, x.height) < 20).length"
        )
        assert boxes == 0


# A crash --------------------------------------------------------------------------------------------------------------


@contextmanager
def process(folder, port):
    """A studio of its own, with the model of the package; killed at the end."""
    env = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "app.py"), "--outputs", str(folder / "outputs"), "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL) as app:
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            deadline = time.monotonic() + 180
            while True:
                try:
                    direct.open(f"http://127.0.0.1:{port}", timeout=30)
                    break
                except OSError:
                    assert app.poll() is None and time.monotonic() < deadline
                    time.sleep(0.3)
            yield app
        finally:
            app.kill()


def test_a_crash_loses_no_finished_image_and_no_prompt(browser, tmp_path):
    """SIGKILL amid a request of 16 images."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    outputs = tmp_path / "outputs"
    with process(tmp_path, port) as app:
        page.goto(f"http://127.0.0.1:{port}")
        page.wait_for_function("window.condgen && window.condgen.remembers")
        page.get_by_role("textbox", name="Prompt").fill(PROMPT)
        number(page, "Images").fill("16")
        page.keyboard.press("Tab")
        page.get_by_role("textbox", name="Prompt").press("Control+Enter")
        playwright.expect(page.locator("#images .cg-cell")).to_have_count(16)
        page.wait_for_function("document.querySelectorAll('#images .cg-cell .cg-buttons').length >= 3")
        app.send_signal(signal.SIGKILL)
        app.wait()
    done = sorted(outputs.glob("*/*.png"))
    assert 3 <= len(done) < 16
    seeds = {read_recipe(path)["seed"] for path in done}
    for path in done:
        Image.open(path).load()
    assert len(seeds) == len(done) and max(seeds) - min(seeds) == len(done) - 1
    with process(tmp_path, port):
        page.goto(f"http://127.0.0.1:{port}")
        page.wait_for_function("window.condgen && window.condgen.remembers")
        playwright.expect(page.get_by_role("textbox", name="Prompt")).to_have_value(PROMPT)
        open_tab(page, "Gallery")
        playwright.expect(page.locator(CELLS)).to_have_count(len(done))
    context.close()
