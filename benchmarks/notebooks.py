"""Notebooks of pages of the documents: the same prose and code, run, with what they print.

Run: python -m benchmarks.notebooks --out docs/notebooks
"""

import argparse
import ast
import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.files import write_whole

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("tutorials/predict.md", "tutorials/python.md")

CELL, LAST = "cell.py", "_last"
"""A cell while it runs, and the value of its last line."""

Json = dict[str, Any]


class Cell(NamedTuple):
    """Prose (`markdown`), Python, a line of a shell, or a file to write, whose name is `title`."""

    kind: str
    text: str
    title: str = ""

    @property
    def source(self) -> str:
        """As a notebook has it."""
        if self.title:
            return f"%%writefile {self.title}\n{self.text}"
        return f"!{self.text}" if self.kind == "sh" else self.text


FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)


def cells_of(page: str) -> Iterator[Cell]:
    """The cells of a page, in order; links to other pages lead from the notebook's folder."""
    text, end = (DOCS / page).read_text(encoding="utf-8"), 0
    for block in FENCE.finditer(text):
        yield from _prose(page, text[end : block.start()])
        title = re.search(r'title="([^"]*)"', block[2])
        yield Cell(block[1], block[3].rstrip("\n"), title[1] if title else "")
        end = block.end()
    yield from _prose(page, text[end:])


def _prose(page: str, text: str) -> Iterator[Cell]:
    def moved(link: re.Match[str]) -> str:
        target = os.path.normpath(Path(page).parent / link[1])
        return f"](../{target})"

    if text.strip():
        yield Cell("markdown", re.sub(r"\]\((?!https?:|#)([^)]+)\)", moved, text.strip()))


def outputs_of(cell: Cell, space: dict[str, Any]) -> list[Json]:
    """What a cell shows when it runs here."""
    if cell.title:
        Path(cell.title).write_text(cell.text + "\n", encoding="utf-8")
        return [_printed(f"Writing {cell.title}\n")]
    if cell.kind == "sh":
        return [_printed(_shell(cell.text))]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        value = _run(cell.text, space)
    shown = [_printed(printed.getvalue())] if printed.getvalue() else []
    return shown + ([] if value is None else [_value(value)])


def _shell(line: str) -> str:
    words = [sys.executable, "-m", "perfmodel"]
    words += line.removeprefix("perfmodel ").split()
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _run(code: str, space: dict[str, Any]) -> Any:
    """Run it; the value of an expression that ends it, as notebooks show it."""
    body = ast.parse(code).body
    ends = bool(body) and isinstance(body[-1], ast.Expr)
    if ends:
        last = ast.unparse(body.pop())
        body += ast.parse(f"{LAST} = {last}").body
    Path(CELL).write_text(ast.unparse(ast.Module(body, [])), encoding="utf-8")
    space |= runpy.run_path(CELL, space, "__main__")
    os.remove(CELL)
    return space.pop(LAST) if ends else None


def _printed(text: str) -> Json:
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}


def _value(value: Any) -> Json:
    data = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    return {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None}


def notebook(page: str) -> Json:
    """A page as a notebook, run in an empty folder."""
    space: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        cells = [_cell(i, cell, space) for i, cell in enumerate(cells_of(page))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(i: int, cell: Cell, space: dict[str, Any]) -> Json:
    common = {
        "id": f"cell-{i}",
        "metadata": {},
        "source": cell.source.splitlines(keepends=True),
    }
    if cell.kind == "markdown":
        return {"cell_type": "markdown"} | common
    outputs = outputs_of(cell, space)
    return {"cell_type": "code", "execution_count": None, "outputs": outputs} | common


def place(page: str, out: Path) -> Path:
    """Where the notebook of a page lies."""
    return out / f"{Path(page).stem}.ipynb"


def main() -> None:
    """Write the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS / "notebooks", help="folder to write")
    out = parser.parse_args().out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        text = json.dumps(notebook(page), indent=1, ensure_ascii=False) + "\n"
        write_whole(place(page, out), text.encode())
        print(place(page, out))


if __name__ == "__main__":
    main()
