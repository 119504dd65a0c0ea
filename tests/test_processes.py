"""Searches that are shared out, killed and taken up again find what one undisturbed search finds."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfmodel.design.state import SearchState
from perfmodel.errors import InputError
from perfmodel.processes import join

HERE = Path(__file__).parent


def started(*words: str, devices: int = 1, **more: str) -> subprocess.Popen:
    """`tests/searching.py` in a process of its own, with some virtual devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    settings = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | more
    command = [sys.executable, str(HERE / "searching.py"), *words]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=settings, text=True, **pipes)


def found(process: subprocess.Popen) -> dict:
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return json.loads(said.splitlines()[-1])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_eight_devices_and_two_processes_find_what_one_device_finds():
    alone = found(started("8"))
    assert alone["devices"] == 1
    eight = found(started("8", devices=8))
    assert eight["devices"] == 8
    where = f"localhost:{free_port()}"
    pair = [started("8", "-", where, "2", str(i)) for i in range(2)]
    both = [found(one) for one in pair]
    assert [one["devices"] for one in both] == [2, 2]
    for other in (eight, *both):
        assert other["value"] == pytest.approx(alone["value"], abs=1e-6)
        assert other["unit"] == pytest.approx(alone["unit"], abs=1e-4)
    assert both[0] == both[1]


@pytest.mark.slow
def test_a_search_killed_twenty_times_finds_the_same(tmp_path: Path):
    path, kills = tmp_path / "checkpoint.npz", 0
    whole = found(started("1", str(tmp_path / "undisturbed.npz")))
    dice = random.Random(0)
    while kills < 20:
        process = started("1", str(path), SEARCHING_TOLD="1")
        _go_on(process, dice.randint(1, 12))
        time.sleep(0.02 * dice.random())
        process.kill()
        process.communicate()
        kills += 1
    assert found(started("1", str(path))) == whole


def _go_on(process: subprocess.Popen, steps: int) -> None:
    """Until the search has saved so many times, and is in the midst of what follows."""
    assert process.stdin is not None and process.stdout is not None
    for _ in range(steps):
        assert process.stdout.readline() == "saved\n", "the search ended before it was killed"
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.long
def test_ctrl_c_ends_a_search_with_what_was_found():
    from searching import LAND, WHOLE, options

    from perfmodel.design.multistart import search

    def interrupt(state: SearchState) -> None:
        if len(state.value) == 2:
            raise KeyboardInterrupt

    result = search(LAND, WHOLE, options(1), progress=interrupt)
    assert result.stopped and len(result.designs) >= 1
    assert np.isfinite(result.designs[0].value)


@pytest.mark.parametrize(
    ("given", "said"),
    [(("host:1", None, 0), "together"), (("host:1", 2, 2), "the last is 1")],
)
def test_half_an_address_is_refused(given: tuple, said: str):
    with pytest.raises(InputError, match=said):
        join(*given)
