"""nccl-tests and rccl-tests: the table that `all_reduce_perf` and the others print.

As src/common.cu of github.com/NVIDIA/nccl-tests prints it: after the sizes, time in us, and bandwidth of the
algorithm and of the bus, out of place and in place. Times out of place are taken. Bus over algorithm
bandwidth is 2 (n - 1) / n of an all-reduce over n ranks and (n - 1) / n of the others (doc/PERFORMANCE.md).
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from perfmodel.calibration.ingest.content import Content, Options, Row, cell

NEEDED = ("op", "chip", "dtype", "n_gpus", "n_nodes", "bytes", "latency_us")

NCCL = "nccl"
"""The framework of the rows; RCCL's have none."""

OPERATIONS = {
    **{"all_reduce": "all_reduce", "all_gather": "all_gather", "reduce_scatter": "reduce_scatter"},
    "alltoall": "all_to_all",
}
"""Tests by the operation of the kernel schema; others are not in it."""

FORMATS = {
    **{"float": "fp32", "half": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"},
    **{"f8e4m3": "fp8", "f8e5m2": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8"},
}

HEADER = re.compile(r"^\s*#?\s*size\s+count\s+type\b.*\btime\s+algbw\s+busbw", re.M)
TEST = re.compile(r"(?:Collective test starting: |\b)(\w+)_perf\b")
RANK = re.compile(r"#\s+Rank\s+\d+.*?\bon\s+(\S+)\s+device\s+\d+\s+\[\S+\][ \t]*(.*)")
LOCAL = re.compile(r"nThread\s+(\d+)\s+nGpus\s+(\d+)")


class Setting(NamedTuple):
    """What the lines before the table say: library, test, chips, ranks and hosts; empty where they do not."""

    library: str
    op: str
    chip: str
    n_gpus: str
    n_nodes: str


def is_table(content: Content) -> bool:
    """Whether it is one."""
    return HEADER.search(content.text) is not None


def rows(content: Content, options: Options) -> Iterator[Row | str]:
    """A row for each size, or why there is none."""
    setting, names = _setting(content.text), []
    for place, line in enumerate(content.text.splitlines(), 1):
        if HEADER.match(line):
            names = line.replace("#wrong", "wrong").replace("#", " ").split()
        elif names and re.match(r"\s*\d+\s+\d+\s+\w+", line):
            found = _row(names, line.split(), setting, options)
            yield f"line {place} {found}" if isinstance(found, str) else found


def _setting(text: str) -> Setting:
    found = TEST.search(text)
    ranks = RANK.findall(text)
    hosts, chips = {host for host, _ in ranks}, {chip.strip() for _, chip in ranks}
    test, library = found[1] if found else "", "rccl" if "rccl" in text.lower() else NCCL
    if not ranks:
        return Setting(library, test, "", "", "")
    chip = chips.pop() if len(chips) == 1 else ""
    return Setting(library, test, chip, str(len(ranks)), str(len(hosts)))


def _row(
    names: Sequence[str], cells: Sequence[str], setting: Setting, options: Options
) -> Row | str:
    if len(cells) < names.index("busbw") + 1:
        return "is not whole"
    size, kind = cells[0], cells[names.index("type")]
    redop = cells[names.index("redop")] if "redop" in names else ""
    time, algorithm, bus = (_float(cells[names.index(n)]) for n in ("time", "algbw", "busbw"))
    if not time > 0:
        return "has no time"
    if setting.op and setting.op not in OPERATIONS:
        return f"is of {setting.op}, which is no operation of the kernel schema"
    ratio = bus / algorithm if algorithm >= MIN_BANDWIDTH else math.nan
    op = options.get("op") or OPERATIONS.get(setting.op, "") or _operation(redop, ratio)
    row = dict.fromkeys(NEEDED, "") | {
        "op": op,
        "chip": setting.chip,
        "dtype": FORMATS.get(kind, ""),
    }
    row |= {"framework": NCCL} if setting.library == NCCL else {}
    row |= {"n_gpus": setting.n_gpus or _ranks(op, ratio), "n_nodes": setting.n_nodes}
    return row | {"bytes": size, "latency_us": cell(time)}


MIN_BANDWIDTH = 5.0
"""GB/s from which the ratio of two bandwidths, of two decimals, says ranks."""


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _operation(redop: str, ratio: float) -> str:
    """The operation that a bandwidth's ratio tells: only an all-reduce has 1 or more; of the others that
    reduce, it is a reduce-scatter below 1."""
    if redop in ("", "none") or math.isnan(ratio):
        return ""
    return "all_reduce" if ratio > 0.995 else "reduce_scatter"


MAX_RANKS = 16
"""Up to which ranks are told by a ratio: beyond it they differ by less than a hundredth."""


def _ranks(op: str, ratio: float) -> str:
    """The ranks that the ratio of two bandwidths tells; empty where it does not."""
    share = ratio / 2 if op == "all_reduce" else ratio
    if not op or math.isnan(share) or not 0.45 < share < 1:
        return ""
    ranks = round(1 / (1 - share))
    return str(ranks) if 2 <= ranks <= MAX_RANKS else ""


def finish(content: Content, found: Sequence[Row]) -> list[Row]:
    """Rows with what others of the same table tell: operation and ranks, and the one host of one process."""
    told = {name: _only(found, name) for name in ("op", "n_gpus")}
    local = LOCAL.search(content.text)
    own = int(local[1]) * int(local[2]) if local else 0
    nodes = "1" if own and told["n_gpus"] == str(own) else ""
    filled = told | {"n_nodes": nodes}
    return [row | {n: row[n] or text for n, text in filled.items()} for row in found]


def _only(found: Sequence[Row], name: str) -> str:
    values = {row[name] for row in found if row[name]}
    return values.pop() if len(values) == 1 else ""
