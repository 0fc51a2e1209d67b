"""Latent spaces: anything that maps latents to images and, where it has an encoder, images to latents.

A `LatentModel` is a latent space; so is any module with `encode` and `decode`, and a class-conditional CVAE or cGAN
with a fixed condition (`ConditionalLatentSpace`). Latents are float (N, Z); images are float (N, C, S, S) in [-1, 1],
or uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condgen.contracts import CondgenError, Decoder
from condgen.data.batches.captions import to_float
from condgen.decoders import DECODERS
from condgen.diffusion.samplers import noise
from condgen.pipelines.base import generator

ROWS = 256
"""Images or latents in one forward pass."""
LatentSpace = Any
"""See the top of this module."""
Images = Tensor | np.ndarray
"""(N, C, S, S): float in [-1, 1], or uint8."""


def network_of(space: LatentSpace) -> nn.Module:
    """The module with differentiable `decode` and, where it has an encoder, `encode`, on its own device."""
    return getattr(space, "net", space)


def device_of(space: LatentSpace) -> torch.device:
    """The device of its parameters."""
    net = network_of(space)
    first = next(iter(net.parameters()), None) if isinstance(net, nn.Module) else None
    return torch.device("cpu") if first is None else first.device


def name_of(space: LatentSpace) -> str:
    """Its name in messages."""
    return getattr(space, "name", type(space).__name__)


def has_encoder(space: LatentSpace) -> bool:
    """Whether it maps images to latents."""
    return getattr(space, "encodes", hasattr(space, "encode"))


def is_variational(space: LatentSpace) -> bool:
    """Whether the latent of an image has a distribution, with the standard normal as its prior."""
    return bool(getattr(network_of(space), "variational", False))


def as_float(images: Images) -> Tensor:
    """Images as float in [-1, 1]."""
    images = torch.as_tensor(images)
    return to_float(images) if images.dtype == torch.uint8 else images.float()


def encode(space: LatentSpace, images: Images) -> Tensor:
    """Latents of any number of images: (N, Z) on the CPU.

    Raises:
        CondgenError: the space has no encoder, or takes images of another shape.
    """
    check_encoder(space)
    check_images(space, images)
    return _in_chunks(lambda rows: space.encode(as_float(rows).to(device_of(space))), images)


def decode(space: LatentSpace, latents: Tensor) -> Tensor:
    """Images of any number of latents: (N, C, S, S) on the CPU."""
    return _in_chunks(lambda rows: space.decode(rows.to(device_of(space))), latents)


def reconstruct(space: LatentSpace, images: Images) -> Tensor:
    """decode(encode(x)): (N, C, S, S) on the CPU."""
    return decode(space, encode(space, images))


def posterior(space: LatentSpace, images: Images) -> tuple[Tensor, Tensor | None]:
    """Mean and log variance of the latents of images, (N, Z) each on the CPU; None for the latter where the space is
    not variational.
    """
    if not is_variational(space):
        return encode(space, images), None
    check_images(space, images)
    both = _in_chunks(
        lambda rows: torch.cat([x.cpu() for x in space.posterior(as_float(rows).to(device_of(space)))], 1), images
    )
    mean, log_var = both.chunk(2, 1)
    return mean, log_var


def sample_posterior(space: LatentSpace, images: Images, seed: int = 0) -> Tensor:
    """One latent an image, (N, Z): drawn from its posterior, or the latent itself where there is none."""
    mean, log_var = posterior(space, images)
    if log_var is None:
        return mean
    return mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=generator(seed))


def sample_latents(space: LatentSpace, seeds: Sequence[int]) -> Tensor:
    """Latents from the space's own distribution (else the standard normal), one for each seed: (N, Z) on the CPU."""
    if hasattr(space, "draw"):
        return space.draw(seeds).cpu()
    return noise((space.latent,), [generator(seed) for seed in seeds])


@torch.no_grad()
def _in_chunks(compute: Callable[[Any], Tensor], rows: Images) -> Tensor:
    return torch.cat([compute(rows[k : k + ROWS]).float().cpu() for k in range(0, len(rows), ROWS)])


def check_encoder(space: LatentSpace) -> None:
    """Raises `CondgenError` where there is no encoder."""
    if not has_encoder(space):
        raise CondgenError(
            f"{name_of(space)} has no encoder, so the latents of images are unknown. Search for them with `project`, "
            "or name samples of the model, such as seed:7."
        )


def check_images(space: LatentSpace, images: Images) -> None:
    """Raises `CondgenError` for no images, or images of a shape that the space does not take."""
    size, channels = (getattr(space, name, None) for name in ("size", "image_channels"))
    shape = tuple(images.shape)
    if not shape or not shape[0]:
        raise CondgenError("There are no images. Give at least one.")
    expected = (channels or shape[1], size or shape[-1], size or shape[-1]) if len(shape) == 4 else ()
    if shape[1:] != expected:
        wanted = f"(N, {channels or 'C'}, {size or 'S'}, {size or 'S'})"
        raise CondgenError(f"{name_of(space)} takes images of shape {wanted}, got {shape}.")


# Class-conditional models ---------------------------------------------------------------------------------------------


class _ConditionalNet(nn.Module):
    """The decoder of a class-conditional model with a fixed condition.

    Latents of a CVAE are mapped through its conditional prior to the standard normal, so that distances and lines among
    them mean the same for every condition.
    """

    variational = False

    def __init__(self, decoder: Decoder, condition: dict[str, Tensor]):
        super().__init__()
        self.decoder = decoder
        with torch.no_grad():
            self.cond = {name: x for name, x in decoder.cond_encoder(condition).items() if torch.is_tensor(x)}

    def _cond(self, n: int) -> dict[str, Tensor]:
        return {name: x.expand(n, *x.shape[1:]) for name, x in self.cond.items()}

    def encode(self, images: Tensor) -> Tensor:
        return self.decoder.encode_normal(images, self._cond(len(images)))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder.decode_normal(latents, self._cond(len(latents)))


class ConditionalLatentSpace:
    """A class-conditional model with a fixed condition, as a latent space.

    Args:
        model: a ClassToImage whose decoder is a CVAE, or a cGAN, which has no encoder.
        condition: labels and attributes by name; those that are not named stay unspecified.

    Raises:
        CondgenError: the decoder has no latent, or the condition is not one of the model.
    """

    def __init__(self, model, condition: Mapping[str, object] | str = ()):
        decoder, kind = model.decoder, DECODERS.kind_of(model.decoder)
        if not kind.has_latent:
            raise CondgenError(
                f"{model.name} is a diffusion model, which has no latent space. The tools take autoencoders, GANs, and "
                "class-conditional models whose decoder is a CVAE or a cGAN."
            )
        self.model, self.name, self.model_id, self.about = model, model.name, model.model_id, model.about
        self.size, self.image_channels = model.size, model.image_channels
        self.encodes, self.latent = kind.encodes, decoder.latent
        values = condition if isinstance(condition, str) else dict(condition)
        self.net = _ConditionalNet(decoder, model.cond_batch([values])).eval()
        self.encode, self.decode = self.net.encode, self.net.decode


def as_space(model: object, condition: Mapping[str, object] | str = ()) -> LatentSpace:
    """A pipeline as a latent space.

    Args:
        model: a LatentModel, or a ClassToImage.
        condition: of the latter, see `ConditionalLatentSpace`.

    Raises:
        CondgenError: the model has no latents, or is unconditional and a condition is given.
    """
    if hasattr(model, "decode"):
        if condition:
            raise CondgenError(f"{name_of(model)} is unconditional: drop the labels.")
        return model
    if hasattr(model, "attributes"):
        return ConditionalLatentSpace(model, condition)
    raise CondgenError(
        f"{name_of(model)} has no latent space. The tools take autoencoders, GANs, and class-conditional models whose "
        "decoder is a CVAE or a cGAN."
    )
