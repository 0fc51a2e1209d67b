"""Encoders of open_clip: a folder in its `local-dir:` layout, or an architecture by name with new weights.

open_clip_config.json   {model_cfg, preprocess_cfg}
*.safetensors           the weights; files that need pickle are not read
tokenizer files         where the config names a tokenizer; else it is the one that open_clip brings along
text/config.json        of a text tower from transformers: open_clip would ask the network for it
"""

from __future__ import annotations

import difflib
import json
from copy import deepcopy
from pathlib import Path

from torch import Tensor, nn

from condgen.contracts import CondgenError, short
from condgen.encoders.interop.base import Foreign, ForeignConfig, ForeignTokenizer, as_json, library, run_once, square
from condgen.files.registry import is_stranger
from condgen.files.weights import CONFIG, check_weights, read_json, read_tensors, save_tensors, write_json

INDEX = "open_clip_config.json"
NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")


class OpenClip(Foreign):
    """A model of open_clip."""

    def project_image(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(pixels)

    def project_text(self, ids: Tensor) -> Tensor:
        return self.model.encode_text(ids)

    def image_features(self, pixels: Tensor) -> Tensor:
        visual = self.model.visual
        if hasattr(visual, "trunk"):
            return visual.trunk(pixels)
        if not hasattr(visual, "proj"):
            return visual(pixels)  # its attention pool is its map into the space
        proj, visual.proj = visual.proj, None
        try:
            return visual(pixels)
        finally:
            visual.proj = proj


def is_open_clip(folder: Path) -> bool:
    """True if a folder contains a model in open_clip's layout."""
    return (folder / INDEX).is_file()


def load_open_clip(folder: Path) -> tuple[OpenClip, ForeignTokenizer]:
    """A model and its tokenizer from a folder, without network and without pickle.

    Raises:
        CondgenError: something is missing or damaged, or a tensor is missing, extra or of another shape; the message
            names it.
    """
    index = read_json(folder / INDEX)
    if not isinstance(index, dict) or not isinstance(index.get("model_cfg"), dict):
        raise CondgenError(f"{folder / INDEX} holds no `model_cfg`; it is not written by open_clip.")
    architecture, preprocess = index["model_cfg"], index.get("preprocess_cfg") or {}
    path, tokenizer = _weights(folder), _tokenizer(architecture, folder)
    model = _built(architecture, folder)
    tensors = read_tensors(path)
    with library(f"{path}"):
        tensors = _named_as(model, tensors)
    check_weights(model, tensors, path)
    model.load_state_dict(tensors)
    return _wrapped(model, tokenizer, architecture, preprocess, f"The model in {folder}")


def new_open_clip(name: str) -> tuple[OpenClip, ForeignTokenizer]:
    """An architecture that open_clip knows by name, with new weights, and its tokenizer.

    Raises:
        CondgenError: there is no such architecture, or its tokenizer is not at hand.
    """
    with library("open_clip"):
        import open_clip

        architecture, known = open_clip.get_model_config(name), open_clip.list_models()
    if architecture is None:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise CondgenError(f"open_clip has no architecture {short(name)}.{hint} It knows {len(known)}.")
    tokenizer = _tokenizer(architecture, None)  # first: it may need the network
    return _wrapped(_built(architecture), tokenizer, architecture, {}, f"The architecture {name}")


def save_open_clip(net: OpenClip, tokenizer: ForeignTokenizer, folder: Path, weights: str = NAMES[-1]) -> None:
    """Writes what `load_open_clip` reads; open_clip itself opens it as `local-dir:`."""
    c = net.config
    preprocess = {"size": c.edge, "mean": c.mean, "std": c.std, "interpolation": c.resize, "resize_mode": "shortest"}
    save_tensors(net.model.state_dict(), folder / weights)
    tokenizer.save(folder)
    text = getattr(net.model, "text", None)
    if hasattr(text, "config"):
        write_json(folder / "text" / CONFIG, text.config.to_dict())
    write_json(folder / INDEX, {"model_cfg": json.loads(c.architecture), "preprocess_cfg": preprocess})


def empty_open_clip(config: ForeignConfig) -> OpenClip:
    """Builds the network that a config describes, with new weights."""
    return OpenClip(_built(json.loads(config.architecture)), config)


def _weights(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(file for file in folder.glob("*.safetensors") if not is_stranger(file.name))
    if len(found) == 1:
        return found[0]
    other = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".npz"))
    detail = f"; {other[0]} needs pickle and is not read" if other else ""
    raise CondgenError(f"{folder} has no weights: no {NAMES[0]}{detail}. Save it with safetensors.")


def _built(architecture: dict, folder: Path | None = None) -> nn.Module:
    """The module without its weights, as open_clip's factory builds it, but never from the network."""
    what = f"The model that {folder / INDEX} describes" if folder else "The architecture"
    with library(what):
        import open_clip

        plan = deepcopy(architecture)
        vision, text = plan["vision_cfg"], plan["text_cfg"]
        if "timm_model_name" in vision:
            vision["timm_model_pretrained"] = False
        if text.get("hf_model_name"):
            text["hf_model_pretrained"] = False
            if folder:
                text["hf_model_name"] = _text_config(folder, text["hf_model_name"])
        custom = plan.pop("custom_text", False) or bool(text.get("hf_model_name"))
        kind = open_clip.CoCa if "multimodal_cfg" in plan else open_clip.CustomTextCLIP if custom else open_clip.CLIP
        return kind(**plan)


def _text_config(folder: Path, name: str) -> str:
    """The local folder with the config of a text tower from transformers; open_clip would download it."""
    local = folder / "text"
    place = local if (local / CONFIG).is_file() else Path(name)
    if not (place / CONFIG).is_file():
        raise CondgenError(
            f"{folder / INDEX} names a text tower {short(name)}, whose description is not here. Put its {CONFIG} "
            f"into {local}."
        )
    return str(place)


def _named_as(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames tensors of older files and of other programs to the names of this model."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    if twice := [name for name in tensors if name.startswith("module.") and name.removeprefix("module.") in tensors]:
        raise CondgenError(f"The weights have {twice[0]} twice, with and without `module.`. Save them again.")
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    tensors = {name: value for name, value in tensors.items() if not name.endswith("position_ids")}
    tensors = convert_state_dict(model, tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        if name in tensors and getattr(model, name, None) is not None:
            tensors[name] = tensors[name].reshape(getattr(model, name).shape)
    return tensors


def _wrapped(
    model: nn.Module, tokenizer: ForeignTokenizer, architecture: dict, preprocess: dict, what: str
) -> tuple[OpenClip, ForeignTokenizer]:
    with library(what):
        from open_clip.transform import PreprocessCfg, merge_preprocess_dict

        size, tokenizer.vocab = square(model.visual.image_size, what), model.vocab_size + 1
        p = merge_preprocess_dict(PreprocessCfg(), preprocess)
        edge = size  # open_clip's own preprocessing scales to `size` and cuts out the same
        how = "bilinear" if p["interpolation"] == "bilinear" else "bicubic"
        mean, std = (tuple(map(float, p[name])) for name in ("mean", "std"))
    reads = {"vocab": tokenizer.vocab, "context": tokenizer.context, "pad": tokenizer.pad}
    preprocessing = {"size": size, "mean": mean, "std": std, "edge": edge, "resize": how}
    config = ForeignConfig(embed_dim=0, architecture=as_json(architecture), **reads, **preprocessing)
    width = run_once(what, OpenClip(model, config), tokenizer)
    return OpenClip(model, ForeignConfig(**vars(config) | {"embed_dim": width})).eval(), tokenizer


def _tokenizer(architecture: dict, folder: Path | None) -> ForeignTokenizer:
    """The tokenizer that open_clip chooses for this model; its number of ids is not set."""
    with library(f"The tokenizer in {folder}" if folder else "The architecture's tokenizer"):
        return _opened(architecture["text_cfg"], folder)


def _opened(text: dict, folder: Path | None) -> ForeignTokenizer:
    import open_clip

    context = text.get("context_length", 77)
    more = dict(text.get("tokenizer_kwargs") or {})
    if name := text.get("hf_tokenizer_name") or text.get("hf_model_name"):
        tokenizer = open_clip.tokenizer.HFTokenizer(
            str(folder or name), context_length=context, tokenizer_mode=text.get("tokenizer_mode"), **more
        )
        backend = tokenizer.tokenizer
        pad, end, marks = backend.pad_token_id, backend.eos_token_id, backend.all_special_tokens

        def count(words: str) -> int:
            return len(backend(tokenizer.clean_fn(words), verbose=False).input_ids)
    else:
        tokenizer = open_clip.SimpleTokenizer(context_length=context, **more)
        backend, pad, end = None, 0, tokenizer.eot_token_id
        marks = [tokenizer.decoder[number] for number in tokenizer.all_special_ids]

        def count(words: str) -> int:
            return len(tokenizer.encode(words)) + 2

    return ForeignTokenizer(backend, tokenizer, count, context, 0, pad or 0, end, [str(mark) for mark in marks])
