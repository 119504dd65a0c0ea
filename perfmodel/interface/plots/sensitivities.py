"""What moves a result, of several machines in one picture."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from perfmodel.interface.plots.theme import INK, WIDTH, altair, chip_scales, rows_of

LINE_HEIGHT = 11
"""Height of one machine's line of one fact, in pixels."""

MAX_CHANGE = 20.0
"""Change in % beyond which a line is cut, and says in figures how far it goes."""


class Sensitivity(NamedTuple):
    """What a fact of a machine moves: change in % when it is lower, and when it is higher."""

    name: str
    fact: str
    lower: float
    higher: float


def sensitivities(
    rows: Sequence[Sensitivity], title: str, axis: str, names: Sequence[str], legend: bool = True
) -> Any:
    """For each fact a line for each machine, from what less of it does to what more does: the mark.

    **Arguments:**

    - `rows`: the strongest fact comes first in the picture, whatever their order here.
    - `axis`: what changes, with its unit, and for which step.
    - `names`: all machines, so that each keeps its colour where it has no line.
    - `legend`: whether it says whose a line is; not beside a picture that does.
    """
    alt, facts = altair(), _strongest_first(rows)
    scales = chip_scales(names, "machine")[:2]
    bare = {"symbolStrokeWidth": 0, "labelLimit": 320}
    colour, shape = (one.legend(**bare) if legend else one.legend(None) for one in scales)
    where = {
        "y": alt.Y("fact:N", title=None, sort=facts),
        "yOffset": alt.YOffset("name:N", scale=alt.Scale(domain=list(names))),
        "color": colour,
    }
    values = [row._asdict() for row in rows]
    chart = alt.Chart(rows_of(values), title=title).encode(
        **where, tooltip=["name:N", "fact:N", "lower:Q", "higher:Q"]
    )
    cut = [_cut(row, end) for row in rows for end in row[2:] if abs(end) > MAX_CHANGE]
    scale = alt.Scale(clamp=True, **({"domain": [-MAX_CHANGE, MAX_CHANGE]} if cut else {}))
    x = alt.X("lower:Q", title=axis, scale=scale, axis=alt.Axis(tickCount=6))
    layers = [
        alt.Chart(rows_of([{}])).mark_rule(color=INK).encode(x=alt.datum(0)),
        chart.mark_bar(height=3).encode(x=x, x2="higher:Q"),
        chart.mark_point(filled=True, size=50, opacity=1).encode(x="higher:Q", shape=shape),
        *([_far(cut).encode(**where)] if cut else []),
    ]
    height = len(facts) * (LINE_HEIGHT * len(names) + LINE_HEIGHT)
    return alt.layer(*layers).properties(width=WIDTH, height=height)


def _cut(row: Sensitivity, end: float) -> dict[str, Any]:
    """Where a line is cut, and how far it goes."""
    at = math.copysign(MAX_CHANGE, end)
    return {"name": row.name, "fact": row.fact, "at": at, "text": f"{end:+,.0f}"}


def _far(cut: Sequence[dict[str, Any]]) -> Any:
    """How far lines go that are cut, in figures above their ends."""
    alt = altair()
    right = "datum.at > 0"
    align, dx = alt.expr(f"{right} ? 'right' : 'left'"), alt.expr(f"{right} ? -4 : 4")
    texts = alt.Chart(rows_of(cut)).mark_text(align=align, dx=dx, dy=-7, fontSize=11)
    return texts.encode(x="at:Q", text="text:N")


def _strongest_first(rows: Sequence[Sensitivity]) -> list[str]:
    most: dict[str, float] = {}
    for row in rows:
        most[row.fact] = max(most.get(row.fact, 0.0), abs(row.lower), abs(row.higher))
    return sorted(most, key=lambda fact: -most[fact])
