"""What many tests need: a model on disk, and a shell to run condgen in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; with more threads they wait for each other


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The folder of an untrained model named `tiny`; do not change it, copy it."""
    from tests.tiny import tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save(folder)
    return folder


@pytest.fixture
def broken(tiny_folder, tmp_path):
    """A copy of the tiny model to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "broken"))


@pytest.fixture
def condgen(tiny_folder, tmp_path, monkeypatch, capsys):
    """Runs one command in an empty folder: condgen("generate", "a red circle") -> (exit code, stdout, stderr)."""
    from condgen.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDGEN_MODELS", str(tiny_folder.parent))

    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(word) for word in argv])
        except SystemExit as end:  # --help and --version
            code = end.code or 0
        return code, *capsys.readouterr()

    return run
