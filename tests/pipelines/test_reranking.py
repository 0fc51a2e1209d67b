"""Re-ranking: the best candidate by the model's own encoder; candidate 0 is the image without re-ranking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from condgen.contracts import CondgenError
from condgen.evaluation.embed import generate_prompts
from condgen.files.images import read_recipe
from condgen.pipelines import generation
from condgen.pipelines.base import Candidate, generator
from condgen.pipelines.presets import PRESETS, preset_of
from condgen.pipelines.reranking import MOST, rerank_steps, score_of
from tests.tiny import tiny_labels, tiny_model

PROMPTS = ["a red circle", "two blue squares"]


def reranked(model, n: int = 3, candidates: int = 4, prompts=PROMPTS, seed: int = 3) -> list:
    return list(model.generate(prompts, n=n, seed=seed, candidates=candidates, steps=2))


def test_one_candidate_is_generation_as_it_was():
    model = tiny_model()
    plain = [one.png() for one in model.generate(PROMPTS, n=3, seed=3, steps=2)]
    assert [one.png() for one in reranked(model, candidates=1)] == plain


def test_the_best_candidate_is_kept_and_candidate_0_is_the_image_of_the_seed():
    model = tiny_model()
    plain = list(model.generate(PROMPTS, n=4, seed=3, steps=2))
    kept = reranked(model, n=4)
    for one, first in zip(kept, plain, strict=True):
        scores = one.recipe["scores"]
        assert len(scores) == one.recipe["candidates"] == 4
        assert scores.index(max(scores)) == one.recipe["candidate"]
        assert one.clip_score == max(scores) == score_of(model, one, one.prompt)
        assert scores[0] == score_of(model, first, first.prompt)
        assert (one.seed, one.prompt) == (first.seed, first.prompt)
        assert (np.asarray(one.image) == np.asarray(first.image)).all() == (one.recipe["candidate"] == 0)
    assert any(one.recipe["candidate"] for one in kept)


def test_more_candidates_score_no_lower():
    model = tiny_model()
    scores = [[one.clip_score for one in reranked(model, candidates=k)] for k in (2, 4)]
    assert all(few <= more for few, more in zip(*scores, strict=True))


@pytest.mark.parametrize("prior", ["diffusion", "none"])
def test_an_image_does_not_depend_on_its_batch_and_is_replayed(prior):
    model = tiny_model()
    many = list(model.generate(PROMPTS, n=3, seed=3, candidates=3, steps=2, prior=prior))
    alone = [next(model.generate(p, seed=s, candidates=3, steps=2, prior=prior)) for p in PROMPTS for s in (3, 4, 5)]
    assert [one.png() for one in many] == [one.png() for one in alone]
    for one in many:
        assert model.replay(one.recipe).png() == one.png()


def test_replay_generates_the_kept_candidate_alone(monkeypatch):
    model = tiny_model()
    one = next(image for image in reranked(model, n=5) if image.recipe["candidate"])
    seen, real = [], type(model).generate_batch

    def watched(self, prompts, seeds, *args, **options):
        seen.extend(seeds)
        return real(self, prompts, seeds, *args, **options)

    monkeypatch.setattr(type(model), "generate_batch", watched)
    assert model.replay(one.recipe).png() == one.png()
    assert seen == [Candidate(one.seed, one.recipe["candidate"])]


def test_images_of_a_device_whose_kernels_depend_on_the_batch_are_replayed(monkeypatch):
    model, real = tiny_model(), tiny_model().__class__.generate_batch

    def shifted(self, prompts, seeds, *args, **options):
        for progress in real(self, prompts, seeds, *args, **options):
            rows = torch.arange(len(seeds)).view(-1, 1, 1, 1) + 10 * len(seeds)
            yield type(progress)(progress.step, progress.steps, progress.images * 0.5 + rows * 1e-3)

    monkeypatch.setattr(type(model), "generate_batch", shifted)
    for one in reranked(model):
        assert model.replay(one.recipe).png() == one.png()


def test_memory_is_bounded_by_the_batch(monkeypatch):
    model, seen, real = tiny_model(), [], tiny_model().__class__.generate_batch

    def watched(self, prompts, seeds, *args, **options):
        seen.append(len(seeds))
        return real(self, prompts, seeds, *args, **options)

    monkeypatch.setattr(type(model), "generate_batch", watched)
    monkeypatch.setattr(generation, "BATCH", 5)
    reranked(model, candidates=6)
    assert max(seen) == 5


def test_noise_of_candidates_is_that_of_no_other_seed_or_candidate():
    drawn = {
        tuple(torch.randn(8, generator=generator(Candidate(seed, k) if k else seed)).tolist())
        for seed in range(20)
        for k in range(MOST)
    }
    assert len(drawn) == 20 * MOST
    for seed in (0, 7, 2**63 - 1):
        same = torch.randn(4, generator=generator(Candidate(seed, 0)))
        assert torch.equal(same, torch.randn(4, generator=generator(seed)))


@pytest.mark.parametrize("seeds", [[5, 9], [2**40]])
def test_evaluation_keeps_what_generate_keeps(seeds):
    model = tiny_model()
    prompts = PROMPTS[: len(seeds)]
    found = generate_prompts(model, prompts, seeds, candidates=3, steps=2)
    for prompt, seed, image in zip(prompts, seeds, found, strict=True):
        kept = next(model.generate(prompt, seed=seed, candidates=3, steps=2))
        assert np.abs(np.asarray(kept.image).transpose(2, 0, 1).astype(int) - image).max() <= 1


@pytest.mark.parametrize("candidates", [0, -1, MOST + 1, 2.5, "2", None])
def test_a_wrong_number_is_refused(candidates):
    with pytest.raises(CondgenError, match="candidates must be an integer from 1 to"):
        reranked(tiny_model(), candidates=candidates)


@pytest.mark.parametrize(
    "damage", [{"candidate": 9}, {"candidate": "0"}, {"candidates": None}, {"scores": 1}, {"seed": -1}]
)
def test_a_damaged_recipe_is_refused(damage):
    recipe = reranked(tiny_model(), n=1, prompts="a red circle")[0].recipe
    with pytest.raises(CondgenError):
        tiny_model().replay(recipe | damage)


def test_models_of_labels_have_no_candidates():
    with pytest.raises(CondgenError, match="no option candidates"):
        next(tiny_labels().sample("Sneaker", candidates=2))


def test_presets_are_options_and_refused_where_one_is_missing():
    model = tiny_model()
    for name, preset in PRESETS.items():
        assert preset_of(name, model.sampling_options()) == preset
        assert next(model.generate("a red circle", **preset)).recipe.items() >= {**preset}.items()
    with pytest.raises(CondgenError, match="does not have"):
        preset_of("fast", ())
    with pytest.raises(CondgenError, match="choose fast"):
        preset_of("best", ())


def test_command_line(condgen, tmp_path):
    assert condgen("generate", "a red circle", "--candidates", 3, "--steps", 2, "-o", "out")[0] == 0
    (path,) = (tmp_path / "out").glob("*.png")
    assert read_recipe(path)["candidates"] == 3
    code, out, _ = condgen("replay", path, "-o", "again")
    assert code == 0 and "byte for byte" in out
    assert condgen("generate", "a red circle", "--preset", "quality", "--steps", 3, "-o", "best")[0] == 0
    recipe = read_recipe(next((tmp_path / "best").glob("*.png")))
    assert recipe["candidates"] == PRESETS["quality"]["candidates"] and recipe["steps"] == 3
    code, _, err = condgen("generate", "a red circle", "--preset", "nice")
    assert code == 2 and "choose fast, default, quality" in err
    code, _, err = condgen("generate", "a red circle", "--candidates", 0)
    assert code == 2 and "integer from 1" in err


def test_steps_of_candidates_end_with_the_image_that_is_kept():
    model = tiny_model()
    (expected,) = reranked(model, n=1, candidates=3, prompts=PROMPTS[:1])
    *steps, (_, generated) = rerank_steps(model, PROMPTS[0], PROMPTS[0], 3, 3, steps=2)
    assert generated.png() == expected.png() and all(image is None for _, image in steps)
    assert [one.step for one, _ in steps] == [1, 2, 3, 4, 5, 6] and {one.steps for one, _ in steps} == {6}
    with pytest.raises(CondgenError, match="words"):
        next(rerank_steps(model, PROMPTS[0], "", 3, 3))
