r"""How far measured runs lie from predictions, by what these rest on: the 90 % ranges of services.

With $e_i = \ln(\text{measured} / \text{predicted})$ of TPOT, the spread of a run's grades is the one that
fits $\ln(|e_i| + 0.03)$ best, a grade less sure never the narrower; the ends are the 5th and 95th percentile
of $e_i / \sigma_i$. The runs of a stack (chip, framework, model and format) share what they are off by, so
that a stack weighs as the root of its runs, and with $n$ stacks the ends are those of $0.05 / (1 + 1/n)$.

Coverage is reported of runs whose model, chip or framework took no part in the fit of the ranges.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from perfmodel.calibration.anchors import anchor_runs, read_anchor_runs
from perfmodel.calibration.data.inferencex import open_runs, rows_of_runs
from perfmodel.calibration.metrics import LOW, weighted_quantile
from perfmodel.calibration.sections import copy_fitted
from perfmodel.files import write_toml
from perfmodel.library.serving_ranges import MODELLED, MODELS, RANGES, Grades
from perfmodel.locking import lock_folder

FLOOR = 0.03
"""Added to |logarithms|, so that a run that is met by chance weighs no more than one that is off by 3 %."""

RIDGE = 2.0
"""Weight with which the step from one grade to the next is held at zero: stacks."""

MANY = 2.5
"""|ln(measured / predicted)| beyond which a run measures something else: 12 times."""


class Evidence(NamedTuple):
    """A measured run: what its prediction rests on, how far it is off, and whose run it is.

    - `tpot`, `ttft`: ln(measured / predicted); `nan` where it is not known.
    - `inside`: whether TPOT lies in the range as it is.
    """

    grades: Grades
    tpot: float
    ttft: float
    inside: bool
    chip: str
    framework: str
    model: str
    weights: str

    @property
    def stack(self) -> Hashable:
        """Runs that share what they are off by."""
        return self.chip, self.framework, self.model, self.weights


def evidence_of(
    runs: Sequence[Path], folder: Path, progress: Callable[[int, int], None]
) -> list[Evidence]:
    """The open runs of the AIConfigurator package, and those of files of the serving schema.

    **Raises:**

    - `InputError`: when the package or a file is not there, or no row of it can be compared.
    """
    own = [run for path in runs for run in read_anchor_runs(path, folder, progress).runs]
    found = [*anchor_runs(rows_of_runs(open_runs()), folder, progress).runs, *own]
    pairs = [(one, -one.missed(np.zeros(2))) for one in found]
    known = [(one, np.where(np.isfinite(one.measured), e, np.nan)) for one, e in pairs]
    return [_evidence(one, e) for one, e in known if abs(e[0]) < MANY]


def _evidence(run: Any, errors: np.ndarray) -> Evidence:
    low, high = np.log(run.before.tpot)
    whose = (run.stack.chip, run.stack.framework, run.stack.model, run.stack.weights)
    inside = bool(low <= errors[0] <= high)
    return Evidence(run.before.grades, float(errors[0]), float(errors[1]), inside, *whose)


class Ranges(NamedTuple):
    """What `ranges.toml` holds."""

    spread: float
    chip: dict[str, float]
    model: dict[str, float]
    low: float
    high: float
    first_low: float
    first_high: float

    def spreads(self, runs: Sequence[Evidence]) -> np.ndarray:
        """Of each run."""
        logs = [self.chip[one.grades.chip] + self.model[one.grades.model] for one in runs]
        return np.exp(self.spread + np.array(logs))

    def hold(self, runs: Sequence[Evidence]) -> np.ndarray:
        """Whether the TPOT of each run lies inside."""
        scaled = np.array([one.tpot for one in runs]) / self.spreads(runs)
        return (self.low <= scaled) & (scaled <= self.high)


def fit_ranges(runs: Sequence[Evidence]) -> Ranges:
    """The ranges that hold 90 % of some runs."""
    weights, stacks = _weights(runs)
    steps = np.array([_steps(one.grades) for one in runs])
    size = np.log(np.abs([one.tpot for one in runs]) + FLOOR)
    root = np.sqrt(weights)[:, None]
    held = np.sqrt(RIDGE) * np.eye(steps.shape[1])[1:]
    system = np.vstack([root * steps, held])
    wanted = np.concatenate([root[:, 0] * size, np.zeros(len(held))])
    lowest = np.r_[-np.inf, np.zeros(steps.shape[1] - 1)]
    found = lsq_linear(system, wanted, (lowest, np.full(steps.shape[1], np.inf))).x
    chip, model = _sums(MODELLED, found[1:3]), _sums(MODELS, found[3:5])
    plain = Ranges(float(found[0]), chip, model, 0.0, 0.0, 0.0, 0.0)
    level = LOW / (1 + 1 / stacks)
    return plain._replace(**_ends(runs, plain.spreads(runs), weights, level))


def _sums(grades: Sequence[str], steps: np.ndarray) -> dict[str, float]:
    """What each grade adds, from the steps between them."""
    return {grade: float(steps[:i].sum()) for i, grade in enumerate(grades)}


def _steps(grades: Grades) -> list[float]:
    """1, and of each grade whether a run's is at least so unsure."""
    chip, model = MODELLED.index(grades.chip), MODELS.index(grades.model)
    return [1.0, *(float(chip >= i) for i in (1, 2)), *(float(model >= i) for i in (1, 2))]


def _weights(runs: Sequence[Evidence]) -> tuple[np.ndarray, int]:
    """The root of each stack's runs shared out, and the number of stacks."""
    counts = Counter(one.stack for one in runs)
    return np.array([counts[one.stack] ** -0.5 for one in runs]), len(counts)


def _ends(
    runs: Sequence[Evidence], spreads: np.ndarray, weights: np.ndarray, level: float
) -> dict[str, float]:
    found: dict[str, float] = {}
    for prefix, name in (("", "tpot"), ("first_", "ttft")):
        scaled = np.array([getattr(one, name) for one in runs]) / spreads
        known = np.isfinite(scaled)
        ends = weighted_quantile(scaled[known], weights[known], [level, 1 - level])
        found |= {f"{prefix}low": float(ends[0]), f"{prefix}high": float(ends[1])}
    return found


# What is reported

LEFT_OUT = ("model", "chip", "framework")
"""What runs share that take no part in a fit, one at a time."""

REPORTED = (*LEFT_OUT, "chip grade", "model grade")


def left_out(runs: Sequence[Evidence], name: str) -> np.ndarray:
    """Whether each run lies in ranges that were fitted without those that share its model, chip or
    framework."""
    inside = np.zeros(len(runs), bool)
    whose = np.array([getattr(one, name) for one in runs])
    for one in sorted(set(whose)):
        own = whose == one
        ranges = fit_ranges([run for run, out in zip(runs, own, strict=True) if not out])
        inside[own] = ranges.hold([run for run, out in zip(runs, own, strict=True) if out])
    return inside


def coverage_table(runs: Sequence[Evidence], ranges: Ranges) -> list[dict[str, Any]]:
    """Shares of runs in their ranges by group: as it was, as fitted, and as fitted without a model, chip or
    framework."""
    shares = {"before": np.array([one.inside for one in runs]), "fitted": ranges.hold(runs)}
    shares |= {f"{name} left out": left_out(runs, name) for name in LEFT_OUT}
    rows = [_group("all", "", np.ones(len(runs), bool), shares)]
    for name in REPORTED:
        values = np.array([_value(one, name) for one in runs])
        rows += [_group(name, value, values == value, shares) for value in sorted(set(values))]
    return rows


def _value(one: Evidence, name: str) -> str:
    return getattr(one.grades, name.split()[0]) if name.endswith("grade") else getattr(one, name)


def _group(name: str, value: str, own: np.ndarray, shares: dict[str, np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {"group": f"{name} {value}".strip(), "runs": int(own.sum())}
    return row | {column: round(float(inside[own].mean()), 3) for column, inside in shares.items()}


class RangesFit(NamedTuple):
    """Ranges, and how many runs of which groups they hold."""

    ranges: Ranges
    coverage: list[dict[str, Any]]


def calibrate_ranges(
    runs: Sequence[Path], out: Path, prior: Path, progress: Callable[[int, int], None]
) -> RangesFit:
    """Fit the ranges of services to measured runs, and write a folder of fitted parameters with them.

    **Arguments:**

    - `runs`: files of the serving schema with measured columns, beside the open runs of the package.
    - `prior`: the folder whose predictions are compared, and from which all else is taken.

    **Raises:**

    - `InputError`: when no run can be compared, or the folder cannot be written.
    """
    found = evidence_of(runs, prior, progress)
    ranges = fit_ranges(found)
    coverage = coverage_table(found, ranges)
    stacks = len({one.stack for one in found})
    report = {"runs": len(found), "stacks": stacks, "files": [path.name for path in runs]}
    with lock_folder(out, "calibration"):
        copy_fitted(prior, out)
        write_toml(out / f"{RANGES}.toml", _in_file(ranges) | {"report": report})
    return RangesFit(ranges, coverage)


def _in_file(ranges: Ranges) -> dict[str, Any]:
    """The numbers as they are written, plain ones before tables."""
    tables = {name: getattr(ranges, name) for name in ("chip", "model")}
    plain = {name: round(x, 4) for name, x in ranges._asdict().items() if name not in tables}
    return plain | {
        n: {grade: round(float(x), 4) for grade, x in own.items()} for n, own in tables.items()
    }
