"""Predicted beside measured."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from perfmodel.interface.plots.theme import HEIGHT, PADDING, PALETTE, altair, log_scale, rows_of


class ParityPoint(NamedTuple):
    """What was measured and predicted: the panel it belongs to, and what its colour tells."""

    panel: str
    kind: str
    measured: float
    predicted: float


def parity(
    points: Sequence[ParityPoint], title: str, kind: str = "kernel", unit: str = "us"
) -> Any:
    """Predicted against measured values, panel beside panel; the line is where they agree."""
    return _beside(points, title, ("predicted", f"predicted ({unit})"), kind, unit)


def residuals(
    points: Sequence[ParityPoint], title: str, kind: str = "kernel", unit: str = "us"
) -> Any:
    """Predicted over measured value, against the measured one; the line is at one."""
    return _beside(points, title, ("ratio", "predicted / measured"), kind, unit)


PANELS = 4
"""Panels in a row."""

MAX_LARGE_POINTS = 200
"""Points up to which each is drawn large."""


def _beside(
    points: Sequence[ParityPoint], title: str, over: tuple[str, str], kind: str, unit: str
) -> Any:
    alt, (height, label) = altair(), over
    values = [point._asdict() | {"ratio": point.predicted / point.measured} for point in points]
    line = {"predicted": "measured:Q", "ratio": "one:Q"}[height]
    log, bare = log_scale(padding=PADDING), alt.Axis(grid=False)
    x = alt.X("measured:Q", scale=log, axis=bare, title=f"measured ({unit})")
    y = alt.Y(f"{height}:Q", scale=log, axis=bare, title=label)
    few = len(values) <= MAX_LARGE_POINTS
    kinds = list(dict.fromkeys(point.kind for point in points))
    hues = {"range": list(PALETTE)} if len(kinds) <= len(PALETTE) else {"scheme": "tableau20"}
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, **hues), title=kind).legend(
        symbolOpacity=1
    )
    chart = alt.Chart(rows_of(values)).transform_calculate(one="1")
    dots = chart.mark_point(
        size=60 if few else 12, filled=True, opacity=0.9 if few else 0.5
    ).encode(x=x, y=y, color=colour)
    agreed = chart.mark_line(color="black", strokeWidth=1).encode(x=x, y=alt.Y(line, scale=log))
    layers = alt.layer(dots, agreed).properties(width=HEIGHT, height=HEIGHT)
    return layers.facet(facet=alt.Facet("panel:N", title=None), columns=PANELS, title=title)
