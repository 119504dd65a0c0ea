"""How a framework's attention kernels cut prompts: facts about frameworks, not chips.

Read in their sources, and seen in their measured times:

- SGLang before Blackwell multiplies prompts of latent attention with the latents themselves.
- FlashInfer folds groups in prefill, and takes tiles of 128, 64 or 16 rows, as many as a prompt
  fills. vLLM leaves an fp8 cache on Ampere and Ada to it.
- SGLang prompts in fp8 on Ada run its Triton kernel (`extend_attention`): no folding, tiles of 64 rows,
  and windows masked tile by tile: what a window hides is scored, and only its products are skipped.
  It multiplies in bf16, as fresh keys and values are; only a prefix is read in the cache's format.
- TensorRT-LLM's kernels for matrix units that registers feed pad heads to a power of two, and multiply fp8
  heads of 64 and 256 in 16 bits (of 128 and 192 in fp8; others were not measured).
- Intel's kernels mask a window in prefill; they skip nothing.
"""

import jax.numpy as jnp

from perfmodel.smooth import power_of_two
from perfmodel.units import Scalar, Values
from perfmodel.workload.framework import Backend
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up

FOLDING: dict[Backend, bool] = {
    "fa3": True,
    "fa3_padded": True,
    "flashinfer": True,
    "xqa": False,
    "xqa_hopper": False,
    "trtllm_gen": False,
    "xpu": False,
    "triton": False,
}
"""Whether prefill folds the queries of a group into rows of one block; `fa2` does for one new token."""


KEYS: dict[Backend, float] = {"xqa": 64.0, "triton": 64.0, "xpu": 64.0}
"""Keys of a prefill tile where they are not as many as its rows: what is masked is cut so finely."""

MASKS_WINDOWS: tuple[Backend, ...] = ("xpu",)
"""Backends whose prefill multiplies what a window hides, and masks it."""

SCORES_WINDOWS: tuple[Backend, ...] = ("triton",)
"""Backends whose prefill builds the mask of what a window hides, and skips only its products."""

TILE = 128.0
"""Tokens of the cache, and rows of queries, in a tile (FlashAttention 2 and 3, TensorRT-LLM)."""

FULL = 128.0
"""Rows of a tile, if nothing else is known."""

ROWS: dict[Backend, float] = {"fa2": 64.0, "xqa": 64.0, "xpu": 64.0, "triton": 64.0}
"""The same where they are others: FlashAttention 2 over a paged cache (`kBlockM`),
TensorRT-LLM's kernels before Hopper; of Intel's seen in measured times."""


def prompt_backend(plan: Plan) -> Backend:
    """The backend of prompts: the plan's, but SGLang's Triton kernel in fp8 where FlashInfer would run."""
    own = plan.framework == "sglang" and plan.weights == "fp8"
    return "triton" if plan.backend == "flashinfer" and own else plan.backend


def tile_rows(backend: Backend, rows: Values, head_dim: Scalar) -> Values:
    """Rows in a tile: FlashInfer takes as few as the prompt fills (`FA2DetermineCtaTileQ`)."""
    if backend == "flashinfer":
        tall = jnp.where((rows > FULL / 2) & (head_dim < 256), FULL, FULL / 2)
        return jnp.where(rows > FULL / 8, tall, FULL / 8)
    return jnp.full_like(rows, ROWS.get(backend, FULL))


def start_share(backend: Backend, head_dim: Scalar) -> Scalar:
    """Time a block of a prompt takes to start, over the fitted: Triton pads what it loads, 64 at least."""
    if backend != "triton":
        return jnp.ones_like(head_dim)
    return jnp.maximum(power_of_two(head_dim), 64.0) / 64.0


PADS_HEADS: tuple[Backend, ...] = ("xqa",)
"""Backends that multiply heads of a prompt as of the next power of two."""


def padded_share(backend: Backend, key: Scalar, value: Scalar) -> Scalar:
    """What the heads of a prompt's keys and values become on chip, over what they are."""
    if backend not in PADS_HEADS:
        return jnp.ones_like(key)
    return (power_of_two(key) + power_of_two(value)) / (key + value)


IN_16_BITS: dict[Backend, tuple[float, ...]] = {"xqa": (64.0, 256.0)}
"""Heads that a backend multiplies in 16 bits where it takes others in fp8: long prompts take as long as in
bf16, and short ones 4 us longer, as for a third kernel beside two."""


def prompt_format(plan: Plan) -> str:
    """Format of a prompt's products: the weights' where the cache has it too, else bf16."""
    matrix = plan.format.matrix
    narrow = look_up(plan.cache).matrix == matrix and prompt_backend(plan) != "triton"
    return matrix if narrow else "bf16"


def sizes_in_16_bits(plan: Plan) -> tuple[float, ...]:
    """Head sizes whose prompts in fp8 are multiplied in 16 bits for want of a kernel."""
    return IN_16_BITS.get(prompt_backend(plan), ()) if prompt_format(plan) == "fp8" else ()


def prompt_rates(plan: Plan) -> set[str]:
    """Kinds of matrix unit whose rates a prompt asks a chip for: its products', and bf16's where some
    heads are multiplied in 16 bits."""
    return {prompt_format(plan)} | ({"bf16"} if sizes_in_16_bits(plan) else set())


def in_16_bits(plan: Plan, head_dim: Scalar) -> Scalar:
    """1 for heads of these sizes, else 0."""
    found = (jnp.where(head_dim == size, 1.0, 0.0) for size in sizes_in_16_bits(plan))
    return sum(found, jnp.zeros_like(head_dim))


CUTS_PROMPTS: tuple[Backend, ...] = ("fa3_padded",)
"""Backends that cut the keys of a prompt, too, where its blocks leave cores idle."""


def prompt_parts(plan: Plan, cores: Scalar, blocks: Values, seen: Scalar) -> Values:
    """Parts of the keys that a prompt's queries see: as many as the idle cores can take."""
    if plan.backend not in CUTS_PROMPTS:
        return jnp.ones_like(blocks)
    return jnp.maximum(jnp.minimum(cores / blocks, seen / TILE), 1.0)


ABSORBS: tuple[Backend, ...] = ("fa3_padded", "flashinfer")
"""Backends that multiply prompts, too, with the latents themselves, the queries of all heads folded."""
