"""A short chip file: what it leaves out is taken from a chip of the library, and what follows is derived.

- `cores = 160`, `clock = "1.9 GHz"`: a number and its unit stand for a table with value, unit and source.
- `like = "h100-sxm"`: what the file does not say is as that chip has it.
- `stacks = 8`, `memory = "hbm4"`: capacity and bandwidth of the main memory from those of its devices.
- Rates and the cores' own memory follow `cores` and `clock`; other formats follow `matrix.bf16`.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from perfmodel.errors import InputError
from perfmodel.library.files import in_words
from perfmodel.library.schema import ChipFile, MemoryTechnology, Quantity
from perfmodel.library.technology import memory_technology
from perfmodel.units import parse, show, to_si

Content = dict[str, Any]
"""A chip file as TOML has it, or a part of it."""

OWN, LIKE, DEVICES = "own", "like", "devices"
"""Keys of the sources that a short file gets: its author, the chip that it is like, its memory's devices."""

CHANGED = (OWN, LIKE, DEVICES)
"""Sources of what a file of one's own says, or what follows from that."""

COUNTS = ("cores", "matrix_rows", "multicast", "parts", "staged", "usable", "size", "stacks")
"""Facts without a unit, which may stand as plain numbers."""

MEMORY_KEYS = ("stacks", "memory", "pin_rate", "stack_capacity")

TABLES = ("sources", "matrix", "private", "shared", "main", "far", "scale_up", "scale_out")
"""Keys whose values are read before the schema has checked that they are tables."""

USABLE = 0.92
"""Share of a main memory for weights and cache: vLLM's and TensorRT-LLM's defaults are 0.9 to 0.95."""

AGREEMENT = 0.05
"""Up to this share may a number that is given differ from the one that is derived in its place."""


def expanded(content: Content, stem: str, base: ChipFile | None) -> Content:
    """A chip file with everything in it that a short one leaves to be found.

    **Arguments:**

    - `content`: the file as TOML has it; `stem`: its name.
    - `base`: the chip that it is like, if it names one.

    **Raises:**

    - `InputError`: for a number without its unit, or numbers that contradict each other.
    """
    given = _with_quantities(ChipFile, content, "")
    memory = {key: given.pop(key) for key in MEMORY_KEYS if key in given}
    for name in TABLES:
        if not isinstance(given.get(name, {}), dict):
            raise InputError(f"{name}: it is {in_words(given[name])}, not a table of keys.")
    whole = given if base is None else _on_base(given, base, stem)
    if memory:
        _add_devices(whole, given, memory)
    return _with_sources(whole, stem, base)


# Numbers with their units


NUMBER = re.compile(r"\s*([-+]?[\d.,_]+(?:[eE][-+]?\d+)?)\s*(\S*)\s*")


def _with_quantities(kind: type[BaseModel], content: Content, place: str) -> Content:
    """The same with a table for each number that stands with its unit in a text, or alone where it counts."""
    found = dict(content)
    for name, value in content.items():
        field, here = kind.model_fields.get(name), f"{place}.{name}".lstrip(".")
        if field is None:
            if not place and name in MEMORY_KEYS:
                found[name] = value
            continue
        classes = list(_classes(field.annotation))
        table = next((one for one in classes if one is not Quantity and _is_table(one)), None)
        if Quantity in classes and dict in classes and isinstance(value, dict):
            found[name] = {key: quantity(one, f"{here}.{key}") for key, one in value.items()}
        elif Quantity in classes:
            found[name] = quantity(value, here)
        elif table is not None and isinstance(value, dict):
            found[name] = _with_quantities(table, value, here)
    return found


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _classes(annotation: Any) -> Iterator[Any]:
    """The classes that an annotation allows; of a dictionary also that of its values."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _classes(parts[0])
    elif origin is dict:
        yield dict
        yield from _classes(parts[1])
    elif origin is Union or parts:
        for part in parts:
            yield from _classes(part)
    else:
        yield annotation


def quantity(value: Any, place: str) -> Any:
    """The table of a number that stands for itself; anything else as it is.

    **Raises:**

    - `InputError`: for a number whose unit is missing, or a text that is no number.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and place.rpartition(".")[2] in COUNTS:
        return _own(float(value), "1")
    if number or isinstance(value, str):
        return _own(*_number_and_unit(value, place))
    return value


def _number_and_unit(given: Any, place: str) -> tuple[float, str]:
    found = NUMBER.fullmatch(str(given))
    counts = place.rpartition(".")[2] in COUNTS
    try:
        value = float(found[1].replace(",", "").replace("_", "")) if found else None
    except ValueError:
        value = None
    if found is None or value is None or not (found[2] or counts):
        raise InputError(
            f"{place}: it is {in_words(given)}, not a number with its unit; "
            'write it as "1.8 GHz", "3.35 TB/s" or "989 TFLOP/s".'
        )
    return value, found[2] or "1"


def _own(value: float, unit: str) -> Content:
    return {"value": value, "unit": unit, "source": OWN, "confidence": "estimate"}


# The chip that it is like


def _on_base(given: Content, base: ChipFile, stem: str) -> Content:
    """The content of `base` with what is given in its place, and what follows from that."""
    old = base.model_dump(mode="json", exclude_none=True)
    old |= {"aliases": [], "name": stem, "note": f"As {base.name} where {stem}.toml says nothing."}
    whole = _merged(old, given)
    _follow_node(whole, given, base)
    for place, factor, why in _followers(whole, given, base):
        _scale(whole, place, factor, f"{why}, x {factor:.4g}")
    return whole


def _merged(old: Any, new: Any) -> Any:
    """Tables merged key by key; a quantity as a whole, and the old one where both are the same number."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    if "value" in new:
        same = (old.get("value"), old.get("unit")) == (new["value"], new.get("unit"))
        return old if same and new.get("source") == OWN else new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}


def _follow_node(whole: Content, given: Content, base: ChipFile) -> None:
    """SRAM is that of the chip's own node, as it was that of the base's."""
    for tier in ("private", "shared"):
        named = "technology" in given.get(tier, {})
        if tier in whole and not named and whole[tier].get("technology") == f"sram-{base.node}":
            whole[tier]["technology"] = f"sram-{whole['node']}"


def _followers(
    whole: Content, given: Content, base: ChipFile
) -> Iterator[tuple[tuple[str, ...], float, str]]:
    """Facts that follow others which were given: where they stand, their factor, and what they follow."""
    cores, clock = (_ratio(whole, (name,), base) for name in ("cores", "clock"))
    vector = _ratio(whole, ("vector",), base) if "vector" in given else cores * clock
    matrix = given.get("matrix", {})
    units = _ratio(whole, ("matrix", "bf16"), base) if "bf16" in matrix else cores * clock
    by_cores, by_bf16 = "with cores and clock", "with bf16"
    why = by_bf16 if "bf16" in matrix else by_cores
    slow = 1.05 * _si(base, ("vector",))
    for kind in base.matrix:
        on_vector = _si(base, ("matrix", kind)) <= slow
        if kind not in matrix:
            factor, reason = (vector, "with the vector units") if on_vector else (units, why)
            yield ("matrix", kind), factor, reason
    if "vector" not in given:
        yield ("vector",), cores * clock, by_cores
    if "exponential" not in given:
        yield ("exponential",), cores * clock, by_cores
    size = _ratio(whole, ("main", "capacity"), base)
    if "reported" not in given.get("main", {}):
        yield ("main", "reported"), size, "with capacity"
    own = given.get("private", {})
    if "capacity" not in own:
        yield ("private", "capacity"), cores, "with cores"
    if "bandwidth" not in own:
        yield ("private", "bandwidth"), cores * clock, by_cores


def _at(table: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        table = table.get(name) if isinstance(table, dict) else None
    return table


def _si(base: ChipFile, place: tuple[str, ...]) -> float:
    """A number of the base in SI; 0 where it has none."""
    one: Any = base
    for name in place:
        one = one.get(name) if isinstance(one, dict) else getattr(one, name, None)
    return one.value * parse(one.unit)[0] if isinstance(one, Quantity) else 0.0


def _number(table: Any) -> float:
    """A quantity's table in SI; 0 for what is none, which the schema refuses later."""
    if not isinstance(table, dict) or not isinstance(table.get("value"), int | float):
        return 0.0
    return float(table["value"]) * parse(str(table.get("unit")))[0]


def _ratio(whole: Content, place: tuple[str, ...], base: ChipFile) -> float:
    """A number over that of the base; 1 where one of them has none."""
    new, old = _number(_at(whole, place)), _si(base, place)
    return new / old if new > 0 and old > 0 else 1.0


def _scale(whole: Content, place: tuple[str, ...], factor: float, note: str) -> None:
    """Multiply a fact by a factor, and say why; nothing where it is absent, or stays as it is."""
    table, old = _at(whole, place[:-1]) if place[:-1] else whole, _at(whole, place)
    if factor == 1.0 or not isinstance(old, dict):
        return
    derived = {"source": LIKE, "confidence": "derived", "note": note}
    table[place[-1]] = {"value": old["value"] * factor, "unit": old["unit"]} | derived


# Main memory from its devices


def _add_devices(whole: Content, given: Content, memory: Content) -> None:
    """Put the main memory of `stacks` devices into the file; none for no device.

    **Raises:**

    - `InputError`: where it lacks a device's technology, or contradicts what is given.
    """
    main, own = whole.get("main", {}), given.get("main", {})
    count = _count(memory.get("stacks"))
    if not count:
        whole.pop("main", None)
        return
    name = memory.get("memory", main.get("technology"))
    if not isinstance(name, str):
        raise InputError('memory: it is missing; name the devices of stacks, as memory = "hbm3e".')
    tech = memory_technology(name)
    found = _devices(tech, name, count, memory)
    _check_agreement(own, found, name, count)
    usable = {"value": USABLE, "unit": "1", "source": DEVICES, "confidence": "estimate"}
    usable["note"] = "vLLM's and TensorRT-LLM's defaults are 0.9 to 0.95"
    whole["main"] = {"usable": main.get("usable", usable)} | found | own
    text = f"technology {name}: {tech.sources[tech.bandwidth.source]}" if tech.bandwidth else name
    whole["sources"] = {**whole.get("sources", {}), DEVICES: text}


def _count(stacks: Any) -> float:
    if stacks is None:
        raise InputError("stacks: it is missing; say how many devices of the memory there are.")
    if isinstance(stacks, bool) or not isinstance(stacks, int | float) or not 0 <= stacks < 1e6:
        raise InputError(f"stacks: it is {in_words(stacks)}; give a number of devices, as 8.")
    return float(stacks)


def _devices(tech: MemoryTechnology, name: str, count: float, memory: Content) -> Content:
    """The table of a main memory of some devices."""
    if tech.capacity is None or tech.bandwidth is None:
        raise InputError(f"memory: {name} is not sold by the device; give main.capacity and more.")
    rate, size = tech.bandwidth.si("byte/s"), tech.capacity.si("byte")
    said = [f"{show(rate, 'B/s')} each", f"{show(size, 'B')} each"]
    if "stack_capacity" in memory:
        size = _given(memory, "stack_capacity", "byte")
        said[1] = f"{show(size, 'B')} each, as given"
    if "pin_rate" in memory:
        if tech.pins is None:
            raise InputError(f"pin_rate: the pins of {name} are not known; give main.bandwidth.")
        pins, pin = tech.pins.si("1"), _given(memory, "pin_rate", "byte/s")
        rate, said[0] = pins * pin, f"{pins:,.0f} pins at {8e-9 * pin:g} Gb/s each"
    return {
        "kind": tech.name,
        "technology": name,
        "stacks": _own(count, "1"),
        "capacity": _derived(count * size, 1e9, "GB", f"{count:g} x {said[1]}"),
        "bandwidth": _derived(count * rate, 1e9, "GB/s", f"{count:g} x {said[0]}"),
    }


def _given(memory: Content, key: str, dimension: str) -> float:
    value = memory[key]
    if not isinstance(value, str):
        raise InputError(f'{key}: it is {in_words(value)}; write it with its unit, as "36 GB".')
    return to_si(*_number_and_unit(value, key), dimension)


def _derived(value: float, size: float, unit: str, note: str) -> Content:
    one = {"value": value / size, "unit": unit, "source": DEVICES, "confidence": "derived"}
    return one | {"note": note}


def _check_agreement(own: Content, found: Content, name: str, count: float) -> None:
    """What is given beside the devices may not contradict them."""
    if "technology" in own and own["technology"] != name:
        raise InputError(
            f"main.technology is {in_words(own['technology'])}, but memory is {name!r}; take one out."
        )
    for fact, instead in (("capacity", "stack_capacity"), ("bandwidth", "pin_rate")):
        mine, theirs = _number(own.get(fact)), _number(found[fact])
        if fact in own and abs(mine - theirs) > AGREEMENT * theirs:
            unit = "B" if fact == "capacity" else "B/s"
            raise InputError(
                f"main.{fact} is {show(mine, unit)}, but {count:g} devices of {name} have "
                f"{show(theirs, unit)}; take one of them out, or give {instead}."
            )


# Where its numbers are from


def _with_sources(whole: Content, stem: str, base: ChipFile | None) -> Content:
    """The sources that the file's own and derived numbers name, and what a file may leave out."""
    texts = {OWN: f"{stem}.toml"}
    if base is not None:
        texts[LIKE] = f"{base.name}, changed as {stem}.toml says"
    whole["sources"] = texts | whole.get("sources", {})
    return {"name": stem, "vendor": OWN} | whole
