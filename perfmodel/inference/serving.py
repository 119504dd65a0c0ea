r"""What a user of a machine sees: time to first token, time per output token, energy.

With $C$ users in a closed loop, $B = \min(C, \text{room})$ sequences decode at once; the other users
wait. Each sequence brings one prompt in the $R$ steps of its output, and a prompt makes a step longer
by $P$, so

$$\text{TPOT} = \frac{\text{step}(B)}{\text{tokens}} + P\,\frac{B-1}{R}$$

A step gives one token, or with $k$ drafted ones of which a share $a$ is accepted,
$\text{tokens} = 1 + a + \dots + a^k$ (Leviathan et al., arXiv 2211.17192, equation 1).

TPOT is (total - TTFT) / (R - 1). TTFT is a mean: a prompt waits for half a step, rides on one,
waits behind the burst with which a run of few rounds begins, and for room where there is none:

$$\text{TTFT} = t_0 + \text{prompt} + \tfrac12\,\text{step} + \frac{b\,P\,B}{2\,\text{rounds}}
  + \Bigl(\frac{C}{B}-1\Bigr) H, \quad H = \text{prompt} + \tfrac12\,\text{step} + (R-1)\,\text{TPOT}$$

A sequence holds its room for $H$, so $C$ users get $B / H$ answers a second (Little's law). A static batch
that has no room together runs in $\lceil C/B \rceil$ waves, one after the other.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.inference.placement import cache_bytes, cache_room, sizes
from perfmodel.inference.step import Cost, Pass, costs, decode_pass, mixed_pass, prompt_pass
from perfmodel.results import AbstractResult, Plain, named, plain
from perfmodel.roofline import SLOWEST
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.workload.framework import RESERVED, SEPARATE
from perfmodel.workload.plan import Plan
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import Transformer


class Service(AbstractResult):
    """What a user sees, and what the machine spends.

    - `ttft`, `tpot`: time to first token, and per output token, means over requests, in s.
    - `total`: seconds from a request to its last token, without the burst at the beginning.
    - `users`: who have a request open; `batch`: sequences that decode at once, the others wait.
    - `joules`: of all chips for one output token by term of `JOULES`, the prompt's share included.
    - `slack`: bytes free on a chip beside the weights and one sequence of full length on each data rank;
      negative: short.
    - `seconds`: of a decode step, for each of `BOUNDS`.
    - `most_rate`: requests a second from which on a queue grows without end; infinite in a closed loop.
    - `busy`: of attention and feed-forward layers on chips of their own: shares of a step, and its
      micro-batches; else empty.
    - `by_pool`: of two kinds of chips the joules of one output token that each draws; else empty.
    """

    ttft: Scalar
    tpot: Scalar
    total: Scalar
    users: Scalar
    batch: Scalar
    joules: Values
    slack: Scalar
    seconds: Values
    most_rate: Scalar = eqx.field(converter=as_scalar, default=float("inf"))
    busy: Values = eqx.field(converter=as_values, default=())
    by_pool: Values = eqx.field(converter=as_values, default=())

    @property
    def energy(self) -> Values | np.ndarray | np.floating:
        """Of all chips for one output token, in J; of many services together an array."""
        return self.joules.sum(axis=-1)

    def as_dict(self) -> Plain:
        """Its numbers by name and unit."""
        numbers = {
            "ttft_ms": 1e3 * self.ttft,
            "tpot_ms": 1e3 * self.tpot,
            "output_tokens_per_s_per_user": 1 / self.tpot,
            "users": self.users,
            "running": self.batch,
            "joules_per_output_token": self.energy,
            "free_bytes": self.slack,
        }
        return {n: plain(x) for n, x in numbers.items()} | {"bound": named(self.seconds, BOUNDS)}


class Steps(NamedTuple):
    """Seconds that a closed loop is made of, the host's included.

    - `step`: of a decode step with `batch` sequences.
    - `prompt`: of the prompts that start together, with nothing beside them.
    - `longer`: by which one prompt makes a decode step longer.
    """

    batch: Scalar
    step: Scalar
    prompt: Scalar
    longer: Scalar


class Waits(NamedTuple):
    """TTFT, TPOT, and seconds from a request to its last token after the first burst."""

    ttft: Scalar
    tpot: Scalar
    total: Scalar


def closed_loop(steps: Steps, host: HostEfficiency, traffic: Traffic) -> Waits:
    """What users wait for, from the seconds of a step and of a prompt."""
    others = traffic.steady * jnp.maximum(steps.batch - 1, 0.0)
    tpot = steps.step / traffic.tokens + steps.longer * others / traffic.output
    busy = others / jnp.maximum(steps.batch, 1.0)
    burst = host.burst * steps.longer * others / 2 / traffic.rounds
    prompt = steps.prompt + busy * tpot / 2
    queue, total = queueing(traffic, steps.batch, prompt + traffic.later * tpot)
    return Waits(host.first_token + prompt + burst + queue, tpot, host.first_token + total)


def queueing(traffic: Traffic, batch: Scalar, held: Scalar) -> tuple[Scalar, Scalar]:
    """Seconds that a request waits for room, and until it is answered: of a static batch, until all are.

    **Arguments:**

    - `held`: seconds for which each of `batch` sequences keeps its room.
    """
    times = traffic.users / batch
    waves = jnp.ceil(times)
    mean = (waves - 1) * (1 - waves / times / 2)
    queue = jnp.where(traffic.steady > 0, times - 1, mean) * held
    return queue, jnp.where(traffic.steady > 0, times, waves) * held


Policy = Callable[[Steps, HostEfficiency, Traffic], Waits]
"""A serving policy: what users wait for, from the seconds of a step and of a prompt."""


def serve(
    chip: Chip, plan: Plan, model: Transformer, traffic: Traffic, policy: Policy = closed_loop
) -> Service:
    """Serve `traffic` with a model on the chips of a plan.

    **Arguments:**

    - `policy`: how prompts and decode steps share the machine; a closed loop if not given.
    """
    batch = in_flight(chip, plan, model, traffic)
    traffic = started(traffic, batch)
    found = steps_of(chip, plan, model, traffic, batch)
    waits = policy(found.steps, chip.efficiency.host, traffic)
    return Service(
        ttft=waits.ttft,
        tpot=waits.tpot,
        total=waits.total,
        users=traffic.users,
        batch=batch,
        joules=found.joules,
        slack=slack_beside_one(chip, plan, model, traffic.prompt + traffic.output),
        seconds=found.seconds,
    )


class Priced(NamedTuple):
    """Steps, joules of one output token by term, and seconds of a decode step for each of `BOUNDS`."""

    steps: Steps
    joules: Values
    seconds: Values


def steps_of(chip: Chip, plan: Plan, model: Transformer, traffic: Traffic, batch: Scalar) -> Priced:
    """What a loop is made of where `batch` sequences decode at once."""
    passes = loop_passes(chip, plan, model, traffic, batch)
    step, prompt, *mixed = costs(chip, plan, model, passes)
    if mixed:
        busy = longer(plan, step.time, prompt.time, mixed[0].time)
    else:
        busy = occupied(passes[1], prompt.time) / plan.data
    first = prompt.breakdown.joules / traffic.at_once(plan.data)
    joules = traffic.a_token(first, step.breakdown.joules, batch)
    steps = Steps(batch, jnp.maximum(step.time, _streaming(chip, step)), prompt.time, busy)
    return Priced(steps, joules, step.breakdown.by_bound())


def _streaming(chip: Chip, step: Cost) -> Scalar:
    """Seconds in which far memory gives what of the cache lies in it: layers that work at once share it."""
    at = step.placement
    return at.cache.far * at.cache_size / (chip.far.bandwidth + SLOWEST)


def loop_passes(
    chip: Chip, plan: Plan, model: Transformer, traffic: Traffic, batch: Scalar
) -> list[Pass]:
    """A decode step in the middle of the outputs, and prompts alone; on chips that are launched,
    also a step with a prompt on each rank, which elsewhere goes through the pipeline beside steps.
    """
    middle = traffic.prompt + traffic.output / 2
    new = traffic.prompt - traffic.cached
    passes = [
        decode_pass(chip, plan, model, batch, middle, traffic.drafted),
        prompt_pass(chip, plan, model, traffic.together, new, traffic.prompt),
    ]
    if chip.execution != "launched":
        return passes
    decoding, prompts = (batch, middle, traffic.drafted), (plan.data, new, traffic.prompt)
    return [*passes, mixed_pass(chip, plan, model, decoding, prompts)]


def longer(plan: Plan, step: Scalar, prompt: Scalar, mixed: Scalar) -> Scalar:
    """By which one prompt makes a decode step longer: data ranks take prompts at the same time."""
    if plan.framework in SEPARATE:
        return prompt / plan.data
    return jnp.maximum(mixed - step, 0.0) / plan.data


def occupied(prompts: Pass, time: Scalar) -> Scalar:
    """How long prompts that take `time` keep each stage of a pipeline busy: others pass between them.

    One part goes through all stages in time / (1 + waits), and is in each for that over the stages.
    """
    return time / (1 + prompts.waits) * prompts.parts / prompts.stages


def in_flight(chip: Chip, plan: Plan, model: Transformer, traffic: Traffic) -> Scalar:
    """Sequences that decode at once: all users, or as many as there is room for."""
    let_in = RESERVED.get(plan.framework or "", 1.0)
    reserved = jnp.where(traffic.steady > 0, let_in, 1.0) * traffic.output
    return jnp.minimum(traffic.users, largest_batch(chip, plan, model, traffic.prompt + reserved))


def started(traffic: Traffic, batch: Scalar) -> Traffic:
    """The traffic where no more prompts of a static batch start together than decode together."""
    together = jnp.minimum(traffic.together, batch)
    together = jnp.where(traffic.steady > 0, traffic.together, together)
    return dataclasses.replace(traffic, together=together)


def largest_batch(chip: Chip, plan: Plan, model: Transformer, length: Scalar) -> Scalar:
    """Sequences of `length` tokens that fit beside the weights; at least one.

    Each data rank holds whole sequences. Each stage of a pipeline holds its layers of all of them, so
    their number need be no multiple of the stages.
    """
    one = cache_bytes(model, plan, plan.data, length)
    each = jnp.floor(cache_room(chip, plan, model) / one)
    return jnp.maximum(each * plan.data, 1.0)


def slack_beside_one(chip: Chip, plan: Plan, model: Transformer, length: Scalar) -> Scalar:
    """Bytes free on a chip beside the weights and one sequence of `length` tokens on each data rank."""
    return sizes(chip, plan, model, plan.data, length).slack
