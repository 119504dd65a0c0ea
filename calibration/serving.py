"""What the host adds in service, fitted to measured runs: gaps, steps, sequences, the first token.

The kernels' times come from their own fits and stay as they are; five numbers for each framework
are fitted, for all chips together, to TPOT and to TTFT where no request waits for room.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.aiconfigurator import VERSION
from perfmodel.calibration.calibrate import in_units
from perfmodel.calibration.fit import Problem, from_free, solve, to_free
from perfmodel.calibration.runs import TABLE, Run, read_runs
from perfmodel.errors import InputError
from perfmodel.files import write_toml
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.efficiency import HostEfficiency, parameters
from perfmodel.inference.cases import Case, case_of, of_rows
from perfmodel.inference.serving import (
    Steps,
    Waits,
    closed_loop,
    in_flight,
    longer,
    loop_passes,
)
from perfmodel.inference.step import costs, host_time
from perfmodel.library.chip import find_chip
from perfmodel.library.efficiency import SERVING, SMOOTH
from perfmodel.library.model import find_model
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.workload.plan import Plan
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import Transformer

TTFT_WEIGHT = 0.3
"""Of a residual of TTFT beside one of TPOT: its repetitions differ three times as much (27 to 9 %)."""

ROBUSTNESS = 1e-2
"""Squared log error below which the loss is quadratic: 10 %."""

RIDGE = 1e-2
"""Weight of the prior, beside a residual of unit weight."""

STEP_HELD = 10.0
"""How much more firmly the prior holds what a step adds: frameworks overlap the host with the device, so
that little of a step is left, which runs of models of two depths hardly tell from gaps of kernels."""


class Loop(NamedTuple):
    """What a closed loop is made of, without the host: for each of a step, a prompt, a mixed step.

    - `times`: of the kernels, in s; `kernels`, `sequences`: how many.
    """

    plan: Plan
    traffic: Traffic
    batch: Scalar
    times: Values
    kernels: Values
    sequences: Values


def loop_of(chip: Chip, plan: Plan, model: Transformer, traffic: Traffic) -> Loop:
    """The kernels of a closed loop."""
    idle = jax.tree.map(jnp.zeros_like, chip.efficiency.host)
    chip = eqx.tree_at(lambda c: c.efficiency.host, chip, idle)
    batch = in_flight(chip, plan, model, traffic)
    passes = loop_passes(chip, plan, model, traffic, batch)
    times = jnp.stack([cost.time for cost in costs(chip, plan, model, passes)])
    kernels = jnp.stack([one.runs for one in passes])
    sequences = jnp.stack([one.sequences for one in passes])
    return Loop(plan, traffic, batch, times, kernels, sequences)


def waits_of(loop: Loop, host: HostEfficiency) -> Waits:
    """TTFT and TPOT with a host."""
    step, prompt, mixed = loop.times + host_time(host, loop.kernels, loop.sequences)
    steps = Steps(loop.batch, step, prompt, longer(loop.plan, step, prompt, mixed))
    return closed_loop(steps, host, loop.traffic)


class Group(NamedTuple):
    """Runs of one form, and their loops on a leading axis."""

    loops: Loop
    runs: list[Run]


def groups_of(runs: Sequence[Run], folder: Path, smooth: bool = False) -> list[Group]:
    """Runs with their loops; with `smooth`, as if no framework had been named."""
    alike: dict[Any, list[tuple[Case, Run]]] = {}
    for run in runs:
        cells = run.cells | ({"framework": ""} if smooth else {})
        try:
            case = case_of(0, cells, folder)
        except InputError:
            continue
        alike.setdefault(case.setting.form, []).append((case, run))
    return [
        Group(
            of_rows(loop_of, [(case, case.splits[0]) for case, _ in pairs]), [r for _, r in pairs]
        )
        for pairs in alike.values()
    ]


def residuals(group: Group, host: HostEfficiency) -> tuple[Values, Values]:
    """Log errors of TPOT and TTFT; the latter zero where requests wait for room."""
    waits = jax.vmap(waits_of, (0, None))(jax.tree.map(as_values, group.loops), host)
    tpot, ttft = (
        jnp.array([getattr(run, name) for run in group.runs]) for name in ("tpot", "ttft")
    )
    room = jnp.asarray(group.loops.batch) >= jnp.asarray(group.loops.traffic.users)
    return jnp.log(waits.tpot / tpot), jnp.where(room, jnp.log(waits.ttft / ttft), 0.0)


def problem(groups: Sequence[Group], start: HostEfficiency) -> Problem:
    """The host of one framework against its runs."""
    count = sum(len(group.runs) for group in groups)
    free_start = to_free(start)
    held = np.array([STEP_HELD if f.name == "step" else 1.0 for f in parameters(HostEfficiency)])

    def all_residuals(free: Values) -> Values:
        host = from_free(HostEfficiency, free)
        pairs = [residuals(group, host) for group in groups]
        tpot, ttft = (jnp.concatenate(errors) for errors in zip(*pairs, strict=True))
        error = jnp.concatenate([tpot, TTFT_WEIGHT * ttft])
        robust = error / (error**2 + ROBUSTNESS) ** 0.25
        return jnp.concatenate([robust / np.sqrt(count), RIDGE * held * (free - free_start)])

    return Problem(HostEfficiency, free_start, all_residuals)


class Hosted(NamedTuple):
    """A fitted host, the factors of the 90 % intervals of TPOT and TTFT, and what its runs had."""

    host: HostEfficiency
    tpot: tuple[float, float]
    ttft: tuple[float, float]
    runs: int
    chips: tuple[str, ...]
    models: tuple[str, ...]


def fit_host(groups: Sequence[Group], start: HostEfficiency) -> Hosted:
    """The host's parameters, and how far the runs lie from what they predict."""
    asked = problem(groups, start)
    free, _ = solve(asked)
    host = from_free(HostEfficiency, free)
    pairs = [residuals(group, host) for group in groups]
    tpot, ttft = (np.concatenate(errors) for errors in zip(*pairs, strict=True))
    cells = [run.cells for group in groups for run in group.runs]
    chips = tuple(sorted({find_chip(one["chip"]) for one in cells}))
    models = tuple(sorted({find_model(one["model"]) for one in cells}))
    return Hosted(host, _factors(tpot), _factors(ttft[ttft != 0]), len(tpot), chips, models)


def _factors(errors: np.ndarray) -> tuple[float, float]:
    """Between which 90 % of measured over predicted lie."""
    low, high = np.exp(-np.quantile(errors, [0.95, 0.05]))
    return float(low), float(high)


def fit_hosts(
    runs: Sequence[Run], start: HostEfficiency, folder: Path, progress: Callable[[str], None]
) -> dict[str, Hosted]:
    """The host of each framework, and of the smooth form against all of them."""
    found: dict[str, Hosted] = {}
    for framework in sorted({run.cells["framework"] for run in runs}):
        progress(framework)
        own = [run for run in runs if run.cells["framework"] == framework]
        found[framework] = fit_host(groups_of(own, folder), start)
    progress(SMOOTH)
    return found | {SMOOTH: fit_host(groups_of(runs, folder, smooth=True), start)}


START = {"step": 3e-4, "sequence": 1e-5, "kernel": 5e-7, "first": 5e-2, "burst": 1.5}
"""Where the first fit starts: assumed."""


def calibrate_hosts(
    source: str, out: Path, folder: Path, progress: Callable[[str], None]
) -> dict[str, Hosted]:
    """Fit the hosts of all frameworks to the sound runs of a package, and write them to `out`.

    **Arguments:**

    - `source`: `aiconfigurator`, or a path to its wheel or checkout.
    - `folder`: of the kernels' parameters.

    **Raises:**

    - `InputError`: when the runs are not there.
    """
    runs = [run for run in read_runs(source) if run.part == "fit" and run.best and not run.spoiled]
    start = HostEfficiency(**{name: as_scalar(value) for name, value in START.items()})
    found = fit_hosts(runs, start, folder, progress)
    sections = {framework: {"bf16": _section(one)} for framework, one in found.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_toml(out / f"{SERVING}.toml", {"host": sections})
    return found


def _section(one: Hosted) -> dict[str, Any]:
    """A host as the files of chips have their parameters."""
    ends = {"low": one.tpot[0], "high": one.tpot[1]}
    ends |= {"first_low": one.ttft[0], "first_high": one.ttft[1]}
    rounded = {name: float(f"{value:.4g}") for name, value in ends.items()}
    report = {"source": SOURCE, "runs": one.runs}
    report |= {"chips": list(one.chips), "models": list(one.models)}
    return in_units(one.host) | rounded | {"report": report}


SOURCE = f"aiconfigurator-core {VERSION}, {TABLE}"
