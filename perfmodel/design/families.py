"""Families of designs, one for each node and memory: which wins where facts are others than is believed.

The best of each family is priced in one `vmap` under draws of every fact, and with each fact doubled.
A family adapts, to first order: what a limit gives or takes counts at the price that it has.
"""

from typing import NamedTuple

import numpy as np

from perfmodel.design.facts import Cases, priced
from perfmodel.design.problem import Problem
from perfmodel.design.search import Found
from perfmodel.design.shelf import KEPT
from perfmodel.design.starts import PENALTY
from perfmodel.design.study import Study
from perfmodel.design.worth import worths

DRAWS = 512
"""Draws of all facts: shares are then known to about two in a hundred."""

APART = 0.05
"""Of a variable's range, by which two designs of a family differ at least to be called two."""


class Family(NamedTuple):
    """Designs of one node and one memory: `designs`, the best first; `prices` of its limits there."""

    node: str
    memory: str
    designs: list[Found]
    prices: np.ndarray

    @property
    def name(self) -> str:
        """Node and memory."""
        return f"{self.node}, {self.memory}"


def families(
    study: Study, problem: Problem, designs: list[Found], whole: np.ndarray
) -> list[Family]:
    """Of the designs that a search found, the best family first."""
    groups: dict[tuple[int, ...], list[Found]] = {}
    for one in designs:
        mine = groups.setdefault(tuple(map(int, one.choice)), [])
        if all(np.max(np.abs(one.unit - other.unit)) > APART for other in mine):
            mine.append(one)
    lanes = study.optimiser.lanes
    found = worths(problem, [group[0] for group in groups.values()], whole, lanes)
    return [
        Family(study.space.node[node], study.space.memory[memory], group, one.prices)
        for ((node, memory), group), one in zip(groups.items(), found, strict=True)
    ]


def under(problem: Problem, known: list[Family], logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The value of each family, on the first axis, with facts changed by each row of `logs`.

    Beside it, whether it keeps the limits to which it does not adapt: those that did not bind before.
    """
    best = [family.designs[0] for family in known]
    unit, choice = (np.repeat(part, len(logs), axis=0) for part in _places(best))
    value, slack = priced(problem, Cases(np.tile(logs, (len(known), 1)), unit, choice))
    prices = np.repeat([family.prices for family in known], len(logs), axis=0)
    adapted = np.where(prices > 0, -prices * slack, PENALTY * np.maximum(-slack, 0.0))
    kept = np.all((prices > 0) | (slack > -KEPT), axis=1)
    shape = (len(known), len(logs))
    return (value + adapted.sum(axis=1)).reshape(shape), kept.reshape(shape)


def _places(designs: list[Found]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([d.unit for d in designs]), np.array([d.choice for d in designs])


def shares(values: np.ndarray) -> np.ndarray:
    """Of all columns, the share in which each row has the least value."""
    return np.bincount(np.argmin(values, axis=0), minlength=len(values)) / values.shape[1]
