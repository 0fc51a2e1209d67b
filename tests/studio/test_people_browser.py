"""Two people at one studio, each in a browser of their own."""

from __future__ import annotations

import pytest

from tests.studio.support import BROWSER, PROMPT, opened, serving

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER
IMAGES = "#images .cg-cell .cg-buttons"
REMEMBER = "memory => { condgen.remembers = false; localStorage.setItem('condgen-studio', memory) }"
READY = "window.condgen && window.condgen.remembers"


def generate(page, prompt: str) -> list[str]:
    """Generates, and gives the addresses of the images."""
    page.get_by_role("textbox", name="Prompt").fill(prompt)
    page.keyboard.press("Control+Enter")
    playwright.expect(page.locator(IMAGES)).to_have_count(4)
    return [image.get_attribute("src") for image in page.locator("#images img").all()]


def reload(page) -> None:
    page.reload()
    page.wait_for_function(READY)


def test_browsers_see_their_own_images_alone(browser, models, tmp_path):
    with serving(tmp_path, models, several=True, trains=False) as url:
        with opened(browser, url) as ann, opened(browser, url) as bob:
            mine = generate(ann, PROMPT)
            reload(ann)
            playwright.expect(ann.locator(IMAGES)).to_have_count(4)
            reload(bob)
            playwright.expect(bob.locator(IMAGES)).to_have_count(0)
            memory = ann.evaluate("localStorage.getItem('condgen-studio')")
            assert mine and PROMPT in memory
            # with all that the browser of another remembers: its prompt, and none of its images
            bob.evaluate(
                "memory => { condgen.remembers = false; localStorage.setItem('condgen-studio', memory) }", memory
            )
            reload(bob)
            playwright.expect(bob.get_by_role("textbox", name="Prompt")).to_have_value(PROMPT)
            playwright.expect(bob.locator(IMAGES)).to_have_count(0)
            # with a cookie that it made up
            bob.context.clear_cookies()
            bob.context.add_cookies([{"name": "condgen_visitor", "value": "../people", "url": url}])
            bob.evaluate(
                "memory => { condgen.remembers = false; localStorage.setItem('condgen-studio', memory) }", memory
            )
            reload(bob)
            playwright.expect(bob.locator(IMAGES)).to_have_count(0)
            cookies = {cookie["name"]: cookie for cookie in bob.context.cookies()}
            assert len(cookies["condgen_visitor"]["value"]) == 22 and cookies["condgen_visitor"]["httpOnly"]
            assert not ann.evaluate("document.cookie")
        people = [*(tmp_path / "outputs" / "people").iterdir()]
        assert len(people) == 1 and len([*people[0].rglob("*.png")]) == 4


def test_a_login_finds_its_images_again(browser, models, tmp_path):
    def login(page, name, password):
        page.get_by_label("username").fill(name)
        page.get_by_label("password").fill(password)
        page.get_by_role("button", name="Login").click()
        page.wait_for_function(READY)

    network = {"auth": [("ann", "first"), ("bob", "second")]}
    with serving(tmp_path, models, network=network, several=True) as url:
        pages = [browser.new_context().new_page() for _ in network["auth"]]
        for page, account in zip(pages, network["auth"]):
            page.goto(url)
            login(page, *account)
        ann, bob = pages
        generate(ann, PROMPT)
        reload(ann)
        playwright.expect(ann.locator(IMAGES)).to_have_count(4)
        reload(bob)
        playwright.expect(bob.locator(IMAGES)).to_have_count(0)
        for page in pages:
            page.context.close()
