"""Adam and L-BFGS on an augmented Lagrangian find what sequential quadratic programming finds."""

from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.design.abstract_problem import AbstractProblem, Choice
from perfmodel.design.multistart import SearchResult, search
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE
from perfmodel.design.study import OptimiserTable, read_study
from perfmodel.errors import InputError
from perfmodel.units import Scalar, Values, as_values


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


@METHODS
def test_integers_are_rounded_as_by_the_default(method: str):
    problem, integer = valley([0.9, 1.2], 1.9), [True, False]
    best, default = (found_by(word, problem, integer).designs[0] for word in (method, "sqp"))
    assert best.value == pytest.approx(default.value, rel=0.02)
    number = np.exp(2 * best.unit[0])
    assert number == pytest.approx(round(number), abs=1e-3)


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
