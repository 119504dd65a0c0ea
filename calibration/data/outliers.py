"""Measured times that cannot be: found before anything is fitted, and named."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.data.measurements import LeftOut, Measurements, benchmark_chip
from perfmodel.calibration.fit import predict_rows
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.registry import KERNELS
from perfmodel.resources import Resources
from perfmodel.roofline import Work, busy
from perfmodel.units import Scalar, Values
from perfmodel.workload.plan import Plan

MIN_OF_BOUND = 0.1
"""Of what the peak rates allow: no time is shorter, whatever is wrong with the datasheet."""

MAX_OF_PREDICTION = 1000.0
"""Times what the model says before the fit: no time is longer."""

UNITS = {"seconds": 1e-6, "milliseconds": 1e-3, "nanoseconds": 1e3}
"""What a file may hold in place of microseconds, and the ratio to the truth that this gives."""

UNIT_TOLERANCE = 3.0
"""Within this factor of such a ratio, half of a table's times are in another unit."""

MIN_ROWS = 3
"""Rows from which the unit of a table can be told."""

NOT_POSITIVE = "the time is not a number greater than zero"
TOO_FAST = f"the time is less than {MIN_OF_BOUND:g} of what the chip's peak rates allow"
TOO_SLOW = f"the time is more than {MAX_OF_PREDICTION:g} times what the model says before the fit"


@eqx.filter_jit
def lower_bound(op: str, chip: Chip, plan: Plan, columns: dict[str, Values]) -> Values:
    """Time that the peak rates of units, memory and links allow for each row, in s."""

    def of_row(row: dict) -> Scalar:
        works = KERNELS[op](**row).count(chip, plan)
        return jnp.sum(jnp.stack([_longest(chip, work) for work in works]))

    return jax.vmap(of_row)(columns)


def _longest(chip: Chip, work: Work) -> Scalar:
    """Of the best alternative, its longest resource; not the tiers on the chip, which a fit may pass."""
    terms = dict(busy(chip, Work(work.demand, Resources(), dtype=work.dtype)).items())
    counted = [term for name, term in terms.items() if name not in ("private", "shared")]
    longest = (
        jnp.max(jnp.stack(jnp.broadcast_arrays(*counted)), axis=0) if counted else jnp.zeros(())
    )
    return jnp.min(longest)


def sound_rows(
    path: Path, rows: Measurements, places: np.ndarray, chip_file: Path | None, prior: Path
) -> tuple[np.ndarray, list[LeftOut]]:
    """Which rows of a table can be, and the others with what is wrong.

    **Arguments:**

    - `places`: of the rows in their file, from 0.

    **Raises:**

    - `InputError`: when the times are in another unit.
    """
    chip, plan = benchmark_chip(rows.key, prior, chip_file)
    expected = predict_rows(chip, plan, rows)
    bound = np.asarray(lower_bound(rows.key.op, chip, plan, rows.values), float)
    time = rows.time
    positive = np.isfinite(time) & (time > 0)
    _check_unit(path, rows, (time / expected)[positive])
    rules = np.full(len(time), "", dtype=object)
    rules[time > MAX_OF_PREDICTION * expected] = TOO_SLOW
    rules[time < MIN_OF_BOUND * bound] = TOO_FAST
    rules[~positive] = NOT_POSITIVE
    wrong = np.flatnonzero(rules != "")
    said = {TOO_SLOW: (expected, "the model says"), TOO_FAST: (bound, "the peak rates allow")}
    left = [
        LeftOut(
            rows.key, 1, rules[i], int(places[i]) + 1, _found(time[i], int(i), said.get(rules[i]))
        )
        for i in wrong
    ]
    return np.flatnonzero(rules == ""), left


def _found(time: float, i: int, beside: tuple[np.ndarray, str] | None) -> str:
    """What a row says, and what is allowed."""
    given = f"latency_us is {time * 1e6:.4g}"
    if beside is None:
        return f"{given}; allowed are numbers greater than zero."
    values, words = beside
    low, high = (0, MAX_OF_PREDICTION) if words == "the model says" else (MIN_OF_BOUND, 0)
    limit = f"at most {high:g}" if high else f"at least {low:g}"
    return f"{given}, but {words} {values[i] * 1e6:.4g}; allowed is {limit} times that."


def _check_unit(path: Path, rows: Measurements, ratio: np.ndarray) -> None:
    if len(ratio) < MIN_ROWS:
        return
    middle = float(np.median(ratio))
    for unit, factor in UNITS.items():
        if factor / UNIT_TOLERANCE < middle < factor * UNIT_TOLERANCE:
            raise InputError(
                f"{path}: latency_us of {rows.key.op} on {rows.key.chip} seems to be in {unit}: half of its "
                f"{len(ratio)} times are under {middle:.2g} of what is expected; write microseconds."
            )
