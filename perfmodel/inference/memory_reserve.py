"""Bytes of main memory that a framework leaves to weights and KV cache: the one place where they are found.

With a share $f$ of the total $M$, which the driver reports, $P$ bytes of the process, $A$ of activations and
$W$ of weights, they are

$$f M - P - A, \\quad f (M - P), \\quad f (M - P - A) + (1 - f) W$$

where the share is of the total (vLLM), of what a server holds for good (SGLang), or of what is free
(TensorRT-LLM). Without a framework they are the share that the chip's file names.
"""

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.library.framework import version_of
from perfmodel.library.framework_memory import MemoryReserve
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.feed_forward import Mixture
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan

HIDDEN_BYTES = 2.0
"""Of a number of an activation outside matrix products."""

WIDE = 4.0
"""Chips of a replica from which on SGLang records graphs of more sequences (server_args.py, by `tp_size`)."""


def usable_main_memory(chip: Chip, plan: Plan, model: Transformer, weights: Scalar) -> Scalar:
    """Bytes of one chip's main memory for weights and KV cache.

    **Arguments:**

    - `weights`: bytes of them on the chip, of which the share of TensorRT-LLM is not taken.
    """
    reserve, given = version_of(plan).memory, plan.server.memory_fraction
    if reserve is None or chip.execution != "launched":
        plain = chip.main.usable_capacity
        return jnp.where(given > 0, given * chip.main.capacity, plain)
    default = _usable(chip, plan, model, weights, reserve, _default_share(chip, plan, reserve))
    raised = _usable(chip, plan, model, weights, reserve, _raised_share(reserve))
    tight = (default < (1 + LEAST_CACHE) * weights) & (plan.server.raises > 0)
    usual = jnp.where(tight, jnp.maximum(default, raised), default)
    asked = _usable(chip, plan, model, weights, reserve, given)
    return jnp.maximum(jnp.where(given > 0, asked, usual), 0.0)


LEAST_CACHE = 0.05
"""KV cache over weights below which a server is started with a higher share than its default: a guess."""


def _usable(
    chip: Chip,
    plan: Plan,
    model: Transformer,
    weights: Scalar,
    reserve: MemoryReserve,
    share: Scalar,
) -> Scalar:
    """Bytes for weights and KV cache where a server is given a share."""
    total, process = chip.main.reported_capacity, _process(reserve, plan)
    activations = _activations(reserve, plan, model)
    if reserve.share_of == "total":
        return share * total - process - activations
    if reserve.share_of == "static":
        return share * (total - process)
    return share * (total - process - activations) + (1 - share) * weights


def _raised_share(reserve: MemoryReserve) -> Scalar:
    """The share that operators give where the default is too little; nothing where none is known."""
    return as_scalar(0.0 if reserve.raised is None else reserve.raised.si("1"))


def _default_share(chip: Chip, plan: Plan, reserve: MemoryReserve) -> Scalar:
    """The share that a framework takes where it is told none."""
    total = chip.main.reported_capacity
    if reserve.fractions:
        default, known = reserve.fractions[-1].value, plan.server.default_fraction
        return jnp.where(known > 0, known, default)
    return 1 - _reserved(reserve, plan, total) / jnp.maximum(total, 1.0)


def _reserved(reserve: MemoryReserve, plan: Plan, total: Scalar) -> Scalar:
    """Bytes that SGLang keeps for activations and graphs, by its rule of thumb."""
    server, chips = plan.server, plan.tp * plan.dp
    sequences = jnp.where(chips < WIDE, server.graph_sequences, server.graph_sequences_wide)
    ranked = jnp.where(plan.dp > 1, plan.dp * sequences, 0.0)
    amount = (
        reserve.bytes_of("reserved")
        + reserve.bytes_of("reserved_per_token") * server.max_num_batched_tokens
        + reserve.bytes_of("reserved_per_sequence") * sequences
        + reserve.bytes_of("reserved_per_rank_sequence") * ranked
        + reserve.bytes_of("reserved_per_chip") * plan.chips
    )
    least = jnp.where(
        total > reserve.bytes_of("least_from"), reserve.bytes_of("reserved_least"), 0.0
    )
    drafts = reserve.bytes_of("reserved_for_drafts")
    return jnp.maximum(amount, least) + jnp.where(server.speculative_tokens > 0, drafts, 0.0)


def _process(reserve: MemoryReserve, plan: Plan) -> Scalar:
    """Bytes of libraries, of the driver, and of communication where a model is on several chips."""
    more = jnp.where(plan.chips > 1, reserve.bytes_of("communication"), 0.0)
    return reserve.bytes_of("process") + more + plan.server.graphs


def _activations(reserve: MemoryReserve, plan: Plan, model: Transformer) -> Scalar:
    """Bytes at most of a step with as many tokens and sequences as there may be."""
    tokens = plan.server.max_num_batched_tokens
    sequences = jnp.minimum(plan.server.max_num_seqs, tokens)
    mixes = any(isinstance(stack.layer.feed_forward, Mixture) for stack in model.stacks)
    experts = reserve.bytes_of("experts") if mixes else 0.0
    logits = reserve.bytes_of("logits") * sequences * model.vocabulary
    return logits + reserve.activation_numbers * HIDDEN_BYTES * tokens * model.hidden + experts


def prompt_window(plan: Plan) -> Scalar:
    """Tokens of a prompt that a windowed layer keeps besides its window while they are computed."""
    reserve = version_of(plan).memory
    if reserve is None or not reserve.prompt_window:
        return as_scalar(0.0)
    return plan.server.max_num_batched_tokens


def block_tokens(plan: Plan) -> int:
    """Tokens of a block of KV cache, of which there is a whole number."""
    reserve = version_of(plan).memory
    return 1 if reserve is None else reserve.block
