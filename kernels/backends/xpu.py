"""Intel's attention kernels, as vLLM runs them on Xe.

They cut a cache only to reach every core once, and run several blocks on a core, by what its registers hold.
Prompts mask a window; they skip nothing. Tiles of 64 are seen in measured times.
"""

import jax.numpy as jnp

from perfmodel.workload.backend import AttentionBackend, DecodeShape, Partition

MATRIX_ROWS = 8.0
"""Rows that Intel's matrix units multiply at once, at most (the repeat count of `dpas`)."""

HEAD_NUMBERS = 512.0
"""Numbers of a head that the blocks on one Xe core take together: four of 128, eight of 64."""


class Xpu(AttentionBackend):
    """A block for each core, then more of them on each core."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        parts = jnp.maximum(jnp.ceil(shape.cores / (shape.batch * shape.kv_heads)), 1.0)
        return free._replace(
            max_splits=parts,
            min_splits=parts,
            blocks_per_core=HEAD_NUMBERS / shape.head_dim,
            row_tile=free.min_splits * MATRIX_ROWS,
        )


XPU = Xpu("xpu", prompt_rows=64.0, prompt_keys=64.0, multiplies_hidden=True)
