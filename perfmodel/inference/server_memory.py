"""Memory of servers without their times: weights, KV cache, and the sequences that it holds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.hardware.chip import Chip
from perfmodel.inference.evaluate import ResolvedRow, evaluate_rows
from perfmodel.inference.placement import kv_cache_capacity
from perfmodel.inference.service import Memory, memory_of
from perfmodel.units import Scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request


class ServerMemory(NamedTuple):
    """What a server holds, spread in the first of its ways.

    - `chips`: of it; `weights`, `kv_cache`: bytes on each; a KV cache below zero does not fit.
    - `kv_capacity_tokens`: of a data rank; `sequences`: as long as those that are asked for, of all of them.
    """

    chips: float
    weights: float
    kv_cache: float
    kv_capacity_tokens: float
    sequences: float


def server_memories(rows: Sequence[ResolvedRow]) -> list[ServerMemory]:
    """Of rows of one form."""
    ways = [row.candidates[0] for row in rows]
    size, memory = evaluate_rows(_memory, list(zip(rows, ways, strict=True)))
    lengths = [float(row.request.isl + row.request.osl) for row in rows]
    columns = [map(float, np.asarray(x, float)) for x in (memory.weights, size, memory.kv_capacity)]
    return [
        ServerMemory(way.chips, weights, cache, tokens, tokens / length * way.dp * way.replicas)
        for way, length, weights, cache, tokens in zip(ways, lengths, *columns, strict=True)
    ]


def _memory(chip: Chip, plan: Plan, model: Transformer, request: Request) -> tuple[Scalar, Memory]:
    length = request.isl + request.osl
    return kv_cache_capacity(chip, plan, model), memory_of(chip, plan, model, length)
