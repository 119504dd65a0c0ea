"""TensorRT-LLM's XQA kernels, before Hopper and on it, and the kernels of vector code beside them.

XQA runs where 1 < group <= 32 and, for a bf16 cache, 4 x batch x kv_heads x max(1, context/128) fills the
cores; else a block of vector code for each query head (`masked_multihead_attention`), which splits a cache
into parts of 512 tokens; heads wider than 256 are for matrix kernels alone. XQA keeps head sizes that are
powers of two, does not split an fp8 cache before Hopper, and takes another kernel for fp8 heads of 64.
Prompts before Hopper take tiles of 64; their kernels, for matrix units that registers feed, pad heads to a
power of two, and multiply fp8 heads of 64 and 256 in 16 bits (of 128 and 192 in fp8; others were not
measured): long prompts take as long as in bf16, and short ones 4 us longer, as for a third kernel beside
two.
"""

import jax.numpy as jnp

from perfmodel.kernels.backends.cuda_cores import leaves_to_cuda_cores, on_cuda_cores
from perfmodel.kernels.backends.flash_mla import FLASH_MLA
from perfmodel.units import Flag
from perfmodel.workload.backend import AttentionBackend, DecodeShape, Partition

WARPGROUP_ROWS = 8.0
"""Rows of a block where a group's queries are the narrow side of Hopper's `wgmma` (the n of `m64n8k32`)."""


class Xqa(AttentionBackend):
    """Before Hopper: a cache in fp8 is not split, unless vector code reads it."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        partition = _partition(shape, free)
        if shape.cache != "fp8":
            return partition
        most = jnp.where(partition.per_query_head > 0, partition.max_splits, 1.0)
        return partition._replace(max_splits=most, min_splits=free.min_splits)


class XqaHopper(AttentionBackend):
    """On Hopper: another kernel for heads of 64 in fp8."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        narrow = shape.cache == "fp8"
        if narrow:
            free = free._replace(row_tile=free.min_splits * WARPGROUP_ROWS)
        partition = _partition(shape, free)
        other = jnp.where((shape.head_dim == 64) & narrow, 1.0, 0.0)
        return partition._replace(extra_passes=jnp.maximum(partition.extra_passes, other))


def _fills(shape: DecodeShape) -> Flag:
    tiles = jnp.maximum(1.0, jnp.floor(shape.ctx_len / 128))
    return 4 * shape.batch * shape.kv_heads * tiles >= shape.cores


def _partition(shape: DecodeShape, free: Partition) -> Partition:
    fills = _fills(shape) | (shape.cache == "fp8")
    grouped = (shape.group > 1) & (shape.group <= 32) & fills
    per_query_head = leaves_to_cuda_cores(shape.head_dim, grouped)
    vector = jnp.maximum(jnp.floor(shape.ctx_len / 512), 1.0)
    most = jnp.minimum(
        jnp.floor(8 * shape.cores / (shape.batch * shape.kv_heads)), shape.ctx_len // 128
    )
    matrix = jnp.maximum(most, 1.0)
    partition = free._replace(
        max_splits=jnp.where(per_query_head > 0, vector, matrix),
        min_splits=jnp.where(per_query_head > 0, 1.0, matrix),
        extra_passes=per_query_head,
        per_query_head=per_query_head,
        launches_hidden=1 - per_query_head,
    )
    return on_cuda_cores(partition, per_query_head)


XQA = Xqa(
    "xqa",
    pads_cached_heads=True,
    masked_multihead_attention=True,
    prompt_rows=64.0,
    prompt_keys=64.0,
    pads_prompt_heads=True,
    heads_in_16_bits=(64.0, 256.0),
)

XQA_HOPPER = XqaHopper(
    "xqa_hopper",
    pads_cached_heads=True,
    masked_multihead_attention=True,
    writes_back=True,
    latent=FLASH_MLA,
)
