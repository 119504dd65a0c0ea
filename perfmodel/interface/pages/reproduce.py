"""`perfmodel reproduce`: what is printed, written, and on its page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from perfmodel.calibration.published_results import PARTS
from perfmodel.calibration.serving_metrics import BASELINES, WORDS, Comparison
from perfmodel.files import write_csv, write_json
from perfmodel.interface import plots
from perfmodel.interface.pages.page import (
    FITTED_BASIS,
    SERVING_TERMS,
    Page,
    Picture,
    Table,
    sources_of,
)
from perfmodel.units import percent


def reproduce_page(report: dict[str, Any], rows: Sequence[Comparison]) -> Page:
    """Published and measured results beside predictions."""
    tables = [Table(*table) for table in tables_of(report)]
    known = [row for row in rows if np.isfinite(row.predicted)]
    said = [f"{len(known)} published and measured results of {len(rows)} beside predictions."]
    charts = [_parity(name, known, MAX_DRAWN) for name in dict.fromkeys(r.set for r in known)]
    parts = [*tables, *map(Picture, charts)]
    chips = sorted({row.words[0] for row in known})
    models = sorted({row.words[1] for row in known})
    return Page(
        "Published results beside predictions",
        said,
        parts,
        (*SERVING_TERMS, *FITTED_BASIS),
        sources_of(chips, models),
    )


MAX_DRAWN = 400
"""Results of a set that a page draws, at most."""


def _parity(name: str, rows: Sequence[Comparison], at_most: int | None = None) -> Any:
    """Predicted against published results of a set."""
    own = [row for row in rows if row.set == name and np.isfinite(row.predicted)]
    step = max(1, -(-len(own) // at_most)) if at_most else 1
    points = [plots.ParityPoint(r.group, r.words[0], r.published, r.predicted) for r in own[::step]]
    return plots.parity(points, name, "chip", "s per token" if name in PARTS else "tokens/s")


PUBLISHED_TABLE = ["published", "rows", "not predicted", "median", "each once", "mean", "bias"]


LEFT_TABLE = ["left out", "published", "predicted", "error", "factor", "fitted to others"]


SERVING_TABLE = ["measured runs", "rows", "TPOT median", "each once", "mean", "bias"]


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
        plots.save(_parity(name, rows), out / f"{name}.png")
