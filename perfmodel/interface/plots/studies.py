"""The figures of studies, drawn from their data (Altair)."""

from typing import Any

from perfmodel.interface.plots import Cell, crossover
from perfmodel.interface.plots.theme import (
    HEIGHT,
    PADDING,
    WIDTH,
    altair,
    chip_scales,
    colours_of,
    rows_of,
)
from perfmodel.studies.claim import Axis, Figure


def draw(figure: Figure) -> Any:
    """A chart of a figure."""
    if figure.mark == "cells":
        return _map(figure)
    layers = {"lines": _lines, "points": _points, "bars": _bars}[figure.mark](figure)
    if figure.rule is not None:
        layers.append(_rule(figure))
    chart = altair().layer(*layers, title=figure.title)
    height = HEIGHT if figure.mark != "bars" else None
    return chart.properties(width=WIDTH, **({"height": height} if height else {}))


def _chart(figure: Figure) -> Any:
    alt = altair()
    return alt.Chart(rows_of(figure.rows))


def _kind(figure: Figure, axis: Axis) -> str:
    numbers = all(isinstance(row[axis.column], int | float) for row in figure.rows)
    return f"{axis.column}:{'Q' if numbers else 'N'}"


def _names(figure: Figure, axis: Axis) -> list[str]:
    return list(dict.fromkeys(row[axis.column] for row in figure.rows))


def _scale(axis: Axis) -> Any:
    log = {"type": "log", "nice": False, "padding": PADDING}
    return altair().Scale(**(log if axis.log else {"nice": True}))


def _place(figure: Figure, axis: Axis, channel: Any) -> Any:
    field = _kind(figure, axis)
    if field.endswith(":N"):
        title, order = axis.label or None, _names(figure, axis)
        return channel(field, title=title, sort=order, axis=altair().Axis(labelLimit=400))
    return channel(field, title=axis.label, scale=_scale(axis))


def _colour(figure: Figure) -> Any:
    """Names get a colour each, numbers a scale."""
    alt, field = altair(), _kind(figure, figure.colour)
    if field.endswith(":Q"):
        kind = "log" if figure.colour.log else "linear"
        scale = alt.Scale(type=kind, scheme="viridis")
        return alt.Color(field, title=figure.colour.label, scale=scale)
    domain = _names(figure, figure.colour)
    scale = alt.Scale(domain=domain, range=colours_of(domain))
    legend = alt.Legend(
        labelLimit=320, symbolOpacity=1, symbolStrokeWidth=0
    )  # also where a band is pale
    return alt.Color(field, title=figure.colour.label, scale=scale, legend=legend)


def _axes(figure: Figure) -> dict[str, Any]:
    alt = altair()
    return {
        "x": _place(figure, figure.x, alt.X),
        "y": _place(figure, figure.y, alt.Y),
        "color": _colour(figure),
    }


def _lines(figure: Figure) -> list[Any]:
    chart, axes = _chart(figure), _axes(figure)
    names = _names(figure, figure.colour)
    _, shape, dash = chip_scales(names, figure.colour.label, figure.colour.column)
    dots = chart.mark_point(filled=True, size=40, opacity=1).encode(**axes, shape=shape)
    layers = [chart.mark_line(strokeWidth=2).encode(**axes, strokeDash=dash), dots]
    if figure.band is not None:
        alt, (low, high) = altair(), figure.band
        edge = alt.Y(f"{low}:Q", scale=_scale(figure.y), title=figure.y.label)
        edges = axes | {"y": edge, "y2": alt.Y2(f"{high}:Q")}
        layers.insert(0, chart.mark_area(opacity=0.15).encode(**edges))
    return layers


def _points(figure: Figure) -> list[Any]:
    chart, axes = _chart(figure), _axes(figure)
    layers = [chart.mark_point(filled=True, size=70, opacity=0.85).encode(**axes)]
    if figure.band is not None:
        layers.insert(0, _spread(figure, axes))
    return layers


def _spread(figure: Figure, axes: dict[str, Any]) -> Any:
    """The band as a line across each point or bar, along the axis of numbers."""
    alt, (low, high) = altair(), figure.band or ("", "")
    along = "x" if _kind(figure, figure.y).endswith(":N") else "y"
    first, second = {"x": (alt.X, alt.X2), "y": (alt.Y, alt.Y2)}[along]
    axis = getattr(figure, along)
    edges = axes | {
        along: first(f"{low}:Q", scale=_scale(axis), title=axis.label),
        f"{along}2": second(f"{high}:Q"),
    }
    return _chart(figure).mark_rule(strokeWidth=2).encode(**edges)


def _bars(figure: Figure) -> list[Any]:
    axes = _axes(figure)
    layers = [_chart(figure).mark_bar().encode(**axes)]
    if figure.band is not None:
        layers.append(_spread(figure, axes | {"color": altair().value("black")}))
    return layers


def _map(figure: Figure) -> Any:
    """Who wins where: `factor` of a row is how many times the next."""
    columns = (figure.x.column, figure.y.column, figure.colour.column, "factor")
    cells = [Cell(*(row[column] for column in columns)) for row in figure.rows]
    return crossover(cells, figure.title, (figure.x.label, figure.y.label))


def _rule(figure: Figure) -> Any:
    alt = altair()
    chart = alt.Chart(rows_of([{"at": figure.rule}]))
    along = "x" if _kind(figure, figure.y).endswith(":N") else "y"
    place = {"x": alt.X, "y": alt.Y}[along]
    return chart.mark_rule(strokeDash=[4, 4], color="black").encode(**{along: place("at:Q")})
