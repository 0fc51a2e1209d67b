"""Translation: the laws of its objectives, and small runs from images to a model in use."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import condgen as front
from condgen.baselines import TRANSLATION_NETWORKS
from condgen.baselines.translation import (
    PairedObjective,
    PairedTraining,
    UnpairedObjective,
    UnpairedTraining,
    exchange,
)
from condgen.baselines.translation_nets import PatchCritic, TranslatorConfig, patch_halvings
from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float, to_uint8
from condgen.data.datasets.pairs import Pairs, Unpaired
from condgen.data.synthetic.pairs import squares_and_circles
from condgen.evaluation import evaluate
from condgen.evaluation.translation import attributes, cycle, evaluate_translation, faithful
from condgen.files.images import KEY, read_recipe
from condgen.losses import adversarial
from condgen.nn.specs import TranslationSpec
from condgen.pipelines.translator import BACKWARD, FORWARD, Translator, with_channels
from condgen.recipes import RECIPES, train
from tests.configs import changed
from tests.stopping import two_sittings
from tests.tiny import tiny_translator

# nets


@pytest.mark.parametrize("kind", TRANSLATION_NETWORKS)
@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_generators_keep_the_size_and_see_what_they_must(kind, size):
    net = tiny_translator(kind, size, 1, 3).train()
    x = torch.rand(2, 1, size, size) * 2 - 1
    x.requires_grad_(True)
    y = net(x)
    assert y.shape == (2, 3, size, size) and y.abs().max() <= 1
    (slope,) = torch.autograd.grad(y[0, :, size // 2, size // 2].sum(), x)
    assert slope[0].abs().sum() > 0 and not slope[1].any()  # images of a batch do not see each other
    if kind == "unet":
        assert (slope[0] != 0).all()  # the whole image at a glance
    with pytest.raises(ValueError, match="multiples"):
        tiny_translator(kind, size + 1)


@pytest.mark.parametrize("size, patch", [(32, 16), (64, 34), (128, 70), (256, 70)])
def test_a_critic_judges_patches_of_the_papers_size(size, patch):
    critic = PatchCritic(size, 3, 8)
    for norm in [m for m in critic.net.modules() if isinstance(m, nn.GroupNorm)]:
        norm.forward = lambda x: x  # a norm looks at all places
    x = torch.rand(1, 3, size, size, requires_grad=True)
    logits = critic(x)
    middle = logits.shape[-1] // 2
    (slope,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    rows = slope.abs().sum((0, 1, 3)).nonzero()[:, 0]
    assert rows.max() - rows.min() + 1 == patch and patch_halvings(size) == {16: 1, 34: 2, 70: 3}[patch]


# objectives


def test_least_squares_pull_real_to_one_and_generated_to_nothing():
    real, fake = torch.randn(2, 9)
    mse = F.mse_loss
    expected = mse(real, torch.ones(9)) + mse(fake, torch.zeros(9))
    torch.testing.assert_close(adversarial("ls", real, fake, "discriminator"), expected)
    torch.testing.assert_close(adversarial("ls", real, fake, "generator"), mse(fake, torch.ones(9)))


class Same(nn.Module):
    """Gives back what it gets."""

    config, spec = TranslatorConfig(), TranslationSpec(16)

    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return images * self.by


def test_who_changes_nothing_loses_nothing_there_and_back():
    training = UnpairedTraining(Same(), Same(), UnpairedObjective(critic=8))
    batch = {"a": torch.rand(3, 3, 16, 16), "b": torch.rand(3, 3, 16, 16), "dice": torch.rand(3, 4)}
    parts = training.loss(batch, "generator")
    assert parts["cycle"] == 0 and parts["identity"] == 0 and parts["loss"] == parts["adversarial"] > 0
    training.a_to_b.by.data.fill_(0.5)
    parts = training.loss(batch, "generator")
    lost = [0.5 * batch[side].mean() for side in "ab"]
    torch.testing.assert_close(parts["cycle"], lost[0] + lost[1])
    torch.testing.assert_close(parts["identity"], lost[1])
    torch.testing.assert_close(parts["loss"], parts["adversarial"] + 10 * parts["cycle"] + 5 * parts["identity"])


def test_of_pairs_the_distance_is_to_the_partner_and_the_critic_sees_both():
    training = PairedTraining(Same(), PairedObjective(critic=8))
    assert training.critic.net[0].in_channels == 6
    batch = {"a": torch.rand(3, 3, 16, 16), "b": torch.rand(3, 3, 16, 16)}
    parts = training.loss(batch, "generator")
    torch.testing.assert_close(parts["l1"], (batch["a"] - batch["b"]).abs().mean())
    torch.testing.assert_close(parts["loss"], parts["adversarial"] + 100 * parts["l1"])
    equal = training.loss({"a": batch["a"], "b": batch["a"]}, "generator")
    assert equal["l1"] == 0


def test_sides_of_other_channels_need_partners_or_no_identity():
    a_to_b, b_to_a = tiny_translator(reads=1), tiny_translator(image_channels=1)
    with pytest.raises(ValueError, match="channels"):
        UnpairedTraining(a_to_b, b_to_a, UnpairedObjective())
    training = UnpairedTraining(a_to_b, b_to_a, UnpairedObjective(identity=0, critic=8))
    batch = {"a": torch.rand(2, 1, 16, 16), "b": torch.rand(2, 3, 16, 16), "dice": torch.rand(2, 4)}
    assert all(training.loss(batch, turn)["loss"].isfinite() for turn in training.turns)


# the pool


def test_the_pool_takes_in_then_changes_every_second_image():
    pool, held, steps = torch.zeros(10, 1, 1, 1), 0, 4000
    generator = torch.Generator().manual_seed(0)
    old, ages = 0, []
    for step in range(1, steps + 1):
        fakes = torch.full((2, 1, 1, 1), float(step))
        before = pool.clone()
        shown, pool, held = exchange(pool, held, fakes, torch.rand(2, 2, generator=generator))
        for one in shown.flatten().tolist():
            assert one == step or one in before  # nothing that was not painted
            old += one < step
            ages.append(step - one)
        assert held == min(10, 2 * step)
        if step <= 5:
            assert (shown == step).all()  # while there is room, new ones are shown
        assert len(set(range(1, step + 1)) & set(pool.flatten().tolist())) > 0
    assert old / (2 * steps) == pytest.approx(0.5, abs=0.03)
    # kept ones leave with 1/10 of the swaps, one of which comes a step: they are ten steps old when they are shown
    assert np.mean([age for age in ages if age]) == pytest.approx(10, abs=1.5)


def test_the_pool_swaps_one_after_the_other():
    """An image that was put in may be shown to a later one of its batch, as in the paper's code."""
    fakes = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]
    pool = torch.tensor([10.0, 20.0])[:, None, None, None]
    dice = torch.tensor([[0.0, 0.0], [0.9, 0.0], [0.4, 0.3]])
    shown, after, held = exchange(pool, 2, fakes, dice)
    assert shown.flatten().tolist() == [10, 2, 1] and after.flatten().tolist() == [3, 20] and held == 2
    assert pool.flatten().tolist() == [10, 20] and fakes.flatten().tolist() == [1, 2, 3]


def test_the_loss_leaves_the_pool_alone_until_remember_is_called():
    training = UnpairedTraining(tiny_translator(), tiny_translator("resnet"), UnpairedObjective(critic=8, pool=3))
    batch = {"a": torch.rand(2, 3, 16, 16), "b": torch.rand(2, 3, 16, 16), "dice": torch.rand(2, 4)}
    training.loss(batch, "discriminator")
    assert training.pooled == 0 and not training.pool_a.any()
    training.remember()
    assert training.pooled == 2
    with torch.no_grad():
        torch.testing.assert_close(training.pool_b[:2], training.a_to_b(batch["a"]))
        torch.testing.assert_close(training.pool_a[:2], training.b_to_a(batch["b"]))
    training.loss(batch, "generator")
    training.remember()
    assert training.pooled == 2


# in use


def translator(both: bool = True, reads: int = 3, size: int = 16, **about) -> Translator:
    nets = {FORWARD: tiny_translator("resnet", size, reads)} | (
        {BACKWARD: tiny_translator("resnet", size, 3, reads, 1)} if both else {}
    )
    return Translator(nets, ("squares", "circles"), {"name": "tiny"} | about)


@pytest.mark.parametrize("both", [True, False])
def test_a_model_comes_back_from_disk_as_it_was(both, tmp_path):
    model = translator(both)
    model.save(tmp_path / "model")
    again = front.load(tmp_path / "model")
    assert isinstance(again, Translator) and again.sides == model.sides and again.both_ways == both
    assert again.targets == (("circles", "squares") if both else ("circles",)) and again.path == tmp_path / "model"
    x = torch.rand(70, 3, 16, 16) * 2 - 1
    for to in again.targets:
        torch.testing.assert_close(again.translate(x, to), model.translate(x, to), atol=5e-3, rtol=0)
    assert torch.equal(again.translate(x), again.translate(x, "circles"))
    with pytest.raises(CondgenError, match=r"does not translate to 'rings'\. It does to circles"):
        again.translate(x, "rings")
    with pytest.raises(CondgenError, match="16 x 16"):
        again.translate(x[..., :8])


def test_images_are_taken_with_and_without_colours():
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    assert torch.equal(with_channels(x, 3), x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(with_channels(with_channels(x, 3), 1), x)
    assert translator().translate(x).shape == (2, 3, 16, 16)
    assert translator(False, reads=1).translate(x.expand(-1, 3, -1, -1)).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sides": ["a"]}, "names the sides"),
        ({"sides": ["a", "a"]}, "names the sides"),
        ({"net": "transformer"}, "unet, resnet"),
        ({"_class_name": "ClassToImage"}, "condgen sample"),
        ({"both_ways": True}, "b_to_a"),
    ],
)
def test_a_damaged_index_is_refused(change, message, tmp_path):
    translator(False).save(tmp_path)
    path = tmp_path / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CondgenError, match=message):
        Translator.load(tmp_path)


# the judge


class Perfect(Translator):
    """Knows the partners by heart."""

    def __init__(self, a: np.ndarray, b: np.ndarray):
        super().__init__(translator(size=a.shape[-1]).nets, ("squares", "circles"), {"name": "perfect"})
        self.known = {to: dict(zip(map(bytes, x), to_float(y))) for to, x, y in (("circles", a, b), ("squares", b, a))}

    def translate(self, images, to=""):
        return torch.stack([self.known[to or "circles"][bytes(one)] for one in to_uint8(images)])


def test_the_evaluator_tells_a_perfect_translator_from_one_that_does_nothing():
    a, _ = squares_and_circles(40, 0, 32)
    # the same scenes of the other shape, which both sides do not show
    from condgen.data.synthetic.pairs import draw_layout
    from condgen.data.synthetic.scenes import render

    layout = draw_layout(40, np.random.default_rng((0, 0)), kinds=("circle",))
    b = render(layout, 32)
    model = Perfect(a, b)
    found = evaluate_translation(model, Unpaired(a, b, ("squares", "circles"), "shapes"))
    report, sheets = found.report, found.sheets
    for to in ("circles", "squares"):
        done, nothing = (report["attributes"][f"to {to}{more}"] for more in ("", ", identity"))
        assert min(done[name] for name in ("shape", "colour", "position", "size", "number")) > 0.97
        assert nothing["shape"] < 0.02 and min(nothing[n] for n in ("colour", "position", "size", "number")) > 0.97
        assert report["cycle"][f"by {to}"]["L1"] == 0
    assert len(sheets["sheet"]) == 48 and sheets["sheet"][8][0] == "to circles"
    paired = faithful(model, a, b)
    assert paired["translated"]["L1"] == 0 and paired["identity"]["L1"] > 0 and paired["identity"]["SSIM"] < 1


def test_what_is_gone_or_moved_has_kept_nothing():
    a, _ = squares_and_circles(30, 1, 32)
    blank = np.full_like(a, 245)
    assert attributes(a, blank, "circle") == pytest.approx(
        dict.fromkeys(("shape", "colour", "position", "size", "number"), 0) | {"N": attributes(a, a, "circle")["N"]}
    )
    moved = np.roll(a, 5, 3)
    found = attributes(a, moved, "square")
    assert found["position"] < 0.5 and found["colour"] > 0.8


def test_nothing_can_be_hidden_below_eight_bits():
    class Hides(Same):
        def forward(self, images):
            return images / 1000 if images.abs().max() > 0.5 else images * 1000

    model = Translator({FORWARD: Hides(), BACKWARD: Hides()}, ("a", "b"))
    given = np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16), np.uint8)
    assert cycle(model, given, "b")["L1"] > 0.1


# runs


def small(recipe: str, **changes):
    c = RECIPES[recipe].config()
    data = {"num_samples": 60, "size": 16} | changes.pop("data", {})
    objective = PairedObjective(critic=8) if c.kind == "paired" else UnpairedObjective(critic=8, pool=5)
    sizes = {"total_images": 24, "eval_count": 2, "net": {"width": 8, "blocks": 1}, "fit": {"batch": 4}}
    return changed(c, **sizes | {"data": data, "objective": objective} | changes)


@pytest.mark.parametrize("recipe", ["edges2picture", "grey2colour", "day2night", "squares2circles"])
def test_a_run_of_what_is_drawn_leaves_a_model_that_can_be_evaluated(recipe, tmp_path, condgen):
    folder = train(recipe, tmp_path / "run", small(recipe, data={"size": 32}))
    model = front.load(folder)
    assert isinstance(model, Translator) and model.size == 32
    samples = {file.name for file in (tmp_path / "run" / "samples").iterdir()}
    assert "sides.png" in samples and len(samples) == 3
    validation = model.about["metrics"]["validation"]
    assert ("cycle L1 by circles" if recipe == "squares2circles" else "PSNR") in validation
    card = (folder / "README.md").read_text()
    assert "image-to-image" in card and f"condgen train {recipe}" in card
    report = evaluate(folder, out=tmp_path / "report")
    assert report["kind"] == "translation" and (tmp_path / "report" / "sheet.png").is_file()
    if recipe == "squares2circles":
        assert set(report) >= {"cycle", "attributes"} and report["attributes"]["to circles"]["N"] > 500
    else:
        assert report["translation"][f"to {model.sides[1]}"]["N"] == 500
    code, out, _ = condgen("info", folder)
    assert code == 0 and "translates" in out and model.sides[0] in out
    code, out, err = condgen("evaluate", folder, "--seeds", "2", "--importance-samples", "9")
    assert code == 2 and "--seeds is an option of" in err and "translators" in err


def pictures(folder: Path, n: int = 30) -> None:
    rng = np.random.default_rng(0)
    for side in "ab":
        (folder / side).mkdir(parents=True)
        for k in range(n):
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / side / f"{k}.png")


@pytest.mark.parametrize("recipe", ["pairs", "unpaired"])
def test_own_images_are_trained_on_translated_and_evaluated(recipe, tmp_path, condgen):
    pictures(tmp_path / "data", 60)
    config = small(recipe, data={"path": str(tmp_path / "data"), "names": ("day", "night")})
    folder = train(recipe, tmp_path / "run", config)
    code, out, err = condgen("translate", folder, "data/a/1.png", "data/b", "-o", "made")
    assert code == 0 and len(out.splitlines()) == 61 and "sheet: " in err
    made = sorted(Path("made").iterdir())
    assert len(made) == 62 and Path("made/1-night.png") in made and Path("made/grid.png") in made
    with Image.open("made/1-night.png") as image:
        assert image.size == (16, 16) and json.loads(image.text[KEY])["to"] == "night"
    with pytest.raises(CondgenError, match="condgen translate"):
        read_recipe("made/1-night.png")
    code, out, err = condgen("evaluate", folder)
    assert code == 2 and "--data" in err
    code, out, err = condgen("evaluate", folder, "--data", "data", "--json")
    assert code == 0 and json.loads(out)["translation" if recipe == "pairs" else "cycle"]
    code, out, err = condgen("translate", folder, "data/a/1.png", "--to", "day", "-o", "back")
    assert code == (0 if recipe == "unpaired" else 2) and ("does not translate to 'day'" in err) == (recipe == "pairs")
    code, out, err = condgen("list")
    assert code == 0


def test_what_cannot_be_translated_is_said_in_a_line(tmp_path, condgen):
    translator().save(tmp_path / "model")
    Path("text.png").write_text("no image")
    Path("empty").mkdir()
    for argv, told in (
        (["model", "nowhere.png"], "nowhere.png does not exist"),
        (["model", "empty"], "empty holds no images"),
        (["model", "text.png"], "text.png is not an image"),
        (["model", "text.png", "--to", "rings"], "It does to circles, squares"),
        (["tiny", "text.png"], "generates images from prompts: condgen generate"),
        (["model"], "PATH"),
    ):
        code, out, err = condgen("translate", *argv)
        assert code == 2 and told in err.splitlines()[-1] and "Traceback" not in err and not out
    assert not Path("out").exists()
    code, _, err = condgen("generate", "a dog", "--model", "model")
    assert code == 2 and "condgen translate" in err


@pytest.mark.parametrize("recipe", ["squares2circles", "day2night"])
def test_stopped_in_the_middle_it_ends_where_it_would_have(recipe, tmp_path, monkeypatch):
    config = small(recipe, eval_count=1)
    whole, halves = two_sittings(recipe, config, "translation", tmp_path, monkeypatch, 4)
    states = [front.training.checkpoint.newest(f.parent / "checkpoints" / "translation")[0] for f in (whole, halves)]
    assert len({(state / "model.safetensors").read_bytes() for state in states}) == 1  # the pools, too
    assert len({(f / FORWARD / "model.safetensors").read_bytes() for f in (whole, halves)}) == 1


@pytest.mark.parametrize(
    "recipe, changes, message",
    [
        ("pairs", {}, "--data"),
        ("pairs", {"data": {"path": "nowhere/at/all"}}, "nowhere"),
        ("day2night", {"data": {"path": "somewhere"}}, "recipe pairs"),
        ("squares2circles", {"kind": "paired", "objective": PairedObjective()}, "--kind unpaired"),
        ("day2night", {"data": {"size": 15}}, r"--net.*multiples of 2"),
        ("squares2circles", {"data": {"size": 18}}, r"--net.*multiples of 4"),
        ("day2night", {"data": {"names": ("one",)}}, r"--data\.names"),
        ("day2night", {"objective": PairedObjective(l1=-1)}, r"--objective\.l1"),
        ("squares2circles", {"objective": UnpairedObjective(pool=-1)}, r"--objective\.pool"),
        ("day2night", {"minutes": -1.0}, "--minutes"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(recipe, changes, message, tmp_path):
    with pytest.raises(CondgenError, match=message):
        train(recipe, tmp_path / "run", small(recipe, **changes))
    assert not (tmp_path / "run").exists()


def test_too_few_images_to_hold_some_out_give_the_last_state(tmp_path):
    pictures(tmp_path / "data", 6)
    config = small("pairs", data={"path": str(tmp_path / "data"), "split": "all"})
    folder = train("pairs", tmp_path / "run", config)
    assert isinstance(front.load(folder), Translator)


def test_pairs_that_are_known_evaluator_who_learned_without_them():
    a, b = squares_and_circles(20, 0, 32)
    report = evaluate_translation(translator(size=32), Pairs(a, b, ("squares", "circles"))).report
    assert set(report["translation"]) == {f"to {x}{y}" for x in ("circles", "squares") for y in ("", ", identity")}
