"""Blocks that multiply on the vector units (CUDA cores), which several libraries leave some heads to."""

import jax.numpy as jnp

from perfmodel.units import Flag, Scalar
from perfmodel.workload.backend import Partition

KV_TILE = 16.0
"""Tokens of the cache that such a block takes at a time."""

WIDEST_HEAD = 256.0
"""Numbers of the widest head that TensorRT-LLM's vector code (`masked_multihead_attention`) is compiled for
(`MMHA_SUPPORTED_HEAD_SIZES`, TensorRT-LLM 1.3). Groups of up to 128 of such heads were measured, none wider.
"""


def leaves_to_cuda_cores(head_dim: Scalar, elsewhere: Flag) -> Scalar:
    """1 where no matrix kernel of TensorRT-LLM takes a group (not `elsewhere`) and its vector code has heads
    so wide: wider ones are for matrix kernels alone, whatever their group.
    """
    return jnp.where(~elsewhere & (head_dim <= WIDEST_HEAD), 1.0, 0.0)


def on_cuda_cores(partition: Partition, where: Scalar, tile: Scalar | float = KV_TILE) -> Partition:
    """The partition with vector units `where` that is 1: they multiply what there is, without padding."""
    return partition._replace(
        cuda_cores=where,
        row_tile=partition.row_tile + where * (1 - partition.row_tile),
        kv_tile=partition.kv_tile + where * (tile - partition.kv_tile),
    )
