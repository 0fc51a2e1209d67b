"""Vocabulary: names, docstrings, messages and options use the field's terms, see CONTRIBUTING.md."""

import ast
import re
from pathlib import Path

import pytest

import condgen

ROOT = Path(condgen.__file__).parent
ANYWHERE = (
    "corridors?", "side doors?", "rehears\\w*", "painters?", "painting\\w*", "paint(s|ed)?", "repaint\\w*", "knobs?",
    "dials?",
    "told", "wish(es)?", "oddit\\w*", "nearness", "shel(f|ves)", "(?<!image )manifold", "waves", "judge[sd]?",
    "pictures?", "anybody", "nobody", "whatever", "mended",
)  # fmt: skip
"""Words that are not used in names or texts."""
NAMES = ("said", "eye", "eyes", "looks", "odd", "game", "exam", "guessed")
"""Words that are no names by themselves; they are plain English in texts, or parts of other names (`held_out`)."""
EXEMPT = {
    "files/renamed.py": "",  # names of the first edition
    "data/templates.py": "paint|picture",  # captions of classes
    "data/sources/tables.py": "^picture$",  # a name of columns
    "recipes/unconditional.py": "^pictures$",  # a name of recipes, as in pictures-vae
    "benchmarks/models.py": "pictures",
    "cli/benchmark.py": "pictures",
    "encoders/interop/convert.py": "^painted$",  # a word of test texts
}
"""File -> texts in it that are data or old names; '' exempts all of it."""
PATTERN = re.compile(rf"\b({'|'.join(ANYWHERE)})\b", re.IGNORECASE)
PART_PATTERN = re.compile(rf"^({'|'.join(ANYWHERE)})$")


def parts(name: str) -> list[str]:
    """The words of an identifier: `LabelledImages` -> labelled, images."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def is_bad(name: str) -> bool:
    return name.strip("_").lower() in NAMES or any(PART_PATTERN.match(part) for part in parts(name))


def names_and_texts(source: str) -> tuple[set[str], list[tuple[int, str]]]:
    """All identifiers that a file binds or passes, and all strings with their lines."""
    names, texts = set(), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            names.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append((node.lineno, node.value))
    return names, texts


def offences(file: str, source: str) -> list[str]:
    names, texts = names_and_texts(source)
    exempt = EXEMPT.get(file)
    if exempt == "":
        return []
    found = [f"{file}: name {name}" for name in sorted(names) if is_bad(name)]
    for line, text in texts:
        text = re.sub(r"\bReferences:\n.*?(\n\s*\n|$)", "", text, flags=re.DOTALL)
        words = (
            {word[1].lower() for word in PATTERN.finditer(text)} if not exempt or not re.search(exempt, text) else ()
        )
        found += [f"{file}:{line}: text {word}" for word in sorted(words)]
    return found


def test_names_and_texts_use_the_terms_of_the_field():
    found = [line for path in sorted(ROOT.rglob("*.py"))
             for line in offences(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))]  # fmt: skip
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source, count",
    [("told = 1", 1), ("def paint(x): ...", 1), ('"""Says a picture."""', 1), ("f(shelf=2)", 1), ("eyes = 1", 1),
     ("x = 'image manifold'", 0), ("def sample(images): ...", 0), ('"""It is known."""', 0)],
)  # fmt: skip
def test_offences_are_found(source, count):
    assert len(offences("x.py", source)) == count
