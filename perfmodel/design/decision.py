"""What helps to decide: chips that are sold, what facts move, which family wins, and where."""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.design.answer import Answer, objective, vector
from perfmodel.design.crossing import Map, maps
from perfmodel.design.doubt import doubts, draws
from perfmodel.design.facts import SHARES, elasticities, names, within
from perfmodel.design.families import DRAWS, Family, families, shares, under
from perfmodel.design.shelf import Rival, rivals, written
from perfmodel.design.space import RANKS, shown
from perfmodel.hardware.cost import price
from perfmodel.units import as_scalar

NOTHING = 1e-4
"""Elasticities below this are not told."""


class Decision(NamedTuple):
    """Beside an answer.

    - `rivals`: chips of the library, the nearest first.
    - `facts`: names; `elasticity`: of the best objective to each; `doubled`: values of each family, on
      the first axis, with each fact doubled; infinite where that breaks a limit.
    - `families`: the best first; `share`: of draws that each wins; `maps`: who wins where.
    """

    rivals: list[Rival]
    facts: list[str]
    elasticity: np.ndarray
    doubled: np.ndarray
    families: list[Family]
    share: np.ndarray
    maps: list[Map]


def decide(found: Answer) -> Decision:
    """Weigh the best design of a search against all else."""
    study, space, problem, best = found.study, found.space, found.problem, found.best
    made, facts = found.assessed().parts[0][-1].made, names(problem, study.space)
    known = families(study, problem, found.result.designs, space.whole)
    drawn = draws(facts, doubts(study, facts), DRAWS, study.optimiser.seed)
    doubled, kept = under(problem, known, np.log(2) * np.eye(len(facts)))
    return Decision(
        rivals(problem, space, made, vector(space, best.unit)),
        facts,
        elasticities(problem, best.unit, best.choice, found.worth.prices),
        np.where(kept, doubled, np.inf),
        known,
        shares(under(problem, known, within(problem, facts, drawn))[0]),
        maps(problem, space, known, facts),
    )


def weighed(found: Answer) -> dict[str, Any]:
    """The same as `result.json` holds it."""
    study, decision = found.study, decide(found)
    return {
        "rivals": [_rival(found, one) for one in decision.rivals],
        "facts": _facts(found, decision),
        "families": [
            {"name": one.name, "objective": objective(study, one.designs[0].value)}
            | {"share_of_draws": float(share)}
            for one, share in zip(decision.families, decision.share, strict=True)
        ],
        "maps": [
            {
                "x": one.x.title,
                "y": one.y.title,
                "places": [place._asdict() for place in one.places],
            }
            for one in decision.maps
        ],
    }


def _rival(found: Answer, one: Rival) -> dict[str, Any]:
    ours = {
        name: value
        for name, value in shown(found.space, one.vector).items()
        if name.rsplit(".", 1)[-1] in (*RANKS, "batch")
    }
    return (
        {
            "chip": one.name,
            "objective": objective(found.study, one.value),
            "broken": list(one.broken),
        }
        | {"distance": one.distance}
        | written(one.size)
        | {"price_usd": float(price(as_scalar(one.cost), found.problem.owner))}
        | ours
    )


def _facts(found: Answer, decision: Decision) -> dict[str, dict[str, Any]]:
    """Those that matter, the strongest first."""
    order = np.argsort(-np.abs(decision.elasticity))
    return {
        decision.facts[i]: {"elasticity": float(decision.elasticity[i])}
        | _if_doubled(found, decision, i)
        for i in order
        if abs(decision.elasticity[i]) > NOTHING
    }


def _if_doubled(found: Answer, decision: Decision, i: int) -> dict[str, Any]:
    """The best objective and its family; none for shares, which cannot double, and where no family keeps
    the limits without another design.
    """
    values = decision.doubled[:, i]
    if decision.facts[i] in SHARES or not np.isfinite(values).any():
        return {"if_doubled": None, "best_if_doubled": None}
    best = int(np.argmin(values))
    value = objective(found.study, float(values[best]))
    return {"if_doubled": value, "best_if_doubled": decision.families[best].name}
