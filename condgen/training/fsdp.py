"""Sharded weights: every process holds a part of each weight and of its gradient, running mean and moments.

An Accelerate config file enables it; torch's fully_shard (FSDP2) implements it. This module reads the config, shards
the model, and converts between shards and whole tensors where whole ones are needed: checkpoints, models, orthogonal
updates. Weights that are not sharded are unchanged.

References:
    PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel (Zhao et al., 2023)
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

from condgen import distributed
from condgen.contracts import CondgenError

WHERE = "docs/fsdp.yaml is such a config file"


def plan() -> FullyShardedDataParallelPlugin | None:
    """The FSDP plugin that Accelerate's launcher has configured; None if weights are not sharded.

    Raises:
        CondgenError: an option of the launcher that is not supported, see `distributed.check_launcher`.
    """
    distributed.check_launcher()
    if not distributed.is_on("ACCELERATE_USE_FSDP"):
        return None
    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise CondgenError(f"Sharding weights needs PyTorch 2.8 or newer; this is {torch.__version__}.")
    found = FullyShardedDataParallelPlugin()
    wrong = {
        "fsdp_version: 2": found.fsdp_version != 2,
        "fsdp_offload_params: false": isinstance(found.cpu_offload, CPUOffloadPolicy),
        "fsdp_activation_checkpointing: false": found.activation_checkpointing,
        "fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP": found.auto_wrap_policy is size_based_auto_wrap_policy,
    }
    if any(wrong.values()):
        needed = ", ".join(option for option, missing in wrong.items() if missing)
        raise CondgenError(f"Accelerate's config has unsupported options. Set {needed}; {WHERE}.")
    return found


def shard(
    module: nn.Module, plan: FullyShardedDataParallelPlugin, device: torch.device, blocks: bool = True
) -> dict[nn.Parameter, Tensor]:
    """Shards the weights of a module over all processes, in place.

    With `blocks`, modules of the classes that the plan names are gathered one by one when they are called, the rest
    with the whole. Weights keep their precision; autocast lowers it as for whole weights.

    Returns:
        Scalars, which cannot be sharded -> replicated tensors that an optimiser updates in their place.
    """
    mesh = init_device_mesh(device.type, (distributed.world(),))
    scalars = {p for p in module.parameters() if not p.ndim}
    for p in scalars:
        p.data = p.data.to(device)
    names = set(plan.transformer_cls_names_to_wrap or ()) if blocks else set()
    inner = [m for m in module.modules() if type(m).__name__ in names]
    shared = {"mesh": mesh, "ignored_params": scalars, "mp_policy": MixedPrecisionPolicy(cast_forward_inputs=False)}
    for part in reversed(inner):  # the innermost first
        fully_shard(part, reshard_after_forward=plan.reshard_after_forward, **shared)
    fully_shard(module, **shared)
    for part in (*inner, module):
        part.set_force_sum_reduction_for_comms(device.type == "cpu")  # gloo has no mean reduction
    return {p: nn.Parameter(DTensor.from_local(p.detach(), mesh, [Replicate()], run_check=False)) for p in scalars}


def share_scalar_gradients(stand_ins: dict[nn.Parameter, Tensor]) -> None:
    """Gives the stand-ins the gradients of their scalars, averaged over the processes."""
    for scalar, other in stand_ins.items():
        other.grad = None
        if scalar.grad is not None:
            scalar.grad.copy_(distributed.mean(scalar.grad))
            other.grad = DTensor.from_local(scalar.grad, other.device_mesh, other.placements, run_check=False)


def reshard(module: nn.Module) -> None:
    """Frees the weights that a forward pass without a backward pass has left gathered."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def local(x: Tensor) -> Tensor:
    """The shard of this process, which shares memory with x."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """Gathers a tensor from its shards. Every process must call it with the same tensor."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def like(x: Tensor, other: Tensor) -> Tensor:
    """Shards a whole tensor, equal in every process, like another of its shape."""
    if isinstance(other, DTensor) and x.shape == other.shape:
        return distribute_tensor(x, other.device_mesh, other.placements, src_data_rank=None)
    return x


def gather(tree: Any) -> Any:
    """Gathers the tensors in nested dicts and lists on the CPU. Every process must call it."""
    if isinstance(tree, dict):
        return {key: gather(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(gather(value) for value in tree)
    return whole(tree).cpu() if isinstance(tree, Tensor) else tree
