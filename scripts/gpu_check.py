"""Checks that every kind of model trains, resumes and computes on a GPU, and measures how fast.

    python scripts/gpu_check.py -o out/gpu
    python scripts/gpu_check.py -o out/cpu --device cpu --quick

Three parts: `training` interrupts every stage of a run, resumes it, and compares the images of the model on the CPU and
on the GPU; `commands` runs commands with --device; `speed` measures images a second. Writes gpu.json, gpu.md and a
sheet of images. A check that fails is reported and the others go on; the exit code is 1 if one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

PARTS = ("training", "commands", "speed")
PROMPT = "a red circle above a blue square"
STEPS = "checkpoints/*/step-*"
# Lines of commands: {NAME} is the run of the check of that name, {drawn} a folder of drawn images with captions.
SCENES, PAIRS, SELFSUP = "--data.scenes 2000", "--data.num_samples 1000", "selfsup --data {drawn} --data.size 32"
TRAININGS: list[tuple[str, str, int, int]] = [  # name, recipe and options, images of a stage at most, stages
    ("text", f"scenes32 {SCENES}", 1536, 4),
    ("text-cgan", f"scenes32-cgan {SCENES} --init_from {{text}}", 1536, 1),
    ("text-cvae", f"scenes32-cvae {SCENES} --init_from {{text}}", 1536, 1),
    (
        "text-edm",
        "captions --size tiny --data {drawn} --prior.kinds [regression] --decoder.objective edm --decoder.solver euler",
        1536,
        3,
    ),
    ("class-diffusion", "digits-diffusion --decoder.solver unipc", 4096, 1),
    ("class-cgan", "digits-cgan", 4096, 1),
    ("class-cgan-classic", "digits-cgan --size classic", 4096, 1),
    ("class-cvae", "digits-cvae", 4096, 1),
    ("clip", "clip --data {drawn} --clip_objective.chunk 32", 4096, 1),
    ("clip-siglip", "clip --size patch --data digits --clip_objective.loss siglip", 4096, 1),
    ("simclr", f"{SELFSUP} --fit.batch 128", 4096, 1),
    ("moco", f"{SELFSUP} --fit.batch 128 --kind moco --objective.queue 512", 4096, 1),
    ("instance", f"{SELFSUP} --fit.batch 128 --kind instance", 4096, 1),
    ("instance-noise", f"{SELFSUP} --fit.batch 128 --kind instance --objective.noise 256", 4096, 1),
    *((kind, f"digits-{kind}", 4096, 1) for kind in ("linear", "ae", "conv-ae", "dae", "vae", "conv-vae", "beta-vae")),
    ("vae-binary", "digits-vae --autoencoder.likelihood bernoulli --autoencoder.binary true", 4096, 1),
    ("vae-learned-sigma", "digits-conv-vae --autoencoder.sigma learned --objective.noise masking", 4096, 1),
    ("gan", "digits-gan", 4096, 1),
    ("infogan", "digits-infogan", 4096, 1),
    ("dcgan", "scenes-dcgan", 4096, 1),
    ("dcgan-classic", "scenes-dcgan --size classic", 4096, 1),
    ("paired", f"edges2picture {PAIRS}", 512, 1),
    ("paired-classic", f"day2night --size classic {PAIRS}", 48, 1),  # in batches of one
    ("unpaired", f"squares2circles {PAIRS}", 512, 1),
    ("unpaired-classic", f"squares2circles --size classic {PAIRS}", 48, 1),
]
COMMANDS = """
generate 'a red circle' --model {text} -n 2 --prior diffusion --best-of 2 -o {out}
sample --model {class-diffusion} --label 3 -n 2 --guidance 2 -o {out}
sample --model {dcgan} -n 4 -o {out}
translate {unpaired} {drawn}/0.png -o {out}
encode {clip} --text 'a circle' --data {drawn} -o {out}/v.npy
search {clip} 'a circle' --data {drawn} --cache {out}/c -o {out}/found.png
embed {text-edm} --data {drawn} -o {out}/embeds
evaluate {clip-siglip} --data digits --finetune-images 256 -o {out}/report
evaluate {text} --prompts 1 --images-per-prompt 1 --ablate 1 -o {out}/report
evaluate {text-edm} --data {drawn} --split all --images-per-prompt 1 -o {out}/report
evaluate {class-diffusion} --per-label 4 --seeds 1 -o {out}/report
evaluate {vae} --seeds 1 --importance-samples 2 -o {out}/report
evaluate {infogan} --seeds 1 -o {out}/report
evaluate {unpaired} -o {out}/report
latent-space interpolate {conv-vae} 0 7 -o {out}
latent-space traverse {conv-vae} -o {out}
latent-space edit {conv-vae} --to 8 --from 3 -o {out}
latent-space jacobian {conv-vae} -o {out}
latent-space project {dcgan} --steps 20 --starts 1 -o {out}
latent-space holes {conv-vae} -o {out}
latent-space anomaly {conv-vae} --anomaly-class 7 -o {out}
latent-space neighbours {conv-vae} -o {out}
latent-space likelihood {conv-vae} -o {out}
""".strip()
TIMED: list[tuple[str, str, tuple[str, ...]]] = [  # name, recipe and options, stages; '' is the only stage
    ("scenes32", f"scenes32 {SCENES}", ("clip", "prior", "decoder")),
    ("scenes32-cgan", f"scenes32-cgan {SCENES} --init_from {{scenes32}}", ("decoder",)),
    ("scenes32-cvae", f"scenes32-cvae {SCENES} --init_from {{scenes32}}", ("decoder",)),
    ("captions-base", "captions --size base --data {drawn}", ("clip", "prior", "decoder")),
    ("clip-base", "clip --size base --data {drawn}", ("",)),
    ("selfsup-resnet18", f"{SELFSUP} --size resnet18", ("",)),
]


class Checks:
    """Runs checks and collects their results.

    Args:
        args: of the command line.
        folder: for the runs.
    """

    def __init__(self, args: argparse.Namespace, folder: Path):
        import torch

        self.torch, self.args, self.folder, self.on_gpu = torch, args, folder, args.device != "cpu"
        self.names, self.rows, self.samples = {"drawn": str(folder / "drawn")}, [], []
        self.about = {"device": torch.cuda.get_device_name() if self.on_gpu else "CPU", "torch": torch.__version__}
        self.about |= {"cores": os.cpu_count(), "command": shlex.join(sys.argv)}
        draw(folder / "drawn", 600 if args.quick else 2048)

    def check(self, part: str, name: str, call: Callable[[], dict | None]) -> None:
        """Runs one check if it was asked for, and writes the results of all so far."""
        if part not in self.args.part or not re.search(self.args.only, name):
            return
        began, output = time.perf_counter(), io.StringIO()
        try:
            with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
                row = {"ok": True} | (call() or {})
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:500]} {output.getvalue().strip()[-300:]}"
            row = {"ok": False, "error": text, "trace": traceback.format_exc()[-3000:]}
        row = {"part": part, "check": name, "seconds": time.perf_counter() - began} | row
        self.rows.append(row)
        print(line_of(row), flush=True)
        report = json.dumps({"about": self.about, "checks": self.rows}, indent=1)
        (self.args.out / "gpu.json").write_text(report)
        (self.args.out / "gpu.md").write_text(table(self.about, self.rows))
        if self.samples:
            from condgen.files.images import grid

            images, labels = zip(*self.samples)
            grid(images, labels, columns=8, cell=64).save(self.args.out / "gpu.png")

    def condgen(self, line: str, *more: str) -> int:
        """The exit code of a command."""
        from condgen.cli.main import main

        names = self.names | {"out": tempfile.mkdtemp(dir=self.folder)}
        return main([word.format_map(names) for word in shlex.split(line)] + list(more))

    def command(self, line: str, *more: str) -> None:
        """Runs a command; raises if it fails."""
        if code := self.condgen(line, *more):
            raise RuntimeError(f"exit code {code}")

    def interrupted(self, line: str, folder: Path, is_due: Callable[[Path], bool], delay: float = 0) -> Path | None:
        """Trains until `delay` seconds after the first checkpoint that is due; None if training was done before.

        SIGINT has the run write one more checkpoint.
        """
        done, found = threading.Event(), []

        def watch() -> None:
            while not (found or done.wait(0.002)):
                found.extend([place for place in folder.glob(STEPS) if is_due(place)][:1])
            if found and not done.wait(delay):
                os.kill(os.getpid(), signal.SIGINT)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            code = self.condgen(line, "-o", str(folder))
        finally:
            done.set()
            watcher.join()
        if code not in (0, 128 + signal.SIGINT):
            raise RuntimeError(f"exit code {code}")
        return found[0] if code else None

    def training(self, name: str, line: str, images: int, stages: int) -> dict:
        """Trains, interrupted once in every stage, and generates with the model on both devices."""
        folder, stopped = self.folder / name, set()
        line = f"train {line} --eval_count 1 --total_images {min(images, 512) if self.args.quick else images}"
        for _ in range(stages):
            place = self.interrupted(f"{line} --save_every 0", folder, lambda p: p.parent.name not in stopped)
            stopped.update([place.parent.name] if place else [])
        self.command(f"{line} --save_every 60", "-o", str(folder))
        self.names[name] = str(folder)
        if len(stopped) < stages or list(folder.glob("checkpoints/*/damaged-*")):
            raise RuntimeError(f"interrupted {sorted(stopped)} of {stages} stages, or a checkpoint was damaged")
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        values = [(key, value) for line in lines for key, value in line.items() if isinstance(value, float)]
        wrong = {key for key, value in values if not math.isfinite(value)}
        if wrong or any(line.get("skipped") for line in lines):
            raise ArithmeticError(f"steps were left out, or values are not finite: {sorted(wrong)}")
        return self.compare(name, folder)

    def compare(self, name: str, model: Path | None, tf32: bool = False, bf16: bool = False) -> dict:
        """The largest difference between the outputs on the CPU and on the device; of images in levels of 255."""
        import condgen
        from condgen.pipelines.base import to_pil

        on_cpu = self.outputs(condgen.load(model))
        self.torch.backends.cudnn.allow_tf32 = tf32
        with self.torch.autocast("cuda", self.torch.bfloat16, enabled=bf16):
            on_device = self.outputs(condgen.load(model).to(self.args.device))
        self.torch.backends.cudnn.allow_tf32 = True
        are_images = on_cpu.ndim == 4
        difference = (on_device - on_cpu).abs().max().item() * (127.5 if are_images else 1.0)
        self.samples += [(image.convert("RGB"), name) for image in to_pil(on_device)] if are_images else []
        close = difference < (3.0 if are_images else 1e-2)  # False for NaN
        return {"levels" if are_images else "vector": difference, "ok": close or tf32 or bf16}

    def outputs(self, model):
        """Eight images of a model, or the embeddings of eight images, on the CPU."""
        torch, seeds, task = self.torch, list(range(8)), model.kind().task
        if task in ("text-to-image", "class-to-image"):
            *_, last = model.generate_batch([PROMPT] * 8 if task[0] == "t" else [str(i) for i in seeds], seeds)
            return last.images.float().cpu()
        if task == "unconditional":
            return model.sample(seeds)
        coarse = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
        images = torch.nn.functional.interpolate(coarse, (model.size, model.size))
        return model.translate(images) if task == "image-to-image" else model.embed_image(images)

    def timing(self, name: str, line: str, stages: tuple[str, ...]) -> None:
        """Checks the speed of every stage."""
        folder, save_every = self.folder / f"timed-{name}", 0.5 if self.args.quick else 1.5
        line = f"train {line} --eval_count 1 --save_every {save_every}"

        def begin() -> None:
            """One batch for every stage, after which each can be trained by its name."""
            self.command(f"{line} --total_images 1", "-o", str(folder))
            self.names[name] = str(folder)

        if stages[0]:
            self.check("speed", f"{name} begins", begin)
        for stage in stages:
            options = f"--stage {stage} --fit_{stage}" if stage else "--fit"
            full = f"{line} {options}.total_images {10**12}"
            self.check("speed", f"{name} {stage}".strip(), partial(self.speed, full, folder))

    def speed(self, line: str, folder: Path) -> dict:
        """Measured between two checkpoints: one soon after the start, and the one that answers SIGINT."""
        cuda, old, busy, done = self.torch.cuda, set(folder.glob(STEPS)), [], threading.Event()

        def watch() -> None:
            while self.on_gpu and not done.wait(0.1):
                busy.append(cuda.utilization())

        if self.on_gpu:
            cuda.reset_peak_memory_stats()
        threading.Thread(target=watch, daemon=True).start()
        try:
            place = self.interrupted(line, folder, lambda p: p not in old, 0.5 if self.args.quick else 1.2)
        finally:
            done.set()
        places = sorted(set(place.parent.glob("step-*")) - old)[-2:]
        first, last = (json.loads((p / "state.json").read_text()) for p in places)
        seconds = last["seconds"] - first["seconds"]
        row = {"stage": place.parent.name, "images/s": (last["images"] - first["images"]) / seconds}
        row["steps/s"] = (last["count"] - first["count"]) / seconds
        if self.on_gpu:
            row |= {"GB": cuda.max_memory_allocated() / 1e9, "busy %": sorted(busy or [0])[len(busy) // 2]}
        return row

    def sampling(self, name: str, batch: int, bf16: bool) -> dict:
        """Images a second from prompts, at 12 steps."""
        import condgen

        model, torch = condgen.load(self.names.get(name)).to(self.args.device), self.torch

        def seconds() -> float:
            began = time.perf_counter()
            *_, last = model.generate_batch([PROMPT] * batch, list(range(batch)), steps=12)
            last.images.cpu()
            return time.perf_counter() - began

        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            seconds()
            if self.on_gpu:
                torch.cuda.reset_peak_memory_stats()
            runs = sorted(seconds() for _ in range(1 if self.args.quick else 5))
        memory = {"GB": torch.cuda.max_memory_allocated() / 1e9} if self.on_gpu else {}
        return {"images/s": batch / runs[len(runs) // 2], "ms": runs[len(runs) // 2] * 1000} | memory


def draw(folder: Path, n: int) -> None:
    """Writes coloured circles and squares of 64 pixels, with captions."""
    from PIL import Image, ImageDraw

    folder.mkdir()
    lines = []
    for i in range(n):
        colour, shape = ("red", "green", "blue", "orange", "purple")[i % 5], ("circle", "square")[i // 5 % 2]
        image, x, y = Image.new("RGB", (64, 64), "white"), i * 7 % 32, i * 11 % 32
        pen = ImageDraw.Draw(image)
        (pen.ellipse if shape == "circle" else pen.rectangle)((x, y, x + 30, y + 30), colour)
        image.save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"a {colour} {shape}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def line_of(row: dict) -> str:
    """A row in one line."""
    values = {k: v for k, v in row.items() if k not in ("part", "check", "ok", "trace")}
    text = ", ".join(f"{k} {v:,.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
    return f"{'ok  ' if row['ok'] else 'FAIL'} {row['part']}: {row['check']}: {text}"


def table(about: dict, rows: list[dict]) -> str:
    """All rows in Markdown, a table for every part."""
    lines = [", ".join(f"{k}: {v}" for k, v in about.items())]
    for part in dict.fromkeys(row["part"] for row in rows):
        of_part = [row for row in rows if row["part"] == part]
        keys = [k for k in dict.fromkeys(k for row in of_part for k in row) if k not in ("part", "trace")]
        lines += ["", f"## {part}", "", f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
        for row in of_part:
            cells = [f"{v:,.4g}" if isinstance(v, float) else str(v) for v in (row.get(k, "") for k in keys)]
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="fewer images, no base sizes")
    parser.add_argument("--fp32", action="store_true", help="train in single precision, to compare with bfloat16")
    parser.add_argument("--only", default="", metavar="REGEX", help="checks whose name matches")
    parser.add_argument("--part", nargs="+", default=PARTS, choices=PARTS)
    args = parser.parse_args()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # training takes the GPU that it sees
    if args.fp32:
        import torch

        torch.cuda.is_bf16_supported = lambda *args, **kwargs: False  # a process trains in one precision
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(args, Path(folder))
        for training in TRAININGS:
            checks.check("training", training[0], partial(checks.training, *training))
        for tf32, bf16 in ((False, False), (True, False), (True, True)) if checks.on_gpu else ((False, False),):
            name = f"package model{' tf32' if tf32 else ''}{' bf16' if bf16 else ''}"
            checks.check("training", name, partial(checks.compare, name, None, tf32, bf16))
        for line in COMMANDS.splitlines():
            checks.check("commands", line, partial(checks.command, line, "--device", args.device))
        for timed in TIMED[: 3 if args.quick else None]:
            checks.timing(*timed)
        for name in ("scenes32", "captions-base")[: 1 if args.quick else None]:
            for batch in (1, 16) if args.quick else (1, 16, 256):
                for bf16 in (False, True) if checks.on_gpu else (False,):
                    label = f"generate {name}, batch {batch}, {'bf16' if bf16 else 'fp32'}"
                    checks.check("speed", label, partial(checks.sampling, name, batch, bf16))
    failed = [row["check"] for row in checks.rows if not row["ok"]]
    print(f"{len(checks.rows)} checks in {time.perf_counter() - began:.0f} s, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
