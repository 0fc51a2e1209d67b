"""The judge of images that were asked for nothing: are they like real ones, all of them, and none of them a copy?

Where the data has classes an independent classifier learns them from real training images. Its features are the space
to measure in, and what it sees tells which classes a generator has lost. Other images are looked at by the same
network with its first, random weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgen.baselines.gans import Codes
from condgen.contracts import CondgenError, ProgressCallback
from condgen.data.batches.captions import to_float, to_uint8
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.class_to_image import right_of
from condgen.evaluation.classifier import (
    Classifier,
    ClassifierRun,
    config_for,
    features_of,
    kept_classifier,
    seen_in,
    space_of,
)
from condgen.evaluation.distribution import (
    FEWEST,
    Extractors,
    Report,
    held_against,
    neighbours,
    over_seeds,
    pixels,
    rgb,
)
from condgen.evaluation.embed import Example
from condgen.evaluation.inception import Inception
from condgen.files.weights import fingerprint
from condgen.metrics.diversity import best_matching, entropy, mean_distance, missing, purity, shares
from condgen.metrics.prdc import closeness, memorisation

MOST, SHOWN, LEVELS = 2_000, 40, 24
"""Images that are painted for every seed, at most; images on the sheet; values of an attribute with a table of its own.
"""


def evaluate_samples(
    model, train: LabelledImages, test: LabelledImages, seeds: Sequence[int] = (0, 1, 2), judge: Path | None = None,
    inception: Path | None = None, run: ClassifierRun | None = None,
    progress: ProgressCallback = lambda share, what: None,
) -> tuple[Report, dict[str, list[Example]]]:  # fmt: skip
    """Judges the new images of a model that is told nothing.

    Args:
        model: a LatentModel; of an InfoGAN it is told, too, what its categories have to do with the classes.
        train, test: real images; the classifier learns from the first and has never seen the second. As many are
            painted as there are test images, but no more than MOST.
        seeds: every one paints all images anew; means are reported, with their standard deviation.
        judge: folder to keep the classifier in.
        inception: file with the weights of the Inception network, see `evaluation.inception`.
        run: how the classifier is trained.
        progress: called with progress.

    Returns:
        (sections of the report, sheets): `samples` shows real images above new ones, `neighbours` those nearest to a
        training image, each beside it.

    Raises:
        CondgenError: there are too few images to hold anything against.
    """
    if min(len(train), len(test)) < FEWEST:
        raise CondgenError(
            f"{test.name} has {len(train)} training and {len(test)} test images; {FEWEST} of each are needed to "
            "judge new ones by. Name another split with --split, or other images with --data."
        )
    network = None if inception is None else Inception.read(inception)
    eye = Eye(train, test, judge, run, lambda share, what: progress(0.3 * share, what))
    classifier = eye.classifier.to(model.device)
    extractors: Extractors = {
        (f"frechet ({eye.space})", f"kernel ({eye.space})"): lambda images: features_of(classifier, images)
    }
    if network is not None:
        extractors[network.names] = network.to(model.device).extract
    held = test.images[_some(len(test), min(MOST, len(test)), 0)]
    truth = {names: features(held) for names, features in extractors.items()}
    known = pixels(train.images)
    near_real, real_seen = closeness(pixels(held), known)[0], eye.sees(held)
    rounds, sheets, categories = [], {}, []
    for k, seed in enumerate(seeds):
        progress(0.3 + 0.7 * k / len(seeds), f"painting {len(held):,} images, seed {seed}")
        began = time.perf_counter()
        z = model.draw(range(1_000_000 * seed, 1_000_000 * seed + len(held)))
        generated = to_uint8(model.decode(z))
        seconds = time.perf_counter() - began
        progress(0.3 + 0.7 * (k + 0.5) / len(seeds), "judging them")
        real = train.images[_some(len(train), len(held), seed)]
        seen = eye.sees(generated)
        found = held_against(truth, generated, real, extractors, seed)
        near, rows = closeness(pixels(generated), known)
        found["memorisation"] = {"memorised": memorisation(near, near_real) | {"N": len(near)}}
        found |= eye.collapse(generated, held, seen, real_seen)
        found["speed"] = {"painting": {"images a second": len(generated) / seconds, "N": len(generated)}}
        rounds.append(found)
        categories.append((z, seen))
        if not sheets:
            shown = [("real", rgb(one), True) for one in held[:8]]
            sheets["samples"] = shown + [("painted", rgb(one), True) for one in generated[:SHOWN]]
            sheets["neighbours"] = neighbours(generated, lambda i: "painted", train.images, near, rows)
    report: Report = {"samples_judged_by": eye.facts | {"images of every seed": len(held), "seeds": len(seeds)}}
    report |= over_seeds(rounds)
    if model.critic is not None and model.net.config.categories and eye.judged:
        report |= eye.matched(model, train, test, categories)
    return report, sheets


class Eye:
    """What judges, and what it sees.

    Args: see `evaluate_samples`.
    """

    def __init__(
        self,
        train: LabelledImages,
        test: LabelledImages,
        judge: Path | None,
        run: ClassifierRun | None,
        progress: ProgressCallback,
    ):
        self.attributes = train.attributes
        usable = {k for k, f in enumerate(self.attributes) if f.values and not np.isnan(train.targets[:, k]).any()}
        self.judged = sorted(usable) if train.attributes == test.attributes else []
        self.facts: dict[str, object] = {"training images": len(train), "test images": len(test)}
        if self.judged:
            self.classifier = kept_classifier(train, judge, run, progress)
            self.space = space_of(self.classifier, train.name)
            right = right_of(self.sees(test.images), test.targets, self.attributes)
            self.facts |= {f"{name}, right on real test images": share for name, share in right.items()}
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.classifier = Classifier(config_for(train)).eval()
            self.space = f"features: random network, {fingerprint(self.classifier)[:8]}"
        self.facts = {"features": self.space} | self.facts

    def sees(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, C, S, S) -> int64 (N, A), see `classifier.seen_in`."""
        return seen_in(self.classifier, features_of(self.classifier, images))

    def collapse(self, generated: np.ndarray, real: np.ndarray, seen: np.ndarray, real_seen: np.ndarray) -> Report:
        """How varied images are, and what is missing among them."""
        both = {"generated": generated, "real": real}
        lines: dict[str, dict] = {
            "mean distance of two, in pixels from 0 to 1": {n: mean_distance(pixels(i)) for n, i in both.items()}
        }
        out: Report = {"variety": lines}
        for k in self.judged:
            attribute = self.attributes[k]
            own, true = (shares(torch.from_numpy(x[:, k]), attribute.cardinality) for x in (seen, real_seen))
            lines[f"{attribute.name}: entropy in nats, of {math.log(attribute.cardinality):.2f}"] = {
                "generated": entropy(own), "real": entropy(true)
            }  # fmt: skip
            lines[f"{attribute.name}: missing values"] = {"generated": missing(own, true), "real": 0}
            if attribute.cardinality <= LEVELS:
                out[f"shares_of_{attribute.name}"] = {
                    name: {"generated": own[i].item(), "real": true[i].item()}
                    for i, name in enumerate(attribute.values)
                }
        for line in lines.values():
            line |= {"N": len(generated), "N real": len(real)}
        return out

    def matched(
        self, model, train: LabelledImages, test: LabelledImages, generated: list[tuple[Tensor, np.ndarray]]
    ) -> Report:
        """What the categories of an InfoGAN have to do with classes that it was never told.

        Categories are named after classes by the best matching of one to one on training images, and the names are
        held against test images, and against what the classifier sees in images painted of a category.
        """
        kinds = model.net.config.categories
        read = [self._category(model, part.images) for part in (train, test)]
        asked = torch.cat([Codes.of(z, model.net.config).category.argmax(1) for z, _ in generated])
        out: Report = {"categories": {}}
        for k in self.judged:
            levels, name = self.attributes[k].cardinality, self.attributes[k].name
            labels = [torch.from_numpy(part.targets[:, k]).long() for part in (train, test)]
            shown = torch.from_numpy(np.concatenate([seen[:, k] for _, seen in generated]))
            known = labels[1] >= 0
            names = best_matching(read[0], labels[0], kinds, levels)
            rows = (("read off test images", read[1][known], labels[1][known]), ("painted of", asked, shown))
            for told, found, true in rows:
                out["categories"][f"{name}, {told}"] = {
                    "right": (names[found] == true).double().mean().item(),
                    "purity": purity(found, true, kinds, levels),
                    "the largest class": shares(true, levels).max().item(),
                    "N": len(true),
                }
            if len(self.judged) == 1 and levels <= LEVELS:
                called = [self.attributes[k].values[i] if i >= 0 else "nothing" for i in names.tolist()]
                out["what_test_pictures_of_a_category_show"] = {
                    f"category {c}, called {called[c]}": {
                        value: (labels[1][read[1] == c] == i).double().mean().item()
                        for i, value in enumerate(self.attributes[k].values)
                    }
                    for c in range(kinds)
                }
        return out

    @torch.inference_mode()
    def _category(self, model, images: np.ndarray) -> Tensor:
        """int64 (N,), the category that the critic reads off images."""
        parts = torch.from_numpy(np.ascontiguousarray(images)).split(256)
        return torch.cat([model.critic.category(to_float(part).to(model.device)).argmax(1).cpu() for part in parts])


def _some(n: int, most: int, seed: int) -> np.ndarray:
    """So many of n rows, drawn alike by the same seed."""
    return np.random.default_rng((seed, 4)).permutation(n)[:most]
