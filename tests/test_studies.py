"""Studies answer with numbers that follow from the model and from facts."""

import itertools
import json

import numpy as np
import pytest
from command import run

from perfmodel.errors import InputError
from perfmodel.interface.pages.study import as_dict, lines
from perfmodel.interface.plots.studies import draw
from perfmodel.library.economics import Spread
from perfmodel.library.technology import load_constants
from perfmodel.studies.claim import Answer, Axis, Claim, Figure, Table, find, names, studies
from perfmodel.studies.draws import Draws, middle, show, within

QUICK = ("capacity", "wafer-yield", "crossover")
"""Studies that compile nothing."""


def _nothing(done: int, of: int) -> None:
    pass


def _check(study: Claim, answer: Answer) -> None:
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


@pytest.mark.long
@pytest.mark.parametrize("name", QUICK)
def test_a_study_answers(name):
    study = find(name)
    _check(study, study.run(_nothing))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name not in QUICK])
def test_a_study_that_compiles_answers(name):
    study = find(name)
    _check(study, study.run(_nothing))


@pytest.mark.long
def test_the_command_writes_an_answer_its_table_and_its_figure(tmp_path):
    page = tmp_path.with_suffix(".html")
    status, said, _ = run("study", "X", "--out", tmp_path, "--report", page, "--json")
    answer = json.loads(said)
    assert status == 0 and answer["name"] == "crossover" and answer["numbers"]["by_cost"] > 0
    endings = {".json", ".csv", ".png", ".svg", ".html"}
    assert {path.suffix for path in tmp_path.iterdir()} == endings
    assert "http" not in (tmp_path / "crossover.html").read_text().split("<script")[0]
    for words in ("<svg", "Verdict: the claim", "Assumed", "Sources", "Versions: python"):
        assert words in page.read_text()


def test_names_and_numbers_of_claims_are_those_of_the_modules():
    assert [study.name for study in studies()] == names()
    assert len({study.question for study in studies()}) == len(names())
    assert (
        find("q2").name == find("2").name == "capacity" and find("Peak_Bandwidth").question == "Q1"
    )


def test_an_unknown_study_names_those_that_there_are():
    with pytest.raises(InputError, match="allowed are peak-bandwidth, capacity"):
        find("nothing")
    with pytest.raises(InputError, match="nearest are peak-bandwidth"):
        find("peak-bandwith")


def test_draws_have_the_median_and_the_range_they_were_given():
    found = middle(Draws().of(Spread(10.0, 5.0, 40.0)))
    np.testing.assert_allclose(found, (10, 5, 40), rtol=0.1)  # 2,000 draws: a few per cent


def test_what_cannot_be_had_is_drawn_up_to_what_can():
    drawn = np.array([1.0] * 60 + [2.0] * 30 + [np.inf] * 10)
    assert middle(drawn).high == np.inf and within(drawn).high == 2.0


def test_what_is_certain_is_drawn_as_it_is():
    assert set(Draws().of(Spread.certain(3.0))) == {3.0}


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
    from perfmodel.studies.machine_families import crossings

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
    chart = draw(Figure("A figure", mark, *axes, rows, rule=2.0)).to_dict()
    assert "size (B)" in str(chart) and "time (s)" in str(chart)


def test_a_number_is_shown_without_an_exponent():
    assert [show(x) for x in (6268.7, 0.0123, 12.3, 0)] == ["6,300", "0.012", "12", "0"]
    assert show(6268.7, 4) == "6,269" and show(float("nan")) == "unknown"


def test_a_verdict_takes_nine_draws_of_ten():
    figure = Figure("", "lines", Axis("x", "x"), Axis("y", "y"), Axis("x", "x"), [])

    def verdict(share):
        return Answer("", share, "", Table([], []), figure, {}).verdict

    assert [verdict(share) for share in (0.95, 0.5, 0.05)] == [
        "holds",
        "is not decided",
        "does not hold",
    ]


def test_a_crossing_moves_with_the_price_of_hbm(monkeypatch):
    from perfmodel.studies import crossover

    now = np.median(crossover.crossings()["cost, arrays"])
    monkeypatch.setattr(crossover.hbm, "__defaults__", ("2023",))  # 7 USD/GB, not 15
    assert np.median(crossover.crossings()["cost, arrays"]) > 1.5 * now


def test_another_memory_is_held_against_sram_like_with_like():
    from perfmodel.studies.draws import Draws
    from perfmodel.studies.other_memories import gain

    # MRAM at 5 nm: 73 Mb/mm2 projected, over 31.8 of SRAM.
    assert np.median(gain("stt-mram", "n5", Draws())) == pytest.approx(73 / 31.8, rel=0.1)
    # eDRAM: a whole chip's 1.45 MB/mm2 over 10 Mb/mm2, which with its surroundings is 1.89 times as large.
    whole = 1.45 * 8 / 10 * float(load_constants().values.area.sram)
    assert np.median(gain("edram", "n16", Draws())) == pytest.approx(whole, rel=0.05)


def test_a_die_takes_as_many_devices_as_its_edge():
    from perfmodel.studies.memory_prices import kind

    # Two sides of 33 mm: six stacks of 11 mm, 18 channels of 3.6 mm.
    assert kind("hbm3e").devices == 6 and kind("ddr5").devices == 18
    assert kind("ddr5").capacity == pytest.approx(18 * 32e9)


def test_a_question_becomes_a_row_that_can_be_served():
    from perfmodel.inference.evaluate import block_of, plan_of
    from perfmodel.studies.machines import Load, Machine, Question, _row, deployment_of

    machine = Machine("H100", "h100-sxm", 8, weights="fp8", cache="fp8")
    row = _row(
        Question(machine, "llama-3.1-8b", Load(4, 100, 50)), deployment_of(machine, "llama-3.1-8b")
    )
    request, parallelism, *_ = block_of([row])[2]
    assert (request.concurrency[0], request.isl[0], request.osl[0]) == (4, 100, 50)
    assert (
        np.asarray(parallelism.tp)[0] == 8
        and not row[0].open_loop
        and not plan_of([row[0]]).overflows
    )


def test_a_pool_holds_caches_without_weights():
    from perfmodel.studies.cache_placement import _room

    # Llama-3.1-70B in fp8: 164 kB a token; eight H100 hold 589 GB: 3.6 million tokens.
    assert _room("h100-sxm", 27, 131072) and not _room("h100-sxm", 28, 131072)


def test_speed_is_worth_more_in_a_fast_tier_than_between_open_offers():
    from perfmodel.studies.worth_of_speed import exponents

    # ln(6 / 5.4) / ln(167 / 36), and ln 6 / ln 2.5.
    np.testing.assert_allclose(exponents(), (0.0687, 1.955), rtol=1e-2)


def test_a_node_scales_the_same_die():
    from perfmodel.library.chip import load_chip
    from perfmodel.studies.node_choice import Choice, rebuilt

    old = load_chip("lpu-v1")
    same, new = rebuilt(old, Choice("n16")), rebuilt(old, Choice("n5"))
    assert float(same.shared.capacity) == pytest.approx(float(old.shared.capacity))
    # 31.8 over 10 Mb/mm2 of SRAM.
    assert float(new.shared.capacity / old.shared.capacity) == pytest.approx(3.18, rel=1e-3)
    assert float(new.matrix_energy["int8"]) < float(old.matrix_energy["int8"])


def test_a_searched_machine_is_counted_in_chips_and_wins_where_it_is_cheapest():
    from perfmodel.studies.searched_machines import Winner, won

    drawn = np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 5.0]])
    both = [
        Winner("n5", name, {"tensor": 8.0}, 1.0, d) for name, d in zip("ab", drawn, strict=True)
    ]
    assert won(dict(enumerate(both))) == {0: 0.75, 1: 0.25} and both[0].chips == 8


def test_the_verdict_is_that_of_the_machines_whose_token_is_cheaper():
    from perfmodel.studies.claim import Side, verdict

    true, false = np.array([True, True, True, False]), np.array([False, False, True, False])
    known = Side(true, np.full(4, 4.0))
    better, worse = (verdict(known, Side(false, np.full(4, price))) for price in (1.0, 8.0))
    assert (better.share, worse.share) == (0.25, 0.75)
    assert "75 %" in better.said and "25 %" in better.said and "0.25 times" in better.said
    assert better.said.endswith("searched machines.") and worse.said.endswith("existing machines.")


@pytest.mark.slow
def test_fronts_of_searched_machines_have_no_holes():
    from perfmodel.studies.searched_machines import cheapest, designed

    for front in designed().values():
        # Towards the fastest of all the price climbs without end; the hole that there was trebled it.
        speeds = np.geomspace(front[0].speed, 0.9 * front[-1].speed, 60)
        dollars = [found.dollars for s in speeds if (found := cheapest(front, s))]
        assert len(dollars) == 60
        assert all(1 <= b / a < 1.5 for a, b in itertools.pairwise(dollars))


def test_a_study_of_machines_like_an_lpu_can_be_posed():
    from perfmodel.design.resolve import resolve_study
    from perfmodel.design.study import Study
    from perfmodel.studies.searched_machines import GOAL, like_an_lpu

    asked = like_an_lpu(65536.0, 200.0, memory=["hbm3e", "none"], node=["n5", "n5+stt-mram"])
    problem = resolve_study(Study.model_validate(GOAL | asked))
    assert problem.options == (2, 2) and {"pipeline", "sram_mb", "power_w"} <= set(problem.names)


def test_modules_beside_a_searched_chip_are_no_larger_than_servers_have():
    from perfmodel.design.resolve import resolve_study
    from perfmodel.design.study import Study
    from perfmodel.studies.memory_prices import _asked, _with_modules
    from perfmodel.studies.searched_machines import GOAL

    study = Study.model_validate(GOAL | _asked("2026", 4.0))
    sizes = dict(
        zip(study.space.memory, _with_modules(resolve_study(study)).memories.capacity, strict=True)
    )
    assert [float(sizes[name]) for name in ("ddr5", "hbm3e")] == pytest.approx([32e9, 36e9])


def test_hbm_that_is_not_bought_is_counted():
    from perfmodel.studies.hbm_demand import erosion

    part, slow, quick = np.array([0.1, 0.1, 0.1]), np.full(3, 1.0), np.array([9.0, 9.0, np.inf])
    # A tenth of tokens hold nine times as much as the others: as much as all of them.
    found = erosion(part, slow, quick, np.array([True, False, True]))
    np.testing.assert_allclose(found, [0.5, 0.0, 0.0])


def test_searched_machines_of_sram_are_cheaper_where_their_front_is_lower_or_alone():
    from perfmodel.studies.searched_machines import Designed, cheaper, cheapest

    hbm = [Designed(20.0, 1.0, 5.0), Designed(100.0, 3.0, 9.0)]
    alone = [Designed(50.0, 2.0, 0.0), Designed(300.0, 2.5, 0.0)]
    speeds = np.array([10.0, 30.0, 200.0])
    assert cheaper({True: hbm, False: alone}, speeds).tolist() == [30.0, 200.0]
    assert cheaper({True: alone, False: hbm}, speeds).tolist() == [10.0]
    assert cheapest(hbm, 30.0) == hbm[1] and cheapest(hbm, 150.0) is None
