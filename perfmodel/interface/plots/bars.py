"""Bars: where time, energy, room, area and money go, and what moves a result."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.breakdown import BOUNDS
from perfmodel.interface.plots import theme

BAR_HEIGHT, NARROW_BAR_HEIGHT = 44, 28
"""Height of a bar with the space around it, in pixels: of few, and of more than `MAX_WIDE_BARS`."""

MAX_WIDE_BARS = 5

Parts = Sequence[tuple[str, Mapping[str, float]]]
"""Names, and for each its parts by name."""


def stacked(rows: Parts, colours: Mapping[str, str], title: str, axis: str, legend: str) -> Any:
    """Stacked bars: for each name its parts, in the order and the colours of `colours`.

    **Arguments:**

    - `axis`: title of the axis, with its unit.
    - `legend`: what the colours tell.
    """
    alt = theme.altair()
    nameless = {part for _, parts in rows for part in parts} - set(colours)
    assert not nameless, f"{sorted(nameless)} would be left out: they have no colour"
    values = [
        {"name": name, "part": part, "amount": float(parts[part]), "order": order}
        for name, parts in rows
        for order, part in enumerate(colours)
        if parts.get(part)
    ]
    bars = alt.Chart(theme.rows_of(values), title=title).mark_bar(stroke="white", strokeWidth=0.5)
    return bars.encode(
        y=_names([name for name, _ in rows]),
        x=alt.X("amount:Q", title=axis, axis=alt.Axis(tickCount=8)),
        color=theme.coloured("part", colours, values, legend),
        order="order:Q",
        tooltip=["name:N", "part:N", theme.tooltip("amount", axis)],
    ).properties(width=theme.WIDTH, height=_height(len(rows)))


def _names(names: Sequence[str]) -> Any:
    """Names down the side, in their order."""
    alt = theme.altair()
    return alt.Y("name:N", title=None, sort=names, axis=alt.Axis(labelLimit=240))


def breakdown(rows: Sequence[tuple[str, Iterable[float]]], title: str, unit: str = "ms") -> Any:
    """Time by what binds.

    **Arguments:**

    - `rows`: names, and for each the times of `BOUNDS` in `unit`.
    """
    parts = [(name, dict(zip(BOUNDS, map(float, times), strict=True))) for name, times in rows]
    return stacked(parts, theme.COLOURS, title, f"time ({unit})", "bound by")


def energy(rows: Parts, title: str, unit: str = "J") -> Any:
    """Energy by term of `JOULES`."""
    return stacked(rows, theme.ENERGY_COLOURS, title, f"energy ({unit})", "spent on")


DIE_COLOURS = {
    "compute": "#4477AA",
    "SRAM": "#228833",
    "SRAM ports": "#66CCEE",
    "memory interface": "#CCBB44",
    "links": "#AA3377",
    "fixed": "#7777BB",
    "unused": "#DDDDDD",
}


def floorplans(rows: Parts, title: str) -> Any:
    """How each chip's die is spent, in mm2 by `DIE_COLOURS`, as bars side by side."""
    return stacked(rows, DIE_COLOURS, title, "die area (mm2)", "spent on")


class Effect(NamedTuple):
    """What moves a result: its name, and the change in % when it is lower and when it is higher."""

    name: str
    lower: float
    higher: float


def tornado(effects: Sequence[Effect], title: str, axis: str, step: str = "10 %") -> Any:
    """Sensitivities, the strongest above.

    **Arguments:**

    - `axis`: what changes, with its unit.
    - `step`: by how much each is made lower and higher.
    """
    alt = theme.altair()
    order = sorted(effects, key=lambda one: -max(abs(one.lower), abs(one.higher)))
    values = [
        {"name": one.name, "move": f"{word} by {step}", "change": change}
        for one in order
        for word, change in (("lower", one.lower), ("higher", one.higher))
    ]
    colours = {f"lower by {step}": "#EE8866", f"higher by {step}": "#4477AA"}
    chart = alt.Chart(theme.rows_of(values), title=title)
    bars = chart.mark_bar(height=14).encode(
        y=_names([one.name for one in order]),
        x=alt.X("change:Q", title=axis, stack=None, axis=alt.Axis(tickCount=8)),
        yOffset=alt.YOffset("move:N", sort=list(colours)),
        color=theme.coloured("move", colours, values, "made"),
        tooltip=["name:N", "move:N", theme.tooltip("change", axis, "+.3g")],
    )
    zero = chart.mark_rule(color=theme.INK).encode(x=alt.datum(0))
    height = BAR_HEIGHT * max(len(order), 2)
    return alt.layer(bars, zero).properties(width=theme.WIDTH, height=height)


LABEL_HEADROOM = 1.1
"""How far an axis goes beyond the highest bar, for the label above it."""


def _height(count: int) -> int:
    """Of a picture with some bars, in pixels."""
    each = BAR_HEIGHT if count <= MAX_WIDE_BARS else NARROW_BAR_HEIGHT
    return max(each * count, 2 * BAR_HEIGHT)
