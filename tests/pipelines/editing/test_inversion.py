"""Inverting an image: what is found, what is generated from it, and who refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from condgen import load
from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.synthetic.scenes import scenes
from condgen.files.images import read_recipe
from condgen.pipelines.editing.base import Editor, InputImage
from condgen.pipelines.editing.inversion import Invert
from tests.tiny import tiny_decoder, tiny_model


@pytest.fixture(scope="module")
def model():
    return load()


def images(n: int) -> list[Image.Image]:
    drawn = scenes(n, seed=3, size=32, held_out=True).images
    return [Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in drawn]


def test_it_reconstructs_held_out_scenes(model):
    results = [model.invert(image) for image in images(4)]
    assert all(result.psnr > 35 for result in results)
    noise = torch.stack([result.x_T for result in results])
    assert noise.shape == (4, 3, 32, 32) and 0.6 < noise.std() < 1.3


def test_an_image_unlike_those_of_training_is_named(model):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with pytest.warns(CondgenWarning, match="unlike the training images"):
        assert model.invert(Image.fromarray(pixels), steps=5).psnr < 25


def test_what_is_saved_generates_the_reconstruction(model, tmp_path):
    (image,) = images(1)
    result = model.invert(image, steps=5)
    path = result.save(tmp_path)
    saved = load_file(path.with_suffix(".safetensors"))
    assert torch.equal(saved["z"], result.z) and torch.equal(saved["x_T"], result.x_T)
    again = model.replay(read_recipe(path))
    assert again.png() == path.read_bytes()


def test_an_image_has_the_same_noise_alone_and_in_a_batch(model):
    several = [InputImage.read(model, image) for image in images(3)]
    editor = Editor(model)
    for image, generated in zip(several, editor.apply([Invert(image) for image in several], [0], steps=3)):
        alone = model.invert(image, steps=3)
        assert torch.equal(alone.x_T, editor.inverted(image, 3))
        assert alone.reconstruction.image.tobytes() == generated.image.tobytes()
        assert model.replay(generated.recipe).png() == generated.png()


@pytest.mark.parametrize("kind", ["cgan", "cvae"])
def test_decoders_without_noise_levels_refuse(kind):
    model = tiny_model()
    model.decoder = model.modules["decoder"] = tiny_decoder(kind, vars(model.decoder.spec))
    with pytest.raises(CondgenError, match=f"{kind} decoder, which cannot begin at an image"):
        model.invert(images(1)[0])


@pytest.mark.parametrize("steps", [0, 201, 2.5])
def test_an_impossible_number_of_steps_is_refused(steps):
    with pytest.raises(CondgenError, match="steps"):
        tiny_model().invert(images(1)[0], steps=steps)


def test_the_command_compares_numbers_of_steps(condgen):
    images(1)[0].save("scene.png")
    code, out, err = condgen("invert", "scene.png", "--model", "tiny", "--curve", "-o", "out")
    assert code == 0 and len(out.splitlines()) == 4 and "grid.png" in err
    names = {path.suffix for path in Path("out").iterdir() if path.name != "grid.png"}
    assert names == {".png", ".safetensors"}
    code, _, _ = condgen("replay", "out/scene-inverted-0.png", "--model", "tiny", "-o", "again")
    assert code == 0


def test_the_command_refuses_what_it_cannot_use(condgen):
    Path("text.png").write_text("no image")
    for more in ("", "--curve --steps 3", "--guidance 2"):
        code, out, err = condgen("invert", "text.png", *more.split(), "--model", "tiny")
        assert code == 2 and not out and err.splitlines()[-1].startswith("condgen: error: ")
