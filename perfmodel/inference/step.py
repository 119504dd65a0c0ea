"""What a decode step and a prompt cost on the chips of a plan."""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.breakdown import SECONDS, Breakdown
from perfmodel.hardware.board import PlainJoules, board_joules, board_of, work_joules
from perfmodel.hardware.chip import Chip, region
from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.inference.operations import (
    STREAM_BYTES,
    Batch,
    Batches,
    Context,
    KernelCall,
    layer_calls,
    tokens_of,
)
from perfmodel.inference.placement import Placement, place
from perfmodel.kernels.collective import AllGather, PointToPoint
from perfmodel.kernels.kernel import AbstractKernel
from perfmodel.kernels.registry import cost
from perfmodel.results import AbstractResult, Plain, plain
from perfmodel.roofline import waiting
from perfmodel.smooth import piece_count, soft_min
from perfmodel.trees import map_leaves, replace
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.sizes import Number


class Pass(NamedTuple):
    """One way through a model: its kernels, and how the batch is cut.

    - `layers`: kernels of all layers; `ends`: of the embedding, the stages and the head.
    - `sequences`: of one part of the batch, on one data rank, its prompts among them.
    - `parts`: of the batch, which follow one another through the stages.
    - `stages`: that work at the same time, each on a part.
    - `waits`: passes that the last part waits for, of those before it.
    - `placement`: where one chip keeps its part of the model and of the cache.
    - `decodes`: whether it is a decode step, which may carry prompts along.
    - `prompts`: 1 where it has prompts, else 0.
    """

    layers: list[KernelCall]
    ends: list[KernelCall]
    sequences: Scalar
    parts: Scalar
    stages: Scalar
    waits: Scalar
    placement: Placement
    decodes: bool
    prompts: float

    @property
    def runs(self) -> Scalar:
        """Kernels that run, one after the other."""
        return jnp.sum(jnp.stack([call.runs for call in self.layers + self.ends]))


class Cost(AbstractResult):
    """What one pass through a model costs.

    - `breakdown`: time by term, from the first layer to the last; what the boards of all chips draw in it;
      FLOPs and bytes of one chain of chips.
    - `placement`: where one chip keeps its part; its slack is negative where it does not fit.
    - `work`: joules of all chips, all-in, by term of `JOULES`, without idle power and limits.
    - `kernels`, `labels`: each kernel's part of it, on a leading axis, and what it is.
    """

    breakdown: Breakdown
    placement: Placement
    work: Values
    kernels: Breakdown
    labels: tuple[str, ...] = eqx.field(static=True)

    @property
    def time(self) -> Values:
        """In s; of many passes together an array."""
        return self.breakdown.time

    @property
    def energy(self) -> Values:
        """Of all chips, in J; of many passes together an array."""
        return self.breakdown.energy

    def as_dict(self) -> Plain:
        """Its numbers by name and unit; sizes are of one chip."""
        placed = self.placement
        sizes = {"weights": placed.size, "cache": placed.cache_size, "free": placed.slack}
        return self.breakdown.as_dict() | {f"{n}_bytes": plain(x) for n, x in sizes.items()}


def decode_step(chip: Chip, plan: Plan, model: Transformer, batch: Scalar, context: Scalar) -> Cost:
    """One new token for each of `batch` sequences, each with `context` tokens in its cache.

    **Returns:**

    Its `time` is the time per output token (TPOT) at this batch, in s.
    """
    return costs(chip, plan, model, [decode_pass(chip, plan, model, batch, context)])[0]


def prefill(
    chip: Chip, plan: Plan, model: Transformer, batch: Scalar, queries: Scalar, context: Scalar
) -> Cost:
    """`queries` new tokens for each of `batch` prompts; `context` counts a cached prefix too.

    **Returns:**

    Its `time` is the time to first token (TTFT) of prompts that start together, without
    queueing, in s.
    """
    return costs(chip, plan, model, [prompt_pass(chip, plan, model, batch, queries, context)])[0]


def decode_pass(
    chip: Chip,
    plan: Plan,
    model: Transformer,
    batch: Scalar,
    context: Scalar,
    speculative_tokens: Number = 0,
) -> Pass:
    """The pass of a decode step, which checks `speculative_tokens` tokens of each sequence beside the next.

    With pipeline stages the batch is cut into as many parts, which follow one another
    through the chips; a token takes as long as one part takes through all of them. On a
    dataflow machine every layer is such a stage.
    """
    return mixed_pass(chip, plan, model, (batch, context, as_scalar(speculative_tokens)), None)


def _drafting(
    plan: Plan, model: Transformer, forward: Pass, ctx_len: Scalar, speculative_tokens: Number
) -> Pass:
    """With the drafts before it: each takes a layer like the last, and the head."""
    context = Context(plan, forward.placement, as_scalar(speculative_tokens), model.narrow)
    batch = Batch(forward.sequences, as_scalar(1.0), ctx_len, decoding=True)
    layers = layer_calls(context, model.hidden, model.stacks[-1].layer, [batch])
    ends = _ends(context, model, batch.tokens, batch.sequences)
    drafts = [call for call in ends if call.label != "stage"]
    return forward._replace(layers=forward.layers + layers, ends=forward.ends + drafts)


def prompt_pass(
    chip: Chip, plan: Plan, model: Transformer, batch: Scalar, queries: Scalar, context: Scalar
) -> Pass:
    """The pass of prompts, which follow one another through the stages.

    On machines that are not launched a prompt is cut too: its tokens follow one another. A
    prompt stays on one data rank: where there are fewer prompts than ranks, each rank has one.
    """
    placement = place(chip, plan, model, batch, context)
    prompts = jnp.maximum(batch / plan.dp, 1.0)
    pieces = prompts if chip.execution == "launched" else prompts * queries
    stages = _stages(chip, plan, model)
    parts = jnp.clip(pieces, 1.0, stages)
    part = Batch(prompts / parts, queries, context, decoding=False)
    return _pass(plan, model, placement, [part], parts, stages, waits=(parts - 1) / stages)


def mixed_pass(
    chip: Chip,
    plan: Plan,
    model: Transformer,
    decoding: tuple[Scalar, Scalar, Scalar],
    prompts: tuple[Scalar, Scalar, Scalar] | None,
) -> Pass:
    """A decode step that may carry prompts along, on each data rank some (chunked prefill).

    **Arguments:**

    - `decoding`: sequences, tokens in the cache of each, and drafted tokens.
    - `prompts`: sequences, their new tokens, and tokens in the cache of each with these.
    """
    batch, texts, speculative_tokens = decoding
    stages = _stages(chip, plan, model)
    sequences = piece_count(batch / plan.dp / stages, plan.exact)
    parts = batch / plan.dp / sequences
    batches = [Batch(sequences, 1.0 + speculative_tokens, texts, decoding=True)]
    if prompts is not None:
        count, queries, context = prompts
        batches.append(Batch(count / plan.dp / parts, queries, context, decoding=False))
    placement = place(chip, plan, model, batch, texts)
    forward = _pass(plan, model, placement, batches, parts, stages, waits=as_scalar(0.0))
    return (
        forward
        if not plan.speculates
        else _drafting(plan, model, forward, texts, speculative_tokens)
    )


def _stages(chip: Chip, plan: Plan, model: Transformer) -> Scalar:
    return as_scalar(model.layers) if chip.execution == "dataflow" else plan.pp


def _pass(
    plan: Plan,
    model: Transformer,
    placement: Placement,
    batches: Batches,
    parts: Scalar,
    stages: Scalar,
    waits: Scalar,
) -> Pass:
    end = Context(plan, placement, as_scalar(1.0), model.narrow)
    layers = [
        call
        for stack in model.stacks
        for call in layer_calls(
            end._replace(runs=as_scalar(stack.count)), model.hidden, stack.layer, batches
        )
    ]
    sequences = sum((batch.sequences for batch in batches), as_scalar(0.0))
    ends = _ends(end, model, tokens_of(batches), sequences)
    decodes = batches[0].decoding
    prompts = float(not batches[-1].decoding)
    return Pass(layers, ends, sequences, parts, stages, waits, placement, decodes, prompts)


def _ends(
    context: Context, model: Transformer, tokens: Scalar, sequences: Scalar
) -> list[KernelCall]:
    """Embedding, the way from stage to stage, the output head for the last token of each sequence."""
    hops = context._replace(runs=context.plan.pp - 1)
    size = STREAM_BYTES * tokens * model.hidden
    columns = model.vocabulary / context.plan.tp
    logits = STREAM_BYTES * sequences * model.vocabulary
    return [
        context.elementwise("embedding", tokens, model.hidden),
        hops.collective("stage", PointToPoint, as_scalar(2.0), size),
        context.elementwise("norm", sequences, model.hidden),
        context.product("head", sequences, model.hidden, columns, context.plan.unquantised),
        context.collective("logits", AllGather, context.plan.tp, logits),
        context.elementwise("sample", sequences, columns),
    ]


def costs(chip: Chip, plan: Plan, model: Transformer, passes: Sequence[Pass]) -> list[Cost]:
    """Price several passes together, so that each kernel is compiled once for all of them.

    On a dataflow machine each layer runs on its part, and the ends on one more.
    """
    layers = [call for forward in passes for call in forward.layers]
    ends = [call for forward in passes for call in forward.ends]
    flows = chip.execution == "dataflow"
    part = region(chip, plan.pp / (model.layers + 1)) if flows else chip
    priced = price_calls(part, plan, layers + ends)
    owner = [i for i, forward in enumerate(passes) for _ in forward.layers]
    owner += [i for i, forward in enumerate(passes) for _ in forward.ends]
    places = [np.flatnonzero(np.array(owner) == i) for i in range(len(passes))]
    return [
        _cost(chip, plan, forward, _at(priced, at))
        for forward, at in zip(passes, places, strict=True)
    ]


def _join(a: Breakdown, b: Breakdown) -> Breakdown:
    return jax.tree.map(lambda *ends: jnp.concatenate(ends), a, b)


def _at(priced: Breakdown, places: np.ndarray) -> Breakdown:
    return map_leaves(lambda x: x[places], priced)


def _cost(chip: Chip, plan: Plan, forward: Pass, priced: Breakdown) -> Cost:
    """All kernels of a pass; energy of all boards: each part on each rank, and idle power all the time."""
    labels = [call.label for call in forward.layers + forward.ends] + ["host"]
    host = map_leaves(lambda x: x[None], _host(chip, plan, forward, priced))
    kernels = _anchored(chip, plan, forward, _join(priced, host))
    waited = map_leaves(lambda x: jnp.sum(x, axis=0), kernels) * (1 + forward.waits)
    copies = plan.tp * plan.dp * forward.parts
    prompts = 0.0 if forward.decodes else stage_busy_time(forward, waited.time)
    work = work_joules(chip, _plain(kernels, labels, copies), as_scalar(plan.chips * prompts))
    joules = board_joules(board_of(chip, plan.chips), work, waited.time)
    breakdown = dataclasses.replace(waited, joules=joules)
    return Cost(breakdown, forward.placement, work, kernels, tuple(labels))


def _plain(kernels: Breakdown, labels: Sequence[str], copies: Scalar) -> PlainJoules:
    """Joules of the kernels of a pass on all chips: of attention, and of the others."""
    attends = np.array([label == "attention" for label in labels])
    return PlainJoules(
        *(copies * jnp.sum(kernels.joules[which], axis=0) for which in (attends, ~attends))
    )


def stage_busy_time(prompts: Pass, time: Scalar) -> Scalar:
    """How long prompts that take `time` keep each stage of a pipeline busy: others pass between them.

    One part goes through all stages in time / (1 + waits), and is in each for that over the stages.
    """
    return time / (1 + prompts.waits) * prompts.parts / prompts.stages


def _anchored(chip: Chip, plan: Plan, forward: Pass, kernels: Breakdown) -> Breakdown:
    """Kernels whose times are scaled as runs of their stack were measured.

    What they compute and move stays, and so does its energy; static power times time follows the time.
    """
    if chip.efficiency.anchor is None:
        return kernels
    ranks = jnp.stack([plan.tp, plan.pp, plan.ep, plan.dp])
    steps, prompts = chip.efficiency.anchor.factors(ranks)
    factor = steps if forward.decodes else prompts
    scaled = (kernels.time * factor, kernels.seconds * factor)
    return replace(lambda each: (each.time, each.seconds), kernels, scaled)


def host_time(
    host: HostEfficiency, kernels: Values, sequences: Values, prompts: Values | float
) -> Values:
    """Seconds that the host adds to a pass of some kernels and sequences, or to each of many.

    **Arguments:**

    - `prompts`: 1 where the pass has prompts, else 0.
    """
    gap = host.per_kernel + host.per_prompt_kernel * prompts
    return host.step + host.per_sequence * sequences + gap * kernels


def _host(chip: Chip, plan: Plan, forward: Pass, priced: Breakdown) -> Breakdown:
    """What the host adds to a pass."""
    host = chip.efficiency.host
    time = host_time(host, forward.runs, forward.sequences, forward.prompts)
    return waiting(chip, time if plan.framework else time + _not_hidden(host, forward, priced))


def _not_hidden(host: HostEfficiency, forward: Pass, priced: Breakdown) -> Scalar:
    """Seconds of gaps below zero that no launch is there to hide.

    Such a gap was fitted beside one framework's launches; the smooth form's are shorter, and those
    of one chip's collectives are none. Hidden is at most a launch: no kernel beats its resources.
    """
    runs = jnp.stack([call.runs for call in forward.layers + forward.ends])
    hidden = jnp.maximum(-host.per_kernel, 0.0) * runs
    launches = priced.seconds[:, SECONDS.index("latency")]
    return jnp.sum(hidden - soft_min(launches, hidden))


def price_calls(chip: Chip, plan: Plan, calls: Sequence[KernelCall]) -> Breakdown:
    """What each call costs, in all its runs: a breakdown with an axis of calls, in their order.

    Calls of one kernel are stacked and priced in one `vmap`: each kernel is compiled once,
    however often a model runs it.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, call in enumerate(calls):
        form = jax.tree.structure(call.kernel)
        groups.setdefault((form, call.dtype), []).append(i)
    priced = [_price_group(chip, plan, [calls[i] for i in places]) for places in groups.values()]
    order = np.argsort(np.concatenate(list(groups.values())))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[order], *priced)


def _price_group(chip: Chip, plan: Plan, calls: Sequence[KernelCall]) -> Breakdown:
    first = calls[0]
    in_format = dataclasses.replace(plan, weights=first.dtype)
    if first.dtype == plan.unquantised:
        chip = replace(lambda c: c.efficiency.gemm, chip, chip.efficiency.unquantised)
    kernels = jax.tree.map(lambda *x: jnp.stack(x), *[call.kernel for call in calls])
    counts = jnp.stack([call.runs for call in calls])

    def price(kernel: AbstractKernel, runs: Scalar) -> Breakdown:
        return cost(chip, kernel.count(chip, in_format)) * runs

    return jax.vmap(price)(kernels, counts)
