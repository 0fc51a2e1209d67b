"""Evaluation of text-to-image models: on scenes, on captioned images, on images composed of known layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError, CondgenWarning, ProgressCallback
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.sources.captions import load_captions
from condgen.evaluation.base import Example, Findings, Report, register, reranked
from condgen.evaluation.compositions import evaluate_compositions
from condgen.evaluation.distribution import FEWEST, RealImages, classifier_features, read_inception
from condgen.evaluation.embed import embed_images, embed_texts, generate_prompts, priors_report, same_text
from condgen.evaluation.options import CaptionOptions, TextToImageOptions
from condgen.evaluation.reading import read_options
from condgen.evaluation.scenes import evaluate_scenes
from condgen.evaluation.words import WordClassifier, split_of, word_scores
from condgen.metrics.retrieval import retrieval_at_1
from condgen.pipelines.text_to_image import TextToImage
from condgen.text import warn_of_texts

PROMPTS, SHOWN, IN_A_ROW = 64, 24, 8
"""Maximum numbers of captions that images are generated for, and of those on the sheet; images in a row of it."""
EXPLAINED = {
    "retrieval": "Share of test captions (images) whose nearest image (caption) in the model's own encoder is a right "
    "one. It tells about the encoder, not about generated images. chance: a random order.",
    "prior": "Image embeddings that the priors predict from captions. cos_true, cos_text, cos_unrelated: cosine with "
    "the image, the caption and another caption; recall_at_1: the image found by them; variance_ratio: 1 is "
    "right, 0 is always the same. The row none is the embedding of the caption itself.",
    "clip_score": "Mean cosine of image and caption in the encoder that conditions the generator. It is no independent "
    "measure: noise that fits the encoder can score above photographs. Compare by words and distances.",
    "classifier": "A classifier of the frequent words of the training captions, trained on real training images; "
    "it does not condition the generator. Words that it does not recognise on real test images are left out.",
    "words": "Balanced accuracy of the classifier: the mean of the share of images that show a word they were asked "
    "for and of those that do not show it unasked. Higher is better; real: real test images and their captions, "
    "the score of a perfect model; chance: images without regard to the caption. N: images with the word.",
    "distances": "Distance to the real test images in the named features; lower is better. real: as many real training "
    "images, the floor that a perfect model reaches. It depends on N: compare at equal N only. n/a: too few "
    "images.",
    "two_sample_test": "A test of whether the images come from the distribution of the test images; p below .05: they "
    "differ. real: the same for real training images.",
    "coverage": "precision and density: generated images that look like a real one; recall and coverage: real images "
    "that the generated ones look like. Higher is better; real: training images, the score of a perfect model.",
    "memorisation": "Share of generated images that lie closer to a training image than real test images do; about "
    "real where nothing is memorised. The sheet neighbours shows the nearest pairs.",
}
"""Section of the report -> what it means."""


@register(TextToImage, options=TextToImageOptions)
def evaluate_text_to_image(model, options: TextToImageOptions, progress: ProgressCallback) -> Findings:
    """Evaluates on captioned images if data is named, else on scenes if the model was trained on scenes.

    Raises:
        CondgenError: no data; or other models to compare with that cannot be compared.
    """
    if options.compare_with and (options.data or not options.ablate or not _are_scenes(options.compare_with)):
        raise CondgenError(
            "--compare-with adds rows to the ablation of scenes: leave --data out, keep --ablate above 0, and name "
            "text-to-image models."
        )
    if options.scene_eval > 2 or (options.scene_eval == 2 and (options.data or options.compare_with)):
        raise CondgenError(
            f"--scene-eval is 1 or 2, and 2 draws its own prompts for one model: leave --data and --compare-with out. "
            f"Got {options.scene_eval}."
        )
    if options.layers and not options.data:
        raise CondgenError("--layers needs the folder of the test tables: name it with --data.")
    if not options.data:
        if not str(model.about.get("recipe")).startswith("scenes"):
            raise CondgenError(f"{model.name} does not generate scenes: name captioned images with --data.")
        return (evaluate_scenes if options.scene_eval == 1 else evaluate_compositions)(model, options, progress)
    train, test = read_training_images(model, read_captioned(model, options), options)
    if not options.layers:
        return evaluate_captions(model, test, options, progress, train)
    from condgen.evaluation.nouns.protocol import evaluate_layers, read_protocol

    protocol = read_protocol(Path(options.data), Path(options.layers), options.prompts, model.size)
    found = evaluate_captions(model, test, options, progress, train)
    layers = evaluate_layers(model, protocol, options, progress)
    return Findings(found.report | layers.report, found.sheets | layers.sheets)


def _are_scenes(models: tuple) -> bool:
    return all(isinstance(model, TextToImage) for model in models)


def read_captioned(model, options: CaptionOptions, size: int = 0) -> CaptionedImages:
    """Reads captioned images; by default as the training images were read.

    Args:
        model: a text-to-image model or an encoder of images and texts.
        options: the data and its split.
        size: edge length of the images; 0 takes that of the model.
    """
    return load_captions(options.data, size or model.size, read_options(model, options), split=options.split)


def read_training_images(model, data: CaptionedImages, options: TextToImageOptions):
    """Captioned images to train a classifier on and to compare with, and those to evaluate on.

    They are the split `train` of the same data; without one, or where that is evaluated, three quarters of the images.
    Of fewer than four images all are evaluated, and there are none to train on.
    """
    if options.split not in ("train", "all"):
        with suppress(CondgenError):
            return read_captioned(model, replace(options, split="train")), data
    return (None, data) if len(data) < 4 else split_of(data)


def evaluate_captions(
    model, data: CaptionedImages, options: TextToImageOptions, progress: ProgressCallback,
    train: CaptionedImages | None = None, n: int = 500,
) -> Findings:  # fmt: skip
    """Evaluates on at most n held-out captioned images.

    Args:
        model: a TextToImage.
        data: real images that are not in `train`.
        options: as many images are generated for each of at most PROMPTS captions.
        progress: called with progress.
        train: real images for classifier, floors of distances and memorisation; without them, or with fewer than
            FEWEST, only retrieval, priors and CLIP scores are reported.

    Returns:
        Findings; the sheet `sheet` shows rows of real images above rows of images generated from their captions,
        `neighbours` the generated images that are nearest to a training image.
    """
    n = min(n, len(data))
    captions = [data.texts[i] for i in data.captions[:n, 0]]
    warn_of_texts(model.tokenizer, captions, stacklevel=2)
    progress(0.05, "encoder and priors")
    text = embed_texts(model.clip, model.tokenizer, captions)
    images = embed_images(model.clip, data.images[:n])
    same = same_text(data, n)
    report: Report = {"kind": "captions", "data": data.name, "images": n} | reranked(options)
    report["retrieval"] = {
        "text to image R@1": retrieval_at_1(text, images, same),
        "image to text R@1": retrieval_at_1(images, text, same.T),
        "chance R@1": same.float().mean().item(),
        "N": n,
    }
    with _quiet():
        report["prior"] = {"test": priors_report(model, data, n)}
    few, each, rounds = captions[: min(n, PROMPTS)], options.images_per_prompt, []
    for i in range(each):
        progress(0.1 + 0.4 * i / each, "generating images of test captions")
        with _quiet():
            seeds = list(range(1000 * i, 1000 * i + len(few)))
            rounds.append(generate_prompts(model, few, seeds, options.candidates))
    generated, prompts = np.concatenate(rounds), few * each
    scores = embed_images(model.clip, generated) * text[: len(few)].repeat(each, 1)
    report["clip_score"] = {
        "real images": (images * text).sum(1).mean().item(),
        "generated": scores.sum(1).mean().item(),
        "chance (real images, other captions)": (images @ text.T)[~same].mean().item(),
        "N": len(generated),
        "N real": n,
    }
    real = data.images[: len(few)]
    rows = [slice(k, k + IN_A_ROW) for k in range(0, min(len(few), SHOWN), IN_A_ROW)]
    shown = [
        example
        for row in rows
        for side, some in (("real", real), ("generated", generated[: len(few)]))
        for example in _row(side, few[row], some[row])
    ]
    sheets = {"sheet": shown}
    if train is not None and min(len(train), n) >= FEWEST:
        found, neighbours = _against_real(model, train, _first(data, n), prompts, generated, options, progress)
        report, sheets = report | found, sheets | {"neighbours": neighbours}
    explained = {name: {"meaning": text} for name, text in EXPLAINED.items() if name in report}
    return Findings(report | {"explained": explained}, sheets)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the model from warning once more of what the captions were said to hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CondgenWarning)
        yield


def _row(side: str, captions: list[str], images: np.ndarray) -> list[Example]:
    """A row of a sheet, filled up with white."""
    empty = [("", np.full_like(images[0], 255), True)] * (IN_A_ROW - len(captions))
    return [(f"{side}: {caption}", image, True) for caption, image in zip(captions, images)] + empty


def _first(data: CaptionedImages, n: int) -> CaptionedImages:
    return replace(data, images=data.images[:n], captions=data.captions[:n], labels=None)


def _against_real(
    model, train: CaptionedImages, test: CaptionedImages, prompts: list[str], generated: np.ndarray,
    options: TextToImageOptions, progress: ProgressCallback,
) -> tuple[Report, list[Example]]:  # fmt: skip
    """Words, distances, coverage and memorisation of generated images, and pairs of nearest neighbours."""
    inception = read_inception(options.inception, model.device)
    classifier = WordClassifier(
        train, options.classifiers, progress=lambda share, message: progress(0.5 + 0.4 * share, message)
    )
    classifier.network.to(model.device)
    progress(0.9, "comparing them with real images")
    real = RealImages(train.images, test.images, classifier_features(classifier.network, classifier.space) | inception)
    memorised, neighbours = real.memorisation(generated, lambda i: prompts[i])
    rows = np.random.default_rng(0).permutation(len(train))[: len(generated)]
    found = word_scores(classifier, test, prompts, generated)
    found["classifier"] |= {"training images": len(train), "test images": len(test)}
    return found | real.compare(generated, rows, 0) | memorised, neighbours
