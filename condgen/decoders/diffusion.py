"""The diffusion decoder: paints what an image embedding and the words say, starting from noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch, Knob, check_knobs
from condgen.diffusion.guidance import Guided
from condgen.diffusion.precondition import OBJECTIVES, denoising_loss
from condgen.diffusion.sampling import sample
from condgen.nn.conditioning import ConditionDrop, ImageAndWords, condition, say_nothing
from condgen.nn.unet import LAYOUT, UNet, UNetConfig


@dataclass(frozen=True)
class DiffusionDecoderConfig:
    """Shape of a decoder.

    Args:
        size: edge of the pictures.
        embed_dim, vocab, context: of the encoder whose embeddings and tokens it reads.
        space: fingerprint of that encoder.
        objective: what the network is asked for, `x` or `edm`; see `diffusion.precondition`.
        channels, blocks, depth, heads: of the U-Net.
        width: of the condition tokens.
        word_depth: attention blocks over the words.
        guidance: default guidance scale when sampling.
        steps: default number of steps.
        solver: `dpm++`, ours; `unipc` and `euler` are diffusers'. See `diffusion.sampling`.
    """

    size: int = 32
    embed_dim: int = 128
    vocab: int = 64
    context: int = 12
    space: str = ""
    objective: Literal["x", "edm"] = "x"
    channels: tuple[int, ...] = (48, 128)
    blocks: int = 1
    depth: int = 2
    heads: int = 4
    width: int = 128
    word_depth: int = 2
    guidance: float = 2.0
    steps: int = 12
    solver: Literal["dpm++", "unipc", "euler"] = "dpm++"


class DiffusionDecoder(nn.Module):
    """cond -> picture by denoising.

    The pictures' channel means and deviations are part of the model: inside, data has mean 0 and sd 1.
    """

    def __init__(self, config: DiffusionDecoderConfig):
        super().__init__()
        self.config = config
        self.objective = OBJECTIVES[config.objective]()
        self.said = ImageAndWords(
            config.embed_dim, config.vocab, config.context, config.width, config.heads, config.word_depth
        )
        shape = UNetConfig(config.size, config.channels, config.blocks, config.depth, config.heads)
        self.unet = UNet(shape, config.width)
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("sd", torch.ones(3, 1, 1))

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What may be turned when sampling."""
        return (
            Knob("guidance", self.config.guidance, 0, 20, "float", "how closely to follow the prompt; 1 is off"),
            Knob("steps", self.config.steps, 1, 200, "int", "denoising steps"),
        )

    def read(self, cond: Batch) -> Batch:
        """Encodes a condition once for all noise levels: its vector, tokens and layout map."""
        said = self.said(cond)
        return said | {"layout": self.unet.layout(said)}

    def denoise(self, x_t: Tensor, t: Tensor, said: Batch) -> Tensor:
        """x_0 from x_t, both (B, 3, S, S) with sd 1, given what `read` made of the condition."""
        return self.objective.denoise(self.unet, x_t, t, said)

    def sample(self, cond: Batch, rng: list[torch.Generator], **knobs: float) -> Iterator[Tensor]:
        """Yields the picture so far, (B, 3, S, S) in [-1, 1], after every step; the last one is the result."""
        dials = check_knobs(self.knobs, knobs)
        with torch.inference_mode():
            said, nothing = self.read(cond), self.read(say_nothing(cond))
        guided = Guided(self.denoise, lambda _: nothing, dials["guidance"])
        shape = (3, self.config.size, self.config.size)
        steps, solver = int(dials["steps"]), self.config.solver
        for x in sample(guided, shape, said, rng, steps, solver, device=self.mean.device):
            yield (x * self.sd + self.mean).clamp(-1, 1)


@dataclass(frozen=True)
class DecoderObjective:
    """How a decoder is trained: what is dropped, see `nn.conditioning.ConditionDrop`, and what it is told.

    Args:
        both, z, words, noise: see ConditionDrop.
        layout: weight of the layout loss, see DecoderTraining; 0 is off.
        guessed: share of the samples that are told the prior's guess of the embedding and not the picture's own.
        told: `image`, the embedding of the picture itself, or `text`, the embedding of its caption (the paper's
            ablation of the prior).
    """

    both: float = 0.1
    z: float = 0.1
    words: float = 0.2
    noise: float = 0.15
    told: Literal["image", "text"] = "image"
    layout: float = 1.0
    guessed: float = 0.4


class DecoderTraining(nn.Module):
    """A Trainable around a diffusion decoder.

    Beside denoising, the layout map is asked for the picture itself, at low resolution and from the condition alone:
    the mean of all pictures that the condition allows. Denoising teaches the same only at the highest noise, a tenth
    of the samples, and there was late to learn which colour belongs above which.

    Where a caption leaves open what goes where, a prior's guess lies between the embeddings of all pictures it allows,
    and so where no picture's own embedding lies. A decoder must have seen such guesses to paint well from them.

    A batch holds `image` (B, 3, S, S), `z` (B, D), `tokens` (B, L), and `guess` (B, D) where there is a prior.
    """

    turns = ("decoder",)

    def __init__(self, decoder: DiffusionDecoder, objective: DecoderObjective):
        super().__init__()
        self.decoder, self.layout, self.guessed = decoder, objective.layout, objective.guessed
        self.guess = nn.Conv2d(LAYOUT, 12, 1) if objective.layout else None
        drop = {name: value for name, value in asdict(objective).items() if name in ("both", "z", "words", "noise")}
        self.drop = ConditionDrop(**drop)

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "decoder") -> dict[str, Tensor]:
        decoder = self.decoder
        x_0 = (batch["image"] - decoder.mean) / decoder.sd
        z = batch["z"]
        if self.guessed and "guess" in batch:
            guessed = torch.rand(len(z), 1, device=z.device) < self.guessed
            z = torch.where(guessed, batch["guess"], z)
        cond = self.drop(condition(z, batch["tokens"]))
        said = decoder.read(cond)
        denoising = denoising_loss(decoder.objective, decoder.unet, x_0, said)
        if self.guess is None:
            return {"loss": denoising}
        layout = said["layout"]
        coarse = F.pixel_unshuffle(F.adaptive_avg_pool2d(x_0, 2 * layout.shape[-1]), 2)
        placing = F.mse_loss(self.guess(layout), coarse)
        return {"loss": denoising + self.layout * placing, "denoising": denoising, "layout": placing}
