r"""What a limit is worth, and how the objective answers to every number of a design.

At an optimum the slope of the objective is balanced by the limits that bind and by the bounds:
$\nabla f = \sum_i z_i \nabla s_i + r$ with prices $z_i \ge 0$, found by non-negative least
squares (Lawson and Hanson, 1974) over the variables that are free to move. Slacks are logarithms,
so $z_i$ is the relative gain of the objective for a relative change of limit $i$.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from perfmodel.design.abstract_problem import AbstractProblem, Linearisation, linearise_batch
from perfmodel.design.multistart import LocalOptimum
from perfmodel.units import as_scalar, as_values

BINDING = 2e-3
"""A limit with less slack than this, relative, binds."""

AT_BOUND = 1e-4
"""Share of its range within which a variable is on its bound."""


class Sensitivity(NamedTuple):
    """What limits and variables are worth, as relative changes of the objective for relative changes.

    - `prices`: of each limit. - `elasticity`: of the objective to each variable, nothing else changed.
    - `reduced`: the same, after the limits have taken their toll: not zero on bounds and for
      numbers of things alone.
    - `residual`: the largest of it where it should be zero: how well the optimum is one.
    """

    multipliers: np.ndarray
    elasticity: np.ndarray
    reduced_gradient: np.ndarray
    residual: float


def sensitivity(
    problem: AbstractProblem, best: LocalOptimum, integer: np.ndarray, batch_size: int
) -> Sensitivity:
    """Prices at a design; `batch_size`: as many as the search had, for which slopes are compiled."""
    return sensitivities(problem, [best], integer, batch_size)[0]


def sensitivities(
    problem: AbstractProblem, designs: list[LocalOptimum], integer: np.ndarray, batch_size: int
) -> list[Sensitivity]:
    """The same of several designs, as many at a time as there are lanes."""
    found = []
    for at in range(0, len(designs), batch_size):
        some = designs[at : at + batch_size]
        unit, choice = (
            np.resize([getattr(d, n) for d in some], (batch_size, getattr(some[0], n).size))
            for n in ("unit", "choice")
        )
        seen = linearise_batch(problem, as_values(unit), jnp.asarray(choice), as_scalar(1.0))
        found += [
            _sensitivity(
                problem, one, jax.tree.map(lambda x, i=i: np.asarray(x[i], float), seen), integer
            )
            for i, one in enumerate(some)
        ]
    return found


def _sensitivity(
    problem: AbstractProblem, best: LocalOptimum, seen: Linearisation, integer: np.ndarray
) -> Sensitivity:
    ranges = np.asarray(problem.high - problem.low, float)
    gradient, slopes = np.asarray(seen.gradient) / ranges, np.asarray(seen.jacobian) / ranges
    inside = (best.unit > AT_BOUND) & (best.unit < 1 - AT_BOUND) & ~integer
    prices = np.zeros(len(slopes))
    binding = np.asarray(seen.constraints) < BINDING
    if binding.any() and inside.any():
        prices[binding], _ = nnls(slopes[binding][:, inside].T, gradient[inside])
    reduced = -(gradient - slopes.T @ prices)
    return Sensitivity(prices, -gradient, reduced, float(np.abs(reduced[inside]).max(initial=0.0)))
