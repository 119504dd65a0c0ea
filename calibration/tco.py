"""Energy of tokens at the wall and the cost of owning, beside published figures with the same inputs.

Tokens/s are taken as published: what is predicted is what they draw and cost, not how fast they come.
"""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.map_estimate import Estimation, Facts, leave_one_group_out
from perfmodel.calibration.metrics import Scored
from perfmodel.hardware.power import Activity, all_in, drawn
from perfmodel.inference.energy import power_at, token_joules
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.known import (
    KnownEnergy,
    described,
    known_energies,
    known_owners,
)
from perfmodel.library.ledger import hour
from perfmodel.library.model import load_model
from perfmodel.library.schema import si_or
from perfmodel.library.technology import Known
from perfmodel.units import Scalar, as_scalar, as_values
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

NODE_POWER = (0.6, 0.3)
"""Prior of watts around a chip for each watt of its limit, and its spread: a DGX H100 is rated at 10.2 kW for
5.6 kW of chips (0.82), and draws less than its rating."""

NOISE = 0.15
"""Spread of the logarithm of a measured energy (assumed)."""


class Share(eqx.Module):
    """One share that is fitted."""

    value: Scalar = eqx.field(converter=as_scalar)


def energy_scores(constants: Known) -> Iterator[Scored]:
    """Joules of a token at the wall, by a share around the chips that has not seen the system."""
    runs = known_energies()
    inside = as_values(np.array([float(chip_power(run, constants)) for run in runs]))
    limit = as_values([_limit(run.chip) for run in runs])
    rate = as_values([run.rate / run.chips for run in runs])

    def predict(share: Share) -> Facts:
        return (inside + share.value * limit) / rate

    known = [run.joules for run in runs]
    found = _left_out(NODE_POWER, predict, known, [run.chip for run in runs])
    for run, one in zip(runs, found, strict=True):
        yield Scored(f"{run.chip} {run.model}", "wall_j_per_token", run.chip, one, run.joules)


def chip_power(run: KnownEnergy, constants: Known) -> Scalar:
    """Power of one chip of a measured run at its published rate, in W."""
    plan = Plan(weights=run.precision, cache="fp8")
    chip, file = load_chip(run.chip, plan), chip_files()[run.chip]
    made, parts, _ = described(file)
    request = Request(run.users, run.prompt, run.output, 1.0)
    joules = jax.jit(token_joules)(chip, plan, traced(load_model(run.model)), request)
    static = drawn(parts, chip.area, Activity(), made, constants.values.power)
    factors = all_in(made, parts.clock, constants.values.power)
    rate = as_scalar(run.rate / run.chips)
    return power_at(joules, rate, factors, static, as_scalar(_limit(run.chip)))


def tco_scores() -> Iterator[Scored]:
    """USD of an hour and of a million tokens as the ledger has them, in which nothing is fitted to these."""
    for row in known_owners():
        owned = 3600 * hour(row.chip).value
        single = owned if np.isnan(row.rate) else owned / 3600 / row.rate * 1e6
        yield Scored(row.chip, row.quantity, row.chip, single, row.cost)


def _limit(chip: str) -> float:
    return si_or(chip_files()[chip].power.peak, "W")


def _left_out(
    prior: tuple[float, float],
    predict: Callable[[Any], Facts],
    known: list[float],
    names: list[str],
) -> list[float]:
    """Each figure by a share that has not seen the chip that it is of."""
    share, spread = map(Share, prior)
    groups = tuple(names.index(name) for name in names)
    noise = jnp.full(len(known), NOISE)
    asked = Estimation(share, spread, predict, as_values(np.array(known)), noise, groups)
    return [float(one) for one in leave_one_group_out(asked)]
