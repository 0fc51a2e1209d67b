"""Freezing one tower of an encoder.

References:
    LiT: Zero-Shot Transfer with Locked-image text Tuning (Zhai et al., 2022)
"""

from __future__ import annotations

from types import MethodType
from typing import Literal

from torch import nn

from condgen.contracts import CondgenError

Tower = Literal["image", "text"]


def tower_of(name: str) -> Tower | None:
    """The tower that a parameter or module of an encoder belongs to, by its name; None for temperature and bias."""
    name = name.removeprefix("model.")
    if not name or name in ("model", "log_scale", "bias", "logit_scale", "logit_bias"):
        return None
    return "image" if name.split(".")[0].startswith(("image", "visual", "vision")) else "text"


def freeze(net: nn.Module, tower: Literal["none", "image", "text"]) -> nn.Module:
    """Freezes one tower of an encoder: no gradients, no dropout, no running statistics. Returns the encoder.

    Raises:
        CondgenError: no parameter of the encoder has a name of that tower.
    """
    if tower == "none":
        return net
    parameters = [parameter for name, parameter in net.named_parameters() if tower_of(name) == tower]
    if not parameters:
        raise CondgenError(f"The encoder has no parameters of a tower called {tower}.")
    for parameter in parameters:
        parameter.requires_grad_(False)
    for name, module in net.named_modules():
        if tower_of(name) == tower:
            module.train = MethodType(_stay, module)
            module.training = False
    return net


def only_image(net: nn.Module) -> nn.Module:
    """Removes the parts of an encoder that images do not need. Returns the encoder."""
    holder = getattr(net, "model", net)
    for parts in (holder._modules, holder._parameters, holder._buffers):
        for name in [name for name in parts if tower_of(name) != "image"]:
            delattr(holder, name)
    return net


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return nn.Module.train(module, False)
