"""Embeddings of captioned images on disk: computed once, then trained from without the encoder or the images.

manifest.json               space, sizes, statistics of the image embeddings, files; written last
embeds-00000.safetensors    one file for consecutive images:
    image_embed  float32 (N, D), one row for each image
    captions     int32 (N, C), for every image the rows of its texts below, -1 for none
    text_embed   float32 (T, D), tokens int32 (T, L), text_id int64 (T,): the distinct texts of every UNIT images

Every file holds the digest of its tensors, which is compared when the embeddings are opened; files of earlier versions
have none. A unit of UNIT images is read at once and few units are cached, so that memory does not grow with the data.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from condgen.contracts import Batch, CondgenError, CondgenWarning, to_json
from condgen.data.batches.base import Batches, BlockOrder, Window
from condgen.files import renamed
from condgen.files.weights import config_from, json_text, read_json, tensors_hash, write_json

UNIT = 256
HELD_BYTES = 128_000_000
MANIFEST, FORMAT = "manifest.json", 1
CHANGING = {"digest", "content", "width", "reading"}
"""Fields of `About` that differ when images or captions change, or how they are read."""
KEY = "condgen"
"""Key of the facts in the header of a file: one, since safetensors writes several in any order."""
NAMES = ("image_embed", "captions", "text_embed", "tokens", "text_id")


@dataclass(frozen=True)
class About:
    """The encoder and the data that embeddings belong to, and their sizes.

    Args:
        space: fingerprint of the encoder that made them.
        data: name of the data.
        digest: identifies the images and how they were read, see `data.streaming.stream.Stream.digest`.
        embed_dim: size D of an embedding.
        context: number L of tokens of a text.
        width: maximum number C of captions per image.
        content: identifies the content of shards, see `data.streaming.stream.Stream.content`; "" for other data.
        reading: how the images were read, as text; "" if unknown.
    """

    space: str
    data: str
    digest: str
    embed_dim: int
    context: int
    width: int
    content: str = ""
    reading: str = ""


@dataclass(frozen=True)
class Unit:
    """Embeddings of up to UNIT images; `captions` indexes the rows of the text arrays, -1 for none."""

    image_embed: Tensor
    captions: Tensor
    text_embed: Tensor
    tokens: Tensor
    text_id: Tensor


class Writer:
    """Writes embeddings part by part; keeps existing parts of the same encoder and images.

    Raises:
        CondgenError: the folder holds embeddings of another encoder or of other images, or cannot be written.
    """

    def __init__(self, folder: Path, about: About):
        self.folder, self.about = folder, about
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CondgenError(f"The folder {folder} cannot be written ({error.strerror}). Choose another.") from None

    def path(self, part: int) -> Path:
        return self.folder / f"embeds-{part:05}.safetensors"

    def has(self, part: int) -> bool:
        """Whether a part exists, is sound, and belongs to the data as they are now.

        Warns of a part that is to be made anew.
        """
        path = self.path(part)
        if not path.exists():
            return False
        tags = _tags(path)
        if tags is None:
            return False  # truncated by a crash: written again
        wanted = {name: str(value) for name, value in asdict(self.about).items()}
        differences = {k: f"{k} {tags.get(k)}, not {v}" for k, v in wanted.items() if tags.get(k, "") != v}
        same_reading = self.about.reading and "reading" not in differences
        if differences.keys() - CHANGING or ("digest" in differences and not same_reading):
            raise CondgenError(
                f"{path} holds other embeddings ({'; '.join(differences.values())}): of another encoder or of other "
                "images, or these were read in another way. Choose another folder, or delete this one."
            )
        why = ""
        if "sha256" not in tags:
            why = "an earlier version wrote them, without checksums"
        elif differences.keys() - {"reading"}:
            why = f"the images or captions of {self.about.data} have changed"
        elif not _is_sound(path, tags):
            why = f"{path.name} is damaged"
        if why:
            text = f"The embeddings in {self.folder} are computed anew: {why}."
            warnings.warn(text, CondgenWarning, stacklevel=3)
        return not why

    def write(self, part: int, units: list[Unit]) -> None:
        """Writes a part atomically."""
        shift, captions = 0, []
        for unit in units:
            captions.append(torch.where(unit.captions < 0, -1, unit.captions + shift))
            shift += len(unit.text_id)
        tensors = {name: torch.cat([getattr(unit, name) for unit in units]).contiguous() for name in NAMES}
        tensors["captions"] = torch.cat(captions).contiguous()
        aside = self.path(part).with_suffix(".tmp")
        try:
            tags = {name: str(value) for name, value in asdict(self.about).items()} | {"sha256": tensors_hash(tensors)}
            save_file(tensors, aside, metadata={KEY: to_json(tags)})
            with open(aside, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(aside, self.path(part))
        except (OSError, SafetensorError) as error:
            aside.unlink(missing_ok=True)
            raise CondgenError(
                f"{self.path(part)} could not be written ({error}). Free some space and give the same command again."
            ) from None

    def finish(self, parts: int) -> Embeds:
        """Writes the manifest, with the statistics of all image embeddings, and opens the embeddings."""
        count, mean, spread, files = 0, 0.0, 0.0, []
        for part in range(parts):
            with safe_open(self.path(part), "pt") as file:
                own = file.get_tensor("image_embed").double()
                n, m = len(own), own.mean(0)
            # combines moments as Chan, Golub and LeVeque do, which is numerically stable
            step = m - mean
            spread = spread + ((own - m) ** 2).sum(0) + step**2 * count * n / (count + n)
            mean, count = mean + step * n / (count + n), count + n
            files.append({"file": self.path(part).name, "images": n, "bytes": self.path(part).stat().st_size})
        sd = (spread / max(count - 1, 1)).sqrt().clamp(min=1e-4)
        normalizer = {"mean": mean.tolist(), "sd": sd.tolist()}
        manifest = {"format": FORMAT, **asdict(self.about), "images": count, "normalizer": normalizer, "files": files}
        manifest["sha256"] = _text_digest(manifest)
        path = self.folder / MANIFEST
        if not path.exists() or path.read_text("utf-8") != json_text(manifest):
            write_json(path, manifest)
        for rest in set(self.folder.glob("embeds-*.safetensors")) - set(map(self.path, range(parts))):
            rest.unlink(missing_ok=True)  # of data that were larger
        return Embeds(self.folder, check=False)


def _tags(path: Path) -> dict[str, str] | None:
    """The facts in the header of a file; None if it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            tags = file.metadata() or {}
        return json.loads(tags[KEY]) if KEY in tags else tags
    except (SafetensorError, OSError, ValueError):
        return None


def _is_sound(path: Path, tags: dict[str, str]) -> bool:
    """Whether the tensors of a file have the digest in its header; true of older files, which have none."""
    if "sha256" not in tags:
        return True
    try:
        with safe_open(path, "pt") as file:
            return tags["sha256"] == tensors_hash({name: file.get_tensor(name) for name in NAMES})
    except (SafetensorError, OSError, ValueError, RuntimeError):
        return False


def _text_digest(manifest: dict[str, Any]) -> str:
    plain = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json_text(plain).encode()).hexdigest()


class Embeds:
    """Embeddings that `Writer` wrote.

    Raises:
        CondgenError: not finished, or a file is missing or damaged; the message names it.

    Args:
        check: whether to compare the digests of the files, which reads them.
    """

    def __init__(self, folder: Path | str, check: bool = True):
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if not path.is_file():
            raise CondgenError(
                f"{folder} holds no finished embeddings: there is no {path}. Make them: condgen embed MODEL "
                f"--data PATH -o {folder}."
            )
        written = read_json(path)
        manifest = renamed.manifest(written)
        try:
            known = {name: manifest[name] for name in ("content", "reading") if name in manifest}
            names = ("space", "data", "digest", "embed_dim", "context", "width")
            self.about = config_from(About, {name: manifest[name] for name in names} | known, path)
            self.mean, self.sd = (torch.tensor(manifest["normalizer"][name]).float() for name in ("mean", "sd"))
            files = [
                (self.folder / Path(file["file"]).name, file["images"], file["bytes"]) for file in manifest["files"]
            ]
            self._ends = np.cumsum([images for _, images, _ in files])
            whole = manifest["format"] == FORMAT and self.mean.shape == self.sd.shape == (self.about.embed_dim,)
            whole = whole and written.get("sha256", "") in ("", _text_digest(written))
        except (TypeError, LookupError, ValueError, AttributeError):
            whole = False
        if not whole or not files:
            raise CondgenError(f"{path} does not describe embeddings of format {FORMAT}. Make them again.")
        for file, _, size in files:
            if not file.is_file() or file.stat().st_size != size or (check and not self._is_ours(file)):
                raise CondgenError(f"{file} is missing or damaged. Give `condgen embed` again.")
        self._files = [file for file, _, _ in files]
        units = [(f, n) for f, (_, images, _) in enumerate(files) for n in range(0, images, UNIT)]
        self._places = units
        self.counts = np.array([min(UNIT, files[f][1] - n) for f, n in units])
        self._starts = np.cumsum(self.counts) - self.counts
        self._held: OrderedDict[int, Unit] = OrderedDict()

    def _is_ours(self, file: Path) -> bool:
        """Whether a file is sound and one of these embeddings."""
        tags = _tags(file)
        if tags is None or not _is_sound(file, tags):
            return False
        about = {k: str(v) for k, v in asdict(self.about).items() if k != "reading"}
        return "sha256" not in tags or about.items() <= tags.items()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def check(self, space: str, digest: str = "", content: str = "") -> None:
        """Raises `CondgenError` if the embeddings belong to another encoder or to other images.

        Args:
            space, digest, content: see `About`; digest and content are not compared where they are empty.
        """
        if self.about.space != space:
            raise CondgenError(
                f"{self.folder} holds embeddings of the encoder {self.about.space}; the encoder here is {space}. Make "
                "them with this one (condgen embed), or start from the run they were made with (--init_from RUN)."
            )
        changed = content and self.about.content and self.about.content != content
        if changed or (digest and self.about.digest != digest):
            raise CondgenError(
                f"{self.folder} holds embeddings of other images ({self.about.data}, {self.about.digest}) than those "
                f"given now ({digest}), images or captions have changed, or they were read in another way. Make them "
                "again with the same --data, split, columns and size."
            )

    def image(self, rows: Tensor) -> Tensor:
        """Reads the image embeddings of the images `rows`, (B, D)."""
        return self._gather(rows, lambda unit, places: unit.image_embed[places], self.about.embed_dim)

    def text(self, rows: Tensor, caption: Tensor) -> Tensor:
        """Reads the embeddings of caption `caption[i]` of image `rows[i]`, (B, D)."""
        width = self.about.width

        def texts(unit: Unit, places: Tensor, which: Tensor) -> Tensor:
            return unit.text_embed[unit.captions[places, which].long()]

        if len(caption) and int(caption.max()) >= width:
            raise CondgenError(
                f"{self.folder} has {width} captions per image, but caption {int(caption.max()) + 1} was requested."
            )
        return self._gather(rows, texts, self.about.embed_dim, caption)

    def _gather(self, rows: Tensor, of, dim: int, *more: Tensor) -> Tensor:
        out = torch.empty(len(rows), dim)
        for unit, slots, places in self.units(rows):
            out[slots] = of(unit, places, *(extra[slots] for extra in more))
        return out

    def units(self, rows: Tensor) -> Iterator[tuple[Unit, Tensor, Tensor]]:
        """Yields the units that contain `rows`: (unit, which of `rows` are in it, their places in it)."""
        numbers = np.searchsorted(self._starts, rows.numpy(), "right") - 1
        for number in np.unique(numbers):
            slots = torch.from_numpy(np.flatnonzero(numbers == number))
            yield self.unit(int(number)), slots, rows[slots] - int(self._starts[number])

    def unit(self, number: int) -> Unit:
        """Loads a unit, from the cache if it is there."""
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        unit = self._held[number] = self._read(number)
        size = sum(getattr(unit, name).nbytes for name in NAMES)
        while len(self._held) > max(8, HELD_BYTES // size):
            self._held.popitem(last=False)
        return unit

    def _read(self, number: int) -> Unit:
        file, first = self._places[number]
        last = first + int(self.counts[number])
        try:
            with safe_open(self._files[file], "pt") as tensors:
                image_embed, captions = (tensors.get_slice(name)[first:last] for name in NAMES[:2])
                low, high = int(captions[captions >= 0].min()), int(captions.max()) + 1
                text_embed, tokens, text_id = (tensors.get_slice(name)[low:high] for name in NAMES[2:])
        except (SafetensorError, OSError, ValueError, RuntimeError, IndexError) as error:
            raise CondgenError(f"{self._files[file]} is damaged ({error}). Delete it, and embed again.") from None
        return Unit(image_embed, torch.where(captions < 0, -1, captions - low), text_embed, tokens, text_id)


class EmbedBatches(Batches):
    """Embeddings to train a prior on: every image with one of its captions; no image is opened.

    A batch holds `image_embed` and `text_embed` (B, D), `tokens` (B, L), `text_id` (B,), `true_ids` (B, C), and `row`
    (B,), the indices of the images.

    Args:
        embeds: the embeddings.
        buffer: size of the shuffle buffer in images, see `data.batches.base.BlockOrder`.
        batch, seed, options: see `Batches`.
    """

    def __init__(self, embeds: Embeds, batch: int, seed: int, buffer: int = 8192, **options: Any):
        super().__init__(BlockOrder(embeds.counts, buffer, seed), batch, seed, **options)
        self.embeds = embeds

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        draw = torch.from_numpy(rng.random(self.batch)[self.part])
        about, windows = self.embeds.about, self.order.windows(step * self.batch + self.part.start, len(draw))
        rows = torch.from_numpy(np.concatenate([self._rows(window, places) for window, places in windows]))
        out = {
            "row": rows,
            "image_embed": torch.empty(len(rows), about.embed_dim),
            "text_embed": torch.empty(len(rows), about.embed_dim),
            "tokens": torch.empty(len(rows), about.context, dtype=torch.long),
            "text_id": torch.empty(len(rows), dtype=torch.long),
            "true_ids": torch.full((len(rows), about.width), -1),
        }
        for unit, slots, places in self.embeds.units(rows):
            captions = unit.captions[places].long()
            chosen = (draw[slots] * (captions >= 0).sum(1)).long()
            text = captions[torch.arange(len(slots)), chosen]
            out["image_embed"][slots] = unit.image_embed[places]
            out["text_embed"][slots] = unit.text_embed[text]
            out["tokens"][slots] = unit.tokens[text].long()
            out["text_id"][slots] = unit.text_id[text]
            out["true_ids"][slots] = torch.where(captions < 0, -1, unit.text_id[captions.clamp(min=0)])
        return out

    def _rows(self, window: Window, places: range) -> np.ndarray:
        ends = np.cumsum(self.embeds.counts[window.blocks])
        own = window.places[places.start : places.stop]
        block = np.searchsorted(ends, own, "right")
        return self.embeds._starts[window.blocks[block]] + own - (ends - self.embeds.counts[window.blocks])[block]
