"""One design descended again: under other facts, with a number of things held, or from a chip that is sold.

Numbers of things are loose at first, then rounded, as in a search; other choices are not tried.
"""

import jax.numpy as jnp
import numpy as np

from perfmodel.design.descent import Lane, begin, rests, step
from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.neighbours import neighbour
from perfmodel.design.rounding import rounded
from perfmodel.design.search import Found
from perfmodel.design.starts import at, evaluate
from perfmodel.design.state import BETTER, is_whole
from perfmodel.units import as_scalar

STEPS = 24
"""Of descent before each rounding and after it, at most."""

ROUNDINGS = 2
"""Small numbers of things first, large ones after the rest has adapted."""


def reoptimised(
    land: AbstractLandscape, start: Found, whole: np.ndarray, lanes: int, moves: int = 0
) -> Found | None:
    """The best design that a descent from `start` finds; `None` where none keeps every limit.

    **Arguments:**

    - `whole`: which variables are numbers of things.
    - `lanes`: as many as the search had, for which slopes are compiled; all begin alike.
    - `moves`: times that numbers of things then move together by one, while that is better.
    """
    now = _made_whole(land, _at_rest(land, _begun(land, start, lanes)), whole)
    for _ in range(moves):
        moved = _made_whole(land, _at_rest(land, neighbour(land, now, whole)[0]), whole)
        if not np.min(moved.lowest) < np.min(now.lowest) - BETTER:
            break
        now = moved
    lowest = np.asarray(now.lowest, float)
    i = int(np.argmin(lowest))
    if not np.isfinite(lowest[i]):
        return None
    return found_at(land, np.asarray(now.best[i], float), np.asarray(now.choice[i]))


def _made_whole(land: AbstractLandscape, lanes: Lane, whole: np.ndarray) -> Lane:
    for _ in range(ROUNDINGS):
        if np.all(is_whole(lanes, whole)):
            break
        lanes = _at_rest(land, rounded(land, lanes, whole)[0])
    return lanes


def found_at(land: AbstractLandscape, unit: np.ndarray, choice: np.ndarray) -> Found:
    """A design where it is."""
    value, slack = evaluate(land, unit[None], choice[None])
    return Found(unit, choice, float(value[0]), slack[0])


def _begun(land: AbstractLandscape, start: Found, lanes: int) -> Lane:
    unit, choice = (np.tile(part, (lanes, 1)) for part in (start.unit, start.choice))
    return begin(land, at(unit, choice, len(start.slack)), as_scalar(1.0))


def _at_rest(land: AbstractLandscape, lanes: Lane) -> Lane:
    for _ in range(STEPS):
        lanes = step(land, lanes, as_scalar(1.0))
        if bool(jnp.all(rests(lanes, BETTER))):
            break
    return lanes
