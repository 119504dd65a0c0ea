"""TensorRT-LLM's own kernels on Blackwell (`trtllm_gen`): attention, and mixtures of experts.

Attention takes groups up to 32, of heads wider than 256 any, and any in SGLang and vLLM, which run them
through FlashInfer; there few and short texts with large groups run another kernel. Latents are read by
sixteen heads at a time up to 32, then by all. Mixtures take tiles of as many rows as all tokens give to each
expert here, also those that go to other ranks (`computeSelectedTileN`): with experts spread out, mostly
padding.
"""

import dataclasses

import jax.numpy as jnp

from perfmodel.hardware.chip import MATRIX_ROWS
from perfmodel.kernels.backends.cuda_cores import leaves_to_cuda_cores, on_cuda_cores
from perfmodel.smooth import power_of_two
from perfmodel.units import Scalar, Values
from perfmodel.workload.backend import (
    LATENT_TILE,
    AttentionBackend,
    DecodeShape,
    MoeBackend,
    Partition,
)

LARGEST_GROUP = 32.0
"""Query heads of one KV head that the kernels of attention take."""

LATENT_HEADS = 128.0
"""Query heads that a block of latents takes, where they are more than that."""

LARGE_GROUP = 8192.0
"""Numbers of a group's queries that cost the kernel for large groups as much as its start."""


def _large(shape: DecodeShape) -> Scalar:
    return jnp.where(shape.group > LARGEST_GROUP, 1.0, 0.0)


class TrtllmGen(AttentionBackend):
    """In TensorRT-LLM: larger groups are left to vector units, a block for each query head.

    Heads that those do not take go as latents of that size do, up to 128 in a block.
    """

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        vector = leaves_to_cuda_cores(shape.head_dim, shape.group <= LARGEST_GROUP)
        heads = jnp.where(_large(shape) > vector, LATENT_HEADS, free.heads_per_block)
        partition = free._replace(per_query_head=vector, heads_per_block=heads)
        return on_cuda_cores(partition, vector)


class FlashInferTrtllmGen(AttentionBackend):
    """In vLLM and SGLang: groups of any size, with another kernel first for few and short texts of large
    ones."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        few = shape.batch * shape.kv_heads < shape.cores / 2
        short = jnp.where(few & (shape.ctx_len <= 256), 1.0, 0.0)
        passes = 1 + shape.group * shape.head_dim / LARGE_GROUP
        return free._replace(
            heads_per_block=jnp.maximum(free.heads_per_block, shape.group),
            extra_passes=_large(shape) * short * passes,
        )


class TrtllmGenMLA(AttentionBackend):
    """Latents: sixteen heads in a block, up to 32 in all; else up to 128."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        heads = jnp.where(shape.group <= LARGEST_GROUP, MATRIX_ROWS, LATENT_HEADS)
        return free._replace(kv_tile=free.min_splits * LATENT_TILE, heads_per_block=heads)


TRTLLM_GEN_MLA = TrtllmGenMLA("trtllm_gen_mla")
TRTLLM_GEN = TrtllmGen("trtllm_gen", masked_multihead_attention=True, latent=TRTLLM_GEN_MLA)
FLASHINFER_TRTLLM_GEN = FlashInferTrtllmGen(
    "flashinfer_trtllm_gen", masked_multihead_attention=True, latent=TRTLLM_GEN_MLA
)

MIN_ROWS = 8.0

MAX_ROWS = {"nvfp4": 256.0, "w4a8_mxfp4": 256.0, "w4a16_mxfp4": 64.0}
"""Between what mixtures take rows of a tile; up to 128 in other formats."""

STEP_ROWS = 64.0
"""Rows of a tile that take as long, at each step along its dot products, as what does not depend on rows.
One core walks them alone, which no other tile hides."""


@dataclasses.dataclass(frozen=True, repr=False)
class TrtllmGenMoe(MoeBackend):
    """Tiles near the one that is expected before tokens are routed.

    - `near`: those tried, over that one.
    - `other_formats`: whose mixtures are left to other kernels, CUTLASS and DeepGEMM.
    """

    near: tuple[float, ...] = (1.0,)
    other_formats: tuple[str, ...] = ()

    def tiles_tried(self, weights: str, expected: Scalar) -> Values:
        if weights in self.other_formats:
            return super().tiles_tried(weights, expected)
        tiles = power_of_two(jnp.maximum(expected, 1.0)) * jnp.array(self.near)
        return jnp.clip(tiles, MIN_ROWS, MAX_ROWS.get(weights, max(self.row_tiles)))

    def step_time(self, weights: str, rows: Values) -> Values:
        if weights in self.other_formats:
            return super().step_time(weights, rows)
        return (1 + rows / STEP_ROWS) / 2


TRTLLM_GEN_MOE = TrtllmGenMoe("trtllm_gen", other_formats=("bf16", "fp8", "fp8_block", "nvfp4"))

FLASHINFER_TRTLLM_GEN_MOE = TrtllmGenMoe("flashinfer_trtllm_gen", near=(0.5, 1.0, 2.0, 4.0))
"""vLLM and SGLang try several tiles."""
