"""Known chips beside the model of area, power and cost: facts, fits, and what is reported."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import run as command
from silicon import number

from perfmodel.calibration import run_protocol, technology
from perfmodel.calibration.acceptance import technology_summary
from perfmodel.calibration.map_estimate import Estimation, leave_one_group_out, map_estimate
from perfmodel.calibration.metrics import Scored
from perfmodel.calibration.technology import made_scores, scores, sustained_scores, verdict
from perfmodel.errors import InputError
from perfmodel.hardware.constants import draw
from perfmodel.hardware.cost import YEAR, running
from perfmodel.library import known
from perfmodel.library.chip import chip_files
from perfmodel.library.economics import load_ownership
from perfmodel.library.schema import si_or
from perfmodel.library.technology import load_constants, load_node
from perfmodel.units import as_values

MUST_BE_THERE = {
    "GA100", "GH100", "GB100", "MI300 XCD", "MI300 IOD", "AD102", "TPU v4", "LPU v1", "IPU Mk2",
    "WSE-2", "WSE-3",
}  # fmt: skip


@pytest.fixture(scope="module")
def scored() -> list[Scored]:
    return made_scores(load_constants())


# Facts


def test_at_least_27_dies_are_known():
    dies = {die.name: die for die in known.known_dies()}
    assert len(dies) >= 27 and set(dies) >= MUST_BE_THERE
    assert dies["GH100"].area == pytest.approx(814e-6) and dies["WSE-3"].kind == "wafer"
    assert float(dies["WSE-3"].parts.sram) == pytest.approx(970e3 * 48 * 1024, rel=1e-3)


def test_every_known_figure_names_its_source():
    for name in ("dies.csv", "costs.csv"):
        assert all(row["source"] for row in known._rows(name))
    assert all(row["source"] for row in known._rows("powers.csv") if row["silicon_mm2"])


def test_a_nodes_range_of_clocks_holds_those_of_its_chips():
    for name, file in chip_files().items():
        clock = load_node(file.node).clock
        assert clock is not None and clock.low is not None and clock.high is not None
        assert clock.low - 0.05 <= si_or(file.clock, "1/s") / 1e9 <= clock.high + 0.05, name


def test_a_package_is_read_from_its_words():
    found = known._dies("8 x 115 n5 stacked")
    assert (float(found.count), float(found.stacked)) == (8, 1)
    assert float(found.area) == pytest.approx(115e-6)
    with pytest.raises(InputError, match="names no dies; write `8 x 115 n5 stacked`"):
        known._dies("eight dies")


# The fit, on a line whose answer is known


def line(noise: float) -> Estimation:
    """y = a x with a prior of 1 +- 1 in the logarithm, and facts that say 2."""
    x = as_values(np.array([1.0, 2.0, 4.0]))
    prior, spread = {"a": as_values(1.0)}, {"a": as_values(1.0)}
    facts = (2 * x, jnp.full(3, noise), (0, 1, 1))
    return Estimation(prior, spread, lambda c: c["a"] * x, *facts)  # pyright: ignore


def test_facts_move_a_constant_by_their_weight_against_the_prior():
    # Three facts of spread 1 and a prior of spread 1: three quarters of ln 2, spread 1/2.
    found = map_estimate(line(1.0))
    assert float(found.values["a"]) == pytest.approx(2**0.75, rel=1e-3)  # pyright: ignore[reportIndexIssue]
    assert float(found.spreads["a"]) == pytest.approx(0.5, rel=1e-3)  # pyright: ignore[reportIndexIssue]


def test_a_fact_is_left_out_with_its_group():
    # The first is predicted from two facts: 2^(2/3); the others from one: 2^(1/2), times x.
    expected = [2 ** (2 / 3), 2 * 2**0.5, 4 * 2**0.5]
    assert np.asarray(leave_one_group_out(line(1.0))) == pytest.approx(expected, rel=1e-3)


def test_verdicts_follow_what_is_left_of_the_prior():
    assert [verdict(s, 1.0) for s in (0.4, 0.7, 0.9)] == ["identified", "weak", "prior"]


# What is shipped


def test_shipped_constants_are_those_of_the_fit():
    constants = load_constants()
    found = map_estimate(
        technology.cost_estimation(constants, [c for c in known.known_costs() if c.used])
    )
    assert float(found.values.package) == pytest.approx(  # pyright: ignore[reportAttributeAccessIssue]
        float(constants.values.cost.package), rel=0.01
    )


def test_draws_of_constants_spread_as_they_are_known():
    constants = load_constants()
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = jax.vmap(draw, in_axes=(None, None, 0))(constants.values, constants.spreads, keys)
    logs = np.log(np.asarray(drawn.area.sram) / float(constants.values.area.sram))
    assert logs.std() == pytest.approx(float(constants.spreads.area.sram), rel=0.15)


def test_a_constant_that_is_missing_is_named(tmp_path: Path):
    from perfmodel.library.fitted import FITTED

    text = (FITTED / "technology.toml").read_text()
    (tmp_path / "technology.toml").write_text(text.replace("[area.link]", "[area.lnk]"))
    with pytest.raises(InputError, match=r"lacks link|unknown constant, lnk"):
        load_constants(tmp_path)


# Energy and owning


def test_an_hour_costs_more_with_more_around_the_chip():
    owner = load_ownership()
    little, much = (eqx.tree_at(lambda o: o.system, owner, number(s)) for s in (0.2, 0.8))
    paid, drawn, limit = number(3e4), number(560.0), number(700.0)
    one, two = (3600 * float(running(paid, drawn, limit, who)) for who in (little, much))
    # Four years of 30,000 USD: 0.856 USD/h for each unit of share; interest, and upkeep.
    years = float(owner.life) / YEAR
    share = 1 / years + float(owner.interest) / 2 + float(owner.upkeep)
    more = 0.6 * 3e4 * share / 8766
    assert two - one == pytest.approx(more, rel=1e-3)


# What is reached


@pytest.mark.long
def test_what_must_be_reached_is_reached(scored: list[Scored]):
    records = [one._asdict() for one in scored]
    missed = [line[0] for line in technology_summary(records) if line[-1] != "yes"]
    assert not missed


@pytest.mark.slow
def test_energy_at_the_wall_and_owning_reach_what_they_must():
    lines = technology_summary([one._asdict() for one in scores()])
    met = {line[0]: line[-1] for line in lines}
    assert met["energy of a token at the wall"] == met["owning a chip for an hour"] == "yes"
    assert met["a million tokens at published rates"] == "yes"


def test_one_law_of_power_explains_the_rates_that_products_sustain():
    shares = list(sustained_scores(load_constants()))
    assert len(shares) == 6 and max(abs(one.error) for one in shares) < 0.2


@pytest.mark.long
def test_no_chiplet_and_no_wafer_is_off_by_more_than_thirty_per_cent(scored: list[Scored]):
    areas = [one for one in scored if one.quantity == "die_area_mm2"]
    dies = [one for one in areas if one.kind in ("chiplet", "wafer")]
    assert len(dies) == 11
    assert not {one.chip for one in dies if abs(one.error) > 0.3}


def test_the_command_writes_the_section_and_prints_it(tmp_path: Path, monkeypatch):
    one = Scored("H100", "die_area_mm2", "monolithic", 800.0, 814.0)
    monkeypatch.setattr(run_protocol, "scores", lambda: [one])
    path = tmp_path / "report.json"
    status, out, err = command("validate", "--ops", "technology", "--json", path)
    assert (status, err) == (0, "") and "die area" in out and "-2 %" in out
    (record,) = json.loads(path.read_text())["technology"]
    keys = {"chip", "quantity", "predicted", "known", "split"}
    assert keys <= record.keys() and record["split"] == "leave-one-out"


def test_a_line_says_whether_it_is_met():
    close = {"chip": "a", "quantity": "cost_usd", "kind": "", "predicted": 1.1, "known": 1.0}
    far = close | {"predicted": 1.3}
    assert technology_summary([close])[0][-1] == "yes"
    name, count, *_, must, met = technology_summary([close, far])[0]
    assert (name, count, must, met) == ("cost to make, with memory", "2", "worst 15.0 %", "no")
