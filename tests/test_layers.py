"""The floors of the house: a room imports only from lower floors or from its own folder."""

import ast
from pathlib import Path

import pytest

import condgen

ROOT = Path(condgen.__file__).parent
FLOORS = {
    "contracts": 0, "losses": 0,
    "nn": 1, "diffusion": 1, "paintings": 1, "plots": 1, "models": 1, "words": 1, "ranks": 1, "factors": 1,
    "encoders": 2, "priors": 2, "decoders": 2, "baselines": 2, "data": 2, "metrics": 2, "training": 2,
    "painters": 3, "configs": 3,
    "pipeline": 4, "labelling": 4, "encoding": 4, "latents": 4, "translating": 4, "card": 4,
    "building": 4, "opening": 5, "synthesis": 5,
    "manifold": 6, "rehearsal": 6, "embedding": 6, "evaluation": 7,
    "corridor": 8, "label_training": 8, "single_run": 8, "searching": 8,
    "clip_training": 9, "selfsup_training": 9, "autoencoder_training": 9, "gan_training": 9, "translation_training": 9,
    "recipes": 10,
    "comparison": 11, "shelf": 11,
    "cli": 12, "studio": 12,
    "__init__": 13, "__main__": 13,
}  # fmt: skip
SHARED = {("diffusion", "nn")}
"""Noise may use bricks; nothing else crosses a floor sideways."""


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from; what is no room (`from condgen import load`) belongs to the front door."""
    home = ("condgen", *path.relative_to(ROOT).parts[:-1])
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            above = home[: len(home) + 1 - node.level] if node.level else ()
            names = [".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("condgen.")}
    return {name if name in FLOORS else "__init__" for name in rooms - {"__version__"}}


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_looks_only_down(path):
    own = room(path)
    assert own in FLOORS, f"{own} has no floor"
    for other in imported_rooms(path):
        allowed = other == own or FLOORS[other] < FLOORS[own] or (own, other) in SHARED
        assert allowed, f"{own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS[other]})"


@pytest.mark.parametrize(
    "line, rooms",
    [
        ("import torch, condgen.pipeline as p", {"pipeline"}),
        ("from condgen import words, __version__, load", {"words", "__init__"}),
        ("from condgen.nn.layers import Block", {"nn"}),
        ("from . import rows", {"data"}),
        ("from .rows import Columns", {"data"}),
        ("from .. import pipeline", {"pipeline"}),
        ("from ..cli.terminal import say", {"cli"}),
    ],
)
def test_every_way_to_import_is_seen(tmp_path, monkeypatch, line, rooms):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for name in ("__init__.py", "sources.py"):
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"def later():\n    {line}\n")
        assert imported_rooms(path) == rooms


def test_training_knows_no_model_and_no_data():
    for path in (ROOT / "training").glob("*.py"):
        assert imported_rooms(path) <= {"contracts", "ranks", "training"}, path


def test_no_rooms_for_odds_and_ends():
    assert not {p.stem for p in ROOT.rglob("*.py")} & {"utils", "util", "common", "helpers", "misc"}
