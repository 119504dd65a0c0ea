r"""Rivals on the same rows: a plain roofline, a random forest, and what frameworks disagree by.

The roofline has no constant: $\max_i(\text{demand}_i / \text{rate}_i)$ over matrix FLOPs, bytes of main
memory and bytes of links, at the rates of the datasheet (Williams, Waterman and Patterson,
CACM 52(4), 2009). The forest (Breiman, Machine Learning 45, 2001) learns log time
from the sizes and from the roofline's FLOPs and bytes.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.measurements import Measurements
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.registry import OPERATIONS
from perfmodel.roofline import SLOWEST
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.workload.plan import Plan

COUNTED = ("matrix", "main", "network", "fabric")
"""What the roofline knows of: matrix units, main memory, links within and between domains."""

BLOCK = 2000
"""Rows that are computed at a time, so that tables of any length share a compiled function."""

TREES = 200

FEWEST_COMMON = 20
"""Shapes that two frameworks must share, for what they disagree by to be said."""


def in_blocks(function: Callable[[dict[str, Values]], Any], columns: dict[str, np.ndarray]) -> Any:
    """`function` over all rows, block by block; the last block is filled up with its first row."""
    count = len(next(iter(columns.values())))
    found = []
    for low in range(0, count, BLOCK):
        places = np.arange(low, low + BLOCK)
        places = np.where(places < count, places, low)
        found.append(function({name: as_values(x[places]) for name, x in columns.items()}))
    return jax.tree.map(lambda *parts: np.concatenate(parts, dtype=float)[:count], *found)


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
    return Counts(*in_blocks(lambda block: _counted(rows.key.op, chip, cold, block), rows.columns))


@eqx.filter_jit
def _counted(op: str, chip: Chip, plan: Plan, columns: dict[str, Values]) -> Any:
    def one(row: dict[str, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
        demand, seconds = dict.fromkeys(COUNTED, as_scalar(0.0)), dict.fromkeys(COUNTED, 0.0)
        for work in OPERATIONS[op].works(chip, plan, row):
            rates = chip.rates(work.dtype)
            for name, asked in work.demand.items():
                if name in COUNTED:
                    least = jnp.min(asked)
                    demand[name] = demand[name] + least
                    seconds[name] = seconds[name] + least / (getattr(rates, name) + SLOWEST)
        moved = demand["main"] + demand["network"] + demand["fabric"]
        return demand["matrix"], moved, jnp.max(jnp.stack([*map(as_scalar, seconds.values())]))

    return jax.vmap(one)(columns)


def has_forest() -> bool:
    """Whether scikit-learn is installed."""
    return importlib.util.find_spec("sklearn") is not None


def forest(
    train: Measurements, seen: Counts, test: Measurements, asked: Counts, seed: int
) -> np.ndarray:
    """Times of the `test` rows, in s, by a random forest that was trained on the `train` rows."""
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(n_estimators=TREES, random_state=seed, n_jobs=-1)
    model.fit(_features(train, seen), np.log(train.time))
    return np.exp(model.predict(_features(test, asked)))


def _features(rows: Measurements, counted: Counts) -> np.ndarray:
    """Logarithms of the sizes, FLOPs and bytes; one is added, for some are zero."""
    return np.log1p(np.stack([*rows.columns.values(), counted.flops, counted.moved], axis=1))


def common(one: Measurements, other: Measurements) -> np.ndarray:
    """Measured time of `other` over that of `one`, on the shapes that both have."""
    both = [np.stack([t.columns[n] for n in one.columns], axis=1) for t in (one, other)]
    keys = [np.ascontiguousarray(x).view(f"V{x.itemsize * x.shape[1]}").ravel() for x in both]
    _, mine, theirs = np.intersect1d(keys[0], keys[1], return_indices=True)
    return other.time[theirs] / one.time[mine]


def apart(ratio: np.ndarray) -> np.ndarray:
    """|a/b - 1| row by row, once the median ratio is taken out."""
    return np.abs(ratio / np.median(ratio) - 1)


def floor(rows: Measurements, others: Sequence[Measurements]) -> float | None:
    """What other frameworks disagree by on these rows, on average; `None` where no other ran them."""
    ratios = [common(rows, other) for other in others]
    found = [float(apart(ratio).mean()) for ratio in ratios if len(ratio) >= FEWEST_COMMON]
    return float(np.mean(found)) if found else None
