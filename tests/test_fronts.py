"""Fronts, families, maps, doubts and prices of limits: each step by hand."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.design import (
    existing_chips,
    pareto,
    reoptimise,
    report,
    sensitivity,
    starting_points,
    uncertainty,
    winner_map,
)
from perfmodel.design.abstract_problem import Linearisation
from perfmodel.design.existing_chips import ExistingChip
from perfmodel.design.facts import within
from perfmodel.design.multistart import LocalOptimum, MultiStart, SearchResult, Termination
from perfmodel.design.pareto import ParetoPoint
from perfmodel.design.reoptimise import IntegerNeighbours
from perfmodel.design.state import MIN_GAIN
from perfmodel.design.study import OptimiserTable, Study
from perfmodel.design.variables import read_space, start_vector
from perfmodel.design.winner_map import Axis
from perfmodel.interface import search_tables
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.units import as_values


def point(figure: float, value: float, choice: int = 0, unit: float = 0.0) -> ParetoPoint:
    return ParetoPoint(figure, value, np.array([unit]), np.array([choice]))


def pairs(points: list[ParetoPoint]) -> list[tuple[float, float]]:
    return [(one.figure, one.value) for one in points]


def test_a_front_has_the_points_that_no_other_beats_in_both():
    # Larger figures are harder; value is minus the objective.
    some = [point(1, -3), point(2, -2), point(3, -2.5), point(4, -1), point(4, -0.5)]
    assert pairs(pareto._nondominated(some, larger=True)) == [(1, -3), (3, -2.5), (4, -1)]
    assert pairs(pareto._nondominated(some, larger=False)) == [(1, -3)]
    same = [point(2, -1.0), point(1, -1.0 - 0.5e-6)]
    assert len(pareto._nondominated(same, larger=True)) == 1


def test_a_front_is_thinned_evenly_with_both_ends():
    some = [point(i, -i) for i in range(11)]
    assert [p.figure for p in pareto._thinned(some, 3)] == [0, 5, 10]
    assert len(pareto._thinned(some, 11)) == 11


def test_of_two_memories_each_has_its_front_and_what_the_other_beats_is_told():
    found = pareto._merged([point(1, -3), point(2, -2), point(1.5, -1, choice=1)], True, 16)
    assert [(p.figure, p.dominated) for p in found] == [(1, False), (2, False), (1.5, True)]


def test_searches_begin_again_two_thirds_and_five_sixths_of_the_way():
    found = [point(10, -5), point(70, -1), point(40, -2)]
    assert pareto._restart_targets(found, larger=True) == pytest.approx([50, 60])
    assert pareto._restart_targets([point(10, -5), point(4, -1)], larger=False) == pytest.approx(
        [6, 5]
    )
    assert pareto._restart_targets([], larger=True) == []


def test_a_target_takes_the_best_design_of_a_stricter_one_or_the_last_reached():
    best = np.array([[0.1], [0.2], [0.3], [0.4]])
    lowest = np.array([-1.0, -3.0, -2.0, np.inf])
    assert pareto._exchanged(best, lowest)[:, 0].tolist() == [0.2, 0.2, 0.3, 0.3]
    none = np.full(4, np.inf)
    assert pareto._exchanged(best, none).tolist() == best.tolist()


def test_starts_that_begin_anew_replace_the_others_row_by_row():
    old, new = (jnp.full((2, 3), n) for n in (1.0, 2.0))
    both: Any = (old, jnp.array([1.0, 1.0]))
    found: Any = pareto._where(np.array([True, False]), (new, jnp.array([2.0, 2.0])), both)  # pyright: ignore[reportArgumentType]
    assert found[0].tolist() == [[2.0] * 3, [1.0] * 3] and found[1].tolist() == [2.0, 1.0]


def test_a_front_is_traced_once_to_its_end_and_once_within(monkeypatch: pytest.MonkeyPatch):
    spans: list[np.ndarray] = []

    def reached(problem: Any, base: LocalOptimum, rows: list[int], shifts: np.ndarray) -> Any:
        spans.append(shifts)
        return Reached(np.where(np.arange(5) < 3, -1.0, np.inf))

    monkeypatch.setattr(pareto, "_descended", reached)
    monkeypatch.setattr(pareto, "_points", lambda *given: given)
    problem: Any = None
    pareto._traced(problem, "ttft_ms", [0], 5, design([0.5]))
    first, second = spans
    assert first == pytest.approx(np.linspace(0, np.log(100), 5))
    assert second == pytest.approx(np.linspace(0, first[2], 5))  # to the last target reached


class Reached:
    """What is left of starts that descended: the value of each."""

    def __init__(self, best_value: np.ndarray) -> None:
        self.best_value = best_value


def test_where_a_fact_doubles_each_family_begins_with_its_best_design(
    monkeypatch: pytest.MonkeyPatch,
):
    asked: list[np.ndarray] = []

    def priced(land: Any, unit: np.ndarray, choice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(choice)
        return np.arange(len(unit), dtype=float), np.ones((len(unit), 1))

    monkeypatch.setattr(reoptimise, "evaluate_all", priced)
    known = [
        uncertainty.Family(
            "n5", name, [design([0.5], -2.0, i), design([0.5], -1.0, 9)], np.zeros(1)
        )
        for i, name in enumerate(("hbm3e", "none"))
    ]
    land: Any = None
    starts = reoptimise._starts(land, known, [np.array([[0.2]]), np.array([[0.8]])])
    assert asked[0].tolist() == [[0, 0], [0, 1]]
    assert {i: start.choice.tolist() for i, start in starts.items()} == {0: [0, 0], 1: [0, 1]}


def test_a_fact_is_searched_again_from_three_families(monkeypatch: pytest.MonkeyPatch):
    def priced(land: Any, unit: np.ndarray, choice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return -choice[:, 1].astype(float), np.ones((len(unit), 1))

    monkeypatch.setattr(reoptimise, "evaluate_all", priced)
    best = [[design([0.5], -2.0, i)] for i in range(5)]
    known = [uncertainty.Family("n5", "hbm3e", one, np.zeros(1)) for one in best]
    land: Any = None
    starts = reoptimise._starts(land, known, [np.array([[0.5]])] * 5)
    assert list(starts) == [4, 3, 2]


def design(unit: list[float], value: float = -1.0, choice: int = 0) -> LocalOptimum:
    return LocalOptimum(np.array(unit), np.array([0, choice]), value, np.zeros(1))


class Landscape:
    """What prices of limits ask of one: two variables over 2 and 4."""

    low, high = np.zeros(2), np.array([2.0, 4.0])


def look(gradient: list[float], slopes: list[list[float]], slack: list[float]) -> Linearisation:
    numbers = (np.array(part) for part in (-1.0, gradient, slack, slopes))
    return Linearisation(*numbers)  # pyright: ignore[reportArgumentType]


def priced(
    unit: list[float], slack: list[float], whole: list[bool] | None = None
) -> sensitivity.Sensitivity:
    """By the variables themselves: a gradient of (3, 2) and limits of slopes (1, 0) and (0, 1)."""
    seen = look([6.0, 8.0], [[2.0, 0.0], [0.0, 4.0]], slack)
    land: Any = Landscape()
    solver = MultiStart(land, np.array(whole or [False, False]), OptimiserTable())
    return sensitivity._at(solver, design(unit), seen)


def test_a_limit_that_binds_has_the_price_that_balances_the_slope():
    both = priced([0.5, 0.5], [0.0, 0.0])
    assert both.multipliers == pytest.approx([3.0, 2.0]) and both.elasticity == pytest.approx(
        [-3, -2]
    )
    assert both.reduced_gradient == pytest.approx([0.0, 0.0]) and both.residual == pytest.approx(
        0.0
    )
    one = priced([0.5, 0.5], [1.9e-3, 2.1e-3])
    assert one.multipliers == pytest.approx([3.0, 0.0])
    assert one.reduced_gradient == pytest.approx([0.0, -2.0]) and one.residual == pytest.approx(2.0)


def test_variables_on_their_bounds_and_whole_numbers_price_nothing():
    for unit in ([0.9e-4, 0.5], [1 - 0.9e-4, 0.5]):
        held = priced(unit, [0.0, 0.0])
        assert held.multipliers == pytest.approx([0.0, 2.0]) and held.residual == pytest.approx(0.0)
        assert held.reduced_gradient == pytest.approx([-3.0, 0.0])
    near = priced([1.1e-4, 0.5], [0.0, 0.0])
    assert near.multipliers == pytest.approx([3.0, 2.0])
    assert priced([0.5, 0.5], [0.0, 0.0], [True, False]).multipliers == pytest.approx([0.0, 2.0])
    assert not priced([0.0, 1.0], [0.0, 0.0]).multipliers.any()


def test_a_range_holds_nine_of_ten_values_on_either_side():
    assert uncertainty._sides(2.0, 1.0, 8.0) == pytest.approx(
        (np.log(2) / 1.6449, np.log(4) / 1.6449)
    )
    # One that begins at nothing begins at a thousandth.
    assert uncertainty._sides(2.0, 0.0, 2.0) == pytest.approx((np.log(1000) / 1.6449, 0.0))


def test_shares_of_draws_and_ways_are_counted():
    assert uncertainty.win_shares(
        np.array([[1.0, 2.0, 5.0, 5.0], [3.0, 1.0, 4.0, 4.0]])
    ).tolist() == [
        0.25,
        0.75,
    ]


class Power:
    names = ("sram_mb", "decode.power_w")


def test_a_design_is_provisioned_for_five_powers_up_to_its_bound():
    problem: Any = Power()
    found = uncertainty._provisioned(problem, np.array([0.3, 0.2]))
    assert found[:, 0].tolist() == [0.3] * 5
    assert found[:, 1] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    problem.names = ("sram_mb", "tflops")
    assert uncertainty._provisioned(problem, np.array([0.3, 0.2])).tolist() == [[0.3, 0.2]]


def test_powers_of_two_within_bounds_and_the_designs_own_are_tried():
    found = np.exp(starting_points._powers_of_two(np.log(1.5), np.log(9.0), np.log(3.0)))
    assert found == pytest.approx([2.0, 3.0, 4.0, 8.0])
    assert np.exp(starting_points._powers_of_two(0.0, np.log(4.0), np.log(4.0))) == pytest.approx(
        [1, 2, 4]
    )


class Load:
    batch, longest = 32.0, 4096.0


def test_an_axis_holds_factors_on_what_a_design_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(winner_map, "workloads_of", lambda *_: [Load()])
    problem: Any = None
    assert winner_map._value_of(problem, winner_map.BATCH, np.zeros(1)) == 32
    assert winner_map._value_of(problem, winner_map.CONTEXT, np.zeros(1)) == 4096
    assert (
        winner_map._value_of(
            problem, Axis("price", "", np.array([5.0, 10.0, 20.0]), ()), np.zeros(1)
        )
        == 10
    )


def test_maps_reach_over_users_tokens_models_and_prices():
    assert winner_map.BATCH.values.tolist() == [1, 4, 16, 64, 256, 1024, 4096]
    assert winner_map.CONTEXT.values.tolist() == [1024 * 4**i for i in range(6)]
    assert winner_map.MODEL.values.tolist() == [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16]
    assert winner_map.PRICE.values.tolist() == [1 / 4, 1 / 2, 1, 2, 4]


def test_a_design_adapts_to_limits_that_bound_at_their_prices_and_breaks_others(
    monkeypatch: pytest.MonkeyPatch,
):
    seen = np.array([-3.0]), np.array([[-0.1, -0.2, 0.5]])
    monkeypatch.setattr(uncertainty, "evaluate_cases", lambda *_: seen)
    monkeypatch.setattr(uncertainty, "_provisioned", lambda problem, unit: unit[None])
    family = uncertainty.Family("n5", "hbm3e", [design([0.5])], np.array([0.7, 0.0, 0.0]))
    problem: Any = None
    value, kept = uncertainty.value_under(problem, [family], np.zeros((1, 2)))
    assert value == pytest.approx(-3.0 + 0.7 * 0.1 + uncertainty.VIOLATION_PRICE * 0.2)
    assert not kept.any()


def test_a_place_is_won_by_the_best_design_that_keeps_every_limit_there(
    monkeypatch: pytest.MonkeyPatch,
):
    slack = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, 1.0]])
    two = np.zeros((2, 1)), np.zeros((2, 2), int), ["hbm3e", "SRAM alone"]
    monkeypatch.setattr(winner_map, "_candidates", lambda *_: two)
    monkeypatch.setattr(winner_map, "_value_of", lambda *_: 1.0)
    values = np.array([-2.0, -2.0, -1.0, -1.0])
    monkeypatch.setattr(winner_map, "evaluate_cases", lambda *_: (values, slack))
    axes = (
        Axis("users", "", np.array([1.0, 2.0]), ("a",)),
        Axis("price", "", np.array([1.0]), ("b",)),
    )
    problem: Any = None
    space: Any = SimpleNamespace(logarithms=lambda unit: unit)
    places = winner_map._places(problem, space, [], ["a", "b"], axes)
    assert [place.winner for place in places] == ["hbm3e", "SRAM alone"]


def rival(name: str, value: float, broken: tuple[str, ...] = ()) -> ExistingChip:
    return ExistingChip(name, np.zeros(1), value, broken, 1.0, {}, 1.0)


def test_a_sold_chip_is_ahead_that_keeps_every_limit_and_is_better():
    some = [rival("a", -1.2), rival("b", -2.0, ("power_w",)), rival("c", -1.5), rival("d", -0.9)]
    assert [one.name for one in existing_chips.better_chips(some, design([0.5]))] == ["c", "a"]
    assert not existing_chips.better_chips([rival("a", -1.00009)], design([0.5]))
    assert existing_chips.better_chips([rival("a", -1.00011)], design([0.5]))
    assert not existing_chips.better_chips([rival("a", -1.0 - MIN_GAIN)], design([0.5]))


def test_a_sold_chip_in_the_variables_of_studies():
    found = existing_chips.chip_variables("h100-sxm", load_chip("h100-sxm"))
    assert found["sram_mb"] == pytest.approx(50 * 2**20)
    assert found["stacks"] == pytest.approx(3.35 / 0.819, rel=0.01)  # by their rate
    assert found["tflops"] == pytest.approx(989e12, rel=1e-3) and found["power_w"] == 700
    wafer = load_chip("wse-3")
    assert existing_chips.chip_variables("wse-3", wafer)["sram_mb"] == float(wafer.private.capacity)


ASKED = Study.model_validate(
    {
        "objective": {"minimise": "usd_per_million_tokens"},
        "constraints": {"power_w": 1000},
        "workload": [{"model": "llama-3.1-8b", "batch": 32, "context": 4096}],
        "space": {"memory": ["hbm3e", "none", "hbm3"], "node": ["n3", "n5"]},
    }
)


def test_a_sold_chip_begins_with_its_own_node_and_memory_where_the_study_has_them():
    file, default = chip_files()["h100-sxm"], np.array([0, 1])
    assert file.main is not None
    space = ASKED.space.model_copy(update={"node": ["n3", file.node], "memory": ["none"]})
    other = ASKED.model_copy(update={"space": space})
    assert existing_chips._choice(ASKED, "h100-sxm", default)[1] == ASKED.space.memory.index(
        file.main.technology
    )
    assert existing_chips._choice(other, "h100-sxm", np.array([0, 0])).tolist() == [1, 0]


def result(*designs: LocalOptimum) -> SearchResult:
    return SearchResult(list(designs), -1.0, 0, 0, 0.0, np.zeros(1), Termination.AGREED)


def test_a_better_neighbour_takes_the_place_of_the_best(monkeypatch: pytest.MonkeyPatch):
    seen: list[float] = []

    def beside(solver: Any, names: Any, best: LocalOptimum) -> dict[str, IntegerNeighbours]:
        seen.append(best.value)
        more = design([0.6], best.value - 0.1) if best.value > -1.25 else None
        return {"stacks": IntegerNeighbours(4, design([0.4], -0.5), more, False)}

    monkeypatch.setattr(reoptimise, "integer_neighbours", beside)
    solver: Any = None
    settled, near = reoptimise.improve_by_neighbours(solver, ["stacks"], result(design([0.5])))
    assert seen == pytest.approx([-1.0, -1.1, -1.2, -1.3])
    assert [d.value for d in settled.designs] == pytest.approx([-1.3, -1.2, -1.1, -1.0])
    assert near["stacks"].more is None


def test_a_search_that_is_stopped_while_it_is_weighed_says_so(monkeypatch: pytest.MonkeyPatch):
    from perfmodel.design import run

    def stop(found: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "confirmed", stop)
    rest: Any = [None] * 2
    found = report.SearchReport(ASKED, read_space(ASKED), *rest, sensitivity=None, near={})  # pyright: ignore
    told, more = run.decided(found._replace(result=result()), lambda *said: None)
    assert told.result.stopped and more == {}


def test_a_neighbour_outside_the_bounds_is_told_and_not_taken():
    out = {"stacks": IntegerNeighbours(6, design([0.4], -0.5), design([1.1], -2.0), True)}
    inside = {"stacks": IntegerNeighbours(6, design([0.4], -1.5), design([0.6], -2.0), False)}
    assert reoptimise._better(out, -1.0) == []
    assert [d.value for d in reoptimise._better(inside, -1.0)] == [-1.5, -2.0]


def told(**changes: Any) -> dict[str, Any]:
    stacks = {"at": 6, "gain_of_one_fewer": -0.0025, "gain_of_one_more": -0.024, "on_bound": False}
    study = {"objective": {"maximise": None, "minimise": "usd_per_million_tokens"}}
    return {"study": study, "objective": 0.5847, "numbers": {"stacks": stacks | changes}}


def test_a_number_of_things_has_two_neighbours_and_no_price_that_they_do_not_confirm():
    (row,) = search_tables.neighbours(told()).rows
    assert row == ("stacks", "6", "0.25 % worse", "2.4 % worse", "")
    (row,) = search_tables.neighbours(
        told(gain_of_one_more=0.03, on_bound=True, usd_per_unit=900.0)
    ).rows
    assert row == ("stacks", "6", "0.25 % worse", "3 % better (outside the bounds)", "900")
    (row,) = search_tables.neighbours(told(gain_of_one_fewer=None)).rows
    assert row[2] == "breaks a limit"


def test_a_neighbour_gains_what_its_objective_is_better():
    found: Any = SimpleNamespace(best=design([0.5], -1.0))
    assert report._gain(found, design([0.4], -1.1)) == pytest.approx(np.expm1(0.1))
    assert report._gain(found, design([0.6], -0.9)) == pytest.approx(np.expm1(-0.1))
    assert report._gain(found, None) is None


def test_a_sold_chip_that_is_better_is_told_first():
    assert search_tables.better_existing(told()) == []
    ahead = [{"chip": "h100-sxm", "objective": 0.5827}, {"chip": "h20", "objective": 0.583}]
    (said,) = search_tables.better_existing(told() | {"ahead": ahead})
    assert said.startswith("h100-sxm, which is sold, is better than the design found")
    assert "usd_per_million_tokens 0.5827 beside 0.5847; so is h20" in said


def test_a_fact_that_was_not_searched_again_says_so():
    one = {"elasticity": -0.5, "if_doubled": None, "best_if_doubled": None}
    searched = one | {"searched_doubled": True, "if_doubled": 0.208, "best_if_doubled": "n5, hbm3e"}
    facts = {
        "a": searched,
        "b": one | {"searched_doubled": True},
        "c": one | {"searched_doubled": False},
    }
    rows = search_tables.sensitivities(told() | {"facts": facts}, 10).rows
    assert [row[2:] for row in rows] == [
        ("0.208", "n5, hbm3e"),
        ("no design found", ""),
        ("not searched", ""),
    ]


def test_units_and_bounds_of_a_study_are_those_of_its_file():
    space = read_space(ASKED)
    assert space.names == ["sram_mb", "sram_tb_per_s", "stacks", "tflops"]
    assert np.exp(space.low) == pytest.approx([10e6, 1e12, 0.25, 20e12])
    assert np.exp(space.high) == pytest.approx([1500e6, 200e12, 6, 2000e12])
    assert space.integer.tolist() == [False, False, True, False]
    middle = space.in_study_units(np.full(4, 0.5))
    assert middle["sram_mb"] == pytest.approx(np.sqrt(10 * 1500))
    start = start_vector(space, {"stacks": 6.0, "tflops": 200.0})
    assert start is not None and start == pytest.approx([0.5, 0.5, 1.0, 0.5])


def test_shares_stay_below_one_and_other_facts_do_not(monkeypatch: pytest.MonkeyPatch):
    from perfmodel.design import facts

    problem: Any = None
    monkeypatch.setattr(facts, "facts_of", lambda _: {"a": as_values(0.5), "b": as_values(0.5)})
    found = within(problem, ["owner.busy", "n5.wafer"], np.array([[3.0, 3.0], [0.1, 0.1]]))
    assert found == pytest.approx(np.array([[np.log(0.99 / 0.5), 3.0], [0.1, 0.1]]))
