"""Where starts begin, how numbers are rounded and moved, when a search is over: each step by hand."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc

from perfmodel.design import abstract_problem, integers, sqp
from perfmodel.design.abstract_problem import (
    AbstractProblem,
    Choice,
    evaluate_all,
    integer_bounds,
    merit,
    unit_coordinates,
    variable_values,
)
from perfmodel.design.integers import _neighbours as moves_beside
from perfmodel.design.integers import merits_of
from perfmodel.design.multistart import (
    LocalOptimum,
    MultiStart,
    Termination,
    finite_by_value,
    search,
)
from perfmodel.design.reoptimise import reoptimise
from perfmodel.design.sqp import SQPState, init
from perfmodel.design.starting_points import (
    grid_best,
    perturbed_starts,
    sampled_starts,
    single_changes,
    start_at,
)
from perfmodel.design.state import SearchState, archive, best_value, integer_designs, integers_fixed
from perfmodel.design.study import OptimiserTable
from perfmodel.units import Scalar, Values, as_scalar, as_values


class Bowl(AbstractProblem):
    """Squares of the distance to `middle` in the variables themselves, which are logarithms here; a limit on
    their sum; each choice costs its place.
    """

    low: Values
    high: Values
    middle: Values
    options: tuple[int, ...] = eqx.field(static=True, default=(1,))
    most: float = eqx.field(static=True, default=100.0)

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        away = jnp.sum(jnp.square(jnp.exp(x) - self.middle))
        return (away + jnp.sum(choice).astype(x.dtype))[None]

    def static_constraints(self, x: Values, choice: Choice) -> Values:
        return (self.most - jnp.sum(jnp.exp(x)))[None]


def bowl(middle: list[float], most: float = 100.0, options: tuple[int, ...] = (1,)) -> Bowl:
    """Over numbers from 1 to 64."""
    size = len(middle)
    low, high = as_values(np.zeros(size)), as_values(np.full(size, np.log(64)))
    return Bowl(low=low, high=high, middle=as_values(middle), options=options, most=most)


def sqp_states(problem: Bowl, here: list[list[float]]) -> SQPState:
    unit = unit_coordinates(problem, np.array(here))
    return init(problem, start_at(unit, np.zeros((len(here), 1), int)), as_scalar(1.0))


def test_points_are_evaluated_in_batches_and_none_is_lost():
    problem = bowl([3.0, 5.0], most=9.0)
    tried = np.array([[2.0, 4.0], [3.0, 5.0], [4.0, 8.0], [1.0, 1.0], [8.0, 8.0]])
    value, slack = evaluate_all(
        problem, unit_coordinates(problem, tried), np.zeros((5, 1), int), batch=2
    )
    assert value == pytest.approx([2, 0, 10, 20, 34], rel=1e-4, abs=1e-4)
    assert slack[:, 0] == pytest.approx([3, 1, -3, 7, -7], rel=1e-4)


def test_merit_adds_ten_times_what_is_broken():
    value, slack = np.array([1.0, np.nan]), np.array([[-0.2, 0.3], [0.1, 0.1]])
    assert merit(value, slack).tolist() == [3.0, np.inf]
    assert merit(value, slack, np.array([1.0, 5.0]))[0] == pytest.approx(1.2)


def test_numbers_and_coordinates_are_each_others_inverse():
    problem = bowl([1.0, 1.0])
    assert variable_values(problem, np.array([[1 / 3, 0.5]])) == pytest.approx(
        np.array([[4.0, 8.0]])
    )
    assert unit_coordinates(problem, np.array([4.0, 8.0])) == pytest.approx([1 / 3, 0.5])


def test_whole_bounds_lie_within_and_forgive_single_precision():
    low, high = np.log([0.3, 1.00005, 1.9]), np.log([2.7, 7.99995, 9.0])
    problem = Bowl(low=as_values(low), high=as_values(high), middle=as_values([1.0] * 3))
    least, most = integer_bounds(problem)
    assert least.tolist() == [1.0, 1.0, 2.0] and most.tolist() == [2.0, 8.0, 9.0]


def test_starts_are_the_best_of_sixteen_points_each():
    problem, none = bowl([3.0, 5.0]), np.zeros((32, 1), int)
    sequence = qmc.Sobol(2, rng=np.random.default_rng(3))
    for wave in (0, 1):
        points = sequence.random(32)
        value = evaluate_all(problem, points, none)[0]
        unit, choice = sampled_starts(problem, 2, 3, wave)
        assert unit == pytest.approx(points[np.argsort(value)[:2]])
        assert choice.tolist() == [[0], [0]]


def test_points_of_later_waves_take_choices_in_turn():
    problem = bowl([3.0], options=(7,))
    # Of wave 4, two starts: from the fourth choice on, by twos; the choice that costs less wins.
    assert sorted(sampled_starts(problem, 2, 0, 4)[1][:, 0].tolist()) == [4, 4]
    assert sorted(sampled_starts(problem, 2, 0, 6)[1][:, 0].tolist()) == [0, 0]


class Dice(np.random.Generator):
    """Random numbers that are known: hops as short, or as long, as they come, upwards."""

    def __init__(self, size: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.size = size

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return np.full(size, self.size)

    def normal(self, *_: Any, size: Any = None, **__: Any) -> Any:
        return np.ones(size)


@pytest.mark.parametrize(("size", "hop"), [(0.0, 0.03), (0.5, 0.015**0.5), (1.0, 0.5)])
def test_starts_beside_a_design_change_one_choice_and_then_hop(size: float, hop: float):
    here, choice = np.array([0.1, 0.7]), np.array([0, 1])
    unit, choices = perturbed_starts(here, choice, (2, 2), np.arange(4), Dice(size))
    assert choices.tolist() == [[1, 1], [0, 0], [0, 1], [0, 1]]
    assert unit[:2].tolist() == [[0.1, 0.7]] * 2
    assert unit[2:] == pytest.approx(np.array([[0.1 + hop, min(0.7 + hop, 1.0)]] * 2))


def test_neighbours_of_a_choice_differ_in_one_place():
    assert single_changes(np.array([0, 1]), (2, 3)).tolist() == [[1, 1], [0, 0], [0, 2]]
    assert single_changes(np.array([0]), (1,)).shape == (0, 1)


@pytest.mark.parametrize(("size", "points"), [(1, 20_736), (4, 20_736), (5, 16_384)])
def test_a_grid_has_twelve_to_the_fourth_points_or_a_sequence_takes_its_place(
    size: int, points: int
):
    problem = bowl([3.0] * size)
    value, count = grid_best(problem, np.ones(size, bool), 1e-4)
    assert count == points and value == pytest.approx(0.0, abs=1e-6 if size < 5 else 2.1)


def test_a_point_of_a_grid_counts_that_breaks_a_limit_by_less_than_is_allowed():
    problem = bowl([3.0], most=2.5)
    assert grid_best(problem, np.ones(1, bool), 0.4)[0] == pytest.approx(1.0, abs=1e-5)
    assert grid_best(problem, np.ones(1, bool), 0.6)[0] == pytest.approx(0.0, abs=1e-5)
    assert np.isinf(grid_best(bowl([3.0], most=0.5), np.ones(1, bool), 0.1)[0])


def test_ways_to_move_are_all_or_as_many_as_there_is_place_for():
    integer = np.array([True, False, True])
    every = integers.integer_moves(integer, (-1, 0, 1), 9)
    assert every.shape == (9, 3) and not every[:, 1].any()
    assert len(np.unique(every, axis=0)) == 9 and every.min() == -1 and every.max() == 1
    some = integers.integer_moves(integer, (0, 1), 3)
    assert some.shape == (3, 3) and set(np.unique(some)) <= {0.0, 1.0}
    many = integers.integer_moves(np.ones(9, bool), (-1, 0, 1), 200)
    assert set(np.unique(many)) == {-1.0, 0.0, 1.0}


def test_small_numbers_go_to_the_whole_ones_around_them_and_large_ones_wait():
    problem = bowl([1.0, 1.0])
    now, integer = sqp_states(problem, [[2.6, 25.3]]), np.array([True, True])
    moves, fixed = integers._roundings(problem, now, integer, every=False)
    assert fixed.tolist() == [[True, False]]
    ends = np.unique(
        variable_values(problem, np.asarray(now.unit)[:, None] + moves)[0].round(3), axis=0
    )
    assert ends.tolist() == [[2.0, 25.3], [3.0, 25.3]]
    moves, fixed = integers._roundings(problem, now, integer, every=True)
    ends = variable_values(problem, np.asarray(now.unit)[:, None] + moves)[0].round(3)
    assert sorted(map(tuple, ends)) == [(2, 25), (2, 26), (3, 25), (3, 26)] and fixed.all()


@pytest.mark.parametrize(("here", "small"), [(19.9, True), (20.1, False)])
def test_twenty_is_where_large_numbers_begin(here: float, small: bool):
    problem, integer = bowl([1.0]), np.array([True])
    assert (
        integers._roundings(problem, sqp_states(problem, [[here]]), integer, every=False)[1][0, 0]
        == small
    )


def test_a_whole_number_stays_as_single_precision_has_it():
    problem = bowl([1.0])
    moves = integers._roundings(
        problem, sqp_states(problem, [[2.99995]]), np.array([True]), every=True
    )[0]
    ends = variable_values(
        problem, np.asarray(sqp_states(problem, [[2.99995]]).unit)[:, None] + moves
    )[0, :, 0]
    assert sorted(ends.round(3)) == [3.0, 4.0]
    edge = integers._roundings(
        problem, sqp_states(problem, [[64.0]]), np.array([True]), every=True
    )[0]
    assert edge == pytest.approx(np.zeros_like(edge), abs=1e-6)


def model(**changes: Any) -> SQPState:
    """A start at (0.5, 0.5) of value 1 with curvatures 1 and 0.5 across, and a limit that nothing reaches."""
    now = sqp_states(bowl([1.0, 1.0]), [[8.0, 8.0]])
    given = {"value": [1.0], "gradient": [[0.0, 0.0]], "constraints": [[9.0]]}
    given |= {"jacobian": [[[0.0, 0.0]]]}
    seen = now.linearisation._replace(**{n: as_values(v) for n, v in (given | changes).items()})
    return now._replace(linearisation=seen, hessian=as_values([[[1.0, 0.5], [0.5, 1.0]]]))


PROMISED = [
    # 1 + 0.005 and the other follows by -0.05: -0.0025 + 0.00125.
    ({}, 0.1, -0.05, 1.00375),
    # A slope of (1, 0): 0.1 more. A slope of (0, 1): the other goes as far as the model is believed.
    ({"gradient": [[1.0, 0.0]]}, 0.1, -0.05, 1.10375),
    ({"gradient": [[0.0, 1.0]]}, 0.1, -0.3, 1.005 - 0.3 * 1.05 + 0.045),
    ({"gradient": [[0.0, -1.0]]}, 0.1, 0.3, 1.005 - 0.3 * 0.95 + 0.045),
    # A limit of 0.05 that the move breaks by as much costs ten times that; one that both may mend, less.
    ({"constraints": [[0.05]], "jacobian": [[[-1.0, 0.0]]]}, 0.1, -0.05, 1.00375 + 10 * 0.05),
]


@pytest.mark.parametrize(("changes", "move", "follows", "hoped"), PROMISED)
def test_what_a_way_promises_is_the_quadratic_model_with_the_rest_adapted(
    changes: dict, move: float, follows: float, hoped: float
):
    fixed = np.array([[True, False]])
    goal, found = integers.predict(model(**changes), np.array([[move, 0.0]]), fixed)
    assert goal[0] == pytest.approx([0.5 + move, 0.5 + follows], abs=1e-4)
    assert found[0] == pytest.approx(hoped, abs=1e-4)


def test_places_that_are_the_same_are_tried_once_and_the_most_promising_first():
    points = np.array([[0.1], [0.1], [0.2], [0.10004], [0.3]])
    hoped = np.array([3.0, 3.0, 1.0, 3.0, np.nan])
    order = integers.distinct(hoped, points, np.zeros((5, 1), int))
    assert points[order, 0].tolist() == [0.2, 0.1, 0.3]


def test_rounded_starts_are_fixed_where_they_are_best():
    problem, integer = bowl([2.6, 30.4]), np.array([True, True])
    first, tried = integers.round_integers(problem, sqp_states(problem, [[2.6, 30.4]]), integer)
    assert variable_values(problem, first.unit)[0, 0] == pytest.approx(3.0, rel=1e-4) and tried == 2
    assert (np.asarray(first.low) == first.high).tolist() == [[True, False]]
    second, tried = integers.round_integers(problem, first, integer)
    assert (
        variable_values(problem, second.unit)[0] == pytest.approx([3.0, 30.0], rel=1e-4)
        and tried == 2
    )
    assert integers_fixed(second, integer).all()


def test_beside_a_design_numbers_move_by_one_and_not_below_one():
    problem, integer = bowl([1.0, 1.0, 1.0]), np.array([True, True, True])
    moves, small = moves_beside(problem, sqp_states(problem, [[1.0, 5.0, 30.0]]), integer)
    ends = variable_values(
        problem, unit_coordinates(problem, np.array([1.0, 5.0, 30.0])) + moves[0]
    ).round(3)
    assert small.tolist() == [[True, True, False]]
    assert {tuple(row) for row in ends} == {
        (a, b, 30.0) for a in (1.0, 2.0) for b in (4.0, 5.0, 6.0)
    }


def test_starts_are_compared_by_what_they_are_worth_now():
    problem = bowl([3.0], most=4.5)
    assert merits_of(sqp_states(problem, [[4.0], [5.0]])) == pytest.approx(
        [1.0, 4.0 + 10 * 0.5], rel=1e-4
    )


@pytest.mark.long
def test_a_design_descends_again_to_the_best_whole_numbers():
    problem, integer = bowl([2.6, 30.4], most=40.0), np.array([True, True])
    start = LocalOptimum(
        unit_coordinates(problem, np.array([6.0, 9.0])), np.array([0]), 0.0, np.zeros(1)
    )
    search = solver(problem, integer)
    best = reoptimise(search, start)
    assert best is not None
    assert variable_values(problem, best.unit) == pytest.approx([3.0, 30.0], rel=1e-4)
    assert best.value == pytest.approx(0.16 + 0.16, abs=1e-3)
    assert best.slack[0] == pytest.approx(7.0, abs=1e-2)
    moved = reoptimise(solver(problem, integer, batch_size=2), start, moves=1)
    assert moved is not None and moved.value == pytest.approx(best.value, abs=1e-5)
    assert reoptimise(solver(bowl([2.6, 30.4], most=1.5), integer), start) is None


def solver(problem: Bowl, integer: bool | np.ndarray = False, **options: int) -> MultiStart:
    return MultiStart(problem, np.atleast_1d(integer), OptimiserTable.model_validate(options))


def state(problem: Bowl, here: list[list[float]], **changes: Any) -> SearchState:
    now = solver(problem, batch_size=len(here)).init()
    numbers = {name: np.array(change) for name, change in changes.items()}
    return now._replace(sqp=sqp_states(problem, here), **numbers)


INTEGER, RELAXED = np.array([True]), np.array([False])


def test_a_search_begins_with_softened_starts_and_what_they_cost():
    problem = bowl([3.0], options=(2,))
    now = solver(problem, batch_size=2).init(np.array([0.25]))
    assert now.sqp.unit[0].tolist() == pytest.approx([0.25])
    assert (int(now.starts), int(now.evaluations), int(now.gradients)) == (2, 2 * 16, 2)
    assert (
        not now.sharp
        and int(now.without_gain) == int(now.steps) == int(now.age) == int(now.roundings) == 0
    )
    assert np.isneginf(now.nearest_slack).all() and np.isinf(now.relaxed)


@pytest.mark.parametrize(("age", "held", "sharp"), [(3, 0, False), (4, 0, True), (0, 1, True)])
def test_values_count_after_three_softened_steps(age: int, held: int, sharp: bool):
    now = state(bowl([3.0]), [[4.0]], age=age, roundings=held)
    assert now.sharp is sharp
    assert best_value(now) == (pytest.approx(1.0, rel=1e-4) if sharp else np.inf)
    assert len(integer_designs(now, RELAXED)[2]) == int(sharp)
    assert not len(integer_designs(now, INTEGER)[2])


KNOWN = {
    "unit": [[0.5]],
    "choice": [[0]],
    "value": [1.0],
    "nearest_slack": [0.2],
    "age": 9,
    "without_gain": 5,
}


@pytest.mark.parametrize(("here", "quiet"), [(3.9, 0), (3.99999, 6), (4.1, 6)])
def test_a_wave_that_finds_nothing_better_is_counted(here: float, quiet: int):
    after = archive(state(bowl([3.0]), [[here]], **KNOWN), RELAXED)
    assert int(after.without_gain) == quiet
    assert after.value == pytest.approx([1.0, (here - 3) ** 2], rel=1e-3)
    assert after.unit.shape == (2, 1) and after.choice.tolist() == [[0], [0]]
    assert after.nearest_slack[0] == pytest.approx(
        100 - here, rel=1e-4
    )  # nearer to keeping its limit


def test_of_two_starts_the_one_that_breaks_least_is_the_nearest():
    now = state(bowl([3.0], most=4.0), [[5.0], [4.5]], age=9, nearest_slack=[-0.7])
    assert archive(now, RELAXED).nearest_slack[0] == pytest.approx(-0.5, rel=1e-3)
    assert archive(now._replace(nearest_slack=np.array([-0.3])), RELAXED).nearest_slack[0] == -0.3


def test_the_first_phase_waits_for_rest_and_the_last_for_stillness():
    search = solver(bowl([3.0]), True, steps=30)
    relaxed = state(bowl([3.0]), [[4.0]], age=9)
    for predicted, rough, fine in ((1e-2, False, False), (5e-4, True, False), (1e-7, True, True)):
        lane = relaxed.sqp._replace(predicted_decrease=as_values([predicted]))
        now = relaxed._replace(sqp=lane)
        assert search.phase_is_over(now) is rough
        assert search.phase_is_over(now._replace(roundings=np.array(2))) is fine
    assert not search.phase_is_over(relaxed._replace(age=np.array(19)))
    assert search.phase_is_over(relaxed._replace(age=np.array(20)))
    late = relaxed._replace(roundings=np.array(1))
    assert not search.phase_is_over(late._replace(age=np.array(9)))
    assert search.phase_is_over(late._replace(age=np.array(10)))


def test_a_wave_is_rounded_twice_at_most_and_only_what_is_relaxed():
    problem = bowl([3.0])
    now = state(problem, [[4.0]], age=9)
    rounded = [now._replace(roundings=np.array(n)) for n in (0, 1, 2)]
    due = [solver(problem, True).rounding_is_due(one) for one in rounded]
    assert due == [True, True, False] and not solver(problem).rounding_is_due(now)
    choices = solver(bowl([3.0], options=(2,)))
    assert choices.rounding_is_due(now) and not choices.rounding_is_due(rounded[1])
    assert not choices.rounding_is_due(now._replace(starts=np.array(2)))


def test_neighbours_are_tried_of_the_best_wave_with_more_than_three_integers():
    problem = bowl([3.0])
    now = state(problem, [[4.0]], age=9, value=[1.5], unit=[[0.1]], choice=[[0]])
    four, three = (solver(problem, np.ones(n, bool)) for n in (4, 3))
    assert four.neighbours_are_due(now) and not three.neighbours_are_due(now)
    assert not four.neighbours_are_due(now._replace(value=np.array([1.0])))


ENDS = [
    # Starts begun, of which so many were quiet, of at most 64; over?
    (15, 14, False),
    (16, 15, True),
    (3, 15, False),
    (4, 15, False),
    (5, 15, True),
    (64, 0, True),
    (63, 0, False),
]


@pytest.mark.parametrize(("begun", "quiet", "over"), ENDS)
def test_a_search_ends_when_sixteen_starts_found_nothing_and_each_choice_had_two_turns(
    begun: int, quiet: int, over: bool
):
    problem = bowl([3.0], options=(2,))
    now = state(
        problem, [[5.0]], age=99, roundings=2, starts=begun, without_gain=quiet, value=[0.1]
    )
    now = now._replace(unit=np.zeros((1, 1)), choice=np.zeros((1, 1), int))
    ended = solver(problem).terminate(now)
    assert (ended is not Termination.RUNNING) is over
    assert not over or (ended is Termination.EXHAUSTED) is (begun == 64)


@pytest.mark.parametrize(("wave", "age", "values"), [(1, 4, 0), (2, 4, 32), (4, 0, 32)])
def test_waves_begin_beside_the_best_and_anew_by_turns(wave: int, age: int, values: int):
    problem = bowl([3.0], options=(2,))
    here = unit_coordinates(problem, np.array([[3.5], [3.1]]))
    now = state(
        problem, [[4.0]] * 2, unit=here, choice=[[0], [1]], value=[0.25, 0.01], without_gain=0
    )
    after = solver(problem, batch_size=2).next_wave(now._replace(starts=np.array(2 * wave)))
    assert (int(after.starts), int(after.age), int(after.roundings)) == (2 * wave + 2, age, 0)
    assert (
        int(after.evaluations - now.evaluations) == values
        and int(after.gradients - now.gradients) == 2
    )
    if wave == 1:  # the best design's unit with its choice changed, then a hop from it
        assert after.sqp.choice.tolist() == [[0], [1]]
        assert after.sqp.unit[0].tolist() == pytest.approx(here[1].tolist())


def test_designs_are_told_the_best_first_and_those_without_a_value_never():
    assert finite_by_value(np.array([3.0, np.inf, 1.0, np.nan])) == [2, 0]
    problem = bowl([3.0])
    here = unit_coordinates(problem, np.array([[4.0], [2.0]]))
    now = state(problem, [[3.5]], unit=here, choice=[[0], [0]], value=[1.0, np.inf], age=9)
    told = solver(problem).result(now, 1.0, Termination.AGREED)
    assert [d.value for d in told.designs] == pytest.approx([0.25, 1.0], rel=1e-3)
    assert told.relaxed == pytest.approx(0.25, rel=1e-3)


def test_what_a_search_spends_is_counted():
    seen: list[SearchState] = []
    problem = bowl([2.6])
    found = search(problem, INTEGER, OptimiserTable(starts=1, steps=10), progress=seen.append)
    assert [int(s.steps) for s in seen] == list(range(1, len(seen) + 1))
    # Sixteen points; two ways round; a look for the start, one after softening, one for each way.
    assert found.evaluations == 16 + 2 and found.gradients == len(seen) + 1 + 1 + 1
    assert found.relaxed < found.designs[0].value == pytest.approx(0.16, rel=1e-2)
    assert jax.tree.leaves(seen[-1].sqp)[0].shape == (1, 1)


def test_a_phase_lasts_a_step_at_least(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqp, "terminated", lambda *_: np.ones(2, bool))
    monkeypatch.setattr(MultiStart, "rounding_is_due", lambda *_: False)
    some, now = solver(bowl([3.0])), state(bowl([3.0]), [[0.5]], roundings=1, age=0)
    assert not some.phase_is_over(now)
    assert some.phase_is_over(now._replace(age=np.array(1)))


def test_six_integers_are_rounded_in_every_way():
    every = integers.integer_moves(np.ones(6, bool), (0, 1), integers.MAX_ROUNDINGS)
    assert len(np.unique(every, axis=0)) == 2**6


def test_designs_are_evaluated_as_sharp_as_a_search_ends(monkeypatch: pytest.MonkeyPatch):
    asked: list[float] = []

    def evaluated(function: Any, problem: Any, unit: Values, choice: Any, sharpness: Scalar):
        asked.append(float(sharpness))
        return np.zeros(len(unit)), np.zeros((len(unit), 1))

    monkeypatch.setattr(abstract_problem, "over_devices", evaluated)
    value, _ = evaluate_all(bowl([3.0]), np.zeros((3, 1)), np.zeros((3, 1), int), batch=2)
    assert (len(value), asked) == (3, [1.0, 1.0])
