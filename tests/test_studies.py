"""Studies answer with numbers that follow from the model and from facts."""

import numpy as np
import pytest

from perfmodel.errors import InputError
from perfmodel.interface.plots.studies import draw
from perfmodel.interface.studies import as_dict, lines
from perfmodel.library.market import Spread, hour, market
from perfmodel.studies.answer import Answer, Axis, Figure, Study, Table, show
from perfmodel.studies.catalogue import find, names, studies
from perfmodel.studies.draws import Draws, middle

QUICK = ("capacity", "wafer-yield", "crossover")
"""Studies that compile nothing."""


def _nothing(done: int, of: int) -> None:
    pass


def _check(study: Study, answer: Answer) -> None:
    assert any(c.isdigit() for c in answer.said) and answer.said.endswith(".")
    assert 0 <= answer.share <= 1 and answer.sure and answer.caveats
    assert answer.table.rows and answer.numbers
    assert all(len(row) == len(answer.table.names) for row in answer.table.rows)
    assert all(
        isinstance(value, str | bool) or not np.isinf(value)
        for row in answer.table.rows
        for value in row
    )
    axes = [a for a in (answer.figure.x, answer.figure.y) if a.title]
    assert any(axis.unit for axis in axes), f"the figure of {study.name} has no unit"
    draw(answer.figure).to_dict()
    assert as_dict(study, answer)["numbers"] and lines(study, answer)


@pytest.mark.parametrize("name", QUICK)
def test_a_study_answers(name):
    study = find(name)
    _check(study, study.run(_nothing))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name not in QUICK])
def test_a_study_that_compiles_answers(name):
    study = find(name)
    _check(study, study.run(_nothing))


def test_names_and_numbers_of_claims_are_those_of_the_modules():
    assert [study.name for study in studies()] == names()
    assert len({study.question for study in studies()}) == len(names())
    assert find("q2").name == "capacity" and find("Peak_Bandwidth").question == "Q1"


def test_an_unknown_study_names_those_that_there_are():
    with pytest.raises(InputError, match="there are peak-bandwidth, capacity"):
        find("nothing")


def test_draws_have_the_median_and_the_range_they_were_given():
    found = middle(Draws().of(Spread(10.0, 5.0, 40.0)))
    np.testing.assert_allclose(found, (10, 5, 40), rtol=0.1)  # 2,000 draws: a few per cent


def test_what_is_certain_is_drawn_as_it_is():
    assert set(Draws().of(Spread.certain(3.0))) == {3.0}


def test_every_chip_of_the_market_has_a_price_with_a_range():
    for name, one in market().hour.items():
        assert hour(name).low < hour(name).value <= hour(name).high, name
        assert one.source in market().sources


def test_capacity_counts_chips_by_hand():
    from perfmodel.studies.capacity import Need, counts

    # 100 GB in 80 GB x 0.9 = 72 GB: two; 10 TB/s over 3.35 TB/s: three.
    assert counts("h100-sxm", Need(100e9, 0.0, 10e12)) == (2, 3)


def test_a_ratio_of_peaks_follows_the_chips_facts(monkeypatch):
    from perfmodel.studies import peak_bandwidth

    before = peak_bandwidth.peaks()["peak_ratio"]
    assert before == pytest.approx(21e15 / 3.35e12)
    monkeypatch.setattr(peak_bandwidth, "GPU", "h200-sxm")  # 4.8 TB/s
    assert peak_bandwidth.peaks()["peak_ratio"] == pytest.approx(before * 3.35 / 4.8)


def test_a_wafer_without_spare_cores_dies_of_its_first_defect():
    from perfmodel.studies.wafer_yield import facts, yields

    # 4.6 defects on the wafer: e^-4.6 of all wafers have none.
    few = 4.6 / facts()[0]
    assert float(yields(np.array(0.05), few, 0.0)) == pytest.approx(np.exp(-4.6), rel=1e-2)
    assert float(yields(np.array(0.05), few, 0.05)) == pytest.approx(1.0)


def test_costs_cross_where_hbm_bought_for_its_reads_costs_as_much():
    from perfmodel.studies.crossover import Side, by_cost, by_energy

    one = np.array(1.0)
    hbm, sram = Side(one, one, 5 * one, 30.0), Side(20 * one, 9 * one, one, np.inf)
    assert by_cost(sram, hbm) == 600  # 20 times the price a byte, 30 reads a second
    assert by_energy(sram, hbm) == 2  # 8 W more, 4 J less a read


def test_a_crossing_is_the_first_speed_from_which_a_side_is_never_dearer():
    from perfmodel.studies.fronts import crossings

    own = np.array([[3.0, 1.0], [2.0, 1.0], [2.0, np.inf]])
    other = np.array([[1.0, 2.0], [2.5, 2.0], [np.inf, 1.0]])
    np.testing.assert_array_equal(crossings([10.0, 20.0, 30.0], own, other), [20.0, np.inf])


@pytest.mark.parametrize("mark", ["lines", "points", "bars", "cells"])
def test_every_kind_of_figure_is_drawn(mark):
    rows = [
        {"x": x, "y": 2.0 * x, "low": 1.0 * x, "high": 3.0 * x, "who": "a", "factor": 2.0}
        for x in (1, 2)
    ]
    axes = (Axis("x", "size", "B", log=True), Axis("y", "time", "s", log=True), Axis("who", "chip"))
    band = None if mark == "cells" else ("low", "high")
    chart = draw(Figure("A figure", mark, *axes, rows, band=band, rule=2.0)).to_dict()
    assert "size (B)" in str(chart) and "time (s)" in str(chart)


def test_a_number_is_shown_without_an_exponent():
    assert [show(x) for x in (6268.7, 0.0123, 12.3, 0)] == ["6,300", "0.012", "12", "0"]
    assert show(6268.7, 4) == "6,269" and show(float("nan")) == "unknown"


def test_a_verdict_takes_nine_draws_of_ten():
    figure = Figure("", "lines", Axis("x", "x"), Axis("y", "y"), Axis("x", "x"), [])

    def verdict(share):
        return Answer("", share, "", Table([], []), figure, (), {}).verdict

    assert [verdict(share) for share in (0.95, 0.5, 0.05)] == [
        "holds",
        "is not decided",
        "does not hold",
    ]
