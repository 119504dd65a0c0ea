"""Files of fitted parameters checked: what each may say, and the first thing that is wrong."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args

import equinox as eqx

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Execution
from perfmodel.hardware.parameters import Efficiency, parameters
from perfmodel.library.anchors import ANCHORS, FACTORS, MOST_FACTOR, Stack
from perfmodel.library.board import POWER, check_power
from perfmodel.library.fitted import (
    FAMILIES,
    RELATIVES,
    RELEASE,
    RELEASES,
    SIBLINGS,
    SMOOTH,
    UNPACKED_CACHE,
    key,
    read_fitted,
    unit_scale,
)
from perfmodel.library.fitted_intervals import MODELLED, SERVICE
from perfmodel.library.framework import frameworks, host_names, releases_of
from perfmodel.library.serving_ranges import MODELS, RANGES
from perfmodel.workload.plan import REPLICA_RANKS
from perfmodel.workload.precision import FORMATS

NOT_FITTED = ("run", "technology", "shared")
"""Files of a folder that hold no chip's parameters: how it was made, constants of area and power, and what
fits of all chips say of one without rows."""

ENDS = {"low": (1e-3, 1e3), "high": (1e-3, 1e3)}
"""The interval of a section, and between what its factors may lie."""

FIRST_ENDS = {"first_low": (1e-3, 1e3), "first_high": (1e-3, 1e3)}
"""The same for TTFT, in sections of the host."""

RUNS = {"tpot_runs": (0, 1e9), "ttft_runs": (0, 1e9)}
"""How many runs a factor rests on."""

OF_STACK = dict.fromkeys(FACTORS, (1 / MOST_FACTOR, MOST_FACTOR)) | ENDS | FIRST_ENDS | RUNS
"""What `anchors.toml` says of a stack."""

OF_DEPLOYMENT = dict.fromkeys(REPLICA_RANKS, (1, 1e9)) | OF_STACK
"""What it says of a deployment that was measured itself."""

ROUNDING = 1e-3
"""Parameters are written to four digits, so that one at its bound may lie beyond it by this share."""


def check_fitted(folder: Path) -> None:
    """Read every file of a folder of fitted parameters, so that a wrong one is said before any work.

    **Raises:**

    - `InputError`: when there is no folder, nothing in it, or a file of it is wrong.
    """
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder {folder}; give one that `perfmodel calibrate` wrote.")
    stems = [path.stem for path in sorted(folder.glob("*.toml")) if path.stem not in NOT_FITTED]
    if not stems:
        raise InputError(
            f"{folder} holds no fitted parameters (*.toml); give a folder that `perfmodel calibrate` wrote."
        )
    for stem in stems:
        try:
            CHECKS.get(stem, _check_chip)(read_fitted(folder, stem))
        except InputError as error:
            raise InputError(f"{folder / stem}.toml: {error}") from None


def _check_prior(content: dict[str, Any]) -> None:
    ways = {name: table for name, table in content.items() if name not in (SIBLINGS, RELATIVES)}
    for execution, section in _tables(ways, "", get_args(Execution)):
        families = dict(section)
        _check_number(f"{execution}.hop_cycles", families.pop("hop_cycles", None), *HOP_CYCLES)
        for basis, ends in _tables(families.pop(SERVICE, {}), f"{execution}.{SERVICE}.", MODELLED):
            _check_section(f"{execution}.{SERVICE}.{basis}", ends, ENDS, ENDS)
        known = {family: _bounds(kind) for family, kind in FAMILIES.items()} | {"interval": ENDS}
        _check_names(execution, families, known, needed=known)
        for family, section in _tables(families, f"{execution}.", known):
            allowed = known[family] | ENDS
            _check_section(f"{execution}.{family}", section, allowed, known[family])


def _check_anchors(content: dict[str, Any]) -> None:
    _check_names("the file", content, ("stack",))
    for i, stack in enumerate(_list("stack", content.get("stack")), 1):
        where, own = f"stack {i}", dict(stack)
        for name in Stack._fields:
            if not isinstance(own.pop(name, None), str):
                raise InputError(f"{where} lacks the word {name!r}; add it.")
        for one in _list(f"{where}.deployment", own.pop("deployment", [])):
            _check_section(f"{where}.deployment", one, OF_DEPLOYMENT, OF_DEPLOYMENT)
        _check_section(where, own, OF_STACK, OF_STACK)


def _list(where: str, given: Any) -> list[dict[str, Any]]:
    """Tables of a list of tables."""
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise InputError(f"{where} is {str(given)[:40]!r}, but must be a list of tables.")
    return given


def _check_ranges(content: dict[str, Any]) -> None:
    own = {name: value for name, value in content.items() if name != "report"}
    for name, grades in (("chip", MODELLED), ("model", MODELS)):
        steps: dict[str, tuple[float, float]] = {str(grade): (0.0, 10.0) for grade in grades}
        _check_section(name, own.pop(name, {}), steps, steps)
    _check_section(RANGES, own, OF_RANGES, OF_RANGES)


OF_RANGES = {"spread": (-10.0, 3.0)} | dict.fromkeys(
    ("low", "high", "first_low", "first_high"), (-20.0, 20.0)
)
"""What `ranges.toml` says beside the grades."""


def _check_chip(content: dict[str, Any]) -> None:
    for family, _, where, section in _sections(content, ""):
        _check_fit(family, where, section)


def _check_releases(content: dict[str, Any]) -> None:
    """Of chips, which may be a user's own: in place of each section one for each release."""
    for chip, families in _tables(content, "", content):
        for family, framework, where, by_release in _sections(families, f"{chip}."):
            known = releases_of(framework)
            for name, section in _tables(by_release, f"{where}.", known):
                _check_fit(family, f"{where}.{name}", section)


def _sections(
    content: dict[str, Any], where: str
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Family, framework, place and content of each section."""
    for family, served in _tables(content, where, FAMILIES):
        known = (SMOOTH, *(host_names() if family == "host" else frameworks()))
        for framework, formats in _tables(served, f"{where}{family}.", known):
            place = f"{where}{family}.{framework}"
            for dtype, section in _tables(formats, f"{place}.", (*FORMATS, UNPACKED_CACHE)):
                yield family, framework, f"{place}.{dtype}", section


def _check_fit(family: str, where: str, section: dict[str, Any]) -> None:
    """Parameters of a family with their interval, and of which release they are."""
    factors = ENDS | (FIRST_ENDS if family == "host" else {})
    numbers = {n: value for n, value in section.items() if n not in ("report", RELEASE)}
    needed = factors if factors.keys() & numbers.keys() else ()
    _check_section(where, numbers, _bounds(FAMILIES[family]) | factors, needed)
    if not isinstance(section.get(RELEASE, ""), str):
        raise InputError(f"{where}.{RELEASE} is {section[RELEASE]}; write it in quotation marks.")


CHECKS = {
    "prior": _check_prior,
    ANCHORS: _check_anchors,
    RELEASES: _check_releases,
    RANGES: _check_ranges,
    POWER: check_power,
}
"""What checks a file that is not of a chip, by its name."""


def _tables(
    content: dict[str, Any], where: str, known: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables in a table, each of a name that is known."""
    _check_names(where.rstrip(".") or "the file", content, known)
    for name, table in content.items():
        if not isinstance(table, dict):
            raise InputError(f"{where}{name} is {str(table)[:40]!r}, but must be a table.")
        yield name, table


def _check_names(
    where: str, given: Collection[str], known: Collection[str], needed: Collection[str] = ()
) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(f"{where} has {unknown[0][:40]!r}; allowed are {', '.join(known)}.")
    missing = [name for name in needed if name not in given]
    if missing:
        raise InputError(f"{where} lacks {missing[0]!r}; add it.")


def _check_section(
    where: str,
    section: dict[str, Any],
    bounds: dict[str, tuple[float, float]],
    needed: Collection[str],
) -> None:
    _check_names(where, section, bounds, needed)
    for name, value in section.items():
        _check_number(f"{where}.{name}", value, *bounds[name])


def _check_number(where: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low * (1 - ROUNDING) <= value <= high * (1 + ROUNDING):
        given = "missing" if value is None else str(value)[:40]
        raise InputError(f"{where} is {given}; allowed are numbers from {low:.4g} to {high:.4g}.")


def _bounds(kind: type[eqx.Module]) -> dict[str, tuple[float, float]]:
    """Between what each parameter may lie, as it is written in a file."""
    return {
        key(f): (f.metadata["low"] / unit_scale(f), f.metadata["high"] / unit_scale(f))
        for f in parameters(kind)
    }


HOP_CYCLES = _bounds(Efficiency)["hop_cycles"]
"""Between what the cycles to cross a core may lie."""
