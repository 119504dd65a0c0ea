"""FlashInfer's own kernels, before Blackwell.

Groups of fewer than four are decoded with plain vector code. Other blocks take as few rows as hold a group,
and as many keys as then leave room for two of them in a core's shared memory
(`BatchPrefillWithPagedKVCacheDispatched`). Prompts fold groups, in tiles of 128, 64 or 16 rows, as many as
a prompt fills (`FA2DetermineCtaTileQ`), and multiply the latents themselves. vLLM leaves an fp8 cache on
Ada to it. SGLang decodes latents with a Triton kernel, and leaves prompts in fp8 to one.
"""

import dataclasses

import jax.numpy as jnp

from perfmodel.kernels.backends.cuda_cores import on_cuda_cores
from perfmodel.kernels.backends.triton import TRITON, TRITON_MLA
from perfmodel.units import Scalar, Values
from perfmodel.workload.backend import TILE, AttentionBackend, DecodeShape, Partition
from perfmodel.workload.precision import look_up

HEADS_PER_BLOCK = 64.0
"""Query heads of one KV head that a block takes at most, of 256 numbers; twice as many of fewer."""


class FlashInfer(AttentionBackend):
    """Tiles as small as what is there."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        narrow = jnp.where(shape.head_dim < 256, 1.0, 0.0)
        rows = self.row_tile(shape.group, shape.head_dim)
        matrix = free._replace(
            row_tile=rows,
            heads_per_block=HEADS_PER_BLOCK * (1 + narrow),
            kv_tile=_keys(shape, rows),
        )
        # 128 threads hold eight numbers of a head each, sixteen in fp8; a head alone takes more keys.
        vector = 1024 / (shape.head_dim * look_up(shape.cache).weight / 2)
        tile = jnp.where(shape.group == 1, 4096 / shape.head_dim, vector)
        return on_cuda_cores(matrix, jnp.where(shape.group < 4, 1.0, 0.0), tile)

    def row_tile(self, rows: Values, head_dim: Scalar) -> Values:
        tall = jnp.where((rows > TILE / 2) & (head_dim < 256), TILE, TILE / 2)
        return jnp.where(rows > TILE / 8, tall, TILE / 8)


def _keys(shape: DecodeShape, rows: Scalar) -> Scalar:
    """Keys of a tile: powers of two of 16 for each warp, as its registers and half of a core allow."""
    warps = jnp.where(rows > 16, 1.0, 4.0)
    queries = 2.0 * rows * shape.head_dim
    each = 2.0 * shape.head_dim * 16 * warps * look_up(shape.cache).weight
    blocks = jnp.where(shape.shared_memory >= 2 * (queries + each), 2.0, 1.0)
    fit = jnp.maximum((shape.shared_memory / blocks - queries) / each, 1.0)
    most = jnp.where(rows > 64, 4.0, 8.0)
    return 16 * warps * jnp.minimum(2.0 ** jnp.floor(jnp.log2(fit)), most)


FLASHINFER = FlashInfer("flashinfer", folds=True, latent=TRITON_MLA, absorbs_latents=True)

FLASHINFER_SGLANG = dataclasses.replace(FLASHINFER, name="flashinfer_sglang", fp8_prompts=TRITON)
