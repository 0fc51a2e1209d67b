"""The folder of a run: one process at a time, the same data wherever it lies, and never data itself."""

from __future__ import annotations

import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.distributed import LOCK, locked
from condgen.recipes import train
from tests.configs import changed
from tests.tasks.test_gan import small
from tests.test_locks import contents


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(40):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)).save(folder / f"{i}.png")
    return folder


def config(data, images: int = 64):
    return changed(small("gan"), data={"path": str(data)}, total_images=images, eval_count=1)


def test_a_run_that_another_process_trains_is_refused_and_left_as_it_is(data, tmp_path):
    train("digits-gan", tmp_path / "run", config(data))
    with locked(tmp_path / "run"):
        before = contents(tmp_path / "run")
        with pytest.raises(CondgenError, match=f"already writes into .*run.*process {os.getpid()} on"):
            train("digits-gan", tmp_path / "run", config(data, 128))
        assert contents(tmp_path / "run") == before
    train("digits-gan", tmp_path / "run", config(data))
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_run_that_was_killed_goes_on(data, tmp_path):
    train("digits-gan", tmp_path / "run", config(data))
    (tmp_path / "run" / LOCK).write_text('{"pid": 1, "host": "another"}')  # left by kill -9
    train("digits-gan", tmp_path / "run", config(data))


def test_a_folder_that_was_locked_and_killed_before_anything_was_written_is_as_good_as_empty(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).touch()
    train("digits-gan", tmp_path / "run", config(data))


def test_the_content_of_the_data_decides_and_not_its_place(data, tmp_path, monkeypatch):
    train("digits-gan", tmp_path / "run", config(data))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, tmp_path / "moved")
    (tmp_path / "link").symlink_to(data)
    for place in ("data", "./data/", "data/../data", "moved", "link"):
        with pytest.warns(CondgenWarning, match=f"data.path: .* -> {place}"):
            train("digits-gan", "run", config(place))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CondgenWarning)
        train("digits-gan", "run", config("link"))
    Image.new("L", (8, 8)).save(tmp_path / "moved" / "0.png")
    with pytest.raises(CondgenError, match="data of run are not those of the original run"):
        train("digits-gan", "run", config("moved"))


def test_without_a_digest_the_place_decides(data, tmp_path):
    """A run of before digests were kept."""
    train("digits-gan", tmp_path / "run", config(data))
    (tmp_path / "run" / "data.json").unlink()
    data.rename(tmp_path / "moved")
    with pytest.raises(CondgenError, match=r"other settings \(data.path"):
        train("digits-gan", tmp_path / "run", config(tmp_path / "moved"))


def test_a_run_inside_its_data_goes_on(data, monkeypatch):
    monkeypatch.chdir(data)
    train("digits-gan", "run", config("."))
    assert list((data / "run" / "samples").glob("*.png"))
    with pytest.warns(CondgenWarning, match=r"left out, since condgen wrote it: run \(a training run\)"):
        train("digits-gan", "run", config("."))
        train("digits-gan", "second", config("."))
