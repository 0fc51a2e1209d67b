"""Evaluation of text-to-image models: on scenes, on captioned images, on images composed of known layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError, ProgressCallback
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.sources.captions import load_captions
from condgen.evaluation.base import Findings, Report, register
from condgen.evaluation.embed import embed_images, embed_texts, generate_prompts, priors_report, same_text
from condgen.evaluation.options import CaptionOptions, TextToImageOptions
from condgen.evaluation.reading import read_options
from condgen.evaluation.scenes import evaluate_scenes
from condgen.metrics.retrieval import retrieval_at_1
from condgen.pipelines.text_to_image import TextToImage


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
    if options.layers and not options.data:
        raise CondgenError("--layers needs the folder of the test tables: name it with --data.")
    if not options.data:
        if not str(model.about.get("recipe")).startswith("scenes"):
            raise CondgenError(f"{model.name} does not generate scenes: name captioned images with --data.")
        return evaluate_scenes(model, options, progress)
    data = read_captioned(model, options)
    if not options.layers:
        return evaluate_captions(model, data, options.images_per_prompt, progress)
    from condgen.evaluation.nouns.protocol import evaluate_layers, read_protocol

    protocol = read_protocol(Path(options.data), Path(options.layers), options.prompts, model.size)
    found = evaluate_captions(model, data, options.images_per_prompt, progress)
    layers = evaluate_layers(model, protocol, options.images_per_prompt, options.ablate, progress)
    return Findings(found.report | layers.report, layers.sheets)


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


def evaluate_captions(
    model, data: CaptionedImages, images_per_prompt: int, progress: ProgressCallback, n: int = 500
) -> Findings:
    """Retrieval, priors and CLIP score on at most n held-out captioned images."""
    n = min(n, len(data))
    captions = [data.texts[i] for i in data.captions[:n, 0]]
    progress(0.1, "encoder and priors")
    text = embed_texts(model.clip, model.tokenizer, captions)
    images = embed_images(model.clip, data.images[:n])
    same = same_text(data, n)
    report: Report = {"kind": "captions", "data": data.name, "images": n}
    report["retrieval"] = {
        "text to image R@1": retrieval_at_1(text, images, same),
        "image to text R@1": retrieval_at_1(images, text, same.T),
    }
    report["prior"] = {"test": priors_report(model, data, n)}
    shown, scores = [], []
    few = captions[: min(n, 64)]
    for i in range(images_per_prompt):
        progress(0.4 + 0.6 * i / images_per_prompt, "generating images of test captions")
        generated = generate_prompts(model, few, list(range(1000 * i, 1000 * i + len(few))))
        scores.append((embed_images(model.clip, generated) * text[: len(few)]).sum(1).mean().item())
        shown = shown or [(caption, image, True) for caption, image in zip(few, generated)]
    report["clip_score"] = {"real images": (images * text).sum(1).mean().item(), "generated": float(np.mean(scores))}
    return Findings(report, {"sheet": shown[:48]})
