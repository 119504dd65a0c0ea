"""The optimiser, on functions whose optimum is known: bounds, limits, rounding, and nothing of chips."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from perfmodel.design.abstract_problem import AbstractProblem, Choice, nearest_integer
from perfmodel.design.integers import best_neighbour, best_other_choice
from perfmodel.design.multistart import MultiStart, SearchResult, search
from perfmodel.design.qp import REGULARISATION, QuadraticProgram, solve
from perfmodel.design.sensitivity import sensitivity
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE, init
from perfmodel.design.starting_points import combinations, grid_best, start_at
from perfmodel.design.study import OptimiserTable
from perfmodel.units import Scalar, Values, as_scalar, as_values

OPTIONS = OptimiserTable(starts=8, steps=40)


class Bowl(AbstractProblem):
    """Distance to `middle`, with a limit on the sum of the variables, and an offset for each choice."""

    low: Values
    high: Values
    options: tuple[int, ...] = eqx.field(static=True)
    middle: Values
    most: Values
    offsets: Values

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        far = jnp.sum(jnp.square(x - self.middle) * jnp.arange(1.0, len(self.low) + 1))
        return (far + self.offsets[choice[0]])[None]

    def static_constraints(self, x: Values, choice: Choice) -> Values:
        return (self.most - jnp.sum(x))[None]


def bowl(middle: list[float], most: float, offsets: tuple[float, ...] = (0.0,)) -> Bowl:
    size = len(middle)
    ends = (as_values(np.zeros(size)), as_values(2 * np.ones(size)))
    numbers = map(as_values, (middle, most, offsets))
    return Bowl(*ends, (len(offsets),), *numbers)


def found(problem: Bowl, integer: np.ndarray | None = None) -> SearchResult:
    none = np.zeros(problem.low.shape[0], bool)
    return search(problem, none if integer is None else integer, OPTIONS)


def place(problem: Bowl, result: SearchResult) -> np.ndarray:
    return 2 * result.designs[0].unit


@pytest.mark.long
def test_the_middle_of_a_bowl_is_found():
    problem = bowl([0.5, 1.5, 1.0], 100.0)
    assert place(problem, found(problem)) == pytest.approx([0.5, 1.5, 1.0], abs=1e-3)


def test_an_optimum_on_a_bound_is_reached_and_not_only_approached():
    problem = bowl([-1.0, 3.0, 1.0], 100.0)
    assert place(problem, found(problem))[:2] == pytest.approx([0.0, 2.0], abs=1e-6)


def test_a_limit_is_kept_and_priced():
    # x and y at (1, 1) with x + y <= 1: from the slopes 2 (x - 1) = 4 (y - 1), so x = 1/3, y = 2/3,
    # and the price is 4/3.
    problem = bowl([1.0, 1.0], 1.0)
    result = found(problem)
    best = result.designs[0]
    assert place(problem, result) == pytest.approx([1 / 3, 2 / 3], abs=1e-3)
    assert best.slack[0] > -CONSTRAINT_TOLERANCE
    price = sensitivity(MultiStart(problem, np.zeros(2, bool), OPTIONS), best).multipliers[0]
    assert price == pytest.approx(4 / 3, rel=1e-2)


def test_the_price_of_a_limit_is_what_moving_it_brings():
    values = [found(bowl([1.0, 1.0], most)).designs[0].value for most in (0.99, 1.01)]
    assert (values[0] - values[1]) / 0.02 == pytest.approx(4 / 3, rel=1e-2)


def test_the_best_choice_wins_whatever_its_place():
    for offsets in ((0.0, 1.0, 2.0), (2.0, 1.0, 0.0)):
        best = found(bowl([0.5, 0.5], 100.0, offsets)).designs[0]
        assert best.choice[0] == offsets.index(0.0)


class Logged(Bowl):
    """The same over logarithms of numbers of things."""

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        return super().model_terms(jnp.exp(x), choice, sharpness)

    def static_constraints(self, x: Values, choice: Choice) -> Values:
        return super().static_constraints(jnp.exp(x), choice)


def logged(low: list[float], high: list[float], middle: list[float], most: float) -> Logged:
    return Logged(as_values(low), as_values(high), (1,), *map(as_values, (middle, most, [0.0])))


def test_numbers_of_things_become_whole_and_the_rest_adapts():
    problem = logged([0.0, 0.0], np.log([8.0, 8.0]).tolist(), [2.6, 2.2], 4.0)
    result = found(problem, np.array([True, False]))
    numbers = np.exp(np.log(8.0) * result.designs[0].unit)
    # The sum is at most 4. With 2: the other is 2, cost .6**2 + 2 * .2**2 = .44; with 3: 1, 3.04.
    assert numbers == pytest.approx([2.0, 2.0], abs=1e-3)
    assert result.relaxed < result.designs[0].value


class Ditch(Logged):
    """Falls along a ditch, where numbers of things keep their sum."""

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        n = jnp.exp(x)
        return (100 * jnp.square(n[0] + n[1] - 8) + jnp.square(n[0] - 5) + n[2])[None]


def test_numbers_of_things_move_together_where_each_alone_is_worse():
    ends, integer = (np.zeros(3), np.log([8.0, 8.0, 4.0])), np.array([True, True, False])
    low, high = map(as_values, ends)
    problem = Ditch(low, high, (1,), *map(as_values, ([0.0] * 3, 1e3, [0.0])))
    place = start_at(np.log([[4.0, 4.0, 2.0]]) / ends[1], np.zeros((1, 1), int))
    states = init(problem, place._replace(low=place.unit, high=place.unit), as_scalar(1.0))
    moved, looks = best_neighbour(problem, states, integer)
    assert np.exp(moved.unit[0] * ends[1])[:2] == pytest.approx([5.0, 3.0], rel=1e-5)
    assert looks == 6 * 9 and moved.unit[0, 2] < place.unit[0, 2]


def test_another_choice_is_compared_after_it_has_adapted():
    problem = bowl([0.5, 0.5], 100.0, (0.0, -1.0, -2.0))
    start = init(problem, start_at(np.array([[0.9, 0.9]]), np.array([[1]])), as_scalar(1.0))
    other, looks = best_other_choice(problem, start)
    assert other.choice.tolist() == [[2]] and looks == 3 * 2
    assert (other.unit < start.unit).all()


def test_limits_that_clash_leave_no_design_and_the_nearest_is_told():
    problem = bowl([1.0, 1.0], -1.0)
    result = found(problem)
    assert not result.designs
    assert result.nearest_slack[0] == pytest.approx(-1.0, abs=1e-2)


def test_combinations_come_in_turn_or_as_many_as_there_is_place_for():
    assert combinations((2, 3), 6, 0).tolist() == [[i, j] for i in range(2) for j in range(3)]
    few = combinations((10, 10, 10), 50, 0)
    assert few.shape == (50, 3) and len(np.unique(few, axis=0)) == 50


def test_points_are_rounded_to_whole_numbers_within_their_bounds():
    problem = logged([float(np.log(0.3))], [float(np.log(2.7))], [1.0], 9.0)
    unit = nearest_integer(problem, np.array([[0.0], [1.0]]), np.array([True]))
    numbers = np.exp(np.log(0.3) + np.log(9.0) * unit[:, 0])
    assert numbers == pytest.approx([1.0, 2.0], rel=1e-5)


def test_a_grid_of_the_same_space_finds_no_more():
    problem = bowl([0.51, 0.77], 1.0)
    on_grid, points = grid_best(problem, np.zeros(2, bool), CONSTRAINT_TOLERANCE)
    assert points == 144**2
    assert found(problem).designs[0].value <= on_grid + 1e-6


def test_the_same_seed_finds_the_same():
    problem = bowl([1.0, 1.0], 1.0)
    assert (found(problem).designs[0].unit == found(problem).designs[0].unit).all()


def test_a_quadratic_program_agrees_with_another_solver():
    random = np.random.default_rng(0)
    size, limits = 6, 3
    root = random.normal(size=(size, size))
    B, g = root @ root.T + 0.1 * np.eye(size), random.normal(size=size)
    A, c = random.normal(size=(limits, size)), 0.1 * random.normal(size=limits)
    low, high = -0.2 * np.ones(size), 0.1 * np.ones(size)

    def value(d: np.ndarray) -> float:
        return (
            0.5 * d @ B @ d + g @ d + np.sum(np.minimum(A @ d + c, 0) ** 2) / (2 * REGULARISATION)
        )

    bounds = list(zip(low, high, strict=True))
    other = minimize(value, np.zeros(size), bounds=bounds, method="L-BFGS-B", tol=1e-14)
    program = QuadraticProgram(*map(as_values, (B, g, A, c, np.zeros(limits), low, high)))
    d, prices = jax.jit(solve)(program)
    assert value(np.asarray(d, float)) == pytest.approx(other.fun, rel=1e-4)
    assert (np.asarray(prices) >= 0).all()
    assert (np.asarray(d) >= low - 1e-7).all() and (np.asarray(d) <= high + 1e-7).all()
