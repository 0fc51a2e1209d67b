"""People who use one studio never see each other's images: by page state, API, addresses of files, or forged names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from gradio_client import Client

from condgen.contracts import CondgenError
from condgen.studio.images.outputs import Outputs
from condgen.studio.library import ModelLibrary
from condgen.studio.server.visitors import VISITOR, is_visitor, new_visitor
from condgen.studio.studio import Studio, uploaded
from tests.studio.support import PROMPT, serving

ACCOUNTS = [("ann", "first"), ("bob", "second")]


@pytest.fixture(scope="module")
def guarded(models, tmp_path_factory):
    """A studio with two accounts: its address and its folder."""
    folder = tmp_path_factory.mktemp("guarded")
    with serving(folder, models, network={"auth": ACCOUNTS}, several=True) as url:
        yield url, folder


@pytest.fixture(scope="module")
def open_to_all(models, tmp_path_factory):
    """A studio that lets everybody in: its address and its folder."""
    folder = tmp_path_factory.mktemp("open")
    with serving(folder, models, several=True, trains=False) as url:
        yield url, folder


def studio(tmp_path: Path, several: bool = True) -> Studio:
    return Studio(ModelLibrary(), Outputs(tmp_path / "outputs", tmp_path / "served"), several)


def asking(username=None, cookies=None, session="s1"):
    return SimpleNamespace(username=username, cookies=cookies or {}, session_hash=session)


def logged_in(url: str, name: str, password: str) -> httpx.Client:
    client = httpx.Client(base_url=url, timeout=60)
    assert client.post("/login", data={"username": name, "password": password}).status_code == 200
    token = {key: value for key, value in client.cookies.items() if "unsecure" in key}
    return httpx.Client(base_url=url, timeout=60, cookies=token)


def test_who_asks(tmp_path):
    several, alone = studio(tmp_path), studio(tmp_path, several=False)
    mine, other = new_visitor(), new_visitor()
    asked = [
        asking("ann"), asking("bob"), asking(cookies={VISITOR: mine}), asking(cookies={VISITOR: other}),
        asking(session="s1"), asking(session="s2"), asking(session=mine), asking("visitor " + mine),
    ]  # fmt: skip
    people = [several.person(one) for one in asked]
    assert len(set(people)) == len(asked) and "" not in people
    assert several.person(asking(cookies={VISITOR: mine}, session="another")) == people[2]
    assert alone.person(asking(cookies={VISITOR: mine})) == alone.person(None) == ""
    assert alone.person(asking("ann")) == people[0]
    assert several.person(asking(session=None)) != several.person(asking(session=None))


@pytest.mark.parametrize("value", ["", "x", "../../etc", "a" * 21, "a" * 23, "a" * 21 + "/", "a" * 22 + "\n", None, 5])
def test_a_cookie_that_the_studio_did_not_make_names_no_one(tmp_path, value):
    assert not is_visitor(value) and is_visitor(new_visitor())
    assert studio(tmp_path).person(asking(cookies={VISITOR: value})) == "session s1"


def test_forged_ids_lead_to_no_image_of_another(tmp_path):
    outputs = studio(tmp_path).outputs
    image, own = outputs.save("user ann", "a.png", b"ann"), outputs.save("", "owner.png", b"owner")
    folder = outputs.folder("user ann").name
    forged = [
        image.id, own.id, f"people/{folder}/{image.id}", f"../{folder}/{image.id}", str(image.path), f"{image.day}/..",
        f"../../{own.id}", f"{image.day}/../{image.id}", "", None, 5, ["a"], {"id": image.id}, f"{image.id}\0",
    ]  # fmt: skip
    for person in ("user bob", "visitor " + new_visitor()):
        for one in forged:
            with pytest.raises(CondgenError):
                outputs.get(person, one)
            with pytest.raises(CondgenError):
                outputs.delete(person, one)
        assert outputs.list(person) == []
    assert outputs.get("user ann", image.id).path.read_bytes() == b"ann"
    assert {one.id for one in outputs.list("")} == {own.id}


def test_what_is_no_upload_is_not_read(tmp_path, monkeypatch):
    served = tmp_path / "served"
    (served / "token").mkdir(parents=True)
    inside, outside = served / "token" / "a.png", tmp_path / "b.png"
    for path in (inside, outside):
        path.write_bytes(b"x")
    (served / "link.png").symlink_to(outside)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(served))
    assert uploaded(str(inside)) == uploaded({"path": str(inside)}) == inside.resolve()
    for bad in (outside, served / "link.png", f"{served}/../b.png", "/etc/passwd", served, "a" * 9999, "\0", "", None):
        for value in (bad if bad is None else str(bad), {"path": bad if bad is None else str(bad)}):
            with pytest.raises(CondgenError, match=r"uploaded|Upload"):
                uploaded(value)


def test_logins_have_their_own_images_and_no_one_else_has_any(guarded, tmp_path):
    url, folder = guarded
    for path in ("/config", "/gradio_api/info", "/gradio_api/openapi.json", f"/gradio_api/file={folder}/served/a"):
        assert httpx.get(url + path).status_code == 401
    assert httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", b"0")}).status_code == 401
    assert httpx.post(f"{url}/gradio_api/call/generate", json={"data": ["words", PROMPT]}).status_code == 401
    ann = Client(url, auth=ACCOUNTS[0], verbose=False, download_files=str(tmp_path / "ann"))
    bob = Client(url, auth=ACCOUNTS[1], verbose=False, download_files=str(tmp_path / "bob"))
    for client, seed in ((ann, 3), (bob, 4)):
        assert client.predict("words", PROMPT, seed=seed, api_name="/generate")["seeds"] == [seed]
    people = [*(folder / "outputs" / "people").iterdir()]
    assert len(people) == 2 and [len([*one.rglob("*.png")]) for one in people] == [1, 1]
    assert not [path for path in (folder / "outputs").iterdir() if path.name != "people"]


def test_files_lie_that_cannot_be_guessed(guarded):
    url, folder = guarded
    ann, bob = (logged_in(url, *account) for account in ACCOUNTS)
    answer = ann.post("/gradio_api/call/v2/generate", json={"model": "words", "prompt": PROMPT, "seed": 9}).json()
    text = ann.get(f"/gradio_api/call/generate/{answer['event_id']}").text
    assert "event: complete" in text
    copies = list((folder / "served").rglob("*-9.png"))
    assert len(copies) == 1 and len(copies[0].parent.name) >= 22 and str(copies[0]) in text
    kept = next((folder / "outputs").rglob("*-9.png"))
    for path in (kept, kept.parent, copies[0].parent, folder / "served", folder / "outputs", copies[0].parent / ".."):
        assert bob.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_every_browser_gets_a_cookie_that_scripts_cannot_read(open_to_all):
    url, _ = open_to_all
    given = [httpx.get(url).headers["set-cookie"] for _ in range(2)]
    assert given[0] != given[1]
    for cookie in given:
        assert cookie.startswith(f"{VISITOR}=") and {"HttpOnly", "SameSite=Lax", "Path=/"} <= {*cookie.split("; ")}
        assert is_visitor(cookie.partition("=")[2].partition(";")[0]) and "Secure" not in cookie
    assert "Secure" in httpx.get(url, headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    mine = {"cookie": f"other=1; {VISITOR}={new_visitor()}"}
    assert "set-cookie" not in httpx.get(url, headers=mine).headers
    for forged in ("x", "", "../..", '"'):
        assert VISITOR in httpx.get(url, headers={"cookie": f"{VISITOR}={forged}"}).headers["set-cookie"]
    assert "set-cookie" not in httpx.get(f"{url}/config").headers


def test_programs_without_a_cookie_are_known_by_their_session(open_to_all, tmp_path):
    url, folder = open_to_all
    before = {*folder.glob("outputs/people/*")}
    for k in range(2):
        client = Client(url, verbose=False, download_files=str(tmp_path / str(k)))
        for seed in (3, 4):
            client.predict("words", PROMPT, seed=seed, api_name="/generate")
    people = {*folder.glob("outputs/people/*")} - before
    assert [len([*one.rglob("*.png")]) for one in people] == [2, 2]
