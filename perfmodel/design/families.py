"""Families of designs, one for each node and memory: which wins where facts are others than is believed.

The best of each family is priced in one `vmap` under draws of every fact, and with each fact doubled.
A family adapts, to first order: what a limit gives or takes counts at the price that it has. And it is
provisioned for as much power as serves it best.
"""

from typing import NamedTuple

import numpy as np

from perfmodel.design.facts import Cases, priced
from perfmodel.design.problem import Problem
from perfmodel.design.search import Found
from perfmodel.design.shelf import KEPT
from perfmodel.design.study import Study
from perfmodel.design.worth import worths

DRAWS = 512
"""Draws of all facts: shares are then known to about two in a hundred."""

SHORT = 1.0
"""Price of a limit that did not bind and now breaks: what is short is made up by as many more chips."""

POWERS = 5
"""Powers to which a design may be provisioned, from its own to the bound."""

WORSE = 1e3
"""Added to the value of a way that breaks a limit: a logarithm that no figure has."""

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
    ways = [_powers(problem, family.designs[0].unit) for family in known]
    unit = np.repeat(np.concatenate(ways), len(logs), axis=0)
    each = len(ways[0]) * len(logs)
    choice = np.repeat([family.designs[0].choice for family in known], each, axis=0)
    prices = np.repeat([family.prices for family in known], each, axis=0)
    value, slack = priced(problem, Cases(np.resize(logs, (len(unit), logs.shape[1])), unit, choice))
    adapted = np.where(prices > 0, -prices * slack, SHORT * np.maximum(-slack, 0.0))
    kept = np.all((prices > 0) | (slack > -KEPT), axis=1)
    shape = (len(known), len(ways[0]), len(logs))
    return _best_way((value + adapted.sum(axis=1)).reshape(shape), kept.reshape(shape))


def _powers(problem: Problem, unit: np.ndarray) -> np.ndarray:
    """A design, and the same provisioned for more power, up to the bound, where that is free."""
    free = np.array([name.rsplit(".", 1)[-1] == "power_w" for name in problem.names])
    steps = np.linspace(0, 1, POWERS if free.any() else 1)[:, None]
    return np.where(free, unit + steps * (1 - unit), unit)


def _best_way(values: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all ways, on the second axis, the one of the least value; of those that keep all limits, if any."""
    best = np.argmin(np.where(kept, values, values + WORSE), axis=1)[:, None]
    value, holds = (np.take_along_axis(part, best, axis=1)[:, 0] for part in (values, kept))
    return value, holds


def shares(values: np.ndarray) -> np.ndarray:
    """Of all columns, the share in which each row has the least value."""
    return np.bincount(np.argmin(values, axis=0), minlength=len(values)) / values.shape[1]
