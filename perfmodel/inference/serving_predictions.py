"""Rows of the serving schema predicted: from cells to columns of numbers and words."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from perfmodel.batching import one_by_one_on_error
from perfmodel.breakdown import BOUNDS
from perfmodel.columns import Columns, Value, as_cells, chosen_or_given
from perfmodel.errors import InputError
from perfmodel.inference import cascade, pools, quote
from perfmodel.inference.best_deployment import best_candidate, best_of_each, best_pools
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment import Deployment, model_name
from perfmodel.inference.evaluate import READ, ResolvedRow, evaluate_rows, resolve_row
from perfmodel.inference.kernel_predictions import OVERFLOW
from perfmodel.inference.open_loop import serve_open_loop
from perfmodel.inference.pools import (
    PooledCandidate,
    PooledRow,
    resolve_attention_ffn,
    resolve_disaggregated,
)
from perfmodel.inference.service import Service, serve
from perfmodel.inference.serving_row import DISAGGREGATED, RANKS, mode_of
from perfmodel.inference.token_cost import cost_of_pools, cost_of_service, wall_energy
from perfmodel.library.fitted_intervals import ServingIntervals, widest, with_software
from perfmodel.library.framework import default_framework, software_on
from perfmodel.library.ledger import ASKED_BASES, COST_BASES, Dollars
from perfmodel.workload.request import Request

COLUMNS = (*READ, *pools.READ, *cascade.READ)
"""Columns that are read; the others pass through."""


PLAN = (*RANKS, "concurrency")
"""Columns that are written out as chosen where they were empty."""


def predict_cells(
    cells: dict[str, list[str]],
    count: int,
    calibration: Path,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> dict[str, list[str]]:
    """The columns that a prediction adds to a table of `count` rows, as text."""
    columns = predict_values(cells, count, calibration, progress)
    return {name: as_cells(column) for name, column in columns.items()}


def predict_values(
    cells: dict[str, list[str]],
    count: int,
    calibration: Path,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> Columns:
    """The columns that a prediction adds to a table of `count` rows, as numbers and words."""
    cells = cells | {"concurrency": _asked_users(cells, count)}
    places = cascade.cascaded_rows(cells)
    if not places:
        return _predict_values(cells, count, calibration, progress)
    rest = [i for i in range(count) if i not in set(places)]
    parts = [cascade.predict_cascades(cells, places, calibration, _predict_values)]
    rest_cells = {name: [column[i] for i in rest] for name, column in cells.items()}
    parts.append(_predict_values(rest_cells, len(rest), calibration, progress))
    order, before = np.argsort([*places, *rest]), _cells_before(cells, count)
    columns: Columns = {}
    for name in dict.fromkeys((*parts[1], *parts[0])):
        columns_of_parts = [
            part.get(name, [""] * n)
            for part, n in zip(parts, map(len, (places, rest)), strict=True)
        ]
        joined = [(columns_of_parts[0] + columns_of_parts[1])[i] for i in map(int, order)]
        columns[name] = chosen_or_given(joined, before.get(name, [""] * count))
    return columns


def _asked_users(cells: dict[str, list[str]], count: int) -> list[str]:
    """Users that are asked for: beside a rate of requests, in a row that has a prediction, they are what came
    out of it."""
    names = ("concurrency", "requests_per_s", "running")
    columns = [cells.get(name, [""] * count) for name in names]
    return [
        "" if rate.strip() and running.strip() else users
        for users, rate, running in zip(*columns, strict=True)
    ]


def _cells_before(cells: dict[str, list[str]], count: int) -> dict[str, list[str]]:
    """Cells that stay where nothing is predicted: those of no output, and what USD are asked for."""
    outputs = dict.fromkeys((*OUTPUTS, "error"), [""] * count)
    return cells | outputs | quote.asked_cells(cells, count)


def _predict_values(
    cells: dict[str, list[str]],
    count: int,
    calibration: Path,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> Columns:
    """The same for rows without a large model."""
    errors = [""] * count
    by_form: dict[Hashable, list[ResolvedRow | PooledRow]] = {}
    read = {name: column for name, column in cells.items() if name in (*READ, *pools.READ)}
    for place in range(count):
        try:
            row = {name: column[place] for name, column in read.items()}
            resolved = _resolve(place, row, calibration)
        except InputError as wrong:
            errors[place] = str(wrong)
            continue
        by_form.setdefault(resolved.form, []).append(resolved)
    results: list[dict[str, Value]] = [{} for _ in range(count)]
    for done, resolved_rows in enumerate(by_form.values()):
        progress(done, len(by_form))
        if done % MAX_COMPILED_FORMS == MAX_COMPILED_FORMS - 1:
            jax.clear_caches()  # compiled code takes maps of memory, of which a process has 65,530
        outcomes = one_by_one_on_error(_outcomes, resolved_rows, lambda wrong: {"error": wrong})
        for resolved, result in zip(resolved_rows, outcomes, strict=True):
            results[resolved.place] = result
            errors[resolved.place] = str(result.pop("error"))
    progress(len(by_form), len(by_form))
    predicted = dict.fromkeys(name for result in results for name in result)
    names = list(dict.fromkeys([*PLAN, *OUTPUTS, *predicted]))
    columns: Columns = {name: [result.get(name, "") for result in results] for name in names}
    before = _cells_before(cells, count)
    for name, column in columns.items():
        columns[name] = chosen_or_given(column, before.get(name, [""] * count))
    columns["error"] = [*errors]
    return columns


OUTPUTS = (
    "ttft_ms",
    "ttft_ms_low",
    "ttft_ms_high",
    "tpot_ms",
    "tpot_ms_low",
    "tpot_ms_high",
    "tpot_with_first_ms",
    "output_tokens_per_s_per_user",
    "output_tokens_per_s_per_chip",
    "total_tokens_per_s",
    "joules_per_output_token",
    "joules_per_output_token_at_wall",
    "usd_per_million_output_tokens",
    "usd_per_million_output_tokens_low",
    "usd_per_million_output_tokens_high",
    "usd_per_chip_hour",
    "cost_basis",
    "basis",
    "running",
    "weights_gb_per_chip",
    "kv_capacity_tokens",
    "fits",
    "bound",
)


MAX_COMPILED_FORMS = 32
"""Forms of rows that are compiled before what was compiled is let go of."""


def _resolve(place: int, row: dict[str, str], calibration: Path) -> ResolvedRow | PooledRow:
    disaggregated = mode_of(row.get("mode", "")) == DISAGGREGATED
    if row.get("ffn_chip", "").strip():
        if disaggregated:
            raise InputError("ffn_chip is not for mode disaggregated; leave one of them.")
        return resolve_attention_ffn(place, row, calibration)
    return (resolve_disaggregated if disaggregated else resolve_row)(place, row, calibration)


def _outcomes(rows: list[Any]) -> list[dict[str, Value]]:
    """Of rows of one form."""
    return _outcomes_of_pools(rows) if isinstance(rows[0], PooledRow) else _outcomes_of_rows(rows)


def _outcomes_of_pools(pooled_rows: list[PooledRow]) -> list[dict[str, Value]]:
    """Serve all pairs of pools in every way, and take the best way of each."""
    served = pools.serve_pooled(pooled_rows)[1]
    return [_outcome_of_pools(*best) for best in best_of_each(pooled_rows, served, best_pools)]


def _outcome_of_pools(
    pooled: PooledRow, candidate: PooledCandidate, served: Service
) -> dict[str, Value]:
    """The values of a row with two kinds of chips, and how each is spread."""
    lead = _with_widest_intervals(pooled)
    rate = float(output_rate(lead.request, served))
    sizes = [workers * ranks.chips for ranks, workers in zip(*candidate, strict=True)]
    cost = cost_of_pools(pooled.sides, np.array(sizes, float), served, rate)
    cells = _row_values(lead, candidate.chips, served, rate, *cost)
    if cells.get("fits") == "false":
        cells |= no_numbers(
            "false", memory_error(lead.deployment, candidate.chips, float(served.slack))
        )
    for name, parallelism, workers in zip(pooled.names, *candidate, strict=True):
        ranks = {f"{name}{rank}": value for rank, value in parallelism._asdict().items()}
        cells |= {rank: float(value) for rank, value in ranks.items() if rank in COLUMNS}
        cells |= {f"{name}workers": workers} if pooled.link is None else {}
    if pooled.link is not None:
        cells |= dict(zip(ATTENTION_FFN_OUTPUTS, map(float, np.asarray(served.busy)), strict=True))
    return cells


def _with_widest_intervals(pooled: PooledRow) -> ResolvedRow:
    """The row of the side that answers, with the intervals of the less sure one."""
    intervals = widest([side.deployment.intervals for side in pooled.sides])
    return pooled.lead._replace(deployment=pooled.lead.deployment._replace(intervals=intervals))


ATTENTION_FFN_OUTPUTS = ("attention_busy", "ffn_busy", "micro_batches")
"""Columns of rows whose feed-forward layers are on chips of their own: shares of a step, and its parts."""


def _outcomes_of_rows(resolved_rows: list[ResolvedRow]) -> list[dict[str, Value]]:
    """Serve all rows in every way, and take the best way of each."""
    rows = [
        (resolved, parallelism) for resolved in resolved_rows for parallelism in resolved.candidates
    ]
    served = evaluate_rows(loop_of(resolved_rows[0]), rows)
    return [_outcome_of_row(*best) for best in best_of_each(resolved_rows, served, best_candidate)]


def loop_of(resolved: ResolvedRow) -> Callable[..., Service]:
    """What serves a row: an open loop where requests come at a rate, else a closed one."""
    return serve_open_loop if resolved.open_loop else serve


def _outcome_of_row(
    resolved: ResolvedRow, parallelism: Parallelism, served: Service
) -> dict[str, Value]:
    """The values of one row."""
    given, chips = resolved.deployment, parallelism.chips
    rate = float(output_rate(resolved.request, served))
    wall = wall_energy(given.stem, served.joules, rate / chips)
    cost = cost_of_service(resolved, chips, float(wall.billed), rate)
    at_ranks = resolved._replace(
        deployment=given._replace(intervals=given.intervals.at(parallelism.ranks))
    )
    cells = _row_values(at_ranks, chips, served, rate, *cost)
    if not resolved.pool.chips:  # of one kind of chip
        cells |= {AT_WALL: float(wall.known)}
    if cells.get("fits") == "false":
        cells |= no_numbers("false", memory_error(given, chips, float(served.slack)))
    elif resolved.open_loop and resolved.request.requests_per_s >= served.max_requests_per_s:
        said = queue_error(
            resolved,
            float(resolved.request.requests_per_s),
            chips,
            float(served.max_requests_per_s),
        )
        cells |= no_numbers("true", said)
    if resolved.open_loop and cells["error"]:
        cells |= {"concurrency": ""}  # which comes out of a queue that does not grow
    return cells | {rank: float(value) for rank, value in parallelism._asdict().items()}


def no_numbers(fits: str, error: str) -> dict[str, Value]:
    """The values of a row that is not served, and why."""
    return {**dict.fromkeys(OUTPUTS, ""), "fits": fits, "error": error}


def queue_error(resolved: ResolvedRow, rate: float, chips: float, most: float) -> str:
    """What is said of requests that come faster than they can be answered."""
    return (
        f"requests_per_s is {rate:g}, but {model_name(resolved.deployment)} on {chips:.0f} x "
        f"{resolved.deployment.stem} answers fewer than {most:.4g}: the queue would grow "
        "without end; give fewer, or more chips."
    )


def _row_values(
    resolved: ResolvedRow, chips: float, served: Service, rate: float, dollars: Dollars, basis: str
) -> dict[str, Value]:
    """What a service on `chips` gives, at `rate` output tokens a second and `dollars` for each."""
    bound = int(np.argmax(served.seconds))
    if not np.isfinite([float(served.ttft), float(served.tpot), rate]).all():
        return {"error": OVERFLOW}
    numbers = serving_numbers(
        resolved.request, resolved.deployment.intervals, chips, served, rate, dollars
    )
    words = {"fits": "true" if served.slack >= 0 else "false", "bound": BOUNDS[bound]}
    words |= {"basis": basis_said(resolved.deployment), "cost_basis": basis, "error": ""}
    return {name: float(value) for name, value in numbers.items()} | words


def basis_said(deployment: Deployment) -> str:
    """What a service's range rests on, and the generation of its software where a chip has its own."""
    default = default_framework(deployment.architecture)
    named = software_on(deployment.plan, deployment.architecture).name if default else ""
    return with_software(deployment.intervals.basis, named)


def output_rate(request: Request, served: Service) -> Any:
    """Output tokens a second of all users."""
    return served.concurrency * request.osl / served.total


def priced_numbers(
    resolved: ResolvedRow, parallelism: Parallelism, served: Service, price: Any = 1.0
) -> tuple[dict[str, Any], str]:
    """The numbers of a row, or of many of one deployment, on one kind of chip, and what their USD are of.

    **Arguments:**

    - `parallelism`: how each is spread; of many rows its ranks are arrays.
    - `price`: a factor on what it costs to have a chip.
    """
    rate, chips = output_rate(resolved.request, served), parallelism.chips
    wall = wall_energy(resolved.deployment.stem, served.joules, rate / chips)
    dollars, basis = cost_of_service(resolved, chips, wall.billed, rate, price)
    intervals = resolved.deployment.intervals.at(parallelism.ranks)
    numbers = serving_numbers(resolved.request, intervals, chips, served, rate, dollars)
    return numbers | {AT_WALL: wall.known}, basis


AT_WALL = "joules_per_output_token_at_wall"


def serving_numbers(
    request: Request,
    intervals: ServingIntervals,
    chips: Any,
    served: Service,
    rate: Any,
    dollars: Dollars,
) -> dict[str, Any]:
    """The numbers of a row, or of many that share their intervals, by column.

    **Arguments:**

    - `rate`: output tokens a second; `dollars`: USD for one output token.
    """
    first, later = intervals.ttft, intervals.tpot
    return {
        "n_chips": chips,
        "concurrency": served.concurrency,
        "ttft_ms": served.ttft * 1e3,
        "ttft_ms_low": served.ttft * 1e3 * first.low,
        "ttft_ms_high": served.ttft * 1e3 * first.high,
        "tpot_ms": served.tpot * 1e3,
        "tpot_ms_low": served.tpot * 1e3 * later.low,
        "tpot_ms_high": served.tpot * 1e3 * later.high,
        "tpot_with_first_ms": served.tpot * 1e3 + (served.ttft - served.tpot) * 1e3 / request.osl,
        "output_tokens_per_s_per_user": 1 / served.tpot,
        "output_tokens_per_s_per_chip": rate / chips,
        "total_tokens_per_s": rate * (1 + request.isl / request.osl),
        "joules_per_output_token": served.energy,
        "usd_per_million_output_tokens": 1e6 * dollars.value,
        "usd_per_million_output_tokens_low": 1e6 * dollars.low,
        "usd_per_million_output_tokens_high": 1e6 * dollars.high,
        "usd_per_chip_hour": 3600 * dollars.value * rate / chips,
        "running": served.running,
        "weights_gb_per_chip": served.weights / 1e9,
        "kv_capacity_tokens": served.kv_capacity,
    }


def memory_error(deployment: Deployment, chips: float, slack: float) -> str:
    """What is said of a model that does not fit."""
    return (
        f"{model_name(deployment)} does not fit on {chips:.0f} x {deployment.stem}: weights and one "
        f"sequence are {-slack:.4g} bytes short on each chip; use more chips, shorter texts or a smaller "
        "format."
    )


DEFINITIONS = {
    "ttft": "mean time from sending a request to its first token, waiting included",
    "tpot": "(total - TTFT) / (output tokens - 1), the mean over requests",
    "tpot_with_first": "total / output tokens: the other convention",
    "tokens/s per user": "1 / TPOT",
    "tokens/s per chip": "output tokens alone",
    "total tokens/s": "input and output tokens",
    "joules": "what the boards of all chips draw, prompts and what they draw between included",
    "joules at the wall": "what boards, host, fans and conversion draw; cooling of the site is not in it",
    "USD": "of what cost_basis names: "
    + "; ".join(f"{word}, {COST_BASES[word]}" for word in (*ASKED_BASES, "unknown")),
}
"""What the words of every output mean."""
