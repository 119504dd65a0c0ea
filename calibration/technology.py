"""Constants of area, power and cost fitted to known chips, and what they say of a chip left out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.map_estimate import (
    Estimation,
    Facts,
    leave_one_group_out,
    map_estimate,
)
from perfmodel.calibration.metrics import Scored
from perfmodel.calibration.tco import energy_scores, tco_scores
from perfmodel.files import write_toml
from perfmodel.hardware.area import AreaConstants, die_area, tiles, wafer_area
from perfmodel.hardware.cost import CostConstants, bill
from perfmodel.hardware.power import Activity, PowerConstants, clock_share, drawn
from perfmodel.hardware.technology import stacked
from perfmodel.library.chip import chip_files
from perfmodel.library.fitted import FITTED
from perfmodel.library.known import (
    KnownCost,
    KnownDie,
    described,
    known_costs,
    known_dies,
    known_powers,
    measured_powers,
)
from perfmodel.library.schema import ConstantFile, si_or
from perfmodel.library.technology import Known, load_constants
from perfmodel.units import as_scalar, as_values, parse

AREA_NOISE = 0.15
"""Spread of the logarithm of a die's area around a perfect count of its parts (assumed)."""

POWER_NOISE = 0.25
"""The same for a power limit, which is partly chosen by the maker (assumed)."""

MEASURED_NOISE = 0.15
"""The same for a power that was measured while a chip did what is known only roughly (assumed)."""

COST_NOISE = 0.1
"""The same for an analyst's cost (assumed)."""

IDENTIFIED_BELOW, WEAK_BELOW = 0.5, 0.85
"""A constant is identified when its spread has fallen below half of its prior's, and its prior where
more than 0.85 of that is left."""


NOTE = (
    "Fitted to known dies, power limits and costs (`python -m perfmodel.calibration.technology`). "
    "spread: standard deviation of the logarithm."
)


class BlockArea(NamedTuple):
    """A part of a die whose area is known by itself, in m2, with its spread."""

    die: str
    block: str
    area: float
    noise: float
    source: str


BLOCK_AREAS = (
    BlockArea("WSE-3", "sram", 23112e-6, 0.15, "SemiAnalysis, 2026: about half of WSE-3 is SRAM"),
)
"""Totals do not fix the split between parts; these do. PHYs and controllers are facts of technologies."""


def area_estimation(constants: Known, dies: Sequence[KnownDie]) -> Estimation:
    """Die areas, and areas of blocks, which belong to their die."""
    parts, made = stacked([d.parts for d in dies]), stacked([d.technology for d in dies])
    is_wafer = jnp.asarray([d.kind == "wafer" for d in dies])
    names = [d.name for d in dies]
    known = [one for one in BLOCK_AREAS if one.die in names]
    places = [names.index(one.die) for one in known]

    def predict(constants: AreaConstants) -> Facts:
        single = jax.vmap(die_area, (0, 0, None))(parts, made, constants)
        wafer = jax.vmap(wafer_area, (0, 0, None))(parts, made.node, constants)
        blocks = jax.vmap(tiles, (0, 0, None))(parts, made.node, constants)
        areas = [blocks[one.block][i] for one, i in zip(known, places, strict=True)]
        return jnp.concatenate([jnp.where(is_wafer, wafer, single), jnp.stack(areas)])

    areas = [d.area for d in dies] + [one.area for one in known]
    noise = [AREA_NOISE] * len(dies) + [one.noise for one in known]
    groups = (*range(len(dies)), *places)
    return _estimation(constants, "area", AreaConstants, predict, areas, noise, groups)


def power_estimation(constants: Known) -> Estimation:
    """Power limits of the library's chips, and what some of them were seen to draw at work or idle."""
    chips, seen = known_powers(), measured_powers()
    names = [chip.name for chip in chips]
    groups = [*range(len(chips)), *(names.index(one.name) for one in seen)]
    silicon = stacked(
        [(chips[i].parts, as_scalar(chips[i].area), chips[i].technology) for i in groups]
    )
    activity = stacked([chip.activity for chip in chips] + [one.activity for one in seen])
    rests = jnp.asarray([False] * len(chips) + [one.state == "idle" for one in seen])
    limits = jnp.arange(len(groups)) < len(chips)

    def predict(constants: PowerConstants) -> Facts:
        def one(chip: Any, doing: Activity, limit: Any, rest: Any) -> Any:
            parts, area, made = chip
            share = jnp.where(limit, constants.diversity_factor, 1.0)
            scaled = jax.tree.map(lambda rate: share * rate, doing)
            power = drawn(parts, area, scaled, made, constants)
            return power * jnp.where(rest, constants.sleep_fraction, 1.0)

        return jax.vmap(one)(silicon, activity, limits, rests)

    known = [chip.power for chip in chips] + [one.power for one in seen]
    noise = [POWER_NOISE] * len(chips) + [MEASURED_NOISE] * len(seen)
    return _estimation(constants, "power", PowerConstants, predict, known, noise, tuple(groups))


def cost_estimation(constants: Known, chips: Sequence[KnownCost]) -> Estimation:
    """Costs to make a chip, in the year of the analyst's report."""

    def predict(constants: CostConstants) -> Facts:
        return jnp.stack([bill(c.dies, c.memory, c.devices, constants).total for c in chips])

    known, noise = [c.cost for c in chips], [COST_NOISE] * len(chips)
    # B100 and B200 are one silicon and one analyst: they are left out together.
    families = {"b100": "b200-sxm"}
    names = [families.get(c.name, c.name) for c in chips]
    groups = tuple(names.index(name) for name in names)
    return _estimation(constants, "cost", CostConstants, predict, known, noise, groups)


def _estimation(
    constants: Known,
    name: str,
    kind: type[eqx.Module],
    predict: Callable[[Any], Facts],
    known: Sequence[float],
    noise: Sequence[float],
    groups: tuple[int, ...],
) -> Estimation:
    table: dict[str, ConstantFile] = getattr(constants.file, name)
    prior = {field: one.prior * parse(one.unit)[0] for field, one in table.items()}
    spread = {field: one.prior_spread for field, one in table.items()}
    facts = (as_values(np.asarray(known)), as_values(np.asarray(noise)))
    return Estimation(kind(**prior), kind(**spread), predict, *facts, groups)


def estimations(known: Known) -> dict[str, Estimation]:
    """Of area, power and cost, from everything known."""
    return {
        "area": area_estimation(known, known_dies()),
        "power": power_estimation(known),
        "cost": cost_estimation(known, [cost for cost in known_costs() if cost.used]),
    }


def scores() -> list[Scored]:
    """Everything known of chips, each figure predicted by a fit that has not seen it."""
    known = load_constants()
    served = (*sustained_scores(known), *energy_scores(), *tco_scores())
    return [*made_scores(known), *served]


def made_scores(known: Known) -> list[Scored]:
    """Areas of dies, power limits, and costs to make."""
    asked = estimations(known)
    dies, powers = known_dies(), known_powers()
    costs = [cost for cost in known_costs() if cost.used]
    return [
        *_scored(asked["area"], [(d.name, d.kind) for d in dies], "die_area_mm2", 1e6),
        *_scored(asked["power"], [(p.name, p.form) for p in powers], "power_limit_w", 1.0),
        *_scored(asked["cost"], [(c.name, "") for c in costs], "cost_usd", 1.0),
    ]


def sustained_scores(constants: Known) -> Iterator[Scored]:
    """Share of the peak that large products sustain within the power limit.

    The limit of these chips took part in the fit of power, so this shows that one law explains them.
    """
    power = constants.values.power
    for seen in measured_powers():
        file = chip_files()[seen.name]
        made, parts, peak = described(file)
        share = float(seen.activity.matrix / peak.matrix)
        limit = si_or(file.power.peak, "W")
        if seen.state != "busy" or seen.power != limit:
            continue
        area = as_scalar(si_or(file.area, "m2"))
        idle = drawn(parts, area, Activity(), made, power)
        full = jax.tree.map(lambda rate, share=share: rate / share, seen.activity)
        moving = drawn(parts, area, full, made, power) - idle
        left = clock_share(as_scalar(limit), idle, moving, power)
        yield Scored(seen.name, "gemm_share_of_peak", "", float(left), share, "in-sample")


def _scored(
    estimation: Estimation, names: Sequence[tuple[str, str]], quantity: str, size: float
) -> Iterator[Scored]:
    predicted = np.asarray(leave_one_group_out(estimation), float) * size
    known = np.asarray(estimation.known, float) * size
    for (name, kind), one, other in zip(names, predicted, known, strict=False):
        yield Scored(name, quantity, kind, float(one), float(other))


def verdict(spread: float, prior: float) -> str:
    """How much the facts have said about a constant."""
    left = spread / prior
    return "identified" if left < IDENTIFIED_BELOW else "weak" if left < WEAK_BELOW else "prior"


def write() -> None:
    """Fit, and write `technology.toml` with values, spreads and verdicts; priors stay as they were."""
    known = load_constants()
    content: dict[str, Any] = {"note": NOTE}
    for name, asked in estimations(known).items():
        found = map_estimate(asked)
        table: dict[str, ConstantFile] = getattr(known.file, name)
        content[name] = {
            field: _written(one, getattr(found.values, field), getattr(found.spreads, field))
            for field, one in table.items()
        }
    write_toml(FITTED / "technology.toml", content)


def _written(one: ConstantFile, value: Any, spread: Any) -> dict[str, Any]:
    size = parse(one.unit)[0]
    return one.model_dump() | {
        "value": float(f"{float(value) / size:.4g}"),
        "spread": round(float(spread), 3),
        "verdict": verdict(float(spread), one.prior_spread),
    }


if __name__ == "__main__":
    write()
