"""Fleets: how many replicas of which deployment carry requests that come at a rate.

Of every deployment on few chips the closed loop says how many requests a second it answers within the limits;
the best of them are then priced in the open loop, with about so many replicas that the rate is carried.
"""

import itertools
from pathlib import Path

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment_table import (
    DeploymentTable,
    Progress,
    price_aggregated,
    price_segments,
    segment_of,
)
from perfmodel.inference.evaluate import resolve_row
from perfmodel.inference.limits import keeps, limited_numbers
from perfmodel.inference.question import Question, stacks
from perfmodel.inference.sweep_points import Segment
from perfmodel.library.chip import chip_file, load_chip

REPLICA_CHIPS = tuple(2.0**i for i in range(7))
"""Chips of one replica that are tried; and as many as fast links join, and enough to hold the weights."""

REPLICAS = np.geomspace(0.6, 2.0, 12)
"""Factors on the number of replicas that the closed loop says."""

MOST_LAYOUTS = 24
"""Deployments of each stack that are priced in the open loop, at most."""

MOST_CHIPS = 2.0**20
"""Of a fleet."""


def price_fleets(question: Question, calibration: Path, progress: Progress) -> DeploymentTable:
    """Fleets of one kind of replica each that may carry the rate.

    **Raises:**

    - `InputError`: where no deployment can be priced at all; it says why.
    """
    sizes = tuple(sorted({*REPLICA_CHIPS, *(float(_domain(chip)) for chip in question.chips)}))
    closed = question._replace(requests_per_s=float("nan"), n_chips=sizes)
    singles = price_aggregated(closed, calibration, progress)
    replicas = _replicas(singles, question)
    segments: list[Segment] = []
    for cells, drafted in itertools.product(stacks(question, question.chips), question.drafted):
        own = singles.numbers["speculative_tokens"] == drafted
        ways = _ways(singles, np.where(own, replicas, np.inf), cells)
        if ways:
            cells = cells | {"requests_per_s": f"{question.requests_per_s:.10g}"}
            asked = question._replace(speculative_tokens=(drafted,))
            resolved = resolve_row(0, cells, calibration)
            segments.append(segment_of(asked, resolved, cells, ways))
    if not segments:
        raise InputError(
            f"no deployment of {question.model} of up to {sizes[-1]:.0f} chips answers a request within the "
            "limits; allow more, or name other chips."
        )
    table = price_segments(segments, question, progress)
    return table._replace(refused=singles.refused, programs=table.programs + singles.programs)


def _domain(chip: str) -> float:
    return float(load_chip(chip_file(chip)[0]).scale_up.size)


def _replicas(singles: DeploymentTable, question: Question) -> np.ndarray:
    """Replicas of each deployment that carry the rate, by the closed loop; infinite where limits break."""
    numbers = singles.numbers
    bounded = limited_numbers(singles, question.confidence)
    answers = numbers["output_tokens_per_s_per_chip"] * numbers["n_chips"] / question.osl
    usable = (
        keeps(bounded, question.limits) & (numbers["free_bytes"] >= 0) & (numbers["replicas"] == 1)
    )
    return np.where(usable, question.requests_per_s / answers, np.inf)


def _ways(
    singles: DeploymentTable, replicas: np.ndarray, cells: dict[str, str]
) -> list[Parallelism]:
    """The best deployments of a stack, each with several numbers of replicas."""
    own = np.isfinite(replicas)
    for name in ("chip", "framework", "precision", "kv_precision"):
        wanted = cells[name] or None
        own &= np.ones(singles.size, bool) if wanted is None else singles.words[name] == wanted
    places = np.flatnonzero(own)
    chips = singles.numbers["n_chips"] * np.maximum(np.ceil(replicas), 1)
    places = places[
        np.argsort(chips[places] + replicas[places] * singles.numbers["n_chips"][places])
    ]
    best: dict[tuple[float, ...], float] = {}
    for place in places:
        way = tuple(float(singles.numbers[name][place]) for name in ("tp", "pp", "ep", "dp"))
        if len(best) < MOST_LAYOUTS:
            best.setdefault(way, float(replicas[place]))
    return [
        Parallelism(*way, replicas=float(n))
        for way, count in best.items()
        for n in np.unique(np.maximum(np.ceil(count * REPLICAS), 1))
        if np.prod(way[:2]) * way[3] * n <= MOST_CHIPS
    ]
