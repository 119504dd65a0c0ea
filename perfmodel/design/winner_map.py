"""Maps of who wins where: the chips that a search found, in as many copies as suit each place.

What is asked varies over a map: users, tokens, the size of the model, the price of memory. Chips stay as
they were found, their number is the best of powers of two; all places are priced in one `vmap`.
"""

from typing import NamedTuple

import numpy as np

from perfmodel.design.facts import Cases, evaluate_cases
from perfmodel.design.problem import LIMIT_TOLERANCE, Problem, workloads_of
from perfmodel.design.starting_points import variants
from perfmodel.design.uncertainty import Family
from perfmodel.design.variables import NO_MEMORY, PARALLELISM, Space
from perfmodel.units import as_values
from perfmodel.workload.model import parameters

MAX_DESIGNS, MAX_VARIANTS = 4, 16
"""Designs of each family, and numbers of chips for each of them, at most."""

MAX_FACTOR = 100.0
"""Also where nothing else keeps the limits."""

NOT_FEASIBLE = 1e30
"""In place of infinity, of which no difference can be taken."""

SRAM_ALONE = "SRAM alone"
"""What a design without main memory is called."""


class Axis(NamedTuple):
    """What varies: its title with its unit, its values, and the facts that are multiplied."""

    name: str
    title: str
    values: np.ndarray
    facts: tuple[str, ...]


BATCH = Axis("batch", "users", 4.0 ** np.arange(7), ("asked.batch",))
CONTEXT = Axis("context", "tokens of each user", 1024 * 4.0 ** np.arange(6), ("asked.context",))
MODEL = Axis("model", "parameters (billions)", 2.0 ** np.arange(-4, 5), ("asked.model",))
PRICE = Axis("price", "price of HBM (USD/GB)", 2.0 ** np.arange(-2, 3), ())
"""The last two hold factors on what a study has, until they are sized for it."""


class Place(NamedTuple):
    """A place of a map: who wins there, and how many times the next it is better, at most `MAX_FACTOR`."""

    x: float
    y: float
    winner: str
    factor: float


class WinnerMap(NamedTuple):
    """Who wins over two axes; where nobody keeps the limits there is no place."""

    x: Axis
    y: Axis
    places: list[Place]


def winner_maps(
    problem: Problem, space: Space, known: list[Family], names: list[str]
) -> list[WinnerMap]:
    """SRAM against HBM over users and tokens, and over models and prices; none where one is not there."""
    memories = {family.memory for family in known}
    if NO_MEMORY not in memories or len(memories) == 1:
        return []
    pairs = ((CONTEXT, BATCH), _sized(problem, space, known, names))
    return [WinnerMap(x, y, _places(problem, space, known, names, (x, y))) for x, y in pairs]


def _sized(
    problem: Problem, space: Space, known: list[Family], names: list[str]
) -> tuple[Axis, Axis]:
    """The model's size and the memory's price, in units, around those of the study."""
    size = float(parameters(problem.workloads[0].model)) / 1e9
    prices = tuple(name for name in names if name.endswith(".price"))
    bought = next(family for family in known if family.memory != NO_MEMORY)
    price = float(problem.memories.price[bought.designs[0].choice[1]]) * 1e9
    return (
        MODEL._replace(values=size * MODEL.values),
        PRICE._replace(values=price * PRICE.values, facts=prices),
    )


def _places(
    problem: Problem,
    space: Space,
    known: list[Family],
    names: list[str],
    axes: tuple[Axis, Axis],
) -> list[Place]:
    unit, choices, owner = _candidates(space, known)
    designs = space.logarithms(unit)
    own = [np.array([_value_of(problem, axis, v) for v in designs]) for axis in axes]
    x, y = (grid.ravel() for grid in np.meshgrid(*[axis.values for axis in axes]))
    logs = np.zeros((len(unit), len(x), len(names)))
    for axis, at, mine in zip(axes, (x, y), own, strict=True):
        columns = [names.index(name) for name in axis.facts]
        logs[..., columns] = np.log(at[None] / mine[:, None])[..., None]
    spread = (np.repeat(part, len(x), axis=0) for part in (unit, choices))
    value, slack = evaluate_cases(problem, Cases(logs.reshape(-1, len(names)), *spread))
    kept = np.all(slack > -LIMIT_TOLERANCE, axis=1) & np.isfinite(value)
    least = np.where(kept, value, np.inf).reshape(len(unit), len(x))
    return _winners(least, owner, x, y)


def _candidates(space: Space, known: list[Family]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Designs of all families with other numbers of chips: coordinates, choices, what each is called."""
    units, choices, owner = [], [], []
    for family in known:
        for one in family.designs[:MAX_DESIGNS]:
            some = variants(space, one.unit, PARALLELISM, MAX_VARIANTS)
            units.append(some)
            choices.append(np.tile(one.choice, (len(some), 1)))
            owner += [SRAM_ALONE if family.memory == NO_MEMORY else family.memory] * len(some)
    return np.concatenate(units), np.concatenate(choices), owner


def _value_of(problem: Problem, axis: Axis, vector: np.ndarray) -> float:
    """What a design has of what an axis varies; of sizes and prices the middle of the axis."""
    load = workloads_of(problem, as_values(vector))[0]
    if axis.name in (BATCH.name, CONTEXT.name):
        return float(load.batch if axis.name == BATCH.name else load.longest)
    return float(axis.values[len(axis.values) // 2])


def _winners(least: np.ndarray, owner: list[str], x: np.ndarray, y: np.ndarray) -> list[Place]:
    """The best of each place over the next of another kind, which may not be there."""
    kinds = list(dict.fromkeys(owner))
    table = np.stack([least[np.array([o == kind for o in owner])].min(axis=0) for kind in kinds])
    order = np.sort(np.where(np.isfinite(table), table, NOT_FEASIBLE), axis=0)
    lead = np.minimum(np.exp(np.minimum(order[1] - order[0], np.log(MAX_FACTOR))), MAX_FACTOR)
    return [
        Place(float(x[i]), float(y[i]), kinds[int(np.argmin(table[:, i]))], float(lead[i]))
        for i in np.flatnonzero(order[0] < NOT_FEASIBLE)
    ]
