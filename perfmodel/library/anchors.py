"""Factors from measured serving runs, and the ranges that they leave, by stack.

A folder of fitted parameters may hold `anchors.toml`, which `perfmodel calibrate --anchor` writes: a table
for each stack (chip, software with its version, model, format of the weights) whose runs were measured, and
in it one for each deployment of these (its ranks). Other deployments of the stack take the stack's factors,
with a wider range.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.hardware.parameters import Anchor
from perfmodel.library.fitted import SMOOTH, read_fitted
from perfmodel.library.fitted_intervals import MEASURED, Interval, ServingIntervals
from perfmodel.workload.plan import REPLICA_RANKS

ANCHORS = "anchors"
"""The file of what measured runs say of their stacks."""

FACTORS = ("steps", "prompts")
"""Factors on decode steps and on prompts."""

MOST_FACTOR = 10.0
"""A factor on a prediction, at most, and one over it at least: a run further off measures something else."""


MEASURED_RANGE = {"tpot": 1.25, "ttft": 1.59}
"""Factors within which 90 % of the runs of a deployment lie of which one was measured, of TPOT and of TTFT:
of open InferenceX runs of models and chips that no fit has seen, on the prior's kernels (1,020 runs of 59
deployments; `perfmodel.calibration.anchor_accuracy`). On measured kernels TPOT lies within 1.21."""


class Stack(NamedTuple):
    """Whose runs share their factors.

    - `chip`: its name; `framework`: the word of its version, `smooth` where none is named.
    - `model`: its name; `weights`: their format.
    """

    chip: str
    framework: str
    model: str
    weights: str


def stack_of(chip: str, framework: str, version: str, model: str, weights: str) -> Stack:
    """The stack of a deployment, as files name it."""
    return Stack(Path(chip).stem, version or framework or SMOOTH, model, weights)


def tables_of(folder: Path) -> list[dict[str, Any]]:
    """What a folder says of the stacks whose runs were measured."""
    return read_fitted(folder, ANCHORS).get("stack", [])


def find_table(stack: Stack, folder: Path) -> dict[str, Any]:
    """What a folder says of a stack; empty where no run of it was measured."""
    return next((one for one in tables_of(folder) if named_by(one) == stack), {})


def named_by(table: Mapping[str, Any]) -> Stack:
    """The stack that a table is of."""
    return Stack(*(table[name] for name in Stack._fields))


def anchor_of(table: Mapping[str, Any]) -> Anchor:
    """The factors of a stack, and of its deployments beside these."""
    steps, prompts = (table[name] for name in FACTORS)
    ranks, own = (
        np.array([[one[name] for name in names] for one in table.get("deployment", [])], float)
        for names in (REPLICA_RANKS, FACTORS)
    )
    return Anchor(steps, prompts, ranks.reshape(-1, 4), own.reshape(-1, 2) / [steps, prompts])


def measured_intervals(table: Mapping[str, Any]) -> ServingIntervals:
    """Ranges of a stack, and of its deployments that were measured themselves."""
    found = [
        (tuple(one[name] for name in REPLICA_RANKS), *_ends(one))
        for one in table.get("deployment", [])
    ]
    tpot, ttft = _ends(table)
    return ServingIntervals(tpot, ttft, MEASURED, tuple(found))


def _ends(table: Mapping[str, Any]) -> tuple[Interval, Interval]:
    """Ranges of TPOT and of TTFT."""
    later = Interval(table["low"], table["high"])
    return later, Interval(table["first_low"], table["first_high"])
