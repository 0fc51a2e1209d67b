"""Everything that the package imports is declared in pyproject.toml, and nothing needs the `dev` extra."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import condgen

PACKAGE = Path(condgen.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
MODULES = {
    "pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn", "scikit-image": "skimage",
    "open-clip-torch": "open_clip",
}  # fmt: skip
"""Distributions whose module has another name."""


def modules_of(requirements: list[str]) -> set[str]:
    """The top-level modules of requirements; `condgen[extra]` is the package itself."""
    names = [re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements]
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


CORE = modules_of(PROJECT["dependencies"])
EXTRAS = {name: modules_of(requirements) for name, requirements in PROJECT["optional-dependencies"].items()}
OPTIONAL = EXTRAS["data"] | EXTRAS["heic"]
DEV = EXTRAS["dev"] - EXTRAS["data"] - CORE - {"condgen"}


def imports_of(path: Path) -> set[str]:
    """The top-level modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"condgen"}


def test_every_import_is_declared():
    used: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for name in imports_of(path):
            used.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    undeclared = {name: files for name, files in used.items() if name not in CORE | OPTIONAL}
    assert not undeclared, "declare these in pyproject.toml, or do without"
    assert "torchmetrics" in DEV and "scipy" in used


def test_every_dependency_is_imported():
    used = set().union(*(imports_of(path) for path in PACKAGE.rglob("*.py")))
    needed_by_others = {"tensorboard"}  # torch.utils.tensorboard
    assert CORE - used <= needed_by_others


BLOCKED = """
import importlib, pkgutil, sys

sys.modules.update(dict.fromkeys(sys.argv[1:]))  # an import of these raises ModuleNotFoundError
import condgen
for module in pkgutil.walk_packages(condgen.__path__, "condgen."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_every_module_can_be_imported_without_the_extras():
    blocked = DEV | OPTIONAL
    done = subprocess.run([sys.executable, "-c", BLOCKED, *blocked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
