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

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.board import Board, awake_share, board_joules, board_of, held_share
from perfmodel.hardware.chip import Chip
from perfmodel.inference.closed_loop import Waits
from perfmodel.inference.placement import cache_bytes
from perfmodel.inference.service import (
    Memory,
    Service,
    compose,
    memory_of,
    running_sequences,
    slack_beside_one,
)
from perfmodel.inference.step import Cost, costs, decode_pass, prompt_pass, stage_busy_time
from perfmodel.units import Scalar, Values, as_scalar
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


class PrefillWorker(NamedTuple):
    """What one prefill worker does with prompts.

    - `prompt`: seconds of one prompt; `spacing`: from one prompt to the next.
    - `work`: joules that one prompt takes by term, without idle power and limits; `board`: its boards' power.
    - `cache`: bytes of keys and values of a prompt that a chip sends; `port`: its bytes/s; `latency`: in s.
    - `slack`: bytes free on a chip beside the weights and one prompt.
    """

    prompt: Scalar
    spacing: Scalar
    work: Values
    board: Board
    cache: Scalar
    port: Scalar
    latency: Scalar
    slack: Scalar


class DecodeWorker(NamedTuple):
    """What one decode worker does with some users.

    - `most`: sequences that decode at once, at most; `full`, `single`: seconds of a step of so many, and of
      one on each data rank.
    - `work`: joules that a full step takes by term, without idle power and limits; `seconds`: of it, by
      bound.
    - `board`: power of its boards.
    - `first_token`, `burst`: of its host; `port`: bytes/s of its chips.
    - `slack`: bytes free on a chip beside the weights and one sequence.
    - `memory`: its weights, and tokens that its KV cache holds.
    """

    most: Scalar
    full: Scalar
    single: Scalar
    work: Values
    board: Board
    seconds: Values
    first_token: Scalar
    burst: Scalar
    port: Scalar
    slack: Scalar
    memory: Memory


def serve_disaggregated(
    prefill: Pool, decode: Pool, model: Transformer, request: Request
) -> Service:
    """Serve a `request` with prompts on one pool and decode steps on another."""
    first = prefill_worker(prefill.chip, prefill.plan, model, request)
    second = decode_worker(decode.chip, decode.plan, model, request.shared(decode.workers))
    return match_rates(first, prefill.workers, second, decode.workers, request)


def prefill_worker(chip: Chip, plan: Plan, model: Transformer, request: Request) -> PrefillWorker:
    """A worker of the prefill pool."""
    cost, spacing = prompt_cost(Pool(chip, plan, as_scalar(1.0)), model, request)
    return PrefillWorker(
        cost.time,
        spacing,
        cost.work / plan.dp,
        board_of(chip, plan.chips),
        cache_bytes(model, plan, plan.dp, request.isl),
        chip.scale_out.bandwidth,
        chip.scale_out.latency,
        slack_beside_one(chip, plan, model, request.isl),
    )


def decode_worker(chip: Chip, plan: Plan, model: Transformer, request: Request) -> DecodeWorker:
    """A worker of the decode pool, with its share of the users."""
    own = Request(request.concurrency, request.isl, request.osl, request.batch_size)
    own = dataclasses.replace(own, max_num_seqs=request.max_num_seqs)
    length = request.isl + request.osl
    most = running_sequences(chip, plan, model, own)
    full, single = _steps(Pool(chip, plan, as_scalar(1.0)), model, request, most)
    return DecodeWorker(
        most,
        full.time,
        single.time,
        full.work,
        board_of(chip, plan.chips),
        full.breakdown.by_bound(),
        chip.efficiency.host.before_prompt(request.isl),
        chip.efficiency.host.burst,
        chip.scale_out.bandwidth,
        slack_beside_one(chip, plan, model, length),
        memory_of(chip, plan, model, length),
    )


def match_rates(
    first: PrefillWorker,
    prefill_workers: Scalar,
    second: DecodeWorker,
    decode_workers: Scalar,
    request: Request,
) -> Service:
    """The service of some prefill and some decode workers together."""
    spacing = first.spacing / prefill_workers
    users = request.concurrency / decode_workers
    transfer = transfer_time(first.cache, (first.port, second.port), first.latency)
    alone = second.first_token + first.prompt + transfer
    tpot, total, batch = _balance(
        second.full, second.single, second.most, users, alone, request, spacing
    )
    burst = second.burst * spacing * request.concurrency / 2 / request.requests_per_user
    seconds = request.seconds_per_token(total)
    spent, held = _joules_of_pools(
        (first, second), (prefill_workers, decode_workers), request, batch, seconds
    )
    return compose(
        Waits(total - request.tokens_after_first * tpot + burst, tpot, total),
        request.concurrency,
        batch * decode_workers,
        spent,
        jnp.minimum(second.slack, first.slack),
        second.seconds,
        held=held,
        **second.memory._asdict(),
    )


def transfer_time(cache: Scalar, ports: tuple[Scalar, Scalar], latency: Scalar) -> Scalar:
    """Seconds in which the keys and values of a prompt cross the network between pools.

    **Arguments:**

    - `cache`: bytes that a chip sends; `ports`: bytes/s of a chip of both pools; `latency`: in s.
    """
    return cache / jnp.minimum(*ports) + latency


def prompt_transfer(prefill: Pool, decode: Pool, model: Transformer, tokens: Scalar) -> Scalar:
    """The same of a prompt of some tokens."""
    cache = cache_bytes(model, prefill.plan, prefill.plan.dp, tokens)
    networks = prefill.chip.scale_out, decode.chip.scale_out
    ports = networks[0].bandwidth, networks[1].bandwidth
    return transfer_time(cache, ports, networks[0].latency)


def _joules_of_pools(
    workers: tuple[PrefillWorker, DecodeWorker],
    counts: tuple[Scalar, Scalar],
    request: Request,
    batch: Scalar,
    seconds: Scalar,
) -> tuple[Values, Scalar]:
    """What the boards of each pool draw for one output token, of which one comes every `seconds`, by
    term; and the least share of their work's power that a limit leaves.

    **Arguments:**

    - `batch`: sequences that decode on each decode worker.
    """
    (first, second), none = workers, jnp.zeros_like(workers[0].work)
    prompts = first.prompt / (seconds * request.osl * counts[0])  # on each worker, by Little's law
    work = [
        request.per_output_token(first.work, none, second.most),
        request.per_output_token(none, second.work, second.most),
    ]
    spent = [
        count * board_joules(one.board, each / count, seconds, awake_share(at_once))
        for one, each, count, at_once in zip(workers, work, counts, (prompts, batch), strict=True)
    ]
    held = [
        held_share(jnp.sum(each) / count / seconds, one.board.room)
        for one, each, count in zip(workers, work, counts, strict=True)
    ]
    return jnp.stack(spent), jnp.minimum(*held)


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
