"""The studio without a browser: the gate, the session, recipes, flags, and the API through gradio_client."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from gradio_client import Client
from gradio_client.utils import QueueError
from PIL import Image, PngImagePlugin

from condgen.contracts import CondgenError
from condgen.files.images import read_recipe
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio import serve
from condgen.studio.session import MAX_IMAGES, SCENES, GenerationSession, check, examples_of, open_recipe
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[2]
PROMPT = "a red circle above a blue square"


def colourful_model() -> TextToImage:
    """The tiny model with its zero weights shaken, so that images differ from seed to seed."""
    model = tiny_model()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.decoder.parameters():
            if not weight.any():
                weight.add_(torch.randn(weight.shape, generator=rng) * 0.1)
    model.model_id = "0123456789abcdef"
    return model


def count_steps(model: TextToImage) -> list[str]:
    """Makes a model note every step it paints, in the list that is returned."""
    steps, watch = [], model.generate_steps

    def counted(prompt, *args, **options):
        for step in watch(prompt, *args, **options):
            steps.append(prompt)
            if "broken" in prompt:
                raise RuntimeError("a secret of the server")
            yield step

    model.generate_steps = counted
    return steps


@contextmanager
def serving(folder: Path, model: TextToImage) -> Iterator[str]:
    """A studio on a free port, its files in `folder`; gives its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr("condgen.files.registry.folders", list)  # whatever lies about, there is no tab for it
        from condgen.studio.app import build, launch

        page = build(model)
        launch(page, server_name="127.0.0.1", share=False, prevent_thread_lock=True, quiet=True)
        try:
            yield page.local_url.rstrip("/")
        finally:
            page.close()


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return colourful_model()


@pytest.fixture(scope="module")
def steps(model) -> list[str]:
    return count_steps(model)


@pytest.fixture(scope="module")
def address(model, steps, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("gradio"), model) as url:
        yield url


@pytest.fixture
def client(address, tmp_path):
    return Client(address, verbose=False, download_files=str(tmp_path))


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def order_of(model, prompt=PROMPT, count=1, seed=7, prior="regression", **options):
    return check(model, prompt, count, seed, prior, options)


# the gate


def test_gate_fills_in_defaults_and_draws_a_seed(model):
    order = order_of(model, f"  {PROMPT} ", 2.0, -1)
    assert (order.prompt, order.count) == (PROMPT, 2) and order.options.items() >= {
        "guidance": 2.0,
        "steps": 4,
    }.items()
    assert order.seed >= 0 and {order_of(model, seed=-1).seed for _ in range(5)} != {order.seed}


def test_gate_leaves_out_options_of_another_prior(model):
    assert "best_of" not in order_of(model, best_of=10**6).options
    assert order_of(model, prior="diffusion", best_of=3).options["best_of"] == 3


REFUSED = {
    "prompt": ("", " \n\x00", None, 5, ["a"], "a" * 2001),
    "count": (0, MAX_IMAGES + 1, 1.5, "3", True, None),
    "seed": (-2, 0.5, "7", 2**63, 10**400, None),
    "prior": ("oracle", None, ["none"]),
    "steps": (0, 1e9, 2.5, "12", None),
    "guidance": (-1, True, [2], 10**400),
}
BAD = [{name: value} for name, values in REFUSED.items() for value in values] + [{"prior": "diffusion", "best_of": 65}]
WORSE = [{"guidance": math.nan}, {"guidance": math.inf}, {"seed": math.nan}, {"seed": 10**5000}, {"sharpness": 1}]


@pytest.mark.parametrize("bad", BAD + WORSE, ids=",".join)
def test_gate_refuses(model, bad):
    with pytest.raises(CondgenError) as error:
        order_of(model, **bad)
    assert 20 < len(str(error.value)) < 250


def test_gate_keeps_the_last_seed_of_an_order_in_range(model):
    assert order_of(model, count=2, seed=2**63 - 2).seed == 2**63 - 2
    with pytest.raises(CondgenError, match="seed"):
        order_of(model, count=2, seed=2**63 - 1)


# the session


def test_session_shows_progress_and_saves_images_with_their_recipe(model, scratch):
    views = list(GenerationSession(model).generate(order_of(model, count=3, steps=2)))
    last = views[-1]
    assert views[0].text.startswith("image 1 of 3, step 1 of 2") and views[0].frame is not None
    assert [v.fraction for v in views] == sorted(v.fraction for v in views) and last.fraction == 1
    assert last.over and last.frame is None and last.text.startswith("3 images, seeds 7 to 9")
    assert [read_recipe(one.path)["seed"] for one in last.done] == [7, 8, 9]
    assert all(one.path.is_relative_to(scratch) for one in last.done)
    with zipfile.ZipFile(last.archive) as archive:
        assert {n: archive.read(n) for n in archive.namelist()} == {p.path.name: p.path.read_bytes() for p in last.done}


def test_session_generates_what_generate_generates(model, scratch):
    *_, last = GenerationSession(model).generate(order_of(model, count=2))
    expected = [generated.png() for generated in model.generate(PROMPT, n=2, seed=7, prior="regression")]
    assert [one.path.read_bytes() for one in last.done] == expected and expected[0] != expected[1]


def test_session_does_not_send_every_step(model, scratch):
    began = time.perf_counter()
    views = list(GenerationSession(model).generate(order_of(model, steps=100)))
    assert len(views) <= 6 * (time.perf_counter() - began) + 2


def test_closing_stops_and_frees_the_session(model, steps, scratch):
    session, before = GenerationSession(model), len(steps)
    generated = session.generate(order_of(model, count=16, steps=200))
    assert not next(generated).over
    generated.close()
    assert len(steps) <= before + 2
    assert list(session.generate(order_of(model)))[-1].over


def test_one_generation_at_a_time(model, scratch):
    session = GenerationSession(model)
    first = session.generate(order_of(model))
    next(first)
    second = threading.Thread(target=lambda: list(session.generate(order_of(model))), daemon=True)
    second.start()
    second.join(0.5)
    assert second.is_alive()
    first.close()
    second.join(20)
    assert not second.is_alive()


def test_unseen_words_are_noted_once(model, scratch):
    views = list(GenerationSession(model).generate(order_of(model, "a red zebra", count=2)))
    assert [note for view in views for note in view.notes] == [
        "No training caption has these words, so they mean nothing here; not read: zebra"
    ]


def test_strange_prompts_are_generated(model, scratch):
    for prompt in ("\ud800 red", "🦓 <b>red</b>", "../../etc/passwd", "red " * 400):
        *_, last = GenerationSession(model).generate(order_of(model, prompt, steps=1))
        assert last.done[0].path.parent.parent == scratch


def test_examples_are_words_the_model_knows(model):
    assert set(examples_of(model)) <= set(SCENES) and examples_of(model)
    assert all(not model.tokenizer.unseen(text) for text in examples_of(model))
    other = colourful_model()
    other.about["examples"] = ["a skull", 5]
    assert examples_of(other) == ["a skull"]


# recipes


def with_recipe(path: Path, recipe) -> Path:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("condgen", recipe if isinstance(recipe, str) else json.dumps(recipe))
    Image.new("RGB", (8, 8)).save(path, pnginfo=text)
    return path


def test_recipe_gives_the_order_that_generates_it_again(model, scratch):
    session = GenerationSession(model)
    *_, last = session.generate(order_of(model, prior="diffusion", steps=3, best_of=4, guidance=1.5))
    recipe, order, notes = open_recipe(model, last.done[0].path)
    assert order == last.request and recipe["prompt"] == PROMPT and notes == []
    *_, again = session.generate(order)
    assert again.done[0].path.read_bytes() == last.done[0].path.read_bytes()


def test_recipe_of_another_model_is_taken_over_as_far_as_it_goes(model, tmp_path):
    recipe = {
        "prompt": "a red cross",
        "seed": 3,
        "prior": "oracle",
        "model": "<b>other</b>",
        "model_id": "1",
        "zoom": 9,
    }
    _, order, notes = open_recipe(model, with_recipe(tmp_path / "a.png", recipe))
    assert (order.prompt, order.seed, order.prior) == ("a red cross", 3, model.default_prior) and len(notes) == 2


@pytest.mark.parametrize(
    "change", [{"seed": "7"}, {"steps": 10**9}, {"prompt": 5}, {"guidance": None}, {"seed": 2**60}]
)
def test_recipe_with_hostile_values_is_shown_but_not_used(model, tmp_path, change):
    recipe = {"prompt": "a", "seed": 3, "prior": "none", "model": "tiny", "model_id": model.model_id} | change
    shown, order, notes = open_recipe(model, with_recipe(tmp_path / "a.png", recipe))
    assert shown == recipe and order is None and notes


@pytest.mark.parametrize(
    "content", ["[1, 2]", '["prompt", "seed", "prior", "model", "model_id"]', "[" * 10**5, "{", "5"]
)
def test_damaged_recipe_is_refused_without_telling_where_the_file_lies(model, tmp_path, content):
    with pytest.raises(CondgenError) as error:
        open_recipe(model, with_recipe(tmp_path / "a.png", content))
    assert str(tmp_path) not in str(error.value) and "a.png" in str(error.value)


def test_files_without_a_recipe_are_refused(model, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("hello")
    for name in ("plain.png", "text.png"):
        with pytest.raises(CondgenError, match=name):
            open_recipe(model, tmp_path / name)


# flags


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_alone_needs_no_password(host):
    serve.check_exposure(host, share=False, auth=None, no_auth=False)


@pytest.mark.parametrize(
    ("host", "share"), [("0.0.0.0", False), ("example.org", False), ("::", False), ("127.0.0.1", True)]
)
def test_others_need_a_password(host, share):
    with pytest.raises(CondgenError, match="--auth"):
        serve.check_exposure(host, share, auth=None, no_auth=False)
    serve.check_exposure(host, share, auth=("a", "b"), no_auth=False)
    serve.check_exposure(host, share, auth=None, no_auth=True)


def test_credentials():
    assert serve.credentials("ann:a:b") == ("ann", "a:b") and serve.credentials(None) is None
    for bad in ("ann", ":b", "ann:"):
        with pytest.raises(CondgenError, match="NAME:PASSWORD"):
            serve.credentials(bad)


def test_wrong_flags_end_with_a_message(capsys):
    assert serve.main(["--host", "0.0.0.0"]) == 2
    assert serve.main(["--host", "192.0.2.1", "--no-auth"]) == 2
    assert serve.main(["--model", "no-such-model"]) == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert serve.main(["--port", str(taken.getsockname()[1])]) == 2
    told = capsys.readouterr().err
    assert told.count("cannot listen") == 2 and "--no-auth" in told and "no-such-model" in told
    assert "Traceback" not in told


def test_help_imports_nothing_heavy():
    code = "import runpy, sys; sys.argv = ['app.py', '--help']\ntry: runpy.run_path('app.py', run_name='__main__')\n"
    code += "except SystemExit as e: print(e.code, [m for m in ('torch', 'gradio') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert told.stdout.endswith("0 []\n") and "--share" in told.stdout


def test_app_serves_a_saved_model_and_leaves_nothing_behind(model, tmp_path):
    model.save(tmp_path / "model")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, str(ROOT / "app.py"), "--model", str(tmp_path / "model")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as app:
        try:
            url = app.stdout.readline().split("open at ")[1].split()[0]
            client = Client(url, verbose=False, download_files=str(tmp_path / "down"))
            assert client.predict(prompt=PROMPT, count=1, seed=3, api_name="/generate")[1] == "3"
        finally:
            app.send_signal(signal.SIGINT)
            try:
                app.wait(30)
            except subprocess.TimeoutExpired:  # or leaving the block would wait for ever
                app.kill()
                raise
    assert app.returncode == 0 and not list(tmp_path.glob("condgen-studio-*"))


# the API


def test_api_gives_a_png_with_its_recipe(client, model):
    pictures, seed, archive, told = client.predict(prompt=PROMPT, count=2, seed=5, guidance=1.5, api_name="/generate")
    recipes = [read_recipe(one["image"]) for one in pictures]
    assert [(r["prompt"], r["seed"], r["guidance"]) for r in recipes] == [(PROMPT, 5, 1.5), (PROMPT, 6, 1.5)]
    assert recipes[0]["model_id"] == model.model_id and Image.open(pictures[0]["image"]).size == (32, 32)
    assert Path(pictures[0]["image"]).suffix == ".png" and pictures[0]["caption"].startswith("seed 5")
    assert seed == "5" and "2 images" in told and len(zipfile.ZipFile(archive).namelist()) == 2


def test_api_same_seed_same_bytes(client):
    def generated(**asked):
        pictures, seed, *_ = client.predict(prompt=PROMPT, count=1, api_name="/generate", **asked)
        return Path(pictures[0]["image"]).read_bytes(), int(seed)

    first, seed = generated(seed=-1)
    assert generated(seed=seed) == (first, seed) and generated(seed=seed + 1)[0] != first


def test_api_names_the_options_and_nothing_else(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/generate"}
    names = [p["parameter_name"] for p in endpoints["/generate"]["parameters"]]
    options = ["guidance", "steps", "prior_steps", "prior_guidance", "best_of", "prior_top", "prior_temperature"]
    assert names == ["prompt", "count", "seed", "prior", *options]


@pytest.mark.parametrize("bad", BAD, ids=",".join)
def test_api_refuses_with_a_message(client, steps, bad):
    before = len(steps)
    with pytest.raises(Exception) as error:
        client.predict(**({"prompt": PROMPT} | bad), api_name="/generate")
    told = str(error.value)
    assert 20 < len(told) < 250 and "Traceback" not in told and "upstream" not in told
    assert len(steps) == before


def test_api_refuses_nan(address):
    body = '{"data": ["a red circle", 1, 3, "regression", NaN, 4, 10, 1, 2, 0.5, 1]}'
    reply = httpx.post(
        f"{address}/gradio_api/call/generate", content=body, headers={"Content-Type": "application/json"}
    )
    if reply.status_code == 200:
        told = httpx.get(f"{address}/gradio_api/call/generate/{reply.json()['event_id']}").text
        assert "event: error" in told and "guidance must be a number" in told
    else:
        assert reply.status_code in (400, 422)


def test_api_does_not_tell_what_broke(client, caplog):
    with (
        caplog.at_level(logging.ERROR, "condgen.studio"),
        pytest.raises(Exception, match="Something went wrong") as error,
    ):
        client.predict(prompt="a broken circle", api_name="/generate")
    assert "secret" not in str(error.value) and "a secret of the server" in caplog.text
    number = str(error.value).partition("(error ")[2][:8]
    assert number in caplog.text
    assert client.predict(prompt=PROMPT, count=1, api_name="/generate")[0]


def test_api_stop_works(client, steps):
    before = len(steps)
    job = client.submit(prompt=PROMPT, count=16, steps=200, api_name="/generate")
    deadline = time.monotonic() + 20
    while not job.outputs() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.cancel()
    assert client.predict(prompt="a blue square", count=1, api_name="/generate")[1]
    generated = len(steps) - before
    assert 0 < generated < 16 * 200
    time.sleep(0.3)
    assert len(steps) - before == generated


def test_who_finds_the_queue_full_is_reported(tmp_path):
    """One is served and 32 wait; the next is refused with the reason, and served once there is room."""
    model, started, go_on = colourful_model(), threading.Event(), threading.Event()
    watch = model.generate_steps

    def held(*args, **options):
        started.set()
        assert go_on.wait(60)
        yield from watch(*args, **options)

    model.generate_steps = held
    body = {"data": [PROMPT, 1, 3, "regression", 2, 1, 10, 1, 2, 0.5, 1]}
    with serving(tmp_path, model) as url:

        def ask() -> httpx.Response:
            return httpx.post(f"{url}/gradio_api/call/generate", json=body)

        first = ask()
        assert started.wait(60)
        assert [ask().status_code for _ in range(32)] == [200] * 32
        refused = ask()
        assert refused.status_code == 503 and "Queue is full. Max size is 32" in refused.text
        client = Client(url, verbose=False, download_files=str(tmp_path / "down"))
        with pytest.raises(Exception, match="Queue is full"):
            client.predict(prompt=PROMPT, api_name="/generate")
        go_on.set()
        told = httpx.get(f"{url}/gradio_api/call/generate/{first.json()['event_id']}", timeout=60).text
        assert "event: complete" in told
        deadline = time.monotonic() + 60
        while (reply := ask()).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert reply.status_code == 200
        images = None
        while not images:  # the queue may be full for a moment: the request before this one waits, too
            try:
                images = client.predict(prompt=PROMPT, count=1, api_name="/generate")[0]
            except QueueError:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_api_cannot_skip_the_queue_or_read_other_files(address):
    body = {"data": [PROMPT, 1, 3, "regression", 2, 4, 10, 1, 2, 0.5, 1]}
    assert httpx.post(f"{address}/gradio_api/run/generate", json=body).status_code >= 400
    for path in ("/etc/passwd", __file__, "../../etc/passwd"):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)


def test_api_refuses_large_uploads(address):
    files = {"files": ("a.png", b"0" * 5_500_000)}
    assert httpx.post(f"{address}/gradio_api/upload", files=files).status_code == 413
