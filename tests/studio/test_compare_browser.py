"""The Compare tab in a browser."""

import re
import time

import pytest

from tests.studio.support import BROWSER, PROMPT, choose, open_tab, opened

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER

DONE = "#compare-table td .cg-buttons"


def start(page, mode=""):
    """Opens the tab in a mode."""
    open_tab(page, "Compare")
    if mode:
        page.get_by_role("radio", name=mode, exact=True).check()


def vary(page, x, xs, y="One row", ys=""):
    """Fills in the options of the table."""
    for name, option, values in (("X", x, xs), ("Y", y, ys)):
        field = page.get_by_role("combobox", name=f"{name} option")
        field.click()
        page.get_by_role("option", name=option, exact=True).click()
        if values:
            page.get_by_role("textbox", name=f"{name} values").fill(values)


def wait(page, images):
    """Waits for the end of a comparison."""
    playwright.expect(page.locator(DONE)).to_have_count(images)
    playwright.expect(page.locator("#compare-progress")).to_contain_text(re.compile(r"images, \d+ of them new"))


def prompt(page):
    return page.locator("#compare-prompt textarea")


def test_two_options_make_a_table_that_survives_a_reload_and_is_downloaded(page):
    start(page, "Options (X/Y)")
    prompt(page).fill(PROMPT)
    vary(page, "Steps", "1, 2, 3", "Words of the prompt", "red > blue")
    playwright.expect(page.locator("#compare-count")).to_contain_text("2 x 3 = 6 images")
    page.get_by_role("button", name="Compare", exact=True).click()
    wait(page, 6)
    for _ in range(2):
        assert [one.inner_text() for one in page.get_by_role("columnheader").all()] == ["1", "2", "3"]
        assert [one.inner_text() for one in page.get_by_role("rowheader").all()] == ["red", "blue"]
        captions = page.locator("#compare-table .cg-caption")
        playwright.expect(captions.first).to_have_text(re.compile(r"^\d+\.\d\d s, match -?\d\.\d\d$"))
        page.reload()
        page.wait_for_function("window.condgen && window.condgen.remembers")
        open_tab(page, "Compare")
        playwright.expect(page.locator(DONE)).to_have_count(6)
        playwright.expect(prompt(page)).to_have_value(PROMPT)
    for button, suffix in (("Download the sheet", ".png"), ("Download settings", ".json")):
        with page.expect_download() as download:
            page.get_by_role("button", name=re.compile(button)).click()
        assert download.value.suggested_filename.endswith(suffix) and download.value.path().stat().st_size > 100
    page.locator("#compare-table .cg-image").first.click()
    viewer = page.locator("#compare-table dialog")
    playwright.expect(viewer).to_be_visible()
    page.keyboard.press("Escape")
    playwright.expect(viewer).to_be_hidden()


def test_stop_keeps_its_line_and_continue_generates_the_rest(page, monkeypatch):
    from condgen.studio.tabs.compare import comparisons

    serve = comparisons.serve

    def slow(model, request):  # so that Stop comes before the end on a busy machine
        for snapshot in serve(model, request):
            time.sleep(2 if snapshot.done else 0)
            yield snapshot

    monkeypatch.setattr(comparisons, "serve", slow)
    start(page, "Options (X/Y)")
    prompt(page).fill(PROMPT)
    vary(page, "Seed", "1..4", "Steps", "4, 5")
    page.get_by_role("button", name="Compare", exact=True).click()
    playwright.expect(page.locator(DONE).first).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_timeout(2500)
    playwright.expect(page.locator("#compare-progress")).to_contain_text("Stopped. Finished images are kept")
    playwright.expect(page.get_by_role("button", name="Continue", exact=True)).to_be_visible()
    monkeypatch.undo()
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    open_tab(page, "Compare")
    playwright.expect(page.locator(DONE).first).to_be_visible()
    done = page.locator(DONE).count()  # with the image that was just being kept
    assert 0 < done < 8
    page.get_by_role("button", name="Continue", exact=True).click()
    wait(page, 8)
    playwright.expect(page.locator("#compare-progress")).to_contain_text(f"8 images, {8 - done} of them new")
    playwright.expect(page.get_by_role("button", name="Continue", exact=True)).to_be_hidden()


@pytest.mark.parametrize("model, columns", [("shoes", 1), ("vae", 4), ("plain", 4)])
def test_models_of_every_kind_are_compared(page, model, columns):
    choose(page, model)
    start(page)
    playwright.expect(page.get_by_role("textbox", name="Prompt")).to_be_hidden()
    playwright.expect(page.locator("#compare-count")).to_contain_text(f"2 x {columns}")
    page.get_by_role("button", name="Compare", exact=True).click()
    wait(page, 2 * columns)


def test_priors_side_by_side_and_earlier_comparisons(page):
    start(page)
    prompt(page).fill(PROMPT)
    page.get_by_role("radio", name="Priors", exact=True).check()
    page.get_by_role("button", name="Compare", exact=True).click()
    heads = page.get_by_role("columnheader")
    playwright.expect(heads.last).to_have_text("none")
    wait(page, 2 * heads.count())
    page.get_by_role("button", name="Earlier comparisons").click()
    field = page.get_by_role("combobox", name="Earlier comparison")
    field.click()
    page.get_by_role("option", name=re.compile("Seed")).first.click()
    page.get_by_role("button", name="Delete", exact=True).last.click()
    playwright.expect(field).to_have_value("")


def test_prompts_of_a_file(page, tmp_path):
    (tmp_path / "prompts.txt").write_text(f"{PROMPT}\na red circle\n")
    start(page, "Prompts from a file")
    page.locator("#compare-file input[type=file]").set_input_files(tmp_path / "prompts.txt")
    playwright.expect(page.locator("#compare-count")).to_contain_text("2 x 1 = 2 images")
    page.get_by_role("button", name="Compare", exact=True).click()
    wait(page, 2)
    assert [one.inner_text() for one in page.get_by_role("rowheader").all()] == [PROMPT, "a red circle"]


def test_a_bad_value_is_named_before_the_start(page):
    start(page, "Options (X/Y)")
    prompt(page).fill(PROMPT)
    vary(page, "Steps", "1..65")
    playwright.expect(page.locator("#compare-count")).to_contain_text("65 images; a comparison has at most 64")
    page.get_by_role("button", name="Compare", exact=True).click()
    playwright.expect(page.locator("#compare-progress")).to_contain_text("at most 64")
    page.wait_for_timeout(500)
    playwright.expect(page.get_by_role("button", name="Compare", exact=True)).to_be_visible()


def test_an_image_is_taken_as_the_base(page):
    page.get_by_role("textbox", name="Prompt").fill("a red circle")
    page.keyboard.press("Control+Enter")
    playwright.expect(page.locator("#images .cg-cell .cg-buttons")).to_have_count(4)
    page.locator("#images").get_by_role("button", name=re.compile("^More")).nth(1).click()
    page.locator("#images .cg-menu:popover-open").get_by_role("button", name="Compare", exact=True).click()
    playwright.expect(prompt(page)).to_have_value("a red circle")
    seed = re.search(r"seed (\d+)", page.locator("#images .cg-caption").nth(1).text_content())[1]
    playwright.expect(page.get_by_role("textbox", name="Seeds")).to_have_value(seed)


def test_a_phone_scrolls_the_table_alone(browser, address):
    with opened(browser, address, 390, 844) as page:
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text="Compare").click()
        page.get_by_role("radio", name="Options (X/Y)", exact=True).check()
        prompt(page).fill(PROMPT)
        vary(page, "Seed", "1..6")
        page.get_by_role("button", name="Compare", exact=True).click()
        wait(page, 6)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("(box => box.scrollWidth > box.clientWidth)(document.querySelector('.cg-table'))")
