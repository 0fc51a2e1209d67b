"""Edits in words: their identities, what they change, their replay, and who refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgen import load
from condgen.contracts import CondgenError
from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.edits import draw_edits, is_done
from condgen.pipelines.base import generator
from condgen.pipelines.editing import edit
from condgen.pipelines.editing.base import Editor, InputImage
from condgen.pipelines.editing.edit import CHANGED, LEVELS, PENALTY, best, edits
from condgen.pipelines.editing.text_diff import turned
from condgen.pipelines.generation import EmbeddingPipeline
from condgen.pipelines.reranking import score_of
from condgen.pipelines.text_to_image import TextToImage
from tests.tiny import tiny_decoder, tiny_model

SOURCE, TARGET = "a red circle", "a green circle"


class Wordless(TextToImage):
    """A model without words."""

    reads_text = False
    embed_text = EmbeddingPipeline.embed_text


@pytest.fixture
def model():
    return tiny_model()


def image(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("method", ["prior-diff", "text-diff"])
def test_theta_0_is_the_reconstruction_of_the_image(model, method):
    (edited,) = model.edit(image(), SOURCE, TARGET, theta=0, method=method)
    assert edited.png() == model.invert(image()).reconstruction.png()


def test_the_text_diff_itself_is_the_reconstruction_at_theta_0(model):
    operation = edits(model, image(), SOURCE, TARGET, 0.0, "text-diff")
    (edited,) = Editor(model).apply([operation], [0])
    assert edited.image.tobytes() == model.invert(image()).reconstruction.image.tobytes()


def test_an_embedding_is_turned_along_the_sphere_from_the_image_to_the_difference(model):
    editor, read = Editor(model), InputImage.read(model, image())
    towards = torch.nn.functional.normalize(torch.randn(16, generator=generator(1)), dim=0)
    ends = [turned(editor, read, towards, theta) for theta in (0.0, 1.0)]
    assert torch.equal(ends[0], editor.z_of(read, generator(0), {}))
    torch.testing.assert_close(ends[1], model.normalizer(towards[None])[0])
    whole = (editor.embed(read) @ towards).arccos()
    for theta in (0.25, 0.5, 0.75):
        u = model.normalizer.back(turned(editor, read, towards, theta)[None])[0]
        torch.testing.assert_close((u @ editor.embed(read)).arccos(), theta * whole, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("how", [{}, {"noise": 0.9}, {"method": "text-diff"}, {"source": "", "noise": 1.0}])
def test_edits_are_replayed_byte_for_byte(model, how):
    for edited in model.edit(image(), **{"source": SOURCE, "target": TARGET, "n": 2} | how):
        assert model.replay(edited.recipe).png() == edited.png()


def test_a_seed_names_an_edit_whatever_the_batch(model, monkeypatch):
    monkeypatch.setattr(edit, "LEVELS", LEVELS[:2])
    several = list(model.edit(image(), SOURCE, TARGET, n=2, seed=4))
    for edited in several:
        (alone,) = model.edit(image(), SOURCE, TARGET, seed=edited.seed)
        assert alone.image.tobytes() == edited.image.tobytes()


def test_the_level_is_chosen_for_every_seed_and_recorded(model):
    chosen = list(model.edit(image(), SOURCE, TARGET, n=2))
    assert all(edited.recipe["noise"] in LEVELS for edited in chosen)
    assert chosen[0].image.tobytes() != chosen[1].image.tobytes()


def test_the_best_fits_the_words_and_changes_little(model):
    """No candidate has a better score than the one that is kept."""
    operation, editor = edits(model, image(), SOURCE, TARGET), Editor(model)
    original = np.asarray(image(), int)

    def score(generated) -> float:
        difference = np.abs(np.asarray(generated.image, int) - original).max(-1)
        return score_of(editor, generated, TARGET) - PENALTY * (difference > CHANGED).mean()

    (kept,) = best(editor, [operation], [0])
    others = [next(editor.apply([replace(operation, noise=level)], [0])) for level in LEVELS]
    assert score(kept) >= max(map(score, others)) - 1e-9


def test_candidates_of_a_seed_have_different_noise(model):
    one, other = (
        next(Editor(model).apply([edits(model, image(), SOURCE, TARGET, noise=1.0)], [seed])) for seed in (0, 1)
    )
    assert one.image.tobytes() != other.image.tobytes()
    operation = edits(model, image(), SOURCE, TARGET, noise=1.0)
    drawn = [next(Editor(model).apply([type(operation)(**vars(operation) | {"draw": draw})], [0])) for draw in (0, 1)]
    assert drawn[0].image.tobytes() == one.image.tobytes() != drawn[1].image.tobytes()


@pytest.mark.slow
def test_scenes_are_edited():
    """One change of every kind, on held-out scenes."""
    model = load()
    pixels, wanted = draw_edits(5, seed=2)
    operations = [
        edits(model, Image.fromarray(array.transpose(1, 2, 0).copy()), one.source, one.target)
        for array, one in zip(pixels, wanted)
    ]
    edited = best(Editor(model), operations, [0])
    seen = detect(np.stack([np.asarray(one.image).transpose(2, 0, 1) for one in edited]))
    assert sum(is_done(one, things) for one, things in zip(wanted, seen)) >= 4


@pytest.mark.parametrize("kind", ["cgan", "cvae"])
def test_decoders_without_noise_levels_refuse(model, kind):
    model.decoder = model.modules["decoder"] = tiny_decoder(kind, vars(model.decoder.spec))
    with pytest.raises(CondgenError, match=f"{kind} decoder, which cannot begin at an image"):
        list(model.edit(image(), SOURCE, TARGET))


def test_a_model_without_words_refuses_edits_and_inverts(model):
    model.__class__ = Wordless
    with pytest.raises(CondgenError, match="trained without captions"):
        list(model.edit(image(), SOURCE, TARGET))
    assert model.invert(image(), steps=2).x_T.shape == (3, 32, 32)


@pytest.mark.parametrize(
    "how, word",
    [
        ({"target": ""}, "prompt is empty"),
        ({"theta": 1.5}, "theta"),
        ({"theta": float("nan")}, "theta"),
        ({"noise": 0.0}, "noise"),
        ({"method": "magic"}, "no method 'magic'"),
        ({"method": "text-diff", "noise": 0.5}, "leave noise and prior out"),
        ({"prior": "magic"}, "no prior 'magic'"),
        ({"image": "missing.png"}, "missing.png"),
    ],
)
def test_what_cannot_be_used_is_refused(model, how, word):
    with pytest.raises(CondgenError, match=word):
        list(model.edit(**{"image": image(), "source": SOURCE, "target": TARGET} | how))


def test_the_command_makes_a_strip_and_its_images_are_replayed(condgen):
    image().save("noise.png")
    words = ("noise.png", "--from", SOURCE, "--to", TARGET, "--model", "tiny", "--theta", 0, 0.5, 1, "--noise", 0.9)
    code, out, err = condgen("edit", *words, "-o", "out")
    assert code == 0 and len(out.splitlines()) == 3 and "grid.png" in err
    for line in out.splitlines():
        assert condgen("replay", line.split("  ")[0], "--model", "tiny", "-o", "again")[0] == 0


def test_the_title_names_a_theta_that_is_not_the_default(model):
    titles = [edits(model, image(), "a circle", "a square", theta).title for theta in (None, 1.0, 0.25)]
    assert titles == ["image to a square"] * 2 + ["image to a square, theta 0.25"]


def test_the_command_refuses_what_it_cannot_use(condgen):
    image().save("noise.png")
    Path("text.png").write_text("no image")
    for words in (["text.png", "--to", TARGET], ["noise.png"], ["noise.png", "--to", " "]):
        code, out, err = condgen("edit", *words, "--model", "tiny")
        assert code == 2 and not out and err.splitlines()[-1].startswith("condgen: error: ")
