"""What Accelerate's launcher asks for by variables: it is done, or refused before anything is read."""

from __future__ import annotations

import warnings

import pytest
import torch

from condgen import distributed
from condgen.cli import doctor
from condgen.cli.main import main
from condgen.contracts import CondgenError, CondgenWarning

REFUSED = [
    ("ACCELERATE_MIXED_PRECISION", "fp16"),
    ("ACCELERATE_MIXED_PRECISION", "fp8"),
    ("ACCELERATE_MIXED_PRECISION", "rubbish"),
    ("ACCELERATE_MIXED_PRECISION", "16"),
    ("ACCELERATE_MIXED_PRECISION", "bf16"),  # without a GPU
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "0"),
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "-1"),
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1.5"),
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "many"),
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", ""),
    ("ACCELERATE_DYNAMO_BACKEND", "rubbish"),
    ("ACCELERATE_TORCH_DEVICE", "rubbish"),
    ("ACCELERATE_USE_CPU", "maybe"),
    ("ACCELERATE_USE_FSDP", "maybe"),
    ("ACCELERATE_USE_DEEPSPEED", "true"),
    ("ACCELERATE_USE_MEGATRON_LM", "1"),
    ("ACCELERATE_USE_PARALLELISM_CONFIG", "yes"),
]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("name, value", REFUSED)
def test_what_is_not_supported_is_refused_by_name_before_anything_is_written(
    name, value, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(name, value)
    assert main(["train", "digits-vae", "-o", str(tmp_path / "run"), "--total_images", "64"]) == 2
    told = capsys.readouterr().err
    assert f"{name}={value}" in told or "FSDP" in told
    assert "Traceback" not in told and not (tmp_path / "run").exists()
    found = [one for one in (doctor.precision(), doctor.launcher()) if not one.ok]
    assert found and all(one.cure for one in found)


@pytest.mark.parametrize("asked", [None, "no", "NO", "bf16"])
@pytest.mark.parametrize("units", [False, True])
def test_the_precision_is_that_of_the_launcher_else_the_best(asked, units, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: units)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: units)
    monkeypatch.delenv(distributed.PRECISION, raising=False)
    if asked:
        monkeypatch.setenv(distributed.PRECISION, asked)
    if asked == "bf16" and not units:
        with pytest.raises(CondgenError):
            distributed.precision()
        return
    expected = asked.lower() if asked else "bf16" if units else "no"
    assert distributed.precision() == expected
    told = doctor.precision()
    assert told.ok and f"uses {'bf16' if expected == 'bf16' else 'fp32'}" in told.seen


def test_bf16_is_not_chosen_where_the_gpu_is_switched_off(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert distributed.precision() == "no"


def test_accumulation_has_no_effect_and_says_so(tmp_path, monkeypatch, capsys):
    weights = {}
    for steps in (1, 8):
        monkeypatch.setenv(distributed.ACCUMULATION, str(steps))
        run = tmp_path / str(steps)
        assert main(["train", "digits-vae", "-o", str(run), "--total_images", "128", "--eval_count", "0"]) == 0
        weights[steps] = (run / "model" / "autoencoder" / "model.safetensors").read_bytes()
        told = capsys.readouterr().err
        assert told.count("has no effect") == (steps > 1) and ("--fit.batch" in told) == (steps > 1)
    assert weights[1] == weights[8]
    with warnings.catch_warnings():
        warnings.simplefilter("error", CondgenWarning)
        monkeypatch.setenv("RANK", "1")  # the first process says it for all
        distributed.check_launcher()


def test_doctor_tells_of_proxies_without_their_passwords(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert doctor.proxy().seen == "none set"
    monkeypatch.setenv("ALL_PROXY", "socks5://ann:secret@proxy:1080")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = doctor.proxy()
    assert "ALL_PROXY=socks5://...@proxy:1080" in told.seen and "socksio" in told.cure and told.ok


@pytest.mark.parametrize(
    "gpu, variables, device",
    [
        (False, {}, "cpu"),
        (True, {}, "cuda"),
        (True, {"ACCELERATE_USE_CPU": "true"}, "cpu"),
        (True, {"ACCELERATE_TORCH_DEVICE": "cuda:1"}, "cuda:1"),
        (True, {"ACCELERATE_TORCH_DEVICE": "cpu"}, "cpu"),
    ],
)
def test_everything_in_a_run_takes_place_where_it_trains(gpu, variables, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(distributed.device_of_training()) == device
