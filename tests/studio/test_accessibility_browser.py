"""Every tab with every kind of model: axe, sideways scroll, the console, and requests to other hosts."""

from __future__ import annotations

import pytest

from condgen.studio.app import TABS
from tests.studio.support import BROWSER, choose, open_tab, opened

pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = BROWSER
MODELS = ("words", "shoes", "vae", "gan", "photos", "plain", "clip", "sides")
VIEWPORTS = ((1440, 900), (1366, 768), (390, 844))
TITLES = tuple(tab.title for tab in TABS)


def faults(page) -> list[str]:
    """What axe finds serious or critical."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(
    "theme, model", [*(("light", model) for model in MODELS), *(("dark", model) for model in ("words", "shoes", "vae"))]
)
def test_axe_finds_nothing_serious(browser, address, theme, model):
    with opened(browser, address, path=f"/?__theme={theme}") as page:
        choose(page, model)
        page.wait_for_timeout(500)
        found = {}
        for title in TITLES:
            open_tab(page, title)
            page.wait_for_timeout(300)
            found[title] = faults(page)
        assert not any(found.values()), found


@pytest.mark.parametrize("width, height", VIEWPORTS)
def test_no_tab_scrolls_sideways(browser, address, width, height):
    with opened(browser, address, width, height) as page:
        for model in MODELS:
            choose(page, model)
            page.wait_for_timeout(300)
            for title in TITLES:
                open_tab(page, title)
                page.wait_for_timeout(100)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (model, title)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_generated_images_are_accessible(browser, address, theme):
    with opened(browser, address, path=f"/?__theme={theme}") as page:
        page.get_by_role("textbox", name="Prompt").fill("a red circle")
        page.keyboard.press("Enter")
        page.locator("#images .cg-cell .cg-buttons").nth(3).wait_for()
        assert faults(page) == []
        page.locator("#images [title=Enlarge]").first.press("Enter")
        assert faults(page) == []
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.title") == "Enlarge"


def test_messages_are_accessible(page):
    choose(page, "words")
    page.evaluate("""() => {
      const head = document.createElement("div");
      head.className = "toast-header";
      head.role = "button";
      head.tabIndex = 0;
      head.append(Object.assign(document.createElement("button"), { ariaLabel: "Close" }));
      document.body.append(head);
    }""")
    assert faults(page) == []
