"""Several processes as one: what must be said between them. Alone, everything here gives back what it got.

Every process draws its own part of a batch. Gradients are averaged by the wrapper around the model; what is here serves
the losses that look at the whole batch, and decisions that all must take alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from condgen.contracts import CondgenError


def join() -> None:
    """Finds the other processes, where a launcher such as torchrun has started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        # without a GPU it must be told, or it looks for no others; they wait while the first embeds a large stream
        PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))


def leave() -> None:
    """Says goodbye to the others, where there are any."""
    if _together():
        dist.destroy_process_group()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _together() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _together() else 1


def process() -> dict[str, int]:
    """This process and how many there are, as arguments of `data.batches.base.Batches`."""
    return {"rank": rank(), "world": world()}


def split(batch: int, own: int, among: int) -> slice:
    """The rows of a batch that are process `own`'s, of so many.

    Raises:
        CondgenError: it cannot be split evenly.
    """
    if batch % among:
        raise CondgenError(f"A batch of {batch} cannot be split over {among} processes. Choose a multiple of {among}.")
    return slice(own * batch // among, (own + 1) * batch // among)


@contextmanager
def first_alone() -> Iterator[None]:
    """The block runs in process 0 first, and in the others when it is through: one writes, the rest find it there."""
    if rank():
        wait()
    yield
    if not rank():
        wait()


def wait() -> None:
    """Until all are here."""
    if _together():
        dist.barrier()


def largest(value: float) -> float:
    """Of the values that the processes hold."""
    return _reduced(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.MAX).item() if world() > 1 else value


def everywhere(holds: bool) -> bool:
    """Whether it is so in every process."""
    return not largest(not holds)


def mean(x: Tensor) -> Tensor:
    """Of the tensors that the processes hold, without gradient."""
    return _reduced(x.detach().clone(), dist.ReduceOp.SUM) / world() if world() > 1 else x.detach()


def joint_mean(x: Tensor) -> Tensor:
    """The same with gradient, for a part of a model that looks at the whole batch: each process's loss is its own."""
    return _JointMean.apply(x) if world() > 1 else x


class _JointMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return mean(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _JointMean.apply(grad)  # what each loss says of the mean, of which every process has its share


def _reduced(x: Tensor, how) -> Tensor:
    there = x.cuda() if dist.get_backend() == "nccl" else x
    dist.all_reduce(there, how)
    return there.to(x.device)


def all_gather_with_grad(x: Tensor) -> Tensor:
    """(B, ...) of every process -> (W B, ...) in the order of the ranks, the same everywhere; gradients flow back.

    For a loss that every process computes whole: it sees the rows of all, and with its gradients averaged over the
    processes, as the wrapper of the model does, those of all weights are the ones of a single process.
    """
    return _Gathered.apply(x) if world() > 1 else x


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        own = slice(rank() * ctx.rows, (rank() + 1) * ctx.rows)
        return grad[own] * world()  # the others have nothing to say of these rows, and the mean divides by all


def shared_out(compute: Callable[[slice], Tensor], n: int) -> Tensor:
    """(n, ...) rows of which each process computes a part: `compute` gives those of a slice. Without gradient."""
    if n < world() or world() == 1:
        return compute(slice(0, n))
    bounds = [i * n // world() for i in range(world() + 1)]
    sizes = [b - a for a, b in pairwise(bounds)]
    own = compute(slice(bounds[rank()], bounds[rank() + 1])).detach()
    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: len(own)] = own
    return torch.cat([rows[:size] for rows, size in zip(all_gather_with_grad(padded).chunk(world()), sizes)])
