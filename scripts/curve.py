"""Plots SceneEval scores of a run of scenes over the images seen, for seen and held-out combinations.

python scripts/curve.py runs/scenes docs/images/curve.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def scores(run: Path) -> dict[str, list[tuple[int, float]]]:
    """`side/score` -> (images seen, value), from `metrics.jsonl`."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for name, value in entry.items():
            if name.startswith(("seen/", "held_out/")):
                curves.setdefault(name, []).append((entry["images"], value))
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = scores(args.run)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    tasks = [name.removeprefix("seen/") for name in curves if name.startswith("seen/")]
    for axis, side in zip(axes, ("seen", "held_out")):
        for task in tasks:
            x, y = zip(*curves[f"{side}/{task}"])
            strong = task == "overall"
            axis.plot([n / 1000 for n in x], y, label=task.replace("_", " "), lw=2.5 if strong else 1,
                      color="black" if strong else None, alpha=1 if strong else 0.7)  # fmt: skip
        axis.set(title=side.replace("_", " ") + " combinations", xlabel="thousand images seen", ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("SceneEval")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
