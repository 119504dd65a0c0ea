r"""The roofline: what work asks for, divided by what the machine offers.

$$t = \min_c \left[ \Big( \sum_i t_{ic}^4 \Big)^{1/4} + \ell_c \right], \qquad
t_{ic} = \frac{\text{demand}_{ic}}{\text{rate}_i \cdot \text{share}_i \cdot \text{occupancy}_{ic}}$$

over resources $i$ and alternatives $c$, with a soft minimum over the alternatives.
After Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009; the p-norm
replaces their maximum because kernels overlap their resources imperfectly.
"""

import abc
import functools
import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perfmodel.breakdown import JOULES, SECONDS, Breakdown
from perfmodel.resources import NAMES, UNITS, Resources
from perfmodel.smooth import soft_max
from perfmodel.units import Scalar, Values, as_scalar, as_values

ON_CORE = (*UNITS, "private", "shared")
"""Resources whose rate is that of the cores at work; the others serve all cores alike."""

MIN_RATE = 1.0
"""Added to every rate, in units/s: a tier that is not there is slow, not a division by zero."""

MIN_TIME = 1e-12
"""Added to a time before its logarithm, in s."""


class AbstractMachine(eqx.Module):
    """What the roofline needs to know of a chip.

    - `idle_power`: drawn whatever is done, in W; `nan` where unknown.
    - `peak_power`: the limit, in W; infinite where unknown.
    """

    idle_power: eqx.AbstractVar[Scalar]
    peak_power: eqx.AbstractVar[Scalar]

    @abc.abstractmethod
    def rates(self, dtype: str) -> Resources:
        """Peak rate of each resource: FLOP/s in `dtype`, exponentials/s, bytes/s."""

    @abc.abstractmethod
    def energies(self, dtype: str) -> Resources:
        """Energy of one FLOP in `dtype`, one exponential, one byte: in J."""

    @property
    def headroom(self) -> Scalar:
        """Power left for work, in W."""
        return jnp.where(jnp.isinf(self.peak_power), jnp.inf, self.peak_power - self.idle_power)


class Work(eqx.Module):
    """What a kernel asks for, for each way to schedule it.

    Every array has shape `(alternatives,)` or `()`.

    - `demand`: FLOPs by unit, exponentials, bytes by tier and link.
    - `shares`: share of each peak rate that this kind of kernel reaches; 1 where `None`.
    - `occupancy`: share of the cores at work, in (0, 1].
    - `latency`: what nothing hides (launches, hops, synchronisation), in s.
    - `selection_sharpness`: how surely the best alternative is taken; a mean at 0, the minimum at infinity.
    - `dtype`: of the matrix units.
    """

    demand: Resources
    shares: Resources = Resources()
    occupancy: Values = eqx.field(converter=as_values, default=1.0)
    latency: Values = eqx.field(converter=as_values, default=0.0)
    selection_sharpness: Scalar = eqx.field(converter=as_scalar, default=20.0)
    dtype: str = eqx.field(static=True, default="bf16")


def busy(machine: AbstractMachine, work: Work) -> Resources:
    """Seconds that each resource would need alone, for each alternative."""
    rates = machine.rates(work.dtype)

    def seconds(name: str, demand: Values) -> Values:
        share = getattr(work.shares, name)
        rate = getattr(rates, name) * (1.0 if share is None else share)
        cores = work.occupancy if name in ON_CORE else 1.0
        return demand / ((rate + MIN_RATE) * cores)

    return work.demand.map(seconds)


def spent(machine: AbstractMachine, work: Work) -> Resources:
    """Dynamic energy of each resource, in J, for each alternative."""
    energies = machine.energies(work.dtype)
    return work.demand.map(lambda name, demand: demand * getattr(energies, name))


def choose(times: Values, sharpness: Scalar) -> Values:
    r"""Weights of the alternatives, $w_c \propto t_c^{-\beta}$.

    A mean under them never undershoots the best alternative, as log-sum-exp does.
    """
    if times.ndim == 0:
        return jnp.ones_like(times)
    return jax.nn.softmax(-sharpness * jnp.log(times + MIN_TIME))


def price(machine: AbstractMachine, work: Work) -> Breakdown:
    r"""What `work` costs on `machine`.

    A term's part in a p-norm is $t_i^4 / \sum_j t_j^4$ of it. Power is a resource
    like the others: dynamic energy over the power left for it. So energy never
    exceeds peak power times time.

    **Returns:**

    Time, energy, FLOPs and bytes by term, the alternatives averaged by their weights.
    """
    terms = dict(busy(machine, work).items())
    joules = dict(spent(machine, work).items())
    terms["power"] = functools.reduce(jnp.add, joules.values()) / machine.headroom
    overlapped = soft_max(list(terms.values()))
    weights = choose(overlapped + work.latency, work.selection_sharpness)
    latency = jnp.sum(weights * work.latency)
    time = jnp.sum(weights * (overlapped + work.latency))
    seconds = jnp.append(_parts(weights, overlapped, list(terms.values())), latency)
    demand = _means(weights, [value for _, value in work.demand.items()])
    energies = machine.energies(work.dtype)
    spending = demand * jnp.stack([getattr(energies, name) for name in joules])
    spending = jnp.append(spending, machine.idle_power * time)
    return Breakdown(
        time=time,
        seconds=_in_order(SECONDS, (*terms, "latency"), seconds),
        joules=_in_order(JOULES, (*joules, "idle"), spending),
        demand=_in_order(NAMES, tuple(joules), demand),
    )


def waiting(machine: AbstractMachine, time: Scalar) -> Breakdown:
    """What `time` costs in which nothing is done: latency, and idle power."""
    return Breakdown(
        time=time,
        seconds=_in_order(SECONDS, ("latency",), time[None]),
        joules=_in_order(JOULES, ("idle",), (machine.idle_power * time)[None]),
        demand=jnp.zeros(len(NAMES)),
    )


def _means(weights: Values, values: Sequence[Values]) -> Float[Array, " values"]:
    """Each value averaged over the alternatives."""
    rows = jnp.stack([value * weights for value in values])
    return jnp.sum(rows, axis=tuple(range(1, rows.ndim)))


def _parts(weights: Values, overlapped: Values, terms: Sequence[Values]) -> Float[Array, " terms"]:
    """Each term's part of the overlapped time, averaged over the alternatives."""
    scale = jnp.maximum(overlapped, MIN_TIME)
    shares = [jnp.square(jnp.square(time / scale)) for time in terms]
    return _means(weights * overlapped, shares)


def _in_order(
    names: tuple[str, ...], present_names: tuple[str, ...], values: Float[Array, " given"]
) -> Float[Array, " names"]:
    """Values of the given names, which follow in the same order, among all; zero where there is none."""
    parts, rest = [], values
    for present, run in itertools.groupby(names, present_names.__contains__):
        size = len(list(run))
        parts.append(rest[:size] if present else jnp.zeros(size))
        rest = rest[size:] if present else rest
    return jnp.concatenate(parts)
