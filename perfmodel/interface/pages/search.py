"""The page of a search: the design drawn, what binds it, what limits and facts are worth, existing chips."""

from typing import Any

import numpy as np

from perfmodel.design.problem import workloads_of
from perfmodel.design.report import SearchReport
from perfmodel.inference.explanation import Step, explain_step, step_of
from perfmodel.interface import search_tables
from perfmodel.interface.pages.explain import kernel_times
from perfmodel.interface.pages.page import Page, Picture, sources_of, usd_note
from perfmodel.interface.plots import bars, lines, maps
from perfmodel.interface.plots.steps import step_rooflines
from perfmodel.interface.tables import Table
from perfmodel.units import as_scalar, as_values, figures

Parts = list[Table | Picture]

ASSUMPTIONS = (
    "A searched chip has the cores, links and fitted parameters of its base, as many as its compute "
    "asks for; area, power, yield and cost follow the constants of calibration/fitted/technology.toml.",
    "Schedules are the best that the hardware allows, without a framework's rules.",
    "Chips that are sold are priced by the same laws: what dies and memory cost to make, and one margin.",
)


def search_page(
    title: str, found: SearchReport, report: dict[str, Any], front: list[dict[str, Any]]
) -> Page:
    """What `report.html` says."""
    first, *rest = search_tables.tables(report, MAX_ROWS, MAX_ROWS)
    caption = "The objective where one variable changes alone, and where one fact does and the design adapts."
    parts: Parts = [
        first,
        *_floorplans(report),
        *_step(found),
        *rest,
        Picture(_elasticities(report), caption),
        *_existing_chips(report),
        *_front(found, front),
        *_winner_maps(report),
        _local_optima(found),
    ]
    loads = [load.model for load in found.study.workload]
    sources = sources_of([found.study.space.base], loads)
    return Page(
        f"Search: {title}",
        _summary(report),
        parts,
        (*ASSUMPTIONS, usd_note((found.study.objective.cost_basis,))),
        sources,
    )


MAX_ROWS = 30
"""Rows of chips and of facts that the page has."""


def _summary(report: dict[str, Any]) -> list[str]:
    rounding = round(100 * report["loss_of_rounding"], 2) + 0.0  # not -0.00
    gap = 100 * report["gap_of_smoothing"]
    name, count = search_tables.objective_name(report), report["local_optima"]
    said = [
        *search_tables.better_existing(report),
        f"{name} is {figures(report['objective'])} at the best of {count} designs that keep every limit. "
        f"Whole numbers of things cost {rounding:.2f} %; in whole tiles, waves and cores it is "
        f"{figures(report['objective_exact'])} ({gap:+.2f} %). Descents are by {report['method']}.",
    ]
    if report["stopped"]:
        said.append("The search was stopped before its end.")
    return said


def _floorplans(report: dict[str, Any]) -> list[Picture]:
    names = ["prefill", "decode"] if len(report["chips"]) == 2 else ["the chip"]
    return [
        Picture(
            maps.floorplan(chip["areas_mm2"], name),
            f"{name}: {chip['area_mm2']:,.0f} mm2, drawn to scale; parts by their area, not their place.",
        )
        for name, chip in zip(names, report["chips"], strict=True)
    ]


def _step(found: SearchReport) -> list[Picture]:
    """Where the time of a decode step of the first workload goes, and its roofline."""
    part = found.assessed().pools[0][-1]
    load = workloads_of(found.problem, as_values(found.best_logarithms))[0]
    context = load.longest if load.output is None else load.longest - load.output / 2
    chip, plan = part.design.chip, part.plan
    cost = step_of(chip, plan, load.model, load.batch / part.workers, as_scalar(context))
    name = f"{float(part.plan.chips):.0f} x this design"
    step = Step(name, chip, plan, cost)
    spent = explain_step(f"A decode step on {name}", step)
    return [
        Picture(kernel_times(spent), "Each kernel's time, by what binds it."),
        Picture(
            step_rooflines([(name, step)], "Roofline"),
            "Against the memory that holds the weights.",
        ),
    ]


MAX_DRAWN_FACTS = 8
"""Facts that are drawn."""


def _elasticities(report: dict[str, Any]) -> Any:
    step = np.log(1.1)
    facts = {
        search_tables.fact_label(name): one["elasticity"]
        for name, one in list(report.get("facts", {}).items())[:MAX_DRAWN_FACTS]
    }
    effects = [
        bars.Effect(name, 100 * np.expm1(-e * step), 100 * np.expm1(e * step))
        for name, e in (report["elasticities"] | facts).items()
    ]
    return bars.tornado(effects, "What moves the objective", "better by (%)")


LIMIT_COLOURS = {"keeps all limits": "#4477AA", "breaks a limit": "#BBBBBB"}


def _existing_chips(report: dict[str, Any]) -> list[Picture]:
    """The design's objective beside that of chips that are sold."""
    if not report.get("rivals"):
        return []
    rows = [("this design", {"keeps all limits": report["objective"]})]
    for one in report["rivals"][:MAX_ROWS]:
        kind = "breaks a limit" if one["broken"] else "keeps all limits"
        rows.append((one["chip"], {kind: one["objective"]}))
    goal = search_tables.objective_name(report)
    chart = bars.stacked(rows, LIMIT_COLOURS, search_tables.EXISTING_CHIPS, goal, "limits")
    return [Picture(chart, "All priced by the same laws, in the same study.")]


def _winner_maps(report: dict[str, Any]) -> list[Picture]:
    return [
        Picture(
            maps.crossover(
                [maps.Cell(**place) for place in one["places"]],
                "SRAM alone against HBM",
                (one["x"], one["y"]),
            ),
            "The chips found, in as many copies as suit each place; a number tells how many times the next "
            "is worse, 100: there is none; no tile: nobody keeps the limits.",
        )
        for one in report.get("maps", [])
        if one["places"]
    ]


def _front(found: SearchReport, rows: list[dict[str, Any]]) -> Parts:
    """The front, a line for each technology, and its points."""
    if not rows:
        return []
    name, goal = str(found.study.objective.front), " and ".join(found.study.objective.weights)
    spots = [
        lines.FrontPoint(f"{row['node']}, {row['memory']}", row[name], row["objective"])
        for row in rows
    ]
    cells = [[_cell(value) for value in row.values()] for row in rows]
    caption = (
        "A line for each node and memory, also where another is better in both (`beaten`); numbers of things "
        "are loose along it."
    )
    return [
        Picture(lines.front(spots, "What one costs in the other", (name, goal)), caption),
        Table("Front", list(rows[0]), cells),
    ]


def _cell(value: Any) -> str:
    return figures(value) if isinstance(value, float) else str(value)


def _local_optima(found: SearchReport) -> Table:
    """The local optima, told apart by a percent of any variable."""
    seen: list[np.ndarray] = []
    for one in found.result.designs:
        if all(np.max(np.abs(one.unit - other)) > 0.01 for other in seen):
            seen.append(one.unit)
    rows = []
    for unit in seen[:20]:
        one = next(d for d in found.result.designs if d.unit is unit)
        values = found.space.in_study_units(unit).values()
        rows.append((f"{found.objective(one.value):,.5g}", *(figures(v) for v in values)))
    return Table("Local optima", ["objective", *found.space.names], rows)
