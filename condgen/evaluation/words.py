"""What images show of their captions, by an independent classifier of the frequent words of the training captions.

It is trained on real training images alone and does not condition the generator. It tells which words of its caption an
image shows; distances between generated and real images are measured in its features.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from condgen.contracts import ProgressCallback
from condgen.data.attributes import Attribute
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.base import Report
from condgen.evaluation.classifier import (
    ClassifierFitConfig,
    cached_classifier,
    feature_space,
    features_of,
    untrained_classifier,
)
from condgen.text import clean

MOST_WORDS = 40
"""Maximum number of words that are used, the most frequent ones."""
FEWEST_IMAGES, LEAST_SHARE, MOST_SHARE = 12, 0.01, 0.8
"""A word is used if at least so many training images have it, as a number and as a share, and at most so large a
share."""
RECOGNISED = 0.6
"""Balanced accuracy on real test images from which a word counts as recognised."""
FEWEST_TESTS = 4
"""Real test images with a word, and without it, that are needed to know whether it is recognised."""


def words_of(text: str) -> set[str]:
    """The words of a text, without numbers and punctuation."""
    return set(re.findall(r"[^\W\d_]+", clean(text)))


def words_of_images(data: CaptionedImages) -> list[set[str]]:
    """The words of all captions of every image."""
    of_text = [words_of(text) for text in data.texts]
    return [set().union(*(of_text[k] for k in row if k >= 0)) for row in data.captions]


def frequent_words(data: CaptionedImages) -> tuple[str, ...]:
    """The words that can be used, the most frequent first: in many captions, but not in nearly all."""
    counts = Counter(word for words in words_of_images(data) for word in words)
    fewest, most = max(FEWEST_IMAGES, LEAST_SHARE * len(data)), MOST_SHARE * len(data)
    usable = [(-count, word) for word, count in counts.items() if fewest <= count <= most]
    return tuple(word for _, word in sorted(usable)[:MOST_WORDS])


def named(found: list[set[str]], words: tuple[str, ...]) -> np.ndarray:
    """float32 (N, W): 1 where a word is among those of an image, else 0."""
    return np.array([[word in some for word in words] for some in found], np.float32).reshape(len(found), len(words))


class WordClassifier:
    """A classifier of words, or the same network with random weights where no word can be used.

    Args:
        train: real captioned images.
        folder: where the classifier is saved.
        fit: options of its training.
        progress: called with progress.
    """

    def __init__(
        self, train: CaptionedImages, folder: Path | None = None, fit: ClassifierFitConfig | None = None,
        progress: ProgressCallback = lambda share, message: None,
    ):  # fmt: skip
        self.words = frequent_words(train)
        targets = named(words_of_images(train), self.words)
        attributes = tuple(Attribute(word, ("no", "yes")) for word in self.words)
        labelled = LabelledImages(train.images, attributes, targets, train.name)
        self.shares = torch.from_numpy(targets.mean(0))
        if self.words:
            self.network = cached_classifier(labelled, folder, fit or ClassifierFitConfig(), progress)
            self.space = feature_space(self.network, f"words of {train.name}")
        else:
            self.network, self.space = untrained_classifier(labelled)

    @torch.inference_mode()
    def shown(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, 3, S, S) -> bool (N, W), the words that images show: those that are more probable than among the
        training images.
        """
        if not self.words:
            return np.zeros((len(images), 0), bool)
        device = self.network.squeeze.weight.device
        logits = self.network.logits(features_of(self.network, images).to(device))
        probable = torch.stack([one.softmax(1)[:, 1] for one in logits], 1).cpu()
        return (probable > self.shares).numpy()


def split_of(data: CaptionedImages) -> tuple[CaptionedImages, CaptionedImages]:
    """Three quarters of the images to train a classifier on, and a quarter to evaluate on."""
    order = np.random.default_rng(0).permutation(len(data))
    parts = np.sort(order[len(data) // 4 :]), np.sort(order[: len(data) // 4])
    train, test = (replace(data, images=data.images[rows], captions=data.captions[rows], labels=None) for rows in parts)
    return train, test


def word_scores(classifier: WordClassifier, test: CaptionedImages, prompts: list[str], generated: np.ndarray) -> Report:
    """Whether generated images show the words of their prompts.

    Args:
        classifier: trained on other images.
        test: real images; their captions tell the words that they show.
        prompts: N texts.
        generated: uint8 (N, 3, S, S).

    Returns:
        `classifier` with facts about it; `words` with the balanced accuracy of every recognised word: the mean of the
        share of images with the word in their prompt that show it, and of those without the word that do not.
    """
    on_real = _balanced(classifier.shown(test.images), named(words_of_images(test), classifier.words))
    found = _balanced(classifier.shown(generated), named([words_of(prompt) for prompt in prompts], classifier.words))
    known = [k for k, (accuracy, *_) in enumerate(on_real) if accuracy >= RECOGNISED]
    rows = {word: _line(found[k], on_real[k]) for k, word in enumerate(classifier.words) if k in known}
    mean = {
        side: float(np.nanmean([row[side] for row in rows.values()])) if rows else math.nan
        for side in ("generated", "real")
    }
    overall = mean | {"chance": 0.5, "N": len(generated), "N real": len(test)}
    facts = {
        "words of the classifier": len(classifier.words),
        "of these recognised on test images": len(known),
    }
    return {"classifier": {"features": classifier.space} | facts, "words": {"all recognised words": overall} | rows}


def _line(found: tuple[float, int], real: tuple[float, int]) -> dict[str, float | int]:
    return {"generated": found[0], "real": real[0], "chance": 0.5, "N": found[1], "N real": real[1]}


def _balanced(shown: np.ndarray, asked: np.ndarray) -> list[tuple[float, int]]:
    """Balanced accuracy and number of images with the word, for every word; NaN where there are too few."""
    out = []
    for answers, truth in zip(shown.T, asked.T > 0):
        enough = FEWEST_TESTS <= truth.sum() <= len(truth) - FEWEST_TESTS
        accuracy = (answers[truth].mean() + (~answers[~truth]).mean()) / 2 if enough else math.nan
        out.append((float(accuracy), int(truth.sum())))
    return out
