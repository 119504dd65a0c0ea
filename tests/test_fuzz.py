"""Files broken at random: a command predicts or refuses, in one sentence, and leaves nothing half-written."""

import io
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from command import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bad_input import CONFIG, KERNELS, L4, MEASURED, SERVING, STUDY, tree

from perfmodel.design.resolve import presets
from perfmodel.design.state import STRUCTURE, load_state
from perfmodel.design.study import read_study
from perfmodel.errors import InputError

ROOT = Path(__file__).parents[1]

GRID = b'chip = "h100"\nmodel = "x"\nisl = [1000, 4000]\nosl = {low = 1, high = 9, points = 3}\n'
FITTED = b"[gemm.smooth.bf16]\nlaunch_us = 4.0\nsustained = 0.7\n"

# Each is wrong in the end, so that what is left whole does not compile for seconds.
READERS: dict[str, tuple[str, bytes, list[str]]] = {
    "kernels": ("rows.csv", KERNELS.replace(b"gemm", b"gem"), ["predict", "kernels", "rows.csv"]),
    "serving": ("rows.csv", SERVING.replace(b"8b", b"8x"), ["predict", "serving", "rows.csv"]),
    "calibrate": ("rows.csv", MEASURED.replace(b"14", b"x"), ["calibrate", "--data", "rows.csv"]),
    "explain": ("rows.csv", KERNELS.replace(b"gemm", b"gem"), ["explain", "rows.csv:1"]),
    "search": ("study.toml", STUDY.replace("8b", "8x").encode(), ["search", "study.toml"]),
    "sweep": ("grid.toml", GRID, ["sweep", "grid.toml"]),
    "chip": ("my.toml", L4.encode(), ["chips", "my.toml"]),
    "model": ("config.json", json.dumps(CONFIG).encode(), ["models", "config.json"]),
    "fit": ("fitted/h100-sxm.toml", FITTED, ["explain", *["op=gem", "chip=h100", "dtype=bf16"]]),
}
OUT = {"calibrate": "found", "search": "found", "sweep": "out.csv", "kernels": "out.csv"}
OUT |= {"serving": "out.csv"}

JUNK = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"NaN",
    b"-inf",
    b"1e999",
    b"9" * 400,
    b"-0",
    b"0x1F",
    b"=cmd|' /C calc'!A0",
    b"@SUM(1+1)",
    b"../../../etc/passwd",
    b"/dev/zero",
    b"'; DROP TABLE chips; --",
    b"{}{0}{x.__class__}",
    b"%s%n%d",
    b"$(id)",
    b"[" * 2000,
    b'{"a":' * 2000,
    b'"',
    b'"""',
    b"\n\n",
    b"\r",
    b",,,,,,",
    "\u202eabc\u0000\U0001f600\u0661".encode(),
    b"\x1b[31m",
    b"true",
    b"null",
    b"1979-05-27T07:32:00Z",
    b"x" * 70_000,
]

edits = st.lists(
    st.tuples(
        st.floats(0, 1), st.integers(0, 40), st.one_of(st.sampled_from(JUNK), st.binary(max_size=9))
    ),
    min_size=1,
    max_size=4,
)


def broken(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """A file with some bytes taken out, and others put in their place."""
    for share, cut, junk in changes:
        start = int(share * len(content))
        content = content[:start] + junk + content[start + cut :]
    return content


def survives(folder: Path, reader: str, content: bytes) -> None:
    """The command ends with 0 or 2 in good time; with 2 after one sentence, and nothing written."""
    name, _, words = READERS[reader]
    place, out = folder / name, folder / OUT.get(reader, "none")
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    before, began = tree(folder), time.process_time()
    asked = [str(folder / word) if word.startswith(Path(name).name) else word for word in words]
    asked += ["--out", str(out)] if reader in OUT else []
    asked += ["--calibration", str(folder / "fitted")] if reader == "fit" else []
    status, printed, said = run(*asked)
    assert time.process_time() - began < 30
    assert status in (0, 2), said
    if status == 2:
        assert said.startswith("perfmodel: ") and said.count("\n") == 1 and not printed
        assert all(letter.isprintable() for letter in said.rstrip("\n"))
        assert {k: v for k, v in tree(folder).items() if k != out.name} == before
    elif out.is_file():
        out.unlink()


@pytest.mark.parametrize("reader", READERS)
def test_a_file_broken_at_random_is_read_or_refused(tmp_path: Path, reader: str):
    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(edits)
    def check(changes: list[tuple[float, int, bytes]]) -> None:
        survives(tmp_path, reader, broken(READERS[reader][1], changes))

    check()


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_thousands_of_files_broken_at_random_are_read_or_refused(tmp_path: Path, reader: str):
    @settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(edits)
    def check(changes: list[tuple[float, int, bytes]]) -> None:
        survives(tmp_path, reader, broken(READERS[reader][1], changes))

    check()


NUMBERS = io.BytesIO()
np.savez(NUMBERS, *[np.arange(3.0)] * STRUCTURE.num_leaves)


def resumed(folder: Path, numbers: bytes) -> None:
    """A search goes on from a checkpoint, or refuses it."""
    study = read_study(next(iter(presets().values())))
    path = folder / "checkpoint.npz"
    path.write_bytes(study.model_dump_json().encode() + b"\n" + numbers)
    try:
        load_state(path, study)
    except InputError as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize(
    "examples", [50, pytest.param(5000, marks=pytest.mark.slow, id="thousands")]
)
def test_a_checkpoint_broken_at_random_is_taken_up_or_refused(tmp_path: Path, examples: int):
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(edits)
    def check(changes: list[tuple[float, int, bytes]]) -> None:
        resumed(tmp_path, broken(NUMBERS.getvalue(), changes))

    check()


@pytest.mark.parametrize("place, byte", [(4, 99), (6, 1), (8, 7), (6, 64)])
def test_a_checkpoint_of_another_kind_of_archive_is_refused(tmp_path: Path, place: int, byte: int):
    """What random bytes found: an archive of a later version, encrypted, compressed in another way."""
    content = bytearray(NUMBERS.getvalue())
    content[content.index(b"PK\x01\x02") + 2 + place] = byte
    resumed(tmp_path, bytes(content))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_read_or_refused(tmp_path: Path, reader: str, share: float):
    content = READERS[reader][1]
    survives(tmp_path, reader, content[: int(share * len(content))])


@pytest.mark.slow
def test_ten_million_rows_are_refused_or_read_in_bounded_memory(tmp_path: Path):
    """Rows without an end to them: one sentence, not a machine out of memory."""
    import resource

    with (tmp_path / "rows.csv").open("wb") as file:
        file.write(b"op,chip,dtype\n")
        for _ in range(100):
            file.write(b"gem,h100,bf16\n" * 100_000)
    out = tmp_path / "out.csv"
    status, said, _ = run("predict", "kernels", tmp_path / "rows.csv", "--out", out)
    assert status == 0 and said.startswith("10,000,000 rows in")
    with out.open("rb") as file:
        assert sum(1 for _ in file) == 10_000_001
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 6e6  # kB


UNSAFE = re.compile(
    r"\b(pickle|cPickle|dill|joblib|shelve|marshal)\b|(?<![.\w])(eval|exec)\(|yaml\.load\(|"
    r"os\.system\(|shell=True|allow_pickle=True"
)
"""What runs a file's content as a program."""


NETWORK = re.compile(
    r"^\s*(import|from) (urllib|requests|httpx?|http\.client|aiohttp|socket|ftplib|smtplib)\b"
)
"""What opens a connection."""


def test_no_file_is_ever_run_as_a_program():
    assert found_in_sources(UNSAFE) == []


def test_nothing_opens_a_connection_but_the_page_of_this_machine():
    page, its_clock = "serve.py: import socket", "explorer.py: import socket"
    cluster = "cluster.py: import socket"  # to an address that --cluster names
    assert set(found_in_sources(NETWORK)) <= {page, its_clock, cluster}


def found_in_sources(what: re.Pattern[str]) -> list[str]:
    """Lines of the program, each after the name of its file."""
    folders = ("perfmodel", "kernels", "calibration", "benchmarks")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    return [
        f"{path.name}: {line.strip()}"
        for path in sources
        for line in path.read_text().splitlines()
        if what.search(line)
    ]
