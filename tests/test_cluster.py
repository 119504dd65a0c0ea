"""Sweeps into folders and object stores, here and on a Ray cluster: the same bytes, whole or refused."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from command import COMMAND, run
from object_store import Store

from perfmodel import cluster, folders
from perfmodel.errors import InputError
from perfmodel.inference import sweep as module
from perfmodel.inference.grid import read_grid

GRID = """
model = "llama-3.2-1b"
chip = ["h100", "h200"]
n_chips = 1
isl = {low = 100, high = 4000, points = 400}
osl = [100, 50]
concurrency = {low = 1, high = 8, points = 8}
[hardware]
matrix = [1, 0.7]
"""
POINTS, PARTS = 2 * 400 * 2 * 8 * 2, 2


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of two parts, and the file of its sweep beside it."""
    path = tmp_path_factory.mktemp("sweep") / "grid.toml"
    path.write_text(GRID)
    assert run("sweep", path, "--out", path.with_name("whole.parquet"))[0] == 0
    return path


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of an S3 server of this machine."""
    store = Store(monkeypatch)
    yield "s3://sweeps"
    store.go_away()


def table_of(folder: folders.Folder) -> pa.Table:
    """All rows of a folder of parts, in their order."""
    parts = [name for name in folder.names() if name.startswith("part-")]
    assert parts == [f"part-{i:05d}.parquet" for i in range(PARTS)]
    tables = []
    for name in parts:
        with folder.open(name) as file:
            tables.append(pyarrow.parquet.read_table(file))
    return pa.concat_tables(tables).replace_schema_metadata(None)


def manifest_of(folder: folders.Folder) -> dict:
    return json.loads(folder.read("_manifest.json") or b"{}")


def whole(grid: Path) -> pa.Table:
    return pyarrow.parquet.read_table(grid.with_name("whole.parquet"))


@pytest.mark.slow
def test_a_cluster_writes_the_bytes_that_one_machine_writes(grid: Path, tmp_path: Path):
    out = tmp_path / "points.parquet"
    words = [*COMMAND, "sweep", grid, "--out", out, "--cluster", "local"]
    found = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(f"{POINTS:,} rows in")
    assert out.read_bytes() == grid.with_name("whole.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["points.parquet"]


@pytest.mark.long
def test_a_folder_holds_the_rows_in_order_and_what_they_are(grid: Path, tmp_path: Path):
    status, said, _ = run("sweep", grid, "--out", f"{tmp_path}/points/", "--json")
    assert status == 0 and json.loads(said)["rows"] == POINTS
    folder = folders.folder_at(f"{tmp_path}/points/")
    assert table_of(folder).equals(whole(grid))
    found = manifest_of(folder)
    assert (found["complete"], found["rows"], found["errors"]) == (True, POINTS, 0)


@pytest.mark.long
def test_an_object_store_takes_parts_and_gives_them_again(
    grid: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    assert run("sweep", grid, "--out", f"{bucket}/a/b/")[0] == 0
    folder = folders.folder_at(f"{bucket}/a/b/")
    assert table_of(folder).equals(whole(grid))
    folder.remove("part-00001.parquet")
    priced = []
    table = module.Pricer.table
    monkeypatch.setattr(
        module.Pricer, "table", lambda self, a, b: priced.append(a) or table(self, a, b)
    )
    assert run("sweep", grid, "--out", f"{bucket}/a/b/", "--resume")[0] == 0
    assert priced == [module.PART_POINTS]
    assert table_of(folder).equals(whole(grid)) and manifest_of(folder)["complete"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("ray://127.0.0.1:{}", "there is no Ray cluster at ray://127.0.0.1:"),
        ("ray://nowhere", "allowed are auto, local and ray://HOST:PORT"),
        ("slurm", "allowed are auto, local and ray://HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_refused(grid: Path, tmp_path: Path, where: str, said: str):
    asked = where.format(free_port())
    status, _, err = run("sweep", grid, "--out", tmp_path / "out.parquet", "--cluster", asked)
    assert status == 2 and said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # Ray tries for half a minute
def test_an_address_where_something_else_answers_is_no_cluster(grid: Path, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = f"ray://127.0.0.1:{server.getsockname()[1]}"
        status, _, err = run("sweep", grid, "--out", tmp_path / "o.parquet", "--cluster", asked)
    assert status == 2 and "no Ray cluster" in err and err.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://none-of-this-name/x/", "cannot be used"),
        ("ftp7://host/x/", "allowed are a folder of this machine, s3:// and gs://"),
    ],
)
def test_a_store_that_cannot_be_written_is_refused(grid: Path, bucket: str, place: str, said: str):
    status, _, err = run("sweep", grid, "--out", place)
    assert status == 2 and said in err and err.count("\n") == 1


@pytest.mark.long
def test_a_full_disk_costs_no_part_that_is_whole(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write = folders.write_whole

    def full(path: Path, content: bytes) -> None:
        if path.name == "part-00001.parquet":
            raise InputError(f"{path} cannot be written: No space left on device; ...")
        write(path, content)

    monkeypatch.setattr(folders, "write_whole", full)
    status, _, err = run("sweep", grid, "--out", f"{tmp_path}/points/")
    assert status == 2 and "No space left on device" in err and err.count("\n") == 1
    names = folders.folder_at(f"{tmp_path}/points/").names()
    assert names == ["_manifest.json", "part-00000.parquet"]


def test_a_report_of_a_folder_is_refused(grid: Path, tmp_path: Path):
    wanted = "--report", tmp_path / "page.html"
    status, _, err = run("sweep", grid, "--out", f"{tmp_path}/points/", *wanted)
    assert status == 2 and "--report reads one file" in err


def test_a_worker_of_another_version_is_refused():
    asked = str, (), "content of another version"
    place, found = cluster._apply(asked, 3, "task")
    assert place == 3 and isinstance(found, cluster._Refused)
    assert "has another version of perfmodel" in found.said


def test_content_is_of_the_files_that_are_named(tmp_path: Path):
    (tmp_path / "fitted").mkdir()
    (tmp_path / "fitted/h100.toml").write_text("a = 1")
    before = cluster.content_of((str(tmp_path),))
    assert before == cluster.content_of((str(tmp_path),)) != cluster.content_of(())
    (tmp_path / "fitted/h100.toml").write_text("a = 2")
    assert cluster.content_of((str(tmp_path),)) != before


def test_a_folder_that_a_worker_does_not_see_is_refused(grid: Path, tmp_path: Path):
    read = read_grid(grid)
    folder = folders.folder_at(f"{tmp_path}/points/")
    job = module.Job(read, None, folder, "its identity", False)
    with pytest.raises(InputError, match="does not see"):
        module.price_part(job, module.PART_POINTS, 0)


def test_without_ray_it_is_said_how_to_get_it(grid: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    status, _, err = run("sweep", grid, "--out", tmp_path / "o.csv", "--cluster", cluster.LOCAL)
    assert status == 2 and "install perfmodel[cluster]" in err


@pytest.fixture
def running() -> Iterator[tuple[str, str]]:
    """A Ray cluster of this machine: its address for members, and for clients."""
    port, client = free_port(), free_port()
    words = (
        "--head",
        f"--port={port}",
        f"--ray-client-server-port={client}",
        "--num-cpus=2",
        "--block",
    )
    head = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", *words, "--include-dashboard=false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not answers(client):
        time.sleep(0.5)
    yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}"
    head.terminate()
    head.wait()


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_cluster_that_runs_is_used(grid: Path, tmp_path: Path, running: tuple[str, str]):
    member, client = running
    for where, settings in (("auto", {"RAY_ADDRESS": member}), (client, {})):
        out = tmp_path / f"{where[:4]}.parquet"
        words = [*COMMAND, "sweep", grid, "--out", out, "--cluster", where]
        found = subprocess.run(
            words, capture_output=True, text=True, check=False, env=os.environ | settings
        )
        assert (found.returncode, found.stderr) == (0, "")
        assert out.read_bytes() == grid.with_name("whole.parquet").read_bytes()


@pytest.mark.slow
def test_where_no_cluster_runs_auto_says_so(grid: Path, tmp_path: Path):
    words = [*COMMAND, "sweep", grid, "--out", tmp_path / "o.parquet", "--cluster", "auto"]
    settings = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    found = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        env=settings | {"RAY_ADDRESS": f"127.0.0.1:{free_port()}"},
    )
    assert found.returncode == 2 and "there is no Ray cluster" in found.stderr
    assert found.stderr.count("\n") == 1
