"""Measured kernel times, in the columns of the kernel schema, and the plan they were run under."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from perfmodel.hardware.chip import Chip
from perfmodel.kernels.backends import backends_of
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.units import Values, as_values
from perfmodel.workload.plan import Plan


def plan_of(key: Key, architecture: str) -> Plan:
    """The plan that a benchmark of a key's rows runs under: one chip, replayed."""
    return Plan(
        weights=key.dtype,
        cache=key.cache or "bf16",
        framework=key.framework or None,
        release=key.release,
        replay=True,
        **backends_of(key.framework, architecture, key.cache),
    )


def benchmark_chip(key: Key, prior: Path, chip_file: Path | None = None) -> tuple[Chip, Plan]:
    """The chip of a key's rows before any fit to them, and the plan that they run under.

    **Raises:**

    - `InputError`: when the chip has no matrix unit for their format.
    """
    known = chip_files()
    plan = plan_of(key, known[key.chip].architecture if key.chip in known else "")
    chip = load_chip(key.chip if key.chip in known else chip_file or key.chip, plan, prior)
    for kind in KERNELS[key.op].rates(plan):
        chip.rates(kind)
    return chip, plan


class Measurements(NamedTuple):
    """Rows of one table.

    - `columns`: the sizes, one array each.
    - `time`: measured, in s.
    - `source`: where they come from, with the version.
    - `version`: of the framework, where it is known.
    """

    key: Key
    columns: dict[str, np.ndarray]
    time: np.ndarray
    source: str
    version: str = ""

    @property
    def values(self) -> dict[str, Values]:
        """The columns as JAX has numbers."""
        return {name: as_values(column) for name, column in self.columns.items()}

    @property
    def shape(self) -> list[np.ndarray]:
        """The sizes by which rows are split; an option that only repeats another column is not a number."""
        operation = KERNELS[self.key.op]
        columns = [self.columns[name] for name in operation.sizes()]
        for name, instead in operation.options().items():
            column = self.columns[name]
            repeats = isinstance(instead, str) and column == self.columns[instead]
            columns.append(np.where(repeats, np.nan, column))
        return columns

    def take(self, rows: np.ndarray) -> "Measurements":
        """Some of the rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return self._replace(columns=columns, time=self.time[rows])

    def as_table(self, words: dict[str, str], predicted: np.ndarray) -> pa.Table:
        """The rows with `words` that hold for all of them, and what is predicted."""
        given = self.key._asdict() | words
        texts = {name: pa.repeat(pa.scalar(word), len(self.time)) for name, word in given.items()}
        times = {"latency_us": self.time * 1e6, "predicted_us": predicted * 1e6}
        return pa.table(texts | self.columns | times)


class LeftOut(NamedTuple):
    """Rows that are not fitted.

    - `key`: whose they are; empty where it does not matter.
    - `rows`: how many.
    - `rule`: why, the same words for the same reason.
    - `place`: of a single row in its file, from 1; 0 for several.
    - `found`: what is wrong with a single row, in numbers.
    """

    key: Key
    rows: int
    rule: str
    place: int = 0
    found: str = ""


def joined(tables: Sequence[Measurements]) -> Measurements:
    """The rows of all tables as one, which is called as the first."""
    names = tables[0].columns
    columns = {name: np.concatenate([one.columns[name] for one in tables]) for name in names}
    return tables[0]._replace(columns=columns, time=np.concatenate([one.time for one in tables]))


def merged(table: Measurements, reduce=np.median) -> Measurements:
    """One row for each shape: the median of its repeats, or whatever `reduce` says."""
    values = np.stack(list(table.columns.values()), axis=1)
    shapes, inverse = np.unique(values, axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    groups = np.split(table.time[order], np.cumsum(np.bincount(inverse.ravel()))[:-1])
    columns = {name: shapes[:, i] for i, name in enumerate(table.columns)}
    return table._replace(columns=columns, time=np.array([reduce(group) for group in groups]))


PARTLY_SUPPORTED = ("moe",)
"""Operations of which frameworks refuse some shapes, as TensorRT-LLM experts in mxfp4 cut over eight chips:
the shapes that all of them ran would leave out those of the faster ones."""

MIN_FRAMEWORKS = 2
"""Frameworks that ran a shape before its fastest time says anything, where some refuse it."""


def fastest(tables: list[Measurements]) -> Measurements:
    """Of several frameworks' tables of one chip, the fastest time for each shape that all of them ran; of
    `PARTLY_SUPPORTED` operations for each that two of them ran."""
    key = tables[0].key._replace(framework="")
    source = "the fastest of " + "; ".join(table.source for table in tables)
    every = joined(tables)._replace(key=key, source=source)
    fewest = min(len(tables), MIN_FRAMEWORKS) if key.op in PARTLY_SUPPORTED else len(tables)
    every = every._replace(version="")
    return merged(every, np.min).take(merged(every, len).time >= fewest)
