"""The README is the contract: its blocks run, its paths exist, its first screen is what it promises."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python|text)\n(.*?)```", README, re.DOTALL)


def lines(kind: str) -> list[str]:
    found = [line for k, body in BLOCKS if k == kind for line in body.strip().splitlines()]
    return [part.strip() for line in found for part in line.split("&&")]


def run(words: list[str], cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_runs(tmp_path):
    """In order, in one folder, as a build_cond_encoder would; installing and testing are left to `.ci/run`."""
    (tmp_path / "app.py").write_text((ROOT / "app.py").read_text())
    commands = [line for line in lines("bash") if not line.startswith(("pip ", "pytest"))]
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command)
        words[:1] = [sys.executable, "-m", "condgen"] if words[0] == "condgen" else [sys.executable]
        run(words, tmp_path)
    assert len(list((tmp_path / "out").rglob("*.png"))) >= 10


def test_the_python_blocks_run(tmp_path):
    bodies = [body for kind, body in BLOCKS if kind == "python"]
    assert bodies
    for body in bodies:
        run([sys.executable, "-c", body], tmp_path)
    assert list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("line", [line for line in lines("text") if re.search(r"(^|-m )condgen ", line)])
def test_the_longer_commands_are_understood(line, tmp_path):
    """What trains for minutes is not run here, but every verb and option of it must exist."""
    words = shlex.split(line)
    words = words[words.index("condgen") + 1 :]
    if words[0] == "train":
        run([sys.executable, "-m", "condgen", *words, "--print_config"], tmp_path)
        return
    verb = words[: 2 if words[0] in ("data", "latent-space") else 1]
    told = run([sys.executable, "-m", "condgen", *verb, "--help"], tmp_path)
    for option in (word for word in words if word.startswith("-")):
        assert option in told


def test_links_and_pictures_exist():
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith("http")]
    assert targets and not [t for t in targets if not (ROOT / t).exists()]


def test_first_screen():
    """One sentence, one image, the two commands."""
    first = README.split("## ", 1)[0]
    assert first.count("![") == 1 and len(first.splitlines()) < 25
    assert 'pip install . && condgen generate "a red circle above a blue square" -o out' in first
    assert 'pip install -e ".[dev]" && pytest' in first


def test_ci_installs_and_tests_the_way_the_readme_says():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in ci and "ruff" in ci
