"""The pictures and the page of `perfmodel validate`."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from perfmodel.calibration import acceptance
from perfmodel.files import cells_of, read_csv
from perfmodel.interface.pages.page import Page, Picture
from perfmodel.interface.pages.predict import kernel_points
from perfmodel.interface.plots import parity
from perfmodel.interface.tables import Table

MAX_DRAWN = 100
"""Rows of a section that are drawn, at most."""


def charts_of(out: Path) -> dict[str, Any]:
    """Parity and residuals of every section whose rows the folder holds."""
    tables = map(read_csv, sorted((out / "rows").glob("*.csv")))
    points = [point for table in tables for point in _points(table)]
    return {
        "parity": parity.parity(points, "Held-out kernels: predicted and measured"),
        "residuals": parity.residuals(points, "Held-out kernels: predicted over measured"),
    }


def _points(table: pa.Table) -> list[parity.ParityPoint]:
    step = max(1, -(-len(table) // MAX_DRAWN))
    return kernel_points(cells_of(table), "split", range(0, len(table), step))


def tables_of(report: acceptance.Record) -> list[Table]:
    """What must be reached, and all of it, of kernels and of chips."""
    records, chips = report["kernels"], report["technology"]
    summary, lines = acceptance.technology_summary(chips), acceptance.technology_lines(chips)
    return [
        Table("Kernels: what must be reached", acceptance.SUMMARY, acceptance.summary(records)),
        Table("Kernels, table by table", acceptance.TABLE, acceptance.lines(records)),
        Table("Chips: what must be reached", acceptance.TECHNOLOGY_SUMMARY, summary),
        Table("Chips, one by one", acceptance.TECHNOLOGY_TABLE, lines),
    ]


def validate_page(report: acceptance.Record, notes: list[str], charts: list[Any]) -> Page:
    """How far off held-out kernels and chips are."""
    said, assumed, sources = [], [*notes], {}
    if report["kernels"]:
        said.append("Kernels stand beside a roofline, a random forest, and other frameworks.")
        assumed.append("Rows are held out by a hash of their shape, before anything is fitted.")
        sources["measurements"] = "aiconfigurator-core 0.12.0 (Apache-2.0), NVIDIA AIConfigurator"
    if report["technology"]:
        said.append("Each chip is predicted by constants that were fitted without it.")
        assumed.append(
            "What a chip is made of is taken as published; only the constants of the laws are fitted."
        )
        sources["chips"] = (
            "the library's files: `perfmodel chips NAME` says where each number is from"
        )
    parts = [*(table for table in tables_of(report) if table.rows), *map(Picture, charts)]
    return Page("Held-out validation", said, parts, assumed, sources)
