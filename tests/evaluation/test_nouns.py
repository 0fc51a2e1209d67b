"""The recognizer: recognises layers that were composed, refuses others, and is at chance on shuffled layers."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from condgen.contracts import CondgenError
from condgen.evaluation.nouns.recognizer import LayerRecognizer

NOUNS = Path(__file__).resolve().parents[3] / "shared" / "data" / "nouns"
SIDE = 16
SHARP = {"blurs": (0.0,)}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def toy_layers(heads=12, glasses=6) -> dict[str, torch.Tensor]:
    """Backgrounds, heads of different sizes and glasses, each in random colours: uint8 RGBA (K, 16, 16, 4)."""

    def layer(number, boxes, seed):
        rgba = torch.randint(0, 256, (number, SIDE, SIDE, 4), generator=rng(seed), dtype=torch.uint8)
        rgba[..., 3] = 0
        for i in range(number):
            top, bottom, left, right = boxes[i % len(boxes)]
            rgba[i, top:bottom, left:right, 3] = 255
        return rgba

    background = torch.full((2, SIDE, SIDE, 4), 255, dtype=torch.uint8)
    background[0, ..., :3] = torch.tensor([213, 215, 225])
    return {
        "background": background,
        "head": layer(heads, [(2, 14, 2, 14), (3, 12, 4, 13), (6, 10, 5, 11)], 1),
        "glasses": layer(glasses, [(7, 9, 3, 13), (7, 9, 4, 12)], 2),
    }


def compose(layers, chosen) -> torch.Tensor:
    """Lay opaque layers over each other; -1 leaves a part out. An oracle written apart from the recognizer's own."""
    number = len(next(iter(chosen.values())))
    pictures = torch.zeros(number, SIDE, SIDE, 3, dtype=torch.uint8)
    for part, index in chosen.items():
        for picture, i in zip(pictures, index.tolist()):
            if i >= 0:
                rgba = layers[part][i]
                picture[rgba[..., 3] == 255] = rgba[rgba[..., 3] == 255][:, :3]
    return pictures.permute(0, 3, 1, 2).contiguous()


def draw(layers, number=200, seed=3):
    return {part: torch.randint(0, len(rgba), (number,), generator=rng(seed)) for part, rgba in layers.items()}


def noisy(pictures, sd=8.0):
    noise = sd * torch.randn(pictures.shape, generator=rng(4))
    return (pictures + noise).round().clamp(0, 255).byte()


def blurred(pictures, sd):
    kernel = torch.exp(-0.5 * (torch.arange(-3, 4) / sd) ** 2)
    kernel = (torch.outer(kernel, kernel) / kernel.sum() ** 2).expand(3, 1, 7, 7)
    padded = F.pad(pictures.float(), (3, 3, 3, 3), mode="replicate")
    return F.conv2d(padded, kernel, groups=3).round().clamp(0, 255).byte()


@pytest.mark.parametrize("spoil", [lambda p: p, noisy, lambda p: blurred(p, 0.5)], ids=["true", "noisy", "blurred"])
def test_names_what_was_composed(spoil):
    layers = toy_layers()
    chosen = draw(layers)
    found = LayerRecognizer(layers).explain(spoil(compose(layers, chosen)))
    for part in ("head", "glasses"):
        assert (found[part] == chosen[part]).float().mean() >= 0.99


def test_semi_transparent_layers_are_named():
    layers = toy_layers()
    layers["glasses"][..., 3] //= 2
    chosen = draw(layers)
    picture = torch.zeros(200, SIDE, SIDE, 3)
    for part, rgba in layers.items():
        own = rgba[chosen[part]].float()
        alpha = own[..., 3:] / 255
        picture = alpha * own[..., :3] + (1 - alpha) * picture
    found = LayerRecognizer(layers).explain(picture.round().byte().permute(0, 3, 1, 2))
    assert all((found[part] == chosen[part]).float().mean() >= 0.99 for part in ("head", "glasses"))


def test_a_small_layer_inside_a_large_one_is_distinguished():
    """The small head is the large one's middle: only what lies around it tells which of the two is there."""
    layers = toy_layers(heads=2)
    layers["head"][1] = layers["head"][0]
    layers["head"][1, ..., 3] = 0
    layers["head"][1, 6:10, 5:11, 3] = 255
    chosen = draw(layers)
    assert torch.equal(LayerRecognizer(layers).explain(compose(layers, chosen))["head"], chosen["head"])


@pytest.mark.parametrize("absent", [("head",), ("glasses",), ("head", "glasses")])
def test_a_part_left_out_is_unrecognised_and_the_other_still_named(absent):
    layers = toy_layers()
    chosen = draw(layers) | {part: torch.full((200,), -1) for part in absent}
    found = LayerRecognizer(layers).explain(noisy(compose(layers, chosen)))
    for part in ("head", "glasses"):
        assert (found[part] == chosen[part]).float().mean() >= 0.99


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_blank_images_never_count_as_right(level):
    layers = toy_layers()
    layers["glasses"][0, ..., :3] = level  # one plain layer, which a blank image holds pixel for pixel
    blank = torch.full((3, 3, SIDE, SIDE), level, dtype=torch.uint8)
    scores = LayerRecognizer(layers).score(
        blank, {"head": torch.zeros(3, dtype=int), "glasses": torch.zeros(3, dtype=int)}
    )
    assert scores == {"head": 0, "glasses": 0, "all": 0, "head_unrecognised": 1, "glasses_unrecognised": 1}


def test_pure_noise_is_unrecognised():
    noise = torch.randint(0, 256, (50, 3, SIDE, SIDE), generator=rng(), dtype=torch.uint8)
    found = LayerRecognizer(toy_layers()).explain(noise)
    assert (found["head"] == -1).all() and (found["glasses"] == -1).all()


def test_score_counts_parts_apart_and_together():
    layers = toy_layers()
    chosen = draw(layers, 100)
    expected = {part: chosen[part].clone() for part in ("head", "glasses")}
    expected["head"][:30] = (expected["head"][:30] + 1) % 12
    expected["glasses"][20:40] = (expected["glasses"][20:40] + 1) % 6
    scores = LayerRecognizer(layers, **SHARP).score(compose(layers, chosen), expected)
    assert scores == pytest.approx(
        {"head": 0.7, "glasses": 0.8, "all": 0.6, "head_unrecognised": 0, "glasses_unrecognised": 0}
    )


def test_unrecognised_never_equals_a_want_of_minus_one():
    blank = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    assert LayerRecognizer(toy_layers(), **SHARP).score(blank, {"head": torch.tensor([-1, -1])})["head"] == 0


def test_answers_do_not_depend_on_the_batch_and_arrays_will_do():
    layers = toy_layers()
    recognizer, pictures = LayerRecognizer(layers, **SHARP), compose(layers, draw(layers, 50))
    whole, pieces = recognizer.explain(pictures), recognizer.explain(pictures.numpy(), batch=7)
    assert all(torch.equal(whole[part], pieces[part]) for part in layers)
    assert recognizer.explain(pictures[:0])["head"].shape == (0,)


def test_twins_are_found_and_hidden_pixels_do_not_tell_layers_apart():
    layers = toy_layers()
    assert LayerRecognizer(layers, **SHARP).twins == {"background": [], "head": [], "glasses": []}
    layers["head"][4] = layers["head"][1]
    layers["head"][4, 7:9, 4:12, :3] = 9  # differs only where every pair of glasses covers it
    layers["head"][3] = layers["head"][0]
    layers["head"][3, 2, 2, :3] += 100  # differs in one pixel of 144
    recognizer = LayerRecognizer(layers, **SHARP)
    assert recognizer.twins["head"] == [(0, 3), (1, 4)]
    assert torch.equal(recognizer.differences("head"), recognizer.differences("head").T)


def test_wrong_inputs_are_unrecognised():
    recognizer = LayerRecognizer(toy_layers(), **SHARP)
    with pytest.raises(ValueError, match=r"uint8 \(N, 3, 16, 16\)"):
        recognizer.explain(torch.zeros(1, 3, SIDE, SIDE))
    with pytest.raises(ValueError, match=r"uint8 \(N, 3, 16, 16\)"):
        recognizer.explain(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="one index for each"):
        recognizer.score(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8), {"head": torch.zeros(3, dtype=int)})
    with pytest.raises(ValueError, match="one size"):
        LayerRecognizer(
            {"a": torch.zeros(1, 4, 4, 4, dtype=torch.uint8), "b": torch.zeros(1, 8, 8, 4, dtype=torch.uint8)}
        )


def write_parts(path, layers, first_index=0):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rows = []
    for part, rgba in layers.items():
        for i, one in reversed(list(enumerate(rgba))):  # rows in any order
            Image.fromarray(one.numpy()).save(buffer := io.BytesIO(), "PNG")
            image = {"bytes": buffer.getvalue(), "path": ""}
            rows.append({"image": image, "part": part, "index": i + first_index, "name": f"{part} {i}"})
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_from_parquet_reads_layers_by_index(tmp_path):
    layers = toy_layers()
    write_parts(tmp_path / "parts.parquet", layers)
    recognizer = LayerRecognizer.from_parquet(tmp_path / "parts.parquet", order=tuple(layers))
    chosen = draw(layers)
    assert torch.equal(recognizer.explain(compose(layers, chosen))["head"], chosen["head"])
    assert recognizer.names["head"][:2] == ["head 0", "head 1"]
    write_parts(tmp_path / "gaps.parquet", layers, first_index=1)
    with pytest.raises(CondgenError, match=r"gaps\.parquet.*without gaps"):
        LayerRecognizer.from_parquet(tmp_path / "gaps.parquet", order=tuple(layers))


@pytest.fixture(scope="module")
def nouns():
    if not NOUNS.exists():
        pytest.skip("needs ../shared/data/nouns")
    return LayerRecognizer.from_parquet(NOUNS / "parts.parquet")


def read_nouns(split, number):
    import pyarrow.parquet as pq
    from PIL import Image

    rows = pq.read_table(NOUNS / f"{split}.parquet").slice(0, number).to_pylist()
    pictures = [np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in rows]
    expected = {part: torch.tensor([row[part] for row in rows]) for part in ("head", "glasses")}
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), expected


SPOILS = {
    "true": lambda p: p,
    "noise 8": noisy,
    "blur 0.5": lambda p: blurred(p, 0.5),
    "blur 0.7, noise 8": lambda p: noisy(blurred(p, 0.7)),
}


@pytest.mark.parametrize("number", [150, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("split", ["test_iid", "test_comp"])
def test_true_nouns_are_named(nouns, split, spoil, number):
    pictures, expected = read_nouns(split, number)
    scores = nouns.score(SPOILS[spoil](pictures), expected)
    print(split, spoil, number, {key: round(share, 4) for key, share in scores.items()})
    assert scores["head"] >= 0.99 and scores["glasses"] >= 0.99


def test_shuffled_wants_are_at_chance_and_broken_nouns_are_unrecognised(nouns):
    pictures, expected = read_nouns("test_iid", 300)
    order = torch.randperm(300, generator=rng())
    scores = nouns.score(pictures, {part: index[order] for part, index in expected.items()})
    assert scores["head"] < 0.03 and scores["glasses"] < 0.1
    scrambled = pictures.flatten(2)[:, :, torch.randperm(1024, generator=rng())].view_as(pictures)
    for broken in (scrambled, pictures.flip(2), 255 - pictures, noisy(pictures, 60)):
        assert nouns.score(broken, expected)["all"] == 0


def test_nouns_have_no_twins_among_heads_and_glasses(nouns):
    assert nouns.twins["head"] == [] and nouns.twins["glasses"] == []
