"""Errors that any command may end with."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from condgen.cli import main as front
from condgen.cli.main import COMMANDS, main


def torch_cpu():
    torch.empty(2**50)


def numpy_array():
    np.empty(2**58)


def python_bytes():
    raise MemoryError


def on_cuda():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ...\nmore")


def in_cublas():
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def by_the_system():
    raise OSError(12, "Cannot allocate memory", "data.npy")


LACKS = [torch_cpu, numpy_array, python_bytes, on_cuda, in_cublas, by_the_system]


def fails_with(monkeypatch, error) -> None:
    """Lets every command do nothing but fail."""
    real = front._module

    def module(command: str):
        found = real(command)
        fake = {"HELP": getattr(found, "HELP", ""), "run": lambda args: error(), "main": lambda argv: error()}
        return SimpleNamespace(**fake, add_arguments=found.add_arguments if command != "train" else None)

    monkeypatch.setattr(front, "_module", module)


@pytest.mark.parametrize("error", LACKS, ids=lambda error: error.__name__)
def test_a_lack_of_memory_is_one_line_and_says_what_to_lower(monkeypatch, capsys, error):
    fails_with(monkeypatch, error)
    for words, advice in (
        (["generate", "a red circle"], "Lower --size or -n"),
        (["sample"], "--batch"),
        (["train", "captions"], "--fit_clip.batch"),
        (["train", "digits-cvae"], "--fit.batch"),
        (["doctor"], "close other programs"),
    ):
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == "" and len(err.splitlines()) == 1 and "Traceback" not in err
        assert err.startswith("condgen: error: The memory of this ") and advice in err


def test_every_command_has_advice():
    for command in COMMANDS:
        assert "memory" in front._advice([command]) or "batch" in front._advice([command])


def test_the_amount_that_was_asked_for_is_named(monkeypatch, capsys):
    for error, amount in ((torch_cpu, "4,194,304.00 GiB"), (on_cuda, "2.00 GiB"), (numpy_array, "2.00 EiB")):
        fails_with(monkeypatch, error)
        assert main(["doctor"]) == 2 and f"({amount} were asked for)" in capsys.readouterr().err
        monkeypatch.undo()


def test_other_errors_keep_their_traceback(monkeypatch):
    def other():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    fails_with(monkeypatch, other)
    with pytest.raises(RuntimeError, match="mat1"):
        main(["doctor"])
