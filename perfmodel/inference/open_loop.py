r"""Users who come when they like (an open loop), beside the closed loop of `serving`.

Requests come at a rate $\lambda$, each independent of the others (Poisson). A prompt makes a step longer
by $P$, so that a share $\rho = \lambda P$ of the time is theirs, and a request that decodes sees itself and
as many others as there are on average, $b = 1 + \lambda R\,\text{TPOT}$ (Wolff, Operations Research
30(2), 1982):

$$\text{TPOT} = \frac{\text{step}(b)/\text{tokens}}{1 - \rho}, \quad
  \lambda(b) = \frac{b - 1}{R\,\text{step}(b)/\text{tokens} + (b - 1) P}$$

The batch is where $\lambda(b) = \lambda$; at the batch that fills the KV cache, no more can be answered. A
prompt waits behind others (Pollaczek and Khinchine, all of one length), and for one of $c$ places where all
are taken (Sakasegawa, Annals of the Institute of Statistical Mathematics 29, 1977, at equal lengths):

$$W = \frac{\rho P}{2 (1 - \rho)} + \frac{R\,\text{TPOT}}{2c} \frac{u^{\sqrt{2(c+1)} - 1}}{1 - u},
  \quad u = \frac{\lambda R\,\text{TPOT}}{c}$$
"""

import functools

import jax
import jax.numpy as jnp

from perfmodel.hardware.board import awake_share, board_joules, board_of
from perfmodel.hardware.chip import Chip
from perfmodel.inference.closed_loop import Steps, Waits, wait_for_step
from perfmodel.inference.service import (
    Service,
    compose,
    memory_of,
    running_sequences,
    slack_beside_one,
    steps_of,
)
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

BATCHES = 9
"""Batches, from one to as many as fill the KV cache, between which the rate is read off."""

MAX_OCCUPANCY = 0.999
"""Share of places taken beyond which a queue is priced as there, so that all stays finite."""


def serve_open_loop(chip: Chip, plan: Plan, model: Transformer, request: Request) -> Service:
    """Serve requests that come at `requests_per_s`; beyond `max_requests_per_s` a queue grows without end."""
    capacity = running_sequences(chip, plan, model, request)
    batches = 1 + (capacity - 1) * jnp.linspace(0.0, 1.0, BATCHES) ** 3
    tried = jax.vmap(functools.partial(steps_of, chip, plan, model, request))(batches)
    rates = rate_at(tried.steps, request)
    batch = jnp.interp(request.requests_per_s, rates, batches)
    priced = steps_of(chip, plan, model, request, batch)
    busy, tpot = shares(priced.steps, request)
    places = jnp.maximum(capacity, 1.0)
    decoding = request.requests_per_s * request.osl * tpot
    wait = mg1_wait(request.requests_per_s, priced.steps.prefill_interference)
    wait += mmc_wait(decoding, places, request.requests_per_s)
    ttft = chip.efficiency.host.before_prompt(request.isl) + priced.steps.prompt
    ttft += wait_for_step(request, busy, tpot) + wait
    total = ttft + request.tokens_after_first * tpot
    users = request.requests_per_s * total
    seconds = 1 / (request.requests_per_s * request.osl)
    awake = awake_share(users)
    length = request.isl + request.osl
    return compose(
        Waits(ttft, tpot, total),
        users,
        jnp.minimum(decoding, places),
        board_joules(board_of(chip, plan.chips), priced.work, seconds, awake),
        slack_beside_one(chip, plan, model, length),
        priced.seconds,
        max_requests_per_s=rates[-1],
        max_running=places,
        **memory_of(chip, plan, model, length)._asdict(),
    )


def rate_at(steps: Steps, request: Request) -> Values:
    """Requests a second at which a request that decodes is one of `steps.batch`."""
    others = jnp.maximum(steps.batch - 1, 0.0)
    return others / (
        request.osl * steps.step / request.tokens_per_step + others * steps.prefill_interference
    )


def shares(steps: Steps, request: Request) -> tuple[Scalar, Scalar]:
    """The share of time in which anything runs, and TPOT beside the prompts that come."""
    prompts = jnp.minimum(request.requests_per_s * steps.prefill_interference, MAX_OCCUPANCY)
    tpot = steps.step / request.tokens_per_step / (1 - prompts)
    others = jnp.maximum(steps.batch - 1, 0.0)
    return others / (others + 1), tpot


def mg1_wait(rate: Scalar, service_time: Scalar) -> Scalar:
    """Seconds that a prompt waits for those before it, each of `service_time` seconds."""
    busy = jnp.minimum(rate * service_time, MAX_OCCUPANCY)
    return busy * service_time / 2 / (1 - busy)


def mmc_wait(decoding: Scalar, places: Scalar, rate: Scalar) -> Scalar:
    """Seconds that a request waits for one of `places`, of which `decoding` are taken on average."""
    taken = jnp.clip(decoding / places, 1e-6, MAX_OCCUPANCY)
    each = decoding / jnp.maximum(rate, as_scalar(1e-9))
    return each / places * taken ** (jnp.sqrt(2 * (places + 1)) - 1) / (1 - taken) / 2
