"""Tables and files: read with care, written whole or not at all."""

import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.errors import InputError
from perfmodel.files import (
    CHUNK,
    cells_of,
    check_folder,
    check_place,
    read_csv,
    with_columns,
    write_csv,
    write_whole,
)

HEADER = b"op,chip,note\n"


def read(tmp_path: Path, content: bytes) -> dict[str, list[str]]:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    return cells_of(read_csv(path))


def test_every_cell_is_text_as_it_stands(tmp_path: Path):
    cells = read(tmp_path, HEADER + b"gemm, h100 ,1.50\n007,NA,null\n")
    assert cells == {"op": ["gemm", "007"], "chip": [" h100 ", "NA"], "note": ["1.50", "null"]}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + HEADER + b"a,b,c\n",
        HEADER.replace(b"\n", b"\r\n") + b"a,b,c\r\n",
        HEADER + b"a,b,c",
        HEADER + b"\n\na,b,c\n\n",
        b" OP ,Chip,note\na,b,c\n",
        b'"op","chip","note"\n"a","b","c"\n',
    ],
    ids=["BOM", "CRLF", "no last line end", "blank lines", "spaces and capitals", "quotes"],
)
def test_usual_spellings_of_a_table_mean_the_same(tmp_path: Path, content: bytes):
    assert read(tmp_path, content) == {"op": ["a"], "chip": ["b"], "note": ["c"]}


def test_a_quoted_cell_may_hold_line_ends_commas_and_quotes(tmp_path: Path):
    cells = read(tmp_path, HEADER + b'gemm,"two\nlines, ""quoted""",x\n')
    assert cells["chip"] == ['two\nlines, "quoted"']


def test_a_header_may_hold_a_line_end(tmp_path: Path):
    assert read(tmp_path, b'op,"two\nlines"\na,b\n') == {"op": ["a"], "two\nlines": ["b"]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER,
        b"\n\n\n",
        b"\xef\xbb\xbf",
        b"\0" * 100,
        bytes(range(256)) * 20,
        (HEADER + b"a,b,c\n").decode().encode("utf-16"),
        HEADER + b"a,b\n",
        HEADER + b"a,b,c,d\n",
        HEADER + b'a,"b,c\n',
        HEADER + b"a,\xe9,c\n",
        b"op,op\na,b\n",
        b"op,Op \na,b\n",
        HEADER + b"a," + b"b" * 3_000_000 + b",c\n",
    ],
    ids=[
        "empty",
        "header only",
        "blank",
        "BOM only",
        "zeros",
        "junk",
        "UTF-16",
        "short row",
        "long row",
        "open quote",
        "Latin-1",
        "a name twice",
        "a name twice in other letters",
        "a cell of megabytes",
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: bytes):
    with pytest.raises(InputError, match=r"rows\.csv"):
        read(tmp_path, content)


@pytest.mark.parametrize("name", ["none.csv", ".", "x" * 300])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str):
    with pytest.raises(InputError, match="there is no file"):
        read_csv(tmp_path / name)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
def test_any_text_survives_the_way_out_and_back(tmp_path_factory, rows: list[tuple[str, str]]):
    path = tmp_path_factory.mktemp("round") / "rows.csv"
    columns = {"id": ["1"] * len(rows)} | {
        name: [row[i] for row in rows] for i, name in enumerate(("first", "second"))
    }
    write_csv(path, pa.table(columns))
    assert cells_of(read_csv(path)) == columns


def test_lines_end_in_a_line_feed(tmp_path: Path):
    write_csv(tmp_path / "rows.csv", pa.table({"a": ["1", "2"], "b": ["x\r", "y"]}))
    assert (tmp_path / "rows.csv").read_bytes() == b'a,b\n1,"x\r"\n2,y\n'


def test_a_column_is_replaced_where_it_stands_and_a_new_one_comes_last():
    table = pa.table({"note": ["n"], "Error": ["old"], "memo": ["m"]})
    found = with_columns(table, {"error": ["new"], "bound": ["memory"]})
    assert found.column_names == ["note", "error", "memo", "bound"]
    assert found["error"].to_pylist() == ["new"]


def test_a_long_column_is_written_whole(tmp_path: Path):
    """What ten million rows found: a column of more than 2 GB of text lost its end."""
    numbers = [str(i) for i in range(2 * CHUNK + 5)]
    write_csv(tmp_path / "out.csv", with_columns(pa.table({"a": numbers}), {"b": numbers}))
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines == ["a,b", *(f"{n},{n}" for n in numbers)]


@pytest.mark.slow
def test_a_column_of_more_than_two_gigabytes_is_kept_whole():
    values = ["x" * 2**13] * (2**18 + 5)
    table = with_columns(pa.table({"a": ["y"] * len(values)}), {"b": values})
    assert len(table) == len(values)


@pytest.mark.parametrize("name", ["", "none/out.csv", "file/out.csv", "x" * 300])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, name: str):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "out.csv").write_text("old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_whole(tmp_path / "out.csv", b"new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.csv", "old")]


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "out.csv")
    write_whole(tmp_path / "link.csv", b"new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real" / "out.csv").read_bytes() == b"new"


def test_a_pipe_is_written_into_and_never_replaced(tmp_path: Path):
    """The same guard keeps `--out /dev/null` from replacing a device."""
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"new")
    reader.join(10)
    assert heard == [b"new"] and pipe.is_fifo()


def test_a_place_is_checked_before_any_work(tmp_path: Path):
    (tmp_path / "file").write_text("kept")
    check_place(tmp_path / "out.csv")
    for name in ("", "none/out.csv", "file/out.csv"):
        with pytest.raises(InputError):
            check_place(tmp_path / name)


def test_a_folder_is_checked_before_any_work(tmp_path: Path):
    (tmp_path / "file").write_text("kept")
    check_folder(tmp_path / "new" / "newer")
    for name in ("file", "file/new"):
        with pytest.raises(InputError, match="not a folder"):
            check_folder(tmp_path / name)
