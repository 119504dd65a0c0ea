r"""The most probable constants (maximum a posteriori), and how sure they are, from few facts and priors.

With logarithms $\theta$ of the constants, of which priors say $\theta_0 \pm \sigma_0$, and facts
$y_i$ of which a model predicts $f_i(\theta)$ with a spread of $\sigma_i$ in the logarithm:

$$\min_\theta \sum_i w_i \Big(\frac{\ln f_i(\theta) - \ln y_i}{\sigma_i}\Big)^2
      + \sum_j \Big(\frac{\theta_j - \theta_{0j}}{\sigma_{0j}}\Big)^2$$

by Gauss and Newton. Leaving facts out is a weight of zero, so that all fits run in one `vmap`.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

STEPS = 25
"""Of Gauss and Newton; they stand still after about ten."""

DAMPING = 1e-3
"""Added to the curvature in units of the prior's, so that no step runs away."""

Vector = Float[Array, " constants"]
Facts = Float[Array, " facts"]


class Estimation(NamedTuple):
    """What is estimated.

    - `prior`, `spread`: constants of one kind, and the spreads of their logarithms.
    - `predict`: all facts from the constants.
    - `known`: the facts; `noise`: the spread of their logarithms.
    - `groups`: for each fact its group, which is left out as one.
    """

    prior: eqx.Module
    spread: eqx.Module
    predict: Callable[[eqx.Module], Facts]
    known: Facts
    noise: Facts
    groups: tuple[int, ...]

    def constants(self, theta: Vector) -> eqx.Module:
        """The constants from their logarithms."""
        return ravel_pytree(self.prior)[1](jnp.exp(theta))

    def residuals(self, theta: Vector, weights: Facts) -> Array:
        """Of the facts, by their weight, and of the prior."""
        start, spread = (ravel_pytree(one)[0] for one in (self.prior, self.spread))
        misses = weights * jnp.log(self.predict(self.constants(theta)) / self.known) / self.noise
        return jnp.concatenate([misses, (theta - jnp.log(start)) / spread])


class Estimate(NamedTuple):
    """The constants after a fit, and the spreads of their logarithms."""

    values: eqx.Module
    spreads: eqx.Module


def map_estimate(asked: Estimation) -> Estimate:
    """The most probable constants."""

    @jax.jit
    def found(weights: Facts) -> tuple[Vector, Vector]:
        theta = _solve(asked, weights)
        curved = jax.jacfwd(asked.residuals)(theta, weights)
        return theta, jnp.sqrt(jnp.diag(jnp.linalg.inv(curved.T @ curved)))

    theta, spreads = found(jnp.ones_like(asked.known))
    return Estimate(asked.constants(theta), ravel_pytree(asked.prior)[1](spreads))


def leave_one_group_out(asked: Estimation) -> Facts:
    """Each fact as predicted by a fit that has not seen any fact of its group."""
    groups = jnp.asarray(asked.groups)
    weights = (groups[:, None] != groups[None, :]).astype(asked.known.dtype)

    def one(row: Facts) -> Facts:
        return asked.predict(asked.constants(_solve(asked, row)))

    return jnp.diag(jax.jit(jax.vmap(one))(weights))


def _solve(asked: Estimation, weights: Facts) -> Vector:
    damping = jnp.diag(DAMPING / jnp.square(ravel_pytree(asked.spread)[0]))

    def step(theta: Vector, _: None) -> tuple[Vector, None]:
        missed = asked.residuals(theta, weights)
        curved = jax.jacfwd(asked.residuals)(theta, weights)
        change = jnp.linalg.solve(curved.T @ curved + damping, curved.T @ missed)
        return theta - change, None

    start = jnp.log(ravel_pytree(asked.prior)[0])
    return jax.lax.scan(step, start, None, length=STEPS)[0]
