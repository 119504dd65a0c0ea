"""The part of the explorer's page that starts a search, shows how far it is, and what it found."""

from typing import Any

import streamlit as st

from perfmodel.interface.explore.machines import name_of
from perfmodel.interface.explore.scenario import Machine, Scenario
from perfmodel.interface.explore.search_job import GOALS, SearchJob, limits_of, study_text
from perfmodel.interface.plots import maps
from perfmodel.interface.plots.theme import styled
from perfmodel.interface.search_tables import objective_name, tables
from perfmodel.units import figures

POLL_SECONDS = 1.0
"""Seconds from one look at a search to the next."""


def draw(scenario: Scenario) -> None:
    """The study that the page comes to, the search of it, and the answer."""
    job: SearchJob | None = st.session_state.get("job")
    with st.expander("Search a better chip", expanded=job is not None):
        chosen = _asked(scenario)
        if chosen is None:
            return
        study, start, stop = st.columns(3)
        study.download_button(
            "study (TOML)", chosen, "study.toml", key="take-study.toml", on_click="ignore"
        )
        running = job is not None and job.running
        if start.button("search", key="search", disabled=running, type="primary"):
            st.session_state.job = SearchJob(chosen)
            st.rerun()
        if stop.button("stop", key="stop", disabled=not running) and job is not None:
            job.stop()
        if job is not None:
            _watched(job) if running else _found(job)
        st.caption("`perfmodel search study.toml --out found` does the same without the page.")


def _asked(scenario: Scenario) -> str | None:
    """The study file of what is chosen here; none where a search cannot begin."""
    known = [one for one in scenario.machines if not one.chip.endswith(".toml")]
    if not known or scenario.model.endswith(".json"):
        st.info("A search begins from a chip and a model of the library.")
        return None
    first, second = st.columns(2)
    one: Machine = first.selectbox("made like", known, key="base", format_func=name_of)
    goal = second.selectbox("goal", list(GOALS), key="goal", format_func=GOALS.__getitem__)
    area, power = limits_of(one)
    first, second = st.columns(2)
    area = first.number_input(
        "die area, at most (mm2)", 1.0, 100_000.0, area, key=f"area-{one.chip}"
    )
    power = second.number_input(
        "power, at most (W)", 1.0, 100_000.0, power, key=f"power-{one.chip}"
    )
    return study_text(one, scenario, goal, area, power)


@st.fragment(run_every=POLL_SECONDS)
def _watched(job: SearchJob) -> None:
    """How far a search is, once a second; the whole page when it is done."""
    if not job.running:
        st.rerun()
    done, steps, words = job.progress()
    st.progress(done / steps, f"start {done + 1} of at most {steps}: {words}")


def _found(job: SearchJob) -> None:
    """The design, the die to scale, shadow prices; or why there is none."""
    report = job.report()
    if not report:
        st.error(job.wrong())
        return
    st.markdown(f"**{objective_name(report)}: {figures(report['objective'])}**, {_against(report)}")
    for table in tables(report):
        st.markdown(table.title)
        named = table._replace(names=[name or "design" for name in table.names])
        st.table(named.records())
    for chip in report["chips"]:
        chart = maps.floorplan(chip["areas_mm2"], f"The die, {chip['area_mm2']:,.0f} mm2, to scale")
        st.altair_chart(styled(chart), theme=None)
    for column, name in zip(st.columns(2), ("report.html", "result.json"), strict=True):
        content = (job.folder / name).read_bytes()
        column.download_button(name, content, name, key=f"take-{name}", on_click="ignore")


def _against(report: dict[str, Any]) -> str:
    """What was searched, and how much."""
    stopped = "; it was stopped before its end" if report["stopped"] else ""
    return (
        f"the best of {report['local_optima']} designs that keep every limit, after "
        f"{report['evaluations']:,} evaluations and {report['gradients']:,} gradients{stopped}."
    )
