"""Export and import: the libraries are the oracles, and the way back is the law."""

import ast
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.batches.base import to_float
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.interop.convert import export, imported, names_there
from condgen.encoders.interop.convert_tokenizer import write_tokenizer
from condgen.encoders.interop.load import open_encoder, space_of
from condgen.encoders.tokenizer import END, Tokenizer
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.base import to_pil
from tests.encoders import foreign_models as made
from tests.tiny import tiny_captions

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
TARGETS = ("open_clip", "transformers")


@pytest.fixture(scope="module")
def tokenizer():
    """Its context is shorter than the 77 tokens to which both libraries pad."""
    return Tokenizer.train(tiny_captions(), context=9)


def encoder(tokenizer, **more):
    torch.manual_seed(0)
    shape = {"image_width": 24, "text_width": 16, "depth": 2, "image_depth": 3, "heads": 2, "patch": 8}
    shape |= {"embed_dim": 12, "image": "patch", "text": "clip", "context": tokenizer.context}
    net = CLIP(CLIPConfig(**{"vocab": tokenizer.vocab} | shape | more), EncoderSpec(32)).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # norms that scale by one and biases of zero would hide an exchange
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def pictures(n=3):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def exported(tokenizer, tmp_path_factory):
    root, net = tmp_path_factory.mktemp("exported"), encoder(tokenizer)
    told = {target: export(net, tokenizer, target, root / target) for target in TARGETS}
    return root, net, told


@pytest.mark.parametrize("target", TARGETS)
def test_the_check_found_no_difference(exported, target):
    assert exported[2][target].keys() == {"text", "image"} and max(exported[2][target].values()) < 1e-5


@torch.inference_mode()
def test_open_clip_gives_our_vectors(exported, tokenizer):
    import open_clip

    root, net, _ = exported
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{root / 'open_clip'}")
    words = open_clip.get_tokenizer(f"local-dir:{root / 'open_clip'}")
    text = model.eval().encode_text(words(tiny_captions()), normalize=True)
    own = net.embed_text(torch.from_numpy(tokenizer.encode(tiny_captions())))
    torch.testing.assert_close(text, own, atol=1e-5, rtol=0)
    image = model.encode_image(pictures(), normalize=True)
    torch.testing.assert_close(image, net.embed_image(pictures()), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.logit_scale, net.log_scale)


@torch.inference_mode()
def test_the_towers_load_alone_as_diffusers_takes_them(exported, tokenizer):
    from transformers import AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    root, net, _ = exported
    text, told = CLIPTextModelWithProjection.from_pretrained(root / "transformers", output_loading_info=True)
    assert not told["missing_keys"]
    words = AutoTokenizer.from_pretrained(root / "transformers")
    ids = words(tiny_captions(), padding="max_length", truncation=True, return_tensors="pt").input_ids
    own = net.embed_text(torch.from_numpy(tokenizer.encode(tiny_captions())))
    torch.testing.assert_close(F.normalize(text(ids).text_embeds, dim=-1), own, atol=1e-5, rtol=0)
    image, told = CLIPVisionModelWithProjection.from_pretrained(root / "transformers", output_loading_info=True)
    assert not told["missing_keys"]
    embeds = F.normalize(image(pictures()).image_embeds, dim=-1)
    torch.testing.assert_close(embeds, net.embed_image(pictures()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("target", TARGETS)
def test_there_and_back_is_the_same_encoder(exported, tokenizer, target, tmp_path):
    """The weights bit for bit, the words it knows, and so the same space: what was trained on it goes on working."""
    root, net, _ = exported
    again, words, why = imported(root / target)
    assert why == "" and type(again) is CLIP and again.config == net.config
    assert space_of(again) == space_of(net)
    assert words.words == tokenizer.words and (words.encode(made.TEXTS) == tokenizer.encode(made.TEXTS)).all()
    export(again, words, target, tmp_path / "again")
    for file in (root / target).iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file


@pytest.mark.parametrize("target", TARGETS)
def test_an_export_opens_as_an_encoder_of_the_library(exported, tokenizer, target):
    root, net, _ = exported
    wrapped, words = open_encoder(root / target)
    with torch.inference_mode():
        image = wrapped.embed_image(pictures())
        torch.testing.assert_close(image, net.embed_image(pictures()), atol=1e-5, rtol=0)
        texts = [torch.from_numpy(one.encode(tiny_captions())) for one in (words, tokenizer)]
        torch.testing.assert_close(wrapped.embed_text(texts[0]), net.embed_text(texts[1]), atol=1e-5, rtol=0)


def test_a_bias_goes_to_open_clip_and_is_missed_in_transformers(tokenizer, tmp_path):
    net = encoder(tokenizer, bias=True)
    export(net, tokenizer, "open_clip", tmp_path / "open_clip")
    again, _, why = imported(tmp_path / "open_clip")
    assert why == "" and torch.equal(again.bias, net.bias) and space_of(again) == space_of(net)
    with pytest.warns(CondgenWarning, match="no bias"):
        export(net, tokenizer, "transformers", tmp_path / "transformers")
    assert imported(tmp_path / "transformers")[0].bias is None


def test_a_table_with_spare_rows_is_kept(tokenizer, tmp_path):
    net = encoder(tokenizer, vocab=tokenizer.vocab + 7)
    for target in TARGETS:
        export(net, tokenizer, target, tmp_path / target)
        assert space_of(imported(tmp_path / target)[0]) == space_of(net)


def test_every_parameter_has_a_place_of_its_own(tokenizer):
    names = list(encoder(tokenizer, bias=True).state_dict())
    for target in TARGETS:
        places = [place for name in names if target == "open_clip" or name != "bias"
                  for place in names_there(name, target)]  # fmt: skip
        assert len(places) == len(set(places)) >= len(names) - 1


# the default calls of other people's code


def long_text(tokens: int) -> str:
    return " ".join(["red"] * (tokens - 1))


def fitting(tokenizer):
    return [text for text in tiny_captions() if not tokenizer.count_cut([text])]


@pytest.mark.parametrize(
    "padding", [{"padding": True}, {"padding": "max_length"}, {"padding": "max_length", "max_length": 77}]
)
@torch.inference_mode()
def test_clip_model_and_processor_give_our_embeddings(exported, tokenizer, padding):
    """With the padding of every caller; texts longer than those of training are read, too, up to 77 tokens."""
    from transformers import CLIPModel, CLIPProcessor

    root, net, _ = exported
    processor = CLIPProcessor.from_pretrained(root / "transformers")
    model, texts = CLIPModel.from_pretrained(root / "transformers").eval(), fitting(tokenizer)
    images = [to_pil(one[None])[0] for one in pictures()]
    out = model(**processor(text=texts, images=images, return_tensors="pt", **padding))
    own = net.embed_text(torch.from_numpy(tokenizer.encode(texts)))
    torch.testing.assert_close(F.normalize(out.text_embeds, dim=-1), own, atol=1e-5, rtol=0)
    seen = net.embed_image(
        to_float(torch.stack([torch.from_numpy(np.array(one)) for one in images]).permute(0, 3, 1, 2))
    )
    torch.testing.assert_close(F.normalize(out.image_embeds, dim=-1), seen, atol=1e-5, rtol=0)
    assert processor.tokenizer.model_max_length == 77 > tokenizer.context
    out = model(**processor(text=[long_text(77), "red"], images=images, return_tensors="pt", **padding))
    assert out.logits_per_image.shape == (3, 2) and out.logits_per_image.isfinite().all()


@pytest.mark.parametrize("target", TARGETS)
def test_a_context_of_77_or_more_is_kept(target, tmp_path):
    words = Tokenizer.train(tiny_captions(), context=80)
    assert max(export(encoder(words), words, target, tmp_path / target).values()) < 1e-5
    assert imported(tmp_path / target)[0].context == 80


def test_the_zero_shot_pipeline_works_with_its_own_template(exported):
    from transformers import pipeline

    classify = pipeline("zero-shot-image-classification", model=str(exported[0] / "transformers"))
    found = classify(to_pil(pictures(1))[0], candidate_labels=["red circle", "blue square", "a " + long_text(30)])
    assert len(found) == 3 and sum(one["score"] for one in found) == pytest.approx(1)


@torch.inference_mode()
def test_open_clip_pads_to_77_tokens(exported, tokenizer):
    import open_clip

    root, net, _ = exported
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{root / 'open_clip'}")
    words, texts = open_clip.get_tokenizer(f"local-dir:{root / 'open_clip'}"), fitting(tokenizer)
    assert words(texts).shape[1] == 77
    own = net.embed_text(torch.from_numpy(tokenizer.encode(texts)))
    torch.testing.assert_close(model.eval().encode_text(words(texts), normalize=True), own, atol=1e-5, rtol=0)


@pytest.mark.parametrize("target", TARGETS)
def test_the_card_says_how_to_use_it_and_its_code_treats_alpha_as_training_does(tokenizer, target, tmp_path, capsys):
    """A transparent image classified by the code of the card has our scores; without it, alpha is dropped."""
    from condgen.data.sources.images import open_image

    net, folder = encoder(tokenizer), tmp_path / "out"
    reading = {"templates": ["a small {}"], "background": [255, 255, 255]}
    facts = {"name": "tiny", "data": "drawn", "licence": "MIT, as its images", "reading": reading}
    export(net, tokenizer, target, folder, facts)
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "mit" and head["library_name"] == target and "MIT, as its images" in card
    assert head["pipeline_tag"] == "zero-shot-image-classification" and "`a small {}`" in card
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    code = card.split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code.replace("FOLDER", str(folder)).replace("image.png", str(tmp_path / "image.png")), names)
    own = open_image(tmp_path / "image.png")
    assert (np.array(names["opaque"](Image.open(tmp_path / "image.png"))) == np.array(own)).all()
    with torch.inference_mode():
        image = net.embed_image(to_float(torch.from_numpy(np.array(own))[None].permute(0, 3, 1, 2)))
        texts = net.embed_text(torch.from_numpy(tokenizer.encode(["a small dog", "a small cat"])))
    scores = (image @ texts.T)[0]
    shown = capsys.readouterr().out
    if target == "transformers":
        found = {one["label"]: one["score"] for one in ast.literal_eval(shown.strip().splitlines()[-1])}
        assert [found[name] for name in ("dog", "cat")] == pytest.approx(
            (net.scale.item() * scores).softmax(0).tolist(), abs=1e-4
        )
    else:
        found = torch.tensor([float(one) for one in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", shown)])
        torch.testing.assert_close(found, scores, atol=1e-3, rtol=0)


def test_a_model_without_facts_names_no_licence_of_its_own(exported):
    for target in TARGETS:
        card = (exported[0] / target / "README.md").read_text()
        assert "license: other" in card and "name it here before you share" in card and "alpha" in card


# the tokenizer


@pytest.fixture(scope="module")
def both(tokenizer, tmp_path_factory):
    """The tokenizer as transformers and as open_clip read it."""
    import open_clip
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(tokenizer, folder)
    theirs = open_clip.tokenizer.HFTokenizer(str(folder), context_length=tokenizer.context)
    return AutoTokenizer.from_pretrained(folder), theirs


def told(tokenizer, texts):
    """Our ids, with the end mark where the libraries have it."""
    ids = torch.from_numpy(tokenizer.encode(texts))
    last = tokenizer.vocab - 1
    return torch.where(ids == END, last, torch.where(ids == last, END, ids))


def by_transformers(fast, tokenizer, texts):
    return fast(texts, padding="max_length", truncation=True, max_length=tokenizer.context,
                return_tensors="pt").input_ids  # fmt: skip


ODD = [
    "A RED\n circle ", "ﬁne ２ cats", "<end> red <pad>", "＜end＞ a", "red\x00circle\u200b!", "", "it's 3.5, ok?",
    "ÀÉÎ", " ".join(["red circle"] * 50),
]  # fmt: skip


def test_both_libraries_read_the_same_ids(tokenizer, both):
    fast, theirs = both
    texts = [*tiny_captions(), *made.TEXTS, *ODD]
    own = told(tokenizer, texts)
    assert torch.equal(by_transformers(fast, tokenizer, texts), own)
    assert torch.equal(theirs(texts), own)
    assert fast.eos_token_id == tokenizer.vocab - 1 and fast.pad_token_id == 0


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cn", "Co", "Cs"), exclude_characters="Σ")))
def test_transformers_reads_any_text_alike(tokenizer, both, text):
    """All but the capital sigma, which is small in two ways, and code points that no table has yet."""
    assert torch.equal(by_transformers(both[0], tokenizer, [text]), told(tokenizer, [text]))


def test_where_open_clip_cleans_more(tokenizer, both):
    """It mends texts before its tokenizer sees them: entities of HTML, and curly quotes."""
    for text, plain in (("red &amp; blue", "red & blue"), ("it’s red", "it's red")):
        assert torch.equal(both[1]([text]), told(tokenizer, [plain]))


# what is wrapped, and what is refused


def test_what_is_not_ours_is_wrapped(tmp_path):
    made.write_clip(tmp_path / "clip")
    net, _, why = imported(tmp_path / "clip")
    assert type(net).__name__ == "OfTransformers" and "tokenizer" in why
    made.write_open_clip(tmp_path / "open_clip")
    assert type(imported(tmp_path / "open_clip")[0]).__name__ == "OpenClip"


def test_other_activations_are_wrapped(exported, tmp_path):
    """Towers of the same shape that compute something else."""
    import shutil

    shutil.copytree(exported[0] / "transformers", tmp_path / "quick")
    path = tmp_path / "quick" / "config.json"
    path.write_text(path.read_text().replace('"gelu"', '"quick_gelu"'))
    net, _, why = imported(tmp_path / "quick")
    assert type(net).__name__ == "OfTransformers" and "other vectors" in why


@pytest.mark.parametrize("kind", TARGETS)
def test_a_model_of_a_library_goes_back_to_it(kind, tmp_path):
    {"open_clip": made.write_open_clip, "transformers": made.write_clip}[kind](tmp_path / "from")
    net, tokenizer = open_encoder(tmp_path / "from")
    assert max(export(net, tokenizer, kind, tmp_path / "to").values()) < 1e-5
    assert space_of(open_encoder(tmp_path / "to")[0]) == space_of(net)
    other = TARGETS[1 - TARGETS.index(kind)]
    with pytest.raises(CondgenError, match="no counterpart"):
        export(net, tokenizer, other, tmp_path / "other")


@pytest.mark.parametrize(
    "more, match",
    [
        ({"image": "resnet"}, "image tower is `resnet`.*condgen train clip --size patch"),
        ({"text": "words"}, "text tower `words`"),
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_towers_without_a_counterpart_are_refused(tokenizer, target, more, match, tmp_path):
    with pytest.raises(CondgenError, match=match):
        export(encoder(tokenizer, **more), tokenizer, target, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_difference_is_refused_and_leaves_nothing(tokenizer, tmp_path, monkeypatch):
    import condgen.encoders.interop.convert as conversion

    monkeypatch.setattr(conversion, "names_there", lambda name, target: [
        place.replace("ln_1", "ln_9").replace("ln_2", "ln_1").replace("ln_9", "ln_2")
        for place in names_there(name, target)
    ])  # fmt: skip
    with pytest.raises(CondgenError, match="other vectors"):
        export(encoder(tokenizer), tokenizer, "open_clip", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tokenizer, tmp_path):
    with pytest.raises(CondgenError, match="exists"):
        export(encoder(tokenizer), tokenizer, "open_clip", tmp_path)
    with pytest.raises(CondgenError, match="open_clip or transformers, got 'onnx'"):
        export(encoder(tokenizer), tokenizer, "onnx", tmp_path / "out")
    with pytest.raises(CondgenError, match="no folder"):
        imported(tmp_path / "nowhere")
    with pytest.raises(CondgenError, match=r"config\.json"):
        imported(tmp_path)
