"""A scenario of the explorer: machines, model, traffic; and the link that reproduces it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from perfmodel.design.variables import CHIP_VARIABLES
from perfmodel.errors import InputError
from perfmodel.inference.serving_row import number

MAX_MACHINES = 4
MAX_TRAFFIC = {"isl": 10_000_000, "osl": 1_000_000, "concurrency": 1_000_000}
"""Numbers of the traffic, and the largest that is taken."""

MAX_FACTOR = 16.0
"""A knob multiplies a fact by at most this, and divides it by as much."""


class Machine(NamedTuple):
    """Some chips of one kind, changed by factors.

    - `chip`: a name of the library, or the path of a chip file.
    - `size`: how many chips.
    - `factors`: of each of `KNOBS`, by name; what is not there is one.
    - `precision`: of the weights; empty: what the chip multiplies fastest, down to eight bits.
    """

    chip: str
    size: int
    factors: tuple[tuple[str, float], ...] = ()
    precision: str = ""

    def factor(self, knob: str) -> float:
        """Of one knob."""
        return dict(self.factors).get(knob, 1.0)


class Scenario(NamedTuple):
    """What the explorer shows.

    - `isl`, `osl`: tokens of a request, in and out; `concurrency`: requests open at once on each machine.
    """

    machines: tuple[Machine, ...]
    model: str = "llama-3.1-70b"
    isl: int = 4096
    osl: int = 256
    concurrency: int = 8


START = Scenario((Machine("h100-sxm", 8), Machine("b200-sxm", 8), Machine("wse-3", 4)))
"""What one sees first."""


def machine(chip: str, size: int, factors: Mapping[str, float], precision: str = "") -> Machine:
    """A machine whose factors of one are left out, in the order of the knobs."""
    moved = {name: factors[name] for name in CHIP_VARIABLES if factors.get(name, 1.0) != 1.0}
    return Machine(chip, size, tuple(moved.items()), precision)


def to_query(scenario: Scenario) -> dict[str, list[str]]:
    """The scenario as the parameters of a link."""
    machines = [_word(one) for one in scenario.machines]
    numbers = {name: [str(getattr(scenario, name))] for name in MAX_TRAFFIC}
    return {"machine": machines, "model": [scenario.model], **numbers}


def _word(one: Machine) -> str:
    """Such as `8*h100-sxm:fp8,sram=2,price=0.5`."""
    changes = [f"{name}={value:g}" for name, value in one.factors]
    return f"{one.size}*{one.chip}:{','.join([one.precision, *changes])}".rstrip(":")


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
    return START._replace(machines=machines or START.machines, model=model, **numbers)


def _machine(word: str) -> Machine:
    count, star, rest = word.partition("*")
    chip, _, changes = rest.partition(":")
    if not star or not chip:
        raise InputError(
            f"the link names a machine {word[:60]!r}; write for example 8*h100-sxm:fp8,sram=2."
        )
    precision, *moves = changes.split(",")
    return machine(chip, _integer("machine", count, 100_000), _factors(moves), precision)


def _factors(moves: Iterable[str]) -> dict[str, float]:
    found = {}
    for move in moves:
        name, _, value = move.partition("=")
        if name not in CHIP_VARIABLES:
            raise InputError(
                f"the link changes {name[:60]!r}; what can be changed is {', '.join(CHIP_VARIABLES)}."
            )
        found[name] = number(name, value.strip() or "0")
        if not 1 / MAX_FACTOR <= found[name] <= MAX_FACTOR:
            raise InputError(
                f"the link has {name}={found[name]:g}; allowed are factors from "
                f"{1 / MAX_FACTOR:g} to {MAX_FACTOR:g}."
            )
    return found


def _integer(name: str, text: str, most: int) -> int:
    value = number(name, text.strip() or "0")
    if value != round(value) or value > most:
        raise InputError(
            f"the link has {name} {text[:40]!r}; allowed are whole numbers up to {most:,}."
        )
    return int(value)
