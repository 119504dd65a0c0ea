"""What boards draw while they serve, from `power.toml` of a folder of fitted parameters.

It has a table for each way of execution, whose parameters hold for every chip of it, and one of the chips
whose boards were measured. Others draw what the boards of all chips say, within the spreads that stand there.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from pydantic import Field, ValidationError

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Execution
from perfmodel.hardware.parameters import BoardPower, parameters
from perfmodel.library.files import ROOT, first_fault, read_toml
from perfmodel.library.schema import ConstantFile, Strict

POWER = "power"
"""The file of what boards draw."""

SHIPPED = ROOT.parent / "calibration" / "fitted" / f"{POWER}.toml"
"""That of the program, which holds where a folder has none."""


class MeasuredBoard(Strict):
    """A chip whose boards were measured: `factor` on `active_idle` of its way of execution, the `spread` of
    its logarithm, and of how many `runs`.
    """

    factor: float = Field(gt=0, allow_inf_nan=False)
    spread: float = Field(ge=0, allow_inf_nan=False)
    runs: int = Field(ge=1)


class PowerFile(Strict):
    """The parameters of each way of execution by name, and the boards that were measured, by chip."""

    note: str = ""
    launched: dict[str, ConstantFile]
    scheduled: dict[str, ConstantFile]
    dataflow: dict[str, ConstantFile]
    chips: dict[str, MeasuredBoard] = {}


class KnownPower(NamedTuple):
    """What `power.toml` says of a way of execution: parameters, and the spreads of their logarithms."""

    values: BoardPower
    spreads: BoardPower


@functools.cache
def read_power(folder: Path) -> PowerFile:
    """The file of a folder, or as shipped where the folder has none.

    **Raises:**

    - `InputError`: when it is wrong.
    """
    own = folder / f"{POWER}.toml"
    path = own if own.exists() else SHIPPED
    try:
        return check_power(read_toml(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def check_power(content: dict[str, Any]) -> PowerFile:
    """What a file says of boards.

    **Raises:**

    - `InputError`: when it says too much, too little, or what cannot be.
    """
    try:
        file = PowerFile.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{first_fault(error)}.") from None
    for execution in get_args(Execution):
        _check_table(execution, getattr(file, execution))
    return file


def _check_table(execution: str, table: dict[str, ConstantFile]) -> None:
    fields = {field.name: field.metadata for field in parameters(BoardPower)}
    wrong = sorted(set(fields) ^ set(table))
    if wrong:
        word = "lacks" if wrong[0] in fields else "has an unknown parameter,"
        raise InputError(f"{execution} {word} {wrong[0]}; it holds {', '.join(fields)}.")
    for name, one in table.items():
        low, high = fields[name]["low"], fields[name]["high"]
        if not low <= one.value <= high:
            raise InputError(
                f"{execution}.{name}.value is {one.value:g}; allowed are numbers from "
                f"{low:g} to {high:g}."
            )


def board_constants(folder: Path, execution: str) -> KnownPower:
    """What every board of a way of execution draws."""
    table: dict[str, ConstantFile] = getattr(read_power(folder), execution)
    values, spreads = (
        BoardPower(**{name: getattr(one, what) for name, one in table.items()})
        for what in ("value", "spread")
    )
    return KnownPower(values, spreads)


def load_board(stem: str, execution: str, folder: Path) -> BoardPower:
    """What the board of a chip draws: as measured, else as those of all chips."""
    return _board(stem, execution, folder, str(jnp.result_type(float)))


@functools.cache
def _board(stem: str, execution: str, folder: Path, number: str) -> BoardPower:
    """The same, once for each precision of its numbers, `number`."""
    file = read_power(folder)
    values: dict[str, Any] = {name: one.value for name, one in getattr(file, execution).items()}
    if stem in file.chips:
        values["active_idle"] *= file.chips[stem].factor
    # Within a traced function they would be that function's own, and of no use to the next.
    with jax.ensure_compile_time_eval():
        return BoardPower(**values)
