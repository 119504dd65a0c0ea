"""Blocks that multiply on the vector units (CUDA cores), which several libraries leave some heads to."""

from perfmodel.units import Scalar
from perfmodel.workload.backend import Partition

KV_TILE = 16.0
"""Tokens of the cache that such a block takes at a time."""


def on_cuda_cores(found: Partition, where: Scalar, tile: Scalar | float = KV_TILE) -> Partition:
    """The partition with vector units `where` that is 1: they multiply what there is, without padding."""
    return found._replace(
        cuda_cores=where,
        row_tile=found.row_tile + where * (1 - found.row_tile),
        kv_tile=found.kv_tile + where * (tile - found.kv_tile),
    )
