"""Loading and saving encoders of any library: an encoder is a network and its tokenizer.

clip/, tokenizer/     an encoder of ours, or a pair of towers
clip/                 one of open_clip or transformers, in its own layout with its own tokenizer
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from condgen.contracts import CondgenError
from condgen.encoders.clip import CLIP
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.registry import class_name, find, refuse_ambiguous
from condgen.files.weights import CONFIG, fingerprint, load_part, read_json, save_part, sketch_part

if TYPE_CHECKING:
    from condgen.contracts import Encoder

NAMES = (
    "a model or run of condgen, a folder of open_clip or transformers, local-dir:PATH, transformers:PATH, "
    "hf-hub:OWNER/NAME, or open_clip:ARCHITECTURE for new weights"
)
"""Names that `open_encoder` accepts, for help texts."""


def load_pair(folder: Path) -> tuple[Encoder, Tokenizer]:
    """The encoder of a model folder, or of the parts of a run, and its tokenizer; without network and pickle.

    Raises:
        CondgenError: something is missing or damaged; the message names the file.
    """
    kind = kind_of(folder / "clip")
    if kind == "open_clip":
        from condgen.encoders.interop.openclip import load_open_clip

        return load_open_clip(folder / "clip")
    if kind == "transformers":
        from condgen.encoders.interop.hf import load_transformers

        return load_transformers(folder / "clip")
    if kind == "Paired":
        from condgen.encoders.interop.text_tower import load_paired

        return load_paired(folder / "clip", folder / "tokenizer")
    return load_part(CLIP, folder / "clip"), Tokenizer.load(folder / "tokenizer")


def sketch_pair(folder: Path) -> nn.Module:
    """The network of `load_pair` on the meta device; of slow-to-import libraries only its class name."""
    kind = kind_of(folder / "clip")
    if kind != CLIP.__name__:
        return type({"open_clip": "OpenClip", "transformers": "OfTransformers"}.get(kind, kind), (nn.Module,), {})()
    Tokenizer.load(folder / "tokenizer")
    return sketch_part(CLIP, folder / "clip")


def save_pair(net: Encoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes what `load_pair` reads.

    Raises:
        CondgenError: the encoder's class is not one that `load_pair` reads; or the disk is full.
    """
    kind = type(net).__name__
    if kind == "OpenClip":
        from condgen.encoders.interop.openclip import save_open_clip

        save_open_clip(net, tokenizer, folder / "clip")
    elif kind == "OfTransformers":
        from condgen.encoders.interop.hf import save_transformers

        save_transformers(net, tokenizer, folder / "clip")
    elif can_be_saved(net):
        save_part(net, folder / "clip")
        tokenizer.save(folder / "tokenizer")
    else:
        raise CondgenError(f"condgen cannot save a {kind}, a custom encoder.")


def can_be_saved(net: Encoder) -> bool:
    """True if `load_pair` can load the encoder once saved."""
    return type(net).__module__.startswith("condgen.encoders.")


def kind_of(folder: Path) -> str:
    """The kind of network in a folder: `open_clip`, `transformers`, or the class that its config names."""
    if (folder / "open_clip_config.json").is_file():
        return "open_clip"
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise CondgenError(f"{folder / CONFIG} describes no encoder. Copy or export the model again.")
    return "transformers" if "model_type" in config and "class" not in config else str(config.get("class"))


def is_there(folder: Path) -> bool:
    """True if a folder has the files of an encoder."""
    return (folder / "clip" / CONFIG).is_file() or (folder / "clip" / "open_clip_config.json").is_file()


def with_text(net: Encoder, text: str, context: int = 0, bias: bool = False) -> tuple[Encoder, Tokenizer]:
    """The image tower of an encoder with a text model, `transformers:PATH`; see `text_tower.pair`."""
    from condgen.encoders.interop.text_tower import pair

    return pair(net, _folder(text.removeprefix("transformers:")), context, bias)


def open_encoder(name: str | Path) -> tuple[Encoder, Tokenizer]:
    """Opens an encoder by name, see NAMES; returns it and its tokenizer.

    Raises:
        CondgenError: there is no such encoder, or it is damaged; the message says what was looked for.
    """
    if isinstance(name, str):
        refuse_ambiguous(name)
    name = str(name)
    kind, _, rest = name.partition(":")
    if kind == "open_clip":
        from condgen.encoders.interop.openclip import new_open_clip

        return new_open_clip(rest)
    if kind == "hf-hub":
        from condgen.encoders.interop.hub import fetched

        return _foreign(fetched(rest))
    if kind in ("local-dir", "transformers"):
        return _foreign(_folder(rest))
    path = Path(name or "\0")
    if (path / "open_clip_config.json").is_file() or (path / CONFIG).is_file():
        return _foreign(path)
    if is_there(path / "parts"):
        return load_pair(path / "parts")
    folder = find(name)
    if class_name(folder) in ("ClassToImage", "ImageEncoder", "LatentModel", "Translator"):
        raise CondgenError(f"{folder} has no text encoder. Give {NAMES}.")
    return load_pair(folder)


def _folder(path: str) -> Path:
    if not Path(path or "\0").is_dir():
        raise CondgenError(f"There is no folder {path!r}. Give the folder of a model with its config and weights.")
    return Path(path)


def _foreign(folder: Path) -> tuple[Encoder, Tokenizer]:
    """A model from a folder of open_clip or transformers."""
    from condgen.encoders.interop.hf import is_transformers, load_transformers
    from condgen.encoders.interop.openclip import is_open_clip, load_open_clip

    if is_open_clip(folder):
        return load_open_clip(folder)
    if is_transformers(folder):
        return load_transformers(folder)
    raise CondgenError(
        f"{folder} holds no encoder: neither open_clip_config.json, nor a config.json with a `model_type`. Give the "
        "folder that open_clip or transformers wrote."
    )


def reads_size(net: Encoder, size: int) -> bool:
    """True if an encoder reads images of this size: the size of its input, or any size if it resizes images."""
    return net.size == size or getattr(net, "resizes", False)


def space_of(net: nn.Module) -> str:
    """The name of an encoder's embedding space."""
    return fingerprint(net)
