"""The Translate tab in a browser."""

import numpy as np
import pytest
from PIL import Image

from tests.studio.support import BROWSER, choose, open_tab, opened

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER


def test_uploads_stand_beside_their_translations_and_stay_over_a_reload(page, tmp_path):
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{name}.png" for name in ("one", "two")]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(file)
    open_tab(page, "Translate")
    choose(page, "sides")
    page.locator("#translate-files input[type=file]").set_input_files(files)
    playwright.expect(page.locator("#translate-files li")).to_have_count(2)
    page.locator("#translate").click()
    pairs = page.locator("#translated .cg-cell .cg-pair")
    playwright.expect(pairs).to_have_count(2)
    playwright.expect(pairs.first.locator("img")).to_have_count(2)
    playwright.expect(page.locator("#translate-progress")).to_contain_text("2 images to circles")
    page.reload()
    page.wait_for_function("window.condgen && window.condgen.remembers")
    open_tab(page, "Translate")
    playwright.expect(pairs.first.locator("img")).to_have_count(2)


def test_a_drawing_is_translated_on_a_phone(browser, address):
    with opened(browser, address, 390, 844) as page:
        choose(page, "sides")
        open_tab(page, "Translate")
        page.get_by_role("radio", name="Draw").click()
        canvas = page.locator("#translate-drawing canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 30, box["y"] + 30)
        page.mouse.down()
        page.mouse.move(box["x"] + 150, box["y"] + 160, steps=5)
        page.mouse.up()
        page.locator("#translate").click()
        playwright.expect(page.locator("#translate-progress")).to_contain_text("1 image to circles")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
