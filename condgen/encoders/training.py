"""What a CLIP learns from: matching captions to pictures, telling swapped captions apart, reading the caption back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from condgen import ranks
from condgen.contracts import Batch
from condgen.encoders.clip import CLIP, MAX_SCALE
from condgen.encoders.tokenizer import PAD
from condgen.losses import info_nce
from condgen.nn.layers import Block


@dataclass(frozen=True)
class ClipObjective:
    """Weights of the parts.

    Args:
        negatives: wrong captions a picture is shown beside the batch's own; 0 is off.
        caption: weight of reading the caption back from the image embedding; 0 is off.
        chunk: pictures, or captions, that go through a tower at a time, in every process; 0 is all. A chunk is embedded
            without keeping what its gradient needs, and once more, with the same random numbers, when that comes back:
            memory for one chunk, a contrastive loss over the whole batch, the gradients those of one piece.

    References:
        Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (Gao et al., 2021), for chunks
    """

    negatives: int = 2
    caption: float = 0.5
    chunk: int = 0


class CaptionReader(nn.Module):
    """Predicts every token of the caption from the image embedding, all places at once.

    Reading in parallel, not left to right: a left-to-right reader learns which shape follows which colour, and so that
    a combination it never saw is wrong.

    References:
        Image Captioners Are Scalable Vision Learners Too (Tschannen et al., 2023), parallel prediction
    """

    def __init__(self, clip: CLIP, tokens: int = 4):
        super().__init__()
        config, width = clip.config, clip.config.text_width
        self.tokens = tokens
        self.spread = nn.Linear(config.embed_dim, tokens * width)
        self.query = nn.Parameter(torch.randn(1, config.context, width) * 0.5)
        self.block = Block(width, config.heads, context_width=width)
        self.out = nn.Linear(width, config.vocab)

    def forward(self, image_embed: Tensor) -> Tensor:
        """(B, D) -> logits (B, L, vocab)."""
        context = self.spread(image_embed * math.sqrt(image_embed.shape[1])).unflatten(1, (self.tokens, -1))
        return self.out(self.block(self.query.expand(len(image_embed), -1, -1), context=context))


class ClipTraining(nn.Module):
    """A Trainable around a CLIP.

    A batch holds `image` (B, 3, S, S), `tokens` (B, L), `text_id` (B,), `true_ids` (B, C) with -1 for none, and
    optionally `negative_tokens` (B, M, L) with `negative_id` (B, M), -1 for none.
    """

    turns = ("clip",)

    def __init__(self, clip: CLIP, objective: ClipObjective):
        super().__init__()
        self.clip, self.objective = clip, objective
        self.reader = CaptionReader(clip) if objective.caption else None

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "clip") -> dict[str, Tensor]:
        if self.training:
            with torch.no_grad():  # the parameter itself, so that it can come back down
                self.clip.log_scale.clamp_(max=math.log(MAX_SCALE))
        image_embed = self._in_chunks(self.clip.embed_image, batch["image"])
        true_ids = ranks.gathered(batch["true_ids"])
        matches = _is_true(true_ids, ranks.gathered(batch["text_id"]))
        texts, negatives, negative_ok = batch["tokens"], None, None
        if "negative_tokens" in batch and self.objective.negatives:
            ids = ranks.gathered(batch["negative_id"].flatten())
            negative_ok = (ids >= 0)[None] & ~_is_true(true_ids, ids)
            texts = torch.cat([texts, batch["negative_tokens"].flatten(0, 1)])
        embeds = self._in_chunks(self.clip.embed_text, texts)
        own = len(image_embed)
        text_embed, negatives = ranks.gathered(embeds[:own]), ranks.gathered(embeds[own:])
        contrast = info_nce(ranks.gathered(image_embed), text_embed, self.clip.scale, matches, negatives, negative_ok)
        parts = {"loss": contrast, "contrast": contrast, "scale": self.clip.scale.detach()}
        if self.reader is not None:
            wrong = self._in_chunks(self._caption_errors, image_embed, batch["tokens"]).sum()
            caption = wrong / ranks.mean((batch["tokens"] != PAD).sum().float())
            parts |= {"loss": contrast + self.objective.caption * caption, "caption": caption}
        return parts

    def _caption_errors(self, image_embed: Tensor, tokens: Tensor) -> Tensor:
        """Cross-entropy of every token, (B, L), 0 at padding."""
        logits = self.reader(image_embed).transpose(1, 2)  # (B, vocab, L)
        return F.cross_entropy(logits, tokens, ignore_index=PAD, reduction="none")

    def _in_chunks(self, compute: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        size = self.objective.chunk
        if not size or len(rows[0]) <= size:
            return compute(*rows)
        parts = zip(*(x.split(size) for x in rows))
        return torch.cat([checkpoint(compute, *part, use_reentrant=False) for part in parts])


def _is_true(true_ids: Tensor, text_ids: Tensor) -> Tensor:
    """bool (B, K): whether text k is among the captions of picture i; true_ids (B, C), text_ids (K,)."""
    return (true_ids[:, :, None] == text_ids[None, None, :]).any(1)
