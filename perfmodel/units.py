"""Units: SI inside, prefixes only at the door.

Every quantity inside the program is a plain number in s, byte, byte/s, FLOP/s,
J, W, m2 or USD. Files and screens use prefixes; they are turned into SI here,
once, and GB means 1e9 bytes (GiB means 2**30).
"""

import math
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perfmodel.errors import InputError

Scalar: TypeAlias = Float[Array, ""]
"""One traced number."""

Values: TypeAlias = Float[Array, "..."]
"""A traced number, or one for each alternative."""

Flag: TypeAlias = Bool[Array, ""]
"""One traced truth value."""

MAX_QUANTITY = 1e30
"""No quantity in a file is larger, in SI units: single precision holds its products."""

PREFIXES = {
    "": 1.0,
    "f": 1e-15,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
}

PREFIXED_UNITS = {
    "B": "byte",
    "B/s": "byte/s",
    "FLOP": "FLOP",
    "FLOP/s": "FLOP/s",
    "exp/s": "exp/s",
    "s": "s",
    "Hz": "1/s",
    "J": "J",
    "J/B": "J/byte",
    "J/FLOP": "J/FLOP",
    "J/exp": "J/exp",
    "W": "W",
    "USD": "USD",
    "V": "V",
}

PLAIN_UNITS = {
    "1": (1.0, "1"),
    "1/s": (1.0, "1/s"),
    "mm2": (1e-6, "m2"),
    "m2": (1.0, "m2"),
    "um2": (1e-12, "m2"),
    "mm": (1e-3, "m"),
    "mm/(GB/s)": (1e-12, "m/(byte/s)"),
    "1/cm2": (1e4, "1/m2"),
    "W/GB": (1e-9, "W/byte"),
    "USD/mm2": (1e6, "USD/m2"),
    "W/USD": (1.0, "W/USD"),
    "USD/kW/month": (1e-3 / (365.25 * 86400 / 12), "USD/s/W"),
    "mm2/(GB/s)": (1e-15, "m2/(byte/s)"),
    "mm2/(TFLOP/s)": (1e-18, "m2/(FLOP/s)"),
    "MB/mm2": (1e12, "byte/m2"),
    "Mb/mm2": (1e12 / 8, "byte/m2"),
    "W/mm2": (1e6, "W/m2"),
    "pJ/bit": (8e-12, "J/byte"),
    "Gb/s": (1e9 / 8, "byte/s"),
    "TB/s/GB": (1e3, "1/s"),
    "USD/h": (1 / 3600, "USD/s"),
    "USD/GB": (1e-9, "USD/byte"),
    "USD/kWh": (1 / 3.6e6, "USD/J"),
    "USD/M": (1e-6, "USD/token"),
    "year": (365.25 * 86400, "s"),
    "h": (3600.0, "s"),
}


def as_scalar(value: Any) -> Scalar:
    """Turn `value` into a traced number of the default precision.

    A plain Python float in a module gets no gradient, silently; so every traced
    field has this converter.
    """
    return jnp.asarray(value, dtype=jnp.result_type(float))


def as_values(value: Any) -> Values:
    """Turn `value`, of any shape, into traced numbers of the default precision."""
    return jnp.asarray(value, dtype=jnp.result_type(float))


def parse(unit: str) -> tuple[float, str]:
    """Read a unit: its size in SI, and the SI unit it measures.

    `parse("GB/s")` is `(1e9, "byte/s")`.

    **Raises:**

    - `InputError`: for a unit not in the table.
    """
    if unit in PLAIN_UNITS:
        return PLAIN_UNITS[unit]
    for base, si in PREFIXED_UNITS.items():
        prefix = unit.removesuffix(base)
        if unit.endswith(base) and prefix in PREFIXES:
            return PREFIXES[prefix], si
    raise InputError(
        f"unknown unit {unit!r}; allowed are {', '.join(PREFIXED_UNITS)} with a prefix "
        f"({', '.join(filter(None, PREFIXES))}) and {', '.join(PLAIN_UNITS)}."
    )


def to_si(value: float, unit: str, dimension: str) -> float:
    """Convert `value` in `unit` to SI, and check that it measures `dimension`.

    **Raises:**

    - `InputError`: when the unit measures something else, or the value is beyond any machine.
    """
    size, si = parse(unit)
    if si != dimension:
        raise InputError(f"{unit!r} measures {si}, but {dimension} is wanted.")
    if math.isfinite(value) and abs(value * size) > MAX_QUANTITY:
        raise InputError(
            f"{value:g} {unit} is too much; at most {MAX_QUANTITY / size:g} {unit} is possible."
        )
    return value * size


def figures(value: float | int, digits: int = 4) -> str:
    """A number for a table: some digits, or all that stand before the point: `21,991`, `2.884`."""
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def percent(share: float | None) -> str:
    """A share for a table: `5.0 %`; a dash where there is none."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def show(value: float, unit: str, digits: int = 3) -> str:
    """Write an SI value with the prefix that suits it: `show(3.35e12, "B/s")` is `3.35 TB/s`."""
    steps = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]
    steps += [(1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f")]
    size, prefix = next(((s, p) for s, p in steps if abs(value) >= s), (1.0, ""))
    return f"{value / size:.{digits}g} {prefix}{unit}"
