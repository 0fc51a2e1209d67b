"""Fixtures of the tests of the studio."""

import pytest
from gradio_client import Client

from tests.studio.support import CHROMIUM, FLAGS, opened, save_models, serving


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with a tiny model of every kind, see `support.save_models`."""
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    return folder


@pytest.fixture(scope="module")
def address(models, tmp_path_factory):
    """The address of a studio that offers these models."""
    with serving(tmp_path_factory.mktemp("studio"), models) as url:
        yield url


@pytest.fixture
def client(address, tmp_path):
    """An API client of it."""
    return Client(address, verbose=False, download_files=str(tmp_path))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=60_000)
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """The studio in a browser, see `support.opened`."""
    with opened(browser, address) as page:
        yield page
