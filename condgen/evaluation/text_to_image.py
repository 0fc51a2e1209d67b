"""The judge of captioned images: retrieval, the priors, CLIP scores, on images that training never saw."""

from __future__ import annotations

import numpy as np

from condgen.contracts import ProgressCallback
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.sources.captions import load_captions
from condgen.data.sources.rows import Columns
from condgen.evaluation.embed import Example, embed_images, embed_texts, generate_prompts, priors_report, same_text
from condgen.metrics.retrieval import retrieval_at_1

READ = {"image_column": "", "caption_column": "", "split_column": "", "filter": "", "resize": "crop"}


def read_pictures(model, data: str, split: str, asked: dict[str, str | None], size: int = 0) -> CaptionedImages:
    """The images to judge on, read as those of the training were where nothing else is asked for.

    Args:
        model: one that knows words; `about["reading"]`, where it is there, tells how those of its training were read.
        data, split: see `load_captions`.
        asked: the keys of READ; None as in the training.
        size: edge of the images; 0 is that of the model.
    """
    trained = model.about.get("reading")
    trained = trained if isinstance(trained, dict) else {}
    chosen = READ | {name: trained[name] for name in READ if isinstance(trained.get(name), str)}
    chosen |= {name: value for name, value in asked.items() if value is not None}
    columns = Columns(chosen["image_column"], chosen["caption_column"], chosen["split_column"])
    return load_captions(
        data, size or model.size, columns=columns, split=split, resize=chosen["resize"], filter=chosen["filter"]
    )


def evaluate_captions(
    model, data: CaptionedImages, pictures: int, progress: ProgressCallback, n: int = 500
) -> tuple[dict, list[Example]]:
    """The report of a model of captioned images, on images it never saw."""
    n = min(n, len(data))
    captions = [data.texts[i] for i in data.captions[:n, 0]]
    progress(0.1, "encoder and priors")
    text = embed_texts(model.clip, model.tokenizer, captions)
    images = embed_images(model.clip, data.images[:n])
    same = same_text(data, n)
    report: dict = {"kind": "captions", "data": data.name, "pictures": n}
    report["retrieval"] = {
        "text to image R@1": retrieval_at_1(text, images, same),
        "image to text R@1": retrieval_at_1(images, text, same.T),
    }
    report["prior"] = {"test": priors_report(model, data, n)}
    report["clip_score"] = {"true images": (images * text).sum(1).mean().item()}
    shown, scores = [], []
    few = captions[: min(n, 64)]
    for i in range(pictures):
        progress(0.4 + 0.6 * i / pictures, "painting test captions")
        generated = generate_prompts(model, few, list(range(1000 * i, 1000 * i + len(few))))
        scores.append((embed_images(model.clip, generated) * text[: len(few)]).sum(1).mean().item())
        shown += [(c, p, True) for c, p in zip(few, generated)] if i == 0 else []
    report["clip_score"]["painted"] = float(np.mean(scores))
    return report, shown[:48]
