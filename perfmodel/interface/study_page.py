"""The page of a study: the claim, the answer, how sure it is, the picture and the table."""

from perfmodel.interface.pages import FITTED, command
from perfmodel.interface.plots.studies import draw
from perfmodel.interface.report import Page, Picture, Table
from perfmodel.interface.studies import cells, lines
from perfmodel.studies.claim import Answer, Claim

FACTS = "each number with its own: `perfmodel chips NAME`, `perfmodel models NAME`"


def study_page(study: Claim, answer: Answer) -> Page:
    """What the model says to a claim, with what that rests on."""
    parts = [
        Picture(draw(answer.figure), answer.figure.title),
        Table(study.title, answer.table.names, cells(answer)),
    ]
    sources = {"claim": study.source, "facts of chips, models and technologies": FACTS}
    title = f"{study.question}: {study.title}"
    assumed = (*answer.caveats, *FITTED)
    return Page(title, lines(study, answer), parts, assumed, sources, command())
