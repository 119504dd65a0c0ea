r"""Sensitivity of the objective: shadow prices of limits, elasticities to every variable of a design.

At an optimum the slope of the objective is balanced by the limits that bind and by the bounds:
$\nabla f = \sum_i z_i \nabla s_i + r$ with multipliers $z_i \ge 0$, found by non-negative least
squares (Lawson and Hanson, 1974) over the variables that are free to move. Slacks are logarithms,
so $z_i$ is the relative gain of the objective for a relative change of limit $i$.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from perfmodel.design.abstract_problem import Linearisation, linearise_batch
from perfmodel.design.multistart import LocalOptimum, MultiStart
from perfmodel.units import as_scalar, as_values

BINDING = 2e-3
"""A limit with less slack than this, relative, binds."""

AT_BOUND = 1e-4
"""Share of its range within which a variable is on its bound."""


class Sensitivity(NamedTuple):
    """Relative changes of the objective for relative changes of limits and variables.

    - `multipliers`: of each limit, its shadow price.
    - `elasticity`: of the objective to each variable, nothing else changed.
    - `reduced_gradient`: the same, less what the limits take: not zero on bounds and for integers alone.
    - `residual`: the largest of it where it should be zero: how well the optimum is one.
    """

    multipliers: np.ndarray
    elasticity: np.ndarray
    reduced_gradient: np.ndarray
    residual: float


def sensitivity(solver: MultiStart, best: LocalOptimum) -> Sensitivity:
    """At one design."""
    return sensitivities(solver, [best])[0]


def sensitivities(solver: MultiStart, designs: Sequence[LocalOptimum]) -> list[Sensitivity]:
    """At several designs, as many at a time as descend together, for which slopes are compiled."""
    problem, count = solver.problem, solver.options.batch_size
    found = []
    for i in range(0, len(designs), count):
        some = designs[i : i + count]
        unit, choice = (
            np.resize(rows, (count, len(rows[0])))
            for rows in ([one.unit for one in some], [one.choice for one in some])
        )
        linear = linearise_batch(problem, as_values(unit), jnp.asarray(choice), as_scalar(1.0))
        rows = [
            jax.tree.map(lambda x, k=k: np.asarray(x[k], float), linear) for k in range(len(some))
        ]
        found += [_at(solver, one, row) for one, row in zip(some, rows, strict=True)]
    return found


def _at(solver: MultiStart, best: LocalOptimum, found: Linearisation) -> Sensitivity:
    ranges = np.asarray(solver.problem.high - solver.problem.low, float)
    gradient, jacobian = np.asarray(found.gradient) / ranges, np.asarray(found.jacobian) / ranges
    inside = (best.unit > AT_BOUND) & (best.unit < 1 - AT_BOUND) & ~solver.integer
    multipliers = np.zeros(len(jacobian))
    binding = np.asarray(found.constraints) < BINDING
    if binding.any() and inside.any():
        multipliers[binding], _ = nnls(jacobian[binding][:, inside].T, gradient[inside])
    reduced = -(gradient - jacobian.T @ multipliers)
    residual = float(np.abs(reduced[inside]).max(initial=0.0))
    return Sensitivity(multipliers, -gradient, reduced, residual)
