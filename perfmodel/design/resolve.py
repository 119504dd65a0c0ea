"""From a study to a problem: the preset that is named, and everything that a study names, looked up."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from perfmodel.design.objectives import LARGER, OBJECTIVES
from perfmodel.design.problem import Limits, PriceCurve, Problem
from perfmodel.design.study import SpaceTable, Study, WorkloadTable, read_study
from perfmodel.design.system import Workload
from perfmodel.design.variables import NO_MEMORY, PLAN_RANKS, Space, plain_name, read_space
from perfmodel.errors import InputError
from perfmodel.hardware.chip import restrict
from perfmodel.hardware.cost import Development
from perfmodel.hardware.technology import Device, stacked
from perfmodel.inference.deployment import fuses_shared_expert
from perfmodel.inference.operations import wishes_of
from perfmodel.kernels.registry import rates_of
from perfmodel.library.chip import chip_file, load_chip
from perfmodel.library.cooling import Cooling, cooling
from perfmodel.library.economics import load_ownership
from perfmodel.library.files import nearest
from perfmodel.library.model import load_priced
from perfmodel.library.technology import (
    MEMORY_SEPARATOR,
    UNLIMITED,
    development,
    device,
    endurance,
    load_constants,
    silicon,
    wires,
)
from perfmodel.units import Values, as_scalar, as_values
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import runnable

ON_SYSTEM = ("chip_usd", "system_usd", "system_mm2", "system_memory_gb")

FRONT_FREE = 1e9
"""Where a front's figure is not limited yet: a limit that nothing reaches."""


def resolve_study(study: Study) -> Problem:
    """Look up what a study names.

    **Raises:**

    - `InputError`: for a chip, model, memory, node or format that is not known.
    """
    space, table = read_space(study), study.space
    loads = [_load(study, workload, space) for workload in study.workload]
    stem, file = chip_file(table.base)
    kinds = {kind for load in loads for kind in rates_of(load.plan)}
    wishes = {kind for load in loads for kind in wishes_of(load.model)}
    kinds |= wishes & set(file.matrix)
    limits = study.constraints
    cooled = _cooling(study, space, file.execution)
    on_system = tuple(name for name in ON_SYSTEM if getattr(limits, name) is not None)
    memory_endurance, macro_endurance = _endurances(table)
    return Problem(
        base=restrict(load_chip(stem, loads[0].plan), kinds),
        base_node=silicon(file.node),
        nodes=stacked([silicon(name) for name in table.node]),
        memories=stacked([_memory(name, table.year) for name in table.memory]),
        link=wires(table.link),
        constants=load_constants().values,
        owner=load_ownership(),
        development=_development(study),
        memory_endurance=memory_endurance,
        macro_endurance=macro_endurance,
        workloads=loads,
        limits=Limits(
            area=limits.area * 1e-6,
            power=limits.power_w,
            system={name: as_scalar(getattr(limits, name)) for name in on_system},
            figures={name: as_scalar(value) for name, value in _figures(study).items()},
            package=None if cooled is None else as_scalar(cooled.package),
            density=None if cooled is None else as_scalar(cooled.density),
        ),
        weights={name: as_scalar(study.objective.weights.get(name, 0.0)) for name in OBJECTIVES},
        curve=_curve(study),
        fixed={name: as_scalar(value) for name, value in space.fixed.items()},
        latency_factor=as_values([1.0] * len(table.memory)),
        scenario={name: as_scalar(1.0) for name in ("batch", "context", "model")},
        low=as_values(space.low),
        high=as_values(space.high),
        options=(len(table.node), len(table.memory)),
        names=tuple(space.names),
        pools=1 if table.prefill is None else 2,
        on_figures=tuple(_figures(study)),
        on_system=on_system,
        cost_basis=study.objective.cost_basis,
    )


def _cooling(study: Study, space: Space, execution: str) -> Cooling | None:
    """Limits by what cools packages; a wafer is none, and power that is not free must keep them."""
    name, power = study.system.cooling, study.constraints.power_w
    if name is None:
        return None
    if execution == "dataflow":
        raise InputError(
            f"system.cooling is {name!r}, a limit of packages, but space.base is {study.space.base}, "
            "which is none; leave it out."
        )
    found = cooling(name)
    free = any(plain_name(one) == "power_w" for one in (*space.names, *space.fixed))
    if not free and power > found.package:
        raise InputError(
            f"constraints.power_w is {power:g}, but packages cooled by {name} have at most "
            f"{found.package:g} W; lower it, or give space.power_w."
        )
    return found


def _figures(study: Study) -> dict[str, float]:
    """Limits on what users see; the front's figure has one too, far away until it is traced."""
    front, given = study.objective.front, study.constraints.figures
    if front is None or front in given:
        return given
    larger = front in LARGER
    return given | {front: 1 / FRONT_FREE if larger else FRONT_FREE}


def _curve(study: Study) -> PriceCurve:
    price = study.objective.price
    return PriceCurve(price.usd_per_million_tokens * 1e-6, price.tokens_per_s, price.exponent)


def _development(study: Study) -> Development | None:
    volume = study.system.volume
    if volume is None:
        return None
    return stacked([development(name, volume) for name in study.space.node])


def _endurance_of_memory(name: str) -> float:
    return UNLIMITED if name == NO_MEMORY else endurance(name)


def _endurance_on_die(name: str) -> float:
    macro = name.partition(MEMORY_SEPARATOR)[2]
    return endurance(macro) if macro else UNLIMITED


def _endurances(space: SpaceTable) -> tuple[Values, Values] | tuple[None, None]:
    """Writes that cells of each memory, and of what lies on each node's die, survive; `None` where nothing
    in the study wears out."""
    memories = [_endurance_of_memory(name) for name in space.memory]
    dies = [_endurance_on_die(name) for name in space.node]
    if min(*memories, *dies) >= UNLIMITED:
        return None, None
    return as_values(memories), as_values(dies)


def _memory(name: str, year: str) -> Device:
    """A device; of no memory everything is zero, but its controller, which nobody builds."""
    if name != NO_MEMORY:
        return device(name, year)
    return jax.tree.map(jnp.zeros_like, device("hbm3e", year))


def _load(study: Study, table: WorkloadTable, space: Space) -> Workload:
    stem, file = chip_file(study.space.base)
    shape = load_priced(table.model)
    weights = runnable(table.precision, file.matrix, stem)
    fuses = fuses_shared_expert("", file, shape)
    plan = Plan(
        tp=table.chips, weights=weights, cache=table.kv_precision, fuses_shared_expert=fuses
    )
    _check_ranks(table, space)
    given = {name: getattr(table, name) for name in Workload._fields[2:]}
    sizes: dict[str, Any] = {n: None if v is None else as_scalar(v) for n, v in given.items()}
    return Workload(traced(shape), plan, **sizes)


def _check_ranks(table: WorkloadTable, space: Space) -> None:
    given = {plain_name(name) for name in (*space.names, *space.fixed)}
    if table.chips != 1 and given & {*PLAN_RANKS}:
        raise InputError(
            f"workload.chips is {table.chips}, but the space says tensor, pipeline or data; give one of both."
        )


def unlike_base(study: Study) -> str:
    """A sentence where the base has a node or a memory that the study does not name; else empty.

    The study then searches its defaults.
    """
    space = study.space
    if "base" not in space.model_fields_set:
        return ""
    stem, file = chip_file(space.base)
    own = {"node": file.node, "memory": file.main.technology if file.main else NO_MEMORY}
    other = {
        key: name
        for key, name in own.items()
        if key not in space.model_fields_set and name not in getattr(space, key)
    }
    if not other:
        return ""
    has = " and ".join(f"{key} {name}" for key, name in other.items())
    taken = " and ".join(f"{key} {', '.join(getattr(space, key))}" for key in other)
    return f"the base {stem} has {has}; the study searches {taken}, for [space] names no {' or '.join(other)}"


FOLDER = Path(__file__).parent / "presets"


def presets() -> dict[str, Path]:
    """Every preset, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def question(path: Path) -> str:
    """What a preset asks: the comment in its first line."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()


def find_study(name: Path) -> tuple[str, Study]:
    """A study by the path of its file, or a preset by its name: what it is called, and what it asks.

    **Raises:**

    - `InputError`: when there is neither.
    """
    found = presets()
    if str(name) in found and not name.is_file():
        name = found[str(name)]
    elif name.suffix != ".toml" and not name.exists():
        close = nearest(str(name), found)
        those = f"the nearest are {', '.join(close)}; " if close else ""
        raise InputError(
            f"there is no study {str(name)[:100]!r}; {those}give the path of a TOML file, or one of the "
            f"presets {', '.join(found)}."
        )
    return name.stem, read_study(name)
