"""Documentation: commands and Python blocks run, options and links exist, the README's first screen is as promised."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from condgen.cli.main import main
from condgen.files import renamed
from tests.test_layers import LAYERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
README = TEXTS["README.md"]


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXTS[page], re.DOTALL)


def commands(page: str, kind: str) -> list[str]:
    lines = [line for body in blocks(page, kind) for line in body.strip().splitlines()]
    return [part.strip() for line in lines for part in line.split("&&")]


def run(words: list[str], cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_of_the_readme_runs(tmp_path):
    """In order and in one folder, as a reader runs them; installing and testing are left to `.ci/run`."""
    (tmp_path / "app.py").write_text((ROOT / "app.py").read_text())
    lines = [line for line in commands("README.md", "bash") if not line.startswith(("pip ", "pytest"))]
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line)
        words[:1] = [sys.executable, "-m", "condgen"] if words[0] == "condgen" else [sys.executable]
        run(words, tmp_path)
    assert len(list((tmp_path / "out").rglob("*.png"))) >= 10


@pytest.mark.parametrize("page", [page for page in TEXTS if blocks(page, "python")])
def test_python_blocks_run(page, tmp_path):
    for body in blocks(page, "python"):
        run([sys.executable, "-c", body], tmp_path)
    if page == "README.md":
        assert list((tmp_path / "out").glob("*.png"))


def longer(page: str) -> list[str]:
    """The commands in text blocks and, in the results, in running text; without those that are abbreviated."""
    prose = re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL) if page == "docs/results.md" else ""
    inline = [" ".join(code.split()) for code in re.findall(r"`(condgen [^`]+)`", prose)]
    lines = [*(line for line in commands(page, "text") if re.search(r"(^|-m )condgen ", line)), *inline]
    return [line for line in lines if not re.search(r"\.\.\.| \[-", line) and len(line.split()) > 2]


LONGER = {page: longer(page) for page in TEXTS}


@pytest.mark.parametrize("page", [page for page in TEXTS if LONGER[page]])
def test_longer_commands_are_understood(page, capsys):
    """What takes minutes does not run here, but every command, recipe and option of it exists under this name."""
    for line in LONGER[page]:
        words = shlex.split(line)
        words = words[words.index("condgen") + 1 :]
        training = words[0] == "train"
        names = words[: 2 if words[0] in ("data", "latent-space") else 1]
        try:
            code = main([*words, "--print_config"] if training else [*names, "--help"])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert not code and not err, (line, err)
        for option in () if training else (word for word in words if word.startswith("-")):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", out), (line, option)


@pytest.mark.parametrize("page", TEXTS)
def test_links_and_images_exist(page):
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists(), target
            headings = [re.sub(r"[^\w -]", "", line.lstrip("# ").lower()) for line in file.read_text().splitlines()
                        if line.startswith("#")] if anchor else []  # fmt: skip
            assert not anchor or anchor in [heading.replace(" ", "-") for heading in headings], target


def test_the_changelog_names_every_renamed_command_and_option():
    names = [*renamed.COMMANDS.items(), *renamed.TOOLS.items(), *(pair for options in renamed.OPTIONS.values()
             for pair in options.items())]  # fmt: skip
    changelog = set(re.findall(r"[\w-]+", TEXTS["CHANGELOG.md"]))
    assert not [pair for pair in names if not {word.removesuffix("=") for word in pair} <= changelog]


def test_every_page_is_linked_from_the_readme():
    for page in TEXTS:
        assert page == "README.md" or f"]({page})" in README, page


def test_the_readme_is_short_and_its_first_screen_has_one_sentence_one_image_and_two_commands():
    assert len(README.splitlines()) <= 170
    first = README.split("## ", 1)[0]
    assert first.count("![") == 1 and len(first.splitlines()) < 25
    assert 'pip install . && condgen generate "a red circle above a blue square" -o out' in first
    assert 'pip install -e ".[dev]" && pytest' in first


def test_ci_installs_and_tests_the_way_the_readme_says():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in ci and "ruff" in ci


@pytest.mark.parametrize("page", ["docs/reliability.md", "docs/studio.md", "SECURITY.md", "docs/results.md"])
def test_the_tests_and_files_that_a_page_names_exist(page):
    sources = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    for name in re.findall(r"`[^`\n]*`", TEXTS[page]):
        for path in re.findall(r"(?:tests|condgen|scripts)/[\w/.-]*\w", name):
            assert (ROOT / path).exists(), path
        for path in re.findall(r"(?<![\w/])\w+/test_\w+\.py", name):
            assert (ROOT / "tests" / path.removeprefix("tests/")).exists(), path
        for test in re.findall(r"(?<![\w/])test_\w+(?!\w*\.py)", name) if page != "docs/results.md" else ():
            assert f"def {test}" in sources, test


def test_the_architecture_page_has_the_layers_and_files_of_the_package():
    page = TEXTS["docs/architecture.md"]
    rows = re.findall(r"^\| \d+ \| (.*?) \|", page, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == [set(names.split()) for names in LAYERS[:-1]]
    for path in re.findall(r"`([a-z_]+/[\w/]*(?:\.py)?)`", page):
        assert (ROOT / "condgen" / path).exists() or (ROOT / path).exists(), path
