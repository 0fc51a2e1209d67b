"""The command line: what it prints and writes, what it imports, and that an image can be painted again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from condgen.files.images import read_recipe

ROOT = Path(__file__).parents[2]
VERBS = (
    "generate", "sample", "translate", "replay", "list", "info", "train", "evaluate", "compare", "latent-space",
    "benchmark",
    "search", "encode", "embed", "export", "import", "data", "doctor",
)  # fmt: skip
HEAVY = {"torch", "jsonargparse", "gradio", "diffusers", "numpy", "PIL", "rich"}
NOT_FOR_PAINTING = {"gradio", "open_clip", "torchvision", "transformers", "jsonargparse", "accelerate", "tensorboard"}


def python(code: str, cwd: Path, **env: str) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | env
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(argv: list[str], cwd: Path, **env: str) -> set[str]:
    """The top-level modules that a command imports in a process of its own."""
    code = f"""
import sys
from condgen.cli.main import main
try:
    main({argv!r})
except SystemExit:
    pass
print("\\n" + " ".join({{name.split(".")[0] for name in sys.modules}}))
"""
    return set(python(code, cwd, **env).splitlines()[-1].split())


# imports


def test_help_imports_nothing_heavy(tmp_path):
    for argv in (["--help"], ["list"], ["train", "--help"]):
        assert not imported(argv, tmp_path) & HEAVY


def test_refusals_come_before_torch(tmp_path):
    (tmp_path / "file").touch()
    for argv in (["generate", " "], ["generate", "a dog", "-o", "file/out"], ["generate", "a dog", "--model", "none"],
                 ["sample", "--label", "a", "--model", "none"], ["sample", "--label", "a"],
                 ["sample", "--set", "smiling", "--model", "none"]):  # fmt: skip
        assert not imported(argv, tmp_path) & HEAVY


def test_generation_imports_only_what_it_needs(tiny_folder, tmp_path):
    there = imported(["generate", "a red circle", "-n", "2", "--model", str(tiny_folder), "--json"], tmp_path)
    assert (tmp_path / "out" / "grid.png").exists()
    assert "torch" in there and not there & NOT_FOR_PAINTING


def test_runs_as_a_module(tmp_path):
    argv = [sys.executable, "-m", "condgen", "generat"]
    done = subprocess.run(
        argv, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2 and not done.stdout
    assert "Did you mean generate?" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(condgen, verb):
    assert verb in condgen("--help")[1]
    code, out, _ = condgen(verb, "--help")
    assert code == 0 and out.startswith("usage: condgen")


# generate


def test_generate_writes_images_with_recipes_and_a_sheet(condgen):
    code, out, err = condgen("generate", "a red circle", "a blue cross", "-n", 2, "--seed", 5, "--model", "tiny")
    assert code == 0 and "sheet: out/grid.png" in err
    assert len(out.splitlines()) == 4
    names = ["a-blue-cross-5.png", "a-blue-cross-6.png", "a-red-circle-5.png", "a-red-circle-6.png", "grid.png"]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    assert read_recipe("out/a-red-circle-6.png")["seed"] == 6
    with Image.open("out/a-red-circle-6.png") as picture:
        assert picture.size == (32, 32) and picture.text["parameters"].startswith("a red circle\n")


def test_one_image_needs_no_sheet(condgen):
    condgen("generate", "a red circle", "--model", "tiny", "-o", "deep/er")
    assert [path.name for path in Path("deep/er").iterdir()] == ["a-red-circle-0.png"]


def test_generate_json_is_one_object_an_image_and_nothing_else(condgen):
    code, out, _ = condgen("generate", "a red circle", "a dog", "-n", 2, "--model", "tiny", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(lines) == 4
    assert all(set(line) == {"prompt", "seed", "path", "clip_score", "ms"} for line in lines)
    assert [(line["prompt"], line["seed"]) for line in lines][1:3] == [("a red circle", 1), ("a dog", 0)]
    assert all(Path(line["path"]).is_file() and -1 <= line["clip_score"] <= 1 and line["ms"] > 0 for line in lines)


def test_prompts_from_a_file(condgen):
    Path("prompts.txt").write_text("\ufeffa red circle\n\n  \na blue cross\r\n", encoding="utf-8")
    code, out, _ = condgen("generate", "a cyan square", "--prompts-file", "prompts.txt", "--model", "tiny", "--json")
    prompts = [json.loads(line)["prompt"] for line in out.splitlines()]
    assert code == 0 and prompts == ["a cyan square", "a red circle", "a blue cross"]


def test_options_reach_the_image(condgen):
    options = {"guidance": 3.5, "steps": 2, "best_of": 3, "prior_steps": 4, "prior_guidance": 1.5}
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert condgen("generate", "a red circle", "--model", "tiny", "--prior", "diffusion", *flags)[0] == 0
    recipe = read_recipe("out/a-red-circle-0.png")
    assert options.items() <= recipe.items() and recipe["prior"] == "diffusion"


def test_foreign_files_are_kept(condgen):
    Path("out").mkdir()
    for name in ("grid.png", "a-red-circle-0.png"):
        Path("out", name).write_bytes(b"mine")
    assert condgen("generate", "a red circle", "-n", 2, "--model", "tiny")[0] == 0
    assert Path("out/grid.png").read_bytes() == Path("out/a-red-circle-0.png").read_bytes() == b"mine"
    before = sorted(Path("out").iterdir())
    assert {"grid-2.png", "a-red-circle-0-2.png"} <= {path.name for path in before}
    assert condgen("generate", "a red circle", "-n", 2, "--model", "tiny")[0] == 0
    assert sorted(Path("out").iterdir()) == before  # the same again adds nothing


def test_a_folder_of_that_name_is_kept(condgen):
    for name in ("grid.png", "a-red-circle-0.png"):
        Path("out", name).mkdir(parents=True)
    code, out, err = condgen("generate", "a red circle", "-n", 2, "--model", "tiny")
    assert code == 0 and "out/a-red-circle-0-2.png" in out and "sheet: out/grid-2.png" in err
    assert Path("out/grid.png").is_dir() and read_recipe("out/a-red-circle-0-2.png")["seed"] == 0


def test_warnings_are_one_line_each_and_once(condgen):
    code, _, err = condgen("generate", "a red dog", "a blue dog", "-n", 2, "--model", "tiny")
    assert code == 0
    assert err.splitlines() == [
        "warning: No training caption has these words, so they mean nothing here; not read: dog",
        "sheet: out/grid.png",
    ]


def test_a_bar_is_shown_on_a_terminal(condgen, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    code, out, _ = condgen("generate", "a red circle", "-n", 2, "--model", "tiny", "--json")
    assert code == 0 and all(json.loads(line) for line in out.splitlines())


# sample


@pytest.fixture
def shoes(condgen):
    """The folder of an untrained model of labels, which is found by its name."""
    from tests.tiny import tiny_labels

    tiny_labels().save("models/shoes")
    return Path("models/shoes")


def test_sample_writes_images_with_recipes_and_a_sheet(condgen, shoes):
    flags = ["--label", "sneaker,T-shirt/top", "--label", "Trouser", "--set", "laces=yes", "age=30"]
    code, out, err = condgen("sample", "--model", "shoes", *flags, "-n", 2, "--seed", 5)
    assert code == 0 and "sheet: out/grid.png" in err and len(out.splitlines()) == 6
    assert out.startswith("out/sneaker-laces-yes-age-30-5.png  label: Sneaker, laces: yes, age: 30  seed 5  ")
    recipe = read_recipe("out/t-shirt-top-laces-yes-age-30-6.png")
    assert recipe["labels"] == {"label": "T-shirt/top", "laces": "yes", "age": 30.0} and recipe["seed"] == 6
    with Image.open("out/trouser-laces-yes-age-30-5.png") as picture:
        assert picture.size == (8, 8) and picture.mode == "L"


def test_sample_json_is_one_object_an_image_and_nothing_else(condgen, shoes):
    code, out, _ = condgen("sample", "--model", shoes, "--set", "laces=no", "-n", 2, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [(line["labels"], line["seed"]) for line in lines] == [
        ({"laces": "no"}, 0),
        ({"laces": "no"}, 1),
    ]
    assert all(set(line) == {"labels", "seed", "path", "ms"} and Path(line["path"]).is_file() for line in lines)


def test_sample_all_labels_is_a_sheet_with_a_row_for_each(condgen, shoes):
    code, out, _ = condgen("sample", "--model", "shoes", "--all-labels", "-n", 3)
    assert code == 0 and len(out.splitlines()) == 12
    with Image.open("out/grid.png") as sheet:
        assert 3 * 160 < sheet.width < 4 * 160 and sheet.height > 4 * 160


def test_sample_options_are_those_of_the_model(condgen, shoes):
    assert condgen("sample", "--model", "shoes", "--label", "Sneaker", "--temperature", "1.5")[0] == 0
    assert read_recipe("out/sneaker-0.png")["temperature"] == 1.5
    from tests.tiny import tiny_labels

    tiny_labels("diffusion", image_channels=3).save("models/slow")
    assert (
        condgen("sample", "--model", "slow", "--label", "Sneaker", "--steps", "2", "--guidance", "3", "-o", "b")[0] == 0
    )
    recipe = read_recipe("b/sneaker-0.png")
    assert (recipe["steps"], recipe["guidance"]) == (2, 3.0) and "temperature" not in recipe
    code, _, err = condgen("sample", "--model", "slow", "--label", "Sneaker", "--temperature", "1")
    assert code == 2 and "no option --temperature" in err and "--guidance" in err


@pytest.mark.parametrize("kind", ["cvae", "cgan", "diffusion"])
def test_replay_generates_labels_again(condgen, kind):
    from tests.tiny import tiny_labels

    tiny_labels(kind, image_channels=3 if kind == "cgan" else 1).save("models/shoes")
    condgen("sample", "--model", "shoes", "--label", "Sneaker", "--set", "age=33.3", "--seed", 4)
    (picture,) = Path("out").iterdir()
    code, out, _ = condgen("replay", picture, "-o", "again", "--json")
    told = json.loads(out)
    assert code == 0 and told["equal"] is True and Path(told["path"]).read_bytes() == picture.read_bytes()
    tiny_labels(kind, image_channels=1 if kind == "cgan" else 3).save("other")
    code, _, err = condgen("replay", picture, "--model", "other")
    assert code == 2 and "Give the right model" in err


def test_replay_tells_how_far_a_grey_image_is_off(condgen, shoes):
    from PIL import PngImagePlugin

    condgen("sample", "--model", "shoes", "--label", "Sneaker", "-n", 2)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("condgen", json.dumps(read_recipe("out/sneaker-0.png")))
    with Image.open("out/sneaker-1.png") as picture:
        picture.save("mixed.png", pnginfo=text)
    code, out, _ = condgen("replay", "mixed.png", "-o", "again", "--json")
    assert code == 1 and json.loads(out)["largest_difference"] > 0


@pytest.mark.parametrize("how, place", [("folder", "set"), ("npz", "set/train.npz"), ("parquet", "set/train.parquet")])
def test_sample_writes_data_sets(condgen, shoes, how, place):
    flags = ["--per-label", 3, "--format", how, "--batch", 2, "--set", "laces=yes"]
    code, out, err = condgen("sample", "--model", "shoes", *flags, "-o", "set")
    assert code == 0 and out == f"{place}\n" and "100% 12 of 12 images" in err
    if how == "folder":
        names = {str(path.relative_to("set")) for path in Path("set").rglob("*.png")}
        assert names == {
            f"{label}/{i}.png" for label in ("T-shirt_top", "Trouser", "Sneaker", "Ankle boot") for i in range(3)
        }
        assert json.loads(Path("set/about.json").read_text())["attributes"] == {"laces": "yes"}
    code, _, err = condgen("sample", "--model", "shoes", *flags, "-o", "set")
    assert code == 2 and "exists already" in err


def test_a_data_set_of_some_labels(condgen, shoes):
    flags = ["--label", "Sneaker", "--per-label", 11, "--format", "folder", "--json"]
    told = json.loads(condgen("sample", "--model", "shoes", *flags, "-o", "set")[1])
    assert told == {"path": "set", "format": "folder", "labels": ["Sneaker"], "per_label": 11, "seed": 0}
    assert sorted(path.name for path in Path("set/Sneaker").iterdir())[:2] == ["00.png", "01.png"]
    assert [path.name for path in Path("set").iterdir() if path.is_dir()] == ["Sneaker"]


# replay


@pytest.mark.parametrize("prior", ["regression", "diffusion", "autoregressive", "none"])
def test_replay_gives_the_same_bytes(condgen, prior):
    condgen("generate", "zwei Hunde, ein Kreis ☃", "--seed", 3, "--prior", prior, "--model", "tiny", "--guidance", 1.1)
    (picture,) = Path("out").iterdir()
    code, out, _ = condgen("replay", picture, "-o", "again", "--json")
    told = json.loads(out)
    assert code == 0 and told["equal"] is True and told["largest_difference"] == 0
    assert Path(told["path"]).read_bytes() == picture.read_bytes()


def test_replay_tells_a_changed_image(condgen):
    condgen("generate", "a red circle", "-n", 2, "--model", "tiny")
    other, path = Path("out/a-red-circle-1.png"), Path("out/a-red-circle-0.png")
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_itxt("condgen", json.dumps(read_recipe(path)))
    with Image.open(other) as picture:
        picture.convert("RGB").save("mixed.png", pnginfo=text)
    code, out, _ = condgen("replay", "mixed.png", "-o", "again")
    assert code == 1 and "differs from mixed.png" in out
    assert Path("again/a-red-circle-0.png").read_bytes() == path.read_bytes()


def test_replay_refuses_other_weights(condgen, tiny_folder):
    from tests.tiny import tiny_model

    condgen("generate", "a red circle", "--model", "tiny")
    model = tiny_model()
    model.normalizer.mean += 0.1
    model.save("other")
    code, _, err = condgen("replay", "out/a-red-circle-0.png", "--model", "other", "-o", "again")
    ids = [read_recipe("out/a-red-circle-0.png")["model_id"], type(model).load("other").model_id]
    assert code == 2 and all(model_id in err for model_id in ids) and not Path("again").exists()


def test_replay_without_its_model_says_which_to_give(condgen, monkeypatch):
    condgen("generate", "a red circle", "--model", "tiny")
    monkeypatch.delenv("CONDGEN_MODELS")
    code, _, err = condgen("replay", "out/a-red-circle-0.png", "-o", "again")
    assert code == 2 and "generated by tiny" in err and "--model" in err


# what there is


def test_info(condgen):
    code, out, _ = condgen("info", "tiny", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["name"] == "tiny" and facts["size"] == 32
    assert facts["priors"] == ["regression", "diffusion", "autoregressive", "none"]
    assert [option["name"] for option in facts["options"]["decoder"]][:2] == ["guidance", "steps"]
    assert facts["options"]["prior regression"] == [] and len(facts["options"]["prior diffusion"]) == 3
    from tests.tiny import tiny_model

    clip = tiny_model().clip
    assert facts["parts"]["clip"]["parameters"] == sum(p.numel() for p in clip.parameters())
    assert facts["parameters"] == sum(part["parameters"] for part in facts["parts"].values())
    assert facts["space"] in condgen("info", "tiny")[1]


def test_list(condgen, tiny_folder):
    from condgen.recipes import RECIPES

    told = json.loads(condgen("list", "--json")[1])
    assert [recipe["name"] for recipe in told["recipes"]] == list(RECIPES)
    tiny = next(model for model in told["models"] if model["name"] == "tiny")
    assert tiny["path"] == str(tiny_folder) and tiny["priors"] == ["regression", "diffusion", "autoregressive"]
    assert tiny["task"] == "text-to-image"
    text = condgen("list")[1]
    terms = (
        "unCLIP",
        "DDPM",
        "CGAN",
        "CVAE",
        "VAE",
        "DCGAN",
        "InfoGAN",
        "pix2pix",
        "CycleGAN",
        "CLIP",
        "SimCLR",
        "MoCo",
    )
    assert all(term in text for term in terms)
    parts = [name.partition("-") for name in RECIPES]  # what collections and kinds have in common is told once
    assert "tiny" in text and all(name in text and (not kind or f"-{kind}" in text) for name, _, kind in parts)


def test_list_info_and_doctor_know_models_of_labels(condgen, shoes):
    models = json.loads(condgen("list", "--json")[1])["models"]
    assert {model["name"]: model["task"] for model in models}["shoes"] == "class-to-image"
    assert "condgen sample --label" in condgen("list")[1]
    facts = json.loads(condgen("info", "shoes", "--json")[1])
    assert facts["attributes"]["age"] == "18 to 90" and facts["image_channels"] == 1 and facts["size"] == 8
    assert [option["name"] for option in facts["options"]["decoder"]] == ["temperature"]
    told = condgen("info", "shoes")[1]
    assert "T-shirt/top, Trouser, Sneaker, Ankle boot" in told and "8 x 8, grey" in told and "--temperature" in told
    findings = {f["name"]: f for f in json.loads(condgen("doctor", "--json")[1])["findings"]}
    assert findings["model shoes"]["ok"] and facts["model_id"] in findings["model shoes"]["seen"]


# doctor


def test_doctor_finds_a_model_that_does_not_load(condgen, tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "models" / "broken")
    (tmp_path / "models" / "broken" / "decoder" / "model.safetensors").unlink()
    code, out, _ = condgen("doctor", "--json")
    told = json.loads(out)
    findings = {finding["name"]: finding for finding in told["findings"]}
    assert code == 1 and told["ok"] is False
    assert findings["model tiny"]["ok"] and not findings["model broken"]["ok"]
    assert "model.safetensors is missing" in findings["model broken"]["seen"]


def test_doctor_names_torchvision_beside_another_torch(tmp_path, monkeypatch):
    from condgen.cli.doctor import partner

    fault = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    finding = partner("torchvision", "torchvision")
    assert not finding.ok and "nms" in finding.seen and "Install them together" in finding.cure


def test_doctor_tells_what_is_missing_or_too_old(monkeypatch):
    from condgen.cli import doctor

    monkeypatch.setattr(doctor, "_requirements", lambda: ["numpy>=99", "nosuchthing>=1", "pillow>=1", "x; extra=='y'"])
    assert [(f.name, f.ok) for f in doctor.dependencies()] == [
        ("numpy", False),
        ("nosuchthing", False),
        ("pillow", True),
    ]


# data


def captioned(folder: Path, good: int, bad: int = 0) -> Path:
    folder.mkdir()
    for i in range(good + bad):
        Image.new("RGB", (8, 8), (i, 2 * i, 3 * i)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"image {i}\n")
    for i in range(bad):
        (folder / f"{i}.png").write_bytes(b"no image")
    return folder


def test_data_check(condgen, tmp_path):
    code, out, _ = condgen("data", "check", captioned(tmp_path / "good", 3))
    assert code == 0 and "3 of 3 rows usable" in out
    code, out, _ = condgen("data", "check", captioned(tmp_path / "poor", 3, bad=1), "--json")
    told = json.loads(out)
    assert code == 1 and told["ready"] is False and (told["total"], told["usable"]) == (4, 3)


def test_data_check_takes_columns(condgen, tmp_path):
    folder = tmp_path / "table"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "metadata.csv").write_text("picture,words,part\na.png,a black square,test\n")
    columns = ["--image-column", "picture", "--caption-column", "words", "--split-column", "part"]
    told = json.loads(condgen("data", "check", folder, *columns, "--json")[1])
    assert told["usable"] == 1 and told["splits"] == {"test": 1}
    code, _, err = condgen("data", "check", folder, "--caption-column", "wordz")
    assert code == 2 and "wordz" in err
    old = ["--image", "picture", "--text=words", "--split", "part"]
    code, out, err = condgen("data", "check", folder, *old, "--json")
    assert code == 0 and json.loads(out)["splits"] == {"test": 1}
    assert "warning: --text is now called --caption-column" in err and "--split-column" in err


def test_data_check_on_labels(condgen, tmp_path):
    code, out, err = condgen("data", "check", "digits", "-o", "sheets/digits.png")
    assert code == 0 and "label, 10 values:" in out and "Ready for training." in out and err == ""
    assert Image.open("sheets/digits.png").width > 8 * 64
    told = json.loads(condgen("data", "check", "digits", "--json")[1])
    assert told["ready"] and told["form"] == "digits" and sum(told["values"]["label"]["3"].values()) == 183
    folder = captioned(tmp_path / "said", 4)
    (folder / "metadata.csv").write_text("image,wet,age\n" + "".join(f"{i}.png,{i % 2},{i / 2}\n" for i in range(4)))
    code, out, _ = condgen("data", "check", folder, "--attribute-columns", "wet, age")
    assert code == 0 and "wet, 2 values:" in out and "age: a number, 0 to 1.5" in out
    code, _, err = condgen("data", "check", folder, "--label-column", "wett")
    assert code == 2 and "Did you mean 'wet'" in err


# train


@pytest.fixture
def trained(monkeypatch):
    """What `condgen train` hands to `recipes.train`."""
    calls = []

    def train(recipe, out, config):
        calls.append((recipe, out, config))
        return out / "model"

    monkeypatch.setattr("condgen.recipes.train", train)
    return calls


def test_train_without_options_takes_the_recipe_as_it_is(condgen, trained):
    from condgen.recipes import RECIPES

    code, out, _ = condgen("train", "scenes32", "-o", "run")
    assert code == 0 and out == "run/model\n"
    assert trained == [("scenes32", Path("run"), RECIPES["scenes32"].config())]
    condgen("train", "captions", "-o", "run", "--size", "small", "--data", "here")
    assert trained[1][2] == RECIPES["captions"].config("small", data="here")


def test_train_options_go_before_files_and_later_files_before_earlier(condgen, trained):
    Path("a.yaml").write_text(
        "minutes: 1\nseed: 1\ntotal_images: 1\nfit_clip: {lr: 0.5}\ndecoder: {channels: [8, 16]}\n"
    )
    Path("b.yaml").write_text("seed: 2\ntotal_images: 2\n")
    code, *_ = condgen("train", "scenes32", "--total_images", 3, "--config", "a.yaml", "-o", "run", "--config",
                       "b.yaml",
                       "--fit_clip.batch", 4, "--prior.kinds", '["diffusion"]', "--stage", "prior")  # fmt: skip
    config = trained[0][2]
    assert code == 0 and (config.minutes, config.seed, config.total_images) == (1.0, 2, 3)
    assert (config.fit_clip.lr, config.fit_clip.batch, config.stage) == (0.5, 4, "prior")
    assert config.decoder.channels == (8, 16) and config.prior.kinds == ("diffusion",)


def test_train_reads_what_it_prints(condgen, trained):
    code, out, _ = condgen("train", "captions", "--size", "base", "--minutes", 7, "--print_config")
    assert code == 0 and yaml.safe_load(out)["minutes"] == 7 and not trained
    Path("all.yaml").write_text("recipe: captions\n" + out)  # as the config.yaml of a run
    condgen("train", "captions", "--config", "all.yaml", "-o", "run")
    condgen("train", "captions", "--size", "base", "--minutes", 7, "-o", "run")
    assert trained[0] == trained[1]
    code, _, err = condgen("train", "scenes32", "--config", "all.yaml", "-o", "run")
    assert code == 2 and "of the recipe captions" in err


def test_train_help_lists_recipes_and_fields(condgen):
    assert "scenes32" in condgen("train", "--help")[1]
    assert "--fit_decoder.lr" in condgen("train", "scenes32", "--help")[1]


@pytest.mark.parametrize("number", [2, 15])
def test_train_stops_with_the_signal(condgen, monkeypatch, number):
    def train(*args):
        raise KeyboardInterrupt(number)

    monkeypatch.setattr("condgen.recipes.train", train)
    code, _, err = condgen("train", "scenes32", "-o", "run")
    assert code == 128 + number and err == "stopped; the same command goes on\n"


# evaluate


def test_evaluate_hands_its_options_on(condgen, monkeypatch, tiny_folder):
    calls = []

    def evaluate(model, progress, **chosen):
        progress(0.5, "half")
        calls.append((model, chosen))
        return {"model": "tiny", "model_id": "0", "prior": {"test": {"cosine": 0.5}}}

    monkeypatch.setattr("condgen.evaluation.evaluate", evaluate)
    numbers = ["--prompts", 3, "--images-per-prompt", 2]
    reading = ["--caption-column", "words", "--split-column", "part", "--filter", "", "--resize", "pad"]
    code, out, err = condgen("evaluate", "tiny", *numbers, *reading, "-o", "report", "--json")
    assert code == 0 and json.loads(out)["model"] == "tiny" and "50% half" in err
    chosen = {
        "out": Path("report"), "features": False, "caption_column": "words", "split_column": "part", "filter": "",
        "resize": "pad", "prompts": 3, "images_per_prompt": 2,
    }  # fmt: skip
    assert calls == [(tiny_folder, chosen)]
    assert "| test | 0.500 |" in condgen("evaluate", "tiny")[1]
    code, _, err = condgen("evaluate", "tiny", "--device", "abacus")
    assert code == 2 and "'abacus'" in err and len(calls) == 2


def test_old_names_of_evaluate_and_benchmark_warn_and_work(condgen, monkeypatch, tiny_folder):
    calls = []
    found = {"model": "tiny", "model_id": "0"}
    monkeypatch.setattr("condgen.evaluation.evaluate", lambda model, **chosen: calls.append(chosen) or found)
    code, _, err = condgen("evaluate", "tiny", "--against", "a", "--against=b", "--pictures", 2, "--parts", "c.parquet")
    assert code == 0 and "--against is now called --compare-with" in err
    chosen = {name: calls[0][name] for name in ("compare_with", "images_per_prompt", "layers")}
    assert chosen == {"compare_with": ["a", "b"], "images_per_prompt": 2, "layers": "c.parquet"}
    code, _, err = condgen("shelf", "--chapters", "gans")
    assert code == 2 and "the command shelf is now called benchmark" in err and "-o docs" in err


def test_what_cannot_be_measured_is_null(condgen, tmp_path):
    def refuse(number):
        raise AssertionError(number)

    data = captioned(tmp_path / "one", 1)
    flags = ["--data", data, "--split", "all", "--images-per-prompt", 1, "-o", "report"]
    code, out, err = condgen("evaluate", "tiny", *flags, "--json")
    report = json.loads(out, parse_constant=refuse)
    assert code == 0 and report["prior"]["test"]["none"]["variance_ratio"] is None and "degrees of freedom" not in err
    assert json.loads(Path("report/report.json").read_text()) == report
    assert "n/a" in Path("report/report.md").read_text()


@pytest.mark.parametrize("word", ["random", "-1"])
def test_a_random_seed_is_told_and_stands_in_the_recipe(condgen, tmp_path, word):
    from condgen.files.images import read_recipe

    code, _, err = condgen("generate", "a red circle", "--seed", word, "--steps", "1", "-o", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.png")
    assert (
        f"seed {read_recipe(path)['seed']}" in err and code == 0 and path.stem.endswith(str(read_recipe(path)["seed"]))
    )
