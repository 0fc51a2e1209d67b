"""Interrupts training on purpose and verifies its recovery: kill -9 at random moments, and full disks.

    python scripts/chaos.py --kills 50 --disks 20
    python scripts/chaos.py --kills 0 --disks 20 --disk limit --json

Every process is a very small `condgen train scenes32` on one thread that writes a checkpoint after every step. One
undisturbed run gives the reference weights; killed runs and runs out of space are resumed until they finish, and must
have the same weights, bit for bit. A full disk is a small file system in memory where this user may mount one
(`unshare -rm`), else a limit on the size of a file. Exits with 1 if a guarantee is violated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from condgen.training import checkpoint

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"clip": "clip", "prior_diffusion": "prior", "prior_regression": "prior", "decoder": "decoder"}
REASONS = ("No space left on device", "File too large", "bytes were free")
STEPS = 60
SMALL = {
    "eval_count": 1, "save_every": 0, "data.scenes": 96,
    "clip.embed_dim": 16, "clip.image_width": 8, "clip.text_width": 16, "clip.depth": 1, "clip.heads": 2,
    "prior.width": 16, "prior.depth": 1, "prior.heads": 2,
    "decoder.channels": "[8, 16]", "decoder.depth": 1, "decoder.heads": 2, "decoder.width": 16,
    "decoder.word_depth": 1, "decoder.steps": 1,
    "fit_clip.batch": 8, "fit_prior.batch": 8, "fit_decoder.batch": 8,
}  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Broken(Exception):
    """A violated guarantee."""


@dataclass
class Runs:
    """Starts training processes below one folder and compares their weights with the reference.

    Args:
        folder: where the runs are.
        steps: of every stage.
        limit: maximum bytes of a file, 0 for no limit.
    """

    folder: Path
    steps: int = STEPS
    limit: int = 0
    weights: dict[str, str] = field(default_factory=dict)
    whole: int = 0
    before: float = 0.0
    training: float = 0.0

    def start(self, run: Path, *more: str, code: tuple[str, ...] = ("-m", "condgen")) -> subprocess.Popen:
        """A training process, started as by a user; `more` are further options, `code` the arguments of Python."""
        flags = SMALL | {f"fit_{stage}.images": 8 * self.steps for stage in ("clip", "prior", "decoder")}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        there = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        bound = (self.limit, self.limit) if self.limit else None
        return subprocess.Popen(
            [sys.executable, *code, "train", "scenes32", "-o", str(run), *words, *more],
            cwd=self.folder, env=os.environ | there, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, preexec_fn=bound and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, bound)),
        )  # fmt: skip

    def finish(self, run: Path) -> None:
        """Lets a run finish, and compares."""
        process = self.start(run)
        _, stderr = process.communicate()
        self.compare(run, process.returncode, stderr)

    def compare(self, run: Path, code: int, stderr: str) -> None:
        if code:
            raise Broken(f"{run.name} could not continue (exit code {code}): {stderr[-2000:]}")
        if (found := weights(run)) != self.weights:
            other = sorted(k for k in found.keys() | self.weights.keys() if found.get(k) != self.weights.get(k))
            raise Broken(f"{run.name} ended with other weights: {', '.join(other)}")
        shutil.rmtree(run)

    def newest(self, run: Path) -> dict[str, int]:
        """The newest checkpoint of every stage; all must be intact."""
        steps: dict[str, int] = {}
        for place in run.glob("checkpoints/*/[!t]*"):  # folders being written or removed are called tmp-...
            if not checkpoint.verify(place):
                raise Broken(f"{place} is damaged")
            self.whole += 1
            steps[place.parent.name] = max(steps.get(place.parent.name, 0), int(place.name.removeprefix("step-")))
        return steps

    def measure(self) -> None:
        """The undisturbed run: its weights, and the seconds before and after its first step."""
        run, began = self.folder / "undisturbed", time.monotonic()
        process = self.start(run)
        while process.poll() is None and not list(run.glob("checkpoints/*/step-*")):
            time.sleep(0.02)
        first = time.monotonic()
        _, stderr = process.communicate()
        if process.returncode:
            raise Broken(f"The undisturbed run failed: {stderr[-2000:]}")
        self.before, self.training, self.weights = first - began, time.monotonic() - first, weights(run)


def weights(run: Path) -> dict[str, str]:
    """Every file of weights of a finished run -> its hash."""
    files = sorted([*run.glob("parts/*/*.safetensors"), *run.glob("model/*/*.safetensors")])
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def stage_of(run: Path) -> str:
    """The current stage of a run."""
    if not (run / "config.yaml").exists():
        return "start"
    open_stages = (stage for part, stage in STAGES.items() if not (run / "parts" / part / "model.safetensors").exists())
    return next(open_stages, "export")


def kill(runs: Runs, n: int, rng: random.Random) -> dict:
    """Kills n processes at random moments; a fifth of them while they start, the others in training or export."""
    moments, torn, finished, seen = Counter(), 0, 0, {}
    while (killed := moments.total()) < n:
        run = runs.folder / f"killed-{finished}"
        wait = rng.uniform(0, runs.before) if rng.random() < 0.2 else runs.before + rng.uniform(0, runs.training / 3)
        process = runs.start(run)
        try:
            _, stderr = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            runs.compare(run, process.returncode, stderr)
            finished, seen = finished + 1, {}
            say(f"run {finished} is done, and its weights are those of the undisturbed one")
            continue
        stage, writing = stage_of(run), bool(list(run.glob("checkpoints/*/tmp-*")))
        moments[stage] += 1
        torn += writing
        before, seen = seen, runs.newest(run)
        if any(seen.get(name, 0) < step for name, step in before.items()):
            raise Broken(f"{run} went back from {before} to {seen}")
        say(f"kill {killed + 1} of {n}: {stage}{', while a checkpoint was written' if writing else ''}, {seen}")
    runs.finish(run)
    return {
        "kills": n,
        "of these in": ", ".join(f"{stage} {count}" for stage, count in moments.most_common()),
        "of these while a checkpoint was written": torn,
        "of these after which the run continued": n,
        "checkpoints verified after a kill, all intact": runs.whole,
        "runs finished, all with the weights of the undisturbed run": finished + 1,
    }


class FileSystem:
    """A file system in memory whose size can be changed; raises OSError where this user may mount none."""

    name = "a file system in memory"

    def __init__(self, runs: Runs):
        self.place = runs.folder / "disk"
        self.place.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=256m", "none", str(self.place))

    def needed(self, run: Path) -> int:
        """Bytes, in pages as the file system counts them."""
        return sum(-(-f.stat().st_size // 4096) * 4096 if f.is_file() else 0 for f in run.rglob("*"))

    def bound(self, size: int) -> None:
        self._mount("-o", f"remount,size={size or 2**28}", str(self.place))

    def close(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)

    def _mount(self, *words: str) -> None:
        done = subprocess.run(["mount", *words], capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr.strip())


class FileLimit:
    """A limit on the size of a file: needs no rights, and reaches the same code."""

    name = "a limit on the size of a file"

    def __init__(self, runs: Runs):
        self.place, self.runs = runs.folder, runs

    def needed(self, run: Path) -> int:
        return max(f.stat().st_size for f in run.rglob("*") if f.is_file())

    def bound(self, size: int) -> None:
        self.runs.limit = size

    def close(self) -> None:
        self.bound(0)


def small_disk(runs: Runs, asked: str | None) -> FileSystem | FileLimit:
    """A file system in memory, unless the other is chosen or this user may not mount."""
    if asked == "limit":
        return FileLimit(runs)
    try:
        return FileSystem(runs)
    except OSError as error:
        if asked:
            raise Broken(f"no file system could be mounted: {error}") from None
        say(f"no file system could be mounted ({error}), so a full disk is {FileLimit.name}")
        return FileLimit(runs)


def fill(runs: Runs, n: int, disk: FileSystem | FileLimit) -> dict:
    """Trains on n disks of increasing size, then gives every run the space to continue."""
    need, full, kept, messages, runs.whole = disk.needed(runs.folder / "undisturbed"), 0, 0, Counter(), 0
    try:
        for k in range(n):
            run, size = disk.place / f"disk-{k}", max(4096, need * (2 * k + 1) // (2 * n))
            disk.bound(size)
            process = runs.start(run)
            _, stderr = process.communicate()
            disk.bound(0)
            if process.returncode == 0:
                say(f"disk {k + 1} of {n}, {size:,} bytes: large enough")
                runs.compare(run, 0, stderr)
                continue
            last = (stderr.strip().splitlines() or ["nothing"])[-1]
            clear = last.startswith("condgen: ") and str(run) in last and any(reason in last for reason in REASONS)
            if "Traceback" in stderr or not clear:
                raise Broken(f"On a disk of {size:,} bytes no clear message, but: {stderr[-2000:]}")
            full += 1
            there = runs.newest(run)
            kept += bool(there)
            messages[last.replace(str(run), "RUN")[:160]] += 1
            say(f"disk {k + 1} of {n}, {size:,} bytes: {last}; kept {there}")
            runs.finish(run)
    finally:
        disk.close()
    return {
        "disk": disk.name,
        "sizes tried": n,
        "of these too small": full,
        "one clear line and no traceback": full,
        "left with a checkpoint": kept,
        "checkpoints verified, all intact": runs.whole,
        "given space, finished with the weights of the undisturbed run": full,
        "messages": dict(messages.most_common(4)),
    }


def own_namespace() -> None:
    """Restarts this script in a namespace where it may mount, if possible."""
    inside = ["unshare", "-rm", sys.executable, *sys.argv]
    if "CONDGEN_CHAOS" in os.environ or not shutil.which("unshare"):
        return
    os.environ["CONDGEN_CHAOS"] = "inside"
    if not subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        os.execvp(inside[0], inside)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--disks", type=int, default=20, help="how many sizes of a disk to try")
    parser.add_argument("--disk", choices=("memory", "limit"), help="kind of full disk; default: memory if possible")
    parser.add_argument("--steps", type=int, default=STEPS, help="of every stage")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.disks and args.disk != "limit":
        own_namespace()
    report: dict[str, dict] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="condgen-chaos-") as folder:
        runs = Runs(Path(folder), args.steps)
        try:
            runs.measure()
            say(f"undisturbed: {runs.before:.1f} s to the first step, {runs.training:.1f} s from there")
            if args.kills:
                report["kill -9"] = kill(runs, args.kills, random.Random(args.seed))
            if args.disks:
                report["full disk"] = fill(runs, args.disks, small_disk(runs, args.disk))
        except Broken as error:
            say(f"broken: {error}")
            return 1
    report["about"] = {"steps of every stage": args.steps, "seconds": round(time.monotonic() - began)}
    print(json.dumps(report, indent=2) if args.json else markdown(report))
    return 0


def markdown(report: dict[str, dict]) -> str:
    lines = ["| campaign | | figure |", "|---|---|---|"]
    for name, figures in report.items():
        for what, figure in figures.items():
            if isinstance(figure, dict):
                figure = "; ".join(f"{count} x `{text}`" for text, count in figure.items())
            lines.append(f"| {name} | {what} | {figure} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
