"""Machines that nobody sells yet: what a search designs where a study asks, and how sure its rank is.

The best machine of each node and memory; and at each speed of a user the chip that a search designs for it:
a search over SRAM alone and HBM (the preset `sram-or-hbm`), then the front of price against speed, all speeds
in one `vmap`. Integers are relaxed along a front.
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from perfmodel.design.facts import names, within
from perfmodel.design.multistart import LocalOptimum, MultiStart, search
from perfmodel.design.pareto import trace_front
from perfmodel.design.problem import Problem
from perfmodel.design.report import objective_value, technologies_of
from perfmodel.design.resolve import find_study, resolve_study
from perfmodel.design.study import Study
from perfmodel.design.uncertainty import (
    DRAWS,
    Family,
    deviations,
    draws,
    families,
    value_under,
    win_shares,
)
from perfmodel.design.variables import NO_MEMORY, Space, read_space
from perfmodel.errors import InputError
from perfmodel.library.technology import device

SPEED, CONTEXT = 100.0, 1536.0
"""Tokens/s per user that machines of SRAM are bought for, and tokens in the middle of an answer of 1,024
to a prompt of 1,024 (assumed)."""

GOAL = {"objective": {"minimise": "usd_per_million_tokens"}}

FREE = {
    "sram_mb": {"low": 10, "high": 6000},
    "power_w": {"low": 30, "high": 1000},
    "tensor": {"low": 1, "high": 64},
    "pipeline": {"low": 1, "high": 80},
    "batch": {"low": 1, "high": 4096},
}
"""Wide enough that only the layers of the model bind."""


class Winner(NamedTuple):
    """The best design of one node and memory.

    - `design`: its variables in the units of studies; `dollars`: of one output token.
    - `drawn`: the same under draws of every fact, the same draws for all families of a study.
    """

    node: str
    memory: str
    design: dict[str, float]
    dollars: float
    drawn: np.ndarray

    @property
    def chips(self) -> float:
        """That serve one copy of the model."""
        return self.design.get("tensor", 1.0) * self.design.get("pipeline", 1.0)


def searched(
    asked: dict[str, Any],
    change: Callable[[Problem], Problem] = lambda problem: problem,
    more: dict[str, np.ndarray] | None = None,
) -> list[Winner]:
    """Search a study for the cheapest token; the best design of each family, the cheapest first.

    **Arguments:**

    - `asked`: the tables of a study file; its objective is the price of a token.
    - `change`: makes another problem of it, of the same form.
    - `more`: draws of logarithms of factors on facts, by name, beside those of the library.

    **Raises:**

    - `InputError`: when no design keeps every limit.
    """
    study = Study.model_validate(GOAL | asked)
    space, problem = read_space(study), change(resolve_study(study))
    found = search(problem, space.integer, study.optimiser).designs
    if not found:
        raise InputError("no design of this study keeps every limit; widen what is free.")
    found += _left_out(study, change, found)
    known = families(study, MultiStart(problem, space.integer, study.optimiser), found)
    drawn = value_under(problem, known, _drawn(study, problem, more or {}))[0]
    return [_winner(space, one, values) for one, values in zip(known, drawn, strict=True)]


def _left_out(
    study: Study, change: Callable[[Problem], Problem], found: list[LocalOptimum]
) -> list[LocalOptimum]:
    """The best designs of nodes and memories of which a search among all found none, each searched alone."""
    space, more = study.space, []
    every = set(np.ndindex(len(space.node), len(space.memory)))
    for i, j in sorted(every - {tuple(one.choice) for one in found}):
        alone = {"node": [space.node[i]], "memory": [space.memory[j]]}
        only = study.model_copy(update={"space": space.model_copy(update=alone)})
        problem, integer = change(resolve_study(only)), read_space(only).integer
        designs = search(problem, integer, only.optimiser).designs
        more += [one._replace(choice=np.array([i, j])) for one in designs[:1]]
    return more


K = TypeVar("K")


def won(found: dict[K, Winner]) -> dict[K, float]:
    """Share of draws in which each is the cheapest."""
    shares = win_shares(np.stack([one.drawn for one in found.values()]))
    return dict(zip(found, map(float, shares), strict=True))


def least(found: Iterable[Winner]) -> np.ndarray:
    """Draws of USD of the cheapest."""
    return np.min([one.drawn for one in found], axis=0)


def like_an_lpu(context: float = CONTEXT, speed: float = SPEED, **space: Any) -> dict[str, Any]:
    """A study of machines that work like LPU v1, of any size, for users of Llama-3.1-70B.

    **Arguments:**

    - `context`: tokens of a user; `speed`: tokens/s that each gets at least; `space`: what is free beside.
    """
    users = {"precision": "int8", "kv_precision": "bf16", "batch": 64, "context": context}
    return {
        "constraints": {"power_w": 1000, "tokens_per_s_per_user": speed},
        "workload": [{"model": "llama-3.1-70b"} | users],
        "space": {"base": "lpu-v1"} | FREE | space,
    }


def _drawn(study: Study, problem: Problem, more: dict[str, np.ndarray]) -> np.ndarray:
    """Logarithms of factors on facts, a draw a row."""
    facts = names(problem, study.space)
    logs = draws(facts, deviations(study, facts), DRAWS, study.optimiser.seed)
    for name, factor in more.items():
        logs[:, facts.index(name)] += factor
    return within(problem, facts, logs)


def _winner(space: Space, family: Family, values: np.ndarray) -> Winner:
    best = family.designs[0]
    design = space.in_study_units(best.unit)
    dollars = 1e-6 * float(np.exp(best.value))
    return Winner(family.node, family.memory, design, dollars, 1e-6 * np.exp(values))


PRESET = Path("sram-or-hbm")

POINTS = 48
"""Places of each front, at most: they are read between, not interpolated."""


class Designed(NamedTuple):
    """A place of a front.

    - `speed`: tokens/s of one user; `dollars`: of one output token, prompts left out.
    - `held`: bytes of HBM that an output token takes for a second.
    """

    speed: float
    dollars: float
    held: float


@functools.cache
def designed() -> dict[bool, list[Designed]]:
    """Fronts of machines with HBM (`True`) and of SRAM alone (`False`), the slowest first."""
    study = find_study(PRESET)[1]
    space, problem = read_space(study), resolve_study(study)
    options = study.optimiser.model_copy(update={"points": POINTS})
    solver = MultiStart(problem, space.integer, options)
    designs = search(*solver).designs
    found: dict[bool, list[Designed]] = {True: [], False: []}
    for p in trace_front(solver, designs, "tokens_per_s_per_user"):
        hbm = technologies_of(study, p.choice)["memory"] != NO_MEMORY
        held = _held(space, p.unit, p.figure) * hbm
        found[hbm].append(Designed(p.figure, 1e-6 * objective_value(study, p.value), held))
    return {hbm: sorted(front, key=lambda one: one.speed) for hbm, front in found.items()}


def _held(space: Space, unit: np.ndarray, speed: float) -> float:
    """Bytes of all stacks over tokens/s of all users."""
    one = space.in_study_units(unit)
    size = float(device("hbm3e").capacity) * one["stacks"] * one["tensor"] * one["pipeline"]
    return size / (one["batch"] * speed)


def cheapest(front: list[Designed], speed: float) -> Designed | None:
    """The cheapest of a front that is fast enough."""
    return min((p for p in front if p.speed >= speed), key=lambda p: p.dollars, default=None)


def cheaper(fronts: dict[bool, list[Designed]], speeds: np.ndarray) -> np.ndarray:
    """Those of the speeds at which SRAM alone is the cheaper, or all that is fast enough."""
    prices = {
        hbm: np.array([one.dollars if (one := cheapest(front, s)) else np.inf for s in speeds])
        for hbm, front in fronts.items()
    }
    return speeds[prices[False] < prices[True]]
