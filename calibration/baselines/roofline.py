r"""The plain roofline, of rows of kernels and of served models: nothing is fitted.

Of a kernel it is $\max_i(\text{demand}_i / \text{rate}_i)$ over matrix FLOPs, bytes of main memory and bytes
of links, at the rates of the datasheet (Williams, Waterman and Patterson, CACM 52(4), 2009). Of a step all
weights and the whole cache are read once, and multiplied at the peak, with no traffic around it:

$$\text{TPOT} = \max(\text{bytes} / \text{bandwidth}, \text{FLOPs} / \text{peak})$$
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.batching import map_rows
from perfmodel.calibration.data.inferencex import Cells, Run
from perfmodel.calibration.data.measurements import Measurements
from perfmodel.hardware.chip import Chip
from perfmodel.inference.evaluate import evaluate_rows, rows_by_form
from perfmodel.inference.placement import place
from perfmodel.kernels.registry import KERNELS
from perfmodel.roofline import MIN_RATE
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.model import Transformer, parameters
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

COUNTED = ("matrix", "main", "network", "fabric")
"""What it knows of: matrix units, main memory, links within and between domains."""


class Counts(NamedTuple):
    """What rows ask for, at least, and the roofline of it.

    - `flops`: of the matrix units; `moved`: bytes of main memory and links.
    - `time`: of the roofline, in s.
    """

    flops: np.ndarray
    moved: np.ndarray
    time: np.ndarray


def counts(chip: Chip, plan: Plan, rows: Measurements) -> Counts:
    """The roofline's view of rows: of the smooth form, with operands in main memory."""
    cold = Plan(weights=plan.weights, cache=plan.cache)
    if len(rows.time) == 0:
        return Counts(rows.time, rows.time, rows.time)
    found = map_rows(lambda block: _counted(rows.key.op, chip, cold, block), rows.values)
    return Counts(*(np.asarray(column, float) for column in found))


@eqx.filter_jit
def _counted(op: str, chip: Chip, plan: Plan, columns: dict[str, Values]) -> Any:
    def one(row: dict[str, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
        demand, seconds = dict.fromkeys(COUNTED, as_scalar(0.0)), dict.fromkeys(COUNTED, 0.0)
        for work in KERNELS[op](**row).count(chip, plan):
            rates = chip.rates(work.dtype)
            for name, asked in work.demand.items():
                if name in COUNTED:
                    least = jnp.min(asked)
                    demand[name] = demand[name] + least
                    seconds[name] = seconds[name] + least / (getattr(rates, name) + MIN_RATE)
        moved = demand["main"] + demand["network"] + demand["fabric"]
        return demand["matrix"], moved, jnp.max(jnp.stack([*map(as_scalar, seconds.values())]))

    return jax.vmap(one)(columns)


def roofline_tpot(chip: Chip, plan: Plan, model: Transformer, request: Request) -> Scalar:
    """Time per output token at the rates of the datasheet, in s."""
    middle = request.isl + request.osl / 2
    placed = place(chip, plan, model, request.concurrency, middle)
    flops = 2 * parameters(model, active=True) * request.concurrency / plan.chips
    reading = (placed.size + placed.cache_size) / chip.main.bandwidth
    return jnp.maximum(reading, flops / chip.matrix[plan.format.matrix])


Baseline = Callable[[Chip, Plan, Transformer, Request], Scalar]


def baseline_tpots(baseline: Baseline, runs: Sequence[Run], folder: Path) -> list[float]:
    """TPOT of each run, in s, of pools their decode workers'; `nan` where it cannot be said."""
    found = [float("nan")] * len(runs)
    for cases in rows_by_form([decoding(run.cells) for run in runs], folder):
        tpots = evaluate_rows(baseline, [(case, case.candidates[0]) for case in cases])
        for case, tpot in zip(cases, np.asarray(tpots), strict=True):
            found[case.place] = float(tpot)
    return found


def decoding(cells: Cells) -> Cells:
    """A run as its decode workers see it: each with its share of the users."""
    if "decode_workers" not in cells:
        return cells
    share = float(cells["concurrency"]) / float(cells["decode_workers"])
    ranks = {name: cells[f"decode_{name}"] for name in ("tp", "ep", "dp")}
    chips = int(ranks["tp"]) * int(ranks["dp"])
    return cells | ranks | {"mode": "serving", "n_chips": str(chips), "concurrency": f"{share:g}"}
