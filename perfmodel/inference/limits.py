r"""Limits on deployments, kept with a probability.

Of a prediction $t$ with the factor $h$ at the high end of its 90 % range, a limit is kept with the
probability $c$ where $t\,h^{z_c/z_{95}}$ is at most the limit (`Interval.bound`).
"""

import collections

import numpy as np

from perfmodel.inference.deployment_table import DeploymentTable
from perfmodel.inference.question import Limits, Question
from perfmodel.library.fitted_intervals import Interval


def limited_numbers(table: DeploymentTable, confidence: int) -> dict[str, np.ndarray]:
    """What each limit is compared with: where there is a range, what is not exceeded at that confidence."""
    numbers = table.numbers
    first, later = (
        Interval(1.0, numbers[f"{name}_high"]).bound(confidence) for name in ("ttft", "tpot")
    )
    decoding = numbers["end_to_end_ms"] - numbers["ttft_ms"]
    busy = numbers.get("utilisation", np.zeros(table.size))
    return {
        "ttft_ms": numbers["ttft_ms"] * first,
        "tpot_ms": numbers["tpot_ms"] * later,
        "end_to_end_ms": numbers["ttft_ms"] * first + decoding * later,
        "usd_per_million_output_tokens": numbers["usd_per_million_output_tokens"],
        "utilisation": busy * later,
    }


def serves(table: DeploymentTable, bounded: dict[str, np.ndarray]) -> np.ndarray:
    """Whether each deployment fits, and answers requests as fast as they come: steps that take longer by a
    factor answer fewer requests by that factor."""
    return (table.numbers["free_bytes"] >= 0) & (bounded["utilisation"] < 1)


def given_limits(limits: Limits) -> dict[str, float]:
    """Those that are limits at all."""
    return {name: limit for name, limit in limits._asdict().items() if np.isfinite(limit)}


def broken(bounded: dict[str, np.ndarray], limits: Limits) -> dict[str, np.ndarray]:
    """Whether each deployment breaks each limit; what is not known breaks one that is given."""
    return {name: ~(bounded[name] <= limit) for name, limit in given_limits(limits).items()}


def keeps(bounded: dict[str, np.ndarray], limits: Limits) -> np.ndarray:
    """Whether each deployment keeps all limits."""
    none = np.zeros(len(bounded["tpot_ms"]), bool)
    return ~np.any([none, *broken(bounded, limits).values()], axis=0)


def closest(
    serving: np.ndarray, bounded: dict[str, np.ndarray], question: Question
) -> tuple[int, str]:
    """The place of the deployment that comes closest to the limits, of those that serve, and by how much it
    breaks them."""
    given = given_limits(question.limits)
    over = np.max([bounded[name] / limit for name, limit in given.items()], axis=0)
    place = int(np.argmin(np.where(serving & np.isfinite(over), over, np.inf)))
    parts = [
        f"{name} {bounded[name][place]:.4g} for at most {limit:.4g} "
        f"({100 * (bounded[name][place] / limit - 1):.0f} % over)"
        for name, limit in given.items()
        if not bounded[name][place] <= limit
    ]
    return place, " and ".join(parts)


def reasons(
    table: DeploymentTable, bounded: dict[str, np.ndarray], question: Question
) -> collections.Counter[str]:
    """How many deployments are left out, by the first reason."""
    left, breaks = table.numbers["free_bytes"] >= 0, broken(bounded, question.limits)
    found = {"does not fit in memory": int(np.sum(~left))}
    if question.open_loop:
        slow, rate = left & ~serves(table, bounded), f"{question.requests_per_s:g} requests/s"
        found[f"answers fewer than {rate} at {question.confidence} % confidence"] = int(slow.sum())
        left &= ~slow
    for name, limit in given_limits(question.limits).items():
        words = f"{name} above {limit:g} at {question.confidence} % confidence"
        found[words] = int(np.sum(left & breaks[name]))
        left &= ~breaks[name]
    return collections.Counter({words: count for words, count in found.items() if count})
