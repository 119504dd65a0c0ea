"""Which deployment is chosen under a limit on TPOT, and what throughput that loses."""

import numpy as np
import pytest

from perfmodel.calibration.data.inferencex import LENGTH_RATIO, Run
from perfmodel.calibration.decision_metrics import decision_metrics, decisions_of
from perfmodel.calibration.decisions import (
    CHANCE,
    CONFIGURATOR,
    MOST_RANKS,
    POINT,
    Configurations,
    Options,
    Outcome,
    best_options,
    outcomes_of,
    regrets,
    throughput_of,
)
from perfmodel.errors import InputError

NAN = float("nan")


def options(
    limits: list[float],
    tpot: list[float],
    throughput: list[float],
    predicted: list[float],
    high: float = 1.0,
    configurator: float = NAN,
) -> Options:
    """Decisions over the same configurations, whose predicted throughput is the measured one; times in ms."""
    n, times = len(tpot), len(limits)
    columns = (
        np.arange(n),
        np.array([1.0] * (n - 1) + [8.0]),
        np.ones(n),
        np.array(tpot),
        np.array(throughput),
        np.array(predicted),
        np.full(n, high),
        np.array(throughput),
        np.full(n, configurator),
    )
    of = Configurations(*(np.tile(column, times) for column in columns))
    return Options(np.repeat(np.arange(times), n), np.repeat(np.array(limits), n), of)


TPOT, THROUGHPUT = [10.0, 20.0, 21.0, 30.0], [100.0, 200.0, 210.0, 400.0]


def test_regret_is_the_throughput_that_is_lost_and_1_where_the_limit_is_broken():
    broken, regret = regrets(options([20.0], TPOT, THROUGHPUT, TPOT))
    # The best that keeps 20 ms has 200 tokens/s; 21 ms exceeds it by less than a tenth, 30 ms by more.
    assert broken.tolist() == [False, False, False, True]
    assert regret == pytest.approx([0.5, 0.0, -0.05, 1.0])


def test_the_most_throughput_that_keeps_the_limit_is_chosen_else_the_fastest():
    asked = options([20.0, 5.0, 100.0], TPOT, THROUGHPUT, TPOT)
    chosen = best_options(asked, asked.of.predicted, asked.of.predicted_throughput)
    assert asked.of.run[chosen].tolist() == [1, 0, 3]


def test_the_surer_a_promise_the_slower_what_is_chosen():
    """Predictions are 1.5 x too fast, and ranges end at twice of them: promised is 1, 1.43 and 1.72 x."""
    predicted = [x / 1.5 for x in TPOT]
    found = outcomes_of(options([20.0], TPOT, THROUGHPUT, predicted, high=2.0))
    chosen = {name: one.option.tolist() for name, one in found.items()}
    assert chosen[POINT] == [3]  # 30 / 1.5 keeps 20
    assert chosen["confidence 80 %"] == [2]  # 21 / 1.5 x 1.43 = 20.0, 30 / 1.5 x 1.43 = 28.5
    assert chosen["confidence 90 %"] == [0]  # 20 / 1.5 x 1.72 = 22.9
    assert [found[name].broken[0] for name in (POINT, "confidence 90 %")] == [1, 0]


def test_baselines_choose_and_chance_is_what_is_expected():
    found = outcomes_of(options([20.0], TPOT, THROUGHPUT, TPOT))
    assert found[MOST_RANKS].broken.tolist() == [1]  # the last one alone has eight ranks
    assert np.isnan(found[CONFIGURATOR].regret).all()
    assert found[CHANCE].broken == pytest.approx([0.25])
    assert found[CHANCE].regret == pytest.approx([(0.5 + 0 - 0.05 + 1) / 4])
    answers = outcomes_of(options([20.0], TPOT, THROUGHPUT, TPOT, configurator=15.0))
    assert np.isfinite(answers[CONFIGURATOR].regret).all()


def test_what_is_lost_where_limits_are_kept_leaves_out_the_broken_ones():
    outcome = Outcome(np.array([0.0, 0, 1, 0]), np.array([0.1, 0.3, 1, NAN]), np.arange(4))
    found = decision_metrics(outcome, np.ones(4, bool))
    assert found["n"] == 3 and found["median"] == 0.3 and found["mean_kept"] == 0.2
    assert found["broken"] == pytest.approx(1 / 3, abs=1e-4)
    assert decision_metrics(outcome, np.zeros(4, bool))["median"] is None
    assert decision_metrics(outcome, np.arange(4) == 2)["mean_kept"] is None


def run_of(tp: str, users: str, tpot: float, reliable: bool = True) -> Run:
    words = dict.fromkeys(("chip", "model", "precision", "framework", "isl"), "x")
    cells = {"osl": "1000", "n_chips": tp, "tp": tp, "ep": "1", "dp": "1", "concurrency": users}
    return Run(words | cells, 0.1, tpot, "heldout", reliable, "", (tp,))


def predicted_of(run: Run, fits: bool = True) -> dict[str, str]:
    """Right predictions."""
    names = ("tpot_ms", "tpot_ms_high", "output_tokens_per_s_per_chip")
    values = (1e3 * run.tpot, 1e3 * run.tpot, throughput_of(run))
    cells = map(str, values) if fits else [""] * len(names)
    return dict(zip(names, cells, strict=True)) | {"basis": "sibling" if fits else ""}


def test_measured_throughput_is_of_whole_requests_per_chip():
    length = 1000 * LENGTH_RATIO
    wanted = 16 * length / (0.1 + 0.01 * (length - 1)) / 4
    assert throughput_of(run_of("4", "16", 0.01)) == pytest.approx(wanted)


def test_right_predictions_lose_nothing_and_repeats_are_one_configuration():
    runs = [run_of("4", users, tpot) for users, tpot in (("16", 0.01), ("32", 0.02), ("64", 0.03))]
    runs += [runs[1], run_of("8", "64", 0.022), run_of("8", "8", 0.001, reliable=False)]
    metrics, table = decisions_of(runs, [predicted_of(run) for run in runs], [NAN] * len(runs))
    by = {(one["group"], one["by"]): one for one in metrics}
    point = by["all", POINT]
    assert point == by["basis sibling", POINT] | {"group": "all"}
    assert (point["n"], point["broken"], point["p90"]) == (2, 0, 0)
    assert by["ranks differ", POINT]["n"] == 2 and by["all", CONFIGURATOR]["n"] == 0
    # Four configurations at 10, 20, 22 and 30 ms: some keep 10 and 20 ms, some break it; all keep 30.
    assert sorted({*table["limit_ms"].to_pylist()}) == pytest.approx([10, 20])
    rows = [row for row in table.to_pylist() if row["by"] != MOST_RANKS]
    assert [row["regret"] for row in rows] == [0] * 2 * 3


def test_two_configurations_are_no_choice():
    runs = [run_of("4", "16", 0.01), run_of("4", "32", 0.02)]
    with pytest.raises(InputError, match="3 measured configurations"):
        decisions_of(runs, [predicted_of(run) for run in runs], [NAN] * 2)


def test_what_does_not_fit_is_not_chosen_but_may_have_been_the_best():
    runs = [run_of("4", users, tpot) for users, tpot in (("16", 0.01), ("32", 0.012), ("64", 0.03))]
    predicted = [predicted_of(run, fits=run is not runs[1]) for run in runs]
    _, table = decisions_of(runs, predicted, [NAN] * 3)
    point = [row for row in table.to_pylist() if row["by"] == POINT][1]  # at most 12 ms
    assert (point["chosen_concurrency"], point["best_concurrency"]) == ("16", "32")
    assert point["regret"] > 0.3  # 16 / 10 for 32 / 12
