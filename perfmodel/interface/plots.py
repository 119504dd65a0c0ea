"""Pictures (Altair): the same figure as PNG, SVG, or HTML that needs no network."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.errors import InputError
from perfmodel.files import check_place

COLOURS = {
    "compute": "#4477AA",
    "exponential": "#66CCEE",
    "sram": "#228833",
    "memory": "#CCBB44",
    "latency": "#BBBBBB",
    "network": "#AA3377",
}
"""One colour for each bound, told apart by the colour-blind (Paul Tol's bright scheme)."""

CHIP_COLOURS = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377"]
FORMATS = (".png", ".svg", ".html")
WIDTH, HEIGHT = 560, 300


def _altair() -> Any:
    try:
        import altair
    except ImportError:
        raise InputError(
            "pictures need Altair; install `perfmodel[plots]`, or leave the picture out."
        ) from None
    return altair


def check_picture(path: Path) -> None:
    """Find out before any work whether a picture may be written at `path`.

    **Raises:**

    - `InputError`: for an ending of no picture, or a place that cannot be written.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path.name} ends in {path.suffix!r}; pictures are {', '.join(FORMATS)}.")
    check_place(path)


def save(chart: Any, path: Path) -> None:
    """Write a chart in the format that the path's ending names.

    **Raises:**

    - `InputError`: for another ending.
    """
    check_picture(path)
    options = {"inline": True} if path.suffix == ".html" else {"scale_factor": 2}
    chart.save(str(path), **options)


def breakdown(rows: Sequence[tuple[str, Iterable[float]]], title: str, unit: str = "ms") -> Any:
    """Stacked bars: for each name, its time by what binds.

    **Arguments:**

    - `rows`: names, and for each the times of `BOUNDS` in `unit`.
    """
    alt = _altair()
    values = [
        {"name": name, "bound": bound, "time": float(time), "order": order}
        for name, times in rows
        for order, (bound, time) in enumerate(zip(BOUNDS, times, strict=True))
    ]
    scale = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    return (
        alt.Chart(alt.Data(values=values), title=title)
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            y=alt.Y("name:N", title=None, sort=[name for name, _ in rows]),
            x=alt.X("time:Q", title=f"time per output token ({unit})"),
            color=alt.Color("bound:N", scale=scale, title="bound by"),
            order="order:Q",
            tooltip=["name:N", "bound:N", alt.Tooltip("time:Q", format=".3g")],
        )
        .properties(width=WIDTH, height=44 * len(rows))
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
    alt = _altair()
    domain = [name for name, _, _ in roofs]
    colour = alt.Color("name:N", scale=alt.Scale(domain=domain, range=CHIP_COLOURS), title="chip")
    x = alt.X("intensity:Q", scale=alt.Scale(type="log"), title="FLOP for each byte of memory read")
    y = alt.Y("rate:Q", scale=alt.Scale(type="log"), title="TFLOP/s of one chip")
    lines = (
        alt.Chart(alt.Data(values=_roofs(roofs)))
        .mark_line(strokeWidth=2)
        .encode(x=x, y=y, color=colour)
    )
    dots = (
        alt.Chart(alt.Data(values=_points(points)))
        .mark_point(size=70, filled=True, opacity=0.85)
        .encode(x=x, y=y, color=colour, shape=alt.Shape("kernel:N", title="kernel"))
    )
    return alt.layer(lines, dots, title=title).properties(width=WIDTH, height=HEIGHT)


def _roofs(roofs: Sequence[tuple[str, float, float]]) -> list[dict[str, Any]]:
    intensities = np.logspace(-1, 4, 101)
    return [
        {"name": name, "intensity": float(i), "rate": float(min(peak, bandwidth * i)) / 1e12}
        for name, peak, bandwidth in roofs
        for i in intensities
    ]


def _points(points: Sequence[tuple[str, str, float, float]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "kernel": kernel, "intensity": float(i), "rate": float(rate) / 1e12}
        for name, kernel, i, rate in points
        if i > 0 and rate > 0
    ]


PARTS = {
    "compute": "#4477AA",
    "SRAM": "#228833",
    "SRAM ports": "#66CCEE",
    "HBM interface": "#CCBB44",
    "links": "#AA3377",
    "unused": "#DDDDDD",
}


def floorplans(rows: Sequence[tuple[str, dict[str, float]]], title: str) -> Any:
    """Stacked bars: how each chip's die is spent, in mm2 by `PARTS`."""
    alt = _altair()
    values = [
        {"name": name, "part": part, "area": float(areas.get(part, 0.0)), "order": order}
        for name, areas in rows
        for order, part in enumerate(PARTS)
    ]
    scale = alt.Scale(domain=list(PARTS), range=list(PARTS.values()))
    return (
        alt.Chart(alt.Data(values=values), title=title)
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            y=alt.Y("name:N", title=None, sort=[name for name, _ in rows]),
            x=alt.X("area:Q", title="die area (mm2)"),
            color=alt.Color("part:N", scale=scale, title="spent on"),
            order="order:Q",
            tooltip=["name:N", "part:N", alt.Tooltip("area:Q", format=".3g")],
        )
        .properties(width=WIDTH, height=44 * len(rows))
    )


class Point(NamedTuple):
    """What was measured and predicted: the panel it belongs to, and what its colour tells."""

    panel: str
    kind: str
    measured: float
    predicted: float


def parity(points: Sequence[Point], title: str, kind: str = "kernel", unit: str = "us") -> Any:
    """Predicted against measured values, panel beside panel; the line is where they agree."""
    return _beside(points, title, ("predicted", f"predicted ({unit})"), kind, unit)


def residuals(points: Sequence[Point], title: str, kind: str = "kernel", unit: str = "us") -> Any:
    """Predicted over measured value, against the measured one; the line is at one."""
    return _beside(points, title, ("ratio", "predicted / measured"), kind, unit)


PANELS = 4
"""Panels in a row."""


def _beside(
    points: Sequence[Point], title: str, over: tuple[str, str], kind: str, unit: str
) -> Any:
    alt, (height, label) = _altair(), over
    values = [point._asdict() | {"ratio": point.predicted / point.measured} for point in points]
    line = {"predicted": "measured:Q", "ratio": "one:Q"}[height]
    log = alt.Scale(type="log", nice=False)
    bare = alt.Axis(grid=False)
    x = alt.X("measured:Q", scale=log, axis=bare, title=f"measured ({unit})")
    y = alt.Y(f"{height}:Q", scale=log, axis=bare, title=label)
    colour = alt.Color("kind:N", scale=alt.Scale(scheme="tableau20"), title=kind)
    chart = alt.Chart(alt.Data(values=values)).transform_calculate(one="1")
    dots = chart.mark_point(size=12, filled=True, opacity=0.5).encode(x=x, y=y, color=colour)
    agreed = chart.mark_line(color="black", strokeWidth=1).encode(x=x, y=alt.Y(line, scale=log))
    layers = alt.layer(dots, agreed).properties(width=HEIGHT, height=HEIGHT)
    return layers.facet(facet=alt.Facet("panel:N", title=None), columns=PANELS, title=title)
