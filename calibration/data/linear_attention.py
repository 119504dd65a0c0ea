"""Linear attention in `aiconfigurator-core`: one row for each kernel of a shape, which are added.

Mamba-2 is not read: its tables time the convolution alone, without the scan.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perfmodel.kernels.linear_attention import KINDS

TABLES = {"gdn": "linear_attention", "kda": "kda"}
"""The kinds that are read, and the folder of each."""

VERSIONS = {"kda": {"sglang": "0.5.16", "vllm": "0.1.dev19262"}}
"""Versions that a kind is read from, where they are not the current ones."""

FUSED = ("kda_fused_decode", "fused_kda_decode")
"""Kernels timed as another way to do the same: not added."""

PHASES = {"generation": 0.0, "context": 1.0}
"""Phases that are read: the check of drafted tokens (`verify`) is not modelled."""

EAGER = ("vllm", "kda", "context")
"""Framework, kind and phase whose convolution ran without CUDA graphs: 0.4 ms of host time each."""

SIZES = ("batch_size", "seq_len", "num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim", "phase")

PARTS = 2
"""Kernels of each shape: the convolution and the update; a shape that lacks one ran out of memory."""


def summed(table: pa.Table, framework: str, kind: str) -> Iterator[tuple[dict, np.ndarray]]:
    """Columns and times, in s, of each phase of one kind."""
    table = table.filter(~pc.field("kernel_source").isin(FUSED))
    table = table.filter(pc.field("latency") > 0.0)
    grouped = table.group_by([*SIZES, "d_model"]).aggregate(
        [("latency", "sum"), ("latency", "count")]
    )
    whole = grouped.filter(pc.field("latency_count") == PARTS)
    for phase in PHASES:
        rows = whole.filter(pc.field("phase") == phase)
        if (framework, kind, phase) != EAGER and len(rows):
            yield _columns(rows, kind, phase), rows["latency_sum"].to_numpy() * 1e-3


def _columns(rows: pa.Table, kind: str, phase: str) -> dict[str, np.ndarray]:
    """The model's width does not enter, so that models with the same heads are one shape."""
    batch, queries, key_heads, key, heads, value = (
        rows[name].to_numpy().astype(float) for name in SIZES[:6]
    )
    words = {"kind": float(KINDS.index(kind)), "phase": PHASES[phase]}
    none = {"ctx_len": 0.0, "hidden": 0.0}
    return {
        "batch": batch,
        "q_len": queries,
        "heads": heads,
        "head_dim": key,
        "key_heads": key_heads,
        "value_dim": value,
    } | {name: np.full_like(batch, number) for name, number in (words | none).items()}
