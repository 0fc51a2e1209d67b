"""Interrupts training on purpose and verifies its recovery: kill -9 at random moments, and full disks.

    python scripts/chaos.py --kills 50 --disks 20
    python scripts/chaos.py --kills 200 --disks 0 --processes 1,2
    python scripts/chaos.py --kills 20 --disks 0 --kinds gan,labels
    python scripts/chaos.py --kills 0 --disks 20 --disk limit --json

Every process is a very small `condgen train` on one thread that writes a checkpoint after every step. The undisturbed
run of a kind gives the reference weights; killed runs and runs out of space are resumed until they finish, and must
have the same weights, bit for bit. With `--processes 1,2` every start draws its number of processes, all of them are
killed, and the weights must be close: sums over processes are rounded in another order. A full disk is a small file
system in memory where this user may mount one (`unshare -rm`), else a limit on the size of a file. Exits with 1 if a
guarantee is violated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import operator
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from condgen.training import checkpoint

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"clip": "clip", "prior_diffusion": "prior", "prior_regression": "prior", "decoder": "decoder"}
REASONS = ("No space left on device", "File too large", "bytes were free")
STEPS = 60
KINDS = {
    "text": "scenes32 --data.scenes 96 --clip.embed_dim 16 --clip.image_width 8 --clip.text_width 16 --clip.depth 1 "
    "--clip.heads 2 --prior.width 16 --prior.depth 1 --prior.heads 2 --decoder.channels [8,16] --decoder.depth 1 "
    "--decoder.heads 2 --decoder.width 16 --decoder.word_depth 1 --decoder.steps 1",
    "gan": "digits-gan --gan.code 4 --gan.width 4 --gan.hidden 8",
    "clip": "clip --data.path digits --data.size 8 --clip.image resnet --clip.text clip --clip.image_width 8 "
    "--clip.image_depth 1 --clip.text_width 16 --clip.depth 1 --clip.heads 2 --clip.embed_dim 16 --clip.patch 1 "
    "--clip.stages 2",
    "selfsup": "selfsup --data.path digits --data.size 8 --kind moco --objective.dim 16 --objective.hidden 16 "
    "--objective.queue 96 --backbone.width 8 --backbone.depth 1 --backbone.patch 1 --backbone.stages 2",
    "labels": "digits-diffusion --decoder.channels [8] --decoder.depth 1 --decoder.heads 2 --decoder.width 16 "
    "--decoder.steps 2",
    "autoencoder": "digits-vae --autoencoder.latent 4 --autoencoder.hidden [16]",
}
"""Kind of run -> its recipe and options."""
CLOSE = 0.05
"""Largest distance from the reference weights, relative to their norm, for runs on several numbers of processes."""


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
        kind: one of KINDS.
        processes: numbers of processes that every start draws one of.
    """

    folder: Path
    steps: int = STEPS
    limit: int = 0
    kind: str = "text"
    processes: tuple[int, ...] = (1,)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    farthest: float = 0.0
    weights: dict[str, str] = field(default_factory=dict)
    whole: int = 0
    before: float = 0.0
    training: float = 0.0

    def start(self, run: Path, *more: str, code: tuple[str, ...] = ("-m", "condgen")) -> subprocess.Popen:
        """A training process, started as by a user; `more` are further options, `code` the arguments of Python."""
        fits = ("fit_clip", "fit_prior", "fit_decoder") if self.kind == "text" else ("fit",)
        sizes = [f"--{fit}.{name} {n}" for fit in fits for name, n in (("batch", 8), ("total_images", 8 * self.steps))]
        words = " ".join([KINDS[self.kind], "--eval_count 1 --save_every 0", *sizes]).split()
        if (several := self.rng.choice(self.processes)) > 1:
            code = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(several), *code)
        there = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        bound = (self.limit, self.limit) if self.limit else None
        return subprocess.Popen(
            [sys.executable, *code, "train", *words, "-o", str(run), *more],
            cwd=self.folder, env=os.environ | there, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
            preexec_fn=bound and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, bound)),
        )  # fmt: skip

    def finish(self, run: Path) -> None:
        process = self.start(run)
        _, stderr = process.communicate()
        self.compare(run, process.returncode, stderr)

    def compare(self, run: Path, code: int, stderr: str) -> None:
        if code:
            raise Broken(f"{run.name} could not continue (exit code {code}): {stderr[-2000:]}")
        found = weights(run)
        other = sorted(k for k in found.keys() | self.weights.keys() if found.get(k) != self.weights.get(k))
        if other and len(self.processes) > 1 and found.keys() == self.weights.keys():
            other = [name for name in other if "/mixture/" not in name]  # its initialisation jumps with the latents
            far = {name: distance(values(run / name), values(self.folder / "undisturbed" / name)) for name in other}
            self.farthest = max([self.farthest, *far.values()])
            other = [f"{name} by {apart:.3f}" for name, apart in far.items() if not apart <= CLOSE]
        if other:
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
        processes, self.processes = self.processes, (1,)
        process = self.start(run)
        self.processes = processes
        changes, seen = [], set()
        while process.poll() is None:
            if (now := checkpoints(run)) != seen:
                changes, seen = [*changes, time.monotonic()], now
            time.sleep(0.01)
        _, stderr = process.communicate()
        if process.returncode:
            raise Broken(f"The undisturbed run failed: {stderr[-2000:]}")
        self.before, self.training, self.weights = changes[0] - began, changes[-1] - changes[0], weights(run)


def values(file: Path) -> np.ndarray:
    """All floating-point numbers of a file of weights, float64."""
    tensors = load_file(file)
    parts = [x.astype(np.float64).ravel() for _, x in sorted(tensors.items()) if np.issubdtype(x.dtype, np.floating)]
    return np.concatenate([*parts, np.zeros(0)])


def distance(found: np.ndarray, reference: np.ndarray) -> float:
    """Norm of the difference, relative to that of the reference."""
    if found.shape != reference.shape:
        return math.inf
    return float(np.linalg.norm(found - reference) / max(np.linalg.norm(reference), 1e-12))


def weights(run: Path) -> dict[str, str]:
    """Every file of weights of a finished run -> its hash."""
    files = sorted([*run.glob("parts/*/*.safetensors"), *run.glob("model/*/*.safetensors")])
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def checkpoints(run: Path) -> set[Path]:
    return set(run.glob("checkpoints/*/step-*"))


def stage_of(run: Path, kind: str) -> str:
    """The current stage of a run."""
    if not (run / "config.yaml").exists():
        return "start"
    if kind != "text":
        return f"{kind}, {'export' if (run / 'model').is_dir() else 'training'}"
    open_stages = (stage for part, stage in STAGES.items() if not (run / "parts" / part / "model.safetensors").exists())
    return next(open_stages, "export")


def kill(runs: Runs, n: int, rng: random.Random) -> dict:
    """Kills n runs at random moments; a fifth of them while they start, the others after a new checkpoint."""
    moments, torn, finished, seen = Counter(), 0, 0, {}
    while (killed := moments.total()) < n:
        run = runs.folder / f"{runs.kind}-{finished}"
        early, process, there = rng.random() < 0.2, runs.start(run), checkpoints(run)
        while not early and process.poll() is None and checkpoints(run) <= there:
            time.sleep(0.02)
        try:
            _, stderr = process.communicate(timeout=rng.uniform(0, runs.before if early else runs.training / 2 + 0.1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the other processes of the run
            process.communicate()
        else:
            runs.compare(run, process.returncode, stderr)
            finished, seen = finished + 1, {}
            say(f"run {finished} is done, and its weights are those of the undisturbed one")
            continue
        stage, writing = stage_of(run, runs.kind), bool(list(run.glob("checkpoints/*/tmp-*")))
        moments[stage] += 1
        torn += writing
        before, seen = seen, runs.newest(run)
        if any(seen.get(name, 0) < step for name, step in before.items()):
            raise Broken(f"{run} went back from {before} to {seen}")
        say(f"kill {killed + 1} of {n}: {stage}{', while a checkpoint was written' if writing else ''}, {seen}")
    runs.finish(run)
    return {
        "kills": n,
        "of these in": dict(moments.most_common()),
        "of these while a checkpoint was written": torn,
        "of these after which the run continued": n,
        "checkpoints verified after a kill, all intact": runs.whole,
        "runs finished, all with the weights of the undisturbed run": finished + 1,
        "largest relative distance of weights on another number of processes": round(runs.farthest, 5),
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
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of runs that are killed, by turns")
    parser.add_argument("--processes", default="1", help="numbers of processes to draw from at every start, as in 1,2")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.disks and args.disk != "limit":
        own_namespace()
    report: dict[str, dict] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="condgen-chaos-") as folder:
        processes, kinds = tuple(map(int, args.processes.split(","))), args.kinds.split(",")
        try:
            campaigns = []
            for k, kind in enumerate(kinds if args.kills else ()):
                n = args.kills // len(kinds) + (k < args.kills % len(kinds))
                runs = undisturbed(Path(folder), args, kind, processes)
                campaigns += [kill(runs, n, random.Random(args.seed))] if n else []
            if args.kills:
                report["kill -9"] = together(campaigns)
            if args.disks:
                runs = undisturbed(Path(folder), args, "text")
                report["full disk"] = fill(runs, args.disks, small_disk(runs, args.disk))
        except Broken as error:
            say(f"broken: {error}")
            return 1
    report["about"] = {"steps of every stage": args.steps, "seconds": round(time.monotonic() - began)}
    print(json.dumps(report, indent=2) if args.json else markdown(report))
    return 0


def undisturbed(folder: Path, args: argparse.Namespace, kind: str, processes: tuple[int, ...] = (1,)) -> Runs:
    """Runs of a kind, after the undisturbed one."""
    own = folder / f"runs-{kind}-{len(list(folder.iterdir()))}"
    runs = Runs(own, args.steps, 0, kind, processes, random.Random(args.seed))
    runs.folder.mkdir()
    runs.measure()
    say(f"{kind}, undisturbed: {runs.before:.1f} s to the first step, {runs.training:.1f} s from there")
    return runs


def together(campaigns: list[dict]) -> dict:
    """Sums the figures of campaigns of several kinds; of distances the largest."""
    total: dict = {}
    for name, figure in [item for figures in campaigns for item in figures.items()]:
        add = {dict: operator.or_, float: max}.get(type(figure), operator.add)
        total[name] = add(total.get(name, type(figure)()), figure)
    return total


def markdown(report: dict[str, dict]) -> str:
    lines = ["| campaign | | figure |", "|---|---|---|"]
    for name, figures in report.items():
        for what, figure in figures.items():
            if isinstance(figure, dict):
                figure = "; ".join(f"{count} x {text}" for text, count in figure.items())
            lines.append(f"| {name} | {what} | {figure} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
