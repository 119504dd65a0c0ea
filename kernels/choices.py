"""What frameworks and libraries choose outside attention: facts about them, not about chips.

Read in their sources, and seen in their measured times:

- Mixtures of the `trtllm_gen` kernels take tiles of as many rows as all tokens give to each expert here,
  also those that go to other ranks (`computeSelectedTileN`): with experts spread out, mostly padding.
- cuBLAS on Ada leaves k whole where there is little to do, and for up to 16 rows where the columns
  give 20 tiles: seen in its times, which jump four times over.
- TensorRT-LLM multiplies blocks in fp8 as bf16 on Ada: the rate and the joules that fit their times were
  bf16's, half of fp8's and twice its.
- Frameworks all-reduce vectors with kernels of their own up to some size, and with NCCL beyond.
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.smooth import power_of_two
from perfmodel.units import Flag, Scalar, Values
from perfmodel.workload.plan import Plan

EXPERT_ROWS = (16.0, 32.0, 64.0, 128.0)
"""Rows of the tiles tried in a mixture: an expert's tokens are padded to them."""

LEAST_ROWS = 8.0

MOST_ROWS = {"nvfp4": 256.0, "w4a8_mxfp4": 256.0, "w4a16_mxfp4": 64.0}
"""Between what the `trtllm_gen` mixtures take rows of a tile; up to 128 in other formats."""

NEAR = (0.5, 1.0, 2.0, 4.0)
"""Tiles tried by vLLM and SGLang, over the one that is expected (`computeSelectedTileN`)."""

OTHERS = ("bf16", "fp8", "fp8_block", "nvfp4")
"""Formats whose mixtures TensorRT-LLM leaves to other kernels there: CUTLASS and DeepGEMM."""


def expert_rows(plan: Plan, expected: Scalar) -> Values:
    """Rows of a mixture's tiles: those tried, or those near what is expected before tokens are routed.

    - `expected`: pairs of token and expert of all ranks, over the experts of one.
    """
    own = plan.framework == "trtllm"
    if plan.backend != "trtllm_gen" or (own and plan.weights in OTHERS):
        return jnp.array(EXPERT_ROWS)
    guess = jnp.maximum(expected, 1.0)
    near = power_of_two(guess) * jnp.array((1.0,) if own else NEAR)
    return jnp.clip(near, LEAST_ROWS, MOST_ROWS.get(plan.weights, max(EXPERT_ROWS)))


LITTLE = 4.6e6
"""Multiply-adds below which cuBLAS on Ada does not split k: of rows padded to `_tall`, 32 more columns."""

MANY = 1280.0
"""Columns above which it does not for up to 16 rows: 20 tiles of 64."""


def _tall(m: Scalar) -> Scalar:
    """Rows of the shortest tile that holds them all: 8 up to 7, then 16, then powers of two."""
    return jnp.where(m < 8, 8.0, jnp.maximum(power_of_two(m), 16.0))


def leaves_whole(plan: Plan, m: Scalar, n: Scalar, k: Scalar) -> Flag:
    """Whether a library does not split k of a product, though it might pay; one row runs another kernel."""
    if plan.library != "cublas_ada" or plan.format.matrix != "bf16":
        return jnp.zeros((), bool)
    little = _tall(m) * (n + 32.0) * k < LITTLE
    return (m > 1) & (little | ((m <= 16) & (n > MANY)))


def product_format(plan: Plan) -> str:
    """Format in which the matrix units multiply: the weights', but for TensorRT-LLM's blocks on Ada."""
    on_ada = plan.framework == "trtllm" and plan.library == "cublas_ada"
    as_bf16 = on_ada and plan.weights == "fp8_block"
    return "bf16" if as_bf16 else plan.format.matrix


class Reach(NamedTuple):
    """Vectors that a framework's own kernels all-reduce: below `most` bytes over $n^{power}$ chips."""

    most: float
    power: float


OWN_REDUCTIONS: dict[str, Reach] = {
    "sglang": Reach(32 * 2.0**20, 0.0),
    "vllm": Reach(16 * 2.0**20, 0.0),
    "vllm trtllm_gen": Reach(128 * 2.0**20, 2.0),
    "trtllm": Reach(32 * 2.0**20, 2.0),
    "trtllm trtllm_gen": Reach(2 * 2.0**20, 1.0),
    "apart": Reach(16 * 2.0**20, 0.0),
    "apart trtllm_gen": Reach(2 * 2.0**20, 1.0),
}
"""By framework, and apart where Blackwell differs; seen in measured times, which are NCCL's beyond.
`apart` is SGLang's where no norm is fused with it: on Blackwell it gives way before two shots."""


def reduces_itself(plan: Plan, ranks: Scalar, size: Scalar) -> Flag:
    """Whether a framework's own kernels all-reduce a vector of `size` bytes, rather than NCCL's."""
    name = "apart" if plan.reduces_apart else plan.framework or ""
    reach = OWN_REDUCTIONS.get(f"{name} {plan.backend}", OWN_REDUCTIONS.get(name))
    if reach is None:
        return jnp.ones_like(size, dtype=bool)
    return size < reach.most / ranks**reach.power
