"""What `perfmodel simulate` asks, writes and prints."""

import functools
import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from perfmodel.errors import InputError
from perfmodel.files import folder_beside, write_csv, write_json
from perfmodel.inference.scheduler import Outcome
from perfmodel.inference.serving_row import DEFAULTS, DISAGGREGATED, MODES, mode_of, number
from perfmodel.inference.simulation import STATISTICS, GivenTier, Limits
from perfmodel.inference.trace import Trace
from perfmodel.inference.traffic import (
    Lengths,
    Workload,
    at_a_rate,
    closed_workload,
    open_workload,
)
from perfmodel.interface.tables import Table, cell

WIDTH = 100
"""Columns of the terminal that what is printed takes, at most."""

REQUESTS, REQUESTS_PER_USER = 1000, 10
"""Where their number is not given: at a rate, and of each user in a closed loop."""

BURSTINESS = 0.25
"""Of bursts, where nothing is given: times between requests spread twice as far as in a Poisson process."""


class Asked(NamedTuple):
    """What is asked: a trace and the unit of its timestamps, or cells of traffic and what goes with them."""

    trace: Path | None
    unit: str
    cells: dict[str, str]
    requests: int | None
    arrivals: str | None
    burstiness: float | None
    seed: int


class AskedTraffic(NamedTuple):
    """About how many requests are sent, these, and the trace that they come from."""

    requests: int
    workload: Workload
    trace: Trace | None = None


def traffic_of(asked: Asked) -> AskedTraffic:
    """The traffic that is asked for.

    **Raises:**

    - `InputError`: for what is missing, or does not go together.
    """
    if asked.trace is None:
        return _made(asked)
    extra = [
        *asked.cells,
        *(n for n in ("requests", "arrivals", "burstiness") if getattr(asked, n)),
    ]
    if extra:
        raise InputError(
            f"{asked.trace} and --{extra[0].replace('_', '-')} are both given; a trace says when "
            "requests come and how long they are: leave one of them out."
        )
    trace = Trace(asked.trace, asked.unit)
    return AskedTraffic(trace.expected_requests(), open_workload(trace.requests), trace)


def _made(asked: Asked) -> AskedTraffic:
    """Requests of given lengths."""
    values = {name: number(name, asked.cells.get(name, "").strip()) for name in LENGTHS}
    missing = [name for name in LENGTHS[:2] if np.isnan(values[name])]
    if missing:
        raise InputError(
            f"there is no trace and no --{missing[0]}; give a trace, or --isl, --osl and "
            "--requests-per-s (or --concurrency)."
        )
    ratio = values["length_ratio"]
    ratio = DEFAULTS["length_ratio"] if np.isnan(ratio) else ratio
    if not 0.5 < ratio <= 1:
        raise InputError(f"length_ratio is {ratio:g}; allowed is more than 0.5, up to 1.")
    isl, osl = (max(round(values[name]), 1) for name in LENGTHS[:2])
    lengths = Lengths.below(isl, osl, ratio)
    return (_closed if _arrivals(asked) == "closed" else _open)(asked, lengths)


LENGTHS = ("isl", "osl", "length_ratio")


def _arrivals(asked: Asked) -> str:
    """How requests come; refuses what does not go with it."""
    how = asked.arrivals or ("closed" if "concurrency" in asked.cells else "poisson")
    needs, beside = "requests_per_s", "concurrency"
    if how == "closed":
        needs, beside = beside, needs
    if beside in asked.cells:
        raise InputError(
            f"--{beside.replace('_', '-')} does not go with arrivals that are {how}; leave it out."
        )
    if needs not in asked.cells:
        raise InputError(f"arrivals are {how}, which needs --{needs.replace('_', '-')}; give it.")
    if asked.burstiness and how != "burst":
        raise InputError(f"--burstiness is for --arrivals burst, not {how}; leave it out.")
    return how


def _closed(asked: Asked, lengths: Lengths) -> AskedTraffic:
    users = round(number("concurrency", asked.cells["concurrency"]))
    count = asked.requests or REQUESTS_PER_USER * users
    return AskedTraffic(count, closed_workload(users, count, lengths, asked.seed))


def _open(asked: Asked, lengths: Lengths) -> AskedTraffic:
    rate, count = (
        number("requests_per_s", asked.cells["requests_per_s"]),
        asked.requests or REQUESTS,
    )
    burstiness = (asked.burstiness or BURSTINESS) if asked.arrivals == "burst" else 1.0
    requests = functools.partial(at_a_rate, rate, count, lengths, asked.seed, burstiness)
    return AskedTraffic(count, open_workload(requests))


def tiers_of(given: dict[str, tuple[float | None, float | None]]) -> tuple[GivenTier, ...]:
    """Tiers below the KV cache, of GB and GB/s by name; without both there is none.

    **Raises:**

    - `InputError`: where one of both is missing, or is zero.
    """
    tiers: list[GivenTier] = []
    for name, (size, rate) in given.items():
        if size is None and rate is None:
            continue
        option = f"--{name.replace('_', '-')}-gb"
        if not size or not rate:
            missing, unit = (option, "GB") if not size else (f"{option}-per-s", "GB/s")
            raise InputError(
                f"{missing} is missing or 0; a tier needs {option} and {option}-per-s, which the library "
                f"does not know: give its {unit}, of one replica, or leave both out."
            )
        tiers.append(GivenTier(name, size * 1e9, rate * 1e9))
    return tuple(tiers)


def check_mode(cell: str) -> None:
    """Refuse modes in which no requests come.

    **Raises:**

    - `InputError`: for a mode but serving and disaggregated.
    """
    if mode_of(cell) not in (MODES[0], DISAGGREGATED):
        raise InputError(
            f"mode is {cell.strip()}, in which no requests come one by one; give --mode {MODES[0]} or "
            f"{DISAGGREGATED}, or leave it out."
        )


def limits_of(ttft_ms: float | None, tpot_ms: float | None) -> Limits:
    """Limits of goodput, which are given in ms."""
    return Limits(*(math.inf if x is None else x / 1e3 for x in (ttft_ms, tpot_ms)))


SECONDS_PER_REQUEST, SECONDS_OF_STEPS = 1.5e-4, 5.0
"""Of simulating a request, and of pricing steps where their program is not compiled yet, on one core."""

MIN_SECONDS_SAID = 2.0


def expected_time(requests: int) -> str:
    """How long it takes, where that is worth a word."""
    seconds = requests * SECONDS_PER_REQUEST
    if seconds < MIN_SECONDS_SAID:
        return ""
    return f"about {requests:,} requests take about {seconds + SECONDS_OF_STEPS:,.0f} s."


def complaints(traffic: AskedTraffic) -> Iterator[str]:
    """What was wrong with lines of a trace."""
    trace = traffic.trace
    if trace is None:
        return
    if trace.left_out:
        more = trace.left_out - len(trace.complaints)
        rest = f"; and {more:,} more" if more else ""
        yield f"{trace.path}: {trace.left_out:,} lines are left out: {'; '.join(trace.complaints)}{rest}."
    if trace.reordered:
        yield f"{trace.path}: {trace.reordered:,} lines stood after a later one and were put in order."


def of_trace(traffic: AskedTraffic) -> dict[str, Any]:
    """What the summary has of a trace."""
    trace = traffic.trace
    if trace is None:
        return {}
    return {
        "trace": str(trace.path),
        "first_timestamp_s": trace.first_timestamp,
        "lines_left_out": trace.left_out,
        "first_lines_left_out": trace.complaints,
        "lines_put_in_order": trace.reordered,
    }


def nothing_answered(outcome: Outcome) -> str:
    """What is said where no request can be answered."""
    why = max(outcome.refusals, key=lambda one: outcome.refusals[one])
    return (
        f"none of {len(outcome.arrival):,} requests can be answered: they are {why}; give more chips, "
        "--memory-fraction, --max-num-batched-tokens or --chunked-prefill true."
    )


def write(out: Path, outcome: Outcome, summary: dict[str, Any]) -> Iterator[str]:
    """Write `requests.csv`, `timeline.html` and `summary.json`, all of them or none.

    What cannot be drawn is said.
    """
    with folder_beside(out, "summary.json") as folder:
        write_csv(folder / "requests.csv", requests_table(outcome))
        try:
            from perfmodel.interface.plots.requests import timeline_chart
            from perfmodel.interface.plots.theme import save

            save(timeline_chart(outcome, summary), folder / "timeline.html")
        except InputError as missing:
            yield f"timeline.html is not written: {missing}"
        write_json(folder / "summary.json", summary)


DIGITS = 6
"""Decimals of a time in ms or s that are written."""


def requests_table(outcome: Outcome) -> pa.Table:
    """A row for each request, in the order in which they were sent; empty where it was refused."""
    columns = {"arrival_s": np.asarray(outcome.arrival)}
    for name in ("queueing", "ttft", "tpot", "end_to_end"):
        columns[f"{name}_ms"] = np.asarray(getattr(outcome, name)) * 1e3
    rounded = {name: np.round(values, DIGITS) for name, values in columns.items()}
    arrays = {name: pa.array(values, from_pandas=True) for name, values in rounded.items()}
    return pa.table(arrays | {"cached_tokens": np.asarray(outcome.cached).astype(np.int64)})


NAMES = {
    "ttft_ms": "TTFT (ms)",
    "tpot_ms": "TPOT (ms)",
    "end_to_end_ms": "end to end (ms)",
    "queueing_ms": "queueing (ms)",
}


def table_of(summary: dict[str, Any]) -> Table:
    """Mean and percentiles of what users wait for."""
    at = summary["deployment"]
    rows = [
        (title, *("" if (x := summary[name][one]) is None else cell(x) for one in STATISTICS))
        for name, title in NAMES.items()
    ]
    framework = f", {at['framework']}" if at["framework"] else ""
    title = f"{at['model']} on {at['n_chips']:.0f} x {at['chip']}{framework}"
    return Table(title, ("", *STATISTICS), rows)


def sentences(summary: dict[str, Any], out: Path | None) -> list[str]:
    """The rest of a summary, in lines of `WIDTH` at most."""
    policy = summary["scheduler"]
    said = [
        f"{summary['answered']:,} of {summary['requests']:,} requests answered in "
        f"{cell(summary['seconds'])} s: {cell(summary['output_tokens_per_s'])} output tokens/s, "
        f"{cell(summary['requests_per_s'])} requests/s.",
        f"On average {cell(summary['running'])} run and {cell(summary['waiting'])} wait; KV use "
        f"{summary['kv_use']:.0%} of {policy['kv_capacity_tokens']:,.0f} tokens, {summary['preemptions']:,} "
        f"preemptions, {summary['cache_hit_rate']:.0%} of prompt tokens cached{_from_tiers(summary)}.",
        f"Scheduler: {policy['max_num_seqs']:,} requests and {policy['max_num_batched_tokens']:,} tokens "
        f"a step, prompts {_prompts(summary)}. Basis: {summary['basis']}.",
    ]
    if "goodput_share" in summary:
        said.append(
            f"Goodput: {cell(summary['goodput_requests_per_s'])} requests/s, "
            f"{summary['goodput_share']:.1%} of all."
        )
    said += [f"{count:,} requests are refused: {why}." for why, count in summary["refused"].items()]
    if out is not None:
        said.append(f"requests.csv, summary.json and timeline.html are in {out}.")
    return [line for sentence in said for line in textwrap.wrap(sentence, WIDTH)]


def _from_tiers(summary: dict[str, Any]) -> str:
    """How much of the prompts came from tiers below the KV cache, in words; empty without tiers."""
    tiers = {"host_kv": "host memory", "ssd_kv": "SSD"}
    found = {words: summary.get(f"cache_hit_rate_{name}") for name, words in tiers.items()}
    parts = [f"{share:.0%} from {words}" for words, share in found.items() if share is not None]
    return f" ({', '.join(parts)})" if parts else ""


def _prompts(summary: dict[str, Any]) -> str:
    """How prompts are scheduled, in words."""
    policy, own = summary["scheduler"], summary.get("prefill_scheduler")
    if own is not None:
        return (
            f"on workers of their own with {own['max_num_batched_tokens']:,} tokens a step, "
            f"{cell(summary['transfer_ms_of_1024_tokens'])} ms to send 1,024"
        )
    where = "in steps of their own" if policy["separate_prefill"] else "on decode steps"
    return f"{where}, {'cut to fill them' if policy['chunked_prefill'] else 'never cut'}"
