"""OpenAI's Triton kernels (`triton_kernels`): mixtures in mxfp4 on Hopper, in TensorRT-LLM and vLLM.

A tile has as many rows as all tokens give to each expert here, also those that go to other ranks, rounded up
to a power of two between 16 and 128 (`matmul_ogs_details/opt_flags.py`: `tokens_per_expt`, `block_m`).
"""

import dataclasses

import jax.numpy as jnp

from perfmodel.smooth import power_of_two
from perfmodel.units import Scalar, Values
from perfmodel.workload.backend import MoeBackend


@dataclasses.dataclass(frozen=True, repr=False)
class TritonKernelsMoe(MoeBackend):
    """One tile, chosen before tokens are routed.

    - `formats`: whose mixtures run these kernels; others are left to CUTLASS and DeepGEMM.
    """

    formats: tuple[str, ...] = ("w4a16_mxfp4",)

    def tiles_tried(self, weights: str, expected: Scalar) -> Values:
        tiles = super().tiles_tried(weights, expected)
        if weights not in self.formats:
            return tiles
        tile = power_of_two(jnp.maximum(expected, 1.0))
        return jnp.clip(tile, min(self.row_tiles), max(self.row_tiles)) * jnp.ones(1)


TRITON_KERNELS = TritonKernelsMoe("triton_kernels")
