"""The pages of `docs/reference`, made from what the program itself reads: `python docs/reference.py`.

Columns and keys are those of the schemas, with what their docstrings say; commands are as `--help` has them.
"""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import typer
from pydantic import BaseModel
from typer.cli import get_docs_for_click

from perfmodel.design.study import Study
from perfmodel.inference.grid import INNER, OUTER, Range
from perfmodel.inference.serving_predictions import DEFINITIONS
from perfmodel.inference.serving_row import DEFAULTS
from perfmodel.interface.cli import app
from perfmodel.interface.serving_columns import SERVING_COLUMNS
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.framework import FrameworkFile
from perfmodel.library.model import ModelFile
from perfmodel.library.schema import ChipFile, LinkTechnology, MemoryTechnology, NodeTechnology

FOLDER = Path(__file__).parent / "reference"

FILES: dict[str, tuple[str, tuple[type[BaseModel], ...]]] = {
    "study": ("A study of a search", (Study,)),
    "chip": ("A chip", (ChipFile,)),
    "model": ("A model", (ModelFile,)),
    "framework": ("A framework", (FrameworkFile,)),
    "technology": ("Memories, links and nodes", (MemoryTechnology, LinkTechnology, NodeTechnology)),
}
"""Files that users write: page, title, and what each may say."""

NAMES = r"`\w+`(?:, `\w+`)*"
PLAIN = {float: "number", int: "whole number", str: "text", bool: "true or false", Any: "anything"}


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    files = {f"{name}.md": file_page(title, kinds) for name, (title, kinds) in FILES.items()}
    return {
        "serving-columns.md": serving_page(),
        "kernel-columns.md": kernel_page(),
        "commands.md": commands_page(),
        "grid.md": grid_page(),
    } | files


def table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    names = list(names)
    lines = [
        names,
        ["---"] * len(names),
        *([cell.replace("|", "\\|") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def meanings(kind: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each field, as here.

    - `kind`: a class whose docstring has such a line for each field.
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").split("\n\n")
        bullets = [one for block in lines for one in re.split(r"(?:^|\n)- ", block)[1:]]
        for part in (
            part for one in bullets for part in re.split(rf"; (?={NAMES}: )", " ".join(one.split()))
        ):
            if said := re.match(rf"({NAMES}): (.*)", part):
                found |= dict.fromkeys(re.findall(r"`(\w+)`", said[1]), said[2].rstrip("."))
    return found


def serving_page() -> str:
    """Columns of the serving schema."""
    lines = [
        "# Columns of the serving schema\n",
        "`predict serving` reads these columns, as a CSV file or as options (`--isl 8192`); so do `explain`, "
        "a grid of `sweep`, and, in part, `recommend` and `simulate`. Numbers are greater than zero.\n",
    ]
    for panel, columns in by_panel():
        rows = [[f"`{name}`", one.meaning, default_of(name), one.example] for name, one in columns]
        lines += [f"## {panel}\n", table(["column", "meaning", "default", "example"], rows)]
    words = [[name, meaning] for name, meaning in DEFINITIONS.items()]
    return "\n".join([*lines, "## What is written\n", table(["word", "meaning"], words)])


def by_panel() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Columns of each part of the help."""
    for panel in dict.fromkeys(one.panel for one in SERVING_COLUMNS.values()):
        yield panel, [(name, one) for name, one in SERVING_COLUMNS.items() if one.panel == panel]


def default_of(name: str) -> str:
    """What an empty cell means, where it is a number; zero: no limit, or none."""
    return f"{DEFAULTS[name]:g}" if name in DEFAULTS else ""


def kernel_page() -> str:
    """Columns of the kernel schema, operation by operation."""
    lines = [
        "# Columns of the kernel schema\n",
        "`predict kernels`, `explain` and `calibrate` read `chip`, `op`, `dtype`, `framework` and the "
        "columns of the operation. Numbers are greater than zero; a column without a default is "
        "needed.\n",
    ]
    for op, kind in KERNELS.items():
        said = meanings(kind)
        rows = [
            [f"`{field.name}`", said.get(field.name, ""), *values_of(field)]
            for field in dataclasses.fields(kind)
            if field.metadata.get("column")
        ]
        first = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
        header = table(["column", "meaning", "values", "default"], rows)
        lines += [f"## `{op}`\n", " ".join(first.split()) + "\n", header]
    return "\n".join(lines)


def values_of(field: "dataclasses.Field[Any]") -> tuple[str, str]:
    """What a cell of a kernel's column may be, and what an empty one means."""
    words, default = field.metadata["words"], field.metadata["default"]
    if words:
        return ", ".join(words), words[0]
    if isinstance(default, str):
        return "number", f"that of `{default}`"
    return "number", "" if default is None else f"{default:g}"


def commands_page() -> str:
    """Every command with every option, as Typer writes them."""
    command = typer.main.get_command(app)
    said = get_docs_for_click(obj=command, ctx=typer.Context(command), name="perfmodel")
    return said.replace("# `perfmodel`", "# Commands", 1).replace(r"\[", "[")


def grid_page() -> str:
    """The file of a sweep."""
    said = (
        "# A grid of a sweep\n",
        "A grid names columns of the [serving schema](serving-columns.md), each with one value, a list, or a "
        "range.\n",
        f"Columns: {', '.join(f'`{name}`' for name in (*OUTER, *INNER))}.\n",
        "## A range\n",
        keys(Range),
        "## [hardware]\n",
        "Factors from 0.001 to 1,000 on numbers of a chip's file, each with one value, a list, or a range: "
        '`"main.bandwidth" = [0.5, 1, 2]`.\n',
    )
    return "\n".join(said)


def file_page(title: str, kinds: Iterable[type[BaseModel]]) -> str:
    """Keys of a file, and of every table in it."""
    lines = [f"# {title}\n"]
    for kind in dict.fromkeys(each for one in kinds for each in with_parts(one)):
        said = (inspect.getdoc(kind) or "").split("\n\n- ")[0]
        lines += [f"## {kind.__name__}\n", " ".join(said.split()) + "\n", keys(kind)]
    return "\n".join(lines)


def keys(kind: type[BaseModel]) -> str:
    """Keys of a table of a file."""
    said = meanings(kind)
    rows = [
        [f"`{key.name}`", said.get(key.name, ""), key.values, key.default] for key in keys_of(kind)
    ]
    return table(["key", "meaning", "values", "default"], rows)


class Key(NamedTuple):
    """A key, what it may be, and what it is where it is absent."""

    name: str
    values: str
    default: str


def keys_of(kind: type[BaseModel]) -> Iterator[Key]:
    """Keys of a table; those without a default must be given."""
    hints = hints_of(kind)
    for name, field in kind.model_fields.items():
        limits = "" if typing.get_origin(hints[name]) is Annotated else limits_of(field.metadata)
        default = (
            "must be given"
            if field.is_required()
            else shown(field.get_default(call_default_factory=True))
        )
        yield Key(name, f"{described(hints[name])}{limits}", default)


@functools.cache
def hints_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Annotations of all fields, inherited and made ones too."""
    found = typing.get_type_hints(kind, include_extras=True)
    return {name: found.get(name, field.annotation) for name, field in kind.model_fields.items()}


def shown(value: Any) -> str:
    """A default as a file would have it; empty where nothing is meant."""
    if (
        value is None
        or value in ("", [], {})
        or (isinstance(value, BaseModel) and not value.model_fields_set)
    ):
        return ""
    if isinstance(value, BaseModel):
        return ", ".join(f"{name} {getattr(value, name):g}" for name in type(value).model_fields)
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def described(hint: Any) -> str:
    """What may stand for an annotation, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return described(inner[0]) + limits_of(inner[1:])
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(described(one) for one in inner if one is not type(None)))
    if origin is list:
        return f"list: {described(inner[0])}"
    if origin is dict:
        return f"table: {described(inner[1])}"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint.__name__
    return PLAIN.get(hint, str(getattr(hint, "__name__", hint)))


SIGNS = {"gt": "above", "ge": "from", "le": "to", "lt": "below"}


def limits_of(metadata: Iterable[Any]) -> str:
    """Bounds and units of an annotation."""
    said = []
    for one in flat(metadata):
        said += [
            f"{word} {getattr(one, sign):g}" for sign, word in SIGNS.items() if hasattr(one, sign)
        ]
        if isinstance(check := getattr(one, "func", None), functools.partial):
            said.append(f"in {check.args[0]}")
    return f" ({', '.join(dict.fromkeys(said))})" if said else ""


def flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """Metadata of an annotation, with those that a `Field` in it holds."""
    for one in metadata:
        yield one
        yield from getattr(one, "metadata", ())


def with_parts(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A table, and those that its keys hold, outermost first."""
    yield kind
    for hint in hints_of(kind).values():
        for part in parts_of(hint):
            yield from with_parts(part)


def parts_of(hint: Any) -> Iterator[type[BaseModel]]:
    """Tables in an annotation."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint
    for inner in typing.get_args(hint):
        yield from parts_of(inner)


def write() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    write()
