"""Existing chips in a study: as many as serve it best, by the laws of power of searched ones.

A chip that is sold costs what the ledger says, as in every other command: its price, with what stands around
it; one without a price what its die and memory cost to make, and a searched chip's margin. A search goes on
from those that beat its best design; a study cannot say all that a sold chip is (several dies, kernels of its
own), so one may stay ahead, and that is told first.
"""

from collections.abc import Hashable, Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.batching import structure
from perfmodel.design.abstract_problem import AbstractProblem, Choice, evaluate_all, merit
from perfmodel.design.chip import ChipDesign, awake_board, idle_power
from perfmodel.design.making import dies_of, made_chip, making_cost
from perfmodel.design.multistart import LocalOptimum, MultiStart, SearchResult
from perfmodel.design.problem import (
    LIMIT_TOLERANCE,
    Problem,
    assess_pools,
    cooling_slacks,
    own_values,
    pooled,
    quantities,
    shared_slacks,
    user_slacks,
    workloads_of,
)
from perfmodel.design.reoptimise import optimum_at, reoptimise, with_designs
from perfmodel.design.starting_points import variants
from perfmodel.design.state import MIN_GAIN
from perfmodel.design.study import Study
from perfmodel.design.system import Pool, Workload
from perfmodel.design.variables import NO_MEMORY, PARALLELISM, Space, plain_name
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.hardware.constants import Constants
from perfmodel.hardware.technology import stacked
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.economics import load_ownership
from perfmodel.library.known import described
from perfmodel.library.ledger import price_alone
from perfmodel.library.schema import ChipFile, si_or
from perfmodel.library.technology import UNLIMITED
from perfmodel.units import Scalar, Values, as_scalar, as_values

MAX_VARIANTS = 256
"""Numbers of chips and of users that are tried for each chip, at most."""


class ExistingChips(AbstractProblem):
    """A study whose chip is one of the library's; of a design's variables only ranks and users count.

    - `problem`: the study; `designs`: the chips, on a leading axis, of which the choice takes one.
    - `dies`: of which each consists.
    """

    problem: Problem
    designs: ChipDesign
    dies: Values
    low: Values
    high: Values
    options: tuple[int, ...] = eqx.field(static=True)

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        """Minus the logarithm of what is maximised, then slacks of what users see."""
        every, loads = self._served(x, choice)
        found = assess_pools(self.problem, every, loads, as_scalar(1.0))
        return jnp.stack([-found.objective, *user_slacks(self.problem, found)])

    def static_constraints(self, x: Values, choice: Choice) -> Values:
        """Slacks of a die's area, of power, and of the system as a whole."""
        limits, design = self.problem.limits, self._design(choice)
        area = jnp.log(limits.area * self.dies[choice[0]] / design.area)
        power = jnp.log(limits.power / design.chip.peak_power)
        every, loads = self._served(x, choice)
        cooled = cooling_slacks(limits, design)
        return jnp.stack([area, power, *cooled, *shared_slacks(self.problem, every, loads)])

    @property
    def constraint_names(self) -> tuple[str, ...]:
        """Names of all slacks, in their order."""
        return (
            *self.problem.user_constraints,
            "area_mm2",
            "power_w",
            *self.problem.cooling_constraints,
            *self.problem.system_constraints,
        )

    def _design(self, choice: Choice) -> ChipDesign:
        return jax.tree.map(lambda leaf: leaf[choice[0]], self.designs)

    def _served(self, x: Values, choice: Choice) -> tuple[list[list[Pool]], list[Workload]]:
        mine = own_values(self.problem, quantities(self.problem, x))
        designs = [self._design(choice)] * self.problem.pools
        return pooled(self.problem, designs, mine), workloads_of(self.problem, x)


class ExistingChip(NamedTuple):
    """A chip of the library at its best in a study.

    - `unit`: coordinates of the variables; only ranks and the scenario count.
    - `value`: minus the objective; `broken`: names of the limits that it does not keep.
    - `distance`: from a design: root mean square of the logarithms of `COMPARED_BY` apart.
    - `size`: those, in SI; `cost`: at which, with a searched chip's margin, it is sold as it is, in USD.
    """

    name: str
    unit: np.ndarray
    value: float
    broken: tuple[str, ...]
    distance: float
    size: dict[str, float]
    cost: float


COMPARED_BY = {
    "area_mm2": 1e6,
    "power_w": 1.0,
    "memory_gb": 1e-9,
    "memory_tb_per_s": 1e-12,
    "tflops": 1e-12,
}
"""What chips are compared by, in the units of studies: area of dies, power limit, size and rate of the memory
that a model lives in (SRAM where there is no other), and bf16."""


def size_of(design: ChipDesign) -> dict[str, float]:
    """A chip by `COMPARED_BY`."""
    chip = design.chip
    larger = max(chip.private, chip.shared, key=lambda tier: float(tier.capacity))
    memory = chip.main if float(chip.main.capacity) else larger
    numbers = (design.area, chip.peak_power, memory.capacity, memory.bandwidth, chip.matrix["bf16"])
    scaled = zip(COMPARED_BY.items(), numbers, strict=True)
    return {name: scale * float(number) for (name, scale), number in scaled}


def distance(one: dict[str, float], other: dict[str, float]) -> float:
    """Of two chips: root mean square of the logarithms of `COMPARED_BY` apart."""
    return float(np.sqrt(np.mean([np.log(one[name] / other[name]) ** 2 for name in COMPARED_BY])))


def compared_chips(
    problem: Problem, space: Space, design: ChipDesign, unit: np.ndarray
) -> list[ExistingChip]:
    """Chips of the library beside the chip of a design, the nearest first.

    Those of the same way of working whose area and power are known and that compute in the study's formats.
    """
    tried, own = variants(space, unit, (*PARALLELISM, "batch"), MAX_VARIANTS), size_of(design)
    found = [
        one
        for names, chips in groups_of_chips(problem)
        for one in _at_best(names, chips, tried, own)
    ]
    return sorted(found, key=lambda one: one.distance)


def _at_best(
    names: list[str], chips: ExistingChips, tried: np.ndarray, own: dict[str, float]
) -> Iterator[ExistingChip]:
    """Each chip of a group with the number of chips and of users that suits it best."""
    unit, count = np.tile(tried, (len(names), 1)), len(tried)
    choice = np.repeat(np.arange(len(names), dtype=np.int32), count)[:, None]
    value, slack = evaluate_all(chips, unit, choice)
    best = np.argmin(merit(value, slack).reshape(len(names), -1), axis=1)
    for i, (name, way) in enumerate(zip(names, best, strict=True)):
        at = i * count + int(way)
        limits = zip(chips.constraint_names, slack[at], strict=True)
        broken = tuple(limit for limit, left in limits if left < -LIMIT_TOLERANCE)
        one = jax.tree.map(lambda leaf, i=i: leaf[i], chips.designs)
        size = size_of(one)
        far, cost = distance(size, own), float(one.cost)
        yield ExistingChip(name, tried[way], float(value[at]), broken, far, size, cost)


def groups_of_chips(problem: Problem) -> list[tuple[list[str], ExistingChips]]:
    """Chips that may be compared with a searched one, and the study with them; those of one form together."""
    groups: dict[Hashable, dict[str, Chip]] = {}
    for name in chip_files():
        chip = _loaded(name, problem)
        if chip is not None:
            groups.setdefault(structure(chip), {})[name] = chip
    return [(list(group), _existing_chips(problem, group)) for group in groups.values()]


def _existing_chips(problem: Problem, group: dict[str, Chip]) -> ExistingChips:
    files = [chip_files()[name] for name in group]
    designs = [
        _chip_design(chip, file, problem.constants)
        for chip, file in zip(group.values(), files, strict=True)
    ]
    return ExistingChips(
        problem=problem,
        designs=stacked(designs),
        dies=as_values([dies_of(file) for file in files]),
        low=problem.low,
        high=problem.high,
        options=(len(designs),),
    )


def _loaded(name: str, problem: Problem) -> Chip | None:
    """A chip with the rates that the study asks for; `None` where it lacks one, its area or its power."""
    file, kinds = chip_files()[name], set(problem.base.matrix)
    known = file.area is not None and file.power.peak is not None
    if not known or file.execution != problem.base.execution or not kinds <= set(file.matrix):
        return None
    return restrict(load_chip(name, problem.workloads[0].plan), kinds)


def _chip_design(chip: Chip, file: ChipFile, constants: Constants) -> ChipDesign:
    """An existing chip at its price, with the idle power of a searched one of its die and memory."""
    technology, parts, _ = described(file)
    area = as_scalar(si_or(file.area, "m2"))
    idle = idle_power(parts, area, technology, constants.power)
    if file.money.price is not None:
        cost = as_scalar(price_alone(file) * (1 - float(load_ownership().margin)))
    else:
        cost = making_cost(made_chip(file), {}, constants)
    energy = chip.main.energy + jnp.where(chip.main.capacity > 0, constants.power.host, 0.0)
    changed = (energy, idle, awake_board(chip, constants.power))
    chip = eqx.tree_at(lambda c: (c.main.energy, c.idle_power, c.efficiency.board), chip, changed)
    # What is sold has paid for its development.
    none, lasting = as_scalar(0.0), as_scalar(UNLIMITED)
    return ChipDesign(chip, {}, area, idle, cost, none, none, none, (lasting, lasting))


MAX_STARTS = 3
"""Existing chips at which a descent begins, at most: those that are ahead by most."""


def better_chips(known: list[ExistingChip], best: LocalOptimum) -> list[ExistingChip]:
    """Chips that keep every limit and are better than a design, the best first."""
    better = [one for one in known if not one.broken and one.value < best.value - MIN_GAIN]
    return sorted(better, key=lambda one: one.value)


def descend_from_existing(
    study: Study, space: Space, solver: MultiStart, result: SearchResult, known: list[ExistingChip]
) -> SearchResult:
    """A result with the designs that descents from the chips ahead of it found."""
    best = result.designs[0]
    ahead = better_chips(known, best)[:MAX_STARTS]
    starts = [_start(study, space, solver.problem, one, best) for one in ahead]
    return with_designs(result, [reoptimise(solver, start) for start in starts])


def _start(
    study: Study, space: Space, problem: Problem, one: ExistingChip, best: LocalOptimum
) -> LocalOptimum:
    """An existing chip as far as the study can say it, in as many copies and for as many users as suit it."""
    parts = chip_variables(one.name, load_chip(one.name, problem.workloads[0].plan))
    names = [plain_name(name) for name in space.names]
    own = zip(names, space.logarithms(one.unit), strict=True)
    start = [np.log(parts[name]) if parts.get(name) else at for name, at in own]
    unit = np.clip(space.unit(np.array(start)), 0.0, 1.0)
    return optimum_at(problem, unit, _choice(study, one.name, best.choice))


def chip_variables(name: str, chip: Chip) -> dict[str, float]:
    """A chip of the library in the variables of studies, in SI."""
    home = chip.private if chip.execution == "dataflow" else chip.shared
    parts = described(chip_files()[name])[1]
    found = {
        "sram_mb": home.capacity,
        "sram_tb_per_s": home.bandwidth,
        "stacks": parts.stacks,
        "channels": parts.stacks,
        "tflops": chip.matrix["bf16"],
        "clock_ghz": chip.clock,
        "vector_tflops": chip.vector,
        "exponential_t_per_s": chip.exponential,
        "link_gb_per_s": chip.scale_up.bandwidth,
        "power_w": chip.peak_power,
    }
    return {name: float(as_scalar(value)) for name, value in found.items()}


def _choice(study: Study, name: str, default: np.ndarray) -> np.ndarray:
    """Its node and its memory where the study has them, else those of the best design."""
    file, space = chip_files()[name], study.space
    own = (file.node, NO_MEMORY if file.main is None else file.main.technology)
    options = (space.node, space.memory)
    return np.array(
        [
            names.index(mine) if mine in names else int(other)
            for mine, names, other in zip(own, options, default, strict=True)
        ],
        np.int32,
    )
