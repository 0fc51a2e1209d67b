import numpy as np
import pytest
import torch

from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float, to_uint8
from condgen.data.batches.captions import CaptionBatches
from condgen.data.datasets.captions import CaptionedImages, intern_captions
from condgen.data.synthetic.scenes import scenes


def views(n=50, batch=8, **more):
    data = scenes(n, seed=2)
    return CaptionBatches(data, np.arange(len(data.texts))[:, None], batch, seed=3, **more), data


def test_batch_k_is_always_the_same():
    a, b = views()[0], views()[0]
    for step in (0, 5, 2):
        one, two = a(step), b(step)
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_an_epoch_shows_every_image_once():
    source, data = views(n=48)
    seen = torch.cat([source(k)["image"] for k in range(6)])
    everything = to_float(data.images)
    assert {p.sum().item() for p in seen} == {p.sum().item() for p in everything}


def test_captions_are_true_and_all_get_their_turn():
    source, data = views(n=16, batch=16)
    own = {to_float(data.images[i]).sum().item(): set(data.captions[i].tolist()) - {-1} for i in range(16)}
    chosen = {key: set() for key in own}
    for step in range(40):
        batch = source(step)
        for image, text, true in zip(batch["image"], batch["text_id"], batch["true_ids"]):
            key = image.sum().item()
            assert text.item() in own[key] and set(true.tolist()) - {-1} == own[key]
            chosen[key].add(text.item())
    assert chosen == own


def test_negatives_come_with_their_tokens():
    source, data = views(negatives=2)
    batch = source(0)
    assert batch["negative_id"].shape == (8, 2) and batch["negative_tokens"].shape == (8, 2, 1)
    for text, wrong in zip(batch["text_id"].tolist(), batch["negative_id"].tolist()):
        allowed = set(data.negatives[text].tolist()) - {-1}
        assert set(wrong) - {-1} <= allowed and len(set(wrong) - {-1}) == min(2, len(allowed))


def test_the_parts_of_processes_are_the_batch_of_one():
    for more in ({}, {"negatives": 2, "shift": 2}):
        whole = views(**more)[0]
        parts = [views(rank=r, world=2, **more)[0] for r in (0, 1)]
        for step in (0, 3, 9):
            one, halves = whole(step), [part(step) for part in parts]
            for name, value in one.items():
                assert torch.equal(torch.cat([half[name] for half in halves]), value), name


def test_a_batch_that_cannot_be_split_is_refused():
    with pytest.raises(CondgenError, match="multiple of 3"):
        views(batch=8, world=3)


def test_cached_rows_belong_to_their_image_and_text():
    source, data = views()
    source.cache("z", to_float(data.images).sum((1, 2, 3)), per="image")
    source.cache("t", torch.arange(len(data.texts)), per="text")
    batch = source(1)
    torch.testing.assert_close(batch["z"], batch["image"].sum((1, 2, 3)))
    assert torch.equal(batch["t"], batch["text_id"])
    assert "image" not in source.without_images()(1)


def test_shifts_move_images_a_little():
    plain, shifted = views()[0](0)["image"], views(shift=2)[0](0)["image"]
    assert shifted.shape == plain.shape and not torch.equal(plain, shifted)


def test_pixels_round_trip():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert (to_uint8(to_float(pixels)) == pixels).all()
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_texts_are_stored_once():
    texts, index = intern_captions([["a", "b"], ["b"], ["a", "a"]])
    assert texts == ["a", "b"] and index.tolist() == [[0, 1], [1, -1], [0, -1]]
    CaptionedImages(np.zeros((3, 3, 4, 4), np.uint8), texts, index)


@pytest.mark.parametrize("shape", [(3, 3, 4, 4), (3, 4, 4)])
def test_pixels_that_are_not_numbers_are_refused(shape):
    images = torch.zeros(shape)
    images.view(-1)[-1] = float("nan")
    with pytest.raises(CondgenError, match=r"1 of \d images have pixels that are NaN"):
        to_uint8(images)
    images.view(-1)[-1] = float("inf")
    assert to_uint8(images).max() == 255
