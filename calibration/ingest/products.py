"""CSVs of matrix products: M, N, K with a time or a rate, as scripts with cuBLAS and Triton write them.

Triton's `perf_report` has a column for each provider, whose unit is in the name or nowhere
(python/triton/testing.py of github.com/triton-lang/triton); vLLM's benchmarks of products name the format
in the provider (`torch-bf16`; benchmarks/kernels/bench_fp8_gemm.py).
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from perfmodel.calibration.ingest.content import Content, Options, Row, cell, number

NEEDED = ("op", "chip", "dtype", "m", "n", "k")

SIZES = {"m": ("m", "batch_size", "num_tokens", "tokens"), "n": ("n",), "k": ("k",)}

CHIPS = ("gpu", "chip", "device", "gpu_name", "device_name")

DTYPES = ("dtype", "precision", "data_type", "type")

MICROSECONDS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6, "sec": 1e6}

FLOPS = {"tflops": 1e12, "tflop/s": 1e12, "gflops": 1e9, "gflop/s": 1e9}

UNITS = (*MICROSECONDS, *FLOPS)

MEASURE = re.compile(rf"(?:(.*?)[ _(\[-]+)?({'|'.join(map(re.escape, UNITS))})[)\]]?")
"""Of a column's name: what was measured, or who provided it, and its unit."""

PLAIN = (
    "",
    *("time", "latency", "duration", "elapsed", "runtime", "mean", "median", "avg", "kernel_time"),
)
"""What stands before a unit where the column is of no provider."""

FORMATS = {
    **{"tf32": "", "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16"},
    **{"half": "fp16", "f16": "fp16", "fp32": "fp32", "float32": "fp32", "f32": "fp32"},
    **{"fp8": "fp8", "float8": "fp8", "e4m3": "fp8", "int8": "int8", "int4": "int4"},
    **{"nvfp4": "nvfp4", "mxfp4": "mxfp4"},
}
"""Formats by a part of their name in scripts: torch.bfloat16, float8_e4m3fn, fp8-tensor; tf32 is none."""


class Measure(NamedTuple):
    """A column of times or rates: its name, its unit, and who provided it; empty where that is not said."""

    column: str
    unit: str
    provider: str


def is_table(content: Content) -> bool:
    """Whether it is a table of products that is no table of the kernel schema."""
    header = content.header
    if "op" in header or not _column(header, SIZES["m"]):
        return False
    named = (one for one in _measures(content) if one.provider)
    return {"n", "k"} <= set(header) or any(_format(one.provider) for one in named)


def rows(content: Content, options: Options) -> Iterator[Row | str]:
    """A row for each time, or why there is none."""
    measures = _measures(content)
    wanted = options.get("provider", "")
    for place, line in enumerate(content.table(), 2):
        for one in measures:
            if wanted and one.provider and one.provider != wanted.lower():
                continue
            found = _row(line, one, options)
            yield f"line {place} {found}" if isinstance(found, str) else found


def _column(header: Sequence[str], names: Sequence[str]) -> str:
    return next((name for name in names if name in header), "")


def _measures(content: Content) -> list[Measure]:
    """Times before rates, where both are of the whole row; else a column for each provider."""
    header = content.header
    known = {
        "batch",
        "batch_count",
        *CHIPS,
        *DTYPES,
        *(name for names in SIZES.values() for name in names),
    }
    matches = {name: MEASURE.fullmatch(name) for name in header if name not in known}
    found = [Measure(n, m[2], (m[1] or "").strip(" _-([")) for n, m in matches.items() if m]
    plain = sorted(
        (one for one in found if one.provider in PLAIN), key=lambda one: one.unit in FLOPS
    )
    if plain:
        return [plain[0]._replace(provider="")]
    return found or [Measure(n, "", n) for n in matches if _is_provider(n, content)]


def _is_provider(name: str, content: Content) -> bool:
    """Whether a column without a unit holds numbers, and is not just the row's."""
    values = [line.get(name, "") for line in content.table()]
    return bool(values and name) and all(not math.isnan(number({"at": v}, "at")) for v in values)


def _row(line: Mapping[str, str], one: Measure, options: Options) -> Row | str:
    sizes = {
        name: cell(number(line, *columns)) or options.get(name, "")
        for name, columns in SIZES.items()
    }
    if number(line, "batch", "batch_count") > 1:
        return "is of a batch of products, which is no operation of the kernel schema"
    value, unit = number(line, one.column), one.unit or options.get("unit", "").lower().strip()
    if not value > 0:
        return f"has no {one.column} above zero"
    row = dict.fromkeys(NEEDED, "") | {"op": "gemm", "chip": _text(line, CHIPS)} | sizes
    row |= {"dtype": _format(_text(line, DTYPES)) or _format(one.provider)}
    row |= {"label": one.provider} if one.provider else {}
    if not unit:
        return row | {"unit": ""}
    return row | {"latency_us": cell(_microseconds(value, unit, sizes))}


def _microseconds(value: float, unit: str, sizes: Mapping[str, str]) -> float:
    """A time in us, or that of a rate; `nan` where the sizes are not known."""
    if unit in MICROSECONDS:
        return value * MICROSECONDS[unit]
    operations = 2.0 * math.prod(number(sizes, name) for name in SIZES)
    return 1e6 * operations / (value * FLOPS[unit])


def _text(line: Mapping[str, str], names: Sequence[str]) -> str:
    return line.get(_column(list(line), names), "")


def _format(text: str) -> str:
    """The format that a word names; empty where it names none."""
    plain = text.lower()
    return next((dtype for part, dtype in FORMATS.items() if part in plain), "")
