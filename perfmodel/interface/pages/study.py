"""`perfmodel study`: the list, one answer on the screen, its files, and its page."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from perfmodel.files import write_csv, write_whole
from perfmodel.interface.pages.page import FITTED_BASIS, Page, Picture
from perfmodel.interface.plots import theme
from perfmodel.interface.plots.studies import draw
from perfmodel.interface.tables import Table
from perfmodel.library.ledger import COST_BASES
from perfmodel.studies.claim import Answer, Claim
from perfmodel.studies.draws import show

FACTS = "each number with its own: `perfmodel chips NAME`, `perfmodel models NAME`"


def study_page(study: Claim, answer: Answer) -> Page:
    """What the model says to a claim, with what that rests on."""
    parts = [
        Picture(draw(answer.figure), answer.figure.title),
        answer_table(study.title, answer),
    ]
    sources = {"claim": study.source, "facts of chips, models and technologies": FACTS}
    title = f"{study.question}: {study.title}"
    assumed = (*answer.caveats, *FITTED_BASIS)
    return Page(title, lines(study, answer), parts, assumed, sources)


PICTURES = (".png", ".svg", ".html")
"""Formats in which each figure is written."""


def listing(studies: list[Claim]) -> Table:
    """What `perfmodel study --list` shows."""
    rows = [(s.name, s.question, s.title, f"{s.seconds} s") for s in studies]
    return Table("Studies", ["study", "claim", "question", "takes about"], rows)


def lines(study: Claim, answer: Answer) -> list[str]:
    """What is said above the table."""
    usd = [f"USD ({basis}): {COST_BASES[basis]}." for basis in study.cost_basis]
    return [
        f"Claim ({study.source}): {study.claim}",
        f"Tested: {study.test}",
        f"Answer: {answer.said}",
        f"Verdict: the claim {answer.verdict} (true in {100 * answer.share:.0f} % of draws). {answer.sure}",
        *usd,
    ]


def answer_table(title: str, answer: Answer) -> Table:
    """The answer's table as text."""
    rows = [tuple(map(_cell, row)) for row in answer.table.rows]
    return Table(title, answer.table.names, rows)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else show(float(value), 3)


def as_dict(study: Claim, answer: Answer) -> dict[str, Any]:
    """What `--json` prints."""
    asked = study._asdict()
    asked.pop("run")
    return asked | answer.as_dict()


def write(study: Claim, answer: Answer, out: Path) -> list[Path]:
    """The answer as JSON, its table as CSV, its figure in `PICTURES`; where they are."""
    out.mkdir(parents=True, exist_ok=True)
    stem = out / study.name
    text = json.dumps(as_dict(study, answer), indent=1) + "\n"
    write_whole(stem.with_suffix(".json"), text.encode())
    columns = zip(*answer.table.rows, strict=True)
    table = dict(zip(answer.table.names, map(list, columns), strict=True))
    write_csv(stem.with_suffix(".csv"), pa.table(table))
    chart = draw(answer.figure)
    for ending in PICTURES:
        theme.save(chart, stem.with_suffix(ending))
    return [stem.with_suffix(ending) for ending in (".json", ".csv", *PICTURES)]
