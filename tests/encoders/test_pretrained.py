"""Encoders of other libraries: the same vectors as the library gives, saved and opened again, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from condgen.contracts import CondgenError, Encoder
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.encoders.interop.freeze import freeze, tower_of
from condgen.encoders.interop.load import load_pair, open_encoder, save_pair, space_of, with_text
from condgen.nn.conditioning import PAD
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.encoder import TextImageEncoder
from tests.encoders import foreign_models as made

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
KINDS = ("clip", "siglip", "open_clip", "open_clip_bpe", "paired")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models of every kind, as their makers write them."""
    root = tmp_path_factory.mktemp("made")
    made.write_clip(root / "clip")
    made.write_siglip(root / "siglip")
    made.write_bert(root / "bert")
    made.write_open_clip(root / "open_clip")
    made.write_open_clip(root / "open_clip_bpe", own_tokenizer=False)
    return root


def opened(folders, kind):
    if kind == "paired":
        return with_text(open_encoder(folders / "clip")[0], f"transformers:{folders / 'bert'}")
    return open_encoder(folders / kind)


def pictures(n=3, size=made.SIZE):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def as_pil(image):
    return Image.fromarray(((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def vectors(out):
    """Newer versions of transformers put them into an object."""
    return getattr(out, "pooler_output", out)


def same_pixels(net, images, pixels):
    """Scaled and normalised as the library does; PIL rounds to whole numbers after each direction."""
    levels = (net.prepare(images) - pixels) * net.std * 255
    assert levels.abs().max() < (1e-3 if images.shape[-1] == made.SIZE else 1.5), levels.abs().max()


# the same as the library


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("size", [32, 48, 20])
def test_transformers_gives_the_same(folders, kind, size):
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    net, tokenizer = opened(folders, kind)
    model, words = AutoModel.from_pretrained(folders / kind), AutoTokenizer.from_pretrained(folders / kind)
    looks = AutoImageProcessor.from_pretrained(folders / kind)
    images = pictures(size=size)
    rounded = torch.stack([torch.from_numpy(np.array(as_pil(i))).permute(2, 0, 1) / 127.5 - 1 for i in images])
    told = words(made.TEXTS, padding="max_length", truncation=True, max_length=made.CONTEXT, return_tensors="pt")
    with torch.inference_mode():
        pixels = looks([as_pil(image) for image in images], return_tensors="pt").pixel_values
        image = F.normalize(vectors(model.get_image_features(pixel_values=pixels)), dim=-1)
        text = F.normalize(vectors(model.get_text_features(input_ids=told.input_ids)), dim=-1)
        tokens = torch.from_numpy(tokenizer.encode(made.TEXTS))
        torch.testing.assert_close(net.embed_text(tokens), text, atol=1e-6, rtol=0)
        if size == made.SIZE:
            torch.testing.assert_close(net.embed_image(rounded), image, atol=1e-6, rtol=0)
    same_pixels(net, rounded, pixels)


@pytest.mark.parametrize("kind", ["open_clip", "open_clip_bpe"])
@pytest.mark.parametrize("size", [32, 48, 20])
def test_open_clip_gives_the_same(folders, kind, size):
    import open_clip

    net, tokenizer = opened(folders, kind)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folders / kind}")
    words = open_clip.get_tokenizer(f"local-dir:{folders / kind}")
    images = pictures(size=size)
    rounded = torch.stack([torch.from_numpy(np.array(as_pil(i))).permute(2, 0, 1) / 127.5 - 1 for i in images])
    with torch.inference_mode():
        pixels = torch.stack([preprocess(as_pil(image)) for image in images])
        image = model.eval().encode_image(pixels, normalize=True)
        text = model.encode_text(words(made.TEXTS), normalize=True)
        tokens = torch.from_numpy(tokenizer.encode(made.TEXTS))
        torch.testing.assert_close(net.embed_text(tokens), text, atol=1e-6, rtol=0)
        if size == made.SIZE:
            torch.testing.assert_close(net.embed_image(rounded), image, atol=1e-6, rtol=0)
    same_pixels(net, rounded, pixels)


def test_a_text_tower_reads_the_mean_of_its_tokens(folders):
    from transformers import AutoModel, AutoTokenizer

    net, tokenizer = opened(folders, "paired")
    model, words = AutoModel.from_pretrained(folders / "bert"), AutoTokenizer.from_pretrained(folders / "bert")
    with torch.inference_mode():
        for text in made.TEXTS[:4]:
            alone = model.eval()(**words(text, return_tensors="pt")).last_hidden_state.mean(1)
            mine = net.embed_text(torch.from_numpy(tokenizer.encode([text])))
            torch.testing.assert_close(mine, F.normalize(net.text.out(alone), dim=-1), atol=1e-6, rtol=0)


# the contract


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_is_kept(folders, kind):
    net, tokenizer = opened(folders, kind)
    assert isinstance(net, Encoder) and net.resizes and not net.training
    c, tokens = net.config, tokenizer.encode(made.TEXTS)
    assert (c.size, c.embed_dim, c.vocab) == (made.SIZE, made.DIM, tokenizer.vocab) and c.context == tokenizer.context
    assert tokens.shape == (len(made.TEXTS), c.context) and tokens.max() < c.vocab and tokens.dtype == np.int64
    assert (tokens[3] == PAD).sum() > (tokens[0] == PAD).sum() > 0  # a short text is padded, and by our number
    assert tokenizer.encode([]).shape == (0, c.context)
    for size in (made.SIZE, 20):
        embed = net.embed_image(pictures(size=size))
        assert embed.shape == (3, c.embed_dim)
        torch.testing.assert_close(embed.norm(dim=1), torch.ones(3))
        features = net.features(pictures(size=size))
        assert features.shape[0] == 3 and features.ndim == 2 and features.isfinite().all()
    assert net.embed_text(torch.from_numpy(tokens)).shape == (len(made.TEXTS), c.embed_dim)


@pytest.mark.parametrize("kind", KINDS)
def test_many_images_are_as_few(folders, kind):
    net, _ = opened(folders, kind)
    images = pictures(70)
    with torch.no_grad():
        torch.testing.assert_close(net.embed_image(images)[65:], net.embed_image(images[65:]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_opened_it_is_the_same(folders, kind, tmp_path):
    """Bit for bit, in the same space; a second time, too, and the folder it came from is needed no more."""
    net, tokenizer = opened(folders, kind)
    for place in (tmp_path / "once", tmp_path / "twice"):
        save_pair(net, tokenizer, place)
        again, words = load_pair(place)
        assert space_of(again) == space_of(net) and again.config == net.config
        assert (words.encode(made.TEXTS) == tokenizer.encode(made.TEXTS)).all()
        with torch.inference_mode():
            assert torch.equal(again.embed_image(pictures()), net.embed_image(pictures()))
        net, tokenizer = again, words
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]


def test_it_is_an_encoder_in_use(folders, tmp_path):
    net, tokenizer = opened(folders, "open_clip")
    TextImageEncoder(net, tokenizer, {"name": "wrapped"}).save(tmp_path / "model")
    again = TextImageEncoder.load(tmp_path / "model")
    assert again.size == made.SIZE and again.embed_dim == made.DIM and again.space == space_of(net)
    assert again.embed_text(["a red circle"]).shape == (1, made.DIM)
    assert space_of(open_encoder(tmp_path / "model")[0]) == space_of(net)


def test_what_open_clip_saved_for_us_it_opens_itself(folders, tmp_path):
    import open_clip

    net, tokenizer = opened(folders, "open_clip")
    save_pair(net, tokenizer, tmp_path)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'clip'}")
    with torch.inference_mode():
        own = model.eval().encode_image(net.prepare(pictures()), normalize=True)
        torch.testing.assert_close(own, net.embed_image(pictures()), atol=1e-6, rtol=0)


# its tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_cut_where_it_says(folders, kind):
    _, tokenizer = opened(folders, kind)
    long = "a red circle and " * 60
    kept = tokenizer.cut(long)
    assert kept and long.startswith(kept) and tokenizer.cut(kept) is None and tokenizer.cut("a red circle") is None
    assert tokenizer.unseen("zebra") == []


@pytest.mark.parametrize("kind", KINDS)
def test_odd_texts_do_no_harm(folders, kind):
    _, tokenizer = opened(folders, kind)
    odd = ["\ud800 red\x00", "<stop> red <start>", "[SEP]", "<end_of_text>", "", "🦓" * 200]
    tokens = tokenizer.encode(odd)
    assert tokens.shape == (len(odd), tokenizer.context) and (tokens >= 0).all() and tokens.max() < tokenizer.vocab


# training


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_trained(folders, kind):
    net, tokenizer = opened(folders, kind)
    loss = "siglip" if net.bias is not None else "infonce"
    training = ClipTraining(net, ClipObjective(loss=loss, negatives=0, caption=0)).train()
    ids = torch.arange(3)
    batch = {"image": pictures(), "tokens": torch.from_numpy(tokenizer.encode(made.TEXTS[:3])), "text_id": ids,
             "true_ids": ids[:, None]}  # fmt: skip
    optimiser = torch.optim.Adam(training.parameters_of("clip"), 1e-3)
    losses = []
    for _ in range(5):
        loss = training.loss(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", [*KINDS, "ours"])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_locked_tower_stays(folders, kind, tower):
    if kind == "ours":
        net = CLIP(CLIPConfig(vocab=300, context=made.CONTEXT, embed_dim=16, image_width=8, text_width=16,
                              depth=1, heads=2, image="resnet", norm="batch"), EncoderSpec(32))  # fmt: skip
    else:
        net, _ = opened(folders, kind)
    training = ClipTraining(freeze(net, tower), ClipObjective(negatives=0, caption=0)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tokens = torch.randint(3, min(net.vocab, 100), (3, made.CONTEXT))
    ids = torch.arange(3)
    training.loss({"image": pictures(), "tokens": tokens, "text_id": ids, "true_ids": ids[:, None]})["loss"].backward()
    torch.optim.SGD(training.parameters_of("clip"), 1.0).step()
    changed = {tower_of(name) for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert tower not in changed and {"image", "text"} - {tower} <= changed


def test_both_towers_of_every_kind_are_distinguished(folders):
    for kind in KINDS:
        net, _ = opened(folders, kind)
        towers = [tower_of(name) for name, _ in net.named_parameters()]
        assert towers.count(None) == 1 + (net.bias is not None) and {"image", "text"} < set(towers)


# an architecture by name


def test_an_architecture_by_name_has_new_weights():
    torch.manual_seed(0)
    net, tokenizer = open_encoder("open_clip:ViT-S-32-alt")
    assert (net.size, net.embed_dim, net.context) == (224, 256, 77)
    assert tokenizer.encode(["a red circle"])[0, :4].tolist()[0] == 49407  # the start mark, one higher
    assert net.embed_image(pictures(1)).shape == (1, 256)


def test_a_timm_tower_can_be_saved(tmp_path):
    """A convolutional tower with batch norm, whose config asks for weights from the network."""
    plan = {"embed_dim": 16, "vision_cfg": {"timm_model_name": "resnet18", "timm_model_pretrained": True,
                                            "image_size": 32, "timm_pool": "", "timm_proj": "linear"},
            "text_cfg": {"width": 16, "heads": 2, "layers": 1, "context_length": 12}}  # fmt: skip
    import open_clip
    from safetensors.torch import save_file

    kept = json.loads(json.dumps(plan))
    plan["vision_cfg"] |= {"timm_pool": "avg", "timm_model_pretrained": False}
    kept["vision_cfg"]["timm_pool"] = "avg"
    model = open_clip.CLIP(**plan)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": kept}))
    net, tokenizer = open_encoder(tmp_path)
    assert net.features(pictures()).shape == (3, 512)
    save_pair(net, tokenizer, tmp_path / "again")
    assert space_of(load_pair(tmp_path / "again")[0]) == space_of(net)


def test_a_text_tower_inside_open_clip_is_carried_along(folders, tmp_path):
    """open_clip would ask the network for its description."""
    shutil.copytree(folders / "bert", tmp_path / "bert")
    made.write_open_clip(tmp_path / "model", bert=tmp_path / "bert")
    net, tokenizer = open_encoder(tmp_path / "model")
    save_pair(net, tokenizer, tmp_path / "saved")
    shutil.rmtree(tmp_path / "bert")
    again, words = load_pair(tmp_path / "saved")
    assert space_of(again) == space_of(net) and (words.encode(made.TEXTS) == tokenizer.encode(made.TEXTS)).all()
    refused(tmp_path / "model", r"whose description is not here.*config\.json")


# what is refused


def refused(name, match):
    with pytest.raises(CondgenError, match=match) as error:
        open_encoder(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["clip", "siglip", "open_clip", "paired"])
@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "none", "cut"])
def test_weights_that_do_not_fit_are_named(folders, kind, fault, tmp_path):
    from safetensors.torch import load_file, save_file

    net, tokenizer = opened(folders, kind)
    save_pair(net, tokenizer, tmp_path)
    path = tmp_path / "clip" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if "mlp" in name)
    if fault == "missing":
        del tensors[name]
    elif fault == "extra":
        name = "spare"
        tensors[name] = torch.zeros(2)
    elif fault == "shape":
        tensors[name] = torch.zeros(2)
    save_file(tensors, path, {"format": "pt"})
    if fault == "none":
        path.rename(path.with_suffix(".bin"))
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CondgenError, match=name if fault in ("missing", "extra", "shape") else str(tmp_path)) as error:
        load_pair(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, match",
    [
        ("open_clip:ViT-B-33", "no architecture 'ViT-B-33'.*Did you mean ViT-B-32"),
        ("open_clip:ViT-B-16-SigLIP", "cannot be used"),
        ("local-dir:nowhere", "no folder 'nowhere'"),
        ("local-dir:", "no folder ''"),
        ("transformers:nowhere", "no folder 'nowhere'"),
        ("hf-hub:nobody", "OWNER/NAME"),
        ("hf-hub:condgen-test/nothing", "could not be fetched.*Without a network"),
        ("a-model-that-nobody-has", "no model 'a-model-that-nobody-has'"),
    ],
)
def test_what_is_not_there_is_said(name, match, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    refused(name, match)


def test_wrong_folders_are_refused(folders, tmp_path):
    refused(f"local-dir:{tmp_path}", "holds no encoder")
    refused(f"transformers:{folders / 'bert'}", "'bert', which does not embed both")
    (tmp_path / "config.json").write_text("{}")
    refused(f"transformers:{tmp_path}", "holds no encoder")
    with pytest.raises(CondgenError, match="no folder 'nowhere'"):
        with_text(open_encoder(folders / "clip")[0], "transformers:nowhere")
    (tmp_path / "config.json").write_text("[")
    refused(f"transformers:{tmp_path}", "not JSON")


def test_the_hub_is_asked_for_no_pickle(folders, monkeypatch):
    import huggingface_hub

    asked = []

    def download(repo, allow_patterns):
        asked.extend(allow_patterns)
        return str(folders / "open_clip")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    net, _ = open_encoder("hf-hub:somebody/tiny")
    assert space_of(net) == space_of(opened(folders, "open_clip")[0])
    assert not [pattern for pattern in asked if pattern.endswith((".bin", ".pt", "*"))]
