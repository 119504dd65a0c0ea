"""What follows where a fact doubles: the study searched again, shortly, from the best of its families.

To first order numbers of things are held, and a design that no longer fits is lost. So each family begins
in the number of chips and of users that suits it best then, and is designed again, its numbers free.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from perfmodel.design.facts import facts_of, shifted
from perfmodel.design.families import Family
from perfmodel.design.problem import Problem
from perfmodel.design.reoptimise import reoptimised
from perfmodel.design.search import Found
from perfmodel.design.shelf import ways
from perfmodel.design.space import RANKS, Space
from perfmodel.design.starts import evaluate, merit

MOST_FAMILIES = 3
"""Families that are designed again for each fact, at most: the best where each begins."""

MOST_WAYS = 256
"""Numbers of chips and of users among which each family begins, at most."""


class Doubled(NamedTuple):
    """The best design where a fact doubles, and the name of its family."""

    design: Found
    family: str


def doubled(
    problem: Problem, space: Space, known: list[Family], facts: dict[str, int], lanes: int
) -> dict[str, Doubled | None]:
    """For each fact, by its name and its place among all, the best where it doubles."""
    begins = [ways(space, _vector(space, one), (*RANKS, "batch"), MOST_WAYS) for one in known]
    count = len(ravel_pytree(facts_of(problem))[0])
    found = {}
    for name, i in facts.items():
        land = shifted(problem, jnp.zeros(count).at[i].set(jnp.log(2.0)))
        starts = _starts(land, space, known, begins)
        found[name] = _best(land, space, known, starts, lanes)
    return found


def _vector(space: Space, one: Family) -> np.ndarray:
    return space.low + (space.high - space.low) * one.designs[0].unit


def _starts(
    land: Problem, space: Space, known: list[Family], begins: list[np.ndarray]
) -> dict[int, Found]:
    """Where the families begin that begin best, by their places."""
    unit = (np.concatenate(begins) - space.low) / (space.high - space.low)
    owner = np.repeat(np.arange(len(known)), [len(each) for each in begins])
    choice = np.array([one.designs[0].choice for one in known])[owner]
    value, slack = evaluate(land, unit, choice)
    score, starts = merit(value, slack), {}
    for at in np.argsort(score, kind="stable"):
        if int(owner[at]) not in starts and len(starts) < MOST_FAMILIES:
            starts[int(owner[at])] = Found(unit[at], choice[at], float(value[at]), slack[at])
    return starts


def _best(
    land: Problem, space: Space, known: list[Family], starts: dict[int, Found], lanes: int
) -> Doubled | None:
    """The best of what descents from all starts find."""
    found = [
        Doubled(design, known[i].name)
        for i, start in starts.items()
        for design in [reoptimised(land, start, space.whole, lanes)]
        if design is not None
    ]
    return min(found, key=lambda one: one.design.value, default=None)
