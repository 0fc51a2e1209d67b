"""Layering of the package: a room imports only from lower layers or from its own folder."""

import ast
from pathlib import Path

import pytest

import condgen

ROOT = Path(condgen.__file__).parent
LAYERS = (
    "contracts losses",
    "nn diffusion distributed files kinds metrics text",
    "encoders priors decoders baselines training",
    "data",
    "pipelines",
    "latent_space retrieval",
    "evaluation",
    "tasks",
    "recipes",
    "benchmarks",
    "studio",
    "cli",
    "__init__ __main__",
)
"""The rooms (folders and top-level modules) from the ground up: a room imports only from the layers below it."""
FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names.split()}
SIDEWAYS = {("diffusion", "nn"), ("files", "nn"), ("__main__", "__init__")}
"""The imports within one layer that are allowed."""


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from; a public name (`from condgen import load`) belongs to `__init__`."""
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
    return {name if name in FLOOR else "__init__" for name in rooms - {"__version__"}}


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_views_only_down(path):
    own = room(path)
    assert own in FLOOR, f"{own} is in no layer"
    for other in imported_rooms(path):
        allowed = other == own or FLOOR[other] < FLOOR[own] or (own, other) in SIDEWAYS
        assert allowed, f"{own} (layer {FLOOR[own]}) imports {other} (layer {FLOOR[other]})"


def test_the_layers_name_the_rooms_that_there_are():
    assert set(FLOOR) == {room(path) for path in FILES}


@pytest.mark.parametrize(
    "line, rooms",
    [
        ("import torch, condgen.pipelines.text_to_image as p", {"pipelines"}),
        ("from condgen import text, __version__, load", {"text", "__init__"}),
        ("from condgen.nn.layers import Block", {"nn"}),
        ("from . import rows", {"data"}),
        ("from .rows import Columns", {"data"}),
        ("from .. import pipelines", {"pipelines"}),
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
        assert imported_rooms(path) <= {"contracts", "distributed", "files", "training"}, path


def test_no_rooms_for_odds_and_ends():
    assert not {p.stem for p in ROOT.rglob("*.py")} & {"utils", "util", "common", "helpers", "misc"}


def test_classes_files_and_calls_stay_small():
    """At most 200 lines a class, 400 lines a file, ten parameters a function, and seven modules beside the folders."""
    large = []
    for path in ROOT.rglob("*.py"):
        text = path.read_text("utf-8")
        if text.count("\n") > 400:
            large.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= 200:
                large.append(f"{path}: class {node.name}")
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                own = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([one for one in own if one.arg not in ("self", "cls")]) > 10:
                    large.append(f"{path}: {node.name}")
    assert not large and len([*ROOT.glob("*.py")]) <= 7
