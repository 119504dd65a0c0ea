"""Blocks that multiply on the vector units (CUDA cores), which several libraries leave some heads to."""

from perfmodel.units import Scalar
from perfmodel.workload.backend import Partition

KV_TILE = 16.0
"""Tokens of the cache that such a block takes at a time."""


def on_cuda_cores(partition: Partition, where: Scalar, tile: Scalar | float = KV_TILE) -> Partition:
    """The partition with vector units `where` that is 1: they multiply what there is, without padding."""
    return partition._replace(
        cuda_cores=where,
        row_tile=partition.row_tile + where * (1 - partition.row_tile),
        kv_tile=partition.kv_tile + where * (tile - partition.kv_tile),
    )
