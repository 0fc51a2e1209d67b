"""A run that an earlier version began keeps the options that it began with."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import yaml

from condgen.contracts import CondgenError
from condgen.files import renamed
from condgen.recipes import RECIPES
from condgen.training.older_runs import as_begun
from condgen.training.run_folder import RunFolder

NEW = ("decoder.layout_mlp", "objective.levels", "objective.floor", "objective.draws", "objective.perceptual")


def written(folder, config, without=()):
    """Writes the config of a run as a version wrote it that lacked some options."""
    values = {k: v for k, v in renamed.flat({"recipe": "scenes32"} | asdict(config)).items() if k not in without}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(renamed.nested(values)))
    return folder


def test_options_that_the_run_lacks_get_the_default_of_their_class(tmp_path):
    base = RECIPES["scenes32"].config()
    config = as_begun(written(tmp_path / "run", base, NEW), base, [base])
    assert not config.decoder.layout_mlp and config.objective.perceptual == 0
    assert config.objective.levels == () and config.objective.draws == 1 and config.objective.floor == 0
    same = replace(config, decoder=base.decoder, objective=base.objective)
    assert same == replace(base, objective=same.objective)
    assert config.objective.perceptual_below == base.objective.perceptual_below  # this one the run has


def test_a_run_of_an_earlier_version_keeps_what_its_recipe_was(tmp_path):
    """Recipes change; a run of an earlier version goes on by the same command all the same."""
    base = RECIPES["scenes32"].config()
    begun = replace(
        base,
        decoder=replace(base.decoder, channels=(8, 16)),
        fit_decoder=replace(base.fit_decoder, batch=base.fit_decoder.batch * 2),
        minutes=3.0,
    )
    folder = written(tmp_path / "run", begun, NEW)
    config = as_begun(folder, base, [base])
    assert config.decoder.channels == (8, 16) and config.fit_decoder.batch == begun.fit_decoder.batch
    assert config.minutes == base.minutes  # a resumed run may change it
    RunFolder(folder, {"recipe": "scenes32"} | asdict(config))  # it is not refused
    with pytest.raises(CondgenError, match=r"decoder\.channels"):
        RunFolder(folder, {"recipe": "scenes32"} | asdict(base))


def test_in_a_run_of_this_version_changed_options_are_refused(tmp_path):
    base = RECIPES["scenes32"].config()
    folder = written(tmp_path / "run", replace(base, decoder=replace(base.decoder, channels=(8, 16))))
    assert as_begun(folder, base, [base]) == base
    with pytest.raises(CondgenError, match=r"decoder\.channels"):
        RunFolder(folder, {"recipe": "scenes32"} | asdict(base))


def test_an_option_that_was_given_stays(tmp_path):
    base = RECIPES["scenes32"].config()
    given = replace(base, objective=replace(base.objective, draws=5))
    assert as_begun(written(tmp_path / "run", base, NEW), given, [base]).objective.draws == 5


@pytest.mark.parametrize("recipe", ["scenes32", "captions", "fashion-diffusion"])
def test_a_run_of_this_version_is_unchanged(tmp_path, recipe):
    base = RECIPES[recipe].config()
    assert as_begun(tmp_path / "none", base, [base]) == base
    assert as_begun(written(tmp_path / "run", base), base, [base]) == base
