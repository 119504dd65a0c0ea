"""USD of tokens as they are served: those of the ledger for all chips, and electricity at their wall."""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.inference.evaluate import ResolvedRow
from perfmodel.inference.service import Service
from perfmodel.inference.wall_power import joules_at_wall
from perfmodel.library.chip import chip_file
from perfmodel.library.economics import load_ownership
from perfmodel.library.ledger import (
    UTILISATION,
    Dollars,
    chip_cost,
    joint_basis,
    power_limit,
)


class WallEnergy(NamedTuple):
    """Joules of one output token at the wall of its servers.

    - `known`: as its chips are known; `nan` where they are not.
    - `billed`: what electricity is paid for: `known`, else that of a limit estimated from the chip's price,
      of which boards whose power is not known draw `UTILISATION`.
    """

    known: np.ndarray
    billed: np.ndarray


def wall_energy(stem: str, joules: Any, rate: Any) -> WallEnergy:
    """Of services on chips of one kind.

    **Arguments:**

    - `joules`: of one output token on all chips, by term of `JOULES` on the last axis.
    - `rate`: output tokens/s of one chip.
    """
    boards, speed = np.asarray(joules, float).sum(axis=-1), np.asarray(rate, float)
    known, owner = joules_at_wall(stem, boards, speed), load_ownership()
    limit = np.asarray(np.nan_to_num(power_limit(chip_file(stem)[1]))) / speed
    drawn = np.where(np.isfinite(boards), boards, UTILISATION * limit)
    estimated = float(owner.conversion) * drawn + float(owner.around) * limit
    return WallEnergy(known, np.where(np.isfinite(known), known, estimated))


def cost_of_service(
    resolved: ResolvedRow, chips: Any, billed: Any, rate: Any, price: Any = 1.0
) -> tuple[Dollars, str]:
    """USD of one output token on chips of one kind, with those that hold its cache; and their basis.

    A quote is of each of `chips` with all that stands around it: also of those that hold its cache.

    **Arguments:**

    - `billed`: joules of a token at the wall; `rate`: output tokens/s of all chips.
    - `price`: a factor on what it costs to have a chip.
    """
    asked, pool = resolved.asked_cost, resolved.pool
    cost = chip_cost(resolved.deployment.stem, asked)
    dollars = cost.dollars(chips, 1 / rate, billed, price)
    if not pool.chips or cost.basis == "quote":
        return dollars, cost.basis
    other = chip_cost(pool.stem, asked)
    held = idle_energy(pool.stem, pool.chips, rate)
    both = joint_basis([cost.basis, other.basis])
    return dollars.plus(other.dollars(pool.chips, 1 / rate, held)), both


def idle_energy(stem: str, chips: Any, rate: Any) -> Any:
    """Joules for each token at the wall of chips whose memory alone is used: what stands around them."""
    around = float(load_ownership().around) * power_limit(chip_file(stem)[1])
    return chips * np.nan_to_num(around) / rate


def cost_of_pools(sides: Any, chips: np.ndarray, served: Service, rate: Any) -> tuple[Dollars, str]:
    """USD of one output token on two kinds of chips; and their basis.

    **Arguments:**

    - `sides`: a resolved row of each; `chips`: of each, on the last axis; `rate`: output tokens/s in all.
    """
    by_pool = np.asarray(served.by_pool, float)
    shares = by_pool / by_pool.sum(axis=-1, keepdims=True)
    costs = [chip_cost(side.deployment.stem, side.asked_cost) for side in sides]
    dollars = Dollars(0.0, 0.0, 0.0)
    for i, (side, cost) in enumerate(zip(sides, costs, strict=True)):
        joules = np.asarray(served.joules, float) * shares[..., i, None]
        billed = wall_energy(side.deployment.stem, joules, rate / chips[..., i]).billed
        dollars = dollars.plus(cost.dollars(chips[..., i], 1 / rate, billed))
    return dollars, joint_basis(cost.basis for cost in costs)
