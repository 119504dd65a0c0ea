"""SGLang's Triton kernels: of prompts in fp8 on Ada (`extend_attention`), and of latents in decode steps.

Prompts are not folded, in tiles of 64 rows, and windows are masked tile by tile: what a window hides is
scored, and only its products are skipped. They are multiplied in bf16, as fresh keys and values are; only a
prefix is read in the cache's format. Latents are read for sixteen heads at a time
(`_decode_grouped_att_m_fwd`).
"""

import jax.numpy as jnp

from perfmodel.hardware.chip import MATRIX_ROWS
from perfmodel.smooth import power_of_two
from perfmodel.units import Scalar
from perfmodel.workload.backend import LATENT_TILE, AttentionBackend, DecodeShape, Partition


class Triton(AttentionBackend):
    """Pads what it loads to a power of two, 64 numbers at least."""

    def start_factor(self, head_dim: Scalar) -> Scalar:
        return jnp.maximum(power_of_two(head_dim), 64.0) / 64.0


TRITON = Triton(
    "triton", prompt_rows=64.0, prompt_keys=64.0, scores_hidden=True, multiplies_in_bf16=True
)


class TritonMLA(AttentionBackend):
    """Sixteen heads in a block, however many there are."""

    def partition(self, shape: DecodeShape, free: Partition) -> Partition:
        ones = free.min_splits
        return free._replace(kv_tile=ones * LATENT_TILE, heads_per_block=ones * MATRIX_ROWS)


TRITON_MLA = TritonMLA("triton_mla")
