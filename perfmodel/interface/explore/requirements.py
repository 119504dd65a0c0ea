"""Limits and an objective of the explorer: what `recommend` is asked, as a link and as a command."""

import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.errors import InputError
from perfmodel.inference.question import OBJECTIVES, Question, ask
from perfmodel.inference.serving_row import number
from perfmodel.interface.explore.scenario import Scenario
from perfmodel.library.fitted_intervals import LEVELS

LIMITS = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "end_to_end_ms": "end to end"}
"""Limits in ms, and what they are called."""


class Requirements(NamedTuple):
    """What is asked of deployments.

    - `ttft_ms`, `tpot_ms`, `end_to_end_ms`: limits in ms; None: any.
    - `confidence`: in %; `objective`: of `OBJECTIVES`.
    - `users`: `free`, or `given`: those of the scenario.
    """

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    end_to_end_ms: float | None = None
    confidence: int = 80
    objective: str = "throughput"
    users: str = "free"


WORDS = {
    "confidence": {str(level): level for level in LEVELS},
    "objective": {word: word for word in OBJECTIVES},
    "users": {"free": "free", "given": "given"},
}
"""Words of a link, and what they mean."""


def to_query(requirements: Requirements) -> dict[str, list[str]]:
    """The requirements as parameters of a link; what is as at the start is left out."""
    values = zip(Requirements._fields, requirements, Requirements(), strict=True)
    return {name: [f"{value}"] for name, value, start in values if value != start}


def from_query(query: Mapping[str, list[str]]) -> Requirements:
    """The requirements of a link.

    **Raises:**

    - `InputError`: for a limit that is not a number above zero, and for a word that is not known.
    """
    given = {name: query[name][0] for name in Requirements._fields if query.get(name)}
    for name in WORDS.keys() & given.keys():
        if given[name] not in WORDS[name]:
            raise InputError(
                f"the link has {name} {given[name][:40]!r}; allowed are {', '.join(WORDS[name])}."
            )
    limits = {name: number(name, given[name] or "0") for name in LIMITS if name in given}
    words: dict[str, Any] = {name: WORDS[name][given[name]] for name in WORDS if name in given}
    return Requirements(**limits, **words)


def options_of(requirements: Requirements, scenario: Scenario) -> dict[str, Any]:
    """The scenario and the requirements as `ask` takes them.

    Every chip of a machine is asked for in every number of chips. A framework or a format that all machines
    give is the only one; else it is chosen.
    """
    limits = {name: getattr(requirements, name) for name in LIMITS if getattr(requirements, name)}
    words = ("framework", "precision", "kv_precision")
    given = {name: _each(scenario, name) for name in words if all(_each(scenario, name))}
    basis = {"cost_basis": scenario.cost_basis} if scenario.cost_basis else {}
    users = {"concurrency": [scenario.concurrency]} if requirements.users == "given" else {}
    return {
        "model": scenario.model,
        "chip": _each(scenario, "chip"),
        "n_chips": _each(scenario, "size"),
        "isl": scenario.isl,
        "osl": scenario.osl,
        **(given | users | basis | limits),
        "objective": requirements.objective,
        "confidence": requirements.confidence,
    }


def _each(scenario: Scenario, name: str) -> list[Any]:
    """What the machines have of something, each once."""
    return list(dict.fromkeys(getattr(one, name) for one in scenario.machines))


def question_of(requirements: Requirements, scenario: Scenario) -> Question:
    """What `recommend` is asked."""
    return ask(**options_of(requirements, scenario))


def command_of(requirements: Requirements, scenario: Scenario) -> str:
    """The command that gives the same answer."""
    words = ["perfmodel", "recommend"]
    for name, value in options_of(requirements, scenario).items():
        text = ",".join(map(str, value)) if isinstance(value, list) else f"{value}"
        words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)
