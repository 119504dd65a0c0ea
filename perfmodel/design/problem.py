"""A study as functions of a vector: the objective, and what each limit leaves."""

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.design.chip import area, build, from_logarithms
from perfmodel.design.study import Study, WorkloadTable
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.step import Cost, decode_step
from perfmodel.library.chip import chip_files, find_chip, load_chip
from perfmodel.library.floorplan import Floorplan, load_floorplan
from perfmodel.library.model import load_model
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import runnable
from perfmodel.workload.transformer import Transformer, traced

LIMITS = ("area", "idle_power", "sram_rate", "capacity")
"""What constrains a design: die area, idle power, SRAM bandwidth for its size, room for the model."""


class Load(NamedTuple):
    """One workload: a model and its plan, the batch, the context, and its share of the objective."""

    model: Transformer
    plan: Plan
    batch: Scalar
    context: Scalar
    weight: Scalar


class Problem(eqx.Module):
    """A study with everything looked up.

    - `base`, `floor`: what chips are made of.
    - `loads`: the workloads.
    - `area`, `power`: limits on a chip, in m2 and W.
    - `low`, `high`: logarithms between which the variables lie.
    - `per_area`: 1 where tokens/s are counted per mm2, 0 where per user.
    """

    base: Chip
    floor: Floorplan
    loads: list[Load]
    area: Scalar = eqx.field(converter=as_scalar)
    power: Scalar = eqx.field(converter=as_scalar)
    low: Values
    high: Values
    per_area: Scalar = eqx.field(converter=as_scalar)


def pose(study: Study) -> Problem:
    """Look up what a study names.

    **Raises:**

    - `InputError`: for a chip, model, memory or format that is not known.
    """
    space, limits = study.space, study.constraints
    loads = [_load(study, table) for table in study.workload]
    kinds = {"bf16"} | {load.plan.format.matrix for load in loads}
    ranges = (space.sram_mb, space.sram_tb_per_s, space.stacks, space.tflops)
    units = np.array([1e6, 1e12, 1.0, 1e12])
    return Problem(
        base=restrict(load_chip(space.base, loads[0].plan), kinds),
        floor=Floorplan(*map(as_scalar, load_floorplan(space.memory))),
        loads=loads,
        area=limits.area_mm2 * 1e-6,
        power=limits.power_w,
        low=as_values(np.log(np.array([r.low for r in ranges]) * units)),
        high=as_values(np.log(np.array([r.high for r in ranges]) * units)),
        per_area=study.objective.maximise == "tokens_per_s_per_mm2",
    )


def _load(study: Study, table: WorkloadTable) -> Load:
    stem = find_chip(study.space.base)
    file = chip_files()[stem]
    if file.execution == "dataflow":
        raise InputError(
            f"space.base is {stem}, a dataflow machine; searched so far are launched and scheduled ones."
        )
    plan = Plan(
        tensor=table.chips,
        weights=runnable(table.precision, file.matrix, stem),
        cache=table.kv_precision,
    )
    share = table.weight / sum(other.weight for other in study.workload)
    sizes = (table.batch, table.context, share)
    return Load(traced(load_model(table.model)), plan, *map(as_scalar, sizes))


class Verdict(NamedTuple):
    """What a design is worth.

    - `objective`: natural logarithm of what is maximised.
    - `slack`: of each of `LIMITS`, as the logarithm of limit over use; negative: broken.
    - `costs`: of a decode step of each workload.
    """

    objective: Scalar
    slack: Values
    costs: list[Cost]


def judge(problem: Problem, vector: Values, integer: bool = False) -> Verdict:
    """Price a design, given as logarithms of its variables.

    **Arguments:**

    - `integer`: whether cores, tiles, waves and splits are whole numbers.
    """
    design = from_logarithms(vector)
    chip = build(design, problem.base, problem.floor, problem.power)
    if integer:
        chip = dataclasses.replace(chip, cores=jnp.maximum(jnp.floor(chip.cores), 1.0))
    costs = [_step(chip, load, integer) for load in problem.loads]
    die = area(design, problem.base, problem.floor)
    slack = [
        jnp.log(problem.area / die),
        jnp.log(problem.power / (problem.floor.idle * die)),
        jnp.log(problem.floor.rate * design.sram / design.sram_bandwidth),
        jnp.min(jnp.stack([_room(cost) for cost in costs])),
    ]
    return Verdict(_objective(problem, costs, die), jnp.stack(slack), costs)


def _step(chip: Chip, load: Load, integer: bool) -> Cost:
    plan = dataclasses.replace(load.plan, integer=integer)
    return decode_step(chip, plan, load.model, load.batch, load.context)


def _room(cost: Cost) -> Scalar:
    """Memory over what is kept in it, as a logarithm."""
    used = cost.placement.size + cost.placement.cache_size
    return jnp.log(jnp.maximum(cost.placement.slack + used, 1.0) / used)


def _objective(problem: Problem, costs: list[Cost], die: Scalar) -> Scalar:
    """Weighted geometric mean over the workloads, as a logarithm."""
    values = []
    for load, cost in zip(problem.loads, costs, strict=True):
        density = jnp.log(load.batch / (die * 1e6 * load.plan.tensor))
        values.append(load.weight * (problem.per_area * density - jnp.log(cost.time)))
    return functools.reduce(jnp.add, values)
