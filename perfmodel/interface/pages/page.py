"""Reports: one page of HTML with tables, pictures, what was assumed, versions and sources.

A page needs nothing beside it: no network, no script, no other file.
"""

import contextlib
import html
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.errors import InputError
from perfmodel.files import check_place, write_whole
from perfmodel.interface.plots.theme import altair, as_svg
from perfmodel.interface.tables import Table
from perfmodel.library.chip import chip_file
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
    - `assumptions`: what a reader must know to believe it; `sources`: of facts, by what they are of.
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
    """The page as text."""
    said = "".join(f"<p>{_text(line)}</p>" for line in page.summary)
    parts = "".join(_picture(p) if isinstance(p, Picture) else _table(p) for p in page.parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"{_POLICY}<meta name='viewport' content='width=device-width'>"
        f"<title>{_text(page.title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{_text(page.title)}</h1>{said}{parts}{_foot(page)}</main></body></html>\n"
    )


_POLICY = (
    "<meta http-equiv='Content-Security-Policy' "
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
)
"""What the page may load: nothing."""

_STYLE = """
body{font:16px/1.5 sans-serif;color:#222;background:#fff;margin:0}
main{max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}
figure{margin:1.5rem 0}figure svg{max-width:100%;height:auto}
figcaption,.note,footer{color:#555;font-size:.9rem}code{background:#f3f3f3;padding:.1rem .3rem}
@media print{main{max-width:none}figure,tr{break-inside:avoid}}
"""


def _text(words: object) -> str:
    return html.escape(str(words))


def _table(table: Table) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in table.names)
    rows = [
        f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
        for row in table.rows[:MAX_ROWS]
    ]
    left_out = len(table.rows) - MAX_ROWS
    more = f"{left_out:,} more rows are not shown." if left_out > 0 else ""
    note = f"<p class='note'>{_text(' '.join(filter(None, (table.note, more))))}</p>"
    return (
        f"<h2>{_text(table.title)}</h2><div class='wide'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _picture(picture: Picture) -> str:
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>{as_svg(picture.chart)}{caption}</figure>"


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<h2>{title}</h2><ul>{items}</ul>" if items else ""


def _foot(page: Page) -> str:
    sources = [f"<b>{_text(of)}</b>: {_text(words)}" for of, words in page.sources.items()]
    used = ", ".join(f"{name} {number}" for name, number in versions(PACKAGES).items() if number)
    command = (
        f"<p>Made by <code>{_text(shlex.join(page.command))}</code></p>" if page.command else ""
    )
    return (
        _list("Assumed", [_text(line) for line in page.assumptions])
        + _list("Sources", sources)
        + f"<footer>{command}<p>Versions: {_text(used)}.</p></footer>"
    )


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
    """Where the facts of chips and models come from, by their names; what is not known is left out."""
    found: dict[str, str] = {}
    looked_up = [(name, chip_file) for name in chips] + [(name, _model_file) for name in models]
    for name, look_up in looked_up:
        with contextlib.suppress(InputError):
            stem, file = look_up(name)
            found[stem] = "; ".join(dict.fromkeys(file.sources.values()))
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
