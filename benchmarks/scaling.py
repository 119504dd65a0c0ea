"""What an evaluation costs as things grow: `python -m benchmarks.scaling --out docs/pictures/costs.svg`.

A decode step by how many designs are priced together, layers the model has, chips share it, and tiles a
product tries. Without `--out`, how fast sweeps and searches are on the devices that JAX has: it splits a
processor into devices when it begins, so each number of them has a process of its own.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import equinox as eqx
import jax
import numpy as np

from benchmarks.search_runs import PROBLEMS
from benchmarks.speed import BATCH, varied
from benchmarks.timing import Pace, fastest, pace
from perfmodel.design.abstract_problem import linearise_batch
from perfmodel.design.resolve import resolve_study
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.grid import read_grid
from perfmodel.inference.step import decode_step
from perfmodel.inference.sweep import PART_POINTS
from perfmodel.inference.sweep_points import Pricer
from perfmodel.interface.plots import lines, theme
from perfmodel.kernels import gemm
from perfmodel.library.chip import load_chip
from perfmodel.library.fitted import FITTED
from perfmodel.library.model import load_model
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan
from perfmodel.xla import keep_memory

# By devices

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


def sweep_pace() -> Pace:
    """Points of a sweep that are priced in a second, with all that is written of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.toml"
        path.write_text(GRID)
        grid = read_grid(path)
    pricer, count = Pricer(grid, FITTED), min(grid.points, PART_POINTS)
    return pace(lambda: pricer.table(0, count), count)


def search_pace() -> Pace:
    """Starts of a search whose value, limits and slopes are found in a second."""
    problem = resolve_study(PROBLEMS["cost"])
    unit = np.random.default_rng(0).random((STARTS, len(problem.names)))
    choice = np.zeros((STARTS, len(problem.options)), np.int32)
    units, sharpness = as_values(unit), as_scalar(1.0)

    def run() -> None:
        linearise_batch(problem, units, choice, sharpness).value.block_until_ready()

    return pace(run, STARTS)


def on_these_devices() -> dict[str, float]:
    """Of this process."""
    found = {"sweep": sweep_pace(), "search": search_pace()}
    walls = {f"{name}_per_s": one.wall for name, one in found.items()}
    each = {f"{name}_per_processor_s": one.processor for name, one in found.items()}
    return walls | each | {"devices": len(jax.devices())}


# By designs, layers, chips and tiles

LAYERS, CHIPS = 80, 8
"""Where each of them stays while another varies; designs at `BATCH`."""

NUMBERS = {
    "designs": (64, 512, BATCH, 65_536),
    "layers": (1, 8, LAYERS, 640),
    "chips": (1, CHIPS, 64),
}
TILES = (1, 2, 4, 8)


def seconds(designs: int = BATCH, layers: int = LAYERS, chips: int = CHIPS) -> float:
    """Of one processor, for each of some designs: the least of five runs."""
    plan, model = Plan(weights="fp8", cache="fp8"), traced(load_model("llama-3.1-70b"))
    h100 = restrict(load_chip("h100-sxm", plan), ["bf16", "fp8"])
    load = as_scalar(32.0), as_scalar(4096.0)

    @jax.jit
    def steps(chips: Chip, layers: Scalar, ranks: Scalar) -> Values:
        deep = eqx.tree_at(lambda m: m.stacks[0].count, model, layers)
        spread = dataclasses.replace(plan, tp=ranks)
        return jax.vmap(lambda chip: decode_step(chip, spread, deep, *load).time)(chips)

    asked = varied(h100, designs), as_scalar(layers), as_scalar(chips)
    run = lambda: steps(*asked).block_until_ready()  # noqa: E731
    run()
    return fastest(run, 5) / designs


def spots() -> Iterator[lines.FrontPoint]:
    """Microseconds of a processor for each number of each kind."""
    for name, numbers in NUMBERS.items():
        for number in numbers:
            yield lines.FrontPoint(name, number, 1e6 * seconds(**{name: number}))
    for number in TILES:
        with mock.patch.object(gemm, "TILES", gemm.TILES[:number]):
            yield lines.FrontPoint("tiles", number, 1e6 * seconds())


def draw(out: Path) -> None:
    """Measure, print, and draw all of them on one chart."""
    theme.check_picture(out)
    found = []
    for spot in spots():
        print(f"{spot.name:8s} {spot.x:8,.0f} {spot.y:8.2f} us", flush=True)
        found.append(spot)
    title = "What pricing a decode step of Llama-3.1-70B costs"
    axes = "how many", "microseconds of a processor"
    theme.save(lines.front(found, title, axes, kind="number of"), out)


def main() -> None:
    """The picture where one is asked for, else the paces as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="picture to write")
    out = parser.parse_args().out
    if out is not None:
        draw(out)
    else:
        keep_memory()
        print(json.dumps(on_these_devices()))


if __name__ == "__main__":
    main()
