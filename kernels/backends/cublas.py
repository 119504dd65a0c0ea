"""Libraries of matrix products: cuBLAS, and those of which no rule is known.

On Ada it leaves k whole where there is little to do, and for up to 16 rows where the columns give 20 tiles:
seen in its times, which jump four times over. TensorRT-LLM multiplies blocks in fp8 as bf16 there: the rate
and the joules that fit their times were bf16's, half of fp8's and twice its.
"""

import jax.numpy as jnp

from perfmodel.smooth import power_of_two
from perfmodel.units import Flag, Scalar
from perfmodel.workload.backend import GemmBackend
from perfmodel.workload.precision import look_up

MIN_PRODUCTS = 4.6e6
"""Multiply-adds below which cuBLAS on Ada does not split k: of rows padded to a tile, 32 more columns."""

MAX_COLUMNS = 1280.0
"""Columns above which it does not for up to 16 rows: 20 tiles of 64."""


def _shortest_tile(m: Scalar) -> Scalar:
    """Rows of the shortest tile that holds them all: 8 up to 7, then 16, then powers of two."""
    return jnp.where(m < 8, 8.0, jnp.maximum(power_of_two(m), 16.0))


class CublasAda(GemmBackend):
    """Leaves k whole for small products; one row runs another kernel."""

    def leaves_k_whole(self, weights: str, m: Scalar, n: Scalar, k: Scalar) -> Flag:
        if look_up(weights).matrix != "bf16":
            return jnp.zeros((), bool)
        small = _shortest_tile(m) * (n + 32.0) * k < MIN_PRODUCTS
        return (m > 1) & (small | ((m <= 16) & (n > MAX_COLUMNS)))


VENDOR = GemmBackend("vendor")
"""Of which no rule is known: cuBLAS elsewhere, hipBLASLt, oneDNN."""

CUBLAS_ADA = CublasAda("cublas_ada")
CUBLAS_ADA_TRTLLM = CublasAda("cublas_ada_trtllm", bf16_formats=("fp8_block",))
