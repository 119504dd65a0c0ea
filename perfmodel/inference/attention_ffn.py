r"""Attention and feed-forward on different chips (AFD): activations cross a link, there and back.

Attention's chips keep its weights and the cache, the others all feed-forward layers and experts. A step
is cut into $m$ micro-batches which take turns, so that both sides and the link work at the same time
(MegaScale-Infer, arXiv 2504.02263; Step-3, arXiv 2507.19427). With $a$, $f$, $c$ the
seconds of one micro-batch in all layers of attention, feed-forward, and on the link,

$$\text{step} = \min_m \max(m a, m f, m c, a + f + c)$$

A pool whose layers lie on several stages works on as many micro-batches at once. What each side is busy of a
step says how well their rates match.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from perfmodel.breakdown import BOUNDS
from perfmodel.hardware.board import board_joules, board_of
from perfmodel.hardware.chip import Chip
from perfmodel.inference.closed_loop import Steps, closed_loop
from perfmodel.inference.operations import STREAM_BYTES
from perfmodel.inference.service import (
    Service,
    compose,
    limited_to,
    running_sequences,
    slack_beside_one,
)
from perfmodel.inference.step import Cost, Pass, costs, decode_pass, prompt_pass
from perfmodel.trees import map_leaves
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.model import Stack, Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request
from perfmodel.workload.sizes import Number

MICRO_BATCHES = 4
"""Micro-batches of a step, at most: with three stages, more than three gain little (MegaScale-Infer, 4.1)."""


class Link(NamedTuple):
    """Between the sides: bytes/s of one chip in each direction, and s of one message."""

    bandwidth: Scalar
    latency: Scalar


class Side(NamedTuple):
    """Chips of one kind, how the layers are spread over them, and which part of the model they have."""

    chip: Chip
    plan: Plan
    model: Transformer

    @property
    def stages(self) -> Scalar:
        """That work on a micro-batch each."""
        dataflow = self.chip.execution == "dataflow"
        return as_scalar(self.model.layers) if dataflow else self.plan.pp

    @property
    def width(self) -> Scalar:
        """Chips that have a layer, and send and take its activations."""
        return self.plan.tp * self.plan.dp


Sides = tuple[Side, ...]


def attention_and_ffn(model: Transformer) -> tuple[Transformer, Transformer]:
    """The model's attention with its embeddings, and its feed-forward layers."""
    first = [_with(s, feed_forward=None) for s in model.stacks]
    second = [_with(s, attention=None, extra=0) for s in model.stacks]
    nothing = model.vocabulary * 0
    return (
        dataclasses.replace(model, stacks=tuple(first)),
        dataclasses.replace(
            model, stacks=tuple(second), vocabulary=nothing, extra=nothing, towers=nothing
        ),
    )


def _with(stack: Stack, **changes: Any) -> Stack:
    return dataclasses.replace(stack, layer=dataclasses.replace(stack.layer, **changes))


def crossings(model: Transformer) -> Number:
    """Times that a token's activations cross in one pass: there and back in each whole layer."""
    complete = [s for s in model.stacks if s.layer.attention and s.layer.feed_forward]
    return 2 * sum(stack.count for stack in complete)


class MicroBatches(NamedTuple):
    """A pass in micro-batches, for each number of them.

    - `through`: seconds of one micro-batch through all layers of a side; `busy`: of all of them in the
      stage that is busy longest; `work`: joules by term, without idle power and limits; `seconds`: by bound.
    """

    through: Scalar
    busy: Scalar
    work: Values
    seconds: Values


def serve_attention_ffn(
    chips: tuple[Chip, Chip],
    plans: tuple[Plan, Plan],
    link: Link,
    model: Transformer,
    request: Request,
) -> Service:
    """Serve a `request` with attention on the first of `chips` and feed-forward on the second."""
    sides = tuple(map(Side, chips, plans, attention_and_ffn(model)))
    first = sides[0]
    batch = running_sequences(first.chip, first.plan, first.model, request)
    request = limited_to(request, batch)
    micros = 1.0 + jnp.arange(float(MICRO_BATCHES))
    tried = jax.vmap(functools.partial(_step, sides, link, model, request, batch))(micros)
    best = jnp.argmin(jnp.where(micros <= jnp.maximum(batch, 1.0), tried.step, jnp.inf))
    step = map_leaves(lambda x: x[best], tried)
    prompt = _prompts(sides, link, model, request)
    steps = Steps(batch, step.step, prompt.latency, *(prompt.latency / first.plan.dp,) * 2)
    waits = closed_loop(steps, first.chip.efficiency.host, request)
    length = request.isl + request.osl
    slack = [slack_beside_one(side.chip, side.plan, side.model, length) for side in sides]
    prompt_work = prompt.work / request.prompts_per_pass(first.plan.dp)
    work = request.per_output_token(prompt_work, step.work, batch)
    seconds = request.seconds_per_token(waits.total)
    joules = [
        board_joules(board_of(side.chip, side.plan.chips), each, seconds)
        for side, each in zip(sides, work, strict=True)
    ]
    busy = jnp.stack([*step.busy, micros[best]])
    load = (request.concurrency, batch)
    return compose(waits, *load, jnp.stack(joules), jnp.minimum(*slack), step.seconds, busy=busy)


class StepOfBoth(NamedTuple):
    """Both sides: seconds of a step, of one micro-batch through both, shares of a step that each is busy,
    J of work by side and term, s by bound.
    """

    step: Scalar
    latency: Scalar
    busy: tuple[Scalar, Scalar]
    work: Values
    seconds: Values


def _step(
    sides: Sides, link: Link, model: Transformer, request: Request, batch: Scalar, micro: Scalar
) -> StepOfBoth:
    """A decode step of `micro` micro-batches."""
    middle = request.isl + request.osl / 2
    part = batch / micro
    turns: list[MicroBatches] = []
    for side in sides:
        sizes = (part * side.stages, middle, request.speculative_tokens)
        forward = decode_pass(side.chip, side.plan, side.model, *sizes)
        turns.append(_micro_batches(side, forward, micro))
    tokens = jnp.maximum(part, 1.0) * (1 + request.speculative_tokens)
    return _step_of_both(turns, _link_time(sides, link, model, tokens), micro)


def _prompts(sides: Sides, link: Link, model: Transformer, request: Request) -> StepOfBoth:
    """The prompts that start together, at least one on each data rank of attention."""
    new = request.isl - request.prefix_tokens
    count = request.prompts_per_pass(sides[0].plan.dp)
    turns: list[MicroBatches] = []
    for side in sides:
        forward = prompt_pass(side.chip, side.plan, side.model, count, new, request.isl)
        turns.append(_micro_batches(side, forward, as_scalar(1.0)))
    return _step_of_both(turns, _link_time(sides, link, model, count * new), as_scalar(1.0))


def _micro_batches(side: Side, forward: Pass, micro: Scalar) -> MicroBatches:
    """The ends of a pass are with attention, which has the embeddings."""
    if side.model.stacks[0].layer.attention is None:
        forward = forward._replace(ends=[])
    cost: Cost = costs(side.chip, side.plan, side.model, [forward])[0]
    passes = micro / side.stages
    return MicroBatches(
        cost.time, cost.time * passes, cost.work * passes, cost.breakdown.by_bound()
    )


def _link_time(sides: Sides, link: Link, model: Transformer, tokens: Scalar) -> Scalar:
    """Seconds on the link in all layers: each chip of the narrower side sends its share."""
    width = jnp.minimum(sides[0].width, sides[1].width)
    size = STREAM_BYTES * tokens * model.hidden
    return crossings(model) * (link.latency + size / (link.bandwidth * width))


def _step_of_both(turns: list[MicroBatches], crossing: Scalar, micro: Scalar) -> StepOfBoth:
    first, second = turns
    alone = first.through + second.through + crossing
    step = jnp.maximum(jnp.maximum(first.busy, second.busy), jnp.maximum(alone, micro * crossing))
    network = jnp.zeros(len(BOUNDS)).at[BOUNDS.index("network")].set(crossing)
    seconds = first.seconds + second.seconds + network
    busy = (first.busy / step, second.busy / step)
    return StepOfBoth(step, alone, busy, jnp.stack([first.work, second.work]), seconds)
