"""The derivative of every time by every field of a chip, against finite differences."""

import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
from help import CHIPS, H100, KERNELS, LPU, WSE, elsewhere, kernels, steps, subject, without

STEP = 1e-4
"""Relative: its square, times third derivatives of some hundred, is below `CLOSE`."""

CLOSE = 1e-4
"""Relative to a finite difference in float64."""

LEAST = 1e-7
"""Of an elasticity: what its truncation error hides, 1e-4 squared times ten."""

SINGLE = 2e-3
"""Of an elasticity in float32: some hundred operations and a choice of power 20 to 200, at 6e-8 each."""

PRICED = {"kernels": (kernels, list(KERNELS)), "steps": (steps, ["decode", "prefill"])}


@pytest.fixture(autouse=True)
def _back_to_single() -> Iterator[None]:
    yield
    jax.config.update("jax_enable_x64", False)


@functools.cache
def elasticities(name: str, what: Callable, double: bool) -> np.ndarray:
    """Of each time by each field, by forward mode: what is priced, field."""
    jax.config.update("jax_enable_x64", double)
    chip = subject(name, what)
    times = np.asarray(chip.costs(chip.values[None]).time)[0]
    known = np.where(np.isfinite(chip.values), chip.values, 0.0)
    return chip.gradients(chip.values[None])[0] * known / times[:, None]


@functools.cache
def differences(name: str, what: Callable) -> np.ndarray:
    """The same by central finite differences in float64."""
    jax.config.update("jax_enable_x64", True)
    chip = subject(name, what)
    moved = np.exp(STEP * np.eye(len(chip.values)))
    up, down = (np.log(np.asarray(chip.costs(chip.values * m).time)) for m in (moved, 1 / moved))
    return ((up - down) / (2 * STEP)).T


def agree(name: str, kind: str) -> None:
    what, labels = PRICED[kind]
    found, wanted = elasticities(name, what, True), differences(name, what)
    wrong = ~(np.abs(found - wanted) <= CLOSE * np.abs(wanted) + LEAST)
    names = subject(name, what).names
    assert not wrong.any(), [
        (labels[i], names[j], found[i, j], wanted[i, j])
        for i, j in zip(*wrong.nonzero(), strict=True)
    ]
    # Where a field has no slope, it plays no part: what is left is rounding of 1e-16 over `STEP`.
    assert np.all(np.abs(wanted[found == 0]) < 1e-9)


def agree_in_single(name: str, kind: str) -> None:
    what, _ = PRICED[kind]
    np.testing.assert_allclose(
        elasticities(name, what, False), differences(name, what), rtol=0, atol=SINGLE
    )


@pytest.mark.slow
def test_kernels_on_a_gpu_have_the_slopes_of_finite_differences():
    agree(H100, "kernels")


@pytest.mark.slow
def test_kernels_on_a_gpu_have_these_slopes_in_single_precision():
    agree_in_single(H100, "kernels")


TIERS = [
    (t, f) for t in ("private", "shared", "main", "far") for f in (("capacity",), ("bandwidth",))
]


@pytest.mark.slow
def test_a_tier_that_is_not_there_is_slow_but_never_a_nan():
    base = subject(H100, kernels)
    absent = [without(base, t, *f) for t, f in TIERS]
    absent += [
        without(base, t, "capacity", "bandwidth") for t in ("private", "shared", "main", "far")
    ]
    time = np.asarray(base.costs(np.stack(absent)).time)
    assert np.all(np.isfinite(time)) and np.all(time > 0)
    assert np.all(np.isfinite(base.gradients(np.stack(absent))))


@pytest.mark.long
def test_slopes_are_finite_all_over_the_space():
    base = subject(H100, kernels)
    assert np.all(np.isfinite(base.gradients(elsewhere(base, 16, 1))))


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [H100, *(pytest.param(name, marks=pytest.mark.slow) for name in (LPU, WSE))]
)
def test_a_whole_step_has_the_slopes_of_finite_differences(name: str):
    agree(name, "steps")


@pytest.mark.slow
@pytest.mark.parametrize("name", [LPU, WSE])
def test_kernels_on_machines_of_sram_have_the_slopes_of_finite_differences(name: str):
    agree(name, "kernels")
    agree_in_single(name, "kernels")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHIPS)
def test_a_whole_step_has_these_slopes_in_single_precision(name: str):
    agree_in_single(name, "steps")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHIPS)
def test_reverse_mode_gives_the_slopes_of_forward_mode(name: str):
    jax.config.update("jax_enable_x64", True)
    chip = subject(name, steps)
    values = jax.numpy.asarray(chip.values)
    decode = jax.jit(jax.grad(lambda x: chip.one(x, jax.numpy.ones(())).time[0]))(values)
    wanted = chip.gradients(chip.values[None])[0, 0]
    known = np.where(np.isfinite(chip.values), chip.values, 0.0)
    # Elasticities but for the time: of a step of milliseconds, terms that cancel leave 1e-16 of it.
    found, wanted = np.asarray(decode) * known, wanted * known
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-14)
