"""What a search found, in words and numbers that can be written down."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.design.existing_chips import size_in_study_units, size_of
from perfmodel.design.multistart import LocalOptimum, SearchResult
from perfmodel.design.problem import Assessment, Problem, assess, system, system_cost
from perfmodel.design.reoptimise import IntegerNeighbours
from perfmodel.design.sensitivity import Sensitivity, sensitivity
from perfmodel.design.state import MIN_GAIN
from perfmodel.design.study import LARGER, Study
from perfmodel.design.system import Pool
from perfmodel.design.variables import Space, in_study_units
from perfmodel.library.economics import Basis
from perfmodel.units import as_scalar, as_values

PART_NAMES = {
    "matrix": "compute",
    "vector": "compute",
    "double": "compute",
    "cores": "compute",
    "registers": "compute",
    "sram": "SRAM",
    "crossbar": "SRAM ports",
    "stacks": "memory interface",
    "links": "links",
    "bridges": "links",
    "fixed": "fixed",
}
"""What kinds of area are called where a die is drawn."""

IN_USD = ("usd_per_million_tokens", "tokens_per_s_per_usd", "revenue_per_usd")
"""Objectives whose relative gain is one of money."""


class SearchReport(NamedTuple):
    """A search's result with its study: what is written and shown.

    - `near`: the designs beside the best one in its numbers of things, where they were looked for.
    """

    study: Study
    space: Space
    problem: Problem
    result: SearchResult
    sensitivity: Sensitivity
    near: dict[str, IntegerNeighbours]

    @property
    def best(self) -> LocalOptimum:
        """The best design."""
        return self.result.designs[0]

    def assessed(self) -> Assessment:
        """The best design's figures and chips."""
        return assessed(self.problem, logarithms(self.space, self.best.unit), self.best.choice)

    @property
    def best_shown(self) -> dict[str, float]:
        """The best design in the units of studies."""
        return in_study_units(self.space, logarithms(self.space, self.best.unit))


_assess = eqx.filter_jit(assess)
_system = eqx.filter_jit(system)


def assessed(problem: Problem, x: np.ndarray, choice: np.ndarray) -> Assessment:
    """Figures and chips of one design."""
    return _assess(problem, as_values(x), jnp.asarray(choice), as_scalar(1.0))


def areas(problem: Problem, x: np.ndarray) -> dict[str, float]:
    """How the die of the first pool's chip is spent, in mm2."""
    first = jnp.zeros(len(problem.options), int)
    return _areas(_system(problem, as_values(x), first, as_scalar(1.0))[0][0])


def _areas(part: Pool) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, area in part.made.blocks.items():
        label = PART_NAMES.get(name, name)
        found[label] = found.get(label, 0.0) + float(area) * 1e6
    return found


def exact_value(problem: Problem, space: Space, best: LocalOptimum) -> float:
    """The value of a design in whole cores, tiles, waves and splits."""
    exact = dataclasses.replace(problem, integer=True)
    found = assessed(exact, logarithms(space, best.unit), best.choice)
    return -float(found.objective)


def make_report(
    study: Study,
    space: Space,
    problem: Problem,
    result: SearchResult,
    near: dict[str, IntegerNeighbours] | None = None,
) -> SearchReport:
    """With the prices of limits at the best design."""
    found = sensitivity(problem, result.designs[0], space.integer, study.optimiser.lanes)
    return SearchReport(study, space, problem, result, found, near or {})


def logarithms(space: Space, unit: np.ndarray) -> np.ndarray:
    """Logarithms of a design from its coordinates."""
    return space.low + (space.high - space.low) * unit


def objective_value(study: Study, value: float) -> float:
    """The objective in its own unit: of a mix, the weighted geometric mean."""
    only = list(study.objective.weights)
    smaller = len(only) == 1 and only[0] not in LARGER
    return float(np.exp(value if smaller else -value))


def technologies_of(study: Study, choice: np.ndarray) -> dict[str, str]:
    """Names of the node and the memory that are chosen."""
    return {
        "node": study.space.node[int(choice[0])],
        "memory": study.space.memory[int(choice[1])],
    }


def as_dict(found: SearchReport) -> dict[str, Any]:
    """What `result.json` holds."""
    study, space, best, result = found.study, found.space, found.best, found.result
    seen = found.assessed()
    exact = exact_value(found.problem, space, best)
    return {
        "study": study.model_dump(),
        "best": in_study_units(space, logarithms(space, best.unit))
        | technologies_of(study, best.choice),
        "chips": [_chip(part, found.problem) for part in seen.parts[0]],
        "figures": _figures(found.problem, seen),
        "cost_basis": BASIS,
        "utilisation": float(found.problem.owner.busy),
        "objective": objective_value(study, best.value),
        "objective_exact": objective_value(study, exact),
        "objective_continuous": objective_value(study, result.relaxed),
        "loss_of_rounding": float(np.expm1(best.value - result.relaxed)),
        "gap_of_smoothing": float(np.expm1(exact - best.value)),
        "constraints": _limits(found, seen),
        "numbers": {name: _beside(found, seen, one) for name, one in found.near.items()},
        "elasticities": dict(
            zip(space.names, map(float, found.sensitivity.elasticity), strict=True)
        ),
        "local_optima": len(result.designs),
        "evaluations": result.evaluations,
        "gradients": result.gradients,
        "seconds": result.seconds,
        "seed": study.optimiser.seed,
    }


BASIS: Basis = "owner"
"""What the USD of searched machines are of."""


def _figures(problem: Problem, seen: Assessment) -> list[dict[str, float]]:
    """Of each workload; a chip's hour is paid for whether it serves or not (`utilisation`)."""
    found = []
    for table, parts, one in zip(seen.figures, seen.parts, seen.served, strict=True):
        chips = sum(float(part.chips) for part in parts)
        hour = 3600 * float(system_cost(problem, parts, one).running) / chips
        found.append({n: float(v) for n, v in table.items()} | {"usd_per_chip_hour": hour})
    return found


def _chip(part: Pool, problem: Problem) -> dict[str, Any]:
    """One chip as made."""
    return size_in_study_units(size_of(part.made)) | {
        "areas_mm2": _areas(part),
        "idle_w": float(part.made.idle),
        "cost_usd": float(part.made.cost),
        "price_usd": float(part.made.cost / (1 - problem.owner.margin)),
        "cores": float(part.made.chip.cores),
        "chips": float(part.chips),
    }


def _limits(found: SearchReport, seen: Assessment) -> dict[str, Any]:
    """Slack of each limit, and what it is worth: relative, for each of its units, and in USD a chip."""
    table = {}
    for i, name in enumerate(found.problem.constraint_names):
        limit = limit_of(found, name)
        price = float(found.sensitivity.multipliers[i])
        table[name] = {"slack": float(found.best.slack[i]), "shadow_price": price}
        if limit:
            table[name] |= {"limit": limit, "gain_per_unit": price / limit} | _in_usd(
                found, seen, price / limit
            )
    return table


def _beside(found: SearchReport, seen: Assessment, one: IntegerNeighbours) -> dict[str, Any]:
    """What one fewer and one more of a thing change, all else designed again; `None`: no limit can be kept.

    It has a price only where the study's bound keeps out one more that would be better.
    """
    fewer, more = (_gain(found, other) for other in (one.fewer, one.more))
    told = {
        "at": one.number,
        "gain_of_one_fewer": fewer,
        "gain_of_one_more": more,
        "on_bound": one.bound,
    }
    worth_it = one.bound and more is not None and more > MIN_GAIN and (fewer is None or fewer < 0)
    return told | (_in_usd(found, seen, more) if worth_it and more is not None else {})


def _gain(found: SearchReport, other: LocalOptimum | None) -> float | None:
    """How much better another design is than the best, relative."""
    return None if other is None else float(np.expm1(found.best.value - other.value))


def _in_usd(found: SearchReport, seen: Assessment, gain: float) -> dict[str, float]:
    """What a relative gain of money saves over the life of one chip: of all that it costs to run."""
    if not set(found.study.objective.weights) <= set(IN_USD):
        return {}
    problem, parts = found.problem, seen.parts[0]
    spent = system_cost(problem, parts, seen.served[0])
    chips = sum(float(part.chips) for part in parts)
    life = float(spent.running * problem.owner.life) / chips
    return {"usd_per_unit": gain * life}


def limit_of(found: SearchReport, name: str) -> float | None:
    """A limit in the unit of its name; `None` for limits of nature."""
    limits = found.study.constraints
    plain = name.removeprefix("prefill.").removeprefix("decode.").split(" of workload")[0]
    if plain == "area_mm2":
        return limits.area
    return getattr(limits, plain, None)


def describe_conflict(problem: Problem, result: SearchResult) -> str:
    """Which limits cannot be kept together, from the design that comes nearest to it."""
    slack = result.nearest_slack
    broken = [
        (n, float(s)) for n, s in zip(problem.constraint_names, slack, strict=True) if s < -1e-4
    ]
    tight = [n for n, s in zip(problem.constraint_names, slack, strict=True) if -1e-4 <= s < 5e-3]
    words = ", ".join(f"{name} by {100 * np.expm1(-short):,.3g} %" for name, short in broken)
    beside = f" while {' and '.join(tight)} binds" if tight else ""
    return (
        f"no design keeps every limit: the nearest misses {words or 'none by itself'}{beside}; raise one of "
        "these limits, or widen the bounds of the space."
    )
