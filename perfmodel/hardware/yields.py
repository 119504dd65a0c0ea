r"""Yield: the share of dies, or of wafers, that work.

With a mean of $\lambda = A D_0$ defects on a die:

- Poisson: $e^{-\lambda}$; defects fall independently.
- Murphy: $\big((1 - e^{-\lambda})/\lambda\big)^2$; their density has a triangular distribution
  (B. T. Murphy, Proc. IEEE 52, 1964).
- negative binomial: $(1 + \lambda/\alpha)^{-\alpha}$; it has a gamma distribution, so they cluster
  (C. H. Stapper, IBM J. Res. Dev. 27, 1983).

All fall with area and with the density of defects, and are 1 at zero.
"""

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.units import Scalar

CLUSTERING = 3.0
"""Exponent of the negative binomial: 2 to 4 is usual (novasolver.jp, Semiconductor yield and defect
density)."""

NODES = 12
"""Points at which the gamma distribution of the density of defects is summed."""


def poisson(area: Scalar, density: Scalar) -> Scalar:
    """Yield without clustering; `area` in m2, `density` of defects in 1/m2."""
    return jnp.exp(-area * density)


def murphy(area: Scalar, density: Scalar) -> Scalar:
    """Murphy's yield, for a triangular distribution of the density of defects."""
    # (1 - exp(-x)) / x loses its digits near zero, where it is 1 - x / 2.
    defects = area * density
    safe = jnp.maximum(defects, 1e-3)
    ratio = jnp.where(defects > 1e-3, -jnp.expm1(-safe) / safe, 1 - defects / 2)
    return jnp.square(ratio)


def negative_binomial(area: Scalar, density: Scalar, clustering: float = CLUSTERING) -> Scalar:
    """Yield with clustered defects."""
    return (1 + area * density / clustering) ** -clustering


def repairable(area: Scalar, density: Scalar, share: Scalar) -> Scalar:
    """Yield where defects in a `share` of the area do no harm: arrays with spare rows, spare cores."""
    return negative_binomial(area * (1 - share), density)


def _gamma_points(clustering: float) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of a gamma distribution of mean 1, by Gauss and Laguerre."""
    points, weights = np.polynomial.laguerre.laggauss(NODES)
    weights = weights * points ** (clustering - 1)
    return points / clustering, weights / weights.sum()


POINTS, WEIGHTS = _gamma_points(CLUSTERING)


def at_most(spares: Scalar, defects: Scalar) -> Scalar:
    r"""Chance that clustered defects of mean `defects` are no more than `spares`.

    A Poisson number is at most $k$ with chance $Q(k+1, \lambda)$, the regularised incomplete
    gamma function, which is smooth in $k$; it is averaged over the distribution of the density.
    """
    density = jnp.asarray(POINTS, defects.dtype)
    chance = jax.scipy.special.gammaincc(spares + 1, jnp.maximum(defects, 1e-12) * density)
    return jnp.sum(jnp.asarray(WEIGHTS, defects.dtype) * chance)


def harvested(area: Scalar, density: Scalar, cores: Scalar, share: Scalar) -> Scalar:
    """Yield of a die of which some `cores` may be bad, if each loses one core to a defect.

    **Arguments:**

    - `area`: of the die, in m2; `density`: of defects, in 1/m2.
    - `cores`: spare ones.
    - `share`: of the area that cores take. The rest must be free of defects.
    """
    rest = negative_binomial(area * (1 - share), density)
    return rest * at_most(cores, area * share * density)


FIELDS = 84
"""Reticle fields of a wafer-scale part: 12 x 7 of them make a Cerebras wafer (hot-chip talks, 2019)."""


def wafer_scale(area: Scalar, density: Scalar, cores: Scalar, spares: Scalar) -> Scalar:
    """Share of wafers that work, where each field must do with its own spare cores.

    A defect costs the cores that it touches, one as a rule. Large cores are few, so that there are
    few spares, and one field that has not enough of them loses the wafer.

    **Arguments:**

    - `area`: of the whole part, in m2; `density`: of defects, in 1/m2.
    - `cores`: made, over the whole part; `spares`: share of them that may be bad.
    """
    allowed = jnp.maximum(cores * spares / FIELDS, 0.0)
    # Within one field and one wafer defects are taken as independent: clustering is between wafers.
    worst = jax.scipy.special.gammaincc(allowed + 1, jnp.maximum(area * density / FIELDS, 1e-12))
    return worst**FIELDS
