"""Self-supervised contrastive training of backbones.

The methods differ in their negatives: the batch (SimCLR), a queue of earlier embeddings by a momentum encoder (MoCo),
or a memory bank of all images (instance discrimination). Queue and bank are part of the state: equal in every process,
saved with it, and changed by `remember` alone.

Every loss is that of the joint batch of all processes, and with chunks that of the whole batch, as long as the norms
are per image (group norm, the default, and layer norm). Batch norms see the images of one chunk of one process; with
chunks they also take every image into their running statistics twice.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, limited
from condgen.encoders.backbones import Backbone
from condgen.losses import instance_nce, instance_softmax, log_partition, nt_xent, queue_nce, spread
from condgen.nn.layers import in_chunks

ROWS = 512
"""Images in one forward pass, where no gradient is needed."""


@dataclass(frozen=True)
class SelfsupObjective:
    """Training options of a backbone.

    Args:
        temperature: temperature of the softmax; 0 takes the default of the method, see TEMPERATURES.
        dim: width D of the embeddings that are compared.
        hidden: width of the hidden layer of the projection head; 0 for a linear head.
        key_momentum: momentum of MoCo's key encoder.
        queue: keys in MoCo's queue.
        bank_momentum: momentum of the memory bank of instance discrimination.
        noise: number of negatives drawn for instance discrimination, shared by all images of the batch; 0 takes the
            whole bank, the exact softmax.
        chunk: images in one forward pass, in every process; 0 is all. See `ClipObjective`.
    """

    temperature: float = limited(0.0, low=0)
    dim: int = limited(128, low=1)
    hidden: int = limited(256, low=0)
    key_momentum: float = limited(0.99, low=0, high=1)
    queue: int = limited(4096, low=1)
    bank_momentum: float = limited(0.5, low=0, high=1)
    noise: int = limited(0, low=0)
    chunk: int = limited(0, low=0)


class Projected(nn.Module):
    """Images (B, C, S, S), C 1 or 3 -> unit vectors (B, D), by a backbone and a projection head."""

    def __init__(self, backbone: Backbone, objective: SelfsupObjective):
        super().__init__()
        self.backbone, self.chunk = backbone, objective.chunk
        between = [nn.Linear(backbone.width, objective.hidden), nn.ReLU()] if objective.hidden else []
        self.head = nn.Sequential(*between, nn.Linear(objective.hidden or backbone.width, objective.dim))

    def forward(self, images: Tensor) -> Tensor:
        return in_chunks(self._embed, self.chunk, images)

    def _embed(self, images: Tensor) -> Tensor:
        return F.normalize(self.head(self.backbone(images.expand(-1, 3, -1, -1))).float(), dim=1)


class SimCLRTraining(nn.Module):
    """SimCLR as a Trainable, on batches with two views, `view_1` and `view_2`.

    References:
        A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020)
    """

    turns = ("selfsup",)

    def __init__(self, backbone: Backbone, objective: SelfsupObjective):
        super().__init__()
        self.encoder = Projected(backbone, objective)
        self.temperature = objective.temperature or TEMPERATURES["simclr"]

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.encoder.parameters()

    def loss(self, batch: Batch, turn: str = "selfsup") -> dict[str, Tensor]:
        z = self.encoder(torch.cat([batch["view_1"], batch["view_2"]]))
        z_1, z_2 = (distributed.all_gather_with_grad(part) for part in z.chunk(2))
        return {"loss": nt_xent(z_1, z_2, self.temperature), "spread": spread(z_1.detach())}


def check_queue(objective: SelfsupObjective, num_images: int) -> None:
    """Raises `CondgenError` where MoCo's queue is longer than the data."""
    if objective.queue > num_images:
        raise CondgenError(
            f"The queue of {objective.queue} keys is longer than the data, {num_images} images: it would hold images "
            f"twice. Choose at most --objective.queue {num_images}."
        )


class MoCoTraining(nn.Module):
    """MoCo as a Trainable: the key of the second view is the positive, the keys in the queue are the negatives.

    A batch holds `view_1`, `view_2` and `index`, the numbers of the images: an image's own keys in the queue are not
    negatives. The queue is a ring buffer for batches of any size, initialised with random vectors.

    Args:
        backbone: the network to train.
        objective: see SelfsupObjective.
        num_images: number of images.

    Raises:
        CondgenError: the queue is longer than the data.

    References:
        Momentum Contrast for Unsupervised Visual Representation Learning (He et al., 2020)
        Improved Baselines with Momentum Contrastive Learning (Chen et al., 2020), for the head
    """

    turns = ("selfsup",)
    memory = ("queue", "queued", "place")

    def __init__(self, backbone: Backbone, objective: SelfsupObjective, num_images: int):
        super().__init__()
        check_queue(objective, num_images)
        self.encoder = Projected(backbone, objective)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.temperature = objective.temperature or TEMPERATURES["moco"]
        self.momentum = objective.key_momentum
        self.register_buffer("queue", F.normalize(torch.randn(objective.queue, objective.dim), dim=1))
        self.register_buffer("queued", torch.full((objective.queue,), -1))  # numbers of the images
        self.register_buffer("place", torch.zeros((), dtype=torch.long))  # position of the next key
        self._fresh: tuple[Tensor, Tensor] | None = None

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.encoder.parameters()

    def loss(self, batch: Batch, turn: str = "selfsup") -> dict[str, Tensor]:
        query = self.encoder(batch["view_1"])
        with torch.no_grad():
            key = self.key_encoder(batch["view_2"])
        same = batch["index"][:, None] == self.queued
        self._fresh = (distributed.all_gather_with_grad(key), distributed.all_gather_with_grad(batch["index"]))
        loss = queue_nce(query, key, self.queue, self.temperature, same)
        return {"loss": loss, "spread": spread(query.detach())}

    @torch.no_grad()
    def remember(self) -> None:
        """Updates the key encoder, and replaces the oldest keys by those of the last batch."""
        for slow, fast in zip(self.key_encoder.parameters(), self.encoder.parameters()):
            slow.mul_(self.momentum).add_(fast.detach(), alpha=1 - self.momentum)
        if self._fresh is None:
            return
        size = len(self.queue)
        key, index = (x[-size:] for x in self._fresh)
        places = (self.place + torch.arange(len(key), device=key.device)) % size
        self.queue[places], self.queued[places] = key, index
        self.place.copy_((self.place + len(key)) % size)
        self._fresh = None


class InstanceTraining(nn.Module):
    """Instance discrimination as a Trainable: every image is a class, with its row of the bank as the class weight.

    A batch holds `view_1`, `index`, the numbers of the images, and, where negatives are drawn, `noise` int64 (B, M):
    rows of the bank; those of the whole batch are negatives of every image.

    Args:
        backbone: the network to train.
        objective: see SelfsupObjective.
        num_images: number of images, N.

    References:
        Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al., 2018)
    """

    turns = ("selfsup",)
    memory = ("bank", "log_z")

    def __init__(self, backbone: Backbone, objective: SelfsupObjective, num_images: int):
        super().__init__()
        self.encoder = Projected(backbone, objective)
        self.temperature = objective.temperature or TEMPERATURES["instance"]
        self.momentum, self.sampled = objective.bank_momentum, objective.noise > 0
        self.register_buffer("bank", F.normalize(torch.randn(num_images, objective.dim), dim=1))
        self.register_buffer(
            "log_z", torch.tensor(math.inf)
        )  # of the noise-contrastive loss: inf until it is estimated
        self._fresh: tuple[Tensor, Tensor, Tensor] | None = None

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.encoder.parameters()

    @torch.no_grad()
    def fill_bank(self, images: np.ndarray) -> None:
        """Fills the bank with the present embeddings of the images, uint8 (N, C, S, S).

        With a random bank every image would be pulled to a random vector for the whole first epoch, from which a short
        run does not recover.
        """
        was = self.training
        self.eval()
        for rows in torch.arange(len(images)).split(ROWS):
            self.bank[rows] = self.encoder(torch.as_tensor(images[rows]).float() / 127.5 - 1)
        self.train(was)

    def loss(self, batch: Batch, turn: str = "selfsup") -> dict[str, Tensor]:
        z, index, log_z = self.encoder(batch["view_1"]), batch["index"], self.log_z
        if self.sampled:
            noise = distributed.all_gather_with_grad(batch["noise"]).flatten()
            if log_z.isinf():
                estimate = log_partition(z.detach(), self.bank[noise], self.temperature, len(self.bank))
                log_z = distributed.mean(estimate.exp()).log()
            loss = instance_nce(z, self.bank, index, noise, self.temperature, log_z)
        else:
            loss = instance_softmax(z, self.bank, index, self.temperature)
        self._fresh = (distributed.all_gather_with_grad(z.detach()), distributed.all_gather_with_grad(index), log_z)
        return {"loss": loss, "spread": spread(z.detach())}

    @torch.no_grad()
    def remember(self) -> None:
        """Updates the bank's rows of the last batch; an image that occurs twice by its last embedding."""
        if self._fresh is None:
            return
        z, index, log_z = self._fresh
        again = (index[:, None] == index).triu(1).any(1)
        z, index = z[~again], index[~again]
        self.bank[index] = F.normalize(self.momentum * self.bank[index] + (1 - self.momentum) * z, dim=1)
        self.log_z.copy_(log_z)
        self._fresh = None


Method = Literal["instance", "simclr", "moco"]
METHODS: dict[Method, Callable[[Backbone, SelfsupObjective, int], nn.Module]] = {
    "instance": InstanceTraining,
    "simclr": lambda backbone, objective, num_images: SimCLRTraining(backbone, objective),
    "moco": MoCoTraining,
}
"""(backbone, objective, how many images there are) -> Trainable."""
TEMPERATURES: dict[Method, float] = {"instance": 0.1, "simclr": 0.2, "moco": 0.2}
NUM_VIEWS: dict[Method, int] = {"instance": 1, "simclr": 2, "moco": 2}
"""CaptionBatches of every image in a batch."""
