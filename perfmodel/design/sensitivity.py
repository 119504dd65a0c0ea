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

from perfmodel.design.abstract_problem import AbstractLandscape, Look, looks
from perfmodel.design.multistart import Found
from perfmodel.units import as_scalar, as_values

BINDING = 2e-3
"""A limit with less slack than this, relative, binds."""

AT_BOUND = 1e-4
"""Share of its range within which a variable is on its bound."""


class Worth(NamedTuple):
    """What limits and variables are worth, as relative changes of the objective for relative changes.

    - `prices`: of each limit. - `elasticity`: of the objective to each variable, nothing else changed.
    - `reduced`: the same, after the limits have taken their toll: not zero on bounds and for
      numbers of things alone.
    - `residual`: the largest of it where it should be zero: how well the optimum is one.
    """

    prices: np.ndarray
    elasticity: np.ndarray
    reduced: np.ndarray
    residual: float


def worth(land: AbstractLandscape, best: Found, whole: np.ndarray, lanes: int) -> Worth:
    """Prices at a design; `lanes`: as many as the search had, for which slopes are compiled."""
    return worths(land, [best], whole, lanes)[0]


def worths(
    land: AbstractLandscape, designs: list[Found], whole: np.ndarray, lanes: int
) -> list[Worth]:
    """The same of several designs, as many at a time as there are lanes."""
    found = []
    for at in range(0, len(designs), lanes):
        some = designs[at : at + lanes]
        unit, choice = (
            np.resize([getattr(d, n) for d in some], (lanes, getattr(some[0], n).size))
            for n in ("unit", "choice")
        )
        seen = looks(land, as_values(unit), jnp.asarray(choice), as_scalar(1.0))
        found += [
            _worth(land, one, jax.tree.map(lambda x, i=i: np.asarray(x[i], float), seen), whole)
            for i, one in enumerate(some)
        ]
    return found


def _worth(land: AbstractLandscape, best: Found, seen: Look, whole: np.ndarray) -> Worth:
    ranges = np.asarray(land.high - land.low, float)
    gradient, slopes = np.asarray(seen.gradient) / ranges, np.asarray(seen.slopes) / ranges
    inside = (best.unit > AT_BOUND) & (best.unit < 1 - AT_BOUND) & ~whole
    prices = np.zeros(len(slopes))
    binding = np.asarray(seen.slack) < BINDING
    if binding.any() and inside.any():
        prices[binding], _ = nnls(slopes[binding][:, inside].T, gradient[inside])
    reduced = -(gradient - slopes.T @ prices)
    return Worth(prices, -gradient, reduced, float(np.abs(reduced[inside]).max(initial=0.0)))
