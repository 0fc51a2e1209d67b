"""Embeddings of the training data, from which priors and decoder of a text-to-image run are trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch
from condgen.data.batches.base import to_float
from condgen.data.batches.captions import CaptionBatches
from condgen.data.embeddings.compute import digest_of, embed
from condgen.data.embeddings.store import EmbedBatches, Embeds
from condgen.data.streaming.batches import ShardBatches
from condgen.files.weights import load_part, save_part
from condgen.nn.embedding_normalizer import EmbeddingNormalizer

if TYPE_CHECKING:
    from condgen.tasks.text_to_image import TextToImageTask

BAR = "embeddings"
"""What the progress display calls their computation."""


class Embeddings:
    """Embeddings of images and captions: in memory, or on disk where they are given or the data are a stream.

    Args:
        task: the run, whose encoder is trained.
    """

    def __init__(self, task: TextToImageTask):
        self.task, self.config, self.space = task, task.config, task.text_spec.space

    @cached_property
    def stored(self) -> Embeds | None:
        """Embeddings on disk: given ones, or those of a stream; None for images in memory.

        Raises:
            CondgenError: they are those of another encoder.
        """
        task = self.task
        if self.config.embeds:
            embeds = Embeds(self.config.embeds)
            embeds.check(self.space)
            return embeds
        if not task.embeds_stream:
            return None
        with distributed.main_process_first(), distributed.on_accelerator(task.clip):
            embeds = embed(
                task.clip, task.tokenizer, task.data, task.root / "embeds",
                lambda share, message: task.display.show(BAR, share, message),
            )  # fmt: skip
        task.display.show(BAR, 1.0, "done")
        return embeds

    @cached_property
    def image_embed(self) -> Tensor:
        """(N, D) embeddings of the training images."""
        data, clip = self.task.data, self.task.clip
        if self.stored is not None:
            self.stored.check(self.space, digest_of(data))
            return self.stored.image(torch.arange(len(data)))
        return _in_chunks(lambda i, device: clip.embed_image(to_float(data.images[i]).to(device)), len(data), clip)

    @cached_property
    def text_embed(self) -> Tensor:
        """(T, D) embeddings of the captions."""
        clip, tokens = self.task.clip, torch.from_numpy(self.task.tokens)
        return _in_chunks(lambda i, device: clip.embed_text(tokens[i].to(device)), len(tokens), clip)

    @cached_property
    def regression(self) -> Tensor:
        """(T, D), what the regression prior predicts for the captions."""
        prior, embeds, tokens = self.task.priors["regression"], self.text_embed, torch.from_numpy(self.task.tokens)

        def draw(i: slice, device: torch.device) -> Tensor:
            return prior.draw(embeds[i].to(device), tokens[i].to(device), [], self.normalizer)

        return _in_chunks(draw, len(embeds), prior, self.normalizer)

    @cached_property
    def normalizer(self) -> EmbeddingNormalizer:
        """Fitted to the image embeddings where the run has none yet."""
        folder, stored = self.task.parts / "normaliser", self.stored
        image_embed = self.image_embed if stored is None else None
        with distributed.main_process_first():
            if not (folder / "model.safetensors").exists():
                if stored is None:
                    fitted = EmbeddingNormalizer.fit(image_embed, self.space)
                else:
                    fitted = EmbeddingNormalizer.of(stored.mean, stored.sd, self.space)
                save_part(fitted, folder)
        return load_part(EmbeddingNormalizer, folder)

    def prior_batches(self, batch: int) -> CaptionBatches | EmbedBatches:
        """Embeddings and tokens, without images."""
        if self.stored is not None:
            return EmbedBatches(self.stored, batch, self.config.seed, **distributed.process())
        views = self.task.views(batch).without_images()
        return views.cache("image_embed", self.image_embed, "image").cache("text_embed", self.text_embed, "text")

    def decoder_batches(self, batch: int) -> CaptionBatches | ShardBatches:
        """Images with the condition of the decoder, see `DecoderObjective`."""
        objective, normalizer, task = self.config.decoder_objective, self.normalizer, self.task
        from_text = objective.conditioning == "text_embed"
        predicts = not from_text and objective.prior_sample_prob and "regression" in task.priors
        views = task.views(batch, shift=self.config.data.random_shift)
        if isinstance(views, CaptionBatches):
            if from_text:
                return views.cache("z", normalizer(self.text_embed), per="text")
            views.cache("z", normalizer(self.image_embed), per="image")
            return views.cache("guess", self.regression, per="text") if predicts else views
        embeds = self.stored
        embeds.check(self.space, task.data.digest)

        def text_embed(rows: Batch) -> Tensor:
            return embeds.text(rows["row"], rows["caption"])

        if from_text:
            return views.derive("z", lambda rows: normalizer(text_embed(rows)))
        views.derive("z", lambda rows: normalizer(embeds.image(rows["row"])))
        if predicts:
            prior = task.priors["regression"]
            views.derive("guess", lambda rows: prior.draw(text_embed(rows), rows["tokens"], [], normalizer).clone())
        return views


def _in_chunks(
    compute: Callable[[slice, torch.device], Tensor], n: int, *modules: nn.Module, size: int = 512
) -> Tensor:
    """(n, D) on the CPU, computed in chunks; the processes share the work.

    Args:
        compute: rows and the device that the modules are on -> their values.
    """
    with distributed.on_accelerator(*modules) as device, torch.inference_mode():

        def rows(part: slice) -> Tensor:
            chunks = [slice(i, min(i + size, part.stop)) for i in range(part.start, part.stop, size)]
            return torch.cat([compute(chunk, device).cpu() for chunk in chunks])

        return distributed.share_rows(rows, n).clone()
