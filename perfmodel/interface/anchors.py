"""Stacks whose runs were measured, as they are printed: factors, and ranges before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel.calibration.anchors import FittedStack, Scale
from perfmodel.calibration.own_hosts import OwnHost
from perfmodel.calibration.sections import in_units
from perfmodel.interface.tables import Table, table_of
from perfmodel.library.fitted_intervals import Interval
from perfmodel.units import figures
from perfmodel.workload.plan import REPLICA_RANKS


def table_of_anchors(stacks: Sequence[FittedStack]) -> Table:
    """A line for each stack, and one for each of its deployments that were measured."""
    lines = [line for one in stacks for line in _lines(one)]
    return table_of("Factors from measured runs, and 90 % ranges as factors on a prediction", lines)


def _lines(one: FittedStack) -> list[dict[str, str]]:
    name = " ".join(one.stack)
    own = [_line(f"  {_ranks(ranks)}", scale, one) for ranks, scale in one.deployments.items()]
    return [_line(name, one.scale, one, "other ranks"), *own]


def _line(name: str, scale: Scale, one: FittedStack, of: str = "") -> dict[str, str]:
    steps, prompts = (figures(float(factor)) for factor in scale.factors)
    return {
        "stack": f"{name}, {of}" if of else name,
        "runs": str(max(scale.runs)),
        "on steps": steps,
        "on prompts": prompts,
        "TPOT range": _range(one.before.tpot),
        "TPOT, after": _range(scale.tpot),
        "TTFT range": _range(one.before.ttft),
        "TTFT, after": _range(scale.ttft),
    }


def _ranks(ranks: Sequence[float]) -> str:
    return " ".join(f"{name} {rank:.0f}" for name, rank in zip(REPLICA_RANKS, ranks, strict=True))


def _range(ends: Interval) -> str:
    return f"{ends.low:.2f}-{ends.high:.2f}"


def anchor_records(stacks: Sequence[FittedStack]) -> list[dict[str, Any]]:
    """A dictionary for each stack, with its deployments."""
    return [_record(one) for one in stacks]


def _record(one: FittedStack) -> dict[str, Any]:
    deployments = [
        dict(zip(REPLICA_RANKS, ranks, strict=True)) | _numbers(scale)
        for ranks, scale in one.deployments.items()
    ]
    before = {"tpot": list(one.before.tpot), "ttft": list(one.before.ttft)}
    numbers = {"runs": one.runs} | _numbers(one.scale)
    return one.stack._asdict() | numbers | {"before": before, "deployments": deployments}


def _numbers(scale: Scale) -> dict[str, Any]:
    factors = dict(zip(("steps", "prompts"), map(float, scale.factors), strict=True))
    runs = {"tpot_runs": scale.runs[0], "ttft_runs": scale.runs[1]}
    return factors | runs | {"tpot": list(scale.tpot), "ttft": list(scale.ttft)}


def table_of_hosts(hosts: Mapping[str, OwnHost]) -> Table:
    """A line for each framework: its runs, and each constant before and after."""
    return table_of(
        "What the host adds, before and after", [_host_line(*one) for one in hosts.items()]
    )


def _host_line(framework: str, one: OwnHost) -> dict[str, str]:
    before, after = in_units(one.before), in_units(one.host)
    changes = {n: f"{figures(before[n])} -> {figures(after[n])}" for n in after}
    return {
        "framework": framework,
        "runs": str(one.runs),
        "with TTFT": str(one.ttft_runs),
    } | changes


def host_records(hosts: Mapping[str, OwnHost]) -> list[dict[str, Any]]:
    """A dictionary for each framework."""
    return [
        {"framework": name, "runs": one.runs, "ttft_runs": one.ttft_runs}
        | in_units(one.host)
        | {"before": in_units(one.before)}
        for name, one in hosts.items()
    ]
