"""Between what factors 90 % of measured times lie, of kernels and of services, by their basis."""

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.errors import InputError
from perfmodel.library.fitted import (
    FITTED,
    SMOOTH,
    Origin,
    all_hosts,
    all_sections,
    host_sections,
    read_fitted,
    read_prior,
    release_fit,
    sibling,
)
from perfmodel.library.framework import releases_of
from perfmodel.library.serving_ranges import MODELLED, MODELS, Grades, load_ends
from perfmodel.workload.plan import Plan

SIBLING_WIDENING = 1.15
"""How much wider the interval of a sibling's parameters is, at both ends. With it 83 % (latent decode) to
96 % (decode) of the rows of chips that were left out lie inside (protocol.csv, split `chip`)."""

MEASURED = "measured"
"""The basis of services whose stack has measured runs, which scale predictions (`library.anchors`)."""

BASES = (MEASURED, *MODELLED)
"""What predictions rest on, the surest first."""


LEVELS = {50: 0.0, 80: 0.8416, 90: 1.2816}
"""Levels of confidence, in %: standard deviations below which a normal variable lies so often."""

HIGH_END = 1.6449
"""The same of the high end of an interval, below which 95 % lie."""


class Interval(NamedTuple):
    """Factors on a prediction between which 90 % of measurements are expected; numbers, or arrays of them."""

    low: Any
    high: Any

    def bound(self, confidence: int) -> Any:
        r"""The factor below which a measurement lies with a probability: the high end to the power
        $z_c / z_{95}$.

        Logarithms of measured over predicted are taken as normal, so at 50 % it is the prediction itself.

        **Arguments:**

        - `confidence`: the probability, in %: one of `LEVELS`.

        **Raises:**

        - `InputError`: for another level.
        """
        if confidence not in LEVELS:
            levels = ", ".join(map(str, LEVELS))
            raise InputError(f"there is no confidence of {confidence} %; the levels are {levels}.")
        return self.high ** (LEVELS[confidence] / HIGH_END)


def basis_of(origin: Origin, family: str, folder: Path = FITTED) -> str:
    """Where a family's parameters come from: one of `MODELLED`."""
    if read_fitted(folder, origin.stem).get(family):
        return "fitted"
    return "sibling" if read_fitted(folder, sibling(origin, folder)).get(family) else "prior"


def basis_of_plan(origin: Origin, family: str, plan: Plan, folder: Path = FITTED) -> str:
    """Where a family's parameters for a plan come from: those of another release are a sibling's at best."""
    basis = basis_of(origin, family, folder)
    if not plan.release:
        return basis
    section, exact = release_fit(origin, family, plan.framework or SMOOTH, plan, folder)
    return ("fitted" if section else basis) if exact else weakest([basis, "sibling"])


def with_software(basis: str, software: str) -> str:
    """A basis as it is said, with the generation of a chip's own software; empty: there is none."""
    return ", ".join(filter(None, (basis, software)))


def basis_in(said: str) -> str:
    """The basis of what `with_software` says."""
    return said.partition(",")[0]


def weakest(bases: Iterable[str]) -> str:
    """The basis of what rests on several."""
    return max(bases, key=BASES.index)


def load_interval(origin: Origin, family: str, plan: Plan, folder: Path = FITTED) -> Interval:
    """The interval of a family's predictions: of the most specific fit, else the prior's.

    A sibling's is widened.
    """
    found = [prior_range(read_prior(origin.execution, folder), family)]
    found += all_sections(origin, family, plan.framework or SMOOTH, plan, folder)
    given = [section for section in found if "low" in section][-1]
    wider = SIBLING_WIDENING if basis_of_plan(origin, family, plan, folder) == "sibling" else 1.0
    return Interval(given["low"] / wider, given["high"] * wider)


SERVICE = "service"
"""The table of the prior with the intervals of services that were not fitted, by their basis."""


def prior_range(prior: dict[str, Any], family: str) -> dict[str, float]:
    """What the prior expects of a family: as measured of it, else of all families."""
    return prior[family] if "low" in prior[family] else prior["interval"]


class ServingIntervals(NamedTuple):
    """Factors on TPOT and on TTFT between which 90 % of measurements are expected, and the basis of the
    weakest part.

    - `deployments`: of which runs were measured: their ranks (tp, pp, ep, dp), and their own two intervals.
    - `grades`: what the range of a launched chip rests on.
    """

    tpot: Interval
    ttft: Interval
    basis: str
    deployments: tuple[tuple[tuple[float, ...], Interval, Interval], ...] = ()
    grades: Grades = Grades(MODELLED[-1], MODELS[-1])

    def at(self, ranks: Sequence[Any]) -> "ServingIntervals":
        """Those of a deployment with some ranks (tp, pp, ep, dp), or of many where these are arrays."""
        ends = [*self.tpot, *self.ttft]
        for own, tpot, ttft in self.deployments:
            alike = np.all([np.equal(rank, x) for rank, x in zip(ranks, own, strict=True)], axis=0)
            ends = [np.where(alike, x, end) for x, end in zip([*tpot, *ttft], ends, strict=True)]
        return self._replace(tpot=Interval(*ends[:2]), ttft=Interval(*ends[2:]))


def load_serving_intervals(
    origin: Origin,
    plan: Plan,
    families: Collection[str],
    model: str = MODELS[-1],
    folder: Path = FITTED,
) -> ServingIntervals:
    """Of a framework on a launched chip as far as measured runs of its grades lay from predictions; of the
    best schedule, and of other machines, as wide as published results lie.

    **Arguments:**

    - `families`: of the kernels that the model runs.
    - `model`: one of `MODELS`.
    """
    hosts = host_sections(origin, plan, folder)
    kernels = [basis_of_plan(origin, family, plan, folder) for family in families]
    grades = Grades(weakest([*kernels, _host_basis(hosts, origin, plan)]), model)
    basis = weakest([grades.chip, "fitted" if model == MODELS[0] else "sibling"])
    if not (plan.framework and origin.execution == "launched"):
        ends = _without_framework(hosts, origin.execution, basis, folder)
        return ServingIntervals(*ends, basis, grades=grades)
    wider = SIBLING_WIDENING if grades.chip == MODELLED[1] else 1.0
    ends = [Interval(low / wider, high * wider) for low, high in load_ends(grades, folder)]
    if grades.chip == MODELLED[-1]:
        published = _published(origin.execution, grades.chip, folder)
        ends = [_around(one, published) for one in ends]
    return ServingIntervals(ends[0], ends[1], basis, grades=grades)


def _host_basis(hosts: Sequence[dict[str, Any]], origin: Origin, plan: Plan) -> str:
    """A host was fitted to runs of some chips, not to a release; elsewhere it is that of their siblings."""
    runs = hosts[-1].get("report", {}) if hosts else {}
    newest = plan.release in ("", *releases_of(plan.framework or "")[-1:])
    return "fitted" if newest and origin.stem in runs.get("chips", ()) else "sibling"


def _without_framework(
    hosts: Sequence[dict[str, Any]], execution: str, basis: str, folder: Path
) -> tuple[Interval, Interval]:
    """Of TPOT and TTFT of the best schedule: where runs had the chip and the model, between those of all
    frameworks; else as wide as published results lie, and no narrower. TTFT widens as TPOT does, for nobody
    publishes it.
    """
    last = next((host for host in reversed(hosts) if "low" in host), {})
    if not last:
        ends = _published(execution, basis, folder)
        return ends, ends
    tpot, ttft = (last["low"], last["high"]), (last["first_low"], last["first_high"])
    if basis == MODELLED[0]:
        return Interval(*tpot), Interval(*ttft)
    ends = _published(execution, basis, folder)
    below, above = min(ends.low / tpot[0], 1.0), max(ends.high / tpot[1], 1.0)
    return (
        Interval(tpot[0] * below, tpot[1] * above),
        Interval(ttft[0] * below, ttft[1] * above),
    )


def widened(one: Interval, slower: float) -> Interval:
    """What holds the same measurements if any may take up to `slower` times as long for a cause of its own:
    logarithms of independent errors add as squares.
    """
    return Interval(one.low, math.exp(math.hypot(math.log(one.high), math.log(slower))))


def _around(one: Interval, other: Interval) -> Interval:
    """What holds both."""
    return Interval(min(one.low, other.low), max(one.high, other.high))


def _published(execution: str, basis: str, folder: Path) -> Interval:
    """As wide as published results lie where the weakest part has a basis: of the folder, or as shipped."""
    own = read_prior(execution, folder).get(SERVICE, {})
    given = own.get(basis) or read_prior(execution)[SERVICE][basis]
    return Interval(given["low"], given["high"])


def hosted_models(origin: Origin, plan: Plan, folder: Path = FITTED) -> list[str]:
    """Models that the runs had to which the host of a plan's framework is fitted."""
    sections = host_sections(origin, plan, folder)
    return sections[-1].get("report", {}).get("models", []) if sections else []


def all_hosted_models(folder: Path = FITTED) -> set[str]:
    """Models of the runs to which the hosts of all frameworks are fitted."""
    return {name for section in all_hosts(folder) for name in section["report"]["models"]}


def widest(every: Sequence[ServingIntervals]) -> ServingIntervals:
    """Of what is served by several kinds of chips."""
    tpot, ttft = (
        Interval(min(each.low for each in ends), max(each.high for each in ends))
        for ends in ([each.tpot for each in every], [each.ttft for each in every])
    )
    return ServingIntervals(tpot, ttft, weakest(each.basis for each in every))
