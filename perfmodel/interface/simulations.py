"""Many deployments under the same requests: each simulated for itself, here or on a cluster."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.cluster import gathered, own_files, workers
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, rows_over, write_csv
from perfmodel.inference.pool_simulation import any_server_of
from perfmodel.inference.scheduler import Outcome
from perfmodel.inference.simulation import (
    Limits,
    SchedulerOptions,
    Simulated,
    simulate,
    summarise,
)
from perfmodel.interface.recommend import csv_table
from perfmodel.interface.serving_columns import TRAFFIC
from perfmodel.interface.simulate import (
    Asked,
    AskedTraffic,
    check_mode,
    nothing_answered,
    of_trace,
    traffic_of,
)
from perfmodel.library.files import word_of
from perfmodel.library.fitted import FITTED

FILE = "simulations.csv"
"""Of a folder, a row for each deployment."""


class Setup(NamedTuple):
    """What all deployments share; `calibration`: `None` for the shipped parameters."""

    asked: Asked
    scheduler: SchedulerOptions
    limits: Limits
    calibration: Path | None


class Result(NamedTuple):
    """The summary of a deployment's requests; or why there is none."""

    summary: dict[str, Any]
    error: str = ""


def started(cells: dict[str, str], setup: Setup, traffic: AskedTraffic) -> Simulated:
    """The server of a deployment as it meets the requests.

    **Raises:**

    - `InputError`: for cells that name no such server.
    """
    check_mode(cells.get("mode", ""))
    server = any_server_of(cells, setup.scheduler, setup.calibration or FITTED)
    return server.serving(traffic.workload)


def served(
    server: Simulated,
    traffic: AskedTraffic,
    limits: Limits,
    progress: Callable[[int], None] = lambda answered: None,
) -> tuple[Outcome, dict[str, Any]]:
    """What comes of the requests, and its summary.

    **Raises:**

    - `InputError`: where none can be answered.
    """
    outcome = simulate(server, traffic.workload.of_replica, progress)
    if not outcome.answered:
        raise InputError(nothing_answered(outcome))
    return outcome, summarise(server, outcome, limits) | of_trace(traffic)


def read_deployments(
    path: Path, given: Mapping[str, str], columns: Sequence[str]
) -> list[dict[str, str]]:
    """The deployments of a CSV file, a row each: what is empty there is as `given`.

    Of a table that `recommend` wrote, columns of what was predicted are passed over.

    **Raises:**

    - `InputError`: for a file that cannot be read, or that has no column of a deployment.
    """
    cells = cells_of(read_csv(path))
    ours = {name: cells[name] for name in cells if name in columns}
    if not ours:
        word_of(next(iter(cells)), columns, f"column of {path.name}")
    return rows_over(given, ours)


def simulate_one(setup: Setup, cells: dict[str, str]) -> Result:
    """The summary of one deployment."""
    try:
        own = {name: cell for name, cell in cells.items() if name in TRAFFIC}
        traffic = traffic_of(setup.asked._replace(cells=own))
        server = started({n: x for n, x in cells.items() if n not in own}, setup, traffic)
        return Result(served(server, traffic, setup.limits)[1])
    except InputError as wrong:
        return Result({}, str(wrong))


def simulate_all(
    setup: Setup,
    deployments: Sequence[dict[str, str]],
    cluster: str,
    progress: Callable[[int, int], None],
) -> list[Result]:
    """Of each deployment what comes of the requests, in order; one that cannot be started costs no other.

    **Raises:**

    - `InputError`: when the cluster is not there or has another version.
    """
    words = [word for cells in deployments for word in cells.values()]
    places = [place for place in (setup.asked.trace, setup.calibration) if place is not None]
    with workers(cluster, [*places, *own_files(words)]) as run:
        found = run(functools.partial(simulate_one, setup), deployments)
        return gathered(found, len(deployments), progress)


def write_all(out: Path, deployments: Sequence[Mapping[str, str]], found: Sequence[Result]) -> Path:
    """Write `simulations.csv`: cells of each deployment, its summary, or its error."""
    rows = [
        {"row": number} | dict(cells) | _flat(one.summary) | {"error": one.error}
        for number, (cells, one) in enumerate(zip(deployments, found, strict=True), 1)
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / FILE, csv_table(rows))
    return out / FILE


LEFT_OUT = ("deployment", "scheduler", "prefill_scheduler", "assumptions", "refused", "trace")
"""Of a summary what a row has already, or what is no number."""


def _flat(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary as columns: statistics have theirs at the end of the name."""
    columns: dict[str, Any] = {}
    for name, value in summary.items():
        if isinstance(value, dict) and name not in LEFT_OUT:
            columns |= {f"{name}_{one}": x for one, x in value.items() if x is not None}
        elif isinstance(value, str | int | float) and name not in LEFT_OUT:
            columns[name] = value
    refused = summary.get("refused", {})
    return columns | ({"refused": sum(refused.values())} if summary else {})
