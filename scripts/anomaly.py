"""Anomaly detection: trains three autoencoders without each class of Fashion-MNIST, and measures whether they find it.

    python scripts/anomaly.py runs/anomaly --data fashion-mnist

Trains an autoencoder, a denoising and a variational one of the same body without each class, and writes the AUROC of
every score as `anomaly.json`, `anomaly.md` and `anomaly.png`, with sheets of the images with the highest scores.
Running it again continues where it stopped. Other labelled images work too; --classes and --kinds select some of all.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import condgen
from condgen.data.sources.open_images import open_any
from condgen.evaluation.report import section
from condgen.files.images import slug, write_bytes
from condgen.latent_space import anomaly
from condgen.latent_space.inputs import ImageSource
from condgen.latent_space.result import figure_png
from condgen.recipes import find_recipe

KINDS = {"AE": "pictures-ae", "DAE": "pictures-dae", "VAE": "pictures-vae"}
"""Name -> recipe; the body is an option."""


def trained(recipe: str, out: Path, data: str, name: str, body: str, images: int, seed: int) -> Path:
    """A model trained without a class."""
    base = find_recipe(recipe).config(data=data, total_images=images, seed=seed, eval_count=1)
    base = replace(base, autoencoder=replace(base.autoencoder, body=body))
    return condgen.train(recipe, out, replace(base, data=replace(base.data, exclude_classes=name)))


def scored(model, data: str, name: str, folder: Path, false_alarms: float) -> dict[str, dict[str, float]]:
    """Every score of one model, on the test images."""
    found = anomaly(model, *ImageSource(model, data).anomalies(name), false_alarms)
    found.save(folder)
    return found.numbers["anomaly"]


def tables(rows: dict[str, dict[str, dict[str, dict[str, float]]]]) -> dict[str, dict[str, dict[str, float]]]:
    """kind -> class -> score -> its numbers, as one table a measure: class -> `kind, score` -> number."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for measure in ("AUROC", "anomalies found", "false alarms"):
        table = out.setdefault(measure, {})
        for kind, classes in rows.items():
            for name, scores in classes.items():
                line = table.setdefault(name, {})
                for score, numbers in scores.items():
                    column = score if score == "nearest training image" else f"{kind}, {score}"
                    line[column] = numbers[measure]
        columns = dict.fromkeys(column for line in table.values() for column in line)
        values = {column: [line[column] for line in table.values() if column in line] for column in columns}
        table["mean"] = {column: sum(own) / len(own) for column, own in values.items()}
    return out


def bars(auroc: dict[str, dict[str, float]]) -> bytes:
    """Bars of the AUROC of every class, one for each score, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scores = [*auroc["mean"]]
    figure, axes = pyplot.subplots(figsize=(13, 4.5), dpi=110)
    for k, score in enumerate(scores):
        places = [i + (k - len(scores) / 2) * 0.85 / len(scores) for i in range(len(auroc))]
        axes.bar(places, [line.get(score, 0) for line in auroc.values()], 0.85 / len(scores), label=score)
    axes.axhline(0.5, color="black", linewidth=0.8)
    axes.set_xticks(range(len(auroc)), [*auroc], rotation=20)
    axes.set_ylabel("AUROC; .5 is chance")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=7, ncol=3, loc="lower right")
    return figure_png(figure)


def write(out: Path, rows: dict, how: str) -> str:
    """Writes the three files; returns the Markdown."""
    found = tables(rows)
    lines = ["# Anomaly detection by autoencoders", "", f"Each was trained on {how}, without one class.", ""]
    for measure, table in found.items():
        lines += section(measure, table, "##")
    write_bytes(out / "anomaly.json", (json.dumps({"trained_on": how, "by_kind": rows} | found, indent=2)).encode())
    write_bytes(out / "anomaly.md", "\n".join(lines).encode())
    write_bytes(out / "anomaly.png", bars(found["AUROC"]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True, help="labelled images")
    parser.add_argument("--images", type=int, default=200_000, help="images every model sees (default 200000)")
    parser.add_argument("--body", choices=("mlp", "conv"), default="mlp", help="of every model (default mlp)")
    parser.add_argument("--classes", default="", help="names with commas between them (default all)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}, with commas between them")
    parser.add_argument("--false-alarms", type=float, default=0.05, help="share that the threshold is set by")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    labels = next(a for a in open_any(args.data, split="test").attributes if a.name == "label").values
    how, kept = f"{args.images:,} images ({args.body})", args.out / "scores.json"
    done = json.loads(kept.read_text()) if kept.exists() else {}
    for name in args.classes.split(",") if args.classes else labels:
        for kind in args.kinds.split(","):
            if name in done.get(kind, {}):
                continue
            run = args.out / "runs" / f"{kind.lower()}-without-{slug(name)}"
            model = condgen.load(trained(KINDS[kind], run, args.data, name, args.body, args.images, args.seed))
            sheet = args.out / "sheets" / f"{kind.lower()}-{slug(name)}"
            done.setdefault(kind, {})[name] = scored(model, args.data, name, sheet, args.false_alarms)
            write_bytes(kept, json.dumps(done, indent=2).encode())
            write(args.out, done, how)
    print(write(args.out, done, how))


if __name__ == "__main__":
    main()
