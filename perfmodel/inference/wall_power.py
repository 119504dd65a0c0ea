"""Joules of a token at the wall of its servers: all that chips draw, and what stands around them."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from perfmodel.breakdown import JOULES
from perfmodel.errors import InputError
from perfmodel.hardware.parts import Parts
from perfmodel.hardware.power import Activity, PowerConstants, all_in, drawn
from perfmodel.hardware.technology import Technology
from perfmodel.inference.energy import power_at
from perfmodel.library.chip import chip_file
from perfmodel.library.constants import load_constants
from perfmodel.library.economics import load_ownership
from perfmodel.library.known import described
from perfmodel.library.schema import si_or
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.xla import to_run_once


class ServerPower(NamedTuple):
    """A chip in its server: factors that make joules all-in, W without work, W at most, W around it."""

    factors: dict[str, Scalar]
    static: Scalar
    limit: Scalar
    around: Scalar


@functools.cache
def server_power(chip: str) -> ServerPower | None:
    """By a chip's name or file; `None` where its die, its power or a fact of its technology is not known."""
    file, constants = chip_file(chip)[1], load_constants().values.power
    if file.area is None or file.power.peak is None or "bf16" not in file.matrix:
        return None
    try:
        made, parts, _ = described(file)
    except InputError:
        return None
    sizes = as_scalar(file.area.si("m2")), as_scalar(si_or(file.power.peak, "W"))
    return _wall(made, parts, *sizes, constants, load_ownership().around)


@to_run_once
def _wall(
    made: Technology,
    parts: Parts,
    area: Scalar,
    limit: Scalar,
    constants: PowerConstants,
    around: Scalar,
) -> ServerPower:
    """The same, all together: each operation alone would be compiled."""
    static = drawn(parts, area, Activity(), made, constants)
    return ServerPower(all_in(made, parts.clock, constants), static, limit, around * limit)


TOGETHER = 512
"""Tokens that are priced at a time, so that any number is compiled once."""


def _joules(wall: ServerPower, joules: jax.Array, rate: Scalar) -> Scalar:
    work = joules.at[JOULES.index("idle")].set(0.0)
    power = power_at(work, rate, wall.factors, wall.static, wall.limit)
    return (power + wall.around) / rate


_many = to_run_once(jax.vmap(_joules, (None, 0, 0)))


def joules_at_wall(chip: str, joules: Values | np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Of one output token, of several; `nan` where it cannot be told.

    **Arguments:**

    - `joules`: plain, of one output token on all chips, by term of `JOULES` on the last axis.
    - `rate`: output tokens/s of one chip.
    """
    wall, count = server_power(chip), len(rate)
    if wall is None:
        return np.full(count, np.nan)
    told = np.isfinite(rate) & (rate > 0)
    whole = -(-count // TOGETHER) * TOGETHER
    tokens = np.resize(np.asarray(joules), (whole, len(JOULES)))
    rates = np.resize(np.where(told, rate, 1.0), whole)
    parts = [slice(at, at + TOGETHER) for at in range(0, whole, TOGETHER)]
    found = [_many(wall, tokens[at], rates[at]) for at in parts]
    return np.where(told, np.concatenate(found)[:count], np.nan)
