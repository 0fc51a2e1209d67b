"""Evaluation of representations: of known features (labels, noise, pixels), and of networks of every kind."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from condgen.baselines.autoencoders import Autoencoder, AutoencoderConfig
from condgen.baselines.gans import Gan, GanConfig, GanCritic
from condgen.baselines.pca import PrincipalComponents
from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float
from condgen.decoders.cgan import CganObjective, CganTraining
from condgen.encoders.backbones import Backbone, BackboneConfig
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.tokenizer import Tokenizer
from condgen.evaluation import evaluate, markdown
from condgen.evaluation.embedding_plot import plot_embedding
from condgen.evaluation.features import FeatureExtractor, extract, feature_extractor, rows_of
from condgen.evaluation.finetune import finetune, some_of
from condgen.evaluation.options import RepresentationOptions
from condgen.evaluation.representations import ClassEvaluation, evaluate_representations
from condgen.metrics.probes import linear_probe
from condgen.nn.conditioning import DecoderObjective
from condgen.nn.specs import EncoderSpec, ImageSpec
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.pipelines.latent import LatentModel
from condgen.training import checkpoint
from tests.evaluation.models import digits
from tests.test_errors import refused
from tests.tiny import tiny_labels, tiny_model

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAIN, TEST = digits(slice(0, 1400)), digits(slice(1400, None))


def tiny_encoder(seed: int = 0, name: str = "tinysee") -> ImageEncoder:
    """An untrained backbone for images of 8 x 8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageEncoder(
            Backbone(BackboneConfig(width=8, depth=1, stages=2), EncoderSpec(8)), {"name": name}, "0" * 16
        )


def tiny_clip(size: int = 8) -> TextImageEncoder:
    """An untrained CLIP that has read the words for digits."""
    tokenizer = Tokenizer.train([f"a handwritten {word}" for word in WORDS] + ["the red digit number"])
    shape = {"vocab": tokenizer.vocab, "context": tokenizer.context, "embed_dim": 8, "text_width": 16, "heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = CLIP(
            CLIPConfig(image="resnet", image_width=8, depth=1, stages=2, text="clip", **shape), EncoderSpec(size)
        )
    return TextImageEncoder(net, tokenizer, {"name": "tinyclip"}, "1" * 16)


class Knows(TextImageEncoder):
    """Puts every digit and the words for it where the mean image of that digit lies."""

    def __init__(self):
        own = tiny_clip()
        super().__init__(own.net, own.tokenizer, {"name": "knows"}, "2" * 16)
        pixels = to_float(TRAIN.images).flatten(1)
        means = torch.stack([pixels[torch.from_numpy(TRAIN.labels) == k].mean(0) for k in range(10)])
        self.middle = means.mean(0)
        self.means = F.normalize(means - self.middle, dim=1)

    def embed_image(self, images):
        return F.normalize(images.mean(1).flatten(1) - self.middle, dim=1)

    def embed_text(self, texts):
        return self.means[[next(k for k, word in enumerate(WORDS) if word in text) for text in texts]]


class Noise(FeatureExtractor):
    """Numbers that have nothing to do with the images."""

    def forward(self, images):
        return torch.randn(len(images), 6)


@pytest.fixture
def models(tmp_path):
    """A folder with both tiny encoders."""
    tiny_encoder().save(tmp_path / "see")
    tiny_clip().save(tmp_path / "clip")
    return tmp_path


# Feature extractors ---------------------------------------------------------------------------------------------------


def test_every_kind_of_model_has_its_features():
    images = to_float(TRAIN.images[:5])
    rgb = images.expand(-1, 3, -1, -1)
    encoder, clip, cvae = tiny_encoder(), tiny_clip(), tiny_labels("cvae")
    assert torch.equal(feature_extractor(encoder)(rgb), encoder.net(rgb))
    assert torch.equal(feature_extractor(clip)(rgb), clip.net.features(rgb))
    assert torch.equal(feature_extractor(clip.net)(rgb), clip.net.features(rgb))
    assert feature_extractor(cvae)(images).shape == (5, cvae.decoder.config.latent)
    whole = tiny_model()
    wide = torch.zeros(2, 3, 32, 32)
    assert torch.equal(feature_extractor(whole)(wide), whole.clip.features(wide))
    assert torch.equal(rows_of([encoder])[0][-1].extractor(images).flatten(1), images.flatten(1))
    with pytest.raises(CondgenError, match="diffusion"):
        feature_extractor(tiny_labels("diffusion"))


def test_the_posterior_gets_no_label():
    """Else the label would be read off its features, and not the image."""
    model = tiny_labels("cvae")
    targets = torch.zeros(4, 3)
    nothing = model.decoder.cond_encoder({"targets": targets, "has_targets": torch.zeros(4, 3, dtype=torch.bool)})
    images = to_float(TRAIN.images[:4])
    assert torch.equal(feature_extractor(model)(images), model.decoder.encoder(images, nothing)[0])


def test_the_critic_of_a_gan_comes_from_its_run(tmp_path):
    model = tiny_labels("cgan")
    torch.manual_seed(3)
    training = CganTraining(model.decoder, CganObjective(), DecoderObjective())
    model.save(tmp_path / "model")
    with pytest.raises(CondgenError, match="folder of the run"):
        feature_extractor(model)
    model = ClassToImage.load(tmp_path / "model")
    model.path = tmp_path / "model"
    with pytest.raises(CondgenError, match="folder of the run"):
        feature_extractor(model)
    state = training.state_dict() | {"decoder.generator.out.bias": torch.full((4,), 7.0)}
    checkpoint.save(tmp_path / "checkpoints" / "decoder", 5, {"model": state}, {}, {})
    images = to_float(TRAIN.images[:4])
    extractor = feature_extractor(model)
    assert not (model.decoder.generator.out.bias == 7).any(), "what paints is as it was"
    phi = training.critic.phi(images, 0.0)
    assert torch.equal(extractor(images), phi) and phi.std() > 0
    match = torch.randn(4, phi.shape[1])
    expected = training.critic.real(phi)[:, 0] + (phi * match).sum(1) / math.sqrt(phi.shape[1])
    assert torch.equal(training.critic(images, match, 0.0), expected)
    assert not torch.equal(extractor.untrained()(images), phi) and extractor.untrained()(images).shape == phi.shape
    other = tiny_labels("cgan", attributes=tiny_labels().attributes[:1])
    other.path = model.path
    with pytest.raises(CondgenError, match="another network"):
        feature_extractor(other)


def test_the_control_is_the_same_architecture_and_knows_nothing_of_the_training():
    own, other = tiny_encoder(1), tiny_encoder(2)
    images = to_float(TRAIN.images[:3]).expand(-1, 3, -1, -1)
    before = feature_extractor(own)(images)
    first, second = feature_extractor(own).untrained(), feature_extractor(other).untrained()
    assert torch.equal(first(images), second(images)) and not torch.equal(first(images), before)
    assert torch.equal(feature_extractor(own)(images), before), "the trained network is as it was"


def test_who_brings_trained_weights_has_no_control():
    class Stubborn(Backbone):
        def __init__(self, config, spec):
            super().__init__(config, spec)
            self.load_state_dict(tiny_encoder().net.state_dict())

    rows, notes = rows_of([ImageEncoder(Stubborn(tiny_encoder().net.config, EncoderSpec(8)), {"name": "stubborn"})])
    assert [row.name for row in rows] == ["stubborn", "raw pixels"] and "stubborn" in notes[0]


def test_rows_have_one_control_for_each_architecture():
    rows, notes = rows_of([tiny_encoder(), tiny_encoder(1), tiny_clip()])
    names = [row.name for row in rows]
    assert names[:3] == ["tinysee", f"tinysee ({'0' * 8})", "tinyclip"] and not notes
    assert names[3:] == ["random network (tinysee)", "random network (tinyclip)", "raw pixels"]
    assert [bool(row.encoder) for row in rows] == [False, False, True, False, True, False]


def test_features_that_are_no_numbers_are_refused():
    encoder = tiny_encoder()
    encoder.net.body.stem.weight.data.fill_(math.nan)
    with pytest.raises(CondgenError, match="finite"):
        extract(feature_extractor(encoder), np.repeat(TRAIN.images[:3], 3, 1))


# Numbers --------------------------------------------------------------------------------------------------------------


def evaluated(model, *others, images=0):
    return evaluate_representations(
        model, RepresentationOptions(data="digits", finetune_images=images, compare_with=others)
    )


def test_pixels_are_evaluated_as_scikit_learn_judges_them():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from condgen.data.sources.labels import open_labelled

    train, test = (open_labelled("digits", 8, 1, split=split) for split in ("train", "test"))
    scale = StandardScaler().fit(train.images.reshape(len(train), -1) / 127.5)
    x, asked = (scale.transform(data.images.reshape(len(data), -1) / 127.5) for data in (train, test))
    report = evaluated(tiny_encoder()).report
    line = report["features"]["raw pixels"]
    other = LogisticRegression(C=1 / (line["penalty"] * len(x)), max_iter=2000).fit(x, train.labels)
    assert line["linear probe"] == pytest.approx(other.score(asked, test.labels), abs=0.012)
    assert report["counts"]["training images"] == len(train) and report["counts"]["test images"] == len(test)
    by_class = [line["raw pixels"] for line in report["linear_probe_by_class"].values()]
    counts = np.bincount(test.labels)
    assert np.dot(by_class, counts) / len(test) == pytest.approx(line["linear probe"])


@pytest.mark.filterwarnings("ignore:.*not read")
def test_zero_shot_needs_a_text_encoder():
    found = evaluated(Knows(), tiny_encoder())
    report = found.report
    table = report["features"]
    assert table["knows"]["zero-shot"] > 0.8 > 0.3 > table["random network (knows)"]["zero-shot"]
    assert "zero-shot" not in table["tinysee"] and "zero-shot" not in table["raw pixels"]
    assert table["majority class"]["zero-shot"] < 0.2 and len(report["templates"]) >= 5
    knows = Knows()
    for data, templates in (("digits", ["a handwritten {}"]), ("emoji", report["templates"])):
        knows.about |= {"data": data, "reading": {"templates": ["a handwritten {}"]}}
        options = RepresentationOptions(data="digits", finetune_images=0)
        by_class = ClassEvaluation(rows_of([knows])[0], options, lambda *_: None, "cpu")
        assert by_class.templates == templates, "those of the training, where it was on these data"
    assert found.figures["space"].startswith(b"\x89PNG")


def test_noise_is_at_chance(monkeypatch):
    torch.manual_seed(0)
    encoder = tiny_encoder()
    monkeypatch.setattr("condgen.evaluation.features.feature_extractor", lambda model: Noise(8, 1, None))
    report = evaluated(encoder).report
    line, chance = report["features"]["tinysee"], report["features"]["majority class"]["kNN"]
    error = report["counts"]["standard error, at most"]
    assert max(line["kNN"], line["linear probe"]) < chance + 4 * error
    assert report["features"]["raw pixels"]["kNN"] > 0.85


def test_some_labels_are_some_of_every_class():
    labels = np.repeat(np.arange(4), (100, 50, 3, 1))
    rows = some_of(labels, 0.1, 0)
    assert np.bincount(labels[rows]).tolist() == [10, 5, 1, 1] and (np.diff(rows) > 0).all()
    assert not np.array_equal(rows, some_of(labels, 0.1, 1)) and len(some_of(labels, 1.0, 0)) == len(labels)


def test_training_on_labels_helps_and_leaves_the_encoder_alone():
    extractor = feature_extractor(tiny_encoder())
    train, test = ((np.repeat(data.images, 3, 1), data.labels) for data in (TRAIN, TEST))
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    seen, asked = extract(extractor, train[0]), extract(extractor, test[0])
    probe = linear_probe(seen, torch.from_numpy(train[1]), 10)
    frozen = (probe(asked).numpy() == test[1]).mean()
    counted = []
    trained = finetune(extractor, probe, train, test, 6400, done=counted.append)
    assert trained > frozen + 0.1 and sum(counted) == 6400
    assert all(torch.equal(value, before[name]) for name, value in extractor.state_dict().items())
    assert finetune(extractor, probe, train, test, 640) == finetune(extractor, probe, train, test, 640)


def test_only_what_makes_features_is_trained():
    from condgen.evaluation.finetune import FineTuning
    from condgen.metrics.probes import Probe

    extractor = feature_extractor(tiny_clip())
    width = extractor(torch.zeros(1, 3, 8, 8)).shape[1]
    training = FineTuning(extractor, Probe(torch.randn(10, width), torch.zeros(10), 1.0, {}), torch.zeros(2, 3, 8, 8))
    trained = {name for name, own in training.named_parameters() if own.requires_grad}
    assert "head.weight" in trained and any("backbone" in name for name in trained)
    assert not any("text" in name or "log_scale" in name or "image.out" in name for name in trained)


def test_a_space_is_drawn_whatever_the_features():
    images = TEST.images[:40]
    collapsed = plot_embedding(torch.ones(40, 5), images)
    small = plot_embedding(torch.randn(5, 3), np.repeat(images[:5], 3, 1), TEST.labels[:5], WORDS)
    for png in (collapsed, small):
        picture = Image.open(io.BytesIO(png))
        assert picture.width > 2000 and len(picture.resize((50, 50)).getcolors(2500)) > 3


# The command ----------------------------------------------------------------------------------------------------------


def test_an_encoder_is_evaluated_by_the_command(condgen, models):
    flags = ("--data", "digits", "--finetune-images", 128, "--train-images", 400, "--seeds", 2)
    code, out, _ = condgen(
        "evaluate", models / "clip", "--compare-with", models / "see", *flags, "-o", "report", "--json"
    )
    report = json.loads(out)
    assert code == 0 and report["kind"] == "representations" and report["counts"]["training images"] == 400
    rows = ["tinyclip", "tinysee", "random network (tinyclip)", "random network (tinysee)", "raw pixels"]
    assert [*report["features"]] == [*rows, "majority class"] and [*report["collapse"]] == rows
    assert report["features"]["raw pixels"]["kNN"] > 0.8
    assert set(report["fine_tuning"]) == {"1% of the labels", "10% of the labels", "100% of the labels"}
    line = report["fine_tuning"]["10% of the labels"]["tinyclip"]
    assert line["N"] == 40 and line["seeds"] == 2 and {"frozen", "trained", "sd trained"} <= set(line)
    assert "trained" not in report["fine_tuning"]["100% of the labels"]["raw pixels"]
    assert json.loads(Path("report/report.json").read_text()) == report
    text = Path("report/report.md").read_text()
    assert "## features" in text and "### 10% of the labels" in text and markdown(report) == text
    assert Image.open("report/space.png").width > 2000


def test_what_generates_is_evaluated_by_its_features_where_that_is_asked(condgen, models):
    tiny_labels("cvae", attributes=tiny_labels().attributes[:1]).save("vae")
    code, out, _ = condgen("evaluate", "vae", "--features", "--data", "digits", "--finetune-images", 0, "--json")
    report = json.loads(out)
    assert code == 0 and "fine_tuning" not in report
    assert [*report["features"]] == ["shoes", "random network (shoes)", "raw pixels", "majority class"]
    assert report["features"]["raw pixels"]["kNN"] > 0.9


@pytest.fixture
def captioned(tmp_path):
    """A folder of images in four colours, each with its caption, and a class."""
    lines = ["file_name,text,kind,split"]
    colours = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "white": (250, 250, 250)}
    for i in range(40):
        word = [*colours][i % 4]
        Image.new("RGB", (8, 8), colours[word]).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,a {word} digit,{word},{'test' if i >= 20 else 'train'}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    return tmp_path


def test_captioned_images_are_looked_for(condgen, models, captioned):
    code, out, err = condgen("evaluate", models / "clip", "--data", captioned, "-o", "report", "--json")
    report = json.loads(out)
    assert code == 0 and report["counts"] == {"test images": 20, "texts": 4}
    both = report["retrieval"]
    line = both["tinyclip: text to image"]
    assert line["chance R@1"] == pytest.approx(0.25) and line["images"] == 20
    assert both["tinyclip: image to text"]["R@5"] is None, "four texts are within five"
    assert set(both) == {f"{n}: {way}" for n in ("tinyclip", "random network (tinyclip)")
                         for way in ("text to image", "image to text")}  # fmt: skip
    assert "alignment of image and text" in report["collapse"]["tinyclip"]
    assert "not read: " in err and "green" in err
    assert all((Image.open(f"report/{name}.png").width > 100) for name in ("sheet", "space"))


def test_captions_and_classes_can_be_evaluated_together(condgen, models, captioned):
    flags = ("--data", captioned, "--label-column", "kind", "--caption-column", "text", "--finetune-images", 0)
    code, out, _ = condgen("evaluate", models / "clip", *flags, "--template", "a {} digit", "--json")
    report = json.loads(out)
    assert code == 0 and {"features", "retrieval"} <= set(report) and report["templates"] == ["a {} digit"]
    assert report["features"]["raw pixels"]["linear probe"] == 1


def test_what_cannot_be_evaluated_is_said(condgen, models, captioned):
    clip, see_ = models / "clip", models / "see"
    refused(condgen("evaluate", clip), "--data")
    refused(condgen("evaluate", "tiny", "--features"), "--data")
    refused(
        condgen("evaluate", see_, "--data", captioned, "--caption-column", "text"), "no text encoder", "--label-column"
    )
    refused(condgen("evaluate", see_, "--data", "nowhere"), "nowhere")
    refused(condgen("evaluate", clip, "--data", "digits", "--per-label", 5), "--per-label", "representations")
    refused(condgen("evaluate", "tiny", "--train-images", 5), "--train-images", "--features")
    refused(condgen("evaluate", "tiny", "--label-column", "kind"), "--label-column", "--features")
    refused(condgen("evaluate", clip, "--data", "digits", "--split", "train"), "--split train")
    refused(condgen("evaluate", clip, "--data", "digits", "--split", "all"), "--split all")
    refused(condgen("evaluate", clip, "--data", "digits", "--finetune-images", -1), "--finetune-images")
    refused(condgen("evaluate", clip, "--data", "digits", "--template", "a photo"), "template")
    refused(condgen("evaluate", clip, "--data", "nowhere"), "nowhere")
    refused(condgen("evaluate", clip, "--data", captioned, "--label-column", "colour"), "colour")


def test_python_judges_what_is_given():
    report = evaluate(tiny_encoder(), data="digits", train_images=200, finetune_images=0)
    assert report["model"] == "tinysee" and report["counts"]["training images"] == 200
    json.dumps(report)


@pytest.mark.filterwarnings("ignore:.*not read")
def test_an_encoder_of_another_library_has_its_control_too(tmp_path):
    pytest.importorskip("transformers")
    from tests.encoders.foreign_models import write_clip

    write_clip(tmp_path / "theirs")
    report = evaluate(str(tmp_path / "theirs"), data="digits", train_images=200, finetune_images=64)
    assert [*report["features"]][:3] == ["theirs", "random network (theirs)", "raw pixels"] and not report["notes"]
    table = report["features"]
    assert {"kNN", "linear probe", "zero-shot"} <= set(table["theirs"]) and table["theirs"]["linear probe"] > 0.3
    assert report["fine_tuning"]["100% of the labels"]["theirs"]["trained"] > 0.3


# Codes and critics ----------------------------------------------------------------------------------------------------


def tiny_code(body: str = "mlp", variational: bool = True) -> LatentModel:
    """An untrained autoencoder of digits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = AutoencoderConfig(body, latent=6, hidden=(16,), channels=(8,), variational=variational)
        return LatentModel(Autoencoder(shape, ImageSpec(8, 1)), {"name": "tinycode"}, "3" * 16)


def tiny_gan(body: str = "dcgan") -> LatentModel:
    """An untrained GAN of digits, with its critic."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = GanConfig(body=body, width=8, norm="batch")
        model = LatentModel(Gan(shape, ImageSpec(8, 1)), {"name": "tinygan"}, "4" * 16)
        model.critic = GanCritic(shape, ImageSpec(8, 1)).eval()
        return model


def test_the_features_of_an_autoencoder_are_its_codes():
    images = torch.from_numpy(TEST.images[:5])
    for model in (tiny_code("mlp"), tiny_code("conv", variational=False), tiny_code("linear", variational=False)):
        seen = extract(feature_extractor(model), images.numpy())
        assert torch.allclose(seen, model.encode(to_float(images)), atol=1e-6)


def test_the_features_of_a_gan_are_what_its_critic_judges_by():
    images = torch.from_numpy(TEST.images[:5])
    for body in ("dcgan", "mlp"):
        model = tiny_gan(body)
        seen = extract(feature_extractor(model), images.numpy())
        assert torch.allclose(model.critic.real(seen), model.critic(to_float(images))[:, :1], atol=1e-5)
    model.critic = None
    with pytest.raises(CondgenError, match="without its critic"):
        feature_extractor(model)


def test_principal_components_are_those_of_scikit_learn_and_what_a_linear_autoencoder_can_learn():
    from sklearn.decomposition import PCA

    pixels = to_float(torch.from_numpy(TRAIN.images)).flatten(1).numpy()
    theirs = PCA(6, svd_solver="full").fit(pixels)
    seen = PrincipalComponents(to_float(TRAIN.images), 6).encode(to_float(TEST.images)).numpy()
    expected = theirs.transform(to_float(torch.from_numpy(TEST.images)).flatten(1).numpy())
    assert np.abs(np.abs(seen) - np.abs(expected)).max() < 0.05  # signs are free
    assert np.abs(np.corrcoef(seen.T, expected.T)[:6, 6:]).diagonal() == pytest.approx(1, abs=1e-3)


def test_codes_are_evaluated_beside_pca_and_a_new_head_is_trained_on_them():
    report = evaluated(tiny_code(), tiny_gan(), images=128).report
    rows = ["tinycode", "tinygan", "random network (tinycode)", "random network (tinygan)", "raw pixels"]
    assert list(report["features"]) == [*rows, "PCA, 6 components", "majority class"]
    assert report["features"]["PCA, 6 components"]["linear probe"] > 0.75
    for shares in report["fine_tuning"].values():
        assert (
            "trained" in shares["tinycode"] and "trained" in shares["tinygan"] and "trained" not in shares["raw pixels"]
        )


def test_an_encoder_is_trained_with_its_head_and_its_decoder_left_alone():
    model = tiny_code()
    extractor = feature_extractor(model)
    before = {name: value.clone() for name, value in extractor.net.state_dict().items()}
    labels = torch.from_numpy(TRAIN.labels)
    probe = linear_probe(extract(extractor, TRAIN.images), labels, 10)
    frozen = (probe(extract(extractor, TEST.images)) == torch.from_numpy(TEST.labels)).double().mean().item()
    trained = finetune(extractor, probe, (TRAIN.images, TRAIN.labels), (TEST.images, TEST.labels), images=6400)
    assert trained > frozen
    assert all(torch.equal(value, before[name]) for name, value in extractor.net.state_dict().items())


def test_what_is_kept_on_disk_is_evaluated_by_the_command(condgen, tmp_path):
    tiny_code().save(tmp_path / "code")
    tiny_gan().save(tmp_path / "gan")
    flags = ("--features", "--data", "digits", "--train-images", 300, "--json")
    code, out, _ = condgen(
        "evaluate", tmp_path / "gan", "--compare-with", tmp_path / "code", *flags, "--finetune-images", 128
    )
    report = json.loads(out)
    assert code == 0 and report["collapse"]["tinygan"]["width"] > report["collapse"]["tinycode"]["width"] == 6
    everything = report["fine_tuning"]["100% of the labels"]
    for name in ("tinygan", "tinycode"):
        assert everything[name]["frozen"] == report["features"][name]["linear probe"] and "trained" in everything[name]
    code, out, _ = condgen("evaluate", tmp_path / "code", *flags, "--finetune-images", 0)
    again = json.loads(out)
    assert code == 0 and "fine_tuning" not in again and again["features"]["tinycode"] == report["features"]["tinycode"]
    without = tiny_gan()
    without.critic = None
    without.save(tmp_path / "blind")
    refused(condgen("evaluate", tmp_path / "blind", *flags), "without its critic")
