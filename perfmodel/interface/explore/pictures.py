"""The pictures of the explorer."""

import math
from collections.abc import Sequence
from typing import Any

from perfmodel.design.variables import CHIP_VARIABLES
from perfmodel.inference.explanation import Step
from perfmodel.interface import plots
from perfmodel.interface.explore.machines import KNOB_CHANGE, View
from perfmodel.interface.plots.steps import joules_of, step_rooflines

SPEED = "tokens/s for one user"
PRICE = "USD per million output tokens"
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
        moves(named, "dollars"),
        times(named),
        moves(named, "tpot"),
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
    spots = []
    for view in views:
        points = {point.users: point for point in (*view.loads, view.here) if not point.short}
        for count in sorted(points):
            value = float(getattr(points[count], other))
            spot = plots.Spot(view.name, points[count].speed, value, f"{count:,.0f} users")
            spots += [spot] if math.isfinite(value) else []
    title = f"Speed against {'price' if other == 'dollars' else 'energy'}, 1 to 1,024 users"
    axes = (SPEED, PRICE if other == "dollars" else ENERGY)
    return plots.front(spots, title, axes, f"{users:,} users", inside=inside)


def times(views: Sequence[View]) -> Any:
    """Where the time of a decode step goes."""
    rows = [(view.name, view.bounds * 1e3) for view in views]
    return plots.breakdown(rows, "Where the time of a decode step goes")


def tornado(view: View, other: str = "tpot") -> Any:
    """What each knob does to the time of a token, or to its price."""
    which = 0 if other == "tpot" else 1
    effects = [
        plots.Effect(CHIP_VARIABLES[name].label, 100 * moves[which][0], 100 * moves[which][1])
        for name, moves in view.moves.items()
        if all(math.isfinite(change) for change in moves[which])
    ]
    word = "time" if other == "tpot" else "price"
    return plots.tornado(
        effects,
        f"{view.name}: what moves the {word} of a token",
        f"change of the {word} of a token (%)",
        f"{100 * KNOB_CHANGE:.0f} %",
    )


def moves(views: Sequence[View], other: str = "tpot") -> Any:
    """What each knob does to the time of a token, or to its price, on all machines."""
    which, word = (0, "time") if other == "tpot" else (1, "price")
    rows = [
        plots.Move(
            view.name, CHIP_VARIABLES[name].label, *(100 * change for change in found[which])
        )
        for view in views
        for name, found in view.moves.items()
        if all(math.isfinite(change) for change in found[which]) and any(found[which])
    ]
    step = f"{100 * KNOB_CHANGE:.0f} %"
    return plots.moves(
        rows,
        f"What {step} less and {step} more (the mark) do to the {word}",
        f"change of the {word} of a token (%)",
        [view.name for view in views],
        legend=False,
    )


def stuck(view: View) -> list[str]:
    """Knobs that, turned down, leave no room for the model."""
    return [
        CHIP_VARIABLES[name].label
        for name, moves in view.moves.items()
        if not all(math.isfinite(change) for pair in moves for change in pair)
    ]


def kernels(steps: Sequence[Step]) -> Any:
    """Kernels of a decode step and the rooflines of their chips."""
    plain = [step.name for step in steps]
    names = [f"{name}, {i + 1}" if plain.count(name) > 1 else name for i, name in enumerate(plain)]
    named = list(zip(names, steps, strict=True))
    return step_rooflines(named, "Kernels of a decode step: rooflines")


def energies(names: Sequence[str], steps: Sequence[Step], users: int) -> Any:
    """Where the energy of a decode step goes, for each of its tokens."""
    rows = [
        (name, {term: joules / users for term, joules in joules_of(step.cost).items()})
        for name, step in zip(names, steps, strict=True)
    ]
    return plots.energy(rows, "Where the energy of a decode step goes", "J for each token")
