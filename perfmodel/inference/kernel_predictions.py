"""Rows of the kernel schema predicted: a time, an interval and what binds, for each row of a table."""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import pyarrow as pa

from perfmodel.batching import Numbers, gather, map_rows, one_by_one_on_error, stack, structure
from perfmodel.breakdown import BOUNDS
from perfmodel.errors import InputError
from perfmodel.files import cells_of
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.backends import backends_of
from perfmodel.kernels.kernel_table import KEY_COLUMNS, Group, groups_of
from perfmodel.kernels.registry import KERNELS, cost, load_plugins
from perfmodel.library.chip import build, chip_file, origin
from perfmodel.library.fitted_intervals import basis_of_plan, load_interval
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import runnable, taken


class KernelGroup(NamedTuple):
    """Where the rows of a group run, the factors of their interval, and where their parameters come from.

    - `chip`, `plan`: as far as the operation's kernels read them.
    """

    rows: Group
    chip: Chip
    plan: Plan
    low: float
    high: float
    basis: str


class Predicted(NamedTuple):
    """One number for each row of a table; `nan` where there is none, and why in `error`.

    - `basis`: where the parameters come from: fitted, sibling or prior.
    """

    time: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bound: np.ndarray
    error: np.ndarray
    basis: np.ndarray


def operations() -> list[str]:
    """Names of all operations of the kernel schema, those of plugins included."""
    load_plugins()
    return list(KERNELS)


def read_columns() -> set[str]:
    """All columns that some operation reads."""
    load_plugins()
    sizes = {
        n
        for kernel in KERNELS.values()
        for n in (*kernel.sizes(), *kernel.options(), *kernel.words())
    }
    return {*KEY_COLUMNS, *sizes}


def predict_table(
    table: pa.Table,
    calibration: Path,
    replay: bool,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> Predicted:
    """Predict every row of a table."""
    cells = cells_of(table)
    groups, error = groups_of(cells, len(table), own_files(cells))
    time, low, high = (np.full(len(table), np.nan) for _ in range(3))
    bound, basis = (np.full(len(table), "", dtype=object) for _ in range(2))
    result = Predicted(time, low, high, bound, error, basis)
    forms = _groups_by_form(groups, calibration, replay, error)
    for done, resolved in enumerate(forms):
        progress(done, len(forms))
        errors = one_by_one_on_error(functools.partial(_price, result=result), resolved, str)
        for group, wrong in zip(resolved, errors, strict=True):
            error[group.rows.places] = wrong
    progress(len(forms), len(forms))
    lost = (error == "") & ~np.isfinite(time)
    error[lost], result.bound[lost], result.basis[lost] = OVERFLOW, "", ""
    return result


OVERFLOW = "the sizes are so large or so small that no time can be computed; correct them."
"""What a row says whose time is not a number."""


def own_files(cells: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Chips that rows name by the path of a chip file."""
    return {name: name.strip() for name in cells.get("chip", ()) if name.strip().endswith(".toml")}


def _groups_by_form(
    groups: list[Group], calibration: Path, replay: bool, error: np.ndarray
) -> list[list[KernelGroup]]:
    """Groups with their chips, those that share a compiled function together."""
    by_form: dict[Hashable, list[KernelGroup]] = {}
    for group in groups:
        try:
            resolved = resolve_group(group, calibration, replay)
        except InputError as wrong:
            error[group.places] = str(wrong)
            continue
        form = (group.key.op, structure((resolved.chip, resolved.plan)))
        by_form.setdefault(form, []).append(resolved)
    return list(by_form.values())


def resolve_group(group: Group, calibration: Path, replay: bool) -> KernelGroup:
    """Where the rows of a group run.

    **Raises:**

    - `InputError`: when the chip lacks a fact, or cannot run the format.
    """
    key, (stem, file) = group.key, chip_file(group.key.chip)
    if key.dtype in file.without:
        raise InputError(
            f"{key.chip} has no {key.dtype} units; give dtype {taken(key.dtype, file.without)} instead."
        )
    plan = Plan(
        weights=runnable(key.dtype, file.matrix, key.chip),
        cache=taken(key.cache or "bf16", file.without),
        framework=key.framework or None,
        release=key.release,
        replay=replay,
        **backends_of(key.framework, file.architecture, key.cache),
    )
    operation, of = KERNELS[key.op], origin(stem, file)
    chip, read = operation.narrowed(build(stem, file, plan, calibration), plan)
    ends = load_interval(of, operation.family, plan, calibration)
    return KernelGroup(
        group, chip, read, *ends, basis_of_plan(of, operation.family, plan, calibration)
    )


@eqx.filter_jit
def _priced(op: str, plan: Plan, block: tuple[Chip, Numbers]):
    """Time of each row of a block, and its parts by what binds."""

    def of_row(chip: Chip, row: Numbers):
        breakdown = cost(chip, KERNELS[op](**row).count(chip, plan))
        return breakdown.time, breakdown.by_bound()

    return jax.vmap(of_row)(*block)


def _price(groups: Sequence[KernelGroup], result: Predicted) -> list[str]:
    """Price the rows of sites that share a compiled function; an empty sentence for each site."""
    key, plan = groups[0].rows.key, groups[0].plan
    which = np.repeat(np.arange(len(groups)), [len(group.rows.places) for group in groups])
    number = as_scalar(0.0).dtype
    rows = {
        name: np.concatenate([group.rows.columns[name] for group in groups]).astype(number)
        for name in groups[0].rows.columns
    }
    chips = gather(stack([group.chip for group in groups]), which)
    time, parts = map_rows(functools.partial(_priced, key.op, plan), (chips, rows))
    places = np.concatenate([group.rows.places for group in groups])
    result.time[places] = time
    result.low[places] = time * np.array([group.low for group in groups])[which]
    result.high[places] = time * np.array([group.high for group in groups])[which]
    result.basis[places] = np.array([group.basis for group in groups])[which]
    result.bound[places] = np.array(BOUNDS)[np.argmax(parts, axis=1)]
    return [""] * len(groups)
