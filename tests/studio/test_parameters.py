"""Recipes in images of any program: read as far as they can be, refused in a sentence, never harmful."""

import json
import struct
import time
import zlib

import httpx
import pytest
from gradio_client import handle_file
from PIL import Image, PngImagePlugin

from condgen.contracts import MAX_PIXELS, CondgenError
from condgen.files.foreign_recipes import FoundRecipe, read_any, texts_of
from condgen.files.images import grid, parameters, png_bytes, png_with_recipe
from condgen.studio.images.parameters import rows_of, table_of, usable
from tests.studio.support import colourful_model, tiny_vae

A1111 = """a castle, (tall:1.2)
on a hill
Negative prompt: ugly, bad
hands
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1234567, Size: 512x768, Model hash: abc, Model: sd_xl, \
Lora hashes: "a: 1, b: \\"2\\"", Version: v1.10"""
FOUND = {"prompt": "a castle, (tall:1.2)\non a hill", "negative": "ugly, bad\nhands", "seed": 1234567, "steps": 20,
         "guidance": 7, "size": "512x768", "model": "sd_xl"}  # fmt: skip
COMFYUI = {
    "3": {"inputs": {"seed": 5, "steps": 20, "cfg": 8.5, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
                     "latent_image": ["5", 0]}},
    "4": {"inputs": {"ckpt_name": "v1-5.safetensors"}}, "5": {"inputs": {"width": 512, "height": 256}},
    "6": {"inputs": {"text": "a view", "clip": ["4", 1]}, "is_changed": [float("nan")]},
    "7": {"inputs": {"text": "blurry", "clip": ["4", 1]}},
}  # fmt: skip
CUSTOM = {
    "13": {"inputs": {"noise": ["25", 0], "guider": ["22", 0], "sigmas": ["17", 0]}},
    "25": {"inputs": {"noise_seed": 21}}, "22": {"inputs": {"model": ["12", 0], "conditioning": ["26", 0]}},
    "26": {"inputs": {"guidance": 3.5, "conditioning": ["6", 0]}}, "6": {"inputs": {"text": ["40", 0]}},
    "40": {"inputs": {"value": "a cat"}}, "17": {"inputs": {"steps": 20}}, "12": {"inputs": {"unet_name": "flux"}},
}  # fmt: skip
OWN = {"prompt": "a red circle", "seed": 4, "prior": "regression", "guidance": 2.0, "steps": 4, "size": 32,
       "model": "words", "model_id": "80985bae95a82387"}  # fmt: skip


@pytest.fixture
def png(tmp_path):
    def write(**texts):
        info = PngImagePlugin.PngInfo()
        for name, text in texts.items():
            info.add_itxt(name.replace("__", "-"), text, zip=len(text) > 1000)
        Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=info)
        return tmp_path / "x.png"

    return write


@pytest.fixture(scope="module")
def model():
    model = colourful_model()
    model.about["name"] = "words"
    return model


# Programs -------------------------------------------------------------------------------------------------------------


def test_automatic1111(png):
    found = read_any(png(parameters=A1111))
    assert (found.program, found.recipe) == ("AUTOMATIC1111", FOUND)
    assert found.rest["Lora hashes"] == 'a: 1, b: "2"' and found.rest["Sampler"] == "Euler a"


@pytest.mark.parametrize("kind, order", [("jpg", "be"), ("jpg", "le"), ("webp", "be")])
def test_automatic1111_in_exif(tmp_path, kind, order):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode(f"utf-16-{order}")
    Image.new("RGB", (8, 8)).save(tmp_path / f"x.{kind}", exif=exif)
    assert read_any(tmp_path / f"x.{kind}").recipe == FOUND


def test_what_condgen_writes_for_others_is_read_back(png):
    """Where a program removed our own text and left `parameters`."""
    found = read_any(png(parameters=parameters(OWN)))
    assert {k: OWN[k] for k in ("prompt", "seed", "guidance", "steps", "model")} == {
        k: v for k, v in found.recipe.items() if k != "size"
    }
    assert found.rest["prior"] == "regression" and found.recipe["size"] == "32x32"


def test_condgen(tmp_path):
    (tmp_path / "x.png").write_bytes(png_with_recipe(Image.new("RGB", (8, 8)), OWN, parameters(OWN)))
    assert read_any(tmp_path / "x.png") == FoundRecipe("condgen", OWN)


@pytest.mark.parametrize("texts, program, recipe", [
    ({"parameters": json.dumps({"prompt": "p", "negative_prompt": "n", "seed": "12", "steps": 30, "guidance_scale": 4.0,
                                "base_model": "m", "resolution": "(1024, 512)", "styles": "[]"})},
     "Fooocus", {"prompt": "p", "negative": "n", "seed": 12, "steps": 30, "guidance": 4.0, "model": "m",
                 "size": "1024x512"}),
    ({"invokeai_metadata": json.dumps({"positive_prompt": "p", "negative_prompt": "", "seed": 5, "steps": 30,
                                       "cfg_scale": 7.5, "width": 512, "height": 64, "model": {"name": "m"}})},
     "InvokeAI", {"prompt": "p", "seed": 5, "steps": 30, "guidance": 7.5, "model": "m", "size": "512x64"}),
    ({"sd__metadata": json.dumps({"model": "stable diffusion", "model_weights": "sd", "image": {
        "prompt": [{"prompt": "p", "weight": 1.0}], "seed": 5, "steps": 30, "cfg_scale": 7.5, "width": 8, "height": 8,
    }})},
     "InvokeAI", {"prompt": "p", "seed": 5, "steps": 30, "guidance": 7.5, "model": "sd", "size": "8x8"}),
    ({"prompt": json.dumps(COMFYUI), "workflow": "{}"}, "ComfyUI",
     {"prompt": "a view", "negative": "blurry", "seed": 5, "steps": 20, "guidance": 8.5, "model": "v1-5.safetensors",
      "size": "512x256"}),
    ({"prompt": json.dumps(CUSTOM)}, "ComfyUI",
     {"prompt": "a cat", "seed": 21, "steps": 20, "guidance": 3.5, "model": "flux"}),
    ({"parameters": "only a prompt"}, "AUTOMATIC1111", {"prompt": "only a prompt"}),
])  # fmt: skip
def test_other_programs(png, texts, program, recipe):
    found = read_any(png(**texts))
    assert (found.program, found.recipe) == (program, recipe)


def test_texts_behind_the_pixels_are_read(tmp_path, png):
    data = png(parameters=A1111).read_bytes()
    parts, place = [], 8
    while place < len(data):
        size = struct.unpack(">I", data[place : place + 4])[0] + 12
        parts.append(data[place : place + size])
        place += size
    order = [b"IHDR", b"IDAT", b"iTXt", b"IEND"]
    parts.sort(key=lambda part: order.index(part[4:8]))
    (tmp_path / "y.png").write_bytes(data[:8] + b"".join(parts))
    assert read_any(tmp_path / "y.png").recipe == FOUND


# Hostile files --------------------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def crafted(*chunks, width=8, height=8):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


BOMB = zlib.compress(bytes(200_000_000), 9)


@pytest.mark.parametrize("data, message", [
    (b"", "cannot be read as an image"),
    (b"<html>parameters", "cannot be read as an image"),
    (b"\x89PNG\r\n\x1a\n", "damaged"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 9, "damaged"),
    (b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0" * 99, "cannot be read as an image"),
    (crafted(width=MAX_PIXELS, height=2), "damaged.*pixels"),
    (crafted(width=0), "damaged"),
    (crafted(chunk(b"acTL", bytes(8))), "animated"),
    (crafted(chunk(b"zTXt", b"parameters\0\0" + BOMB)), "too large"),
    (crafted(chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB)), "too large"),
    (crafted(*[chunk(b"zTXt", b"%d\0\0" % i + zlib.compress(bytes(2**20))) for i in range(50)]), "too large"),
    (crafted(chunk(b"tEXt", b"parameters\0" + b"a" * (2**20 + 1))), "damaged.*text"),
    (crafted(chunk(b"zTXt", b"parameters\0\0not zlib")), "damaged"),
    (crafted(b"\xff\xff\xff\xfftEXtparameters\0x"), "damaged"),
    (crafted(b"\xff\xff\xff\xf0IDAT"), "no recipe"),
    (crafted(*[chunk(b"aaaa", b"")] * 30_000), "no recipe"),
    (crafted(chunk(b"iTXt", b"")), "no recipe"),
    (png_bytes(grid([Image.new("RGB", (8, 8))] * 2, ["a", "b"])), "sheet"),
])  # fmt: skip
def test_hostile_files_are_refused_in_a_sentence(tmp_path, data, message):
    (tmp_path / "x.png").write_bytes(data)
    began = time.process_time()
    with pytest.raises(CondgenError, match=message):
        read_any(tmp_path / "x.png")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("texts", [
    {"condgen": "{"}, {"condgen": "[" * 100_000}, {"condgen": "null"}, {"condgen": '{"seed": 1}'},
    {"prompt": "[" * 100_000},
    {"prompt": '{"1": {"inputs": {"seed": NaN, "positive": ["1", 0]}}}'}, {"prompt": '{"1": 5, "2": {"inputs": 3}}'},
    {"prompt": "[1, 2]"}, {"invokeai_metadata": '{"seed": 1e999, "positive_prompt": 5}'}, {"invokeai_metadata": "5"},
    {"sd__metadata": '{"image": {"prompt": [[[1]]], "seed": -4}}'}, {"parameters": '{"seed": "1e5", "prompt": ["a"]}'},
    {"parameters": '{"seed": ' + "9" * 4000 + "}"}, {"parameters": '{"seed": true}'}, {"parameters": "\n \n"},
])  # fmt: skip
def test_hostile_texts_are_refused_in_a_sentence(png, texts):
    with pytest.raises(CondgenError, match=r"no recipe that can be read|damaged"):
        read_any(png(**texts))


@pytest.mark.parametrize("text", [
    "a" * 1_000_000, "a, " * 300_000, '"' * 999_999, "\\" * 999_999, "a:" * 400_000, "x\n" * 400_000,
    "p\n" + ", ".join(f"k{i}: v" for i in range(60_000)),
])  # fmt: skip
def test_long_texts_take_no_time(png, text):
    path = png(parameters=text)
    began = time.process_time()
    found = read_any(path)
    assert time.process_time() - began < 2
    assert len(found.recipe["prompt"]) <= 10_000 and len(found.rest) <= 200


def test_a_graph_that_leads_to_itself_ends(png):
    graph = {
        str(i): {"inputs": {"seed": ["1", 0], "positive": [str((i + 1) % 500), 0], "text": ["2", 0]}}
        for i in range(500)
    }
    with pytest.raises(CondgenError, match="no recipe"):
        read_any(png(prompt=json.dumps(graph)))
    graph["7"]["inputs"] = {"seed": 3, "text": "found"}
    assert read_any(png(prompt=json.dumps(graph))).recipe == {"seed": 3, "prompt": "found"}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CondgenError, match="cannot be read"):
        texts_of(tmp_path / "x.png")


# What can be used -----------------------------------------------------------------------------------------------------


def test_what_a_model_can_use(model):
    recipe, notes = usable(FoundRecipe("AUTOMATIC1111", FOUND, {"Sampler": "Euler a"}), model)
    expected = {"prompt": FOUND["prompt"], "negative": FOUND["negative"], "seed": 1234567, "steps": 20, "guidance": 7}
    assert recipe == expected
    assert len(notes) == 1 and "decides: size, model, Sampler" in notes[0]


def test_what_is_out_of_range_is_said(model):
    recipe, notes = usable(
        FoundRecipe("x", {"seed": 2**63, "steps": 10**6, "guidance": 99.0, "prompt": "x" * 3000}), model
    )
    assert recipe == {} and len(notes) == 4
    for note, name in zip(notes, ["Prompt", "Seed", "Steps", "Guidance"]):
        assert note.startswith(name) and "was not taken over" in note and len(note) < 300


def test_a_model_without_text_takes_the_seed():
    found = FoundRecipe("x", {"seed": 5, "steps": 10, "prompt": "a cat", "negative": "a dog"})
    recipe, notes = usable(found, tiny_vae())
    assert "Negative prompt a dog was not taken over" in notes.pop(1)
    assert recipe == {"seed": 5, "labels": {}} and "does not read prompts" in notes[0] and "no such option" in notes[1]


def test_a_recipe_of_another_model_is_said(model):
    same = OWN | {"model_id": model.model_id}
    assert usable(FoundRecipe("condgen", same), model, ["words"]) == (same, [])
    assert "other weights" in usable(FoundRecipe("condgen", OWN), model)[1][0]
    other = FoundRecipe("condgen", OWN | {"model": "other"})
    assert "choose it" in usable(other, model, ["other"])[1][0] and "not here" in usable(other, model)[1][0]


@pytest.mark.parametrize("recipe", [
    OWN, OWN | {"labels": {"label": "<script>"}}, OWN | {"labels": {}}, OWN | {"prompt": {"a": ["<script>"]}},
    OWN | {"operation": "mix", "title": "<script>", "ends": [{"x": 1}]}, OWN | {"x" * 1000: "<script>" * 1000},
])  # fmt: skip
def test_the_table_holds_no_markup_of_the_image(recipe):
    found = FoundRecipe("condgen", recipe, {"<script>": "<script>"})
    table = table_of(found, ["<script>"])
    assert "<script" not in table and "&lt;script&gt;" in table and len(table) < 9000
    assert rows_of(found)[0] == ("Written by", "condgen")


# API ------------------------------------------------------------------------------------------------------------------


def test_the_api_reads_an_uploaded_image(address, client, png):
    answer = client.predict(handle_file(png(parameters=A1111)), api_name="/read_image")
    assert answer["program"] == "AUTOMATIC1111" and answer["recipe"] == FOUND
    with pytest.raises(Exception, match=r"x.png has no recipe") as error:
        client.predict(handle_file(png()), api_name="/read_image")
    assert str(png().parent) not in str(error.value) and "gradio" not in str(error.value)


@pytest.mark.parametrize("path", ["/etc/passwd", __file__, "", "\0", None, 5])
def test_the_api_reads_no_other_file(address, path):
    body = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
    answer = httpx.post(f"{address}/gradio_api/call/read_image", json=body, timeout=60)
    if answer.status_code == 200:
        answer = httpx.get(f"{address}/gradio_api/call/read_image/{answer.json()['event_id']}", timeout=60)
        assert answer.text.startswith("event: error")
    assert "root:" not in answer.text and "import" not in answer.text and "PNG" not in answer.text
