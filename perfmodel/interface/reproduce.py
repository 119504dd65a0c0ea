"""`perfmodel reproduce`: published and measured results beside predictions, and how far they are apart.

Published throughput and single-stream speeds ship with the program; measured serving runs come with the
`data` extra. Rows that a fit has seen, that are held out, and that are known to measure something else are
told apart.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from perfmodel.calibration.published_results import (
    CLOSED,
    PARTS,
    PUBLISHED,
    SERVING,
    held_out_speeds,
    predict_measured,
    predict_published,
)
from perfmodel.calibration.serving_metrics import (
    BASELINES,
    WORDS,
    Comparison,
    metrics_of_published,
    metrics_of_runs,
)
from perfmodel.files import write_csv, write_json
from perfmodel.interface import plots
from perfmodel.interface.serving import DEFINITIONS
from perfmodel.library.files import word_of
from perfmodel.units import percent

SETS = (*PUBLISHED, SERVING)
"""Sets that are put beside predictions where none is named."""


def sets_of(words: Sequence[str]) -> list[str]:
    """The sets that words name.

    **Raises:**

    - `InputError`: for another word, naming those that there are.
    """
    return [word_of(word, (*PUBLISHED, *PARTS), "set") for word in words or [""]]


def reproduce(
    sets: Sequence[str], source: str, calibration: Path, progress: Callable[..., None]
) -> tuple[dict[str, Any], list[Comparison], dict[str, pa.Table]]:
    """Predict every row of some sets.

    **Arguments:**

    - `sets`: of `PUBLISHED` and `PARTS`.
    - `source`: of the serving runs: `aiconfigurator`, or a path to its wheel or checkout.

    **Returns:**

    The report, its rows, and a table of every row by set.

    **Raises:**

    - `InputError`: when the runs are not there.
    """
    report: dict[str, Any] = {"kernels": [], "serving": [], "published": [], "technology": []}
    report |= {"definitions": DEFINITIONS, "left_out": []}
    found: list[Comparison] = []
    tables: dict[str, pa.Table] = {}
    for name in sets:
        if name in PUBLISHED:
            rows, tables[name] = predict_published(name, calibration, progress)
            report["published"] += metrics_of_published(rows)
            report["left_out"] += held_out_speeds(name, tables[name], calibration)
        else:
            scored, rows = predict_measured(name, source, calibration, progress)
            report["serving"] += metrics_of_runs(scored, name, every=name == CLOSED)
        found += rows
    return report, found, tables


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
    counts, shares = ("n", "unpredicted"), ("median", "median_once", "mape", "bias", "coverage90")
    return [
        (r["group"], *(str(r[n]) for n in counts), *(percent(r[n]) for n in shares))
        for r in report["published"]
    ]


def left_lines(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line for each published speed that was left out, and one for each chip."""
    left, lines = report["left_out"], []
    for one in left:
        name, speeds = f"{one['chip']} / {one['model']}", (one["published"], one["predicted"])
        error, off = percent(one["error"]), max(speeds) / min(speeds)
        texts = (f"{speed:.4g}" for speed in speeds)
        lines.append((name, *texts, error, f"{off:.2f}", str(one["others"])))
    for chip in dict.fromkeys(one["chip"] for one in left):
        own = [one for one in left if one["chip"] == chip]
        off = np.exp(np.mean([abs(np.log(one["predicted"] / one["published"])) for one in own]))
        mean = percent(float(np.mean([one["error"] for one in own])))
        lines.append((f"{chip}, mean", "", "", mean, f"{off:.2f}", ""))
    return lines


def serving_lines(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line for each group."""
    shares = ("tpot_median", "tpot_median_once", "tpot_mape", "tpot_bias")
    shares += tuple(f"{name}_tpot_median" for name in BASELINES)
    taus = ("kendall_tau", "kendall_tau_fixed")
    return [
        (
            *(r["group"], str(r["n"])),
            *(percent(r[name]) for name in shares),
            *(str(r["configurator_n"]), percent(r["ttft_median"]), str(r["ttft_n"])),
            *("-" if r[name] is None else f"{r[name]:.2f}" for name in taus),
        )
        for r in report["serving"]
    ]


def write(
    report: dict[str, Any], rows: Sequence[Comparison], tables: dict[str, pa.Table], out: Path
) -> None:
    """The report, every row, and a picture of predicted against published for each set."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "reproduce.json", report)
    table = {name: [row.words[i] for row in rows] for i, name in enumerate(WORDS)}
    rest = [name for name in Comparison._fields if name != "words"]
    write_csv(out / "rows.csv", pa.table(table | {n: [getattr(r, n) for r in rows] for n in rest}))
    for name, full in tables.items():
        write_csv(out / f"{name}.csv", full)
    for name in dict.fromkeys(row.set for row in rows):
        known = [row for row in rows if row.set == name and np.isfinite(row.predicted)]
        unit = "s a token" if name in PARTS else "tokens/s"
        points = [plots.Point(r.group, r.words[0], r.published, r.predicted) for r in known]
        plots.save(plots.parity(points, name, "chip", unit), out / f"{name}.png")
