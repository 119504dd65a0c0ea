"""Constants of area, power and cost fitted to known chips, and what they say of a chip left out."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.posterior import Facts, Posterior, Question, fit, leave_out
from perfmodel.files import write_toml
from perfmodel.hardware.area import AreaConstants, die_area, tiles, wafer_area
from perfmodel.hardware.cost import CostConstants, bill
from perfmodel.hardware.power import PowerConstants, drawn
from perfmodel.library.constants import ConstantFile, Known, load_constants
from perfmodel.library.efficiency import FITTED
from perfmodel.library.known import KnownCost, KnownDie, known_costs, known_dies, known_powers
from perfmodel.units import as_values, parse

AREA_NOISE = 0.15
"""Spread of the logarithm of a die's area around a perfect count of its parts (assumed)."""

POWER_NOISE = 0.25
"""The same for a power limit, which is partly chosen by the maker (assumed)."""

COST_NOISE = 0.1
"""The same for an analyst's cost (assumed)."""

SURE, UNSURE = 0.5, 0.85
"""A constant is identified when its spread has fallen below half of its prior's, and its prior where
more than 0.85 of that is left."""


NOTE = (
    "Fitted to known dies, power limits and costs (`python -m perfmodel.calibration.technology`). "
    "spread: standard deviation of the logarithm."
)


class Pin(NamedTuple):
    """A part of a die whose area is known by itself, in m2, with its spread."""

    die: str
    block: str
    area: float
    noise: float
    source: str


PINS = (Pin("WSE-3", "sram", 23112e-6, 0.15, "SemiAnalysis, 2026: about half of WSE-3 is SRAM"),)
"""Totals do not fix the split between parts; these do. PHYs and controllers are facts of technologies."""


class Scored(NamedTuple):
    """One row of the report: a quantity of a chip, as predicted without it and as known.

    - `kind`: of die, or form of product; `split`: what the prediction has not seen.
    """

    chip: str
    quantity: str
    kind: str
    predicted: float
    known: float
    split: str = "leave-one-out"

    @property
    def error(self) -> float:
        """Relative."""
        return self.predicted / self.known - 1


def stack(modules: Sequence[Any]) -> Any:
    """Modules of one kind along a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *modules)


def area_question(constants: Known, dies: Sequence[KnownDie]) -> Question:
    """Die areas, and the areas of pinned parts, which belong to their die."""
    parts, made = stack([d.parts for d in dies]), stack([d.technology for d in dies])
    whole = jnp.asarray([d.kind == "wafer" for d in dies])
    names = [d.name for d in dies]
    pins = [pin for pin in PINS if pin.die in names]
    places = [names.index(pin.die) for pin in pins]

    def predict(constants: AreaConstants) -> Facts:
        single = jax.vmap(die_area, (0, 0, None))(parts, made, constants)
        wafer = jax.vmap(wafer_area, (0, 0, None))(parts, made.node, constants)
        blocks = jax.vmap(tiles, (0, 0, None))(parts, made.node, constants)
        pinned = [blocks[pin.block][i] for pin, i in zip(pins, places, strict=True)]
        return jnp.concatenate([jnp.where(whole, wafer, single), jnp.stack(pinned)])

    known = [d.area for d in dies] + [pin.area for pin in pins]
    noise = [AREA_NOISE] * len(dies) + [pin.noise for pin in pins]
    owner = (*range(len(dies)), *places)
    return _question(constants, "area", AreaConstants, predict, known, noise, owner)


def power_question(constants: Known) -> Question:
    """Power limits of the library's chips, everything at its peak."""
    chips = known_powers()
    parts, made = stack([c.parts for c in chips]), stack([c.technology for c in chips])
    activity, area = stack([c.activity for c in chips]), as_values([c.area for c in chips])

    def predict(constants: PowerConstants) -> Facts:
        return jax.vmap(drawn, (0, 0, 0, 0, None))(parts, area, activity, made, constants)

    known = [c.power for c in chips]
    noise = [POWER_NOISE] * len(chips)
    return _question(
        constants, "power", PowerConstants, predict, known, noise, tuple(range(len(chips)))
    )


def cost_question(constants: Known, chips: Sequence[KnownCost]) -> Question:
    """Costs to make a chip, in the year that the analyst speaks of."""

    def predict(constants: CostConstants) -> Facts:
        return jnp.stack([bill(c.dies, c.memory, c.devices, constants).total for c in chips])

    known, noise = [c.cost for c in chips], [COST_NOISE] * len(chips)
    # B100 and B200 are one silicon and one analyst: they are left out together.
    families = {"b100": "b200-sxm"}
    names = [families.get(c.name, c.name) for c in chips]
    owner = tuple(names.index(name) for name in names)
    return _question(constants, "cost", CostConstants, predict, known, noise, owner)


def _question(
    constants: Known,
    name: str,
    kind: type[eqx.Module],
    predict: Callable[[Any], Facts],
    known: Sequence[float],
    noise: Sequence[float],
    owner: tuple[int, ...],
) -> Question:
    table: dict[str, ConstantFile] = getattr(constants.file, name)
    prior = {field: one.prior * parse(one.unit)[0] for field, one in table.items()}
    spread = {field: one.prior_spread for field, one in table.items()}
    facts = (as_values(np.asarray(known)), as_values(np.asarray(noise)))
    return Question(kind(**prior), kind(**spread), predict, *facts, owner)


def scores(constants: Known | None = None) -> list[Scored]:
    """Every known area, power limit and cost, each predicted by a fit that has not seen it."""
    file = constants or load_constants()
    dies, powers = known_dies(), known_powers()
    costs = [cost for cost in known_costs() if cost.used]
    found = [
        *_scored(area_question(file, dies), [(d.name, d.kind) for d in dies], "die_area_mm2", 1e6),
        *_scored(power_question(file), [(p.name, p.form) for p in powers], "power_limit_w", 1.0),
        *_scored(cost_question(file, costs), [(c.name, "") for c in costs], "cost_usd", 1.0),
    ]
    return found


def _scored(
    question: Question, names: Sequence[tuple[str, str]], quantity: str, size: float
) -> Iterator[Scored]:
    predicted = np.asarray(leave_out(question), float) * size
    known = np.asarray(question.known, float) * size
    for (name, kind), one, other in zip(names, predicted, known, strict=False):
        yield Scored(name, quantity, kind, float(one), float(other))


def fitted(constants: Known | None = None) -> dict[str, Posterior]:
    """The constants of area, power and cost, fitted to everything known."""
    file = constants or load_constants()
    costs = [cost for cost in known_costs() if cost.used]
    return {
        "area": fit(area_question(file, known_dies())),
        "power": fit(power_question(file)),
        "cost": fit(cost_question(file, costs)),
    }


def verdict(spread: float, prior: float) -> str:
    """How much the facts have said about a constant."""
    left = spread / prior
    return "identified" if left < SURE else "weak" if left < UNSURE else "prior"


def write(folder: Path = FITTED) -> None:
    """Fit, and write `technology.toml` with values, spreads and verdicts; priors stay as they were."""
    known = load_constants()
    content: dict[str, Any] = {"note": NOTE}
    for name, found in fitted(known).items():
        table: dict[str, ConstantFile] = getattr(known.file, name)
        content[name] = {
            field: _written(one, getattr(found.values, field), getattr(found.spreads, field))
            for field, one in table.items()
        }
    write_toml(folder / "technology.toml", content)


def _written(one: ConstantFile, value: Any, spread: Any) -> dict[str, Any]:
    size = parse(one.unit)[0]
    return one.model_dump() | {
        "value": float(f"{float(value) / size:.4g}"),
        "spread": round(float(spread), 3),
        "verdict": verdict(float(spread), one.prior_spread),
    }


if __name__ == "__main__":
    write()
