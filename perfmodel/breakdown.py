"""What a piece of work costs: seconds and joules by term, and what binds."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perfmodel.resources import NAMES
from perfmodel.results import AbstractResult, Plain, named, plain
from perfmodel.units import Scalar, Values, as_scalar

SECONDS = (*NAMES, "power", "latency")
"""Terms of time: each resource, the power limit, and what nothing hides."""

JOULES = (*NAMES, "idle")
"""Terms of energy: each resource, and static power times time."""

BOUND_OF = {
    "matrix": "compute",
    "vector": "compute",
    "power": "compute",
    "exponential": "exponential",
    "private": "sram",
    "shared": "sram",
    "main": "memory",
    "far": "memory",
    "latency": "latency",
    "network": "network",
    "fabric": "network",
}
"""What each term of time counts as when one asks what binds."""

BOUNDS = tuple(dict.fromkeys(BOUND_OF.values()))


class Breakdown(AbstractResult):
    """What work costs. Breakdowns add and scale; works do not.

    - `time`: in s.
    - `seconds`: of each term of `SECONDS`; they sum to `time`.
    - `joules`: of each term of `JOULES`.
    - `demand`: FLOPs by unit, bytes by tier and by link, of each of `NAMES`.
    """

    time: Scalar
    seconds: Float[Array, " seconds"]
    joules: Float[Array, " joules"]
    demand: Float[Array, " demand"]

    @classmethod
    def zero(cls) -> "Breakdown":
        """The cost of nothing."""
        return cls(as_scalar(0.0), *(jnp.zeros(len(names)) for names in (SECONDS, JOULES, NAMES)))

    @property
    def energy(self) -> Values:
        """All terms of energy together, in J; of many breakdowns together an array."""
        return jnp.sum(self.joules, axis=-1)

    def __add__(self, other: "Breakdown") -> "Breakdown":
        return jax.tree.map(jnp.add, self, other)

    def __mul__(self, times: Any) -> "Breakdown":
        factor = as_scalar(times)
        return jax.tree.map(lambda x: x * factor, self)

    def by_term(self) -> dict[str, Values]:
        """Seconds of each term."""
        return {name: self.seconds[..., i] for i, name in enumerate(SECONDS)}

    def as_dict(self) -> Plain:
        """Its numbers by name and unit."""
        seconds = {f"time_{name}_s": plain(self.seconds[..., i]) for i, name in enumerate(SECONDS)}
        joules = {f"energy_{name}_j": plain(self.joules[..., i]) for i, name in enumerate(JOULES)}
        return {
            "time_s": plain(self.time),
            "energy_j": plain(self.energy),
            "bound": bound(self),
            **seconds,
            **joules,
        }

    def by_bound(self) -> Values:
        """Seconds of each of `BOUNDS`: terms added by what they count as."""
        which = jnp.array([BOUNDS.index(BOUND_OF[name]) for name in SECONDS])
        return jnp.zeros((*self.time.shape, len(BOUNDS))).at[..., which].add(self.seconds)


def total(parts: Sequence[Breakdown]) -> Breakdown:
    """The cost of `parts`, one after the other."""
    return functools.reduce(operator.add, parts) if parts else Breakdown.zero()


def bound(cost: Breakdown) -> Any:
    """What takes the most time: one of `BOUNDS`; of many breakdowns together a list."""
    return named(cost.by_bound(), BOUNDS)
