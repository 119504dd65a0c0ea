"""Lines and points: rooflines, fronts of speed against price."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.interface.plots.theme import (
    HEIGHT,
    SHAPES,
    WIDTH,
    altair,
    chip_scales,
    colours_of,
    rows_of,
)


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
    alt = altair()
    names = [name for name, _, _ in roofs]
    kernels = list(dict.fromkeys(point["kernel"] for point in _points(points)))
    scale = alt.Scale(domain=names, range=colours_of(names))
    colour = alt.Color("name:N", scale=scale, title="chip", legend=alt.Legend(symbolType="stroke"))
    dash = chip_scales(names)[2].legend(symbolType="stroke")
    log = {"scale": alt.Scale(type="log", nice=False)}
    x = alt.X("intensity:Q", title="arithmetic intensity (FLOP/byte)", **log)
    y = alt.Y("rate:Q", title="TFLOP/s of one chip", **log)
    values = rows_of(_roofs(roofs, points))
    lines = (
        alt.Chart(values).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, strokeDash=dash)
    )
    dots = (
        alt.Chart(rows_of(_points(points)))
        .mark_point(size=80, filled=True, opacity=0.9, stroke="white", strokeWidth=0.7)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape(
                "kernel:N",
                scale=alt.Scale(domain=kernels, range=[SHAPES[i % 6] for i in range(len(kernels))]),
                title="kernel",
            ),
            tooltip=[
                "name:N",
                "kernel:N",
                alt.Tooltip("intensity:Q", format=".3g", title="FLOP/byte"),
                alt.Tooltip("rate:Q", format=".3g", title="TFLOP/s"),
            ],
        )
    )
    return alt.layer(lines, dots, title=title).properties(width=WIDTH, height=HEIGHT)


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
"""Titles of axes."""


def speed_against_price(points: Sequence[FrontPoint]) -> Any:
    """A front of each name: speed of a user against price."""
    return front(points, "Speed against price", (SPEED, PRICE))


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
    alt = altair()
    names = list(dict.fromkeys(spot.name for spot in spots))
    # A dashed edge would fray the shapes of the legend.
    plain = {"symbolStrokeWidth": 0, "labelLimit": 320}
    corner = {"orient": "top-left", "direction": "vertical", "title": None, "columns": 1}
    plain |= corner | {"fillColor": "white"} if inside else {}
    colour, shape, dash = (one.legend(**plain) for one in chip_scales(names, kind))
    values = [
        spot._asdict() | {"order": i, "size": 190 if spot.label == marked else 55}
        for i, spot in enumerate(spots)
        if spot.x > 0 and spot.y > 0
    ]
    log = {"scale": alt.Scale(type="log", nice=False, padding=16)}
    chart = alt.Chart(rows_of(values), title=title).encode(
        x=alt.X("x:Q", title=axes[0], axis=alt.Axis(labelBound=True), **log),
        y=alt.Y("y:Q", title=axes[1], **log),
        color=colour,
    )
    lines = chart.mark_line(strokeWidth=1.5).encode(strokeDash=dash, order="order:Q")
    dots = chart.mark_point(filled=True, opacity=0.95).encode(
        shape=shape,
        size=alt.Size("size:Q", scale=None, legend=None),
        tooltip=[
            "name:N",
            "label:N",
            alt.Tooltip("x:Q", format=".3g", title=axes[0]),
            alt.Tooltip("y:Q", format=".3g", title=axes[1]),
        ],
    )
    return alt.layer(lines, dots).properties(width=WIDTH, height=HEIGHT)
