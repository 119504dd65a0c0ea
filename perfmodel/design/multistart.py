"""Multi-start search: a few starts descend at once, their integers are rounded, others follow.

Starts come in waves of as many as descend together. A wave descends with its integers relaxed and, in its
first steps, schedules chosen less surely; at rest, its integers are rounded and fixed, and it descends
again. Waves begin at new places and beside the best design, by turns; when several starts in a row have
found nothing better, the search is over.
"""

import enum
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from perfmodel.design import first_order, sqp
from perfmodel.design.abstract_problem import AbstractProblem, evaluate_all
from perfmodel.design.integers import (
    MAX_CHOICES,
    best_neighbour,
    best_other_choice,
    merits_of,
    round_integers,
)
from perfmodel.design.starting_points import (
    POINTS_PER_START,
    perturbed_starts,
    sampled_starts,
    start_at,
)
from perfmodel.design.state import (
    INITIAL_SHARPNESS,
    MIN_GAIN,
    SOFTENED_STEPS,
    SearchState,
    archive,
    best_value,
    integers_fixed,
)
from perfmodel.design.study import OptimiserTable
from perfmodel.units import as_scalar

ROUNDING_FTOL = 1e-3
"""A start with relaxed integers is rounded when it has less than this to win, relative."""

FIXED_SHARE = 3
"""One step in so many is for integers that are fixed."""

PATIENCE = 16
"""Starts in a row, or two waves, that find nothing better, after which a search is over: where every choice
has had its turn."""

NEIGHBOURS_ABOVE = 3
"""With more integers than these, their neighbours are tried: what they round to has many optima."""


class Termination(enum.Enum):
    """Why a search ended, if it has."""

    RUNNING = "It goes on."
    AGREED = "Several starts in a row found nothing better."
    EXHAUSTED = "As many starts as were asked for are done."
    INTERRUPTED = "It was ended before its time."


class LocalOptimum(NamedTuple):
    """One local optimum: coordinates and choices, value (minus the objective), slacks."""

    unit: np.ndarray
    choice: np.ndarray
    value: float
    slack: np.ndarray


class SearchResult(NamedTuple):
    """What a search found.

    - `designs`: every local optimum that keeps all limits, the best first.
    - `relaxed`: the best value before integers were rounded.
    - `evaluations`, `gradients`: without and with slopes; `seconds`: taken.
    - `nearest_slack`: the slacks of the design that comes nearest to keeping all limits.
    - `termination`: why it ended.
    """

    designs: list[LocalOptimum]
    relaxed: float
    evaluations: int
    gradients: int
    seconds: float
    nearest_slack: np.ndarray
    termination: Termination

    @property
    def stopped(self) -> bool:
        """Whether it was ended before its time."""
        return self.termination is Termination.INTERRUPTED


def search(
    problem: AbstractProblem,
    integer: np.ndarray,
    options: OptimiserTable,
    state: SearchState | None = None,
    progress: Callable[[SearchState], None] = lambda state: None,
    first: np.ndarray | None = None,
) -> SearchResult:
    """Search a problem.

    **Arguments:**

    - `integer`: which variables are integers.
    - `state`: to go on from, of an earlier search.
    - `progress`: called after each step; Ctrl-C ends the search with what was found.
    - `first`: a start that is wanted beside the others.

    **Returns:**

    The result; with no designs where none keeps every limit.
    """
    began, solver, ended = (
        time.perf_counter(),
        MultiStart(problem, integer, options),
        Termination.RUNNING,
    )
    state = solver.init(first) if state is None else state
    try:
        while (ended := solver.terminate(state)) is Termination.RUNNING:
            state = solver.step(state)
            progress(state)
    except KeyboardInterrupt:
        ended = Termination.INTERRUPTED
    return solver.result(state, time.perf_counter() - began, ended)


AnyProblem = TypeVar("AnyProblem", bound=AbstractProblem)


class MultiStart(NamedTuple, Generic[AnyProblem]):
    """A search: a problem, which of its variables are integers, and how to search it."""

    problem: AnyProblem
    integer: np.ndarray
    options: OptimiserTable

    def init(self, first: np.ndarray | None = None) -> SearchState:
        """Before the first step; `first`: a start that is wanted beside the others."""
        count, zero = self.options.batch_size, np.array(0)
        unit, choice = sampled_starts(self.problem, count, self.options.seed, 0)
        if first is not None:
            unit[0] = first
        states = sqp.init(self.problem, start_at(unit, choice), as_scalar(INITIAL_SHARPNESS))
        return SearchState(
            sqp=states,
            roundings=zero,
            age=zero,
            starts=np.array(count),
            without_gain=zero,
            steps=zero,
            unit=np.zeros((0, unit.shape[1])),
            choice=np.zeros((0, choice.shape[1]), np.int32),
            value=np.zeros(0),
            relaxed=np.array(np.inf),
            nearest_slack=np.full(states.penalty.shape[1], -np.inf),
            evaluations=np.array(count * POINTS_PER_START),
            gradients=np.array(count),
        )

    def step(self, state: SearchState) -> SearchState:
        """One step of all starts; before it, what is due: a sharper model, rounding, or the next wave."""
        if self.phase_is_over(state):
            state = self._next_phase(state)
        if self.options.method != "sqp":
            return self._descended(state)
        sharp = 1.0 if state.roundings or int(state.age) >= SOFTENED_STEPS else INITIAL_SHARPNESS
        states, spent = state.sqp, len(state.sqp.unit)
        if not state.roundings and int(state.age) == SOFTENED_STEPS:
            states, spent = sqp.relinearise(self.problem, states, as_scalar(sharp)), 2 * spent
        return state._replace(
            sqp=sqp.step(self.problem, states, as_scalar(sharp)),
            age=state.age + 1,
            steps=state.steps + 1,
            gradients=state.gradients + spent,
        )

    def _descended(self, state: SearchState) -> SearchState:
        """All starts at rest after a whole descent of first order, which is never softened."""
        method, steps = self.options.method, self.options.steps
        states, spent = first_order.descend(self.problem, state.sqp, method, steps)
        return state._replace(
            sqp=states,
            age=np.array(SOFTENED_STEPS + 1),
            steps=state.steps + 1,
            gradients=state.gradients + spent,
        )

    def terminate(self, state: SearchState) -> Termination:
        """Whether the last wave is at rest and no further one is due, and why."""
        due = self.rounding_is_due(state) or self.neighbours_are_due(state)
        if due or not self.phase_is_over(state):
            return Termination.RUNNING
        after, starts = archive(state, self.integer), int(state.starts)
        turns = 2 * min(int(np.prod(self.problem.options)), MAX_CHOICES)
        agreed = (
            int(after.without_gain) >= max(PATIENCE, 2 * self.options.batch_size) and starts > turns
        )
        if agreed and np.isfinite(after.value).any():
            return Termination.AGREED
        return Termination.EXHAUSTED if starts >= self.options.starts else Termination.RUNNING

    def result(self, state: SearchState, seconds: float, ended: Termination) -> SearchResult:
        """What a state holds, the best design first."""
        last = archive(state, self.integer)
        order = finite_by_value(last.value)
        unit, choice = last.unit[order], last.choice[order]
        value, slack = (
            evaluate_all(self.problem, unit, choice) if order else (last.value, last.value)
        )
        designs = [
            LocalOptimum(unit[i], choice[i], float(value[i]), slack[i]) for i in range(len(order))
        ]
        least = float(np.min(last.value, initial=np.inf))
        relaxed = float(state.relaxed) if self.integer.any() else least
        spent = int(state.evaluations), int(state.gradients)
        return SearchResult(designs, relaxed, *spent, seconds, last.nearest_slack, ended)

    def rounding_is_due(self, state: SearchState) -> bool:
        """Whether a wave has something to round or to choose yet."""
        relaxed = not np.all(integers_fixed(state.sqp, self.integer))
        return int(state.roundings) < 2 and bool(relaxed or self._tries_choices(state))

    def neighbours_are_due(self, state: SearchState) -> bool:
        """Whether a wave at rest found the best design so far, and has integers enough to move together."""
        known = np.min(state.value, initial=np.inf)
        many = int(self.integer.sum()) > NEIGHBOURS_ABOVE
        return many and bool(best_value(state) < known - MIN_GAIN)

    def phase_is_over(self, state: SearchState) -> bool:
        """Whether a phase of a wave has come to its end: by its steps, or because all starts rest."""
        late, age = self.options.steps // FIXED_SHARE, int(state.age)
        if age >= (late if state.roundings else self.options.steps - late):
            return True
        ftol = ROUNDING_FTOL if self.rounding_is_due(state) else sqp.FTOL
        return state.sharp and age > 0 and bool(np.all(sqp.terminated(state.sqp, ftol)))

    def _tries_choices(self, state: SearchState) -> bool:
        """The first starts try other choices where they rest; later ones keep those they were given."""
        first = int(state.starts) == len(state.sqp.unit)
        return bool(first and not state.roundings and np.prod(self.problem.options) > 1)

    def _next_phase(self, state: SearchState) -> SearchState:
        if self.rounding_is_due(state):
            return self._rounded(state)
        if self.neighbours_are_due(state):
            return self._at_neighbours(state)
        return self.next_wave(archive(state, self.integer))

    def _rounded(self, state: SearchState) -> SearchState:
        """All starts with integers rounded and fixed; or on their way with a better choice."""
        if self._tries_choices(state):
            states, spent = best_other_choice(self.problem, state.sqp)
            state = state._replace(gradients=state.gradients + spent)
            if merits_of(states).min() < merits_of(state.sqp).min() - MIN_GAIN:
                return state._replace(sqp=states, age=np.array(SOFTENED_STEPS + 1))
        states, tried = round_integers(self.problem, state.sqp, self.integer)
        relaxed = np.minimum(state.relaxed, best_value(state))
        return state._replace(
            sqp=states,
            roundings=state.roundings + 1,
            age=np.array(0),
            relaxed=state.relaxed if state.roundings else relaxed,
            gradients=state.gradients + len(states.unit),
            evaluations=state.evaluations + tried,
        )

    def _at_neighbours(self, state: SearchState) -> SearchState:
        """The designs of the wave kept, and all starts on their way from the best of their neighbours."""
        states, spent = best_neighbour(self.problem, state.sqp, self.integer)
        return archive(state, self.integer)._replace(
            sqp=states,
            roundings=np.array(1),
            age=np.array(0),
            gradients=state.gradients + spent,
        )

    def next_wave(self, state: SearchState) -> SearchState:
        """New starts: beside the best design and at new places, by turns; every fourth wave is softened."""
        count, seed = self.options.batch_size, self.options.seed
        wave = int(state.starts) // count
        near, sharp = wave % 2 == 1 and bool(np.isfinite(state.value).any()), wave % 4 != 0
        if near:
            best = np.argmin(state.value)
            ranks = int(state.without_gain) // (2 * count) * count + np.arange(count)
            here = state.unit[best], state.choice[best], self.problem.options
            starts = perturbed_starts(*here, ranks, np.random.default_rng([seed, wave]))
        else:
            starts = sampled_starts(self.problem, count, seed, wave)
        sharpness = as_scalar(1.0 if sharp else INITIAL_SHARPNESS)
        return state._replace(
            sqp=sqp.init(self.problem, start_at(*starts), sharpness),
            roundings=np.array(0),
            age=np.array(SOFTENED_STEPS + 1 if sharp else 0),
            starts=state.starts + count,
            evaluations=state.evaluations + (0 if near else count * POINTS_PER_START),
            gradients=state.gradients + count,
        )


def finite_by_value(values: np.ndarray) -> list[int]:
    """Places of the values that are numbers, the least first; a design that keeps no limit has none."""
    return [int(i) for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]
