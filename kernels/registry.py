"""Every kernel by its word in the column `op`: commands and calibration make kernels of rows through this
table.

Whole models make the same objects, so that a row means one thing.
"""

import dataclasses
import functools
import importlib.metadata

from perfmodel.breakdown import Breakdown, total
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.attention_decode import AttentionDecode
from perfmodel.kernels.attention_prefill import AttentionPrefill
from perfmodel.kernels.collective import (
    AllGather,
    AllReduce,
    AllToAll,
    PointToPoint,
    ReduceScatter,
)
from perfmodel.kernels.elementwise import Elementwise
from perfmodel.kernels.gemm import Gemm
from perfmodel.kernels.kernel import AbstractKernel
from perfmodel.kernels.linear_attention import LinearAttention
from perfmodel.kernels.mla import MlaDecode, MlaPrefill
from perfmodel.kernels.moe import Moe
from perfmodel.kernels.sparse_attention import SparseAttention
from perfmodel.roofline import Work, price
from perfmodel.workload.plan import Plan

KERNELS: dict[str, type[AbstractKernel]] = {
    kind.op: kind
    for kind in (
        Gemm,
        AttentionDecode,
        AttentionPrefill,
        MlaDecode,
        MlaPrefill,
        Moe,
        Elementwise,
        LinearAttention,
        SparseAttention,
        AllReduce,
        AllGather,
        ReduceScatter,
        AllToAll,
        PointToPoint,
    )
}


def rates_of(plan: Plan) -> set[str]:
    """Kinds of matrix unit whose rates the kernels of a whole model ask a chip for."""
    formats = (plan.weights, plan.unquantised, plan.attended)
    plans = [dataclasses.replace(plan, weights=weights) for weights in formats]
    return {
        kind for operation in KERNELS.values() for plan in plans for kind in operation.rates(plan)
    }


def cost(chip: Chip, works: list[Work]) -> Breakdown:
    """What kernels cost one after the other."""
    return total([price(chip, work) for work in works])


def add_kernel(kind: type[AbstractKernel]) -> None:
    """Add a kernel of one's own: rows of it are read, predicted, explained and calibrated like others.

    **Raises:**

    - `InputError`: for a word in `op` that is taken by another.
    """
    if KERNELS.get(kind.op, kind) is not kind:
        raise InputError(f"there is an operation {kind.op!r} already; choose another name.")
    KERNELS[kind.op] = kind


PLUGINS = "perfmodel.plugins"
"""Group of entry points: functions of installed packages, called once, which may add kernels."""


@functools.cache
def load_plugins() -> tuple[str, ...]:
    """Call every installed plug-in; their names.

    **Raises:**

    - `InputError`: naming one that fails, and why.
    """
    names: list[str] = []
    for point in importlib.metadata.entry_points(group=PLUGINS):
        try:
            point.load()()
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the plug-in {point.name} ({point.value}) fails: {reason}.") from None
        names.append(point.name)
    return tuple(names)
