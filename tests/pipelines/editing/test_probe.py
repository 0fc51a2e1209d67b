"""Probing: components against scikit-learn, exact last reconstruction, texts and priors, what is refused."""

import json

import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from condgen.contracts import CondgenError
from condgen.pipelines.base import generator
from condgen.pipelines.editing.base import Editor, InputImage
from condgen.pipelines.editing.probe import Components, doubling, known_prompts, nearest
from tests.pipelines.editing.test_vary import picked, with_decoder
from tests.tiny import tiny_images, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def found(model):
    return model.probe(picked(1)[0], steps=2)


def embeddings(n: int = 60, dim: int = 16) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(n, dim, generator=rng) * torch.linspace(0.2, 2, dim)
    return torch.nn.functional.normalize(rows @ torch.randn(dim, dim, generator=rng) + 3, dim=1)


def test_components_are_those_of_scikit_learn():
    rows, (own,) = embeddings(), embeddings(1)
    ours = Components.fit(rows)
    for k in (1, 3, 16):
        theirs = PCA(k).fit(rows.double().numpy())
        expected = theirs.inverse_transform(theirs.transform(own[None].double().numpy()))[0]
        torch.testing.assert_close(ours.project(own, k).double(), torch.from_numpy(expected), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(ours.share[:k], torch.from_numpy(theirs.explained_variance_ratio_).double())
    assert abs(ours.share.sum() - 1) < 1e-9
    errors = [(ours.project(own, k) - own).norm() for k in range(17)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-5


def test_numbers_of_components_double():
    assert doubling(16) == [1, 2, 4, 8, 16] and doubling(20) == [1, 2, 4, 8, 16, 20] and doubling(1) == [1]


def test_all_components_are_the_own_embedding_and_every_image_replays(model, found):
    image = InputImage.read(model, picked(1)[0])
    last = found.reconstructions[-1]
    z = Editor(model).z_of(image, generator(0), {})
    assert last.recipe["dims"] == 16 and last.recipe["z"] == z.tolist() and found.cosines[-1] > 1 - 1e-6
    assert [one.recipe["dims"] for one in found.reconstructions] == [1, 2, 4, 8, 16]
    assert found.explained == sorted(found.explained) and abs(found.explained[-1] - 1) < 1e-6
    for one in [*found.reconstructions, *found.drawn]:
        assert model.replay(one.recipe).png() == one.png()


def test_the_nearest_texts_are_those_of_an_exhaustive_search(model, found):
    texts = ["a red circle", "two blue squares", "a large pink cross"]
    own = Editor(model).embed(InputImage.read(model, picked(1)[0]))
    scores = {text: (model.embed_text([text]).embed[0] @ own).item() for text in texts}
    listed = nearest(model, own, texts, n=2)
    assert [text for text, _ in listed] == sorted(texts, key=lambda text: -scores[text])[:2]
    assert all(abs(score - scores[text]) < 1e-5 for text, score in listed)
    again = model.probe(picked(1)[0], embeddings(), texts, steps=2)
    assert {text for text, _ in again.captions} == set(texts) and again.embeddings == 60
    assert {one.recipe["prior"] for one in again.drawn} == {*model.priors, "none"}
    assert {word for word, _ in found.words} <= model.tokenizer.words


def test_known_prompts_are_examples_and_mixtures_of_them(model):
    twin = tiny_model()
    twin.about["examples"] = examples = ["a red circle", "two blue squares above a cross", "the green cross"]
    prompts = known_prompts(twin, 20)
    assert prompts[:3] == examples and len(set(prompts)) == len(prompts) == 9  # 2 * 2 * 2 of three words, 1 of six
    assert "the red cross" in prompts and prompts == known_prompts(twin, 20)
    assert set(known_prompts(model)) <= model.tokenizer.words  # without examples, its words


@pytest.mark.parametrize("kind", ["diffusion", "cgan"])
def test_a_model_without_words_is_probed_by_components_alone(kind):
    found = tiny_images(kind).probe(picked(1)[0])
    assert len(found.reconstructions) == 5 and found.embeddings == 512
    assert found.captions == found.words == found.drawn == []


def test_a_decoder_of_one_pass_is_probed():
    assert len(with_decoder("cvae").probe(picked(1)[0]).reconstructions) == 5


@pytest.mark.parametrize("embeds", [embeddings(1), embeddings(5, 8), torch.zeros(16)])
def test_embeddings_that_have_no_components_are_refused(model, embeds):
    with pytest.raises(CondgenError):
        model.probe(picked(1)[0], embeds, ["a red circle"])


@pytest.mark.parametrize("dims", [0, 17, "x", None, 1.5, True])
def test_a_damaged_recipe_is_refused(model, found, dims):
    with pytest.raises(CondgenError, match="of 16 dimensions"):
        model.replay(found.reconstructions[0].recipe | {"dims": dims})


def test_the_command_prints_json_and_writes_a_sheet(condgen, tmp_path):
    picked(1)[0].save(tmp_path / "a.png")
    (tmp_path / "data").mkdir()
    for k, image in enumerate(picked(3)):
        image.save(tmp_path / "data" / f"{k}.png")
    code, out, err = condgen("probe", "a.png", "--model", "tiny", "--steps", 2, "--data", "data", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["embeddings"] == 3 and [row["dims"] for row in result["components"]] == [1, 2, 4, 8, 16]
    assert all((tmp_path / row["path"]).is_file() for row in [*result["components"], *result["priors"]])
    assert Image.open(tmp_path / "out" / "grid.png").width > 6 * 160
    code, _, err = condgen("probe", "missing.png", "--model", "tiny")
    assert code == 2 and "missing.png" in err and "Traceback" not in err
