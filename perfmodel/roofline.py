r"""The roofline: what work asks for, divided by what the machine offers.

$$t = \min_c \left[ \Big( \sum_i t_{ic}^4 \Big)^{1/4} + \ell_c \right], \qquad
t_{ic} = \frac{\text{demand}_{ic}}{\text{rate}_i \cdot \text{share}_i \cdot \text{occupancy}_{ic}}$$

over resources $i$ and alternatives $c$, with a soft minimum over the alternatives.
After Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009; the p-norm
replaces their maximum because kernels overlap their resources imperfectly.
"""

import abc
import functools

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

SLOWEST = 1.0
"""Added to every rate, in units/s: a tier that is not there is slow, not a division by zero."""

TICK = 1e-12
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
    - `choice`: how surely the best alternative is taken; a mean at 0, the minimum at infinity.
    - `dtype`: of the matrix units.
    """

    demand: Resources
    shares: Resources = Resources()
    occupancy: Values = eqx.field(converter=as_values, default=1.0)
    latency: Values = eqx.field(converter=as_values, default=0.0)
    choice: Scalar = eqx.field(converter=as_scalar, default=20.0)
    dtype: str = eqx.field(static=True, default="bf16")


def busy(machine: AbstractMachine, work: Work) -> Resources:
    """Seconds that each resource would need alone, for each alternative."""
    rates = machine.rates(work.dtype)

    def seconds(name: str, demand: Values) -> Values:
        share = getattr(work.shares, name)
        rate = getattr(rates, name) * (1.0 if share is None else share)
        cores = work.occupancy if name in ON_CORE else 1.0
        return demand / ((rate + SLOWEST) * cores)

    return work.demand.map(seconds)


def spent(machine: AbstractMachine, work: Work) -> Resources:
    """Dynamic energy of each resource, in J, for each alternative."""
    energies = machine.energies(work.dtype)
    return work.demand.map(lambda name, demand: demand * getattr(energies, name))


def choose(times: Values, choice: Scalar) -> Values:
    r"""Weights of the alternatives, $w_c \propto t_c^{-\beta}$.

    A mean under them never undershoots the best alternative, as log-sum-exp does.
    """
    if times.ndim == 0:
        return jnp.ones_like(times)
    return jax.nn.softmax(-choice * jnp.log(times + TICK))


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
    weights = choose(overlapped + work.latency, work.choice)
    latency = jnp.sum(weights * work.latency)
    time = jnp.sum(weights * (overlapped + work.latency))
    seconds = _parts(weights, overlapped, terms) | {"latency": latency}
    demand = _means(weights, dict(work.demand.items()))
    energies = machine.energies(work.dtype)
    spending = {name: mean * getattr(energies, name) for name, mean in demand.items()}
    return Breakdown(
        time=time,
        seconds=_in_order(SECONDS, seconds),
        joules=_in_order(JOULES, spending | {"idle": machine.idle_power * time}),
        demand=_in_order(NAMES, demand),
    )


def _means(weights: Values, values: dict[str, Values]) -> dict[str, Scalar]:
    """Each value averaged over the alternatives."""
    rows = jnp.stack([value * weights for value in values.values()])
    means = jnp.sum(rows, axis=tuple(range(1, rows.ndim)))
    return {name: means[i] for i, name in enumerate(values)}


def _parts(weights: Values, overlapped: Values, terms: dict[str, Values]) -> dict[str, Scalar]:
    """Each term's part of the overlapped time, averaged over the alternatives."""
    scale = jnp.maximum(overlapped, TICK)
    shares = {name: jnp.square(jnp.square(t / scale)) for name, t in terms.items()}
    return _means(weights * overlapped, shares)


def _in_order(names: tuple[str, ...], values: dict[str, Scalar]) -> Float[Array, " names"]:
    """Values by name as an array; zero where there is none."""
    return jnp.stack([values.get(name, as_scalar(0.0)) for name in names])
