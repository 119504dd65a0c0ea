"""Lines and points: rooflines, fronts of speed against price."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.interface.plots import theme


def roofline(
    roofs: Sequence[tuple[str, float, float]],
    points: Sequence[tuple[str, str, float, float]],
    title: str,
) -> Any:
    """Roofs of chips, and kernels under them.

    **Arguments:**

    - `roofs`: name, peak in FLOP/s, bandwidth of the memory the model lives in, in byte/s.
    - `points`: name, kernel, FLOP for each byte of that memory, FLOP/s reached.
    """
    alt, dots = theme.altair(), _points(points)
    kernels = list(dict.fromkeys(dot["kernel"] for dot in dots))
    legends = theme.chip_scales([name for name, _, _ in roofs])
    colour, _, dash = (one.legend(symbolType="stroke") for one in legends)
    axes = {
        "x": alt.X(
            "intensity:Q", title="arithmetic intensity (FLOP/byte)", scale=theme.log_scale()
        ),
        "y": alt.Y("rate:Q", title="TFLOP/s of one chip", scale=theme.log_scale()),
        "color": colour,
    }
    lines = alt.Chart(theme.rows_of(_roofs(roofs, points))).mark_line(strokeWidth=2)
    marks = alt.Chart(theme.rows_of(dots)).mark_point(
        size=80, filled=True, opacity=0.9, stroke="white", strokeWidth=0.7
    )
    told = [theme.tooltip("intensity", "FLOP/byte"), theme.tooltip("rate", "TFLOP/s")]
    layers = (
        lines.encode(**axes, strokeDash=dash),
        marks.encode(
            **axes,
            shape=theme.told_by(alt.Shape, "kernel", kernels, theme.SHAPES, "kernel"),
            tooltip=["name:N", "kernel:N", *told],
        ),
    )
    return alt.layer(*layers, title=title).properties(width=theme.WIDTH, height=theme.HEIGHT)


def _roofs(
    roofs: Sequence[tuple[str, float, float]], points: Sequence[tuple[str, str, float, float]]
) -> list[dict[str, Any]]:
    """From a third of the least intensity of a point to three times that of the last ridge."""
    ridges = [peak / bandwidth for _, peak, bandwidth in roofs if bandwidth > 0]
    there = [i for _, _, i, rate in points if i > 0 and rate > 0]
    low, high = min(there + ridges) / 3, max(there + ridges) * 3
    return [
        {"name": name, "intensity": float(i), "rate": float(min(peak, bandwidth * i)) / 1e12}
        for name, peak, bandwidth in roofs
        for i in np.geomspace(low, high, 101)
    ]


def _points(points: Sequence[tuple[str, str, float, float]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "kernel": kernel, "intensity": float(i), "rate": float(rate) / 1e12}
        for name, kernel, i, rate in points
        if i > 0 and rate > 0
    ]


class FrontPoint(NamedTuple):
    """A point of a front: whose, its two values, and what it stands for."""

    name: str
    x: float
    y: float
    label: str = ""


SPEED, PRICE = "tokens/s for one user", "USD per million output tokens"
THROUGHPUT = "output tokens/s per chip"
"""Titles of axes."""


def speed_against_price(points: Sequence[FrontPoint]) -> Any:
    """A front of each name: speed of a user against price."""
    return front(points, "Speed against price", (SPEED, PRICE))


def speed_against_throughput(points: Sequence[FrontPoint]) -> Any:
    """A front of each name: speed of a user against throughput of a chip."""
    return front(points, "Speed against throughput of a chip", (SPEED, THROUGHPUT))


def front(
    spots: Sequence[FrontPoint],
    title: str,
    axes: tuple[str, str],
    marked: str = "",
    kind: str = "machine",
    inside: bool = False,
) -> Any:
    """A line of points for each name, on logarithmic axes.

    **Arguments:**

    - `axes`: titles of both axes, with their units.
    - `marked`: label of the points to be drawn large: where one stands.
    - `kind`: of what the names are.
    - `inside`: put the legend into the upper left corner, which a front leaves empty.
    """
    alt = theme.altair()
    names = list(dict.fromkeys(spot.name for spot in spots))
    # A dashed edge would fray the shapes of the legend.
    plain = {"symbolStrokeWidth": 0}
    corner = {"orient": "top-left", "direction": "vertical", "title": None, "columns": 1}
    plain |= corner | {"fillColor": "white"} if inside else {}
    colour, shape, dash = (one.legend(**plain) for one in theme.chip_scales(names, kind))
    values = [
        spot._asdict() | {"order": i, "size": 190 if spot.label == marked else 55}
        for i, spot in enumerate(spots)
        if spot.x > 0 and spot.y > 0
    ]
    scale = theme.log_scale(padding=16)
    chart = alt.Chart(theme.rows_of(values), title=title).encode(
        x=alt.X("x:Q", title=axes[0], axis=alt.Axis(labelBound=True), scale=scale),
        y=alt.Y("y:Q", title=axes[1], scale=scale),
        color=colour,
    )
    lines = chart.mark_line(strokeWidth=1.5).encode(strokeDash=dash, order="order:Q")
    dots = chart.mark_point(filled=True, opacity=0.95).encode(
        shape=shape,
        size=alt.Size("size:Q", scale=None, legend=None),
        tooltip=["name:N", "label:N", theme.tooltip("x", axes[0]), theme.tooltip("y", axes[1])],
    )
    return alt.layer(lines, dots).properties(width=theme.WIDTH, height=theme.HEIGHT)
