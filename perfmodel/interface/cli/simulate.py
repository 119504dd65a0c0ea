"""`perfmodel simulate`."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli import options
from perfmodel.interface.cli.column_options import takes
from perfmodel.interface.serving_columns import SERVING_COLUMNS, TRAFFIC
from perfmodel.interface.terminal import (
    bar,
    say,
    show_json,
    show_table,
    warn,
    warn_assumed,
    warn_unsupported,
)

DEPLOYMENT = (
    *(name for name, column in SERVING_COLUMNS.items() if column.panel == "Chips and model"),
    *("speculative_tokens", "acceptance", "read_interval", "mode"),
    *(name for name, column in SERVING_COLUMNS.items() if column.panel.startswith("Pools")),
)
"""Columns of what serves."""


class Unit(StrEnum):
    """Of timestamps."""

    s = "s"
    ms = "ms"


class Arrivals(StrEnum):
    """When requests come."""

    poisson = "poisson"
    burst = "burst"
    closed = "closed"


class Answer(StrEnum):
    """Whether something is so."""

    true = "true"
    false = "false"


def _count(meaning: str, panel: str, least: float = 1, most: float | None = None) -> Any:
    return typer.Option(
        help=meaning, rich_help_panel=panel, min=least, max=most, show_default=False
    )


SCHEDULER, ARRIVING, TIERS = "Scheduler", "Traffic", "Tiers below the KV cache"


@takes(*DEPLOYMENT, *TRAFFIC)
def simulate(
    trace: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRACE",
            help="JSON lines or CSV: timestamp, input_length, output_length; hash_ids, session.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for requests.csv, summary.json and timeline.html."),
    ] = None,
    timestamp_unit: Annotated[
        Unit, typer.Option(help="Of timestamps.", rich_help_panel=ARRIVING)
    ] = Unit.s,
    requests: Annotated[
        int | None,
        _count("Requests: 1,000 at a rate, 10 of each user in a closed loop.", ARRIVING, 1, 10**7),
    ] = None,
    arrivals: Annotated[
        Arrivals | None,
        typer.Option(
            help="When requests come: closed with --concurrency, else poisson.",
            rich_help_panel=ARRIVING,
            show_default=False,
        ),
    ] = None,
    burstiness: Annotated[
        float | None,
        _count("Shape of times between bursts: 1 is Poisson; 0.25.", ARRIVING, 0.01, 100),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of what is drawn.", rich_help_panel=ARRIVING, min=0)
    ] = 0,
    max_num_seqs: Annotated[
        int | None, _count("Requests computed at once, of each data rank: 256", SCHEDULER)
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None, _count("Tokens of a step, of each data rank: 8192", SCHEDULER)
    ] = None,
    chunked_prefill: Annotated[
        Answer | None,
        typer.Option(
            help="Whether prompts are cut to fill a step.",
            rich_help_panel=SCHEDULER,
            show_default=False,
        ),
    ] = None,
    memory_fraction: Annotated[
        float | None,
        _count("Share of memory for weights and KV cache: 0.9", SCHEDULER, 0.01, 1),
    ] = None,
    kv_capacity_tokens: Annotated[
        int | None, _count("Tokens of KV cache, as a server prints it: 41408", SCHEDULER)
    ] = None,
    host_kv_gb: Annotated[
        float | None, _count("Host memory for evicted KV cache, of a replica, GB: 512", TIERS, 0)
    ] = None,
    host_kv_gb_per_s: Annotated[
        float | None, _count("GB/s at which it comes back from there: 50", TIERS, 0)
    ] = None,
    ssd_kv_gb: Annotated[
        float | None, _count("SSD for what host memory evicts, of a replica, GB: 4000", TIERS, 0)
    ] = None,
    ssd_kv_gb_per_s: Annotated[
        float | None, _count("GB/s at which it comes back from there: 6", TIERS, 0)
    ] = None,
    ttft_ms: Annotated[float | None, _count("Limit of goodput on TTFT.", "Limits", 0)] = None,
    tpot_ms: Annotated[float | None, _count("Limit of goodput on TPOT.", "Limits", 0)] = None,
    deployments: Annotated[
        Path | None,
        typer.Option(
            help="CSV of many deployments: a row each, a column for each option that differs.",
            show_default=False,
        ),
    ] = None,
    cluster: options.Cluster = "",
    calibration: options.Calibration = None,
    report: options.Report = None,
    json_: options.Json = False,
    *,
    columns: Mapping[str, str],
) -> None:
    """Simulate requests that come to one deployment: TTFT and TPOT of each, queues, KV cache, goodput.

    A trace has timestamp, input_length and output_length on each line; hash_ids are of blocks of 512 tokens
    that prompts share, turns of one session wait for one another. Without one, --isl and --osl come at
    --requests-per-s (poisson, burst) or from --concurrency users (closed). The scheduler is the framework's,
    with its defaults where nothing is given; step times are those of `predict serving`.

    Example: perfmodel simulate trace.jsonl --chip h100-sxm --n-chips 8 --model llama-3.3-70b --framework vllm
    --ttft-ms 2000 --tpot-ms 50 --out simulated

    Example: perfmodel simulate --requests-per-s 4 --isl 2000 --osl 300 --chip h100-sxm --model qwen3-32b
    --precision fp8 --framework sglang

    With --deployments, every row of a file is one; options hold where a row says nothing. A deployments.csv
    of recommend serves. simulations.csv in OUT has a summary of each, or why there is none. --cluster shares
    them out over the workers of a Ray cluster.

    Example: perfmodel simulate trace.jsonl --deployments found/deployments.csv --ttft-ms 2000 --out simulated
    --cluster local
    """
    from perfmodel.inference.simulation import SchedulerOptions
    from perfmodel.interface import simulate as shown
    from perfmodel.interface import simulations as many
    from perfmodel.library.fitted import own_folder

    options.check_places(folder=out, report=report)
    asked = shown.Asked(
        trace,
        timestamp_unit.value,
        {name: columns[name] for name in TRAFFIC if name in columns},
        requests,
        arrivals and arrivals.value,
        burstiness,
        seed,
    )
    cells = {name: columns[name] for name in DEPLOYMENT if name in columns}
    scheduler = SchedulerOptions(
        max_num_seqs,
        max_num_batched_tokens,
        None if chunked_prefill is None else chunked_prefill is Answer.true,
        memory_fraction,
        kv_capacity_tokens,
        shown.tiers_of(
            {"host_kv": (host_kv_gb, host_kv_gb_per_s), "ssd_kv": (ssd_kv_gb, ssd_kv_gb_per_s)}
        ),
    )
    limits, fits = shown.limits_of(ttft_ms, tpot_ms), options.fitted(calibration)
    setup = many.Setup(asked, scheduler, limits, own_folder(fits))
    if deployments is not None:
        _simulate_many(deployments, setup, cells, out, report, cluster, json_)
        return
    if cluster:
        raise InputError(
            "--cluster simulates many deployments at a time; give --deployments FILE.csv."
        )
    traffic = shown.traffic_of(asked)
    warn_assumed([cells.get("model", "")])
    warn_unsupported([cells.get("chip", "")], [cells.get("framework", "")])
    if said := shown.expected_time(traffic.requests):
        warn(said)
    with bar("step times"):
        server = many.started(cells, setup, traffic)
    with bar("requests", traffic.requests) as update:
        outcome, summary = many.served(server, traffic, limits, update)
    for line in shown.complaints(traffic):
        warn(line)
    if out is not None:
        for line in shown.write(out, outcome, summary):
            warn(line)
    if json_:
        show_json(summary | ({"out": str(out)} if out is not None else {}))
    else:
        show_table(shown.table_of(summary), shown.WIDTH)
        say(*shown.sentences(summary, out))
    if report is not None:
        from perfmodel.interface.pages.simulate import simulation_page

        options.write_report(report, simulation_page(outcome, summary, out), silent=json_)


def _simulate_many(
    path: Path,
    setup: Any,
    given: Mapping[str, str],
    out: Path | None,
    report: Path | None,
    cluster: str,
    json_: bool,
) -> None:
    """The deployments of a file, simulated into one table."""
    from perfmodel.interface.simulations import read_deployments, simulate_all, write_all

    if out is None:
        raise InputError("--deployments writes simulations.csv; give --out, a folder.")
    if report is not None:
        raise InputError("--report is of one deployment; leave it or --deployments out.")
    traffic = () if setup.asked.trace is not None else TRAFFIC
    rows = read_deployments(path, {**given, **setup.asked.cells}, (*DEPLOYMENT, *traffic))
    warn_assumed(dict.fromkeys(row.get("model", "") for row in rows))
    for chip, name in dict.fromkeys((r.get("chip", ""), r.get("framework", "")) for r in rows):
        warn_unsupported([chip], [name])
    with bar("deployments") as update:
        found = simulate_all(setup, rows, cluster, update)
    place = write_all(out, rows, found)
    errors = [one.error for one in found if one.error]
    options.show_outcome(place, len(found), len(errors), errors[0] if errors else "", json_)
