"""Energy of tokens at the wall and the cost of owning, beside published figures with the same inputs.

Tokens/s are taken as published: what is predicted is what they draw and cost, not how fast they come.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.map_estimate import Estimation, Facts, leave_one_group_out
from perfmodel.calibration.metrics import Scored
from perfmodel.hardware.board import board_joules, board_of
from perfmodel.hardware.chip import Chip
from perfmodel.inference.service import limited_to, running_sequences, steps_of
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.economics import assumption
from perfmodel.library.known import (
    KnownEnergy,
    known_energies,
    known_owners,
)
from perfmodel.library.ledger import hour
from perfmodel.library.model import load_model
from perfmodel.library.schema import si_or
from perfmodel.units import Scalar, as_scalar, as_values
from perfmodel.workload.model import Transformer, traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

NODE_POWER = (0.4, 0.4)
"""Prior of watts of host, network cards and fans for each watt of a board's limit, and its spread: a DGX H100
is rated at 10.2 kW for 5.6 kW of boards (0.76 beside conversion), and draws less than its rating."""

NOISE = 0.15
"""Spread of the logarithm of a measured energy (assumed)."""


class Share(eqx.Module):
    """One share that is fitted."""

    value: Scalar = eqx.field(converter=as_scalar)


def energy_scores() -> Iterator[Scored]:
    """Joules of a token at the wall, by a share around the chips that has not seen the system."""
    runs = known_energies()
    conversion = assumption("conversion").si("1")
    inside = conversion * as_values(np.array([float(board_power(run)) for run in runs]))
    limit = as_values([_limit(run.chip) for run in runs])
    rate = as_values([run.rate / run.chips for run in runs])

    def predict(share: Share) -> Facts:
        return (inside + share.value * limit) / rate

    known = [run.joules for run in runs]
    found = _left_out(NODE_POWER, predict, known, [run.chip for run in runs])
    for run, one in zip(runs, found, strict=True):
        yield Scored(f"{run.chip} {run.model}", "wall_j_per_token", run.chip, one, run.joules)


def board_power(run: KnownEnergy) -> Scalar:
    """Power of one board of a measured run at its published rate, in W."""
    plan = Plan(weights=run.precision, cache="fp8")
    chip, model = load_chip(run.chip, plan), traced(load_model(run.model))
    if np.isfinite(run.limit):
        chip = dataclasses.replace(chip, peak_power=as_scalar(run.limit))
    request = Request(run.users, run.prompt, run.output, 1.0)
    return jax.jit(_board_power)(chip, plan, model, request, as_scalar(run.rate / run.chips))


def _board_power(
    chip: Chip, plan: Plan, model: Transformer, request: Request, rate: Scalar
) -> Scalar:
    batch = running_sequences(chip, plan, model, request)
    priced = steps_of(chip, plan, model, limited_to(request, batch), batch)
    return rate * jnp.sum(board_joules(board_of(chip, plan.chips), priced.work, 1 / rate))


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
