"""The search: a few starts descend; what must be whole is made whole; others follow until they agree.

Starts come in waves of as many as descend together. A wave descends with numbers of things loose
and, in its first steps, schedules chosen less surely; at rest, its numbers are rounded and held,
and it descends again. Waves begin at new places and beside the best design, by turns; when several starts
in a row have found nothing better, the search is over.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.phases import advance, finished
from perfmodel.design.starts import evaluate
from perfmodel.design.state import State, archived
from perfmodel.design.study import OptimiserTable
from perfmodel.design.waves import first_state


class Found(NamedTuple):
    """One local optimum: coordinates and choices, value (minus the objective), slacks."""

    unit: np.ndarray
    choice: np.ndarray
    value: float
    slack: np.ndarray


class Result(NamedTuple):
    """What a search found.

    - `designs`: every local optimum that keeps all limits, the best first.
    - `loose`: the best before numbers of things were whole.
    - `values`, `looks`: evaluations without and with slopes; `seconds`: taken.
    - `broken`: the slacks of the design that comes nearest to keeping all limits.
    - `stopped`: whether it was ended before its time.
    """

    designs: list[Found]
    loose: float
    values: int
    looks: int
    seconds: float
    broken: np.ndarray
    stopped: bool


def search(
    land: AbstractLandscape,
    whole: np.ndarray,
    options: OptimiserTable,
    state: State | None = None,
    progress: Callable[[State], None] = lambda state: None,
    first: np.ndarray | None = None,
) -> Result:
    """Search a landscape.

    **Arguments:**

    - `whole`: which variables are numbers of things.
    - `state`: to go on from, of an earlier search.
    - `progress`: called after each step; Ctrl-C ends the search with what was found.
    - `first`: a start that is wanted beside the others.

    **Returns:**

    The result; with no designs where none keeps every limit.
    """
    began = time.perf_counter()
    state = first_state(land, options, first) if state is None else state
    stopped = False
    try:
        while not finished(land, state, whole, options):
            state = advance(land, state, whole, options)
            progress(state)
    except KeyboardInterrupt:
        stopped = True
    return result(land, state, whole, time.perf_counter() - began, stopped)


def best_first(values: np.ndarray) -> list[int]:
    """Places of the values that are numbers, the least first; a design that keeps no limit has none."""
    return [int(i) for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]


def result(
    land: AbstractLandscape, state: State, whole: np.ndarray, seconds: float, stopped: bool
) -> Result:
    """What a state holds, the best design first."""
    last = archived(state, whole)
    order = best_first(last.lowest)
    unit, choice = last.unit[order], last.choice[order]
    value, slack = evaluate(land, unit, choice) if order else (last.lowest, last.lowest)
    designs = [Found(unit[i], choice[i], float(value[i]), slack[i]) for i in range(len(order))]
    loose = float(state.loose) if whole.any() else float(np.min(last.lowest, initial=np.inf))
    counts = int(state.values), int(state.looks)
    return Result(designs, loose, *counts, seconds, last.broken, stopped)
