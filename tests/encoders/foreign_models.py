"""Tiny models of other libraries, built on the spot with random weights, in folders as their makers write them."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.tiny import tiny_captions

SIZE, DIM, CONTEXT = 32, 24, 16
TEXTS = ["a red circle above a blue square", "three green triangles", "Zebra! & more: ünïcode", "a", "one " * 60]


def write_tokenizer(folder: Path, kind: str = "clip") -> int:
    """A byte-pair tokenizer with CLIP's frame, or a word-piece one with BERT's; gives the number of its ids."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bert = kind == "bert"
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if bert else ["<unk>", "<start>", "<stop>"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]") if bert else models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = (trainers.WordPieceTrainer if bert else trainers.BpeTrainer)(
        vocab_size=150, special_tokens=marks, show_progress=False
    )
    backend.train_from_iterator(tiny_captions(), trainer)
    first, last = marks[-2:]
    # of CLIP the end mark has the largest id, as in the original
    number = {mark: backend.token_to_id(mark) for mark in marks}
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, number[first]), (last, number[last])]
    )
    names = {"bos_token": first, "eos_token": last, "unk_token": "[UNK]" if bert else "<unk>"}
    pad = "[PAD]" if bert else "<stop>"
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad, model_max_length=CONTEXT, **names)
    fast.save_pretrained(folder)
    return backend.get_vocab_size()


def write_clip(folder: Path, size: int = SIZE) -> None:
    """A CLIP of transformers with its tokenizer and preprocessor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    vocab = write_tokenizer(folder)
    torch.manual_seed(1)
    inner = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = inner | {"vocab_size": vocab, "max_position_embeddings": CONTEXT, "eos_token_id": 2, "bos_token_id": 1}
    text |= {"pad_token_id": 2}
    config = CLIPConfig(
        text_config=text, vision_config=inner | {"image_size": size, "patch_size": 8}, projection_dim=DIM
    )
    CLIPModel(config).save_pretrained(folder)
    edges = {"height": size, "width": size}
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size=edges).save_pretrained(folder)


def write_siglip(folder: Path) -> None:
    """A SigLIP of transformers with its tokenizer and preprocessor."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    vocab = write_tokenizer(folder)
    torch.manual_seed(2)
    inner = {"hidden_size": DIM, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = inner | {"vocab_size": vocab, "max_position_embeddings": CONTEXT}
    config = SiglipConfig(text_config=text, vision_config=inner | {"image_size": SIZE, "patch_size": 8})
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)


def write_bert(folder: Path) -> None:
    """A BERT without the head that it was pretrained with, and its tokenizer."""
    from transformers import BertConfig, BertModel

    vocab = write_tokenizer(folder, "bert")
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=vocab, hidden_size=20, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def write_open_clip(folder: Path, own_tokenizer: bool = True, bert: Path | None = None) -> None:
    """A model in open_clip's `local-dir:` layout, with a text tower of its own or of transformers."""
    import json

    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    text = {"width": 32, "heads": 2, "layers": 2, "context_length": CONTEXT}
    if own_tokenizer and not bert:
        text |= {"vocab_size": write_tokenizer(folder), "hf_tokenizer_name": "here", "pool_type": "eos", "eos_id": 2}
    vision = {"image_size": SIZE, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2}
    plan = {"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text}
    if bert:
        write_tokenizer(folder, "bert")
        text = {"hf_model_name": str(bert), "hf_model_pretrained": False, "hf_tokenizer_name": "here"}
        plan["text_cfg"] = text | {"hf_proj_type": "linear", "hf_pooler_type": "mean_pooler", "context_length": CONTEXT}
    torch.manual_seed(4)
    model = (open_clip.CustomTextCLIP if bert else open_clip.CLIP)(**plan)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    looks = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": plan, "preprocess_cfg": looks}))
