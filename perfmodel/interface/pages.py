"""What each command's report says: its tables and pictures on one page."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.files import cells_of, read_csv
from perfmodel.inference.explanation import Explanation, Line, Step
from perfmodel.interface import plots
from perfmodel.interface import reproduce as made
from perfmodel.interface.explain import lines_of, terms_of
from perfmodel.interface.report import MEANING, Page, Picture, Table, money, sources_of
from perfmodel.interface.step_plots import home_of, joules_of, points_of, roof_of, rooms_of
from perfmodel.units import figures

FITTED = (
    "Constants of kernels are fitted to the measurements of aiconfigurator-core 0.12.0 (Apache-2.0) where a "
    "chip has some; other chips take their architecture's or a prior, with wider ranges.",
    "Ranges hold nine of ten held-out rows.",
)
"""What every page of predictions rests on."""


def command() -> list[str]:
    """The command that is running."""
    return ["perfmodel", *sys.argv[1:]]


def drawn(found: Explanation) -> Any:
    """The time of each kernel, by what binds."""
    lines: list[Line] = [line for line in found.lines if line.share > 0.005] or found.lines
    return plots.breakdown([(x.label, x.parts * 1e6) for x in lines], found.title, "us")


def explain_page(found: Explanation, cells: dict[str, str]) -> Page:
    """Where the time, the energy and the memory of one kernel or of a decode step go."""
    first = found.lines[0]
    most = BOUNDS[int(np.sum([line.parts for line in found.lines], axis=0).argmax())]
    said = [
        f"{found.title} takes {figures(found.time * 1e6)} us. Most of it is bound by {most}; "
        f"the slowest is {first.label} with {100 * first.share:.0f} %."
    ]
    parts: list[Table | Picture] = [
        Picture(drawn(found), "Each kernel's time, by what binds it."),
        Table("Kernels", ["kernel", "us", "share", "bound by"], lines_of(found)),
        Table("Terms", ["term", "us", "share"], terms_of(found)),
    ]
    if found.step is not None:
        parts += _step_pictures(found.step)
    named = [cells.get(name, "") for name in ("chip", "model")]
    return Page(found.title, said, parts, FITTED, sources_of(named[:1], named[1:]), command())


def _step_pictures(step: Step) -> list[Picture]:
    name, tier = step.name, home_of(step.cost)
    roof = roof_of(name, step, tier)
    joules = joules_of(step.cost)
    whole = sum(joules.values())
    return [
        Picture(
            plots.roofline([roof], points_of(name, step.cost, tier), "Roofline of the kernels"),
            "Against the memory that holds the weights. Below the line: latency, other limits, or the "
            "share of a peak that is reached.",
        ),
        Picture(
            plots.energy([(name, joules)], f"Energy of the step: {whole:,.3g} J on all chips"),
            "idle: static power while the step runs, as far as it is known.",
        ),
        Picture(
            plots.placement(rooms_of(name, step), "Memory placement per chip"),
            f"Free on each chip: {float(step.cost.placement.slack) / 1e9:,.3g} GB.",
        ),
    ]


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
        f"Kernels of {rows.name}", said, parts, FITTED, sources_of(cells.get("chip", ())), command()
    )


def _measured(cells: dict[str, list[str]], good: list[int]) -> list[Picture]:
    points = []
    for i in good:
        measured = _number(cells["latency_us"][i])
        if measured > 0:
            op, chip = cells["op"][i], cells["chip"][i]
            points.append(plots.Point(chip, op, measured, float(cells["predicted_us"][i])))
    if not points:
        return []
    off = [abs(p.predicted / p.measured - 1) for p in points]
    caption = f"Median error {100 * np.median(off):.1f} %, mean {100 * np.mean(off):.1f} %."
    return [Picture(plots.parity(points, "Predicted and measured"), caption)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


SHOWN = (
    "chip",
    "n_chips",
    "model",
    "isl",
    "osl",
    "concurrency",
    "ttft_ms",
    "tpot_ms",
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
"""Columns of a served row that a page shows; all of them are in the CSV."""


def serving_page(rows: Path, out: Path) -> Page:
    """Served rows: speed against price, and the numbers."""
    cells = cells_of(read_csv(out))
    names = [name for name in SHOWN if name in cells]
    count = len(cells["error"])
    good = [i for i in range(count) if cells["fits"][i] == "true"]
    said = [f"{len(good)} of {count} rows of {rows.name} are served by machines on which they fit."]
    parts: list[Table | Picture] = []
    spots = [spot for i in good if (spot := _spot(cells, i)) is not None]
    if spots:
        axes = ("tokens/s for one user", "USD per million output tokens")
        parts.append(
            Picture(
                plots.front(spots, "Speed against price", axes),
                "A line for each machine and model, in the order of the rows.",
            )
        )
    table = [tuple(_short(cells[name][i]) for name in names) for i in range(count)]
    parts.append(Table("Rows", names, table))
    chips = {*cells.get("chip", ()), *cells.get("decode_chip", ()), *cells.get("prefill_chip", ())}
    sources = sources_of(sorted(chips), sorted(set(cells["model"])))
    return Page(
        f"Service of {rows.name}", said, parts, (*MEANING, money(), *FITTED), sources, command()
    )


def _spot(cells: dict[str, list[str]], i: int) -> plots.Spot | None:
    price = _number(cells["usd_per_million_output_tokens"][i])
    if not price > 0:
        return None
    speed = float(cells["output_tokens_per_s_per_user"][i])
    chip = cells.get("chip", [""] * (i + 1))[i] or "pools"
    name = f"{float(cells['n_chips'][i]):g} x {chip}, {cells['model'][i]}"
    return plots.Spot(name, speed, price, f"{_short(cells['concurrency'][i])} users")


def _short(text: str) -> str:
    value = _number(text)
    if not np.isfinite(value):
        return text
    return figures(value)


def reproduce_page(report: dict[str, Any], rows: Sequence[made.Comparison]) -> Page:
    """Published and measured results beside predictions."""
    tables = [Table(*table) for table in made.tables_of(report)]
    known = [row for row in rows if np.isfinite(row.predicted)]
    said = [f"{len(known)} published and measured results of {len(rows)} beside predictions."]
    pictures = [
        Picture(plots.parity(points, name, "chip", unit))
        for name, (unit, points) in _by_set(known).items()
    ]
    parts = [*tables, *pictures]
    chips = sorted({row.words[0] for row in known})
    models = sorted({row.words[1] for row in known})
    return Page(
        "Published results beside predictions",
        said,
        parts,
        (*MEANING, *FITTED),
        sources_of(chips, models),
        command(),
    )


DRAWN = 400
"""Points of a set that a page draws, at most."""


def _by_set(known: Sequence[made.Comparison]) -> dict[str, tuple[str, list[plots.Point]]]:
    found: dict[str, tuple[str, list[plots.Point]]] = {}
    for name in dict.fromkeys(row.set for row in known):
        own = [row for row in known if row.set == name]
        step = max(1, -(-len(own) // DRAWN))
        unit = "tokens/s" if "TPOT" not in own[0].group else "s a token"
        points = [plots.Point(r.group, r.words[0], r.published, r.predicted) for r in own[::step]]
        found[name] = (unit, points)
    return found
