"""What a cell of a table means: the same in every format, and texts as they are written."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from condgen.cli.main import main
from condgen.contracts import CondgenError
from condgen.data.audit.check import check
from condgen.data.sources.captions import load_captions
from condgen.data.sources.columns import Column
from condgen.data.sources.labels import open_labelled
from condgen.data.sources.tables import listed_in, spelled

pytestmark = pytest.mark.filterwarnings("ignore:.*a single image has")
FORMATS = ("csv", "tsv", "semicolons", "utf-16", "jsonl", "json", "columns.json", "parquet")
CODES = ("007", "1e2", "1_000", "1.10", "+5", "0x1f", "true", "2024-01-31", "1,234", "1;2", "a, b", 'say "x"', "N/A.")


def write(folder: Path, rows: list[dict], form: str) -> Path:
    """A folder of images with a metadata file that holds the rows."""
    folder.mkdir(parents=True)
    for i, _ in enumerate(rows):
        Image.new("RGB", (4, 4), (i, 0, 9)).save(folder / f"{i}.png")
    rows = [{"file_name": f"{i}.png"} | row for i, row in enumerate(rows)]
    if form in ("csv", "tsv", "semicolons", "utf-16"):
        text, separator = io.StringIO(newline=""), {"tsv": "\t", "utf-16": "\t", "semicolons": ";"}.get(form, ",")
        writer = csv.writer(text, delimiter=separator)
        writer.writerows([list(rows[0]), *(row.values() for row in rows)])
        path = folder / f"metadata.{'tsv' if form == 'tsv' else 'csv'}"
        path.write_bytes(text.getvalue().encode({"utf-16": "utf-16", "csv": "utf-8-sig"}.get(form, "utf-8")))
    elif form == "jsonl":
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    elif form == "json":
        (folder / "metadata.json").write_text(json.dumps(rows))
    elif form == "columns.json":  # as DataFrame.to_json writes it
        by_column = {name: {str(i): row[name] for i, row in enumerate(rows)} for name in rows[0]}
        (folder / "metadata.json").write_text(json.dumps(by_column))
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")
    return folder


@pytest.mark.parametrize("form", FORMATS)
def test_captions_keep_their_spelling_in_every_format(tmp_path, form):
    wanted = [*CODES, "NA", "null", "None", "[OC] a cat", "['unfinished", "(a cat)", "{a, b}"]
    data = load_captions(write(tmp_path / "x", [{"text": text} for text in wanted], form), 4, split="all")
    assert [data.texts[own[0]] for own in data.captions] == wanted


@pytest.mark.parametrize("form", FORMATS)
def test_classes_keep_their_spelling_in_every_format(tmp_path, form):
    wanted = [code for code in CODES for _ in range(2)]
    data = open_labelled(write(tmp_path / "x", [{"label": code} for code in wanted], form), split="all")
    assert [data.attributes[0].format_target(target) for target in data.targets[:, 0]] == wanted


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "cells, values",
    [
        (["007", "008", "8"], ("007", "008", "8")), (["1e2", "3e1"], ("1e2", "3e1")), (["10", "9"], ("9", "10")),
        (["1.0", "2"], ("1", "2")), (["1.1", "1.10"], ("1.1", "1.10")), (["true", "false"], ("false", "true")),
        (["NA", "DE", "FR"], ("DE", "FR", "NA")), (["Cat", "cat"], ("Cat", "cat")),
    ],
)  # fmt: skip
def test_what_texts_of_labels_are(tmp_path, form, cells, values):
    data = open_labelled(write(tmp_path / "x", [{"label": cell} for cell in cells], form), split="all")
    assert data.attributes[0].values == values


@pytest.mark.parametrize("cells", [[1, 2, 10], [1.0, 2.0, 10.0], [True, False], ["b", "a"], [-1, 0]])
def test_numbers_and_truth_values_are_the_same_classes_in_every_format(tmp_path, cells):
    found = {
        open_labelled(write(tmp_path / form, [{"label": cell} for cell in cells], form), split="all").attributes
        for form in FORMATS
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    "as_type, cells, values",
    [
        ("number", ["007", "7", "8"], ("7", "8")), ("number", ["1e2", "3e1"], ("30", "100")),
        ("number", ["True", "false"], ("0", "1")), ("text", ["1", "2", "1.0"], ("1", "1.0", "2")),
        ("text", ["cat", "NA", "null"], ("NA", "cat", "null")), ("text", ["0.5", "1.5"], ("0.5", "1.5")),
    ],
)  # fmt: skip
def test_the_user_says_what_a_column_holds(as_type, cells, values):
    column = Column("label", True, as_type)
    for cell in cells:
        column.add(cell, None, "here", True)
    assert column.coder((), "data").attribute.values == values


@pytest.mark.parametrize(
    "cells, mean",
    [(["1,234", "2,000.5"], 1617.25), (["1.234,5", "0,5"], 617.5), (["3,5", "4,5"], 4), (["1e2", "0"], 50)],
)
def test_numbers_with_separators_are_read_on_request(tmp_path, cells, mean):
    cells = cells * 20
    rows = [{"label": "ab"[i % 2], "price": cell} for i, cell in enumerate(cells)]
    data = open_labelled(
        write(tmp_path / "x", rows, "csv"), split="all", attribute_columns=("price",), column_types="price=number"
    )
    price = data.attributes[1]
    numbers = [float(name) for name in price.values] if price.values else [price.low, price.high]
    assert np.mean(numbers) == pytest.approx(mean)


def test_what_is_no_number_is_an_unusable_cell(tmp_path):
    rows = [{"label": i % 2, "price": "much" if i == 3 else f"1,{i:03}"} for i in range(200)]
    asked = {"attribute_columns": ("price",), "column_types": "price=number"}
    report = check(write(tmp_path / "x", rows, "csv"), **asked)
    assert (
        report.bad == {"unusable attribute": 1} and "'much', not a number" in report.examples["unusable attribute"][0]
    )


@pytest.mark.parametrize(
    "cells, note",
    [
        (["007", "008"], r"label: 007, 008 taken as text, as written \(--column-types label=number reads numbers\)"),
        (["cat", "dog", "NA"], r"label: NA \(1 rows\) taken as unknown \(--column-types label=text makes it a value\)"),
        (["DE", "FR", "NA"], r"label: NA \(1 rows\) taken as a value, a code of two letters"),
        (["1,234", "1,235"], r"label: 1,234, 1,235 taken as text \(--column-types label=number reads numbers with"),
        (["Cat", "cat"], r"label: Cat, cat are two values"),
    ],
)
def test_an_ambiguous_column_is_named_by_data_check(tmp_path, capsys, cells, note):
    folder = write(tmp_path / "x", [{"label": cell} for cell in cells for _ in range(2)], "csv")
    main(["data", "check", str(folder)])
    said = capsys.readouterr().out.replace("(2 rows)", "(1 rows)")
    assert re.search(note, said), said


def test_plain_columns_need_no_word(tmp_path):
    for form in ("csv", "jsonl"):
        rows = [{"label": ["cat", "dog"][i % 2], "age": i / 3, "wet": i % 2} for i in range(60)]
        assert check(write(tmp_path / form, rows, form), attribute_columns=("age", "wet")).taken == []


# Lists ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, found",
    [
        ("['a red cat', 'a cat']", ["a red cat", "a cat"]), ('["a", "b"]', ["a", "b"]), ("['a']", ["a"]),
        ("['a red cat' 'a cat']", ["a red cat", "a cat"]), ("['a'\n 'b']", ["a", "b"]), ("('a', 'b')", ["a", "b"]),
        ("""['a cat\\'s bed', "a dog's"]""", ["a cat's bed", "a dog's"]), ("['a', None, nan]", ["a", None, None]),
        ("{'a', 'b'}", ["a", "b"]), ("['a', 'b',]", ["a", "b"]), ("['ümläut', '猫']", ["ümläut", "猫"]),
        ("[]", []), ("['it', [1]]", None), ("[OC] a cat", None), ("('a')", None), ("{'a'}", None), ("['a", None),
        ("['a' + 'b']", None), ("[__import__('os')]", None), ("", None), ("a cat", None), ("[a, b]", None),
    ],
)  # fmt: skip
def test_lists_written_as_text(text, found):
    assert listed_in(text) == found


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("written", [str, json.dumps, lambda both: " ".join(map(repr, both)).join("[]")])
def test_a_list_of_captions_is_read_in_every_format(tmp_path, form, written):
    lists = [[f"a red cat {i}", f"cat's number {i}"] for i in range(30)]
    rows = [{"text": written(both)} for both in lists]
    data = load_captions(write(tmp_path / "x", rows, form), 4, split="all")
    assert [[data.texts[i] for i in own if i >= 0] for own in data.captions] == lists
    report = check(tmp_path / "x")
    assert report.captions["count"] == 60
    if written is str:
        note = "lists written as text, taken as several captions (as text: --column-types text=text)"
        assert report.notes == {note: 30}
    as_text = load_captions(tmp_path / "x", 4, split="all", column_types="text=text")
    assert as_text.texts == [row["text"] for row in rows]


# Cells ----------------------------------------------------------------------------------------------------------------


def test_dates_and_decimals_of_parquet_are_what_a_csv_would_say():
    import datetime
    import decimal

    said = {
        datetime.date(2024, 1, 31): "2024-01-31", datetime.datetime(2024, 1, 31): "2024-01-31",
        datetime.datetime(2024, 1, 31, 12, 30): "2024-01-31 12:30:00", decimal.Decimal("1.10"): "1.10",
        decimal.Decimal("3.00"): "3", 3.0: "3", 0.5: "0.5", 7: "7", "007": "007", float("nan"): None, b"x": None,
    }  # fmt: skip
    assert {cell: spelled(cell) for cell in said} == said and spelled(True) == "true"


def test_paths_written_on_windows(tmp_path):
    write(tmp_path / "x" / "pictures", [{"text": "a"}] * 3, "csv")
    rows = [["file_name", "text"], *([f"pictures\\{i}.png", f"cat {i}"] for i in range(3))]
    (tmp_path / "x" / "pictures" / "metadata.csv").unlink()
    with (tmp_path / "x" / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    report = check(tmp_path / "x")
    assert report.usable == 3 and not report.bad


def test_a_space_after_the_comma_and_fewer_or_more_cells(tmp_path):
    write(tmp_path / "x", [{"text": "a"}] * 4, "csv")
    text = 'file_name, text\n0.png, "a cat, sitting"\n1.png, a dog\n2.png\n3.png, one, two\n'
    (tmp_path / "x" / "metadata.csv").write_text(text)
    report = check(tmp_path / "x")
    assert report.usable == 2 and report.bad == {
        "no caption": 1,
        "broken metadata line": 1,
        "image absent from metadata": 1,
    }
    data = load_captions(tmp_path / "x", 4, split="all", max_bad_fraction=0.9)
    assert sorted(data.texts) == ["a cat, sitting", "a dog"]


def test_other_json_files_are_no_tables(tmp_path):
    folder = write(tmp_path / "x", [{"text": "a cat"}] * 3, "csv")
    for name in ("metadata.json", "info.json"):
        (folder / name).write_text('{"made by": "me"}')
    assert check(folder).usable == 3


@pytest.mark.parametrize("given", ["price", "price=integer", "=text"])
def test_types_of_columns_are_checked(tmp_path, given):
    folder = write(tmp_path / "x", [{"text": "a cat"}] * 3, "csv")
    with pytest.raises(CondgenError, match="column_types"):
        check(folder, column_types=given)
    with pytest.raises(CondgenError, match=r"no column 'prise' \(column_types\)"):
        check(folder, column_types="prise=text")
