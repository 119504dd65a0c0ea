r"""Linear attention: a state of fixed size, updated token by token or chunk by chunk.

Gated delta net, Kimi delta attention and Mamba-2 all read and write a state of
`key x value` numbers for each head. A decoded token updates the state in place. Prompts
are taken in chunks: a short convolution, products within all chunks at once, a chain from
the state of one chunk to that of the next, and outputs (Yang et al., "Gated Delta
Networks", arXiv 2412.06464, section 3.3; flash-linear-attention, `chunk.py`).
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import LinearAttentionEfficiency
from perfmodel.kernels.kernel import AbstractKernel, column, or_default
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.kernels.residency import Residency, l2_hit_rate, native, on_chip
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import at_least_one, soft_min
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.attention import STATE_BYTES as STATE_BYTES
from perfmodel.workload.plan import Plan

KINDS = ("gdn", "kda", "mamba2")
"""Kinds of linear attention, by their index in a row."""

CHUNK = 64.0
"""Tokens of a chunk (flash-linear-attention)."""

TILE = 32.0
"""Columns of a state's values that one thread block takes (flash-linear-attention)."""

NUMBER_BYTES = 2.0
"""Queries, keys, values and outputs are in bf16."""


class States(NamedTuple):
    """What one sequence keeps.

    - `heads`, `key`, `value`: of the state: a matrix of `key x value` for each head.
    - `key_heads`: heads of queries and keys, which may serve several heads of values.
    - `kind`: index in `KINDS`.
    """

    heads: Scalar
    key: Scalar
    value: Scalar
    key_heads: Scalar
    kind: Scalar

    @property
    def delta(self) -> Scalar:
        """Whether a state forgets what it predicts of a value (the delta rule): all but Mamba-2."""
        return jnp.where(self.kind < KINDS.index("mamba2"), 1.0, 0.0)

    @property
    def gated_keys(self) -> Scalar:
        """Gates of one head and token beyond one: Kimi's has one for each number of a key."""
        return jnp.where(self.kind == KINDS.index("kda"), self.key, 0.0)

    @property
    def size(self) -> Scalar:
        """Bytes of one sequence's state."""
        return STATE_BYTES * self.heads * self.key * self.value

    @property
    def inputs(self) -> Scalar:
        """Bytes of one token's queries, keys and values as they are convolved."""
        return NUMBER_BYTES * (2 * self.key_heads * self.key + self.heads * self.value)

    @property
    def token(self) -> Scalar:
        """Bytes of one token's queries, keys, values, outputs and gates, for each head of the state."""
        numbers = NUMBER_BYTES * 2 * (self.key + self.value)
        return self.heads * (numbers + STATE_BYTES * self.gated_keys)

    @property
    def live(self) -> Scalar:
        """Bytes that a token holds between a prompt's kernels.

        What it brings; keys and values as the delta rule changes them (of a chunk alone, and
        after the chain); its share of the state before each chunk.
        """
        changed = self.key + 2 * self.value + self.key * self.value / CHUNK
        return self.inputs + self.token + NUMBER_BYTES * self.heads * changed


def linear_attention(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    q_len: Scalar,
    states: States,
    is_prefill: Scalar,
    residency: Residency | None = None,
) -> Work:
    """Count the work of `q_len` new tokens for each of `batch` sequences.

    **Arguments:**

    - `is_prefill`: one where tokens are taken in chunks, zero where one by one.
    - `residency`: where the states live; the chip's native memory if not given.
    """
    residency = native(chip) if residency is None else residency
    fitted, launched = chip.efficiency.linear_attention, chip.execution == "launched"
    tokens = batch * q_len
    chunk = soft_min(q_len, CHUNK * jnp.ones_like(q_len))
    token_bytes = tokens * (2 * states.inputs + _passes(fitted, is_prefill) * states.token)
    reads = residency.traffic(batch * states.size * (2 + fitted.state_copies * is_prefill))
    inside = on_chip(chip, token_bytes)
    spilled_share = _spilled_share(chip, tokens * states.live)
    outside = token_bytes * spilled_share + reads["main"] * (
        1 - _replay_hit_rate(chip, plan, batch * states.size)
    )
    return Work(
        demand=Resources(
            matrix=tokens * states.heads * _products(chunk, states),
            private=reads["private"] + (0.0 if launched else inside["private"]),
            shared=reads["shared"]
            + (reads["main"] + token_bytes if launched else inside["shared"]),
            main=outside if launched else reads["main"],
            far=reads["far"],
        ),
        shares=Resources(
            matrix=fitted.sustained,
            private=fitted.private,
            shared=fitted.feed,
            main=fitted.streaming,
        ),
        occupancy=_core_occupancy(chip, batch * q_len / chunk, states) if launched else 1.0,
        latency=_latency(fitted, batch, q_len, chunk, is_prefill, states)
        + mesh_traversal_time(chip, 2.0),
        dtype="bf16",
    )


def _passes(fitted: LinearAttentionEfficiency, is_prefill: Scalar) -> Scalar:
    """How often what a token brings is moved: once where it is decoded."""
    return 1 + (fitted.token_passes - 1) * is_prefill


def _products(chunk: Scalar, states: States) -> Scalar:
    """FLOPs of one token and head.

    Within a chunk: queries with keys, and scores with values; the delta rule adds keys with
    keys and the inverse of that with keys and values. Across: the state is read and updated;
    the delta rule also asks it for what it predicts.
    """
    key, value = states.key, states.value
    within = 2 * chunk * (key + value + states.delta * (2 * key + value))
    return within + 2 * key * value * (2 + states.delta)


def _core_occupancy(chip: Chip, chunks: Scalar, states: States) -> Scalar:
    """Share of the cores at work: a block for each chunk, head and tile of its values."""
    blocks = chunks * states.heads * states.value / TILE
    return soft_min(blocks / chip.cores, jnp.ones_like(blocks))


def _spilled_share(chip: Chip, live: Scalar) -> Scalar:
    """Share of what passes between kernels that the shared tier does not hold."""
    # One byte more: a tier that is not there holds nothing.
    capacity = chip.shared.capacity * chip.efficiency.linear_attention.l2_capacity + 1
    return 1 - soft_min(capacity, live) / live


def _replay_hit_rate(chip: Chip, plan: Plan, size: Scalar) -> Scalar:
    """Share of replayed states that stay in the shared tier; none in service."""
    if not plan.replay:
        return as_scalar(0.0)
    fitted = chip.efficiency.linear_attention
    capacity = chip.shared.capacity * fitted.l2_hit_capacity + 1
    return l2_hit_rate(chip, fitted.l2_hit_sharpness, capacity, size)


def _latency(
    fitted: LinearAttentionEfficiency,
    batch: Scalar,
    q_len: Scalar,
    chunk: Scalar,
    is_prefill: Scalar,
    states: States,
) -> Scalar:
    """What nothing hides: launches; in prompts the rows of a chunk, the chain, the sequences."""
    kda_launch = jnp.where(states.gated_keys > 0, fitted.kda_launch, 0.0)
    serial = fitted.per_row * chunk + fitted.per_chunk * (at_least_one(q_len / CHUNK) - 1)
    added = kda_launch + fitted.prompt_launch + serial + fitted.per_sequence * batch
    return fitted.launch + added * is_prefill


class LinearAttention(AbstractKernel):
    """Linear attention of `q_len` new tokens for each of `batch` sequences; several are a prompt, whatever
    the phase says.

    - `batch`: sequences; `q_len`: new tokens of each; `kind`: the recurrence; `phase`: of a benchmark's row.
    - `ctx_len`, `hidden`: of a benchmark's row; the time does not depend on them.
    - `heads`, `head_dim`, `value_dim`: of the state: a matrix of `head_dim` x `value_dim` for each head.
    - `key_heads`: of queries and keys, which may serve several heads of values.
    - `residency`: where the states live, if not in the chip's native memory.
    """

    op = "linear_attention"
    family = "linear_attention"
    reads = ("replay",)

    batch: Scalar = column()
    heads: Scalar = column()
    head_dim: Scalar = column()
    q_len: Scalar = column(default=1.0)
    ctx_len: Scalar = column(default=0.0)
    hidden: Scalar = column(default=0.0)
    key_heads: Scalar | None = column(default="heads")
    value_dim: Scalar | None = column(default="head_dim")
    kind: Scalar = column(words=KINDS)
    phase: Scalar = column(words=("decode", "prefill"))
    residency: Residency | None = None

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Products in bf16 alone, whatever the weights' format is."""
        return {"bf16"}

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        value, keys = (
            or_default(self.value_dim, self.head_dim),
            or_default(self.key_heads, self.heads),
        )
        states = States(self.heads, self.head_dim, value, keys, self.kind)
        is_prefill = jnp.where((self.phase > 0) | (self.q_len > 1), 1.0, 0.0)
        sizes = (self.batch, self.q_len, states, is_prefill)
        return [linear_attention(chip, plan, *sizes, self.residency)]
