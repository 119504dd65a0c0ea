"""Chips by name: from their files to the frozen modules that kernels use."""

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from pydantic import ValidationError

from perfmodel.errors import InputError
from perfmodel.hardware.chip import MATRIX_ROWS, Chip, as_scalars
from perfmodel.hardware.memory import NO_TIER, Memory
from perfmodel.hardware.network import Network
from perfmodel.library.files import first_fault, fold, in_words, pick, read_as, read_toml, stems
from perfmodel.library.fitted import FITTED, Origin, load_efficiency
from perfmodel.library.own_chip import expanded
from perfmodel.library.plausibility import check_plausible
from perfmodel.library.schema import (
    ChipFile,
    NetworkFile,
    Quantity,
    TierFile,
    in_si,
    si_or,
    sourced,
    stacks_of,
)
from perfmodel.library.technology import load_link, load_memory, load_node, memory_technology
from perfmodel.workload.plan import Plan

REQUIRED_FACTS = ("cores", "clock", "vector", "exponential", "scale_up", "scale_out")
"""Facts without which no kernel can be priced; on launched chips tiles are also fed from a shared tier."""

TIERS, NETWORKS = ("private", "shared", "main", "far"), ("scale_up", "scale_out")

NO_LINK = {"bandwidth": 0.0, "latency": 0.0, "size": 1.0, "energy": 0.0, "topology": "link"}


@functools.cache
def chip_files() -> dict[str, ChipFile]:
    """Every chip of the library, by its name there."""
    return {stem: read_as(ChipFile, path) for stem, path in stems("chips").items()}


@functools.cache
def chip_names() -> dict[str, str]:
    """Every spelling of every chip, folded, with its name in the library."""
    spellings = {fold(stem): stem for stem in chip_files()}
    for stem, file in chip_files().items():
        spellings |= {fold(alias): stem for alias in (file.name, *file.aliases)}
    return spellings


def find_chip(name: str) -> str:
    """The library's name for a chip, from any spelling of it.

    **Raises:**

    - `InputError`: for an unknown chip, with the nearest names.
    """
    return pick(name, chip_names(), "chip", "perfmodel chips")


def chip_file(name: str) -> tuple[str, ChipFile]:
    """A chip's name and file, from any spelling of it, or from the path of a chip file (.toml).

    **Raises:**

    - `InputError`: for an unknown chip, or a file that is wrong.
    """
    if name.strip().endswith(".toml"):
        return name.strip(), own_file(Path(name.strip()))
    stem = find_chip(name)
    return stem, chip_files()[stem]


def load_chip(name: str | Path, plan: Plan | None = None, calibration: Path = FITTED) -> Chip:
    """A chip, with the fitted parameters that suit a plan.

    **Arguments:**

    - `name`: any spelling of a chip of the library, or the path of a chip file.
    - `plan`: its framework and formats choose the parameters; the smooth form in bf16 if not given.
    - `calibration`: folder of fitted parameters.

    **Raises:**

    - `InputError`: for an unknown chip, a wrong file, or a fact that is missing.
    """
    stem, file = (name, own_file(name)) if isinstance(name, Path) else chip_file(name)
    return build(Path(stem).stem, file, plan or Plan(), calibration)


def build(stem: str, file: ChipFile, plan: Plan, calibration: Path) -> Chip:
    """A chip from its file."""
    known = chip_files().get(stem) is file
    facts = _known_facts(stem, str(jnp.result_type(float))) if known else _facts(stem, file)
    fitted = load_efficiency(origin(stem, file), plan, calibration)
    return Chip(**facts, efficiency=fitted, execution=file.execution, name=stem)


@functools.cache
def _known_facts(stem: str, number: str) -> dict[str, Any]:
    """The same of a chip of the library, once for all plans, and for each precision of its numbers."""
    # Within a traced function they would be that function's own, and of no use to the next.
    with jax.ensure_compile_time_eval():
        return _facts(stem, chip_files()[stem])


def _facts(stem: str, file: ChipFile) -> dict[str, Any]:
    """What a chip's file says of it, by the field of `Chip`."""
    _check(stem, file)
    node = load_node(file.node)
    numbers = {
        **in_si(file, ("cores", "clock", "vector", "exponential", "area")),
        **in_si(node, ("vector_energy", "exponential_energy")),
        "idle_power": si_or(file.power.idle, "W"),
        "peak_power": si_or(file.power.peak, "W", missing=float("inf")),
        "price": si_or(file.money.price, "USD"),
    }
    rates = {kind: rate.si("FLOP/s") for kind, rate in file.matrix.items()}
    energies = {kind: node.matrix_energy[kind].si("J/FLOP") for kind in file.matrix}
    tiers = {name: _tier(getattr(file, name)) for name in TIERS}
    networks = {name: _network(getattr(file, name)) for name in NETWORKS}
    tables = {"matrix": as_scalars(rates), "matrix_energy": as_scalars(energies)}
    rows = {"matrix_rows": si_or(file.matrix_rows, "1", missing=MATRIX_ROWS)}
    return as_scalars(numbers) | tables | tiers | networks | rows


def origin(stem: str, file: ChipFile) -> Origin:
    """Whose fitted parameters a chip takes; one with a file of its own has none of its own."""
    clock = file.clock.si("1/s") if file.clock else 0.0
    base = chip_files().get(file.like)
    like = file.like if base and base.architecture == file.architecture else ""
    return Origin(Path(stem).stem, file.execution, file.architecture, clock, like)


def _check(stem: str, file: ChipFile) -> None:
    needed = (*REQUIRED_FACTS, "shared") if file.execution == "launched" else REQUIRED_FACTS
    missing = [field for field in needed if getattr(file, field) is None]
    if missing:
        raise InputError(
            f"{stem} cannot be priced: its {', '.join(missing)} is not known; "
            f"add it with its source to {stem.removesuffix('.toml')}.toml."
        )


def own_file(path: Path) -> ChipFile:
    """A chip file of one's own, short or whole, of technologies that there are, and of numbers that can be.

    **Raises:**

    - `InputError`: naming the file, the field and what is wrong with it.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _own_file(path, ())
    return _own_file(path, (status.st_mtime_ns, status.st_size))


@functools.lru_cache(64)
def _own_file(path: Path, version: tuple[int, ...]) -> ChipFile:
    """The same of one version of the file, read once."""
    content = read_toml(path)
    try:
        whole = expanded(content, path.stem, _base(content))
        file = ChipFile.model_validate(whole)
        for place, load in _technologies(file).items():
            _load_at(place, load)
        check_plausible(file)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}.") from None
    except InputError as wrong:
        raise InputError(f"{path}: {wrong}") from None
    return file


def _base(content: dict[str, Any]) -> ChipFile | None:
    """The chip of the library that a file is like, under the library's name for it; `None` without one."""
    like = content.get("like", "")
    if not isinstance(like, str):
        raise InputError(f"like: it is {in_words(like)}, not a chip's name in quotation marks.")
    if not like:
        return None
    content["like"] = find_chip(like)
    return chip_files()[content["like"]]


def _load_at(place: str, load: Callable[[], object]) -> None:
    try:
        load()
    except InputError as wrong:
        raise InputError(f"{place}: {wrong}") from None


def _technologies(file: ChipFile) -> dict[str, Callable[[], object]]:
    """What loads each technology that a chip names, by its key."""
    found: dict[str, Callable[[], object]] = {"node": partial(load_node, file.node)}
    for name in (*TIERS, *NETWORKS):
        if table := getattr(file, name):
            load = load_memory if isinstance(table, TierFile) else load_link
            found[f"{name}.technology"] = partial(load, table.technology)
    return found


def _tier(file: TierFile | None) -> Memory:
    if file is None:
        return Memory(*NO_TIER)
    return Memory(
        **in_si(file, ("capacity", "bandwidth", "usable")),
        energy=load_memory(file.technology),
        multicast=si_or(file.multicast, "1", missing=1.0),
        parts=si_or(file.parts, "1", missing=1.0),
        staged=si_or(file.staged, "1", missing=0.0),
        block_bandwidth=si_or(file.block_bandwidth, "byte/s", missing=0.0),
        core_bandwidth=si_or(file.core_bandwidth, "byte/s", missing=0.0),
        reported=_reported(file),
    )


def _reported(file: TierFile) -> float:
    """Bytes that the driver reports over those that are sold."""
    return file.reported.si("byte") / file.capacity.si("byte") if file.reported else 1.0


def _network(file: NetworkFile | None) -> Network:
    if file is None:
        return Network(**NO_LINK)
    return Network(
        **in_si(file, ("bandwidth", "latency", "size")),
        energy=load_link(file.technology),
        topology=file.topology,
        reduces=file.reduces,
    )


def device_facts(file: ChipFile) -> list["Fact"]:
    """What the devices of a main memory bring beside its size and rate, where the file counts them."""
    main, count = file.main, stacks_of(file.main)
    if main is None or not count:
        return []
    tech, found = memory_technology(main.technology), []
    for name, each in (("energy", False), ("edge", True), ("idle", True)):
        number = getattr(tech, name)
        if number is not None:
            source = f"technology {main.technology}: {tech.sources[number.source]}"
            value = number.value * (count if each else 1.0)
            note = f"{count:g} x {number.value:g} {number.unit}" if each else "of a byte"
            changed = number.model_copy(update={"value": value, "note": note})
            found.append(_fact(f"main.{name}", changed, source))
    return found


class Fact(NamedTuple):
    """A number of a file: where it stands, the number as published, its source, how far to trust it."""

    field: str
    value: str
    confidence: str
    source: str


def facts(file: ChipFile) -> list[Fact]:
    """Every number of a chip's file."""
    return [_fact(place, number, file.sources[number.source]) for place, number in sourced(file)]


def _fact(place: str, number: Quantity, source: str) -> Fact:
    trust = number.confidence + (", recalled" if number.recalled else "")
    note = f" ({number.note})" if number.note else ""
    unit = "" if number.unit == "1" else f" {number.unit}"
    return Fact(place, f"{number.value:,g}{unit}", trust, source + note)


def checked_chip_file(name: str) -> tuple[str, ChipFile]:
    """A chip of the library, or of a file, checked as far as it can be.

    **Raises:**

    - `InputError`: for an unknown chip, or a file that is wrong.
    """
    stem, file = chip_file(name)
    if not stem.endswith(".toml"):
        return stem, file
    own = Path(stem).stem
    build(own, file, Plan(), FITTED)
    return own, file
