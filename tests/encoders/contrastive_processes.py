"""Run by test_contrastive.py in every process of a launcher: writes the gradients of every contrastive loss."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from condgen import distributed
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.encoders.tokenizer import END
from condgen.nn.specs import EncoderSpec
from condgen.training.trainer import FitConfig, Trainer

BATCH, PIECES = 8, (1, 2, 4)
TOWERS = CLIPConfig(
    vocab=12, context=6, embed_dim=8, image_width=16, text_width=16, depth=1, heads=2, image="patch",
    text="clip", patch=4, bias=True,
)  # fmt: skip
OBJECTIVES = {
    f"{loss}-{positives}": ClipObjective(loss=loss, positives=positives, negatives=1, caption=0.0)
    for loss in ("infonce", "siglip")
    for positives in ("pair", "text", "label")
}


def joint() -> dict[str, torch.Tensor]:
    """Eight images of four classes and six texts: some texts are equal, some differ and are true of one image."""
    rng = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 12, (6, 6), generator=rng)
    tokens[:, 4:] = torch.tensor([END, 0])
    text = torch.tensor([0, 1, 0, 2, 3, 4, 5, 4])
    return {
        "image": torch.rand(BATCH, 3, 16, 16, generator=rng) * 2 - 1,
        "tokens": tokens[text],
        "text_id": text,
        "true_ids": torch.stack([text, torch.tensor([1, 0, 1, -1, -1, 5, 4, -1])], 1),
        "label": torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]),
        "negative_tokens": tokens[text.roll(3)][:, None],
        "negative_id": text.roll(3)[:, None],
    }


def training(name: str, pieces: int, own: int) -> ClipTraining:
    """Always the same weights; `own` images in this process's part of a batch, embedded in so many pieces."""
    torch.manual_seed(0)
    clip = CLIP(TOWERS, EncoderSpec(16))
    with torch.no_grad():
        clip.bias.fill_(-2.0)
    return ClipTraining(clip, replace(OBJECTIVES[name], chunk=own // pieces if pieces > 1 else 0)).train()


def main(out: Path) -> None:
    found = {}
    for name in OBJECTIVES:
        for pieces in PIECES:
            own = BATCH // distributed.world()
            model = training(name, pieces, own)
            part = {key: value.chunk(distributed.world())[distributed.rank()] for key, value in joint().items()}
            fit = Trainer(model, lambda step, part=part: part, FitConfig(total_images=BATCH, batch=BATCH))
            fit.backward(fit.objective(part, "clip")["loss"])
            used = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
            found |= {f"{name}/{pieces}/{key}": grad for key, grad in used.items()}
    if not distributed.rank():
        save_file(found, out / "gradients.safetensors")


if __name__ == "__main__":
    distributed.join()
    main(Path(sys.argv[1]))
    distributed.leave()
