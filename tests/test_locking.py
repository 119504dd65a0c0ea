"""Two runs do not write into one folder: the second is refused, also where the first was killed."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from test_bad_input import STUDY

from perfmodel.errors import InputError
from perfmodel.locking import LOCK, lock_folder

HOLD = """
import sys, time
from pathlib import Path
from perfmodel.locking import lock_folder
with lock_folder(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_is_for_one_run_and_free_after_it(tmp_path: Path):
    folder = tmp_path / "new" / "found"
    with (
        lock_folder(folder, "search"),
        pytest.raises(InputError, match=f"another search is writing {folder}"),
        lock_folder(folder, "search"),
    ):
        pass
    with lock_folder(folder, "search"):
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert list(folder.iterdir()) == []


def test_a_run_that_fails_lets_go(tmp_path: Path):
    with pytest.raises(BlockingIOError), lock_folder(tmp_path, "search"):
        raise BlockingIOError  # of its own, not of the lock
    with lock_folder(tmp_path, "search"):
        pass


def test_a_run_that_was_killed_holds_nothing(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another run"), lock_folder(tmp_path, "run"):
            pass
        process.kill()
    assert (tmp_path / LOCK).exists()
    with lock_folder(tmp_path, "run"):
        pass


def test_a_place_that_cannot_be_held_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot be written"),
        lock_folder(tmp_path / "file", "search"),
    ):
        pass


def test_two_searches_do_not_write_into_one_folder(tmp_path: Path):
    (tmp_path / "study.toml").write_text(STUDY)
    with lock_folder(tmp_path / "found", "search"):
        status, out, said = run("search", tmp_path / "study.toml", "--out", tmp_path / "found")
    assert (status, out) == (2, "") and "another search is writing" in said
