"""The measured tables of `aiconfigurator-core` (Apache-2.0), read where it is installed.

Nothing of it is copied here. A path to its wheel or to a checkout serves as well: the
tables are plain parquet files.
"""

import functools
import importlib.util
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perfmodel.calibration.data import linear_attention
from perfmodel.calibration.data.measurements import LeftOut, Measurements, merged
from perfmodel.errors import InputError
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.routing import ROUTINGS

PACKAGE = "aiconfigurator_core"
VERSION = "0.12.0"
Folder = Path | zipfile.Path

SYSTEMS = {
    "a100_sxm": "a100-sxm-80gb",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "l40s": "l40s",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "rtx_pro_6000_server": "rtx-pro-6000",
    "b60": "arc-pro-b60",
}
"""Systems that are read, and their names in the library."""

CURRENT = {"trtllm": "1.3.0rc20", "vllm": "0.24.0", "sglang": "0.5.14", "nccl": "2.29.2"}
"""The version of each framework that is read where a chip has it."""

OTHERS: dict[str, dict[str, str]] = {
    "a100_sxm": {"vllm": "0.14.0", "sglang": "0.5.10", "nccl": "2.27.3"},
    "l40s": CURRENT | {"nccl": "2.27.3"},
    "b60": {"vllm": "0.20.0"},
}
"""Chips with other versions."""

EXCLUDED = {
    ("b300_sxm", "", "sglang", ""): "rows are those of GB300, not of this chip",
    ("", "gemm", "vllm", "fp8_block"): "run without CUDA graphs, so that host time is measured",
    ("h100_sxm", "attention_prefill", "trtllm", "bf16/fp8"): "labelled bf16, computed in fp8",
    ("h200_sxm", "attention_prefill", "trtllm", "bf16/fp8"): "labelled bf16, computed in fp8",
    ("", "attention_prefill", "sglang", "bf16/fp8"): "run by another backend, for few shapes",
    ("b60", "gemm", "vllm", "fp8"): "no unit for it: computed in bf16",
    ("l40s", "all_reduce", "trtllm", ""): "one file under several versions, ten times too slow",
    ("l40s", "all_reduce", "vllm", ""): "one file under several versions, ten times too slow",
    ("l40s", "all_reduce", "sglang", ""): "one file under several versions, ten times too slow",
}
"""System, operation, framework and format that are not read (empty: all of them), and why."""

UNTUNED = {
    (
        "moe",
        "trtllm",
        "bf16",
    ): "tuning failed for a tenth of the groups on Hopper: 2 to 5 times too slow",
    (
        "moe",
        "trtllm",
        "fp8",
    ): "tuning failed for a tenth of the groups on Hopper: 2 to 5 times too slow",
}
"""Operation, framework and format whose slow groups are left out, and why."""

TOO_SLOW = 1.25
"""A rank with no more of the work than another may take this much longer, and no more."""

FORMATS = {
    "bfloat16": "bf16",
    "half": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "nvfp4": "nvfp4",
    "int4_wo": "int4",
    "w4a16_mxfp4": "w4a16_mxfp4",
    "w4a8_mxfp4_mxfp8": "w4a8_mxfp4",
    "w4afp8": "w4afp8",
}
"""Names of formats in the tables, and here; rows in other formats are not read."""


class Source(NamedTuple):
    """Where an operation's rows are: `folder`, `file`, columns of their formats, and how to read sizes."""

    folder: str
    file: str
    formats: tuple[str, ...]
    columns: Callable[[pa.Table], dict[str, np.ndarray]]


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    if name not in table.column_names:
        return np.zeros(len(table))
    column = pc.fill_null(pc.cast(table[name], pa.float64()), 0.0)
    return np.nan_to_num(column.to_numpy())


def _renamed(**names: str) -> Callable[[pa.Table], dict[str, np.ndarray]]:
    """Columns that only change their name."""
    return lambda table: {new: _numbers(table, old) for new, old in names.items()}


_HEADS = _renamed(
    batch="batch_size",
    heads="num_heads",
    kv_heads="num_key_value_heads",
    head_dim="head_dim",
    window="window_size",
)


def _cached(table: pa.Table) -> np.ndarray:
    """Tokens in the cache with the new one; `isl` is one in every decode row."""
    return _numbers(table, "step") + 1


def _decode(table: pa.Table) -> dict[str, np.ndarray]:
    return _HEADS(table) | {"ctx_len": _cached(table)}


def _prefill(table: pa.Table) -> dict[str, np.ndarray]:
    queries = _numbers(table, "isl")
    sizes = {"q_len": queries, "ctx_len": queries + _numbers(table, "step")}
    return _HEADS(table) | sizes | {"causal": np.zeros(len(table))}


_LATENT = _renamed(batch="batch_size", heads="num_heads")


def _mla_decode(table: pa.Table) -> dict[str, np.ndarray]:
    return _LATENT(table) | {"ctx_len": _cached(table)}


def _mla_prefill(table: pa.Table) -> dict[str, np.ndarray]:
    return _LATENT(table) | {"ctx_len": _numbers(table, "isl")}


_MOE = _renamed(
    tokens="num_tokens",
    hidden="hidden_size",
    inter="inter_size",
    topk="topk",
    experts="num_experts",
    tp="moe_tp_size",
    ep="moe_ep_size",
)


def _moe(table: pa.Table) -> dict[str, np.ndarray]:
    order = {name: float(i) for i, name in enumerate(ROUTINGS)}
    return _MOE(table) | {"routing": np.array([order[n] for n in _texts(table, "distribution")])}


def _collective(table: pa.Table) -> dict[str, np.ndarray]:
    """Message sizes are in elements of two bytes."""
    ranks = _numbers(table, "num_gpus")
    size = 2 * _numbers(table, "message_size")
    return {"n_gpus": ranks, "bytes": size, "n_nodes": np.ones_like(ranks)}


_NCCL = Source("comm", "nccl_perf.parquet", ("nccl_dtype",), _collective)
_ATTENTION = ("attn_dtype", "kv_cache_dtype")
_MLA = ("mla_dtype", "kv_cache_dtype")

LINEAR = "linear_attention"
"""Read by `recurrences`."""

SOURCES = {
    "gemm": Source("gemm", "gemm_perf.parquet", ("gemm_dtype",), _renamed(m="m", n="n", k="k")),
    "attention_decode": Source(
        "attention", "generation_attention_perf.parquet", _ATTENTION, _decode
    ),
    "attention_prefill": Source(
        "attention", "context_attention_perf.parquet", _ATTENTION, _prefill
    ),
    "mla_decode": Source("mla", "generation_mla_perf.parquet", _MLA, _mla_decode),
    "mla_prefill": Source("mla", "context_mla_perf.parquet", _MLA, _mla_prefill),
    "moe": Source("moe", "moe_perf.parquet", ("moe_dtype",), _moe),
    "all_reduce": Source(
        "comm", "custom_allreduce_perf.parquet", ("allreduce_dtype",), _collective
    ),
    "all_gather": _NCCL,
    "reduce_scatter": _NCCL,
    "all_to_all": _NCCL,
}
"""Where each operation's rows are."""


def locate(source: str) -> Folder:
    """The folder of tables: of the installed package, of a wheel, or of a checkout.

    **Raises:**

    - `InputError`: when it is not there, with what to install.
    """
    if source == "aiconfigurator":
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"aiconfigurator-core is not installed; run `pip install aiconfigurator-core=={VERSION}`, "
                f"or give the path of its wheel: --data aiconfigurator_core-{VERSION}-....whl."
            )
        return Path(spec.submodule_search_locations[0]) / "systems" / "data"
    path = Path(source)
    if path.suffix == ".whl":
        return _in_wheel(path)
    found = next(path.glob("**/systems/data"), None) if path.is_dir() else None
    if found is None:
        those = "holds no systems/data" if path.exists() else "is not there"
        raise InputError(
            f"{source} {those}; give aiconfigurator, or the path of its wheel or of a checkout of it."
        )
    return found


def _in_wheel(path: Path) -> zipfile.Path:
    try:
        return zipfile.Path(path) / PACKAGE / "systems" / "data"
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable wheel: {error}.") from None


def tables(
    root: Folder,
    op: str,
    system: str,
    left_out: list[LeftOut] | None = None,
    wanted: Callable[[Key], bool] = lambda key: True,
) -> Iterator[Measurements]:
    """The sound tables of one operation on one chip, one for each framework and format that is wanted.

    **Arguments:**

    - `left_out`: gains what is not read, by rule.
    """
    left_out = [] if left_out is None else left_out
    for framework, version in OTHERS.get(system, CURRENT).items():
        if op == LINEAR:
            yield from _linear(root, system, framework, version, left_out)
            continue
        source = _NCCL if framework == "nccl" and SOURCES[op].folder == "comm" else SOURCES[op]
        path = root / system / source.folder / framework / version / source.file
        if not path.exists():
            continue
        key = Key(op, SYSTEMS[system], framework, "")
        drop = functools.partial(_drop, left_out, key)
        table = _sound(pq.read_table(io.BytesIO(path.read_bytes())), op, drop)
        named = f"aiconfigurator-core {VERSION}, {system}, {framework} {version}"
        if rule := _excluded(system, op, framework):
            drop(len(table), rule)
            continue
        for dtype, cache, rows in _split(table, source.formats, drop):
            part = key._replace(dtype=dtype, cache=cache)
            if rule := _excluded(system, op, framework, dtype, cache):
                drop(len(rows), rule, part)
                continue
            if not wanted(part):
                continue
            time = _numbers(rows, "latency") * 1e-3
            found = merged(Measurements(part, source.columns(rows), time, named))
            rule = UNTUNED.get((op, framework, dtype), "")
            kept = _tuned(found) if rule else found
            drop(len(found.time) - len(kept.time), rule, part)
            yield kept


def _drop(left_out: list[LeftOut], key: Key, rows: int, rule: str, part: Key | None = None) -> None:
    """Note rows that are not read."""
    if rows:
        left_out.append(LeftOut(part or key, rows, rule))


def _linear(
    root: Folder, system: str, framework: str, version: str, left_out: list[LeftOut]
) -> Iterator[Measurements]:
    """Linear attention of all kinds, its kernels added."""
    key = Key(LINEAR, SYSTEMS[system], framework, "bf16")
    rule = _excluded(system, LINEAR, framework)
    parts, versions = [], []
    for kind, folder in linear_attention.TABLES.items():
        there = linear_attention.VERSIONS.get(kind, {framework: version}).get(framework, version)
        path = root / system / folder / framework / there / f"{kind}_perf.parquet"
        if not path.exists():
            continue
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        if rule:
            _drop(left_out, key, len(table), rule)
            continue
        parts += linear_attention.summed(table, framework, kind)
        versions.append(there)
    if parts:
        columns = {n: np.concatenate([part[n] for part, _ in parts]) for n in parts[0][0]}
        time = np.concatenate([time for _, time in parts])
        source = f"aiconfigurator-core {VERSION}, {system}, {framework} {' and '.join(versions)}"
        yield merged(Measurements(key, columns, time, source))


def _tuned(table: Measurements) -> Measurements:
    """Without groups of one model and one split that are slower than a rank with more of the work."""
    columns = table.columns
    models = np.stack([columns[n] for n in ("hidden", "inter", "topk", "experts", "routing")], 1)
    _, model = np.unique(models, axis=0, return_inverse=True)
    tokens, place = np.unique(columns["tokens"], return_inverse=True)
    kept = np.ones(len(table.time), bool)
    for which in range(model.max() + 1):
        rows = np.flatnonzero(model.ravel() == which)
        splits, group = np.unique(
            np.stack([columns["tp"][rows], columns["ep"][rows]], 1), axis=0, return_inverse=True
        )
        times = np.full((len(splits), len(tokens)), np.nan)
        times[group.ravel(), place.ravel()[rows]] = table.time[rows]
        kept[rows] = ~_slow(splits, times)[group.ravel()]
    return table.take(np.flatnonzero(kept))


def _slow(splits: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which splits are too slow beside one with no more ranks of either kind, on the tokens of both."""
    more = np.all(splits[:, None] >= splits, axis=2) & ~np.eye(len(splits), dtype=bool)
    slow = np.zeros(len(splits), bool)
    for a, b in zip(*np.nonzero(more), strict=True):
        both = np.isfinite(times[a]) & np.isfinite(times[b])
        slow[a] |= both.any() and np.median(times[a][both] / times[b][both]) > TOO_SLOW
    return slow


def _excluded(system: str, op: str, framework: str, dtype: str = "", cache: str = "") -> str:
    """Why a table is not read; empty where it is."""
    given = (system, op, framework, f"{dtype}/{cache}" if cache else dtype)
    rules = (
        why
        for rule, why in EXCLUDED.items()
        if all(name in ("", one) for name, one in zip(rule, given, strict=True))
    )
    return next(rules, "")


NOT_RUN = "the time is not greater than zero"
EAGER = "run without CUDA graphs beside rows with them"
OTHER_FORMAT = "a format that is not read"
OTHER_KERNEL = "run by another kernel than most rows of the table"


def _sound(table: pa.Table, op: str, drop: Callable[[int, str], None]) -> pa.Table:
    """Rows that were run, of this operation, without the host in their time."""
    if "op_name" in table.column_names and "nccl_dtype" in table.column_names:
        name = "alltoall" if op == "all_to_all" else op
        table = table.filter(pc.field("op_name") == name)
    sound = table.filter(pc.field("latency") > 0.0)
    drop(len(table) - len(sound), NOT_RUN)
    if "kernel_source" not in table.column_names:
        return sound
    replayed = sound.filter(
        [not name.endswith("_eager") for name in _texts(sound, "kernel_source")]
    )
    drop(len(sound) - len(replayed), EAGER)
    return replayed


def _texts(table: pa.Table, name: str) -> list[str]:
    return [text or "" for text in table[name].to_pylist()]


def _split(
    table: pa.Table, names: tuple[str, ...], drop: Callable[[int, str], None]
) -> Iterator[tuple[str, str, pa.Table]]:
    """Rows of each format, of the kernel that ran most of them: other kernels are other tables."""
    for formats in table.select(names).group_by(list(names)).aggregate([]).to_pylist():
        rows = table
        for name in names:
            rows = rows.filter(pc.field(name) == formats[name])
        wanted = [FORMATS.get(formats[name], "") for name in names]
        if not all(wanted):
            drop(len(rows), OTHER_FORMAT)
            continue
        if "kernel_source" in rows.column_names:
            (most, count), *_ = Counter(_texts(rows, "kernel_source")).most_common(1)
            drop(len(rows) - count, OTHER_KERNEL)
            rows = rows.filter(pc.field("kernel_source") == most)
        yield wanted[0], wanted[-1] if len(wanted) > 1 else "", rows
