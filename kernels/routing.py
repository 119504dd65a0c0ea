r"""Routing: how many (token, expert) pairs the busiest rank of a mixture gets, and the experts they touch.

- `balanced`: every expert gets as many, in turn.
- `power_law_a`: loads from a density $x^{-a}$ on $[1, 0.8\,T]$ for $T$ tokens, or on $[0.01, 2]$
  while there are no more pairs than experts; scaled to the number of pairs and rounded.
- `random`: every expert is as likely, and each token draws for itself: what is served.

The first two are how AIConfigurator's collector routes (`balanced_logits`, `power_law_logits_v3`).
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.units import Scalar

ROUTINGS = ("balanced", "power_law_1.01", "power_law_1.2", "random")
"""Every routing; a row names one by its place here."""

EXPONENTS = (1.01, 1.2)

MAX_LOAD = 0.8
"""The largest load drawn, over the number of tokens."""

SPARSE_LOADS = (0.01, 2.0)
"""Ends of the loads drawn while there are no more pairs than experts."""


class Load(NamedTuple):
    """What the busiest rank gets: `pairs` of token and expert, and the `experts` that they touch."""

    pairs: Scalar
    experts: Scalar


def loads(routing: Scalar, tokens: Scalar, topk: Scalar, experts: Scalar, ranks: Scalar) -> Load:
    """The load of the busiest rank.

    **Arguments:**

    - `routing`: a place in `ROUTINGS`.
    - `tokens`: of all ranks together; each goes through `topk` of `experts`.
    - `ranks`: groups of experts.
    """
    sizes = (tokens, topk, experts, ranks)
    routed = [
        balanced(*sizes),
        *(power_law(a, *sizes) for a in EXPONENTS),
        random(*sizes),
    ]
    pairs, touched = (
        jnp.stack(column)[routing.astype(int)] for column in zip(*routed, strict=True)
    )
    return Load(pairs, jnp.clip(touched, jnp.minimum(pairs, 1.0), pairs))


def balanced(tokens: Scalar, topk: Scalar, experts: Scalar, ranks: Scalar) -> Load:
    """As many for each expert; the busiest rank has at least one pair."""
    pairs = tokens * topk
    shared = jnp.minimum(experts, pairs) / ranks
    return Load(jnp.maximum(pairs / ranks, 1.0), jnp.maximum(shared, 1.0))


def random(tokens: Scalar, topk: Scalar, experts: Scalar, ranks: Scalar) -> Load:
    r"""Experts that get any token are $E\,(1 - (1 - k/E)^T)$.

    The busiest of $n$ ranks gets $\mu + \sqrt{2\mu\ln n}$ pairs for a mean of $\mu$: the asymptote
    of the largest of normal numbers. No token goes twice to an expert.
    """
    missed = tokens * jnp.log1p(-topk / experts * (1 - 1e-6))
    mean = tokens * topk / ranks
    hottest = mean + jnp.sqrt(2 * mean * jnp.log(ranks) + 1e-12)
    most = tokens * jnp.minimum(topk, experts / ranks)
    return Load(jnp.minimum(hottest, most), -experts / ranks * jnp.expm1(missed))


def power_law(
    exponent: float, tokens: Scalar, topk: Scalar, experts: Scalar, ranks: Scalar
) -> Load:
    """The busiest rank has the largest load, or the largest sum of loads, whichever is more.

    Loads that round to zero are given to the largest, one by one: as many experts are
    touched as are not rounded away, or as pairs were lost by rounding.
    """
    pairs, local = tokens * topk, experts / ranks
    sparse = pairs <= experts
    low = jnp.where(sparse, SPARSE_LOADS[0], 1.0)
    high = jnp.where(sparse, SPARSE_LOADS[1], jnp.maximum(MAX_LOAD * tokens, 2.0))
    largest = _quantile(experts / (experts + 1), exponent, low, high)
    mean, square = (_moment(order, exponent, low, largest) for order in (1, 2))
    scale = pairs / (largest + (experts - 1) * mean)
    spread = jnp.sqrt(2 * jnp.log(ranks) * local * jnp.maximum(square - mean**2, 0.0) + 1e-12)
    hottest = scale * (local * mean + jnp.maximum(spread, largest - mean))
    hottest = jnp.minimum(hottest, tokens * jnp.minimum(topk, local))
    smallest = jnp.clip(0.5 / scale, low, largest)
    lost = pairs / experts * _share_below(smallest, exponent - 1, low, largest)
    reached = jnp.maximum(1 - _share_below(smallest, exponent, low, largest), lost)
    hottest = jnp.where(ranks > 1, hottest, pairs)
    touched = local * reached * hottest / (pairs / ranks)
    return Load(jnp.maximum(hottest, 1.0), jnp.minimum(touched, local))


def _share_below(x: Scalar, exponent: float, low: Scalar, high: Scalar) -> Scalar:
    """Of a density $x^{-a}$ on [low, high]; with $a - 1$ in place of $a$, of its mass."""
    power = 1 - exponent
    return (x**power - low**power) / (high**power - low**power)


def _quantile(share: Scalar, exponent: float, low: Scalar, high: Scalar) -> Scalar:
    power = 1 - exponent
    return (low**power + share * (high**power - low**power)) ** (1 / power)


def _moment(order: int, exponent: float, low: Scalar, high: Scalar) -> Scalar:
    power, norm = order + 1 - exponent, 1 - exponent
    return norm / power * (high**power - low**power) / (high**norm - low**norm)
