"""Maps: who wins where, and how a die is spent."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.interface.plots import theme
from perfmodel.interface.plots.bars import DIE_COLOURS


class Cell(NamedTuple):
    """A place of a map: its two coordinates, who wins there, by which factor over the next."""

    x: float
    y: float
    winner: str
    factor: float


def crossover(cells: Sequence[Cell], title: str, axes: tuple[str, str]) -> Any:
    """Who wins where: the stronger the colour, the clearer; twice as good is full colour.

    In grey print the mark in a cell tells who wins.

    **Arguments:**

    - `axes`: titles of both axes, with their units.
    """
    alt = theme.altair()
    names = list(dict.fromkeys(cell.winner for cell in cells))
    values = [
        cell._asdict()
        | {"strength": min(max(cell.factor - 1, 0.0), 1.0), "text": _times(cell.factor)}
        for cell in cells
    ]
    ordinal = {"type": "ordinal"}
    label = alt.Axis(labelAngle=0, labelExpr="format(datum.value, ',')", grid=False)
    colour, shape, _ = theme.chip_scales(names, "best", "winner")
    base = alt.Chart(theme.rows_of(values), title=title).encode(
        x=alt.X("x", title=axes[0], axis=label, **ordinal),
        y=alt.Y("y", title=axes[1], axis=label, sort="descending", **ordinal),
    )
    tiles = base.mark_rect(stroke="white").encode(
        color=colour,
        opacity=alt.Opacity(
            "strength:Q", scale=alt.Scale(domain=[0, 1], range=[0.35, 1]), legend=None
        ),
        tooltip=["winner:N", theme.tooltip("factor", "times the next")],
    )
    columns, lines = (len({cell[i] for cell in cells}) for i in (0, 1))
    few = columns <= 14
    text = base.mark_text(fontSize=10, dy=5, color="black").encode(text="text:N")
    marks = base.mark_point(size=22, yOffset=-7, filled=True, color="black").encode(shape=shape)
    layers = [tiles, marks, text] if few else [tiles]
    return alt.layer(*layers).properties(
        width=theme.WIDTH, height=max(theme.HEIGHT, 26 * min(lines, 20))
    )


def _times(factor: float) -> str:
    return f"{factor:.1f}" if factor < 10 else f"{factor:,.0f}"


def floorplan(areas: Mapping[str, float], title: str, aspect: float = 26 / 33) -> Any:
    """A die drawn to scale: its parts as tiles, by area.

    **Arguments:**

    - `areas`: in mm2, of `DIE_COLOURS`; parts of no area are left out.
    - `aspect`: width over height of the die; a reticle's if not given.
    """
    alt = theme.altair()
    die_area = sum(areas.values())
    width, height = (die_area * aspect) ** 0.5, (die_area / aspect) ** 0.5
    order = sorted(((n, a) for n, a in areas.items() if a > 0), key=lambda one: -one[1])
    values = _tiles(order, 0.0, 0.0, width, height)
    colours = DIE_COLOURS | {part: "#7777BB" for part, _ in order if part not in DIE_COLOURS}
    side = {"scale": alt.Scale(nice=False, zero=True), "axis": alt.Axis(grid=False)}
    chart = alt.Chart(theme.rows_of(values), title=title)
    tiles = chart.mark_rect(stroke="white", strokeWidth=2).encode(
        x=alt.X("left:Q", title="mm", **side),
        x2="right:Q",
        y=alt.Y("low:Q", title="mm", **side),
        y2="high:Q",
        color=theme.coloured("part", colours, values, "part").legend(symbolType="square"),
        tooltip=["part:N", theme.tooltip("area", "mm2")],
    )
    labels = chart.mark_text(fontSize=11, lineBreak="\n").encode(
        x="middle:Q", y="centre:Q", text="label:N", color=alt.Color("ink:N", scale=None)
    )
    return alt.layer(tiles, labels).properties(width=340 * aspect, height=340)


LIGHT_PARTS = ("SRAM ports", "memory interface", "unused")
"""Parts on whose colour black is read better than white."""


def _ink(part: str) -> str:
    return "black" if part in LIGHT_PARTS else "white"


MIN_LABELLED_SHARE = 0.03
"""Share of a die below which a tile is not named in the drawing; the legend and theme.tooltip name it."""


def _tiles(
    parts: Sequence[tuple[str, float]], left: float, low: float, width: float, height: float
) -> list[dict[str, Any]]:
    """Cut the rectangle into the parts: each from the longer side of what is left."""
    found, die_area = [], sum(area for _, area in parts)
    left_area = die_area
    for part, area in parts:
        share = area / left_area
        across = width >= height
        own = (width * share, height) if across else (width, height * share)
        label = f"{part}\n{area:,.0f} mm2" if area > MIN_LABELLED_SHARE * die_area else ""
        found.append(
            {"part": part, "area": area, "label": label, "ink": _ink(part)}
            | {"left": left, "right": left + own[0], "low": low, "high": low + own[1]}
            | {"middle": left + own[0] / 2, "centre": low + own[1] / 2}
        )
        left, width = (left + own[0], width - own[0]) if across else (left, width)
        low, height = (low, height) if across else (low + own[1], height - own[1])
        left_area -= area
    return found
