r"""What a user of a machine sees: time to first token, time per output token, energy.

What users wait for follows from the seconds of a step and of a prompt (`closed_loop.py`). A step gives one
token, or with $k$ drafted ones of which a share $a$ is accepted,
$\text{tokens} = 1 + a + \dots + a^k$ (Leviathan et al., arXiv 2211.17192, equation 1).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.hardware.board import board_joules, board_of, held_share
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.inference.closed_loop import Steps, Waits, closed_loop
from perfmodel.inference.memory_reserve import block_tokens
from perfmodel.inference.placement import (
    cache_bytes,
    kv_cache_capacity,
    prompt_cache_bytes,
    sizes,
    weight_bytes,
)
from perfmodel.inference.step import (
    Cost,
    Pass,
    costs,
    decode_pass,
    mixed_pass,
    prompt_pass,
    stage_busy_time,
)
from perfmodel.library.framework import version_of
from perfmodel.results import AbstractResult, Plain, named, plain
from perfmodel.roofline import MIN_RATE
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request


class Service(AbstractResult):
    """What a user sees, and what the machine spends.

    - `ttft`, `tpot`: time to first token, and per output token, means over requests, in s.
    - `total`: seconds from a request to its last token, without the burst at the beginning.
    - `concurrency`: requests open; `running`: sequences that decode at once, the others wait.
    - `joules`: that the boards of all chips draw for one output token by term of `JOULES`: the prompt's share
      and what they draw between is in it; host, fans and conversion are not.
    - `slack`: bytes free on a chip beside the weights and one sequence of full length on each data rank;
      negative: short.
    - `seconds`: of a decode step, for each of `BOUNDS`.
    - `max_requests_per_s`: from which on a queue grows without end; infinite in a closed loop.
    - `max_running`: sequences that may decode at once, of requests that come at a rate; infinite in a closed
      loop.
    - `held`: share of the power of work that the boards' limit leaves, in (0, 1].
    - `weights`: bytes of them on a chip; `kv_capacity`: tokens that the KV cache of a data rank holds; `nan`
      of attention and feed-forward layers on chips of their own.
    - `busy`: of attention and feed-forward layers on chips of their own: shares of a step, and its
      micro-batches; else empty.
    - `by_pool`: of two kinds of chips the joules of one output token that each draws; else empty.
    """

    ttft: Scalar
    tpot: Scalar
    total: Scalar
    concurrency: Scalar
    running: Scalar
    joules: Values
    slack: Scalar
    seconds: Values
    max_requests_per_s: Scalar = eqx.field(converter=as_scalar, default=float("inf"))
    max_running: Scalar = eqx.field(converter=as_scalar, default=float("inf"))
    held: Scalar = eqx.field(converter=as_scalar, default=1.0)
    weights: Scalar = eqx.field(converter=as_scalar, default=float("nan"))
    kv_capacity: Scalar = eqx.field(converter=as_scalar, default=float("nan"))
    busy: Values = eqx.field(converter=as_values, default=())
    by_pool: Values = eqx.field(converter=as_values, default=())

    @property
    def energy(self) -> Values | np.ndarray | np.floating:
        """Of the boards of all chips for one output token, in J; of many services together an array."""
        return self.joules.sum(axis=-1)

    def as_dict(self) -> Plain:
        """Its numbers by name and unit."""
        numbers = {
            "ttft_ms": 1e3 * self.ttft,
            "tpot_ms": 1e3 * self.tpot,
            "output_tokens_per_s_per_user": 1 / self.tpot,
            "concurrency": self.concurrency,
            "running": self.running,
            "joules_per_output_token": self.energy,
            "free_bytes": self.slack,
        }
        return {n: plain(x) for n, x in numbers.items()} | {"bound": named(self.seconds, BOUNDS)}


Policy = Callable[[Steps, HostEfficiency, Request], Waits]
"""A serving policy: what users wait for, from the seconds of a step and of a prompt."""


def serve(
    chip: Chip, plan: Plan, model: Transformer, request: Request, policy: Policy = closed_loop
) -> Service:
    """Serve a `request` with a model on the chips of a plan.

    **Arguments:**

    - `policy`: how prompts and decode steps share the machine; a closed loop if not given.
    """
    batch = running_sequences(chip, plan, model, request)
    request = limited_to(request, batch)
    priced = steps_of(chip, plan, model, request, batch)
    waits = policy(priced.steps, chip.efficiency.host, request)
    length = request.isl + request.osl
    slack = slack_beside_one(chip, plan, model, length)
    memory = memory_of(chip, plan, model, length)._asdict()
    seconds = request.seconds_per_token(waits.total)
    boards, load = board_of(chip, plan.chips), (request.concurrency, batch)
    joules = board_joules(boards, priced.work, seconds)
    held = held_share(jnp.sum(priced.work) / seconds, boards.room)
    return compose(waits, *load, joules, slack, priced.seconds, held=held, **memory)


def compose(
    waits: Waits,
    concurrency: Scalar,
    running: Scalar,
    joules: Values,
    slack: Scalar,
    seconds: Values,
    **more: Any,
) -> Service:
    """A service from what users wait for and what its passes spend.

    **Arguments:**

    - `joules`: of one output token, an entry for each of `JOULES`; of two pools a row for each.
    - `slack`, `seconds`, `more`: as `Service` has them.
    """
    if joules.ndim > 1:
        more |= {"by_pool": joules.sum(axis=-1)}
        joules = joules.sum(axis=0)
    load = {"concurrency": concurrency, "running": running}
    return Service(**waits._asdict(), **load, joules=joules, slack=slack, seconds=seconds, **more)


def of_replicas(served: Service, replicas: Scalar | float) -> Service:
    """The service of some replicas together, each of which serves as `served` says."""
    return dataclasses.replace(
        served,
        concurrency=served.concurrency * replicas,
        running=served.running * replicas,
        max_requests_per_s=served.max_requests_per_s * replicas,
        max_running=served.max_running * replicas,
    )


class Priced(NamedTuple):
    """Steps, joules that work for one output token takes by term, without idle power and limits, and seconds
    of a decode step for each of `BOUNDS`.
    """

    steps: Steps
    work: Values
    seconds: Values


def steps_of(chip: Chip, plan: Plan, model: Transformer, request: Request, batch: Scalar) -> Priced:
    """What a loop is made of where `batch` sequences decode at once."""
    request = with_batched_tokens(chip, plan, request, batch)
    passes = loop_passes(chip, plan, model, request, batch)
    step, prompt, *mixed = costs(chip, plan, model, passes)
    seconds = jnp.maximum(step.time, _streaming(chip, step))
    if mixed:
        parts = halves_of(step), halves_of(mixed[0])
        steps = launched_steps(plan, request, batch, seconds, *parts, prompt.time)
    else:
        busy = stage_busy_time(passes[1], prompt.time) / plan.dp
        steps = Steps(batch, seconds, prompt.time, busy, busy)
    first = prompt.work / prompts_of_pass(chip, plan, request, batch)
    work = request.per_output_token(first, step.work, batch)
    return Priced(steps, work, step.breakdown.by_bound())


class Halves(NamedTuple):
    """Seconds of a step: of what each data rank does by itself, and of what all do together."""

    own: Scalar
    shared: Scalar

    @property
    def total(self) -> Scalar:
        """Of both."""
        return self.own + self.shared


def launched_steps(
    plan: Plan,
    request: Request,
    batch: Scalar,
    seconds: Scalar,
    step: Halves,
    mixed: Halves,
    prompt: Scalar,
) -> Steps:
    """The steps of chips whose kernels are launched.

    **Arguments:**

    - `seconds`: of a decode step, of which the kernels take `step`.
    - `mixed`: a step with prompts on each data rank; `prompt`: seconds of a step of prompts alone.
    """
    version, in_step = version_of(plan), users_are_in_step(request)
    together = prompts_together(plan, request, batch)
    rate = prompts_per_step(request, batch)
    busy = estimate_interference(plan, step, mixed, prompt, rate, together)
    return Steps(
        batch,
        seconds,
        prompt,
        *busy,
        in_step * together * plan.dp,
        float(version.separates_prefill),
        float(version.schedules_ahead),
    )


def users_are_in_step(request: Request) -> Scalar:
    """1 where users begin together, with prompts and answers of equal length, else 0."""
    begins = jnp.isfinite(request.requests_per_user) & (request.requests_per_s <= 0)
    equal = (request.continuous_batching > 0) & (request.length_spread <= 0)
    return jnp.where(begins & equal, 1.0, 0.0)


def with_batched_tokens(chip: Chip, plan: Plan, request: Request, batch: Scalar) -> Request:
    """The same request, with the tokens of a step that the framework takes where none are given."""
    new, users = request.isl - request.prefix_tokens, jnp.maximum(batch / plan.dp, 1.0)
    by_itself = version_of(plan).batched_tokens(new, users, chip.main.capacity)
    given = request.max_num_batched_tokens
    return dataclasses.replace(
        request, max_num_batched_tokens=jnp.where(given > 0, given, by_itself)
    )


def prompts_together(plan: Plan, request: Request, batch: Scalar) -> Scalar:
    """Prompts that each data rank takes in one step: as many as its token budget has room for where users
    are in step, else one; `request` says the tokens of a step.
    """
    version, users = version_of(plan), jnp.maximum(batch / plan.dp, 1.0)
    new = request.isl - request.prefix_tokens
    room = request.max_num_batched_tokens - (0.0 if version.separates_prefill else users)
    together = jnp.clip(jnp.floor(room / new), 1.0, users)
    return jnp.where(users_are_in_step(request) > 0, together, 1.0)


def prompts_of_pass(chip: Chip, plan: Plan, request: Request, batch: Scalar) -> Scalar:
    """Prompts of a pass of prompts alone: at least one on each data rank."""
    if chip.execution != "launched" or not version_of(plan).separates_prefill:
        return request.prompts_per_pass(plan.dp)
    together = prompts_together(plan, request, batch) * plan.dp
    return jnp.maximum(request.prompts_per_pass(plan.dp), together)


def _streaming(chip: Chip, step: Cost) -> Scalar:
    """Seconds in which far memory gives what of the cache lies in it: layers that work at once share it."""
    at = step.placement
    return at.cache.far * at.cache_size / (chip.far.bandwidth + MIN_RATE)


def loop_passes(
    chip: Chip, plan: Plan, model: Transformer, request: Request, batch: Scalar
) -> list[Pass]:
    """A decode step in the middle of the outputs, and prompts alone; on chips that are launched,
    also a step with a prompt on each rank, which elsewhere goes through the pipeline beside steps.
    """
    middle = request.isl + request.osl / 2
    new = request.isl - request.prefix_tokens
    passes = [
        decode_pass(chip, plan, model, batch, middle, request.speculative_tokens),
        prompt_pass(
            chip, plan, model, prompts_of_pass(chip, plan, request, batch), new, request.isl
        ),
    ]
    if chip.execution != "launched":
        return passes
    count = plan.dp * prompts_together(plan, request, batch)
    decoding, prompts = (batch, middle, request.speculative_tokens), (count, new, request.isl)
    return [*passes, mixed_pass(chip, plan, model, decoding, prompts)]


SHARED_LABELS = ("experts", "dispatch", "combine")
"""Kernels that all data ranks run together: experts, and the collectives that bring them tokens."""


def halves_of(cost: Cost) -> Halves:
    """The halves of a pass."""
    which = np.array([label in SHARED_LABELS for label in cost.labels])
    shared = jnp.sum(cost.kernels.time[which])
    return Halves(cost.time - shared, shared)


def excess_of(step: Halves, mixed: Halves) -> Halves:
    """By which prompts, one on each data rank, make a decode step longer; neither half is below zero."""
    total = jnp.maximum(mixed.total - step.total, 0.0)
    shared = jnp.clip(mixed.shared - step.shared, 0.0, total)
    return Halves(total - shared, shared)


def prompts_per_step(request: Request, batch: Scalar) -> Scalar:
    """Prompts that come in a step, on average: one of each of `batch` sequences in its R steps."""
    return batch * request.tokens_per_step / request.osl


def estimate_interference(
    plan: Plan,
    step: Halves,
    mixed: Halves,
    prompt: Scalar,
    rate: Scalar,
    together: Scalar | float = 1.0,
) -> tuple[Scalar, Scalar]:
    """By which one prompt makes a decode step longer: at a rate of prompts a step, and in a burst.

    Where data ranks take prompts at the same time, each prompt has its share of the step that they share.
    Where each takes its own, all wait at the experts for the rank that has one; without experts none waits.

    **Arguments:**

    - `mixed`: a step with prompts on each data rank, `together` of them; `prompt`: seconds of a step of as
      many alone.
    """
    version, excess = version_of(plan), excess_of(step, mixed)
    at_once = (prompt if version.separates_prefill else excess.total) / plan.dp / together
    if not version.schedules_ranks_apart:
        return at_once, at_once
    apart = (excess.own * rank_share(rate, plan.dp) + excess.shared / plan.dp) / together
    return jnp.where(mixed.shared > 0, apart, at_once), at_once


MIN_RATE_OF_PROMPTS = 1e-6
"""Prompts a step below which all is as there: a ratio of zeros has no gradient."""


def rank_share(rate: Scalar, ranks: Scalar) -> Scalar:
    r"""Seconds that a prompt adds to a step over those of its rank, with `rate` prompts a step on all ranks.

    A step waits for the rank with the most prompts, $E[\max_i N_i] / \lambda$ for a Poisson number on each.
    Of few prompts it is the share of steps with any, $(1 - e^{-\lambda}) / \lambda$; of many, $1 / n$. So

    $$\frac1n + \Bigl(1 - \frac1n\Bigr) \frac{1 - e^{-\lambda}}{\lambda}$$

    which is 7 % below at most up to two prompts a step.
    """
    rate = jnp.maximum(rate, MIN_RATE_OF_PROMPTS)
    return 1 / ranks + (1 - 1 / ranks) * -jnp.expm1(-rate) / rate


def running_sequences(chip: Chip, plan: Plan, model: Transformer, request: Request) -> Scalar:
    """Sequences that decode at once: all users, or as many as the KV cache has the capacity for."""
    let_in = version_of(plan).reserved_output
    reserved = jnp.where(request.continuous_batching > 0, let_in, 1.0) * request.osl
    fit = max_sequences(chip, plan, model, request.isl + reserved)
    return jnp.minimum(request.concurrency, jnp.minimum(fit, allowed_sequences(plan, request)))


def allowed_sequences(plan: Plan, request: Request) -> Scalar:
    """Sequences that the scheduler may let decode at once; infinite where it is not told."""
    most = request.max_num_seqs
    return jnp.where(most > 0, most * plan.dp, jnp.inf)


def limited_to(request: Request, batch: Scalar) -> Request:
    """The request where no more prompts of a static batch start together than decode together."""
    batch_size = jnp.minimum(request.batch_size, batch)
    batch_size = jnp.where(request.continuous_batching > 0, request.batch_size, batch_size)
    return dataclasses.replace(request, batch_size=batch_size)


def max_sequences(chip: Chip, plan: Plan, model: Transformer, length: Scalar) -> Scalar:
    """Sequences of `length` tokens that fit beside the weights; at least one.

    Each data rank holds whole sequences. Each stage of a pipeline holds its layers of all of them, so
    their number need be no multiple of the stages.
    """
    one = cache_bytes(model, plan, plan.dp, length)
    prompt = prompt_cache_bytes(model, plan, length) - one
    each = jnp.floor((kv_cache_capacity(chip, plan, model) - prompt) / one)
    return jnp.maximum(each * plan.dp, 1.0)


class Memory(NamedTuple):
    """Of one chip bytes of weights, and tokens that the KV cache of a data rank holds.

    - `kv_capacity`: where each sequence is as long as those that are asked for, as servers count it.
    """

    weights: Scalar
    kv_capacity: Scalar


def memory_of(chip: Chip, plan: Plan, model: Transformer, length: Scalar) -> Memory:
    """Weights, and the capacity of the KV cache, where sequences of `length` tokens are served."""
    capacity = jnp.maximum(kv_cache_capacity(chip, plan, model), 0.0)
    tokens = capacity / prompt_cache_bytes(model, plan, length) * length
    block = block_tokens(plan)
    return Memory(weight_bytes(model, plan), jnp.floor(tokens / block) * block)


def slack_beside_one(chip: Chip, plan: Plan, model: Transformer, length: Scalar) -> Scalar:
    """Bytes free on a chip beside the weights and one sequence of `length` tokens on each data rank."""
    more = prompt_cache_bytes(model, plan, length) - cache_bytes(model, plan, plan.dp, length)
    return sizes(chip, plan, model, plan.dp, length).slack - more
