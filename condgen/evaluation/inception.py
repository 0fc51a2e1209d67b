"""The Inception network of FID, for whoever has its weights in a file; nothing is downloaded.

A Fréchet distance is called FID only in the features of the very weights that everybody compares by. The images are
resized by torch's bilinear filter without smoothing, as pytorch-fid does; other resizers give other numbers.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import CondgenError
from condgen.data.batches.captions import to_float
from condgen.files.weights import read_tensors

KNOWN = "6726825d"
"""First digits of the SHA-256 of pt_inception-2015-12-05-6726825d.pth, the weights of the 2015 TensorFlow graph."""
EDGE = 299
FAULTS = (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, TypeError, AttributeError)
"""What reading a file that somebody else wrote may raise."""


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU; padded so that the size is kept unless it is halved."""

    def __init__(self, width: int, out: int, kernel: int | tuple[int, int], stride: int = 1, keep: bool = True):
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = tuple(side // 2 for side in sides) if keep and stride == 1 else 0
        self.conv = nn.Conv2d(width, out, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Chains of layers side by side, their outputs concatenated.

    Args:
        width: channels that come in.
        chains: each a list of layers: the name of a pooling, a convolution (name, channels, kernel[, stride]), or a
            list of convolutions that all read the same and are concatenated.
    """

    def __init__(self, width: int, chains: list[list]):
        super().__init__()
        self.chains = chains
        for chain in chains:
            inside = width
            for layer in chain:
                if isinstance(layer, str):
                    continue
                for name, out, *shape in layer if isinstance(layer, list) else [layer]:
                    self.add_module(name, _Conv(inside, out, *shape))
                inside = out

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._through(chain, x) for chain in self.chains], 1)

    def _through(self, chain: list, h: Tensor) -> Tensor:
        for layer in chain:
            if isinstance(layer, str):
                h = POOLS[layer](h)
            elif isinstance(layer, tuple):
                h = getattr(self, layer[0])(h)
            else:
                h = torch.cat([getattr(self, name)(h) for name, *_ in layer], 1)
        return h


POOLS = {
    "mean": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),  # as TensorFlow counts
    "max": lambda x: F.max_pool2d(x, 3, 1, 1),
    "halve": lambda x: F.max_pool2d(x, 3, 2),
}


def _a(pool: int) -> list[list]:
    double = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
    five = [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)]
    return [[("branch1x1", 64, 1)], five, double, ["mean", ("branch_pool", pool, 1)]]


def _b() -> list[list]:
    double = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)]
    return [[("branch3x3", 384, 3, 2)], double, ["halve"]]


def _c(inside: int) -> list[list]:
    wide, tall = (1, 7), (7, 1)
    seven = [("branch7x7_1", inside, 1), ("branch7x7_2", inside, wide), ("branch7x7_3", 192, tall)]
    double = [("branch7x7dbl_1", inside, 1), ("branch7x7dbl_2", inside, tall), ("branch7x7dbl_3", inside, wide)]
    double += [("branch7x7dbl_4", inside, tall), ("branch7x7dbl_5", 192, wide)]
    return [[("branch1x1", 192, 1)], seven, double, ["mean", ("branch_pool", 192, 1)]]


def _d() -> list[list]:
    seven = [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1))]
    three = [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)]
    return [three, [*seven, ("branch7x7x3_4", 192, 3, 2)], ["halve"]]


def _e(pool: str) -> list[list]:
    three = [("branch3x3_1", 384, 1), [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))]]
    double = [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)]
    fork = [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))]
    return [[("branch1x1", 320, 1)], three, [*double, fork], [pool, ("branch_pool", 192, 1)]]


class Inception(nn.Module):
    """Inception v3 as the 2015 TensorFlow graph computes it, up to the 2048 features of FID.

    References:
        Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015)
        GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
    """

    def __init__(self, sha256: str = ""):
        super().__init__()
        self.sha256 = sha256
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, keep=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, keep=False)
        mixed = {"5b": (192, _a(32)), "5c": (256, _a(64)), "5d": (288, _a(64)), "6a": (288, _b())}
        mixed |= {f"6{letter}": (768, _c(inside)) for letter, inside in zip("bcde", (128, 160, 160, 192))}
        mixed |= {"7a": (768, _d()), "7b": (1280, _e("mean")), "7c": (2048, _e("max"))}
        self.mixed = [f"Mixed_{name}" for name in mixed]
        for name, (width, chains) in mixed.items():
            self.add_module(f"Mixed_{name}", _Mixed(width, chains))
        self.fc = nn.Linear(2048, 1008)  # not used here, but in the file

    @classmethod
    def read(cls, file: Path | str) -> Inception:
        """From `pt_inception-2015-12-05-6726825d.pth`, or any file with tensors of these names: .pth or .safetensors.

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
        except (
            OSError,
            EOFError,
            RuntimeError,
            pickle.UnpicklingError,
            ValueError,
            TypeError,
            AttributeError,
        ) as error:
            why = " ".join(str(error).split())[:200]
            raise CondgenError(
                f"{file} does not hold the weights of the Inception network ({why}). Expected the file of pytorch-fid, "
                "pt_inception-2015-12-05-6726825d.pth."
            ) from None
        return network.eval()

    @property
    def names(self) -> tuple[str, str]:
        """What the Fréchet and the kernel distance in these features are called."""
        how = f"{self.sha256[:8]}, resized to {EDGE} by torch's bilinear filter"
        if self.sha256.startswith(KNOWN):
            return f"FID (Inception {how})", f"KID (Inception {how})"
        return f"frechet (features: Inception weights {how})", f"kernel (features: Inception weights {how})"

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 2048)."""
        x = F.interpolate(images, (EDGE, EDGE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(POOLS["halve"](x)))
        x = POOLS["halve"](x)
        for name in self.mixed:
            x = getattr(self, name)(x)
        return x.mean((2, 3))

    @torch.inference_mode()
    def features_of(self, images: np.ndarray) -> Tensor:
        """uint8 (N, 1 or 3, S, S) -> (N, 2048), on the CPU."""

        def compute(own: slice) -> Tensor:
            parts = torch.from_numpy(np.ascontiguousarray(images[own])).split(32)
            return torch.cat([self(to_float(p).to(self.fc.weight.device).expand(-1, 3, -1, -1)) for p in parts])

        return distributed.shared_out(compute, len(images)).cpu()
