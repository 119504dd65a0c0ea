r"""What boards draw while they serve, fitted to measured runs: `perfmodel calibrate --ops power`.

The most probable parameters (`map_estimate.py`) of all boards of a way of execution together, with one factor
on `active_idle` for each chip whose boards were measured. Power is compared at the measured rate of tokens
where it is given, so that errors of times do not enter. Each chip and model counts as some runs at most, and
runs that measure something else count less. Means of whole runs are compared with what boards draw in the
steady part less a share, which is fitted too and no part of a prediction.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.board_runs import FACTORS, BoardRun, BoardRuns, read_board_runs
from perfmodel.calibration.map_estimate import (
    Estimate,
    Estimation,
    Facts,
    leave_one_group_out,
    map_estimate,
)
from perfmodel.calibration.metrics import grouped, relative_errors, rounded
from perfmodel.calibration.technology import verdict
from perfmodel.files import write_toml
from perfmodel.hardware.board import board, held_share
from perfmodel.hardware.parameters import BoardPower
from perfmodel.library.board import POWER, PowerFile, read_power
from perfmodel.library.fitted import FITTED
from perfmodel.library.schema import ConstantFile
from perfmodel.locking import lock_folder
from perfmodel.units import Scalar, Values, as_scalar, as_values

NOISE = 0.1
"""Spread of the logarithm of a board's power around what the model says of one run (8 % in the median)."""

GROUP_RUNS = 8.0
"""Runs of one chip and model that count, at most: further ones repeat the same errors of work."""

OUTLIER = 0.25
"""Logarithmic error beyond which a run measures something else, and counts less."""

ROUNDS = 4
"""Fits, each with the weights that the errors of the last one give."""

CHIP_SPREAD = 0.25
"""Spread of the logarithm of a chip's factor on `active_idle`, before its boards are measured (assumed)."""


RAMP = (0.1, 0.7)
"""Prior of the share by which power above idle is lower in the mean of a whole run, at whose beginning and
end few requests are open, and the spread of its logarithm (assumed)."""


class Boards(eqx.Module):
    """Parameters of all boards, the factor of each chip on `active_idle`, and what whole runs lack."""

    shared: BoardPower
    factors: Values
    ramp: Scalar = eqx.field(converter=as_scalar)


def work_of(runs: Sequence[BoardRun], predicted: bool = False) -> np.ndarray:
    """W of work at a factor of one, of shape (runs, factors), at the measured rate or the predicted one."""
    rates = [run.predicted_rate if predicted else run.rate for run in runs]
    return np.stack([run.work * rate for run, rate in zip(runs, rates, strict=True)])


def power_of(
    shared: BoardPower, active_idle: Values, runs: Sequence[BoardRun], work: np.ndarray
) -> Values:
    """What a board draws in each run, in W.

    **Arguments:**

    - `shared`: of all runs, or with a value for each on a trailing axis; its `active_idle` is not read.
    """
    idle, limit = (as_values([getattr(run, name) for run in runs]) for name in ("idle", "limit"))
    one = jax.vmap(board)(idle, limit, active_idle)
    factors = jnp.stack([getattr(shared, name) for name in FACTORS], axis=-1)
    moving = jnp.sum(as_values(work) * jnp.broadcast_to(factors, work.shape), axis=-1)
    return one.idle + one.active + moving * held_share(moving, one.room)


def estimation(
    runs: Sequence[BoardRun], start: Boards, spread: Boards, group: Callable[[BoardRun], Any]
) -> Estimation:
    """The fit of runs of one way of execution.

    **Arguments:**

    - `start`, `spread`: parameters before, and the spreads of their logarithms; chips sorted by name.
    - `group`: what is left out as one.
    """
    chips, work = chips_of(runs), work_of(runs)
    idle, whole = (as_values([getattr(run, name) for run in runs]) for name in ("idle", "whole"))
    which = np.array([chips.index(run.chip) for run in runs])
    groups = [group(run) for run in runs]
    names = sorted(set(groups))

    def predict(boards: eqx.Module) -> Facts:
        assert isinstance(boards, Boards)
        active_idle = boards.shared.active_idle * boards.factors[which]
        power = power_of(boards.shared, active_idle, runs, work)
        return idle + (1 - boards.ramp * whole) * (power - idle)

    counted = grouped(((run.chip, run.model), run) for run in runs)
    many = np.array([len(counted[run.chip, run.model]) for run in runs])
    noise = NOISE * np.sqrt(np.maximum(many / GROUP_RUNS, 1.0))
    known = as_values([run.power for run in runs])
    places = tuple(names.index(one) for one in groups)
    return Estimation(start, spread, predict, known, as_values(noise), places)


def chips_of(runs: Sequence[BoardRun]) -> list[str]:
    """Chips of runs, sorted."""
    return sorted({run.chip for run in runs})


def robust_estimate(asked: Estimation) -> tuple[Estimation, Estimate]:
    """A fit in which outliers count less, with the noise that it gives each run."""
    plain, found = asked, map_estimate(asked)
    for _ in range(ROUNDS - 1):
        missed = jnp.log(plain.predict(found.values) / plain.known) / OUTLIER
        asked = plain._replace(noise=plain.noise * jnp.sqrt(1 + jnp.square(missed)))
        found = map_estimate(asked)
    return asked, found


class FittedBoards(NamedTuple):
    """Boards of one way of execution after a fit.

    - `found`: parameters, and the spreads of their logarithms.
    - `inside`, `without_model`, `without_chip`: power of each run by this fit, and by fits that have not seen
      its chip and model, or its chip.
    """

    execution: str
    runs: list[BoardRun]
    found: Estimate
    inside: np.ndarray
    without_model: np.ndarray
    without_chip: np.ndarray


def fit_boards(runs: Sequence[BoardRun], file: PowerFile, afresh: bool) -> list[FittedBoards]:
    """Each way of execution that runs are of.

    **Arguments:**

    - `afresh`: from the priors of `file`, not from its values.
    """
    kinds = grouped((run.execution, run) for run in runs)
    return [_fit(name, kinds[name], file, afresh) for name in sorted(kinds)]


def _fit(execution: str, runs: list[BoardRun], file: PowerFile, afresh: bool) -> FittedBoards:
    before = _before(execution, runs, file, afresh)
    asked, found = robust_estimate(estimation(runs, *before, _chip_and_model))
    by_chip = estimation(runs, *before, lambda run: run.chip)._replace(noise=asked.noise)
    predicted = (
        asked.predict(found.values),
        leave_one_group_out(asked),
        leave_one_group_out(by_chip),
    )
    return FittedBoards(execution, runs, found, *map(np.asarray, predicted))


def _chip_and_model(run: BoardRun) -> tuple[str, str]:
    return run.chip, run.model


def _before(
    execution: str, runs: Sequence[BoardRun], file: PowerFile, afresh: bool
) -> tuple[Boards, Boards]:
    """Parameters to start from, and the spreads of their logarithms."""
    table: dict[str, ConstantFile] = getattr(file, execution)
    names = ("prior", "prior_spread") if afresh else ("value", "spread")
    shared = [BoardPower(**{n: getattr(one, what) for n, one in table.items()}) for what in names]
    seen = {} if afresh else file.chips
    chips = chips_of(runs)
    factors = [seen[chip].factor if chip in seen else 1.0 for chip in chips]
    spreads = [seen[chip].spread if chip in seen else CHIP_SPREAD for chip in chips]
    start, spread = RAMP
    return Boards(shared[0], as_values(factors), start), Boards(
        shared[1], as_values(spreads), spread
    )


def content_of(fits: Sequence[FittedBoards], file: PowerFile, afresh: bool) -> dict[str, Any]:
    """The file after a fit; what was not fitted stays."""
    content = file.model_dump()
    content["chips"] = {} if afresh else content["chips"]
    for fit in fits:
        values, spreads = fit.found.values, fit.found.spreads
        assert isinstance(values, Boards) and isinstance(spreads, Boards)
        for name, one in content[fit.execution].items():
            one |= _written(one, getattr(values.shared, name), getattr(spreads.shared, name))
        count = grouped((run.chip, run) for run in fit.runs)
        for i, chip in enumerate(chips_of(fit.runs)):
            factor, spread = float(values.factors[i]), float(spreads.factors[i])
            runs = len(count[chip]) + (file.chips[chip].runs if chip in content["chips"] else 0)
            content["chips"][chip] = {
                "factor": float(f"{factor:.4g}"),
                "spread": round(spread, 3),
                "runs": runs,
            }
    return content


def _written(one: dict[str, Any], value: Any, spread: Any) -> dict[str, Any]:
    sure = verdict(float(spread), one["prior_spread"])
    return {
        "value": float(f"{float(value):.4g}"),
        "spread": round(float(spread), 3),
        "verdict": sure,
    }


class PowerCalibration(NamedTuple):
    """What a fit of boards found: its file, errors by chip, and a sentence for each row that is left out."""

    content: dict[str, Any]
    errors: list[dict[str, Any]]
    left_out: list[str]


def calibrate_power(
    rows: Path,
    out: Path,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
    afresh: bool = False,
) -> PowerCalibration:
    """Fit what boards draw to the measured runs of a CSV, and write `power.toml` to `out`.

    **Arguments:**

    - `folder`: of the parameters to start from.
    - `afresh`: whether from the priors of its `power.toml`, not from its values.

    **Raises:**

    - `InputError`: when no row of the file can be compared.
    """
    found: BoardRuns = read_board_runs(rows, folder, progress)
    file = read_power(folder)
    fits = fit_boards(found.runs, file, afresh)
    content = content_of(fits, file, afresh)
    with lock_folder(out, "calibration"):
        write_toml(out / f"{POWER}.toml", content)
    return PowerCalibration(content, errors_of(fits), found.left_out)


def errors_of(fits: Sequence[FittedBoards]) -> list[dict[str, Any]]:
    """Median errors of power by chip: of the fit, and of fits without the chip's model, or the chip."""
    return [_errors(chip, fit) for fit in fits for chip in chips_of(fit.runs)]


def _errors(chip: str, fit: FittedBoards) -> dict[str, Any]:
    own = np.array([run.chip == chip for run in fit.runs])
    known = np.array([run.power for run in fit.runs])[own]
    medians = {
        name: float(np.median(relative_errors(getattr(fit, name)[own], known)))
        for name in ("inside", "without_model", "without_chip")
    }
    return rounded({"chip": chip, "runs": int(own.sum())} | medians, 4)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", False)
    print(calibrate_power(Path(sys.argv[1]), Path(sys.argv[2]), FITTED, afresh=True).errors)
