"""Where each operation's rows are in the tables of `aiconfigurator-core`, and what their columns are.

Sizes are named as in the kernel schema.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perfmodel.kernels.linear_attention import KINDS
from perfmodel.kernels.routing import ROUTINGS


class TableFile(NamedTuple):
    """Where an operation's rows are, columns of their formats, names of sizes, and sizes that follow."""

    folder: str
    file: str
    formats: tuple[str, ...]
    names: dict[str, str]
    derived: Callable[[pa.Table], dict[str, np.ndarray]] = lambda table: {}

    def columns(self, table: pa.Table) -> dict[str, np.ndarray]:
        """The sizes of a table, as the kernel schema names them."""
        return {new: numbers(table, old) for new, old in self.names.items()} | self.derived(table)


def numbers(table: pa.Table, name: str) -> np.ndarray:
    if name not in table.column_names:
        return np.zeros(len(table))
    column = pc.fill_null(pc.cast(table[name], pa.float64()), 0.0)
    return np.nan_to_num(column.to_numpy())


def texts(table: pa.Table, name: str) -> list[str]:
    return [text or "" for text in table[name].to_pylist()]


def _decode(table: pa.Table) -> dict[str, np.ndarray]:
    """Tokens in the cache with the new one; `isl` is one in every decode row."""
    return {"ctx_len": numbers(table, "step") + 1}


def _prefill(table: pa.Table) -> dict[str, np.ndarray]:
    queries = numbers(table, "isl")
    context = queries + numbers(table, "step")
    return {"q_len": queries, "ctx_len": context, "causal": np.zeros(len(table))}


def _routing(table: pa.Table) -> dict[str, np.ndarray]:
    order = {name: float(i) for i, name in enumerate(ROUTINGS)}
    return {"routing": np.array([order[n] for n in texts(table, "distribution")])}


def _collective(table: pa.Table) -> dict[str, np.ndarray]:
    """Message sizes are in elements of two bytes."""
    return {"bytes": 2 * numbers(table, "message_size"), "n_nodes": np.ones(len(table))}


_HEADS = {
    "batch": "batch_size",
    "heads": "num_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "window": "window_size",
}
_LATENT = {"batch": "batch_size", "heads": "num_heads"}
_MOE = {
    "tokens": "num_tokens",
    "hidden": "hidden_size",
    "inter": "inter_size",
    "topk": "topk",
    "experts": "num_experts",
    "tp": "moe_tp_size",
    "ep": "moe_ep_size",
}
_RANKS = {"n_gpus": "num_gpus"}
_ATTENTION, _MLA = ("attn_dtype", "kv_cache_dtype"), ("mla_dtype", "kv_cache_dtype")
NCCL = TableFile("comm", "nccl_perf.parquet", ("nccl_dtype",), _RANKS, _collective)

LINEAR_ATTENTION = "linear_attention"
"""Read apart: one row for each kernel of a shape."""

TABLE_FILES = {
    "gemm": TableFile(
        "gemm", "gemm_perf.parquet", ("gemm_dtype",), {n: n for n in ("m", "n", "k")}
    ),
    "attention_decode": TableFile(
        "attention", "generation_attention_perf.parquet", _ATTENTION, _HEADS, _decode
    ),
    "attention_prefill": TableFile(
        "attention", "context_attention_perf.parquet", _ATTENTION, _HEADS, _prefill
    ),
    "mla_decode": TableFile("mla", "generation_mla_perf.parquet", _MLA, _LATENT, _decode),
    "mla_prefill": TableFile("mla", "context_mla_perf.parquet", _MLA, _LATENT | {"ctx_len": "isl"}),
    "moe": TableFile("moe", "moe_perf.parquet", ("moe_dtype",), _MOE, _routing),
    "all_reduce": TableFile(
        "comm", "custom_allreduce_perf.parquet", ("allreduce_dtype",), _RANKS, _collective
    ),
    "all_gather": NCCL,
    "reduce_scatter": NCCL,
    "all_to_all": NCCL,
}
"""Where each operation's rows are."""


# Linear attention: one row for each kernel of a shape, which are added

LINEAR_FOLDERS = {"gdn": "linear_attention", "kda": "kda"}
"""The kinds that are read, and the folder of each. Mamba-2 is not: its tables time the convolution alone,
without the scan."""

FUSED = ("kda_fused_decode", "fused_kda_decode")
"""Kernels timed as another way to do the same: not added."""

PHASES = {"generation": 0.0, "context": 1.0}
"""Phases that are read: the check of drafted tokens (`verify`) is not modelled."""

EAGER_CONVOLUTION = ("vllm", "kda", "context")
"""Framework, kind and phase whose convolution ran without CUDA graphs: 0.4 ms of host time each."""

LINEAR_SIZES = {
    "batch": "batch_size",
    "q_len": "seq_len",
    "heads": "num_v_heads",
    "head_dim": "head_k_dim",
    "key_heads": "num_k_heads",
    "value_dim": "head_v_dim",
}

KERNELS_OF_SHAPE = 2
"""The convolution and the update; a shape that lacks one ran out of memory."""


def summed(table: pa.Table, framework: str, kind: str) -> Iterator[tuple[dict, np.ndarray]]:
    """Columns and times, in s, of each phase of one kind."""
    sound = (pc.field("latency") > 0.0) & ~pc.field("kernel_source").isin(FUSED)
    shapes = table.filter(sound).group_by([*LINEAR_SIZES.values(), "phase", "d_model"])
    added = shapes.aggregate([("latency", "sum"), ("latency", "count")])
    complete = added.filter(pc.field("latency_count") == KERNELS_OF_SHAPE)
    for phase in PHASES:
        rows = complete.filter(pc.field("phase") == phase)
        if (framework, kind, phase) != EAGER_CONVOLUTION and len(rows):
            yield _linear_columns(rows, kind, phase), rows["latency_sum"].to_numpy() * 1e-3


def _linear_columns(rows: pa.Table, kind: str, phase: str) -> dict[str, np.ndarray]:
    """The model's width does not enter, so that models with the same heads are one shape."""
    sizes = {new: rows[old].to_numpy().astype(float) for new, old in LINEAR_SIZES.items()}
    words = {
        "kind": float(KINDS.index(kind)),
        "phase": PHASES[phase],
        "ctx_len": 0.0,
        "hidden": 0.0,
    }
    return sizes | {name: np.full(len(rows), number) for name, number in words.items()}
