"""What holds for any chip, model, plan and traffic: thousands of random cases at a time.

The smooth form, in service (nothing stays in a cache from a replay before), at a fixed clock.
"""

import functools
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import numpy as np
import pytest
from help import BETTER, H100, QUICK, WSE
from hypothesis import given, settings
from hypothesis import strategies as st
from space import CASES_PER_CALL, COMMON, FORMS, Found, Space, space

from perfmodel.breakdown import Breakdown
from perfmodel.hardware.chip import region
from perfmodel.inference.step import decode_step
from perfmodel.kernels.gemm import Gemm
from perfmodel.library.chip import load_chip
from perfmodel.resources import NAMES
from perfmodel.roofline import busy, price, spent
from perfmodel.units import as_scalar
from perfmodel.workload.model import Stack, Transformer, traced
from perfmodel.workload.plan import Plan

ROUNDING = 1e-4
"""Relative, of float32: some thousand kernels are added up."""

SLACK = 0.07
"""By how much a mean over alternatives may rise on these cases while each falls (docs/soundness.md)."""

Priced = tuple[Space, np.ndarray, Found]


def time_of(where: Space, rows: np.ndarray) -> np.ndarray:
    return np.asarray(where.price(rows).cost.time)


def everything_is_finite_and_time_is_positive(at: Priced) -> None:
    """Not slack where a field is infinite; every term is there, and none is negative."""
    _, _, found = at
    assert np.all(np.asarray(found.cost.time) > 0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))
    assert np.all(found.cost.demand >= 0) and np.all(found.cost.seconds >= 0)
    assert np.all(np.asarray(found.cost.joules) >= 0)


def terms_sum_to_the_time(at: Priced) -> None:
    cost: Breakdown = at[2].cost
    np.testing.assert_allclose(np.sum(cost.seconds, -1), cost.time, rtol=ROUNDING)


def time_is_never_below_the_roofline(at: Priced) -> None:
    where, rows, found = at
    for name, field in (("main", "main.bandwidth"), ("far", "far.bandwidth"), ("matrix", ".bf16")):
        offered = rows[:, where.where(field)[:1]] + 1.0  # one unit a second is added to every rate
        least = np.asarray(found.cost.demand)[..., NAMES.index(name)] / offered
        assert np.all(found.cost.time >= least * (1 - ROUNDING)), name


def energy_is_at_most_peak_power_times_time(at: Priced) -> None:
    where, rows, found = at
    ranks = rows[:, [where.where(name)[0] for name in ("tp", "pp", "dp")]]
    peak = rows[:, where.where("peak_power")] * np.prod(ranks, axis=1)[:, None]
    most = peak * np.asarray(found.cost.time)
    drawn = np.sum(np.asarray(found.cost.joules), -1)
    assert np.all(drawn <= most * (1 + ROUNDING)), (drawn / most).max()


def bytes_are_kept_once_and_no_tier_holds_more_than_it_can(at: Priced) -> None:
    where, rows, found = at
    kept = found.placement
    for home, size in ((kept.weights, kept.size), (kept.cache, kept.cache_size)):
        shares = sum(np.asarray(getattr(home, tier)) for tier in TIERS)
        np.testing.assert_allclose(shares, 1.0, atol=1e-3 + 1.0 / np.min(size))
    for tier in ("private", "shared", "far"):  # what finds no room at all is priced in main memory
        room = (
            rows[:, where.where(f"{tier}.capacity")[0]] * rows[:, where.where(f"{tier}.usable")[0]]
        )
        there = np.asarray(getattr(kept.weights, tier)) * kept.size
        there += np.asarray(getattr(kept.cache, tier)) * kept.cache_size
        assert np.all(there <= room * (1 + ROUNDING) + 2.0), tier


TIERS = ("private", "shared", "main", "far")


def more_hardware_is_never_slower(at: Priced) -> None:
    where, rows, found = at
    for name, words in BETTER.items():
        ratio = time_of(where, where.times(rows, 1.5, *words)) / found.cost.time
        assert np.all(ratio <= 1 + SLACK), (name, ratio.max())


BIGGER = ("batch", "context", "model.hidden", "count", "vocabulary", ".inter")


def more_work_is_never_faster(at: Priced) -> None:
    where, rows, found = at
    # More layers of a wafer are more stages, each with a smaller part of the batch.
    wafer = where.execution == "dataflow"
    for name in BIGGER if not wafer else set(BIGGER) - {"count"}:
        ratio = time_of(where, where.times(rows, 1.5, name)) / found.cost.time
        assert np.all(ratio >= 1 - SLACK), (name, ratio.min())


def merged_batches_are_never_slower_than_apart(at: Priced) -> None:
    where, rows, found = at
    batch = where.where("batch")
    other, both = rows.copy(), rows.copy()
    other[:, batch] = np.roll(rows[:, batch], 1, axis=0)
    both[:, batch] += other[:, batch]
    apart = found.cost.time[:, 0] + time_of(where, other)[:, 0]
    assert np.all(time_of(where, both)[:, 0] <= apart * (1 + SLACK))


def another_unit_of_time_changes_nothing(at: Priced) -> None:
    """In units of two seconds rates are twice as large, and all times half."""
    where, rows, found = at
    twice = time_of(where, rows * 2.0**where.powers)
    np.testing.assert_allclose(2 * twice, found.cost.time, rtol=ROUNDING)


PROPERTIES: list[Callable[[Priced], None]] = [
    everything_is_finite_and_time_is_positive,
    terms_sum_to_the_time,
    time_is_never_below_the_roofline,
    energy_is_at_most_peak_power_times_time,
    bytes_are_kept_once_and_no_tier_holds_more_than_it_can,
    more_hardware_is_never_slower,
    more_work_is_never_faster,
    merged_batches_are_never_slower_than_apart,
    another_unit_of_time_changes_nothing,
]


@functools.cache
def sample(chip: str, model: str, seed: int) -> Priced:
    where = space(chip, model)
    rows = where.draw(CASES_PER_CALL, seed)
    return where, rows, where.price(rows)


@pytest.mark.long
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda one: one.__name__)
def test_on_gpus(holds: Callable[[Priced], None]):
    holds(sample(H100, "common", 0))


MANY = settings(max_examples=9, deadline=None, derandomize=True)
"""Nine seeds of 2,048 cases for each of six forms: 110,592 cases."""


@pytest.mark.slow
@pytest.mark.parametrize(("chip", "model"), FORMS)
def test_all_of_this_holds_on_a_hundred_thousand_cases(chip: str, model: str):
    @MANY
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        where = space(chip, model)
        rows = where.draw(CASES_PER_CALL, seed)
        at = (where, rows, where.price(rows))
        for holds in PROPERTIES:
            holds(at)

    check()


def test_regions_of_a_wafer_share_its_power():
    """Found by random cases: each of 40 layers side by side drew as much as the whole wafer may."""
    chip, share = load_chip(WSE), as_scalar(1 / 40)
    part = region(chip, share)
    np.testing.assert_allclose(part.headroom, chip.headroom * share, rtol=1e-6)


@pytest.mark.long
def test_no_kernel_takes_longer_than_its_terms_one_after_the_other():
    chip = load_chip(H100)
    work = Gemm(m=as_scalar(300.0), n=as_scalar(5000.0), k=as_scalar(4000.0)).product(chip, Plan())
    terms = [np.broadcast_to(t, work.latency.shape) for _, t in busy(chip, work).items()]
    power = sum(np.asarray(j) for _, j in spent(chip, work).items()) / chip.headroom
    one_by_one = np.sum(terms, axis=0) + power + work.latency
    cost = price(chip, work)
    assert float(cost.time) <= np.max(one_by_one)
    assert float(cost.time) >= np.min(np.max(terms, axis=0) + work.latency)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def _step(model_of: Callable[[], Transformer], batch: jax.Array) -> jax.Array:
    chip = load_chip(H100)
    return decode_step(chip, Plan(tp=2.0), model_of(), batch, as_scalar(3000.0)).time


def _in_order() -> Transformer:
    return traced(COMMON)


def _turned() -> Transformer:
    """The layers in another order, the first kind in two parts."""
    first, second = COMMON.stacks
    stacks = (Stack(first.layer, 7), second, Stack(first.layer, first.count - 7))
    return traced(eqx.tree_at(lambda m: m.stacks, COMMON, stacks))


@pytest.mark.slow
def test_the_order_of_layers_changes_nothing():
    batch = as_scalar(24.0)
    np.testing.assert_allclose(_step(_turned, batch), _step(_in_order, batch), rtol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize(("chip", "model"), FORMS[:3])
def test_cases_together_cost_what_each_costs_alone_compiled_or_not(chip: str, model: str):
    where, rows, found = sample(chip, model, 1)
    for i in (0, 7):
        alone = where.one(jax.numpy.asarray(rows[i], dtype=float)).cost.time
        np.testing.assert_allclose(alone, found.cost.time[i], rtol=ROUNDING)


@pytest.fixture
def double() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.slow
@pytest.mark.parametrize(("chip", "model"), FORMS)
def test_single_precision_is_within_a_ten_thousandth_of_double(chip: str, model: str):
    where = space(chip, model)
    rows = where.draw(CASES_PER_CALL, 2).astype(np.float32).astype(np.float64)
    single = time_of(where, rows)
    jax.config.update("jax_enable_x64", True)
    try:
        twice = time_of(space(chip, model), rows)
    finally:
        jax.config.update("jax_enable_x64", False)
    np.testing.assert_allclose(single, twice, rtol=1e-4)


COUNTED = ("tp", "pp", "ep", "dp", "scale_up.size")
"""Chips are whole; a step has a bend where one chip becomes two, and where a domain is full. So it has
where a text is of one token, the least."""


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("chip", "model"), FORMS)
def test_slopes_are_finite_and_those_of_finite_differences(chip: str, model: str):
    """Along a random way through all numbers at once; where both sides differ, there is a kink."""
    where, step = space(chip, model), 1e-7
    rows = where.draw(CASES_PER_CALL, 3)
    ways = np.random.default_rng(4).normal(size=rows.shape)
    ways[:, where.where(*COUNTED)] = 0.0
    ways[:, where.where("context")] *= rows[:, where.where("context")] > 1
    here, slope = where.push(rows, ways)
    assert np.all(np.isfinite(slope))
    ahead, behind = (np.log(time_of(where, rows * np.exp(s * ways))) for s in (step, -step))
    right, left = (ahead - here) / step, (here - behind) / step
    smooth = np.abs(right - left) < 1e-2 * np.abs(slope) + 1e-3
    assert np.mean(smooth) > 0.9
    off = np.abs((right + left) / 2 - slope)[smooth]
    assert np.all(off <= 5e-3 * np.abs(slope[smooth]) + 1e-3), off.max()
