"""The diffusion decoder: generates an image from noise, given an image embedding and words, or labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch, SamplingOption, check_options, limited
from condgen.decoders.conditioning_dropout import DecoderObjective
from condgen.diffusion.guidance import Autoguided, Guided
from condgen.diffusion.objectives import OBJECTIVES, Denoiser, denoising_loss
from condgen.diffusion.samplers import sample
from condgen.nn.conditioning import MAX_DEPTH, CondEncoderConfig, build_cond_encoder, null_cond
from condgen.nn.layout_map import LAYOUT
from condgen.nn.specs import CondSpec
from condgen.nn.unet import UNet, UNetConfig


@dataclass(frozen=True)
class DiffusionDecoderConfig(CondEncoderConfig):
    """Options of a diffusion decoder, beside those of its condition encoder.

    Args:
        objective: what the network is asked for, `x` or `edm`; see `diffusion.precondition`.
        channels, blocks, depth: of the U-Net.
        guidance: default guidance scale when sampling.
        steps: default number of steps.
        solver: `dpm++`, ours; `unipc` and `euler` are diffusers'. See `diffusion.sampling`.
    """

    objective: Literal["x", "edm"] = "x"
    channels: tuple[int, ...] = limited((48, 96), low=1, longest=64)
    blocks: int = limited(1, low=0, high=MAX_DEPTH)
    depth: int = limited(2, low=0, high=MAX_DEPTH)
    guidance: float = 2.0
    steps: int = 12
    solver: Literal["dpm++", "unipc", "euler"] = "dpm++"


class DiffusionDecoder(nn.Module):
    """cond -> image by denoising.

    The images' channel means and deviations are part of the model: inside, data has mean 0 and sd 1. `weak` is an
    earlier state of the same decoder, where one was kept, to guide by; it is no part of the weights.
    """

    def __init__(self, config: DiffusionDecoderConfig, spec: CondSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self._weak: list[DiffusionDecoder] = []  # in a list, so that it is no submodule
        self.objective = OBJECTIVES[config.objective]()
        self.cond_encoder = build_cond_encoder(config, spec)
        shape = UNetConfig(spec.size, config.channels, config.blocks, config.depth, config.heads, spec.image_channels)
        self.unet = UNet(shape, config.width)
        self.register_buffer("mean", torch.zeros(spec.image_channels, 1, 1))
        self.register_buffer("sd", torch.ones(spec.image_channels, 1, 1))

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        """What may be turned when sampling."""
        metrics = "guidance by the weak version of the decoder, in place of guidance; 1 is off"
        weak = (SamplingOption("autoguidance", 1.0, 0, 10, "float", metrics, True),) if self._weak else ()
        return (
            SamplingOption(
                "guidance", self.config.guidance, 0, 20, "float", "how closely to follow what is asked; 1 is off"
            ),
            SamplingOption("steps", self.config.steps, 1, 200, "int", "denoising steps"),
            SamplingOption("guidance_low", 0.0, 0, 1, "float", "noise level below which nothing is guided", True),
            SamplingOption("guidance_high", 1.0, 0, 1, "float", "noise level above which nothing is guided", True),
            *weak,
        )

    @property
    def weak(self) -> DiffusionDecoder | None:
        """An earlier state to guide by, if there is one."""
        return self._weak[0] if self._weak else None

    def guide_by(self, weak: DiffusionDecoder) -> None:
        """Takes an earlier state of itself to be guided by."""
        self._weak = [weak.eval()]

    def read(self, cond: Batch) -> Batch:
        """Encodes a condition once for all noise levels: its vector, tokens and layout map."""
        encoded = self.cond_encoder(cond)
        return encoded | {"layout": self.unet.layout(encoded)}

    def denoise(self, x_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """x_0 from x_t, both (B, C, S, S) with sd 1, given what `read` made of the condition."""
        return self.objective.denoise(self.unet, x_t, t, cond)

    def sample(self, cond: Batch, rng: list[torch.Generator], **options: float) -> Iterator[Tensor]:
        """Yields the image so far, (B, C, S, S) in [-1, 1], after every step; the last one is the result."""
        options = check_options(self.sampling_options, options)
        with torch.inference_mode():
            encoded, null = self.read(cond), self.read(null_cond(cond))
            weak_cond = self.weak.read(cond) if self.weak is not None else {}
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
        for x in sample(guided, shape, encoded, rng, steps, solver, device=self.mean.device):
            yield (x * self.sd + self.mean).clamp(-1, 1)


class DecoderTraining(nn.Module):
    """A Trainable around a diffusion decoder.

    Beside denoising, the layout map is asked for the image itself, at low resolution and from the condition alone:
    the mean of all images that the condition allows. Denoising teaches the same only at the highest noise, a tenth
    of the samples, and there was late to learn which colour belongs above which.

    A batch holds `image` (B, C, S, S) and the condition: `z` (B, D), `tokens` (B, L), and `guess` (B, D) where there
    is a prior; or `codes` and `has_targets` (B, A).
    """

    turns = ("decoder",)

    def __init__(self, decoder: DiffusionDecoder, objective: DecoderObjective):
        super().__init__()
        self.decoder, self.tell, self.layout = decoder, objective, objective.layout
        self.guess = nn.Conv2d(LAYOUT, 4 * decoder.spec.image_channels, 1) if objective.layout else None

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "decoder") -> dict[str, Tensor]:
        decoder = self.decoder
        x_0 = (batch["image"] - decoder.mean) / decoder.sd
        cond = decoder.read(self.tell(batch))
        denoising = denoising_loss(decoder.objective, decoder.unet, x_0, cond)
        if self.guess is None:
            return {"loss": denoising}
        layout = cond["layout"]
        coarse = F.pixel_unshuffle(F.adaptive_avg_pool2d(x_0, 2 * layout.shape[-1]), 2)
        placing = F.mse_loss(self.guess(layout), coarse)
        return {"loss": denoising + self.layout * placing, "denoising": denoising, "layout": placing}
