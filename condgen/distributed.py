"""Communication between the processes of a run. With a single process, every function returns its input.

Every process draws its part of a batch. The wrapper around the model averages gradients; this module serves losses over
the whole batch, and decisions that all processes must take alike; and the lock of a folder that one run writes into.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from condgen.contracts import CondgenError, CondgenWarning

LOCK = ".lock"
"""File that names the process which writes into a folder."""


def join() -> None:
    """Joins the process group, where a launcher such as torchrun has started several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        # without `cpu` it looks for no others where there is no GPU; they wait while the first embeds a large stream
        PartialState(cpu=device_of_training().type == "cpu", timeout=timedelta(days=1))


def leave() -> None:
    """Leaves the process group."""
    if _together():
        gc.collect()  # split weights in cycles of references would keep the group's threads until Python has ended
        dist.destroy_process_group()
        gc.collect()


PRECISION, ACCUMULATION = "ACCELERATE_MIXED_PRECISION", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
"""Variables by which `accelerate launch` passes --mixed_precision and --gradient_accumulation_steps."""
UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}
"""Variable -> what `accelerate launch` was asked for."""
FLAGS = {**dict.fromkeys(("true", "1", "yes", "y", "t", "on"), True),
         **dict.fromkeys(("false", "0", "no", "n", "f", "off"), False)}  # fmt: skip
"""The values of Accelerate's flags."""


def is_on(name: str) -> bool:
    """Whether a flag of Accelerate is set; `CondgenError` for a value that means nothing."""
    value = os.environ.get(name, "false")
    if value.lower() not in FLAGS:
        raise CondgenError(
            f"{name}={value} must be true or false. Accelerate reads this variable; set it, or unset it."
        )
    return FLAGS[value.lower()]


def device_of_training() -> torch.device:
    """The device on which this process trains: that of Accelerate's variables, otherwise a GPU if there is one."""
    if is_on("ACCELERATE_USE_CPU"):
        return torch.device("cpu")
    asked = _parsed("ACCELERATE_TORCH_DEVICE", torch.device)
    return asked or torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _parsed(name: str, parse: Callable[[str], Any]) -> Any:
    """The value of a variable of Accelerate; None where it is not set; `CondgenError` where it cannot be parsed."""
    try:
        return parse(os.environ[name])
    except KeyError:
        return None
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise CondgenError(f"{name}={os.environ[name]} cannot be used ({reason}). Unset it, or correct it.") from None


def supports_bf16() -> bool:
    """Whether training here can use bfloat16: a GPU has units for it, and is not switched off."""
    on_gpu = torch.cuda.is_available() and device_of_training().type == "cuda"
    return on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)


def precision() -> str:
    """The mixed precision of training, `bf16` or `no`: that of the launcher, otherwise bf16 where there are units.

    Raises:
        CondgenError: the launcher asks for another one, or for bf16 where there are no units for it.
    """
    asked = os.environ.get(PRECISION, "").strip().lower()
    if asked not in ("", "no", "bf16"):
        raise CondgenError(
            f"{PRECISION}={os.environ[PRECISION]} (accelerate launch --mixed_precision) is not supported: condgen "
            "trains with bf16 or no. Choose one of them, or leave it out: bf16 is used where a GPU has units for it."
        )
    if asked == "bf16" and not supports_bf16():
        raise CondgenError(
            f"{PRECISION}=bf16 (accelerate launch --mixed_precision) needs a GPU with units for bfloat16, which this "
            "machine lacks. Choose no, or leave it out."
        )
    return asked or ("bf16" if supports_bf16() else "no")


def check_launcher() -> None:
    """Checks what `accelerate launch` asks for, before data are read; warns of what has no effect.

    Raises:
        CondgenError: an option that is not supported, or a value that means nothing.
    """
    from accelerate.utils import DynamoBackend

    precision()
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_CPU", "ACCELERATE_DEBUG_MODE"):
        is_on(name)
    _parsed("ACCELERATE_TORCH_DEVICE", torch.device)
    _parsed("ACCELERATE_DYNAMO_BACKEND", lambda value: DynamoBackend(value.upper()))
    for name, asked in UNSUPPORTED.items():
        if is_on(name):
            raise CondgenError(
                f"{asked} is not supported ({name}). Shard the weights with FSDP (docs/fsdp.yaml is such a config "
                "file), or launch with torchrun, which keeps them whole in every process."
            )
    steps = os.environ.get(ACCUMULATION, "1").strip()
    if not steps.isdecimal() or int(steps) < 1:
        raise CondgenError(
            f"{ACCUMULATION}={steps} (accelerate launch --gradient_accumulation_steps) must be a whole number from 1."
        )
    if int(steps) > 1 and os.environ.get("RANK", "0") == "0":
        warnings.warn(
            f"{ACCUMULATION}={steps} (accelerate launch --gradient_accumulation_steps) has no effect: every step "
            "updates the weights with a whole batch, over all processes. Set its size with --fit.batch, or with "
            "--fit_STAGE.batch where there are stages.",
            CondgenWarning,
            stacklevel=2,
        )


_is_alone = False


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and not _is_alone


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this process works as if it were the only one: for work that only the first process does."""
    global _is_alone
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


@contextmanager
def on_accelerator(*modules: nn.Module) -> Iterator[torch.device]:
    """Moves modules from the CPU to the device of training for the block; gives that device."""
    device = device_of_training()
    try:
        for module in modules:
            module.to(device)
        yield device
    finally:
        for module in modules:
            module.to("cpu")


def rank() -> int:
    """The number of this process, counted from 0."""
    return dist.get_rank() if _together() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if _together() else 1


def process() -> dict[str, int]:
    """The rank of this process and the number of processes, as arguments of `data.batches.base.Batches`."""
    return {"rank": rank(), "world": world()}


def split(batch: int, process: int, count: int) -> slice:
    """The rows of a batch that belong to process number `process` of `count`.

    Raises:
        CondgenError: the batch cannot be split evenly.
    """
    if batch % count:
        raise CondgenError(f"A batch of {batch} cannot be split over {count} processes. Choose a multiple of {count}.")
    return slice(process * batch // count, (process + 1) * batch // count)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Runs the block in process 0 first, then in the others: one writes a file, the others read it."""
    if rank():
        barrier()
    yield
    if not rank():
        barrier()


def barrier() -> None:
    """Waits for all processes."""
    if _together():
        dist.barrier()


def maximum(value: float) -> float:
    """The maximum of the values of all processes."""
    return _reduced(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.MAX).item() if world() > 1 else value


def all_true(holds: bool) -> bool:
    """True if the condition holds in every process."""
    return not maximum(not holds)


def total(x: Tensor) -> Tensor:
    """The sum over the processes, of a tensor of the same shape in each."""
    return _reduced(x, dist.ReduceOp.SUM) if _together() else x


def mean(x: Tensor) -> Tensor:
    """The mean over the processes, without gradient."""
    return _reduced(x.detach().clone(), dist.ReduceOp.SUM) / world() if world() > 1 else x.detach()


def mean_with_grad(x: Tensor) -> Tensor:
    """The mean over the processes, with gradient: for a part of a model that sees the whole batch."""
    return _JointMean.apply(x) if world() > 1 else x


class _JointMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return mean(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _JointMean.apply(grad)  # every process contributes its share of the mean to the loss of each


def _reduced(x: Tensor, how) -> Tensor:
    there = _to_backend(x)
    dist.all_reduce(there, how)
    return there.to(x.device)


def _to_backend(x: Tensor) -> Tensor:
    """Moves a tensor to a device that the backend can send from: NCCL sends from GPUs only."""
    return x.cuda() if dist.get_backend() == "nccl" else x


def all_gather_with_grad(x: Tensor) -> Tensor:
    """(B, ...) of every process -> (W B, ...) in the order of the ranks, the same everywhere; gradients flow back.

    For a loss that every process computes over the whole batch. With gradients averaged over the processes, as the
    wrapper of the model does, the gradients of all weights equal those of a single process.
    """
    return _Gathered.apply(x) if world() > 1 else x


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        there = _to_backend(x.contiguous())
        parts = [torch.empty_like(there) for _ in range(world())]
        dist.all_gather(parts, there)
        return torch.cat(parts).to(x.device)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        own = slice(rank() * ctx.rows, (rank() + 1) * ctx.rows)
        return (
            grad[own] * world()
        )  # only this process's loss depends on these rows, and the wrapper divides by the number of processes


def share_rows(compute: Callable[[slice], Tensor], n: int) -> Tensor:
    """(n, ...) rows, of which each process computes a slice with `compute`. Without gradient."""
    if n < world() or world() == 1:
        return compute(slice(0, n))
    bounds = [i * n // world() for i in range(world() + 1)]
    sizes = [b - a for a, b in pairwise(bounds)]
    own = compute(slice(bounds[rank()], bounds[rank() + 1])).detach()
    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: len(own)] = own
    return torch.cat([rows[:size] for rows, size in zip(all_gather_with_grad(padded).chunk(world()), sizes)])


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets this process alone write into a folder, which is made if missing and removed if it stays empty.

    The lock is one of the operating system, so it ends with its process, however that ends. The file names the process
    for messages; where the file system has no locks, it decides.

    Raises:
        CondgenError: another process that lives holds the lock; or the folder cannot be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    with ExitStack() as after:
        for place in reversed(made):
            after.callback(_remove_empty, place)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = _lock(folder / LOCK)
        except OSError as error:
            raise CondgenError(f"The folder {folder} cannot be written ({error.strerror}). Choose another.") from None
        after.callback(file.close)
        after.callback((folder / LOCK).unlink, missing_ok=True)
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _lock(path: Path) -> IO[str]:
    """Opens the file of a lock, and writes this process into it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return open(path, "a+", encoding="utf-8")
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        holder = _holder(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError:  # a file system without locks
            free = not holder or (holder.get("host") == socket.gethostname() and _has_ended(holder.get("pid")))
        if free and _is_same(file, path):
            break
        file.close()  # otherwise the process that held it has just removed it
        if not free:
            who = f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}" if holder else ""
            raise CondgenError(
                f"Another process already writes into {path.parent}{f' ({who})' if who else ''}. Wait until it has "
                f"ended, stop it, or choose another folder. If there is no such process, delete {path}."
            )
    file.truncate(0)
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
    file.flush()
    return file


def _holder(file: IO[str]) -> dict[str, Any]:
    """The process in the file of a lock; {} while there is none."""
    file.seek(0)
    with suppress(OSError, ValueError):
        holder = json.load(file)
        return holder if isinstance(holder, dict) else {}
    return {}


def _has_ended(pid: object) -> bool:
    """Whether no process of this machine has that number."""
    try:
        os.kill(pid if isinstance(pid, int) and pid > 0 else os.getpid(), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _is_same(file: IO[str], path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
