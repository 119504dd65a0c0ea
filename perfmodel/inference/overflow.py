"""A cache that overflows the SRAM of a machine: priced as more chips, over a slow edge, or in a pool of HBM.

- `chips`: as many chips as hold it (what an empty cell means).
- `edge`: what does not fit on a chip is streamed from the memory that the chip has outside (a wafer's
  150 GB/s), step after step.
- `pool`: the same, from the main memory of other chips, each of which serves it at the rate of its port.

Weights stay on the chip.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.library.chip import chip_file, load_chip
from perfmodel.library.files import word_of
from perfmodel.trees import replace
from perfmodel.units import Scalar
from perfmodel.workload.plan import Plan

POLICIES = ("chips", "edge", "pool")
READ = ("kv_overflow", "kv_pool_chip", "kv_pool_chips")
"""Columns."""


class PoolMemory(NamedTuple):
    """Main memory of chips that hold what overflows: bytes and bytes/s of all together, and J of one byte."""

    capacity: Any = 0.0
    bandwidth: Any = 0.0
    energy: Any = 0.0

    def shared(self, replicas: Scalar | float) -> "PoolMemory":
        """What each of some replicas has of it."""
        return self._replace(capacity=self.capacity / replicas, bandwidth=self.bandwidth / replicas)


class CachePool(NamedTuple):
    """Chips whose main memory holds what overflows: which, how many, and that memory; zeros for none."""

    stem: str = ""
    chips: float = 0.0
    memory: PoolMemory = PoolMemory()


def overflow_of(cells: dict[str, str], chip: Chip, stem: str) -> tuple[bool, CachePool]:
    """Whether the cache of a row may overflow, and into which pool.

    **Raises:**

    - `InputError`: for an unknown way, or one that the chip does not have.
    """
    cell = cells.get("kv_overflow", "").strip()
    place = word_of(cell, list(POLICIES), "kv_overflow") if cell else POLICIES[0]
    names = [name for name in READ[1:] if cells.get(name, "").strip()]
    if names and place != "pool":
        raise InputError(f"{names[0]} is for kv_overflow pool, not for {place}; leave it empty.")
    if place == "edge" and not float(chip.far.capacity):
        raise InputError(f"{stem} has no memory outside; give kv_overflow pool, or chips.")
    return place != POLICIES[0], _pool(cells) if place == "pool" else CachePool()


def _pool(cells: dict[str, str]) -> CachePool:
    words = [cells.get(name, "").strip() for name in READ[1:]]
    if not all(words):
        raise InputError("kv_overflow is pool: give kv_pool_chip and kv_pool_chips, its chips.")
    stem = chip_file(words[0])[0]
    if not words[1].isdigit() or not 0 < int(words[1]) <= 10**9:
        raise InputError(f"kv_pool_chips is {words[1][:40]!r}; allowed are whole numbers.")
    chip, count = load_chip(stem), float(words[1])
    rate = min(float(chip.main.bandwidth), float(chip.scale_out.bandwidth))
    energy = float(chip.main.energy) + float(chip.scale_out.energy)
    if not float(chip.main.usable_capacity):
        raise InputError(
            f"{stem} has no main memory for a pool; choose a chip that has, as h100-sxm."
        )
    return CachePool(
        stem, count, PoolMemory(count * float(chip.main.usable_capacity), count * rate, energy)
    )


def with_overflow(chip: Chip, plan: Plan, pool: PoolMemory) -> Chip:
    """The chip with its share of a pool as far memory, or with its own where there is no pool."""
    pooled, far = pool.capacity > 0, chip.far
    share = jnp.minimum(pool.bandwidth / plan.chips, chip.scale_out.bandwidth)
    far = (
        jnp.where(pooled, pool.capacity / plan.chips, far.capacity),
        jnp.where(pooled, share, far.bandwidth),
        jnp.where(pooled, pool.energy, far.energy),
        jnp.ones_like(far.usable),
    )
    fields = ("capacity", "bandwidth", "energy", "usable")
    return replace(lambda c: [getattr(c.far, name) for name in fields], chip, far)
