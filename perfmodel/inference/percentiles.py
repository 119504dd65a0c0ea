"""Percentiles of what users wait for, of predicted rows of the serving schema: each row is simulated.

Means stay those of the closed form. Users of a closed loop send as many requests as the row has, without a
burst those of users who began long ago. Of requests at a rate those that come before the load is steady, or
have none behind them, are not counted.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfmodel.columns import Columns
from perfmodel.errors import InputError
from perfmodel.inference.pool_simulation import ANY_DEPLOYMENT, any_server_of
from perfmodel.inference.scheduler import Outcome
from perfmodel.inference.serving_row import mode_of, read_row
from perfmodel.inference.simulation import (
    NO_LIMITS,
    Limits,
    SchedulerOptions,
    Simulated,
    goodput_share,
    simulate,
)
from perfmodel.inference.traffic import (
    Lengths,
    Workload,
    at_a_rate,
    closed_workload,
    open_workload,
)
from perfmodel.workload.request import Request

Cells = Mapping[str, Sequence[str]]
"""Rows, given and predicted, by column."""

TIMES, SHARES = ("ttft", "tpot", "end_to_end"), (50, 90, 99)

PERCENTILES = tuple(f"{name}_ms_p{share}" for name in TIMES for share in SHARES)
"""Columns of a simulated row."""

GOODPUT = ("goodput_requests_per_s", "goodput_share")
"""Columns beside, where limits are given."""

SIMULATED = (*PERCENTILES, *GOODPUT)
"""Both."""

ROUNDS = 10
"""Requests of each user where a row has no number of them."""

MIN_REQUESTS, MAX_REQUESTS = 1000, 20_000
"""Requests of a row that are counted at a rate, at least, and that are simulated, at most."""


class RowTraffic(NamedTuple):
    """What is sent to a row's server, and the requests that are counted, in the order of their time."""

    workload: Workload
    counted: slice


def add_percentiles(
    cells: Cells,
    calibration: Path,
    limits: Limits = NO_LIMITS,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> tuple[Columns, list[str]]:
    """The columns of percentiles of predicted rows, and why those that have none have none.

    Rows without a prediction have none of both. The reason of others is empty where they were simulated.

    **Arguments:**

    - `limits`: of a request that counts as goodput.
    - `progress`: told how many rows are done, of how many.
    """
    servers = functools.cache(functools.partial(server_of_row, calibration))
    names, count = PERCENTILES + (GOODPUT if limits != NO_LIMITS else ()), len(cells["error"])
    columns: Columns = {name: [math.nan] * count for name in names}
    reasons = [""] * count
    for place in range(count):
        progress(place, count)
        row = {name: column[place].strip() for name, column in cells.items()}
        if not row["ttft_ms"]:
            continue
        try:
            found = _simulated(row, servers, limits)
        except InputError as wrong:
            reasons[place] = str(wrong)
            continue
        for name in names:
            columns[name][place] = found[name]
    progress(count, count)
    return columns, reasons


def server_of_row(calibration: Path, row: tuple[tuple[str, str], ...]) -> Simulated:
    """The server of a row; rows that differ in traffic alone share it."""
    return any_server_of(dict(row), SchedulerOptions(), calibration)


def _simulated(
    row: dict[str, str], servers: Callable[..., Simulated], limits: Limits
) -> dict[str, float]:
    """The values of a row by column.

    **Raises:**

    - `InputError`: for a row that cannot be simulated.
    """
    outcome, counted = simulated_row(row, servers)
    return _values(outcome, counted, limits)


def simulated_row(row: dict[str, str], servers: Callable[..., Simulated]) -> tuple[Outcome, slice]:
    """What comes of the requests of a predicted row, and those of them that are counted.

    **Arguments:**

    - `servers`: the server of the cells of `ANY_DEPLOYMENT`, as pairs of names and cells.

    **Raises:**

    - `InputError`: for a row that cannot be simulated.
    """
    _check(row)
    request = read_row(_asked(row))[1]
    traffic = _traffic(request, float(row["concurrency"]))
    server = servers(tuple((name, row.get(name, "")) for name in ANY_DEPLOYMENT))
    outcome = simulate(server.serving(traffic.workload), traffic.workload.of_replica)
    if not outcome.answered:
        raise InputError(f"its requests are {next(iter(outcome.refusals))}.")
    return outcome, traffic.counted


def _asked(row: dict[str, str]) -> dict[str, str]:
    """The cells that were asked: users of requests at a rate are predicted."""
    return row | {"concurrency": ""} if row.get("requests_per_s") else row


def _check(row: dict[str, str]) -> None:
    """Refuse what has no scheduler here."""
    given = {name: bool(row.get(name)) for name in ("ffn_chip", "large_model", "kv_overflow")}
    mode = mode_of(row.get("mode", ""))
    why = {
        "a static batch has no queue: all begin and end together": mode == "static_batch",
        "feed-forward layers on chips of their own are not simulated": given["ffn_chip"],
        "answers that a large model goes on with are not simulated": given["large_model"],
        "a KV cache that overflows is not simulated": given["kv_overflow"],
    }
    said = [words for words, holds in why.items() if holds]
    if said:
        raise InputError(f"{said[0]}.")


def _traffic(request: Request, users: float) -> RowTraffic:
    """What a row asks: in a closed loop users, at a rate as many as are open on average.

    **Raises:**

    - `InputError`: for lengths that would reach zero.
    """
    spread = float(request.length_spread)
    if spread >= 1:
        raise InputError(f"lengths that spread by {spread:g} of their mean reach zero.")
    isl, osl, prefix = map(float, (request.isl, request.osl, request.prefix_tokens))
    lengths = Lengths(isl, osl, spread, prefix)
    open_now = max(round(users), 1)
    if request.requests_per_s > 0:
        return _open(float(request.requests_per_s), open_now, lengths)
    return _closed(open_now, float(request.requests_per_user), lengths)


def _closed(users: int, rounds: float, lengths: Lengths) -> RowTraffic:
    steady = not math.isfinite(rounds)
    rounds = ROUNDS if steady else rounds
    count = max(min(round(users * rounds), max(MAX_REQUESTS, 2 * users)), users)
    before = users if steady else 0
    traffic = closed_workload(users, count + before, lengths, 0, steady)
    return RowTraffic(traffic, slice(before, None))


def _open(rate: float, open_now: int, lengths: Lengths) -> RowTraffic:
    """Twice as many as are open come before those that are counted, and as many after."""
    around = min(open_now, MAX_REQUESTS // 4)
    counted = min(max(MIN_REQUESTS, ROUNDS * open_now), MAX_REQUESTS - 3 * around)
    requests = functools.partial(at_a_rate, rate, 3 * around + counted, lengths, 0)
    return RowTraffic(open_workload(requests), slice(2 * around, 2 * around + counted))


def _values(outcome: Outcome, counted: slice, limits: Limits) -> dict[str, float]:
    """Percentiles in ms, and goodput; `nan`: none, as TPOT of one token."""
    times = {name: np.asarray(getattr(outcome, name))[counted] for name in TIMES}
    values: dict[str, float] = {}
    for name, seconds in times.items():
        known = seconds[np.isfinite(seconds)]
        at = np.percentile(known, SHARES) if len(known) else [math.nan] * len(SHARES)
        values |= {f"{name}_ms_p{p}": 1e3 * float(x) for p, x in zip(SHARES, at, strict=True)}
    share = goodput_share(times["ttft"], times["tpot"], limits)
    rate = outcome.answered / max(outcome.end - outcome.arrival[0], 1e-12)
    return values | dict(zip(GOODPUT, (share * rate, share), strict=True))
