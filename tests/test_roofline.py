"""The roofline: hand-worked prices, what adds up, and what no price may exceed."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.breakdown import BOUNDS, JOULES, SECONDS, Breakdown, bound, total
from perfmodel.errors import InputError
from perfmodel.hardware.chip import region, restrict
from perfmodel.kernels.occupancy import (
    blocks_per_start,
    memory_fill_time,
    mesh_traversal_time,
    tile_height,
    wave_occupancy,
)
from perfmodel.library.chip import load_chip
from perfmodel.resources import NAMES, Resources
from perfmodel.roofline import AbstractMachine, Work, choose, price
from perfmodel.units import Scalar, Values, as_scalar, as_values

ROUNDING = 2e-6
"""Relative: some ten steps of the last digit of float32."""


class Machine(AbstractMachine):
    """1e12 units/s of everything; a pJ for each; 20 W idle, 100 W at most."""

    idle_power: Scalar = eqx.field(converter=as_scalar, default=20.0)
    peak_power: Scalar = eqx.field(converter=as_scalar, default=100.0)
    rate: Scalar = eqx.field(converter=as_scalar, default=1e12)
    energy: Scalar = eqx.field(converter=as_scalar, default=1e-12)

    def rates(self, dtype: str) -> Resources:
        return Resources(**dict.fromkeys(NAMES, self.rate))

    def energies(self, dtype: str) -> Resources:
        return Resources(**dict.fromkeys(NAMES, self.energy))


UNBOUND = {"idle_power": 0.0, "peak_power": np.inf}
"""Of a machine without a limit of power."""


def work(latency: float = 0.0, **demand: float) -> Work:
    """Work without alternatives."""
    return Work(Resources(**{k: as_scalar(v) for k, v in demand.items()}), latency=latency)


def test_one_resource_takes_its_demand_over_its_rate():
    cost = price(Machine(**UNBOUND), work(main=5e9))
    # 5e9 bytes at 1e12 bytes/s.
    assert cost.time == pytest.approx(5e-3, rel=ROUNDING)
    assert cost.by_term()["main"] == pytest.approx(5e-3, rel=ROUNDING)


def test_resources_overlap_and_latency_adds():
    cost = price(Machine(**UNBOUND), work(matrix=4e9, main=3e9, latency=1e-3))
    # 4 ms and 3 ms overlap to (256 + 81)^(1/4) ms; the parts are 256 and 81 of 337 of it.
    overlapped = 337**0.25 * 1e-3
    terms = cost.by_term()
    assert cost.time == pytest.approx(overlapped + 1e-3, rel=ROUNDING)
    assert terms["matrix"] == pytest.approx(overlapped * 256 / 337, rel=ROUNDING)
    assert terms["main"] == pytest.approx(overlapped * 81 / 337, rel=ROUNDING)
    assert terms["latency"] == pytest.approx(1e-3, rel=ROUNDING)


def test_power_is_a_resource():
    cost = price(Machine(), work(matrix=4e12))
    # 4 s of arithmetic; 4 J over 80 W of headroom are 0.05 s. Idle: 20 W all the time.
    expected = (4.0**4 + 0.05**4) ** 0.25
    assert cost.time == pytest.approx(expected, rel=ROUNDING)
    assert cost.energy == pytest.approx(4.0 + 20 * expected, rel=ROUNDING)


def test_a_machine_short_of_power_runs_at_its_limit():
    hungry = Machine(energy=1e-9)
    cost = price(hungry, work(matrix=4e12))
    # 4,000 J over 80 W are 50 s, against 4 s of arithmetic; so nearly 100 W all the time.
    assert cost.time == pytest.approx(50.0, rel=1e-4)
    assert cost.energy / cost.time == pytest.approx(100.0, rel=1e-4)
    assert bound(cost) == "compute"


def test_energy_never_exceeds_peak_power_times_time(precision: str):
    demand = Resources(matrix=as_values([1e12, 5e9, 1e6]), main=as_values([1e6, 1e12, 1e10]))

    @jax.jit
    def power(energy: Scalar) -> Scalar:
        cost = price(Machine(energy=energy), Work(demand, latency=1e-3, selection_sharpness=2.0))
        return cost.energy / cost.time

    for energy in (1e-14, 1e-12, 1e-10, 1e-8):
        assert power(as_scalar(energy)) <= 100.0 * (1 + ROUNDING)


def test_shares_and_occupancy_slow_what_they_belong_to():
    half = as_scalar(0.5)
    demand = Resources(matrix=as_scalar(1e9), main=as_scalar(0.0))
    slow = Work(demand, shares=Resources(matrix=half), occupancy=0.25)
    # 1 ms at the peak: half of it reached, on a quarter of the cores.
    assert price(Machine(**UNBOUND), slow).time == pytest.approx(8e-3, rel=ROUNDING)
    memory = Work(Resources(main=as_scalar(1e9)), occupancy=0.25)
    # All cores share main memory: few of them fill it.
    assert price(Machine(**UNBOUND), memory).time == pytest.approx(1e-3, rel=ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_occupancy_is_of_what_belongs_to_a_core(name: str):
    cost = price(Machine(**UNBOUND), Work(Resources(**{name: as_scalar(1e9)}), occupancy=0.5))
    on_core = name in ("matrix", "vector", "exponential", "private", "shared")
    # float32: six digits.
    assert cost.time == pytest.approx(2e-3 if on_core else 1e-3, rel=1e-6)


def test_alternatives_are_averaged_by_their_weights():
    two = Work(Resources(main=as_values([1e9, 2e9])), selection_sharpness=1.0)
    cost = price(Machine(**UNBOUND), two)
    # Weights 1/1 and 1/2, over 3/2: 2/3 of 1 ms and 1/3 of 2 ms.
    assert cost.time == pytest.approx(4e-3 / 3, rel=ROUNDING)
    assert cost.demand[NAMES.index("main")] == pytest.approx(4e9 / 3, rel=ROUNDING)


def test_a_sure_choice_takes_the_best_alternative():
    many = Work(Resources(main=as_values([3e9, 1e9, 2e9])), selection_sharpness=200.0)
    # 2^-200 of the next one is nothing; float32: six digits.
    assert price(Machine(**UNBOUND), many).time == pytest.approx(1e-3, rel=1e-6)


def test_the_mean_of_alternatives_never_undershoots_the_best():
    times = as_values([1e-6, 1.1e-6, 5e-3, 2.0])
    for choice in (0.0, 1.0, 20.0, 200.0):
        weights = choose(times, as_scalar(choice))
        assert jnp.sum(weights) == pytest.approx(1.0, rel=ROUNDING)
        assert jnp.sum(weights * times) >= jnp.min(times) * (1 - ROUNDING)


def test_nothing_to_do_costs_its_latency_alone():
    cost = price(Machine(), work(vector=0.0, latency=2e-6))
    assert cost.time == pytest.approx(2e-6, rel=ROUNDING)
    assert cost.energy == pytest.approx(20 * 2e-6, rel=ROUNDING)
    assert bound(cost) == "latency"


def test_a_tier_that_is_not_there_is_slow_but_finite(precision: str):
    def seconds(rate: Scalar) -> Scalar:
        return price(Machine(rate=rate, **UNBOUND), work(main=1e9)).time

    value, slope = jax.value_and_grad(seconds)(as_scalar(0.0))
    # 1e9 bytes at 1 byte/s; the slope leads back: -1e9 s for each byte/s.
    assert value == pytest.approx(1e9, rel=ROUNDING)
    assert slope == pytest.approx(-1e9, rel=ROUNDING)


def test_slopes_agree_with_finite_differences(precision: str):
    demand = Resources(matrix=as_values([3e12, 1e12]), main=as_values([1e12, 2e12]))

    @jax.jit
    def seconds(values: Values) -> Scalar:
        return price(Machine(*values), Work(demand, latency=0.1, selection_sharpness=3.0)).time

    at = as_values([20.0, 100.0, 1e12, 3e-11])
    # The error of a central difference is h^2 of truncation and eps / h of rounding, relative:
    # h = 1e-2 and 1e-5 of eps = 1e-7 and 1e-16; the slope of power is a few per cent of the whole.
    step, tolerance = {"float32": (1e-2, 3e-3), "float64": (1e-5, 1e-7)}[precision]
    sides = [jax.vmap(seconds)(at[None] * (1 + sign * step * jnp.eye(4))) for sign in (1, -1)]
    difference = (sides[0] - sides[1]) / (2 * step * at)
    assert jax.grad(seconds)(at) == pytest.approx(np.asarray(difference), rel=tolerance)


def test_the_seconds_of_all_terms_are_the_time():
    demand = Resources(matrix=as_values([3e12, 1e12]), main=as_values([1e12, 2e12]))
    cost = price(Machine(), Work(demand, latency=as_values([0.1, 0.7]), selection_sharpness=3.0))
    # The parts are fourth powers of rounded shares: four times the rounding.
    assert jnp.sum(cost.seconds) == pytest.approx(float(cost.time), rel=4 * ROUNDING)
    assert jnp.sum(cost.by_bound()) == pytest.approx(float(cost.time), rel=4 * ROUNDING)


def test_breakdowns_add_and_scale():
    one, two = (price(Machine(), work(main=1e9 * n, latency=1e-6)) for n in (1, 2))
    both = total([one, two, two])
    for whole, a, b in zip(*map(jax.tree.leaves, (both, one, two)), strict=True):
        assert whole == pytest.approx(np.asarray(a + 2 * b), rel=ROUNDING)
    for whole, b in zip(*map(jax.tree.leaves, (two * 2, two)), strict=True):
        assert jnp.array_equal(whole, 2 * b)


def test_nothing_costs_nothing_and_has_every_term():
    zero = total([])
    assert zero.time == zero.energy == 0
    assert (zero.seconds.size, zero.joules.size, zero.demand.size) == tuple(
        map(len, (SECONDS, JOULES, NAMES))
    )


@pytest.mark.parametrize(
    ("term", "binds"),
    [
        ("matrix", "compute"),
        ("vector", "compute"),
        ("power", "compute"),
        ("exponential", "exponential"),
        ("private", "sram"),
        ("shared", "sram"),
        ("main", "memory"),
        ("far", "memory"),
        ("latency", "latency"),
        ("network", "network"),
        ("fabric", "network"),
    ],
)
def test_every_term_binds_as_something(term: str, binds: str):
    seconds = jnp.zeros(len(SECONDS)).at[SECONDS.index(term)].set(1.0)
    zero = Breakdown.zero()
    cost = eqx.tree_at(lambda b: (b.time, b.seconds), zero, (as_scalar(1.0), seconds))
    assert bound(cost) == binds
    assert cost.by_bound()[BOUNDS.index(binds)] == 1


def test_resources_that_play_no_part_stay_out():
    some = Resources(main=as_scalar(2.0), matrix=as_scalar(1.0))
    assert [name for name, _ in some.items()] == ["matrix", "main"]
    doubled = some.map(lambda name, value: 2 * value)
    assert doubled.main == 4
    assert doubled.far is None


def test_a_chip_names_the_formats_that_it_has():
    chip = load_chip("h100-sxm")
    with pytest.raises(InputError, match=r"no matrix rate for fp4; it has .*bf16"):
        chip.rates("fp4")


def test_restricted_chips_have_the_same_formats():
    chip = restrict(load_chip("h100-sxm"), ["fp8", "bf16"])
    assert list(chip.matrix) == list(chip.matrix_energy) == ["bf16", "fp8"]
    with pytest.raises(InputError, match="no matrix rate for fp4"):
        restrict(chip, ["fp4"])


def test_a_region_has_its_share_of_the_cores_and_of_their_memory():
    chip = load_chip("wse-3")
    part = region(chip, as_scalar(0.25))
    for name in ("cores", "vector", "exponential"):
        assert getattr(part, name) == getattr(chip, name) / 4
    assert part.matrix["bf16"] == chip.matrix["bf16"] / 4
    assert part.private.capacity == chip.private.capacity / 4
    assert part.private.bandwidth == chip.private.bandwidth / 4
    assert part.private.energy == chip.private.energy
    assert part.far.bandwidth == chip.far.bandwidth
    assert part.clock == chip.clock


def test_whole_waves_leave_cores_idle():
    # 2.5 blocks for each core: three waves, counted half: 2.5 / (0.5 x 3 + 0.5 x 2.5).
    assert wave_occupancy(as_values(2.5), as_scalar(0.5), True) == pytest.approx(
        2.5 / 2.75, rel=ROUNDING
    )
    # A quarter of whole waves: 2.5 / (0.25 x 3 + 0.75 x 2.5).
    assert wave_occupancy(as_values(2.5), as_scalar(0.25), True) == pytest.approx(
        2.5 / 2.625, rel=ROUNDING
    )
    # Half a block for each core: half of them idle, however waves are counted.
    assert wave_occupancy(as_values(0.5), as_scalar(0.25), True) == pytest.approx(0.5, rel=ROUNDING)


def test_without_whole_waves_only_too_few_blocks_leave_cores_idle():
    # Half of (3 + the root of 1.01), and of (1.5 + the root of 0.26): the bend at one.
    for rounds, waves in ((2.0, (3 + 1.01**0.5) / 2), (0.5, (1.5 + 0.26**0.5) / 2)):
        found = wave_occupancy(as_values(rounds), as_scalar(0.5), False)
        assert found == pytest.approx(rounds / waves, rel=ROUNDING)


@pytest.mark.parametrize(
    ("staged", "rounds", "together"),
    [(0, 5.0, 1.0), (1, 5.0, 5.0), (1, 0.5, 1.0), (0.25, 5.0, 2.0)],
)
def test_a_scratchpad_is_filled_while_the_block_before_runs(staged, rounds, together):
    chip = eqx.tree_at(lambda c: c.shared.staged, load_chip("tpu-v6e"), as_scalar(staged))
    assert blocks_per_start(chip, as_values(rounds)) == together


@pytest.mark.parametrize(
    ("unit", "tile", "rows", "multiplied"),
    [(1, 16, 3, 3), (2, 16, 3, 4), (1, 16, 40, 16), (8, 64, 20, 24), (16, 64, 3, 64)],
)
def test_vector_units_multiply_the_rows_there_are_and_matrix_units_whole_tiles(
    unit, tile, rows, multiplied
):
    chip = dataclasses.replace(load_chip("m3-ultra"), matrix_rows=float(unit))
    assert tile_height(chip, as_values(tile), as_scalar(rows), True) == multiplied


def test_main_memory_takes_a_while_to_serve_at_its_full_rate():
    chip = eqx.tree_at(lambda c: c.main.bandwidth, load_chip("h100-sxm"), as_scalar(1.0))
    # 2 s x (1 - exp(-3 / (1 x 2 + 1))): one byte of guard.
    found = memory_fill_time(chip, as_scalar(2.0), as_values(3.0))
    assert found == pytest.approx(2 * (1 - np.exp(-1)), rel=ROUNDING)


def test_data_cross_a_square_of_cores_on_dataflow_machines_alone():
    numbers = {"cores": 16.0, "clock": 2.0}
    crossed = {}
    for name in ("wse-3", "h100-sxm"):
        chip = eqx.tree_at(
            lambda c: (c.cores, c.clock, c.efficiency.hop_cycles),
            load_chip(name),
            tuple(map(as_scalar, (*numbers.values(), 3.0))),
        )
        crossed[name] = mesh_traversal_time(chip, 5.0)
    # 5 times 3 cycles for each of the root of 16 cores, at 2 Hz.
    assert crossed == {"wse-3": 30, "h100-sxm": 0}
