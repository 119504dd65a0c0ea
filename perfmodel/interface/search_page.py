"""The page of a search: the design as a floorplan, what binds, what limits and variables are worth."""

from typing import Any

import numpy as np

from perfmodel.design.answer import Answer, objective, vector
from perfmodel.design.space import shown
from perfmodel.interface import plots
from perfmodel.interface.pages import command
from perfmodel.interface.report import Page, Picture, Table, money, sources_of

Rows = tuple[list[str], list[tuple[str, ...]]]

ASSUMED = (
    "A searched chip has the cores, links and fitted parameters of its base, as many as its compute "
    "asks for; area, power, yield and cost follow the constants of calibration/fitted/technology.toml.",
    "Schedules are the best that the hardware allows, without a framework's rules.",
)


def page(
    title: str,
    found: Answer,
    report: dict[str, Any],
    design: Rows,
    prices: Rows,
    front: list[dict[str, Any]],
) -> Page:
    """What `report.html` says."""
    parts: list[Table | Picture] = [Table("The design found", *design)]
    names = ["prefill", "decode"] if len(report["chips"]) == 2 else ["the chip"]
    for name, chip in zip(names, report["chips"], strict=True):
        caption = f"{name}: {chip['area_mm2']:,.0f} mm2, drawn to scale."
        parts.append(Picture(plots.floorplan(chip["areas_mm2"], name), caption))
    parts.append(Table("What limits are worth", *prices, note=WORTH))
    parts.append(Picture(_elasticities(report), "The objective where one variable changes alone."))
    if front:
        parts += _front(found, front)
    parts.append(_optima(found))
    loads = [load.model for load in found.study.workload]
    sources = sources_of([found.study.space.base], loads)
    return Page(f"Search: {title}", _said(report), parts, (*ASSUMED, money()), sources, command())


WORTH = (
    "Gain of the objective for one percent more of a limit; in USD: what one more unit saves over the life "
    "of one chip, where the objective is money."
)


def _said(report: dict[str, Any]) -> list[str]:
    rounding, gap = 100 * report["loss_of_rounding"], 100 * report["gap_of_smoothing"]
    said = [
        f"The objective is {report['objective']:,.4g} at the best of {report['local_optima']} designs "
        f"that keep every limit. Whole numbers of things cost {rounding:.2f} %; in whole tiles, waves and "
        f"cores it is {report['objective_exact']:,.4g} ({gap:+.2f} %)."
    ]
    if report["stopped"]:
        said.append("The search was stopped before its end.")
    return said


def _elasticities(report: dict[str, Any]) -> Any:
    step = np.log(1.1)
    effects = [
        plots.Effect(name, 100 * np.expm1(-e * step), 100 * np.expm1(e * step))
        for name, e in report["elasticities"].items()
    ]
    return plots.tornado(effects, "What moves the objective", "better by (%)")


def _front(found: Answer, rows: list[dict[str, Any]]) -> list[Table | Picture]:
    """The front, a line for each technology, and its points."""
    name, goal = str(found.study.objective.front), " and ".join(found.study.objective.weights)
    spots = [
        plots.Spot(f"{row['node']}, {row['memory']}", row[name], row["objective"]) for row in rows
    ]
    cells = [[_cell(value) for value in row.values()] for row in rows]
    caption = "Numbers of things are loose along the front."
    return [
        Picture(plots.front(spots, "What one costs in the other", (name, goal)), caption),
        Table("Front", list(rows[0]), cells),
    ]


def _cell(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _optima(found: Answer) -> Table:
    """The local optima, told apart by a percent of any variable."""
    seen: list[np.ndarray] = []
    for one in found.result.designs:
        if all(np.max(np.abs(one.unit - other)) > 0.01 for other in seen):
            seen.append(one.unit)
    rows = []
    for unit in seen[:20]:
        one = next(d for d in found.result.designs if d.unit is unit)
        values = shown(found.space, vector(found.space, unit)).values()
        rows.append((f"{objective(found.study, one.value):,.5g}", *(f"{v:,.4g}" for v in values)))
    return Table("Local optima", ["objective", *found.space.names], rows)
