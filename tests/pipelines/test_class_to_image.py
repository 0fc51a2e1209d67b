"""Models of labels in use: seeds name images, folders and files bring them back, mistakes get one clear line."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import condgen
from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.attributes import Attribute
from condgen.data.export import FORMATS, safe_names
from condgen.data.sources.labels import open_labelled
from condgen.decoders import DECODERS
from condgen.files.images import parameters, read_recipe
from condgen.pipelines.base import to_pil
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.synthetic_dataset import label_batches, write_set
from condgen.pipelines.text_to_image import TextToImage
from tests.tiny import AGE, CLOTHES, LACES, tiny_labels


@pytest.fixture(scope="module")
def model() -> ClassToImage:
    return tiny_labels()


def images(model, wanted, seeds, **options):
    *_, last = model.generate_batch(wanted, seeds, **options)
    return last.images


# seeds


def test_four_from_seed_0_are_the_images_of_seeds_0_to_3(model):
    many = list(model.sample({"label": "Sneaker"}, n=4, seed=0))
    single = [next(model.sample({"label": "Sneaker"}, seed=seed)) for seed in range(4)]
    assert [one.seed for one in many] == [0, 1, 2, 3]
    assert [one.png() for one in many] == [one.png() for one in single]
    assert len({one.png() for one in many}) == 4


@pytest.mark.parametrize("kind", DECODERS)
def test_a_seed_names_an_image_alone_and_in_a_batch(kind):
    model = tiny_labels(kind)
    wanted = [{"label": "Sneaker"}, {"laces": "yes", "age": 20}, {}]
    batch = images(model, wanted, [5, 6, 7])
    for i, (one, seed) in enumerate(zip(wanted, [5, 6, 7])):
        torch.testing.assert_close(batch[i : i + 1], images(model, [one], [seed]), atol=1e-3, rtol=1e-3)


def test_every_factor_counts(model):
    plain = images(model, [{}], [0])
    for one in ({"label": "Trouser"}, {"laces": "no"}, {"age": 40}):  # 40 is the mean, and not the same as unknown
        assert not torch.allclose(images(model, [one], [0]), plain, atol=1e-2), one


@pytest.mark.parametrize("kind, options, steps", [("diffusion", {"steps": 3}, [1, 2, 3, 3]), ("cgan", {}, [1, 1])])
def test_progress_comes_every_step(kind, options, steps):
    frames = list(tiny_labels(kind).generate_steps("Sneaker", 0, **options))
    assert [progress.step for progress, _ in frames] == steps and frames[0][0].steps == steps[-1]
    assert frames[-1][1] is not None and not any(generated for _, generated in frames[:-1])


# what is wanted


def test_conditions_are_codes_of_what_is_named(model):
    cond = model.cond_batch([{"label": "sneaker", "age": "50"}, {"laces": "yes"}])
    assert cond["has_targets"].tolist() == [[True, False, True], [False, True, False]]
    assert cond["targets"].tolist() == [[2, 0, 1], [0, 1, 0]]


def test_conditions_are_listed_in_the_order_of_the_model(model):
    assert model.resolve({"age": "30", "laces": "YES", "label": "ankle boot"}) == {
        "label": "Ankle boot", "laces": "yes", "age": 30.0
    }  # fmt: skip
    assert (
        model.resolve("sneaker") == {"label": "Sneaker"}
        and next(iter(model.resolve({"age": 20, "label": "Sneaker"}))) == "label"
    )


@pytest.mark.parametrize(
    "wanted, words",
    [
        ({"label": "Sneakers"}, ["label has no value 'Sneakers'", "Nearest: Sneaker"]),
        ("boot", ["no value 'boot'", "Ankle boot"]),
        ({"lace": "yes"}, ["no attribute 'lace'", "Did you mean laces?", "age (18 to 90)"]),
        ({"laces": 2}, ["laces has no value 2", "no, yes"]),
        ({"laces": ["yes"]}, ["laces has no value ['yes']"]),
        ({"age": "old"}, ["age must be a number"]),
        ({"age": [3]}, ["age must be a number"]),
        ({"age": math.nan}, ["age must be a finite number"]),
        ({"label": None}, ["label has no value None"]),
        (5, ["must be a label or a dict of attributes"]),
    ],
)
def test_what_the_model_does_not_know(model, wanted, words):
    with pytest.raises(CondgenError) as error:
        next(model.sample([wanted]))
    assert all(word in str(error.value) for word in words), error.value


def test_numbers_outside_of_the_training_data_are_generated_with_a_warning(model):
    with pytest.warns(CondgenWarning, match="saw age from 18 to 90, not 300"):
        next(model.sample({"age": 300}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(model.sample({"age": 90}))


@pytest.mark.parametrize("n", [0, -1, 1.5, True, 10_001, "3"])
def test_a_number_of_images_out_of_range(model, n):
    with pytest.raises(CondgenError, match="number of images must be an integer from 1 to 10000"):
        next(model.sample("Sneaker", n=n))


def test_other_mistakes(model):
    for more in ({"seed": -1}, {"seed": 2**63 - 1, "n": 2}):
        with pytest.raises(CondgenError, match="seed must be"):
            next(model.sample("Sneaker", **more))
    with pytest.raises(CondgenError, match="no option zoom; it has temperature"):
        next(model.sample("Sneaker", zoom=1))
    with pytest.raises(CondgenError, match="temperature must be a number from 0 to 2"):
        next(model.sample("Sneaker", temperature=3))
    with pytest.raises(CondgenError, match="There is no condition"):
        next(model.sample([]))
    for wanted in (["Sneaker"], "Sneaker", []):
        with pytest.raises(CondgenError, match="one condition per seed"):
            next(model.generate_batch(wanted, [1, 2]))
    with pytest.raises(CondgenError, match="attributes of \\[4, 2, 0\\] values"):
        ClassToImage(model.decoder, (CLOTHES, AGE))


# images


@pytest.mark.parametrize("image_channels, mode", [(1, "L"), (3, "RGB")])
def test_grey_and_colour_images(image_channels, mode):
    model = tiny_labels(image_channels=image_channels)
    (generated,) = model.sample("Sneaker")
    assert generated.image.mode == mode and generated.image.size == (8, 8) and generated.clip_score is None
    pixels = np.asarray(generated.image).reshape(8, 8, image_channels)
    wanted = ((images(model, ["Sneaker"], [0])[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert (pixels == wanted).all()


def test_the_recipe_travels_with_the_image(model, tmp_path):
    (generated,) = model.sample({"age": 30, "label": "t-shirt/top"}, seed=7, temperature=1)
    path = generated.save(tmp_path)
    assert path.name == "t-shirt-top-age-30-7.png"
    recipe = read_recipe(path)
    assert recipe["labels"] == {"label": "T-shirt/top", "age": 30.0} and recipe["temperature"] == 1
    assert "prompt" not in recipe and "prior" not in recipe and json.loads(json.dumps(recipe)) == recipe
    assert parameters(generated.recipe).startswith("label: T-shirt/top, age: 30\nSeed: 7, ")
    again = next(model.sample(recipe["labels"], seed=recipe["seed"], temperature=recipe["temperature"]))
    assert again.png() == path.read_bytes()
    assert next(model.sample({}, seed=2)).file_name == "anything-2.png"


@pytest.mark.parametrize("labels", [5, None, ["Sneaker"]])
def test_a_recipe_whose_labels_have_no_names_is_damaged(model, tmp_path, labels):
    (generated,) = model.sample("Sneaker")
    generated.recipe["labels"] = {}
    path = tmp_path / "x.png"
    bad = type(generated)(generated.image, generated.recipe, None, 0.0)
    path.write_bytes(bad.png())
    assert read_recipe(path)["labels"] == {}
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_itxt("condgen", json.dumps(generated.recipe | {"labels": labels}))
    generated.image.save(path, pnginfo=text)
    with pytest.raises(CondgenError, match="damaged"):
        read_recipe(path)


# folders


@pytest.mark.parametrize("kind", DECODERS)
def test_a_model_round_trips_through_its_folder(kind, tmp_path):
    model = tiny_labels(kind)
    model.save(tmp_path / "m", card="# card", half=False)
    again = condgen.load(tmp_path / "m")
    assert isinstance(again, ClassToImage) and again.attributes == model.attributes and again.name == "shoes"
    a, b = (next(one.sample("Sneaker", seed=3)).image.tobytes() for one in (model, again))
    assert a == b and len(again.model_id) == 16 and (tmp_path / "m" / "README.md").read_text() == "# card"
    again.save(tmp_path / "n", half=False)
    assert ClassToImage.load(tmp_path / "n").model_id == again.model_id
    index = [(tmp_path / folder / "model_index.json").read_bytes() for folder in "mn"]
    assert index[0] == index[1]


def test_the_index_is_what_other_programs_read(model, tmp_path):
    model.save(tmp_path)

    def refuse(number):
        raise AssertionError(number)

    index = json.loads((tmp_path / "model_index.json").read_text(), parse_constant=refuse)
    assert index["_class_name"] == "ClassToImage" and index["decoder"] == "cvae"
    assert (index["size"], index["image_channels"]) == (8, 1)
    assert index["attributes"][2] == {"name": "age", "values": [], "mean": 40.0, "sd": 10.0, "low": 18.0, "high": 90.0}
    assert index["attributes"][0]["values"] == list(CLOTHES.values) and index["attributes"][0]["low"] is None


def test_load_tells_words_from_labels(model, tmp_path, tiny_folder):
    model.save(tmp_path)
    assert isinstance(condgen.load(tiny_folder), TextToImage)
    assert next(condgen.sample("Sneaker", model=tmp_path)).recipe["labels"] == {"label": "Sneaker"}
    with pytest.raises(
        CondgenError, match=r"a ClassToImage of format 1, expected a TextToImage.*condgen sample --label"
    ):
        next(condgen.generate("a red circle", model=tmp_path))
    with pytest.raises(
        CondgenError, match=r"a TextToImage of format 1, expected a ClassToImage.*condgen generate PROMPT"
    ):
        next(condgen.sample("Sneaker", model=tiny_folder))


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"decoder": "cvaee"}, "'cvaee'"),
        ({"decoder": ["cvae"]}, "decoder"),
        ({"attributes": []}, "no attributes"),
        ({"attributes": [5]}, "an attribute as 5"),
        ({"attributes": [{"name": "label"}]}, "an attribute as"),
        ({"attributes": [{"name": "label", "values": "abcd"}]}, "an attribute as"),
        ({"attributes": [{"name": "label", "values": ["a", "a"]}]}, "an attribute as"),
        ({"attributes": [{"name": "age", "values": [], "sd": 0}]}, "an attribute as"),
        ({"attributes": [{"name": "age", "values": [], "mean": 10**400}]}, "an attribute as"),
        ({"attributes": [{"name": "age", "values": [], "colour": 1}]}, "an attribute as"),
        ({"attributes": [{"name": "age", "values": []}] * 2}, "two attributes of one name"),
        ({"attributes": [{"name": "label", "values": ["a", "b"]}]}, "mixes two models"),
        ({"format": 2}, "format 2"),
        ({"name": 3}, "names the model 3"),
    ],
)
def test_a_damaged_index_is_named(model, tmp_path, changes, word):
    model.save(tmp_path)
    path = tmp_path / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CondgenError) as error:
        ClassToImage.load(tmp_path)
    assert word in str(error.value)


# data sets


def test_images_are_those_of_their_seeds_whatever_the_batch(model):
    for batch in (1, 3, 64):
        found = list(label_batches(model, 5, ["Sneaker", "Trouser"], {"laces": "yes"}, seed=10, batch=batch))
        assert [some.label for some in found] == sorted((some.label for some in found), reverse=True)
        for label, name in ((2, "Sneaker"), (1, "Trouser")):
            own = np.concatenate([some.images for some in found if some.label == label])
            alone = [np.asarray(one.image) for one in model.sample({"label": name, "laces": "yes"}, n=5, seed=10)]
            assert own.shape == (5, 1, 8, 8) and np.abs(own[:, 0].astype(int) - np.stack(alone)).max() <= 1


@pytest.mark.parametrize("image_channels", [1, 3])
def test_three_formats_hold_the_same_images(tmp_path, image_channels):
    model = tiny_labels(image_channels=image_channels)
    told = []
    places = {
        how: write_set(model, tmp_path / how, 5, how, batch=2, progress=lambda *what: told.append(what))
        for how in FORMATS
    }
    edges = (8, 8, 3) if image_channels == 3 else (8, 8)
    with np.load(places["npz"]) as found:
        assert found["images"].shape == (20, *edges) and found["images"].dtype == np.uint8
        assert found["labels"].tolist() == [label for label in range(4) for _ in range(5)]
        assert found["names"].tolist() == list(CLOTHES.values)
        assert json.loads(str(found["about"]))["per_label"] == 5
        stacked = found["images"]
    for label, folder in enumerate(("T-shirt_top", "Trouser", "Sneaker", "Ankle boot")):
        for i in range(5):
            with Image.open(places["folder"] / folder / f"{i}.png") as picture:
                assert (np.asarray(picture) == stacked[5 * label + i]).all()
    rows = pq.read_table(places["parquet"]).to_pylist()
    assert len(rows) == 20 and rows[0]["label_name"] == "T-shirt/top" and rows[19]["label"] == 3
    assert [share for share, _ in told][-1] == 1 and told[0][1].startswith("2 of 20 images, ")
    assert sorted(path.name for path in tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize("how", ["folder", "parquet"])
@pytest.mark.parametrize("image_channels", [1, 3])
def test_a_data_set_can_be_trained_on(tmp_path, how, image_channels):
    """What is written is what `open_labelled` reads: the same images under the same names."""
    model = tiny_labels(image_channels=image_channels)
    data = open_labelled(write_set(model, tmp_path / "set", 11, how), split="all")
    assert (data.size, data.image_channels, len(data)) == (8, image_channels, 44)
    names = data.attributes[0].values
    assert sorted(names) == sorted(CLOTHES.values)
    for some in label_batches(model, 11):
        own = data.images[
            data.labels == names.index(sorted(names, key=lambda n: n[:4] != CLOTHES.values[some.label][:4])[0])
        ]
        assert {image.tobytes() for image in own} == {image.tobytes() for image in some.images}


def test_parquet_is_what_datasets_reads(model, tmp_path):
    datasets = pytest.importorskip("datasets")
    place = write_set(model, tmp_path / "set.parquet", 3, "parquet", ["Sneaker"])
    assert place == tmp_path / "set.parquet"
    table = datasets.Dataset.from_parquet(str(place), cache_dir=str(tmp_path / "cache"))
    assert table.features["label"].names == list(CLOTHES.values) and table[0]["label"] == 2
    expected = np.asarray(next(model.sample("Sneaker")).image).astype(int)
    assert np.abs(np.asarray(table[0]["image"]).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("how", FORMATS)
def test_a_data_set_is_there_whole_or_not_at_all(model, tmp_path, how):
    def stop(share, what):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_set(model, tmp_path / "set", 4, how, batch=2, progress=stop)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    write_set(model, tmp_path / "set", 1, how)
    with pytest.raises(CondgenError, match="exists already"):
        write_set(model, tmp_path / "set", 1, how)


@pytest.mark.parametrize(
    "wrong, word",
    [
        ({"per_label": 0}, "images of a label"),
        ({"per_label": 1.5}, "images of a label"),
        ({"batch": 0}, "images in a batch"),
        ({"labels": ["Sneakers"]}, "Nearest: Sneaker"),
        ({"attributes": {"lace": 1}}, "Did you mean laces?"),
        ({"format": "tar"}, "folder, npz, parquet"),
        ({"seed": -1}, "seed"),
        ({"zoom": 1}, "no option zoom"),
    ],
)
def test_a_data_set_that_cannot_be_made(model, tmp_path, wrong, word):
    with pytest.raises(CondgenError, match=word):
        write_set(model, tmp_path / "set", **{"per_label": 2} | wrong)
    assert not list(tmp_path.iterdir())


def test_labels_without_names_and_models_without_labels(tmp_path):
    for attributes in ((Attribute("label"),), (LACES,)):
        with pytest.raises(CondgenError, match=r"are numbers|no attribute 'label'"):
            write_set(tiny_labels(attributes=attributes), tmp_path / "set", 2)


def test_folder_names_are_safe_and_differ():
    names = ["T-shirt/top", "cat", "Cat", "..", "", "con", "a" * 300, "猫", "a\nb", "trailing.", "x:y", "x?y"]
    safe = safe_names(names)
    assert len({name.casefold() for name in safe}) == len(names)
    assert all(name and not set(name) & set('/\\:*?"<>|\n') and len(name.encode()) < 120 for name in safe)
    assert not any(name.startswith(".") or name.endswith((".", " ")) for name in safe) and "con" not in safe
    assert safe[1] == "cat" and safe[7] == "猫" and safe_names(CLOTHES.values[1:]) == list(CLOTHES.values[1:])


def test_to_pil_takes_one_channel():
    (picture,) = to_pil(torch.full((1, 1, 2, 3), -1.0))
    assert picture.mode == "L" and picture.size == (3, 2) and picture.getpixel((0, 0)) == 0
