"""Screenshots of the studio: the image in the README, or every tab with every kind of model in every size and theme.

    python scripts/studio_screens.py                       # docs/images/studio.png
    python scripts/studio_screens.py --all -o screens      # a folder to look through

Needs Chromium and `pip install -e ".[dev]"`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

PROMPT = "a red circle above a blue square"
VIEWPORTS = {"wide": (1440, 900), "laptop": (1366, 768), "phone": (390, 844)}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SEED = "7"


def generate(page) -> None:
    """Generates four images of a fixed seed with the model of the package."""
    page.get_by_role("textbox", name="Prompt").fill(PROMPT)
    seed = page.get_by_role("textbox", name="Seed", exact=True).first
    seed.fill(SEED)
    page.get_by_role("checkbox", name="Keep").first.check()
    page.keyboard.press("Control+Enter")
    page.locator("#images .cg-cell .cg-buttons").nth(3).wait_for()
    page.wait_for_timeout(800)


def every_tab(page, folder: Path, name: str) -> None:
    """A screenshot of every tab with a model of every kind."""
    picker = page.get_by_role("combobox", name="Model", exact=True)
    groups = picker.locator("optgroup")
    firsts = [groups.nth(k).locator("option").first.get_attribute("value") for k in range(groups.count())]
    for model in firsts:
        picker.select_option(model)
        page.wait_for_timeout(1500)
        for tab in page.get_by_role("tab").all():
            tab.click()
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"{name}-{model}-{tab.inner_text().lower().replace(' ', '-')}.png")
    picker.select_option(firsts[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every tab, kind of model, size and theme")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/images"), help="folder of the screenshots")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if executable is None:
        parser.exit(2, "No Chromium was found. Install it, for example with apt-get install chromium.\n")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as private, sync_playwright() as playwright:
        os.environ["GRADIO_TEMP_DIR"] = private
        from condgen.studio.app import build, launch

        blocks = build(outputs=Path(private) / "outputs")
        launch(blocks, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        themes = ("light", "dark") if args.all else ("light",)
        for theme in themes:
            for size, (width, height) in VIEWPORTS.items() if args.all else [("wide", VIEWPORTS["wide"])]:
                page = chromium.new_page(viewport={"width": width, "height": height})
                page.goto(f"{blocks.local_url}?__theme={theme}")
                page.wait_for_function("window.condgen && window.condgen.remembers")
                generate(page)
                name = f"{size}-{theme}" if args.all else "studio"
                page.screenshot(path=args.out / f"{name}.png")
                if args.all:
                    every_tab(page, args.out, name)
                page.close()
        chromium.close()
        blocks.close()


if __name__ == "__main__":
    main()
