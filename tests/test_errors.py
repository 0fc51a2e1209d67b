"""What the user can mend gives one clear line, exit code 2, no traceback, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file


def refused(told: tuple[int, str, str], *words: str) -> str:
    """Checks exit code and shape of the message, and that it names what it must."""
    code, out, err = told
    assert code == 2, (code, out, err)
    last = err.splitlines()[-1]
    assert last.startswith("condgen: error: ") and "Traceback" not in err and ".py" not in err
    assert all(line.startswith("warning: ") for line in err.splitlines()[:-1])
    assert not out
    for word in words:
        assert word in last, (word, last)
    return last


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# what was asked for


@pytest.mark.parametrize("prompt", ["", "   ", "\u200b", "\n\t", "\u3000", "<end>", "<PAD> <unknown>"])
def test_empty_prompt(condgen, prompt):
    refused(condgen("generate", "a red circle", prompt, "--model", "tiny"), "prompt is empty")
    if prompt.strip():
        Path("prompts").write_text(f"a red circle\n{prompt}\n", encoding="utf-8")
        refused(condgen("generate", "--prompts-file", "prompts", "--model", "tiny"), "prompt is empty")
    assert not Path("out").exists()


def test_prompt_that_is_no_text(condgen):
    refused(condgen("generate", "a \udcff circle", "--model", "tiny"), "UTF-8")


@pytest.mark.parametrize(
    "content, word", [(b"", "holds no prompt"), (b"\n \n", "holds no prompt"), (b"\x1f\x8b\x08\xff", "UTF-8")]
)
def test_prompts_file_without_prompts(condgen, content, word):
    Path("prompts").write_bytes(content)
    refused(condgen("generate", "--prompts-file", "prompts", "--model", "tiny"), "prompts", word)
    refused(condgen("generate", "--prompts-file", "missing", "--model", "tiny"), "missing", "No such file")


def test_no_prompt(condgen):
    refused(condgen("generate"), "no prompt")


def test_unknown_model(condgen):
    refused(condgen("generate", "a dog", "--model", "tinny"), "'tinny'", "Did you mean tiny?")
    refused(condgen("info", "tinny"), "Did you mean tiny?")
    refused(condgen("evaluate", "tinny"), "Did you mean tiny?")
    refused(condgen("info", "n" * 300), "There is no model")


@pytest.mark.parametrize("argv", [["generate", "a dog", "--model", ""], ["info", ""], ["evaluate", ""]])
def test_a_model_without_a_name_is_not_the_default(condgen, argv):
    refused(condgen(*argv), "name of the model is empty")


def test_model_that_is_a_file_or_another_folder(condgen):
    Path("weights.bin").touch()
    refused(condgen("generate", "a dog", "--model", "weights.bin"), "weights.bin", "model_index.json")
    refused(condgen("generate", "a dog", "--model", "."), "model_index.json")


@pytest.mark.parametrize(
    "argv, closest",
    [
        (["generat"], "generate"),
        (["generate", "a dog", "--guidanse", "3"], "--guidance"),
        (["generate", "a dog", "--guid", "3"], "--guidance"),
        (["data", "check", ".", "--imagee=x"], "--image"),
        (["data", "chek", "."], "check"),
        (["train", "scene32"], "scenes32"),
        (["train", "scenes32", "--fit_clip.lrr", "3"], "--fit_clip.lr"),
        (["train", "scenes32", "--batch", "3"], "--fit_decoder.batch"),
        (["train", "scenes32", "--minute=3"], "--minutes"),
        (["train", "scenes32", "--sise", "tiny"], "--size"),
    ],
)
def test_unknown_command_or_option(condgen, argv, closest):
    refused(condgen(*argv), "Did you mean", closest)


@pytest.mark.parametrize(
    "text, words",
    [
        ("minuts: 3", ["unknown key minuts", "Did you mean minutes?"]),
        ("fit_clip: {lrr: 3}", ["unknown key fit_clip.lrr", "Did you mean fit_clip.lr?"]),
        ("fit_clip: 3", ["fit_clip"]),
        ("minutes: many", ["minutes must be float", "many"]),
        ("decoder: {channels: 3}", ["decoder.channels", "Lists are written"]),
        ("stage: encoder", ["stage", "encoder"]),
        ("- 1\n- 2", ["not a config"]),
        ("{", ["not YAML"]),
        ("\x00", ["not YAML"]),
    ],
)
def test_bad_config_file(condgen, monkeypatch, text, words):
    monkeypatch.setattr("condgen.recipes.train", None)
    Path("bad.yaml").write_text(text)
    refused(condgen("train", "scenes32", "-o", "run", "--config", "bad.yaml"), *words)
    assert not Path("run").exists()


def test_bad_training_request(condgen):
    refused(condgen("train"), "condgen train RECIPE")
    refused(condgen("train", "scenes32"), "-o RUN")
    refused(condgen("train", "scenes32", "-o", "run", "--config", "missing.yaml"), "missing.yaml", "No such file")
    refused(condgen("train", "scenes32", "-o", "run", "--minutes", "many"), "minutes must be float")
    refused(condgen("train", "scenes32", "-o", "run", "extra"), "'extra'")
    refused(condgen("train", "captions", "-o", "run", "--size", "huge", "--data", "x"), "'huge'", "small")
    refused(condgen("train", "captions", "-o", "run"), "--data")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--steps", "0"], ["steps", "from 1 to 200"]),
        (["--steps", "201"], ["steps", "201"]),
        (["--steps", "2.5"], ["steps", "int"]),
        (["--guidance", "nan"], ["guidance", "from 0 to 20"]),
        (["--guidance", "much"], ["guidance", "float"]),
        (["--best-of", "4"], ["best_of", "--prior diffusion"]),
        (["--prior", "none", "--prior-steps", "4"], ["prior_steps", "--prior diffusion"]),
        (["--prior", "diffusion", "--best-of", "65"], ["best_of", "from 1 to 64"]),
        (["--prior", "difusion"], ["'difusion'", "diffusion"]),
        (["-n", "0"], ["from 1"]),
        (["--seed", "-2"], ["seed", "-2"]),
        (["--seed", str(2**63)], ["seed", "2**63"]),
        (["--device", "toaster"], ["'toaster'", "--device cpu"]),
        (["--device", "meta"], ["'meta'", "--device cpu"]),
        (["--device", "hpu"], ["'hpu'", "--device cpu"]),
    ],
)
def test_option_out_of_range(condgen, flags, words):
    refused(condgen("generate", "a red circle", "--model", "tiny", *flags), *words)
    assert not Path("out").exists()


def test_range_of_values_that_is_no_pair_of_numbers(condgen):
    refused(condgen("data", "check", ".", "--value-range", "abc"), "'abc' is not LOW,HIGH", "0,4095")


def test_output_folder_that_cannot_be_written(condgen):
    Path("file").write_text("mine")
    refused(condgen("generate", "a dog", "--model", "tiny", "-o", "file/out"), "file/out", "-o")
    refused(condgen("generate", "a dog", "--model", "tiny", "-o", "file"), "cannot be written")
    for name in ("n" * 300, "deep/" + "ö" * 200, "nul\0"):
        refused(condgen("generate", "a dog", "--model", "tiny", "-o", name), repr(name)[:20], "-o")
        refused(condgen("evaluate", "tiny", "-o", name), repr(name)[:20], "-o")
    refused(condgen("evaluate", "tiny", "-o", "file/out"), "cannot be written")
    refused(condgen("train", "scenes32", "-o", "file/run"), "file/run", "cannot be written")
    assert Path("file").read_text() == "mine" and len(list(Path().iterdir())) == 1


def test_report_where_a_folder_lies(condgen):
    Path("report/sheet.png").mkdir(parents=True)
    refused(condgen("evaluate", "tiny", "-o", "report"), "report/sheet.png", "folder", "-o")


def test_full_disk_is_reported_plainly(condgen, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device", "out/a.png")

    monkeypatch.setattr("condgen.files.images.GeneratedImage.save", full)
    assert condgen("generate", "a red circle", "--model", "tiny") == (
        1, "", "condgen: out/a.png: No space left on device\n"
    )  # fmt: skip


def test_long_prompt_is_cut_with_a_warning_that_says_where(condgen):
    words = " ".join(["red circle"] * 1000)[:9999] + "x"
    code, out, err = condgen("generate", words, "--model", "tiny", "--json")
    assert code == 0 and json.loads(out)["prompt"] == words
    (warning,) = err.splitlines()
    assert warning.startswith("warning: The prompt of 10,000 characters was cut to the first ")
    kept = int(warning.split("to the first ")[1].split(",")[0])
    assert 0 < kept < 600 and repr(words[:kept][-10:])[1:-1] in warning


# labels


@pytest.fixture
def shoes(condgen):
    from tests.tiny import tiny_labels

    tiny_labels().save("models/shoes")


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], ["--label NAME", "Ankle boot", "laces (no, yes)", "18 to 90"]),
        (["--label", "Sneakers"], ["'Sneakers'", "Nearest: Sneaker"]),
        (["--label", "Sneaker,"], ["no value ''"]),
        (["--label", "Sneaker", "--set", "lace=1"], ["'lace'", "Did you mean laces?"]),
        (["--label", "Sneaker", "--set", "laces=maybe"], ["laces has no value 'maybe'", "no, yes"]),
        (["--set", "age=old"], ["age must be a number"]),
        (["--set", "age"], ["--set age", "NAME=VALUE"]),
        (["--set", "age=1", "age=2"], ["age twice"]),
        (["--label", "Sneaker", "--set", "label=Trouser"], ["--label", "leave one"]),
        (["--label", "Sneaker", "-n", "0"], ["from 1"]),
        (["--label", "Sneaker", "--seed", "-2"], ["seed", "-2"]),
        (["--label", "Sneaker", "--temperature", "3"], ["temperature", "from 0 to 2"]),
        (["--label", "Sneaker", "--temperature", "hot"], ["temperature", "float"]),
        (["--label", "Sneaker", "--guidance", "3"], ["no option --guidance", "--temperature"]),
        (["--lable", "Sneaker"], ["Did you mean --label?"]),
        (["--label", "Sneaker", "extra"], ["'extra'"]),
        (["--label", "Sneaker", "--all-labels"], ["--all-labels"]),
        (["--label", "Sneaker", "--format", "npz"], ["--format", "--per-label"]),
        (["--per-label", "2", "-n", "2"], ["--per-label", "-n"]),
        (["--per-label", "0"], ["images of a label", "from 1"]),
        (["--per-label", "2", "--batch", "0"], ["images in a batch"]),
        (["--per-label", "2", "--format", "tar"], ["tar", "parquet"]),
        (["--per-label", "2", "--set", "label=Sneaker"], ["--label"]),
        (["--label", "Sneaker", "--device", "toaster"], ["'toaster'", "--device cpu"]),
    ],
)
def test_labels_that_cannot_be_generated(condgen, shoes, flags, words):
    refused(condgen("sample", "--model", "shoes", *flags), *words)
    assert not Path("out").exists()


def test_a_model_of_words_generates_no_labels_and_the_other_way_round(condgen, shoes):
    refused(
        condgen("sample", "--model", "tiny", "--label", "Sneaker"),
        "condgen generate PROMPT",
        "generates images from prompts",
    )
    told = condgen("generate", "a dog", "--model", "shoes")
    refused(told, "condgen sample --label LABEL", "generates images from labels")
    refused(condgen("embed", "shoes", "--data", ".", "-o", "e"), "models/shoes", "has no text encoder")
    refused(condgen("sample", "--label", "Sneaker"), "--model M", "shoes")


def test_labels_where_nothing_can_be_written(condgen, shoes):
    Path("file").write_text("mine")
    for more in ([], ["--per-label", 2], ["--per-label", 2, "--format", "npz"]):
        refused(
            condgen("sample", "--model", "shoes", "--label", "Sneaker", *more, "-o", "file/out"), "cannot be written"
        )
    refused(condgen("sample", "--model", "shoes", "--per-label", 2, "-o", "file"), "file")
    Path("full").mkdir()
    Path("full/mine").touch()
    refused(condgen("sample", "--model", "shoes", "--per-label", 2, "-o", "full"), "full exists already")
    assert Path("file").read_text() == "mine" and sorted(path.name for path in Path("full").iterdir()) == ["mine"]


# models


def test_truncated_weights(condgen, broken):
    weights = broken / "decoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(condgen("generate", "a red circle", "--model", broken), str(weights), "damaged")
    refused(condgen("info", broken), str(weights), "damaged")
    weights.unlink()
    refused(condgen("generate", "a red circle", "--model", broken), str(weights), "missing")
    assert not Path("out").exists()


@pytest.mark.parametrize("part", ["clip", "normaliser", "prior_regression", "prior_diffusion", "decoder"])
@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_tensors_that_do_not_fit(condgen, broken, part, fault):
    weights = broken / part / "model.safetensors"
    tensors = load_file(weights)
    name = min(tensors)
    if fault == "missing":
        del tensors[name]
    elif fault == "unexpected":
        name = "stray.weight"
        tensors[name] = torch.zeros(3)
    else:
        tensors[name] = torch.zeros(*tensors[name].shape, 2)
    save_file(tensors, weights)
    refused(condgen("generate", "a red circle", "--model", broken), str(weights), name, fault)
    assert not Path("out").exists()


def test_index_of_another_format(condgen, broken):
    index = broken / "model_index.json"
    edit(index, format=2)
    refused(condgen("generate", "a red circle", "--model", broken), str(index), "format 2")
    edit(index, _class_name="StableDiffusionPipeline", format=1)
    refused(condgen("generate", "a red circle", "--model", broken), str(index), "StableDiffusionPipeline")
    refused(condgen("info", broken), str(index))
    index.write_text("{")
    refused(condgen("generate", "a red circle", "--model", broken), str(index), "not JSON")


def test_index_with_a_wrong_prior(condgen, broken):
    for wrong in ("transformer", {}, ["regression"]):
        edit(broken / "model_index.json", priors=[wrong])
        for argv in (["generate", "a red circle", "--model", broken], ["info", broken]):
            refused(condgen(*argv), "model_index.json", str(wrong), "regression, diffusion, autoregressive")
    edit(broken / "model_index.json", priors=["regression"])
    refused(condgen("generate", "a red circle", "--model", broken, "--prior", "diffusion"), "'diffusion'", "regression")


def test_part_of_another_class_or_shape(condgen, broken):
    edit(broken / "prior_regression" / "config.json", **{"class": "DiffusionPrior"})
    refused(condgen("generate", "a red circle", "--model", broken), "RegressionPrior")
    edit(broken / "prior_regression" / "config.json", **{"class": "RegressionPrior", "colour": 3})
    refused(condgen("generate", "a red circle", "--model", broken), "unknown: colour")


@pytest.mark.parametrize(
    "part, changes, words",
    [
        ("decoder", [], ["a list", "DiffusionDecoder"]),
        ("decoder", {"channels": [10, 20]}, ["DiffusionDecoder", "divisible"]),
        ("decoder", {"width": 2**63}, ["DiffusionDecoder", "width", "at most 9.22337e+18"]),
        ("decoder", {"channels": 16}, ["channels", "tuple[int, ...]", "'16'"]),
        ("decoder", {"objective": "zz"}, ["objective", "'x', 'edm'", "'zz'"]),
        ("decoder", {"guidance": "x"}, ["guidance", "float", "'x'"]),
        ("decoder", {"steps": 2.5}, ["steps", "int", "'2.5'"]),
        ("clip", {"heads": 0}, ["CLIP", "heads", "at least 1"]),
        ("prior_diffusion", {"heads": 0}, ["DiffusionPrior", "heads", "at least 1"]),
        ("normaliser", {"space": None}, ["space", "str", "'None'"]),
    ],
)
def test_damaged_config_of_a_part(condgen, broken, part, changes, words):
    config = broken / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes if changes else changes))
    told = refused(condgen("generate", "a red circle", "--model", broken), str(config), *words)
    assert refused(condgen("info", broken)) == told
    assert not Path("out").exists()


@pytest.mark.parametrize("part", ["clip", "normaliser", "prior_regression", "prior_diffusion", "decoder", "tokenizer"])
def test_deleted_part(condgen, broken, part):
    shutil.rmtree(broken / part)
    told = refused(condgen("generate", "a red circle", "--model", broken), str(broken / part))
    assert refused(condgen("info", broken)) == told


def test_mismatched_embedding_spaces(condgen, broken):
    config = broken / "decoder" / "config.json"
    own = json.loads(config.read_text())["space"]
    edit(config, space="0123456789abcdef")
    refused(condgen("generate", "a red circle", "--model", broken), own, "0123456789abcdef")


def test_damaged_tokenizer(condgen, broken):
    (broken / "tokenizer" / "tokenizer.json").write_text("{}")
    refused(condgen("generate", "a red circle", "--model", broken), "tokenizer.json")


# files


def test_corrupt_image(condgen):
    condgen("generate", "a red circle", "--model", "tiny")
    whole = Path("out/a-red-circle-0.png").read_bytes()
    Path("half.png").write_bytes(whole[: len(whole) // 2])
    Path("text.png").write_text("no image")
    for name in ("half.png", "text.png", "missing.png", "out"):
        refused(condgen("replay", name, "-o", "again"), name)
    assert not Path("again").exists()


def test_image_without_a_sound_recipe(condgen):
    from PIL import PngImagePlugin

    Image.new("RGB", (8, 8)).save("plain.png")
    refused(condgen("replay", "plain.png"), "plain.png", "no recipe")
    condgen("generate", "a red circle", "--model", "tiny")
    from condgen.files.images import read_recipe

    sound = read_recipe("out/a-red-circle-0.png")
    strange = [{"zoom": 2}, {"n": 5}, {"prompts": 3}, {"self": 1}, {"best_of": 2}]
    for change in ({"prompt": 3}, {"seed": "x"}, {"prior": []}, {"steps": "many"}, {"model": "/nowhere"}, *strange):
        text = PngImagePlugin.PngInfo()
        text.add_itxt("condgen", json.dumps(sound | change))
        Image.new("RGB", (32, 32)).save("bad.png", pnginfo=text)
        told = refused(condgen("replay", "bad.png", "-o", "again"))
        assert change not in strange or (f"holds {next(iter(change))}, " in told and "guidance, steps" in told)
    refused(condgen("replay", "out/a-red-circle-0.png", "--model", "", "-o", "again"), "name of the model is empty")
    assert not Path("again").exists()


def test_label_file_where_captions_are_expected(condgen):
    labels = Path("train-labels-idx1-ubyte")
    labels.write_bytes(struct.pack(">II", 2049, 10) + bytes(range(10)))
    refused(condgen("data", "check", labels), "labels", "but no images beside them")
    refused(condgen("train", "captions", "-o", "run", "--data", labels), "labels", "captions")
    refused(condgen("evaluate", "tiny", "--data", labels), "labels", "captions")


# judging


@pytest.fixture
def no_painting(monkeypatch):
    """Whatever is refused is refused before anything is painted."""
    monkeypatch.setattr("condgen.pipelines.text_to_image.TextToImage.generate_batch", None)


@pytest.mark.parametrize(
    "flags",
    [["--prompts", 0], ["--prompts", -1], ["--images-per-prompt", 0], ["--images-per-prompt", -1], ["--ablate", -1]],
)
def test_judging_on_nothing(condgen, no_painting, flags):
    refused(condgen("evaluate", "tiny", *flags, "-o", "report"), flags[0], f"'{flags[1]}'")
    assert not Path("report").exists()


def write_layers(path: Path, size: int = 32, first: int = 0, **columns: object) -> None:
    """A parquet table with one plain layer of every part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    Image.new("RGBA", (size, size), "red").save("layer.png")
    image = {"bytes": Path("layer.png").read_bytes(), "path": ""}
    parts = ("background", "body", "accessory", "head", "glasses")
    rows = [{"image": image, "part": part, "index": first, "name": part} | columns for part in parts]
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_questions(path: Path, **columns: object) -> None:
    """A test table of three characters."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    Image.new("RGB", (32, 32), "red").save("picture.png")
    row = {"image": {"bytes": Path("picture.png").read_bytes(), "path": ""}, "caption": "a red circle"}
    rows = [row | {"head": 0, "glasses": 0} | columns for _ in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_layers_that_cannot_evaluator(condgen, no_painting):
    Path("data").mkdir()
    write_questions(Path("data/test.parquet"))
    write_layers(Path("gap.parquet"), first=1)
    write_layers(Path("none.parquet"), image={"bytes": b"no image", "path": ""})
    write_layers(Path("text.parquet"), index="0")
    write_layers(Path("large.parquet"), size=64)
    for name, word in (
        ("missing.parquet", "missing.parquet"),
        ("picture.png", "no table of layers"),
        ("data/test.parquet", "no table of layers"),
        ("gap.parquet", "without gaps"),
        ("none.parquet", "no table of layers"),
        ("text.parquet", "no table of layers"),
        ("large.parquet", "64 x 64"),
    ):
        refused(condgen("evaluate", "tiny", "--data", "data", "--layers", name), name, word)
    refused(condgen("evaluate", "tiny", "--layers", "gap.parquet"), "--data")


@pytest.mark.parametrize("change", [{"caption": "<end>", "text": "a red circle"}, {"head": None}, {"glasses": "round"}])
def test_questions_that_cannot_be_evaluated(condgen, no_painting, change):
    Path("data").mkdir()
    write_layers(Path("layers.parquet"))
    write_questions(Path("data/test_a.parquet"))
    write_questions(Path("data/test_b.parquet"), **change)
    refused(condgen("evaluate", "tiny", "--data", "data", "--layers", "layers.parquet"), "test_b.parquet, row 1")
