"""Deployments with attention and feed-forward layers on chips of their own, priced."""

import collections
import functools
import itertools
from pathlib import Path

import numpy as np

from perfmodel.batching import stack
from perfmodel.errors import InputError
from perfmodel.inference.candidates import SIZES, Parallelism
from perfmodel.inference.deployment_table import (
    ONE_USER,
    DeploymentTable,
    Progress,
    table_of,
    words_of,
)
from perfmodel.inference.pooled_table import price_each, priced_together
from perfmodel.inference.pools import (
    SINGLE_WORKERS,
    PooledCandidate,
    PooledRow,
    candidates_on,
    evenly_chosen,
    resolve_attention_ffn,
    serve_pooled,
)
from perfmodel.inference.question import Question, pairs
from perfmodel.inference.serving_predictions import ATTENTION_FFN_OUTPUTS
from perfmodel.trees import map_leaves
from perfmodel.workload.request import Request, with_users

MAX_WAYS = 1024
"""Ways to spread both sides that are priced for each number of users, at most: evenly chosen among all."""


def price_attention_ffn(
    question: Question, calibration: Path, progress: Progress
) -> DeploymentTable:
    """All deployments with attention on one kind of chip and feed-forward layers on another.

    **Raises:**

    - `InputError`: where no pair can be priced at all; it says why.
    """
    if not question.ffn_chips:
        raise InputError("ffn_chip is missing; give the chips of feed-forward layers.")
    sides = pairs(question, question.chips, question.ffn_chips)
    cells = [words | {"chip": chip, "ffn_chip": ffn_chip} for chip, ffn_chip, words in sides]
    asked = [
        functools.partial(_price, question, words, chips, calibration)
        for words, chips in itertools.product(cells, question.n_chips)
    ]
    return price_each(asked, collections.Counter(), progress)


def _price(
    question: Question, cells: dict[str, str], chips: float, calibration: Path
) -> DeploymentTable:
    """All ways of one pair of chips, for every number of users."""
    given = resolve_attention_ffn(0, cells | ONE_USER | {"n_chips": ""}, calibration)
    ways = evenly_chosen(_ways(given, chips), MAX_WAYS)
    if not ways:
        raise InputError(
            f"{chips:.0f} chips cannot be shared out between attention and FFN layers."
        )
    rows = [_for(given._replace(candidates=ways), users) for users in question.users]
    served = map_leaves(lambda x: np.asarray(x, float), serve_pooled(rows)[1])
    request: Request = stack([row.lead.request for row in rows for _ in ways])
    sides = np.array([way.parallelisms for way in ways] * len(rows))
    each = np.array([[one.chips for one in way.parallelisms] for way in ways] * len(rows))
    numbers, bases = priced_together(given.sides, each, request, served)
    for i, side in enumerate(given.names):
        names = (f"{side}{rank}" for rank in Parallelism._fields[:-1])
        numbers |= dict(zip(names, sides[:, i].T, strict=False))
    numbers |= dict(zip(ATTENTION_FFN_OUTPUTS, np.asarray(served.busy).T, strict=True))
    words = words_of(given.lead, cells) | bases | {"mode": "serving"}
    words |= {"ffn_chip": cells["ffn_chip"]}
    return table_of(numbers | {"replicas": 1.0}, words, served, programs=1)


def _ways(given: PooledRow, chips: float) -> list[PooledCandidate]:
    """Ways to share the chips out: a power of two for one side, the rest for the other."""
    powers = [size for size in SIZES if size < chips]
    counts = sorted({*powers, *(chips - size for size in powers)})
    return [
        PooledCandidate(parallelisms, SINGLE_WORKERS)
        for count in counts
        for parallelisms in itertools.product(
            candidates_on(given.sides[0], count), candidates_on(given.sides[1], chips - count)
        )
    ]


def _for(given: PooledRow, users: float) -> PooledRow:
    """The same for some users."""
    first, second = (side._replace(request=with_users(side.request, users)) for side in given.sides)
    return given._replace(sides=(first, second))
