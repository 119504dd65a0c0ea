"""Fleets: how many replicas of which deployment carry requests that come at a rate.

Of every deployment on few chips the closed loop says about how many requests a second it answers within the
limits. Of the best of them the open loop says it exactly, and with it the least whole number of replicas.
"""

from pathlib import Path

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.deployment_table import DeploymentTable, Progress, price_aggregated
from perfmodel.inference.evaluate import NAMES
from perfmodel.inference.limits import closest, keeps, limited_numbers, serves
from perfmodel.inference.question import Question
from perfmodel.inference.replica_rate import (
    WITHIN_LIMITS,
    most_requests_per_s,
    price_replicas,
)
from perfmodel.library.chip import chip_file, load_chip
from perfmodel.workload.plan import REPLICA_RANKS

REPLICA_CHIPS = tuple(2.0**i for i in range(7))
"""Chips of one replica that are tried; and as many as fast links join, and enough to hold the weights."""

SPARE = np.array([1.0, 1.25, 1.5, 2.0])
"""Replicas over the fewest that carry the rate, which are tried: users of more replicas wait less."""

NEXT_ONES = np.array([-1.0, 1.0])
"""Replicas beside the fewest, which are tried too: the rate of one is known but for its last digits."""

MOST_LAYOUTS = 24
"""Deployments of each stack that are priced in the open loop, at most."""

MOST_CHIPS = 2.0**20
"""Of a fleet."""


def price_fleets(question: Question, calibration: Path, progress: Progress) -> DeploymentTable:
    """Fleets of one kind of replica each that may carry the rate.

    **Raises:**

    - `InputError`: where no deployment answers a request within the limits, or too many would be needed.
    """
    sizes = tuple(sorted({*REPLICA_CHIPS, *(float(_domain(chip)) for chip in question.chips)}))
    closed = question._replace(requests_per_s=float("nan"), n_chips=sizes)
    singles = price_aggregated(closed, calibration, progress)
    kinds = _kinds(singles, question)
    rates = most_requests_per_s(question, kinds, calibration)
    usable = np.flatnonzero(rates > 0)
    if not len(usable):
        raise InputError(_no_replica(singles, question))
    own, counts = kinds.take(usable), _counts(question.requests_per_s / rates[usable])
    chips = (own.numbers["n_chips"] / own.numbers["replicas"])[:, None] * counts
    small = np.flatnonzero(chips.min(axis=1) <= MOST_CHIPS)
    if not len(small):
        raise InputError(
            f"{question.requests_per_s:g} requests/s need at least {chips.min():.4g} chips; fleets of up to "
            f"{MOST_CHIPS:.0f} are looked at; give fewer requests."
        )
    rate = np.full((len(small), 1), question.requests_per_s)
    table = price_replicas(question, own.take(small), counts[small], rate, calibration)
    within = (rates[usable][small, None] * counts[small]).ravel()
    programs = table.programs + singles.programs
    numbers = table.numbers | {WITHIN_LIMITS: within}
    return table._replace(numbers=numbers, refused=singles.refused, programs=programs)


def _domain(chip: str) -> float:
    return float(load_chip(chip_file(chip)[0]).scale_up.size)


def _counts(least: np.ndarray) -> np.ndarray:
    """Numbers of replicas that are tried, ascending, a row for each kind."""
    fewest = np.ceil(least)[:, None]
    return np.sort(np.maximum(np.hstack([np.ceil(fewest * SPARE), fewest + NEXT_ONES]), 1), axis=1)


def _no_replica(singles: DeploymentTable, question: Question) -> str:
    """What is said where no deployment answers a request within the limits."""
    bounded = limited_numbers(singles, question.confidence)
    serving = serves(singles, bounded)
    most = singles.numbers["n_chips"].max()
    by_how_much = (
        f"the closest has {closest(serving, bounded, question)[1]}; " if serving.any() else ""
    )
    return (
        f"no deployment of {question.model} of up to {most:.0f} chips answers a request within the limits: "
        f"{by_how_much}allow more, or name other chips."
    )


def _kinds(singles: DeploymentTable, question: Question) -> DeploymentTable:
    """The best deployments of one replica of each stack, by the chips that they need in a closed loop."""
    numbers = singles.numbers
    bounded = limited_numbers(singles, question.confidence)
    usable = keeps(bounded, question.limits) & serves(singles, bounded) & (numbers["replicas"] == 1)
    places = np.flatnonzero(usable)
    order = places[np.argsort(-numbers["output_tokens_per_s_per_chip"][places], kind="stable")]
    stack = singles.alike(NAMES, ("speculative_tokens",))[order]
    layout = np.stack([stack, singles.alike((), REPLICA_RANKS)[order]], axis=1)
    firsts = np.sort(np.unique(layout, axis=0, return_index=True)[1])
    before = np.tril(stack[firsts][:, None] == stack[firsts], -1).sum(axis=1)
    return singles.take(order[firsts[before < MOST_LAYOUTS]])
