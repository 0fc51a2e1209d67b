"""The Generate tab in a browser."""

import re

import pytest

from tests.studio.support import BROWSER, PROMPT, choose

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER


def test_ctrl_enter_generates_and_images_survive_a_reload(page):
    page.get_by_role("textbox", name="Prompt").fill(PROMPT)
    page.keyboard.press("Control+Enter")
    images = page.locator("#images .cg-cell .cg-buttons")
    playwright.expect(images).to_have_count(4)
    playwright.expect(page.locator("#progress")).to_contain_text(re.compile("4 images, seeds"))
    page.reload()
    playwright.expect(images).to_have_count(4)
    playwright.expect(page.get_by_role("textbox", name="Prompt")).to_have_value(PROMPT)


@pytest.mark.parametrize("model", ["shoes", "vae", "gan", "photos", "plain"])
def test_models_of_every_kind_generate(page, model):
    choose(page, model)
    playwright.expect(page.get_by_role("textbox", name="Prompt")).to_be_hidden()
    page.get_by_role("button", name="Generate", exact=True).click()
    playwright.expect(page.locator("#images .cg-cell .cg-buttons")).to_have_count(4)
