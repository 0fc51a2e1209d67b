"""`condgen probe IMAGE`: what an image embedding says, and what the priors draw for the captions nearest to it."""

from __future__ import annotations

import argparse

from condgen.cli.editing import add_editing_arguments, open_model, options_of
from condgen.cli.terminal import progress_bar, save_sheet, say, show_json, table

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
    dims = [one.recipe["dims"] for one in found.reconstructions]
    rows = [
        {"dims": k, "explained": round(share, 4), "cosine": round(cosine, 4), "path": path}
        for k, share, cosine, path in zip(dims, found.explained, found.cosines, paths)
    ]
    drawn = [
        {"prior": one.recipe["prior"], "prompt": one.prompt, "similarity": round(score, 4), "path": path}
        for one, score, path in zip(found.drawn, found.similarities, paths[len(dims) :])
    ]
    texts_found = {name: [{"text": text, "cosine": round(score, 4)} for text, score in getattr(found, name)]
                   for name in ("captions", "words")}  # fmt: skip
    if args.json:
        result = {"image": image.name, "embeddings": found.embeddings, "components": rows}
        show_json(result | texts_found | {"priors": drawn})
    else:
        print(f"components of {found.embeddings} embeddings")
        print("\n".join(table([("dimensions", "variance", "cosine"), *((r["dims"], f"{r['explained']:.0%}", r["cosine"])
                                                                      for r in rows)])))  # fmt: skip
        for name, some in texts_found.items():
            print("\n".join([f"nearest {name}", *table((one["cosine"], one["text"]) for one in some)]))
        print("\n".join(["priors", *table((one["similarity"], one["prior"], one["prompt"]) for one in drawn)]))
    cells = [(image.image(), image.name)]
    shares = [f"{row['dims']} of {dims[-1]} dimensions, {row['explained']:.0%}" for row in rows]
    cells += [(one.image, share) for one, share in zip(found.reconstructions, shares)]
    columns = len(cells)
    cells += [(one.image, f"{r['prior']}: {r['prompt']}, {r['similarity']:.2f}") for one, r in zip(found.drawn, drawn)]
    say(f"sheet: {save_sheet(cells, len(cells), args.out, columns)}")
    return 0


def embeddings_of(model, data: str, split: str, progress):
    """Embeddings (N, D) of the images of a path, and their captions or labels; None where there are none."""
    import torch

    from condgen.retrieval.search import encode

    vectors = encode(model, data=data, split=split, progress=progress)
    rows = vectors.rows()
    texts = [text for row in rows for text in (row.get("caption") or [row.get("label")]) if text]
    return torch.from_numpy(vectors.embeds.copy()).to(model.device), list(dict.fromkeys(texts)) or None
