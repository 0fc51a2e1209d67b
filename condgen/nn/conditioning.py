"""Conditioning encoders and null conditions, for image embeddings, captions, labels and attributes.

A condition is a dict of tensors with a row for each of B images. For captions it contains

    z            (B, D)  image embedding after the normalizer
    has_z        (B,)    bool
    tokens       (B, L)  token ids, 0 is padding
    has_text    (B,)    bool

where the embedding or the tokens may be missing. For A labels or attributes it contains

    targets      (B, A)  index of a value, or a standardised number, see `data.attributes`
    has_targets  (B, A)  bool, True where the attribute is known

A decoder is trained with parts of the condition dropped at random; the condition encoder replaces them by learned null
values. Decoders therefore support guidance and partial conditions. `build_cond_encoder` builds a module that encodes a
condition of any kind as

    vector  (B, width)
    tokens  (B, K, width)
    seen    (B, K)  bool, False for padding

which decoders read directly and as a coarse map of what goes where, see `Layout`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, limited
from condgen.nn.layers import Block
from condgen.nn.specs import CondSpec

PAD = 0
MAX_DEPTH = 1000
"""Maximum number of blocks in a config, so that a damaged file cannot keep a computer busy for hours."""


@dataclass(frozen=True)
class CondEncoderConfig:
    """Options of the condition encoder, which the configs of all decoders share.

    Args:
        width: width of the condition tokens.
        heads: heads of every attention.
        word_depth: transformer blocks over the tokens of a caption.
    """

    width: int = limited(128, low=1)
    heads: int = limited(4, low=1)
    word_depth: int = limited(2, low=0, high=MAX_DEPTH)


def condition(z: Tensor, tokens: Tensor | None = None, use_z: bool = True, use_words: bool = True) -> Batch:
    """The condition of B images, with or without the embedding z and the tokens; None where there are no captions."""
    on = torch.ones(len(z), dtype=torch.bool, device=z.device)
    image = {"z": z, "has_z": on & use_z}
    return image if tokens is None else image | {"tokens": tokens, "has_text": on & use_words}


def without_padding(tokens: Tensor) -> Tensor:
    """(B, L) token ids without the last columns that are padding in every row; at least one column stays.

    Only on the CPU: an accelerator would have to be waited for, and computes the padding faster than that.
    """
    if tokens.device.type != "cpu" or tokens.shape[1] < 2:
        return tokens
    used = (tokens != PAD).any(0).nonzero()
    return tokens[:, : int(used[-1]) + 1 if len(used) else 1]


def cond_from_batch(batch: Batch) -> Batch:
    """The complete condition of a training batch."""
    if "targets" in batch:
        return {"targets": batch["targets"], "has_targets": batch["has_targets"]}
    return condition(batch["z"], batch.get("tokens"))


def null_cond(cond: Batch) -> Batch:
    """The null condition: every part is marked as missing."""
    return {name: torch.zeros_like(value) if name.startswith("has_") else value for name, value in cond.items()}


def repeated(rows: Batch, times: int) -> Batch:
    """The rows of every tensor `times` times, one batch after another: (B, ...) -> (times * B, ...)."""
    if times == 1:
        return rows
    return {name: value.repeat(times, *[1] * (value.ndim - 1)) for name, value in rows.items()}


def build_cond_encoder(config: CondEncoderConfig, spec: CondSpec) -> nn.Module:
    """Builds the encoder for the kind of condition that the spec describes.

    Raises:
        ValueError: the spec describes no condition.
    """
    if spec.cardinalities:
        return AttributeEncoder(spec.cardinalities, config.width)
    if spec.vocab:
        encoder = ImageTextEncoder(
            spec.embed_dim, spec.vocab, spec.context, config.width, config.heads, config.word_depth
        )
        encoder.trims = spec.trims
        return encoder
    if spec.embed_dim:
        return ImageEmbedEncoder(spec.embed_dim, config.width)
    raise ValueError("a decoder must read something: embed_dim, vocab and cardinalities are all missing")


class AttributeEncoder(nn.Module):
    """Encodes labels and attributes: one token each, and their sum as the vector.

    Args:
        cardinalities: number of values of each attribute; 0 for a real number.
    """

    def __init__(self, cardinalities: tuple[int, ...], width: int):
        super().__init__()
        self.cardinalities = cardinalities
        self.values = nn.ModuleList(nn.Embedding(n, width) if n else nn.Linear(2, width) for n in cardinalities)
        self.unknown = nn.Parameter(torch.randn(len(cardinalities), width) * 0.5)
        self.to_vector = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        for table in self.values:
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.5)

    def forward(self, cond: Batch) -> Batch:
        targets, known = cond["targets"], cond["has_targets"]
        values = [self._embed(i, targets[:, i] * known[:, i]) for i in range(len(self.cardinalities))]
        tokens = torch.where(known[..., None], torch.stack(values, 1), self.unknown)
        return {"vector": self.to_vector(tokens.sum(1)), "tokens": tokens, "seen": torch.ones_like(known)}

    def _embed(self, i: int, targets: Tensor) -> Tensor:
        if self.cardinalities[i]:
            return self.values[i](targets.long())
        return self.values[i](torch.stack([targets, targets.abs()], 1))  # the second separates the middle from the ends


class ImageEmbedEncoder(nn.Module):
    """Encodes an image embedding: one vector and a few tokens."""

    def __init__(self, embed_dim: int, width: int, z_tokens: int = 4):
        super().__init__()
        self.z_tokens = z_tokens
        self.null_z = nn.Parameter(torch.zeros(embed_dim))
        self.to_vector = nn.Sequential(nn.Linear(embed_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.to_tokens = nn.Linear(embed_dim, z_tokens * width)

    def forward(self, cond: Batch) -> Batch:
        z = torch.where(cond["has_z"][:, None], cond["z"], self.null_z)
        tokens = self.to_tokens(z).unflatten(1, (self.z_tokens, -1))
        seen = torch.ones(tokens.shape[:2], dtype=torch.bool, device=z.device)
        return {"vector": self.to_vector(z), "tokens": tokens, "seen": seen}


class TokenEncoder(nn.Module):
    """(B, L) token ids -> (B, L, width): a transformer over tokens with learned positions."""

    def __init__(self, vocab: int, context: int, width: int, heads: int, depth: int):
        super().__init__()
        self.token = nn.Embedding(vocab, width)
        self.place = nn.Parameter(torch.randn(1, context, width) * 0.5)  # of the same scale as the tokens
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.token.weight, std=0.5)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        h = self.token(tokens) + self.place[:, : tokens.shape[1]]
        for block in self.blocks:
            h = block(h, seen)
        return self.norm(h) * seen[..., None]


class ImageTextEncoder(ImageEmbedEncoder):
    """Encodes an image embedding and a caption.

    References:
        Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), section 2.1
    """

    trims = False
    """Whether shared padding is left out, see `specs.EncoderSpec`."""

    def __init__(self, embed_dim: int, vocab: int, context: int, width: int, heads: int, depth: int, z_tokens: int = 4):
        super().__init__(embed_dim, width, z_tokens)
        self.words = TokenEncoder(vocab, context, width, heads, depth)

    def forward(self, cond: Batch) -> Batch:
        image = super().forward(cond)
        tokens = without_padding(cond["tokens"]) if self.trims else cond["tokens"]
        seen = (tokens != PAD) & cond["has_text"][:, None]
        # attention needs at least one key, also in rows without text
        words = self.words(tokens, seen | ~cond["has_text"][:, None]) * seen[..., None]
        return {
            "vector": image["vector"],
            "tokens": torch.cat([image["tokens"], words], 1),
            "seen": torch.cat([image["seen"], seen], 1),
        }


LAYOUT = 32
"""Channels of the layout map."""


def bottom_edge(size: int, levels: int) -> int:
    """Edge of the lowest level; `ValueError` where images of this size cannot be halved `levels` times."""
    if size % 2**levels:
        raise ValueError(f"images of {size} pixels cannot be halved {levels} times")
    return size // 2**levels


class Layout(nn.Module):
    """Encoded condition -> layout map, by a transformer over the places of the map.

    Every place attends to the tokens of the condition and to the other places. With `from_vector`, an MLP first
    computes a map from the vector of the condition: attention is slow to learn where an image embedding says that
    things are, and one block after the MLP then does what three blocks do without it.

    Args:
        width: width of the vector and of the tokens of the condition.
        edge: edge of the map.
        from_vector: whether an MLP of the condition's vector comes first.
        hidden: width of the transformer.
        heads: heads of every attention.
    """

    def __init__(self, width: int, edge: int, from_vector: bool = False, hidden: int = 64, heads: int = 4):
        super().__init__()
        self.edge, depth = edge, 1 if from_vector else 3
        self.first = _vector_to_map(width, edge, hidden) if from_vector else None
        self.where = nn.Parameter(torch.randn(1, edge**2, hidden) * 0.5)
        self.blocks = nn.ModuleList(Block(hidden, heads, context_width=width) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, LAYOUT))

    def forward(self, cond: Batch) -> Tensor:
        """-> (B, LAYOUT, edge, edge)"""
        places = torch.ones(len(cond["seen"]), self.edge**2, dtype=torch.bool, device=cond["seen"].device)
        mask = torch.cat([places, cond["seen"]], 1)
        h = self.where.expand(len(places), -1, -1)
        if self.first is not None:
            h = h + self.first(cond["vector"])
        for block in self.blocks:
            h = block(h, mask, cond["tokens"])
        return self.out(h).transpose(1, 2).unflatten(2, (self.edge, self.edge))


def _vector_to_map(width: int, edge: int, channels: int, hidden: int = 128, narrow: int = 16) -> nn.Sequential:
    """(B, width) -> (B, edge * edge, channels)"""
    mlp = (nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
    return nn.Sequential(
        *mlp, nn.Linear(hidden, narrow * edge**2), nn.Unflatten(1, (edge**2, narrow)), nn.Linear(narrow, channels)
    )


@dataclass(frozen=True)
class DecoderObjective:
    """The condition that a decoder sees in training.

    Args:
        drop_all: probability that the whole condition of a sample is dropped.
        drop_embed: probability that only the image embedding is dropped.
        drop_text: probability that only the tokens are dropped.
        drop_attr: probability that each of several attributes is dropped.
        noise: standard deviation of the noise added to z, which has unit variance, so that the decoder tolerates the
            errors of priors.
        conditioning: embedding of the condition: `image_embed`, that of the image itself, or `text_embed`, that of its
            caption (the paper's ablation of the prior).
        prior_sample_prob: probability that z is the prior's prediction and not the image's embedding.
    """

    drop_all: float = limited(0.1, low=0, high=1)
    drop_embed: float = limited(0.1, low=0, high=1)
    drop_text: float = limited(0.2, low=0, high=1)
    drop_attr: float = limited(0.1, low=0, high=1)
    noise: float = limited(0.15, low=0)
    conditioning: Literal["image_embed", "text_embed"] = "image_embed"
    prior_sample_prob: float = limited(0.4, low=0, high=1)

    def __call__(self, batch: Batch) -> Batch:
        """The condition of a training batch.

        Where a caption leaves the layout open, a prior's prediction lies between the embeddings of all images that the
        caption allows, where no image's own embedding lies. A decoder must have seen such predictions in training.
        """
        cond = cond_from_batch(batch)
        if self.prior_sample_prob and "guess" in batch:
            z = batch["z"]
            predicted = torch.rand(len(z), 1, device=z.device) < self.prior_sample_prob
            cond["z"] = torch.where(predicted, batch["guess"], z)
        return self.drop(cond)

    def drop(self, cond: Batch) -> Batch:
        """Drops random parts of the condition of each sample; returns a new batch."""
        if "has_targets" in cond:
            known = cond["has_targets"]
            n, attributes = known.shape
            known = known & (torch.rand(n, 1, device=known.device) >= self.drop_all)
            if attributes > 1:
                known = known & (torch.rand(n, attributes, device=known.device) >= self.drop_attr)
            return cond | {"has_targets": known}
        z = cond["z"]
        u = torch.rand(len(z), device=z.device)
        drop_all, drop_embed = u < self.drop_all, (self.drop_all <= u) & (u < self.drop_all + self.drop_embed)
        two = self.drop_all + self.drop_embed
        drop_text = (two <= u) & (u < two + self.drop_text)
        image = {"z": z + self.noise * torch.randn_like(z), "has_z": cond["has_z"] & ~(drop_all | drop_embed)}
        text = {"has_text": cond["has_text"] & ~(drop_all | drop_text)} if "has_text" in cond else {}
        return cond | image | text
