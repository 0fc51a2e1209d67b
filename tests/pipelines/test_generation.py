"""Generation in batches: a seed names the same image alone and among others, and every image is replayed."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from condgen.contracts import CondgenError
from condgen.decoders import DECODERS
from condgen.pipelines import generation
from condgen.pipelines.generation import BATCH, SMALL, rows_at_once
from condgen.pipelines.unconditional import UnconditionalDecoder
from tests.tiny import tiny_images, tiny_labels, tiny_model, tiny_unconditional

PROMPTS = ["a red circle", "two blue squares"]
LABELS = [{"label": "Sneaker"}, {"laces": "yes", "age": 20}, {}]


def images_of(model, n: int, seed: int = 0) -> list:
    if hasattr(model, "tokenizer") and model.tokenizer is not None:
        return list(model.generate(PROMPTS, n=n, seed=seed, steps=2))
    if isinstance(model, UnconditionalDecoder):
        return list(model.generate(n=n, seed=seed))
    return list(model.sample(LABELS, n=n, seed=seed))


MODELS = {"text": tiny_model} | {kind: lambda kind=kind: tiny_labels(kind) for kind in DECODERS}
MODELS |= {f"images-{kind}": lambda kind=kind: tiny_images(kind) for kind in DECODERS}
MODELS |= {"unconditional": tiny_unconditional}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def pixels(generated) -> np.ndarray:
    return np.asarray(generated.image).astype(int)


@pytest.mark.parametrize("n", [1, 2, 7, 9])
def test_a_seed_names_the_same_image_alone_and_among_others(model, n):
    many = images_of(model, n, seed=3)
    single = [images_of(model, 1, seed) for seed in range(3, 3 + n)]
    expected = [row[k] for k in range(len(single[0])) for row in single]
    assert [one.seed for one in many] == [one.seed for one in expected]
    for one, alone in zip(many, expected, strict=True):
        assert np.abs(pixels(one) - pixels(alone)).max() <= 1
        assert one.png() == alone.png() or "batch" in one.recipe  # where kernels depend on the size of the batch
        assert one.clip_score == pytest.approx(alone.clip_score, abs=1e-4)
        assert model.replay(one.recipe).png() == one.png()


def test_images_of_a_device_whose_kernels_depend_on_the_batch_are_replayed_byte_for_byte(model, monkeypatch):
    """A device that adds a little for every row of a batch."""
    real = type(model).generate_batch

    def shifted(self, conditions, seeds, *args, **options):
        for progress in real(self, conditions, seeds, *args, **options):
            rows = torch.arange(len(seeds)).view(-1, 1, 1, 1) + 10 * len(seeds)
            yield type(progress)(progress.step, progress.steps, progress.images * 0.5 + rows * 1e-3)

    monkeypatch.setattr(type(model), "generate_batch", shifted)
    many = images_of(model, 7)
    assert any("batch" in one.recipe for one in many)
    for one in many:
        assert ("batch" in one.recipe) == ("row" in one.recipe)
        assert model.replay(one.recipe).png() == one.png()


@pytest.mark.parametrize("threads", [2])
def test_small_images_do_not_depend_on_the_number_of_threads(model, threads):
    expected = [one.png() for one in images_of(model, 4)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert [one.png() for one in images_of(model, 4)] == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size, rows", [(16, 16), (32, 16), (64, 16), (128, 4), (256, 1), (1024, 1)])
def test_the_memory_of_a_batch_is_bounded(size, rows):
    assert rows_at_once(size) == rows and (rows * size**2 <= BATCH * SMALL**2 or rows == 1)


def test_batches_are_as_large_as_memory_allows_and_no_larger(model, monkeypatch):
    seen, real = [], type(model).generate_batch

    def watched(self, conditions, seeds, *args, **options):
        seen.append(len(seeds))
        return real(self, conditions, seeds, *args, **options)

    monkeypatch.setattr(type(model), "generate_batch", watched)
    monkeypatch.setattr(generation, "BATCH", 5)
    count = len(images_of(model, 8))
    assert max(seen) == 5 and len(seen) < count


def test_the_images_of_one_call_come_while_it_goes_on(model, monkeypatch):
    monkeypatch.setattr(generation, "BATCH", 3)
    calls, real = [], type(model).generate_batch

    def watched(self, conditions, seeds, *args, **options):
        calls.append(len(seeds))
        return real(self, conditions, seeds, *args, **options)

    monkeypatch.setattr(type(model), "generate_batch", watched)
    if isinstance(model, UnconditionalDecoder):
        images = iter(model.generate(n=9))
    else:
        images = iter(model.generate(PROMPTS, n=9, steps=2)) if model.tokenizer else iter(model.sample(LABELS, n=9))
    next(images)
    assert calls == [1]
    next(images)
    assert calls == [1, 3]


@pytest.mark.parametrize("place", [{"batch": 10**9}, {"batch": 0}, {"batch": "4"}, {"batch": 4, "row": 4}, {"row": 1},
                                   {"batch": 4, "row": -1}, {"batch": True}, {"batch": 2.0}])  # fmt: skip
def test_a_damaged_place_in_a_batch_is_refused(place):
    model = tiny_model()
    recipe = next(model.generate(PROMPTS[0], steps=1)).recipe
    with pytest.raises(CondgenError, match="damaged"):
        model.replay(recipe | place)


def test_images_that_were_computed_with_all_threads_are_replayed_so(monkeypatch):
    model, used = tiny_model(), []
    monkeypatch.setattr(generation, "one_thread", lambda: used.append(1) or nullcontext())
    next(model.generate(PROMPTS[0], steps=1))
    assert used
    used.clear()
    model.exact = False
    next(model.generate(PROMPTS[0], steps=1))
    assert not used
