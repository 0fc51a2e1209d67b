"""Two processes train as one: the same gradients, exact resume, one run folder, a clean stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from condgen import distributed
from condgen.cli.main import main
from condgen.contracts import CondgenError
from condgen.pipelines.text_to_image import TextToImage
from condgen.training import fsdp
from condgen.training.trainer import Trainer
from tests.training.two_processes import CONFIG as SMALL
from tests.training.two_processes import SPLIT, trainables, whole_batch

HERE = Path(__file__).resolve().parents[2]


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node")
ACCELERATE = ("accelerate.commands.launch", "--config_file", "docs/fsdp.yaml", "--num_processes")


def launched(*words, processes=2, launcher=TORCHRUN, **more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", *launcher, str(processes)]
    own = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)} | more
    return subprocess.Popen(
        [*command, "-m", *map(str, words)], env=own, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process: subprocess.Popen, says: str = "") -> str:
    try:
        out, err = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.terminate()  # the launcher takes its processes along
        raise
    assert process.returncode == 0 and says in err, err[-3000:]
    return out


class AsInTwoProcesses:
    """Random numbers for a whole batch: the first half drawn as process 0 would, the second as process 1 would."""

    def __init__(self, monkeypatch):
        self.generators = [torch.Generator().manual_seed(100 + rank) for rank in (0, 1)]
        randn, rand = torch.randn, torch.rand
        monkeypatch.setattr(torch, "randn", lambda *shape, **_: self.draw(randn, shape))
        monkeypatch.setattr(torch, "rand", lambda *shape, **_: self.draw(rand, shape))
        monkeypatch.setattr(torch, "randn_like", lambda x: self.draw(randn, x.shape))

    def draw(self, how, shape):
        half = (shape[0] // 2, *shape[1:])
        return torch.cat([how(half, generator=generator) for generator in self.generators])


weights = pytest.mark.parametrize("env", [{}, SPLIT], ids=["whole", "split"])


@weights
def test_gradients_of_two_processes_are_those_of_one_with_the_joint_batch(env, tmp_path, monkeypatch):
    finished(launched("tests.training.two_processes", "gradients", tmp_path, **env))
    found = load_file(tmp_path / "gradients.safetensors")
    models, names, largest = trainables(), set(), 0.0
    for name, trainable in models.items():
        for turn in trainable.turns:
            given = whole_batch()
            with monkeypatch.context() as patch:
                AsInTwoProcesses(patch)
                trainable.zero_grad(set_to_none=True)
                trainable.loss(given, turn)["loss"].backward()
            for key, p in trainable.named_parameters():
                if p.grad is not None:
                    names.add(f"{name}/{turn}/{key}")
                    scale = p.grad.abs().max().item() + 1e-3
                    deviation = (found[f"{name}/{turn}/{key}"] - p.grad).abs().max().item() / scale
                    assert deviation < 5e-5, f"{name} {key}"
                    largest = max(largest, deviation)
    print(f"largest deviation {largest:.1e} of a weight's largest gradient")
    assert names == set(found) and {"ClipTraining/clip/clip.log_scale", "chunks/clip/clip.log_scale"} <= names


def test_chunks_leave_gradients_as_they_are():
    models = trainables()
    for pair in (("ClipTraining", "chunks"), ("SimCLRTraining", "SimCLRTraining chunk")):
        for name in pair:
            models[name].loss(whole_batch(), models[name].turns[0])["loss"].backward()
        whole, chunked = (dict(models[name].named_parameters()) for name in pair)
        for key, p in whole.items():
            torch.testing.assert_close(chunked[key].grad, p.grad, rtol=1e-4, atol=1e-5, msg=key)


def test_resume_is_exact_on_two_processes(tmp_path):
    finished(launched("tests.training.two_processes", "resume", tmp_path))


@weights
def test_a_fault_in_one_process_is_left_out_by_both(env, tmp_path):
    finished(launched("tests.training.two_processes", "fault", tmp_path, **env))


@pytest.mark.slow
def test_split_weights_become_what_whole_ones_do(tmp_path):
    """Over every Trainable: trained, stopped, resumed with weights split and whole, in two processes and in one."""
    finished(launched("tests.training.two_processes", "split", tmp_path))
    told = json.loads((tmp_path / "deviations.json").read_text())
    assert told.keys() == {name for name in trainables() if "chunk" not in name} | {"TwoTurns"}
    for name, found in told.items():
        assert 0.4 < found.pop("held") < 0.6, name
        moved = found.pop("moved")
        assert max(found.values()) < 0.05 * moved, f"{name} {found}, of {moved}"  # both optimisers enlarge rounding
    for name, model in trainables().items():
        if "chunk" in name:
            continue
        alone = Trainer(model, lambda step: whole_batch(step), SMALL, seed=5)
        assert alone.resume(tmp_path / "split" / name) == [] and alone.count == 2
        next(iter(alone))


def test_what_is_not_supported_is_refused_before_anything_is_written(config, tmp_path, monkeypatch):
    words = ("train", "scenes32", "-o", str(tmp_path / "run"), "--config", str(config))
    for env, told in (
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "FSDP"),
        (SPLIT | {"FSDP_VERSION": "1"}, "fsdp_version: 2"),
        (SPLIT | {"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params: false"),
        (SPLIT | {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "fsdp_activation_checkpointing: false"),
        (SPLIT | {"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "TRANSFORMER_BASED_WRAP"),
    ):
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            with pytest.raises(CondgenError, match=r"docs/fsdp\.yaml") as error:
                fsdp.plan()
            assert told in str(error.value)
            assert main(list(words)) == 2 and not (tmp_path / "run").exists()
    assert fsdp.plan() is None


CONFIG = {
    "eval_count": 1,
    "data": {"scenes": 96},
    "clip": {"embed_dim": 16, "image_width": 8, "text_width": 16, "depth": 1, "heads": 2},
    "prior": {"width": 16, "depth": 1, "heads": 2, "kinds": ["diffusion", "regression", "autoregressive"]},
    "decoder": {"channels": [8, 16], "depth": 1, "heads": 2, "width": 16, "word_depth": 1, "steps": 2},
    "fit_clip": {"total_images": 64, "batch": 16},
    "fit_prior": {"total_images": 64, "batch": 16},
    "fit_decoder": {"total_images": 64, "batch": 16},
}


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    return file


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "split by Accelerate's config"])
def test_the_whole_text_to_image_on_two_processes(launcher, config, tmp_path):
    words = ("condgen", "train", "scenes32", "-o", tmp_path / "run", "--config", config)
    out = finished(launched(*words, launcher=launcher), "split over 2 processes" if launcher == ACCELERATE else "")
    assert out.split() == [str(tmp_path / "run" / "model")]
    model = TextToImage.load(tmp_path / "run" / "model")
    assert next(model.generate("a red circle", steps=2)).image.size == (32, 32)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = [(line["stage"], line["images"]) for line in lines if "images_per_s" in line]
    priors = [f"prior {kind}" for kind in ("autoregressive", "diffusion", "regression")]
    assert sorted(last) == [(stage, 64) for stage in ("clip", "decoder", *priors)]
    drawn = model.draw_embed(model.embed_text(["a red circle"]), [torch.Generator()], "autoregressive")
    assert drawn.isfinite().all() and model.priors["autoregressive"].config.dims < 16


def test_a_stopped_run_goes_on_with_another_number_of_processes(config, tmp_path):
    words = ("condgen", "train", "scenes32", "-o", tmp_path / "run", "--config", config, "--stage", "clip")
    process = launched(*words, "--fit_clip.total_images", 10_000_000)
    deadline = time.monotonic() + 400
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=240)
    [state] = [json.loads(p.read_text()) for p in (tmp_path / "run" / "checkpoints" / "clip").glob("step-*/state.json")]
    assert state["count"] > 0 and state["images"] == 16 * state["count"]
    more = state["images"] + 64
    finished(launched(*words, "--fit_clip.total_images", more, processes=1))
    states = [json.loads(p.read_text()) for p in (tmp_path / "run" / "checkpoints" / "clip").glob("step-*/state.json")]
    assert max(s["images"] for s in states) == more


def test_alone_everything_is_as_it_was():
    x = torch.randn(3, 2, requires_grad=True)
    assert (
        distributed.all_gather_with_grad(x) is x
        and torch.equal(distributed.mean(x), x)
        and distributed.maximum(2.5) == 2.5
    )
    assert torch.equal(distributed.share_rows(lambda own: torch.arange(7)[own], 7), torch.arange(7))
    assert (distributed.rank(), distributed.world()) == (0, 1)


def test_modules_are_on_the_accelerator_within_the_block_alone():
    module = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError), distributed.on_accelerator(module) as device:
        assert device.type == ("cuda" if torch.cuda.is_available() else "cpu") == module.weight.device.type
        raise ValueError
    assert module.weight.device.type == "cpu"
