"""The pages of `perfmodel predict`: kernels beside what was measured, speed against price."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from perfmodel.files import cells_of, read_csv
from perfmodel.inference.percentiles import SIMULATED
from perfmodel.inference.serving_row import RANKS
from perfmodel.interface.pages.page import (
    FITTED_BASIS,
    SERVING_TERMS,
    Page,
    Picture,
    sources_of,
    usd_note,
)
from perfmodel.interface.plots import lines, parity
from perfmodel.interface.serving_tables import compared, measured_errors, number
from perfmodel.interface.tables import Table, cell
from perfmodel.units import percent


def kernels_page(rows: Path, out: Path) -> Page:
    """Predicted times of kernels; beside measured ones, where the rows have them."""
    cells = cells_of(read_csv(out))
    names = [name for name in cells if any(cells[name])]
    good = [i for i, error in enumerate(cells["error"]) if not error]
    bounds = Counter(cells["bound"][i] for i in good)
    counted = ", ".join(f"{n} by {bound}" for bound, n in bounds.most_common())
    said = [f"{len(good)} of {len(cells['error'])} kernels of {rows.name} predicted: {counted}."]
    parts: list[Table | Picture] = []
    if good and "latency_us" in cells:
        parts += _measured(cells, good)
    parts.append(Table("Rows", names, list(zip(*(cells[name] for name in names), strict=True))))
    return Page(
        f"Kernels of {rows.name}", said, parts, FITTED_BASIS, sources_of(cells.get("chip", ()))
    )


def _measured(cells: dict[str, list[str]], good: list[int]) -> list[Picture]:
    points = kernel_points(cells, "chip", good)
    if not points:
        return []
    off = [abs(p.predicted / p.measured - 1) for p in points]
    caption = f"Median error {100 * np.median(off):.1f} %, mean {100 * np.mean(off):.1f} %."
    return [Picture(parity.parity(points, "Predicted and measured"), caption)]


def kernel_points(
    cells: dict[str, list[str]], panel: str, places: Iterable[int]
) -> list[parity.ParityPoint]:
    """Kernels that were measured, at some places of a table, in a panel for each word of a column."""
    return [
        parity.ParityPoint(
            cells[panel][i], cells["op"][i], measured, float(cells["predicted_us"][i])
        )
        for i in places
        if (measured := number(cells["latency_us"][i])) > 0
    ]


COLUMNS_SHOWN = (
    "chip",
    "n_chips",
    "model",
    "precision",
    "framework",
    "isl",
    "osl",
    "concurrency",
    *RANKS[1:],
    "ttft_ms",
    "tpot_ms",
    *SIMULATED,
    "output_tokens_per_s_per_user",
    "output_tokens_per_s_per_chip",
    "usd_per_million_output_tokens",
    "usd_per_chip_hour",
    "cost_basis",
    "joules_per_output_token",
    "fits",
    "bound",
    "error",
)
"""Columns of a served row that a page shows, where any row has them; all of them are in the CSV."""


def serving_page(name: str, cells: dict[str, list[str]]) -> Page:
    """Served rows: speed against price, the numbers, and what was measured beside them.

    **Arguments:**

    - `name`: of the rows.
    - `cells`: rows and their predictions, by column.
    """
    names = [name for name in COLUMNS_SHOWN if any(cells.get(name, ()))]
    count = len(cells["error"])
    good = [i for i in range(count) if cells["fits"][i] == "true"]
    said = [f"{len(good)} of {count} rows of {name} are served by machines on which they fit."]
    parts: list[Table | Picture] = [*_fronts(cells, good), *_measured_service(cells)]
    table = [tuple(cell(cells[name][i]) for name in names) for i in range(count)]
    parts.append(Table("Rows", names, table))
    chips = {*cells.get("chip", ()), *cells.get("decode_chip", ()), *cells.get("prefill_chip", ())}
    sources = sources_of(sorted(chips), sorted(set(cells["model"])))
    return Page(
        f"Service of {name}", said, parts, (*SERVING_TERMS, usd_note(), *FITTED_BASIS), sources
    )


def _measured_service(cells: dict[str, list[str]]) -> list[Picture]:
    """Parity of each output that was measured."""
    return [
        Picture(
            parity.parity(_service_points(cells, name), "Predicted and measured", "model", name),
            f"{name}: median error {percent(error.median)} of {error.rows:,} measured rows.",
        )
        for name, error in measured_errors(cells).items()
    ]


def _service_points(cells: dict[str, list[str]], name: str) -> list[parity.ParityPoint]:
    """Rows that were measured, in a panel for each chip."""
    chips = cells.get("chip", [""] * len(cells["error"]))
    return [
        parity.ParityPoint(chips[i] or "pools", cells["model"][i], measured, predicted)
        for i, measured, predicted in compared(cells, name)
    ]


FRONTS = {
    "output_tokens_per_s_per_chip": lines.speed_against_throughput,
    "usd_per_million_output_tokens": lines.speed_against_price,
}
"""What speed is drawn against."""


def _fronts(cells: dict[str, list[str]], good: list[int]) -> list[Picture]:
    """Speed of a user against throughput of a chip, and against price, of all rows that have them."""
    found: list[Picture] = []
    for column, draw in FRONTS.items():
        points = [point for i in good if (point := _front_point(cells, column, i)) is not None]
        if points:
            caption = "A line for each machine and model, in the order of the rows."
            found.append(Picture(draw(points), caption))
    return found


def _front_point(cells: dict[str, list[str]], column: str, i: int) -> lines.FrontPoint | None:
    value = number(cells[column][i])
    if not value > 0:
        return None
    speed = float(cells["output_tokens_per_s_per_user"][i])
    chip = cells.get("chip", [""] * (i + 1))[i] or "pools"
    name = f"{float(cells['n_chips'][i]):g} x {chip}, {cells['model'][i]}"
    return lines.FrontPoint(name, speed, value, f"{cell(cells['concurrency'][i])} users")
