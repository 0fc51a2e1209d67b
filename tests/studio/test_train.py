"""The API of trainings, and who may use it."""

from types import SimpleNamespace

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from condgen.contracts import CondgenError
from condgen.files import registry
from condgen.studio.images.outputs import Outputs
from condgen.studio.library import ModelLibrary
from condgen.studio.studio import Studio
from condgen.studio.tabs.train.tab import TrainTab
from tests.studio.support import serving
from tests.studio.test_runs import LINE, write_run
from tests.studio.test_trainings import TINY, until

ACTS = [("train_start", ("digits-gan", "mine")), ("train_stop", ("old",)), ("train_resume", ("old",))]


@pytest.fixture
def tab(tmp_path, monkeypatch):
    """Makes a Train tab of a studio with these options; its runs are in `tmp_path/runs`."""
    runs = tmp_path / "runs"
    monkeypatch.setattr(registry, "RUNS", runs)
    monkeypatch.setattr(registry, "folders", lambda: [registry.ASSETS, runs])
    outputs = Outputs(tmp_path / "outputs", tmp_path / "served")
    return lambda *options: TrainTab(Studio(ModelLibrary(), outputs, *options))


def request_of(username: str | None = None, **more) -> SimpleNamespace:
    return SimpleNamespace(username=username, cookies={}, session_hash="a", headers={}, **more)


def test_a_training_by_the_api(client):
    done = client.predict("digits-gan", "by-api", minutes=0.05, options=TINY, api_name="/train_start")
    assert done["state"] in ("running", "finished") and done["command"].startswith("condgen train digits-gan -o ")
    with pytest.raises(AppError, match="a run by-api already"):
        client.predict("digits-gan", "by-api", api_name="/train_start")

    def state() -> str:
        listed = client.predict(api_name="/trainings")
        assert listed["may_train"]
        return next(run for run in listed["trainings"] if run["name"] == "by-api")["state"]

    until(lambda: state() == "finished", "it does not end")
    with pytest.raises(AppError, match="not running"):
        client.predict("by-api", api_name="/train_stop")
    with pytest.raises(AppError, match="finished"):
        client.predict("by-api", api_name="/train_resume")
    images = client.predict("by-api", count=1, api_name="/generate")["images"]
    assert len(images) == 1


@pytest.mark.parametrize(
    "arguments", [("digits-gann", "x"), ("digits-gan", "../x"), ("captions", "x"), ("digits-gan", "-o")]
)
def test_the_api_refuses_what_makes_no_sense(client, arguments):
    with pytest.raises(AppError, match=r"recipe|name of the run"):
        client.predict(*arguments, api_name="/train_start")


def test_visitors_see_states_and_can_do_nothing(models, tmp_path):
    write_run(tmp_path / "runs" / "old")
    (tmp_path / "runs" / ".studio").mkdir()
    (tmp_path / "runs" / ".studio" / "old.log").write_text("condgen: error: /home/me/images is gone.\n")
    with serving(tmp_path, models, several=True, trains=False) as address:
        client = Client(address, verbose=False)
        for name, arguments in ACTS:
            with pytest.raises(AppError, match="only on the machine of the studio"):
                client.predict(*arguments, api_name=f"/{name}")
        listed = client.predict(api_name="/trainings")
    (run,) = listed["trainings"]
    assert not listed["may_train"] and (run["name"], run["state"], run["images"]) == ("old", "failed", LINE["images"])
    assert "/home/me" not in str(listed) and str(tmp_path) not in str(listed)


def test_people_who_log_in_may_train(models, tmp_path):
    write_run(tmp_path / "runs" / "old")
    with serving(tmp_path, models, network={"auth": [("me", "secret")]}, several=True, trains=True) as address:
        client = Client(address, verbose=False, auth=("me", "secret"))
        assert client.predict(api_name="/trainings")["may_train"]
        with pytest.raises(AppError, match="not running"):
            client.predict("old", api_name="/train_stop")


@pytest.mark.parametrize("several, trains, username", [(True, True, None), (True, False, "me"), (False, False, None)])
def test_the_events_of_the_page_refuse_visitors_too(several, trains, username, tab, tmp_path):
    """Events of the page are not in the API, but a program can send them."""
    tab, request, event = tab(several, trains), request_of(username), SimpleNamespace(name="old", text="")
    calls = [
        lambda: tab._pick(event, request),
        lambda: [*tab._check("/etc", request)],
        lambda: [*tab._start(request, "digits-gan", "mine", "", 1, 0, "", "auto", "")],
        lambda: tab._stop(event, request),
        lambda: tab._resume(event, request),
        lambda: tab._use(event, request),
    ]
    for call in calls:
        with pytest.raises(gr.Error, match="only on the machine of the studio"):
            call()
    assert all(value == gr.skip() for value in tab._refresh("", request)[:-1])
    shown = [update["visible"] for update in tab.on_model(None, request)]
    assert shown == [True, False] and not (tmp_path / "runs").exists()


def test_the_owner_sees_the_folder_and_others_do_not(tab, tmp_path):
    write_run(tmp_path / "runs" / "old")
    for several, username, seen in ((False, None, True), (True, "me", False)):
        rows, details, *_ = tab(several, True)._refresh("old", request_of(username))
        assert rows["selected"] == "old" and (str(tmp_path) in details) == seen


def test_a_run_without_a_checkpoint_cannot_be_used(tab, tmp_path):
    write_run(tmp_path / "runs" / "old")
    with pytest.raises(CondgenError, match="no checkpoint yet"):
        tab().api.model_of("old")
