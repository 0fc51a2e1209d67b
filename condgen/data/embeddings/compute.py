"""Computes the embeddings of captioned images once, so that priors and decoders can train without the encoder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from condgen.contracts import CondgenError, Encoder, ProgressCallback
from condgen.data.batches.base import to_float
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.embeddings.store import MANIFEST, UNIT, About, Embeds, Unit, Writer
from condgen.data.progress import Clock
from condgen.data.streaming.stream import Sample, Stream, text_number
from condgen.distributed import locked
from condgen.encoders.interop.load import open_encoder, reads_size
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.registry import DEFAULT
from condgen.files.weights import fingerprint

PART = 64 * UNIT
"""Images per file."""


def load_encoder(path_or_name: str | Path | None) -> tuple[Encoder, Tokenizer]:
    """Loads an encoder and its tokenizer from a model, from a training run that has one, or from another library."""
    return open_encoder(DEFAULT if path_or_name is None else path_or_name)


def samples(data: Stream | CaptionedImages, first: int, count: int) -> Iterator[Sample]:
    """Yields images `first` to `first + count`, in order."""
    if isinstance(data, Stream):
        yield from data.samples(first, count)
        return
    for number in range(first, min(first + count, len(data))):
        captions = tuple(data.texts[i] for i in data.captions[number] if i >= 0)
        yield Sample(data.images[number], captions, number)


def embed(
    clip: Encoder,
    tokenizer: Tokenizer,
    data: Stream | CaptionedImages,
    folder: Path | str,
    progress: ProgressCallback = lambda share, message: None,
    reading: str = "",
) -> Embeds:
    """Writes the embeddings of all images and captions, see `data.embeddings.store`; finished files are kept.

    Args:
        clip: the encoder, on the device to compute on.
        data: images of the size that the encoder reads, or of any size if it scales them itself.
        progress: called with progress.
        reading: how the images are read, as text. Parts that were read so are made anew, with a warning, if images or
            captions have changed; otherwise other images are refused.

    Raises:
        CondgenError: wrong image size, the folder holds embeddings of another encoder or of other images, another
            process writes into it, or the disk is full.
    """
    if not reads_size(clip, data.size):
        raise CondgenError(f"The encoder reads {clip.size} x {clip.size} pixels, not {data.size}.")
    width = data.width if isinstance(data, Stream) else data.captions.shape[1]
    content = data.content if isinstance(data, Stream) else ""
    about = About(fingerprint(clip), data.name, data.digest, clip.embed_dim, clip.context, width, content, reading)
    writer, parts = Writer(Path(folder), about), range(-(-len(data) // PART))
    missing = [part for part in parts if not writer.has(part)]
    if missing:
        with locked(writer.folder):
            (writer.folder / MANIFEST).unlink(missing_ok=True)  # describes other parts
            _write(writer, clip, tokenizer, data, missing, progress)
    return writer.finish(len(parts))


def _write(
    writer: Writer, clip: Encoder, tokenizer: Tokenizer, data: Stream | CaptionedImages, missing: list[int],
    progress: ProgressCallback,
) -> None:  # fmt: skip
    clock = Clock(progress, len(data), len(data) - sum(min(PART, len(data) - part * PART) for part in missing))
    for part in missing:
        units, own = [], samples(data, part * PART, PART)
        while some := list(islice(own, UNIT)):
            units.append(_unit(clip, tokenizer, some, writer.about.width))
            clock.add(len(some))
        writer.write(part, units)


@torch.inference_mode()
def _unit(clip: Encoder, tokenizer: Tokenizer, some: list[Sample], width: int) -> Unit:
    device = clip.log_scale.device
    texts = list(dict.fromkeys(text for sample in some for text in sample.captions))
    place = {text: i for i, text in enumerate(texts)}
    captions = torch.full((len(some), width), -1, dtype=torch.int32)
    for row, sample in enumerate(some):
        captions[row, : len(sample.captions)] = torch.tensor([place[text] for text in sample.captions])
    tokens = torch.from_numpy(tokenizer.encode(texts))
    images = to_float(torch.stack([torch.from_numpy(sample.image) for sample in some]))
    return Unit(
        clip.embed_image(images.to(device)).float().cpu(),
        captions,
        clip.embed_text(tokens.to(device)).float().cpu(),
        tokens.int(),
        torch.tensor([text_number(text) for text in texts]),
    )
