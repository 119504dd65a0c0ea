"""Latent attention (MLA): one latent for each token that all heads share, with fitted parameters of its
own."""

import dataclasses

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.kernels.attention import Heads, expanded, latent
from perfmodel.kernels.attention_decode import READS as DECODE_READS
from perfmodel.kernels.attention_decode import attention_decode
from perfmodel.kernels.attention_prefill import READS as PREFILL_READS
from perfmodel.kernels.attention_prefill import attention_prefill, prompt_rates
from perfmodel.kernels.kernel import AbstractKernel, column, extra, or_default
from perfmodel.kernels.residency import Residency
from perfmodel.roofline import Work
from perfmodel.trees import replace
from perfmodel.units import Scalar
from perfmodel.workload.backend import SMOOTH_ATTENTION
from perfmodel.workload.plan import Plan

RANK, ROPE, NOPE, VALUE_DIM = 512.0, 64.0, 128.0, 128.0
"""Sizes of DeepSeek-V3's latent attention (arXiv 2412.19437, section 4.2), meant where none are given."""


def with_latent_parameters(chip: Chip) -> Chip:
    """Latent attention has parameters of its own."""
    latent_parameters = (chip.efficiency.mla_decode, chip.efficiency.mla_prefill)
    return replace(
        lambda c: (c.efficiency.attention_decode, c.efficiency.attention_prefill),
        chip,
        latent_parameters,
    )


class MlaDecode(AbstractKernel):
    """Latent attention of one new token for each of `batch` sequences, absorbed.

    - `batch`: sequences; `heads`: of queries, on one chip.
    - `ctx_len`: tokens in each cache, the new one included.
    - `rank`, `rope`: numbers of a latent, and of its rotated part.
    - `residency`: where the cache lives, if not in the chip's native memory.
    """

    op = "mla_decode"
    family = "mla_decode"
    reads = DECODE_READS

    batch: Scalar = column()
    ctx_len: Scalar = column()
    heads: Scalar = column()
    rank: Scalar | None = extra()
    rope: Scalar | None = extra()
    residency: Residency | None = None

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Products in bf16 alone, whatever the weights' format is."""
        return {"bf16"}

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        backend = plan.attention_backend.latent or SMOOTH_ATTENTION
        plan = dataclasses.replace(plan, attention_backend=backend)
        heads = _latent(self.heads, self.rank, self.rope)
        sizes = (self.batch, self.ctx_len, heads, jnp.inf)
        return [attention_decode(with_latent_parameters(chip), plan, *sizes, self.residency)]


class MlaPrefill(AbstractKernel):
    """Latent attention of a prompt for each of `batch` sequences.

    - `batch`: sequences; `heads`: of queries, on one chip.
    - `ctx_len`: tokens in each cache, the new ones included; `q_len`: the new ones, if not all.
    - `rank`, `rope`, `residency`: as in decode; `nope`, `value_dim`: numbers of a head's key that is not
      rotated, and of its value.
    """

    op = "mla_prefill"
    family = "mla_prefill"
    reads = PREFILL_READS

    batch: Scalar = column()
    ctx_len: Scalar = column()
    heads: Scalar = column()
    q_len: Scalar | None = extra()
    rank: Scalar | None = extra()
    rope: Scalar | None = extra()
    nope: Scalar | None = extra()
    value_dim: Scalar | None = extra()
    residency: Residency | None = None

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Of the products, and of those in 16 bits."""
        return prompt_rates(_without_grouped_rules(plan))

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        absorbed = plan.attention_backend.absorbs_latents
        heads = _latent(self.heads, self.rank, self.rope) if absorbed else self._expanded()
        sizes = (self.batch, or_default(self.q_len, self.ctx_len), self.ctx_len, heads)
        chip, plan = with_latent_parameters(chip), _without_grouped_rules(plan)
        return [attention_prefill(chip, plan, *sizes, residency=self.residency)]

    def _expanded(self) -> Heads:
        numbers = ((self.nope, NOPE), (self.rope, ROPE), (self.value_dim, VALUE_DIM))
        ones = jnp.ones_like(self.heads)
        return expanded(self.heads, *(or_default(value, usual * ones) for value, usual in numbers))


def _latent(heads: Scalar, rank: Scalar | None, rope: Scalar | None) -> Heads:
    ones = jnp.ones_like(heads)
    return latent(heads, or_default(rank, RANK * ones), or_default(rope, ROPE * ones))


def _without_grouped_rules(plan: Plan) -> Plan:
    """No rule of grouped attention, but of a backend that multiplies prompts with the latents themselves."""
    if plan.attention_backend.absorbs_latents:
        return plan
    return dataclasses.replace(plan, attention_backend=SMOOTH_ATTENTION)
