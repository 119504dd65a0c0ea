"""Adam and L-BFGS on an augmented Lagrangian find what sequential quadratic programming finds."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.design import first_order
from perfmodel.design.abstract_problem import AbstractProblem, Choice
from perfmodel.design.multistart import SearchResult, search
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE
from perfmodel.design.study import OptimiserTable, read_study
from perfmodel.errors import InputError
from perfmodel.units import Scalar, Values, as_scalar, as_values


class Valley(AbstractProblem):
    """Squares of the distance to `middle` in logarithms, above 1, and a limit on the sum of logarithms."""

    low: Values
    high: Values
    middle: Values
    most: float = eqx.field(static=True)
    options: tuple[int, ...] = eqx.field(static=True, default=(1,))

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        return (1.0 + jnp.sum(jnp.square(x - self.middle)))[None]

    def static_constraints(self, x: Values, choice: Choice) -> Values:
        return (self.most - jnp.sum(x))[None]


def valley(middle: list[float], most: float) -> Valley:
    """Over logarithms from 0 to 2."""
    size = np.zeros(len(middle))
    low, high = as_values(size), as_values(size + 2.0)
    return Valley(low=low, high=high, middle=as_values(middle), most=most)


def found_by(method: str, problem: Valley, integer: list[bool]) -> SearchResult:
    options = OptimiserTable.model_validate({"method": method, "starts": 2, "batch_size": 2})
    return search(problem, np.array(integer), options)


METHODS = pytest.mark.parametrize("method", ["adam", "lbfgs"])


@METHODS
def test_a_binding_limit_and_a_bound_are_met(method: str):
    # (1.5, 1.5, -1) under x + y + z <= 2 is (1, 1, 0): 1 + 0.25 + 0.25 + 1.
    best = found_by(method, valley([1.5, 1.5, -1.0], 2.0), [False] * 3).designs[0]
    assert best.value == pytest.approx(2.5, rel=0.01)
    assert best.value >= 2.5 - 1e-3
    assert np.all(best.slack > -CONSTRAINT_TOLERANCE)
    assert 2 * best.unit == pytest.approx([1.0, 1.0, 0.0], abs=0.05)


class Smoothed(Valley):
    """A valley that looks better than it is while schedules are chosen less surely."""

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        return super().model_terms(x, choice, sharpness) * sharpness


@METHODS
def test_values_of_a_smoothed_model_are_not_compared(method: str):
    plain = valley([1.5, 1.5, -1.0], 2.0)
    smoothed = Smoothed(low=plain.low, high=plain.high, middle=plain.middle, most=plain.most)
    best = found_by(method, smoothed, [False] * 3).designs[0]
    assert best.value == pytest.approx(2.5, rel=0.01)


@pytest.mark.long
@METHODS
def test_integers_are_rounded_as_by_the_default(method: str):
    problem, integer = valley([0.9, 1.2], 1.9), [True, False]
    best, default = (found_by(word, problem, integer).designs[0] for word in (method, "sqp"))
    assert best.value == pytest.approx(default.value, rel=0.02)
    number = np.exp(2 * best.unit[0])
    assert number == pytest.approx(round(number), abs=1e-3)


def at(problem: Valley, x: float, multiplier: float, penalty: float) -> tuple[float, float]:
    """The augmented Lagrangian at one place, and its slope along the logarithm; limits are 2e-4 nearer."""
    box = as_values(np.zeros(1)), as_values(np.ones(1))
    fixed = first_order.Fixed(*box, jnp.zeros(1, jnp.int32), as_values([0.0]))
    lagrangian = first_order._augmented(
        problem, fixed, as_values([multiplier]), jnp.asarray(penalty, jnp.result_type(float))
    )
    value, slope = jax.value_and_grad(lambda unit: lagrangian(unit)[0])(as_values([x / 2]))
    return float(value), float(slope[0]) / 2


@pytest.mark.parametrize("penalty", [1.0, 10.0, 80.0])
def test_at_its_multiplier_the_solution_is_at_rest_and_costs_what_it_is_worth(penalty: float):
    # (x - 1.5)^2 + 1 under x <= 1, kept by 2e-4: a slope of -1.0004 is the limit's price.
    problem, x = valley([1.5], 1.0), 1.0 - 2e-4
    value, slope = at(problem, x, 1.0 + 4e-4, penalty)
    assert value == pytest.approx(1 + (x - 1.5) ** 2, abs=1e-5)
    assert slope == pytest.approx(0.0, abs=1e-3)


def test_a_broken_limit_costs_its_price_and_the_penalty_times_half_its_square():
    problem = valley([1.5], 1.0)
    for x, broken in ((1.2, 0.2), (1.5, 0.5)):
        value, _ = at(problem, x, 0.75, 10.0)
        by = broken + 2e-4
        assert value == pytest.approx(1 + (x - 1.5) ** 2 + 0.75 * by + 5 * by**2, rel=1e-4)
    # Far inside, where the limit has no pull, the price is given back: 0.75^2 over twice the penalty.
    assert at(problem, 0.5, 0.75, 10.0)[0] == pytest.approx(2.0 - 0.75**2 / 20, rel=1e-4)


def test_what_leads_out_of_the_box_or_is_no_number_is_left_out_of_a_step():
    low, high = as_values([0.0] * 5), as_values([1.0] * 5)
    fixed = first_order.Fixed(low, high, jnp.zeros(1, jnp.int32), as_values([0.0]))
    unit = as_values([0.0, 0.0, 1.0, 1.0, 0.5])
    slopes = as_values([1.0, -1.0, 1.0, -1.0, np.nan])
    assert first_order._projected(slopes, unit, fixed).tolist() == [0, -1, 1, 0, 0]


def test_the_best_place_of_a_descent_keeps_its_limits_and_is_the_lowest():
    now = first_order.Descent(as_values([0.3]), as_values([0.0]), as_values([0.9]), as_scalar(2.0))
    for value, slack, better in ((1.5, 0.0, True), (1.5, -0.9e-4, True), (1.5, -1.1e-4, False),
                                 (2.5, 1.0, False), (np.nan, 1.0, False)):  # fmt: skip
        found = first_order._with_best(now, as_scalar(value), as_values([slack]))
        assert float(found.best_value) == (value if better else 2.0)
        assert float(found.best[0]) == pytest.approx(0.3 if better else 0.9)


def test_a_method_that_does_not_exist_is_refused(tmp_path: Path):
    study = tmp_path / "study.toml"
    study.write_text(
        '[objective]\nmaximise = "tokens_per_s"\n[constraints]\npower_w = 700\n'
        '[[workload]]\nmodel = "llama-3.1-8b"\nbatch = 1\ncontext = 100\n[optimiser]\nmethod = "newton"\n'
    )
    with pytest.raises(InputError, match=r"(?s)method.*sqp.*adam.*lbfgs") as error:
        read_study(study)
    assert "\n" not in str(error.value)


def test_the_default_is_unchanged():
    assert OptimiserTable().method == "sqp"
