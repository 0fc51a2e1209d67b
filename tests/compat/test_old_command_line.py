"""Every command, option and value of the first edition's command line is still understood; hidden aliases will do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.compat.outputs import is_understood, lacks_only_the_folder, options_of

HERE = Path(__file__).resolve().parent
CLI = json.loads((HERE / "cli.json").read_text(encoding="utf-8"))
SIZES = [(recipe, size) for recipe, own in CLI["recipes"].items() for size in own["sizes"]]


def values_of(recipe: str, size: str) -> dict[str, str]:
    """Every option of a recipe with the value that it had in one of its sizes."""
    own = CLI["recipes"][recipe]
    return CLI["configs"][own["config"]]["values"] | own["sizes"][size]


@pytest.mark.parametrize("recipe, size", SIZES)
def test_all_options_of_a_recipe(recipe, size):
    words = [word for option, value in values_of(recipe, size).items() for word in (f"--{option}", value)]
    understood, message = lacks_only_the_folder(recipe, *(["--size", size] if size else []), *words)
    assert understood, message


def test_an_unknown_option_is_refused():
    """What the test above relies on: options are read before the missing folder is found."""
    for words in (["--no_such_option", "1"], ["--seed", "red"]):
        understood, message = lacks_only_the_folder("digits-vae", *words)
        assert not understood, message


@pytest.mark.parametrize("verb", CLI["verbs"])
def test_options_of_every_command(verb):
    missing = set(CLI["verbs"][verb]) - options_of(verb)
    assert not missing, f"condgen {verb} has lost {', '.join(sorted(missing))}"


@pytest.mark.parametrize("command", CLI["commands"])
def test_documented_command(command):
    assert is_understood(command)
