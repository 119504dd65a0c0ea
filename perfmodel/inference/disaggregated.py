r"""Prompts and decode steps on pools of machines of their own (disaggregation).

Each of some workers of a pool is a deployment of the whole model. A prompt is computed by a prefill
worker, its keys and values cross the network, and a decode worker goes on. Of $C$ users, as many decode as
the time spent there is of the whole: with $\lambda$ prompts a second from the prefill pool at most, and
KV-cache capacity for $M$ sequences in the decode pool,

$$\text{total} \ge \max\Bigl(\text{alone} + R\,\text{TPOT},\; \frac{C}{\lambda},\;
  \frac{C}{M} R\,\text{TPOT}\Bigr), \quad B = C\,\frac{R\,\text{TPOT}}{\text{total}}$$

the asymptotic bounds of a closed network (Denning and Buzen, Computing Surveys 10(3), 1978). The first two
meet smoothly: requests wait a little before the prefill pool is full.
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.inference.placement import cache_bytes
from perfmodel.inference.service import (
    Service,
    Waits,
    compose,
    running_sequences,
    slack_beside_one,
    stage_busy_time,
)
from perfmodel.inference.step import Cost, costs, decode_pass, prompt_pass
from perfmodel.units import Scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

SHARPNESS = 4.0
"""Exponent with which the two bounds meet: assumed."""

ROUNDS = 8
"""Of the fixed point between the batch and the time of a step, which each other closes in on."""


class Pool(NamedTuple):
    """Equal workers.

    - `chip`, `plan`: of one worker; `workers`: how many.
    """

    chip: Chip
    plan: Plan
    workers: Scalar


def serve_disaggregated(
    prefill: Pool, decode: Pool, model: Transformer, request: Request
) -> Service:
    """Serve a `request` with prompts on one pool and decode steps on another."""
    prompt, spacing = prompt_cost(prefill, model, request)
    users = request.concurrency / decode.workers
    own = Request(users, request.isl, request.osl, request.batch_size)
    most = running_sequences(decode.chip, decode.plan, model, own)
    full, single = _steps(decode, model, request, most)
    host = decode.chip.efficiency.host
    alone = host.first_token + prompt.time + _transfer(decode, prefill, model, request.isl)
    tpot, total, batch = _balance(full.time, single.time, most, users, alone, request, spacing)
    burst = host.burst * spacing * request.concurrency / 2 / request.requests_per_user
    length = request.isl + request.osl
    slack = slack_beside_one(decode.chip, decode.plan, model, length)
    prompts = slack_beside_one(prefill.chip, prefill.plan, model, request.isl)
    own, none = prompt.breakdown.joules / prefill.plan.dp, jnp.zeros_like(prompt.breakdown.joules)
    steps = request.per_output_token(none, full.breakdown.joules, most)
    joules = jnp.stack([request.per_output_token(own, none, most), steps])
    return compose(
        Waits(total - request.tokens_after_first * tpot + burst, tpot, total),
        request.concurrency,
        batch * decode.workers,
        joules,
        jnp.minimum(slack, prompts),
        full.breakdown.by_bound(),
    )


def prompt_cost(pool: Pool, model: Transformer, request: Request) -> tuple[Cost, Scalar]:
    """One prompt on each data rank, and seconds from one prompt to the next of the whole pool."""
    new = request.isl - request.prefix_tokens
    single = prompt_pass(pool.chip, pool.plan, model, pool.plan.dp, new, request.isl)
    cost = costs(pool.chip, pool.plan, model, [single])[0]
    return cost, stage_busy_time(single, cost.time) / pool.plan.dp / pool.workers


def _steps(pool: Pool, model: Transformer, request: Request, most: Scalar) -> list[Cost]:
    """A decode step with as many sequences as there may be, and with one on each data rank."""
    middle = request.isl + request.osl / 2
    passes = [
        decode_pass(pool.chip, pool.plan, model, batch, middle, request.speculative_tokens)
        for batch in (most, pool.plan.dp)
    ]
    return costs(pool.chip, pool.plan, model, passes)


def _transfer(decode: Pool, prefill: Pool, model: Transformer, isl: Scalar) -> Scalar:
    """Each chip of a prefill worker sends its share of keys and values over its own port."""
    plan = prefill.plan
    size = cache_bytes(model, plan, plan.dp, isl)
    port = jnp.minimum(prefill.chip.scale_out.bandwidth, decode.chip.scale_out.bandwidth)
    return size / port + prefill.chip.scale_out.latency


def _balance(
    full: Scalar,
    single: Scalar,
    most: Scalar,
    users: Scalar,
    alone: Scalar,
    request: Request,
    spacing: Scalar,
) -> tuple[Scalar, Scalar, Scalar]:
    """TPOT, seconds from a request to its last token, and sequences that decode, of a decode worker
    with `users` and KV-cache capacity for `most`."""
    batch, later = most, jnp.maximum(request.osl - 1, 1e-3)
    tpot = total = full
    for _ in range(ROUNDS):
        share = jnp.clip((batch - 1) / jnp.maximum(most - 1, 1.0), 0.0, 1.0)
        tpot = (single + (full - single) * share) / request.tokens_per_step
        free, bound = alone + later * tpot, request.concurrency * spacing
        total = free * (1 + (bound / free) ** SHARPNESS) ** (1 / SHARPNESS)
        total = jnp.maximum(total, users / most * later * tpot)
        batch = users * later * tpot / total
    return tpot, total, batch
