"""FlashAttention 3 on Hopper, as vLLM and as SGLang run it.

Grouped queries are always folded into rows, and each part of a cache has as many tiles as 1.1 times the
cores need (`prepare_varlen_num_blocks`). vLLM splits a cache at most 32 times. SGLang does so without a
limit, copies queries and outputs of head size 192, splits the keys of prompts, and multiplies prompts with
the latents themselves.
"""

import dataclasses

import jax.numpy as jnp

from perfmodel.kernels.backends.flash_attention_2 import ROWS
from perfmodel.kernels.backends.flash_mla import UNPACKING_FLASH_MLA
from perfmodel.workload.backend import NO_SPLIT_LIMIT, AttentionBackend, DecodeShape, Partition


@dataclasses.dataclass(frozen=True, repr=False)
class FlashAttention3(AttentionBackend):
    """Splits for 1.1 times the cores.

    - `max_splits`: of a cache.
    - `copied_head`: size of the heads that are copied before and after; zero for none.
    """

    max_splits: float = 32.0
    copied_head: float = 0.0

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        tiles = jnp.ceil(shape.ctx_len / 128)
        each = jnp.ceil(1.1 * shape.batch * shape.kv_heads * tiles / shape.cores)
        parts = jnp.minimum(jnp.ceil(tiles / each), self.max_splits)
        return free._replace(
            max_splits=parts,
            min_splits=parts,
            row_tile=free.min_splits * ROWS,
            extra_passes=jnp.where(shape.head_dim == self.copied_head, 1.0, 0.0),
        )


FLASH_ATTENTION_3 = FlashAttention3(
    "flash_attention_3", folds=True, reads_boundary_tile=True, latent=UNPACKING_FLASH_MLA
)

FLASH_ATTENTION_3_SGLANG = FlashAttention3(
    "flash_attention_3_sglang",
    folds=True,
    latent=UNPACKING_FLASH_MLA,
    splits_prompts=True,
    absorbs_latents=True,
    max_splits=NO_SPLIT_LIMIT,
    copied_head=192.0,
)
