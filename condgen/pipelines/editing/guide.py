"""Generation guided by words and images: an image prompt, an image to begin from, a mask of what is generated anew."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from condgen.contracts import CondgenError, SamplingOption
from condgen.data.options import ReadOptions
from condgen.data.sources.images import fit
from condgen.decoders import DECODERS
from condgen.files.images import png_bytes
from condgen.pipelines.editing.base import Editor, InputImage, Operation, open_input
from condgen.pipelines.editing.decoding import Decoding
from condgen.pipelines.editing.sphere import slerp_z
from condgen.text import check_prompt, check_prompts

WEIGHT = 0.5
"""Default weight of an image prompt."""
NOISE = 0.85
"""Default noise level at which generation from an image begins."""
RESAMPLE = 3
"""Calls of the denoiser at every noise level while a mask is filled; measured in docs/results.md."""
GUIDANCE = 1.5
"""Default guidance while a mask is filled; measured there, too."""
RANGES = (
    SamplingOption("resample", RESAMPLE, 1, 100, "int", "calls of the denoiser at every noise level"),
    SamplingOption("image_weight", WEIGHT, 0, 1, "float", "weight of the image prompt"),
    SamplingOption("noise", NOISE, 0.001, 1, "float", "noise level at which generation begins"),
)
BLACK = (0, 0, 0)


@dataclass(frozen=True)
class Guide(Operation):
    """Words and images together.

    Args:
        prompt: the words; '' takes the embedding of `image`, or of `init`, alone.
        image: an image whose embedding is mixed with that of the prompt.
        image_weight: 0 takes the embedding of the prompt, 1 that of the image; between them along the sphere.
        init: an image to begin from.
        noise: noise level t at which sampling begins, above 0, at most 1: x_t = (1 - t) init + t eps; 1 is noise.
        mask: S x S; white is generated, black keeps the pixels of `init`.
        prior: the prior, '' for the default one.
        resample: with a mask, calls of the denoiser at every noise level, see `diffusion.samplers.Init`.
        negative: words to steer away from, '' for none: in guidance they replace the null condition, without a z; with
            one, images keep less to the prompt, see docs/results.md.

    References:
        SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (Meng et al., 2022), for init
        Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), for the mask
    """

    prompt: str = ""
    image: InputImage | None = None
    image_weight: float = WEIGHT
    init: InputImage | None = None
    noise: float = 1.0
    mask: InputImage | None = None
    prior: str = ""
    resample: int = RESAMPLE
    negative: str = ""

    name = "guide"
    uses_prior = True

    def decoding(self, editor: Editor, rng: torch.Generator, options: dict[str, float]) -> Decoding:
        model, image = editor.model, self.image or (None if self.prompt else self.init)
        z = editor.z_of(self.prompt, rng, options, self.prior) if self.prompt else None
        if image is not None:
            of_image = editor.z_of(image, rng, options)
            z = of_image if z is None else slerp_z(model.normalizer, z[None], of_image[None], self.image_weight)[0]
        init = None if self.init is None else self.init.pixels(model)
        if self.mask is None:
            return Decoding(z, self.prompt, image=init, t=self.noise, negative=self.negative)
        # a prior's z describes an image of its own, with its things where nothing may change
        use_z, keep = self.image is not None or not self.prompt, self.mask.pixels(model)[:1] < 0
        return Decoding(z, self.prompt, None, init, self.noise, keep, self.resample, use_z, self.negative)

    @property
    def defaults(self) -> dict[str, float]:  # type: ignore[override]
        """Strong guidance would draw what the words say into the mask even where the kept part shows it already."""
        return {} if self.mask is None else {"guidance": GUIDANCE}

    @property
    def title(self) -> str:
        images = [one.stem for one in (self.image, self.init) if one is not None]
        return self.prompt or " and ".join(images)

    @property
    def words(self) -> str:
        return self.prompt

    def to_json(self) -> dict[str, Any]:
        own = super().to_json()
        return own if self.negative else {name: value for name, value in own.items() if name != "negative"}

    def check(self, model) -> None:
        for option in RANGES:
            option.check(getattr(self, option.name))
        if not all(isinstance(one, InputImage | None) for one in (self.image, self.init, self.mask)):
            raise CondgenError("The recipe is damaged: an image of guide is no image.")
        if not self.prompt and self.init is None:
            if self.image is None:
                raise CondgenError("There is neither a prompt nor an image. Give one of them, or both.")
            raise CondgenError("An image without a prompt is a variation of it: condgen vary IMAGE.")
        if self.init is None and (self.mask is not None or self.noise < 1):
            raise CondgenError("A noise level and a mask belong to an image to begin from: give it with --init.")
        if self.prompt and not model.reads_text:
            model.embed_text([self.prompt])  # says why not
        kind = DECODERS.kind_of(model.decoder)
        if self.negative:
            self._check_negative(model, kind.negatives)
        if self.init is not None and not kind.inverts:
            raise CondgenError(
                f"{model.name} has a {DECODERS.name_of(model.decoder)} decoder, which generates in one pass: it cannot "
                "begin from an image. Give the image as --image, or use a model with a diffusion decoder."
            )
        if self.mask is not None and not (self.mask.pixels(model) >= 0).any():
            raise CondgenError(f"The mask {self.mask.name} has no white, so nothing would be generated.")

    def _check_negative(self, model, possible: bool) -> None:
        check_prompt(self.negative)
        if not model.reads_text:
            model.embed_text([self.negative])  # says why not
        if not possible:
            raise CondgenError(
                f"{model.name} has a {DECODERS.name_of(model.decoder)} decoder, which has no guidance: it takes no "
                "negative words. Use a model with a diffusion decoder."
            )


ImageLike = str | os.PathLike[str] | Image.Image | InputImage


def guides(
    model: Any, prompts: Sequence[str] | str, prior: str | None = None, image: ImageLike | None = None,
    image_weight: float | None = None, init: ImageLike | None = None, noise: float | None = None,
    mask: ImageLike | None = None, negative: str = "",
) -> list[Guide]:  # fmt: skip
    """An operation for every prompt, with images as files or PIL images.

    Args:
        model: the model that will generate.
        prompts: one or several; '' for none.
        image_weight, noise: None for the default: NOISE, or 1 with a mask.
        negative: words to steer away from; '' for none.

    Raises:
        CondgenError: an image cannot be read; the mask has another aspect ratio than `init`; see also `Guide.check`.
    """
    texts = [""] if prompts in ("", []) else check_prompts(prompts)
    if image_weight is not None and image is None:
        raise CondgenError("A weight of the image needs the image: give it with --image.")
    if init is None and (mask is not None or noise is not None):
        raise CondgenError("A noise level and a mask belong to an image to begin from: give it with --init.")
    level = 1.0 if init is None or mask is not None else NOISE
    values = {
        "image": None if image is None else InputImage.read(model, image),
        "image_weight": WEIGHT if image_weight is None else image_weight,
        "init": None if init is None else InputImage.read(model, init),
        "noise": level if noise is None else noise,
        "mask": None if mask is None else read_mask(model, mask, init),
        "negative": negative,
    }
    return [Guide(text, prior=prior or "", **values) for text in texts]


def read_mask(model: Any, mask: ImageLike, init: ImageLike) -> InputImage:
    """Reads the mask of an image as that image is read: scaled to its size, then made square; nothing is smoothed.

    Returns:
        S x S, white where values are at least 128, else black.

    Raises:
        CondgenError: it has another aspect ratio than the image, by more than the rounding of a pixel.
    """
    if isinstance(mask, InputImage):
        return mask
    name, image = _opened(mask)
    if _is_transparent(mask):
        raise CondgenError(f"The mask {name} is transparent in parts. White is generated, black stays.")
    width, height = (model.size, model.size) if isinstance(init, InputImage) else _opened(init)[1].size
    if abs(image.width * height - image.height * width) > max(width, height, *image.size):
        raise CondgenError(
            f"The mask has {image.width} x {image.height} pixels, the image {width} x {height}. Give a mask of the "
            "size of the image, or of its aspect ratio."
        )
    white = image.convert("L").point(lambda value: 255 * (value >= 128)).convert("RGB")
    nearest, resize = Image.Resampling.NEAREST, ReadOptions.stored(model.about.get("reading")).resize
    pixels = fit(white.resize((width, height), nearest), model.size, resize, background=BLACK, resample=nearest)
    return InputImage(name, base64.b64encode(png_bytes(Image.fromarray(pixels[0]))).decode())


def _is_transparent(mask: ImageLike) -> bool:
    """Whether a mask, a file or a PIL image, has transparent pixels."""
    if isinstance(mask, Image.Image):
        return mask.has_transparency_data and mask.convert("RGBA").getchannel("A").getextrema()[0] < 255
    with Image.open(mask) as image:
        return _is_transparent(image.copy())


def _opened(image: ImageLike) -> tuple[str, Image.Image]:
    return (image.name, image.image()) if isinstance(image, InputImage) else open_input(image)


OPERATION = Guide
