"""The Find tab in a browser."""

import re

import pytest

from tests.retrieval.test_search import folder_of
from tests.studio.support import BROWSER, open_tab, opened, serving

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER


@pytest.fixture(scope="module")
def address(models, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        photos = folder_of(tmp_path_factory.mktemp("photos"), captions=True)
        with serving(tmp_path_factory.mktemp("studio"), models, data=(str(photos),)) as url:
            yield url


def test_words_then_similar_images_then_vary(page):
    open_tab(page, "Find")
    page.locator("#search").click()
    playwright.expect(page.locator("#find-progress")).to_contain_text("Type words to find images by")
    page.locator("#find-words textarea").fill("a red circle")
    page.keyboard.press("Enter")
    found = page.locator("#tab-find .cg-cell, [id^=tab-find] .cg-cell, .cg-cell:visible").filter(visible=True)
    playwright.expect(page.locator("#find-progress")).to_contain_text("images, best score")
    width = page.locator(".cg-grid:visible").last.bounding_box()["width"]
    assert width > 700 and found.count() >= 4
    similar = page.get_by_role("button", name=re.compile("^Find similar")).filter(visible=True)
    similar.nth(2).click()
    playwright.expect(page.locator("#find-progress")).to_contain_text("best score 1.000")
    playwright.expect(page.locator("#find-words textarea")).to_have_value("")
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    open_tab(page, "Find")
    playwright.expect(similar.first).to_be_visible()
    page.get_by_role("button", name=re.compile("^Vary")).filter(visible=True).first.click()
    playwright.expect(page.get_by_role("tab", name="Mix")).to_have_attribute("aria-selected", "true")
    playwright.expect(page.locator(".cg-slot.filled img").filter(visible=True).first).to_be_visible()


def test_a_phone_has_no_sideways_scroll(browser, address):
    with opened(browser, address, 390, 844) as page:
        open_tab(page, "Find")
        page.locator("#find-words textarea").fill("a red circle")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#find-progress")).to_contain_text("images, best score")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
