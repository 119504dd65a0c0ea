"""What helps to decide: chips that are sold, what facts move, which family wins, and where."""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.design.existing_chips import Rival, ahead, rivals, written
from perfmodel.design.facts import SHARES, elasticities, names, within
from perfmodel.design.reoptimise import Doubled, doubled
from perfmodel.design.report import Answer, objective, vector
from perfmodel.design.uncertainty import DRAWS, Family, doubts, draws, families, shares, under
from perfmodel.design.variables import RANKS, shown
from perfmodel.design.winner_map import Map, maps
from perfmodel.hardware.cost import price
from perfmodel.units import as_scalar

NOTHING = 1e-4
"""Elasticities below this are not told."""

SEARCHED = 10
"""Facts with which the study is searched again, doubled: the strongest; a second or two each."""


class Decision(NamedTuple):
    """Beside an answer.

    - `rivals`: chips of the library, the nearest first.
    - `facts`: names; `elasticity`: of the best objective to each; `doubled`: of those that were searched
      again with the fact doubled, by name, the design found; `None` where none keeps every limit.
    - `families`: the best first; `share`: of draws that each wins; `maps`: who wins where.
    """

    rivals: list[Rival]
    facts: list[str]
    elasticity: np.ndarray
    doubled: dict[str, Doubled | None]
    families: list[Family]
    share: np.ndarray
    maps: list[Map]


def decide(found: Answer) -> Decision:
    """Weigh the best design of a search against all else."""
    study, space, problem, best = found.study, found.space, found.problem, found.best
    facts = names(problem, study.space)
    known = families(study, problem, found.result.designs, space.whole)
    drawn = draws(facts, doubts(study, facts), DRAWS, study.optimiser.seed)
    moved = elasticities(problem, best.unit, best.choice, found.worth.prices)
    return Decision(
        sold_beside(found),
        facts,
        moved,
        doubled(problem, space, known, _strongest(facts, moved), study.optimiser.lanes),
        known,
        shares(under(problem, known, within(problem, facts, drawn))[0]),
        maps(problem, space, known, facts),
    )


def sold_beside(found: Answer) -> list[Rival]:
    """Chips that are sold beside the best design, the nearest first."""
    made = found.assessed().parts[0][-1].made
    return rivals(found.problem, found.space, made, vector(found.space, found.best.unit))


def _strongest(facts: list[str], elasticity: np.ndarray) -> dict[str, int]:
    """Names and places of the facts that are doubled: those that move the objective most."""
    order = np.argsort(-np.abs(elasticity), kind="stable")
    able = [i for i in order if facts[i] not in SHARES and abs(elasticity[i]) > NOTHING]
    return {facts[i]: int(i) for i in able[:SEARCHED]}


def weighed(found: Answer) -> dict[str, Any]:
    """The same as `result.json` holds it."""
    study, decision = found.study, decide(found)
    return {
        "ahead": [_ahead(found, one) for one in ahead(decision.rivals, found.best)],
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


def _ahead(found: Answer, one: Rival) -> dict[str, Any]:
    """A chip that is sold, keeps every limit, and is better than the best design."""
    return {"chip": one.name, "objective": objective(found.study, one.value)}


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
        | _if_doubled(found, decision, decision.facts[i])
        for i in order
        if abs(decision.elasticity[i]) > NOTHING
    }


def _if_doubled(found: Answer, decision: Decision, name: str) -> dict[str, Any]:
    """What a search with the fact doubled found, and whether there was one."""
    one = decision.doubled.get(name)
    return {
        "if_doubled": None if one is None else objective(found.study, one.design.value),
        "best_if_doubled": None if one is None else one.family,
        "searched_doubled": name in decision.doubled,
    }
