"""The floors of the house: a room imports only from lower floors or from its own folder."""

import ast
from pathlib import Path

import pytest

import condgen

ROOT = Path(condgen.__file__).parent
FLOORS = {
    "contracts": 0, "losses": 0,
    "nn": 1, "diffusion": 1, "paintings": 1, "models": 1, "words": 1,
    "encoders": 2, "priors": 2, "decoders": 2, "data": 2, "metrics": 2, "training": 2,
    "pipeline": 3, "evaluation": 3, "card": 3,
    "rehearsal": 4, "corridor": 5,
    "recipes": 6,
    "cli": 7, "studio": 7,
}  # fmt: skip
SHARED = {("diffusion", "nn")}
"""Noise may use bricks; nothing else crosses a floor sideways."""


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "condgen" else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("condgen.")}
    return rooms


FILES = sorted(p for p in ROOT.rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_looks_only_down(path):
    own = room(path)
    assert own in FLOORS, f"{own} has no floor"
    for other in imported_rooms(path) & set(FLOORS):
        allowed = other == own or FLOORS[other] < FLOORS[own] or (own, other) in SHARED
        assert allowed, f"{own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS[other]})"


def test_training_knows_no_model_and_no_data():
    for path in (ROOT / "training").glob("*.py"):
        assert imported_rooms(path) <= {"contracts", "training"}, path


def test_no_rooms_for_odds_and_ends():
    assert not {p.stem for p in ROOT.rglob("*.py")} & {"utils", "util", "common", "helpers", "misc"}
