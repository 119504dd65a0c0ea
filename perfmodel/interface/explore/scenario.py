"""A scenario of the explorer: machines, model, traffic; and the link that reproduces it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from perfmodel.design.variables import CHIP_VARIABLES
from perfmodel.errors import InputError
from perfmodel.inference.quote import asked_basis
from perfmodel.inference.serving_row import RANKS, number

MAX_MACHINES = 4
MAX_TRAFFIC = {"isl": 10_000_000, "osl": 1_000_000, "concurrency": 1_000_000}
"""Numbers of the traffic, and the largest that is taken."""

MAX_FACTOR = 16.0
"""A knob multiplies a fact by at most this, and divides it by as much."""


RANK_NAMES = tuple(name for name in RANKS if name != "n_chips")
"""Columns of the serving schema that say how a model is spread."""

MAX_CHIPS = 100_000
"""Of a machine; and ranks of any kind."""


class Machine(NamedTuple):
    """Some chips of one kind, changed by factors.

    - `chip`: a name of the library, or the path of a chip file.
    - `size`: how many chips.
    - `factors`: of each of `KNOBS`, by name; what is not there is one.
    - `precision`: of the weights; empty: what the chip multiplies fastest, down to eight bits.
    - `kv_precision`: of the cache; empty: fp8 beside weights in fp8, else bf16.
    - `framework`: empty: the best schedule that the hardware allows.
    - `ranks`: of `RANK_NAMES`, by name; what is not there is chosen.
    """

    chip: str
    size: int
    factors: tuple[tuple[str, float], ...] = ()
    precision: str = ""
    kv_precision: str = ""
    framework: str = ""
    ranks: tuple[tuple[str, int], ...] = ()

    def factor(self, knob: str) -> float:
        """Of one knob."""
        return dict(self.factors).get(knob, 1.0)


class Scenario(NamedTuple):
    """What the explorer shows.

    - `isl`, `osl`: tokens of a request, in and out; `concurrency`: requests open at once on each machine.
    - `cost_basis`: what USD are of; empty: owner.
    - `free`: whether what is dragged costs nothing; else the ledger prices it.
    """

    machines: tuple[Machine, ...]
    model: str = "llama-3.1-70b"
    isl: int = 4096
    osl: int = 256
    concurrency: int = 8
    cost_basis: str = ""
    free: bool = False


START = Scenario((Machine("h100-sxm", 8), Machine("b200-sxm", 8), Machine("wse-3", 4)))
"""What one sees first."""


def machine(
    chip: str,
    size: int,
    factors: Mapping[str, float] = {},
    precision: str = "",
    kv_precision: str = "",
    framework: str = "",
    ranks: Mapping[str, int | None] = {},
) -> Machine:
    """A machine whose factors of one, and ranks of None, are left out; both in one order."""
    moved = {name: factors[name] for name in CHIP_VARIABLES if factors.get(name, 1.0) != 1.0}
    given = {name: count for name in RANK_NAMES if (count := ranks.get(name))}
    words = (precision, kv_precision, framework)
    return Machine(chip, size, tuple(moved.items()), *words, tuple(given.items()))


def to_query(scenario: Scenario) -> dict[str, list[str]]:
    """The scenario as the parameters of a link."""
    machines = [_word(one) for one in scenario.machines]
    numbers = {name: [str(getattr(scenario, name))] for name in MAX_TRAFFIC}
    basis = {"cost_basis": [scenario.cost_basis]} if scenario.cost_basis else {}
    free = {"free": ["yes"]} if scenario.free else {}
    return {"machine": machines, "model": [scenario.model], **numbers, **basis, **free}


def _word(one: Machine) -> str:
    """Such as `8*h100-sxm:fp8,sram=2,price=0.5,framework=vllm,tp=4`."""
    changes = [f"{name}={value:g}" for name, value in one.factors]
    changes += [f"{name}={word}" for name in WORDS if (word := getattr(one, name))]
    changes += [f"{name}={count}" for name, count in one.ranks]
    return f"{one.size}*{one.chip}:{','.join([one.precision, *changes])}".rstrip(":")


WORDS = ("kv_precision", "framework")
"""Words of a machine that a link names."""


def from_query(query: Mapping[str, list[str]]) -> Scenario:
    """The scenario of a link; what it does not say is as at the start.

    **Raises:**

    - `InputError`: for a link that cannot be read.
    """
    machines = tuple(_machine(word) for word in query.get("machine", [])[:MAX_MACHINES])
    numbers = {
        name: _integer(name, query[name][0], most)
        for name, most in MAX_TRAFFIC.items()
        if query.get(name)
    }
    model = (query.get("model") or [START.model])[0]
    basis = asked_basis((query.get("cost_basis") or [""])[0])
    asked = START._replace(model=model, cost_basis=basis, free=_free(query), **numbers)
    return asked._replace(machines=machines or START.machines)


def _free(query: Mapping[str, list[str]]) -> bool:
    """Whether what is dragged is free."""
    word = (query.get("free") or ["no"])[0]
    if word not in ("yes", "no"):
        raise InputError(f"the link has free {word[:40]!r}; allowed are yes and no.")
    return word == "yes"


def _machine(word: str) -> Machine:
    count, star, rest = word.partition("*")
    chip, _, changes = rest.partition(":")
    if not star or not chip:
        raise InputError(
            f"the link names a machine {word[:60]!r}; write for example 8*h100-sxm:fp8,sram=2."
        )
    precision, *moves = changes.split(",")
    cells = _changes(moves)
    words = {name: cells.pop(name) for name in WORDS if name in cells}
    ranks = {n: _integer(n, cells.pop(n), MAX_CHIPS) for n in RANK_NAMES if n in cells}
    factors = {name: _factor(name, text) for name, text in cells.items()}
    size = _integer("machine", count, MAX_CHIPS)
    return machine(chip, size, factors, precision, ranks=ranks, **words)


def _changes(moves: Iterable[str]) -> dict[str, str]:
    """What a link changes of a machine, as it stands there."""
    cells = {name: value.strip() for name, _, value in (move.partition("=") for move in moves)}
    known = (*CHIP_VARIABLES, *WORDS, *RANK_NAMES)
    for name in cells:
        if name not in known:
            raise InputError(
                f"the link changes {name[:60]!r}; what can be changed is {', '.join(known)}."
            )
    return cells


def _factor(name: str, text: str) -> float:
    value = number(name, text or "0")
    if not 1 / MAX_FACTOR <= value <= MAX_FACTOR:
        raise InputError(
            f"the link has {name}={value:g}; allowed are factors from "
            f"{1 / MAX_FACTOR:g} to {MAX_FACTOR:g}."
        )
    return value


def _integer(name: str, text: str, most: int) -> int:
    value = number(name, text.strip() or "0")
    if value != round(value) or value > most:
        raise InputError(
            f"the link has {name} {text[:40]!r}; allowed are whole numbers up to {most:,}."
        )
    return int(value)
