"""Labelled images by name: scikit-learn's digits, data sets of torchvision and of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.attributes import LABEL
from condgen.data.formats.arrays import Arrays, Part
from condgen.data.formats.registry import LabelledFormat, is_builtin
from condgen.data.options import ReadOptions
from condgen.data.sources.tables import clean
from condgen.data.sources.webdataset import cache_folder

DIGITS = "digits"
"""scikit-learn's digits: 1,797 grey images of 8 x 8 pixels in 10 classes, part of the package."""
TORCHVISION = "torchvision:"
HUB = "hub:"
KINDS = ("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100")
"""Supported data sets of torchvision; all have train and test in memory."""


def open_digits(word: str, options: ReadOptions, size: int = 0) -> Arrays:
    """Opens scikit-learn's digits; a hash of the index of an image puts 20 % in test.

    References: Optical Recognition of Handwritten Digits (Alpaydin, Kaynak, 1998), the UCI repository.

    Raises:
        CondgenError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise CondgenError(f"The digits come with scikit-learn ({error}). pip install scikit-learn") from None
    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[:, None]
    part = Part(DIGITS, "", data.target.astype(np.int64)[:, None], lambda: images)
    return Arrays(DIGITS, DIGITS, DIGITS, (LABEL,), (options.class_names,), (part,), test=20)


def open_torchvision(word: str, options: ReadOptions, size: int = 0) -> Arrays:
    """Opens e.g. `torchvision:CIFAR10`, which torchvision downloads and verifies once, into condgen's cache.

    Raises:
        CondgenError: an unsupported name, no torchvision, or no network and no copy in the cache.
    """
    kind = next((kind for kind in KINDS if kind.lower() == word.removeprefix(TORCHVISION).lower()), None)
    if kind is None:
        raise CondgenError(f"{word}: the supported data sets of torchvision are {', '.join(KINDS)}.")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise CondgenError(f"{word} needs torchvision ({error}). pip install torchvision") from None
    home = cache_folder("torchvision")
    try:
        both = [
            (split, getattr(datasets, kind)(str(home), train=split == "train", download=True))
            for split in ("train", "test")
        ]
    except (OSError, RuntimeError) as error:  # no network, or a wrong checksum
        raise _offline(word, error, home) from None
    classes = options.class_names or tuple(clean(str(name)) for name in both[0][1].classes)
    parts = [Part(split, split, np.asarray(data.targets, np.int64)[:, None], _pixels(data)) for split, data in both]
    return Arrays(word, kind, "torchvision", (LABEL,), (classes,), tuple(parts))


def _pixels(data):
    images = np.asarray(data.data)  # (N, H, W), or (N, H, W, 3)
    return lambda: images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def _offline(word: str, error: Exception, home: Path) -> CondgenError:
    message = " ".join(str(error).split())[:200]
    return CondgenError(
        f"{word} cannot be fetched ({message}). The download needs the network, and is then kept in {home}. Without "
        "network, give the path of local files."
    )


def fetch_hub(word: str) -> Path:
    """Downloads the parquet files of `hub:OWNER/NAME`, a data set on the Hugging Face hub, into the hub's cache.

    If the repository has none, uses the hub's conversion (branch refs/convert/parquet). Scripts, pickles and other
    files are never downloaded.

    Returns:
        The folder of the files.

    Raises:
        CondgenError: no such data set, no network, no parquet files, or several configurations.
    """
    from huggingface_hub import constants, snapshot_download

    name = word.removeprefix(HUB)
    for branch in (None, "refs/convert/parquet"):
        try:
            folder = snapshot_download(name, repo_type="dataset", revision=branch, allow_patterns=["*.parquet"])
        except Exception as error:  # the client raises errors of the hub and of its transport, and ValueError
            raise _offline(word, error, Path(constants.HF_HUB_CACHE)) from None
        if any(Path(folder).rglob("*.parquet")):
            return Path(folder)
    raise CondgenError(f"{word} has no parquet files. Download the data set, and give its folder.")


DIGITS_FORMAT = LabelledFormat(
    "scikit-learn's digits", lambda word, options: is_builtin(word, DIGITS), open_digits, ("class_names",)
)
TORCHVISION_FORMAT = LabelledFormat(
    "a data set of torchvision", lambda word, options: word.startswith(TORCHVISION), open_torchvision, ("class_names",)
)
