"""Yield: laws against hand counts, order between them, and gradients."""

import math

import jax
import jax.numpy as jnp
import pytest
from silicon import number, slope

from perfmodel.hardware import yields

DENSITY = number(1000.0)  # 0.1 defects on a cm2
LAWS = {"poisson": yields.poisson, "murphy": yields.murphy, "nb": yields.negative_binomial}


def test_the_three_laws_agree_with_hand_counts():
    # 800 mm2 at 0.1/cm2: 0.8 defects.
    area = number(800e-6)
    assert float(yields.poisson(area, DENSITY)) == pytest.approx(math.exp(-0.8))
    assert float(yields.murphy(area, DENSITY)) == pytest.approx(((1 - math.exp(-0.8)) / 0.8) ** 2)
    assert float(yields.negative_binomial(area, DENSITY)) == pytest.approx((1 + 0.8 / 3) ** -3)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_bigger_die_yields_less(law):
    found = [float(law(number(size * 1e-6), DENSITY)) for size in (0, 1, 50, 200, 858, 46225)]
    assert found[0] == 1 and found == sorted(found, reverse=True) and found[-1] >= 0
    drop, exact = slope(lambda x: law(x, DENSITY), 400e-6)
    assert drop == pytest.approx(exact, rel=1e-2) and drop < 0


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_no_law_breaks_where_there_is_no_area(law, precision: str):
    assert jnp.isfinite(jax.grad(law)(number(0.0), number(1000.0)))


def test_clustering_helps_large_dies():
    area = number(800e-6)
    found = [float(law(area, DENSITY)) for law in LAWS.values()]
    assert found == sorted(found)


def test_without_spares_the_sum_over_densities_is_the_negative_binomial():
    for defects in (0.01, 0.8, 5.0):
        expected = (1 + defects / 3) ** -3
        assert float(yields.at_most(number(0.0), number(defects))) == pytest.approx(
            expected, rel=1e-4
        )


def test_spares_raise_yield_towards_one():
    area = number(800e-6)
    found = [float(yields.harvested(area, DENSITY, number(n), number(0.6))) for n in (0, 1, 3, 12)]
    assert found == sorted(found)
    # What is left is the part that has no spares: 0.32 defects.
    assert found[-1] == pytest.approx((1 + 0.32 / 3) ** -3, rel=1e-3)


def test_repair_of_everything_loses_nothing():
    assert float(yields.repairable(number(8e-4), DENSITY, number(1.0))) == 1
    none = yields.repairable(number(8e-4), DENSITY, number(0.0))
    assert none == yields.negative_binomial(number(8e-4), DENSITY)


def test_a_wafer_of_small_cores_works_and_one_of_large_cores_does_not():
    # 46 defects on a wafer, 0.55 on a field. 970,000 cores: 808 spares on a field; 84 x 6 cores: 0.4.
    wafer = number(46225e-6)
    small = yields.wafer_scale(wafer, DENSITY, number(970e3), number(0.07))
    large = yields.wafer_scale(wafer, DENSITY, number(84 * 6), number(0.07))
    assert float(small) == pytest.approx(1, abs=1e-5) and float(large) < 0.01


def test_spares_of_a_wafer_have_a_gradient():
    def alive(cores: jax.Array) -> jax.Array:
        return yields.wafer_scale(number(46225e-6), DENSITY, cores, number(0.07))

    grown, exact = slope(alive, 4000.0, 1e-2)
    assert grown == pytest.approx(exact, rel=2e-2) and grown > 0
