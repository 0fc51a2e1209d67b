"""Measures the time from `python app.py` to the first generated image on the page, in Chromium.

    python scripts/bench_studio.py --runs 5 --json bench.json

Every run also measures `python -c "import torch, gradio"`, so that other load affects both alike; the ratio is taken
within a run. The browser is open before, the prompt is the first example of the model, and the clock stops when the
first of the images has been decoded by the page.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
IMAGE = "[...document.querySelectorAll('#images .cg-cell')].some((c) => c.querySelector('.cg-buttons') && "
IMAGE += "c.querySelector('img') && c.querySelector('img').complete && c.querySelector('img').naturalWidth)"


def imports() -> float:
    """Seconds to import torch and Gradio."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, gradio"], check=True)
    return time.perf_counter() - began


def start(browser: Browser) -> dict[str, float]:
    """Seconds since the start of `python app.py` until the server is open, the page is, and the image is there."""
    with tempfile.TemporaryDirectory() as folder, browser.new_context() as context:
        page = context.new_page()
        environment = os.environ | {"TMPDIR": folder, "PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        command = [sys.executable, str(ROOT / "app.py"), "--outputs", f"{folder}/outputs"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as server:
            try:
                url = next(line for line in server.stdout if "open at" in line).split("open at ")[1].split()[0]
                times = {"server": time.perf_counter() - began}
                page.goto(url)
                page.get_by_role("textbox", name="Prompt").fill("a red circle above a blue square")
                page.wait_for_function("window.condgen && window.condgen.remembers")
                times["page"] = time.perf_counter() - began
                page.keyboard.press("Control+Enter")
                page.wait_for_function(IMAGE, polling="raf", timeout=120_000)
                return times | {"image": time.perf_counter() - began}
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="writes the figures")
    args = parser.parse_args()
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        start(browser)  # files of Python and of the page are in memory afterwards
        for _ in range(args.runs):
            row = {"imports": imports(), **start(browser)}
            rows.append(
                {name: round(value, 2) for name, value in (row | {"ratio": row["image"] / row["imports"]}).items()}
            )
            print(rows[-1], f"load average {os.getloadavg()[0]:.1f}", flush=True)
        browser.close()
    figures = {"median": {name: statistics.median(row[name] for row in rows) for name in rows[0]}, "runs": rows}
    print(json.dumps(figures["median"]))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
