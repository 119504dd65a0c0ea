"""How sweeps and searches grow with devices: `python -m benchmarks.scaling` measures those that JAX has.

JAX splits a processor into devices when it begins, so each number of them has a process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from benchmarks.pace import Pace, pace
from benchmarks.search_problems import PROBLEMS
from perfmodel.design.abstract_problem import linearise_batch
from perfmodel.design.resolve import resolve_study
from perfmodel.interface.grid import read_grid
from perfmodel.interface.sweep import PART
from perfmodel.interface.sweep_points import Pricer
from perfmodel.library.fitted import FITTED
from perfmodel.units import as_scalar, as_values
from perfmodel.xla import keep_memory

STARTS = 4096
"""Of a search, seen together with their slopes; a sweep prices as many points in a block."""

GRID = """
model = "llama-3.1-70b"
precision = "fp8"
chip = ["h100-sxm", "b200-sxm"]
n_chips = 8
tp = 8
isl = {low = 500, high = 32000, points = 32}
osl = [100, 1000]
concurrency = {low = 1, high = 256, points = 16}
[hardware]
matrix = {low = 0.5, high = 2, points = 8}
"""


def swept() -> Pace:
    """Points of a sweep that are priced in a second, with all that is written of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.toml"
        path.write_text(GRID)
        grid = read_grid(path)
    pricer, count = Pricer(grid, FITTED), min(grid.points, PART)
    return pace(lambda: pricer.table(0, count), count)


def searched() -> Pace:
    """Starts of a search whose value, limits and slopes are found in a second."""
    problem = resolve_study(PROBLEMS["cost"])
    unit = np.random.default_rng(0).random((STARTS, len(problem.names)))
    choice = np.zeros((STARTS, len(problem.options)), np.int32)
    units, sharpness = as_values(unit), as_scalar(1.0)
    run = lambda: linearise_batch(problem, units, choice, sharpness).value.block_until_ready()  # noqa: E731
    return pace(run, STARTS)


def here() -> dict[str, float]:
    """Of this process."""
    found = {"sweep": swept(), "search": searched()}
    walls = {f"{name}_per_s": one.wall for name, one in found.items()}
    return walls | {f"{name}_per_processor_s": one.processor for name, one in found.items()}


def scaling(counts: list[int]) -> dict[str, dict[str, float]]:
    """The same with each number of devices on the processor."""
    return {str(count): _elsewhere(count) for count in counts}


def _elsewhere(count: int) -> dict[str, float]:
    settings = os.environ | {"JAX_NUM_CPU_DEVICES": str(count), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.scaling"]
    found = subprocess.run(command, env=settings, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)


if __name__ == "__main__":
    keep_memory()
    print(json.dumps(here() | {"devices": len(jax.devices())}))
