"""Choosing among deployments: limits, order, fronts, ratios and mixes of tables whose answer is plain."""

import collections
from typing import Any

import numpy as np
import pytest

from perfmodel.inference import fleet, mixed_fleet, pooled_table, pools, recommend, replica_rate
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment_table import DeploymentTable, joined
from perfmodel.inference.limits import (
    broken,
    closest,
    keeps,
    limited_numbers,
    reasons,
    serves,
)
from perfmodel.inference.question import OBJECTIVES, Question, ask
from perfmodel.library.fitted import FITTED

INFINITE, UNKNOWN = float("inf"), float("nan")
ASKED: dict[str, Any] = {"model": "llama-3.2-1b", "isl": 512, "osl": 64, "chip": "h100-sxm"}

PLAIN: dict[str, float] = {
    **{"free_bytes": 0.0, "ttft_ms": 100.0, "tpot_ms": 10.0, "end_to_end_ms": 400.0},
    **{"ttft_high": 1.0, "tpot_high": 1.0, "usd_per_million_output_tokens": 2.0},
    **{"joules_per_output_token": 1.0, "n_chips": 8.0, "concurrency": 4.0, "running": 4.0},
    **{"output_tokens_per_s_per_chip": 50.0, "output_tokens_per_s_per_user": 100.0},
    **{"tp": 8.0, "pp": 1.0, "ep": 1.0, "dp": 1.0, "replicas": 1.0, "speculative_tokens": 0.0},
    **{"usd_per_chip_hour": 3.0},
}
WORDS = {"mode": "serving", "chip": "h100-sxm", "model": "m", "framework": "vllm"}
WORDS |= {"precision": "fp8", "kv_precision": "fp8", "bound": "memory", "basis": "fit"}


def table(words: dict[str, list[str]] | None = None, **columns: list[float]) -> DeploymentTable:
    """Deployments that differ in what is given."""
    size = len(next(iter((*columns.values(), *(words or {}).values()))))
    numbers = {name: np.full(size, x) for name, x in PLAIN.items()}
    numbers |= {name: np.array(column) for name, column in columns.items()}
    texts = {name: [word] * size for name, word in WORDS.items()} | (words or {})
    named = {name: np.array(column, object) for name, column in texts.items()}
    return DeploymentTable(numbers, named, np.ones((size, 2)), collections.Counter(), 1)


def question(**more: Any) -> Question:
    return ask(**ASKED | {"n_chips": 8, "concurrency": [4, 8]} | more)


# Limits


def test_at_half_confidence_limits_are_put_on_the_prediction_itself():
    ranged = table(ttft_high=[1.5], tpot_high=[1.3], utilisation=[0.5])
    found = limited_numbers(ranged, 50)
    assert {name: float(x[0]) for name, x in found.items()} == pytest.approx(
        {"ttft_ms": 100, "tpot_ms": 10, "end_to_end_ms": 400, "utilisation": 0.5,
         "usd_per_million_output_tokens": 2}
    )  # fmt: skip


def test_the_first_token_and_the_later_ones_each_have_their_own_range():
    ranged = table(ttft_high=[1.5], tpot_high=[1.3], utilisation=[0.5])
    found = limited_numbers(ranged, 90)
    power = 1.2816 / 1.6449  # quantiles of the normal distribution at 90 and 95 %
    first, later = 1.5**power, 1.3**power
    assert found["ttft_ms"][0] == pytest.approx(100 * first, rel=1e-4)
    assert found["tpot_ms"][0] == pytest.approx(10 * later, rel=1e-4)
    assert found["end_to_end_ms"][0] == pytest.approx(100 * first + 300 * later, rel=1e-4)
    assert found["utilisation"][0] == pytest.approx(0.5 * later, rel=1e-4)
    assert found["usd_per_million_output_tokens"][0] == 2


def test_what_just_fits_serves_and_what_just_carries_its_requests_does_not():
    edge = table(free_bytes=[0.0, -1.0, 1.0, 1.0], utilisation=[0.5, 0.5, 1.0, 0.999])
    assert serves(edge, limited_numbers(edge, 50)).tolist() == [True, False, False, True]


def test_a_limit_that_is_just_met_is_kept_and_what_is_not_known_breaks_it():
    asked = question(tpot_ms=10, usd_per_million=2)
    edge = table(
        tpot_ms=[10.0, 10.1, 9.0, 9.0], usd_per_million_output_tokens=[2.0, 1.0, UNKNOWN, 2.1]
    )
    bounded = limited_numbers(edge, 50)
    assert keeps(bounded, asked.limits).tolist() == [True, False, False, False]
    found = broken(bounded, asked.limits)
    assert set(found) == {"tpot_ms", "usd_per_million_output_tokens"}
    assert found["tpot_ms"].tolist() == [False, True, False, False]
    assert keeps(bounded, question().limits).all()


def test_the_closest_is_least_over_its_worst_limit_and_says_by_how_much():
    asked = question(tpot_ms=10, ttft_ms=100, confidence=50)
    three = table(tpot_ms=[16.0, 12.5, 11.0], ttft_ms=[90.0, 120.0, 101.0])
    bounded = limited_numbers(three, 50)
    place, said = closest(np.array([True, True, False]), bounded, asked)
    assert place == 1
    assert said == (
        "ttft_ms 120 for at most 100 (20 % over) and tpot_ms 12.5 for at most 10 (25 % over)"
    )
    assert closest(np.ones(3, bool), bounded, asked)[0] == 2
    assert closest(np.array([True, False, False]), bounded, asked)[1] == (
        "tpot_ms 16 for at most 10 (60 % over)"
    )


def test_each_that_is_left_out_is_counted_once_by_its_first_reason():
    asked = question(tpot_ms=10, ttft_ms=100, confidence=50)
    five = table(
        free_bytes=[-1.0, 0.0, 0.0, 0.0, 0.0],
        ttft_ms=[200.0, 200.0, 100.0, 100.0, 300.0],
        tpot_ms=[20.0, 20.0, 20.0, 10.0, 5.0],
    )
    assert reasons(five, limited_numbers(five, 50), asked) == {
        "does not fit in memory": 1,
        "ttft_ms above 100 at 50 % confidence": 2,
        "tpot_ms above 10 at 50 % confidence": 1,
    }
    late = question(concurrency=(), requests_per_s=7.5, tpot_ms=10, confidence=50)
    busy = table(utilisation=[1.2, 0.9, 1.0], free_bytes=[-1.0, 0.0, 0.0], tpot_ms=[9.0] * 3)
    assert reasons(busy, limited_numbers(busy, 50), late) == {
        "does not fit in memory": 1,
        "answers fewer than 7.5 requests/s at 50 % confidence": 1,
    }


# Order


def test_the_best_is_first_and_of_equals_the_soonest():
    found = table(
        output_tokens_per_s_per_chip=[50.0, 50.02, 60.0, 49.0, UNKNOWN],
        end_to_end_ms=[100.0, 200.0, 900.0, 1.0, 1.0],
    )
    usable = np.ones(5, bool)
    assert recommend.best_first(found, OBJECTIVES["throughput"], usable).tolist() == [2, 0, 1, 3]
    usable[2] = False
    assert recommend.best_first(found, OBJECTIVES["throughput"], usable).tolist() == [0, 1, 3]
    dear = table(usd_per_million_output_tokens=[3.0, 1.0, 2.0], end_to_end_ms=[1.0, 1.0, 1.0])
    assert recommend.best_first(dear, OBJECTIVES["cost"], np.ones(3, bool)).tolist() == [1, 2, 0]


def test_a_front_has_what_no_other_beats_in_both_speeds():
    found = table(
        output_tokens_per_s_per_user=[100.0, 80.0, 80.0, 60.0, 40.0],
        output_tokens_per_s_per_chip=[10.0, 30.0, 40.0, 40.0, 50.0],
    )
    every = np.arange(5)
    assert recommend._front(found, every).tolist() == [0, 2, 4]
    assert recommend._front(found, every[3:]).tolist() == [0, 1]  # among those
    assert recommend._front(found, every[:0]).tolist() == []


def test_a_front_is_of_each_machine_and_says_what_breaks_a_limit():
    two = table({"chip": ["h100-sxm", "h100-sxm", "l4"]}, n_chips=[8.0, 8.0, 8.0],
                output_tokens_per_s_per_user=[9.0, 8.0, 1.0])  # fmt: skip
    found = recommend.front_of_each(
        two, np.array([True, False, True]), np.array([True] * 2 + [False])
    )
    assert [(row["chips"], row["keeps_limits"]) for row in found] == [
        ("8 x h100-sxm", True),
        ("8 x l4", False),
    ]
    assert found[0]["tp"] == 8 and "free_bytes" not in found[0]


def limited_by(place: int, asked: Question, **columns: Any) -> str:
    found = table(**columns)
    breaks = broken(limited_numbers(found, 50), asked.limits)
    return recommend._limited_by(asked, found, recommend._layouts(found), place, breaks)


def test_what_stops_a_deployment_is_what_the_next_number_of_users_breaks():
    users = {"concurrency": [4.0, 8.0, 16.0], "running": [4.0, 8.0, 16.0]}
    slower = users | {"tpot_ms": [9.0, 11.0, 9.0], "ttft_ms": [100.0, 90.0, 200.0]}
    asked = question(tpot_ms=10, ttft_ms=100, confidence=50)
    assert limited_by(0, asked, **slower) == "tpot_ms"
    assert limited_by(1, asked, **slower) == "ttft_ms"
    assert limited_by(2, asked, **slower) == "concurrency asked"
    assert limited_by(2, asked._replace(concurrency=()), **slower) == "more users not tried"
    assert limited_by(0, question(), **slower) == "objective"


def test_users_that_do_not_all_run_are_stopped_by_the_cache():
    full = {"concurrency": [4.0, 8.0], "running": [4.0, 7.9]}
    assert limited_by(1, question(), **full) == "KV-cache capacity"
    assert limited_by(1, question(), **full | {"running": [4.0, 7.995]}) == "concurrency asked"


def test_other_ways_to_spread_a_model_do_not_stop_one():
    other = {"concurrency": [4.0, 8.0], "running": [4.0, 8.0], "tp": [8.0, 4.0]}
    assert limited_by(0, question(), **other) == "concurrency asked"


@pytest.mark.parametrize(
    ("objective", "best", "own", "said"),
    [
        ("throughput", 50.0, 40.0, "20.0 % fewer output tokens/s per chip"),
        ("cost", 2.0, 2.5, "25.0 % more USD per million output tokens"),
    ],
)
def test_what_falls_short_says_by_how_much(objective: str, best: float, own: float, said: str):
    one = OBJECTIVES[objective]
    assert recommend._worse({one.column: own}, {one.column: best}, one) == said


# Caution


def test_caution_costs_the_difference_to_what_the_prediction_allows():
    ranged = table(
        tpot_ms=[7.0, 8.2], tpot_high=[1.4, 1.4], output_tokens_per_s_per_chip=[40.0, 50.0]
    )
    asked = question(tpot_ms=10, confidence=90)
    bounded = limited_numbers(ranged, 90)
    assert keeps(bounded, asked.limits).tolist() == [True, False]
    found = recommend._caution(ranged, bounded, asked, 0)
    assert (found["at_confidence"], found["at_prediction"]) == (40, 50)
    # With a run of its own measured the second keeps the limit too.
    assert found["gain_if_measured"] == pytest.approx(0.25)
    assert found["measure"].startswith("8 x h100-sxm, vllm fp8, tp 8, 4 users")
    cheap = table(
        tpot_ms=[7.0, 8.2], tpot_high=[1.4, 1.4], usd_per_million_output_tokens=[4.0, 3.0]
    )
    costs = recommend._caution(cheap, bounded, asked._replace(objective="cost"), 0)
    assert costs["gain_if_measured"] == pytest.approx(0.25)
    sure = table(tpot_ms=[7.0, 7.0], output_tokens_per_s_per_chip=[40.0, 40.0])
    assert "measure" not in recommend._caution(sure, limited_numbers(sure, 90), asked, 0)


# Pools


def test_nothing_that_is_kept_is_beaten_by_another_that_fits():
    slow = np.array([[1.0, 4.0], [2.0, 2.0], [2.0, 3.0], [4.0, 1.0], [0.5, 0.5], [2.0, 2.0]])
    slack = np.array([0.0, 1.0, 1.0, 1.0, -1.0, 1.0])
    assert pooled_table._unbeaten(slow, slack).tolist() == [0, 1, 3, 5]


def test_ratios_use_all_chips_in_whole_workers():
    found = pooled_table._ratios(np.array([1.0, 4.0]), np.array([2.0]), 8.0)
    assert found.tolist() == [
        *([0, 0, 2, 3], [0, 0, 4, 2], [0, 0, 6, 1]),  # 2 + 6, 4 + 4, 6 + 2 chips
        [1, 0, 1, 2],
    ]
    assert not len(pooled_table._ratios(np.array([4.0]), np.array([8.0]), 8.0))


def test_of_many_some_are_evenly_chosen_with_both_ends():
    assert pools.evenly_chosen(range(10), 4) == [0, 3, 6, 9]
    assert pools.evenly_chosen(range(3), 4) == [0, 1, 2] and pools.evenly_chosen([], 4) == []
    assert pools._counts_to(5.9) == [1, 2, 3, 4, 5] and pools._counts_to(0.0) == []


def test_workers_of_both_pools_use_all_chips():
    ways = Parallelism(2.0, 1.0, 1.0, 1.0), Parallelism(4.0, 1.0, 1.0, 1.0)
    free = [UNKNOWN, UNKNOWN]
    assert pools._workers(ways, free, 16.0) == [(2, 3), (4, 2), (6, 1)]
    assert pools._workers(ways, [4.0, UNKNOWN], 16.0) == [(4, 2)]
    assert pools._workers(ways, [UNKNOWN, 1.0], 16.0) == [(6, 1)]
    assert pools._workers(ways, [3.0, UNKNOWN], 16.0) == []
    assert pools._workers(ways, [8.0, UNKNOWN], 16.0) == []
    two = pools.PooledCandidate(ways, (3.0, 2.0))
    assert two.chips == 14


# Fleets


def test_replicas_beside_the_fewest_and_some_to_spare_are_tried():
    assert fleet._counts(np.array([2.3, 0.4])).tolist() == [
        [2, 3, 4, 4, 5, 6],
        [1, 1, 2, 2, 2, 2],
    ]


def test_the_kinds_of_replicas_are_the_best_layouts_of_each_stack_that_keep_the_limits():
    found = table(
        {"framework": ["vllm", "vllm", "vllm", "sglang", "vllm"]},
        output_tokens_per_s_per_chip=[50.0, 60.0, 70.0, 10.0, 90.0],
        tp=[8.0, 8.0, 4.0, 8.0, 2.0],
        replicas=[1.0, 1.0, 1.0, 1.0, 2.0],
        tpot_ms=[9.0, 9.0, 9.0, 9.0, 9.0],
    )
    kinds = fleet._kinds(found, question(tpot_ms=10))
    assert kinds.numbers["output_tokens_per_s_per_chip"].tolist() == [70, 60, 10]
    many = table(
        tp=list(map(float, range(1, 31))), output_tokens_per_s_per_chip=list(map(float, range(30)))
    )
    few = fleet._kinds(many, question()).numbers["output_tokens_per_s_per_chip"]
    assert few.tolist() == list(range(29, 5, -1))


RATES = {4.0: 10.0, 1.0: 2.0}
"""Requests/s of a replica of so many chips within the limits."""


def test_the_fewest_whole_replicas_that_carry_a_rate_are_found():
    # 23 a second: two of 10 and two of 2 take 10 chips; three of 10, and two with one of 2, do not do.
    counts = mixed_fleet._solve(np.array([4.0, 1.0]), np.array([10.0, 2.0]), 23.0)
    assert counts.tolist() == [2, 2]
    unpriced = mixed_fleet._solve(np.array([UNKNOWN, 1.0]), np.array([10.0, 2.0]), 23.0)
    assert unpriced.tolist() == [0, 12]
    assert mixed_fleet._solve(np.ones(2), np.zeros(2), 1.0).tolist() == [0, 0]


def mix(monkeypatch: pytest.MonkeyPatch, rate: float, **more: Any) -> list[dict[str, Any]]:
    """The mix of replicas of four chips and of one, of which the first kind is the best alone."""
    chips = list(RATES)
    needed = [np.ceil(rate / each) for each in RATES.values()]
    fleets = table(
        tp=chips,
        replicas=needed,
        n_chips=[n * c for n, c in zip(needed, chips, strict=True)],
        max_requests_per_s_within_limits=[
            n * r for n, r in zip(needed, RATES.values(), strict=True)
        ],
        usd_per_chip_hour=more.pop("usd", [3.0, 3.0]),
    )

    def priced(asked: Question, kinds: Any, counts: Any, shares: Any, _: Any) -> DeploymentTable:
        own = {"replicas": counts.ravel(), "requests_per_s": shares.ravel()}
        return kinds._replace(numbers=kinds.numbers | own)

    monkeypatch.setattr(mixed_fleet, "price_replicas", priced)
    asked = ask(**ASKED, requests_per_s=rate, **more)
    return mixed_fleet.cheapest_mix(asked, fleets, np.array([0, 1]), FITTED)


def test_a_mix_shares_the_rate_so_that_all_are_busy_alike(monkeypatch: pytest.MonkeyPatch):
    found = mix(monkeypatch, 23.0)
    assert [(row["tp"], row["replicas"]) for row in found] == [(4, 2), (1, 2)]
    assert [row["requests_per_s"] for row in found] == pytest.approx([23 * 20 / 24, 23 * 4 / 24])


def test_one_kind_that_is_as_good_alone_is_not_mixed(monkeypatch: pytest.MonkeyPatch):
    assert mix(monkeypatch, 20.0) == []
    assert mix(monkeypatch, 23.0, objective="energy") == []
    assert mix(monkeypatch, 23.0, n_chips=8) == []


def test_a_mix_for_less_weighs_chips_by_their_price(monkeypatch: pytest.MonkeyPatch):
    # At 9 USD a chip of the small kind three of 10 requests/s (36 USD) cost less than 2 with 2 (42).
    assert mix(monkeypatch, 23.0, objective="cost", usd=[3.0, 9.0]) == []
    assert len(mix(monkeypatch, 23.0, objective="cost", usd=[3.0, 3.0])) == 2


def answered(monkeypatch: pytest.MonkeyPatch, true: list[float], rate: float) -> np.ndarray:
    """What is found of kinds that keep a TPOT of 10 ms up to some rates, and answer at most 40 a second."""

    def priced(asked: Question, kinds: Any, counts: Any, rates: Any, _: Any) -> DeploymentTable:
        most = np.repeat(true, rates.shape[1])
        tpot = np.where(rates.ravel() <= most, 10.0, 10.1)
        busy = rates.ravel() / 40.0
        return table(
            tpot_ms=tpot.tolist(),
            utilisation=busy.tolist(),
            max_requests_per_s=[40.0] * rates.size,
        )

    monkeypatch.setattr(replica_rate, "price_replicas", priced)
    asked = ask(**ASKED, requests_per_s=rate, tpot_ms=10, confidence=50)
    kinds = table(tp=[1.0] * len(true))
    return replica_rate.most_requests_per_s(asked, kinds, FITTED)


def test_the_rate_of_a_replica_is_known_to_one_replica_of_the_fleet(
    monkeypatch: pytest.MonkeyPatch,
):
    true = [7.3, 39.9, 0.5]
    found = answered(monkeypatch, true, 1000.0)
    assert (found <= true).all()
    assert (1000 / found - 1000 / np.array(true) <= 1).all()
    assert answered(monkeypatch, [50.0], 1000.0)[0] == pytest.approx(40, rel=0.05)
    assert answered(monkeypatch, [0.0], 1000.0).tolist() == [0]
    assert not len(replica_rate.most_requests_per_s(question(), table(tp=[]), FITTED))


# Users


def test_users_are_tried_from_one_on_four_in_each_doubling():
    few = ask(**ASKED, n_chips=1).users
    assert (few[0], few[-1]) == (1, 256)
    assert {1, 2, 4, 8, 16, 32, 64, 128, 256} <= {*few}
    assert sum(64 < n <= 128 for n in few) == 4
    assert ask(**ASKED, n_chips=8).users[-1] == 1024
    assert ask(**ASKED, n_chips=8, concurrency=7).users == (7,)


def test_tables_are_joined_and_what_one_lacks_is_empty():
    first, second = table(tp=[1.0]), table({"ffn_chip": ["lp30"]}, ffn_tp=[4.0])
    both = joined([first, second])
    assert both.words["ffn_chip"].tolist() == ["", "lp30"] and both.programs == 2
    assert np.isnan(both.numbers["ffn_tp"][0]) and both.numbers["ffn_tp"][1] == 4
