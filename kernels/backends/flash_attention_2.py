"""FlashAttention 2, as vLLM runs it before Hopper.

Grouped queries are folded into rows only for one new token and no window (`seqlenq_ngroups_swapped`): two
transposes, and only then is the cache split. Blocks take 64 rows over a paged cache (`kBlockM`).
"""

import jax.numpy as jnp

from perfmodel.units import Scalar, Values
from perfmodel.workload.backend import AttentionBackend, DecodeShape, Partition

ROWS = 64.0
"""Rows of queries in a block of a decode step, and of a prompt over a paged cache."""


class FlashAttention2(AttentionBackend):
    """Folds groups without a window, and not otherwise."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        folded = (shape.group > 1) & ~shape.windowed
        transposed = folded & (shape.batch > 1) & (shape.kv_heads > 1)
        per_query_head = jnp.where(~folded, 1.0, 0.0)
        return free._replace(
            max_splits=jnp.where(folded, free.max_splits, 1.0),
            extra_passes=jnp.where(transposed, 1.0, 0.0),
            per_query_head=per_query_head,
            cuda_cores=per_query_head,
            row_tile=free.min_splits * ROWS,
        )

    def folded(self, group: Scalar, q_len: Scalar) -> Values:
        return jnp.where(q_len == 1, group, 1.0)


FLASH_ATTENTION_2 = FlashAttention2("flash_attention_2", prompt_rows=ROWS)
