"""The diffusion decoder: generates images from noise, conditioned on an image embedding and a caption, or on labels."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch, CondgenError, SamplingOption, check_options, limited
from condgen.decoders import DecoderKind
from condgen.diffusion.objectives import OBJECTIVES, Denoiser, XPrediction, estimate
from condgen.diffusion.samplers import NOISE, Autoguided, Guided, Init, sample
from condgen.losses import weighted_mse
from condgen.nn.conditioning import (
    LAYOUT,
    MAX_DEPTH,
    CondEncoderConfig,
    DecoderObjective,
    Layout,
    bottom_edge,
    build_cond_encoder,
    null_cond,
    repeated,
)
from condgen.nn.layers import Block, ResBlock, timestep_embedding
from condgen.nn.specs import CondSpec


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the network.

    Args:
        size: edge of the images; the lowest level has edge size / 2 ** len(channels).
        channels: channels of every level; the first works at half resolution.
        blocks: residual blocks per level on the way down (the way up has one fewer, at least one).
        depth: pairs of residual and attention block at the lowest level.
        heads: heads of every attention.
        image_channels: channels of the images.
        layout_mlp: whether the layout map begins with an MLP of the condition's vector, see `Layout`.
    """

    size: int = 32
    channels: tuple[int, ...] = (48, 128)
    blocks: int = 1
    depth: int = 2
    heads: int = 4
    image_channels: int = 3
    layout_mlp: bool = False


class UNet(nn.Module):
    """(x (B, C, S, S), t (B,), an encoded condition) -> (B, C, S, S).

    Two by two pixels are folded into channels first, a quarter of the cost of full resolution. The layout map is added
    at every level. It depends on the condition alone, so `layout` runs once for all noise levels, and its output is
    part of the encoded condition.

    References:
        simple diffusion (Hoogeboom et al., 2023), for the transformer at the lowest level
    """

    def __init__(self, config: UNetConfig, width: int):
        super().__init__()
        c, size = config.channels, config.size
        self.bottom = bottom_edge(size, len(c))
        self.embed = nn.Sequential(nn.Linear(64 + width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.layout = Layout(width, self.bottom, config.layout_mlp)
        self.stem = nn.Conv2d(4 * config.image_channels, c[0], 3, padding=1)
        self.place = nn.ModuleList(nn.Conv2d(LAYOUT, channels, 1) for channels in c)
        self.down = nn.ModuleList(nn.ModuleList(ResBlock(k, k, width) for _ in range(config.blocks)) for k in c[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(c))
        self.where = nn.Parameter(torch.randn(1, self.bottom**2, c[-1]) * 0.5)
        self.low = nn.ModuleList(ResBlock(c[-1], c[-1], width) for _ in range(config.depth))
        self.look = nn.ModuleList(Block(c[-1], config.heads, context_width=width) for _ in range(config.depth))
        self.up = nn.ModuleList(
            nn.ModuleList(ResBlock(b + a if i == 0 else a, a, width) for i in range(max(1, config.blocks - 1)))
            for a, b in pairwise(c)
        )
        self.norm = nn.GroupNorm(8, c[0])
        self.out = nn.Conv2d(c[0], 4 * config.image_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, t: Tensor, cond: Batch) -> Tensor:
        emb = self.embed(torch.cat([timestep_embedding(t, 64), cond["vector"]], 1))
        layout = cond["layout"]
        h = self.stem(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for level, blocks in enumerate(self.down):
            h = self._add_layout(h, layout, level)
            for block in blocks:
                h = block(h, emb)
            skips.append(h)
            h = self.shrink[level](h)
        h = self._bottom(self._add_layout(h, layout, -1), emb, cond)
        for level in reversed(range(len(self.up))):
            h = torch.cat([F.interpolate(h, scale_factor=2.0), skips[level]], 1)
            for block in self.up[level]:
                h = block(h, emb)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), 2)

    def _add_layout(self, h: Tensor, layout: Tensor, level: int) -> Tensor:
        here = self.place[level](layout)
        return h + (here if here.shape[-1] == h.shape[-1] else F.interpolate(here, size=h.shape[-2:]))

    def _bottom(self, h: Tensor, emb: Tensor, cond: Batch) -> Tensor:
        pixels = torch.ones(len(h), self.bottom**2, dtype=torch.bool, device=h.device)
        mask = torch.cat([pixels, cond["seen"]], 1)
        for convolve, look in zip(self.low, self.look):
            h = convolve(h, emb)
            seq = h.flatten(2).transpose(1, 2) + self.where  # (B, N, C)
            h = look(seq, mask, cond["tokens"]).transpose(1, 2).unflatten(2, (self.bottom, self.bottom))
            h = h.contiguous(memory_format=torch.channels_last)
        return h


@dataclass(frozen=True)
class DiffusionDecoderConfig(CondEncoderConfig):
    """Options of a diffusion decoder, including those of its condition encoder.

    Args:
        width, heads, word_depth: see `CondEncoderConfig`.
        objective: prediction target of the network, `x` or `edm`; see `diffusion.objectives`.
        channels, blocks, depth: shape of the U-Net, see `UNetConfig`.
        guidance: default guidance scale when sampling.
        steps: default number of steps.
        solver: `dpm++`, `ddim`, `unipc` or `euler`, see `diffusion.samplers`.
        layout_mlp: whether the layout map begins with an MLP of the condition's vector, see `Layout`.
        distilled: guidance scale that is part of the weights of a decoder distilled to `steps` steps, see
            `decoders.distillation`; 0 for all others. Set by distillation, not by hand.
    """

    objective: Literal["x", "edm"] = "x"
    channels: tuple[int, ...] = limited((48, 96), low=1, longest=64)
    blocks: int = limited(1, low=0, high=MAX_DEPTH)
    depth: int = limited(2, low=0, high=MAX_DEPTH)
    guidance: float = 2.0
    steps: int = 12
    solver: Literal["dpm++", "ddim", "unipc", "euler"] = "dpm++"
    layout_mlp: bool = limited(False, added=True)
    distilled: float = limited(0.0, low=0, added=True)


class DiffusionDecoder(nn.Module):
    """Generates images from a condition by denoising.

    The channel means and standard deviations of the training images are part of the model: inside, data has mean 0 and
    sd 1. `weak` is an earlier state of the decoder for autoguidance, if one was kept; it is not part of the weights.
    """

    def __init__(self, config: DiffusionDecoderConfig, spec: CondSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self._weak: list[DiffusionDecoder] = []  # in a list, so that it is no submodule
        self.objective = OBJECTIVES[config.objective]()
        self.cond_encoder = build_cond_encoder(config, spec)
        c, colours = config, spec.image_channels
        shape = UNetConfig(spec.size, c.channels, c.blocks, c.depth, c.heads, colours, c.layout_mlp)
        self.unet = UNet(shape, config.width)
        self.register_buffer("mean", torch.zeros(spec.image_channels, 1, 1))
        self.register_buffer("sd", torch.ones(spec.image_channels, 1, 1))

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        """Options of `sample`."""
        text = "guidance by the weak version of the decoder, in place of guidance; 1 is off"
        weak = (SamplingOption("autoguidance", 1.0, 0, 10, "float", text, True),) if self._weak else ()
        known, guidance, steps = self.config, "how closely to follow what is asked; 1 is off", "denoising steps"
        if known.distilled:
            guidance = f"guidance beyond that of scale {known.distilled:g}, which is part of the weights; 1 is off"
            steps = f"denoising steps; distilled to {known.steps}"
        return (
            SamplingOption("guidance", known.guidance, 0, 20, "float", guidance),
            SamplingOption("steps", known.steps, 1, 200, "int", steps),
            SamplingOption("guidance_low", 0.0, 0, 1, "float", "noise level below which nothing is guided", True),
            SamplingOption("guidance_high", 1.0, 0, 1, "float", "noise level above which nothing is guided", True),
            *weak,
        )

    @property
    def weak(self) -> DiffusionDecoder | None:
        """An earlier state for autoguidance, or None."""
        return self._weak[0] if self._weak else None

    def guide_by(self, weak: DiffusionDecoder) -> None:
        """Sets an earlier state of this decoder for autoguidance."""
        self._weak = [weak.eval()]

    def encode_cond(self, cond: Batch) -> Batch:
        """Encodes a condition once for all noise levels: its vector, tokens and layout map."""
        encoded = self.cond_encoder(cond)
        return encoded | {"layout": self.unet.layout(encoded)}

    def _encode_both(self, cond: Batch, negative: Batch) -> tuple[Batch, Batch]:
        """Two conditions encoded as one batch, so that both have the same number of tokens."""
        both = self.encode_cond({name: torch.cat([cond[name], negative[name]]) for name in cond})
        parts = {name: value.chunk(2) for name, value in both.items()}
        return {name: part[0] for name, part in parts.items()}, {name: part[1] for name, part in parts.items()}

    def denoise(self, x_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """x_0 from x_t, both (B, C, S, S) with sd 1, given the output of `encode_cond`."""
        return self.objective.denoise(self.unet, x_t, t, cond)

    def sample(
        self, cond: Batch, rng: list[torch.Generator], init: Init = NOISE, negative: Batch | None = None,
        **options: float,
    ) -> Iterator[Tensor]:  # fmt: skip
        """Yields the image so far, (B, C, S, S) in [-1, 1], after every step; the last one is the result.

        Args:
            cond, rng, options: see `contracts.Decoder`.
            init: where sampling begins; its x_0 are images in [-1, 1]. Kept values of the result are exactly those.
            negative: a condition to steer away from, in place of the null condition of guidance.

        Raises:
            CondgenError: `negative` with autoguidance, which has no null condition.
        """
        options = check_options(self.sampling_options, options)
        if negative is not None and options.get("autoguidance", 1) != 1:
            raise CondgenError("Negative words belong to guidance, which autoguidance replaces: use one of them.")
        with torch.inference_mode():
            if negative is None:
                encoded, null = self.encode_cond(cond), self.encode_cond(null_cond(cond))
            else:
                encoded, null = self._encode_both(cond, negative)
            weak_cond = self.weak.encode_cond(cond) if self.weak is not None else {}
        guided: Denoiser
        if self.weak is not None and options["autoguidance"] != 1:
            weak = self.weak
            guided = Autoguided(
                self.denoise, lambda x_t, t, _: weak.denoise(x_t, t, weak_cond), options["autoguidance"]
            )
        else:
            interval = (options["guidance_low"], options["guidance_high"])
            guided = Guided(self.denoise, lambda _: null, options["guidance"], *interval)
        shape = (self.spec.image_channels, self.spec.size, self.spec.size)
        steps, solver = int(options["steps"]), self.config.solver
        given = init.x_0
        if given is not None:
            init = replace(init, x_0=(given - self.mean) / self.sd)
        for x in sample(guided, shape, encoded, rng, steps, solver, self.mean.device, init):
            images = (x * self.sd + self.mean).clamp(-1, 1)
            yield images if init.keep is None else torch.where(init.keep, given, images)

    def invert(self, images: Tensor, cond: Batch, steps: int) -> Iterator[Tensor]:
        """Yields x_t after every step from images (B, C, S, S) in [-1, 1] to noise, which is the last one.

        Without guidance, `sample` generates the images again from this noise, as `Init.noise`, and this condition.
        """
        from condgen.diffusion.inversion import invert

        with torch.inference_mode():
            encoded = self.encode_cond(cond)
        yield from invert(self.denoise, (images - self.mean) / self.sd, encoded, steps)


def calibrate(decoder: DiffusionDecoder, images: Tensor) -> None:
    """Sets the channel means and standard deviations of a decoder to those of images (N, C, S, S), in place."""
    decoder.mean.copy_(images.mean((0, 2, 3), keepdim=True)[0])
    decoder.sd.copy_(images.std((0, 2, 3), keepdim=True)[0].clamp(min=0.05))


@dataclass(frozen=True)
class DiffusionObjective:
    """Training options of a diffusion decoder.

    Args:
        layout: weight of the layout loss, see `DiffusionTraining`; 0 is off.
        levels: mean and standard deviation of logit t, the noise levels that are trained; () are the objective's own.
        floor: noise level below which the weight of the squared error no longer grows; 0 is the objective's own.
        draws: noise levels per image of a batch; the condition is encoded once for all of them.
        perceptual: weight of the perceptual loss, see `DiffusionTraining`; 0 is off. It needs an image encoder with
            feature maps.
        perceptual_below: noise level from which on there is no perceptual loss; at 1 it is everywhere.
    """

    layout: float = limited(1.0, low=0)
    levels: tuple[float, ...] = limited((), low=-20, high=20, longest=2)
    floor: float = limited(0.0, low=0, high=1)
    draws: int = limited(1, low=1, high=1024)
    perceptual: float = limited(0.0, low=0)
    perceptual_below: float = limited(1.0, low=0, high=1)

    def __post_init__(self):
        if len(self.levels) == 1 or (self.levels and self.levels[1] <= 0):
            raise CondgenError(
                f"objective.levels must be empty or a mean and a positive standard deviation, got {list(self.levels)}."
            )

    def noise_levels(self, objective: XPrediction) -> XPrediction:
        """The objective of a decoder with these noise levels and this floor."""
        changes = dict(zip(("mean", "sd"), self.levels)) | ({"floor": self.floor} if self.floor else {})
        return replace(objective, **changes)


class DiffusionTraining(nn.Module):
    """A Trainable around a diffusion decoder.

    Beside denoising, the layout map predicts the image itself at low resolution, from the condition alone: the mean of
    all images that the condition allows. Denoising teaches this at the highest noise only, a tenth of the samples; with
    it alone, the decoder was late to learn which colour belongs to which object.

    The perceptual loss compares the first feature maps of the image encoder for the estimate of x_0 with those for the
    image: the squared error of pixels hardly differs between a square and a square that lacks a corner. The weight of a
    sample is 1 - t, since the estimate at high noise is a mean of many images, which looks like none of them.

    A batch holds `image` (B, C, S, S) and the condition: `z` (B, D), `tokens` (B, L), and `guess` (B, D), a prior's
    prediction of z, where there is a prior; or `targets` and `has_targets` (B, A).

    Args:
        encoder: has `feature_maps(images)`, (B, C, S, S) in [-1, 1] -> feature maps; it is not trained.

    References:
        PixelGen: Pixel Diffusion Beats Latent Diffusion with Perceptual Loss (Ma et al., 2026)
    """

    turns = ("decoder",)

    def __init__(
        self,
        decoder: DiffusionDecoder,
        objective: DiffusionObjective,
        conditioning: DecoderObjective,
        encoder: nn.Module | None = None,
    ):
        super().__init__()
        self.decoder, self.objective, self.conditioning = decoder, objective, conditioning
        self.levels = objective.noise_levels(decoder.objective)
        self.guess = nn.Conv2d(LAYOUT, 4 * decoder.spec.image_channels, 1) if objective.layout else None
        sees = objective.perceptual and encoder is not None
        # in a list, so that it is no submodule: it is neither trained nor saved
        self._encoder = [copy.deepcopy(encoder).eval().requires_grad_(False)] if sees else []

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "decoder") -> dict[str, Tensor]:
        decoder = self.decoder
        x_0 = (batch["image"] - decoder.mean) / decoder.sd
        cond = decoder.encode_cond(self.conditioning(batch))
        rows = repeated({"x_0": x_0} | cond, self.objective.draws)
        true = rows["x_0"]
        x, t = estimate(self.levels, decoder.unet, true, rows)
        parts = {"denoising": weighted_mse(x, true, self.levels.weight(t))}
        parts["loss"] = parts["denoising"]
        if self._encoder:
            parts["perceptual"] = self._perceptual(x, batch["image"], t)
            parts["loss"] = parts["loss"] + self.objective.perceptual * parts["perceptual"]
        if self.guess is not None:
            coarse = F.pixel_unshuffle(F.adaptive_avg_pool2d(x_0, 2 * cond["layout"].shape[-1]), 2)
            parts["layout"] = F.mse_loss(self.guess(cond["layout"]), coarse)
            parts["loss"] = parts["loss"] + self.objective.layout * parts["layout"]
        return parts if len(parts) > 2 else {"loss": parts["loss"]}

    def _perceptual(self, x: Tensor, images: Tensor, t: Tensor) -> Tensor:
        """Mean over the batch of (1 - t) times the squared error of feature maps, in units of their variance.

        Args:
            x: (draws * B, C, S, S) estimates with sd 1; images: (B, C, S, S) in [-1, 1]; t: (draws * B,).
        """
        encoder, decoder = self._encoder[0].to(x.device), self.decoder
        rows = torch.nonzero(t < self.objective.perceptual_below)[:, 0]
        total = torch.zeros((), device=x.device)
        if not len(rows):
            return total
        with torch.no_grad():
            wanted = encoder.feature_maps(images)
        for own, true in zip(encoder.feature_maps(x[rows] * decoder.sd + decoder.mean), wanted):
            variance = (true - true.mean((0, 2, 3), keepdim=True)).square().mean().clamp(min=1e-6)
            error = (own - true[rows % len(images)]).square().mean((1, 2, 3))
            total = total + ((1 - t[rows]) * error).sum() / variance
        return total / len(t)


KIND = DecoderKind(
    DiffusionDecoder,
    DiffusionDecoderConfig,
    DiffusionTraining,
    DiffusionObjective,
    calibrate=calibrate,
    autoguidance=True,
    inverts=True,
    negatives=True,
    perceptual=True,
    distills=True,
)
