"""The measured tables of `aiconfigurator-core` (Apache-2.0), read where it is installed.

Nothing of it is copied here. A path to its wheel or to a checkout serves as well: the
tables are plain parquet files.
"""

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perfmodel.calibration.measurements import Measurements, merged
from perfmodel.errors import InputError
from perfmodel.kernels.rows import Key

PACKAGE = "aiconfigurator_core"
VERSION = "0.12.0"
Folder = Path | zipfile.Path


class Collection(NamedTuple):
    """One trusted collection: `framework`, `version`, and the kernels' source where a table mixes several."""

    framework: str
    version: str
    kernels: str = ""


TRUSTED: dict[tuple[str, str], tuple[Collection, ...]] = {
    ("gemm", "a100_sxm"): (Collection("vllm", "0.14.0"), Collection("sglang", "0.5.10")),
    ("gemm", "h100_sxm"): (
        Collection("trtllm", "1.3.0rc20"),
        Collection("vllm", "0.24.0"),
        Collection("sglang", "0.5.14"),
    ),
    ("comm", "a100_sxm"): (
        Collection("vllm", "0.14.0", "vLLM_custom_graph"),
        Collection("sglang", "0.5.10", "SGLang_CustomAllReduce_graph"),
    ),
    ("comm", "h100_sxm"): (
        Collection("trtllm", "1.3.0rc20"),
        Collection("vllm", "0.24.0", "vLLM_custom_graph"),
        Collection("sglang", "0.5.14", "SGLang_CustomAllReduce_graph"),
    ),
    ("attention", "a100_sxm"): (Collection("vllm", "0.14.0"), Collection("sglang", "0.5.10")),
    ("attention", "h100_sxm"): (
        Collection("trtllm", "1.3.0rc20"),
        Collection("vllm", "0.24.0", "vllm_flash_attn_fa3"),
        Collection("sglang", "0.5.14", "fa3"),
    ),
}
"""Collections that are sound: no launches that failed, no reused blocks, no copies of another chip's."""

FORMATS = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4"}

TABLES = {
    "gemm": ("gemm", "gemm_perf.parquet"),
    "attention_decode": ("attention", "generation_attention_perf.parquet"),
    "attention_prefill": ("attention", "context_attention_perf.parquet"),
    "all_reduce": ("comm", "custom_allreduce_perf.parquet"),
}
"""Folder and file of each operation."""


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
        raise InputError(
            f"{source} holds no systems/data; give the package's wheel or a checkout of it."
        )
    return found


def _in_wheel(path: Path) -> zipfile.Path:
    try:
        return zipfile.Path(path) / PACKAGE / "systems" / "data"
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable wheel: {error}.") from None


SYSTEMS = {"a100_sxm": "a100-sxm-80gb", "h100_sxm": "h100-sxm"}
"""Systems that are read, and their names in the library."""


def tables(root: Folder, op: str, system: str) -> Iterator[Measurements]:
    """The trusted tables of one operation on one chip, one for each framework and format."""
    folder, file = TABLES[op]
    for collection in TRUSTED.get((folder, system), ()):
        path = root / system / folder / collection.framework / collection.version / file
        if not path.exists():
            raise InputError(f"{path} is missing; aiconfigurator-core {VERSION} is wanted.")
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        source = (
            f"aiconfigurator-core {VERSION}, {system}, {collection.framework} {collection.version}"
        )
        yield from _split(
            _sound(table, collection), Key(op, SYSTEMS[system], collection.framework, ""), source
        )


EXCLUDED = {
    ("gemm", "vllm", "fp8_block"): "run without CUDA graphs, so that host time is measured",
    ("attention_prefill", "trtllm", "bf16/fp8"): "labelled bf16 but computed in fp8 on Hopper",
    ("attention_prefill", "sglang", "bf16/fp8"): "run by another backend, for a few shapes only",
}
"""Formats of otherwise sound tables that are not read, and why."""


def _sound(table: pa.Table, collection: Collection) -> pa.Table:
    sound = table.filter(pc.field("latency") > 0.0)
    if collection.kernels:
        sound = sound.filter(pc.field("kernel_source") == collection.kernels)
    return sound


def _split(table: pa.Table, key: Key, source: str) -> Iterator[Measurements]:
    """One table for each format, in the columns of the kernel schema."""
    names = [
        n
        for n in ("gemm_dtype", "attn_dtype", "kv_cache_dtype", "allreduce_dtype")
        if n in table.column_names
    ]
    for formats in table.select(names).group_by(names).aggregate([]).to_pylist():
        wanted = [FORMATS.get(formats[name], "") for name in names]
        if not all(wanted):
            continue
        rows = table
        for name in names:
            rows = rows.filter(pc.field(name) == formats[name])
        part = key._replace(dtype=wanted[0], cache=wanted[-1] if len(wanted) > 1 else "")
        if (key.op, key.framework, "/".join(wanted)) in EXCLUDED:
            continue
        yield merged(
            Measurements(part, COLUMNS[key.op](rows), _numbers(rows, "latency") * 1e-3, source)
        )


def _numbers(table: pa.Table, name: str, missing: float = 0.0) -> np.ndarray:
    if name not in table.column_names:
        return np.full(len(table), missing)
    column = pc.fill_null(pc.cast(table[name], pa.float64()), missing)
    return np.nan_to_num(column.to_numpy(), nan=missing)


def _gemm(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: _numbers(table, name) for name in ("m", "n", "k")}


def _heads(table: pa.Table) -> dict[str, np.ndarray]:
    return {
        "batch": _numbers(table, "batch_size"),
        "heads": _numbers(table, "num_heads"),
        "kv_heads": _numbers(table, "num_key_value_heads"),
        "head_dim": _numbers(table, "head_dim"),
        "window": _numbers(table, "window_size"),
    }


def _decode(table: pa.Table) -> dict[str, np.ndarray]:
    return _heads(table) | {"ctx_len": _numbers(table, "step") + 1}


def _prefill(table: pa.Table) -> dict[str, np.ndarray]:
    queries = _numbers(table, "isl")
    causal = np.zeros(len(table))
    return _heads(table) | {
        "q_len": queries,
        "ctx_len": queries + _numbers(table, "step"),
        "causal": causal,
    }


def _all_reduce(table: pa.Table) -> dict[str, np.ndarray]:
    """Message sizes are in elements of bf16."""
    ranks = _numbers(table, "num_gpus")
    return {
        "n_gpus": ranks,
        "bytes": 2 * _numbers(table, "message_size"),
        "n_nodes": np.ones_like(ranks),
    }


COLUMNS = {
    "gemm": _gemm,
    "attention_decode": _decode,
    "attention_prefill": _prefill,
    "all_reduce": _all_reduce,
}
