"""The figures of studies, drawn from their data (Altair)."""

from typing import Any

from perfmodel.interface.plots import theme
from perfmodel.interface.plots.maps import Cell, crossover
from perfmodel.studies.claim import Axis, Figure


def draw(figure: Figure) -> Any:
    """A chart of a figure."""
    if figure.mark == "cells":
        return _map(figure)
    alt = theme.altair()
    places = {"x": _place(figure, figure.x, alt.X), "y": _place(figure, figure.y, alt.Y)}
    layers = LAYERS[figure.mark](figure, places | {"color": _colour(figure)})
    if figure.rule is not None:
        layers.append(_rule(figure))
    chart = alt.layer(*layers, title=figure.title)
    return chart.properties(
        width=theme.WIDTH, **({} if figure.mark == "bars" else {"height": theme.HEIGHT})
    )


def _chart(figure: Figure) -> Any:
    return theme.altair().Chart(theme.rows_of(figure.rows))


def _kind(figure: Figure, axis: Axis) -> str:
    numbers = all(isinstance(row[axis.column], int | float) for row in figure.rows)
    return f"{axis.column}:{'Q' if numbers else 'N'}"


def _names(figure: Figure, axis: Axis) -> list[str]:
    return list(dict.fromkeys(row[axis.column] for row in figure.rows))


def _scale(axis: Axis) -> Any:
    return theme.log_scale(padding=theme.PADDING) if axis.log else theme.altair().Scale(nice=True)


def _place(figure: Figure, axis: Axis, channel: Any) -> Any:
    field = _kind(figure, axis)
    if field.endswith(":N"):
        title, order = axis.label or None, _names(figure, axis)
        return channel(field, title=title, sort=order, axis=theme.altair().Axis(labelLimit=400))
    return channel(field, title=axis.label, scale=_scale(axis))


def _colour(figure: Figure) -> Any:
    """Names get a colour each, numbers a scale."""
    alt, field = theme.altair(), _kind(figure, figure.colour)
    if field.endswith(":Q"):
        kind = "log" if figure.colour.log else "linear"
        scale = alt.Scale(type=kind, scheme="viridis")
        return alt.Color(field, title=figure.colour.label, scale=scale)
    colour, *_ = _scales(figure)
    plain = {"symbolOpacity": 1, "symbolStrokeWidth": 0}  # also where a band is pale
    return colour.legend(labelLimit=320, **plain)


def _scales(figure: Figure) -> tuple[Any, Any, Any]:
    axis = figure.colour
    return theme.chip_scales(_names(figure, axis), axis.label, axis.column)


def _lines(figure: Figure, axes: dict[str, Any]) -> list[Any]:
    chart = _chart(figure)
    _, shape, dash = _scales(figure)
    return [
        *_band(figure, axes, chart.mark_area(opacity=0.15)),
        chart.mark_line(strokeWidth=2).encode(**axes, strokeDash=dash),
        chart.mark_point(filled=True, size=40, opacity=1).encode(**axes, shape=shape),
    ]


def _points(figure: Figure, axes: dict[str, Any]) -> list[Any]:
    chart = _chart(figure)
    dots = chart.mark_point(filled=True, size=70, opacity=0.85).encode(**axes)
    return [*_band(figure, axes, chart.mark_rule(strokeWidth=2)), dots]


def _bars(figure: Figure, axes: dict[str, Any]) -> list[Any]:
    chart, black = _chart(figure), axes | {"color": theme.altair().value("black")}
    bars = chart.mark_bar().encode(**axes)
    return [bars, *_band(figure, black, chart.mark_rule(strokeWidth=2))]


LAYERS = {"lines": _lines, "points": _points, "bars": _bars}
"""What each mark is drawn of."""


def _band(figure: Figure, axes: dict[str, Any], mark: Any) -> list[Any]:
    """The band from edge to edge, along the axis of numbers, where there is one."""
    if figure.band is None:
        return []
    along, (low, high) = _along(figure), figure.band
    axis, channel = getattr(figure, along), getattr(theme.altair(), along.upper())
    edge = channel(f"{low}:Q", scale=_scale(axis), title=axis.label)
    return [mark.encode(**axes | {along: edge, f"{along}2": f"{high}:Q"})]


def _along(figure: Figure) -> str:
    """The axis of numbers."""
    return "x" if _kind(figure, figure.y).endswith(":N") else "y"


def _map(figure: Figure) -> Any:
    """Who wins where: `factor` of a row is how many times the next."""
    columns = (figure.x.column, figure.y.column, figure.colour.column, "factor")
    cells = [Cell(*(row[column] for column in columns)) for row in figure.rows]
    return crossover(cells, figure.title, (figure.x.label, figure.y.label))


def _rule(figure: Figure) -> Any:
    line = theme.altair().Chart(theme.rows_of([{"at": figure.rule}]))
    return line.mark_rule(strokeDash=[4, 4], color="black").encode(**{_along(figure): "at:Q"})
