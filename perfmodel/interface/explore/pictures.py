"""The pictures of the explorer."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.design.variables import CHIP_VARIABLES
from perfmodel.inference.explanation import Step
from perfmodel.interface.explore.machines import KNOB_CHANGE, View
from perfmodel.interface.plots import bars, lines, sensitivities, theme
from perfmodel.interface.plots.lines import PRICE, SPEED
from perfmodel.interface.plots.steps import joules_of, step_rooflines

ENERGY = "energy (J for an output token)"


OVERVIEW_HEIGHT = 265
"""Height in pixels of one of four pictures that are seen at once."""


def overview(views: Sequence[View], users: int) -> list[Any]:
    """What moves at once when something is dragged: the front, what binds, and the sensitivities."""
    named = [
        view._replace(name=name)
        for view, name in zip(views, short_names([view.name for view in views]), strict=True)
    ]
    charts = [
        front(named, users, inside=True),
        tornado_of_all(named, "dollars"),
        times(named),
        tornado_of_all(named, "tpot"),
    ]
    return [chart.properties(height=OVERVIEW_HEIGHT) for chart in charts]


def short_names(names: Sequence[str]) -> list[str]:
    """Names without what was changed; those which are then alike say which machine they are."""
    plain = [name.partition(" (")[0] for name in names]
    return [
        f"{name}, machine {i + 1}" if plain.count(name) > 1 else name
        for i, name in enumerate(plain)
    ]


def front(views: Sequence[View], users: int, other: str = "dollars", inside: bool = False) -> Any:
    """Speed of a user against price or energy, for 1 to 1,024 users; large where one stands."""
    found = []
    for view in views:
        points = {point.concurrency: point for point in (*view.loads, view.here) if not point.short}
        for count in sorted(points):
            value = float(getattr(points[count], other))
            point = lines.FrontPoint(view.name, points[count].speed, value, f"{count:,.0f} users")
            found += [point] if math.isfinite(value) else []
    title = f"Speed against {'price' if other == 'dollars' else 'energy'}, 1 to 1,024 users"
    axes = (SPEED, PRICE if other == "dollars" else ENERGY)
    return lines.front(found, title, axes, f"{users:,} users", inside=inside)


PROMPTS = "prompts"
"""What a token waits for while the machine reads prompts of others."""

TOKEN_COLOURS = theme.COLOURS | {PROMPTS: "#EE8866"}


def times(views: Sequence[View]) -> Any:
    """Where the time of a token goes: its decode step by what binds, then prompts; together its TPOT."""
    names = short_names([view.name for view in views])
    rows = [(name, parts_of_token(view)) for name, view in zip(names, views, strict=True)]
    title = "Where the time of a token goes (TPOT)"
    return bars.stacked(rows, TOKEN_COLOURS, title, "time (ms)", "bound by")


def parts_of_token(view: View) -> dict[str, float]:
    """Milliseconds of a token that sum to its TPOT; overlapping launches take from all parts alike."""
    step = float(view.bounds.sum())
    shown = np.maximum(view.bounds, 0.0)
    shown *= min(step, view.here.tpot) / shown.sum()
    parts = dict(zip(BOUNDS, map(float, 1e3 * shown), strict=True))
    return parts | {PROMPTS: 1e3 * max(view.here.tpot - step, 0.0)}


RESULT_NAMES = {"tpot": "time", "dollars": "price"}
"""What the knobs move, in words."""

STEP = f"{100 * KNOB_CHANGE:.0f} %"


def tornado(view: View, result: str) -> Any:
    """What each knob does to the time of a token, or to its price."""
    effects = [bars.Effect(*change) for change in _changes(view, result)]
    title = f"{view.name}: what moves the {RESULT_NAMES[result]} of a token"
    return bars.tornado(effects, title, _axis(result), STEP)


def tornado_of_all(views: Sequence[View], result: str) -> Any:
    """The same on all machines."""
    rows = [
        sensitivities.Sensitivity(view.name, label, lower, higher)
        for view in views
        for label, lower, higher in _changes(view, result)
        if lower or higher
    ]
    title = f"Effect of -{STEP} and +{STEP} (the mark) on the {RESULT_NAMES[result]}"
    names = [view.name for view in views]
    return sensitivities.sensitivities(rows, title, _axis(result), names, legend=False)


def _changes(view: View, result: str) -> list[tuple[str, float, float]]:
    """Knobs, and the change in % when they are turned down and up; without those that leave no room."""
    return [
        (CHIP_VARIABLES[knob].label, 100 * lower, 100 * higher)
        for knob, (lower, higher) in view.sensitivities[result].items()
        if math.isfinite(lower) and math.isfinite(higher)
    ]


def _axis(result: str) -> str:
    return f"change of the {RESULT_NAMES[result]} of a token (%)"


def knobs_out_of_memory(view: View) -> list[str]:
    """Knobs that, turned down, leave no room for the model."""
    return [
        variable.label
        for knob, variable in CHIP_VARIABLES.items()
        if not all(
            math.isfinite(x) for changes in view.sensitivities.values() for x in changes[knob]
        )
    ]


def kernels(steps: Sequence[Step]) -> Any:
    """Kernels of a decode step and the rooflines of their chips."""
    named = list(zip(short_names([step.name for step in steps]), steps, strict=True))
    return step_rooflines(named, "Kernels of a decode step: rooflines")


def energies(names: Sequence[str], steps: Sequence[Step], users: int) -> Any:
    """Where the energy of a decode step goes, for each of its tokens."""
    rows = [
        (name, {term: joules / users for term, joules in joules_of(step.cost).items()})
        for name, step in zip(names, steps, strict=True)
    ]
    return bars.energy(rows, "Where the energy of a decode step goes", "J for each token")
