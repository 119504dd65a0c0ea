"""Reports: one page of HTML with tables, pictures, what was assumed, versions and sources.

A page needs nothing beside it: no network and no other file. Its one script sorts tables; the page's policy
allows no other.
"""

import base64
import contextlib
import hashlib
import shlex
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.errors import InputError
from perfmodel.files import check_place, write_whole
from perfmodel.interface.plots.theme import altair, as_svg
from perfmodel.interface.tables import Table
from perfmodel.library.chip import chip_file, facts
from perfmodel.library.ledger import ASKED_BASES, COST_BASES, Basis, fact
from perfmodel.library.model import find_model, model_files
from perfmodel.package_versions import versions

PACKAGES = ("perfmodel", "jax", "numpy")
"""Whose versions a page names."""

MAX_ROWS = 200
"""Rows of a table that a page shows; the rest is in the file beside it."""


class Picture(NamedTuple):
    """An Altair chart, and what it shows."""

    chart: Any
    caption: str = ""


class Page(NamedTuple):
    """What a report says.

    - `title`: in a few words; `summary`: the answer, in sentences.
    - `parts`: tables and pictures, in order.
    - `assumptions`: what a reader must know to believe it; `sources`: of facts, by what they are of, a line
      for each; of chips every fact is listed with its own.
    - `command`: that makes the same page again.
    """

    title: str
    summary: Sequence[str]
    parts: Sequence[Table | Picture]
    assumptions: Sequence[str] = ()
    sources: dict[str, str] = {}
    command: Sequence[str] = ()


def check_report(path: Path) -> None:
    """Find out before any work whether a report may be written at `path`.

    **Raises:**

    - `InputError`: for another ending than .html, a place that cannot be written, or without Altair.
    """
    if path.suffix != ".html":
        raise InputError(f"{path.name} ends in {path.suffix!r}; a report is .html.")
    altair()
    check_place(path)


def write_report(path: Path, page: Page) -> None:
    """Write a page whole or not at all, with the command that is running."""
    page = page._replace(command=["perfmodel", *sys.argv[1:]])
    write_whole(path, as_html(page).encode())


def as_html(page: Page) -> str:
    """The page as text, from `page.html`."""
    texts = {name: _text_of(f"page.{name}") for name in ("css", "js")}
    script_hash = base64.b64encode(hashlib.sha256(texts["js"].encode()).digest()).decode()
    used = ", ".join(f"{name} {number}" for name, number in versions(PACKAGES).items() if number)
    return _template().render(
        page=page,
        parts=[_drawn(part) if isinstance(part, Picture) else _cut(part) for part in page.parts],
        facts={of: table for of in page.sources if (table := _facts_table(of)) is not None},
        command=shlex.join(page.command),
        versions=used,
        style=_safe(texts["css"]),
        script=_safe(texts["js"]),
        script_hash=_safe(script_hash),
        most_letters=MAX_LETTERS,
    )


MAX_LETTERS = 60
"""Of a cell; of a longer one the beginning is shown, and the rest when it is opened."""


def _template() -> Any:
    import jinja2  # comes with Altair, without which there is no report

    texts = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    texts.filters["short"] = lambda cell: textwrap.shorten(cell, MAX_LETTERS, placeholder=" ...")
    return texts.from_string(_text_of("page.html"))


def _safe(text: str) -> Any:
    """Text of our own, which is put into the page as it stands."""
    import markupsafe

    return markupsafe.Markup(text)


def _text_of(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _drawn(picture: Picture) -> dict[str, Any]:
    return {"svg": _safe(as_svg(picture.chart)), "caption": picture.caption}


def _cut(table: Table) -> Table:
    """The rows that a page shows, and in the note how many it does not."""
    left_out = len(table.rows) - MAX_ROWS
    more = f"{left_out:,} more rows are not shown." if left_out > 0 else ""
    rows = [[str(cell) for cell in row] for row in table.rows[:MAX_ROWS]]
    return table._replace(rows=rows, note=" ".join(filter(None, (table.note, more))))


def _facts_table(of: str) -> Table | None:
    """Every number of a chip with its source; `None` of what is no chip."""
    with contextlib.suppress(InputError):
        return Table(
            f"Facts of {of}", ("fact", "value", "trust", "source"), facts(chip_file(of)[1])
        )
    return None


SERVING_TERMS = (
    "TTFT is the mean time from sending a request to its first token, with the wait for KV-cache "
    "capacity and the burst at the beginning of a run; TPOT is (total - TTFT) / (output tokens - 1).",
)
"""Definitions that every page of served models repeats."""


SERVED: tuple[Basis, ...] = (*ASKED_BASES, "unknown")
"""What the USD of served models are of."""


def usd_note(bases: Sequence[Basis] = SERVED) -> str:
    """What USD are of, and how they are made."""
    words = "; ".join(f"{word}: {COST_BASES[word]}" for word in bases)
    years, interest, tariff, overhead = map(fact, ("life", "interest", "tariff", "overhead"))
    return (
        f"USD are of what cost_basis names. {words[0].upper()}{words[1:]}. Chips are written off over "
        f"{years:g} years at {100 * interest:g} % interest, busy all the time; electricity costs "
        f"{tariff:g} USD/kWh, and the site draws {overhead:g} W for each watt at the wall."
    )


def sources_of(chips: Iterable[str], models: Iterable[str] = ()) -> dict[str, str]:
    """Where the facts of chips and models come from, by their names, a line for each source: its title, its
    publisher, its date; what is not known is left out."""
    found: dict[str, str] = {}
    looked_up = [(name, chip_file) for name in chips] + [(name, _model_file) for name in models]
    for name, look_up in looked_up:
        with contextlib.suppress(InputError):
            stem, file = look_up(name)
            found[stem] = "\n".join(dict.fromkeys(file.sources.values()))
    return found


def _model_file(name: str) -> tuple[str, Any]:
    stem = find_model(name)
    return stem, model_files()[stem]


FITTED_BASIS = (
    "Constants of kernels are fitted to the measurements of aiconfigurator-core 0.12.0 (Apache-2.0) where a "
    "chip has some; other chips take their architecture's or a prior, with wider ranges.",
    "Ranges hold nine of ten held-out rows.",
)
"""What every page of predictions rests on."""
