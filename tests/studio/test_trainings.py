"""Trainings of the studio: processes that are started, seen, stopped, resumed and used."""

import os
import signal
import subprocess
import sys
import time

import pytest

from condgen.contracts import CondgenError
from condgen.files import registry
from condgen.studio.library import ModelLibrary
from condgen.studio.tabs.train import trainings as module
from condgen.studio.tabs.train.data_check import check_data
from condgen.studio.tabs.train.trainings import MOST, Trainings, check_name, check_order, environment, further_options

TINY = "--fit.batch 32 --gan.width 4 --eval_count 3"
SECONDS = 120


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder of runs, the only place where models are found."""
    folder = tmp_path / "runs"
    monkeypatch.setattr(registry, "RUNS", folder)
    monkeypatch.setattr(registry, "folders", lambda: [registry.ASSETS, folder])
    return folder


@pytest.fixture
def trainings(runs):
    """Trainings, all of which have ended after the test."""
    trainings = Trainings()
    yield trainings
    for process in trainings._processes.values():
        if process.poll() is None:
            process.kill()
            process.wait()


def until(condition, what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_a_training_is_seen_stopped_resumed_to_its_end_and_opened(trainings, runs):
    order = check_order("digits-gan", "mine", minutes=0.1, device="cpu", options=TINY)
    assert order.command == f"condgen train digits-gan -o {runs}/mine --minutes=0.1 --device=cpu " + " ".join(
        ["--fit.batch=32", "--gan.width=4", "--eval_count=3"]
    )
    trainings.start(order)
    with pytest.raises(CondgenError, match="a run mine already"):
        trainings.start(order)
    assert trainings.await_start("mine", SECONDS).state == "running"
    assert Trainings().get("mine").state == "running"  # another studio sees it too
    until(lambda: any((runs / "mine" / "samples").glob("*.png")), "no sheet")
    assert trainings.stop("mine").state == "stopping"
    assert trainings.stop("mine").state == "stopping"  # a second signal would end it without a checkpoint
    until(lambda: not trainings.get("mine").active, "it does not stop")
    assert trainings.get("mine").state == "stopped" and any((runs / "mine" / "checkpoints" / "gan").glob("step-*"))
    assert "stopped" in trainings.log("mine").splitlines()[-1]
    with pytest.raises(CondgenError, match="a run mine already"):
        trainings.start(order)
    with pytest.raises(CondgenError, match="not running"):
        trainings.stop("mine")
    library = ModelLibrary()
    assert library.entries()["mine"].unfinished and library.open("mine").network == "gan"
    again = Trainings()  # a studio that was started anew
    again.resume("mine")
    assert "--device=cpu" in again._processes["mine"].args
    again._processes["mine"].wait(SECONDS)
    (run,) = again.list()
    assert (run.state, run.progress, run.model) == ("finished", 1.0, True), again.log("mine")
    assert not ModelLibrary().entries()["mine"].unfinished
    with pytest.raises(CondgenError, match="finished"):
        again.resume("mine")


def test_a_run_begun_in_a_terminal_is_found_and_one_that_was_killed_is_not_running(trainings, runs):
    words = check_order("digits-gan", "theirs", options=TINY).words
    process = subprocess.Popen([sys.executable, "-m", "condgen", *words], env=environment())
    try:
        until(lambda: (runs / "theirs" / "parts" / "unfinished").exists(), "it does not start")
        (run,) = trainings.list()
        assert (run.name, run.state, run.writer["pid"]) == ("theirs", "running", process.pid)
        with pytest.raises(CondgenError, match="is running"):
            trainings.resume("theirs")
        process.kill()
        process.wait()
        assert (runs / "theirs" / ".lock").exists()
        assert trainings.get("theirs").state == "stopped"
    finally:
        process.kill()


def test_one_that_fails_at_once_says_why_and_leaves_no_run(trainings, runs):
    trainings.start(check_order("digits-gan", "wrong", options="--gan.widht 4"))
    with pytest.raises(CondgenError, match=r"no option --gan\.widht\. Did you mean --gan\.width"):
        trainings.await_start("wrong", SECONDS)
    (run,) = trainings.list()
    assert run.state == "failed" and "widht" in run.message and not (runs / "wrong").exists()
    with pytest.raises(CondgenError, match="widht"):
        trainings.resume("wrong")


PATHS = ["", ".", "..", "../x", "a/b", "a\\b", "/tmp/x", ".hidden", "a\0b", "x" * 300, None, 5, ["a"], {"a": 1}]
NO_WORDS = [" ", "-o", "--out", "a b", "a\nb", "x" * 65, "a.", "$(id)", "a;b", "~"]


@pytest.mark.parametrize("name", PATHS + NO_WORDS)
def test_names_that_are_no_words_are_refused(name, trainings, runs):
    acts = [check_name, trainings.stop, trainings.resume, trainings.get]
    for act in acts + [trainings.stages, trainings.log] * (name in PATHS):
        with pytest.raises(CondgenError):
            act(name)
    assert not runs.exists()


@pytest.mark.parametrize("name", ["a", "my-run", "run_2.1", "été", "Ünï"])
def test_words_are_names(name):
    assert check_name(f" {name} ") == name


@pytest.mark.parametrize(
    "text, message",
    [("--out /tmp/x", "name of the run"), ("-o x", "--key value"), ("--config=/etc/passwd", "no use"), ("x", "--key"),
     ("--seed", "no value"), ("--seed --fit.lr 1", "no value"), ("--data.path /x", "folder"), ("--minutes 3", "minut"),
     ("--device cuda", "device"), ("--print_config=", "no use"), ('--prompts "a', "quotation"), ("; rm -rf x", "--key"),
     ("--help x", "no use"), (5, "text"), ("--seed 1\0", "text"), ("--a " + "x" * 5000, "text")],
)  # fmt: skip
def test_further_options_that_cannot_be_given_are_refused(text, message):
    with pytest.raises(CondgenError, match=message):
        further_options(text)


def test_further_options_stay_single_words():
    assert further_options("--seed 1 --prompts 'a red; $(id)' --fit.lr=1e-3 --x -o") == [
        "--seed=1", "--prompts=a red; $(id)", "--fit.lr=1e-3", "--x=-o",
    ]  # fmt: skip
    assert further_options("") == further_options(None) == []


@pytest.mark.parametrize(
    "changes, message",
    [({"recipe": "digits-gann"}, "mean digits-gan"), ({"recipe": None}, "no recipe"), ({"recipe": []}, "recipe"),
     ({"minutes": -1}, "minutes"), ({"minutes": float("nan")}, "minutes"), ({"minutes": "5"}, "minutes"),
     ({"image_size": 0.5}, "whole"), ({"image_size": 10**6}, "image size"), ({"model_size": "huge"}, "modern, classic"),
     ({"device": "cuda:x"}, "device"), ({"device": "cpu --out x"}, "device"), ({"data": 5}, "folder"),
     ({"recipe": "captions"}, "needs data"), ({"minutes": True}, "minutes")],
)  # fmt: skip
def test_orders_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(CondgenError, match=message):
        check_order(**{"recipe": "digits-gan", "name": "x"} | changes)


def test_values_that_begin_with_a_dash_are_no_options():
    order = check_order("captions", "x", data="--out=/tmp", image_size=64, model_size="small")
    assert order.options == ("--data=--out=/tmp", "--size=small", "--data.size=64")


class Process:
    """Stands for a process that never ends."""

    returncode, pid = None, 2**22 + 1

    def __init__(self, words, **options):
        self.args = words

    def poll(self):
        return None


def test_few_trainings_run_at_the_same_time(runs, monkeypatch):
    monkeypatch.setattr(module.subprocess, "Popen", Process)
    some = Trainings()
    for number in range(MOST):
        some.start(check_order("digits-gan", f"x{number}"))
    with pytest.raises(CondgenError, match=f"{MOST} trainings are running"):
        some.start(check_order("digits-gan", "more"))
    assert [run.state for run in some.list()] == ["running"] * MOST


def test_names_of_models_and_of_other_folders_are_refused(runs, trainings):
    with pytest.raises(CondgenError, match="a model scenes32 already"):
        trainings.start(check_order("digits-gan", "scenes32"))
    (runs / "notes").mkdir(parents=True)
    (runs / "notes" / "a.txt").write_text("mine")
    with pytest.raises(CondgenError, match="a run notes already"):
        trainings.start(check_order("digits-gan", "notes"))
    assert trainings.list() == [] and module.free_name("digits-gan") == "my-digits-gan"
    (runs / "my-digits-gan").mkdir()
    assert module.free_name("digits-gan") == "my-digits-gan-2"


@pytest.mark.parametrize(
    "writer", [{"pid": 1}, {"pid": os.getpid()}, {"pid": "5"}, {"pid": 5, "host": "elsewhere"}, {}]
)
def test_only_a_process_that_trains_here_gets_a_signal(writer, runs, trainings, monkeypatch):
    monkeypatch.setattr(module.os, "kill", lambda *args: pytest.fail("a signal"))
    here = {"host": module.socket.gethostname()}
    monkeypatch.setattr("condgen.studio.tabs.train.runs.writer_of", lambda folder: here | writer)
    (runs / "x").mkdir(parents=True)
    (runs / "x" / "config.yaml").write_text("recipe: digits-gan\n")
    with pytest.raises(CondgenError, match=r"runs on|unknown"):
        trainings.stop("x")


def test_trainings_get_no_password_and_find_the_package(monkeypatch):
    monkeypatch.setenv("CONDGEN_AUTH", "me:secret")
    variables = environment()
    assert "secret" not in "".join(variables.values())
    code = "import condgen, sys; print(condgen.__file__)"
    out = subprocess.run([sys.executable, "-c", code], env=variables, cwd="/", capture_output=True, text=True)
    assert out.stdout.strip() == sys.modules["condgen"].__file__


def test_a_check_of_data_ends_with_a_report_the_recipes_and_a_sheet(tmp_path):
    *seconds, found = check_data("digits", tmp_path)
    assert seconds and found.ready and "1797 of 1797" in found.text
    assert found.recipes[:2] == ("labels-diffusion", "labels-cgan") and found.sheet.is_relative_to(tmp_path)
    with pytest.raises(CondgenError, match="nothing-here"):
        [*check_data(str(tmp_path / "nothing-here"), tmp_path)]
    for path in ("", None, "a\0b", 5):
        with pytest.raises(CondgenError, match="path"):
            [*check_data(path, tmp_path)]


def test_a_check_of_data_that_is_left_ends_its_process(tmp_path, monkeypatch):
    begun = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **more: begun.append(start(*args, **more)) or begun[0])
    steps = check_data("digits", tmp_path)
    next(steps)
    steps.close()
    assert begun[0].returncode == -signal.SIGKILL
