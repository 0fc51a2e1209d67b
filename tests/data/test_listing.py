"""What condgen wrote into a folder of data is never data: runs, models, reports, sheets, images, vectors."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.export import Contents, writing
from condgen.data.sources.captions import load_captions
from condgen.data.sources.images import EVERY, files_below
from condgen.data.sources.labels import open_labelled
from condgen.data.sources.open_images import open_any
from condgen.data.sources.pairs import SideOptions, open_pairs
from condgen.files.images import GeneratedImage, grid, png_bytes
from condgen.retrieval.gallery import Gallery
from condgen.retrieval.vectors import Vectors
from condgen.training.run_folder import RunFolder


def pixels(seed: int, size: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))


def generated(seed: int = 0) -> GeneratedImage:
    recipe = {"prompt": "p" * 9000, "prior": "none", "seed": seed, "model": "m", "model_id": "i", "size": 16}
    return GeneratedImage(pixels(100 + seed), recipe, None, 1.0)


def sheet() -> bytes:
    return png_bytes(grid([pixels(1), pixels(2)], ["", ""]))


def run(folder):
    RunFolder(folder / "run", {"recipe": "digits-vae"}, data={"memory": "1"})
    (folder / "run" / "samples" / "a.png").write_bytes(sheet())


def model(folder):
    (folder / "model").mkdir()
    (folder / "model" / "model_index.json").write_text("{}")
    pixels(3).save(folder / "model" / "sheet.png")


def report(folder):
    (folder / "report").mkdir()
    for name in ("report.json", "report.md"):
        (folder / "report" / name).write_text("{}")
    pixels(4).save(folder / "report" / "curve.png")


def search(folder):
    (folder / "search.png").write_bytes(sheet())
    (folder / "grid-2.png").write_bytes(sheet())


def images(folder):
    (folder / "out").mkdir()
    for seed in range(3):
        generated(seed).save(folder / "out")
    (folder / "out" / "grid.png").write_bytes(sheet())


def vectors(folder):
    (folder / "cache").mkdir()
    for name in ("v.parquet", "v.npy"):
        rows = [{"file": "a.png", "label": "cat"}] * 2
        Vectors.of(np.ones((2, 4), np.float32), rows, {"space": "0"}).write(folder / "cache" / name)


OUTPUTS = (run, model, report, search, images, vectors)


def plain(folder):
    for i in range(40):
        pixels(i).save(folder / f"{i}.png")
    return lambda: open_any(folder).digest


def classes(folder):
    for i in range(40):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels(i).save(folder / "ab"[i % 2] / f"{i}.jpg")
    return lambda: open_labelled(folder).digest


def captioned(folder):
    for i in range(40):
        pixels(i).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"thing {i % 7}")
    return lambda: load_captions(folder, 16).digest


def table(folder):
    for i in range(40):
        pixels(i).save(folder / f"{i}.png")
    rows = [{"file_name": f"{i}.png", "text": f"thing {i}"} for i in range(40)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return lambda: load_captions(folder, 16).digest


def pairs(folder):
    for i in range(40):
        Image.new("RGB", (32, 16), (i, 2 * i, 3 * i)).save(folder / f"{i}.png")
    return lambda: open_pairs(folder, SideOptions(16)).digest


def gallery(folder):
    plain(folder)
    return lambda: [entry.file for entry, _ in Gallery(folder).each(16)]


@pytest.mark.parametrize("write", OUTPUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("layout", [plain, classes, captioned, table, pairs, gallery], ids=lambda f: f.__name__)
def test_outputs_among_the_data_change_nothing(layout, write, tmp_path):
    read = layout(tmp_path)
    before = read()
    write(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read() == before
    told = [str(one.message) for one in caught if "condgen wrote it" in str(one.message)]
    assert told or layout is table, "it is said what is left out"


def test_a_folder_of_generated_images_alone_is_data(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    for seed in range(40):
        generated(seed).save(tmp_path / ("cat", "dog")[seed % 2])
    assert len(open_labelled(tmp_path, split="all")) == 40
    out = tmp_path / "set"
    contents = Contents(("a", "b"), (20, 20), (3, 16, 16), {})
    with writing(out, "folder", contents) as put:
        for label in range(2):
            put(np.random.default_rng(label).integers(0, 256, (20, 3, 16, 16), np.uint8), label, 0)
    assert len(open_labelled(out, split="all")) == 40


def test_a_generated_image_with_a_caption_of_its_own_is_data(tmp_path):
    captioned(tmp_path)
    (tmp_path / "more.png").write_bytes(generated().png())
    (tmp_path / "more.txt").write_text("a mine")
    assert len(load_captions(tmp_path, 16, split="all")) == 41


@pytest.mark.parametrize("write, name", [(run, "run"), (model, "model")])
def test_a_run_or_a_model_given_as_data_is_refused_by_what_it_is(write, name, tmp_path):
    write(tmp_path)
    with pytest.raises(CondgenError, match=rf"{name} is a (training run|model) of condgen, and no data"):
        open_any(tmp_path / name)


def test_files_of_other_programs_with_our_names_are_data(tmp_path):
    """A config.yaml, a grid.png and a folder of samples that condgen did not write."""
    for name in ("samples", "checkpoints"):
        (tmp_path / "theirs" / name).mkdir(parents=True)
    (tmp_path / "theirs" / "config.yaml").write_text("lr: 1\n")
    for name in ("samples/grid.png", "search.png"):
        pixels(1).save(tmp_path / "theirs" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CondgenWarning)
        assert len(files_below(tmp_path)) == 3


def test_sheets_are_found_among_very_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("condgen.data.sources.images.EVERY", 10)
    assert EVERY > 10
    read = plain(tmp_path)
    before = read()
    search(tmp_path)
    with pytest.warns(CondgenWarning, match=r"grid-2\.png .*search\.png"):
        assert read() == before
    shutil.rmtree(tmp_path)
