"""The last stages of a text-to-image run: upsamplers, from the size of the decoder to larger ones.

This module is imported only where `--upsample` names sizes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, short
from condgen.data.batches.base import Batches, to_float, to_uint8
from condgen.data.batches.captions import CaptionBatches
from condgen.data.streaming.batches import ShardBatches
from condgen.data.streaming.stream import Stream
from condgen.data.synthetic.compositions import draw_captioned
from condgen.data.synthetic.scenes import Layout, draw_scenes, render
from condgen.decoders import DECODERS
from condgen.decoders.upsampler import Upsampler, UpsamplerSpec, UpsamplerTraining, calibrate
from condgen.files.registry import about, find
from condgen.files.weights import WEIGHTS, load_part, save_part
from condgen.metrics.image_quality import psnr
from condgen.pipelines.base import UPSAMPLER
from condgen.pipelines.text_to_image import TextToImage
from condgen.pipelines.upsampling import add_upsamplers
from condgen.tasks.base import Stage
from condgen.tasks.distilling import decoder_part
from condgen.training.trainer import Step

if TYPE_CHECKING:
    from condgen.tasks.text_to_image import TextToImageTask, TextToImageTaskConfig

CALIBRATED, VALIDATED = 256, 32
"""Images that the statistics of an upsampler are computed from, and images that it is evaluated on."""


def sizes_of(config: TextToImageTaskConfig) -> list[int]:
    """The sizes that `--upsample` lists, from small to large.

    Raises:
        CondgenError: it is not a list of sizes, each a power of two times as large as the one before.
    """
    words, base = config.upsample.split(","), config.data.size
    sizes = [int(word) for word in words if word.strip().isdecimal()]
    chain = list(pairwise([base, *sizes]))
    if len(sizes) < len(words) or not all(b > a and b % a == 0 and not b // a & (b // a - 1) for a, b in chain):
        raise CondgenError(
            f"--upsample is {short(config.upsample)}; expected sizes in pixels, each 2, 4, 8 ... times as large as the "
            f"one before, and the first as {base}, the size of the decoder: --upsample {2 * base},{4 * base}."
        )
    return sizes


def spec_of(config: TextToImageTaskConfig, size: int, embed_dim: int, space: str = "") -> UpsamplerSpec:
    """The images of the upsampler for a size, which enlarges the next smaller one."""
    low = max(edge for edge in [config.data.size, *sizes_of(config)] if edge < size)
    return UpsamplerSpec(size, low, embed_dim=embed_dim, space=space)


def crop_of(config: TextToImageTaskConfig, spec: UpsamplerSpec) -> int:
    """Edge of the crops of the large images in training."""
    return min(config.upsampler_objective.crop or spec.size, spec.size)


def dry_run_upsampler(config: TextToImageTaskConfig, embed_dim: int) -> tuple[nn.Module, Batch]:
    """A training and its batch for `dry_run`."""
    spec = spec_of(config, sizes_of(config)[0], embed_dim)
    edge = crop_of(config, spec)
    module = UpsamplerTraining(Upsampler(config.upsampler, spec), config.upsampler_objective)
    low = torch.zeros(2, 3, edge // spec.factor, edge // spec.factor)
    return module, {"image": torch.zeros(2, 3, edge, edge), "low": low, "z": torch.zeros(2, embed_dim)}


def check(task: TextToImageTask) -> None:
    """Raises `CondgenError` where a run cannot train upsamplers."""
    c = task.config
    if not c.upsample:
        raise CondgenError("--stage upsampler trains upsamplers: give their sizes, for example --upsample 64,128.")
    sizes_of(c)
    if c.stage != "upsampler":
        return
    if c.encoder:
        raise CondgenError("--stage upsampler needs a whole model, not only an encoder: --init_from MODEL.")
    if c.init_from and (size := about(find(c.init_from)).get("size")) != c.data.size:
        raise CondgenError(f"{c.init_from} generates {size} x {size} pixels. Give --data.size {size}.")
    if not c.init_from and not (task.parts / "decoder" / "model.safetensors").exists():
        raise CondgenError(
            f"{task.root} holds no decoder yet. Train it first (--stage all), or give a model or a run that has one: "
            "--init_from MODEL."
        )


def upsampler_stage(task: TextToImageTask, name: str) -> Stage:
    """The stage `upsampler SIZE`."""
    c, size = task.config, int(name.split()[1])
    spec = spec_of(c, size, task.text_spec.embed_dim, task.text_spec.space)
    _ = task.embeddings.normalizer  # fitted before the seed is set
    data = LargeImages(task, spec)
    batches, some = data.batches(c.fit_upsampler.batch, crop_of(c, spec)), data.some(CALIBRATED)
    torch.manual_seed(c.seed)
    upsampler = Upsampler(c.upsampler, spec)
    calibrate(upsampler, *some)

    def save(trained: nn.Module) -> None:
        save_part(trained.upsampler, task.parts / f"{UPSAMPLER}{size}")

    def validate(trained: nn.Module, step: Step) -> None:
        """Writes a sample sheet, and scores on enlarging images of the data."""
        from condgen.tasks.text_to_image import sheet

        model = model_of(task, {size: trained.upsampler})
        with distributed.on_accelerator(*model.modules.values()) as device:
            high, low, z = data.evaluated(VALIDATED, device)
            rng = [torch.Generator().manual_seed(row) for row in range(len(low))]
            *_, large = trained.upsampler.upsample(low.to(device), rng, z, upsample_augmentation=0.0)
            bicubic = F.interpolate(low, size=(size, size), mode="bicubic").clamp(-1, 1)
            scores = {"psnr": psnr(large.cpu(), high), "psnr_bicubic": psnr(bicubic, high)}
            samples = sheet(model, task.prompts, size=size)
        task.report(name, step, scores, samples)

    module = UpsamplerTraining(upsampler, c.upsampler_objective)
    return Stage(name, module, batches, task.fit(name), save, validate, lambda t: model_of(task, {size: t.upsampler}))


def model_of(task: TextToImageTask, new: dict[int, nn.Module] | None = None) -> TextToImage:
    """The model of a run with its upsamplers.

    Args:
        new: size -> upsampler that is not in the run folder yet.
    """
    new = new or {}
    done = {size: task.parts / f"{UPSAMPLER}{size}" for size in sizes_of(task.config) if size not in new}
    upsamplers = {size: load_part(Upsampler, place) for size, place in done.items() if (place / WEIGHTS).exists()} | new
    if task.config.stage == "upsampler" and task.config.init_from:
        model = TextToImage.load(find(task.config.init_from), encoder=task.given)
    else:
        model = task.model_of(load_part(DECODERS[task.config.kind].network, decoder_part(task)))
    add_upsamplers(model, upsamplers)
    return model


def keep_bytes(task: TextToImageTask, folder: Path) -> None:
    """Replaces the parts of an exported model by those of the model that the run began with, byte for byte.

    They hold the same weights; a file of an older version may name them otherwise. The model_id therefore stays.
    """
    for part in task.parts.iterdir():
        if (folder / part.name).is_dir() and not part.name.startswith(UPSAMPLER):
            shutil.copytree(part, folder / part.name, dirs_exist_ok=True)


# Data -----------------------------------------------------------------------------------------------------------------


class Drawn:
    """Scenes that are drawn when they are used: images[rows] gives uint8 (len(rows), 3, S, S)."""

    dtype = np.dtype(np.uint8)

    def __init__(self, layout: Layout, size: int):
        self.layout, self.shape = layout, (len(layout), 3, size, size)

    def __len__(self) -> int:
        return len(self.layout)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        return render(self.layout[rows], self.shape[-1])


class LargeImages:
    """The training images of a run at the sizes of an upsampler.

    Scenes are drawn at both sizes. All other images are read at the largest size of the run and reduced, as the reader
    reduces images.

    Args:
        task: the run, whose encoder is trained.
        spec: the sizes.
    """

    def __init__(self, task: TextToImageTask, spec: UpsamplerSpec):
        self.task, self.spec, c = task, spec, task.config
        self.is_stream = isinstance(task.data, Stream)
        if c.data.path:
            how = "always" if self.is_stream else "never"
            self.images = replace(c.data, size=sizes_of(c)[-1], stream=how).open(shards=False)
            if len(self.images) != len(task.data):
                raise CondgenError(
                    f"At {self.images.size} pixels {c.data.path} has {len(self.images):,} images, at {c.data.size} "
                    f"pixels {len(task.data):,}: it has changed while it was read. Give the command again."
                )
        else:
            self.layout, _ = draw_captioned(c.data.scenes, c.seed, c.data.templates)
            self.images = replace(task.data, images=Drawn(self.layout, spec.size))

    def some(self, n: int) -> tuple[Tensor, Tensor]:
        """n large and small images in [-1, 1]; of scenes, combinations that are held out from training."""
        if not self.task.config.data.path:
            layout, _ = draw_scenes(n, self.task.config.seed + 1, True)
            return tuple(to_float(render(layout, size)) for size in (self.spec.size, self.spec.low))
        large = self.images.some(n) if self.is_stream else self.images.images[:n]
        return to_float(resized(large, self.spec.size)), to_float(resized(large, self.spec.low))

    @torch.inference_mode()
    def evaluated(self, n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """n large and small images, and their embeddings z (n, D) on the device."""
        high, low = self.some(n)
        base = to_float(resized(to_uint8(high), self.task.config.data.size)).to(device)
        return high, low, self.task.embeddings.normalizer(self.task.clip.embed_image(base))

    def batches(self, batch: int, crop: int) -> Callable[[int], Batch]:
        """Batches for `UpsamplerTraining`, of crops of `crop` x `crop` pixels."""
        task, c, embeds = self.task, self.task.config, self.task.embeddings
        options = distributed.process()
        views: CaptionBatches | ShardBatches
        if self.is_stream:
            task.open_files.close()
            views = ShardBatches(self.images, task.tokenizer.encode, batch, c.seed, c.data.buffer, **options)
            task.open_files.callback(views.close)
            views.derive("z", lambda rows: embeds.normalizer(embeds.stored.image(rows["row"])))
        else:
            views = CaptionBatches(self.images, task.tokens, batch, c.seed, **options)
            views.cache("z", embeds.z(), per="image")
            if not c.data.path:
                views.cache("low", Drawn(self.layout, self.spec.low), per="image")
        return Crops(views, self.spec, crop, c.random_flip and not self.is_stream)


class Crops:
    """Random crops of large images, the same places of the small ones, and the embeddings of the whole images.

    Args:
        views: batches of `image`, at least as large as `spec.size`; `z` (B, D), or (B, 2, D) with the mirrored image;
            and `low`, uint8 images, if these are not the reduced `image`.
        spec: the sizes.
        crop: edge of the crops of the large images.
        flip: mirror every second image.
    """

    def __init__(self, views: Batches, spec: UpsamplerSpec, crop: int, flip: bool):
        self.views, self.spec, self.flip = views, spec, flip
        self.edge = crop // spec.factor

    def __call__(self, step: int) -> Batch:
        views, spec = self.views, self.spec
        rows, rng = views(step), np.random.default_rng((views.seed, step, 3))
        places = rng.integers(0, spec.low - self.edge + 1, (views.batch, 2))[views.part]
        mirrored = torch.from_numpy(rng.random(views.batch)[views.part] < 0.5) & self.flip
        pixels = to_uint8(rows["image"])
        high = to_float(resized(pixels, spec.size))
        low = to_float(rows["low"] if "low" in rows else resized(pixels, spec.low))
        z = rows["z"] if rows["z"].ndim == 2 else rows["z"][torch.arange(len(mirrored)), mirrored.long()]
        cropped = [self._crop(images, places, mirrored) for images in (high, low)]
        return {"image": cropped[0], "low": cropped[1], "z": z}

    def _crop(self, images: Tensor, places: np.ndarray, mirrored: Tensor) -> Tensor:
        factor = images.shape[-1] // self.spec.low
        edge = factor * self.edge
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return torch.stack([x[:, k : k + edge, j : j + edge] for x, (k, j) in zip(images, factor * places)])


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Reduces uint8 (N, 3, S, S) as the reader of images does; unchanged where S is `size`."""
    if images.shape[-1] == size:
        return images
    small = [Image.fromarray(x).resize((size, size), Image.Resampling.LANCZOS) for x in images.transpose(0, 2, 3, 1)]
    return np.stack([np.asarray(x) for x in small]).transpose(0, 3, 1, 2)
