r"""Fit a family's parameters to measured times.

Residuals in log time, made robust: $r = e/(e^2+\delta)^{1/4}$, so that $r^2 \approx |e|$.
Parameters move between their bounds, in log space; a ridge holds those that no row
depends on at the prior. Levenberg-Marquardt (optimistix).
"""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.batching import map_rows
from perfmodel.calibration.data.measurements import Measurements
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import parameters
from perfmodel.kernels.registry import KERNELS, cost
from perfmodel.units import Scalar, Values, as_values
from perfmodel.workload.plan import Plan

ROBUSTNESS = 1e-3
"""Squared log error below which the loss is quadratic: 3 %."""

RIDGE = 3e-3
"""Weight of the prior: a parameter moved by one in its free space costs as much as
an error of 0.003 in one residual of unit weight."""

FULL_WEIGHT_ROWS = 400
"""Rows from which the prior's weight is `RIDGE`. With n fewer it is sqrt(400 / n) times that, so that it
counts as much as the same number of rows: on 8 to 32 rows of A100, L40S and B200, from H100's
parameters, such a fit was the best on rows it had not seen, and hardly ever worse than no fit."""

MAX_STEPS = 60
"""Iterations at most."""


def to_free(module: eqx.Module) -> Values:
    """A module's parameters as free numbers, without bounds."""
    return jnp.stack([_free(f.metadata, getattr(module, f.name)) for f in parameters(type(module))])


def from_free(kind: type[eqx.Module], free: Values) -> Any:
    """A module from free numbers."""
    fields = list(parameters(kind))
    return kind(**{f.name: _bounded(f.metadata, free[i]) for i, f in enumerate(fields)})


def _ends(metadata: Any) -> tuple[float, float, bool]:
    low, high = metadata["low"], metadata["high"]
    return low, high, low > 0


def _free(metadata: Any, value: Scalar) -> Scalar:
    low, high, log = _ends(metadata)
    share = jnp.log(value / low) / np.log(high / low) if log else (value - low) / (high - low)
    return jax.scipy.special.logit(jnp.clip(share, 1e-3, 1 - 1e-3)) * _width(metadata)


def _bounded(metadata: Any, free: Scalar) -> Scalar:
    low, high, log = _ends(metadata)
    share = jax.nn.sigmoid(free / _width(metadata))
    return low * (high / low) ** share if log else low + (high - low) * share


def _width(metadata: Any) -> float:
    """Scales a free number so that one step of it is about a factor of e in the value."""
    low, high, log = _ends(metadata)
    return float(np.log(high / low)) if log else 1.0


def with_family(chip: Chip, family: str, fitted: eqx.Module) -> Chip:
    """`chip` with other parameters for one family of kernels."""
    return eqx.tree_at(lambda c: getattr(c.efficiency, family), chip, fitted)


@eqx.filter_jit
def predict(op: str, chip: Chip, plan: Plan, columns: dict[str, Values]) -> Values:
    """Time of each row, in s."""
    kind = KERNELS[op]
    return jax.vmap(lambda row: cost(chip, kind(**row).count(chip, plan)).time)(columns)


def predict_rows(chip: Chip, plan: Plan, rows: Measurements) -> np.ndarray:
    """The same of a table, block by block."""
    if len(rows.time) == 0:
        return rows.time
    price = functools.partial(predict, rows.key.op, chip, plan)
    return np.asarray(map_rows(price, rows.values), float)


class Fit(NamedTuple):
    """What came out: the parameters, the loss, and the iterations taken."""

    fitted: Any
    loss: float
    steps: int


class Table(NamedTuple):
    """Rows, and the plan that they were run under."""

    plan: Plan
    rows: Measurements


def times_of(chip: Chip, tables: Sequence[Table]) -> Values:
    """Time of each row of all `tables`, in s."""
    return jnp.concatenate([predict(t.rows.key.op, chip, t.plan, t.rows.values) for t in tables])


class Problem(NamedTuple):
    """What is minimised: the sum of the squares of `residuals`, from free numbers `start`."""

    kind: type[eqx.Module]
    start: Values
    residuals: Callable[[Values], Values]

    def loss(self, free: Values) -> Scalar:
        """The sum of the squares."""
        return jnp.sum(self.residuals(free) ** 2)


def robust(error: Values, squared: float) -> Values:
    """Residuals whose squares grow as the error, from about an error whose square is `squared`."""
    return error / (error**2 + squared) ** 0.25


def problem_of(
    chip: Chip, tables: Sequence[Table], weight: float = 1.0, used: Values | None = None
) -> Problem:
    """The parameters of one family against the rows of all `tables`, from those that `chip` carries.

    **Arguments:**

    - `weight`: of those, over `RIDGE`.
    - `used`: one for each row that trains, zero for the others; all train if not given.
    """
    family = KERNELS[tables[0].rows.key.op].family
    prior = getattr(chip.efficiency, family)
    start = to_free(prior)
    measured = as_values(np.log(np.concatenate([table.rows.time for table in tables])))
    used = jnp.ones_like(measured) if used is None else used
    count = jnp.sum(used)
    ridge = weight * RIDGE * jnp.sqrt(jnp.maximum(1.0, FULL_WEIGHT_ROWS / count))

    def residuals(free: Values) -> Values:
        candidate = with_family(chip, family, from_free(type(prior), free))
        error = robust(jnp.log(times_of(candidate, tables)) - measured, ROBUSTNESS)
        return jnp.concatenate([used * error / jnp.sqrt(count), ridge * (free - start)])

    return Problem(type(prior), start, residuals)


def check_solver() -> None:
    """Find out before any work whether fits can be made.

    **Raises:**

    - `InputError`: without optimistix, with what to install.
    """
    if importlib.util.find_spec("optimistix") is None:
        raise InputError("fits need optimistix; install `perfmodel[fit]`.")


def solve(
    problem: Problem, steps: int = MAX_STEPS, weights: Values | None = None
) -> tuple[Values, Any]:
    """The free numbers of least squares, and the iterations taken, at most `steps`.

    **Arguments:**

    - `weights`: of the residuals; ones if not given.
    """
    import optimistix as optx

    def residuals(free: Values, given: Values | None) -> Values:
        found = problem.residuals(free)
        return found if given is None else given * found

    solver = optx.LevenbergMarquardt(rtol=1e-5, atol=1e-6)
    found = optx.least_squares(
        residuals, solver, problem.start, args=weights, max_steps=steps, throw=False
    )
    return found.value, found.stats["num_steps"]


def solve_each(problem: Problem, weights: np.ndarray) -> Values:
    """The free numbers of least squares, for each row of weights of the residuals; all at once."""
    each = jax.vmap(lambda row: solve(problem, weights=row)[0])
    return jax.jit(each)(as_values(weights))


def fit(chip: Chip, tables: Sequence[Table], weight: float = 1.0) -> Fit:
    """Fit the parameters of one family to the rows of all `tables`, from those that `chip` carries.

    **Arguments:**

    - `weight`: of those, over `RIDGE`.
    """
    problem = problem_of(chip, tables, weight)
    free, steps = solve(problem)
    return Fit(from_free(problem.kind, free), float(problem.loss(free)), int(steps))
