"""What is known of the tables of `aiconfigurator-core`, from `aiconfigurator.toml`, and their columns.

Sizes are named as in the kernel schema.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perfmodel.kernels.linear_attention import KINDS
from perfmodel.kernels.routing import ROUTINGS
from perfmodel.library.files import read_as
from perfmodel.library.schema import Strict


class Rule(Strict):
    """Tables that are not read as they are (empty: of all systems, operations ...), and why."""

    system: str = ""
    op: str = ""
    framework: str = ""
    format: str = ""
    version: str = ""
    reason: str

    def names(self, *given: str) -> bool:
        """Whether the rule is for a system, operation, framework, format and version."""
        own = (self.system, self.op, self.framework, self.format, self.version)
        return all(name in ("", one) for name, one in zip(own, given, strict=True))


class Checkpoint(Strict):
    """The checkpoint of a model in a precision, and its format where it does not say it."""

    model: str
    precision: str
    path: str
    format: str = ""


class TableFile(Strict):
    """Where rows of some operations are, columns of their formats and sizes, and what follows from others."""

    ops: list[str]
    folder: str
    file: str
    formats: list[str]
    sizes: dict[str, str]
    derived: str = ""

    def columns(self, table: pa.Table) -> dict[str, np.ndarray]:
        """The sizes of a table, as the kernel schema names them."""
        sizes = {new: numbers(table, old) for new, old in self.sizes.items()}
        return sizes | (DERIVED[self.derived](table) if self.derived else {})


class OtherVersion(Strict):
    """A format of an operation that is read from another version of the framework."""

    system: str
    op: str
    framework: str
    format: str
    version: str


class LinearAttentionFiles(Strict):
    """The folder of each kind that is read, columns of sizes, and kernels that are not added."""

    folders: dict[str, str]
    sizes: dict[str, str]
    fused: list[str]


class AIConfiguratorFacts(Strict):
    """What `aiconfigurator.toml` says."""

    tables: list[TableFile]
    linear_attention: LinearAttentionFiles
    systems: dict[str, str]
    versions: dict[str, str]
    system_versions: dict[str, dict[str, str]]
    linear_attention_versions: dict[str, dict[str, str]]
    other_versions: list[OtherVersion]
    formats: dict[str, str]
    excluded: list[Rule]
    untuned: list[Rule]
    cached_parts: list[str]
    checkpoints: list[Checkpoint]


FACTS = read_as(AIConfiguratorFacts, Path(__file__).with_name("aiconfigurator.toml"))


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


DERIVED: dict[str, Callable[[pa.Table], dict[str, np.ndarray]]] = {
    "decode": _decode,
    "prefill": _prefill,
    "routing": _routing,
    "collective": _collective,
}
"""By the word of `aiconfigurator.toml`."""


# Linear attention: one row for each kernel of a shape, which are added

LINEAR = FACTS.linear_attention

PHASES = {"generation": 0.0, "context": 1.0}
"""Phases that are read: the check of drafted tokens (`verify`) is not modelled."""

EAGER_CONVOLUTION = ("vllm", "kda", "context")
"""Framework, kind and phase whose convolution ran without CUDA graphs: 0.4 ms of host time each."""

KERNELS_OF_SHAPE = 2
"""The convolution and the update; a shape that lacks one ran out of memory."""


def summed(table: pa.Table, framework: str, kind: str) -> Iterator[tuple[dict, np.ndarray]]:
    """Columns and times, in s, of each phase of one kind."""
    sound = (pc.field("latency") > 0.0) & ~pc.field("kernel_source").isin(LINEAR.fused)
    shapes = table.filter(sound).group_by([*LINEAR.sizes.values(), "phase", "d_model"])
    added = shapes.aggregate([("latency", "sum"), ("latency", "count")])
    complete = added.filter(pc.field("latency_count") == KERNELS_OF_SHAPE)
    for phase in PHASES:
        rows = complete.filter(pc.field("phase") == phase)
        if (framework, kind, phase) != EAGER_CONVOLUTION and len(rows):
            yield _linear_columns(rows, kind, phase), rows["latency_sum"].to_numpy() * 1e-3


def _linear_columns(rows: pa.Table, kind: str, phase: str) -> dict[str, np.ndarray]:
    """The model's width does not enter, so that models with the same heads are one shape."""
    sizes = {new: rows[old].to_numpy().astype(float) for new, old in LINEAR.sizes.items()}
    words = {
        "kind": float(KINDS.index(kind)),
        "phase": PHASES[phase],
        "ctx_len": 0.0,
        "hidden": 0.0,
    }
    return sizes | {name: np.full(len(rows), number) for name, number in words.items()}
