"""The Mix tab in a browser."""

import re
import time

import numpy as np
import pytest
from PIL import Image

from condgen.pipelines.editing.base import Editor
from tests.studio.support import BROWSER, PROMPT, choose, number, open_tab, opened

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER
expect = playwright.expect
OTHER = "a green triangle"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "cat.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    return str(path)


def mode(page, title):
    page.get_by_role("radio", name=title, exact=True).check(force=True)


def give(page, file, slot="mix-image"):
    page.locator(f"#{slot} input[type=file]").set_input_files(file)
    expect(page.locator(f"#{slot} img")).to_be_visible()


def run(page, name):
    page.locator("#mix-run").get_by_role("button", name=name, exact=True).click()


def says(page, text):
    expect(page.locator("#mix-progress p")).to_contain_text(re.compile(text))


def images(page, count):
    expect(page.locator("#mix-images .cg-cell .cg-buttons")).to_have_count(count)
    return page.locator("#mix-images .cg-cell")


def generated(page, count=2):
    number(page, "Images").fill(str(count))
    page.get_by_role("textbox", name="Prompt").fill(PROMPT)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#images .cg-cell .cg-buttons")).to_have_count(count)
    return page.locator("#images .cg-cell")


def act(cell, label):
    """Clicks an action in the menu of an image."""
    cell.get_by_role("button", name="More").click()
    cell.get_by_role("button", name=label, exact=True).click()


def test_an_upload_is_varied_and_survives_a_reload(page, file):
    open_tab(page, "Mix")
    give(page, file)
    page.get_by_role("textbox", name="Words").fill(PROMPT)
    page.keyboard.press("Control+Enter")
    says(page, "^4 images, seeds")
    images(page, 4)
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    open_tab(page, "Mix")
    images(page, 4)
    expect(page.locator("#mix-image img")).to_be_visible()
    expect(page.get_by_role("textbox", name="Words")).to_have_value(PROMPT)
    run(page, "Try 5 strengths")
    says(page, "^5 images, seed")
    cells = images(page, 5)
    expect(cells.nth(1).locator(".cg-caption")).to_contain_text("strength 0.25")


def test_actions_of_a_grid_lead_to_the_modes(page):
    cells = generated(page)
    cells.first.get_by_role("button", name=re.compile("^Vary")).first.click()
    expect(page.get_by_role("radio", name="Vary", exact=True)).to_be_checked()
    expect(page.locator("#mix-image img")).to_be_visible()
    open_tab(page, "Generate")
    for k in (1, 2):  # the first empty end
        act(cells.nth(k - 1), "Mix")
        expect(page.locator(f"#mix-end-{k} img")).to_be_visible()
        expect(page.get_by_role("textbox", name=f"Words of end {k}")).to_be_hidden()
        open_tab(page, "Generate")
    act(cells.first, "Change with words")
    expect(page.get_by_role("textbox", name="To", exact=True)).to_be_visible()
    page.get_by_role("textbox", name="To", exact=True).fill(OTHER)
    number(page, "Images").fill("2")
    run(page, "Change")
    says(page, "^2 images, seeds")
    act(images(page, 2).first, "Mix")  # both ends are taken: it becomes the second one
    expect(page.locator("#mix-end-2 .cg-caption")).to_contain_text("a-red-circle")


def test_a_strip_between_words_and_an_image_with_its_animation(page, file):
    open_tab(page, "Mix")
    mode(page, "Between")
    expect(page.locator("#mix-image")).to_be_hidden()
    run(page, "Mix")
    says(page, "^End 1 is empty")
    page.get_by_role("textbox", name="Words of end 1").fill(PROMPT)
    give(page, file, "mix-end-2")
    number(page, "Images from one end to the other").fill("3")
    run(page, "Mix")
    says(page, "^3 images, seed")
    cells = images(page, 4)
    expect(cells.nth(3).locator(".cg-caption")).to_have_text("animation")
    with page.expect_download() as download:
        cells.nth(3).get_by_role("link", name=re.compile("^Download")).first.click()
    with Image.open(download.value.path()) as gif:
        assert gif.format == "GIF" and gif.n_frames > 2
    mode(page, "one mixture with weights")
    page.get_by_role("textbox", name="Words of end 3").fill(OTHER)
    number(page, "Images").fill("1")
    run(page, "Mix")
    says(page, "^1 image, seed")
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    open_tab(page, "Mix")
    expect(page.get_by_role("textbox", name="Words of end 3")).to_have_value(OTHER)
    expect(page.locator("#mix-end-2 img")).to_be_visible()
    expect(page.get_by_role("textbox", name="Words of end 2")).to_be_hidden()


def test_reconstruction_and_what_the_encoder_sees(page, file):
    open_tab(page, "Mix")
    give(page, file)
    mode(page, "Reconstruct")
    number(page, "Steps").fill("6")
    run(page, "Reconstruct")
    says(page, r"^PSNR \d+\.\d dB")
    cells = images(page, 1)
    expect(cells).to_have_count(2)
    expect(cells.nth(1).locator(".cg-note")).to_contain_text("PSNR")
    mode(page, "What the encoder sees")
    run(page, "Look")
    expect(page.locator("#mix-seen li")).to_have_count(16)
    page.get_by_role("textbox", name="Texts to compare").fill(f"<b>{OTHER}\n{PROMPT}")
    run(page, "Look")
    expect(page.locator("#mix-seen li")).to_have_count(2)
    expect(page.locator("#mix-seen")).to_contain_text(f"<b>{OTHER}")
    page.get_by_role("checkbox", name="Also generate").check()
    run(page, "Look")
    images(page, 5)


def test_stop_says_so_and_frees_the_models(page, file, monkeypatch):
    generate_steps = Editor.generate_steps

    def slowly(*args, **options):
        for step in generate_steps(*args, **options):
            time.sleep(0.1)  # so that there is time to click
            yield step

    monkeypatch.setattr(Editor, "generate_steps", slowly)
    open_tab(page, "Mix")
    give(page, file)
    mode(page, "Change with words")
    page.get_by_role("textbox", name="To", exact=True).fill(OTHER)
    number(page, "Images").fill("16")
    page.get_by_role("checkbox", name="Try ten").check()
    run(page, "Change")
    says(page, r"image \d+ of 16, try")
    run(page, "Stop")
    says(page, "^Stopped")
    page.wait_for_timeout(2000)
    says(page, "^Stopped")
    number(page, "Images").fill("1")
    page.get_by_role("checkbox", name="Try ten").uncheck()
    run(page, "Change")
    says(page, "^1 image, seed")


def test_models_without_words_hide_them_and_others_are_not_taken(page, file):
    open_tab(page, "Mix")
    expect(page.get_by_role("textbox", name="Words")).to_be_visible()
    choose(page, "photos")
    expect(page.get_by_role("textbox", name="Words")).to_be_hidden()
    give(page, file)
    run(page, "Vary")
    says(page, "^4 images, seeds")
    mode(page, "Change with words")
    expect(page.locator("#mix-change")).to_contain_text("Changes need a model with captions")
    mode(page, "Between")
    expect(page.get_by_role("textbox", name="Words of end 1")).to_be_hidden()
    choose(page, "shoes")
    expect(page.locator("#tab-mix, [role=tabpanel]").filter(visible=True).first).to_contain_text("Mixing needs a model")
    expect(page.locator("#mix-run")).to_be_hidden()
    page.get_by_role("button", name="Use words").click()
    expect(page.locator("#mix-run")).to_be_visible()
    expect(page.get_by_role("combobox", name="Model", exact=True)).to_have_value("words")


@pytest.mark.parametrize("name, content, message", [
    ("notes.png", b"no image", r"notes\.png"), ("empty.png", b"", "."),
])  # fmt: skip
def test_what_is_no_image_is_said_at_the_progress_line(page, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    open_tab(page, "Mix")
    page.locator("#mix-image input[type=file]").set_input_files(str(tmp_path / name))
    expect(page.locator("#mix-image")).to_contain_text("cannot show")
    run(page, "Vary")
    says(page, message)
    expect(page.locator("#mix-run").get_by_role("button", name="Vary", exact=True)).to_be_visible()


def test_large_photographs_are_reduced_and_a_slot_is_emptied(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1400, 2600, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size > 5_000_000
    open_tab(page, "Mix")
    give(page, str(tmp_path / "large.png"))
    run(page, "Vary")
    says(page, "^4 images, seeds")
    page.get_by_role("button", name="Remove: Image").click()
    expect(page.get_by_role("button", name="Choose an image: Image")).to_be_focused()
    run(page, "Vary")
    says(page, "^There is no image yet")


def test_a_phone_has_no_sideways_scroll(browser, address, file):
    with opened(browser, address, 390, 844) as page:
        page.get_by_role("tab", name="Mix").click()
        give(page, file)
        for title in ("Vary", "Between", "Change with words", "Reconstruct", "What the encoder sees"):
            mode(page, title)
            page.wait_for_timeout(200)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), title
