"""How a model is spread over chips, in which formats, by which framework."""

import dataclasses
from collections.abc import Collection

import equinox as eqx

from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.backend import (
    SMOOTH_ATTENTION,
    SMOOTH_COLLECTIVE,
    SMOOTH_GEMM,
    SMOOTH_MOE,
    AttentionBackend,
    CollectiveBackend,
    GemmBackend,
    MoeBackend,
)
from perfmodel.workload.precision import FORMATS, Format, look_up
from perfmodel.workload.server import ServerOptions

REPLICA_RANKS = ("tp", "pp", "ep", "dp")
"""Ranks of one replica, as columns name them."""


class Plan(eqx.Module):
    """Parallelism, formats, and which kernels are meant.

    - `tp`, `pp`, `ep`, `dp`: tensor, pipeline, expert and data ranks; `dp` replicates attention,
      `ep` spreads the experts over the same chips. Chips: tp x pp x dp.
    - `server`: options of its server, which set how much memory is open to weights and KV cache.
    - `weights`, `cache`: formats of the weights (and with them of the product) and of the KV cache.
    - `unquantised`: format of the products that a checkpoint in four bits leaves as they were.
    - `framework`: which serves, so that tiles are whole numbers; `None`: the smooth form,
      the best schedule that the hardware allows.
    - `framework_version`: its word, where it is not today's.
    - `release`: the measured release whose fitted parameters are taken; empty: the newest.
    - `attention_backend`, `gemm_backend`, `moe_backend`, `collective_backend`: the kernel libraries that the
      framework runs on this chip (`perfmodel.kernels.backends`).
    - `integer`: whether tiles, waves and splits are whole numbers without a framework's rules.
    - `speculates`: whether a step drafts tokens, by a layer like the model's last (MTP).
    - `fuses_shared_expert`: whether the shared expert is one more routed expert, which every token goes to.
    - `unfused_all_reduce`: whether no norm is fused with an all-reduce, which is then a plain one.
    - `overflows`: whether the cache, and it alone, may lie in far memory.
    - `replay`: whether a benchmark runs a kernel again and again on the same operands,
      so that they may stay in a cache; never so in service.
    """

    tp: Scalar = eqx.field(converter=as_scalar, default=1.0)
    pp: Scalar = eqx.field(converter=as_scalar, default=1.0)
    ep: Scalar = eqx.field(converter=as_scalar, default=1.0)
    dp: Scalar = eqx.field(converter=as_scalar, default=1.0)
    server: ServerOptions = eqx.field(default_factory=ServerOptions)
    weights: str = eqx.field(static=True, default="bf16")
    cache: str = eqx.field(static=True, default="bf16")
    unquantised: str = eqx.field(static=True, default="bf16")
    framework: str | None = eqx.field(static=True, default=None)
    framework_version: str = eqx.field(static=True, default="")
    release: str = eqx.field(static=True, default="")
    attention_backend: AttentionBackend = eqx.field(static=True, default=SMOOTH_ATTENTION)
    gemm_backend: GemmBackend = eqx.field(static=True, default=SMOOTH_GEMM)
    moe_backend: MoeBackend = eqx.field(static=True, default=SMOOTH_MOE)
    collective_backend: CollectiveBackend = eqx.field(static=True, default=SMOOTH_COLLECTIVE)
    integer: bool = eqx.field(static=True, default=False)
    speculates: bool = eqx.field(static=True, default=False)
    fuses_shared_expert: bool = eqx.field(static=True, default=False)
    unfused_all_reduce: bool = eqx.field(static=True, default=False)
    overflows: bool = eqx.field(static=True, default=False)
    replay: bool = eqx.field(static=True, default=False)

    @property
    def exact(self) -> bool:
        """Whether tiles, waves and splits are whole numbers."""
        return self.integer or self.framework is not None

    @property
    def format(self) -> Format:
        """Of the matrix products."""
        return look_up(self.weights)

    @property
    def attended(self) -> str:
        """The format that attention multiplies in: of the cache, where products are in four bits."""
        return self.cache if self.format.matrix == "fp4" else self.weights

    @property
    def chips(self) -> Scalar:
        """In all."""
        return self.tp * self.pp * self.dp


MATRIX = "matrix"
"""Stands for `weights` where only the kind of matrix unit that multiplies them is read."""

CHOICES = {f.name: f.default for f in dataclasses.fields(Plan) if f.metadata.get("static")}
"""The fields of a plan that a compiled function depends on, and what they are if not given."""


def narrowed(plan: Plan, reads: Collection[str]) -> Plan:
    """`plan` without the choices that are not read, so that plans which differ in these alone are equal.

    **Arguments:**

    - `reads`: names of fields, or `MATRIX`. Whether tiles are whole numbers is kept in any case.
    """
    ignored = {name: default for name, default in CHOICES.items() if name not in reads}
    if MATRIX in reads:
        kind = plan.format.matrix
        ignored["weights"] = next(
            name for name, number_format in FORMATS.items() if number_format.matrix == kind
        )
    return dataclasses.replace(plan, **(ignored | {"integer": plan.exact}))
