"""What a search tells people who decide: prices of limits, facts that move it, rivals, who wins where."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from perfmodel.design.analysis import analysis_dict
from perfmodel.design.existing_chips import groups_of_chips, size_of
from perfmodel.design.facts import SHARES, elasticities, facts_of, names, shifted, within
from perfmodel.design.multistart import search
from perfmodel.design.objectives import LARGER, SMALLER
from perfmodel.design.problem import Problem
from perfmodel.design.reoptimise import improve_by_neighbours, search_doubled
from perfmodel.design.report import SearchReport, make_report, objective_value
from perfmodel.design.resolve import resolve_study
from perfmodel.design.sensitivity import sensitivity
from perfmodel.design.starting_points import variants
from perfmodel.design.state import MIN_GAIN
from perfmodel.design.study import Study, read_study
from perfmodel.design.system import scale_model
from perfmodel.design.uncertainty import (
    Family,
    _best_provision,
    deviations,
    draws,
    families,
    value_under,
    win_shares,
)
from perfmodel.design.variables import PARALLELISM, read_space
from perfmodel.design.winner_map import MAX_FACTOR, SRAM_ALONE, _winners
from perfmodel.errors import InputError
from perfmodel.files import write_toml
from perfmodel.interface import search_tables
from perfmodel.library.model import load_model
from perfmodel.units import as_scalar
from perfmodel.workload.model import parameters, traced

ASKED = {
    "objective": {"minimise": "usd_per_million_tokens"},
    "constraints": {"power_w": 1000, "tokens_per_s_per_user": 30},
    "workload": [{"model": "llama-3.1-8b", "batch": 32, "context": 4096}],
    "space": {"memory": ["hbm3e", "none"], "tensor": {"low": 1, "high": 64}},
    "optimiser": {"starts": 16, "steps": 48},
}
"""Whether SRAM alone or HBM makes cheaper tokens of a small model."""


def asked(**constraints: float) -> Study:
    return Study.model_validate(ASKED | {"constraints": ASKED["constraints"] | constraints})


@pytest.fixture(scope="module")
def study() -> Study:
    return asked()


@pytest.fixture(scope="module")
def problem(study: Study) -> Problem:
    return resolve_study(study)


def solved(study: Study) -> SearchReport:
    space, problem = read_space(study), resolve_study(study)
    result = search(problem, space.integer, study.optimiser)
    return make_report(study, space, problem, result)


@pytest.fixture(scope="module")
def found(study: Study) -> SearchReport:
    return solved(study)


def test_every_fact_has_a_name(study: Study, problem: Problem):
    found = names(problem, study.space)
    assert len(found) == len(set(found)) == len(ravel_pytree(facts_of(problem))[0])
    wanted = {"n5.wafer", "hbm3e.price", "nvlink.energy", "area.sram", "owner.tariff", "slow.none"}
    assert wanted <= set(found)


def test_a_fact_that_doubles_changes_nothing_else(study: Study, problem: Problem):
    at = names(problem, study.space).index("hbm3e.price")
    logs = np.log(2) * np.eye(len(names(problem, study.space)))[at]
    before, after = (
        ravel_pytree(facts_of(p))[0] for p in (problem, shifted(problem, jnp.asarray(logs)))
    )
    ratio = np.asarray(after / before)[np.asarray(before) > 0]
    assert np.sum(ratio > 1.5) == 1 and np.allclose(np.sort(ratio)[:-1], 1)
    assert float(after[at]) == pytest.approx(2 * float(before[at]))


def test_facts_are_drawn_as_far_as_they_are_known(study: Study, problem: Problem):
    facts = names(problem, study.space)
    width = dict(zip(facts, deviations(study, facts), strict=True))
    assert width["area.sram"] == pytest.approx([0.091, 0.091], abs=0.01)  # of its fit
    assert width["n5.sram_leakage"] == pytest.approx(np.log(10) / 1.6449)  # ten times each way
    assert not width["asked.batch"].any() and width["slow.hbm3e"].all()
    drawn = draws(["n5.wafer"], np.array([[0.1, 0.3]]), 4000, 0)[:, 0]
    assert np.quantile(drawn, [0.05, 0.5, 0.95]) == pytest.approx([-0.164, 0, 0.493], abs=0.03)


def test_a_wafer_is_drawn_once_for_all_memories_on_its_dies():
    names = ["n5.wafer", "n5+stt-mram.wafer", "n5.sram_density", "n5+stt-mram.sram_density"]
    drawn = draws(names, np.ones((4, 2)), 100, 0)
    assert (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 2] != drawn[:, 3]).any()
    space = {"memory": "none", "node": ["n5", "n5+stt-mram"]}
    width = deviations(Study.model_validate(ASKED | {"space": space}), names)
    assert (width[0] == width[1]).all() and width[2].max() == 0
    assert width[3] == pytest.approx(np.log([73 / 0.53, 99 / 73]) / 1.6449, rel=1e-3)


def test_a_family_takes_the_power_that_serves_it_best():
    values = np.array([[[1.0, 5.0, 3.0], [2.0, 4.0, 4.0]]])
    kept = np.array([[[False, True, False], [True, True, False]]])
    value, holds = _best_provision(values, kept)
    assert value.tolist() == [[2.0, 4.0, 3.0]] and holds.tolist() == [[True, True, False]]


def test_shares_are_at_most_one(study: Study, problem: Problem):
    facts = names(problem, study.space)
    logs = within(problem, facts, np.full((1, len(facts)), 3.0))[0]
    shares = np.exp(logs) * np.asarray(ravel_pytree(facts_of(problem))[0])
    assert max(shares[facts.index(name)] for name in SHARES) <= 1
    assert logs[facts.index("n5.wafer")] == 3


def test_a_model_twice_as_large_has_twice_the_parameters():
    model = traced(load_model("llama-3.1-70b"))
    layers = [
        float(parameters(m)) - 2 * float(m.hidden * m.vocabulary)
        for m in (model, scale_model(model, as_scalar(2.0)))
    ]
    assert layers[1] / layers[0] == pytest.approx(2, rel=0.01)


def test_chips_of_the_library_are_priced_like_searched_ones(problem: Problem):
    found = {
        name: (land, i) for names, land in groups_of_chips(problem) for i, name in enumerate(names)
    }
    assert {"h100-sxm", "b200-sxm", "mi300x", "l40s"} <= set(found)
    assert not {"a100-sxm-80gb", "wse-3"} & set(found)  # no fp8; another way of working
    land, at = found["h100-sxm"]
    h100 = jax.tree.map(lambda leaf: leaf[at], land.designs)
    assert size_of(h100) == pytest.approx(
        {"area_mm2": 814, "power_w": 700, "memory_gb": 80, "memory_tb_per_s": 3.35, "tflops": 989},
        rel=1e-3,
    )
    # Its price of 28,000 USD, less the margin of 75 % that a searched chip's maker has.
    assert float(h100.cost) == pytest.approx(0.25 * 28000, rel=1e-3)


def test_numbers_of_chips_that_are_tried_are_powers_of_two_and_the_designs_own(study: Study):
    space = read_space(study)
    place = space.low + 0.0
    place[space.names.index("tensor")] = np.log(3.0)
    unit = space.unit(place)
    found = space.logarithms(variants(space, unit, PARALLELISM, 100))
    tried = np.exp(found[:, space.names.index("tensor")])
    assert tried == pytest.approx([1, 2, 3, 4, 8, 16, 32, 64])
    assert len(variants(space, unit, PARALLELISM, 3)) == 3


def test_the_share_of_a_family_is_counted():
    values = np.array([[1.0, 2.0, 3.0, 1.0], [2.0, 1.0, 4.0, 2.0]])
    assert win_shares(values).tolist() == [0.75, 0.25]


def test_a_place_is_won_by_the_least_and_lost_by_the_next_of_another_kind():
    least = np.log([[1.0, 8.0, 1.0], [3.0, 9.0, 1.0], [2.0, 4.0, 1.0]])
    nobody, hbm_alone = np.full((3, 1), np.inf), np.array([[0.0], [1.0], [np.inf]])
    table = np.hstack([least[:, :2], nobody, hbm_alone])
    found = _winners(table, ["HBM", "HBM", "SRAM"], np.arange(4.0), np.arange(4.0))
    won = [(place.winner, round(place.factor, 5)) for place in found]
    assert won == [("HBM", 2.0), ("SRAM", 2.0), ("HBM", MAX_FACTOR)]


BAD = {
    "no whole number lies between 0.2 and 0.6": {"space": {"tensor": {"low": 0.2, "high": 0.6}}},
    "nothing is free": {
        "space": dict.fromkeys(("sram_mb", "sram_tb_per_s", "stacks", "tflops"), 1)
    },
}


@pytest.mark.parametrize("said", BAD)
def test_a_space_that_holds_no_design_is_refused(said: str):
    with pytest.raises(InputError, match=said):
        read_space(Study.model_validate(ASKED | BAD[said]))


def test_every_figure_and_the_memory_of_a_system_can_be_limited():
    figures = [name for name in (*LARGER, *SMALLER) if name != "ttft_ms"]
    limited = resolve_study(asked(system_memory_gb=100, **dict.fromkeys(figures, 1.0)))
    assert {*figures, "system_memory_gb"} <= set(limited.constraint_names)


WRONG = {
    "no first token": {"constraints": {"power_w": 1000, "ttft_ms": 100}},
    "space.power_w reaches 2000": {"space": {"power_w": {"low": 100, "high": 2000}}},
    "low 64 is not below high 1": {"space": {"tensor": {"low": 64, "high": 1}}},
    "space.tensr: no such key": {"space": {"tensr": 4}},
    "constraints.power_w: it is -1; it should be greater than 0": {"constraints": {"power_w": -1}},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_with_a_study_is_said_in_one_sentence(said: str, tmp_path: Path):
    path = tmp_path / "study.toml"
    write_toml(path, ASKED | WRONG[said])
    with pytest.raises(InputError, match=re.escape(said)) as wrong:
        read_study(path)
    assert str(wrong.value).count(". ") == 0


def test_an_empty_study_and_a_chip_that_is_unknown_are_refused(tmp_path: Path):
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(InputError, match="objective: it is missing"):
        read_study(tmp_path / "empty.toml")
    with pytest.raises(InputError, match="unknown chip 'h1000'"):
        resolve_study(Study.model_validate(ASKED | {"space": {"base": "h1000"}}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [{"area_mm2": 300.0, "tokens_per_s_per_user": 60.0}, {"tokens_per_s_per_user": 120.0}],
)
def test_a_limit_is_worth_what_moving_it_brings(limits: dict[str, float]):
    """Each limit that binds, made two per cent looser and tighter, and the study solved anew."""
    at = solved(asked(**limits))
    for name in limits:
        price = at.sensitivity.multipliers[at.problem.constraint_names.index(name)]
        moved = [
            solved(asked(**(limits | {name: limits[name] * factor}))).best.value
            for factor in (0.98, 1.02)
        ]
        looser = 1 if name == "area_mm2" else -1
        gain = looser * (moved[0] - moved[1]) / np.log(1.02 / 0.98)
        assert gain == pytest.approx(price, abs=0.02 + 0.1 * abs(price)), (name, gain, price)


@pytest.mark.slow
def test_a_fact_moves_the_best_objective_as_its_elasticity_says(found: SearchReport):
    """Against differences with the design fixed, and against the study solved anew at another price."""
    problem, best = found.problem, found.best
    facts = names(problem, found.study.space)
    slopes = elasticities(problem, best.unit, best.choice, found.sensitivity.multipliers)
    price = sensitivity(found.solver, best).multipliers
    alone = Family("n5", "hbm3e", [best], price)
    for name in ("hbm3e.price", "n5.wafer", "area.sram", "owner.tariff", "slow.hbm3e"):
        logs = 0.02 * np.outer([1, -1], np.eye(len(facts))[facts.index(name)])
        low, high = value_under(problem, [alone], logs)[0][0]
        assert (high - low) / 0.04 == pytest.approx(slopes[facts.index(name)], abs=2e-3), name
    dollars = float(problem.memories.price[best.choice[1]]) * 1e9
    values = []
    for factor in (0.95, 1.05):
        space = ASKED["space"] | {"memory_usd_per_gb": factor * dollars}
        values.append(solved(Study.model_validate(ASKED | {"space": space})).best.value)
    gain = (values[0] - values[1]) / np.log(1.05 / 0.95)
    assert gain == pytest.approx(slopes[facts.index("hbm3e.price")], abs=0.01)


@pytest.mark.slow
def test_what_is_told_where_a_fact_doubles_is_what_a_search_finds_there(found: SearchReport):
    """Twice the tokens ask for twice the memory, so for other numbers of chips and of users."""
    known = families(found.study, found.solver, found.result.designs)
    facts = names(found.problem, found.study.space)
    place = {"asked.context": facts.index("asked.context")}
    told = search_doubled(found.solver, found.space, known, place)
    workload = [ASKED["workload"][0] | {"context": 8192}]
    again = solved(Study.model_validate(ASKED | {"workload": workload}))
    best = told["asked.context"]
    assert best is not None and best.design.value == pytest.approx(again.best.value, abs=0.02)
    assert best.family == f"n5, {ASKED['space']['memory'][int(again.best.choice[1])]}"


@pytest.mark.slow
def test_a_stack_fewer_or_more_is_designed_again_and_none_is_better(found: SearchReport):
    result, near = improve_by_neighbours(found.solver, found.problem.names, found.result)
    stacks = near["stacks"]
    best = result.designs[0]
    assert round(found.space.in_study_units(best.unit)["stacks"]) == stacks.number
    assert all(
        one is None or one.value > best.value - MIN_GAIN
        for one in (stacks.fewer, None if stacks.bound else stacks.more)
    )


@pytest.mark.slow
def test_a_search_tells_who_else_competes_and_what_decides():
    """A chip that may be given less power than the limit, for power is bought too; eight users fit into SRAM.

    HBM wins for any number of users and tokens, SRAM where models are small and HBM expensive.
    """
    space = ASKED["space"] | {"power_w": {"low": 200, "high": 1000}}
    workload = [ASKED["workload"][0] | {"batch": 8}]
    found = solved(Study.model_validate(ASKED | {"space": space, "workload": workload}))
    told = analysis_dict(found)
    near = told["rivals"][0]
    assert near["distance"] == min(one["distance"] for one in told["rivals"])
    kept = [one["objective"] for one in told["rivals"] if not one["broken"]]
    assert objective_value(found.study, found.best.value) < min(kept)
    assert {one["name"] for one in told["families"]} == {"n5, hbm3e", "n5, none"}
    assert sum(one["share_of_draws"] for one in told["families"]) == pytest.approx(1)
    assert told["facts"]["hbm3e.price"]["elasticity"] < 0
    winners = [{place["winner"] for place in one["places"]} for one in told["maps"]]
    assert winners == [{"hbm3e"}, {"hbm3e", SRAM_ALONE}]
    assert search_tables.win_probability(told | {"study": found.study.model_dump()}).rows
