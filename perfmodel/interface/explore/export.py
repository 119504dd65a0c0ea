"""What one takes away from the explorer: rows, numbers, a chip of one's own, and the Python of it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import tomli_w

from perfmodel.design.variables import turn_file
from perfmodel.files import csv_text
from perfmodel.interface.explore.machines import View, cells_of, plan_and_request, priced
from perfmodel.interface.explore.scenario import Machine, Scenario
from perfmodel.library.chip import chip_file
from perfmodel.library.files import fold
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request
from perfmodel.workload.server import ServerOptions


def stem_of(one: Machine) -> str:
    """The name of a machine's chip: its own, or one that says what was changed."""
    stem, file = chip_file(one.chip)
    plain = fold(file.name) if stem.endswith(".toml") else stem
    return "-".join([plain, *(f"{name}-{value:g}" for name, value in one.factors)]).replace(
        "_", "-"
    )


def chip_text(one: Machine, scenario: Scenario) -> str:
    """The file of a machine's chip as it was dragged, at its price then."""
    _, file = chip_file(one.chip)
    turned = turn_file(file, priced(one, scenario))
    return tomli_w.dumps(turned.model_dump(mode="json", exclude_none=True))


def rows_text(scenario: Scenario) -> str:
    """The scenario as rows for `perfmodel predict serving`; dragged chips by the name of their file."""
    rows = []
    for one in scenario.machines:
        own = {} if is_library(one) else {"chip": f"{stem_of(one)}.toml"}
        rows.append(cells_of(one, scenario) | own)
    return csv_text(pa.Table.from_pylist(rows))


def is_library(one: Machine) -> bool:
    """Whether a machine's chip is one of the library as it stands there."""
    return not one.factors and not one.chip.endswith(".toml")


NAMES = {
    "users": ("concurrency", 1.0),
    "ttft_ms": ("ttft", 1e3),
    "tpot_ms": ("tpot", 1e3),
    "tokens_per_s_per_user": ("speed", 1.0),
    "tokens_per_s": ("rate", 1.0),
    "joules_per_output_token": ("joules", 1.0),
    "usd_per_million_output_tokens": ("dollars", 1.0),
    "usd_per_chip_hour": ("hour", 1.0),
    "bytes_short": ("short", 1.0),
}
"""Columns of the numbers: the field of a point, and what it is multiplied by."""


def numbers_text(views: Sequence[View]) -> str:
    """Every machine at every load as CSV."""
    rows = [
        {"machine": view.name, "asked": point is view.here, "cost_basis": view.cost_basis}
        | {name: float(getattr(point, field)) * size for name, (field, size) in NAMES.items()}
        for view in views
        for point in (view.here, *view.loads)
    ]
    return csv_text(pa.Table.from_pylist(rows))


def python_of(scenario: Scenario, views: Sequence[View]) -> str:
    """A program that gives the same times, speeds and joules."""
    calls = [_call(one, scenario, view) for one, view in zip(scenario.machines, views, strict=True)]
    return (
        '"""Made by `perfmodel explore`: the same numbers."""\n\n'
        "import jax\n\nimport perfmodel as pm\n\n"
        "serve = jax.jit(pm.serve)\n"
        f"model = pm.traced(pm.load_model({scenario.model!r}))\n"
        "found = {}\n" + "".join(calls) + "\nfor name, one in found.items():\n"
        '    print(f"{name}: TPOT {1e3 * one.tpot:.4g} ms, {1 / one.tpot:.4g} tokens/s per user, "\n'
        '          f"TTFT {1e3 * one.ttft:.4g} ms, {one.energy:.4g} J/token")\n'
    )


def _call(one: Machine, scenario: Scenario, view: View) -> str:
    plan, request = plan_and_request(one, scenario, view)
    arguments = ", ".join(filter(None, (_given(plan), _backends(plan, one))))
    chip = f"Path({one.chip!r})" if one.chip.endswith(".toml") else repr(one.chip)
    path = "from pathlib import Path\n" if one.chip.endswith(".toml") else ""
    path += "from perfmodel.kernels.backends import backends_of\n" if plan.framework else ""
    path += "from perfmodel.workload.server import ServerOptions\n"
    return (
        f"\n{path}plan = pm.Plan({arguments})\n"
        f"chip = pm.turn(pm.load_chip({chip}, plan), {dict(one.factors)!r})\n"
        f"found[{view.name!r}] = serve(chip, plan, model, pm.Request({_given(request)}))\n"
    )


def _backends(plan: Plan, one: Machine) -> str:
    """The framework's kernel libraries on the machine's chip, as an argument; empty without one."""
    if not plan.framework:
        return ""
    architecture = chip_file(one.chip)[1].architecture
    words = (plan.framework_version or plan.framework, architecture, plan.cache)
    return f"**backends_of{(*words, plan.unfused_all_reduce)!r}"


def _given(module: Plan | Request | ServerOptions) -> str:
    """A module's fields as arguments, but for those that are as they are by themselves."""
    values = {
        field.name: value
        for field in dataclasses.fields(module)
        if (value := getattr(module, field.name)) != field.default
        and not field.name.endswith("_backend")
    }
    return ", ".join(f"{name}={_written(value)}" for name, value in values.items())


def _written(value: Any) -> str:
    """A word as it is, a number as a number, a module by its fields."""
    if isinstance(value, ServerOptions):
        return f"ServerOptions({_given(value)})"
    if isinstance(value, bool | str):
        return repr(value)
    return 'float("inf")' if math.isinf(value) else f"{float(value):g}"
