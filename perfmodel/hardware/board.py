r"""Power of a board that serves: what it draws whatever its kernels do, and what their work adds.

$$P = P_\text{idle} + a\,(P_\text{limit} - P_\text{idle})
      + h\Big(\sum_i f_i \dot J_i + c\,u\,P_\text{matrix}\Big)$$

with the share $a$ that clocks take which do not fall between kernels, the plain joules a second $\dot J_i$ of
each resource (arithmetic, arrays, devices, wires) and the factors $f_i$ that make them all-in, the share $u$
of the time in which prompts fill the cores, and the power $P_\text{matrix}$ of the matrix units at their
peak. $h$ keeps the sum below the limit, smoothly: a board draws no less than idle, and no more than it may.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perfmodel.breakdown import JOULES
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import BoardPower
from perfmodel.hardware.power import MAX_SHARE, SHARPNESS
from perfmodel.units import Scalar, Values

FACTORS = {
    "matrix": "matrix",
    "vector": "vector",
    "exponential": "vector",
    "private": "sram",
    "shared": "sram",
    "network": "link",
    "fabric": "link",
}
"""Which factor of `BoardPower` makes the joules of a resource all-in."""

TIERS = ("main", "far")
"""Resources that are memory devices, whose factor is the kernel's."""

CORES = "private"
"""The term that has what occupied cores draw: registers, operands and the issue of instructions."""

UNKNOWN_HEADROOM = 4.5
"""Limit less idle power, over idle power, where no limit is known: chips idle at 0.14 to 0.2 of theirs."""


class Board(NamedTuple):
    """The boards of a deployment together, in W.

    - `idle`: without work; `active`: added while an engine runs, whatever its kernels do.
    - `room`: for work, below the limit; infinite where no limit is known.
    """

    idle: Scalar
    active: Scalar
    room: Scalar


def board_of(chip: Chip, chips: Scalar) -> Board:
    """Of `chips` boards of one kind; `nan` where the idle power is not known."""
    one = board(chip.idle_power, chip.peak_power, chip.efficiency.board.active_idle)
    return Board(*(chips * power for power in one))


def board(idle: Scalar, limit: Scalar, active_idle: Scalar) -> Board:
    """One board.

    **Arguments:**

    - `idle`, `limit`: in W; the limit is infinite where it is not known.
    - `active_idle`: share of what lies between them.
    """
    limited = jnp.isfinite(limit)
    upper = jnp.where(limited, limit, (1 + UNKNOWN_HEADROOM) * idle)
    # The bend is one watt wide: a limit below idle, which a search may try, leaves a little.
    headroom = jax.nn.softplus(upper - idle) + 1e-3
    active = active_idle * headroom
    return Board(idle, active, jnp.where(limited, headroom - active, jnp.inf))


class PlainJoules(NamedTuple):
    """Joules of arithmetic, arrays, devices and wires alone, by term of `JOULES`.

    - `attention`: of kernels that read a cache; `others`: of all others, whose bytes are mostly weights.
    """

    attention: Values
    others: Values


def work_joules(chip: Chip, plain: PlainJoules, core_seconds: Scalar) -> Values:
    """Joules of work all-in, by term of `JOULES`, with no idle power and no limit.

    **Arguments:**

    - `core_seconds`: in which prompts fill the cores, of all chips together.
    """
    fitted = chip.efficiency.board
    work = plain.attention * _factors(fitted, fitted.memory)
    work += plain.others * _factors(fitted, fitted.weights)
    occupied = fitted.cores * matrix_power(chip) * core_seconds
    return work.at[JOULES.index(CORES)].add(occupied)


def _factors(fitted: BoardPower, memory: Scalar) -> Values:
    """What makes joules all-in, by term of `JOULES`; `memory`: those of its devices."""
    own = {name: getattr(fitted, factor) for name, factor in FACTORS.items()}
    own |= dict.fromkeys(TIERS, memory)
    return jnp.stack([own.get(name, jnp.zeros_like(memory)) for name in JOULES])


def matrix_power(chip: Chip) -> Scalar:
    """Of the matrix units' plain arithmetic at their peak, in W: of the format that takes most."""
    each = [rate * chip.matrix_energy[kind] for kind, rate in chip.matrix.items()]
    return functools.reduce(jnp.maximum, each)


def board_joules(
    board: Board, work: Values, seconds: Scalar, awake: Scalar | float = 1.0
) -> Values:
    """What boards draw in `seconds` in which they do some work, by term of `JOULES`.

    **Arguments:**

    - `work`: joules all-in, as `work_joules` gives them.
    - `awake`: share of the time in which an engine has work, and clocks do not fall.
    """
    held = work * held_share(jnp.sum(work) / seconds, board.room)
    return held.at[JOULES.index("idle")].set((board.idle + awake * board.active) * seconds)


def awake_share(requests: Scalar) -> Scalar:
    """Share of the time in which an engine has work, where some requests are open on average and come by
    themselves (Poisson)."""
    return -jnp.expm1(-requests)


def held_share(power: Values, room: Values) -> Values:
    """Share of the power of work that a limit leaves, in (0, 1]: all of it far below, smoothly.

    **Arguments:**

    - `power`: of work, in W; `room`: for it, in W.
    """
    share = power / room
    far = jnp.maximum(share, MAX_SHARE)  # of which single precision holds no such power
    return (1 + jnp.minimum(share, MAX_SHARE) ** SHARPNESS) ** (-1 / SHARPNESS) * MAX_SHARE / far
