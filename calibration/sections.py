"""Parameters of one chip on disk: a section for each family, framework and format, with its report."""

from pathlib import Path
from typing import Any

from perfmodel.calibration.errors import Errors
from perfmodel.errors import InputError
from perfmodel.files import write_toml
from perfmodel.library.files import read_toml

Names = tuple[str, str, str]
"""Family, framework and format."""

REPORTED = ("train_rows", "steps", *Errors._fields, "coverage")
"""Numbers of a table's report."""


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


def write_section(path: Path, names: Names, section: dict[str, Any]) -> None:
    """Write a section, and leave the others of the file as they are."""
    content, (family, framework, dtype) = _read(path, names)[0], names
    content.setdefault(family, {}).setdefault(framework, {})[dtype] = section
    write_toml(path, content)


def reports(section: dict[str, Any], labels: list[str]) -> bool:
    """Whether a section has the reports of some tables."""
    found = section.get("report")
    return isinstance(found, dict) and all(_is_report(found.get(label)) for label in labels)


def _is_report(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(found.get(name), int | float) for name in REPORTED
    )
