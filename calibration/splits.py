"""The protocol's splits: which tables are asked what, and which of their rows train, judge and are reported.

Splits:

- `shape`: fitted on training rows, reported on held-out rows.
- `size`: bf16 matrix products; fitted on n and k up to 4,096, reported above.
- `model`: mixtures; a third of the models is left out of the fit, and reported.
- `chip`: a chip without rows, from the chip that speaks for its architecture.
- `architecture`: the same, where no chip speaks for it: a measured chip is left out.
- `fewshot`: the same starts, then a fit to 32 rows of each table.
- `framework`: what frameworks disagree by on one chip, once the median ratio is taken out.

Intervals come from development rows, or from where a chip starts.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfmodel.calibration.aiconfigurator import SOURCES, SYSTEMS, Folder
from perfmodel.calibration.aiconfigurator import tables as read_tables
from perfmodel.calibration.calibrate import MOST_REPORTED, section_of, sections
from perfmodel.calibration.measurements import Measurements
from perfmodel.calibration.protocol import hashed, part_of, pick
from perfmodel.kernels.kernel_table import Key, word_of
from perfmodel.kernels.registry import OPERATIONS
from perfmodel.library.fitted import FITTED

MEASURED = ("a100-sxm-80gb", "h100-sxm", "l40s", "b200-sxm", "arc-pro-b60")
"""Chips whose rows the forms and the shared parameters were made from."""

CLOSED = ("h200-sxm", "b300-sxm", "gb300", "rtx-pro-6000")
"""Chips whose rows take no part in any fit but that of 32 rows."""

SMALL = 4096
"""Largest n and k that train in the split by size."""

LEFT_OUT = 1 / 3
"""Share of the models that the split by model leaves out."""

MODEL = ("hidden", "inter", "topk", "experts")

FEW = 32
"""Rows of each table from which a chip that was never measured is fitted."""


class Protocol(NamedTuple):
    """How much is run.

    - `quick`: bf16 of one framework on five chips, by shape and for one unseen chip.
    - `rows`: that train, of each table, at most; `reported`: that are predicted, at most.
    - `folder`: of the prior, and of the parameters that unseen chips start from.
    """

    quick: bool = True
    rows: int = 2000
    reported: int = 2000
    seed: int = 0
    folder: Path = FITTED

    @property
    def chips(self) -> tuple[str, ...]:
        """Chips that take part."""
        return QUICK_CHIPS if self.quick else tuple(SYSTEMS.values())

    @property
    def ops(self) -> tuple[str, ...]:
        """Operations that take part."""
        return QUICK_OPS if self.quick else tuple(SOURCES)


QUICK_CHIPS = ("h100-sxm", "a100-sxm-80gb", "b200-sxm", "l40s", "h200-sxm")
QUICK_OPS = ("gemm", "attention_decode", "attention_prefill")


def protocol(name: str, folder: Path, seed: int = 0) -> Protocol:
    """The quick protocol or the full one.

    **Raises:**

    - `InputError`: for another name.
    """
    quick = word_of(name, ("quick", "full"), "protocol") == "quick"
    return Protocol(quick, reported=2000 if quick else MOST_REPORTED, seed=seed, folder=folder)


class Unit(NamedTuple):
    """What is read at once: a chip and the operations of one family."""

    chip: str
    ops: tuple[str, ...]

    @property
    def name(self) -> str:
        """By which a run that is taken up again knows it."""
        return f"{self.chip}/{OPERATIONS[self.ops[0]].family}"


def units(chips: Iterable[str], ops: Iterable[str]) -> list[Unit]:
    """What is to be read, chip by chip."""
    families: dict[str, list[str]] = {}
    for op in ops:
        families.setdefault(OPERATIONS[op].family, []).append(op)
    return [Unit(chip, tuple(group)) for chip in chips for group in families.values()]


def read(root: Folder, unit: Unit, how: Protocol) -> list[Measurements]:
    """The tables of a unit; of the quick protocol those in bf16."""
    (system,) = (name for name, chip in SYSTEMS.items() if chip == unit.chip)
    wanted = _plain if how.quick else _any
    return [table for op in unit.ops for table in read_tables(root, op, system, wanted=wanted)]


def _plain(key: Key) -> bool:
    return {key.dtype, key.cache} <= {"bf16", ""}


def _any(key: Key) -> bool:
    return True


class Job(NamedTuple):
    """One split of the tables of one section of parameters; and the tables of other frameworks."""

    split: str
    group: list[Measurements]
    others: list[Measurements]

    @property
    def name(self) -> str:
        """By which a run that is taken up again knows it."""
        return "/".join((self.group[0].key.chip, *section_of(self.group[0].key), self.split))


def jobs(tables: Sequence[Measurements], how: Protocol) -> Iterator[Job]:
    """Everything that is asked of the tables of one chip and family."""
    for group in sections(tables)[: 1 if how.quick else None]:
        for split in _splits(group[0].key, how.quick):
            yield Job(split, group, list(tables))
    if len({table.key.framework for table in tables}) > 1:
        yield Job("framework", list(tables), list(tables))


def _splits(key: Key, quick: bool) -> Iterator[str]:
    measured, closed = key.chip in MEASURED, key.chip in CLOSED
    if not closed:
        yield "shape"
    if not measured:
        yield "chip"
    if quick:
        return
    if measured and key.op == "gemm" and key.dtype == "bf16":
        yield "size"
    if measured and key.op == "moe":
        yield "model"
    if measured:
        yield "architecture"
    yield "fewshot"


class Rows(NamedTuple):
    """Places of a table's rows: those that train, that give the interval, and that are reported."""

    train: np.ndarray
    judge: np.ndarray
    test: np.ndarray


def rows_of(split: str, table: Measurements, how: Protocol, test: str = "heldout") -> Rows:
    """Which rows of a table play which part in a split.

    **Arguments:**

    - `test`: the part that is reported; while choosing how to start, `development`.
    """
    op, shape, parts = table.key.op, table.shape, part_of(table.key.op, table.shape)
    inside, outside = _sides(split, table)
    most = {"chip": 0, "architecture": 0, "fewshot": FEW}.get(split, how.rows)

    def some(part: str, side: np.ndarray, most: int) -> np.ndarray:
        return pick(op, shape, (parts == part) & side, most, how.seed)

    train = some("train", inside, most)
    judge = some("development", inside, how.reported) if most > FEW else train
    return Rows(train, judge, some(test, outside, how.reported))


def _sides(split: str, table: Measurements) -> tuple[np.ndarray, np.ndarray]:
    """Rows that a fit may see, and rows that may be reported."""
    if split == "size":
        small = np.maximum(table.columns["n"], table.columns["k"]) <= SMALL
        return small, ~small
    if split == "model":
        left_out = hashed("model", [table.columns[name] for name in MODEL]) < LEFT_OUT
        return ~left_out, left_out
    every = np.ones(len(table.time), bool)
    return every, every
