"""The autoregressive prior: an image embedding as a sequence of quantised principal components."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch, CondgenWarning, SamplingOption, check_options, limited
from condgen.kinds import Kind
from condgen.nn.specs import TextSpec
from condgen.priors.transformer import (
    BEST_OF,
    GUIDANCE,
    EmbeddingNormalizer,
    PriorConfig,
    PriorNetwork,
    PriorTraining,
    most_similar,
)

KEPT = 0.99
"""Share of the variance of the embeddings that the principal components keep."""


@dataclass(frozen=True)
class AutoregressiveConfig(PriorConfig):
    """Options of the autoregressive prior.

    Args:
        dims: largest number of principal components K; fewer where they keep 99 % of the variance.
        buckets: number of values that a component is quantised to.
    """

    dims: int = limited(512, low=1, high=2**16)
    buckets: int = limited(64, low=2, high=2**16)


class Quantizer(nn.Module):
    """image_embed and text_embed <-> 1 + K codes: of their dot product, and of the principal components of image_embed
    in the order of their variance. Buckets have equal widths between the least and the largest value in the training
    data; values outside get the code of the outermost bucket.

    Until it is calibrated, the components are the first K dimensions, and values lie in [-1, 1].
    """

    def __init__(self, embed_dim: int, dims: int, buckets: int):
        super().__init__()
        self.buckets = buckets
        self.register_buffer("mean", torch.zeros(embed_dim))
        self.register_buffer("components", torch.eye(dims, embed_dim))
        self.register_buffer("low", -torch.ones(1 + dims))
        self.register_buffer("width", torch.full((1 + dims,), 2 / buckets))

    def calibrate(self, image_embed: Tensor, text_embed: Tensor) -> None:
        """Fits components and buckets to embeddings of training images and of a caption of each, (N, D) both."""
        _, components = principal_components(image_embed)
        self.mean.copy_(image_embed.mean(0))
        self.components.copy_(components[: len(self.components)])
        values = self.values(image_embed, text_embed)
        self.low.copy_(values.amin(0))
        self.width.copy_(((values.amax(0) - self.low) / self.buckets).clamp(min=1e-6))

    def values(self, image_embed: Tensor, text_embed: Tensor) -> Tensor:
        """The dot products and the components, (B, 1 + K), before they are quantised."""
        similarity = (image_embed * text_embed).sum(1, keepdim=True)
        return torch.cat([similarity, F.linear(image_embed - self.mean, self.components)], 1)

    def forward(self, image_embed: Tensor, text_embed: Tensor) -> Tensor:
        """Codes int64 (B, 1 + K), from 0 to `buckets` - 1."""
        places = (self.values(image_embed, text_embed) - self.low) / self.width
        return places.floor().long().clamp(0, self.buckets - 1)

    def centres(self, codes: Tensor) -> Tensor:
        """Codes (B, 1 + K) -> the values at the centres of their buckets, (B, 1 + K)."""
        return self.low + (codes + 0.5) * self.width

    def back(self, codes: Tensor) -> Tensor:
        """Codes (B, 1 + K) -> image embeddings, unit vectors (B, D)."""
        return F.normalize(F.linear(self.centres(codes)[:, 1:], self.components.T, self.mean), dim=1)


def principal_components(embeds: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (D,) in decreasing order, and components (D, D) of embeddings (N, D), a row each, float64.

    The largest entry of a component is positive.
    """
    centred = embeds.double() - embeds.double().mean(0)
    variance, columns = torch.linalg.eigh(centred.T @ centred / max(len(embeds) - 1, 1))
    rows = columns.T.flip(0)
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return variance.flip(0).clamp(min=0), rows * largest.sign()


class CodeNetwork(PriorNetwork):
    """[words, text_embed, start, codes] -> logits of the code after the start token and after every code.

    The tokens up to the start see each other; a code sees them, itself and the codes before it.

    Args:
        config, spec: config and spec of the prior.
        length: number of codes.
    """

    def __init__(self, config: AutoregressiveConfig, spec: TextSpec, length: int):
        super().__init__(config, spec, after=length - 1, out=config.buckets)
        self.length = length
        self.code = nn.Embedding(config.buckets, config.width)
        self.bias = nn.Parameter(torch.zeros(length, config.buckets))
        nn.init.normal_(self.code.weight, std=0.5)

    def forward(self, text_embed: Tensor, tokens: Tensor, has_text: Tensor, codes: Tensor) -> Tensor:
        """Logits of all codes, (B, length, buckets), given those before them.

        Args:
            text_embed, tokens, has_text: as in `PriorNetwork`.
            codes: int64 (B, length - 1), all but the last.
        """
        start, seen = self.prefix(text_embed, tokens, has_text)
        h, first = torch.cat([start, self._embedded(codes, 0)], 1), start.shape[1]
        mask = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool, device=h.device).tril()
        mask[:first, :first] = True
        mask = mask & F.pad(seen, (0, codes.shape[1]), value=True)[:, None]
        for block in self.blocks:
            h = block(h, mask)
        return self._logits(h[:, first - 1 :], 0)

    def begin(self, text_embed: Tensor, tokens: Tensor, has_text: Tensor, n: int = 1) -> tuple[Tensor, SequenceState]:
        """Logits (n B, buckets) of the first code of n sequences for each text, and the state to go on from.

        Sequence k of text i is row k B + i.
        """
        h, seen = self.prefix(text_embed, tokens, has_text)
        caches: list[list[Tensor]] = [[] for _ in self.blocks]
        for block, cache in zip(self.blocks, caches):
            h = block(h, seen, cache=cache)
            cache[:] = [part.repeat(n, 1, 1, 1) for part in cache]
        return self._logits(h[:, -1:], 0)[:, 0].repeat(n, 1), SequenceState(seen.repeat(n, 1), caches)

    def step(self, code: Tensor, place: int, state: SequenceState) -> Tensor:
        """Logits (B, buckets) of the code at `place` + 1; the code at `place`, (B,), is added to the state."""
        state.seen = F.pad(state.seen, (0, 1), value=True)
        h = self._embedded(code[:, None], place)
        for block, cache in zip(self.blocks, state.caches):
            h = block(h, state.seen, cache=cache)
        return self._logits(h, place + 1)[:, 0]

    def _embedded(self, codes: Tensor, first: int) -> Tensor:
        after = self.context + 2 + first
        return self.code(codes) + self.place[:, after : after + codes.shape[1]]

    def _logits(self, h: Tensor, first: int) -> Tensor:
        return self.out(self.norm(h)) + self.bias[first : first + h.shape[1]]


@dataclass
class SequenceState:
    """What `CodeNetwork.step` keeps of the tokens so far: `seen` (B, N), and keys and values of every block."""

    seen: Tensor
    caches: list[list[Tensor]]


class AutoregressivePrior(nn.Module):
    """text -> z: first the similarity that image and text shall have, then one quantised principal component of the
    image embedding after the other.

    References:
        Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), section 2.2
    """

    sampling_options = (
        SamplingOption(
            "prior_top", 0.5, 0.01, 1, "float",
            "the similarity of image and text is drawn from this upper share of its distribution; 1 draws from all",
        ),
        SamplingOption("prior_temperature", 1.0, 0, 2, "float", "temperature of the codes; 0 takes the most probable"),
        GUIDANCE,
        BEST_OF,
    )  # fmt: skip

    def __init__(self, config: AutoregressiveConfig, spec: TextSpec):
        super().__init__()
        self.config, self.spec = config, spec
        dims = min(config.dims, spec.embed_dim)
        self.quantizer = Quantizer(spec.embed_dim, dims, config.buckets)
        self.network = CodeNetwork(config, spec, 1 + dims)

    @torch.inference_mode()
    def draw(
        self,
        text_embed: Tensor,
        tokens: Tensor,
        rng: list[torch.Generator],
        normalizer: EmbeddingNormalizer,
        **options: float,
    ) -> Tensor:
        """z for B captions, (B, D); caption i draws from generator i alone."""
        options = check_options(self.sampling_options, options)
        n, length = int(options["best_of"]), self.network.length
        uniform = torch.stack([torch.rand(n, length, generator=generator) for generator in rng], 1)  # (n, B, length)
        uniform[..., 0] = 1 - options["prior_top"] * (1 - uniform[..., 0])
        codes = self.sample_codes(
            text_embed, tokens, uniform.to(text_embed.device), options["prior_guidance"], options["prior_temperature"]
        )
        z = normalizer(self.quantizer.back(codes.flatten(0, 1))).unflatten(0, codes.shape[:2])
        return most_similar(z.transpose(0, 1), text_embed, normalizer)

    def sample_codes(
        self, text_embed: Tensor, tokens: Tensor, uniform: Tensor, guidance: float = 1.0, temperature: float = 1.0
    ) -> Tensor:
        """n sequences of codes for each of B captions, int64 (n, B, 1 + K).

        Args:
            text_embed, tokens: (B, D) and (B, L).
            uniform: (n, B, 1 + K), numbers in [0, 1) that choose the codes by their cumulative probability.
            guidance: logits are null + guidance (conditional - null).
            temperature: logits are divided by it.
        """
        n, rows, length = uniform.shape
        sides = [True] if guidance == 1 else [False] if guidance == 0 else [True, False]
        has_text = torch.tensor(sides, device=text_embed.device).repeat_interleave(rows)
        both = (text_embed.repeat(len(sides), 1), tokens.repeat(len(sides), 1), has_text)
        logits, state = self.network.begin(*both, n)
        codes = []
        for place in range(length):
            parts = logits.float().unflatten(0, (n, len(sides), rows))
            mixed = parts[:, 0] if len(sides) == 1 else parts[:, 1] + guidance * (parts[:, 0] - parts[:, 1])
            codes.append(choose(mixed / max(temperature, 1e-4), uniform[..., place]))
            if place + 1 < length:
                again = codes[-1][:, None].expand(n, len(sides), rows).flatten()
                logits = self.network.step(again, place, state)
        return torch.stack(codes, -1)


def choose(logits: Tensor, uniform: Tensor) -> Tensor:
    """The codes at which the cumulative probability passes given numbers in [0, 1).

    Args:
        logits: (..., buckets). uniform: (...).
    """
    cumulative = logits.softmax(-1).cumsum(-1)
    passed = cumulative <= uniform[..., None] * cumulative[..., -1:]
    return passed.sum(-1).clamp(max=logits.shape[-1] - 1)


class AutoregressiveTraining(PriorTraining):
    """Cross-entropy of the codes, with the caption dropped for a tenth of the samples."""

    def loss(self, batch: Batch, turn: str = "prior") -> dict[str, Tensor]:
        codes = self.prior.quantizer(batch["image_embed"], batch["text_embed"])
        logits = self.prior.network(**self.condition(batch), codes=codes[:, :-1])
        return {"loss": F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())}


def configure(config: AutoregressiveConfig, embeds: Batch) -> AutoregressiveConfig:
    """The config with as many components as keep 99 % of the variance of image embeddings, at most `dims`.

    Args:
        embeds: `image_embed` and `text_embed`, (N, D) each.
    """
    variance, _ = principal_components(embeds["image_embed"])
    kept = variance.cumsum(0) / variance.sum().clamp(min=1e-12)
    enough = min(int((kept < KEPT).sum()) + 1, len(kept)) if kept[-1] > KEPT else 1  # embeddings that are all equal
    if enough > config.dims:
        warnings.warn(
            f"{config.dims} principal components keep {100 * kept[config.dims - 1]:.1f} % of the variance of the "
            f"embeddings; --prior.dims {enough} keeps {100 * KEPT:.0f} %.",
            CondgenWarning,
            stacklevel=2,
        )
    return replace(config, dims=min(enough, config.dims))


def calibrate(prior: AutoregressivePrior, embeds: Batch) -> None:
    prior.quantizer.calibrate(embeds["image_embed"], embeds["text_embed"])


KIND = Kind(AutoregressivePrior, AutoregressiveConfig, AutoregressiveTraining, calibrate=calibrate, configure=configure)
