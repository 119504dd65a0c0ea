"""What is made of simulated requests: means over time, the summary, what is counted; traces as they stand."""

import itertools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from perfmodel.errors import InputError
from perfmodel.inference.percentiles import _closed, _open, _values
from perfmodel.inference.row_warnings import by_words
from perfmodel.inference.scheduler import Outcome, Timeline, TraceRequest
from perfmodel.inference.simulation import (
    Limits,
    goodput_share,
    joined,
    now_and_then,
    statistics,
    summarise,
)
from perfmodel.inference.trace import Trace
from perfmodel.inference.traffic import ClosedLoop, Lengths, OpenLoop, Workload, routed

# Over time


def intervals(seed: int, seconds: float) -> list[tuple[float, float, tuple[float, float, float]]]:
    """What holds between random times, without gaps."""
    random = np.random.default_rng(seed)
    times = np.r_[0.0, np.sort(random.uniform(0, seconds, 30)), seconds]
    return [
        (float(a), float(b), tuple(random.uniform(0, 9, 3).tolist()))
        for a, b in itertools.pairwise(times)
    ]


@pytest.mark.parametrize("seconds", [0.4, 0.512, 3.0, 700.0])
def test_means_over_time_are_those_of_what_held(seconds: float):
    told = intervals(1, seconds)
    timeline = Timeline()
    for each in told:
        timeline.add(*each)
    means = [sum((b - a) * x[k] for a, b, x in told) / seconds for k in range(3)]
    assert timeline.means(seconds) == pytest.approx(means)
    # Each span has what held in it: coarser ones as well.
    assert len(timeline.sums) <= 512 and timeline.span * len(timeline.sums) >= seconds
    i = len(timeline.sums) // 2
    low, high = i * timeline.span, (i + 1) * timeline.span
    own = [sum(max(min(b, high) - max(a, low), 0) * x[0] for a, b, x in told)]
    assert timeline.sums[i][0] == pytest.approx(own[0])


def test_several_timelines_are_summed_at_the_coarsest_span():
    short, long = Timeline(), Timeline()
    for one, seconds in ((short, 0.3), (long, 40.0)):
        for each in intervals(2, seconds):
            one.add(*each)
    assert long.span > short.span == 1e-3
    whole = Timeline.of_all([short, long])
    assert whole.span == long.span
    for k in range(3):
        both = sum(one.means(40.0)[k] for one in (short, long))
        assert whole.means(40.0)[k] == pytest.approx(both)
    assert Timeline().means(1.0) == (0, 0, 0)


# The summary


class Fake(NamedTuple):
    """A server of which only the size is asked."""

    kv_capacity: float = 1000.0
    chips: float = 4.0

    def description(self) -> dict[str, Any]:
        return {"basis": "none"}


def outcome() -> Outcome:
    """Two answered requests and one that was refused; 10 s in all from 2 s on."""
    found = Outcome()
    for request in (
        TraceRequest(2.0, 100, 11),
        TraceRequest(3.0, 300, 1),
        TraceRequest(4.0, 999, 5),
    ):
        found.add(request)
    for name, values in {
        "queueing": (0.1, 0.3), "ttft": (0.5, 1.0), "tpot": (0.02, math.nan),
        "end_to_end": (0.7, 1.0), "cached": (40, 60),
    }.items():  # fmt: skip
        for i, value in enumerate(values):
            getattr(found, name)[i] = value
    found.answered, found.steps, found.preemptions, found.end = 2, 12, 1, 12.0
    found.loaded["host_kv"] = 20
    found.refusals["too long"] = 1
    found.timeline.add(0.0, 6.0, (2.0, 1.0, 500.0))
    return found


def test_the_summary_counts_what_was_answered_from_the_first_request_on():
    found = summarise(Fake(), outcome(), Limits(ttft=0.6, tpot=0.02))  # pyright: ignore[reportArgumentType]
    assert {name: found[name] for name in ("requests", "answered", "seconds", "steps")} == {
        "requests": 3, "answered": 2, "seconds": 10.0, "steps": 12,
    }  # fmt: skip
    rates = {
        "requests_per_s": 0.2, "output_tokens_per_s": 1.2, "output_tokens_per_s_per_chip": 0.3,
        "total_tokens_per_s": 41.2, "running": 1.0, "waiting": 0.5, "kv_use": 0.25,
        "cache_hit_rate": 0.25, "cache_hit_rate_host_kv": 0.05, "preemptions": 1,
        "goodput_share": 1 / 3, "goodput_requests_per_s": 0.1,
    }  # fmt: skip
    assert {name: found[name] for name in rates} == pytest.approx(rates)
    assert found["ttft_ms"]["mean"] == pytest.approx(750)
    assert found["tpot_ms"]["p99"] == pytest.approx(20)
    assert "goodput_share" not in summarise(Fake(), outcome(), Limits())  # pyright: ignore[reportArgumentType]


def test_percentiles_are_of_what_is_there():
    found = statistics([*np.linspace(0.0, 1.0, 101), math.nan])
    assert found == pytest.approx({"mean": 500, "p50": 500, "p90": 900, "p95": 950, "p99": 990})
    assert statistics([math.nan]) == dict.fromkeys(found)
    both = _values(outcome(), slice(1, 2), Limits(ttft=1.0))
    assert both["ttft_ms_p50"] == pytest.approx(1000) and math.isnan(both["tpot_ms_p50"])
    assert both["goodput_share"] == 1 and both["goodput_requests_per_s"] == pytest.approx(0.2)


def test_a_request_that_just_keeps_its_limits_is_good():
    limits = Limits(0.5, 0.02)
    assert goodput_share([0.5, 0.51, 0.5, math.nan], [0.02, 0.02, 0.021, 0.01], limits) == 0.25
    assert goodput_share([0.5], [math.nan], limits) == 1 and goodput_share([], [], limits) == 0


def test_replicas_together_are_in_the_order_in_which_requests_were_sent():
    first, second = outcome(), outcome()
    second.arrival[0], second.end = 3.5, 15.0
    whole = joined([first, second])
    assert whole.arrival.tolist() == [2.0, 3.0, 3.0, 3.5, 4.0, 4.0]
    assert whole.ttft[3] == 0.5 and whole.ttft[2] == 1.0
    assert (whole.answered, whole.steps, whole.preemptions, whole.end) == (4, 24, 2, 15.0)
    assert whole.loaded["host_kv"] == 40 and whole.refusals["too long"] == 2


def test_progress_is_told_at_first_and_then_now_and_then():
    told: list[int] = []
    tell = now_and_then(told.append, 1000)
    for answered in range(600):
        tell(answered)
    assert told[0] == 1000 and np.all(np.diff(told) == np.diff(told)[0]) and len(told) > 1


# What is counted


def drained(workload: Workload) -> int:
    """Requests that are sent to one replica, each answered a second later."""
    traffic, count = workload.of_replica(0, 1), 0
    while traffic.next_time() < math.inf:
        request = traffic.take()
        traffic.answered(request, request.arrival + 1.0)
        count += 1
    return count


@pytest.mark.parametrize(
    ("users", "rounds", "before", "sent"),
    [
        (16, math.inf, 16, 176),  # ten requests of each, after those of users who began long ago
        (16, 3.0, 0, 48),
        (3000, math.inf, 3000, 23_000),  # 20,000 are counted at most
        (15_000, 9.0, 0, 30_000),  # but two of each user
        (4, 0.1, 0, 4),
    ],
)
def test_users_of_a_closed_loop_send_as_many_requests_as_the_documents_say(
    users: int, rounds: float, before: int, sent: int
):
    found = _closed(users, rounds, Lengths(2, 2))
    assert (found.counted.start, found.counted.stop) == (before, None)
    assert drained(found.workload) == sent


@pytest.mark.parametrize(
    ("open_now", "before", "counted", "sent"),
    [
        (10, 20, 1000, 1030),  # at least a thousand are counted
        (200, 400, 2000, 2600),
        (4000, 8000, 8000, 20_000),  # 20,000 are sent at most
        (9000, 10_000, 5000, 20_000),
    ],
)
def test_requests_at_a_rate_are_counted_in_the_steady_middle(
    open_now: int, before: int, counted: int, sent: int
):
    found = _open(5.0, open_now, Lengths(2, 2))
    assert (found.counted.start, found.counted.stop) == (before, before + counted)
    assert drained(found.workload) == sent


def test_a_user_sends_the_next_request_when_the_last_is_answered():
    loop = ClosedLoop(2, 5, Lengths(10, 10, 0.5, 4), 0, spread_start=True)
    first, second = loop.take(), loop.take()
    assert loop.next_time() == math.inf
    loop.answered(second, 3.0)
    loop.answered(first, 2.0)
    assert [loop.take().arrival, loop.take().arrival] == [2.0, 3.0]
    loop.answered(first, 4.0)
    assert loop.next_time() == 4.0
    loop.take()
    loop.answered(first, 9.0)
    assert loop.next_time() == math.inf
    assert first.prefix_tokens == 4


def test_of_users_who_began_long_ago_some_of_the_first_answer_is_left():
    loop = ClosedLoop(500, 1000, Lengths(100, 1000), 0, spread_start=True)
    firsts = [loop.take() for _ in range(500)]
    for one in firsts:
        loop.answered(one, 1.0)
    assert np.mean([one.osl for one in firsts]) == pytest.approx(500, rel=0.1)
    assert {loop.take().osl for _ in range(500)} == {1000}
    lengths = Lengths(100, 100, 0.5)
    drawn = [lengths.request(0.0, np.random.default_rng(i)).isl for i in range(300)]
    assert min(drawn) >= 50 and max(drawn) <= 150 and np.ptp(drawn) > 90


def test_a_router_gives_requests_in_turn_and_a_session_to_one_replica():
    plain = [TraceRequest(float(i), 1, 1) for i in range(9)]
    own = [[one.arrival for one in routed(iter(plain), i, 3)] for i in range(3)]
    assert own == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    turns = [TraceRequest(float(i), 1, 1, (), f"s{i % 7}") for i in range(70)]
    parts = [list(routed(iter(turns), i, 2)) for i in range(2)]
    assert sum(map(len, parts)) == 70 and all(parts)
    assert not {one.session for one in parts[0]} & {one.session for one in parts[1]}


def test_turns_that_wait_are_sent_in_the_order_of_their_time():
    requests = [TraceRequest(float(i), 1, 1, (), name) for i, name in enumerate("aabab")]
    loop = OpenLoop(iter(requests))
    first = loop.take()
    assert (first.session, loop.next_time()) == ("a", 2.0)
    other = loop.take()
    assert (other.session, loop.next_time()) == ("b", math.inf)
    loop.answered(other, 2.5)
    loop.answered(first, 2.2)
    assert [(loop.next_time(), loop.take().session) for _ in range(2)] == [(2.2, "a"), (4.0, "b")]
    loop.answered(first, 7.0)
    assert loop.take().arrival == 7.0


# Traces


def trace_of(folder: Path, times: list[float], unit: str = "s") -> Trace:
    path = folder / "trace.csv"
    lines = [f"{t},10,10" for t in times]
    path.write_text("\n".join(["timestamp,input_length,output_length", *lines]) + "\n")
    return Trace(path, unit)


def test_lines_within_ten_thousand_of_their_place_are_put_in_order(tmp_path: Path):
    for late, kept in ((10_000, True), (10_001, False)):
        times = [0.0, *map(float, range(2, late + 2)), 1.0]
        trace = trace_of(tmp_path, times)
        found = [one.arrival for one in trace.requests()]
        assert found == sorted(found) and trace.reordered == 1
        assert (1.0 in found) is kept, late
        assert trace.complaints == ([] if kept else [
            f"line {late + 3:,} comes before requests 10,000 lines above it"
        ])  # fmt: skip


def test_time_begins_at_the_first_request_and_ends_after_31_years(tmp_path: Path):
    trace = trace_of(tmp_path, [5.0, 5.0 + 1e9, 5.5 + 1e9, 2e9])
    assert [one.arrival for one in trace.requests()] == [0.0, 1e9]
    assert trace.complaints == [
        "line 4 is 1e+09 s after the first request",
        "line 5 is 2e+09 s after the first request",
    ]
    again = trace_of(tmp_path, [1000.0, 3000.0], "ms")
    assert [one.arrival for one in again.requests()] == pytest.approx([0.0, 2.0])


def test_the_latest_time_that_there_can_be_is_said_in_the_unit_of_the_trace(tmp_path: Path):
    for unit, most in (("s", 1e11), ("ms", 1e14)):
        trace = trace_of(tmp_path, [0.99 * most, most], unit)
        assert len(list(trace.requests())) == 1
        assert trace.complaints == [f"line 3 has timestamp {most:g}; allowed is 0 to {most:g}"]


def test_five_lines_that_are_left_out_are_named(tmp_path: Path):
    trace = trace_of(tmp_path, [0.0, *[-1.0] * 7])
    assert len(list(trace.requests())) == 1
    assert trace.left_out == 7
    assert [one.split(" has")[0] for one in trace.complaints] == [f"line {n}" for n in range(3, 8)]
    with pytest.raises(
        InputError, match=r"has no line that is a request; the first: line 2 has time"
    ):
        list(trace_of(tmp_path, [-1.0]).requests())


def test_a_line_of_a_mebibyte_is_read_and_a_longer_one_is_left_out(tmp_path: Path):
    line = json.dumps({"timestamp": 0, "input_length": 1, "output_length": 1})
    path = tmp_path / "trace.jsonl"
    for length, kept in (((1 << 20) - 1, True), (1 << 20, False)):
        path.write_text(line.ljust(length) + "\n" + line + "\n")
        trace = Trace(path)
        assert len(list(trace.requests())) == 1 + kept
        assert trace.complaints == ([] if kept else ["line 1 is longer than 1,048,576 bytes"])


def test_lines_are_counted_from_the_first_and_the_size(tmp_path: Path):
    trace = trace_of(tmp_path, [1.0] * 37)
    assert trace.expected_requests() == 38  # the header as well
    many = tmp_path / "many.csv"
    head = "timestamp,input_length,output_length\n"
    many.write_text(head + "1,10,10\n" * 5000)
    assert Trace(many).expected_requests() == pytest.approx(5000, rel=0.01)


# Rows that something is said of


def test_a_sentence_of_several_rows_names_the_first_five():
    said = ["", "slow", "", *["slow"] * 5, "other"]
    assert by_words(said) == ["rows 2, 4, 5, 6, 7 and 1 more: slow", "row 9: other"]
    assert by_words(["slow"] * 5) == ["rows 1, 2, 3, 4, 5: slow"]
