"""Mixtures: means on the sphere, exact ends, seeds and batches, what is refused."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError
from condgen.pipelines.base import generator
from condgen.pipelines.editing.base import Editor, InputImage
from condgen.pipelines.editing.mix import Mix, mixture
from condgen.pipelines.editing.sphere import slerp, spherical_mean
from tests.pipelines.editing.test_vary import picked, with_decoder
from tests.tiny import tiny_model

WORDS = "a red circle", "three green triangles", "a large pink cross"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def unit(n: int, dim: int = 16, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows + 1, dim=1)


def test_a_mean_of_two_points_is_slerp_and_stays_on_the_sphere():
    a, b = unit(2)
    for t in (0.0, 0.1, 0.5, 0.9, 1.0):
        found = spherical_mean(torch.stack([a, b]), (1 - t, t))
        assert torch.equal(found, slerp(a[None], b[None], t)[0])
        assert abs(found.norm() - 1) < 1e-6


def test_a_mean_of_several_points():
    points, weights = unit(4), (0.1, 0.2, 0.3, 0.4)
    mean = spherical_mean(points, weights)
    assert abs(mean.norm() - 1) < 1e-6
    tangents = points - (points @ mean)[:, None] * mean
    angle = (points @ mean).arccos()[:, None]
    balance = (torch.tensor(weights)[:, None] * tangents / tangents.norm(dim=1, keepdim=True) * angle).sum(0)
    assert balance.norm() < 1e-5
    for order in list(permutations(range(4)))[::5]:
        torch.testing.assert_close(spherical_mean(points[list(order)], [weights[k] for k in order]), mean)
    torch.testing.assert_close(spherical_mean(torch.eye(3), (1 / 3,) * 3), torch.full((3,), 3**-0.5))


def test_the_whole_weight_at_one_point_is_exactly_that_point():
    points = 3 * unit(3)
    for k in range(3):
        assert torch.equal(spherical_mean(points, [float(i == k) for i in range(3)]), points[k])


def test_weights_of_0_and_1_give_the_own_z_and_the_own_noise(model):
    ends = tuple(InputImage.read(model, image) for image in picked(3))
    editor, options = Editor(model), {"steps": 3}
    for k, end in enumerate(ends):
        made = Mix(ends, tuple(float(i == k) for i in range(3)))
        with torch.inference_mode():
            decoding = made.decoding(editor, generator(0), options)
            assert torch.equal(decoding.z, editor.z_of(end, generator(0), options))
            assert torch.equal(decoding.noise, editor.inverted(end, 3))


def test_the_ends_of_an_interpolation_are_the_inverted_images(model):
    a, b = picked(2)
    first, _, last = model.interpolate(a, b, n=3, steps=3)
    for image, generated in ((a, first), (b, last)):
        assert generated.image.tobytes() == model.invert(image, steps=3).reconstruction.image.tobytes()


@pytest.mark.parametrize("other", [WORDS[1], "image"])
@pytest.mark.parametrize("prior", ["diffusion", "regression", "none"])
def test_an_end_that_is_a_prompt_is_the_image_of_that_prompt(model, other, prior):
    other = picked(1)[0] if other == "image" else other
    last = list(model.interpolate(other, WORDS[0], n=2, seed=3, prior=prior, steps=2))[-1]
    (expected,) = model.generate(WORDS[0], seed=3, prior=prior, steps=2)
    assert last.image.tobytes() == expected.image.tobytes()


def test_seeds_name_mixtures_in_every_batch_and_recipes_replay_them(model):
    image, given = picked(1)[0], {"prior": "diffusion", "steps": 2, "prior_steps": 2}
    several = list(model.mix([image, *WORDS[:2]], [2, 1, 1], n=3, seed=2, **given))
    for seed, one in enumerate(several, 2):
        (alone,) = model.mix([image, *WORDS[:2]], [2, 1, 1], seed=seed, **given)
        assert alone.png() == one.png() == model.replay(one.recipe).png()
    assert several[0].recipe["weights"] == [0.5, 0.25, 0.25]
    path = list(model.interpolate(image, picked(2)[1], n=5, steps=2))
    assert [model.replay(one.recipe).png() for one in path] == [one.png() for one in path]


def test_fixed_noise_is_the_noise_of_the_seed_for_all_weights(model):
    images = picked(2)
    made = mixture(model, images, None, "fixed", None)
    with torch.inference_mode():
        assert made.decoding(Editor(model), generator(0), {"steps": 2}).noise is None
    fixed, mixed = (list(model.interpolate(*images, n=2, steps=2, noise=noise)) for noise in ("fixed", "slerp"))
    assert fixed[0].image.tobytes() != mixed[0].image.tobytes()


@pytest.mark.parametrize("kind", ["cgan", "cvae"])
def test_decoders_that_do_not_invert_mix_embeddings(kind):
    model = with_decoder(kind)
    path = list(model.interpolate(WORDS[0], picked(1)[0], n=3))
    assert [model.replay(one.recipe).png() for one in path] == [one.png() for one in path]


def test_the_decoder_reads_the_prompt_of_more_than_half_of_the_weight(model):
    image = picked(1)[0]
    ends = [image, *WORDS[:2]]
    read = {weights: mixture(model, ends, weights, "slerp", None).words for weights in
            [(1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 0, 3), (3, 1, 1)]}  # fmt: skip
    assert list(read.values()) == ["", "", WORDS[0], WORDS[1], ""]


@pytest.mark.parametrize("change", [
    {"weights": [1, -1]}, {"weights": [0, 0]}, {"weights": [1]}, {"weights": [1, float("nan")]}, {"weights": 5},
    {"noise": "pink"},
    {"prior": "best"}, {"ends": WORDS[:1]}, {"ends": WORDS * 6}, {"ends": ["a red circle", 3]}, {"ends": ["", "a"]},
    {"ends": [WORDS[0], Path("missing.png")]},
])  # fmt: skip
def test_what_cannot_be_mixed_is_refused(model, change):
    with pytest.raises(CondgenError):
        list(model.mix(**{"ends": WORDS[:2]} | change))


@pytest.mark.parametrize("change", [{"weights": None}, {"weights": 5}, {"weights": "1,1"}, {"ends": 5}])
def test_a_damaged_recipe_is_refused(model, change):
    (generated,) = model.mix(WORDS[:2], steps=2)
    with pytest.raises(CondgenError):
        model.replay(generated.recipe | change)


def test_two_images_at_least(model):
    for n in (1, 0, 2.5, 5000):
        with pytest.raises(CondgenError):
            list(model.interpolate(*WORDS[:2], n=n))


def test_the_command_writes_a_strip_and_an_animation(condgen, tmp_path):
    picked(1)[0].save(tmp_path / "a.png")
    code, out, err = condgen("mix", "a.png", "a red circle", "-n", 4, "--model", "tiny", "--steps", 2)
    assert code == 0 and len(out.splitlines()) == 4, err
    sheet, animation = (Image.open(tmp_path / "out" / name) for name in ("grid.png", "mix.gif"))
    assert sheet.width > 4 * 160 and animation.n_frames == 6 and animation.size[0] > 160
    frames = [np.asarray(animation.seek(k) or animation.convert("RGB")) for k in (0, 3)]
    assert not np.array_equal(*frames)
    file = next(path for path in (tmp_path / "out").glob("*.png") if path.name.startswith("67"))
    assert condgen("replay", file, "-o", "again")[0] == 0


@pytest.mark.parametrize("words, expected", [
    (["a red circle"], "two ends or more"),
    (["a red circle", "missing.png"], "no image missing.png"),
    (["a", "b", "--weights", "1,x"], "numbers"),
    (["a", "b", "--weights", "1,2,3"], "2 weights"),
    (["a", "b", "-n", "1"], "from 2 to"),
])  # fmt: skip
def test_the_command_refuses_in_one_sentence(condgen, words, expected):
    code, _, err = condgen("mix", *words, "--model", "tiny")
    assert code == 2 and expected in err and "Traceback" not in err
