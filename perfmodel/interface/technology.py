"""The technology section of `perfmodel validate`: chips known, chips predicted, and what must be reached."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.calibration.technology import scores
from perfmodel.interface.musts import Record
from perfmodel.units import figures

WITHIN = 0.2
"""The error that a share of dies must stay within."""


class Must(NamedTuple):
    """A line of the table: a quantity, of some kinds of chips, its largest median and worst error."""

    name: str
    quantity: str
    kinds: tuple[str, ...]
    median: float | None
    worst: float | None = None
    share: float | None = None


MUSTS = (
    Must("die area", "die_area_mm2", (), 0.10, None, 0.8),
    Must("die area: chiplets and wafers", "die_area_mm2", ("chiplet", "wafer"), None, 0.30),
    Must("power limit", "power_limit_w", (), 0.25),
    Must("power limit: modules", "power_limit_w", ("module",), 0.20),
    Must("cost to make, with memory", "cost_usd", (), None, 0.15),
    Must("energy of a token at the wall", "wall_j_per_token", (), None, 0.30),
    Must("owning a chip for an hour", "owner_usd_per_hour", (), None, 0.30),
    Must("a million tokens at published rates", "usd_per_million_tokens", (), None, 0.30),
)
"""What the technology section must reach."""


def records() -> list[Record]:
    """The section as the contract has it, with the kind of chip beside."""
    return [
        {
            "chip": one.chip,
            "quantity": one.quantity,
            "kind": one.kind,
            "predicted": round(one.predicted, 4),
            "known": round(one.known, 4),
            "split": one.split,
        }
        for one in scores()
    ]


SUMMARY = ["quantity", "chips", "median", "mean", "worst", "within 20 %", "must", "met"]


def summary(found: Sequence[Record]) -> list[tuple[str, ...]]:
    """Each line of the table of musts that has records."""
    return [
        _line(must, errors)
        for must in MUSTS
        if len(errors := np.array([abs(error(one)) for one in found if _holds(must, one)]))
    ]


def _holds(must: Must, record: Record) -> bool:
    return record["quantity"] == must.quantity and (not must.kinds or record["kind"] in must.kinds)


def _line(must: Must, errors: np.ndarray) -> tuple[str, ...]:
    share = float(np.mean(errors <= WITHIN))
    reached = {"median": float(np.median(errors)), "worst": float(errors.max())}
    limits = {name: getattr(must, name) for name in reached if getattr(must, name) is not None}
    met = all(reached[name] <= limit for name, limit in limits.items())
    said = [f"{name} {_percent(limit)}" for name, limit in limits.items()]
    if must.share is not None:
        met, said = met and share >= must.share, [*said, f"{_percent(must.share)} within 20 %"]
    figures = (reached["median"], float(errors.mean()), reached["worst"], share)
    return (
        must.name,
        str(len(errors)),
        *map(_percent, figures),
        ", ".join(said),
        "yes" if met else "no",
    )


def error(record: Record) -> float:
    """Relative error of a record."""
    return record["predicted"] / record["known"] - 1


TABLE = ["chip", "quantity", "predicted", "known", "error"]


def lines(found: Iterable[Record]) -> list[tuple[str, ...]]:
    """One line for each record."""
    return [
        (
            one["chip"],
            one["quantity"],
            figures(one["predicted"]),
            figures(one["known"]),
            f"{100 * error(one):+.0f} %",
        )
        for one in found
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
