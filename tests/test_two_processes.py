"""`search` and `sweep` as commands: two processes or two devices find what one finds."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest

STUDY = """
[objective]
maximise = "tokens_per_s_per_user"
[constraints]
area_mm2 = 814
power_w = 700
[[workload]]
model = "llama-3.1-8b"
batch = 1
context = 4096
chips = 2
[optimiser]
starts = 2
batch_size = 2
steps = 10
"""
"""As many starts at once as processes, so that one process has as many."""

GRID = """
chip = ["h100-sxm", "b200-sxm"]
model = "llama-3.1-8b"
isl = [512, 1024]
osl = 64
concurrency = [1, 4]
"""

AS_WITH_CORES = (
    "import os; os.cpu_count = lambda: {}; from perfmodel.interface.cli import main; main()"
)
"""The command line on a machine of so many cores."""


def command(*words: object, code: str = "") -> subprocess.Popen:
    program = ["-c", code] if code else ["-m", "perfmodel"]
    return subprocess.Popen(
        [sys.executable, *program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def ended(*processes: subprocess.Popen) -> None:
    said = [one.communicate(timeout=1800) for one in processes]
    assert [one.returncode for one in processes] == [0] * len(processes), said


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def numbers(table: dict) -> dict[str, float]:
    return {name: value for name, value in table.items() if isinstance(value, float)}


@pytest.mark.slow
def test_a_search_of_two_processes_ends_as_one_does(tmp_path: Path):
    study = tmp_path / "study.toml"
    study.write_text(STUDY)
    one, two = tmp_path / "one", tmp_path / "two"
    ended(command("search", study, "--out", one))
    where = ("--coordinator", f"localhost:{free_port()}", "--processes", 2)
    ended(*[command("search", study, "--out", two, *where, "--process", i) for i in range(2)])
    alone, both = (json.loads((out / "result.json").read_text()) for out in (one, two))
    assert both["objective"] == pytest.approx(alone["objective"], rel=1e-4)
    assert numbers(both["best"]) == pytest.approx(numbers(alone["best"]), rel=1e-3)
    assert [r["chip"] for r in both["rivals"]] == [r["chip"] for r in alone["rivals"]]
    assert any(np.isfinite(r["price_usd"]) for r in both["rivals"])
    assert both["facts"].keys() == alone["facts"].keys()
    assert (two / "report.html").stat().st_size > 0


UNKNOWN = """
import sys
import equinox as eqx, jax, jax.numpy as jnp, numpy as np
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from perfmodel.design.devices import over_devices
from perfmodel.errors import InputError

def priced(land, unit, choice, sharp):
    return jnp.where(jnp.isnan(land["price"][choice[:, 0]]), 0.0, sharp * unit[:, 0])

land = {"price": jnp.array([jnp.nan, 2.0])}
rows = np.array([[3.0], [4.0], [5.0], [6.0]]), np.array([[0], [1], [1], [0]])
print(over_devices(eqx.filter_jit(priced), land, *rows, jnp.asarray(2.0)).tolist())
try:
    over_devices(eqx.filter_jit(priced), land, rows[0] + int(sys.argv[2]), rows[1], jnp.asarray(2.0))
except InputError as error:
    print(error)
"""
"""Rows over two processes, of a problem with a price that is not known; then rows that differ."""


@pytest.mark.long
def test_a_price_that_is_not_known_is_the_same_in_two_processes():
    where = f"localhost:{free_port()}"
    both = [command(where, i, code=UNKNOWN) for i in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    for out, _ in said:
        first, second, *_ = [line for line in out.splitlines() if not line.startswith("[Gloo]")]
        assert first == "[0.0, 8.0, 10.0, 0.0]"
        assert second.startswith("the processes hold different numbers; start the same command")


@pytest.mark.slow
def test_a_sweep_over_two_devices_writes_what_one_writes(tmp_path: Path):
    (tmp_path / "grid.toml").write_text(GRID)
    tables = []
    for cores in (1, 2):
        out = tmp_path / f"{cores}.csv"
        words = ("sweep", tmp_path / "grid.toml", "--out", out)
        ended(command(*words, code=AS_WITH_CORES.format(cores)))
        tables.append(pyarrow.csv.read_csv(out).to_pydict())
    one, two = tables
    assert one.keys() == two.keys() and len(one["tpot_ms"]) == 8
    for name, column in one.items():
        exact = not isinstance(column[0], float)
        assert two[name] == (column if exact else pytest.approx(column, rel=1e-5)), name
