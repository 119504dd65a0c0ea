"""The part of the explorer's page that asks for the best deployments under limits, and shows them."""

from typing import Any

import streamlit as st

from perfmodel.errors import InputError
from perfmodel.files import csv_text
from perfmodel.inference.question import Question
from perfmodel.inference.recommend import answer
from perfmodel.inference.recommendation import Recommendation
from perfmodel.interface.explore.controls import optional_number
from perfmodel.interface.explore.requirements import (
    LIMITS,
    WORDS,
    Requirements,
    command_of,
    question_of,
)
from perfmodel.interface.explore.scenario import Scenario
from perfmodel.interface.plots.deployments import deployments
from perfmodel.interface.plots.theme import styled
from perfmodel.interface.recommend import csv_table, remarks, tables_of
from perfmodel.library.fitted import FITTED

TOP = 10
"""Deployments that are shown."""

BOUNDS = {"min_value": 0.0, "max_value": 1e9, "step": 1.0, "format": "%g"}
"""Of a limit in ms; zero is none."""


def requirements_of(start: Requirements) -> Requirements:
    """The controls: limits, confidence, objective, and whether users are given."""
    columns = st.columns(len(LIMITS) + len(WORDS))
    limits, others = columns[: len(LIMITS)], columns[len(LIMITS) :]
    times = {
        name: optional_number(
            place, f"{label}, at most (ms)", getattr(start, name), name, "any", **BOUNDS
        )
        or None
        for place, (name, label) in zip(limits, LIMITS.items(), strict=True)
    }
    words: dict[str, Any] = {
        name: _word(place, name, getattr(start, name))
        for place, name in zip(others, WORDS, strict=True)
    }
    return Requirements(**times, **words)


def _word(place: Any, name: str, begun: Any) -> Any:
    """A choice among what a word of the requirements may mean."""
    choices = list(WORDS[name].values())
    return place.selectbox(name, choices, choices.index(begun), key=name)


def draw(requirements: Requirements, scenario: Scenario) -> list[Any]:
    """The button, and the answer where there is one; the pictures that were drawn."""
    answers: dict[str, Recommendation | str] = st.session_state.setdefault("answers", {})
    key = str((requirements, scenario))
    if st.button("recommend", key="recommend", type="primary"):
        answers[key] = _answer(requirements, scenario)
    st.caption(
        "Every chip of the machines in every number of chips, as the library has it: without the factors and "
        "ranks at the side. A framework or a format that all machines give is taken, else chosen. "
        "Each program of a new kind compiles for some seconds."
    )
    st.code(command_of(requirements, scenario), language=None, wrap_lines=True)
    found = answers.get(key)
    if isinstance(found, str):
        st.error(found)
    return (
        _shown(question_of(requirements, scenario), found)
        if isinstance(found, Recommendation)
        else []
    )


def _answer(requirements: Requirements, scenario: Scenario) -> Recommendation | str:
    """The answer; or why there is none, in one sentence."""
    bar = st.progress(0.0, "programs")

    def show(done: int, of: int) -> None:
        bar.progress(done / of, f"programs: {done} of {of}")

    try:
        return answer(question_of(requirements, scenario), FITTED, TOP, show)
    except InputError as wrong:
        return str(wrong)
    finally:
        bar.empty()


def _shown(question: Question, found: Recommendation) -> list[Any]:
    """The best deployments, the picture, what was left out and why."""
    best, *left_out = tables_of(question, found)
    st.markdown(f"**{best.title}**")
    st.table(best.records())
    for line in remarks(question, found):
        st.markdown(line)
    chart = deployments(question, found)
    st.vega_lite_chart(styled(chart).to_dict(validate=False), theme=None, width="stretch")
    for table in left_out:
        st.markdown(f"**{table.title}**")
        st.table(table.records())
    rows = csv_text(csv_table(found.deployments))
    name = "deployments.csv"
    st.download_button(name, rows, name, key=f"take-{name}", on_click="ignore")
    return [chart]
