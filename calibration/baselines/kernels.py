r"""What other methods say of rows of kernels: the plain roofline and a random forest.

The roofline is $\max_i(\text{demand}_i / \text{rate}_i)$ over matrix FLOPs, bytes of main memory and bytes of
links, at the rates of the datasheet (Williams, Waterman and Patterson, CACM 52(4), 2009); nothing is fitted.

The forest (Breiman, Machine Learning 45, 2001) is trained on the same rows: it learns log time from the sizes
and from the roofline's FLOPs and bytes.
"""

import importlib.util
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.batching import map_rows
from perfmodel.calibration.data.measurements import Measurements
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.registry import KERNELS
from perfmodel.roofline import MIN_RATE
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan

# Roofline

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


# Random forest

TREES = 200


def has_forest() -> bool:
    """Whether scikit-learn is installed."""
    return importlib.util.find_spec("sklearn") is not None


def forest(
    train: Measurements, seen: Counts, test: Measurements, asked: Counts, seed: int
) -> np.ndarray:
    """Times of the `test` rows, in s, by a forest that was trained on the `train` rows."""
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(n_estimators=TREES, random_state=seed, n_jobs=-1)
    model.fit(_features(train, seen), np.log(train.time))
    return np.exp(model.predict(_features(test, asked)))


def _features(rows: Measurements, counted: Counts) -> np.ndarray:
    """Logarithms of the sizes, FLOPs and bytes; one is added, for some are zero."""
    return np.log1p(np.stack([*rows.columns.values(), counted.flops, counted.moved], axis=1))
