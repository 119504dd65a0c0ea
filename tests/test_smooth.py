"""Smooth twins: what they are between, their limits, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.smooth import ROUNDNESS, at_least_one, piece_count, soft_max, soft_min
from perfmodel.units import as_scalar, as_values

ROUNDING = 1e-6
"""Relative: some ten steps of the last digit of float32."""


def test_the_soft_maximum_is_a_norm():
    # 3^4 + 4^4 = 81 + 256 = 337.
    found = soft_max([as_scalar(3.0), as_scalar(4.0)])
    assert found == pytest.approx(337**0.25, rel=ROUNDING)


def test_the_soft_maximum_lies_between_the_maximum_and_the_sum():
    a, b = as_values(np.logspace(-9, 3, 13)), as_scalar(1e-3)
    found, most = soft_max([a, b]), jnp.maximum(a, b)
    assert jnp.all(found >= most)
    assert jnp.all(found <= a + b)
    assert jnp.all(found <= most * 2**0.25 * (1 + ROUNDING))


def test_the_soft_maximum_of_one_is_itself():
    assert soft_max([as_scalar(7e-9)]) == as_scalar(7e-9)


def test_times_too_short_for_a_fourth_power_do_not_underflow(precision: str):
    # (1e-12 s)^4 is 1e-48, below the least number of float32.
    found = soft_max([as_scalar(1e-12), as_scalar(1e-12)])
    assert found == pytest.approx(1e-12 * 2**0.25, rel=ROUNDING)


def test_nothing_takes_no_time_and_has_a_finite_gradient(precision: str):
    zero = as_scalar(0.0)
    assert soft_max([zero, zero]) == 0
    assert np.all(np.isfinite(jax.grad(lambda x: soft_max([x[0], x[1]]))(jnp.zeros(2))))


def test_the_soft_maximum_has_the_slope_of_the_norm():
    # d/da (a^4 + b^4)^(1/4) = (a / t)^3, with t = 337^(1/4) at a = 3, b = 4.
    slopes = jax.grad(lambda x: soft_max([x[0], x[1]]))(as_values([3.0, 4.0]))
    expected = [(3 / 337**0.25) ** 3, (4 / 337**0.25) ** 3]
    assert slopes == pytest.approx(expected, rel=ROUNDING)


def test_the_soft_minimum_stays_below_the_minimum():
    a, b = as_values(np.logspace(-4, 4, 17)), as_scalar(2.0)
    found, least = soft_min(a, b), jnp.minimum(a, b)
    assert jnp.all(found <= least * (1 + ROUNDING))
    assert jnp.all(found >= least / 2**0.25 * (1 - ROUNDING))


def test_the_soft_minimum_with_nothing_is_nothing(precision: str):
    assert soft_min(as_scalar(0.0), as_scalar(1.0)) == 0
    assert soft_min(as_scalar(0.0), as_scalar(0.0)) == 0


def test_the_soft_minimum_of_nothing_and_nothing_has_no_slope_that_breaks(precision: str):
    slopes = jax.grad(soft_min, (0, 1))(as_scalar(0.0), as_scalar(0.0))
    assert [float(slope) for slope in slopes] == [0.0, 0.0]


def test_the_soft_minimum_has_the_slope_of_its_formula():
    # At a = b: d/da ab/(a^4 + b^4)^(1/4) = 2^(-1/4) (1 - 1/2).
    slope = jax.grad(lambda a: soft_min(a, as_scalar(3.0)))(as_scalar(3.0))
    assert slope == pytest.approx(2**-0.25 / 2, rel=ROUNDING)


def test_at_least_one_is_at_least_one_and_at_least_itself():
    x = as_values(np.linspace(0.0, 5.0, 51))
    found = at_least_one(x)
    assert jnp.all(found >= jnp.maximum(x, 1.0))
    # Highest above the corner, by half of the roundness.
    assert jnp.all(found <= jnp.maximum(x, 1.0) + ROUNDNESS / 2 + ROUNDING)


def test_at_least_one_climbs_all_the_way():
    slopes = jax.vmap(jax.grad(at_least_one))(as_values([0.0, 0.5, 1.0, 2.0]))
    assert jnp.all(jnp.diff(slopes) > 0)
    assert jnp.all((slopes > 0) & (slopes < 1))
    assert slopes[2] == pytest.approx(0.5)


def test_whole_pieces_are_counted_when_exact():
    pieces = piece_count(as_values([0.0, 0.2, 1.0, 1.01, 7.5]), exact=True)
    assert pieces.tolist() == [1, 1, 1, 2, 8]


def test_pieces_are_fractions_when_smooth():
    pieces = piece_count(as_values([0.2, 7.5]), exact=False)
    # The corner is far: what is left of it is r^2 / (4 |x - 1|), 0.003 and 0.0004.
    assert pieces == pytest.approx([1.0, 7.5], abs=0.004)
