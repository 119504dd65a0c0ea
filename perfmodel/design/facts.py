r"""What a study takes for granted: prices, technologies, constants; and what follows where they are others.

All of them are one vector of factors, so that one gradient tells the sensitivity to each, and one `vmap`
prices many designs under many draws. At an optimum with multipliers $z_i$ of its limits a fact $p$
moves the best objective by $\partial f/\partial p - \sum_i z_i\,\partial s_i/\partial p$: the design
adapts, which to first order changes nothing more (the envelope theorem).
"""

from dataclasses import fields
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from perfmodel.design.abstract_problem import COMPILER_OPTIONS, EVALUATED_AT_ONCE, Choice, evaluate
from perfmodel.design.problem import Problem
from perfmodel.design.study import SpaceTable
from perfmodel.hardware.constants import Constants
from perfmodel.hardware.cost import Development, Ownership
from perfmodel.hardware.technology import Device, Node, Wires
from perfmodel.units import Scalar, Values, as_scalar, as_values


class Facts(eqx.Module):
    """Everything in a problem that no one designs; leaves as there, or factors on them."""

    node: Node
    memory: Device
    link: Wires
    constants: Constants
    owner: Ownership
    latency_factor: Values
    scenario: dict[str, Scalar]
    development: Development | None
    memory_endurance: Values | None
    macro_endurance: Values | None


PLACES = (
    *("nodes", "memories", "link", "constants", "owner", "latency_factor", "scenario"),
    *("development", "memory_endurance", "macro_endurance"),
)
"""Fields of a problem that are its facts, in the order of those of `Facts`."""


def _fields(problem: Problem) -> list[Any]:
    return [getattr(problem, name) for name in PLACES]


def facts_of(problem: Problem) -> Facts:
    """The facts of a problem."""
    return Facts(*_fields(problem))


def shifted(problem: Problem, logs: Values) -> Problem:
    """The problem with each fact times the exponential of its entry in `logs`, in the order of `names`."""
    values, unravel = ravel_pytree(facts_of(problem))
    new: Facts = unravel(values * jnp.exp(logs))
    found = [getattr(new, field.name) for field in fields(Facts)]
    return eqx.tree_at(_fields, problem, found, is_leaf=lambda leaf: leaf is None)


def names(problem: Problem, space: SpaceTable) -> list[str]:
    """Of all facts, such as `n5.wafer`, `hbm3e.price`, `area.sram` and `owner.tariff`, in order."""
    options = {
        "node": space.node,
        "memory": space.memory,
        "latency_factor": [f"slow.{name}" for name in space.memory],
        "development": space.node,
        "memory_endurance": [f"{name}.endurance" for name in space.memory],
        "macro_endurance": [f"{name}.endurance" for name in space.node],
    }
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(facts_of(problem))[0]:
        first, *rest = [str(getattr(key, "name", getattr(key, "key", ""))) for key in path]
        if first == "constants":
            first, *rest = rest
        group = {"link": space.link, "scenario": "asked"}.get(first, first)
        groups = options[first] if leaf.ndim else [group]
        found += [".".join([one, *rest]) for one in groups]
    return found


SHARES = (
    "owner.margin",
    "owner.busy",
    "cost.loss",
    "cost.repairable",
    "power.sleep_fraction",
    "power.diversity_factor",
)
"""Facts that are at most one, whatever happens."""

MAX_SHARE = 0.99


def within(problem: Problem, facts: list[str], logs: np.ndarray) -> np.ndarray:
    """Logarithms of factors on facts with which shares stay below one."""
    values = np.asarray(ravel_pytree(facts_of(problem))[0], float)
    most = [
        max(np.log(MAX_SHARE / value), 0.0) if name in SHARES else np.inf
        for name, value in zip(facts, values, strict=True)
    ]
    return np.minimum(logs, most)


@eqx.filter_jit
def _slope(problem: Problem, unit: Values, choice: Choice, multipliers: Values) -> Values:
    def lagrangian(logs: Values) -> Scalar:
        found, slack = evaluate(shifted(problem, logs), unit, choice, as_scalar(1.0))
        return found - multipliers @ slack

    return jax.grad(lagrangian)(jnp.zeros(ravel_pytree(facts_of(problem))[0].shape))


def elasticities(
    problem: Problem, unit: np.ndarray, choice: np.ndarray, multipliers: np.ndarray
) -> np.ndarray:
    """Relative gain of the best objective for a relative change of each fact, the design adapted.

    **Arguments:**

    - `unit`, `choice`: of the best design; `multipliers`: of its limits.
    """
    slope = _slope(problem, as_values(unit), jnp.asarray(choice), as_values(multipliers))
    return -np.asarray(slope, float)


class Cases(NamedTuple):
    """Designs under facts, a case a row: logarithms of factors on facts, coordinates, choices."""

    logs: np.ndarray
    unit: np.ndarray
    choice: np.ndarray


def _priced(problem: Problem, logs: Values, unit: Values, choice: Choice) -> tuple:
    return evaluate(shifted(problem, logs), unit, choice, as_scalar(1.0))


_JIT: Any = eqx.filter_jit  # its type leaves out that it hands options on to JAX
_many = _JIT(jax.vmap(_priced, (None, 0, 0, 0)), compiler_options=COMPILER_OPTIONS)


def evaluate_cases(problem: Problem, cases: Cases) -> tuple[np.ndarray, np.ndarray]:
    """Values and slacks of many cases, as many at a time as are compiled for."""
    count = len(cases.unit)
    padded = [
        np.resize(part, (-(-count // EVALUATED_AT_ONCE) * EVALUATED_AT_ONCE, part.shape[1]))
        for part in cases
    ]
    found = [
        _many(
            problem,
            *(
                jnp.asarray(part[at : at + EVALUATED_AT_ONCE], kind)
                for part, kind in zip(padded, KINDS, strict=True)
            ),
        )
        for at in range(0, count, EVALUATED_AT_ONCE)
    ]
    values, slacks = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
    return values, slacks


KINDS = (float, float, int)
