r"""A roofline of every operator of a served model: formulas of LLM-Viewer, written anew, not fitted.

Each operator takes the longer of its FLOPs at the peak and its bytes, weights, activations and cache, at the
rate of the datasheet, and operators follow one another (Yuan et al., arXiv 2402.16363, section 2.2; mixtures
and latents are ours, for it has none). Ranks divide what they divide; nothing is said of links:

$$\text{TPOT} = \sum_o \max(\text{FLOPs}_o / \text{peak}, \text{bytes}_o / \text{bandwidth})$$
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.inference.operations import KernelCall
from perfmodel.inference.step import decode_pass
from perfmodel.kernels.attention_decode import AttentionDecode
from perfmodel.kernels.elementwise import Elementwise
from perfmodel.kernels.gemm import Gemm
from perfmodel.kernels.kernel import AbstractKernel
from perfmodel.kernels.linear_attention import LinearAttention
from perfmodel.kernels.mla import MlaDecode
from perfmodel.kernels.moe import Moe
from perfmodel.kernels.sparse_attention import SparseAttention
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up
from perfmodel.workload.request import Request

ACTIVATION = 2.0
"""Bytes of an activation: fp16, as in the paper."""

STATE = 4.0
"""Bytes of a number in the state of linear attention."""

Count = Callable[[Any, float, float], tuple[Scalar, Scalar]]
"""FLOPs and bytes from a kernel, bytes of a weight, and bytes of a number in the cache."""


def llm_viewer_tpot(chip: Chip, plan: Plan, model: Transformer, request: Request) -> Scalar:
    """Time per output token of all users together, in s."""
    middle = request.isl + request.osl / 2
    one = decode_pass(chip, plan, model, request.concurrency, middle)
    times = [task.runs * _seconds(chip, plan, task) for task in one.layers + one.ends]
    return sum(times, as_scalar(0.0))


def _seconds(chip: Chip, plan: Plan, task: KernelCall) -> Scalar:
    kind = type(task.kernel)
    if kind not in COUNTS:
        return as_scalar(0.0)
    format, cache = look_up(task.dtype), look_up(plan.cache).weight
    flops, size = COUNTS[kind](task.kernel, format.weight, cache)
    peak = chip.matrix.get(format.matrix, chip.matrix["bf16"])
    return jnp.maximum(flops / peak, size / chip.main.bandwidth)


def _gemm(s: Any, weight: float, cache: float) -> tuple[Scalar, Scalar]:
    size = s.n * s.k * weight + ACTIVATION * s.m * (s.k + s.n)
    return 2 * s.m * s.n * s.k, size


def _moe(s: Any, weight: float, cache: float) -> tuple[Scalar, Scalar]:
    pairs, expert = s.tokens * s.topk / s.ep, 3 * s.hidden * s.inter / s.tp
    touched = jnp.minimum(s.experts / s.ep, pairs)
    return 2 * pairs * expert, touched * expert * weight + 2 * ACTIVATION * pairs * s.hidden


def _attention(s: Any, weight: float, cache: float) -> tuple[Scalar, Scalar]:
    seen, numbers = jnp.minimum(s.ctx_len, s.window), s.head_dim + s.value_dim
    tokens = s.batch * seen
    return 2 * tokens * s.heads * numbers, tokens * s.kv_heads * numbers * cache


def _latent(s: Any, weight: float, cache: float) -> tuple[Scalar, Scalar]:
    tokens, stored = s.batch * s.ctx_len, s.rank + s.rope
    return 2 * tokens * s.heads * (stored + s.rank), tokens * stored * cache


DSA = 576.0
"""Numbers of a latent with its rotary key, and of the key of an indexer (GLM-5, DeepSeek-V3.2)."""

INDEX = 128.0


def _sparse(s: Any, weight: float, cache: float) -> tuple[Scalar, Scalar]:
    seen = s.batch * jnp.minimum(s.ctx_len, s.topk)
    scored = s.batch * s.ctx_len * INDEX
    flops = 4 * seen * s.heads * DSA + 2 * scored * s.index_heads
    return flops, seen * DSA * cache + scored


def _linear(s: Any, weight: float, cache: float) -> tuple[Scalar, Scalar]:
    state = s.batch * s.heads * s.head_dim * s.value_dim
    return 6 * state, 2 * STATE * state


def _elementwise(s: Any, weight: float, cache: float) -> tuple[Scalar, Scalar]:
    return as_scalar(0.0), 2 * ACTIVATION * s.tokens * s.hidden


COUNTS: dict[type[AbstractKernel], Count] = {
    Gemm: _gemm,
    Moe: _moe,
    AttentionDecode: _attention,
    MlaDecode: _latent,
    SparseAttention: _sparse,
    LinearAttention: _linear,
    Elementwise: _elementwise,
}
"""Operators that are counted."""
