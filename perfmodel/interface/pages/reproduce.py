"""`perfmodel reproduce`: what is printed, written, and on its page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from perfmodel.calibration.measured_runs import RUN_SETS
from perfmodel.calibration.serving_metrics import WORDS, Comparison
from perfmodel.files import write_csv, write_json
from perfmodel.interface.pages.page import (
    FITTED_BASIS,
    SERVING_TERMS,
    Page,
    Picture,
    sources_of,
)
from perfmodel.interface.plots import parity, theme
from perfmodel.interface.tables import Table, table_of
from perfmodel.units import percent


def reproduce_page(report: dict[str, Any], rows: Sequence[Comparison]) -> Page:
    """Published and measured results beside predictions."""
    known = [row for row in rows if np.isfinite(row.predicted)]
    said = [f"{len(known)} published and measured results of {len(rows)} beside predictions."]
    charts = [_parity(name, known, MAX_DRAWN) for name in dict.fromkeys(r.set for r in known)]
    parts = [*tables_of(report), *map(Picture, charts)]
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
    points = [
        parity.ParityPoint(r.group, r.words[0], r.published, r.predicted) for r in own[::step]
    ]
    return parity.parity(points, name, "chip", "s per token" if name in RUN_SETS else "tokens/s")


def tables_of(report: dict[str, Any]) -> list[Table]:
    """The tables that have any rows."""
    tables = {"published": published_table, "left_out": left_out_table, "serving": serving_table}
    tables |= {"decisions": decisions_table, "equal_lengths": equal_lengths_table}
    tables |= {"capacity": capacity_table, "capacity_rows": capacity_rows_table}
    return [table(report[name]) for name, table in tables.items() if report.get(name)]


def capacity_rows_table(rows: Sequence[dict[str, Any]]) -> Table:
    """KV caches as servers printed them when they started, of a data rank in tokens or of a chip in GiB."""
    shown = [
        {
            "chips": f"{one['tp']} x {one['chip']}",
            "model": one["model"],
            "software": one["software"],
            "part": one["part"],
            "printed": f"{one['measured']:,.6g} {one['unit']}",
            "predicted": one["error"] or f"{one['predicted']:,.6g}",
            "off": "-" if one["off"] is None else f"{100 * one['off']:+.1f} %",
        }
        for one in rows
    ]
    return table_of("KV-cache capacity", shown)


def capacity_table(groups: Sequence[dict[str, Any]]) -> Table:
    """Errors of KV-cache capacity by group."""
    rows = [
        {"KV-cache capacity": one["group"], "rows": str(one["n"])}
        | {"not predicted": str(one["unpredicted"])}
        | {name: percent(one[share]) for name, share in CAPACITY_SHARES.items()}
        for one in groups
    ]
    return table_of("KV-cache capacity, errors", rows)


CAPACITY_SHARES = {"median": "median", "mean": "mape", "worst": "worst", "bias": "bias"}


def published_table(groups: Sequence[dict[str, Any]]) -> Table:
    """Groups of published results; the last share is of those within the predicted range."""
    shares = {"median": "median", "each once": "median_once", "mean": "mape", "bias": "bias"}
    shares |= {"in range": "coverage90"}
    rows = [
        {"published": one["group"], "rows": str(one["n"])}
        | {"not predicted": str(one["unpredicted"])}
        | {name: percent(one[share]) for name, share in shares.items()}
        for one in groups
    ]
    return table_of("Published", rows)


def left_out_table(left: Sequence[dict[str, Any]]) -> Table:
    """Published speeds that were left out each, and their mean for each chip."""
    rows = [_left_out_row(f"{one['chip']} / {one['model']}", one) for one in left]
    for chip in dict.fromkeys(one["chip"] for one in left):
        own = [one for one in left if one["chip"] == chip]
        off = np.exp(np.mean([abs(np.log(one["predicted"] / one["published"])) for one in own]))
        error = float(np.mean([one["error"] for one in own]))
        rows.append(dict.fromkeys(rows[0], "") | {"left out": f"{chip}, mean"} | _off(error, off))
    return table_of("Each from the other models alone", rows)


def _left_out_row(name: str, one: dict[str, Any]) -> dict[str, str]:
    speeds = {kind: one[kind] for kind in ("published", "predicted")}
    return (
        {"left out": name}
        | {kind: f"{speed:.4g}" for kind, speed in speeds.items()}
        | _off(one["error"], max(speeds.values()) / min(speeds.values()))
        | {"fitted to others": str(one["others"])}
    )


def _off(error: float, factor: float) -> dict[str, str]:
    return {"error": percent(error), "factor": f"{factor:.2f}"}


SERVING_SHARES = {
    "TPOT median": "tpot_median",
    "each once": "tpot_median_once",
    "mean": "tpot_mape",
    "bias": "tpot_bias",
    "roofline": "roofline_tpot_median",
    "each operator": "operators_tpot_median",
    "AIConfigurator": "configurator_tpot_median",
}


def serving_table(groups: Sequence[dict[str, Any]]) -> Table:
    """Groups of measured runs."""
    taus = {"tau": "kendall_tau", "tau, same traffic": "kendall_tau_fixed"}
    rows = [
        {"measured runs": one["group"], "rows": str(one["n"])}
        | {name: percent(one[share]) for name, share in SERVING_SHARES.items()}
        | {"its rows": str(one["configurator_n"])}
        | {"TTFT median": percent(one["ttft_median"]), "TTFT rows": str(one["ttft_n"])}
        | {name: "-" if one[tau] is None else f"{one[tau]:.2f}" for name, tau in taus.items()}
        for one in groups
    ]
    return table_of("Serving", rows)


EQUAL_LENGTHS_SHARES = {
    "TPOT median": "tpot_median",
    "TPOT bias": "tpot_bias",
    "TTFT median": "ttft_median",
    "TTFT bias": "ttft_bias",
}


def equal_lengths_table(groups: Sequence[dict[str, Any]]) -> Table:
    """Groups of measured runs whose prompts and answers are of equal length."""
    rows = _shares(groups, "runs with equal lengths", EQUAL_LENGTHS_SHARES)
    return table_of("Users in step", rows)


def _shares(
    groups: Sequence[dict[str, Any]], what: str, shares: dict[str, str]
) -> list[dict[str, str]]:
    """A row for each group, with its name under `what`, how many it has, and shares by column."""
    return [
        {what: one["group"], "rows": str(one["n"])}
        | {name: percent(one[share]) for name, share in shares.items()}
        for one in groups
    ]


LEFT_OUT_SHARES = {
    "TPOT median": "tpot_median",
    "mean": "tpot_mape",
    "bias": "tpot_bias",
    "tokens/s per chip": "throughput_median",
    "TTFT median": "ttft_median",
    "in range": "coverage90",
}


def left_out_runs_table(groups: Sequence[dict[str, Any]]) -> Table:
    """Measured runs of what was left out of the fits."""
    rows = _shares(groups, "measured runs", LEFT_OUT_SHARES)
    return table_of("Serving runs of what no fit has seen", rows)


DECISION_SHARES = {
    "limits broken": "broken",
    "regret, median": "median",
    "p90": "p90",
    "mean where kept": "mean_kept",
}

DECISION_NOTE = (
    "Limits on TPOT are 10, 20, 30, 50 and 100 ms, where some of the measured runs of a chip, model, "
    "framework and lengths keep it and some break it. "
    "Regret is 1 - measured output tokens/s per chip of the choice / that of the best which keeps the limit; "
    "TPOT over 1.1 x the limit breaks it and counts 1. Where none is predicted to keep the limit, the "
    "one that is fastest at that confidence is chosen."
)


def decisions_table(groups: Sequence[dict[str, Any]]) -> Table:
    """What comes of choosing deployments, by who chooses."""
    rows = [
        {"decisions": one["group"], "chosen by": one["by"], "n": str(one["n"])}
        | {name: percent(one[share]) for name, share in DECISION_SHARES.items()}
        for one in groups
    ]
    return table_of("Decisions", rows, DECISION_NOTE)


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
        theme.save(_parity(name, rows), out / f"{name}.png")
