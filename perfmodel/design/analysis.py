"""What helps to decide: existing chips, sensitivity to facts, which family wins, and where."""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.cluster import Runner, here
from perfmodel.design.existing_chips import (
    ExistingChip,
    better_chips,
    compared_chips,
)
from perfmodel.design.facts import SHARES, elasticities, names, within
from perfmodel.design.reoptimise import DoubledFact, search_doubled
from perfmodel.design.report import SearchReport
from perfmodel.design.uncertainty import (
    DRAWS,
    Family,
    deviations,
    draws,
    families,
    value_under,
    win_shares,
)
from perfmodel.design.variables import PARALLELISM, plain_name
from perfmodel.design.winner_map import WinnerMap, winner_maps
from perfmodel.hardware.cost import price
from perfmodel.units import as_scalar

MIN_ELASTICITY = 1e-4
"""Elasticities below this are not told."""

MAX_DOUBLED = 10
"""Facts with which the study is searched again, doubled: the strongest; a second or two each."""


class Analysis(NamedTuple):
    """Beside a report.

    - `existing`: chips of the library, the nearest first.
    - `facts`: names; `elasticity`: of the best objective to each; `doubled`: of those that were searched
      again with the fact doubled, by name, the design found; `None` where none keeps every limit.
    - `families`: the best first; `share`: of draws that each wins; `maps`: who wins where.
    """

    existing: list[ExistingChip]
    facts: list[str]
    elasticity: np.ndarray
    doubled: dict[str, DoubledFact | None]
    families: list[Family]
    share: np.ndarray
    maps: list[WinnerMap]


def analyse(found: SearchReport, run: Runner[Any, Any] = here) -> Analysis:
    """Weigh the best design of a search against all else; `run`: who searches again."""
    study, space, problem, best = found.study, found.space, found.problem, found.best
    facts = names(problem, study.space)
    known = families(study, found.solver, found.result.designs)
    drawn = draws(facts, deviations(study, facts), DRAWS, study.optimiser.seed)
    moved = elasticities(problem, best.unit, best.choice, found.sensitivity.multipliers)
    return Analysis(
        compare_existing(found),
        facts,
        moved,
        search_doubled(found.solver, space, known, _strongest(facts, moved), run),
        known,
        win_shares(value_under(problem, known, within(problem, facts, drawn))[0]),
        winner_maps(problem, space, known, facts),
    )


def compare_existing(found: SearchReport) -> list[ExistingChip]:
    """Existing chips beside the best design, the nearest first."""
    design = found.assessed().pools[0][-1].design
    return compared_chips(found.problem, found.space, design, found.best.unit)


def _strongest(facts: list[str], elasticity: np.ndarray) -> dict[str, int]:
    """Names and places of the facts that are doubled: those that move the objective most."""
    order = np.argsort(-np.abs(elasticity), kind="stable")
    able = [i for i in order if facts[i] not in SHARES and abs(elasticity[i]) > MIN_ELASTICITY]
    return {facts[i]: int(i) for i in able[:MAX_DOUBLED]}


def analysis_dict(found: SearchReport, run: Runner[Any, Any] = here) -> dict[str, Any]:
    """The same as `result.json` holds it."""
    analysis = analyse(found, run)
    return {
        "ahead": [_named(found, one) for one in better_chips(analysis.existing, found.best)],
        "rivals": [_existing(found, one) for one in analysis.existing],
        "facts": _facts(found, analysis),
        "families": [
            {"name": one.name, "objective": found.objective(one.designs[0].value)}
            | {"share_of_draws": float(share)}
            for one, share in zip(analysis.families, analysis.share, strict=True)
        ],
        "maps": [
            {
                "x": one.x.title,
                "y": one.y.title,
                "places": [place._asdict() for place in one.places],
            }
            for one in analysis.maps
        ],
    }


def _named(found: SearchReport, one: ExistingChip) -> dict[str, Any]:
    return {"chip": one.name, "objective": found.objective(one.value)}


def _existing(found: SearchReport, one: ExistingChip) -> dict[str, Any]:
    owner, own = found.problem.owner, found.space.in_study_units(one.unit)
    counts = (*PARALLELISM, "batch")
    return (
        _named(found, one)
        | {"broken": list(one.broken), "distance": one.distance}
        | one.size
        | {"price_usd": float(price(as_scalar(one.cost), owner))}
        | {name: value for name, value in own.items() if plain_name(name) in counts}
    )


def _facts(found: SearchReport, analysis: Analysis) -> dict[str, dict[str, Any]]:
    """Those that matter, the strongest first."""
    order = np.argsort(-np.abs(analysis.elasticity))
    return {
        analysis.facts[i]: {"elasticity": float(analysis.elasticity[i])}
        | _if_doubled(found, analysis, analysis.facts[i])
        for i in order
        if abs(analysis.elasticity[i]) > MIN_ELASTICITY
    }


def _if_doubled(found: SearchReport, analysis: Analysis, name: str) -> dict[str, Any]:
    """What a search with the fact doubled found, and whether there was one."""
    one = analysis.doubled.get(name)
    return {
        "if_doubled": None if one is None else found.objective(one.design.value),
        "best_if_doubled": None if one is None else one.family,
        "searched_doubled": name in analysis.doubled,
    }
