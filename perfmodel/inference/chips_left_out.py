"""Chips that a question names and on which nothing serves within the limits, and why."""

import collections
from pathlib import Path

import numpy as np

from perfmodel.inference.deployment_table import DeploymentTable, segments_of
from perfmodel.inference.fleet import REPLICA_CHIPS
from perfmodel.inference.limits import reasons
from perfmodel.inference.pools import CHIP_COLUMNS
from perfmodel.inference.question import OBJECTIVES, Question

NOTHING_PRICED = "no machine with it answers a request within the limits"


def chips_left_out(
    question: Question,
    table: DeploymentTable,
    bounded: dict[str, np.ndarray],
    usable: np.ndarray,
    calibration: Path,
) -> dict[str, str]:
    """Chips that are named and that no deployment which may be chosen has, and why.

    **Arguments:**

    - `bounded`: what limits are compared with; `usable`: places of the deployments that may be chosen.
    """
    other = (*question.prefill_chips, *question.decode_chips, *question.ffn_chips)
    found: dict[str, str] = {}
    for chip in dict.fromkeys((*question.chips, *other)):
        own = _has(table, chip)
        if own.any() and not own[usable].any():
            found[chip] = _why_not_chosen(question, table, bounded, np.flatnonzero(own))
        elif not own.any():
            found[chip] = _why_not_priced(question, table, chip, calibration)
    return found


def _has(table: DeploymentTable, chip: str) -> np.ndarray:
    """Whether each deployment has chips of a kind."""
    columns = [table.words[name] == chip for name in CHIP_COLUMNS if name in table.words]
    return np.any(columns, axis=0)


def _why_not_chosen(
    question: Question, table: DeploymentTable, bounded: dict[str, np.ndarray], own: np.ndarray
) -> str:
    """What stops those that come farthest."""
    found = reasons(table.take(own), {name: x[own] for name, x in bounded.items()}, question)
    return [f"{OBJECTIVES[question.objective].meaning} are not known", *found][-1]


def _why_not_priced(
    question: Question, table: DeploymentTable, chip: str, calibration: Path
) -> str:
    """Why every way to serve on a chip is refused."""
    refused: collections.Counter[str] = collections.Counter()
    sizes = question.n_chips or REPLICA_CHIPS
    alone = question._replace(chips=(chip,), n_chips=sizes, requests_per_s=float("nan"))
    if not segments_of(alone, calibration, refused):
        return refused.most_common(1)[0][0]
    return next((why for why in table.refused if chip in why), NOTHING_PRICED)
