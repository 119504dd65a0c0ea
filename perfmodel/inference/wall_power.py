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
from perfmodel.library.economics import load_ownership
from perfmodel.library.known import described
from perfmodel.library.schema import si_or
from perfmodel.library.technology import load_constants
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.xla import to_run_once


class ServerPower(NamedTuple):
    """A chip in its server: factors that make joules all-in, W without work, W at most, W around it."""

    factors: dict[str, Scalar]
    static: Scalar
    limit: Scalar
    overhead: Scalar


@functools.cache
def server_power(chip: str) -> ServerPower | None:
    """By a chip's name or file; `None` where its die, its power or a fact of its technology is not known."""
    file, constants = chip_file(chip)[1], load_constants().values.power
    if file.area is None or file.power.peak is None or "bf16" not in file.matrix:
        return None
    try:
        technology, parts, _ = described(file)
    except InputError:
        return None
    sizes = as_scalar(file.area.si("m2")), as_scalar(si_or(file.power.peak, "W"))
    return _server_power(technology, parts, *sizes, constants, load_ownership().around)


@to_run_once
def _server_power(
    technology: Technology,
    parts: Parts,
    area: Scalar,
    limit: Scalar,
    constants: PowerConstants,
    overhead: Scalar,
) -> ServerPower:
    """The same, all together: each operation alone would be compiled."""
    static = drawn(parts, area, Activity(), technology, constants)
    return ServerPower(all_in(technology, parts.clock, constants), static, limit, overhead * limit)


BLOCK_TOKENS = 512
"""Tokens that are priced at a time, so that any number is compiled once."""


def _joules(server: ServerPower, joules: jax.Array, rate: Scalar) -> Scalar:
    work = joules.at[JOULES.index("idle")].set(0.0)
    power = power_at(work, rate, server.factors, server.static, server.limit)
    return (power + server.overhead) / rate


_joules_of_tokens = to_run_once(jax.vmap(_joules, (None, 0, 0)))


def joules_at_wall(chip: str, joules: Values | np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Of one output token, of several; `nan` where it cannot be told.

    **Arguments:**

    - `joules`: plain, of one output token on all chips, by term of `JOULES` on the last axis.
    - `rate`: output tokens/s of one chip.
    """
    server, count = server_power(chip), len(rate)
    if server is None:
        return np.full(count, np.nan)
    known = np.isfinite(rate) & (rate > 0)
    padded = -(-count // BLOCK_TOKENS) * BLOCK_TOKENS
    tokens = np.resize(np.asarray(joules), (padded, len(JOULES)))
    rates = np.resize(np.where(known, rate, 1.0), padded)
    parts = [slice(at, at + BLOCK_TOKENS) for at in range(0, padded, BLOCK_TOKENS)]
    joules_of_blocks = [_joules_of_tokens(server, tokens[at], rates[at]) for at in parts]
    return np.where(known, np.concatenate(joules_of_blocks)[:count], np.nan)
