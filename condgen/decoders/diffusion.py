"""The diffusion decoder: paints what is said, an image embedding and words or labels, starting from noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch, Knob, check_knobs
from condgen.decoders.conditioning_dropout import DecoderObjective
from condgen.diffusion.guidance import Autoguided, Guided
from condgen.diffusion.objectives import OBJECTIVES, Denoiser, denoising_loss
from condgen.diffusion.samplers import sample
from condgen.nn.conditioning import Reads, reader, say_nothing
from condgen.nn.layout_map import LAYOUT
from condgen.nn.unet import UNet, UNetConfig


@dataclass(frozen=True)
class DiffusionDecoderConfig(Reads):
    """Shape of a decoder; what it paints and reads is `nn.conditioning.Reads`.

    Args:
        objective: what the network is asked for, `x` or `edm`; see `diffusion.precondition`.
        channels, blocks, depth: of the U-Net.
        guidance: default guidance scale when sampling.
        steps: default number of steps.
        solver: `dpm++`, ours; `unipc` and `euler` are diffusers'. See `diffusion.sampling`.
    """

    objective: Literal["x", "edm"] = "x"
    channels: tuple[int, ...] = (48, 128)
    blocks: int = 1
    depth: int = 2
    guidance: float = 2.0
    steps: int = 12
    solver: Literal["dpm++", "unipc", "euler"] = "dpm++"


class DiffusionDecoder(nn.Module):
    """cond -> picture by denoising.

    The pictures' channel means and deviations are part of the model: inside, data has mean 0 and sd 1. `weak` is an
    earlier state of the same decoder, where one was kept, to guide by; it is no part of the weights.
    """

    def __init__(self, config: DiffusionDecoderConfig):
        super().__init__()
        self.config = config
        self._weak: list[DiffusionDecoder] = []  # in a list, so that it is no submodule
        self.objective = OBJECTIVES[config.objective]()
        self.said = reader(config)
        shape = UNetConfig(config.size, config.channels, config.blocks, config.depth, config.heads, config.colours)
        self.unet = UNet(shape, config.width)
        self.register_buffer("mean", torch.zeros(config.colours, 1, 1))
        self.register_buffer("sd", torch.ones(config.colours, 1, 1))

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What may be turned when sampling."""
        told = "guidance by the weak version of the decoder, in place of guidance; 1 is off"
        weak = (Knob("autoguidance", 1.0, 0, 10, "float", told, True),) if self._weak else ()
        return (
            Knob("guidance", self.config.guidance, 0, 20, "float", "how closely to follow what is asked; 1 is off"),
            Knob("steps", self.config.steps, 1, 200, "int", "denoising steps"),
            Knob("guidance_low", 0.0, 0, 1, "float", "noise level below which nothing is guided", True),
            Knob("guidance_high", 1.0, 0, 1, "float", "noise level above which nothing is guided", True),
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
        said = self.said(cond)
        return said | {"layout": self.unet.layout(said)}

    def denoise(self, x_t: Tensor, t: Tensor, said: Batch) -> Tensor:
        """x_0 from x_t, both (B, C, S, S) with sd 1, given what `read` made of the condition."""
        return self.objective.denoise(self.unet, x_t, t, said)

    def sample(self, cond: Batch, rng: list[torch.Generator], **knobs: float) -> Iterator[Tensor]:
        """Yields the picture so far, (B, C, S, S) in [-1, 1], after every step; the last one is the result."""
        dials = check_knobs(self.knobs, knobs)
        with torch.inference_mode():
            said, nothing = self.read(cond), self.read(say_nothing(cond))
            heard = self.weak.read(cond) if self.weak is not None else {}
        guided: Denoiser
        if self.weak is not None and dials["autoguidance"] != 1:
            weak = self.weak
            guided = Autoguided(self.denoise, lambda x_t, t, _: weak.denoise(x_t, t, heard), dials["autoguidance"])
        else:
            interval = (dials["guidance_low"], dials["guidance_high"])
            guided = Guided(self.denoise, lambda _: nothing, dials["guidance"], *interval)
        shape = (self.config.colours, self.config.size, self.config.size)
        steps, solver = int(dials["steps"]), self.config.solver
        for x in sample(guided, shape, said, rng, steps, solver, device=self.mean.device):
            yield (x * self.sd + self.mean).clamp(-1, 1)


class DecoderTraining(nn.Module):
    """A Trainable around a diffusion decoder.

    Beside denoising, the layout map is asked for the picture itself, at low resolution and from the condition alone:
    the mean of all pictures that the condition allows. Denoising teaches the same only at the highest noise, a tenth
    of the samples, and there was late to learn which colour belongs above which.

    A batch holds `image` (B, C, S, S) and what was said: `z` (B, D), `tokens` (B, L), and `guess` (B, D) where there
    is a prior; or `codes` and `has_codes` (B, A).
    """

    turns = ("decoder",)

    def __init__(self, decoder: DiffusionDecoder, objective: DecoderObjective):
        super().__init__()
        self.decoder, self.tell, self.layout = decoder, objective, objective.layout
        self.guess = nn.Conv2d(LAYOUT, 4 * decoder.config.colours, 1) if objective.layout else None

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "decoder") -> dict[str, Tensor]:
        decoder = self.decoder
        x_0 = (batch["image"] - decoder.mean) / decoder.sd
        said = decoder.read(self.tell(batch))
        denoising = denoising_loss(decoder.objective, decoder.unet, x_0, said)
        if self.guess is None:
            return {"loss": denoising}
        layout = said["layout"]
        coarse = F.pixel_unshuffle(F.adaptive_avg_pool2d(x_0, 2 * layout.shape[-1]), 2)
        placing = F.mse_loss(self.guess(layout), coarse)
        return {"loss": denoising + self.layout * placing, "denoising": denoising, "layout": placing}
