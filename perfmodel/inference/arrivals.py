r"""Users who come when they like (an open loop), beside the closed loop of `serving`.

Requests come at a rate $\lambda$, each independent of the others (Poisson). A prompt makes a step longer
by $P$, so that a share $\rho = \lambda P$ of the time is theirs, and a request that decodes sees itself and
as many others as there are on average, $b = 1 + \lambda R\,\text{TPOT}$ (Wolff, Operations Research
30(2), 1982):

$$\text{TPOT} = \frac{\text{step}(b)/\text{tokens}}{1 - \rho}, \quad
  \lambda(b) = \frac{b - 1}{R\,\text{step}(b)/\text{tokens} + (b - 1) P}$$

The batch is where $\lambda(b) = \lambda$; at the batch that there is room for, no more can be answered. A
prompt waits behind others (Pollaczek and Khinchine, all of one length), and for one of $c$ places where all
are taken (Sakasegawa, Annals of the Institute of Statistical Mathematics 29, 1977, at equal lengths):

$$W = \frac{\rho P}{2 (1 - \rho)} + \frac{R\,\text{TPOT}}{2c} \frac{u^{\sqrt{2(c+1)} - 1}}{1 - u},
  \quad u = \frac{\lambda R\,\text{TPOT}}{c}$$
"""

import jax
import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.inference.serving import Service, Steps, in_flight, slack_beside_one, steps_of
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import Transformer

BATCHES = 9
"""Batches, from one to as many as there is room for, between which the rate is read off."""

FULLEST = 0.999
"""Share of places taken beyond which a queue is priced as there, so that all stays finite."""


def serve_arrivals(chip: Chip, plan: Plan, model: Transformer, traffic: Traffic) -> Service:
    """Serve requests that come at `traffic.rate`; beyond `most_rate` a queue grows without end."""
    room = in_flight(chip, plan, model, traffic)
    batches = 1 + (room - 1) * jnp.linspace(0.0, 1.0, BATCHES) ** 3
    tried = jax.vmap(lambda batch: steps_of(chip, plan, model, traffic, batch).steps)(batches)
    rates = rate_at(tried, traffic)
    batch = jnp.interp(traffic.rate, rates, batches)
    found = steps_of(chip, plan, model, traffic, batch)
    busy, tpot = shares(found.steps, traffic)
    places = jnp.maximum(room, 1.0)
    decoding = traffic.rate * traffic.output * tpot
    wait = behind(traffic.rate, found.steps.longer) + for_room(decoding, places, traffic.rate)
    ttft = chip.efficiency.host.first_token + found.steps.prompt + busy * tpot / 2 + wait
    total = ttft + traffic.later * tpot
    return Service(
        ttft=ttft,
        tpot=tpot,
        total=total,
        users=traffic.rate * total,
        batch=jnp.minimum(decoding, places),
        joules=found.joules,
        slack=slack_beside_one(chip, plan, model, traffic.prompt + traffic.output),
        seconds=found.seconds,
        most_rate=rates[-1],
    )


def rate_at(steps: Steps, traffic: Traffic) -> Values:
    """Requests a second at which a request that decodes is one of `steps.batch`."""
    others = jnp.maximum(steps.batch - 1, 0.0)
    return others / (traffic.output * steps.step / traffic.tokens + others * steps.longer)


def shares(steps: Steps, traffic: Traffic) -> tuple[Scalar, Scalar]:
    """The share of time in which anything runs, and TPOT beside the prompts that come."""
    prompts = jnp.minimum(traffic.rate * steps.longer, FULLEST)
    tpot = steps.step / traffic.tokens / (1 - prompts)
    others = jnp.maximum(steps.batch - 1, 0.0)
    return others / (others + 1), tpot


def behind(rate: Scalar, prompt: Scalar) -> Scalar:
    """Seconds that a prompt waits for those before it, each of `prompt` seconds."""
    busy = jnp.minimum(rate * prompt, FULLEST)
    return busy * prompt / 2 / (1 - busy)


def for_room(decoding: Scalar, places: Scalar, rate: Scalar) -> Scalar:
    """Seconds that a request waits for one of `places`, of which `decoding` are taken on average."""
    taken = jnp.clip(decoding / places, 1e-6, FULLEST)
    each = decoding / jnp.maximum(rate, as_scalar(1e-9))
    return each / places * taken ** (jnp.sqrt(2 * (places + 1)) - 1) / (1 - taken) / 2
