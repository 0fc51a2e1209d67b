"""Latent spaces: models that map latents to images and, where they have an encoder, images to latents.

A `LatentModel` is a latent space; so is any module with `encode` and `decode`, and a class-conditional CVAE or cGAN
with a fixed condition. Latents are float (N, Z); images are float (N, C, S, S) in [-1, 1], or uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float
from condgen.decoders import DECODERS
from condgen.diffusion.samplers import noise
from condgen.pipelines.base import generator

ROWS = 256
"""Images or latents in one forward pass."""
Images = Tensor | np.ndarray
"""(N, C, S, S): float in [-1, 1], or uint8."""


def as_float(images: Images) -> Tensor:
    """Converts images to float in [-1, 1]."""
    images = torch.as_tensor(images)
    return to_float(images) if images.dtype == torch.uint8 else images.float()


class LatentSpace:
    """Wraps a model that maps latents to images; takes any number of rows and returns results on the CPU.

    Args:
        model: a LatentModel, or a module with `decode` and, unless it has no encoder, `encode`. With `posterior`,
            `log_likelihood` and `variational = True` the latent of an image has a distribution, whose prior is the
            standard normal.
    """

    def __init__(self, model: Any):
        self.model, self.net = model, getattr(model, "net", model)
        """The model, and the module with differentiable methods on its own device."""
        self.name, self.model_id = getattr(model, "name", type(model).__name__), getattr(model, "model_id", "")
        self.about: dict[str, Any] = getattr(model, "about", {})
        self.size, self.image_channels = getattr(model, "size", None), getattr(model, "image_channels", None)
        self.has_encoder: bool = getattr(model, "encodes", hasattr(model, "encode"))
        self.is_variational = bool(getattr(self.net, "variational", False))

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        first = next(iter(self.net.parameters()), None) if isinstance(self.net, nn.Module) else None
        return torch.device("cpu") if first is None else first.device

    def encode(self, images: Images) -> Tensor:
        """Latents of images: (N, Z).

        Raises:
            CondgenError: the model has no encoder, or expects images of another shape.
        """
        self.check_encoder()
        self.check_images(images)
        return self._in_chunks(lambda rows: self.model.encode(as_float(rows).to(self.device)), images)

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes latents to images (N, C, S, S)."""
        return self._in_chunks(lambda rows: self.model.decode(rows.to(self.device)), latents)

    def reconstruct(self, images: Images) -> Tensor:
        """decode(encode(x)): (N, C, S, S)."""
        return self.decode(self.encode(images))

    def posterior(self, images: Images) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of the latents of images, (N, Z) each; None for the latter without a distribution."""
        if not self.is_variational:
            return self.encode(images), None
        self.check_images(images)
        both = self._in_chunks(
            lambda rows: torch.cat([x.cpu() for x in self.model.posterior(as_float(rows).to(self.device))], 1), images
        )
        mean, log_var = both.chunk(2, 1)
        return mean, log_var

    def sample_posterior(self, images: Images, seed: int = 0) -> Tensor:
        """One latent per image, (N, Z): drawn from its posterior, or the latent itself where there is none."""
        mean, log_var = self.posterior(images)
        if log_var is None:
            return mean
        return mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=generator(seed))

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Latents (N, Z) from the model's distribution (else the standard normal), one for each seed."""
        if hasattr(self.model, "draw"):
            return self.model.draw(seeds).cpu()
        return noise((self.model.latent,), [generator(seed) for seed in seeds])

    @torch.no_grad()
    def _in_chunks(self, compute: Callable[[Any], Tensor], rows: Images) -> Tensor:
        return torch.cat([compute(rows[k : k + ROWS]).float().cpu() for k in range(0, len(rows), ROWS)])

    def check_encoder(self) -> None:
        """Raises `CondgenError` where there is no encoder."""
        if not self.has_encoder:
            raise CondgenError(
                f"{self.name} has no encoder, so the latents of images are unknown. Search for them with `project`, or "
                "name samples of the model, such as seed:7."
            )

    def check_images(self, images: Images) -> None:
        """Raises `CondgenError` if there are no images, or if the model expects another shape."""
        size, channels, shape = self.size, self.image_channels, tuple(images.shape)
        if not shape or not shape[0]:
            raise CondgenError("There are no images. Give at least one.")
        expected = (channels or shape[1], size or shape[-1], size or shape[-1]) if len(shape) == 4 else ()
        if shape[1:] != expected:
            wanted = f"(N, {channels or 'C'}, {size or 'S'}, {size or 'S'})"
            raise CondgenError(f"{self.name} takes images of shape {wanted}, got {shape}.")


def as_space(model: Any, condition: Mapping[str, object] | str = ()) -> LatentSpace:
    """Wraps a model as a latent space.

    Args:
        model: see `LatentSpace`; or a ClassToImage whose decoder is a CVAE, or a cGAN, which has no encoder.
        condition: condition of a ClassToImage, labels and attributes by name; attributes not named are unspecified.

    Raises:
        CondgenError: the model has no latents; the condition is invalid, or the model is unconditional.
    """
    if isinstance(model, LatentSpace) and not condition:
        return model
    name, tools = getattr(model, "name", type(model).__name__), "The tools take autoencoders, GANs, CVAEs and cGANs."
    if hasattr(model, "decode"):
        if condition:
            raise CondgenError(f"{name} is unconditional: drop the labels.")
        return LatentSpace(model)
    if not hasattr(model, "attributes"):
        raise CondgenError(f"{name} has no latent space. {tools}")
    if not DECODERS.kind_of(model.decoder).has_latent:
        raise CondgenError(f"{name} is a diffusion model, which has no latent space. {tools}")
    return LatentSpace(_Conditional(model, condition if isinstance(condition, str) else dict(condition)).eval())


class _Conditional(nn.Module):
    """A class-conditional model with a fixed condition, to be wrapped by `LatentSpace`.

    Latents of a CVAE are mapped through its conditional prior to the standard normal, so that distances and lines among
    them mean the same for every condition.
    """

    def __init__(self, model: Any, condition: dict[str, object] | str):
        super().__init__()
        self.name, self.model_id, self.about = model.name, model.model_id, model.about
        self.size, self.image_channels, self.decoder = model.size, model.image_channels, model.decoder
        self.encodes, self.latent = DECODERS.kind_of(self.decoder).encodes, self.decoder.latent
        with torch.no_grad():
            cond = self.decoder.cond_encoder(model.cond_batch([condition]))
        self.cond = {name: x for name, x in cond.items() if torch.is_tensor(x)}

    def _cond(self, n: int) -> dict[str, Tensor]:
        return {name: x.expand(n, *x.shape[1:]) for name, x in self.cond.items()}

    def encode(self, images: Tensor) -> Tensor:
        return self.decoder.encode_normal(images, self._cond(len(images)))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder.decode_normal(latents, self._cond(len(latents)))
