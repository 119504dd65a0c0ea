"""A sweep whose workers, driver and object store fail: nothing lost, nothing twice, the same bytes."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from command import COMMAND
from object_store import Store

from perfmodel.folders import folder_at

GRID = """
model = "llama-3.2-1b"
chip = ["h100", "h200"]
n_chips = 1
isl = {low = 100, high = 4000, points = 400}
osl = [100, 50]
concurrency = {low = 1, high = 64, points = 64}
[hardware]
matrix = {low = 0.5, high = 2, points = 10}
"""
PARTS = 63
KILLS, APART = 10, 3.0
"""Workers that are killed, and seconds between them."""

OUTAGE = 20.0
"""Seconds for which the store does not answer."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store(monkeypatch)
    yield made
    made.go_away()


def swept(grid: Path, out: str, *words: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "sweep", str(grid), "--out", out, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its workers that price."""
    found: list[psutil.Process] = []
    for child in psutil.Process(driver.pid).children(recursive=True):
        try:
            name = child.cmdline()[:1]
        except psutil.Error:
            continue
        if name and name[0].startswith("ray::_apply"):
            found.append(child)
    return found


def parts(out: str) -> list[str]:
    return [name for name in folder_at(out).names() if name.startswith("part-")]


def wait_for(out: str, count: int) -> None:
    while len(parts(out)) < count:
        time.sleep(0.2)


def contents(out: str) -> dict[str, bytes | None]:
    folder = folder_at(out)
    return {name: folder.read(name) for name in [*parts(out), "_manifest.json"]}


def ended(driver: subprocess.Popen[str]) -> str:
    said, errors = driver.communicate(timeout=900)
    assert driver.returncode == 0, errors
    return said


@pytest.mark.slow
def test_workers_the_driver_and_the_store_may_fail(tmp_path: Path, store: Store):
    grid, out = tmp_path / "grid.toml", "s3://sweeps/points/"
    grid.write_text(GRID)
    driver = swept(grid, out, "--cluster", "local")
    wait_for(out, 1)
    for _ in range(KILLS):
        victims = workers_of(driver)
        if victims:
            os.kill(victims[0].pid, signal.SIGKILL)
        time.sleep(APART)
    store.go_away()
    time.sleep(OUTAGE)
    store.come_back()
    wait_for(out, 5)
    assert driver.poll() is None
    driver.kill()
    driver.communicate()
    assert 5 <= len(parts(out)) < PARTS
    said = ended(swept(grid, out, "--cluster", "local", "--resume"))
    assert said.startswith(f"{2 * 400 * 2 * 64 * 10:,} rows in")
    ended(swept(grid, f"{tmp_path}/plain/"))
    assert len(parts(out)) == PARTS
    assert contents(out) == contents(f"{tmp_path}/plain/")
