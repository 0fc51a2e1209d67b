"""The server of the studio: flags, private folders, the queue, and what its API refuses."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

from condgen.contracts import CondgenError
from condgen.nn import devices
from condgen.studio.server import cache, serve
from tests.studio.support import PROMPT, serving

ROOT = Path(__file__).parents[2]
CALL, CALL_BY_NAME = "/gradio_api/call/generate", "/gradio_api/call/v2/generate"


def events(url: str, answer: httpx.Response, timeout: float = 60) -> str:
    """What the server sends about a request, until it has ended."""
    return httpx.get(f"{url}{CALL}/{answer.json()['event_id']}", timeout=timeout).text


# Flags ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_alone_needs_no_password(host):
    serve.check_exposure(host, share=False, auth=[], no_auth=False)


@pytest.mark.parametrize(
    ("host", "share"), [("0.0.0.0", False), ("example.org", False), ("::", False), ("127.0.0.1", True)]
)
def test_others_need_a_password(host, share):
    with pytest.raises(CondgenError, match="--auth"):
        serve.check_exposure(host, share, auth=[], no_auth=False)
    serve.check_exposure(host, share, auth=[("a", "b")], no_auth=False)
    serve.check_exposure(host, share, auth=[], no_auth=True)


def test_credentials():
    assert serve.credentials(["ann:a:b", " bob :c"]) == [("ann", "a:b"), ("bob", "c")] and serve.credentials([]) == []
    for bad in ("ann", ":b", "ann:", " :b"):
        with pytest.raises(CondgenError, match="NAME:PASSWORD"):
            serve.credentials([bad])
    with pytest.raises(CondgenError, match="twice") as error:
        serve.credentials(["ann:secret", "ann:hidden"])
    assert "secret" not in str(error.value) and "hidden" not in str(error.value)


def test_sizes():
    assert [serve.size_of(text) for text in ("4GB", "1.5 gb", "500MB", "1KB")] == [2**32, 3 * 2**29, 500 * 2**20, 1024]
    for bad in ("", "4", "GB", "-1GB", "0GB", "4 XB", "1e3GB", "nanGB", "9" * 5000 + "GB"):
        with pytest.raises(CondgenError, match="such as 4GB") as error:
            serve.size_of(bad)
        assert len(str(error.value)) < 200


def test_the_device_is_a_gpu_if_there_is_one(monkeypatch):
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda available=available: available)
        assert devices.chosen("auto") == expected and devices.chosen("cuda:1") == "cuda:1"


@pytest.fixture
def started(monkeypatch):
    """What `main` gives to `serve`, which starts nothing."""
    seen: list = []
    monkeypatch.setattr(serve, "serve", lambda args, outputs, options, auth: seen.append((outputs, options, auth)))
    monkeypatch.delenv("CONDGEN_AUTH", raising=False)
    return seen


@pytest.mark.parametrize(
    ("flags", "variable", "several", "trains", "people"),
    [
        ([], "", False, True, 0),
        (["--auth", "ann:a"], "", True, True, 1),
        (["--auth", "ann:a", "--auth", "bob:b", "--host", "0.0.0.0"], "", True, True, 2),
        (["--host", "0.0.0.0"], "ann:a\nbob:b\n", True, True, 2),
        (["--no-auth", "--host", "0.0.0.0"], "ann:a", True, False, 0),
        (["--no-auth"], "", True, False, 0),
        (["--no-auth", "--share"], "", True, False, 0),
    ],
)
def test_who_is_let_in_decides_who_trains(started, monkeypatch, tmp_path, flags, variable, several, trains, people):
    monkeypatch.setenv("CONDGEN_AUTH", variable)
    assert serve.main([*flags, "--outputs", str(tmp_path), "--data", "a", "--data", "b"]) == 0
    outputs, options, auth = started[0]
    assert (options["several"], options["trains"], len(auth)) == (several, trains, people)
    assert outputs == tmp_path and options["data"] == ("a", "b") and options["limit"] == 4 * 2**30


def test_without_saving_images_lie_in_the_private_folder_and_are_not_served(started, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert serve.main(["--no-save"]) == 0
    outputs = started[0][0]
    assert outputs.is_relative_to(tmp_path) and outputs.parent.name.startswith(cache.PREFIX)
    assert outputs.name != cache.SERVED and not [*tmp_path.iterdir()]


def test_wrong_flags_end_with_a_message(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert serve.main(["--host", "0.0.0.0"]) == 2
    assert serve.main(["--host", "192.0.2.1", "--no-auth"]) == 2
    assert serve.main(["--model", "no-such-model"]) == 2
    assert serve.main(["--device", "cuda:99"]) == 2
    assert serve.main(["--outputs-limit", "much"]) == 2
    assert serve.main(["--outputs", str(tmp_path / "file" / "in")]) == 2
    assert serve.main(["--mcp", "--auth", "ann:secret"]) == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert serve.main(["--port", str(taken.getsockname()[1])]) == 2
    said = capsys.readouterr().err
    assert said.count("cannot listen") == 2 and "--no-auth" in said and "no-such-model" in said
    assert "cuda:99" in said and "such as 4GB" in said and "cannot be written" in said and "--mcp is for" in said
    assert "Traceback" not in said and "secret" not in said


def test_a_damaged_model_ends_with_a_message(models, tmp_path, capsys):
    import shutil

    shutil.copytree(models / "vae", tmp_path / "vae")
    weights = next((tmp_path / "vae").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-8])
    assert serve.main(["--model", str(tmp_path / "vae"), "--no-save"]) == 2
    said = capsys.readouterr().err
    assert "vae" in said and "Traceback" not in said


def test_help_imports_nothing_heavy():
    code = "import runpy, sys; sys.argv = ['app.py', '--help']\ntry: runpy.run_path('app.py', run_name='__main__')\n"
    code += "except SystemExit as e: print(e.code, [m for m in ('torch', 'gradio') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert said.stdout.endswith("0 []\n") and "--share" in said.stdout


# Private folders ------------------------------------------------------------------------------------------------------


@contextmanager
def app(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """`python app.py` with its temporary files in `folder`: the process and its address; ended at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    for name in ("GRADIO_TEMP_DIR", "CONDGEN_AUTH"):
        environment.pop(name, None)
    command = [sys.executable, str(ROOT / "app.py"), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment) as process:
        try:
            said = next((line for line in process.stdout if "open at " in line), "")
            assert said, "the studio did not open"
            yield process, said.split("open at ")[1].split()[0]
        finally:  # or leaving the block would wait for ever
            process.kill()


@pytest.mark.parametrize("kind", ["words", "clip"])
def test_app_serves_a_saved_model_of_any_kind_and_leaves_nothing_behind(models, tmp_path, kind):
    with app(tmp_path, "--model", str(models / kind), "--no-save") as (process, url):
        client = Client(url, verbose=False, download_files=str(tmp_path / "down"))
        if kind == "words":
            assert client.predict(kind, PROMPT, seed=3, api_name="/generate")["seeds"] == [3]
        assert [*tmp_path.glob(f"{cache.PREFIX}{process.pid}-*")] and f'"{kind}"' in httpx.get(url).text
        process.send_signal(signal.SIGINT if kind == "words" else signal.SIGTERM)
        assert process.wait(30) == 0
    assert not [*tmp_path.glob(f"{cache.PREFIX}*")] and not (tmp_path / "outputs").exists()


def test_images_outlive_a_kill_and_the_private_folder_does_not(models, tmp_path):
    with app(tmp_path, "--model", str(models / "words")) as (process, url):
        client = Client(url, verbose=False, download_files=str(tmp_path / "down"))
        client.predict("words", PROMPT, seed=3, api_name="/generate")
        process.kill()
        process.wait(30)
    stale = [*tmp_path.glob(f"{cache.PREFIX}*")]
    assert len(stale) == 1 and len([*(tmp_path / "outputs").rglob("*-3.png")]) == 1
    (tmp_path / f"{cache.PREFIX}1-strange").mkdir()  # without a lock: of another, or just being made
    (tmp_path / f"{cache.PREFIX}2-link").symlink_to(tmp_path / "outputs")
    holder = tmp_path / f"{cache.PREFIX}3-alive"
    holder.mkdir()
    with open(holder / cache.LOCK, "a") as lock:
        assert cache._lock(lock)
        assert cache.remove_stale(tmp_path) == stale and holder.is_dir()
    assert len([*tmp_path.glob(f"{cache.PREFIX}*")]) == 3 and [*(tmp_path / "outputs").iterdir()]


def test_the_cache_is_bounded(tmp_path):
    now, day = time.time(), cache.DAY

    def file(name: str, age: float, size: int = 10) -> Path:
        path = tmp_path / "served" / name / "a.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"0" * size)
        os.utime(path, (now - age, now - age))
        return path

    # ctime is the present, so it is the time of the call that is moved
    old, kept = file("old", day), tmp_path / "kept.png"
    assert cache.trim(tmp_path / "served", now=now + day / 2) == 0 and old.exists()
    kept.write_bytes(b"0" * 10)
    (tmp_path / "served" / "link").mkdir()
    os.link(kept, tmp_path / "served" / "link" / "kept.png")
    assert cache.trim(tmp_path / "served", limit=0, now=now + cache.HOUR / 2) == 0  # perhaps in use
    large = file("large", 0, 1000)
    time.sleep(0.02)
    newest = file("newest", 0, 50)
    assert cache.trim(tmp_path / "served", limit=50, now=now + 2 * cache.HOUR) >= 2
    assert newest.exists() and not large.exists() and kept.exists()
    assert cache.trim(tmp_path / "served", now=now + 2 * day) >= 1 and not newest.exists() and kept.exists()
    cache.trim(tmp_path / "served", now=time.time() + 4 * day)
    assert (tmp_path / "served").is_dir() and not [*(tmp_path / "served").iterdir()]


def test_the_folder_of_a_studio_is_private(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with pytest.raises(KeyboardInterrupt), cache.private_folder() as folder:
        assert folder.stat().st_mode & 0o77 == 0 and cache.is_private(cache.cache_folder())
        raise KeyboardInterrupt
    assert not [*tmp_path.iterdir()] and "GRADIO_TEMP_DIR" not in os.environ
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "mine"))
    with cache.private_folder():
        assert cache.cache_folder() == tmp_path / "mine" and not cache.is_private(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# The API --------------------------------------------------------------------------------------------------------------


def test_api_reads_no_other_files(address, tmp_path):
    (tmp_path / "private.png").write_bytes(b"0")
    for path in ("/etc/passwd", __file__, "../../etc/passwd", "/proc/self/environ", str(tmp_path / "private.png")):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)


def test_api_cannot_skip_the_queue(address):
    body = {"data": ["words", PROMPT, {}, 1, 3, "", "default", {}]}
    for path in ("run/generate", "run/generate/", "api/generate", "predict/generate"):
        assert httpx.post(f"{address}/gradio_api/{path}", json=body).status_code >= 400


def test_pages_about_the_server_are_closed(address):
    for path in ("monitoring", "gradio_api/monitoring", "gradio_api/runs", "gradio_api/run-history/buckets", "docs"):
        answer = httpx.get(f"{address}/{path}")
        assert answer.status_code >= 400 or "not enabled" in answer.text.lower()


def test_the_docs_name_every_endpoint(client):
    section = (ROOT / "docs" / "studio.md").read_text().partition("## API")[2].partition("\n## ")[0]
    named = {name for line in section.splitlines() if line.startswith("|") for name in re.findall(r"`(\w+)`", line)}
    assert {name[1:] for name in client.view_api(return_format="dict")["named_endpoints"]} <= named


def test_large_uploads_are_refused(address):
    files = {"files": ("a.png", b"0" * 5_500_000)}
    assert httpx.post(f"{address}/gradio_api/upload", files=files).status_code == 413


@pytest.mark.parametrize("labels", [["a"], "a", 5, {"colour": {"a": 1}}])
@pytest.mark.parametrize("model", ["words", "shoes", "../words", "", None, {"a": 1}, "a" * 10_000])
def test_hostile_values_are_answered(address, labels, model):
    answer = httpx.post(address + CALL_BY_NAME, json={"model": model, "prompt": PROMPT, "labels": labels})
    if answer.status_code == 200:
        text = events(address, answer)
        assert "Traceback" not in text and "site-packages" not in text and len(text) < 10_000
    else:
        assert answer.status_code in (400, 422)


def test_everyone_of_a_hundred_gets_an_answer(address):
    """More people than are served at once wait in the queue, and each gets the images of their own seed."""
    body = {"model": "words", "prompt": PROMPT, "options": {"steps": 1}}
    with httpx.Client(base_url=address, timeout=120) as client:
        asked = [client.post(CALL_BY_NAME, json=body | {"seed": seed}) for seed in range(100)]
        assert [answer.status_code for answer in asked] == [200] * 100
        for seed in (0, 50, 99):
            assert f'"seeds": [{seed}]' in events(address, asked[seed], 120)


def test_a_request_costs_the_server_little_memory(models, tmp_path):
    """Of what Gradio keeps for every session, at most the components that it changed."""
    with serving(tmp_path, models) as url:
        from gradio.state_holder import SessionState

        before = sum(type(one) is SessionState for one in gc.get_objects())
        for _ in range(3):
            events(url, httpx.post(url + CALL_BY_NAME, json={"model": "vae"}))
        states = [one for one in gc.get_objects() if type(one) is SessionState]
        assert len(states) - before == 3
        assert all(len(one.config_values) < 10 for one in states[-3:])


# MCP ------------------------------------------------------------------------------------------------------------------


def test_mcp_without_its_package_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert serve.main(["--mcp", "--no-save"]) == 2
    assert "condgen[mcp]" in capsys.readouterr().err


def test_mcp_offers_the_endpoints_as_tools(models, tmp_path):
    pytest.importorskip("mcp")
    with app(tmp_path, "--mcp", "--no-save", "--model", str(models / "words")) as (process, url):
        tools = {tool["name"]: tool for tool in httpx.get(f"{url}gradio_api/mcp/schema").json()}
        generate = next(tool for name, tool in tools.items() if name.endswith("generate"))
        assert "prompt" in generate["inputSchema"]["properties"] and "Generates images" in generate["description"]
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        message["params"] = {"name": generate["name"], "arguments": {"model": "words", "prompt": PROMPT, "seed": 3}}
        headers = {"accept": "application/json, text/event-stream"}
        answer = httpx.post(f"{url}gradio_api/mcp/", json=message, headers=headers, timeout=60, follow_redirects=True)
        assert answer.status_code == 200 and "seeds" in answer.text and '"isError":true' not in answer.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
