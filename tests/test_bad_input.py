"""Twenty-four bad inputs, and what is done with each. The table finds every row; tests of this file bear its number.

| row | what is fed | what is promised | held by |
|---|---|---|---|
| 1 | truncated JPEG or PNG | training skips and counts it, `data check` lists it, commands and studio name it | data/test_images.py::test_what_is_no_image_is_named, data/test_sources.py::test_a_few_bad_rows_only_warn, data/test_audit_captions.py::test_every_fault_is_counted_under_its_reason, test_rows_1_2_8_uploads |
| 2 | empty file, HTML named .jpg | the same | data/test_images.py::test_what_is_no_image_is_named, test_rows_1_2_8_uploads |
| 3 | CMYK JPEG | RGB | data/test_images.py::test_cmyk_one_bit_and_palette_become_rgb |
| 4 | 16-bit PNG | scaled, not clipped | data/test_images.py::test_sixteen_bit_grey_is_scaled_not_clipped, data/test_images.py::test_sixteen_bit_colour_is_within_one_level, test_row_4_sixteen_bit_mean |
| 5 | EXIF orientation | applied | data/test_images.py::test_exif_orientation_is_applied, data/test_images.py::test_broken_exif_does_not_lose_the_image, test_row_5_every_orientation |
| 6 | animated GIF, WebP, APNG | first frame, RGB, one warning | data/test_images.py::test_an_animation_gives_its_first_frame, data/test_sources.py::test_animations_give_one_warning |
| 7 | RGBA, palette, 1-bit | laid over white, or over the background that is asked for | data/test_images.py::test_every_kind_of_transparency_shows_the_background, data/test_images.py::test_half_transparent_black_over_white_is_mid_grey |
| 8 | decompression bomb | refused by its header, above 64 million pixels | data/test_images.py::test_the_header_alone_is_enough_to_refuse_a_bomb, test_row_8_bombs_of_every_form, test_rows_1_2_8_uploads |
| 9 | PNG text bomb | the texts are not read, the image is | test_row_9_text_bomb |
| 10 | truncated or mismatched weights, damaged checkpoint | names the file, expected against found; training goes on from the one before | test_errors.py::test_truncated_weights, test_errors.py::test_tensors_that_do_not_fit, training/test_training.py::test_drive_says_what_it_goes_on_from, test_row_10_a_config_that_asks_for_more_than_the_file_holds |
| 11 | weights that miss a tensor | refused, the tensor is named | test_errors.py::test_tensors_that_do_not_fit |
| 12 | pickle in a model or a checkpoint | never loaded | test_security.py::test_a_pickle_in_a_model_is_never_run, test_security.py::test_a_pickle_in_a_checkpoint_is_never_run |
| 13 | unknown key, wrong type in a config | exit code 2, "Did you mean ...?" | test_errors.py::test_unknown_command_or_option, test_errors.py::test_bad_config_file |
| 14 | resume with another config | tells before and after; data and architecture are an error, learning rate and bounds a warning | test_row_14_resume_with_another_config, training/test_training.py::test_a_run_keeps_its_optimiser_and_its_mean |
| 15 | empty prompt | studio: message; command: exit code 2; painting without a condition must be asked for | test_errors.py::test_empty_prompt, studio/test_session.py::test_refused, test_row_15_without_a_condition |
| 16 | prompt of 10,000 characters | a warning that tells what was kept; the studio takes 2,000 | test_errors.py::test_long_prompt_is_cut_with_a_warning_that_says_where, studio/test_session.py::test_refused |
| 17 | emoji, right-to-left, lone surrogate, NUL | painted; the file name is ASCII, at most 80 characters and the seed | test_row_17_strange_prompts, files/test_images.py::test_any_prompt_makes_a_safe_name |
| 18 | None, int, bytes as a prompt | `CondgenError` that names the type | test_row_18_what_is_no_prompt, studio/test_session.py::test_refused |
| 19 | a label nobody knows, or none; empty classes, one image of a class, unlike sizes, grey among colours, gaps | nearest names; bad rows are counted, and more than 1 % refused; classes, sizes, greys and gaps are told by name | data/test_attributes.py::test_an_unknown_value_gets_the_nearest_names, test_errors.py::test_label_file_where_captions_are_expected, data/test_labels.py::test_a_label_out_of_range_names_its_image, data/test_labels.py::test_damaged_idx_files_are_refused_by_name, data/test_label_rows.py::test_labels_out_of_range_and_absent_labels_are_bad_rows, data/test_label_rows.py::test_an_empty_class_is_left_out_and_one_without_training_is_named, data/test_label_rows.py::test_mixed_sizes_need_a_size, data/test_label_rows.py::test_grey_images_among_colour_ones_are_converted_and_counted, data/test_label_rows.py::test_gaps_in_attributes_are_unknown_and_reported, data/test_label_rows.py::test_the_faults_of_columns |
| 20 | no caption, twice the same, absent file, absent row | counted and listed by `data check`; training refuses more than 1 % | data/test_audit_captions.py::test_every_fault_is_counted_under_its_reason, data/test_audit_captions.py::test_the_loader_agrees_with_the_check |
| 21 | truncated shard, absent shard, `pipe:` | refused, and the shard is named; a command is never run | data/test_webdataset.py::test_a_shard_cut_short_names_itself, data/test_webdataset.py::test_what_a_range_lacks, data/test_webdataset.py::test_other_places_and_commands_are_refused |
| 22 | loss that is not finite | skipped a few times, then an end that keeps the last good checkpoint | training/test_faults.py::test_a_step_that_is_not_finite_changes_nothing_and_is_counted, training/test_faults.py::test_a_run_that_stops_names_its_checkpoint_and_keeps_the_batch |
| 23 | full disk | what was there is kept; exit code 1 and the path | test_errors.py::test_full_disk_is_reported_plainly, test_row_23_an_image_is_whole_or_not_there |
| 24 | signals, closed page, full queue, absurd options | a message, a saved state, and the next request works | training/test_training.py::test_an_interrupt_finishes_the_step_and_saves, test_errors.py::test_option_out_of_range, studio/test_session.py::test_refused, studio/test_generate.py::test_who_finds_the_queue_full_is_refused_with_the_reason, studio/test_session.py::test_closing_stops_within_a_step_and_lets_the_next_one_begin, studio/test_generate.py::test_a_cancelled_request_stops, studio/test_generate.py::test_nan_is_refused |

Two things that were thought of are left out on purpose. A resumed run has no `--force`: other data or another
architecture is another run, and another folder costs nothing. There is no `--unconditional`: the recipe inside a
image has a prompt that paints it again; who wants to see what the decoder paints when nothing is said calls
`paint(..., use_z=False, use_words=False)`.
"""  # noqa: E501

from __future__ import annotations

import io
import re
import struct
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from condgen.contracts import CondgenError
from condgen.data.sources.images import ImageError, decode, open_image
from condgen.files.images import GeneratedImage, read_recipe
from tests.test_errors import edit, refused
from tests.tiny import tiny_model

TESTS = Path(__file__).parent


def test_every_row_is_there_and_names_tests_that_are():
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", __doc__, re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 25))
    for _, held in rows:
        for name in held.split(", "):
            file, _, test = name.rpartition("::")
            assert f"\ndef {test}(" in (TESTS / (file or Path(__file__).name)).read_text("utf-8"), name


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def as_bytes(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def with_size(content: bytes, form: str, edge: int) -> bytes:
    """A file whose header tells another size; little else is needed to fill somebody's memory."""
    import zlib

    changed = bytearray(content)
    if form == "PNG":
        changed[16:24] = struct.pack(">II", edge, edge)
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
    elif form == "GIF":
        changed[6:10] = struct.pack("<HH", edge, edge)
    elif form == "BMP":
        changed[18:26] = struct.pack("<ii", edge, edge)
    elif form == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        changed[at : at + 4] = struct.pack(">HH", edge, edge)
    elif form == "TIFF":
        (table,) = struct.unpack("<I", content[4:8])
        for entry in range(table + 2, table + 2 + 12 * struct.unpack("<H", content[table : table + 2])[0], 12):
            if struct.unpack("<H", content[entry : entry + 2])[0] in (256, 257):
                changed[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, edge)
    elif form == "WEBP":
        assert content[12:16] == b"VP8L"
        changed[21:25] = struct.pack("<I", (edge - 1) | (edge - 1) << 14)
    return bytes(changed)


SOUND = as_bytes(Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "content",
    [SOUND[: len(SOUND) // 2], b"", b"<html>404</html>", with_size(SOUND, "PNG", 8001), with_size(SOUND, "PNG", 30000)],
    ids=["truncated", "empty", "html", "bomb", "large bomb"],
)
def test_rows_1_2_8_uploads(condgen, monkeypatch, content):
    """What is handed in for its recipe is refused with its name, by command and studio; a bomb before it is decoded."""
    from condgen.studio.tabs.gallery.reader import _found

    if content.startswith(SOUND[:16]) and len(content) == len(SOUND):
        monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    Path("x.png").write_bytes(content)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(Path.cwd()))
    refused(condgen("replay", "x.png", "-o", "again"), "x.png")
    with pytest.raises(CondgenError, match=r"^x\.png "):
        _found(str(Path("x.png").absolute()))
    assert not Path("again").exists()


def test_row_4_sixteen_bit_mean():
    deep = np.random.default_rng(0).integers(0, 2**16, (64, 64)).astype(np.uint16)
    for form in ("PNG", "TIFF"):
        assert np.asarray(open_image(as_bytes(Image.fromarray(deep), form))).mean() == pytest.approx(127.5, abs=2)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_row_5_every_orientation(form, orientation):
    """The stored image turned as EXIF says is the upright one, checked against arrays turned by hand."""
    upright = np.zeros((32, 16, 3), np.uint8)
    upright[:16, :8] = 255
    inverse = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(inverse[orientation](upright)))
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    seen = np.asarray(open_image(as_bytes(stored, form, exif=exif, **options)))
    assert seen.shape == upright.shape and np.abs(seen.astype(int) - upright).max() < 30


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("form, edge", [("PNG", 8001), ("JPEG", 65535), ("GIF", 65535), ("BMP", 30000), ("TIFF", 30000),
                                        ("WEBP", 16383)])  # fmt: skip
def test_row_8_bombs_of_every_form(form, edge, monkeypatch):
    content = with_size(as_bytes(Image.new("RGB", (8, 8)), form, lossless=True), form, edge)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # whoever decodes, fails the test
    with pytest.raises(ImageError, match="limit is 64 million") as caught:
        open_image(content)
    assert caught.value.reason == "too large image"


@pytest.mark.parametrize("before", [True, False])
def test_row_9_text_bomb(before, tmp_path):
    """An image with megabytes of text behind a few bytes is read, the text is not; nor is a colour profile like it."""
    text = PngImagePlugin.PngInfo()
    text.add_text("bomb", "a" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    text.add_itxt("more", "b" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    green = Image.new("RGBA", (5, 4), (0, 255, 0, 128))
    content = as_bytes(green, pnginfo=text, icc_profile=b"c" * (PngImagePlugin.MAX_TEXT_CHUNK + 1))
    if not before:  # the texts behind the pixels
        plain = as_bytes(green)
        notes = content[33 : content.index(b"IDAT") - 4]
        content = plain[:-12] + notes + plain[-12:]
    (tmp_path / "x.png").write_bytes(content)
    for source in (content, tmp_path / "x.png"):
        picture, oddities = decode(source)
        assert picture.size == (5, 4) and picture.getpixel((0, 0)) == (127, 255, 127) and oddities == ("alpha",)
    with pytest.raises(CondgenError, match=r"x\.png is a damaged image"):
        read_recipe(tmp_path / "x.png")


def test_row_10_a_config_that_asks_for_more_than_the_file_holds(model, tmp_path):
    """It is held against the header of the weights before memory is taken, and never built by the thousand."""
    from condgen.pipelines.text_to_image import TextToImage

    model.save(tmp_path / "m")
    for part, name, value in (
        ("prior_regression", "width", 2**17),
        ("decoder", "depth", 10**9),
        ("clip", "size", 10**300),
    ):
        kept = (tmp_path / "m" / part / "config.json").read_bytes()
        edit(tmp_path / "m" / part / "config.json", **{name: value})
        with pytest.raises(CondgenError, match=rf"{part}.*({name} is|has shape)"):
            TextToImage.load(tmp_path / "m")
        (tmp_path / "m" / part / "config.json").write_bytes(kept)
    edit(tmp_path / "m" / "decoder" / "config.json", size=33)
    with pytest.raises(CondgenError, match="images of 33 pixels cannot be halved"):
        TextToImage.load(tmp_path / "m")


@pytest.mark.parametrize(
    "change, message",
    [
        (["--seed", "1"], "seed: 0 -> 1"),
        (["--data.scenes", "17"], "data.scenes: 16 -> 17"),
        (["--data.size", "64"], "data.size: 32 -> 64"),
        (["--clip.depth", "3"], "clip.depth: 2 -> 3"),
        (["--prior.heads", "2"], "prior.heads: 4 -> 2"),
        (["--decoder.channels", "[8, 16]"], "decoder.channels: [32, 64] -> [8, 16]"),
        (["--fit_decoder.optimiser", "adamw"], "fit_decoder.optimiser: muon -> adamw"),
    ],
)
def test_row_14_resume_with_another_config(condgen, change, message):
    from condgen.recipes import RECIPES
    from condgen.training.run_folder import RunFolder

    config = RECIPES["scenes32"].config()
    config = replace(config, data=replace(config.data, scenes=16))
    RunFolder(Path("run"), {"recipe": "scenes32"} | asdict(config))
    before = Path("run/config.yaml").read_bytes()
    refused(condgen("train", "scenes32", "-o", "run", "--data.scenes", "16", *change), message, "another output folder")
    assert Path("run/config.yaml").read_bytes() == before and not Path("run/parts").exists()


def test_row_15_without_a_condition(model):
    """Nothing but two explicit switches leaves the words out, and then no word matters."""

    def paint(prompt, **how):
        *_, last = model.generate_batch([prompt], [3], steps=2, **how)
        return last.images

    one, other = "a red circle", "two blue squares"
    assert (paint(one, use_z=False, use_words=False) == paint(other, use_z=False, use_words=False)).all()
    assert (paint(one) != paint(other)).any()


STRANGE = [
    "\U0001f993 \U0001f468\u200d\U0001f469\u200d\U0001f467", "\u05d0\u05d3\u05d5\u05dd \u202eelcric", "a\0b",
    "\ud800 red", "../../etc/passwd", "/etc/passwd", "C:\\con", "con", "-o evil", "a\nb\tc", "e\u0301" * 100,
    "x" * 3000, ".", "%s%n",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::condgen.contracts.CondgenWarning")
@pytest.mark.parametrize("prompt", STRANGE, ids=ascii)
def test_row_17_strange_prompts(model, tmp_path, prompt):
    path = next(model.generate(prompt, seed=2**63 - 1, steps=1)).save(tmp_path / "out")
    name = path.name.removesuffix(f"-{2**63 - 1}.png")
    assert path.parent == tmp_path / "out" and re.fullmatch(r"[a-z0-9-]{1,80}", name)
    assert read_recipe(path)["prompt"] == prompt
    again = next(model.generate(read_recipe(path)["prompt"], seed=2**63 - 1, steps=1))
    assert again.png() == path.read_bytes()


@pytest.mark.parametrize(
    "prompts, message",
    [
        (None, "NoneType"), (5, "int"), (b"a red circle", "bytes"), ([None], "NoneType"), (["a dog", b"x"], "bytes"),
        ([["a dog"]], "list"), ([], "no prompt"), ((), "no prompt"), ({5: 1}, "int"), (object(), "object"),
    ],
)  # fmt: skip
def test_row_18_what_is_no_prompt(model, prompts, message):
    with pytest.raises(CondgenError, match=message):
        next(model.generate(prompts))
    with pytest.raises(CondgenError, match=message):
        model.embed_text(prompts)


@pytest.mark.parametrize("asked", [{"prior": ["none"]}, {"prior": 5}, {"n": "3"}, {"n": None}, {"n": 10**400},
                                   {"steps": "4"}, {"guidance": None}, {"seed": 10**5000}])  # fmt: skip
def test_row_18_what_is_no_option(model, asked):
    with pytest.raises(CondgenError) as error:
        next(model.generate("a red circle", **asked))
    assert 20 < len(str(error.value)) < 250


def test_row_23_an_image_is_whole_or_not_there(tmp_path, monkeypatch):
    """A disk that fills up while an image is written leaves neither an empty file nor a scrap, and keeps the old."""
    recipe = {"prompt": "a", "seed": 1, "prior": "none", "size": 8, "model": "m", "model_id": "0" * 16}
    path = GeneratedImage(Image.new("RGB", (8, 8)), recipe, 0.0, 0.0).save(tmp_path)
    before, write = path.read_bytes(), Path.write_bytes

    def full(self, data):
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CondgenError, match="No space left on device"):
        GeneratedImage(Image.new("RGB", (8, 8), "red"), recipe, 0.0, 0.0).save(tmp_path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before
