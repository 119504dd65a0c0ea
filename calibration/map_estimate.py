r"""The most probable constants, and how sure they are, from few facts and priors.

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


class Question(NamedTuple):
    """What is fitted.

    - `prior`, `spread`: constants of one kind, and the spreads of their logarithms.
    - `predict`: all facts from the constants.
    - `known`: the facts; `noise`: the spread of their logarithms.
    - `owner`: for each fact its group; a group is left out as one.
    """

    prior: eqx.Module
    spread: eqx.Module
    predict: Callable[[eqx.Module], Facts]
    known: Facts
    noise: Facts
    owner: tuple[int, ...]


class Posterior(NamedTuple):
    """The constants after a fit, and the spreads of their logarithms."""

    values: eqx.Module
    spreads: eqx.Module


def fit(question: Question, weights: Facts | None = None) -> Posterior:
    """The most probable constants.

    **Arguments:**

    - `weights`: of the facts; 1 if not given, 0 leaves one out.
    """
    taken = jnp.ones_like(question.known) if weights is None else weights

    def found(row: Facts) -> tuple[Vector, Vector]:
        theta = _solve(question, row)
        curved = jax.jacfwd(_residual(question, row))(theta)
        return jnp.exp(theta), jnp.sqrt(jnp.diag(jnp.linalg.inv(curved.T @ curved)))

    unravel = ravel_pytree(question.prior)[1]
    values, spreads = jax.jit(found)(taken)
    return Posterior(unravel(values), unravel(spreads))


def leave_out(question: Question) -> Facts:
    """Each fact as predicted by a fit that has not seen any fact of its group."""
    owner = jnp.asarray(question.owner)
    weights = (owner[:, None] != owner[None, :]).astype(question.known.dtype)
    unravel = ravel_pytree(question.prior)[1]

    def one(row: Facts) -> Facts:
        return question.predict(unravel(jnp.exp(_solve(question, row))))

    return jnp.diag(jax.jit(jax.vmap(one))(weights))


def _residual(question: Question, weights: Facts) -> Callable[[Vector], Array]:
    start, unravel = ravel_pytree(question.prior)
    spread = ravel_pytree(question.spread)[0]

    def residual(theta: Vector) -> Array:
        found = question.predict(unravel(jnp.exp(theta)))
        misses = weights * jnp.log(found / question.known) / question.noise
        return jnp.concatenate([misses, (theta - jnp.log(start)) / spread])

    return residual


def _solve(question: Question, weights: Facts) -> Vector:
    residual = _residual(question, weights)
    spread = ravel_pytree(question.spread)[0]
    damping = jnp.diag(DAMPING / jnp.square(spread))

    def step(theta: Vector, _: None) -> tuple[Vector, None]:
        missed, curved = residual(theta), jax.jacfwd(residual)(theta)
        change = jnp.linalg.solve(curved.T @ curved + damping, curved.T @ missed)
        return theta - change, None

    start = jnp.log(ravel_pytree(question.prior)[0])
    return jax.lax.scan(step, start, None, length=STEPS)[0]
