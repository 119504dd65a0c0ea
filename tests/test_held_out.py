"""What a fit reports of its held-out rows is what `predict kernels` gives on them.

A report was written when its parameters were fitted: if a fact, a kernel's count or the choice of parameters
has changed since, it says something that the command does not do.
"""

import datetime
import os
import random
from pathlib import Path

import numpy as np
import pytest
from command import predict

pytest.importorskip("aiconfigurator_core", reason="the measured rows are of the extra `data`")

from perfmodel.calibration.calibrate import Options, _chosen, _label
from perfmodel.calibration.data.aiconfigurator import SYSTEMS
from perfmodel.calibration.data.measurements import Measurements
from perfmodel.calibration.data.sources import read_source
from perfmodel.calibration.metrics import errors
from perfmodel.calibration.sections import read_section, section_of
from perfmodel.errors import InputError
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.fitted import FITTED

CHIPS = tuple(SYSTEMS.values())

OPS = ("gemm", "attention_decode", "attention_prefill", "mla_decode", "mla_prefill", "moe")

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
"""Their tables are small: one chip's are read in the default run, by the day."""

ROUNDED = 1e-3
"""Of a median: parameters are written to four digits, and times to six."""


def report(table: Measurements) -> dict[str, float]:
    """What the fit of a table says; empty where it was not fitted."""
    section = read_section(FITTED / f"{table.key.chip}.toml", section_of(table.key))
    return section.get("report", {}).get(_label(table.key), {})


def as_rows(table: Measurements) -> list[dict[str, str]]:
    """Measurements as rows of the kernel schema."""
    key = table.key._asdict()
    key["kv_dtype"] = key.pop("cache")
    words = KERNELS[table.key.op].words()
    columns = {
        name: [words[name][int(x)] if name in words else f"{x:.15g}" for x in column]
        for name, column in table.columns.items()
    }
    cells = zip(*columns.values(), strict=True)
    return [key | dict(zip(columns, values, strict=True)) for values in cells]


def check(folder: Path, chip: str, ops: tuple[str, ...]) -> None:
    """The reports of a chip's tables of some operations."""
    wrong = []
    for table in read_source("aiconfigurator", [chip], [], ops).tables:
        said = report(table)
        held_out = table.take(_chosen(table, Options(folder))["heldout"])
        if not said or not len(held_out.time):
            continue
        found = predict("kernels", folder, as_rows(held_out))
        times = np.array([float(row["predicted_us"]) for row in found]) * 1e-6
        median = errors(times, held_out.time).median
        if abs(median - said["median"]) > ROUNDED or len(times) != said["rows"]:
            wrong.append(f"{table.key}: {median:.4f}, but {said['median']:.4f} is reported")
    assert not wrong, "\n".join(wrong)


def test_collectives_of_the_day_are_as_far_off_as_reported(tmp_path: Path):
    seed = int(os.environ.get("PERFMODEL_MATRIX_SEED", datetime.date.today().toordinal()))
    print(f"PERFMODEL_MATRIX_SEED={seed}")
    measured = [chip for chip in CHIPS if chip != "arc-pro-b60"]
    check(tmp_path, random.Random(seed).choice(measured), COLLECTIVES)


@pytest.mark.slow
@pytest.mark.parametrize("op", [*OPS, "collectives"])
@pytest.mark.parametrize("chip", CHIPS)
def test_tables_are_as_far_off_as_reported(chip: str, op: str, tmp_path: Path):
    try:
        check(tmp_path, chip, COLLECTIVES if op == "collectives" else (op,))
    except InputError as none:
        pytest.skip(str(none))
