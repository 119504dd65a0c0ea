"""What pricing a decode step costs a processor: `python -m benchmarks.costs --out docs/pictures/costs.svg`.

By how many designs are priced together, layers the model has, chips share it, and tiles a product tries.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import equinox as eqx
import jax

from benchmarks.speed import BATCH, varied
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.step import decode_step
from perfmodel.interface import plots
from perfmodel.kernels import gemm
from perfmodel.library.chip import load_chip
from perfmodel.library.model import load_model
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.transformer import traced

PLAN = Plan(weights="fp8", cache="fp8")
H100 = restrict(load_chip("h100-sxm", PLAN), ["bf16", "fp8"])
MODEL = traced(load_model("llama-3.1-70b"))

DESIGNS = (64, 512, BATCH, 65_536)
LAYERS = (1, 8, 80, 640)
CHIPS = (1, 8, 64)
TILES = (1, 2, 4, 8)


@jax.jit
def steps(chips: Chip, layers: Scalar, ranks: Scalar) -> Values:
    """The time of a step on each of some chips."""
    model = eqx.tree_at(lambda m: m.stacks[0].count, MODEL, layers)
    plan = dataclasses.replace(PLAN, tp=ranks)
    asked = as_scalar(32.0), as_scalar(4096.0)
    return jax.vmap(lambda chip: decode_step(chip, plan, model, *asked).time)(chips)


def seconds(designs: int = BATCH, layers: int = 80, chips: int = 8) -> float:
    """Of one processor, for each of some designs: the least of five runs."""
    asked = varied(H100, designs), as_scalar(layers), as_scalar(chips)
    jax.block_until_ready(steps(*asked))
    found = []
    for _ in range(5):
        began = time.process_time()
        jax.block_until_ready(steps(*asked))
        found.append(time.process_time() - began)
    return min(found) / designs


def spots() -> Iterator[plots.Spot]:
    """Microseconds of a processor for each number of each kind."""
    for name, numbers in (("designs", DESIGNS), ("layers", LAYERS), ("chips", CHIPS)):
        for number in numbers:
            yield plots.Spot(name, number, 1e6 * seconds(**{name: number}))
    for number in TILES:
        with mock.patch.object(gemm, "TILES", gemm.TILES[:number]):
            jax.clear_caches()
            yield plots.Spot("tiles", number, 1e6 * seconds())


def main() -> None:
    """Measure, print, and draw all of them on one chart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    out = parser.parse_args().out
    plots.check_picture(out)
    found = []
    for spot in spots():
        print(f"{spot.name:8s} {spot.x:8,.0f} {spot.y:8.2f} us", flush=True)
        found.append(spot)
    title = "What pricing a decode step of Llama-3.1-70B costs"
    axes = "how many", "microseconds of a processor"
    plots.save(plots.front(found, title, axes, kind="number of"), out)


if __name__ == "__main__":
    main()
