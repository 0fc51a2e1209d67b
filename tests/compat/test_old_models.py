"""Models of the first edition load, and generate, encode and translate what they did: every kind, and all bundled ones.

Bytes are compared where this machine rounds like the one that made the fixtures (`outputs.probe`), values elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from condgen.data.embeddings.store import Embeds
from tests.compat.outputs import condgen_main, outputs_of, run, sha, unpack

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
FOREIGN = ("clip-open-clip", "clip-transformers", "clip-paired")
"""Computed by other libraries, whose releases may round otherwise."""
REPLAYED = {"text": "text", "labels-weak": "labels-weak", "labels-cvae": "labels-cvae", "vae-conv": "vae-conv"}


@pytest.fixture(scope="module")
def arrays():
    with np.load(HERE / "expected.npz") as file:
        return dict(file)


def check(found: dict, expected: dict, arrays: dict, prefix: str, exact: bool) -> None:
    """Compares outputs with those of the first edition: where not exactly, images to 1/255 and vectors to 1e-4."""
    assert found.keys() == expected["outputs"].keys()
    for key, value in found.items():
        wanted = arrays[f"{prefix}/{key}"]
        if exact:
            assert sha(value) == expected["outputs"][key], key
        assert value.shape == wanted.shape and value.dtype == wanted.dtype, key
        room = 1 if value.dtype == np.uint8 else 1e-4 * max(1.0, np.abs(wanted).max())
        assert np.abs(value.astype(np.float64) - wanted.astype(np.float64)).max() <= room, key


def facts_of(folder: Path) -> dict[str, str]:
    import condgen

    model = condgen.load(folder)
    return {"model_id": model.model_id, "space": getattr(model, "space", "")}


@pytest.mark.parametrize("name", EXPECTED["models"])
def test_old_model(name, tmp_path, same_rounding, arrays):
    expected = EXPECTED["models"][name]
    folder = unpack(HERE / "models" / name, tmp_path / name)
    facts = facts_of(folder)
    assert facts["model_id"] == expected["model_id"]
    assert facts["space"] in ("", expected["space"])
    found = outputs_of(expected["kind"], folder, HERE / "data", tmp_path / "out", expected["labels"])
    check(found, expected, arrays, f"models/{name}", same_rounding and name not in FOREIGN)
    assert condgen_main("info", folder) == 0


@pytest.mark.parametrize("name", EXPECTED["models"])
def test_written_again_it_is_the_same_model(name, tmp_path, same_rounding, arrays):
    """Loaded from the old files, saved by this edition and loaded again."""
    import condgen

    expected = EXPECTED["models"][name]
    condgen.load(unpack(HERE / "models" / name, tmp_path / "old")).save(tmp_path / name)
    found = outputs_of(expected["kind"], tmp_path / name, HERE / "data", tmp_path / "out", expected["labels"])
    check(found, expected, arrays, f"models/{name}", same_rounding and name not in FOREIGN)
    assert facts_of(tmp_path / name)["space"] in ("", expected["space"])


@pytest.mark.parametrize("name", EXPECTED["bundled"])
def test_bundled_model(name, tmp_path, same_rounding, arrays):
    """With the defaults of the first edition, 12 steps where there are steps."""
    expected = EXPECTED["bundled"][name]
    folder = ROOT / ("condgen/assets" if name == "scenes32" else "models") / name
    found = outputs_of(expected["kind"], folder, HERE / "data", tmp_path, expected["labels"])
    check(found, expected, arrays, f"bundled/{name}", same_rounding)


@pytest.mark.parametrize("name", [*REPLAYED, "scenes32"])
def test_replay(name, tmp_path, same_rounding, capsys):
    """A PNG of the first edition is generated again from the recipe in it."""
    model = unpack(HERE / "models" / REPLAYED[name], tmp_path / "model") if name in REPLAYED else name
    condgen_main("replay", HERE / "replay" / f"{name}.png", "--model", model, "-o", tmp_path / "out", "--json")
    result = json.loads(capsys.readouterr().out)
    assert result["largest_difference"] <= (0 if same_rounding else 1)


def test_embeds_of_the_first_edition_are_read_and_made_anew_by_their_command(tmp_path):
    """The first edition kept no checksums, so that a change of the data could not be seen; the embeddings are equal."""
    folder = unpack(HERE / "embeds", tmp_path / "embeds")
    before = load_file(next(folder.glob("*.safetensors")))
    Embeds(folder)
    model = unpack(HERE / "models" / "text", tmp_path / "text")
    run("embed", model, "--data", HERE / "data" / "drawn.parquet", "-o", folder)
    (made,) = folder.glob("*.safetensors")
    for name, tensor in load_file(made).items():
        torch.testing.assert_close(tensor, before[name])
    Embeds(folder)


def test_the_search_cache_of_the_first_edition_is_used(tmp_path, monkeypatch, capsys):
    cache = unpack(HERE / "search-cache", tmp_path / "search-cache")
    unpack(HERE / "models" / "clip-resnet", tmp_path / "models" / "clip-resnet")
    before = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    monkeypatch.chdir(tmp_path)
    run(*EXPECTED["search"]["command"], "--cache", cache)
    assert before == {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    (found,), (wanted,) = json.loads(capsys.readouterr().out), EXPECTED["search"]["found"]
    assert [hit["file"] for hit in found["hits"]] == [hit["file"] for hit in wanted["hits"]]
    scores = [[hit["score"] for hit in one["hits"]] for one in (found, wanted)]
    assert np.allclose(*scores, atol=1e-4)
