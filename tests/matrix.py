"""Every kind of row that `predict kernels` claims to answer, a cell for each.

A cell is an operation, a format of the weights, one of the cache where there is one, a framework, and a kind
of machine: chips of one architecture with the same matrix units, which share a compiled function. Its rows
are of one of these chips, which take turns, with every word that the operation chooses by. Where no
framework has rules of its own, one of them stands for all.
"""

import functools
import itertools
import random
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from perfmodel.kernels.registry import KERNELS
from perfmodel.library import framework
from perfmodel.library.chip import chip_files
from perfmodel.library.fitted import ATTENTION_FAMILIES
from perfmodel.workload.precision import FORMATS

OPS = tuple(KERNELS)

ATTENDING = tuple(op for op in OPS if KERNELS[op].family in ATTENTION_FAMILIES)
"""Operations whose rows have a cache."""

CACHES = ("", "bf16", "fp8")
"""Formats of the cache beside those of the weights that are served; empty means the same."""

SERVED = ("fp8", "fp8_block", "int8", "nvfp4", "mxfp4", "int4")
"""Formats of weights with these caches; others have the same, and bf16 has all."""

# No multiples of tiles. Where a column has several values, there is a row for each combination.
SIZES: dict[str, tuple[str, ...]] = {
    "m": ("9", "3001"), "n": ("5011",), "k": ("4099",),
    "batch": ("3",), "q_len": ("301",), "ctx_len": ("1701",),
    "heads": ("28",), "kv_heads": ("7",), "head_dim": ("112",), "window": ("0", "700"),
    "tokens": ("37",), "hidden": ("2100",), "inter": ("1500",), "experts": ("50",),
    "tp": ("1",), "ep": ("3",), "n_gpus": ("6",), "n_nodes": ("1", "3"), "bytes": ("3e6",),
}  # fmt: skip

TOPK = {"moe": "3", "sparse_attention": "0"}


class Cell(NamedTuple):
    """What distinguishes one kind of row from another; `chips` share its form."""

    op: str
    dtype: str
    cache: str
    framework: str
    chips: tuple[str, ...]

    @property
    def chip(self) -> str:
        """The one whose turn it is."""
        words = "/".join((self.op, self.dtype, self.cache, self.framework))
        return self.chips[zlib.crc32(words.encode()) % len(self.chips)]


def machines() -> list[tuple[str, ...]]:
    """Chips of the library by architecture, way of execution and matrix units."""
    alike: dict[tuple, list[str]] = {}
    for stem, file in chip_files().items():
        alike.setdefault((file.architecture, file.execution, *sorted(file.matrix)), []).append(stem)
    return [tuple(chips) for chips in alike.values()]


def formats(op: str) -> list[tuple[str, str]]:
    """Formats of the weights and of the cache."""
    if KERNELS[op].family not in ATTENTION_FAMILIES:
        return [(dtype, "") for dtype in FORMATS]
    served = itertools.product(SERVED, CACHES)
    pairs = [*itertools.product(FORMATS, ("",)), *served, *itertools.product(("bf16",), FORMATS)]
    return list(dict.fromkeys(pairs))


def frameworks(chips: tuple[str, ...], turn: int) -> tuple[str, ...]:
    """None, and all; or one of them, whose turn it is, where none has rules for these chips."""
    architecture = chip_files()[chips[0]].architecture
    everyone = framework.frameworks()
    rules = any(architecture in framework.find_version(name).attention for name in everyone)
    return ("", *everyone) if rules else ("", everyone[turn % len(everyone)])


@functools.cache
def cells(op: str) -> list[Cell]:
    """All cells of an operation."""
    return [
        Cell(op, *pair, framework, chips)
        for turn, pair in enumerate(formats(op))
        for chips in machines()
        for framework in frameworks(chips, turn)
    ]


SHARES = 10
"""Parts of the matrix, one for each day, so that ten days in turn see all of it."""


def form(cell: Cell) -> tuple[str, str, str]:
    """What the compiled function of a cell depends on beside its machine, as far as its words tell."""
    reads = KERNELS[cell.op].reads
    weights = cell.dtype if "weights" in reads else FORMATS[cell.dtype].matrix
    cache = (cell.cache or cell.dtype) if "cache" in reads else ""
    return weights, cache, cell.framework


def share(op: str, number: int) -> list[Cell]:
    """The day's part of an operation's cells: of every tenth form, all."""
    turn, part = divmod(number, SHARES)
    every = cells(op)
    forms = list(dict.fromkeys(map(form, every)))
    random.Random(turn).shuffle(forms)
    chosen = set(forms[(part + OPS.index(op)) % SHARES :: SHARES])
    return [cell for cell in every if form(cell) in chosen]


def rows(cell: Cell) -> Iterator[dict[str, str]]:
    """The rows of a cell: one for each combination of words and of what sizes are tried."""
    operation = KERNELS[cell.op]
    columns = (*operation.sizes(), *operation.options())
    tried = {name: SIZES[name] for name in columns if name in SIZES}
    tried |= operation.words()
    key = {"op": cell.op, "chip": cell.chip, "framework": cell.framework, "dtype": cell.dtype}
    key |= {"kv_dtype": cell.cache, "topk": TOPK.get(cell.op, "")}
    for values in itertools.product(*tried.values()):
        row = key | dict(zip(tried, values, strict=True))
        if row.get("phase") == "decode":
            row["q_len"] = "1"
        yield row
