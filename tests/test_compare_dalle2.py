"""The parts of `scripts/compare_dalle2.py` that need no DALLE2-pytorch."""

import json
import subprocess
import sysconfig
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from condgen.contracts import CondgenError
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.tokenizer import PAD
from condgen.evaluation.embed import generate_prompts
from condgen.evaluation.scenes import images_evaluated
from condgen.nn.specs import EncoderSpec
from scripts import compare_dalle2 as ours
from scripts import compare_dalle2_peer as peer


@pytest.fixture
def data():
    """Twelve images whose embeddings and texts are their indices, with one to three captions each."""
    rng = torch.Generator().manual_seed(0)
    captions = torch.tensor([[3 * i, 3 * i + 1 if i % 3 else -1, 3 * i + 2 if i % 3 > 1 else -1] for i in range(12)])
    return {
        "image_embed": torch.arange(12.0)[:, None].repeat(1, 4),
        "images": torch.randint(0, 256, (12, 3, 4, 4), generator=rng, dtype=torch.uint8),
        "captions": captions,
        "text_embed": torch.arange(36.0)[:, None].repeat(1, 4),
        "text_encodings": torch.arange(36.0).half()[:, None, None].repeat(1, 2, 5),
    }


def test_an_epoch_has_every_image_once_with_a_caption_of_its_own(data):
    for batch_of in (peer.batches(data, 4, 0, 0, True), peer.batches(data, 4, 1, 3, False)):
        epoch = list(islice(batch_of, 3))
        images = torch.cat([batch["image_embed"][:, 0] for batch in epoch]).long()
        texts = torch.cat([batch["text_encodings"][:, 0, 0] for batch in epoch]).long()
        assert sorted(images.tolist()) == list(range(12))
        assert (data["captions"][images] == texts[:, None]).any(1).all()


def test_batches_continue_where_they_stopped(data):
    whole = list(islice(peer.batches(data, 4, 0, 0, True), 8))
    rest = list(islice(peer.batches(data, 4, 0, 5, True), 3))
    for one, other in zip(whole[5:], rest, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_is_a_copy_that_the_peer_may_change_in_place(data):
    next(peer.batches(data, 4, 0, 0, False))["image_embed"].mul_(0)
    assert torch.equal(data["image_embed"][:, 0], torch.arange(12.0))


def test_the_learning_rate_rises_and_falls_to_zero():
    rates = [peer.lr_at(done, 2.0, 0.1) for done in np.linspace(0, 1, 101)]
    top = int(np.argmax(rates))
    assert 8 <= top <= 11 and 1.9 < max(rates) <= 2.0 and rates[-1] < 1e-9
    assert all(np.diff(rates[: top + 1]) > 0) and all(np.diff(rates[top:]) < 0)


class Counting(torch.nn.Module):
    """A trainer whose steps take some time, as DALLE2-pytorch's do."""

    def __init__(self):
        super().__init__()
        self.updates = 0

    def forward(self, **batch):
        return float(sum(range(20_000)) * 0 + len(batch["image_embed"]))

    def update(self):
        self.updates += 1

    def save(self, path, **more):
        torch.save({"updates": self.updates} | more, path)

    def load_state_dict(self, state):
        self.updates = state["updates"]


def test_training_ends_by_core_seconds_and_resumes(data, tmp_path):
    schedule = {"warmup": 0.1, "save_every": 60}

    def run(minutes):
        trainer, optimizer = Counting(), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        draw = lambda first: peer.batches(data, 4, 0, first, True)  # noqa: E731
        found = peer.train(trainer, optimizer, tmp_path / "decoder.pt", draw, minutes, schedule)
        assert trainer.updates == found["steps"]
        return found

    half, whole, again = run(0.002), run(0.004), run(0.004)
    assert 0.12 <= half["seconds"] < 0.24 <= whole["seconds"] < 0.5 and half["steps"] < whole["steps"]
    assert again == whole


@pytest.mark.parametrize("trims", [False, True])
def test_encodings_of_words_are_zero_for_padding_alone(trims):
    torch.manual_seed(0)
    clip = CLIP(
        CLIPConfig(embed_dim=8, image_width=8, text_width=12, depth=1, vocab=9, context=5), EncoderSpec(16, trims)
    )
    tokens = torch.tensor([[1, 4, 2, PAD, PAD], [1, 5, 6, 2, PAD]])
    embed, encodings = ours.encode(clip, tokens)
    assert torch.equal(embed, clip.embed_text(tokens)) and encodings.shape == (2, 5, 12)
    assert torch.equal((encodings != 0).any(-1), tokens != PAD)


def test_given_images_are_those_of_their_seeds():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    found = generate_prompts(ours.GivenImages(images, 77), ["a"] * 3, [79, 77, 81])
    assert np.array_equal(found, images[[2, 0, 4]])


def test_prompts_are_those_of_the_evaluation():
    for held_out, prompts, seed in ours.prompt_sets(3).values():
        assert len(ours.asked(held_out, prompts, seed)) == sum(images_evaluated(held_out, prompts, 1, seed).values())
    blank = np.full((len(ours.asked(True, 3, 0)), 3, 32, 32), 245, np.uint8)
    assert ours.score(blank, "held_out", 3)["overall"] == 0


def test_both_sides_get_the_same_minutes():
    config = ours.own_config(20, 1000)
    priors = config.fit_prior.minutes * len(config.prior.kinds)
    assert priors == pytest.approx(20 * ours.PRIOR_SHARE) and priors + config.fit_decoder.minutes == pytest.approx(20)


def test_the_table_has_ratios_of_images_alone():
    side = {"decoder: training images a core-second": 50.0, "SceneEval, seen overall": 0.25, "guidance": 2.0}
    text = ours.markdown_table(side, {name: 2 * value for name, value in side.items()})
    assert "| decoder: training images a core-second | 50 | 100 | 2.0 |" in text
    assert "| SceneEval, seen overall | 0.250 | 0.500 |  |" in text


def test_data_of_another_size_are_refused(tmp_path):
    (tmp_path / "about.json").write_text(json.dumps({"images": 5}))
    with pytest.raises(CondgenError, match="choose another folder"):
        ours.write_data(tmp_path, SimpleNamespace(model_id="x"), 10, 2)


def test_a_failed_installation_is_explained(tmp_path, monkeypatch):
    folder = Path(
        sysconfig.get_paths(vars={"base": str(tmp_path), "platbase": str(tmp_path)}, scheme="venv")["purelib"]
    )
    monkeypatch.setattr(ours.venv, "create", lambda *args, **options: folder.mkdir(parents=True))
    failed = subprocess.CompletedProcess([], 1, "", "no connection")
    monkeypatch.setattr(ours.subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(CondgenError, match="no connection"):
        ours.install(tmp_path)
    assert not (tmp_path / "installed").exists() and (folder / "outer.pth").read_text().strip().endswith(
        "site-packages"
    )
