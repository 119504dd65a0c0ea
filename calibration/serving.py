"""What the host adds in service, fitted to measured runs: gaps, steps, sequences, the first token.

The kernels' times come from their own fits and stay as they are; eight numbers for each framework (and
version with a host of its own) are fitted, for all chips together, to TPOT and to TTFT where no request waits
for room. The smooth
form, the best schedule that the hardware allows, has the host of the fastest framework.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.data.aiconfigurator import VERSION
from perfmodel.calibration.data.inferencex import (
    OPEN,
    TABLE,
    Run,
    has_equal_lengths,
    read_runs,
)
from perfmodel.calibration.fit import Problem, from_free, robust, solve, to_free
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.sections import in_units
from perfmodel.files import write_toml
from perfmodel.hardware.chip import Chip, with_anchor
from perfmodel.hardware.parameters import HostEfficiency, parameters
from perfmodel.inference.closed_loop import Waits, closed_loop
from perfmodel.inference.evaluate import ResolvedRow, evaluate_rows, rows_by_form
from perfmodel.inference.service import (
    Halves,
    Service,
    halves_of,
    launched_steps,
    loop_passes,
    running_sequences,
    serve,
    with_batched_tokens,
)
from perfmodel.inference.step import costs, host_time
from perfmodel.kernels.kernel_table import served_by
from perfmodel.library.chip import chip_file, find_chip
from perfmodel.library.fitted import ROCM, SERVING, SERVING_ROCM, SMOOTH
from perfmodel.library.framework import frameworks, host_name
from perfmodel.library.model import find_model
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

TTFT_WEIGHT = 0.6
"""Of a residual of TTFT beside one of TPOT: its repetitions differ three times as much (27 to 9 %). With 0.6
models that are left out have the same error of TPOT as with 0.3, and a smaller one of TTFT."""

ROBUSTNESS = 1e-2
"""Squared log error below which the loss is quadratic: 10 %."""

RIDGE = 1e-2
"""Weight of the prior, beside a residual of unit weight."""

STEP_RIDGE = 10.0
"""How much more firmly the prior holds what a step adds: frameworks overlap the host with the device, so
that little of a step is left, which runs of models of two depths hardly tell from gaps of kernels."""


class ClosedLoop(NamedTuple):
    """What a closed loop is made of, without the host: for each of a step, a prompt, a mixed step.

    - `times`: of the kernels, in s; `launches`: what of it nothing hides, in s.
    - `shared`: what of the times all data ranks spend together, in s.
    - `kernels`, `sequences`: how many; `prompts`: 1 where there are any, else 0.
    """

    plan: Plan
    request: Request
    batch: Scalar
    times: Values
    shared: Values
    launches: Values
    kernels: Values
    sequences: Values
    prompts: Values


def loop_of(chip: Chip, plan: Plan, model: Transformer, request: Request) -> ClosedLoop:
    """The kernels of a closed loop."""
    idle = jax.tree.map(jnp.zeros_like, chip.efficiency.host)
    chip = with_anchor(eqx.tree_at(lambda c: c.efficiency.host, chip, idle), None)
    batch = running_sequences(chip, plan, model, request)
    request = with_batched_tokens(chip, plan, request, batch)
    passes = loop_passes(chip, plan, model, request, batch)
    found = costs(chip, plan, model, passes)
    times = jnp.stack([cost.time for cost in found])
    shared = jnp.stack([halves_of(cost).shared for cost in found])
    launches = jnp.stack([cost.breakdown.by_term()["latency"] for cost in found])
    kernels = jnp.stack([one.runs for one in passes])
    sequences = jnp.stack([one.sequences for one in passes])
    prompts = as_values([one.prompts for one in passes])
    return ClosedLoop(plan, request, batch, times, shared, launches, kernels, sequences, prompts)


def waits_of(loop: ClosedLoop, host: HostEfficiency, factors: Values | None = None) -> Waits:
    """TTFT and TPOT with a host.

    **Arguments:**

    - `factors`: of the loop's stack, on decode steps and on prompts; ones if not given.
    """
    of_steps, of_prompts = jnp.ones(2) if factors is None else factors
    each = jnp.stack([of_steps, of_prompts, of_steps])
    times = each * (loop.times + host_time(host, loop.kernels, loop.sequences, loop.prompts))
    shared = each * loop.shared
    step, prompt, mixed = map(Halves, times - shared, shared)
    load = loop.plan, loop.request, loop.batch
    steps = launched_steps(*load, step.total, step, mixed, prompt.total)
    return closed_loop(steps, host, loop.request)


class RunGroup(NamedTuple):
    """Runs of one form, and their loops on a leading axis."""

    loops: ClosedLoop
    runs: list[Run]


def groups_of(runs: Sequence[Run], folder: Path, smooth: bool = False) -> list[RunGroup]:
    """Runs with their loops; with `smooth`, as if no framework had been named."""
    return [RunGroup(_of(loop_of, cases), own) for cases, own in by_form(runs, folder, smooth)]


def by_form(
    runs: Sequence[Run], folder: Path, smooth: bool = False
) -> Iterator[tuple[list[ResolvedRow], list[Run]]]:
    """Cases of one form, with their runs; with `smooth`, as if no framework had been named."""
    rows = [run.cells | ({"framework": ""} if smooth else {}) for run in runs]
    for cases in rows_by_form(rows, folder):
        yield cases, [runs[case.place] for case in cases]


def _of(function: Callable[..., Any], cases: Sequence[ResolvedRow]) -> Any:
    return evaluate_rows(function, [(case, case.candidates[0]) for case in cases])


def residuals(group: RunGroup, host: HostEfficiency) -> tuple[Values, Values]:
    """Log errors of TPOT and TTFT; the latter zero where requests wait for KV-cache capacity."""
    waits = jax.vmap(waits_of, (0, None))(jax.tree.map(as_values, group.loops), host)
    room = jnp.asarray(group.loops.batch) >= jnp.asarray(group.loops.request.concurrency)
    return log_errors(waits.tpot, waits.ttft, room, group.runs)


def log_errors(
    tpot: Values, ttft: Values, room: Values, runs: Sequence[Run]
) -> tuple[Values, Values]:
    """Of predictions beside measured runs; of TTFT zero where requests wait for KV-cache capacity."""
    measured = (np.array([getattr(run, name) for run in runs]) for name in ("tpot", "ttft"))
    (later, first), times = measured, (tpot, ttft)
    known = jnp.asarray(room) & np.isfinite(first)
    errors = [
        jnp.log(x / np.where(np.isfinite(y), y, 1.0))
        for x, y in zip(times, (later, first), strict=True)
    ]
    return errors[0], jnp.where(known, errors[1], 0.0)


def problem_of(groups: Sequence[RunGroup], start: HostEfficiency) -> Problem:
    """The host of one framework against its runs."""
    count = sum(len(group.runs) for group in groups)
    free_start = to_free(start)
    firm = np.array([STEP_RIDGE if f.name == "step" else 1.0 for f in parameters(HostEfficiency)])

    def all_residuals(free: Values) -> Values:
        host = from_free(HostEfficiency, free)
        pairs = [residuals(group, host) for group in groups]
        tpot, ttft = (jnp.concatenate(errors) for errors in zip(*pairs, strict=True))
        error = robust(jnp.concatenate([tpot, TTFT_WEIGHT * ttft]), ROBUSTNESS)
        return jnp.concatenate([error / np.sqrt(count), RIDGE * firm * (free - free_start)])

    return Problem(HostEfficiency, free_start, all_residuals)


class FittedHost(NamedTuple):
    """A fitted host, the factors of the 90 % intervals of TPOT and TTFT, and what its runs had."""

    host: HostEfficiency
    tpot: tuple[float, float]
    ttft: tuple[float, float]
    runs: int
    chips: tuple[str, ...]
    models: tuple[str, ...]


def fit_host(groups: Sequence[RunGroup], start: HostEfficiency) -> FittedHost:
    """The host's parameters, and how far the runs lie from what they predict."""
    problem = problem_of(groups, start)
    free, _ = solve(problem)
    host = from_free(HostEfficiency, free)
    pairs = [residuals(group, host) for group in groups]
    return with_intervals(host, pairs, [run for group in groups for run in group.runs])


def with_intervals(
    host: HostEfficiency, pairs: Sequence[tuple[Values, Values]], runs: Sequence[Run]
) -> FittedHost:
    """A host, and how far runs lie from it, by their log errors of TPOT and TTFT."""
    tpot, ttft = (np.concatenate(errors) for errors in zip(*pairs, strict=True))
    chips = tuple(sorted({find_chip(run.cells["chip"]) for run in runs}))
    models = tuple(sorted({find_model(run.cells["model"]) for run in runs}))
    return FittedHost(host, _factors(tpot), _factors(ttft[ttft != 0]), len(runs), chips, models)


def _factors(errors: np.ndarray) -> tuple[float, float]:
    """Between which 90 % of measured over predicted lie; `nan` of none."""
    if not len(errors):
        return float("nan"), float("nan")
    low, high = np.exp(-np.quantile(errors, [0.95, 0.05]))
    return float(low), float(high)


def fit_hosts(
    runs: Sequence[Run], start: HostEfficiency, folder: Path, progress: Callable[[str], None]
) -> dict[str, FittedHost]:
    """The host of each framework, and of the smooth form: that of the fastest of them."""
    found: dict[str, FittedHost] = {}
    groups: dict[str, list[RunGroup]] = {}
    for framework, own in sorted(grouped((host_of(run), run) for run in runs).items()):
        progress(framework)
        groups[framework] = groups_of(own, folder)
        found[framework] = fit_host(groups[framework], start)
    progress(SMOOTH)
    fastest = fastest_host({name: one.host for name, one in found.items()}, groups)
    host = with_shorter_launches(found[fastest].host, groups[fastest], folder)
    host = with_least_waits(host, [one.host for name, one in found.items() if name in frameworks()])
    return found | {SMOOTH: smooth_host(host, runs, folder)}


def _in_steps(groups: Sequence[RunGroup], name: str) -> Values:
    """A field of the loops of all groups, of their decode steps."""
    return jnp.concatenate([jnp.asarray(getattr(group.loops, name))[:, 0] for group in groups])


def fastest_host(hosts: dict[str, HostEfficiency], groups: dict[str, list[RunGroup]]) -> str:
    """Whose host adds least to a decode step, in the median over the loads at hand."""
    loads = [group for own in groups.values() for group in own]
    kernels, sequences = (_in_steps(loads, name) for name in ("kernels", "sequences"))
    each = jax.vmap(host_time, (None, 0, 0, None))
    added = {name: jnp.median(each(host, kernels, sequences, 0.0)) for name, host in hosts.items()}
    return min(added, key=lambda name: float(added[name]))


def with_shorter_launches(
    host: HostEfficiency, groups: Sequence[RunGroup], folder: Path
) -> HostEfficiency:
    """The host of a framework, beside the launches of the smooth form.

    A gap below zero hides a share of the launches that it was fitted beside. The same share is
    hidden of the smooth form's, in the median over the framework's runs; other constants stay.
    """
    runs = [run for group in groups for run in group.runs]
    ours, theirs = (
        jnp.median(_in_steps(found, "launches"))
        for found in (groups_of(runs, folder, smooth=True), groups)
    )
    gap = host.per_kernel * jnp.where(host.per_kernel < 0, jnp.minimum(ours / theirs, 1.0), 1.0)
    return dataclasses.replace(host, per_kernel=gap)


OF_WAITS = ("first_token", "per_prompt_token", "burst", "turnaround")
"""Constants that no step has a part in: of the best schedule they are the least of any framework."""


def with_least_waits(host: HostEfficiency, hosts: Sequence[HostEfficiency]) -> HostEfficiency:
    """A host whose constants of `OF_WAITS` are the least of some hosts."""
    values = {name: [getattr(one, name) for one in hosts] for name in OF_WAITS}
    return dataclasses.replace(host, **{name: jnp.min(jnp.stack(x)) for name, x in values.items()})


def smooth_host(host: HostEfficiency, runs: Sequence[Run], folder: Path) -> FittedHost:
    """A host of the smooth form, which is not fitted, and how far runs of all frameworks lie from it."""

    def served(chip: Chip, *asked: Any) -> Service:
        chip = with_anchor(eqx.tree_at(lambda c: c.efficiency.host, chip, host), None)
        return serve(chip, *asked)

    pairs, seen = [], []
    for cases, own in by_form(runs, folder, smooth=True):
        found = _of(served, cases)
        room = jnp.asarray(found.running >= found.concurrency)
        pairs.append(log_errors(found.tpot, found.ttft, room, own))
        seen += own
    return with_intervals(host, pairs, seen)


def host_of(run: Run) -> str:
    """Whose host a run has, as files of fitted parameters call it."""
    return host_name(*software_of_run(run))


def software_of_run(run: Run) -> tuple[str, str]:
    """The framework of a run, and the word of an older version."""
    software, version, _ = served_by(run.cells["framework"], run.cells.get("framework_version", ""))
    return software, version


INITIAL_HOST = {
    "step": 3e-4,
    "per_sequence": 1e-5,
    "per_kernel": 5e-7,
    "per_prompt_kernel": 4e-6,
    "per_prompt_token": 2e-6,
    "first_token": 5e-2,
    "burst": 1.5,
    "turnaround": 2e-2,
}
"""Where the first fit starts: assumed."""


def initial_host() -> HostEfficiency:
    """Where fits start."""
    return HostEfficiency(**{name: as_scalar(value) for name, value in INITIAL_HOST.items()})


def host_file(chip: str) -> str:
    """The file of hosts of a chip's software: of CUDA, or of ROCm."""
    return SERVING_ROCM if chip_file(chip)[1].architecture in ROCM else SERVING


def calibrate_hosts(
    source: str,
    out: Path,
    folder: Path,
    progress: Callable[[str], None],
) -> dict[str, FittedHost]:
    """Fit the hosts of all frameworks to the runs of a package but those held out, and write them to `out`.

    **Arguments:**

    - `source`: `aiconfigurator`, or a path to its wheel or checkout.
    - `folder`: of the kernels' parameters.

    **Raises:**

    - `InputError`: when the runs are not there.
    """
    runs = [run for run in fitted_runs(source) if run.part != "heldout"]
    found = fit_hosts(runs, initial_host(), folder, progress)
    sections = {framework: {"bf16": _section(one)} for framework, one in found.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_toml(out / f"{SERVING}.toml", {"host": sections})
    return found


def fitted_runs(source: str) -> list[Run]:
    """The sound runs that may be looked at and whose plan is known, and those with equal lengths.

    **Raises:**

    - `InputError`: when the package is not there.
    """
    runs = [run for run in read_runs(source, (*OPEN, "closed")) if run.cells and not run.fault]
    return [run for run in runs if run.reliable or has_equal_lengths(run)]


def _section(one: FittedHost) -> dict[str, Any]:
    """A host as the files of chips have their parameters."""
    ends = {"low": one.tpot[0], "high": one.tpot[1]}
    ends |= {"first_low": one.ttft[0], "first_high": one.ttft[1]}
    rounded = {name: float(f"{value:.4g}") for name, value in ends.items()}
    report = {"source": SOURCE, "runs": one.runs}
    report |= {"chips": list(one.chips), "models": list(one.models)}
    return in_units(one.host) | rounded | {"report": report}


SOURCE = f"aiconfigurator-core {VERSION}, {TABLE}"
