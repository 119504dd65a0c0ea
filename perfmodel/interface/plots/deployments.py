"""Deployments: tokens/s per user against tokens/s per chip, with the limit on TPOT."""

import math
from typing import Any

from perfmodel.inference.recommend import machine_of
from perfmodel.inference.recommendation import Recommendation
from perfmodel.interface.plots import lines, theme

AXES = ("tokens/s per user", "output tokens/s per chip")


def deployments(found: Recommendation, tpot_ms: float) -> Any:
    """The front of each machine, the deployments that are recommended, and the limit on TPOT."""
    alt = theme.altair()
    points = [_point(row["machine"], row) for row in found.front]
    chosen = [_point(machine_of(row), row)._asdict() for row in found.deployments]
    front = lines.front(points, "Speed of a user against throughput of a chip", AXES)
    marks = alt.Chart(theme.rows_of(chosen)).mark_point(size=160, strokeWidth=2, color="black")
    layers = [front, marks.encode(x="x:Q", y="y:Q", tooltip=["name:N", "label:N"])]
    if math.isfinite(tpot_ms):
        line = alt.Chart(theme.rows_of([{"x": 1e3 / tpot_ms}]))
        layers.append(line.mark_rule(strokeDash=[6, 4], color="gray").encode(x="x:Q"))
    return alt.layer(*layers).properties(width=theme.WIDTH, height=theme.HEIGHT)


def _point(name: str, row: dict[str, Any]) -> lines.FrontPoint:
    speed, chip = row["output_tokens_per_s_per_user"], row["output_tokens_per_s_per_chip"]
    return lines.FrontPoint(name, speed, chip, f"{row['concurrency']:g} users")
