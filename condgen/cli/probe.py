"""`condgen probe IMAGE`: what an image embedding says, and what the priors draw for the captions nearest to it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from condgen.cli.editing import add_editing_arguments, open_model, options_of
from condgen.cli.terminal import progress_bar, save_sheet, say, show_json, table

if TYPE_CHECKING:
    from condgen.pipelines.editing.probe import Probe

HELP = "show what an image embedding says: principal components, nearest captions, priors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The image, and data whose embeddings and captions are taken."""
    parser.add_argument("image", metavar="IMAGE", help="an image file")
    text = "images, with captions or without, whose embeddings and captions are taken (default: what the model draws)"
    parser.add_argument("--data", default="", metavar="PATH", help=text)
    parser.add_argument("--split", default="all", help="split of the data (default all)")
    add_editing_arguments(parser, "probe", "print the result as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the captions and words, and writes the images and a sheet."""
    model = open_model(args)
    from condgen.pipelines.editing.base import InputImage

    options = options_of(args, model.decoder.sampling_options)
    image = InputImage.read(model, args.image)
    embeds, texts = None, None
    with progress_bar("probing", quiet=args.json) as progress:
        if args.data:
            embeds, texts = embeddings_of(model, args.data, args.split, progress)
        found = model.probe(image, embeds, texts, args.seed, progress, **options)
    paths = [str(one.save(args.out)) for one in [*found.reconstructions, *found.drawn]]
    report = {"image": image.name, "embeddings": found.embeddings} | tables_of(found, paths)
    if args.json:
        show_json(report)
    else:
        print("\n".join(lines_of(report)))
    cells = [(image.image(), image.name)]
    for one, row in zip(found.reconstructions, report["components"]):
        cells.append((one.image, f"{row['dims']} of {len(one.recipe['z'])} dimensions, {row['explained']:.0%}"))
    columns = len(cells)
    for one, row in zip(found.drawn, report["priors"]):
        cells.append((one.image, f"{row['prior']}: {row['prompt']}, {row['similarity']:.2f}"))
    say(f"sheet: {save_sheet(cells, len(cells), args.out, columns)}")
    return 0


def tables_of(found: Probe, paths: list[str]) -> dict[str, list[dict]]:
    """The numbers of a probe as rows, with the paths of its images."""
    parts = zip(found.reconstructions, found.explained, found.cosines, paths)
    drawn = zip(found.drawn, found.similarities, paths[len(found.reconstructions) :])
    texts = {"captions": found.captions, "words": found.words}
    return {
        "components": [
            {"dims": one.recipe["dims"], "explained": round(share, 4), "cosine": round(cosine, 4), "path": path}
            for one, share, cosine, path in parts
        ],
        **{name: [{"text": text, "cosine": round(cosine, 4)} for text, cosine in own] for name, own in texts.items()},
        "priors": [
            {"prior": one.recipe["prior"], "prompt": one.prompt, "similarity": round(score, 4), "path": path}
            for one, score, path in drawn
        ],
    }


def lines_of(report: dict) -> list[str]:
    """The report for people; without captions, words and priors where the model reads no text."""
    rows = [(row["dims"], f"{row['explained']:.0%}", f"{row['cosine']:.3f}") for row in report["components"]]
    lines = [f"components of {report['embeddings']} embeddings", *table([("dimensions", "variance", "cosine"), *rows])]
    for name in ("captions", "words"):
        own = [(f"{row['cosine']:.3f}", row["text"]) for row in report[name]]
        lines += [f"nearest {name}", *table(own)] if own else []
    drawn = [(f"{row['similarity']:.3f}", row["prior"], row["prompt"]) for row in report["priors"]]
    return lines + (["similarity of what the priors draw", *table(drawn)] if drawn else [])


def embeddings_of(model, data: str, split: str, progress):
    """Embeddings (N, D) of the images of a path, and their captions or labels; None where there are none."""
    import torch

    from condgen.retrieval.search import encode

    vectors = encode(model, data=data, split=split, progress=progress)
    rows = vectors.rows()
    texts = [text for row in rows for text in (row.get("caption") or [row.get("label")]) if text]
    return torch.from_numpy(vectors.embeds.copy()).to(model.device), list(dict.fromkeys(texts)) or None
