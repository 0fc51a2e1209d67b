"""A finished run that tests of several files begin with."""

import pytest

from condgen.recipes import train
from tests.tasks.test_text_to_image import small


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A finished text-to-image run without further stages; do not change it."""
    root = tmp_path_factory.mktemp("run") / "plain"
    train("scenes32", root, small())
    return root
