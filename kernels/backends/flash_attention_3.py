"""FlashAttention 3 on Hopper, as vLLM and as SGLang run it, and its kernels for latents.

Grouped queries are always folded into rows, and each part of a cache has as many tiles as 1.1 times the
cores need (`prepare_varlen_num_blocks`). vLLM splits a cache at most 32 times. SGLang does so without a
limit, copies queries and outputs of head size 192, splits the keys of prompts, and multiplies prompts with
the latents themselves. A cache of latents in fp8 is turned into bf16 before it is read.
"""

import dataclasses

import jax.numpy as jnp

from perfmodel.kernels.backends.flash_attention_2 import ROWS
from perfmodel.workload.backend import LATENT_TILE, AttentionBackend, DecodeShape, Partition

UNPACKED_BYTES = 10.0
"""Bytes moved for each number of a cache in fp8 that is first turned into bf16: one is read, two
written, and so on through copies of the latents and of their rotated part."""

UNLIMITED = 1e9


class FlashMLA(AttentionBackend):
    """Latents on Hopper, in tiles of 64 rows."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        one = free.least_splits
        return free._replace(kv_tile=one * LATENT_TILE, row_tile=one * ROWS)


class UnpackingFlashMLA(FlashMLA):
    """The same, where a cache in fp8 is unpacked before."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        unpacked = UNPACKED_BYTES if shape.cache == "fp8" else 0.0
        found = super().partition(shape, free)
        return found._replace(unpacked_bytes=free.least_splits * unpacked)


FLASH_MLA = FlashMLA("flash_mla")
UNPACKING_FLASH_MLA = UnpackingFlashMLA("unpacking_flash_mla")


@dataclasses.dataclass(frozen=True, repr=False)
class FlashAttention3(AttentionBackend):
    """Splits for 1.1 times the cores.

    - `most_splits`: of a cache.
    - `copied_head`: size of the heads that are copied before and after; zero for none.
    """

    most_splits: float = 32.0
    copied_head: float = 0.0

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        tiles = jnp.ceil(shape.context / 128)
        each = jnp.ceil(1.1 * shape.batch * shape.kv_heads * tiles / shape.cores)
        parts = jnp.minimum(jnp.ceil(tiles / each), self.most_splits)
        return free._replace(
            most_splits=parts,
            least_splits=parts,
            row_tile=free.least_splits * ROWS,
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
    most_splits=UNLIMITED,
    copied_head=192.0,
)
