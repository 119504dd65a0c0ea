"""`perfmodel explain`: what binds, kernel by kernel and term by term."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from perfmodel.breakdown import BOUNDS, SECONDS, Breakdown
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv
from perfmodel.hardware.chip import Chip
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.evaluate import ResolvedRow, resolve_row
from perfmodel.inference.step import Cost, decode_step
from perfmodel.interface.kernels import OVERFLOW, own_files, read_columns, site_of
from perfmodel.interface.serving import COLUMNS, PLAN, predict_cells
from perfmodel.kernels.kernel_table import groups_of
from perfmodel.kernels.registry import KERNELS, cost
from perfmodel.library.files import nearest
from perfmodel.units import as_scalar, figures
from perfmodel.workload.plan import Plan


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
    - `step`: where a decode step was asked for.
    """

    title: str
    time: float
    lines: list[Line]
    terms: dict[str, float]
    step: Step | None = None


def read_asked(words: Sequence[str]) -> dict[str, str]:
    """A row given as `FILE.csv:NUMBER`, or as `column=value` words.

    **Raises:**

    - `InputError`: for anything else.
    """
    if len(words) == 1 and "=" not in words[0]:
        return _from_file(words[0])
    cells: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InputError(
                f"{word!r} is not column=value; write for example chip=h100 op=gemm m=32."
            )
        _known(name.strip().lower())
        if name.strip().lower() in cells:
            raise InputError(f"{name.strip()} is given twice; give it once.")
        cells[name.strip().lower()] = value
    return cells


def _known(name: str) -> None:
    """Refuse a column that is not read, but nearly the name of one: a slip."""
    columns = sorted({*COLUMNS, *read_columns()})
    close = [] if name in columns else nearest(name, columns)
    if close:
        raise InputError(f"there is no column {name[:60]!r}; the nearest are {', '.join(close)}.")


def _from_file(word: str) -> dict[str, str]:
    path, colon, number = word.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,9}", number):
        raise InputError(
            f"{word[:200]!r} names no row; write FILE.csv:NUMBER (1 is the first), or column=value ..."
        )
    table = read_csv(Path(path))
    if not 1 <= int(number) <= len(table):
        raise InputError(
            f"{path} has {len(table)} rows; there is no row {number}, give one from 1 to {len(table)}."
        )
    return {name: column[int(number) - 1] for name, column in cells_of(table).items()}


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


@eqx.filter_jit
def _kernel(op: str, chip: Chip, plan: Plan, row: dict) -> Breakdown:
    return cost(chip, KERNELS[op](**row).count(chip, plan))


def _explain_kernel(cells: dict[str, str], calibration: Path) -> Explanation:
    columns = {name: [value] for name, value in cells.items()}
    groups, errors = groups_of(columns, 1, own_files(columns))
    if errors[0]:
        raise InputError(str(errors[0]))
    site = site_of(groups[0], calibration, replay=True)
    row = {name: as_scalar(values[0]) for name, values in groups[0].columns.items()}
    found = _kernel(groups[0].key.op, site.chip, site.plan, row)
    if not np.isfinite(found.time):
        raise InputError(OVERFLOW)
    title = f"{groups[0].key.op} on {groups[0].key.chip}, {groups[0].key.dtype}"
    return _explanation(title, found, [_line(groups[0].key.op, found, float(found.time))])


@eqx.filter_jit
def step_of(chip: Chip, plan: Plan, model, batch, context) -> Cost:
    """A decode step with every kernel."""
    return decode_step(chip, plan, model, batch, context)


def _explain_step(cells: dict[str, str], calibration: Path) -> Explanation:
    given = {name: [value] for name, value in cells.items()}
    chosen = predict_cells(given, 1, calibration)
    if not chosen["tpot_ms"][0]:
        raise InputError(chosen["error"][0])
    filled = cells | {name: chosen[name][0] for name in PLAN}
    filled |= {"concurrency": chosen["running"][0], "requests_per_s": ""}
    step = step_cost(filled, calibration)
    batch = f"batch {float(filled['concurrency']):.0f}"
    return explain_step(f"decode step of {cells['model']} on {step.name}, {batch}", step)


def step_cost(cells: dict[str, str], calibration: Path) -> Step:
    """The decode step of a serving row whose plan is given."""
    case = resolve_row(0, cells, calibration)
    return step_at(case, case.candidates[0])


def step_at(case: ResolvedRow, split: Parallelism) -> Step:
    """The decode step of a case, spread in one way."""
    row = case.row
    ranks = {"tp": split.tp, "pp": split.pp, "ep": split.ep, "dp": split.dp}
    plan = eqx.tree_at(
        lambda p: tuple(getattr(p, name) for name in ranks),
        case.deployment.plan,
        tuple(as_scalar(value) for value in ranks.values()),
    )
    context = (row.isl + row.osl / 2) * row.length_ratio
    numbers = (as_scalar(row.concurrency), as_scalar(context))
    found = step_of(case.deployment.chip, plan, case.deployment.model, *numbers)
    chips = split.tp * split.pp * split.dp
    return Step(f"{chips:.0f} x {case.deployment.stem}", case.deployment.chip, plan, found)


def explain_step(title: str, step: Step) -> Explanation:
    """A decode step, kernels of one label together."""
    found = step.cost
    labels = dict.fromkeys(found.labels)
    sums = {label: _of_label(found, label) for label in labels}
    time = float(found.time)
    lines = sorted(
        (_line(label, part, time) for label, part in sums.items()), key=lambda one: -one.time
    )
    return _explanation(title, found.breakdown, lines)._replace(step=step)


def _of_label(found: Cost, label: str) -> Breakdown:
    which = np.array([one == label for one in found.labels])
    return jax.tree.map(lambda x: x[which].sum(axis=0), found.kernels)


def _line(label: str, found: Breakdown, whole: float) -> Line:
    parts, time = np.asarray(found.by_bound()), float(found.time)
    return Line(label, time, time / whole, BOUNDS[int(parts.argmax())], parts)


def _explanation(title: str, found: Breakdown, lines: list[Line]) -> Explanation:
    terms = {name: float(value) for name, value in zip(SECONDS, found.seconds, strict=True)}
    return Explanation(title, float(found.time), lines, terms)


def lines_of(found: Explanation) -> list[tuple[str, ...]]:
    """A row for each kernel: time, share, what binds."""
    return [
        (x.label, figures(x.time * 1e6), f"{100 * x.share:.1f} %", x.bound) for x in found.lines
    ]


def terms_of(found: Explanation) -> list[tuple[str, ...]]:
    """A row for each term of time, the largest first."""
    terms = sorted(((n, s) for n, s in found.terms.items() if s > 0), key=lambda one: -one[1])
    return [(name, figures(s * 1e6), f"{100 * s / found.time:.1f} %") for name, s in terms]


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """For JSON."""
    lines = [
        {"kernel": x.label, "time_us": x.time * 1e6, "share": x.share, "bound": x.bound}
        for x in explanation.lines
    ]
    terms = {name: seconds * 1e6 for name, seconds in explanation.terms.items()}
    return {
        "title": explanation.title,
        "time_us": explanation.time * 1e6,
        "kernels": lines,
        "terms_us": terms,
    }
