"""The classifier of words tells images that show what was asked for from images that do not."""

import numpy as np
import pytest
import torch

from condgen.data.batches.base import to_float
from condgen.data.datasets.captions import CaptionedImages, intern_captions
from condgen.evaluation import markdown
from condgen.evaluation.options import TextToImageOptions
from condgen.evaluation.text_to_image import evaluate_captions, read_training_images
from condgen.evaluation.words import MOST_SHARE, WordClassifier, frequent_words, split_of, word_scores, words_of
from condgen.pipelines.text_to_image import Progress
from tests.tiny import tiny_model

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (230, 230, 230)}


def tile(colour: str, is_striped: bool, rng: np.random.Generator) -> np.ndarray:
    """uint8 (3, 32, 32): a noisy tile, with two dark stripes somewhere if it is striped."""
    image = np.array(COLOURS[colour], float)[:, None, None] + rng.normal(0, 12, (3, 32, 32))
    if is_striped:
        for row in rng.integers(0, 28, 2):
            image[:, row : row + 4] *= 0.2
    return image.clip(0, 255).astype(np.uint8)


def tiles(n: int, seed: int) -> CaptionedImages:
    rng = np.random.default_rng(seed)
    kinds = [(list(COLOURS)[int(k)], bool(s)) for k, s in zip(rng.integers(0, 4, n), rng.integers(0, 2, n))]
    captions = [
        [f"A photo of a {'striped' if s else 'plain'} {colour} tile, no. {i}"] for i, (colour, s) in enumerate(kinds)
    ]
    return CaptionedImages(np.stack([tile(*kind, rng) for kind in kinds]), *intern_captions(captions), name="tiles")


TRAIN, TEST = tiles(480, 0), tiles(160, 1)


def asked(prompt: str) -> tuple[str, bool]:
    return next(colour for colour in COLOURS if colour in prompt), "striped" in prompt


def flowers(prompts, rng):
    return np.stack([tile(*asked(prompt), rng) for prompt in prompts])


def swapped(prompts, rng):
    return flowers(list(rng.permutation(prompts)), rng)


def mush(prompts, rng):
    return rng.normal(128, 60, (len(prompts), 3, 32, 32)).clip(0, 255).astype(np.uint8)


def always_the_same(prompts, rng):
    return np.repeat(TRAIN.images.mean(0, keepdims=True).astype(np.uint8), len(prompts), 0)


def copies(prompts, rng):
    rows = {asked(TRAIN.texts[TRAIN.captions[i, 0]]): i for i in range(len(TRAIN))}
    return np.stack([TRAIN.images[rows[asked(prompt)]] for prompt in prompts])


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("classifier"), {}
    for painter in (flowers, swapped, mush, always_the_same, copies):
        model = tiny_model()

        def generate_batch(prompts, seeds, painter=painter):
            yield Progress(1, 1, to_float(painter(prompts, np.random.default_rng(seeds[0]))))

        model.generate_batch = generate_batch
        options = TextToImageOptions(images_per_prompt=2, classifiers=folder)
        out[painter] = evaluate_captions(model, TEST, options, lambda *_: None, TRAIN)
    assert len(list(folder.iterdir())) == 1  # one classifier for all
    return {painter: found.report for painter, found in out.items()} | {"sheets": out[flowers].sheets}


def test_the_words_of_captions_tell_mush_from_flowers(reports):
    overall = {
        p: reports[p]["words"]["all recognised words"] for p in (flowers, swapped, mush, always_the_same, copies)
    }
    assert overall[flowers]["real"] > 0.9 and overall[flowers]["generated"] > 0.9 and overall[copies]["generated"] > 0.9
    for painter in (swapped, mush, always_the_same):
        assert abs(overall[painter]["generated"] - overall[painter]["chance"]) < 0.2
    assert reports[flowers]["words"].keys() == {"all recognised words", *COLOURS, "striped", "plain"}
    assert reports[flowers]["words"]["red"]["N"] == 2 * sum("red" in TEST.texts[k] for k in TEST.captions[:64, 0])


def test_distances_and_coverage_have_their_floors(reports):
    frechet = {
        p: next(
            row for name, row in reports[p]["distances"].items() if name.startswith("frechet (features: classifier")
        )
        for p in (flowers, swapped, mush, always_the_same)
    }
    for painter in (flowers, swapped):  # these have the right images, whatever was asked for
        assert frechet[painter]["generated"] < 3 * frechet[painter]["real"]
    for painter in (mush, always_the_same):
        assert frechet[painter]["generated"] > 5 * frechet[painter]["real"]
    assert reports[flowers]["coverage"]["recall"]["generated"] > 0.5 > reports[mush]["coverage"]["recall"]["generated"]
    assert (
        reports[flowers]["two_sample_test"]["p"]["generated"]
        > 0.01
        > reports[mush]["two_sample_test"]["p"]["generated"]
    )


def test_copies_of_training_images_are_found(reports):
    assert reports[copies]["memorisation"]["memorised"]["generated"] == 1
    assert reports[flowers]["memorisation"]["memorised"]["generated"] < 0.2


def test_every_section_is_explained_and_real_images_stand_above_generated_ones(reports):
    report, sheet = reports[flowers], reports["sheets"]["sheet"]
    tables = {name for name, section in report.items() if isinstance(section, dict)} - {"explained"}
    assert report["explained"].keys() == tables
    text = markdown({"model": "m", "model_id": "0"} | report)
    assert all(f"| {name} | " in text for name in tables)
    for k in range(0, len(sheet), 16):
        for (real, image, _), (generated, other, _) in zip(sheet[k : k + 8], sheet[k + 8 : k + 16]):
            assert real.removeprefix("real: ") == generated.removeprefix("generated: ") and real != generated
            assert image.shape == other.shape == (3, 32, 32)
    assert np.array_equal(sheet[0][1], TEST.images[0]) and reports["sheets"]["neighbours"]


def test_words_in_nearly_all_captions_or_in_few_are_not_used():
    assert set(frequent_words(TRAIN)) == {*COLOURS, "striped", "plain"}
    assert words_of("A photo, of 3 RED-ish 日本 tiles!") == {"a", "photo", "of", "red", "ish", "日本", "tiles"}
    assert MOST_SHARE < 1


def test_without_words_there_are_distances_in_a_random_network():
    plain = CaptionedImages(TEST.images, ["a tile"], np.zeros((len(TEST), 1), int))
    classifier = WordClassifier(plain)
    assert classifier.words == () and "random network" in classifier.space
    found = word_scores(classifier, plain, ["a tile"] * 8, TEST.images[:8])
    assert (
        np.isnan(found["words"]["all recognised words"]["generated"])
        and found["classifier"]["words of the classifier"] == 0
    )


def test_a_word_that_cannot_be_seen_is_not_scored():
    """Captions that say at random `nice` or `good` are not recognised on real images."""
    rng = np.random.default_rng(0)

    def random_words(data: CaptionedImages) -> CaptionedImages:
        captions = [[f"{'nice' if rng.random() < 0.5 else 'good'} {data.texts[row[0]]}"] for row in data.captions]
        return CaptionedImages(data.images, *intern_captions(captions), name="words")

    classifier = WordClassifier(random_words(TRAIN))
    found = word_scores(classifier, random_words(TEST), [TEST.texts[k] for k in TEST.captions[:8, 0]], TEST.images[:8])
    assert {"nice", "good"} <= set(classifier.words) and not {"nice", "good"} & set(found["words"])


def test_without_training_images_a_quarter_is_evaluated():
    train, test = split_of(TEST)
    assert len(train) == 120 and len(test) == 40 and torch.tensor(train.images.shape[1:]).tolist() == [3, 32, 32]
    both = np.concatenate([train.images, test.images]).reshape(160, -1)
    assert len(np.unique(both, axis=0)) == 160
    for split in ("train", "all"):
        parts = read_training_images(tiny_model(), TEST, TextToImageOptions(data="nowhere", split=split))
        assert [len(part) for part in parts] == [120, 40]
