"""Power: terms by hand, the clock that a limit leaves, and gradients."""

import jax
import jax.numpy as jnp
import pytest
from silicon import gpu, made_of, nothing, number, slope

from perfmodel.hardware import power
from perfmodel.hardware.power import Activity
from perfmodel.library.technology import load_constants

CONSTANTS = load_constants().values.power
MADE = made_of()
DIE = number(814e-6)


def test_memory_spends_the_devices_energy_and_the_hosts():
    # 3.9 pJ/bit of the device and what the host adds, at 1 TB/s.
    found = power.dynamic_power(Activity(memory=1e12), MADE, CONSTANTS)["memory"]
    assert float(found) == pytest.approx((3.9 * 8e-12 + float(CONSTANTS.host)) * 1e12, rel=1e-4)


def test_a_chip_that_does_nothing_draws_what_is_static():
    # At 1.5 GHz the voltage is the nominal one.
    chip = gpu(clock=1.5e9)
    idle = power.total(power.static_power(chip, DIE, MADE, CONSTANTS))
    found = power.drawn(chip, DIE, Activity(), MADE, CONSTANTS)
    assert float(found) == pytest.approx(float(CONSTANTS.overhead * idle), rel=1e-3)
    assert 30 < float(found) < 250


def test_a_share_of_all_peaks_is_near_what_an_h100_is_cooled_for():
    rates = power.peak_activity(gpu(), MADE, number(30e12))
    limit = power.thermal_limit(gpu(), DIE, rates, MADE, CONSTANTS)
    assert float(limit) == pytest.approx(700, rel=0.3)
    assert float(power.drawn(gpu(), DIE, rates, MADE, CONSTANTS)) > float(limit)


def test_a_resting_chip_draws_less_than_one_whose_clocks_run():
    awake = float(power.drawn(gpu(), DIE, Activity(), MADE, CONSTANTS))
    rest = float(power.resting(gpu(), DIE, MADE, CONSTANTS))
    # An H100 with weights loaded and no request: 140 W.
    assert rest < awake and rest == pytest.approx(140, rel=0.5)


@pytest.mark.parametrize("name", ["matrix", "vector", "sram", "memory", "link", "bridge"])
def test_power_grows_with_what_is_done(name: str):
    def at(rate: jax.Array) -> jax.Array:
        return power.drawn(gpu(), DIE, Activity(**{name: rate}), MADE, CONSTANTS)

    grown, exact = slope(at, 1e13)
    assert grown > 0 and grown == pytest.approx(exact, rel=2e-2)


def test_the_voltage_is_nominal_at_the_nominal_clock_and_never_below_its_floor():
    node = MADE.node
    floor = float(node.least_voltage / node.voltage)
    assert float(power.voltage(number(1.0), node, CONSTANTS)) == pytest.approx(1, abs=2e-3)
    shares = [float(power.voltage(number(x), node, CONSTANTS)) for x in (1e-6, 0.2, 0.5, 1.0, 1.2)]
    assert shares == sorted(shares) and shares[0] >= floor


def test_a_chip_below_its_limit_keeps_its_clock():
    share = power.clock_share(number(1000.0), number(100.0), number(300.0), CONSTANTS)
    assert float(share) == pytest.approx(1, abs=0.01)


def test_a_chip_above_its_limit_slows_down_by_less_than_its_power():
    # 800 W wanted, 400 W left for it: the voltage falls too, so the clock keeps more than a half.
    share = power.clock_share(number(500.0), number(100.0), number(800.0), CONSTANTS)
    assert float(share) == pytest.approx(
        0.5 ** (1 / (1 + 2 * float(CONSTANTS.dlogv_dlogf))), rel=0.01
    )
    assert 0.5 < float(share) < 1


def test_a_limit_below_idle_leaves_a_clock_that_is_small_and_positive(precision: str):
    constants = load_constants().values.power

    def share(limit: jax.Array) -> jax.Array:
        return power.clock_share(limit, number(200.0), number(800.0), constants)

    for limit in (0.0, 100.0, 200.0):
        assert 0 < float(share(number(limit))) < 0.2
        assert jnp.isfinite(jax.grad(share)(number(limit)))


def test_no_part_and_no_work_have_finite_gradients(precision: str):
    made, constants = made_of(), load_constants().values.power

    def at(activity: Activity) -> jax.Array:
        return power.drawn(nothing(), number(1e-6), activity, made, constants)

    assert all(jnp.isfinite(x) for x in jax.tree.leaves(jax.grad(at)(Activity())))
