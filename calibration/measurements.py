"""Measured kernel times, in the columns of the kernel schema."""

from typing import NamedTuple

import numpy as np

from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.registry import OPERATIONS


class Measurements(NamedTuple):
    """Rows of one table.

    - `columns`: the sizes, one array each.
    - `time`: measured, in s.
    - `source`: where they come from, with the version.
    """

    key: Key
    columns: dict[str, np.ndarray]
    time: np.ndarray
    source: str

    @property
    def shape(self) -> list[np.ndarray]:
        """The sizes by which rows are split; an option that only repeats another column is not a number."""
        operation = OPERATIONS[self.key.op]
        columns = [self.columns[name] for name in operation.sizes]
        for name, instead in operation.options.items():
            column = self.columns[name]
            repeats = isinstance(instead, str) and column == self.columns[instead]
            columns.append(np.where(repeats, np.nan, column))
        return columns

    def take(self, rows: np.ndarray) -> "Measurements":
        """Some of the rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return self._replace(columns=columns, time=self.time[rows])


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


def merged(table: Measurements, reduce=np.median) -> Measurements:
    """One row for each shape: the median of its repeats, or whatever `reduce` says."""
    values = np.stack(list(table.columns.values()), axis=1)
    shapes, inverse = np.unique(values, axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    groups = np.split(table.time[order], np.cumsum(np.bincount(inverse.ravel()))[:-1])
    columns = {name: shapes[:, i] for i, name in enumerate(table.columns)}
    return table._replace(columns=columns, time=np.array([reduce(group) for group in groups]))


REFUSED = ("moe",)
"""Operations of which frameworks refuse some shapes, as TensorRT-LLM experts in mxfp4 cut over eight chips:
the shapes that all of them ran would leave out those of the faster ones."""

FEWEST_RIVALS = 2
"""Frameworks that ran a shape before its fastest time says anything, where some refuse it."""


def fastest(tables: list[Measurements]) -> Measurements:
    """Of several frameworks' tables of one chip, the fastest time for each shape that all of them ran; of
    `REFUSED` operations for each that two of them ran."""
    key = tables[0].key._replace(framework="")
    columns = {
        name: np.concatenate([t.columns[name] for t in tables]) for name in tables[0].columns
    }
    time = np.concatenate([t.time for t in tables])
    source = "the fastest of " + "; ".join(table.source for table in tables)
    together = Measurements(key, columns, time, source)
    rivals = min(len(tables), FEWEST_RIVALS) if key.op in REFUSED else len(tables)
    return merged(together, np.min).take(merged(together, len).time >= rivals)
