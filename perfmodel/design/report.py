"""What a search found, in words and numbers that can be written down."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.design.existing_chips import size_of
from perfmodel.design.multistart import LocalOptimum, MultiStart, SearchResult
from perfmodel.design.objectives import LARGER, OBJECTIVES
from perfmodel.design.problem import Assessment, Problem, assess, system, system_cost
from perfmodel.design.reoptimise import IntegerNeighbours
from perfmodel.design.sensitivity import Sensitivity, sensitivity
from perfmodel.design.state import MIN_GAIN
from perfmodel.design.study import Study
from perfmodel.design.system import Pool, chip_price
from perfmodel.design.variables import Space
from perfmodel.library.cooling import cooling
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


class SearchReport(NamedTuple):
    """A search's result with its study: what is written and shown.

    - `near`: the designs beside the best one in its integers, where they were looked for.
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

    @property
    def best_logarithms(self) -> np.ndarray:
        """Logarithms of its variables."""
        return self.space.logarithms(self.best.unit)

    @property
    def solver(self) -> MultiStart[Problem]:
        """The search that found it."""
        return MultiStart(self.problem, self.space.integer, self.study.optimiser)

    def assessed(self, integer: bool = False) -> Assessment:
        """The best design's figures and chips; `integer`: in whole cores, tiles, waves and splits."""
        problem = dataclasses.replace(self.problem, integer=integer)
        choice = jnp.asarray(self.best.choice)
        return _assess(problem, as_values(self.best_logarithms), choice, as_scalar(1.0))

    def objective(self, value: float) -> float:
        """The objective in its own unit."""
        return objective_value(self.study, value)

    def variables(self, unit: np.ndarray, choice: np.ndarray) -> dict[str, Any]:
        """A design in the units of studies, with its node and its memory."""
        return self.space.in_study_units(unit) | technologies_of(self.study, choice)


_assess = eqx.filter_jit(assess)
_system = eqx.filter_jit(system)


def areas(problem: Problem, x: np.ndarray) -> dict[str, float]:
    """How the die of the first pool's chip is spent, in mm2."""
    first = jnp.zeros(len(problem.options), int)
    return _areas(_system(problem, as_values(x), first, as_scalar(1.0))[0][0])


def _areas(pool: Pool) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, area in pool.design.blocks.items():
        label = PART_NAMES.get(name, name)
        found[label] = found.get(label, 0.0) + float(area) * 1e6
    return found


def make_report(
    study: Study,
    space: Space,
    problem: Problem,
    result: SearchResult,
    near: dict[str, IntegerNeighbours] | None = None,
) -> SearchReport:
    """With the sensitivity at the best design."""
    solver = MultiStart(problem, space.integer, study.optimiser)
    found = sensitivity(solver, result.designs[0])
    return SearchReport(study, space, problem, result, found, near or {})


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
    study, best, result = found.study, found.best, found.result
    seen, exact = found.assessed(), -float(found.assessed(integer=True).objective)
    elasticities = zip(found.space.names, map(float, found.sensitivity.elasticity), strict=True)
    return {
        "study": study.model_dump(),
        "best": found.variables(best.unit, best.choice),
        "chips": [_chip(pool, found.problem) for pool in seen.pools[0]],
        "figures": _figures(found.problem, seen),
        "cost_basis": study.objective.cost_basis,
        "volume": study.system.volume,
        "utilisation": float(found.problem.owner.busy),
        "objective": found.objective(best.value),
        "objective_exact": found.objective(exact),
        "objective_continuous": found.objective(result.relaxed),
        "loss_of_rounding": float(np.expm1(best.value - result.relaxed)),
        "gap_of_smoothing": float(np.expm1(exact - best.value)),
        "constraints": _limits(found, seen),
        "numbers": {name: _beside(found, seen, one) for name, one in found.near.items()},
        "elasticities": dict(elasticities),
        "local_optima": len(result.designs),
        "evaluations": result.evaluations,
        "gradients": result.gradients,
        "seconds": result.seconds,
        "method": study.optimiser.method,
        "seed": study.optimiser.seed,
    }


def _figures(problem: Problem, seen: Assessment) -> list[dict[str, float]]:
    """Of each workload; a chip's hour is paid for whether it serves or not (`utilisation`)."""
    found = []
    for table, pools, one in zip(seen.figures, seen.pools, seen.served, strict=True):
        chips = sum(float(pool.chips) for pool in pools)
        hour = 3600 * float(system_cost(problem, pools, one).running) / chips
        found.append({n: float(v) for n, v in table.items()} | {"usd_per_chip_hour": hour})
    return found


def _chip(pool: Pool, problem: Problem) -> dict[str, Any]:
    """One chip as made."""
    return size_of(pool.design) | {
        "areas_mm2": _areas(pool),
        "idle_w": float(pool.design.idle),
        "cost_usd": float(pool.design.cost),
        "price_usd": float(chip_price(pool.design, problem.owner)),
        "development_usd": float(pool.design.development),
        "cores": float(pool.design.chip.cores),
        "chips": float(pool.chips),
    }


def _limits(found: SearchReport, seen: Assessment) -> dict[str, Any]:
    """Slack of each limit and its shadow price: relative, for each of its units, and in USD a chip."""
    table = {}
    for i, name in enumerate(found.problem.constraint_names):
        limit = limit_of(found, name)
        price = float(found.sensitivity.multipliers[i])
        table[name] = {"slack": float(found.best.slack[i]), "shadow_price": price}
        if limit:
            table[name] |= {"limit": limit, "gain_per_unit": price / limit}
            table[name] |= _in_usd(found, seen, price / limit)
    return table


def _beside(found: SearchReport, seen: Assessment, one: IntegerNeighbours) -> dict[str, Any]:
    """What one fewer and one more of a thing change, all else designed again; `None`: no limit can be kept.

    It has a price only where the study's bound keeps out one more that would be better.
    """
    fewer, more = (_gain(found, other) for other in (one.fewer, one.more))
    gains = {"gain_of_one_fewer": fewer, "gain_of_one_more": more}
    told = {"at": one.number} | gains | {"on_bound": one.bound}
    if not one.bound or more is None or more <= MIN_GAIN or (fewer is not None and fewer >= 0):
        return told
    return told | _in_usd(found, seen, more)


def _gain(found: SearchReport, other: LocalOptimum | None) -> float | None:
    """How much better another design is than the best, relative."""
    return None if other is None else float(np.expm1(found.best.value - other.value))


def _in_usd(found: SearchReport, seen: Assessment, gain: float) -> dict[str, float]:
    """What a relative gain of money saves over the life of one chip: of all that it costs to run."""
    if not all(OBJECTIVES[name].in_usd for name in found.study.objective.weights):
        return {}
    problem, pools = found.problem, seen.pools[0]
    spent = system_cost(problem, pools, seen.served[0])
    chips = sum(float(pool.chips) for pool in pools)
    life = float(spent.running * problem.owner.life) / chips
    return {"usd_per_unit": gain * life}


def limit_of(found: SearchReport, name: str) -> float | None:
    """A limit in the unit of its name; `None` for limits of nature."""
    limits = found.study.constraints
    plain = name.removeprefix("prefill.").removeprefix("decode.").split(" of workload")[0]
    if plain == "area_mm2":
        return limits.area
    cooled = found.study.system.cooling
    shipped = {} if cooled is None else cooling(cooled).by_name
    return shipped.get(plain, getattr(limits, plain, None))


def describe_conflict(problem: Problem, result: SearchResult) -> str:
    """Which limits cannot be kept together, from the design that comes nearest to it."""
    slacks = dict(zip(problem.constraint_names, map(float, result.nearest_slack), strict=True))
    broken = [(name, slack) for name, slack in slacks.items() if slack < -1e-4]
    tight = [name for name, slack in slacks.items() if -1e-4 <= slack < 5e-3]
    words = ", ".join(f"{name} by {100 * np.expm1(-short):,.3g} %" for name, short in broken)
    beside = f" while {' and '.join(tight)} binds" if tight else ""
    return (
        f"no design keeps every limit: the nearest misses {words or 'none by itself'}{beside}; raise one of "
        "these limits, or widen the bounds of the space."
    )
