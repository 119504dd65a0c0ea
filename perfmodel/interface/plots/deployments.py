"""Deployments: tokens/s per user against tokens/s per chip, with the limits."""

import math
from typing import Any

from perfmodel.inference.deployment_words import machine_of
from perfmodel.inference.question import Question
from perfmodel.inference.recommendation import Recommendation
from perfmodel.interface.plots import lines, theme

AXES = (lines.SPEED, lines.THROUGHPUT)

TITLE = "Speed of a user against throughput of a chip (x: breaks a limit; dashed: limits on speed)"


def deployments(question: Question, found: Recommendation) -> Any:
    """The front of each machine, what of it breaks a limit, the deployments that are recommended, and limits.

    Limits are kept with a probability, so some points to the right of a line break it too.
    """
    alt = theme.altair()
    front = lines.front([_point(row["machine"], row) for row in found.front], TITLE, AXES)
    chosen = [_point(machine_of(row), row)._asdict() for row in found.deployments]
    over = [_point(row["machine"], row)._asdict() for row in found.front if not row["keeps_limits"]]
    layers = [
        _marks(chosen).mark_point(size=160, strokeWidth=2, color="black"),
        _marks(over).mark_point(size=45, strokeWidth=1.5, color="black", shape=CROSS),
    ]
    rules = alt.Chart(theme.rows_of(speed_limits(question))).mark_rule(
        strokeDash=[6, 4], color="gray"
    )
    layers.append(rules.encode(x="x:Q", tooltip=["label:N"]))
    return alt.layer(front, *layers).properties(width=theme.WIDTH, height=theme.HEIGHT)


CROSS = "M-1,-1L1,1M-1,1L1,-1"
"""A shape of two strokes."""


def speed_limits(question: Question) -> list[dict[str, Any]]:
    """The slowest user, in tokens/s, that limits on TPOT and on the time to the last token leave."""
    limits, later = question.limits, max(question.osl - 1, 0.0)
    times = {
        f"TPOT at most {limits.tpot_ms:g} ms": limits.tpot_ms,
        f"end to end at most {limits.end_to_end_ms:g} ms": limits.end_to_end_ms / (later or 1.0),
    }
    return [{"x": 1e3 / t, "label": label} for label, t in times.items() if math.isfinite(t)]


def _marks(points: list[dict[str, Any]]) -> Any:
    chart = theme.altair().Chart(theme.rows_of(points))
    return chart.encode(x="x:Q", y="y:Q", tooltip=["name:N", "label:N"])


def _point(name: str, row: dict[str, Any]) -> lines.FrontPoint:
    speed, chip = row["output_tokens_per_s_per_user"], row["output_tokens_per_s_per_chip"]
    kept = "" if row.get("keeps_limits", True) else ", breaks a limit"
    return lines.FrontPoint(name, speed, chip, f"{row['concurrency']:g} users{kept}")
