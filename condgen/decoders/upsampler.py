"""Diffusion upsamplers: they enlarge the image of a decoder, conditioned on it and on its embedding.

What is generated is the residual, the difference between the large image and the bilinearly enlarged small one: it is
small and has little structure, so that a few denoising steps are enough. The network is convolutional and normalises
every pixel by itself, so that it is trained on crops and used on images of any size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch, CondgenError, SamplingOption, check_options, limited
from condgen.diffusion.objectives import OBJECTIVES, denoising_loss
from condgen.diffusion.samplers import noise, sample
from condgen.nn.layers import timestep_embedding
from condgen.nn.specs import MAX_SIZE

OPTIONS = (
    SamplingOption("upsample_steps", 4, 1, 16, "int", "denoising steps of every upsampler"),
    SamplingOption(
        "upsample_augmentation",
        0.0,
        0,
        1,
        "float",
        "noise added to an image before it is enlarged, for flaws to vanish",
    ),
)
"""Sampling options of every upsampler."""
BLUR = 1.0
"""Standard deviation in pixels of the strongest blur of the small image, at augmentation level 1."""
NOISE = 0.2
"""Standard deviation of the strongest noise of the small image, whose range is [-1, 1], at augmentation level 1."""
EMBEDDING = 32
"""Width of the embedding of a noise level."""


@dataclass(frozen=True)
class UpsamplerSpec:
    """The images that an upsampler is trained on.

    Args:
        size: edge S of the large images.
        low: edge of the small images; S is two times as large, or another power of two.
        image_channels: channels C, 1 or 3.
        embed_dim: width D of the embedding z; 0 for images without one.
        space: fingerprint of the encoder of z.
    """

    size: int = limited(high=MAX_SIZE)
    low: int = limited(low=1, high=MAX_SIZE)
    image_channels: int = 3
    embed_dim: int = 0
    space: str = ""

    @property
    def factor(self) -> int:
        """Edge of a large image over that of a small one."""
        return self.size // self.low


@dataclass(frozen=True)
class UpsamplerConfig:
    """Options of an upsampler.

    Args:
        objective: prediction target of the network, `x` or `edm`; see `diffusion.objectives`.
        channels: channels of every level; the first works at half the resolution of the large image.
        blocks: blocks per level on the way down, and on the way up.
        width: width of the condition vector.
    """

    objective: Literal["x", "edm"] = "x"
    channels: tuple[int, ...] = limited((32, 64), low=1, longest=8)
    blocks: int = limited(2, low=1, high=64)
    width: int = limited(128, low=1)


class PixelNorm(nn.LayerNorm):
    """Layer norm over the channels of every pixel of (B, C, H, W): what a pixel becomes does not depend on others."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip connection; a condition vector scales and shifts the normalised input."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.norm = PixelNorm(channels)
        self.modulate = nn.Linear(width, 2 * channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.modulate(cond)[:, :, None, None].chunk(2, 1)
        h = self.norm(x) * (1 + scale) + shift
        return x + self.conv_2(F.silu(self.conv_1(F.silu(h))))


class ConvUNet(nn.Module):
    """(x_t (B, C, H, W), t (B,), condition) -> (B, C, H, W), for any edges that `multiple` divides.

    The condition holds `enlarged` (B, C, H, W), `level` (B,), the augmentation level, and `z` (B, D).
    """

    def __init__(self, config: UpsamplerConfig, image_channels: int, embed_dim: int):
        super().__init__()
        c, width = config.channels, config.width
        self.multiple = 2 ** len(c)
        self.embed = nn.Sequential(
            nn.Linear(2 * EMBEDDING + embed_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.stem = nn.Conv2d(8 * image_channels, c[0], 3, padding=1)
        self.down = nn.ModuleList(nn.ModuleList(ConvBlock(k, width) for _ in range(config.blocks)) for k in c)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(c))
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(c))
        self.up = nn.ModuleList(nn.ModuleList(ConvBlock(k, width) for _ in range(config.blocks)) for k in c[:-1])
        self.norm = PixelNorm(c[0])
        self.out = nn.Conv2d(c[0], 4 * image_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, t: Tensor, cond: Batch) -> Tensor:
        levels = [timestep_embedding(level, EMBEDDING) for level in (t, cond["level"])]
        emb = self.embed(torch.cat([*levels, cond["z"]], 1))
        h = F.pixel_unshuffle(torch.cat([x, cond["enlarged"]], 1), 2)
        h = self.stem(h.contiguous(memory_format=torch.channels_last))
        skips = []
        for level, blocks in enumerate(self.down):
            h = self.shrink[level - 1](h) if level else h
            for block in blocks:
                h = block(h, emb)
            skips.append(h)
        for level in reversed(range(len(self.up))):
            h = F.interpolate(self.grow[level](h), scale_factor=2.0) + skips[level]
            for block in self.up[level]:
                h = block(h, emb)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), 2)


class Upsampler(nn.Module):
    """Enlarges images by denoising the residual.

    The channel means and standard deviations of the images, and those of the residual, are part of the model.

    References:
        Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), upsamplers
        Cascaded Diffusion Models for High Fidelity Image Generation (Ho et al., 2021), conditioning augmentation
    """

    sampling_options = OPTIONS
    """Options of `upsample`."""

    def __init__(self, config: UpsamplerConfig, spec: UpsamplerSpec):
        super().__init__()
        if spec.factor < 2 or spec.low * spec.factor != spec.size or spec.factor & (spec.factor - 1):
            raise ValueError(f"{spec.size} is not a power of two times {spec.low}")
        self.config, self.spec = config, spec
        self.objective = OBJECTIVES[config.objective]()
        self.unet = ConvUNet(config, spec.image_channels, spec.embed_dim)
        for name in ("mean", "residual_mean"):
            self.register_buffer(name, torch.zeros(spec.image_channels, 1, 1))
        for name in ("sd", "residual_sd"):
            self.register_buffer(name, torch.ones(spec.image_channels, 1, 1))

    def enlarge(self, low: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, factor h, factor w), bilinearly."""
        return F.interpolate(low, scale_factor=float(self.spec.factor), mode="bilinear", align_corners=False)

    def denoise(self, x_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """The residual from x_t, both (B, C, H, W) with sd 1; the condition as in `ConvUNet`."""
        return self.objective.denoise(self.unet, x_t, t, cond)

    def cond_of(self, low: Tensor, level: Tensor, z: Tensor | None) -> Batch:
        """The condition of the network.

        Args:
            low: (B, C, h, w) in [-1, 1], with its noise.
            level: (B,), the augmentation level, in [0, 1].
            z: (B, D); None stands for no embedding.
        """
        z = low.new_zeros(len(low), self.spec.embed_dim) if z is None or not self.spec.embed_dim else z
        return {"enlarged": (self.enlarge(low) - self.mean) / self.sd, "level": level, "z": z}

    def upsample(
        self, low: Tensor, rng: list[torch.Generator], z: Tensor | None = None, **options: float
    ) -> Iterator[Tensor]:
        """Yields the large image so far, (B, C, factor h, factor w) in [-1, 1], after every step.

        Args:
            low: (B, C, h, w) in [-1, 1], of any edges.
            rng: B generators on the CPU.
            z: (B, D), the normalised embeddings of the images, or None.

        Raises:
            CondgenError: an option is unknown or out of range, or z has another width.
        """
        options = check_options(OPTIONS, options)
        if z is not None and self.spec.embed_dim and z.shape[-1] != self.spec.embed_dim:
            raise CondgenError(f"The upsampler reads embeddings of width {self.spec.embed_dim}, got {z.shape[-1]}.")
        level = options["upsample_augmentation"]
        low = low + level * NOISE * noise(tuple(low.shape[1:]), rng).to(low) if level else low
        _, channels, height, width = low.shape
        step = self.unet.multiple // min(self.unet.multiple, self.spec.factor)
        padded = F.pad(low, (0, -width % step, 0, -height % step), mode="replicate")
        factor = self.spec.factor
        with torch.inference_mode():
            cond = self.cond_of(padded, torch.full((len(low),), float(level), device=low.device), z)
        enlarged = self.enlarge(padded)
        shape = (channels, *enlarged.shape[-2:])
        for x in sample(self.denoise, shape, cond, rng, int(options["upsample_steps"]), device=low.device):
            image = enlarged + x * self.residual_sd + self.residual_mean
            yield image[..., : factor * height, : factor * width].clamp(-1, 1)


def calibrate(upsampler: Upsampler, images: Tensor, low: Tensor) -> None:
    """Sets means and standard deviations of an upsampler to those of large and small images, in place."""
    residual = images - upsampler.enlarge(low)
    for name, values in (("", images), ("residual_", residual)):
        getattr(upsampler, f"{name}mean").copy_(values.mean((0, 2, 3), keepdim=True)[0])
        getattr(upsampler, f"{name}sd").copy_(values.std((0, 2, 3), keepdim=True)[0].clamp(min=0.01))


@dataclass(frozen=True)
class UpsamplerObjective:
    """Training options of an upsampler.

    Args:
        crop: edge in pixels of the random crops of the large images; 0 takes whole images.
        exact: share of the small images that are not augmented.
        drop_z: share of the images whose embedding is left out.
    """

    crop: int = limited(32, low=0)
    exact: float = limited(0.2, low=0, high=1)
    drop_z: float = limited(0.1, low=0, high=1)


class UpsamplerTraining(nn.Module):
    """A Trainable around an upsampler.

    A batch holds crops `image` (B, C, H, W) and the same places of the small images, `low` (B, C, h, w), both in
    [-1, 1], and `z` (B, D). Small images are blurred and noised by a random augmentation level, which the network
    knows: the images of a decoder are less exact than those of the data, and at sampling the level says by how much.
    """

    turns = ("upsampler",)

    def __init__(self, upsampler: Upsampler, objective: UpsamplerObjective):
        super().__init__()
        self.upsampler, self.objective = upsampler, objective

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "upsampler") -> dict[str, Tensor]:
        upsampler, low, objective = self.upsampler, batch["low"], self.objective
        level, blur, exact, with_z = torch.rand(len(low), 4, device=low.device).unbind(1)
        level = level * (exact >= objective.exact)
        low = augmented(low, level, blur)
        residual = batch["image"] - upsampler.enlarge(low)
        x_0 = (residual - upsampler.residual_mean) / upsampler.residual_sd
        cond = upsampler.cond_of(low, level, batch["z"] * (with_z >= objective.drop_z)[:, None])
        return {"loss": denoising_loss(upsampler.objective, upsampler.unet, x_0, cond)}


def augmented(low: Tensor, level: Tensor, blur: Tensor) -> Tensor:
    """Blurs and noises images.

    Args:
        low: (B, C, h, w).
        level: (B,) in [0, 1]; 0 changes nothing.
        blur: (B,) in [0, 1], the share of the strongest blur at this level.
    """
    sd = (BLUR * level * blur).clamp(min=0.05)[:, None]
    taps = torch.exp(-0.5 * (torch.arange(-2, 3, device=low.device)[None] / sd) ** 2)
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(low.shape[1], 0)[:, None]  # (B C, 1, 5)
    x = F.pad(low, (2, 2, 2, 2), mode="replicate").flatten(0, 1)[None]
    x = F.conv2d(x, taps[:, :, :, None], groups=x.shape[1])
    x = F.conv2d(x, taps[:, :, None, :], groups=x.shape[1])[0].unflatten(0, low.shape[:2])
    return x + NOISE * level[:, None, None, None] * torch.randn_like(low)
