"""Serving runs whose boards' power was measured: what each token of them takes, for each fitted factor."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.measured_rows import (
    MeasuredRows,
    check_one_deployment,
    priced_by_form,
    read_measured_rows,
)
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import BoardPower, parameters
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.closed_loop import closed_loop
from perfmodel.inference.evaluate import ResolvedRow, evaluate_rows, resolve_row
from perfmodel.inference.service import limited_to, running_sequences, steps_of
from perfmodel.inference.serving_row import DISAGGREGATED, mode_of, number
from perfmodel.library.files import word_of
from perfmodel.library.model import find_model
from perfmodel.units import Scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

POWER = "measured_power_w"
JOULES = "measured_joules_per_output_token"
RATE = "measured_output_tokens_per_s"
WINDOW = "measured_window"
WINDOWS = ("steady", "run")
"""Over what power is a mean: the steady part of a run, or all of it, its beginning and its end included."""

MEASURED = (POWER, JOULES)
"""Columns of what the boards of a run drew together: mean power in W, or joules of one output token."""

FACTORS = tuple(field.name for field in parameters(BoardPower))
"""Fitted parameters, in the order of `BoardRun.work`."""


class BoardRun(NamedTuple):
    """A run, of one of its boards.

    - `place`: of its row; `chip`, `model`: as the library has them; `execution`: of the chip.
    - `idle`, `limit`: in W; the limit is infinite where it is not known.
    - `work`: J of one output token at a factor of one, for each of `FACTORS`.
    - `rate`, `predicted_rate`: output tokens/s of the deployment, the first as measured where it was.
    - `power`: as measured, in W, at `rate`; `whole`: whether it is the mean of a whole run.
    """

    place: int
    chip: str
    model: str
    execution: str
    idle: float
    limit: float
    work: np.ndarray
    rate: float
    predicted_rate: float
    power: float
    whole: bool = False


BoardRuns = MeasuredRows[BoardRun]


def read_board_runs(
    path: Path, folder: Path, progress: Callable[[int, int], None] = lambda done, of: None
) -> BoardRuns:
    """The measured runs of a CSV of the serving schema.

    **Raises:**

    - `InputError`: when the file has no measured column, or none of its rows can be compared.
    """
    return read_measured_rows(path, MEASURED, lambda rows: board_runs(rows, folder, progress))


def board_runs(
    rows: Sequence[Mapping[str, str]],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> BoardRuns:
    """Rows of the serving schema with a measured power, those of one form priced together."""
    return priced_by_form(rows, lambda place, row: _asked(place, row, folder), _runs, progress)


class AskedRun(NamedTuple):
    """A row that was resolved, with what was measured; `nan` where a cell is empty."""

    resolved: ResolvedRow
    model: str
    power: float
    joules: float
    rate: float
    whole: bool


def _asked(place: int, row: dict[str, str], folder: Path) -> AskedRun:
    """A row looked up.

    **Raises:**

    - `InputError`: when it cannot be compared.
    """
    power, joules, rate = (number(name, row.get(name, "").strip()) for name in (*MEASURED, RATE))
    if np.isnan([power, joules]).all():
        raise InputError(f"{' and '.join(MEASURED)} are empty; give one that was measured.")
    if mode_of(row.get("mode", "")) == DISAGGREGATED or row.get("ffn_chip", "").strip():
        raise InputError("its boards are of two kinds; give runs whose boards all do the same.")
    resolved = resolve_row(place, row, folder)
    if resolved.open_loop:
        raise InputError(
            "its requests come at a rate; give the users that were there (concurrency)."
        )
    check_one_deployment(resolved)
    chip = resolved.deployment.chip
    if np.isnan(float(chip.idle_power)):
        raise InputError(
            f"the idle power of {resolved.deployment.stem} is not known; add it to its file."
        )
    window = word_of(row.get(WINDOW, "").strip() or WINDOWS[0], WINDOWS, WINDOW)
    numbers = (power, joules, rate, window == WINDOWS[1])
    return AskedRun(resolved, find_model(row["model"].strip()), *numbers)


class TokenWork(NamedTuple):
    """Joules of one output token on all chips by factor, and seconds from one to the next."""

    by_factor: BoardPower
    seconds: Scalar


def token_work(chip: Chip, plan: Plan, model: Transformer, request: Request) -> TokenWork:
    """What a token takes for each factor of its boards: work is linear in them."""
    batch = running_sequences(chip, plan, model, request)
    request = limited_to(request, batch)

    def work(fitted: BoardPower) -> tuple[Scalar, Any]:
        efficiency = dataclasses.replace(chip.efficiency, board=fitted)
        own = dataclasses.replace(chip, efficiency=efficiency)
        priced = steps_of(own, plan, model, request, batch)
        return jnp.sum(priced.work), priced.steps

    by_factor, steps = jax.jacfwd(work, has_aux=True)(chip.efficiency.board)
    waits = closed_loop(steps, chip.efficiency.host, request)
    return TokenWork(by_factor, request.seconds_per_token(waits.total))


def _runs(group: Sequence[AskedRun]) -> list[BoardRun]:
    """Runs of one form."""
    jax.clear_caches()  # compiled code takes maps of memory, of which a process has 65,530
    ways = [(one.resolved, one.resolved.candidates[0]) for one in group]
    found: TokenWork = evaluate_rows(token_work, ways)
    work = np.stack([np.asarray(getattr(found.by_factor, name)) for name in FACTORS], axis=-1)
    seconds = np.asarray(found.seconds)
    return [
        _run(one, way, work[i], float(seconds[i]))
        for i, (one, (_, way)) in enumerate(zip(group, ways, strict=True))
    ]


def _run(one: AskedRun, way: Parallelism, work: np.ndarray, seconds: float) -> BoardRun:
    """A run; copies of a model share its users, and each has boards of its own."""
    deployment, predicted = one.resolved.deployment, way.replicas / seconds
    rate = predicted if np.isnan(one.rate) else one.rate
    power = one.joules * rate if np.isnan(one.power) else one.power
    chip = deployment.chip
    return BoardRun(
        one.resolved.place,
        deployment.stem,
        one.model,
        chip.execution,
        float(chip.idle_power),
        float(chip.peak_power),
        work / way.chips * way.replicas,
        rate / way.replicas,
        predicted / way.replicas,
        power / way.chips,
        one.whole,
    )
