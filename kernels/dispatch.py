"""How a framework's attention kernels cut their work: facts about frameworks, not chips.

Read in their sources, and seen in their measured times:

- FlashAttention 2 folds grouped queries into rows only for one new token
  (`seqlenq_ngroups_swapped`): two transposes, and only then is the cache split.
- FlashAttention 3 folds grouped queries into rows always. vLLM splits a cache at most
  32 times; SGLang copies queries and outputs of head size 192.
- TensorRT-LLM runs XQA where 4 x batch x kv_heads x max(1, context/128) fills the cores
  and 1 < group <= 32, else one block for each query head.
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.units import Scalar
from perfmodel.workload.framework import Backend

UNBOUND = 1e9

FOLDING: dict[Backend, bool] = {
    "fa3": True,
    "fa3_padded": True,
    "flashinfer": True,
    "xqa": False,
    "trtllm_gen": False,
}
"""Whether prefill folds the queries of a group into rows of one block; `fa2` does for one new token."""


class Cut(NamedTuple):
    """How decode attention cuts its work.

    - `splits`: the most parts of one sequence's cache.
    - `copies`: extra passes over queries and outputs.
    - `alone`: 1 where each query head has a block of its own and reads the cache itself.
    """

    splits: Scalar
    copies: Scalar
    alone: Scalar


def decode_cut(
    backend: Backend,
    cores: Scalar,
    batch: Scalar,
    context: Scalar,
    heads: Scalar,
    kv_heads: Scalar,
    head_dim: Scalar,
) -> Cut:
    """The rule of `backend`; the smooth form knows none."""
    one, group = jnp.ones_like(batch), heads / kv_heads
    free = Cut(UNBOUND * one, 0 * one, 0 * one)
    if backend == "fa2":
        folds = (group > 1) & (batch > 1) & (kv_heads > 1)
        return free._replace(
            splits=jnp.where(group > 1, UNBOUND, one), copies=jnp.where(folds, one, 0.0)
        )
    if backend == "fa3":
        return free._replace(splits=32 * one)
    if backend == "fa3_padded":
        return free._replace(copies=jnp.where(head_dim == 192, one, 0.0))
    if backend == "xqa":
        fills = 4 * batch * kv_heads * jnp.maximum(1.0, jnp.floor(context / 128)) >= cores
        together = (group > 1) & (group <= 32) & fills
        return free._replace(alone=jnp.where(together, 0.0, one))
    return free
