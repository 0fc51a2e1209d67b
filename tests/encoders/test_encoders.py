import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condgen.contracts import CondgenError
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.encoders.tokenizer import (
    END,
    PAD,
    Reading,
    Tokenizer,
    clean,
    words_of,
)
from condgen.files.weights import fingerprint
from condgen.nn.conditioning import CondEncoderConfig, build_cond_encoder, condition
from condgen.nn.specs import CondSpec, EncoderSpec, TextSpec
from condgen.priors.transformer import PriorConfig, PriorNetwork
from tests.tiny import tiny_captions


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(tiny_captions())


def test_every_training_caption_fits_and_ends(tokenizer):
    ids = tokenizer.encode(tiny_captions())
    assert ids.shape[1] == tokenizer.context and (ids == END).sum() == len(ids)
    assert [tokenizer.read(caption) for caption in tiny_captions()] == [Reading(one) for one in tiny_captions()]
    assert tokenizer.count_cut([*tiny_captions(), "a red circle " * 100]) == 1


def test_frequent_words_are_one_token(tokenizer):
    assert (tokenizer.encode(["a red circle"]) != PAD).sum() == 4


def test_different_captions_have_different_tokens(tokenizer):
    captions = sorted(set(tiny_captions()))
    assert len(np.unique(tokenizer.encode(captions), axis=0)) == len(captions)


def test_case_space_and_unicode_forms_do_not_matter(tokenizer):
    assert (tokenizer.encode(["a RED\n circle "]) == tokenizer.encode(["a red circle"])).all()


def test_unseen_words_are_named_once(tokenizer):
    assert tokenizer.unseen("a red Zebra and a zebra, please") == ["zebra", ",", "please"]


def test_a_long_text_is_cut_where_it_says(tokenizer):
    long = " ".join(["red circle"] * 50)
    kept = tokenizer.read(long).cut
    assert kept is not None and long.startswith(kept) and kept == tokenizer.cut(long) and tokenizer.cut(kept) is None
    assert (tokenizer.encode([long]) == tokenizer.encode([kept])).all()
    assert tokenizer.encode([long])[0, -1] == END


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_encoded(text):
    tokenizer = Tokenizer.train(tiny_captions())
    ids = tokenizer.encode([text])
    assert ids.shape == (1, tokenizer.context) and (ids == END).sum() == 1
    assert clean(clean(text)) == clean(text)
    assert all(unit in clean(text) for unit in tokenizer.unseen(text))
    read = tokenizer.read(text)
    assert tokenizer.read(read.text).text == read.text and set(words_of(read.text)) <= tokenizer.words


@pytest.mark.parametrize("text", ["<END>", "a red <pad> circle", "<<end>>", "<e<end>nd>", "\uff1cend\uff1e"])
def test_marks_of_the_tokenizer_cannot_be_typed(tokenizer, text):
    ids = tokenizer.encode([text])[0].tolist()
    assert ids.count(END) == 1 and PAD not in ids[: ids.index(END)]


def test_lone_surrogates_and_nul_do_no_harm(tokenizer):
    assert tokenizer.encode(["\ud800 a red\x00 circle"]).shape[0] == 1


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    texts = [*tiny_captions(), "something else"]
    assert (again.encode(texts) == tokenizer.encode(texts)).all() and again.words == tokenizer.words


def test_a_damaged_tokenizer_is_named(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CondgenError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def config(**more):
    return CLIPConfig(vocab=40, context=8, embed_dim=16, image_width=8, text_width=16, depth=1, heads=2, **more)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_embeddings_are_unit_vectors(size):
    clip = CLIP(config(), EncoderSpec(size))
    images, tokens = torch.rand(3, 3, size, size) * 2 - 1, torch.randint(2, 40, (3, 8))
    for embed in (clip.embed_image(images), clip.embed_text(tokens)):
        assert embed.shape == (3, 16)
        torch.testing.assert_close(embed.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("pool", ["flatten", "mean", "end"])
def test_padding_does_not_matter(pool):
    """More padding in the batch, the same embedding: whatever the padded places' own vectors are."""
    clip = CLIP(config(pool=pool), EncoderSpec(32)).eval()
    tokens = torch.tensor([[5, 6, END, PAD, PAD, PAD, PAD, PAD]])
    before = clip.embed_text(tokens)
    with torch.no_grad():
        clip.text.token.weight[PAD] += 5
    torch.testing.assert_close(clip.embed_text(tokens), before)


def test_word_order_matters_when_tokens_keep_their_places():
    clip = CLIP(config(), EncoderSpec(32)).eval()
    a, b = torch.tensor([[5, 6, 7, END, 0, 0, 0, 0]]), torch.tensor([[7, 6, 5, END, 0, 0, 0, 0]])
    assert (clip.embed_text(a) * clip.embed_text(b)).sum() < 0.999


def test_the_temperature_is_clamped_and_can_come_back():
    training = ClipTraining(CLIP(config(), EncoderSpec(32)), ClipObjective(negatives=0, caption=0)).train()
    with torch.no_grad():
        training.clip.log_scale.fill_(9.0)
    ids = torch.arange(3)
    batch = {"image": torch.rand(3, 3, 32, 32), "tokens": torch.randint(2, 40, (3, 8)), "text_id": ids,
             "true_ids": ids[:, None]}  # fmt: skip
    loss = training.loss(batch)
    assert loss["scale"].item() == pytest.approx(100, rel=1e-4)
    loss["loss"].backward()
    assert training.clip.log_scale.grad is not None and training.clip.log_scale.grad.abs() > 0


def test_a_negative_that_is_true_of_the_image_is_not_held_against_it():
    training = ClipTraining(CLIP(config(), EncoderSpec(32)), ClipObjective(negatives=1, caption=0)).eval()
    tokens, ids = torch.randint(2, 40, (2, 8)), torch.tensor([0, 1])
    base = {
        "image": torch.rand(2, 3, 32, 32),
        "tokens": tokens,
        "text_id": ids,
        "true_ids": torch.tensor([[0, 2], [1, 2]]),
    }
    plain = training.loss(base)["loss"]
    true_one = base | {"negative_tokens": tokens[:, None], "negative_id": torch.tensor([[2], [2]])}
    wrong_one = base | {"negative_tokens": tokens[:, None], "negative_id": torch.tensor([[7], [7]])}
    torch.testing.assert_close(training.loss(true_one)["loss"], plain)
    assert training.loss(wrong_one)["loss"] > plain


# Shared padding


@pytest.mark.parametrize("text, pool", [("words", "flatten"), ("words", "mean"), ("words", "end"), ("clip", "flatten")])
def test_padding_that_all_captions_share_may_be_left_out(tokenizer, text, pool):
    torch.manual_seed(0)
    options = CLIPConfig(16, 8, 16, 1, 2, pool, tokenizer.vocab, tokenizer.context, text=text)
    trimming, full = (CLIP(options, EncoderSpec(16, trims)).eval() for trims in (True, False))
    full.load_state_dict(trimming.state_dict())
    tokens = torch.from_numpy(tokenizer.encode(["a red circle", "three green triangles", ""]))
    torch.testing.assert_close(trimming.embed_text(tokens), full.embed_text(tokens))
    assert fingerprint(full) != fingerprint(trimming)


def test_priors_and_condition_encoders_leave_it_out_too():
    torch.manual_seed(0)
    tokens = torch.zeros(3, 20, dtype=torch.long)
    tokens[0, :4], tokens[1, :6] = torch.arange(3, 7), torch.arange(3, 9)
    z = torch.randn(3, 8)
    priors = [PriorNetwork(PriorConfig(16, 1, 2), TextSpec(8, 10, 20, "", trims), 1).eval() for trims in (True, False)]
    priors[1].load_state_dict(priors[0].state_dict())
    torch.testing.assert_close(*(one(z, tokens, None, z) for one in priors))
    config, spec = CondEncoderConfig(16, 2, 1), {"embed_dim": 8, "vocab": 10, "context": 20}
    short, long = (build_cond_encoder(config, CondSpec(16, 3, trims=trims, **spec)).eval() for trims in (True, False))
    long.load_state_dict(short.state_dict())
    here, there = (one(condition(z, tokens)) for one in (short, long))
    assert here["tokens"].shape[1] == 4 + 6 and there["tokens"].shape[1] == 4 + 20
    torch.testing.assert_close(here["tokens"], there["tokens"][:, :10])
    torch.testing.assert_close(here["vector"], there["vector"])
