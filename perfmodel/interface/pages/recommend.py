"""The page of `perfmodel recommend`: the best deployments, and the front of each machine."""

from collections.abc import Sequence
from typing import Any

from perfmodel.inference.pools import CHIP_COLUMNS
from perfmodel.inference.question import Question
from perfmodel.inference.recommendation import Recommendation
from perfmodel.interface.pages.page import (
    FITTED_BASIS,
    SERVING_TERMS,
    Page,
    Picture,
    sources_of,
    usd_note,
)
from perfmodel.interface.plots import lines
from perfmodel.interface.plots.deployments import deployments
from perfmodel.interface.recommend import remarks, tables_of


def recommend_page(question: Question, found: Recommendation) -> Page:
    """The answer as a page."""
    best, *left_out = tables_of(question, found)
    pictures = [
        Picture(
            deployments(question, found),
            "For each machine the deployments that no other of it beats in both; "
            "circles: those recommended; crosses: those that break a limit.",
        ),
        Picture(lines.speed_against_price(_price_points(found.front)), "The same against price."),
    ]
    chips = {row[name] for row in found.deployments for name in CHIP_COLUMNS if row.get(name)}
    return Page(
        f"Deployments of {question.model}",
        [*remarks(question, found)],
        [best, *pictures, *left_out],
        (*SERVING_TERMS, usd_note(), *FITTED_BASIS),
        sources_of(sorted(chips), [question.model]),
    )


def _price_points(front: Sequence[dict[str, Any]]) -> list[lines.FrontPoint]:
    return [
        lines.FrontPoint(
            row["machine"],
            row["output_tokens_per_s_per_user"],
            row["usd_per_million_output_tokens"],
            f"{row['concurrency']:g} users",
        )
        for row in front
    ]
