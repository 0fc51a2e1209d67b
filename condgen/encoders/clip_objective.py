"""Training of CLIP: contrastive loss, hard negatives, and captioning from the image embedding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, Encoder, limited
from condgen.encoders.backbones import PatchTransformer
from condgen.encoders.clip import CLIP, MAX_SCALE
from condgen.encoders.tokenizer import PAD
from condgen.losses import info_nce, info_nce_floor, siglip, siglip_floor
from condgen.nn.conditioning import without_padding
from condgen.nn.layers import Block, in_chunks


@dataclass(frozen=True)
class ClipObjective:
    """Training options of a CLIP.

    Args:
        loss: `infonce`, softmax over the batch in both directions; `siglip`, binary classification of every pair, which
            needs an encoder with a bias.
        positives: `pair`, an image and the text drawn with it; `text`, an image and all texts of the batch that are its
            captions; `label`, images and texts of one class.
        patch_dropout: share of the patches that a patch transformer drops in training.
        negatives: hard negative captions for every image; 0 is off.
        caption: weight of predicting the caption from the image embedding; 0 is off.
        chunk: images or captions in one forward pass, in every process; 0 is all. Chunks save memory and do not change
            loss and gradients, see `nn.layers.in_chunks`.

    References:
        Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (Gao et al., 2021), for chunks
    """

    loss: Literal["infonce", "siglip"] = "infonce"
    positives: Literal["pair", "text", "label"] = "text"
    patch_dropout: float = 0.0
    negatives: int = limited(2, low=0)
    caption: float = limited(0.5, low=0)
    chunk: int = limited(0, low=0)


class CaptionReader(nn.Module):
    """Predicts all tokens of the caption from the image embedding, in parallel.

    An autoregressive model would learn which shape follows which colour, and assign low probability to combinations
    that are not in the training data.

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

    def forward(self, image_embed: Tensor, length: int) -> Tensor:
        """(B, D) -> logits (B, `length`, vocab) of the first tokens."""
        context = self.spread(image_embed * math.sqrt(image_embed.shape[1])).unflatten(1, (self.tokens, -1))
        return self.out(self.block(self.query[:, :length].expand(len(image_embed), -1, -1), context=context))


class ClipTraining(nn.Module):
    """A Trainable around an encoder.

    A batch holds `image` (B, 3, S, S), `tokens` (B, L), `text_id` (B,), `true_ids` (B, C) with -1 for none; where the
    objective needs them `label` (B,), and optionally `negative_tokens` (B, M, L) with `negative_id` (B, M), -1 for
    none. Weights without `requires_grad` stay as they are.

    Raises:
        CondgenError: the objective does not fit the encoder.
    """

    turns = ("clip",)

    def __init__(self, clip: Encoder, objective: ClipObjective):
        super().__init__()
        self.clip, self.objective = clip, objective
        if objective.loss == "siglip" and clip.bias is None:
            raise CondgenError("The loss siglip needs an encoder whose logits have a bias; this one has none.")
        if objective.caption and not isinstance(clip, CLIP):
            raise CondgenError("Only encoders of condgen can be trained with captions: set --clip_objective.caption 0.")
        patched = [part for part in clip.modules() if isinstance(part, PatchTransformer)]
        if objective.patch_dropout and not (patched and objective.patch_dropout < 1):
            raise CondgenError("patch_dropout is a share below 1, of the patches of a patch transformer.")
        for part in patched:
            part.drop = objective.patch_dropout
        self.reader = CaptionReader(clip) if objective.caption else None

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return (p for p in self.parameters() if p.requires_grad)

    def loss(self, batch: Batch, turn: str = "clip") -> dict[str, Tensor]:
        if self.training:
            with torch.no_grad():  # the parameter itself, so that it can come back down
                self.clip.log_scale.clamp_(max=math.log(MAX_SCALE))
        image_embed = self._in_chunks(self.clip.embed_image, batch["image"])
        true_ids, text_id = (
            distributed.all_gather_with_grad(batch["true_ids"]),
            distributed.all_gather_with_grad(batch["text_id"]),
        )
        matches = self._matches(batch, true_ids, text_id)
        texts, negative_ok = batch["tokens"], None
        if "negative_tokens" in batch and self.objective.negatives:
            ids = distributed.all_gather_with_grad(batch["negative_id"].flatten())
            negative_ok = (ids >= 0)[None] & ~_is_true(true_ids, ids)
            texts = torch.cat([texts, batch["negative_tokens"].flatten(0, 1)])
        embeds = self._in_chunks(self.clip.embed_text, texts)
        n = len(image_embed)
        embeds = [distributed.all_gather_with_grad(x) for x in (image_embed, embeds[:n], embeds[n:])]
        contrast, floor = self._contrast(*embeds, matches, negative_ok, text_id[:, None] == text_id)
        parts = {"loss": contrast, "contrast": contrast, "floor": floor, "scale": self.clip.log_scale.detach().exp()}
        with torch.no_grad():
            best = (embeds[0] @ embeds[1].T).argmax(1)
            parts["accuracy"] = matches[torch.arange(len(best), device=best.device), best].float().mean()
        if self.reader is not None:
            tokens = without_padding(batch["tokens"]) if self.clip.spec.trims else batch["tokens"]
            errors = self._in_chunks(self._caption_errors, image_embed, tokens).sum()
            caption = errors / distributed.mean((tokens != PAD).sum().float())
            parts |= {"loss": contrast + self.objective.caption * caption, "caption": caption}
        return parts

    def _matches(self, batch: Batch, true_ids: Tensor, text_id: Tensor) -> Tensor:
        """bool (B, B); [i, j] is true where image i and text j of the joint batch are a positive pair."""
        if self.objective.positives == "pair":
            return torch.eye(len(text_id), dtype=torch.bool, device=text_id.device)
        if self.objective.positives == "text":
            return _is_true(true_ids, text_id)
        if "label" not in batch:
            raise CondgenError("These images have no labels: choose --objective.positives text or pair.")
        label = distributed.all_gather_with_grad(batch["label"])
        return label[:, None] == label

    def _contrast(
        self,
        image_embed: Tensor,
        text_embed: Tensor,
        negatives: Tensor,
        matches: Tensor,
        ok: Tensor | None,
        same: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The loss of the joint batch, and its smallest possible value."""
        scale = self.clip.log_scale.exp()
        if self.objective.loss == "infonce":
            loss = info_nce(image_embed, text_embed, scale, matches, negatives, ok)
            if self.clip.bias is not None:  # unused, but processes wait for the gradient of every weight
                loss = loss + 0 * self.clip.bias
            return loss, info_nce_floor(matches, same)
        loss = siglip(image_embed, text_embed, scale, self.clip.bias, matches, negatives, ok)
        return loss, siglip_floor(matches, same)

    def _caption_errors(self, image_embed: Tensor, tokens: Tensor) -> Tensor:
        """Cross-entropy of every token, (B, L), 0 at padding."""
        logits = self.reader(image_embed, tokens.shape[1]).transpose(1, 2)  # (B, vocab, L)
        return F.cross_entropy(logits, tokens, ignore_index=PAD, reduction="none")

    def _in_chunks(self, compute: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        return in_chunks(compute, self.objective.chunk, *rows)


def _is_true(true_ids: Tensor, text_ids: Tensor) -> Tensor:
    """bool (B, K), true where text k is among the captions of image i; true_ids (B, C), text_ids (K,)."""
    return (true_ids[:, :, None] == text_ids[None, None, :]).any(1)
