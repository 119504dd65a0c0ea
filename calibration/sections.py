"""Sections of parameters: which tables share one, and how it is written in the file of a chip."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from perfmodel.calibration.data.measurements import Measurements, fastest
from perfmodel.calibration.metrics import Errors, grouped
from perfmodel.errors import InputError
from perfmodel.files import write_toml
from perfmodel.hardware.parameters import parameters
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.files import read_toml
from perfmodel.library.fitted import (
    ATTENTION_FAMILIES,
    FITTED,
    PREFILL_FAMILIES,
    RELEASES,
    SMOOTH,
    UNPACKED_CACHE,
    VENDOR_LIBRARIES,
    section_name,
    unit_scale,
)
from perfmodel.library.fitted import key as written

Names = tuple[str, ...]
"""Of tables within tables of a file: family, framework and format; in the file of releases also the chip,
before them, and the release, after them."""


def section_of(key: Key) -> Names:
    """Family, framework and format by which a key's parameters are filed."""
    family = KERNELS[key.op].family
    return family, key.framework or SMOOTH, section_name(family, key.dtype, key.cache)


def key_of(family: str, chip: str, framework: str, dtype: str) -> Key:
    """The key of a section, as it is filed: the inverse of `section_of` where a family has one operation."""
    framework = "" if framework == SMOOTH else framework
    if family not in ATTENTION_FAMILIES:
        return Key(family, chip, framework, dtype)
    cache = "fp8" if dtype == UNPACKED_CACHE else dtype
    narrow = family in PREFILL_FAMILIES and dtype != UNPACKED_CACHE
    return Key(family, chip, framework, dtype if narrow else "bf16", cache)


def file_of(key: Key) -> str:
    """The file, without its ending, of a key's section: the chip's, or that of all other releases."""
    return RELEASES if key.release else key.chip


def place_of(key: Key, pool_formats: bool = False) -> Names:
    """Where a key's section stands in its file; that of all formats together is bf16's, from which every
    format takes what it has no own fit of.
    """
    names = section_of(key)
    names = (*names[:2], "bf16") if pool_formats else names
    return (key.chip, *names, key.release) if key.release else names


def with_smooth(tables: Sequence[Measurements]) -> Iterator[Measurements]:
    """The tables, and for each chip and format without a smooth one: the fastest of the frameworks.

    What a vendor's library alone was measured at is no such choice, and other releases are none.
    """
    yield from tables
    today = [table for table in tables if not table.key.release]
    groups = grouped(((t.key.op, t.key.chip, section_of(t.key)[2]), t) for t in today)
    for group in groups.values():
        names = {table.key.framework for table in group}
        vendors = VENDOR_LIBRARIES.get(KERNELS[group[0].key.op].family, ())
        if names - {"", *vendors} and "" not in names:
            yield fastest(group)


def sections(
    tables: Sequence[Measurements], pool_formats: bool = False
) -> list[list[Measurements]]:
    """The tables of each section of parameters."""
    places = [(table.key.chip, place_of(table.key, pool_formats)) for table in tables]
    return list(grouped(zip(places, tables, strict=True)).values())


def in_units(fitted: Any) -> dict[str, float]:
    """Parameters in their units, to four digits."""
    values = {}
    for field in parameters(type(fitted)):
        value = float(getattr(fitted, field.name)) / unit_scale(field)
        values[written(field)] = float(f"{value:.4g}")
    return values


REPORTED = ("train_rows", "steps", *Errors._fields, "coverage")
"""What a section says of one of its tables: rows that trained, steps of the fit, and errors."""


def has_reports(section: dict[str, Any], labels: list[str]) -> bool:
    """Whether a section has the reports of some tables."""
    found = section.get("report")
    return isinstance(found, dict) and all(_is_report(found.get(label)) for label in labels)


def _is_report(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(found.get(name), int | float) for name in REPORTED
    )


def read_section(path: Path, names: Names) -> dict[str, Any]:
    """A section of a file; empty where there is none.

    **Raises:**

    - `InputError`: when the file is not one of parameters.
    """
    return _read(path, names)[1]


def _read(path: Path, names: Names) -> tuple[dict[str, Any], dict[str, Any]]:
    content = section = read_toml(path) if path.exists() else {}
    for name in names:
        section = section.get(name, {})
        if not isinstance(section, dict):
            raise InputError(
                f"{path} was not written by `perfmodel calibrate`: {name} is no table; give another --out."
            )
    return content, section


def write_section(
    path: Path, names: Names, section: dict[str, Any], order: Sequence[Names] = ()
) -> None:
    """Write a section, and leave the others of the file as they are.

    **Arguments:**

    - `order`: of sections that are written one by one, whichever is first.
    """
    content = table = _read(path, names)[0]
    for name in names[:-1]:
        table = table.setdefault(name, {})
    table[names[-1]] = section
    write_toml(path, arranged(content, order))


def arranged(content: dict[str, Any], order: Sequence[Names]) -> dict[str, Any]:
    """The content of a file, with the sections of `order` in that order among the places that they have."""
    parts = grouped((names[0], names[1:]) for names in order if names)
    ours = iter([name for name in parts if name in content])
    names = [next(ours) if name in parts else name for name in content]
    return {
        name: arranged(content[name], parts[name]) if name in parts else content[name]
        for name in names
    }


def copy_fitted(prior: Path, out: Path) -> None:
    """Copy the files of fitted parameters, with those that are shipped where `prior` lacks them."""
    out.mkdir(parents=True, exist_ok=True)
    files = {path.name: path for folder in (FITTED, prior) for path in folder.glob("*.toml")}
    for name, path in files.items():
        if path.resolve() != (out / name).resolve():
            shutil.copyfile(path, out / name)
