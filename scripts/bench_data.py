"""Measures streaming from shards: images per second, and the memory of the process.

python scripts/bench_data.py --samples 1000000

Shards are made of a few distinct tiny images with captions that are all different, below /tmp, and deleted at the
end. The memory should be the same after ten thousand samples and after a million.
"""

from __future__ import annotations

import argparse
import io
import resource
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink")


def make(folder: Path, samples: int, each: int, size: int) -> None:
    """Writes `samples` images with captions in shards of `each`."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(64):
        file = io.BytesIO()
        grey = rng.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(grey).resize((size, size), Image.Resampling.NEAREST).save(file, "PNG")
        images.append(file.getvalue())
    for number, first in enumerate(range(0, samples, each)):
        with tarfile.open(folder / f"shard-{number:05}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(first, min(first + each, samples)):
                text = f"a {COLOURS[i % 8]} pattern number {i}".encode()
                for kind, content in (("png", images[i % 64]), ("txt", text)):
                    about = tarfile.TarInfo(f"{i:09}.{kind}")
                    about.size = len(content)
                    tar.addfile(about, io.BytesIO(content))


def resident() -> float:
    """Megabytes that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak() -> float:
    """The most megabytes that it ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=20_000, help="samples of a shard")
    parser.add_argument("--size", type=int, default=32, help="edge of the images")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to make the shards; they stay there")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="shards-"))
    try:
        if not list(folder.glob("*.tar")):
            folder.mkdir(parents=True, exist_ok=True)
            began = time.perf_counter()
            make(folder, args.samples, args.each, args.size)
            size = sum(file.stat().st_size for file in folder.iterdir())
            seconds = time.perf_counter() - began
            print(f"made {args.samples:,} samples, {size / 1e9:.2f} GB, in {seconds:.0f} s", flush=True)
        stream_all(folder, args)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)


def stream_all(folder: Path, args: argparse.Namespace) -> None:
    """One epoch, with a line at every power of ten."""
    from condgen.data.sources.rows import open_source
    from condgen.data.streaming.batches import ShardBatches
    from condgen.data.streaming.stream import Stream

    print(f"everything imported: {resident():.0f} MB", flush=True)
    began = time.perf_counter()
    stream = Stream(open_source(folder), args.size, split="all")
    seconds = time.perf_counter() - began
    print(f"looked through {len(stream):,} samples in {seconds:.1f} s ({len(stream) / seconds:,.0f} a second): "
          f"{resident():.0f} MB, {len(stream.texts):,} captions kept", flush=True)  # fmt: skip
    views = ShardBatches(
        stream, lambda texts: np.zeros((len(texts), 16), np.int64), args.batch, 0, threads=args.threads
    )
    marks = [10**k for k in range(4, 10) if 10**k < len(stream)] + [len(stream)]
    began, worked, steps = time.perf_counter(), time.process_time(), len(stream) // args.batch
    print(f"{'samples':>10} {'a second':>10} {'a CPU second':>13} {'MB now':>8} {'MB peak':>8}")
    for step in range(steps):
        views(step)
        seen = (step + 1) * args.batch
        if marks and (seen >= marks[0] or step == steps - 1):
            rate, cpu_rate = seen / (time.perf_counter() - began), seen / (time.process_time() - worked)
            print(f"{seen:>10,} {rate:>10,.0f} {cpu_rate:>13,.0f} {resident():>8.0f} {peak():>8.0f}", flush=True)
            marks.pop(0)
    views.close()


if __name__ == "__main__":
    main()
