"""Pictures of simulated requests: load over time, and how waits are distributed."""

from typing import Any

import numpy as np

from perfmodel.inference.scheduler import Outcome
from perfmodel.interface.plots import theme

POINTS = 200
"""Of a distribution, at most."""


def timeline_chart(outcome: Outcome, summary: dict[str, Any]) -> Any:
    """Running and waiting requests and the KV cache's use over time, and distributions of TTFT and TPOT."""
    return theme.joined(
        [
            requests_over_time(outcome),
            cache_over_time(outcome, summary),
            distribution(outcome.ttft, "TTFT"),
            distribution(outcome.tpot, "TPOT"),
        ]
    )


def _spans(outcome: Outcome) -> list[tuple[float, list[float]]]:
    """The middle of each span of time, in s, and the means of running, waiting and tokens of cache."""
    span = outcome.timeline.span
    return [
        ((i + 0.5) * span, [one / span for one in sums])
        for i, sums in enumerate(outcome.timeline.sums)
    ]


def requests_over_time(outcome: Outcome) -> Any:
    """Running and waiting requests."""
    alt = theme.altair()
    names = ("running", "waiting")
    values = [
        {"time": time, "requests": means[i], "which": name}
        for time, means in _spans(outcome)
        for i, name in enumerate(names)
    ]
    chart = alt.Chart(theme.rows_of(values), title="Requests in the engine and in its queue")
    return _sized(
        chart.mark_line(strokeWidth=1.5).encode(
            x=alt.X("time:Q", title="time (s)"),
            y=alt.Y("requests:Q", title="requests"),
            color=theme.told_by(alt.Color, "which", names, theme.PALETTE, None),
            strokeDash=theme.told_by(
                alt.StrokeDash, "which", names, [list(dash) for dash in theme.DASHES], None
            ),
        )
    )


def cache_over_time(outcome: Outcome, summary: dict[str, Any]) -> Any:
    """The KV cache's use."""
    alt = theme.altair()
    capacity = summary["scheduler"]["kv_capacity_tokens"] * summary["deployment"]["replicas"]
    values = [{"time": time, "use": means[2] / capacity} for time, means in _spans(outcome)]
    chart = alt.Chart(theme.rows_of(values), title="KV cache in use")
    return _sized(
        chart.mark_area(opacity=0.5, color=theme.COLOURS["memory"], line=True).encode(
            x=alt.X("time:Q", title="time (s)"),
            y=alt.Y(
                "use:Q",
                title="share of its tokens",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
        )
    )


def distribution(seconds: Any, name: str) -> Any:
    """Share of requests that wait no longer."""
    alt = theme.altair()
    known = np.asarray(seconds, float)
    known = known[np.isfinite(known)] * 1e3
    shares = np.linspace(0, 1, min(POINTS, max(len(known), 2)))
    at = np.quantile(known, shares) if len(known) else shares * 0
    values = [
        {"ms": float(ms), "share": float(share)} for ms, share in zip(at, shares, strict=True)
    ]
    chart = alt.Chart(theme.rows_of(values), title=f"{name} of requests")
    return _sized(
        chart.mark_line(strokeWidth=2, color=theme.COLOURS["compute"]).encode(
            x=alt.X("ms:Q", title=f"{name} (ms)", scale=alt.Scale(zero=False)),
            y=alt.Y("share:Q", title="share of requests", axis=alt.Axis(format="%")),
            order="share:Q",
            tooltip=[theme.tooltip("ms", f"{name} (ms)"), theme.tooltip("share", "share")],
        )
    )


def _sized(chart: Any) -> Any:
    return chart.properties(width=theme.WIDTH * 0.75, height=theme.HEIGHT * 0.75)
