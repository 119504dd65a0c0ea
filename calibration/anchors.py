r"""Measured serving runs as anchors: factors on decode steps and on prompts of their stack.

With $t$ what is predicted of a run (TPOT and TTFT), $y$ what was measured, and the logarithms $a$ of a
stack's two factors and $b$ of those by which a deployment of it differs,

$$\min_{a, b} \sum_i \rho\Big(\frac{\ln t_i(e^{a + b}) - \ln y_i}{\sigma}\Big)
      + \Big(\frac{a}{\sigma_s}\Big)^2 + \sum_b \Big(\frac{b}{\sigma_d}\Big)^2$$

with a pseudo-Huber loss $\rho$, so that one run that measures something else moves them little. A factor on
decode steps is also one on what a prompt that rides on them adds; times are affine in both factors, so that
each run is priced once. The range of a deployment that was measured comes from $\sigma$ and from what is not
known of $a + b$; that of another deployment of the stack is wider by $\sigma_d$.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from perfmodel.calibration.measured_rows import (
    MeasuredRows,
    check_one_deployment,
    priced_by_form,
    read_measured_rows,
)
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.sections import copy_fitted
from perfmodel.errors import InputError
from perfmodel.files import write_toml
from perfmodel.hardware.chip import Chip, with_anchor
from perfmodel.hardware.parameters import Anchor
from perfmodel.inference.cascade import READ as LARGE_MODEL
from perfmodel.inference.deployment import serving_intervals, stack_named
from perfmodel.inference.evaluate import ResolvedRow, evaluate_rows, resolve_row
from perfmodel.inference.pools import READ as POOLS
from perfmodel.inference.service import Service, serve
from perfmodel.inference.serving_predictions import memory_error
from perfmodel.inference.serving_row import DISAGGREGATED, mode_of, number
from perfmodel.library.anchors import (
    ANCHORS,
    FACTORS,
    MOST_FACTOR,
    Stack,
    named_by,
    tables_of,
)
from perfmodel.library.chip import chip_file, origin
from perfmodel.library.fitted_intervals import HIGH_END, Interval, ServingIntervals
from perfmodel.library.model import load_model
from perfmodel.locking import lock_folder
from perfmodel.units import Values
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import REPLICA_RANKS, Plan
from perfmodel.workload.request import Request

QUANTITIES = ("tpot", "ttft")
"""What is measured of a run, in the order of the factors that it tells most of."""

COLUMNS = tuple(f"measured_{name}_ms" for name in QUANTITIES)
"""Columns of measured means, in ms."""


class Spreads(NamedTuple):
    """Standard deviations of ln(measured / predicted), of TPOT and of TTFT.

    - `load`: between runs of one deployment: loads, and repetitions (0.04 and 0.14).
    - `deployment`: between the means of the deployments of one stack, at most.
    """

    load: np.ndarray
    deployment: np.ndarray


KNOWN_CHIP = Spreads(np.array([0.09, 0.33]), np.array([0.075, 0.23]))
"""Where the kernels of the chip or of a sibling were measured: of the open InferenceX runs of the package
AIConfigurator (2,013 runs, 103 deployments, 37 stacks; `python -m perfmodel.calibration.anchor_accuracy`).
That of TTFT is with runs that are ten times off; without them it is 0.25."""

UNKNOWN_CHIP = Spreads(np.array([0.12, 0.33]), np.array([0.12, 0.24]))
"""Where they were not: of the same runs as the prior's kernels predict them (`--prior-only`). Of TPOT 0.11
and 0.11 are found there; a little more holds nine in ten of the runs that are left out."""


def spreads_of(before: ServingIntervals) -> Spreads:
    """How runs of a stack differ, by what its predictions rest on."""
    return UNKNOWN_CHIP if before.basis == "prior" else KNOWN_CHIP


OUTLIER = 2.0
"""Standard deviations beyond which the loss is linear."""


class AnchorRun(NamedTuple):
    """A measured run.

    - `place`: of its row; `ranks`: tp, pp, ep and dp.
    - `times`: TPOT and TTFT in s as they are predicted without factors; `slopes`: by both factors, of shape
      (2, 2).
    - `measured`: the same times; `nan` where they were not measured, or cannot be compared.
    - `before`: ranges of the stack without measured runs.
    """

    place: int
    stack: Stack
    ranks: tuple[float, ...]
    times: np.ndarray
    slopes: np.ndarray
    measured: np.ndarray
    before: ServingIntervals

    def missed(self, logs: np.ndarray) -> np.ndarray:
        """Logarithms of predicted over measured times under factors; zero where nothing was measured."""
        times = self.times + self.slopes @ (np.exp(logs) - 1)
        known = np.isfinite(self.measured)
        return np.log(np.where(known, times / self.measured, 1.0))


AnchorRuns = MeasuredRows[AnchorRun]


class AskedRun(NamedTuple):
    """A row that was resolved, its measured times in s, and ranges of its stack without measured runs."""

    resolved: ResolvedRow
    measured: np.ndarray
    before: ServingIntervals


def read_anchor_runs(rows: Path, folder: Path, progress: Callable[[int, int], None]) -> AnchorRuns:
    """The measured runs of a CSV of the serving schema.

    **Raises:**

    - `InputError`: when the file has no measured column, or none of its rows can be compared.
    """
    return read_measured_rows(rows, COLUMNS, lambda found: anchor_runs(found, folder, progress))


def anchor_runs(
    rows: Sequence[Mapping[str, str]],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> AnchorRuns:
    """Rows of the serving schema with measured times, those of one form priced together."""
    return priced_by_form(rows, lambda place, row: _asked(place, row, folder), _compared, progress)


def _asked(place: int, row: dict[str, str], folder: Path) -> AskedRun:
    """A row looked up.

    **Raises:**

    - `InputError`: when it cannot be predicted, has no measured time, or leaves its ranks open.
    """
    cells = [row.get(name, "").strip() for name in COLUMNS]
    measured = np.array([number(*one) for one in zip(COLUMNS, cells, strict=True)]) / 1e3
    if np.isnan(measured).all():
        raise InputError(f"{' and '.join(COLUMNS)} are empty; give one that was measured.")
    _check_one_step(row)
    resolved = resolve_row(place, row, folder)
    check_one_deployment(resolved)
    (stem, file), plan = chip_file(row["chip"].strip()), resolved.deployment.plan
    shape = load_model(row["model"].strip())
    return AskedRun(resolved, measured, serving_intervals(origin(stem, file), plan, shape, folder))


def _check_one_step(row: Mapping[str, str]) -> None:
    """Refuse what has steps of two kinds, and what comes at a rate."""
    two = [name for name in (*POOLS, *LARGE_MODEL) if row.get(name, "").strip()]
    if two or mode_of(row.get("mode", "")) == DISAGGREGATED:
        raise InputError(
            f"{two[0] if two else f'mode {DISAGGREGATED}'} is for two pools or two models, whose steps one "
            "time does not tell apart; give runs of one machine."
        )
    if row.get("requests_per_s", "").strip():
        raise InputError(
            "requests_per_s is an open loop, whose queue a factor does not move in proportion; give a run "
            "of users (concurrency)."
        )


def _times(
    chip: Chip, plan: Plan, model: Transformer, request: Request
) -> tuple[Values, Values, Service]:
    """TPOT and TTFT, their slopes by both factors, and the service."""

    def scaled(factors: Values) -> tuple[Values, Service]:
        served = serve(with_anchor(chip, Anchor.of_stack(*factors)), plan, model, request)
        return jnp.stack([served.tpot, served.ttft]), served

    slopes, served = jax.jacfwd(scaled, has_aux=True)(jnp.ones(2))
    return jnp.stack([served.tpot, served.ttft]), slopes, served


def _compared(group: Sequence[AskedRun]) -> list[AnchorRun | str]:
    """Runs of one form, or what is wrong with each."""
    rows = [(asked.resolved, asked.resolved.candidates[0]) for asked in group]
    times, slopes, served = evaluate_rows(_times, rows)
    waits = np.asarray(served.running) < np.asarray(served.concurrency) * (1 - 1e-6)
    return [
        _run(
            asked,
            np.array(times[i], float),
            np.array(slopes[i], float),
            float(served.slack[i]),
            bool(waits[i]),
        )
        for i, asked in enumerate(group)
    ]


def _run(
    asked: AskedRun, times: np.ndarray, slopes: np.ndarray, slack: float, waits: bool
) -> AnchorRun | str:
    """A run, or why it cannot be compared."""
    resolved = asked.resolved
    deployment, parallelism = resolved.deployment, resolved.candidates[0]
    if slack < 0:
        return memory_error(deployment, parallelism.chips, slack)
    measured = asked.measured.copy()
    if waits:
        measured[1] = np.nan
    if np.isnan(measured).all():
        return "users wait for KV-cache capacity, so that its TTFT says little of prompts; give its TPOT."
    off = np.where(np.isfinite(measured), measured / times, 1.0)
    for name, factor, time in zip(QUANTITIES, off, times, strict=True):
        if not 1 / MOST_FACTOR < factor < MOST_FACTOR:
            return (
                f"measured_{name}_ms is {factor:.3g} times the {1e3 * time:.4g} ms that are predicted; is it "
                "in ms, and of this load?"
            )
    stack = stack_named(deployment)
    return AnchorRun(
        resolved.place, stack, parallelism.ranks, times, slopes, measured, asked.before
    )


# The fit


class Scale(NamedTuple):
    """Factors on steps and prompts of a stack or of a deployment, and its ranges.

    - `runs`: with a TPOT, and with a TTFT.
    """

    factors: np.ndarray
    tpot: Interval
    ttft: Interval
    runs: tuple[int, ...]


class FittedStack(NamedTuple):
    """A stack of which runs were measured.

    - `scale`: of its deployments that were not; `deployments`: of those that were, by their ranks.
    - `runs`: that were measured; `before`: ranges without them.
    """

    stack: Stack
    scale: Scale
    deployments: dict[tuple[float, ...], Scale]
    runs: int
    before: ServingIntervals

    def at(self, ranks: tuple[float, ...]) -> Scale:
        """What is known of a deployment."""
        return self.deployments.get(ranks, self.scale)


def fit_stacks(runs: Sequence[AnchorRun]) -> list[FittedStack]:
    """The factors of each stack."""
    return [fit_stack(own) for own in grouped((run.stack, run) for run in runs).values()]


def fit_stack(runs: Sequence[AnchorRun]) -> FittedStack:
    """The most probable factors of one stack and of its deployments, and how sure they are."""
    ranks = sorted({run.ranks for run in runs})
    which = [ranks.index(run.ranks) for run in runs]
    shape = (1 + len(ranks), 2)
    prior = prior_spreads(runs[0].before)
    spreads = np.array([prior[0]] + [prior[1]] * len(ranks))
    load = spreads_of(runs[0].before).load

    def residuals(x: np.ndarray) -> np.ndarray:
        logs = x.reshape(shape)
        missed = [r.missed(logs[0] + logs[1 + i]) for r, i in zip(runs, which, strict=True)]
        return np.concatenate([robust(np.array(missed) / load).ravel(), x / spreads.ravel()])

    found = least_squares(residuals, np.zeros(shape).ravel())
    covariance = np.linalg.inv(found.jac.T @ found.jac).reshape(*shape, *shape)
    logs = found.x.reshape(shape)
    known = np.array([np.isfinite(run.measured) for run in runs])
    scale = functools.partial(_scale, runs[0].before, np.array(known.any(axis=0)))
    deployments = {
        of: scale(logs[0] + logs[i], _variance(covariance, [0, i]), known[np.array(which) == i - 1])
        for i, of in enumerate(ranks, 1)
    }
    others = _variance(covariance, [0]) + prior[1] ** 2
    return FittedStack(
        runs[0].stack, scale(logs[0], others, known), deployments, len(runs), runs[0].before
    )


def stack_scales(runs: Sequence[AnchorRun], logs: np.ndarray, variance: np.ndarray) -> FittedStack:
    """A stack whose factors are known from elsewhere, with the ranges that its runs leave.

    **Arguments:**

    - `logs`, `variance`: logarithms of its two factors, and their variances.
    """
    first, known = runs[0], np.array([np.isfinite(run.measured) for run in runs])
    told = np.array(known.any(axis=0))
    ranks = np.array([run.ranks for run in runs])
    deployments = {
        of: _scale(first.before, told, logs, variance, known[(ranks == of).all(axis=1)])
        for of in sorted({run.ranks for run in runs})
    }
    others = variance + spreads_of(first.before).deployment ** 2
    scale = _scale(first.before, told, logs, others, known)
    return FittedStack(first.stack, scale, deployments, len(runs), first.before)


def robust(errors: np.ndarray) -> np.ndarray:
    """Residuals whose squares are a pseudo-Huber loss of `errors`."""
    loss = 2 * OUTLIER**2 * (np.sqrt(1 + (errors / OUTLIER) ** 2) - 1)
    return np.sign(errors) * np.sqrt(loss)


def prior_spreads(before: ServingIntervals) -> np.ndarray:
    """Standard deviations of the logarithms of factors before any run is measured: of a stack, and of one
    deployment beside its stack; of both factors, of shape (2, 2).

    Together they are what the model's own ranges have beside the spread of loads, half of these at least.
    """
    own = np.array([half_width(ends) for ends in (before.tpot, before.ttft)]) / HIGH_END
    spreads = spreads_of(before)
    free = np.maximum(own**2 - spreads.load**2, (own / 2) ** 2)
    deployment = np.minimum(spreads.deployment**2, free / 2)
    return np.sqrt([free - deployment, deployment])


def half_width(ends: Interval) -> float:
    """Half of the logarithm of the high over the low end."""
    return float(np.log(ends.high / ends.low) / 2)


def _variance(covariance: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Variances of the sums of the logarithms at some places, of both factors."""
    return np.array([covariance[np.ix_(places, [q], places, [q])].sum() for q in (0, 1)])


def _scale(
    before: ServingIntervals,
    told: np.ndarray,
    logs: np.ndarray,
    variance: np.ndarray,
    known: np.ndarray,
) -> Scale:
    """Factors with their ranges: as before of a time that no run of the stack was `told` of."""
    spreads = np.sqrt(variance + spreads_of(before).load ** 2)
    own = (before.tpot, before.ttft)
    tpot, ttft = (
        _narrowed(ends, spread) if one_told else ends
        for ends, spread, one_told in zip(own, spreads, told, strict=True)
    )
    return Scale(np.exp(logs), tpot, ttft, tuple(int(n) for n in known.sum(axis=0)))


def _narrowed(before: Interval, spread: float) -> Interval:
    """The 90 % range of a spread, no wider than before."""
    high = float(np.exp(min(HIGH_END * spread, half_width(before))))
    return Interval(1 / high, high)


# What is written


def calibrate_anchors(
    rows: Path, out: Path, prior: Path, progress: Callable[[int, int], None]
) -> tuple[list[FittedStack], list[str]]:
    """Fit factors to the measured runs of a file, and write a whole folder of fitted parameters with them.

    Everything else is as in `prior`; of its stacks those stay that are not measured anew.

    **Returns:**

    The stacks, and a sentence for each row that is left out.

    **Raises:**

    - `InputError`: when no row can be compared, or the folder cannot be written.
    """
    found = read_anchor_runs(rows, prior, progress)
    stacks = fit_stacks(found.runs)
    with lock_folder(out, "calibration"):
        copy_fitted(prior, out)
        write_stacks(stacks, prior, out)
    return stacks, found.left_out


def write_stacks(stacks: Sequence[FittedStack], prior: Path, out: Path) -> None:
    """Write stacks to a folder, beside those of `prior` that are not among them."""
    fresh = {one.stack for one in stacks}
    earlier = [table for table in tables_of(prior) if named_by(table) not in fresh]
    write_toml(out / f"{ANCHORS}.toml", {"stack": earlier + [_table(one) for one in stacks]})


def _table(one: FittedStack) -> dict[str, Any]:
    deployments = [
        dict(zip(REPLICA_RANKS, ranks, strict=True)) | _section(scale)
        for ranks, scale in one.deployments.items()
    ]
    return one.stack._asdict() | _section(one.scale) | {"deployment": deployments}


def _section(scale: Scale) -> dict[str, float]:
    numbers = dict(zip(FACTORS, scale.factors, strict=True))
    numbers |= {"low": scale.tpot.low, "high": scale.tpot.high}
    numbers |= {"first_low": scale.ttft.low, "first_high": scale.ttft.high}
    runs = {f"{name}_runs": n for name, n in zip(QUANTITIES, scale.runs, strict=True)}
    return {name: float(f"{value:.4g}") for name, value in numbers.items()} | runs
