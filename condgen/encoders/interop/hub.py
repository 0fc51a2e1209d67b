"""Encoders from the Hugging Face hub: fetched once into its cache, and from then on a local folder."""

from __future__ import annotations

from pathlib import Path

from condgen.contracts import CondgenError, short

TEXTS = ("*.json", "*.txt", "*.model")
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")


def fetched(repo: str) -> Path:
    """The local copy of a repository: configs, tokenizer and safetensors, never pickle.

    Raises:
        CondgenError: there is no network and no copy, no such repository, or it has no weights in safetensors.
    """
    from huggingface_hub import snapshot_download

    if "/" not in repo:
        raise CondgenError(f"hf-hub:{short(repo)} names no repository. Write hf-hub:OWNER/NAME.")
    for name in (None, *WEIGHTS):
        try:
            folder = Path(snapshot_download(repo, allow_patterns=[*TEXTS, name] if name else list(TEXTS)))
        except Exception as error:  # of the network, of the hub, of the disk
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise CondgenError(
                f"hf-hub:{repo} could not be fetched ({reason[:200]}). Without a network, copy the model into a folder "
                "and give local-dir:FOLDER or transformers:FOLDER."
            ) from None
        if name and (folder / name).exists():
            return folder
    raise CondgenError(f"hf-hub:{repo} has no weights in safetensors ({', '.join(WEIGHTS)}); pickle is not read.")
