"""The page of `perfmodel simulate`: what users wait for, load over time, and how waits are distributed."""

from pathlib import Path
from typing import Any

from perfmodel.inference.scheduler import Outcome
from perfmodel.interface.pages.page import FITTED_BASIS, SERVING_TERMS, Page, Picture, sources_of
from perfmodel.interface.plots.requests import (
    cache_over_time,
    distribution,
    requests_over_time,
)
from perfmodel.interface.simulate import sentences, table_of
from perfmodel.interface.tables import Table, cell

TIMES = {"ttft": "TTFT", "tpot": "TPOT", "end_to_end": "End to end"}
"""Whose distribution is drawn."""


def simulation_page(outcome: Outcome, summary: dict[str, Any], out: Path | None) -> Page:
    """What came of requests.

    **Arguments:**

    - `summary`: as `summarise` gives it; `out`: the folder with every request, if one was written.
    """
    deployment = summary["deployment"]
    pictures = [
        Picture(requests_over_time(outcome), "Means of equal spans of time."),
        Picture(cache_over_time(outcome, summary), "Tokens of running requests over the capacity."),
        *(Picture(distribution(getattr(outcome, name), title)) for name, title in TIMES.items()),
    ]
    return Page(
        table_of(summary).title,
        [" ".join(sentences(summary, out))],
        [table_of(summary), *pictures, _settings(summary)],
        (*summary["assumptions"], *SERVING_TERMS, *FITTED_BASIS),
        sources_of([deployment["chip"]], [deployment["model"]]),
    )


def _settings(summary: dict[str, Any]) -> Table:
    """The deployment and its scheduler, as they were taken."""
    taken = summary["deployment"] | summary["scheduler"]
    rows = [(name, _shown(value)) for name, value in taken.items() if value != ""]
    return Table("Deployment and scheduler", ("setting", "value"), rows)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return cell(value) if isinstance(value, int | float) else str(value)
