"""Encoders of transformers: folders of CLIP, SigLIP and other models that embed images and texts.

config.json, model.safetensors, preprocessor_config.json and the files of a tokenizer, as `save_pretrained` writes them.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn

from condgen.contracts import CondgenError, short
from condgen.encoders.interop.base import (
    Foreign,
    ForeignConfig,
    ForeignTokenizer,
    as_json,
    backend_tokenizer,
    library,
    run_once,
    square,
)
from condgen.files.weights import CONFIG, WEIGHTS, first_few, read_json, read_tensors, save_tensors, write_json

PREPROCESSOR = "preprocessor_config.json"
RESIZES = {2: "bilinear", 3: "bicubic"}
"""Interpolation filters by PIL's constants."""


class OfTransformers(Foreign):
    """A model of transformers with `get_image_features` and `get_text_features`."""

    def project_image(self, pixels: Tensor) -> Tensor:
        return pooled(self.model.get_image_features(pixel_values=pixels))

    def project_text(self, ids: Tensor) -> Tensor:
        return pooled(self.model.get_text_features(input_ids=ids))

    def image_features(self, pixels: Tensor) -> Tensor:
        return pooled(self.model.vision_model(pixel_values=pixels))


def pooled(out) -> Tensor:
    """The vectors of a model output: newer versions of transformers wrap them in an object."""
    return out if isinstance(out, Tensor) else out.pooler_output


def is_transformers(folder: Path) -> bool:
    """True if a folder contains a model in the layout of transformers."""
    if not (folder / CONFIG).is_file():
        return False
    config = read_json(folder / CONFIG)
    return isinstance(config, dict) and "model_type" in config


def load_transformers(folder: Path) -> tuple[OfTransformers, ForeignTokenizer]:
    """A model and its tokenizer from a folder, without network and without pickle.

    Raises:
        CondgenError: something is missing or damaged, or it is no model of both images and texts; the message names
            it.
    """
    architecture, what = architecture_of(folder), f"The model in {folder}"
    both = {"text_config", "vision_config"} <= set(architecture)
    model = load_model(folder) if both else None
    if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
        kind = architecture["model_type"]
        raise CondgenError(f"{what} is of the kind {short(kind)}, which does not embed both images and texts.")
    with library(what):
        text, vision = model.config.text_config, model.config.vision_config
        tokenizer = backend_tokenizer(folder, text.max_position_embeddings, text.vocab_size)
        preprocessing = _preprocessing(folder, square(vision.image_size, what))
    reads = {"vocab": tokenizer.vocab, "context": tokenizer.context, "pad": tokenizer.pad}
    config = ForeignConfig(embed_dim=0, architecture=as_json(architecture), **reads, **preprocessing)
    width = run_once(what, OfTransformers(model, config), tokenizer)
    return OfTransformers(model, ForeignConfig(**vars(config) | {"embed_dim": width})).eval(), tokenizer


def save_transformers(net: OfTransformers, tokenizer: ForeignTokenizer, folder: Path) -> None:
    """Writes what `load_transformers` reads, and transformers itself."""
    c = net.config
    save_tensors(net.model.state_dict(), folder / WEIGHTS, {"format": "pt"})
    tokenizer.save(folder)
    write_json(folder / PREPROCESSOR, preprocessor(c.size, c.edge, c.mean, c.std, c.resize))
    write_json(folder / CONFIG, json.loads(c.architecture))


def empty_transformers(config: ForeignConfig) -> OfTransformers:
    """Builds the network that a config describes, with new weights."""
    return OfTransformers(new_model(json.loads(config.architecture)), config)


def architecture_of(folder: Path) -> dict:
    """The architecture in config.json; `CondgenError` where transformers did not write it."""
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise CondgenError(f"{folder / CONFIG} names no `model_type`; it is not written by transformers.")
    return config


def new_model(architecture: dict) -> nn.Module:
    """Builds the module that a config.json describes, with new weights."""
    with library(f"The model of the kind {architecture.get('model_type')}"):
        from transformers import AutoConfig, AutoModel

        plan = {k: v for k, v in architecture.items() if k not in ("model_type", "dtype", "torch_dtype")}
        return AutoModel.from_config(AutoConfig.for_model(architecture["model_type"], **plan)).float()


def load_model(folder: Path, spare: tuple[str, ...] = (), extra: bool = False) -> nn.Module:
    """The module of a folder with all its weights, in 32 bits.

    Args:
        spare: beginnings of names that may be missing.
        extra: allows weights in the folder that the module does not have.

    Raises:
        CondgenError: a weight is missing, extra or of another shape or type, or not finite: transformers would only
            warn, and draw it anew.
    """
    if not (files := _weight_files(folder)):
        other = sorted(p.name for p in folder.glob("*.bin"))
        detail = f"; {other[0]} needs pickle and is not read" if other else ""
        raise CondgenError(f"{folder} has no weights: no {WEIGHTS}{detail}. Save it with safetensors.")
    types = {name: tensor.dtype for file in files for name, tensor in read_tensors(file).items()}
    with library(f"The model in {folder}"):
        from transformers import AutoModel

        model, info = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    state = model.state_dict()
    faults = [
        f"{name} of the type {str(dtype).removeprefix('torch.')}"
        for name, dtype in types.items()
        if name in state and state[name].is_floating_point() != dtype.is_floating_point
    ]
    for kind in ("missing", "mismatched", *([] if extra else ["unexpected"])):
        names = [name if isinstance(name, str) else name[0] for name in info[f"{kind}_keys"]]
        names = [name for name in names if not name.startswith(spare) and not name.endswith("position_ids")]
        faults += [f"{kind} {name}" for name in sorted(names)]
    if faults:
        raise CondgenError(f"The weights in {folder} do not fit its {CONFIG}: {first_few(faults)}.")
    return model.float()


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads: one, or those of its index."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / f"{WEIGHTS}.index.json"
    parts = read_json(index).get("weight_map", {}) if index.is_file() else {}
    return [folder / name for name in sorted(set(parts.values()))]


def _preprocessing(folder: Path, size: int) -> dict:
    """The preprocessing of images, from the folder's preprocessor."""
    with library(f"The preprocessor in {folder}"):
        from transformers import AutoImageProcessor

        p = AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        edge = _edge(p.size) if p.do_resize else size
        inner = _edge(p.crop_size) if getattr(p, "do_center_crop", False) and p.crop_size else edge
        how = RESIZES.get(int(p.resample))
        mean, std = (p.image_mean, p.image_std) if p.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    if how is None or inner != size or edge < size:
        raise CondgenError(
            f"{folder / PREPROCESSOR} scales to {edge} and cuts out {inner} pixels, by PIL's filter {p.resample}; the "
            f"model reads {size}, and condgen knows the filters {', '.join(RESIZES.values())}."
        )
    return {"size": size, "mean": tuple(map(float, mean)), "std": tuple(map(float, std)), "edge": edge, "resize": how}


def _edge(size) -> int:
    size = dict(size)
    return size.get("shortest_edge") or square((size["height"], size["width"]), "The preprocessor")


def preprocessor(size: int, edge: int, mean: tuple, std: tuple, resize: str) -> dict:
    """The contents of `preprocessor_config.json` for this resizing, crop and normalisation."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": edge},
        "resample": {how: number for number, how in RESIZES.items()}[resize],
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
