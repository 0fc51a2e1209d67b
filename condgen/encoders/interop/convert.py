"""Conversion of encoders to and from open_clip and transformers, verified by comparing their embeddings.

A CLIP with the towers `patch` and `clip` has the same architecture there. The tokenizer is converted as well: ids stay,
but the end token changes places with the last one, because both libraries may look for the end of a text at its largest
id (transformers does so where the end token has the id 2, as in condgen).

Callers of both libraries pad texts to 77 tokens. The text tower gets that many positions; attention is causal and the
end token is read, so padding changes nothing.

References:
    https://github.com/mlfoundations/open_clip, `local-dir:`; https://github.com/huggingface/transformers, `CLIPModel`
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from condgen.contracts import CondgenError, CondgenWarning
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.interop.base import ForeignTokenizer, library
from condgen.encoders.interop.convert_tokenizer import read_tokenizer, write_tokenizer
from condgen.encoders.interop.hf import (
    PREPROCESSOR,
    OfTransformers,
    load_transformers,
    pooled,
    preprocessor,
    save_transformers,
)
from condgen.encoders.interop.openclip import INDEX, NAMES, OpenClip, is_open_clip, load_open_clip, save_open_clip
from condgen.encoders.tokenizer import END, PAD, Tokenizer
from condgen.files.card import export_card
from condgen.files.images import write_bytes
from condgen.files.weights import CONFIG, WEIGHTS, save_tensors, write_json
from condgen.nn.specs import EncoderSpec

TARGETS = ("open_clip", "transformers")
CONTEXT = 77
"""Least number of tokens that an exported text tower reads, that of the published CLIP models."""
CLOSE = 1e-5
"""Tolerance: largest difference between components of embeddings that count as equal."""
_BLOCKS = {
    "open_clip": {
        "norm_1": "ln_1", "attention.qkv.": "attn.in_proj_", "attention.out": "attn.out_proj", "norm_2": "ln_2",
        "mlp.0": "mlp.c_fc", "mlp.2": "mlp.c_proj",
    },
    "transformers": {
        "norm_1": "layer_norm1", "attention.qkv": "self_attn.{}_proj", "attention.out": "self_attn.out_proj",
        "norm_2": "layer_norm2", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2",
    },
}  # fmt: skip
_PARTS = {
    "open_clip": {
        "image.backbone.body.stem": "visual.conv1",
        "image.backbone.body.token": "visual.class_embedding",
        "image.backbone.body.place": "visual.positional_embedding",
        "image.backbone.body.norm_pre": "visual.ln_pre",
        "image.backbone.body.blocks": "visual.transformer.resblocks",
        "image.backbone.body.norm_post": "visual.ln_post",
        "image.out.weight": "visual.proj",
        "text.token.weight": "token_embedding.weight",
        "text.place": "positional_embedding",
        "text.blocks": "transformer.resblocks",
        "text.norm": "ln_final",
        "text.out.weight": "text_projection",
        "log_scale": "logit_scale",
        "bias": "logit_bias",
    },
    "transformers": {
        "image.backbone.body.stem": "vision_model.embeddings.patch_embedding",
        "image.backbone.body.token": "vision_model.embeddings.class_embedding",
        "image.backbone.body.place": "vision_model.embeddings.position_embedding.weight",
        "image.backbone.body.norm_pre": "vision_model.pre_layrnorm",
        "image.backbone.body.blocks": "vision_model.encoder.layers",
        "image.backbone.body.norm_post": "vision_model.post_layernorm",
        "image.out.weight": "visual_projection.weight",
        "text.token.weight": "text_model.embeddings.token_embedding.weight",
        "text.place": "text_model.embeddings.position_embedding.weight",
        "text.blocks": "text_model.encoder.layers",
        "text.norm": "text_model.final_layer_norm",
        "text.out.weight": "text_projection.weight",
        "log_scale": "logit_scale",
    },
}
"""Names of parameters of condgen, or their prefixes -> names in each library; for blocks, the part after the number."""


def names_there(name: str, target: str) -> list[str]:
    """Names in a library of a condgen parameter; three names where queries, keys and values are stored separately."""
    start = max((part for part in _PARTS[target] if name.startswith(part)), key=len)
    rest = name[len(start) :]
    if start.endswith("blocks"):
        number, inner = rest[1:].split(".", 1)
        part = next(part for part in _BLOCKS[target] if inner.startswith(part))
        rest = f".{number}.{_BLOCKS[target][part]}{inner[len(part) :]}"
    there = _PARTS[target][start] + rest
    return [there.format(letter) for letter in "qkv"] if "{}" in there else [there]


def tensors_there(net: CLIP, target: str, vocab: int) -> dict[str, Tensor]:
    """Converts the weights of a CLIP to a library's names and shapes; its tokenizer has `vocab` ids."""
    out = {}
    for name, value in net.state_dict().items():
        if name == "bias" and target == "transformers":
            continue
        if name == "text.token.weight":
            value = value[_order(len(value), vocab)]
        if name == "text.place":  # positions that training never used are equal to the last
            value = torch.cat([value, value[-1:].expand(_context(len(value)) - len(value), -1)])
        if name.endswith("out.weight") and "blocks" not in name and target == "open_clip":
            value = value.T
        names = names_there(name, target)
        out |= dict(zip(names, value.chunk(len(names)) if len(names) > 1 else (value,)))
    return out


def tensors_here(
    config: CLIPConfig, size: int, tensors: dict[str, Tensor], source: str, vocab: int
) -> dict[str, Tensor]:
    """Inverse of `tensors_there`: converts a library's weights for a CLIP of a config; KeyError if one is missing."""
    with torch.device("meta"):
        names = list(CLIP(config, EncoderSpec(size)).state_dict())
    out = {}
    for name in names:
        value = torch.cat([tensors[there] for there in names_there(name, source)]) if "." in name else (
            tensors[names_there(name, source)[0]].reshape(())
        )  # fmt: skip
        if name == "text.token.weight":
            value = value[_order(len(value), vocab)]
        if name == "text.place":
            value = value[: config.context]
        out[name] = value.T if name.endswith("out.weight") and "blocks" not in name and source == "open_clip" else value
    return out


def _context(own: int) -> int:
    """Tokens that the text tower reads after export, from those that it reads in condgen."""
    return max(own, CONTEXT)


def _order(rows: int, vocab: int) -> Tensor:
    """Rows of the table of tokens after the end token has changed places with the last; it is its own inverse."""
    order = torch.arange(rows)
    order[END], order[vocab - 1] = vocab - 1, END
    return order


# out


def export(
    net: nn.Module, tokenizer: Tokenizer | ForeignTokenizer, target: str, folder: Path, facts: dict | None = None
) -> dict[str, float]:
    """Writes an encoder for a library, opened there and compared before the folder gets its name.

    Args:
        facts: about the model, for its card, see `files.card.exported_facts`.

    Returns:
        the largest difference of any number of an embedding, of `text` and of `image`.

    Raises:
        CondgenError: the towers have no counterpart there; the folder exists; or the vectors differ by more than CLOSE.
    """
    if target not in TARGETS:
        raise CondgenError(f"--to must be {' or '.join(TARGETS)}, got {target!r}.")
    if folder.exists():
        raise CondgenError(f"{folder} exists. Choose another folder, or delete this one.")
    native = {"open_clip": OpenClip, "transformers": OfTransformers}[target]
    if not isinstance(net, native):
        check_towers(net, tokenizer, target)
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        if isinstance(net, OpenClip):
            save_open_clip(net, tokenizer, aside, NAMES[0])
        elif isinstance(net, OfTransformers):
            save_transformers(net, tokenizer, aside)
        else:
            (_write_open_clip if target == "open_clip" else _write_transformers)(net, tokenizer, aside)
        differences = compare(net, tokenizer, target, aside)
        if not all(value <= CLOSE for value in differences.values()):  # NaN is not close
            values = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
            raise CondgenError(
                f"{target} gives other vectors than condgen ({values}): nothing is written. Report this."
            )
        write_bytes(aside / "README.md", export_card(target, net, tokenizer.context, facts or {}).encode())
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return differences


def check_towers(net: nn.Module, tokenizer: object, target: str) -> None:
    """`CondgenError` where an encoder has no counterpart in a library; the message says which encoders have one."""
    if isinstance(net, CLIP) and isinstance(tokenizer, Tokenizer):
        c = net.config
        if (c.image, c.text) == ("patch", "clip"):
            if c.bias and target == "transformers":
                warnings.warn(
                    "CLIPModel has no bias of the logits: it is left out. The embeddings are the same.",
                    CondgenWarning,
                    stacklevel=3,
                )
            return
        reason = f"its image tower is `{c.image}` and its text tower `{c.text}`"
    else:
        reason = f"it is a {type(net).__name__}"
    raise CondgenError(
        f"This encoder has no counterpart in {target}: {reason}. Encoders of condgen with the towers `patch` and "
        "`clip` convert, and models of a library to itself. Train one: condgen train clip --size patch --data PATH "
        "-o RUN."
    )


def _write_open_clip(net: CLIP, tokenizer: Tokenizer, folder: Path) -> None:
    c, b = net.config, net.config.backbone
    vision = {"image_size": net.size, "layers": b.depth, "width": b.width, "head_width": b.width // b.heads,
              "patch_size": b.patch}  # fmt: skip
    text = {
        "context_length": _context(c.context), "vocab_size": c.vocab, "width": c.text_width, "heads": c.heads,
        "layers": c.depth,
        "pool_type": "eos", "eos_id": tokenizer.vocab - 1, "pad_id": PAD, "hf_tokenizer_name": "local",
    }  # fmt: skip
    plan = {"embed_dim": c.embed_dim, "vision_cfg": vision, "text_cfg": text}
    if c.bias:
        plan["init_logit_bias"] = 0.0
    preprocessing = {"size": net.size, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
             "resize_mode": "shortest"}  # fmt: skip
    save_tensors(tensors_there(net, "open_clip", tokenizer.vocab), folder / NAMES[0])
    write_tokenizer(tokenizer, folder, _context(c.context))
    write_json(folder / INDEX, {"model_cfg": plan, "preprocess_cfg": preprocessing})


def _write_transformers(net: CLIP, tokenizer: Tokenizer, folder: Path) -> None:
    c, b = net.config, net.config.backbone
    same = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "projection_dim": c.embed_dim}
    text = {
        "model_type": "clip_text_model", "vocab_size": c.vocab, "hidden_size": c.text_width,
        "intermediate_size": 4 * c.text_width, "num_hidden_layers": c.depth, "num_attention_heads": c.heads,
        "max_position_embeddings": _context(c.context), "pad_token_id": PAD, "bos_token_id": None,
        "eos_token_id": tokenizer.vocab - 1,
    }  # fmt: skip
    vision = {
        "model_type": "clip_vision_model", "image_size": net.size, "patch_size": b.patch, "hidden_size": b.width,
        "intermediate_size": 4 * b.width, "num_hidden_layers": b.depth, "num_attention_heads": b.heads,
    }  # fmt: skip
    config = {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": c.embed_dim,
        "logit_scale_init_value": net.log_scale.item(), "text_config": text | same, "vision_config": vision | same,
    }  # fmt: skip
    save_tensors(tensors_there(net, "transformers", tokenizer.vocab), folder / WEIGHTS, {"format": "pt"})
    write_tokenizer(tokenizer, folder, _context(c.context))
    write_json(folder / PREPROCESSOR, preprocessor(net.size, net.size, (0.5,) * 3, (0.5,) * 3, "bicubic"))
    write_json(folder / CONFIG, config)


@torch.inference_mode()
def compare(net: nn.Module, tokenizer: Tokenizer | ForeignTokenizer, target: str, folder: Path) -> dict[str, float]:
    """Opens a folder with the library itself; returns the largest difference of `text` and `image` embeddings.

    Images go through the library's own preprocessing, and texts through its own tokenizer.
    """
    size, rng = net.size, np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    pil_images, texts = [Image.fromarray(one) for one in pixels], _texts(tokenizer)
    with library(f"{folder} in {target}"):
        image, text = (_by_open_clip if target == "open_clip" else _by_transformers)(folder, pil_images, texts)
    device = net.log_scale.device
    own = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().to(device) / 127.5 - 1
    tokens = torch.from_numpy(tokenizer.encode(texts)).to(device)
    net = net.eval()
    pairs = {"text": (net.embed_text(tokens), text), "image": (net.embed_image(own), image)}
    unit = nn.functional.normalize
    return {name: (ours.cpu() - unit(theirs, dim=-1)).abs().max().item() for name, (ours, theirs) in pairs.items()}


def _texts(tokenizer: Tokenizer | ForeignTokenizer, n: int = 32) -> list[str]:
    """Texts of one to many words that the tokenizer knows and that fit into its context."""
    words = sorted(tokenizer.words) or ["a", "photo", "of", "the", "red", "house", "dog", "two", "cats", "painted"]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 1 + i % (tokenizer.context + 2))) for i in range(n)]
    return [text for text in texts if not tokenizer.count_cut([text])] or texts[:1]


def _by_open_clip(folder: Path, images: list, texts: list[str]) -> tuple[Tensor, Tensor]:
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    model.eval()
    return model.encode_image(torch.stack([preprocess(one) for one in images])), model.encode_text(tokens)


def _by_transformers(folder: Path, images: list, texts: list[str]) -> tuple[Tensor, Tensor]:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model, words, processor = (
        kind.from_pretrained(str(folder)) for kind in (AutoModel, AutoTokenizer, AutoImageProcessor)
    )
    context = model.config.text_config.max_position_embeddings
    tokens = words(texts, padding="max_length", truncation=True, max_length=context, return_tensors="pt")
    seen = processor(images, return_tensors="pt").pixel_values
    model.float().eval()
    image, text = model.get_image_features(pixel_values=seen), model.get_text_features(input_ids=tokens.input_ids)
    return pooled(image), pooled(text)


# in


def imported(folder: Path) -> tuple[nn.Module, Tokenizer | ForeignTokenizer, str]:
    """Imports an encoder from a folder of open_clip or transformers, converted to condgen's towers where they match.

    Returns:
        the network, its tokenizer, and the reason why it was not converted ('' if it was).

    Raises:
        CondgenError: the folder holds no such model, or it is damaged.
    """
    if not folder.is_dir():
        raise CondgenError(f"There is no folder {folder}. Give the one that open_clip or transformers wrote.")
    source = "open_clip" if is_open_clip(folder) else "transformers"
    net, tokenizer = (load_open_clip if source == "open_clip" else load_transformers)(folder)
    own = read_tokenizer(folder)
    if own is None:
        return net, tokenizer, "its tokenizer is not one that condgen trains"
    architecture = json.loads(net.config.architecture)
    try:
        config, size = _config_of(architecture, source, own.context)
        made = CLIP(config, EncoderSpec(size))
        made.load_state_dict(tensors_here(config, size, net.model.state_dict(), source, own.vocab))
    except (LookupError, TypeError, ValueError, RuntimeError, CondgenError):
        return net, tokenizer, "its towers are built in another way"
    if not _agree(made.eval(), own, net, tokenizer):
        return net, tokenizer, "towers of condgen give other vectors with its weights"
    return made, own, ""


@torch.inference_mode()
def _agree(made: CLIP, tokenizer_here: Tokenizer, net: nn.Module, tokenizer: ForeignTokenizer) -> bool:
    texts, size = _texts(tokenizer_here), net.size
    images = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    here, there = (
        (one.embed_image(images), one.embed_text(torch.from_numpy(words.encode(texts))))
        for one, words in ((made, tokenizer_here), (net, tokenizer))
    )
    return all((a - b).abs().max() <= CLOSE for a, b in zip(here, there))


def _config_of(described: dict, source: str, context: int) -> tuple[CLIPConfig, int]:
    """Translates a library's description of a model to a CLIPConfig and an image size; ValueError if none fits."""
    if source == "open_clip":
        v, t, bias = described["vision_cfg"], described["text_cfg"], described.get("init_logit_bias") is not None
        image = (v["image_size"], v["patch_size"], v["width"], v["layers"], v["width"] // v.get("head_width", 64))
        text = (t["vocab_size"], t["width"], t["layers"], t.get("heads", 8), described["embed_dim"])
    else:
        v, t, bias = described["vision_config"], described["text_config"], False
        names = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        image = tuple(v[name] for name in names)
        text = (*(t[name] for name in ("vocab_size", *names[2:])), described["projection_dim"])
    (size, patch, image_width, image_depth, heads), (vocab, text_width, depth, text_heads, dim) = image, text
    if heads != text_heads:
        raise ValueError
    config = CLIPConfig(
        dim, image_width, text_width, depth, heads, vocab=vocab, context=context, image="patch", text="clip",
        patch=patch, image_depth=0 if image_depth == depth else image_depth, bias=bias,
    )  # fmt: skip
    return config, size
