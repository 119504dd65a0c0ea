"""Errors of a fit on shapes or models that it has not seen, where too few were measured to hold any out.

All rows train. Rows that agree in some columns, as all rows of one weight matrix, are left out together, and
each is predicted by a fit that has not seen them.
"""

from collections.abc import Sequence

import jax
import numpy as np

from perfmodel.calibration.data.measurements import Measurements
from perfmodel.calibration.fit import (
    Table,
    from_free,
    problem_of,
    solve,
    times_of,
    with_family,
)
from perfmodel.calibration.split import hashed
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.registry import KERNELS
from perfmodel.units import Values, as_values

MAX_PARTS = 10
"""Fits that leave some groups out, at most; with no more groups than that each is left out alone."""

SALT = "left out together"
"""Of the hash that deals groups out to parts."""


def check_columns(tables: Sequence[Measurements], columns: Sequence[str]) -> None:
    """Find out before any work whether all tables have some columns.

    **Raises:**

    - `InputError`: where one lacks a column.
    """
    for table in tables:
        for name in columns:
            if name not in table.columns:
                raise InputError(
                    f"--leave-out names {name!r}, which {table.key.op} does not have; "
                    f"it has {', '.join(table.columns)}. Name one operation with --ops."
                )


def parts_of(tables: Sequence[Measurements], columns: Sequence[str]) -> np.ndarray:
    """The part of each row of all `tables`: rows that agree in `columns` are in the same."""
    values = [np.concatenate([table.columns[name] for table in tables]) for name in columns]
    _, first, group = np.unique(
        np.stack(values, axis=1), axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(np.argsort(hashed(SALT, [column[first] for column in values])))
    return order[group.ravel()] % MAX_PARTS


def predict_left_out(
    chip: Chip, tables: Sequence[Table], parts: np.ndarray, weight: float = 1.0
) -> np.ndarray:
    """Time of each row by a fit to the rows of the other parts, in s.

    Where all rows are one part nothing is left to train on: then by the fit to them.

    **Arguments:**

    - `weight`: of the parameters that `chip` carries, over `RIDGE`.
    """
    family = KERNELS[tables[0].rows.key.op].family

    @jax.jit
    def fitted_to(used: Values) -> Values:
        problem = problem_of(chip, tables, weight, used)
        fitted = from_free(problem.kind, solve(problem)[0])
        return times_of(with_family(chip, family, fitted), tables)

    names = np.unique(parts)
    used = [parts != name if len(names) > 1 else parts == name for name in names]
    found = [np.asarray(fitted_to(as_values(1.0 * rows)), float) for rows in used]
    return np.select([parts == name for name in names], found)
