"""Cost: dies, packages and tokens by hand, monotone, with gradients."""

import jax
import jax.numpy as jnp
import pytest
from silicon import made_of, number, slope

from perfmodel.hardware import cost
from perfmodel.hardware.cost import Die
from perfmodel.library.economics import load_ownership
from perfmodel.library.technology import load_constants

CONSTANTS = load_constants().values.cost
MADE = made_of()
NODE = MADE.node
OWNER = load_ownership()


def test_dies_on_a_wafer_by_hand():
    # 814 mm2: 70,686 / 814 - 942.5 / 40.35 = 86.8 - 23.4.
    assert float(cost.dies_per_wafer(number(814e-6))) == pytest.approx(63.5, abs=0.1)


def test_a_bigger_die_is_dearer_for_its_area():
    sizes = [50e-6, 100e-6, 400e-6, 800e-6, 2000e-6]
    prices = [float(cost.die_cost(number(a), NODE, CONSTANTS)) / a for a in sizes]
    assert prices == sorted(prices)
    grown, exact = slope(lambda a: cost.die_cost(a, NODE, CONSTANTS), 800e-6)
    assert grown == pytest.approx(exact, rel=1e-2) and grown > 1


def test_a_die_beyond_the_wafer_has_a_price_and_a_gradient(precision: str):
    node, constants = made_of().node, load_constants().values.cost
    for area in (1e-9, 858e-6, 0.07, 1.0):
        slopes = jax.grad(cost.die_cost)(number(area), node, constants)
        assert jnp.isfinite(slopes) and slopes > 0


def test_an_h100_costs_about_three_thousand_dollars():
    found = cost.bill([Die(814e-6, NODE)], made_of("n5", "hbm3").memory, number(3.5), CONSTANTS)
    assert float(found.total) == pytest.approx(3320, rel=0.3)
    assert 100 < float(found.dies) < 600


def test_a_package_without_memory_beside_it_needs_no_interposer():
    bare = cost.bill([Die(814e-6, NODE)], MADE.memory, number(0.0), CONSTANTS)
    full = cost.bill([Die(814e-6, NODE)], MADE.memory, number(1.0), CONSTANTS)
    # 1.15 x 814 mm2 of plain substrate.
    expected = 1.15 * 814e-6 * float(CONSTANTS.substrate)
    assert float(bare.package) == pytest.approx(expected, rel=1e-4)
    assert float(full.package) > 5 * float(bare.package) and float(bare.memory) == 0


def test_a_bill_without_stacks_has_finite_gradients():
    def at(count: jax.Array) -> jax.Array:
        return cost.bill([Die(814e-6, NODE)], MADE.memory, count, CONSTANTS).total

    assert jnp.isfinite(jax.grad(at)(number(0.0)))


def test_stacked_dies_take_no_footprint():
    flat = cost.bill([Die(115e-6, NODE, 8)], MADE.memory, number(8.0), CONSTANTS)
    high = cost.bill([Die(115e-6, NODE, 8, 1.0)], MADE.memory, number(8.0), CONSTANTS)
    assert float(high.package) < float(flat.package) and float(high.dies) == float(flat.dies)


def test_dearer_memory_makes_a_dearer_chip():
    totals = [
        float(cost.bill([Die(8e-4, NODE)], made_of(year=y).memory, number(6.0), CONSTANTS).total)
        for y in ("2023", "2025", "2026")
    ]
    assert totals == sorted(totals)


def test_owning_costs_capital_electricity_and_site():
    # A chip of 20,000 USD that draws 700 W of 1,000.
    rate = cost.running(number(20e3), number(700.0), number(1000.0), OWNER)
    paid = 20e3 * (1 + OWNER.system + OWNER.network)
    years = OWNER.life / cost.YEAR
    capital = paid * (1 / years + OWNER.interest / 2) / cost.YEAR
    drawn = (OWNER.conversion * 700 + 1000 * OWNER.around) * OWNER.overhead
    kept = paid * OWNER.upkeep / cost.YEAR
    power = drawn * OWNER.tariff + 1000 * (OWNER.conversion + OWNER.around) * OWNER.site
    assert float(rate) == pytest.approx(float(capital + kept + power), rel=1e-4)
    assert 0.5 < float(rate) * 3600 < 3


def test_a_token_costs_its_chip_seconds():
    found = cost.per_token(number(1e-3), number(1e-4), number(1e-2), OWNER)
    assert float(found.output) == pytest.approx(1e-5 / float(OWNER.busy))
    assert float(found.output) == pytest.approx(100 * float(found.input))


def test_power_and_price_raise_what_a_chip_costs():
    base = float(cost.running(number(2e4), number(700.0), number(1e3), OWNER))
    assert float(cost.running(number(2e4), number(900.0), number(1e3), OWNER)) > base
    assert float(cost.running(number(3e4), number(700.0), number(1e3), OWNER)) > base
