"""What the tools work on: whatever turns codes into images and, where it can, images into codes.

A `latents.LatentModel` is such a space; so is any module with `encode` and `decode`, and a model of labels whose
condition is fixed (`told`). Codes are float (N, Z), images float (N, C, S, S) in [-1, 1], or uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condgen.contracts import CondgenError
from condgen.data.batches.captions import to_float
from condgen.decoders.cgan import CganDecoder
from condgen.decoders.cvae import CvaeDecoder
from condgen.diffusion.samplers import noise
from condgen.pipelines.base import generator

ROWS = 256
"""Images or codes that go through a network at a time."""
LatentSpace = Any
"""See the top of this module."""
Images = Tensor | np.ndarray
"""(N, C, S, S): float in [-1, 1], or uint8."""


def net_of(space: LatentSpace) -> nn.Module:
    """What gradients pass through: `decode` and, where it encodes, `encode` of tensors on its own device."""
    return getattr(space, "net", space)


def device_of(space: LatentSpace) -> torch.device:
    """Where it computes."""
    first = next(iter(net_of(space).parameters()), None) if isinstance(net_of(space), nn.Module) else None
    return torch.device("cpu") if first is None else first.device


def name_of(space: LatentSpace) -> str:
    """What messages call it."""
    return getattr(space, "name", type(space).__name__)


def encodes(space: LatentSpace) -> bool:
    """Whether it turns images into codes."""
    return getattr(space, "encodes", hasattr(space, "encode"))


def is_variational(space: LatentSpace) -> bool:
    """Whether its codes of an image are a distribution, whose prior is the standard normal."""
    return bool(getattr(net_of(space), "variational", False))


def as_float(images: Images) -> Tensor:
    """Images as float in [-1, 1]."""
    images = torch.as_tensor(images)
    return to_float(images) if images.dtype == torch.uint8 else images.float()


def encoded(space: LatentSpace, images: Images) -> Tensor:
    """Codes of images, any number: (N, Z) on the CPU.

    Raises:
        CondgenError: it has no encoder, or reads images of another shape.
    """
    check_encodes(space)
    check_pictures(space, images)
    return _in_chunks(lambda part: space.encode(as_float(part).to(device_of(space))), images)


def decoded(space: LatentSpace, codes: Tensor) -> Tensor:
    """Images of codes, any number: (N, C, S, S) on the CPU."""
    return _in_chunks(lambda part: space.decode(part.to(device_of(space))), codes)


def rebuilt(space: LatentSpace, images: Images) -> Tensor:
    """decode(encode(x)): (N, C, S, S) on the CPU."""
    return decoded(space, encoded(space, images))


def posterior(space: LatentSpace, images: Images) -> tuple[Tensor, Tensor | None]:
    """Mean and log variance of the codes of images, (N, Z) each on the CPU; without the latter where it is no
    variational one.
    """
    if not is_variational(space):
        return encoded(space, images), None
    check_pictures(space, images)
    both = _in_chunks(
        lambda part: torch.cat([x.cpu() for x in space.posterior(as_float(part).to(device_of(space)))], 1), images
    )
    mean, log_var = both.chunk(2, 1)
    return mean, log_var


def codes_of(space: LatentSpace, images: Images, seed: int = 0) -> Tensor:
    """A code of each image, drawn from its posterior where there is one: together the aggregate posterior, (N, Z)."""
    mean, log_var = posterior(space, images)
    if log_var is None:
        return mean
    return mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=generator(seed))


def drawn(space: LatentSpace, seeds: Sequence[int]) -> Tensor:
    """Codes that the space itself draws, one for each seed: (N, Z) on the CPU; standard normal where it draws none."""
    if hasattr(space, "draw"):
        return space.draw(seeds).cpu()
    return noise((space.latent,), [generator(seed) for seed in seeds])


@torch.no_grad()
def _in_chunks(compute: Callable[[Any], Tensor], rows: Images) -> Tensor:
    return torch.cat([compute(rows[k : k + ROWS]).float().cpu() for k in range(0, len(rows), ROWS)])


def check_encodes(space: LatentSpace) -> None:
    """Raises `CondgenError` where there is no encoder."""
    if not encodes(space):
        raise CondgenError(
            f"{name_of(space)} paints from codes and has no encoder to find them. `project` searches for the code that "
            "paints an image; or name codes that it draws, as seed:7."
        )


def check_pictures(space: LatentSpace, images: Images) -> None:
    """Raises `CondgenError` for images of another shape than it reads, or none."""
    size, image_channels = (getattr(space, name, None) for name in ("size", "image_channels"))
    shape = tuple(images.shape)
    if not shape or not shape[0]:
        raise CondgenError("There are no images. Give one at least.")
    expected = (image_channels or shape[1], size or shape[-1], size or shape[-1]) if len(shape) == 4 else ()
    if shape[1:] != expected:
        told = f"(N, {image_channels or 'C'}, {size or 'S'}, {size or 'S'})"
        raise CondgenError(f"{name_of(space)} reads images of the shape {told}, got {shape}.")


# Models of labels -----------------------------------------------------------------------------------------------------


class _Told(nn.Module):
    """The decoder of a model of labels under one condition.

    A CVAE's codes are taken through its prior to normal numbers: among them nearness and lines mean the same under
    every condition.
    """

    variational = False

    def __init__(self, decoder: CvaeDecoder | CganDecoder, condition: dict[str, Tensor]):
        super().__init__()
        self.decoder = decoder
        with torch.no_grad():
            self.cond = {name: x for name, x in decoder.cond_encoder(condition).items() if torch.is_tensor(x)}

    def _for(self, n: int) -> dict[str, Tensor]:
        return {name: x.expand(n, *x.shape[1:]) for name, x in self.cond.items()}

    def encode(self, images: Tensor) -> Tensor:
        cond = self._for(len(images))
        mean, _ = self.decoder.encoder(images, cond)
        return self.decoder.prior.to_normal(mean, cond["vector"])[0]

    def decode(self, codes: Tensor) -> Tensor:
        cond = self._for(len(codes))
        if isinstance(self.decoder, CvaeDecoder):
            codes = self.decoder.prior.from_normal(codes, cond["vector"])
        return self.decoder.decode(codes, cond)


class ConditionalLatentSpace:
    """A model of labels with its condition fixed, as a space.

    Args:
        model: a ClassToImage whose decoder is a CVAE, or a cGAN, which does not encode.
        wanted: labels and attributes by name; those that are not named stay open.

    Raises:
        CondgenError: its decoder has no code, or nothing is known of what is wanted.
    """

    def __init__(self, model, wanted: Mapping[str, object] | str = ()):
        decoder = model.decoder
        if not isinstance(decoder, CvaeDecoder | CganDecoder):
            raise CondgenError(
                f"{model.name} paints by diffusion, in many steps and from no code. The tools look at codes: of "
                "autoencoders, GANs, and of models of labels that are a CVAE or a cGAN."
            )
        self.model, self.name, self.model_id = model, model.name, model.model_id
        self.size, self.image_channels, self.encodes = (
            model.size,
            model.image_channels,
            isinstance(decoder, CvaeDecoder),
        )
        self.latent = decoder.config.latent if self.encodes else decoder.config.code
        self.net = _Told(decoder, model.condition([dict(wanted) if not isinstance(wanted, str) else wanted])).eval()
        self.encode, self.decode = self.net.encode, self.net.decode

    @property
    def about(self) -> dict[str, Any]:
        return self.model.about


def as_space(model: object, wanted: Mapping[str, object] | str = ()) -> LatentSpace:
    """A model in use as a space.

    Args:
        model: a LatentModel, or a ClassToImage.
        wanted: of the latter, the condition that is fixed, see `ConditionalLatentSpace`.

    Raises:
        CondgenError: there are no codes in it.
    """
    if hasattr(model, "decode"):
        if wanted:
            raise CondgenError(f"{name_of(model)} is told nothing when it paints: leave the labels out.")
        return model
    if hasattr(model, "attributes"):
        return ConditionalLatentSpace(model, wanted)
    raise CondgenError(
        f"{name_of(model)} has no codes that images are painted from. The tools look at autoencoders, GANs, and at "
        "models of labels that are a CVAE or a cGAN."
    )
