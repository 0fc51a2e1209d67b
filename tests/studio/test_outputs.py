"""The images that the studio keeps: never outside of their folder, never of another person, never lost silently."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from condgen.contracts import CondgenError
from condgen.studio.images import outputs as module
from condgen.studio.images.outputs import Outputs, write_new

DATA = b"\x89PNG\r\n\x1a\n" + bytes(100)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path / "outputs", tmp_path / "served")


def ids(outputs, person=""):
    return [image.id for image in outputs.list(person)]


# Names ----------------------------------------------------------------------------------------------------------------


def test_an_image_is_kept_under_its_day_and_found_again(outputs):
    image = outputs.save("", "a-cat-5.png", DATA)
    assert image.path.read_bytes() == DATA and image.id.endswith("-a-cat-5.png") and image.problem == ""
    assert image.day == time.strftime("%Y-%m-%d") == image.path.parent.name
    assert outputs.get("", image.id) == image == outputs.list("")[0]


@pytest.mark.parametrize("name", ["../../up.png", "/etc/x.png", "a/../../b.png"])
def test_a_name_never_leaves_the_folder(outputs, name):
    image = outputs.save("", name, DATA)
    assert image.path.resolve().parent.parent == outputs.root.resolve()


@pytest.mark.parametrize("bad", [
    "../secret.png", "2026-01-01/../../secret.png", "/etc/passwd", "..", "", "2026-01-01/../x.png", "a\0.png", None, 5,
    ["x.png"], {"a": 1}, "2026-01-01//x.png", "./x.png", ".hidden.png", ".git/x.png", "a/b/c.png", "stars.json",
    "people/x.png", "..\\secret.png", "2026-01-01\\x.png", "x" * 5000 + ".png", "\ud800.png", "link.png",
    "linked/a.png", "2026-01-01",
])  # fmt: skip
def test_ids_of_anything_else_are_refused(outputs, tmp_path, bad):
    (tmp_path / "secret.png").write_bytes(DATA)
    for folder in (".git", "people", "2026-01-01", "a/b"):
        (outputs.root / folder).mkdir(parents=True)
        (outputs.root / folder / "x.png").write_bytes(DATA)
    (outputs.root / "a/b/c.png").write_bytes(DATA)
    (outputs.root / ".hidden.png").write_bytes(DATA)
    (outputs.root / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(DATA)
    (outputs.root / "linked").symlink_to(tmp_path / "elsewhere")
    (outputs.root / "loop").symlink_to(outputs.root)
    assert ids(outputs) == ["2026-01-01/x.png"]
    for act in (outputs.get, outputs.delete, lambda person, bad: outputs.star(person, bad, True)):
        with pytest.raises(CondgenError, match="no image"):
            act("", bad)
    assert (tmp_path / "secret.png").exists()


def test_images_of_other_programs_are_found_by_day_of_change(outputs):
    """Those of `condgen generate -o outputs` lie in the folder itself or in one below."""
    (outputs.root / "sub folder").mkdir(parents=True)
    for number, name in enumerate(["flat.png", "sub folder/ü.PNG", "sub folder/strip.gif", "notes.txt", "empty.png"]):
        (outputs.root / name).write_bytes(DATA if "empty" not in name else b"")
        os.utime(outputs.root / name, (number * 86400 + 43200,) * 2)
    assert ids(outputs) == ["sub folder/strip.gif", "sub folder/ü.PNG", "flat.png"]
    assert [image.day[:8] for image in outputs.list("")] == ["1970-01-"] * 3
    for image in outputs.list(""):
        assert outputs.get("", image.id) == image


def test_the_newest_day_comes_first_even_after_the_clock_was_set_back(outputs, monkeypatch):
    days = iter(["2026-03-02", "2026-03-01", "2026-03-03"])
    real = time.strftime
    for _ in range(3):
        day = next(days)
        monkeypatch.setattr(
            time, "strftime", lambda form, *more, day=day: day if form == "%Y-%m-%d" else real(form, *more)
        )
        outputs.save("", "x.png", DATA)
    assert [image.day for image in outputs.list("")] == ["2026-03-03", "2026-03-02", "2026-03-01"]


def test_files_that_others_add_and_delete_are_seen(outputs):
    image = outputs.save("", "a.png", DATA)
    other = Outputs(outputs.root, outputs.served)
    second = other.save("", "b.png", DATA)
    assert set(ids(outputs)) == set(ids(other)) == {image.id, second.id}
    second.path.unlink()
    assert ids(outputs) == ids(other) == [image.id]
    with pytest.raises(CondgenError, match="deleted or moved"):
        outputs.get("", second.id)
    outputs.delete("", image.id)
    assert ids(outputs) == ids(other) == []


def test_an_image_that_was_replaced_is_shown_anew(outputs):
    image = outputs.save("", "a.png", DATA)
    before = outputs.shown("", image)
    assert outputs.shown("", image) == before
    image.path.unlink()
    image.path.write_bytes(DATA + b"new")
    after = outputs.shown("", outputs.get("", image.id))
    assert after != before and after.read_bytes() == DATA + b"new"


# People ---------------------------------------------------------------------------------------------------------------


def test_images_of_a_person_are_invisible_to_others(outputs):
    people = ["", "user ann", "user bob", "visitor ../..", "user \ud800"]
    images = {person: outputs.save(person, "x.png", DATA) for person in people}
    assert len({image.path.parent for image in images.values()}) == len(people)
    for person in people:
        assert ids(outputs, person) == [images[person].id]
        for other in people:
            if other == person:
                continue
            path = os.path.relpath(images[other].path, outputs.folder(person))
            for act in (outputs.get, outputs.delete, lambda who, what: outputs.star(who, what, True)):
                with pytest.raises(CondgenError):
                    act(person, path)
    assert all(image.path.exists() for image in images.values())
    assert not any(outputs.stars(person) for person in people)


def test_addresses_of_shown_images_cannot_be_guessed(outputs):
    images = [outputs.save("user ann", "x.png", DATA) for _ in range(20)]
    shown = [outputs.shown("user ann", image) for image in images]
    assert all(len(path.parent.name) >= 21 and path.parent.parent == outputs.served for path in shown)
    assert len({path.parent for path in shown}) == 20
    assert outputs.shown("user bob", outputs.save("user bob", "x.png", DATA)) not in shown


# Stars ----------------------------------------------------------------------------------------------------------------


def test_stars_survive_and_go_with_the_image(outputs):
    image, other = (outputs.save("", "x.png", DATA) for _ in range(2))
    outputs.star("", image.id, True)
    outputs.star("", other.id, True)
    outputs.star("", other.id, False)
    again = Outputs(outputs.root, outputs.served)
    assert again.stars("") == {image.id}
    again.delete("", image.id)
    assert outputs.stars("") == set()


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', "[1, [2]]", "[" * 100_000, "\xff"])
def test_a_damaged_file_of_stars_is_replaced(outputs, text):
    image = outputs.save("", "x.png", DATA)
    (outputs.root / "stars.json").write_bytes(text.encode("latin-1"))
    assert outputs.stars("") == set()
    outputs.star("", image.id, True)
    assert json.loads((outputs.root / "stars.json").read_text()) == [image.id]


# Limits and faults ----------------------------------------------------------------------------------------------------


def test_an_image_above_the_limit_is_held_for_the_session(tmp_path):
    outputs = Outputs(tmp_path / "outputs", tmp_path / "served", limit=250)
    kept = [outputs.save("", f"{i}.png", DATA) for i in range(2)]
    held = outputs.save("", "held.png", DATA)
    assert "full" in held.problem and "--outputs-limit" in held.problem and str(tmp_path) not in held.problem
    assert held.path.read_bytes() == DATA and held.path.is_relative_to(outputs.served)
    assert outputs.get("", held.id) == held and outputs.shown("", held) == held.path
    assert held.id in ids(outputs) and ids(outputs, "user bob") == []
    with pytest.raises(CondgenError):
        outputs.get("user bob", held.id)
    with pytest.raises(CondgenError, match="star"):
        outputs.star("", held.id, True)
    outputs.delete("", kept[0].id)
    assert outputs.save("", "fits.png", DATA).problem == ""
    outputs.delete("", held.id)
    assert not held.path.exists() and held.id not in ids(outputs)


def test_images_that_are_not_kept_have_a_limit_too(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SESSION_LIMIT", 250)
    outputs = Outputs(tmp_path / "outputs", tmp_path / "served", limit=0)
    held = [outputs.save("", f"{i}.png", DATA) for i in range(4)]
    assert [image.path.exists() for image in held] == [False, False, True, True]


def test_a_full_disk_leaves_no_half_file(outputs, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    outputs.save("", "before.png", DATA)
    monkeypatch.setattr(os, "fsync", full)
    held = outputs.save("", "x.png", DATA)
    assert "No space left on device" in held.problem and held.path.read_bytes() == DATA
    assert [path.name for path in outputs.root.rglob("*") if path.is_file()] == [outputs.list("")[1].path.name]

    def refuse(path, data):
        raise CondgenError("x could not be written")

    monkeypatch.setattr(module, "write_bytes", refuse)
    with pytest.raises(CondgenError, match=r"cannot be written.*Free some space"):
        outputs.save("", "y.png", DATA)
    assert len([path for path in outputs.served.rglob("*") if path.is_file()]) == 1


def test_a_file_in_place_of_the_folder_loses_nothing(tmp_path):
    """The command line refuses it at the start; here the image is held."""
    (tmp_path / "file").write_text("")
    outputs = Outputs(tmp_path / "file", tmp_path / "served")
    assert outputs.list("") == [] and outputs.used() == 0
    assert "Not kept in file" in outputs.save("", "x.png", DATA).problem


def test_a_folder_that_vanishes_is_made_again(outputs, tmp_path):
    import shutil

    outputs.save("", "x.png", DATA)
    shutil.rmtree(outputs.root)
    assert ids(outputs) == []
    assert outputs.save("", "y.png", DATA).problem == ""
    shutil.rmtree(outputs.root)
    outputs.root.write_text("a file")
    assert "Not kept in outputs" in outputs.save("", "z.png", DATA).problem


def test_the_bytes_are_counted_exactly(outputs):
    images = [outputs.save("", "x.png", DATA) for _ in range(5)]
    assert outputs.used() == 5 * len(DATA)
    outputs.delete("", images[0].id)
    assert outputs.used() == 4 * len(DATA)


# At the same time -----------------------------------------------------------------------------------------------------


def test_images_that_are_saved_at_once_keep_their_own_files(outputs):
    """Sixteen threads and two servers on one folder, all with one name."""
    servers, saved = [outputs, Outputs(outputs.root, outputs.served)], []

    def work(k):
        for i in range(10):
            data = DATA + f"{k} {i}".encode()
            image = servers[k % 2].save("", "x.png", data)
            servers[k % 2].star("", image.id, True)
            saved.append((image, data))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len({image.path for image, _ in saved}) == 160
    assert all(image.path.read_bytes() == data for image, data in saved)
    assert {image.id for image, _ in saved} == set(ids(outputs)) == outputs.stars("") == servers[1].stars("")
    assert [path for path in outputs.root.rglob(".*") if path.suffix == ".tmp"] == []


def test_two_processes_never_take_one_name(tmp_path):
    code = (
        "import sys; from pathlib import Path; from condgen.studio.images.outputs import write_new\n"
        "for i in range(100): write_new(Path(sys.argv[1]) / 'x.png', f'{sys.argv[2]} {i}'.encode())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen([*command, name], env=env) for name in "ab"]
    assert [process.wait(120) for process in processes] == [0, 0]
    texts = {path.read_text() for path in tmp_path.iterdir()}
    assert texts == {f"{name} {i}" for name in "ab" for i in range(100)}


def test_names_stay_distinct_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    paths = [write_new(tmp_path / "x.png", str(i).encode()) for i in range(3)]
    assert [path.name for path in paths] == ["x.png", "x-2.png", "x-3.png"]
    assert [path.read_text() for path in paths] == ["0", "1", "2"]
    outputs = Outputs(tmp_path / "outputs", tmp_path / "served")
    assert outputs.shown("", outputs.save("", "x.png", DATA)).read_bytes() == DATA


def test_twenty_thousand_images_are_listed_quickly(outputs):
    for day in range(4):
        folder = outputs.root / f"2026-01-0{day + 1}"
        folder.mkdir(parents=True)
        for i in range(5000):
            (folder / f"{i:05d}.png").write_bytes(b"x")
        os.utime(folder, (1, 1))
    assert len(outputs.list("")) == 20_000
    began = time.process_time()
    assert len(outputs.list("")) == 20_000
    assert time.process_time() - began < 0.5
