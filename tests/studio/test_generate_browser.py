"""The Generate tab and the header in a browser."""

import re
import shutil

import pytest
from PIL import Image

from tests.studio.support import BROWSER, PROMPT, choose, number, open_tab, opened

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER


def finished(page):
    return page.locator("#images .cg-cell .cg-buttons")


def says(page, pattern):
    playwright.expect(page.locator("#progress")).to_contain_text(re.compile(pattern))


def prompt_of(page):
    return page.get_by_role("textbox", name="Prompt")


def generate(page, count=1, prompt=PROMPT):
    number(page, "Images").fill(str(count))
    prompt_of(page).fill(prompt)
    prompt_of(page).press("Enter")


def many_steps(page, steps=200):
    page.get_by_role("button", name="Advanced").click()
    number(page, "Steps").fill(str(steps))


def test_ctrl_enter_generates_and_images_survive_a_reload(page):
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    page.keyboard.type(PROMPT)
    page.keyboard.press("Control+Enter")
    playwright.expect(finished(page)).to_have_count(4)
    says(page, "4 images, seeds")
    open_tab(page, "Gallery")
    page.reload()
    playwright.expect(page.get_by_role("tab", name="Gallery", exact=True)).to_have_attribute("aria-selected", "true")
    open_tab(page, "Generate")
    playwright.expect(finished(page)).to_have_count(4)
    playwright.expect(prompt_of(page)).to_have_value(PROMPT)


@pytest.mark.parametrize("model", ["shoes", "vae", "gan", "photos", "plain"])
def test_models_of_every_kind_generate(page, model):
    choose(page, model)
    playwright.expect(prompt_of(page)).to_be_hidden()
    page.get_by_role("button", name="Generate", exact=True).click()
    playwright.expect(finished(page)).to_have_count(4)


def test_stop_keeps_what_is_finished_and_its_line_stands(page):
    many_steps(page)
    generate(page, 16)
    says(page, r"image \d+ of 16, step \d+ of 200")
    prompt_of(page).press("Enter")  # once more changes nothing
    says(page, r"image ([2-9]|1\d) of 16")
    page.get_by_role("button", name="Stop", exact=True).click()
    says(page, "Stopped. Finished images are kept.")
    page.wait_for_timeout(2500)
    says(page, "Stopped. Finished images are kept.")
    kept = finished(page).count()
    assert 1 <= kept < 16 and page.locator("#images .cg-cell").count() == kept
    number(page, "Steps").fill("2")
    generate(page)
    says(page, "1 image, seed")


def test_a_reload_in_the_middle_loses_no_finished_image(browser, address):
    with opened(browser, address, reloads=True) as page:
        many_steps(page)
        generate(page, 16)
        says(page, r"image ([2-9]|1\d) of 16")
        page.reload()
        playwright.expect(finished(page).first).to_be_visible()
        says(page, r"The page was reloaded: \d+ of 16 images w(as|ere) finished\.")
        playwright.expect(prompt_of(page)).to_have_value(PROMPT)
        assert page.locator("#images .cg-cell").count() == finished(page).count()


def test_mistakes_and_what_is_not_read_stand_at_the_box(page):
    notes = page.locator("#prompt-notes")
    seed = page.get_by_role("textbox", name="Seed").input_value()
    generate(page, prompt="   ")
    says(page, "The prompt is empty")
    assert page.get_by_role("textbox", name="Seed").input_value() == seed
    playwright.expect(page.get_by_role("button", name="Generate", exact=True)).to_be_visible()
    prompt_of(page).fill("a red zebra")
    playwright.expect(notes.locator("mark")).to_have_text("zebra")
    prompt_of(page).fill("🦓")
    playwright.expect(notes).to_contain_text("no word of this")
    prompt_of(page).fill("red circle " * 80)
    playwright.expect(notes).to_contain_text("cut off")
    prompt_of(page).fill("")
    playwright.expect(notes).to_have_text("")
    page.get_by_role("group", name="Try").get_by_role("button").first.click()
    says(page, "1 image, seed")
    assert prompt_of(page).input_value() and page.get_by_test_id("toast-body").count() == 0


def test_labels_one_of_each_and_use_all_settings(page):
    choose(page, "shoes")
    page.get_by_role("button", name="yes", exact=True).click()
    page.get_by_role("button", name="One of each label").click()
    playwright.expect(finished(page)).to_have_count(4)
    captions = page.locator("#images .cg-caption").all_inner_texts()
    assert captions == ["T-shirt/top", "Trouser", "Sneaker", "Ankle boot"]
    says(page, r"4 images, seed \d+,")
    seed = page.get_by_role("textbox", name="Seed").input_value()
    choose(page, "words")
    page.locator("#images .cg-cell").nth(2).get_by_role("button", name=re.compile("^More")).click()
    page.get_by_role("button", name="Use all settings", exact=True).click()
    playwright.expect(page.get_by_role("combobox", name="Model", exact=True)).to_have_value("shoes")
    playwright.expect(page.get_by_role("button", name="Sneaker", exact=True)).to_have_attribute("aria-pressed", "true")
    playwright.expect(page.get_by_role("textbox", name="Seed")).to_have_value(seed)
    says(page, "settings of the image")


def test_negative_words_are_kept_and_used_again(page):
    page.get_by_role("button", name="Advanced").click()
    field = page.get_by_role("textbox", name="Negative words")
    field.fill("blue")
    field.blur()
    generate(page)
    says(page, "1 image, seed")
    page.reload()
    playwright.expect(finished(page)).to_have_count(1)
    page.get_by_role("button", name="Advanced").click()
    playwright.expect(field).to_have_value("blue")
    field.fill("green")
    page.locator("#images .cg-cell").get_by_role("button", name=re.compile("^More")).click()
    page.get_by_role("button", name="Use all settings", exact=True).click()
    says(page, "settings of the image")
    playwright.expect(field).to_have_value("blue")
    choose(page, "shoes")
    playwright.expect(field).to_be_hidden()


def test_encoders_lead_to_the_tab_that_uses_them(page):
    choose(page, "clip")
    page.get_by_role("button", name="Find images", exact=True).click()
    playwright.expect(page.get_by_role("tab", name="Find", exact=True)).to_have_attribute("aria-selected", "true")


def test_presets_set_the_options(page):
    page.get_by_role("button", name="Advanced").click()
    page.get_by_role("radio", name="Fast").check(force=True)
    playwright.expect(number(page, "Steps")).to_have_value("6")
    page.get_by_role("radio", name="Quality").check(force=True)
    playwright.expect(number(page, "Candidates")).to_have_value("2")
    playwright.expect(number(page, "Steps")).to_have_value("4")


def test_the_card_of_a_model_and_a_new_model(page, models):
    page.get_by_role("button", name="About this model").click()
    dialog = page.get_by_role("dialog", name="About this model")
    playwright.expect(dialog).to_contain_text("generates images from prompts")
    page.keyboard.press("Escape")
    playwright.expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.textContent") == "About"
    shutil.copytree(models / "vae", models / "newer")
    try:
        page.get_by_role("combobox", name="Model", exact=True).hover()
        option = page.locator("#model option[value='newer']")
        playwright.expect(option).to_have_count(1)
    finally:
        shutil.rmtree(models / "newer")


def test_images_fit_the_window_and_phones_do_not_scroll_sideways(browser, address):
    for width, height, count in ((1440, 900, 9), (1366, 768, 16), (390, 844, 4)):
        with opened(browser, address, width, height) as page:
            generate(page, count)
            says(page, "image.*seed")
            playwright.expect(finished(page)).to_have_count(count)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            box = page.locator("#progress").bounding_box()
            assert box["y"] + box["height"] < height
            if width > 400:
                last = page.locator("#images .cg-cell .cg-image").last.bounding_box()
                assert last["y"] + last["height"] <= height


def test_a_chosen_model_brings_its_own_options(page):
    page.get_by_role("button", name="Advanced").click()
    own = {name: number(page, name).input_value() for name in ("Guidance", "Steps")}
    page.get_by_role("radio", name="Fast").check(force=True)
    playwright.expect(number(page, "Steps")).to_have_value("6")
    number(page, "Guidance").fill("1.3")
    for model in ("photos", "words"):
        choose(page, model)
        playwright.expect(prompt_of(page)).to_be_visible(visible=model == "words")
    for name, value in own.items():
        playwright.expect(number(page, name)).to_have_value(value)
    page.wait_for_timeout(1500)
    for name, value in own.items():
        playwright.expect(number(page, name)).to_have_value(value)
    playwright.expect(page.get_by_role("radio", name="Default")).to_be_checked()
    number(page, "Guidance").fill("1.3")
    page.wait_for_timeout(1500)
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    page.get_by_role("button", name="Advanced").click()
    playwright.expect(number(page, "Guidance")).to_have_value("1.3")


def test_a_mask_shows_its_values_and_survives_a_reload(page, tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "start.png")
    page.get_by_role("button", name="Advanced").click()
    own = number(page, "Guidance").input_value()
    page.locator("#guide-init input[type=file]").set_input_files(tmp_path / "start.png")
    canvas = page.locator("#guide-brush canvas")
    canvas.scroll_into_view_if_needed()
    canvas.click()
    playwright.expect(number(page, "Guidance")).to_have_value("1.5")
    playwright.expect(number(page, "How much may change")).to_have_value("1")
    page.wait_for_timeout(1500)
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    playwright.expect(canvas).to_be_visible()
    middle = "c => c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[3]"
    page.wait_for_function(f"({middle})(document.querySelector('#guide-brush canvas')) === 255")
    assert canvas.evaluate("c => c.getContext('2d').getImageData(0, 0, 1, 1).data[3]") == 0
    generate(page)
    says(page, "1 image, seed")
    page.locator("#images").get_by_role("button", name=re.compile("^More")).click()
    page.get_by_role("button", name="Use all settings", exact=True).click()
    says(page, r"^\s*The settings of the image are filled in\.\s*$")
    playwright.expect(page.locator("#guide-mask img")).to_be_visible()
    page.get_by_role("button", name="Remove: Or a mask").click()
    playwright.expect(number(page, "Guidance")).to_have_value(own)
    playwright.expect(number(page, "How much may change")).to_have_value("0.85")


def test_sixteen_captions_are_not_cut(page):
    generate(page, 16)
    playwright.expect(finished(page)).to_have_count(16)
    page.wait_for_timeout(500)
    cut = "nodes => nodes.filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.textContent)"
    assert page.locator("#images :is(.cg-caption, .cg-note)").evaluate_all(cut) == []
