"""Weights on disk: what is dropped, added, renamed, misshaped, of another type or not finite is refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from condgen.contracts import CondgenError
from condgen.files import renamed
from condgen.files.registry import ASSETS, INDEX, about, found
from condgen.files.weights import WEIGHTS, check_weights, load_part, read_tensors, save_part, save_tensors, tensors_of
from condgen.pipelines.auto import kind_of, load_folder
from condgen.pipelines.base import model_id_of
from tests.compat.outputs import unpack
from tests.tiny import tiny_labels, tiny_model

ROOT = Path(__file__).resolve().parents[2]
PACKED = sorted(ROOT.glob("tests/compat/models/*"))
BUNDLED = [ASSETS / "scenes32", *sorted(ROOT.glob("models/*"))]
STRANGERS = (".DS_Store", "._model.safetensors", "._config.json", "Thumbs.db", "desktop.ini", ".model.safetensors.swp",
             "model (1).safetensors", "config copy.json", "notes.txt", "model.safetensors.bak")  # fmt: skip
"""Files that may lie in every folder of a model; those with the names of copies only beside our own parts."""


def a_nan(tensor: Tensor) -> Tensor:
    spoilt = tensor.float().clone()
    spoilt.view(-1)[-1:] = float("nan")
    return spoilt


FAULTS: dict[str, Callable[[dict[str, Tensor], str], dict[str, Tensor]]] = {
    "dropped": lambda t, name: {k: v for k, v in t.items() if k != name},
    "renamed": lambda t, name: {(f"{k}x" if k == name else k): v for k, v in t.items()},
    "misshaped": lambda t, name: t | {name: t[name].repeat(*[1] * t[name].ndim, 2) if t[name].ndim else t[name][None]},
    "of another type": lambda t, name: (
        t | {name: t[name].to(torch.int32 if t[name].is_floating_point() else torch.half)}
    ),
    "added": lambda t, name: t | {f"{name}.more": torch.zeros(2)},
    "complex": lambda t, name: t | {name: t[name].to(torch.complex64)},
    "NaN": lambda t, name: t | {name: a_nan(t[name])},
    "infinite": lambda t, name: t | {name: torch.full_like(t[name], float("-inf"))},
    "above 32 bits": lambda t, name: t | {name: torch.full_like(t[name], 1e300, dtype=torch.float64)},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A model of every kind that there is, those of the first edition among them."""
    home = tmp_path_factory.mktemp("models")
    for source in PACKED:
        unpack(source, home / source.name)
    tiny_model().save(home / "tiny")
    tiny_labels().save(home / "tiny-labels")
    return {path.name: path for path in sorted(home.iterdir())}


TENSOR_FAULTS = ("dropped", "renamed", "misshaped", "of another type", "added")
KINDS = [path.name for path in PACKED] + ["tiny", "tiny-labels"]
OF_LIBRARIES = ("clip-open-clip", "clip-transformers", "clip-paired")


def parts_of(folder: Path) -> dict[str, nn.Module]:
    """The parts whose weights `tensors_of` reads."""
    pipeline = kind_of(folder).pipeline_class
    modules = pipeline.sketch(folder, pipeline.read_index(folder))
    return {name: module for name, module in modules.items() if any(True for _ in module.parameters())}


@pytest.mark.parametrize("path", [*BUNDLED, *KINDS], ids=lambda path: Path(path).name)
def test_every_tensor_of_every_part_is_needed_as_it_is(folders, path):
    folder = folders.get(path, path) if isinstance(path, str) else path
    parts, tried = parts_of(folder), 0
    for part, module in parts.items():
        sound = tensors_of(module, folder / part)
        for k, name in enumerate(sound):
            for fault in TENSOR_FAULTS if isinstance(path, str) else TENSOR_FAULTS[k % 5 : k % 5 + 1]:
                with pytest.raises(CondgenError) as error:
                    check_weights(module, FAULTS[fault](sound, name), folder / part / WEIGHTS)
                assert name in str(error.value) and str(folder / part) in str(error.value), fault
                tried += 1
        check_weights(module, sound, folder / part)
    assert tried or path in OF_LIBRARIES


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_a_bad_tensor_does_not_load(folders, kind, fault):
    """A tensor of every file of every kind of model, another one for every fault."""
    for file in sorted(folders[kind].glob(f"*/{WEIGHTS}")):
        content, sound = file.read_bytes(), load_file(file)
        names = sorted(name for name, x in sound.items() if x.is_floating_point() and x.numel())
        name = names[list(FAULTS).index(fault) * 7 % len(names)]
        try:
            save_file(FAULTS[fault](sound, name), file, {"format": "pt"})
            with pytest.raises(CondgenError) as error:
                load_folder(folders[kind])
            assert name in str(error.value) or renamed.tensor_name(name) in str(error.value), error.value
            assert str(file.parent) in str(error.value)
        finally:
            file.write_bytes(content)


def test_the_same_tensor_under_its_old_and_its_new_name_is_refused(tmp_path):
    tiny_model().save(tmp_path / "m")
    file = tmp_path / "m" / "decoder" / WEIGHTS
    tensors = load_file(file)
    name = next(name for name in tensors if "cond_encoder" in name)
    old = name.replace("cond_encoder", "said")
    save_file(tensors | {old: tensors[name].clone()}, file)
    with pytest.raises(CondgenError, match=rf"{old} and {name}"):
        load_folder(tmp_path / "m")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_not_written(tmp_path, bad):
    net = nn.Linear(3, 2)
    net.weight.data[1, 2] = bad
    for write in (lambda: save_part(net, tmp_path / "part"), lambda: save_tensors(net.state_dict(), tmp_path / "x.st")):
        with pytest.raises(CondgenError, match=r"NaN or infinite in weight \(1 of 6\)"):
            write()
    assert not list(tmp_path.rglob("*.*"))


def test_numbers_that_16_bits_cannot_hold_keep_32(tmp_path):
    model = tiny_model()
    name, weight = next(iter(model.decoder.named_parameters()))
    weight.data.view(-1)[0] = 7e4
    model.save(tmp_path / "m")
    stored = read_tensors(tmp_path / "m" / "decoder" / WEIGHTS)
    assert stored[name].dtype == torch.float32 and stored[name].view(-1)[0] == 7e4
    assert sum(x.dtype == torch.float16 for x in stored.values()) == len(stored) - 1
    assert torch.equal(load_folder(tmp_path / "m").decoder.state_dict()[name], weight)


def test_empty_and_whole_number_tensors_are_finite(tmp_path):
    net = nn.BatchNorm1d(2)
    net.register_buffer("empty", torch.zeros(0, 3))
    save_tensors(net.state_dict(), tmp_path / WEIGHTS)
    assert read_tensors(tmp_path / WEIGHTS).keys() == net.state_dict().keys()


# strangers


@pytest.mark.parametrize("kind", KINDS)
def test_strangers_in_a_model_folder_change_nothing(folders, kind, tmp_path):
    """Whatever systems, archives and people leave beside the files of a model."""
    from condgen.cli.info import facts_of

    home = tmp_path / "models"
    folder = home / kind
    shutil.copytree(folders[kind], folder)
    before = facts_of(folder) | {"bytes": 0}
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        own = kind not in OF_LIBRARIES[:2] or place == folder
        for name in STRANGERS if own else STRANGERS[:6]:
            (place / name).write_bytes(b"\0\5\26\7 not ours")
        (place / "__MACOSX").mkdir()
        (place / "__MACOSX" / WEIGHTS).write_bytes(b"not ours")
    for name in ("__MACOSX", "backup", ".git"):
        (folder / name).mkdir(exist_ok=True)
        for file in ("config.json", WEIGHTS, "tokenizer.json", f"._{WEIGHTS}"):
            (folder / name / file).write_bytes(b"not ours")
    assert facts_of(folder) | {"bytes": 0} == before
    model = load_folder(folder)
    assert model.model_id == before["model_id"]


def test_strangers_in_the_folders_of_models_are_no_models(tmp_path, monkeypatch, folders):
    monkeypatch.setenv("CONDGEN_MODELS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = found()
    shutil.copytree(folders["tiny"], tmp_path / "mine")
    for name in (".Trash-1000", "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".git"):
        shutil.copytree(folders["tiny"], tmp_path / name)
        shutil.copytree(folders["tiny"], tmp_path / "mine" / name)
        shutil.copytree(folders["tiny"], tmp_path / f"{name}-run" / "model")
    for name in (".DS_Store", f"._{INDEX}", "Thumbs.db"):
        (tmp_path / name).touch()
    assert found().keys() - before.keys() == {"mine", *(f"{n}-run" for n in ("__MACOSX", "@eaDir", "$RECYCLE.BIN"))}
    assert about(tmp_path / "mine")["name"] == "tiny"


def test_the_id_of_a_model_counts_its_parts(folders, tmp_path):
    folder = shutil.copytree(folders["tiny"], tmp_path / "m")
    model = load_folder(folder)
    for file in sorted(file for file in folder.glob("*/*") if file.suffix in (".json", ".safetensors")):
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert model_id_of(folder, type(model).part_types(about(folder), folder)) != model.model_id, file
        file.write_bytes(content)
    assert model_id_of(folder, type(model).part_types(about(folder), folder)) == model.model_id
    assert load_part(type(model.decoder), folder / "decoder")


def flip(path: Path, place: int) -> None:
    """Changes the lowest bit of one byte: a sound number, and the length stays."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [-1, -1000, -4000])
@pytest.mark.parametrize("half", [False, True])
def test_a_byte_that_changed_in_weights_is_noticed(tmp_path, place, half):
    net = tiny_model().clip
    save_part(net, tmp_path, half)
    load_part(type(net), tmp_path)
    flip(tmp_path / WEIGHTS, place)
    with pytest.raises(CondgenError, match=r"model\.safetensors is damaged \(its checksum is another\)"):
        load_part(type(net), tmp_path)
    save_file(load_file(tmp_path / WEIGHTS), tmp_path / WEIGHTS)  # as another program writes it, on purpose
    load_part(type(net), tmp_path)
