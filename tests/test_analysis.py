"""What a study asks, and what is told of facts, neighbours and existing chips: each step by hand."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError
from searching import Waves

from perfmodel.design import analysis, facts, reoptimise, report
from perfmodel.design.abstract_problem import nearest_integer
from perfmodel.design.existing_chips import (
    COMPARED_BY,
    ExistingChip,
    _chip_design,
    distance,
    groups_of_chips,
    size_of,
)
from perfmodel.design.multistart import MultiStart
from perfmodel.design.problem import workloads_of
from perfmodel.design.reoptimise import integer_neighbours
from perfmodel.design.resolve import resolve_study
from perfmodel.design.study import Study, WorkloadTable
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.technology import load_constants
from perfmodel.units import as_values

ASKED = {
    "objective": {"minimise": "usd_per_million_tokens"},
    "constraints": {"power_w": 1000},
    "workload": [{"model": "llama-3.1-8b", "batch": 32, "context": 4096}],
}


STUDY = Study.model_validate(ASKED)


def test_a_study_asks_for_the_users_and_tokens_of_its_file():
    problem = resolve_study(STUDY)
    (load,) = workloads_of(problem, jnp.full(len(problem.names), 0.5))
    assert (float(load.batch), float(load.longest)) == (32, 4096)
    assert groups_of_chips(problem)


@pytest.mark.parametrize("chip", ["lpu-v1", "wse-3", "h100-sxm"])
def test_an_existing_chip_costs_something_with_and_without_main_memory(chip: str):
    made = _chip_design(load_chip(chip), chip_files()[chip], load_constants().values)
    assert 0 < float(made.cost) < 1e6 and float(made.idle) > 0


def test_a_chip_is_compared_in_the_units_of_studies():
    file = chip_files()["h100-sxm"]
    size = size_of(_chip_design(load_chip("h100-sxm"), file, load_constants().values))
    own = (814, 700, 80, 3.35, 989)
    assert size == pytest.approx(dict(zip(COMPARED_BY, own, strict=True)), rel=0.01)


def test_the_distance_of_chips_is_the_root_mean_square_of_logarithms():
    one = dict.fromkeys(COMPARED_BY, 3.0)
    assert distance(one, one) == 0
    other = one | {"power_w": 6.0, "tflops": 1.5}
    assert distance(one, other) == distance(other, one)
    assert distance(one, other) == pytest.approx(np.log(2) * np.sqrt(2 / len(COMPARED_BY)))


def test_an_elasticity_is_the_slope_of_the_objective_and_of_the_limits_at_their_prices(
    monkeypatch: pytest.MonkeyPatch,
):
    def evaluate(logs: Any, unit: Any, choice: Any, sharpness: Any) -> tuple:
        return sharpness * (logs[0] + 2 * logs[1]), sharpness * logs[:1]

    monkeypatch.setattr(facts, "evaluate", evaluate)
    monkeypatch.setattr(facts, "shifted", lambda problem, logs: logs)
    monkeypatch.setattr(facts, "facts_of", lambda problem: {"a": as_values([1.0, 1.0])})
    found: Any = None
    slopes = facts.elasticities(found, np.zeros(1), np.zeros(1, np.int32), np.array([0.5]))
    assert slopes == pytest.approx([-0.5, -2.0])


def test_of_facts_the_strongest_come_first_each_with_what_a_doubled_one_brings():
    found: Any = SimpleNamespace(objective=lambda value: -value)
    best = SimpleNamespace(design=SimpleNamespace(value=-2.0), family="n5, hbm3e")
    seen: Any = SimpleNamespace(
        facts=["a", "b", "c"],
        elasticity=np.array([0.1, 0.0, -0.5]),
        doubled={"a": best, "c": None},
    )
    told = analysis._facts(found, seen)
    assert list(told) == ["c", "a"]
    assert told["a"]["if_doubled"] == 2.0 and told["a"]["best_if_doubled"] == "n5, hbm3e"
    assert told["c"] == {
        "elasticity": -0.5,
        "if_doubled": None,
        "best_if_doubled": None,
        "searched_doubled": True,
    }


def test_an_existing_chip_is_told_with_its_size_its_price_and_what_it_breaks():
    space = SimpleNamespace(in_study_units=lambda unit: {"tensor": 8.0, "sram_mb": 50.0})
    found: Any = SimpleNamespace(
        problem=resolve_study(STUDY), space=space, objective=lambda value: -value
    )
    one = ExistingChip("h100-sxm", np.zeros(1), -2.0, ("power_w",), 0.5, {"power_w": 700.0}, 3e3)
    told = analysis._existing(found, one)
    assert told.pop("price_usd") > 3e3
    assert told == {
        "chip": "h100-sxm",
        "objective": 2.0,
        "broken": ["power_w"],
        "distance": 0.5,
        "power_w": 700.0,
        "tensor": 8.0,
    }


def test_figures_are_those_of_the_smooth_form_unless_whole_numbers_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(report, "_assess", lambda problem, *_: problem.integer)
    best = SimpleNamespace(unit=np.zeros(1), choice=np.zeros(1, int))
    found: Any = SimpleNamespace(problem=resolve_study(STUDY), best=best, best_logarithms=[0.0])
    assert report.SearchReport.assessed(found) is False
    assert report.SearchReport.assessed(found, integer=True) is True


def test_an_hour_of_a_system_is_paid_by_each_of_its_chips(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "system_cost", lambda *_: SimpleNamespace(running=2.0))
    pools = [SimpleNamespace(chips=3.0), SimpleNamespace(chips=5.0)]
    seen: Any = SimpleNamespace(figures=[{"ttft_ms": 7.0}], pools=[pools], served=[None])
    (found,) = report._figures(resolve_study(STUDY), seen)
    assert found == {"ttft_ms": 7.0, "usd_per_chip_hour": 3600 * 2.0 / 8}


def test_a_workload_is_served_on_at_most_100_000_chips():
    load = {"model": "llama-3.1-8b", "batch": 32, "context": 4096}
    assert WorkloadTable.model_validate(load | {"chips": 100_000}).chips == 100_000
    with pytest.raises(ValidationError, match="100000"):
        WorkloadTable.model_validate(load | {"chips": 100_001})


def test_one_of_a_thing_has_no_neighbour_below(monkeypatch: pytest.MonkeyPatch):
    tried: list[int] = []
    monkeypatch.setattr(reoptimise, "_with", lambda solver, best, i, count: tried.append(count))
    ends = (np.array([0.25]), np.array([6.0]))
    monkeypatch.setattr(reoptimise, "integer_bounds", lambda problem: ends)
    monkeypatch.setattr(reoptimise, "variable_values", lambda problem, unit: unit)
    monkeypatch.setattr(reoptimise, "_matters", lambda problem, best, i: True)
    solver: Any = MultiStart._make([None] * len(MultiStart._fields))
    for count in (1, 2):
        best: Any = SimpleNamespace(unit=np.array([float(count)]))
        integer_neighbours(solver, ["stacks"], best)
    assert tried == [2, 1, 3]


def test_only_integers_are_rounded():
    """A price of memory in USD/byte rounds to zero, whose logarithm nobody may ask for."""
    ends = Waves(as_values(np.log([1.0, 1e-9])), as_values(np.log([8.0, 1e-8])))
    found = nearest_integer(ends, np.array([0.4, 0.5]), np.array([True, False]))
    assert found == pytest.approx([1 / 3, 0.5])
