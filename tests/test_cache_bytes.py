"""What a step reads of a cache is in it, and what is in it is counted by hand, for every model and format."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import HIDDEN, layers, model_of

from perfmodel.inference.operations import Batch, Context, KernelCall, attention_calls
from perfmodel.inference.placement import Placement, cache_bytes
from perfmodel.kernels.gemm import Gemm
from perfmodel.kernels.kernel import AbstractKernel
from perfmodel.kernels.residency import Residency
from perfmodel.library.chip import load_chip
from perfmodel.units import as_scalar
from perfmodel.workload.attention import Compressed, Grouped, Latent, Recurrent
from perfmodel.workload.model import Layer, Stack, Transformer, traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import FORMATS
from perfmodel.xla import ONCE, supported

ROUNDING = 1e-4
"""Relative: sums of single precision."""

SEQUENCES, CONTEXT, TENSOR = 4, 10_000, 2
ELSEWHERE = Placement(Residency(main=1.0), Residency(far=1.0), *[as_scalar(0.0)] * 3)
"""The cache alone in far memory: what is read there is the cache, and nothing else."""


def with_caches() -> list[Layer]:
    """One layer of each attention."""
    found = {layer.attention: layer for layer in layers() if layer.attention is not None}
    return list(found.values())


def read(chosen: list[Layer], plan: Plan) -> np.ndarray:
    """Bytes of cache that a decode step reads in each layer; those of one operation in one call."""
    chip, site = load_chip("b200-sxm"), Context(plan, ELSEWHERE, as_scalar(1.0), "all")
    batch = Batch(as_scalar(SEQUENCES), as_scalar(1), as_scalar(CONTEXT), decoding=True)
    groups: dict[Any, list[tuple[int, KernelCall]]] = {}
    model = model_of(chosen)
    for place, stack in enumerate(model.stacks):
        for task in attention_calls(site, model.hidden, stack.layer.attention, [batch]):
            if not isinstance(task.kernel, Gemm) and getattr(task.kernel, "residency", None):
                key = jax.tree.structure(task.kernel)
                groups.setdefault(key, []).append((place, task))
    found = np.zeros(len(chosen))
    for tasks in groups.values():

        def far(kernel: AbstractKernel) -> jax.Array:
            works = kernel.count(chip, plan)
            sizes = [w.demand.far + 0 * w.latency for w in works if w.demand.far is not None]
            return sum((jnp.max(size) for size in sizes), as_scalar(0.0))

        rows = jax.tree.map(lambda *x: jnp.stack(x), *[task.kernel for _, task in tasks])
        many = jax.jit(jax.vmap(far), compiler_options=supported(ONCE))
        np.add.at(found, [place for place, _ in tasks], np.asarray(many(rows)))
    return found


def kept(attention: Any, bytes_a_number: float) -> float:
    """Bytes of one sequence of `CONTEXT` tokens on one of `TENSOR` ranks."""
    if isinstance(
        attention, Recurrent
    ):  # a matrix for each head, and taps of the convolution, in fp32
        state = attention.heads * attention.key * attention.value
        return 4 * (state + attention.channels * (attention.taps - 1)) / TENSOR
    if isinstance(attention, Grouped):  # MiniMax's index keys are in bf16, and on each rank
        numbers = max(attention.kv_heads / TENSOR, 1) * (attention.key + attention.value)
        tokens = min(CONTEXT, attention.window)
        return tokens * (numbers * bytes_a_number + 2 * attention.index_key)
    scaled = attention.index_key * 132 / 128  # DeepSeek's are in fp8, with a scale of 4 bytes
    if isinstance(attention, Latent):
        return CONTEXT * ((attention.rank + attention.rope) * bytes_a_number + scaled)
    assert isinstance(attention, Compressed)
    entries, tokens = CONTEXT / attention.ratio, min(CONTEXT, attention.window)
    pooled = attention.key + attention.index_key
    waiting = 2 * attention.overlap * attention.pending * pooled
    numbers = attention.key * (tokens + entries) + waiting
    return numbers * bytes_a_number + entries * scaled


def placed(layer: Layer, plan: Plan) -> float:
    one = traced(Transformer(HIDDEN, 1, (Stack(layer, 1),)))
    return float(cache_bytes(one, plan, as_scalar(SEQUENCES), as_scalar(CONTEXT)))


@pytest.mark.long
@pytest.mark.parametrize("cache", list(FORMATS))
def test_a_cache_holds_its_tokens_in_its_format(cache: str):
    plan = Plan(tp=TENSOR, cache=cache)
    for layer in with_caches():
        expected = SEQUENCES * kept(layer.attention, FORMATS[cache].weight)
        assert placed(layer, plan) == pytest.approx(expected, rel=ROUNDING), layer.attention


QUICK = ("bf16", "fp8")


@pytest.mark.long
@pytest.mark.parametrize(
    "cache", [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FORMATS]
)
def test_a_decode_step_reads_no_more_of_a_cache_than_there_is(cache: str):
    plan, chosen = Plan(tp=TENSOR, cache=cache), with_caches()
    for layer, bytes_read in zip(chosen, read(chosen, plan), strict=True):
        # A state is read, and written back.
        often = 2 if isinstance(layer.attention, Recurrent) else 1
        limit = often * placed(layer, plan) * (1 + ROUNDING)
        assert 0 < bytes_read <= limit, layer.attention


def test_full_attention_reads_all_of_its_cache():
    chosen = [layer for layer in with_caches() if isinstance(layer.attention, Grouped)]
    chosen = [layer for layer in chosen if not layer.attention.index_key]
    for layer, bytes_read in zip(chosen, read(chosen, Plan(tp=TENSOR)), strict=True):
        expected = placed(layer, Plan(tp=TENSOR))
        assert bytes_read == pytest.approx(expected, rel=ROUNDING), layer.attention
