"""`condgen embed MODEL --data PATH -o OUT`: embeddings of images and captions, computed once and kept."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from condgen.cli.data import add_read_options, read_options_of
from condgen.cli.terminal import add_device_argument, check_device, check_folder, human, progress_bar, show_json
from condgen.contracts import CondgenError

HELP = "compute the embeddings of captioned images once, to train priors and decoders from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The encoder, the images, and how they are read."""
    text = "a name that `condgen list` shows, a path, a training run that has its encoder, or an encoder of another "
    text += "library: local-dir:PATH, transformers:PATH, hf-hub:OWNER/NAME"
    parser.add_argument("model", nargs="?", metavar="MODEL", help=text)
    parser.add_argument("--data", default="", metavar="PATH", help="captioned images: a folder, a file, shards")
    text = "folder; running the command again continues it"
    parser.add_argument("-o", "--out", type=Path, metavar="OUT", help=text)
    parser.add_argument("--split", default="train", help="part of the data (default train)")
    names = "image_column caption_column split_column filter column_types value_range resize max_bad_fraction"
    add_read_options(parser, names)
    parser.add_argument("--size", type=int, metavar="S", help="edge of the images, for encoders that scale them")
    add_device_argument(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the folder."""
    if not args.data or args.out is None:
        raise CondgenError("Give the images with --data PATH and the folder of the embeddings with -o OUT.")
    check_folder(args.out)
    from condgen.data.embeddings.compute import embed, load_encoder
    from condgen.data.sources.captions import open_captioned

    clip, tokenizer = load_encoder(args.model)
    options = read_options_of(args)
    data = open_captioned(args.data, args.size or clip.size, stream="shards", split=args.split, **options)
    check_device(args.device)
    with progress_bar("embedding") as progress:
        reading = json.dumps([args.split, data.size, options])
        embeds = embed(clip.to(args.device), tokenizer, data, args.out, progress, reading)
    size = sum(file.stat().st_size for file in args.out.glob("embeds-*.safetensors"))
    about = embeds.about
    if args.json:
        facts = {"path": str(args.out), "images": len(embeds), "space": about.space, "embed_dim": about.embed_dim}
        show_json(facts | {"data": about.data, "digest": about.digest, "bytes": size})
    else:
        print(f"{args.out}  {len(embeds):,} images of {about.data}, space {about.space}, {human(size)}")
    return 0
