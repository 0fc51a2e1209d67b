"""Fixtures of the tests that compare with results of the first edition."""

import json
from pathlib import Path

import pytest
import torch

from tests.compat.outputs import probe

EXPECTED = json.loads((Path(__file__).parent / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def same_rounding():
    return probe() == EXPECTED["numerics"]["probe"]
