"""The Inception network of FID, with weights from a file; nothing is downloaded.

A Fréchet distance is called FID only in the features of the published weights. Images are resized by torch's bilinear
filter without antialiasing and scaled to x / 127.5 - 1, as in pytorch-fid; torch-fidelity resizes as TensorFlow did and
scales to (x - 128) / 128, which gives other values.

Importing this module imports torchvision.
"""

from __future__ import annotations

import hashlib
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import inception

from condgen.contracts import CondgenError
from condgen.evaluation.embed import in_batches
from condgen.files.weights import check_finite, read_tensors

KNOWN = "6726825d"
"""Prefix of the SHA-256 of pt_inception-2015-12-05-6726825d.pth, the weights of the 2015 TensorFlow graph."""
SIZE = 299
LOAD_ERRORS = (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, TypeError, AttributeError)
"""Errors when a damaged or foreign file is read."""


class _Pooling:
    """Replaces the pooling in the last branch of a torchvision block."""

    pool = staticmethod(partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False))

    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(self.pool(x))]


class _A(_Pooling, inception.InceptionA):
    pass


class _C(_Pooling, inception.InceptionC):
    pass


class _E(_Pooling, inception.InceptionE):
    pass


class _LastE(_Pooling, inception.InceptionE):
    pool = staticmethod(partial(F.max_pool2d, kernel_size=3, stride=1, padding=1))


class Inception(inception.Inception3):
    """torchvision's Inception v3 with the pooling of the 2015 TensorFlow graph, up to the 2048 features of FID.

    References:
        Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015)
        GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
    """

    def __init__(self, sha256: str = ""):
        blocks = [inception.BasicConv2d, _A, inception.InceptionB, _C, inception.InceptionD, _E, inception.InceptionAux]
        super().__init__(1008, aux_logits=False, inception_blocks=blocks, init_weights=False)
        self.sha256 = sha256
        self.Mixed_7c = _LastE(2048)

    @classmethod
    def read(cls, file: Path | str) -> Inception:
        """Reads `pt_inception-2015-12-05-6726825d.pth`, or a .pth or .safetensors with tensors of these names.

        Raises:
            CondgenError: the file is missing or damaged, holds more than tensors, or tensors of another network.
        """
        file = Path(file)
        if not file.is_file():
            raise CondgenError(f"{file} is missing. --inception takes the file of the Inception weights.")
        network = cls(hashlib.sha256(file.read_bytes()).hexdigest())
        try:
            safe = file.suffix == ".safetensors"
            tensors = read_tensors(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
            network.load_state_dict(tensors)
            check_finite(network.state_dict(), file, "Copy it again.")
        except LOAD_ERRORS as error:
            reason = " ".join(str(error).split())[:200]
            raise CondgenError(
                f"{file} does not hold the weights of the Inception network ({reason}). Expected the file of "
                "pytorch-fid, pt_inception-2015-12-05-6726825d.pth."
            ) from None
        return network.eval()

    @property
    def names(self) -> tuple[str, str]:
        """Names of the Fréchet and the kernel distance in these features."""
        details = f"{self.sha256[:8]}, resized to {SIZE} by torch's bilinear filter"
        if self.sha256.startswith(KNOWN):
            return f"FID (Inception {details})", f"KID (Inception {details})"
        return f"frechet (features: Inception weights {details})", f"kernel (features: Inception weights {details})"

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 2048)."""
        x = F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)
        for name, layer in self.named_children():  # torchvision registers them in the order of the computation
            if name == "dropout":
                break
            x = layer(x)
        return x.flatten(1)

    @torch.inference_mode()
    def extract(self, images: np.ndarray) -> Tensor:
        """uint8 (N, 1 or 3, S, S) -> (N, 2048), on the CPU."""
        return in_batches(lambda part: self(part.expand(-1, 3, -1, -1)), images, self.fc.weight.device, 32).cpu()
