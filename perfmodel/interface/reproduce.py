"""`perfmodel reproduce`: published and measured results beside predictions, and how far they are apart.

Three sets: published throughput and published single-stream speeds ship with the program; measured serving
runs come with the `data` extra. Rows that a fit has seen, that are held out, and that are
known to measure something else are told apart.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from perfmodel.calibration.configurator import configurator_tpots
from perfmodel.calibration.grades import RIVALS, Graded, anchored, errors, record
from perfmodel.calibration.ideal import ideal_tpot, rival_tpots
from perfmodel.calibration.leave_out import leave_out
from perfmodel.calibration.runs import Run, columns, read_runs
from perfmodel.calibration.viewer import viewer_tpot
from perfmodel.files import cells_of, read_csv, with_columns, write_csv, write_whole
from perfmodel.interface import plots
from perfmodel.interface.serving import DEFINITIONS, predict_cells
from perfmodel.kernels.rows import word_of
from perfmodel.library.chip import chip_files
from perfmodel.library.files import ROOT

PUBLISHED = {"throughput": "throughput.csv", "single-stream": "speeds.csv"}
SETS = (*PUBLISHED, "serving")
CLOSED = "closed"
"""Runs that no choice was made with; asked for by name, since each look spends them."""

METRICS: dict[str, Callable[[dict[str, float]], float]] = {
    "output_tokens_per_s": lambda row: row["output_tokens_per_s_per_chip"] * row["n_chips"],
    "total_tokens_per_s": lambda row: row["total_tokens_per_s"],
    "output_tokens_per_s_per_user": lambda row: row["output_tokens_per_s_per_user"],
}
"""What a published value is of, from the columns of a prediction."""


def sets_of(words: Sequence[str]) -> list[str]:
    """The sets that words name.

    **Raises:**

    - `InputError`: for another word, naming those that there are.
    """
    return [word_of(word, (*SETS, CLOSED), "set") for word in words or [""]]


WORDS = ("chip", "model", "framework", "mode")
"""What a row is of."""


class Row(NamedTuple):
    """A published value, of `WORDS`, beside its prediction; `nan` where there is none, and why in `error`.

    - `inside`: 1 where it lies in the stated range, 0 where not; `nan` where there is none.
    """

    set: str
    group: str
    words: tuple[str, ...]
    published: float
    predicted: float
    error: str
    inside: float = float("nan")


def reproduce(
    sets: Sequence[str], source: str, calibration: Path, progress: Callable[..., None]
) -> tuple[dict[str, Any], list[Row], dict[str, pa.Table]]:
    """Predict every row of some sets.

    **Arguments:**

    - `sets`: of `SETS`, and `closed`.
    - `source`: of the serving runs: `aiconfigurator`, or a path to its wheel or checkout.

    **Returns:**

    The report, its rows, and a table of every row by set.

    **Raises:**

    - `InputError`: when the runs are not there.
    """
    report: dict[str, Any] = {"kernels": [], "serving": [], "published": [], "technology": []}
    report |= {"definitions": DEFINITIONS, "left_out": []}
    found: list[Row] = []
    tables: dict[str, pa.Table] = {}
    for name in sets:
        if name in PUBLISHED:
            rows, tables[name] = _published(name, calibration, progress)
            report["published"] += _groups(rows)
            report["left_out"] += _left_out(name, tables[name], calibration)
        else:
            graded, rows = _served(name, source, calibration, progress)
            report["serving"] += _grades(graded, name)
        found += rows
    return report, found, tables


def _published(
    name: str, calibration: Path, progress: Callable[..., None]
) -> tuple[list[Row], pa.Table]:
    table = read_csv(ROOT / "published" / PUBLISHED[name])
    cells = cells_of(table)
    predicted = predict_cells(cells, len(table), calibration, progress)
    rows = [
        _row(name, *(_at(columns, i) for columns in (cells, predicted))) for i in range(len(table))
    ]
    return rows, with_columns(table, predicted)


def _at(columns: dict[str, list[str]], place: int) -> dict[str, str]:
    return {name: column[place] for name, column in columns.items()}


def _row(name: str, cells: dict[str, str], predicted: dict[str, str]) -> Row:
    """A row that does not fit, or cannot be predicted, has no prediction."""
    value = float("nan")
    if predicted["fits"] == "true":
        numbers = {key: float(text) for key, text in predicted.items() if _is_number(text)}
        value = METRICS[cells["metric"]](numbers)
    words, given = tuple(cells[key] for key in WORDS), float(cells["value"])
    inside = float("nan")
    if np.isfinite(value) and cells["metric"] == "output_tokens_per_s_per_user":
        low, high = (1e3 / float(predicted[f"tpot_ms_{end}"]) for end in ("high", "low"))
        inside = float(low <= given <= high)
    return Row(name, cells["group"], words, given, value, predicted["error"], inside)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


TOGETHER = ("MLPerf", "TensorRT-LLM")
"""Groups of published throughput that also have a line together: HBM machines, tuned to be fast."""


def _groups(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Errors of a set together, by group, by chip of a group, and by chip, model, framework and mode."""
    keys: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        own = [(row.set,), (row.set, row.group), (row.set, row.group, row.words[0])]
        if row.group.startswith(TOGETHER):
            own.append((row.set, " and ".join(TOGETHER)))
        own += [(row.set, f"by {what}", word) for what, word in zip(WORDS, row.words, strict=True)]
        for key in own:
            keys.setdefault(key, []).append(row)
    return [_group(key, found) for key, found in sorted(keys.items())]


def _group(key: tuple[str, ...], rows: Sequence[Row]) -> dict[str, Any]:
    known = [row for row in rows if np.isfinite(row.predicted)]
    off = errors([row.predicted for row in known], [row.published for row in known])
    ratio = np.log([row.predicted / row.published for row in known])
    figures = (np.median(off), np.mean(off), np.median(ratio)) if known else (None, None, None)
    names = ("median", "mape", "bias")
    shares = {
        n: None if x is None else round(float(x), 4) for n, x in zip(names, figures, strict=True)
    }
    once = {(row.words, row.published): row for row in known}  # a value that is there twice, once
    return {
        "group": " / ".join(key),
        "n": len(known),
        "unpredicted": len(rows) - len(known),
        "median_once": _median_off(once.values()),
        "coverage90": _share([row.inside for row in known]),
    } | shares


def _median_off(rows: Iterable[Row]) -> float | None:
    off = [abs(row.predicted / row.published - 1) for row in rows]
    return round(float(np.median(off)), 4) if off else None


def _share(inside: Sequence[float]) -> float | None:
    """Of published values that lie in their stated range; `None` where no range is stated."""
    stated = [one for one in inside if np.isfinite(one)]
    return round(float(np.mean(stated)), 4) if stated else None


def _left_out(name: str, table: pa.Table, calibration: Path) -> list[dict[str, Any]]:
    """Single streams on scheduled and dataflow machines without speculation, each from the others."""
    if name != "single-stream":
        return []
    cells = cells_of(table)
    rows = [_at(cells, i) for i in range(len(table))]
    rows = [row for row in rows if row["fits"] == "true" and not _guesses(row)]
    rows = [row for row in rows if chip_files()[row["chip"]].execution != "launched"]
    left = leave_out(rows, [float(row["value"]) for row in rows], calibration)
    return [one._asdict() | {"error": round(one.error, 4)} for one in left]


def _guesses(row: dict[str, str]) -> bool:
    return bool(row["speculative_tokens"]) or row["note"].startswith("speculative")


def _served(
    name: str, source: str, calibration: Path, progress: Callable[..., None]
) -> tuple[list[Graded], list[Row]]:
    runs = [run for run in read_runs(source, closed=name == CLOSED) if run.cells]
    predicted = predict_cells(columns(runs), len(runs), calibration, progress)
    rivals, graded = _rivals(runs, calibration), []
    for i, run in enumerate(runs):
        cells = _at(predicted, i)
        if cells["fits"] == "true":
            ttft, tpot = (float(cells[key]) / 1e3 for key in ("ttft_ms", "tpot_ms"))
            room = float(cells["sequences"]) >= float(cells["concurrency"])
            others = {rival: tpots[i] for rival, tpots in rivals.items()}
            graded.append(Graded(run, ttft, tpot, room, others))
    rows = [_run_row(name, one) for one in graded]
    return graded, rows


def _rivals(runs: Sequence[Run], calibration: Path) -> dict[str, list[float]]:
    """TPOT of each run by each of `RIVALS`."""
    found = {
        "roofline": rival_tpots(ideal_tpot, runs, calibration),
        "operators": rival_tpots(viewer_tpot, runs, calibration),
    }
    return found | {"configurator": configurator_tpots(runs)}


def _run_row(name: str, one: Graded) -> Row:
    cells = one.run.cells
    part = "known to measure something else" if one.run.spoiled else one.run.part
    words = tuple(cells[key] for key in WORDS)
    return Row(name, f"TPOT, {part}", words, one.run.tpot, one.tpot, "")


def _grades(graded: Sequence[Graded], name: str) -> list[dict[str, Any]]:
    """Of the best grade: by part, then by model, chip and framework; and with one measured point each."""
    best = [one for one in graded if one.run.best or name == CLOSED]
    sound = [one for one in best if not one.run.spoiled]
    found = [record(f"{name}, with what measures something else", best)]
    for part in dict.fromkeys(one.run.part for one in sound):
        own = [one for one in sound if one.run.part == part]
        found.append(record(part, own))
        found.append(record(f"{part}, one measured point per configuration", anchored(own)))
        groups: dict[str, list[Graded]] = {}
        for one in own:
            cells = one.run.cells
            words = (cells[key] for key in ("model", "chip", "framework"))
            keys = [" / ".join(words), *(f"by {key} / {cells[key]}" for key in WORDS)]
            for key in keys:
                groups.setdefault(f"{part} / {key}", []).append(one)
        found += [record(key, group) for key, group in sorted(groups.items())]
    return found


PUBLISHED_TABLE = ["published", "rows", "not predicted", "median", "each once", "mean", "bias"]
PUBLISHED_TABLE += ["in range"]
LEFT_TABLE = ["left out", "published", "predicted", "error", "factor", "fitted to others"]
SERVING_TABLE = ["measured runs", "rows", "TPOT median", "each once", "mean", "bias"]
SERVING_TABLE += ["roofline", "each operator", "AIConfigurator", "its rows"]
SERVING_TABLE += ["TTFT median", "rows", "tau", "tau, same traffic"]


def tables_of(report: dict[str, Any]) -> list[tuple[str, list[str], list[tuple[str, ...]]]]:
    """Titles, names of columns and lines of the tables that have any."""
    tables = [
        ("Published", PUBLISHED_TABLE, published_lines(report)),
        ("Each from the other models alone", LEFT_TABLE, left_lines(report)),
        ("Serving", SERVING_TABLE, serving_lines(report)),
    ]
    return [table for table in tables if table[2]]


def published_lines(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line for each group."""
    return [
        (
            r["group"],
            str(r["n"]),
            str(r["unpredicted"]),
            *map(_percent, (r["median"], r["median_once"], r["mape"], r["bias"], r["coverage90"])),
        )
        for r in report["published"]
    ]


def left_lines(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line for each published speed that was left out, and one for each chip."""
    left = report["left_out"]
    lines = [
        (
            f"{one['chip']} / {one['model']}",
            f"{one['published']:.4g}",
            f"{one['predicted']:.4g}",
            _percent(one["error"]),
            f"{max(one['predicted'] / one['published'], one['published'] / one['predicted']):.2f}",
            str(one["others"]),
        )
        for one in left
    ]
    for chip in dict.fromkeys(one["chip"] for one in left):
        own = [one for one in left if one["chip"] == chip]
        ratios = [abs(np.log(one["predicted"] / one["published"])) for one in own]
        mean = _percent(float(np.mean([one["error"] for one in own])))
        lines.append((f"{chip}, mean", "", "", mean, f"{np.exp(np.mean(ratios)):.2f}", ""))
    return lines


def serving_lines(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line for each group."""
    first = ("tpot_median", "tpot_median_once", "tpot_mape", "tpot_bias")
    first += tuple(f"{rival}_tpot_median" for rival in RIVALS)
    return [
        (
            r["group"],
            str(r["n"]),
            *(_percent(r[name]) for name in first),
            str(r["configurator_n"]),
            _percent(r["ttft_median"]),
            str(r["ttft_n"]),
            *(
                "-" if r[name] is None else f"{r[name]:.2f}"
                for name in ("kendall_tau", "kendall_tau_fixed")
            ),
        )
        for r in report["serving"]
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def write(
    report: dict[str, Any], rows: Sequence[Row], tables: dict[str, pa.Table], out: Path
) -> None:
    """The report, every row, and a picture of predicted against published for each set."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(report, out / "reproduce.json")
    table = {name: [row.words[i] for row in rows] for i, name in enumerate(WORDS)}
    rest = [name for name in Row._fields if name != "words"]
    write_csv(out / "rows.csv", pa.table(table | {n: [getattr(r, n) for r in rows] for n in rest}))
    for name, full in tables.items():
        write_csv(out / f"{name}.csv", full)
    for name in dict.fromkeys(row.set for row in rows):
        known = [row for row in rows if row.set == name and np.isfinite(row.predicted)]
        unit = "s a token" if name in ("serving", CLOSED) else "tokens/s"
        points = [plots.Point(r.group, r.words[0], r.published, r.predicted) for r in known]
        plots.save(plots.parity(points, name, "chip", unit), out / f"{name}.png")


def write_json(report: dict[str, Any], path: Path) -> None:
    """The report as the contract has it."""
    write_whole(path, (json.dumps(report, indent=1) + "\n").encode())
