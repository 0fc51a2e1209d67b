"""The studio reaches itself on any machine, whatever proxies its environment names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from condgen.contracts import CondgenError
from condgen.studio.server.loopback import direct, proxies

ROOT = Path(__file__).parents[2]
VARIABLES = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
}


@pytest.fixture
def environment(monkeypatch):
    for name in (*proxies(), "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("before", [{}, {"NO_PROXY": "example.org"}, {"no_proxy": ""}])
@pytest.mark.parametrize("share", [False, True])
def test_the_loopback_has_no_proxy_and_the_rest_is_as_before(environment, monkeypatch, before, share):
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    unchanged = dict(os.environ)
    with direct(share, "192.0.2.7"):
        for host in ("localhost", "127.0.0.1", "::1", "192.0.2.7"):
            assert urllib.request.proxy_bypass_environment(host)
        assert bool(urllib.request.proxy_bypass_environment("gradio.live")) is not share
        assert proxies() == VARIABLES
    assert dict(os.environ) == unchanged


def test_a_missing_package_for_socks_is_named(environment):
    with pytest.raises(CondgenError, match=r"ALL_PROXY=socks5://127.0.0.1:9.*socksio"), direct(share=True):
        raise ImportError("Using SOCKS proxy, but the 'socksio' package is not installed.")
    with pytest.raises(ImportError, match="another"), direct():
        raise ImportError("another")
    assert "NO_PROXY" not in os.environ


def test_the_studio_opens_behind_proxies_and_below_a_path(environment, tmp_path):
    """Its page, asked for as a proxy would, names its files below the path."""
    command = [sys.executable, str(ROOT / "app.py"), "--root-path", "/studio"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=env) as app:
        try:
            url = app.stdout.readline().split("open at ")[1].split()[0]
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            page = opener.open(url, timeout=30).read().decode()
            assert "/studio/" in page or ('"root":"' in page and "/studio" in page)
        finally:
            app.send_signal(signal.SIGINT)
            try:
                app.wait(30)
            except subprocess.TimeoutExpired:
                app.kill()
                raise
    assert app.returncode == 0
