"""Where the time of a kernel or of a decode step goes: kernel by kernel and term by term."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfmodel.batching import Numbers
from perfmodel.breakdown import BOUNDS, SECONDS, Breakdown
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference import cascade, pools
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.evaluate import ResolvedRow, resolve_row, server_options_of, with_ranks
from perfmodel.inference.kernel_predictions import OVERFLOW, own_files, resolve_group
from perfmodel.inference.serving_predictions import PLAN, predict_cells
from perfmodel.inference.serving_row import DISAGGREGATED, mode_of
from perfmodel.inference.step import Cost, decode_step
from perfmodel.kernels.kernel_table import groups_of
from perfmodel.kernels.registry import KERNELS, cost
from perfmodel.trees import map_leaves
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.xla import to_run_once


class Line(NamedTuple):
    """One kernel, or all of a label: what it is, its time in s, its share, what binds, its parts by bound."""

    label: str
    time: float
    share: float
    bound: str
    parts: np.ndarray


class Step(NamedTuple):
    """A decode step: on which chips it runs, in words, one of them, the plan, and what it costs."""

    name: str
    chip: Chip
    plan: Plan
    cost: Cost


class Explanation(NamedTuple):
    """What was asked, and where its time goes.

    - `title`: in a few words.
    - `time`: in s.
    - `lines`: kernels, the slowest first.
    - `terms`: seconds of each of `SECONDS`.
    - `step`: where a decode step was asked for; `memory`: of its servers then, by column: GB of weights on a
      chip, tokens that a KV cache holds, and sequences that decode at once; else empty.
    """

    title: str
    time: float
    lines: list[Line]
    terms: dict[str, float]
    step: Step | None = None
    memory: dict[str, float] = {}


MEMORY_COLUMNS = ("weights_gb_per_chip", "kv_capacity_tokens", "running")
"""Columns of a prediction that say what a server holds."""


def explain(cells: dict[str, str], calibration: Path) -> Explanation:
    """Explain a row of the kernel schema (with `op`), or of the serving schema (with `model`).

    **Raises:**

    - `InputError`: for a row that cannot be predicted.
    """
    if "op" in cells:
        return _explain_kernel(cells, calibration)
    if "model" in cells:
        return _explain_step(cells, calibration)
    raise InputError(
        "the row has neither op nor model; give op for a kernel, or model for a decode step."
    )


@to_run_once
def _kernel(op: str, chip: Chip, plan: Plan, row: Numbers) -> Breakdown:
    return cost(chip, KERNELS[op](**row).count(chip, plan))


def _explain_kernel(cells: dict[str, str], calibration: Path) -> Explanation:
    columns = {name: [value] for name, value in cells.items()}
    groups, errors = groups_of(columns, 1, own_files(columns))
    if errors[0]:
        raise InputError(str(errors[0]))
    group = resolve_group(groups[0], calibration, replay=True)
    row = {name: as_scalar(values[0]) for name, values in groups[0].columns.items()}
    cost = _kernel(groups[0].key.op, group.chip, group.plan, row)
    if not np.isfinite(cost.time):
        raise InputError(OVERFLOW)
    title = f"{groups[0].key.op} on {groups[0].key.chip}, {groups[0].key.dtype}"
    return _explanation(title, cost, [_line(groups[0].key.op, cost, float(cost.time))])


@to_run_once
def step_of(chip: Chip, plan: Plan, model: Transformer, batch: Scalar, context: Scalar) -> Cost:
    """A decode step with every kernel."""
    return decode_step(chip, plan, model, batch, context)


def _explain_step(cells: dict[str, str], calibration: Path) -> Explanation:
    _check_one_step(cells)
    columns = {name: [value] for name, value in cells.items()}
    chosen = predict_cells(columns, 1, calibration)
    if not chosen["tpot_ms"][0]:
        raise InputError(chosen["error"][0])
    filled = cells | {name: chosen[name][0] for name in PLAN}
    filled |= {"concurrency": chosen["running"][0], "requests_per_s": ""}
    step = step_cost(filled, calibration)
    batch = f"batch {float(filled['concurrency']):.0f}"
    memory = {name: float(chosen[name][0]) for name in MEMORY_COLUMNS if chosen[name][0]}
    title = f"decode step of {cells['model']} on {step.name}, {batch}"
    return explain_step(title, step)._replace(memory=memory)


def _check_one_step(cells: dict[str, str]) -> None:
    """Refuse rows of two pools or of two models, which have two steps."""
    named = [name for name in (*pools.READ, *cascade.READ) if cells.get(name, "").strip()]
    if mode_of(cells.get("mode", "")) == DISAGGREGATED:
        named.append(f"mode {DISAGGREGATED}")
    if named:
        raise InputError(
            f"{named[0]} is for two pools or two models, which have a decode step each; "
            "explain one of them as a row of its own."
        )


def step_cost(cells: dict[str, str], calibration: Path) -> Step:
    """The decode step of a serving row whose plan is given."""
    resolved = resolve_row(0, cells, calibration)
    return step_at(resolved, resolved.candidates[0])


def step_at(resolved: ResolvedRow, parallelism: Parallelism) -> Step:
    """The decode step of a row, spread in one way."""
    deployment, request = resolved.deployment, resolved.request
    options = map_leaves(as_scalar, server_options_of(resolved))
    ranked = with_ranks(deployment.plan, parallelism)
    plan = dataclasses.replace(ranked, server=options)
    numbers = (as_scalar(request.concurrency), as_scalar(request.isl + request.osl / 2))
    cost = step_of(deployment.chip, plan, deployment.model, *numbers)
    return Step(f"{parallelism.chips:.0f} x {deployment.stem}", deployment.chip, plan, cost)


def explain_step(title: str, step: Step) -> Explanation:
    """A decode step, kernels of one label together.

    A host that takes less than nothing is called `OVERLAP`: gaps between kernels that were fitted below zero,
    where the GPU launches a kernel while the one before it runs.
    """
    cost = map_leaves(np.asarray, step.cost)  # a sum of JAX's own would be compiled
    labels = dict.fromkeys(cost.labels)
    sums = {label: _of_label(cost, label) for label in labels}
    time = float(cost.breakdown.time)
    lines = sorted(
        (_line(_named(label, breakdown), breakdown, time) for label, breakdown in sums.items()),
        key=lambda line: -line.time,
    )
    return _explanation(title, cost.breakdown, lines)._replace(step=step)


OVERLAP = "launch overlap"
"""What the host's line is called where it takes time off the step."""


def _named(label: str, breakdown: Breakdown) -> str:
    return OVERLAP if label == "host" and breakdown.time < 0 else label


def _of_label(cost: Cost, label: str) -> Breakdown:
    which = np.array([each == label for each in cost.labels])
    return map_leaves(lambda x: x[which].sum(axis=0), cost.kernels)


def _line(label: str, cost: Breakdown, total: float) -> Line:
    parts, time = np.asarray(cost.by_bound()), float(cost.time)
    return Line(label, time, time / total, BOUNDS[int(np.abs(parts).argmax())], parts)


def _explanation(title: str, cost: Breakdown, lines: list[Line]) -> Explanation:
    terms = {name: float(value) for name, value in zip(SECONDS, cost.seconds, strict=True)}
    return Explanation(title, float(cost.time), lines, terms)
