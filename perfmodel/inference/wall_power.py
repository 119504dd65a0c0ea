"""Joules of a token at the wall of its servers: of boards, lost in conversion, and of what stands around."""

import functools
from typing import NamedTuple

import numpy as np

from perfmodel.library.chip import chip_file
from perfmodel.library.economics import load_ownership
from perfmodel.library.schema import si_or


class ServerPower(NamedTuple):
    """Around one board: W at the wall for each W of the board, and W of host, network cards and fans; `nan`
    where the board's limit, for which they are made, is not known.
    """

    conversion: float
    around: float


@functools.cache
def server_power(chip: str) -> ServerPower:
    """By a chip's name or file."""
    limit = si_or(chip_file(chip)[1].power.peak, "W")
    owner = load_ownership()
    return ServerPower(float(owner.conversion), float(owner.around) * limit)


def joules_at_wall(chip: str, joules: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
    """Of one output token, of several; `nan` where it cannot be told.

    **Arguments:**

    - `joules`: that the boards of all chips draw for one output token.
    - `rate`: output tokens/s of one chip.
    """
    server, known = server_power(chip), np.isfinite(rate) & (rate > 0)
    around = server.around / np.where(known, rate, 1.0)
    return np.where(known, server.conversion * joules + around, np.nan)
