"""What an operation says that it reads of a plan and of a chip's networks is all that it reads."""

import dataclasses
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from answers import seed
from matrix import OPS, Cell, cells, rows

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.kernels.backends import backends_of
from perfmodel.kernels.backends.flash_attention_3 import FLASH_ATTENTION_3
from perfmodel.kernels.kernel_table import groups_of
from perfmodel.kernels.registry import KERNELS, cost
from perfmodel.library.chip import build, chip_file
from perfmodel.library.fitted import FITTED
from perfmodel.library.framework import frameworks, older_versions
from perfmodel.workload.plan import CHOICES, Plan, narrowed
from perfmodel.workload.precision import FORMATS, runnable

FLAGS = (
    "integer",
    "speculates",
    "fuses_shared_expert",
    "unfused_all_reduce",
    "overflows",
    "replay",
)


def plan_for(cell: Cell, day: random.Random) -> tuple[Chip, Plan]:
    """A cell's chip and a plan for it, with what its row does not say drawn."""
    (stem, file), said = chip_file(cell.chip), cell.framework
    flags: dict[str, Any] = {name: day.random() < 0.5 for name in FLAGS}
    plan = Plan(
        weights=runnable(cell.dtype, file.matrix, cell.chip),
        cache=cell.cache or day.choice(list(FORMATS)),
        unquantised=day.choice(list(FORMATS)),
        framework=said or None,
        **backends_of(day.choice([said, *frameworks()]), file.architecture),
        framework_version=day.choice(["", *older_versions()]),
        **flags,
    )
    return build(stem, file, plan, FITTED), plan


def program(op: str, chip: Chip, plan: Plan, row: dict) -> str:
    """What is computed, with all its constants; or what is said instead."""

    def times(chip: Chip, row: dict):
        found = cost(chip, KERNELS[op](**row).count(chip, plan))
        return found.time, found.by_bound()

    try:
        traced = jax.make_jaxpr(times)(chip, row)
    except InputError as wrong:
        return str(wrong)
    return f"{traced} {[np.asarray(one).tolist() for one in traced.consts]}"


def check(op: str, cell: Cell, day: random.Random) -> None:
    row = next(rows(cell))
    groups, _ = groups_of({name: [value] for name, value in row.items()}, 1)
    sizes = {name: jnp.asarray(v[0], float) for name, v in groups[0].columns.items()}
    try:
        chip, plan = plan_for(cell, day)
    except InputError:
        return
    kinds = KERNELS[op].rates(plan) | KERNELS[op].wishes & set(chip.matrix)
    whole = restrict(chip, kinds)
    narrow = KERNELS[op].narrowed(chip, plan)
    assert program(op, *narrow, sizes) == program(op, whole, plan, sizes), (seed(), cell, plan)


@pytest.mark.parametrize("op", OPS)
def test_what_is_not_read_changes_no_program(op: str):
    day = random.Random(seed())
    for cell in day.sample(cells(op), 2):
        check(op, cell, day)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_what_is_not_read_changes_no_program_of_many(op: str):
    day = random.Random(seed())
    for cell in day.sample(cells(op), 100):
        check(op, cell, day)


def test_plans_that_differ_in_what_is_not_read_are_equal():
    plans = [Plan(framework="vllm"), Plan(framework="sglang", cache="fp8", replay=True)]
    one, other = (
        [getattr(narrowed(plan, ("weights",)), name) for name in CHOICES] for plan in plans
    )
    assert one == other


def test_a_plan_of_which_all_is_read_stays_as_it_is():
    plan = Plan(
        weights="fp8",
        cache="fp8",
        framework="vllm",
        attention_backend=FLASH_ATTENTION_3,
        replay=True,
    )
    kept = narrowed(plan, tuple(CHOICES))
    assert kept.exact and dataclasses.replace(kept, integer=False) == plan
