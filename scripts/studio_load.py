"""Loads the studio with many users at once, and checks every answer.

    python scripts/studio_load.py --users 100 --seconds 120 --json load.json

Starts `python app.py --no-auth` on a free port. Every user is a browser of its own (a cookie), generates with its own
prompts and seeds, reads the recipe in the PNG that comes back, and lists its images; every tenth chooses a model by
label, and every tenth another one by text. An answer is mixed up where prompt, seed or model are not those that were
asked for, or where the list has images of another. The memory is that of the server alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from condgen.files.images import read_recipe

ROOT = Path(__file__).parents[1]
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink")
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
API = "/gradio_api/call"


class Campaign:
    """Users of one studio, and what happened to their requests.

    Args:
        url: address of the studio.
        folder: for the images that are checked.
        models: names of models by class.
    """

    def __init__(self, url: str, folder: Path, models: dict[str, list[str]], options: dict[str, float]):
        self.url, self.folder, self.models, self.options = url, folder, models, options
        self.counts: Counter[str] = Counter()
        self.waits: list[float] = []
        self.faults: list[str] = []
        self.most_waiting = self.waiting = 0

    async def user(self, number: int, until: float) -> None:
        """One user, until the time is over."""
        # a connection for every request: a kept one may be closed by the server while the next request is sent
        fresh = {"timeout": httpx.Timeout(600, connect=120), "limits": httpx.Limits(max_keepalive_connections=0)}
        async with httpx.AsyncClient(base_url=self.url, **fresh) as client:
            await client.get("/")
            made: set[int] = set()
            while time.monotonic() < until:
                asked = self._request(number, len(made) + 1)
                answer = await self._call(client, "generate", asked)
                if answer is None:
                    await asyncio.sleep(2)
                    continue
                made.add(asked["seed"])
                await self._check(client, asked, answer)
                listed = await self._call(client, "images", {})
                seeds = {one.get("seed") for one in (listed or {}).get("images", [])}
                if listed is not None and not seeds <= made:
                    self._fault("mixed up", f"user {number} lists {seeds - made}")

    def _request(self, number: int, turn: int) -> dict:
        """The next request of a user: no two of the campaign have the same seed."""
        asked = {"seed": 1000 * number + turn, "count": 1, "options": self.options}
        texts, labels = self.models.get("TextToImage", []), self.models.get("ClassToImage", [])
        if number % 10 == 0 and labels:
            return asked | {"model": labels[turn % len(labels)], "prompt": ""}
        model = texts[turn % len(texts)] if number % 10 == 1 else texts[0]
        colour, shape = COLOURS[number % len(COLOURS)], SHAPES[(number // 8 + turn) % len(SHAPES)]
        return asked | {"model": model, "prompt": f"a {colour} {shape} user {number}"}

    async def _call(self, client: httpx.AsyncClient, name: str, values: dict) -> Any:
        """The result of an endpoint; None where it was refused."""
        began = time.monotonic()
        self.counts[f"{name} requests"] += 1
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            start = await client.post(f"{API}/v2/{name}", json=values)
            if start.status_code == 503 and "Queue is full" in start.text:
                self.counts["refused with a word"] += 1
                return None
            start.raise_for_status()
            text = (await client.get(f"{API}/{name}/{start.json()['event_id']}")).text
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return self._fault("unexplained", f"{name}: {type(error).__name__} {error}")
        finally:
            self.waiting -= 1
        kind, _, data = text.strip().rpartition("event: ")[2].partition("\n")
        value = json.loads(data.removeprefix("data: ") or "null")
        if kind != "complete":
            word = isinstance(value, dict) and value.get("error")
            return self._fault("refused with a word" if word else "unexplained", f"{name}: {text[:300]}")
        self.counts[f"{name} answered"] += 1
        if name == "generate":
            self.waits.append(time.monotonic() - began)
        return value[0]

    async def _check(self, client: httpx.AsyncClient, asked: dict, answer: dict) -> None:
        """Compares the recipe in the image with the request."""
        file = await client.get(f"/gradio_api/file={answer['images'][0]['path']}")
        path = self.folder / f"{asked['seed']}.png"
        path.write_bytes(file.content)
        recipe = read_recipe(path)
        path.unlink()
        names = ("seed", "model", "prompt") if asked["prompt"] else ("seed", "model")
        same = all(recipe.get(name) == asked[name] for name in names)
        self.counts["right"] += same
        if not same:
            self._fault("mixed up", f"asked for {asked}, got {recipe}")

    def _fault(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        if len(self.faults) < 20:
            self.faults.append(f"{kind}: {text}")


def memory(process: int) -> float:
    """The resident memory of a process in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def size(folder: Path) -> float:
    """The size of the files in a folder in MB; another name of the same file counts once."""
    files = {(s.st_dev, s.st_ino): s.st_size for s in (path.stat() for path in folder.rglob("*") if path.is_file())}
    return sum(files.values()) / 2**20


async def run(args: argparse.Namespace, process: int, url: str, folder: Path) -> dict:
    """The campaign, and its figures."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        campaign = Campaign(url, folder / "checked", {"TextToImage": []}, {})
        listed = await campaign._call(client, "models", {})
    models: dict[str, list[str]] = {}
    for one in listed:
        models.setdefault(one["kind"], []).append(one["name"])
    campaign = Campaign(url, folder / "checked", models, {"steps": args.steps} if args.steps else {})
    campaign.folder.mkdir()
    rows: list[tuple[float, float]] = []
    began = time.monotonic()

    async def watch() -> None:
        while True:
            rows.append((time.monotonic() - began, memory(process)))
            await asyncio.sleep(1)

    before, watcher = memory(process), asyncio.create_task(watch())
    await asyncio.gather(*(campaign.user(number, began + args.seconds) for number in range(args.users)))
    seconds = time.monotonic() - began
    await asyncio.sleep(5)
    watcher.cancel()
    later = [row for row in rows if row[0] > seconds / 2]
    slope = statistics.linear_regression(*zip(*later)).slope * 60 if len(later) > 2 else 0.0
    waits = sorted(campaign.waits) or [0.0]
    return {
        "users": args.users, "seconds": round(seconds, 1), "load average": [round(x, 1) for x in os.getloadavg()],
        "counts": dict(sorted(campaign.counts.items())), "waiting at once, at most": campaign.most_waiting,
        "seconds of waiting": {
            "median": round(statistics.median(waits), 2), "95 %": round(waits[int(0.95 * (len(waits) - 1))], 2),
            "most": round(waits[-1], 2),
        },
        "memory in MB": {
            "before": round(before), "most": round(max(row[1] for row in rows)), "after": round(memory(process)),
            "slope of the second half, per minute": round(slope, 2),
        },
        "outputs in MB": round(size(folder / "outputs"), 2),
        "cache in MB": round(sum(size(path) for path in folder.glob("condgen-studio-*")), 2),
        "faults": campaign.faults,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--steps", type=int, default=0, help="denoising steps of every image (default: the model's)")
    parser.add_argument("--json", type=Path, help="writes the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = os.environ | {"TMPDIR": name, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(ROOT / "app.py"), "--no-auth", "--outputs", str(folder / "outputs")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as server:
            try:
                url = next(line for line in server.stdout if "open at" in line).split("open at ")[1].split()[0]
                figures = asyncio.run(run(args, server.pid, url.rstrip("/"), folder))
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)
        figures["left behind"] = [path.name for path in folder.glob("condgen-studio-*")]
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text)
    counts = figures["counts"]
    return 1 if counts.get("mixed up") or counts.get("unexplained") or figures["left behind"] else 0


if __name__ == "__main__":
    sys.exit(main())
