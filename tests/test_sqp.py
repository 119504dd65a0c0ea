"""Each step of the optimiser by hand: what a start knows, proposes, takes, learns, and when it rests."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.design import sqp
from perfmodel.design.abstract_problem import (
    AbstractProblem,
    Choice,
    Linearisation,
    evaluate,
    linearise,
    point,
)
from perfmodel.design.qp import QuadraticProgram, _advanced, _step_length, _symmetric_solve, solve
from perfmodel.design.sqp import (
    RESULTS,
    Proposal,
    SQPState,
    init,
    relinearise,
    result,
    step,
    terminated,
)
from perfmodel.design.starting_points import start_at
from perfmodel.units import Scalar, Values, as_scalar, as_values


class Valley(AbstractProblem):
    """$(x_0 - 3)^2 + 2 s (x_1 - 1)^2$, $s$ the sharpness; x from 1 to 3 and 0 to 2; $x_0 + x_1$ at most 4."""

    low: Values
    high: Values
    options: tuple[int, ...] = eqx.field(static=True, default=(1,))

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        first = jnp.square(x[0] - 3) + 2 * sharpness * jnp.square(x[1] - 1)
        return jnp.stack([first, 5 - x[0]])

    def static_constraints(self, x: Values, choice: Choice) -> Values:
        return (4 - jnp.sum(x))[None]


VALLEY = Valley(as_values([1.0, 0.0]), as_values([3.0, 2.0]))
NO_CHOICE = np.zeros((1, 1), int)


def states(unit: list[float], shift: float = 0.0, sharp: float = 1.0) -> SQPState:
    start = start_at(np.array([unit]), NO_CHOICE)
    return init(VALLEY, start._replace(shift=start.shift + shift), as_scalar(sharp))


def test_a_point_of_the_box_lies_between_its_ends():
    assert point(VALLEY, as_values([0.25, 0.5])).tolist() == [1.5, 1.0]


def test_a_look_has_the_slopes_of_value_and_slacks_by_the_unit_coordinates():
    # x = (1.5, 0.5): value 1.5^2 + 2 * 0.5^2; slacks 5 - 1.5 and 4 - 2; slopes twice those by x.
    unit = as_values([0.25, 0.25])
    seen = linearise(VALLEY, unit, jnp.zeros(1, int), as_scalar(1.0))
    assert float(seen.value) == pytest.approx(2.75)
    assert seen.constraints.tolist() == pytest.approx([3.5, 2.0])
    assert seen.gradient.tolist() == pytest.approx([-6.0, -4.0])
    assert seen.jacobian.tolist() == [[-2.0, 0.0], [-2.0, -2.0]]
    alone, slack = evaluate(VALLEY, unit, jnp.zeros(1, int), as_scalar(1.0))
    assert float(alone) == pytest.approx(2.75) and slack.tolist() == pytest.approx([3.5, 2.0])


def test_a_start_begins_with_a_fifth_of_the_range_and_knows_nothing():
    now = states([0.25, 0.25], shift=0.5)
    assert now.radius.tolist() == pytest.approx([0.2])
    assert now.hessian.tolist() == [[[1.0, 0.0], [0.0, 1.0]]]
    assert now.multipliers.tolist() == [[0.0, 0.0]] and now.penalty.tolist() == [[1.0, 1.0]]
    assert np.isinf(now.predicted_decrease).all() and now.best.tolist() == now.unit.tolist()
    assert now.linearisation.constraints.tolist() == [pytest.approx([3.0, 1.5])]  # after the shift
    assert now.best_value.tolist() == pytest.approx([2.75])


def test_a_start_that_breaks_a_limit_has_no_value_yet():
    assert np.isinf(states([0.25, 0.25], shift=2.5).best_value).all()


def seen(values: float, slack: list[float], gradient: list[float] | None = None) -> Linearisation:
    """A linearisation with slopes of two limits."""
    slopes = [[[1.0, 0.0], [0.0, -1.0]]]
    return Linearisation(*map(as_values, ([values], [gradient or [2.0, 0.0]], [slack], slopes)))


@pytest.mark.parametrize(("short", "kept"), [(0.9e-4, True), (1e-4, False), (1.1e-4, False)])
def test_a_limit_broken_by_less_than_a_ten_thousandth_counts_as_kept(short: float, kept: bool):
    assert bool(sqp.is_feasible(seen(1.0, [1.0, -short]))[0]) is kept
    assert not sqp.is_feasible(seen(np.nan, [1.0, 1.0]))[0]


def state(**changes: Any) -> SQPState:
    """A start at (0.5, 0.5) that breaks its first limit by a half."""
    now = states([0.5, 0.5], shift=9.0)._replace(linearisation=seen(1.0, [-0.5, 0.3]))
    return now._replace(**{name: as_values(change) for name, change in changes.items()})


def test_a_look_again_keeps_the_model_and_takes_the_sharper_value():
    soft = states([0.5, 0.25], sharp=0.5)._replace(
        hessian=2 * jnp.eye(2)[None], multipliers=as_values([[0.5, 0.25]]), radius=as_values([0.01])
    )
    again = relinearise(VALLEY, soft, as_scalar(1.0))
    assert soft.linearisation.value.tolist() == pytest.approx([1.25])
    assert again.linearisation.value.tolist() == pytest.approx([1.5])
    assert again.hessian.tolist() == [[[2.0, 0.0], [0.0, 2.0]]]
    assert again.multipliers.tolist() == [[0.5, 0.25]] and again.radius.tolist() == pytest.approx(
        [0.2]
    )


RESTING = [(1e-4, 1.0, True), (2e-4, 1.0, False), (0.1, 2e-7, True), (0.1, 4e-7, False)]


@pytest.mark.parametrize(("radius", "hoped", "resting"), RESTING)
def test_a_start_rests_where_its_radius_or_its_hope_is_small(
    radius: float, hoped: float, resting: bool
):
    now = state(radius=[radius], predicted_decrease=[hoped])
    assert bool(terminated(now)[0]) is resting
    ended = RESULTS.converged if hoped < 3e-7 else RESULTS.stalled
    assert bool((result(now) == (ended if resting else RESULTS.running))[0])
    assert bool(terminated(now, 1e-3)[0]) is (resting or hoped < 1e-3)


PROPOSED = [
    # Slope 2, curvature 1: the best step is -2; the radius, its least, or the end of the box stops it.
    ({"radius": [0.2]}, -0.2),
    ({"radius": [1e-6]}, -2e-4),
    ({"radius": [0.2], "unit": [[0.1, 0.5]]}, -0.1),
    ({"radius": [0.2], "hessian": [[[20.0, 0.0], [0.0, 20.0]]]}, -0.1),
    ({"radius": [0.2], "low": [[0.5, 0.0]], "high": [[0.5, 1.0]]}, 0.0),
]


@pytest.mark.parametrize(("changes", "step"), PROPOSED)
def test_a_step_goes_as_far_as_radius_and_box_allow(changes: dict, step: float):
    now = state(**changes)._replace(linearisation=seen(1.0, [9.0, 9.0]))
    found = sqp.propose(now)
    assert found.step[0].tolist() == pytest.approx([step, 0.0], abs=1e-6)
    assert found.unit[0].tolist() == pytest.approx([float(now.unit[0, 0]) + step, 0.5], abs=1e-6)
    curvature = float(now.hessian[0, 0, 0])
    assert float(found.value[0]) == pytest.approx(2 * step + 0.5 * curvature * step**2, abs=1e-6)
    assert found.constraints[0].tolist() == pytest.approx([9.0 + step, 9.0], abs=1e-6)
    assert found.multipliers[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-4)


def test_a_step_up_stops_at_the_upper_end_of_the_box():
    now = state(unit=[[0.95, 0.5]])._replace(linearisation=seen(1.0, [9.0, 9.0], [-2.0, 0.0]))
    assert sqp.propose(now).unit[0].tolist() == pytest.approx([1.0, 0.5], abs=1e-6)


def proposal(
    step: list[float], multipliers: list[float], value: float, constraints: list[float]
) -> Proposal:
    """A step from (0.5, 0.5)."""
    unit = [0.5 + part for part in step]
    return Proposal(*map(as_values, ([step], [unit], [multipliers], [value], [constraints])))


def judged(after: float, length: float = 0.2, **changes: Any) -> SQPState:
    """A step of which 2.8 was hoped: prices of 3 and 100 weigh limits by 6 and by 100, the most there is.

    Before it 1 + 6 * 0.5 = 4; the model says -0.4 of the value and -0.1 of the first limit:
    4 - (1 - 0.4 + 6 * 0.1) = 2.8 less. After it `after`, of which 1.2 is a limit broken by 0.2.
    """
    now = state(multipliers=[[3.0, 100.0]], **changes)
    tried = proposal([length, 0.0], [3.0, 200.0], -0.4, [-0.1, 0.2])
    return sqp.accept(now, tried, seen(after - 1.2, [-0.2, 0.1]))


def test_limits_are_weighed_by_twice_their_price_and_a_step_by_what_was_hoped():
    now = judged(4 - 0.5 * 2.8)
    assert now.penalty[0].tolist() == [6.0, 100.0] and now.multipliers[0].tolist() == [3.0, 100.0]
    assert now.predicted_decrease.tolist() == pytest.approx([2.8])
    assert now.unit[0].tolist() == pytest.approx([0.7, 0.5])
    assert np.isinf(now.best_value).all()  # a limit is still broken


RADII = [
    # Share of what was hoped, length of the step, radius before; radius after.
    (0.8, 0.2, 0.2, 0.4),
    (0.8, 0.15, 0.2, 0.2),
    (0.7, 0.2, 0.2, 0.2),
    (0.3, 0.2, 0.2, 0.2),
    (0.2, 0.2, 0.2, 0.08),
    (0.2, 0.1, 0.2, 0.04),
    (-0.1, 0.2, 0.1, 0.04),
    (0.8, 0.4, 0.4, 0.5),
]


@pytest.mark.parametrize(("share", "length", "before", "after"), RADII)
def test_the_radius_follows_how_good_the_model_is(
    share: float, length: float, before: float, after: float
):
    now = judged(4 - share * 2.8, length, radius=[before])
    assert now.radius.tolist() == pytest.approx([after])
    moved = 0.5 + (length if share > 0 else 0.0)
    assert now.unit[0].tolist() == pytest.approx([moved, 0.5])


def settling(prices: list[float], **changes: Any) -> SQPState:
    """A step that promises nothing, at a point that keeps its limits."""
    now = state(multipliers=[prices], **changes)._replace(linearisation=seen(1.0, [0.5, 0.5]))
    still = proposal([0.0, 0.0], [0.05, 0.0], 0.0, [0.5, 0.5])
    return sqp.accept(now, still, now.linearisation)


def test_a_start_with_nothing_to_win_comes_to_rest_once_its_prices_do():
    still = settling([0.05, 0.0])
    assert still.radius.tolist() == [0.0] and still.predicted_decrease.tolist() == [0.0]
    moving = settling([0.2, 0.0])  # 0.15 of a price moves a limit by 1.5e-4
    assert (
        moving.radius.tolist() == pytest.approx([8e-4])
        and np.isinf(moving.predicted_decrease).all()
    )
    assert moving.multipliers[0].tolist() == pytest.approx([0.05, 0.0])
    nearly = settling([0.14, 0.0])  # 0.09: by 0.9e-4
    assert nearly.radius.tolist() == [0.0]


def test_a_step_to_where_there_is_no_slope_is_not_taken():
    now = state()
    tried = proposal([0.1, 0.0], [0.0, 0.0], -0.4, [0.1, 0.2])
    after = sqp.accept(now, tried, seen(0.0, [1.0, 1.0], [np.nan, 0.0]))
    assert after.unit.tolist() == now.unit.tolist() and np.isinf(after.best_value).all()
    assert after.radius.tolist() == pytest.approx([0.04])
    assert after.hessian.tolist() == now.hessian.tolist()


def test_the_best_place_is_the_lowest_that_keeps_every_limit():
    now = state(best_value=[0.5])
    tried = proposal([0.1, 0.0], [0.0, 0.0], -0.4, [0.1, 0.2])
    for found, best in ((0.4, 0.4), (0.6, 0.5)):
        after = sqp.accept(now, tried, seen(found, [0.1, 0.1]))
        assert after.best_value.tolist() == pytest.approx([best])
        assert (after.best[0, 0] == tried.unit[0, 0]) == (found < 0.5)


def learnt(gradient: list[float], prices: tuple[float, float] = (0.0, 0.0), length: float = 0.5):
    """The model of curvature 1 after a step of `length` along the first variable, from a gradient of 0."""
    old = state()._replace(linearisation=seen(1.0, [1.0, 1.0], [1e-30, 0.0]))
    one = jax.tree.map(lambda leaf: leaf[0], old)
    new = jax.tree.map(lambda leaf: leaf[0], seen(1.0, [1.0, 1.0], gradient))
    new = new._replace(jacobian=one.linearisation.jacobian + jnp.array([[0.0, 0.0], [1.0, 0.0]]))
    trial = one.unit + jnp.array([length, 0.0])
    return np.asarray(sqp._bfgs_update(one, trial, as_values(list(prices)), new))


def test_the_quadratic_model_learns_the_curvature_that_it_saw():
    # I - e1 e1' + y y' / (d y) with d = (0.5, 0), y = (1, 0.5).
    assert learnt([1.0, 0.5]) == pytest.approx(np.array([[2.0, 1.0], [1.0, 1.5]]))
    # The second limit's slope grew by (1, 0), at a price of 0.5: y = (0.5, 0.5).
    assert learnt([1.0, 0.5], (0.0, 0.5)) == pytest.approx(np.array([[1.0, 1.0], [1.0, 2.0]]))


def test_a_curvature_that_falls_is_damped_to_a_fifth():
    # d y = -0.5 where 0.25 was expected: y becomes 4/15 (-1, 0) + 11/15 (0.5, 0) = (0.1, 0).
    assert learnt([-1.0, 0.0]) == pytest.approx(np.array([[0.2, 0.0], [0.0, 1.0]]))
    # 0.2 * 0.25 = 0.05 is not yet damped; 0.04 is.
    assert learnt([0.11, 0.0])[0, 0] == pytest.approx(0.22, rel=1e-4)
    assert learnt([0.08, 0.0])[0, 0] == pytest.approx(0.2, rel=1e-4)


def test_no_step_teaches_nothing():
    assert learnt([1.0, 0.5], length=0.0) == pytest.approx(np.eye(2))
    assert learnt([1.0, 0.5], length=1e-7) == pytest.approx(np.eye(2))


def test_two_steps_walk_down_the_valley():
    now = states([0.25, 0.25])
    for _ in range(2):
        now = step(VALLEY, now, as_scalar(1.0))
    assert float(now.linearisation.value[0]) < 1.5 and float(now.best_value[0]) == float(
        now.linearisation.value[0]
    )


def solved(**changes: Any) -> tuple[np.ndarray, np.ndarray]:
    """min d^2 - 2 d where d <= 0.5, softly, and -1 <= d <= 1."""
    given = {"hessian": [[2.0]], "gradient": [-2.0], "jacobian": [[-1.0]], "constraints": [0.5]}
    given |= {"multipliers": [0.0], "low": [-1.0], "high": [1.0]} | changes
    d, prices = jax.jit(solve)(QuadraticProgram(**{n: as_values(v) for n, v in given.items()}))
    return np.asarray(d), np.asarray(prices)


PROGRAMS = [
    # 2 d - 2 + z = 0 and d = 0.5 + 0.001 (z - z0).
    ({}, 0.5 + 1e-3 / 1.002, 1 / 1.002),
    ({"multipliers": [0.5]}, 0.5 + 1e-3 * (1.001 / 1.002 - 0.5), 1.001 / 1.002),
    ({"constraints": [2.0]}, 1.0, 0.0),
    ({"high": [0.25]}, 0.25, 0.0),
    ({"gradient": [2.0], "constraints": [9.0], "low": [-0.125]}, -0.125, 0.0),
    ({"hessian": [[8.0]], "constraints": [9.0]}, 0.25, 0.0),
]


@pytest.mark.parametrize(("changes", "d", "price"), PROGRAMS)
def test_a_program_is_solved_as_by_hand(changes: dict, d: float, price: float):
    found, prices = solved(**changes)
    assert found[0] == pytest.approx(d, abs=2e-5)
    assert prices[0] == pytest.approx(price, abs=2e-4)


def test_a_step_stays_short_of_the_nearest_bound():
    longest = [
        float(_step_length(jnp.array([1.0, 2.0]), jnp.array(c))) for c in ([-2.0, -1.0], [1.0, 3.0])
    ]
    assert longest == pytest.approx([0.475, 1.0])
    assert float(_step_length(jnp.array([1.0]), jnp.array([-0.5]))) == 1.0
    assert float(_step_length(jnp.array([1.0]), jnp.array([0.0]))) == 1.0
    on = _advanced(jnp.array([1.0, 1.0]), jnp.array([-2.0, 0.5]), as_scalar(1.0))
    assert on.tolist() == pytest.approx([1e-12, 1.5])


def test_a_symmetric_system_is_solved_whatever_its_scale():
    matrix = jnp.array([[4.0, 1.0], [1.0, 3.0]])
    assert _symmetric_solve(matrix, jnp.array([1.0, 2.0])).tolist() == pytest.approx(
        [1 / 11, 7 / 11], rel=1e-4
    )
    assert _symmetric_solve(1e6 * matrix, jnp.array([1.0, 2.0])).tolist() == pytest.approx(
        [1e-6 / 11, 7e-6 / 11], rel=1e-4
    )
