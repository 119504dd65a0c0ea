"""Fleets: how many replicas of which deployment carry requests that come at a rate.

Of every deployment on few chips the closed loop says how many requests a second it answers within the limits;
the best of them are then priced in the open loop, with about so many replicas that the rate is carried.
"""

import collections
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
from perfmodel.inference.limits import broken, limited_numbers
from perfmodel.inference.question import Question, stacks
from perfmodel.inference.sweep_points import Segment
from perfmodel.library.chip import chip_file, load_chip

BLOCK_SIZES = tuple(2.0**i for i in range(7))
"""Chips of one replica that are tried; and as many as fast links join, and enough to hold the weights."""

REPLICAS = np.geomspace(0.6, 2.0, 12)
"""Factors on the number of replicas that the closed loop says."""

MOST_BLOCKS = 24
"""Deployments of each stack that are priced in the open loop, at most."""

MOST_CHIPS = 2.0**20
"""Of a fleet."""


def price_fleets(question: Question, calibration: Path, progress: Progress) -> DeploymentTable:
    """Fleets of one kind of replica each that may carry the rate.

    **Raises:**

    - `InputError`: where no deployment can be priced at all; it says why.
    """
    sizes = tuple(sorted({*BLOCK_SIZES, *(float(_domain(chip)) for chip in question.chips)}))
    closed = question._replace(requests_per_s=float("nan"), n_chips=sizes)
    blocks = price_aggregated(closed, calibration, progress)
    replicas = _replicas(blocks, question)
    refused: collections.Counter[str] = collections.Counter()
    segments: list[Segment] = []
    for cells, drafted in itertools.product(stacks(question, question.chips), question.drafted):
        own = blocks.numbers["speculative_tokens"] == drafted
        ways = _ways(blocks, np.where(own, replicas, np.inf), cells)
        if ways:
            cells = cells | {"requests_per_s": f"{question.requests_per_s:.10g}"}
            asked = question._replace(speculative_tokens=(drafted,))
            segments.append(segment_of(asked, cells, ways, calibration))
    if not segments:
        raise InputError(
            f"no deployment of {question.model} of up to {sizes[-1]:.0f} chips answers a request within the "
            "limits; allow more, or name other chips."
        )
    table = price_segments(segments, question, progress)
    return table._replace(
        refused=blocks.refused + refused, programs=table.programs + blocks.programs
    )


def _domain(chip: str) -> float:
    return float(load_chip(chip_file(chip)[0]).scale_up.size)


def _replicas(blocks: DeploymentTable, question: Question) -> np.ndarray:
    """Replicas of each deployment that carry the rate, by the closed loop; infinite where limits break."""
    numbers = blocks.numbers
    bounded = limited_numbers(blocks, question.confidence)
    breaks = np.any([*broken(bounded, question.limits).values()], axis=0)
    answers = numbers["output_tokens_per_s_per_chip"] * numbers["n_chips"] / question.osl
    usable = ~breaks & (numbers["free_bytes"] >= 0) & (numbers["replicas"] == 1)
    return np.where(usable, question.requests_per_s / answers, np.inf)


def _ways(
    blocks: DeploymentTable, replicas: np.ndarray, cells: dict[str, str]
) -> list[Parallelism]:
    """The best deployments of a stack, each with several numbers of replicas."""
    own = np.isfinite(replicas)
    for name in ("chip", "framework", "precision", "kv_precision"):
        wanted = cells[name] or None
        own &= np.ones(blocks.size, bool) if wanted is None else blocks.words[name] == wanted
    places = np.flatnonzero(own)
    chips = blocks.numbers["n_chips"] * np.maximum(np.ceil(replicas), 1)
    places = places[
        np.argsort(chips[places] + replicas[places] * blocks.numbers["n_chips"][places])
    ]
    best: dict[tuple[float, ...], float] = {}
    for place in places:
        way = tuple(float(blocks.numbers[name][place]) for name in ("tp", "pp", "ep", "dp"))
        if len(best) < MOST_BLOCKS:
            best.setdefault(way, float(replicas[place]))
    return [
        Parallelism(*way, replicas=float(n))
        for way, count in best.items()
        for n in np.unique(np.maximum(np.ceil(count * REPLICAS), 1))
        if np.prod(way[:2]) * way[3] * n <= MOST_CHIPS
    ]
