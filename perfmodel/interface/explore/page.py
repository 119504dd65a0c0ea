"""The page of `perfmodel explore`; Streamlit runs this file anew whenever something on it is moved."""

import functools
import math
from typing import Any

import streamlit as st

from perfmodel.errors import InputError
from perfmodel.interface.explore import deployments, export, pictures, requirements, searching
from perfmodel.interface.explore.controls import (
    CACHE_FORMATS,
    FORMATS,
    SOFTWARE,
    chip_label,
    controls,
)
from perfmodel.interface.explore.machines import View, ranks_of, step_of, view_of
from perfmodel.interface.explore.scenario import START, Machine, Scenario, from_query, to_query
from perfmodel.interface.explore.welcome import WELCOME
from perfmodel.interface.pages.page import SERVING_TERMS, usd_note
from perfmodel.interface.plots.steps import memory_placement
from perfmodel.interface.plots.theme import as_png, joined, styled
from perfmodel.library.chip import chip_file
from perfmodel.library.model import load_model
from perfmodel.units import figures

DEPLOYMENTS = "Deployments"

PICTURES = (
    "Overview",
    "Price",
    "Energy",
    "Time",
    "Sensitivities",
    "Kernels",
    "Memory",
    DEPLOYMENTS,
)
STYLE = """<style>
.stMainBlockContainer { padding-top: 2.75rem; padding-bottom: 2rem; }
[data-testid="stHeader"] { background: transparent; }
[data-testid="stSidebarHeader"] { height: 2.5rem; margin-bottom: 0; }
.stMainBlockContainer > div > .stVerticalBlock { gap: 0.5rem; }
[data-testid="stSidebarUserContent"] .stVerticalBlock { gap: 0.5rem; }
[data-testid="stTable"] { overflow-x: auto; }
[data-testid="stTable"] table { font-variant-numeric: tabular-nums; }
[data-testid="stTable"] :is(td, th):nth-child(n+4):nth-last-child(n+3) { text-align: right !important; }
[data-testid="stTable"] :is(td, th):first-child { position: sticky; left: 0; z-index: 1; background: Canvas; }
@media (max-width: 640px) {
  [data-testid="stTable"] :is(td, th):first-child { min-width: 7rem; }
}
</style>"""
"""Less empty space, so that the answer is seen on one screen; numbers to the right, between the words;
machines stay where a narrow screen scrolls."""


def main() -> None:
    """Draw the page."""
    st.set_page_config("perfmodel", layout="wide")
    st.html(STYLE)
    st.subheader("SRAM or HBM? Drag a machine and see.")
    start = _start()
    if st.session_state.first_visit:
        st.caption(WELCOME)
    scenario = st.session_state.scenario = controls(start)
    _set_link()
    priced = _views(scenario)
    if priced:
        machines, views = zip(*priced, strict=True)
        shown_scenario = scenario._replace(machines=machines)
        _answer(shown_scenario, list(views))
        _exports(shown_scenario, list(views))
        searching.draw(shown_scenario)
    with st.expander("What the numbers mean and rest on"):
        for line in (*SERVING_TERMS, usd_note()):
            st.markdown(f"- {line}")
        st.markdown(
            "- The same model as `perfmodel predict serving`; `perfmodel chips NAME` shows the source of "
            "every number. Ranges hold nine of ten held-out rows; machines that rest on a few published "
            "speeds have wide ones."
        )


def _set_link() -> None:
    """Put all that is asked into the address bar."""
    shown = st.session_state.get("shown") or st.session_state.first
    scenario = st.session_state.scenario
    asked = (
        to_query(scenario)
        | {"show": [shown]}
        | requirements.to_query(st.session_state.requirements)
    )
    st.query_params.from_dict(asked)


def _start() -> Scenario:
    """What the link says, once a session; a link that cannot be read is said to be so."""
    if "start" not in st.session_state:
        query = {name: st.query_params.get_all(name) for name in st.query_params}
        st.session_state.first_visit = not query
        asked = query.get("show", [""])[0]
        st.session_state.first = asked if asked in PICTURES else PICTURES[0]
        st.session_state.requirements = requirements.Requirements()
        try:
            st.session_state.start = _known(from_query(query))
            st.session_state.requirements = requirements.from_query(query)
        except InputError as wrong:
            st.session_state.start = START
            st.session_state.wrong = f"{wrong} The page starts as if there were no link."
    if "wrong" in st.session_state:
        st.error(st.session_state.wrong)
    return st.session_state.start


def _known(scenario: Scenario) -> Scenario:
    """Refuse names of a link that the library does not have; files cannot come by link."""
    names = [scenario.model, *(one.chip for one in scenario.machines)]
    if any(name.endswith((".toml", ".json")) for name in names):
        raise InputError("the link names a file, which only the one who made it has; load it here.")
    for one in scenario.machines:
        chip_file(one.chip)
    load_model(scenario.model)
    for name, known in WORDS_OF.items():
        for one in scenario.machines:
            if getattr(one, name) not in known:
                raise InputError(
                    f"the link has an unknown {name}; known are {', '.join(known[1:])}."
                )
    machines = tuple(one._replace(chip=chip_file(one.chip)[0]) for one in scenario.machines)
    return scenario._replace(machines=machines)


WORDS_OF = {"precision": FORMATS, "kv_precision": CACHE_FORMATS, "framework": SOFTWARE}
"""Words of a machine that its controls know."""


def _views(scenario: Scenario) -> list[tuple[Machine, View]]:
    """Each machine that can be priced; of the others, why not."""
    found = []
    for one in scenario.machines:
        with st.spinner(f"{one.size} x {chip_label(one.chip)} (the first of its kind compiles)"):
            view = view_of(one, scenario)
        if isinstance(view, str):
            st.error(view)
        else:
            found.append((one, view))
    return found


def _answer(scenario: Scenario, views: list[View]) -> None:
    """Numbers, then the picture that is asked for."""
    st.table([_numbers(view) for view in views])
    fitting = [view for view in views if not view.here.short] or views
    shown = _choice()
    st.session_state.charts = (
        _deployments(scenario)
        if shown == DEPLOYMENTS
        else _pictures(shown, scenario, views, fitting)
    )


def _pictures(shown: str, scenario: Scenario, views: list[View], fitting: list[View]) -> list[Any]:
    """Draw the pictures of one choice."""
    st.session_state.first_requirements = st.session_state.requirements
    charts = _charts(shown, scenario, views, fitting)
    if shown == PICTURES[0]:
        _side_by_side(charts)
        _say_out_of_memory(fitting)
        return charts
    for chart in charts:
        _draw(st, styled(chart))
    return charts


def _deployments(scenario: Scenario) -> list[Any]:
    """What `recommend` answers; its controls begin as they were when they were last shown."""
    first = st.session_state.setdefault("first_requirements", st.session_state.requirements)
    st.session_state.requirements = deployments.requirements_of(first)
    _set_link()
    return deployments.draw(st.session_state.requirements, scenario)


def _draw(place: Any, chart: Any) -> None:
    """As it is: tests have checked what Altair would check at every drag."""
    spec = chart.to_dict(validate=False)
    place.vega_lite_chart(spec, theme=None, width="stretch")


def _choice() -> str:
    """Which pictures are asked for."""
    shown = st.segmented_control(
        "show", PICTURES, default=st.session_state.first, key="shown", label_visibility="collapsed"
    )
    return shown or PICTURES[0]


def _side_by_side(charts: list[Any]) -> None:
    """Two pictures in a row; one below the other where the screen is narrow."""
    for pair in zip(charts[::2], charts[1::2], strict=True):
        for column, chart in zip(st.columns(2), pair, strict=True):
            _draw(column, styled(chart, "bottom"))


def _numbers(view: View) -> dict[str, str]:
    """A row of the table: what a machine gives a user, costs and draws."""
    here = view.here
    row = {
        "machine": view.name,
        "weights": view.precision,
        "ranks": ranks_of(view.parallelism),
        "tokens/s per user": _plain(here.speed),
        "TPOT (ms)": _plain(here.tpot * 1e3),
        "tokens/s per chip": _plain(here.rate / view.parallelism.chips),
        "90 % range": f"{_plain(here.speed / view.high)} to {_plain(here.speed / view.low)}",
        "USD/M tokens": _plain(here.dollars),
        "USD/h a chip": _plain(here.hour),
        "J/token": _plain(here.joules),
        "TTFT (ms)": _plain(here.ttft * 1e3),
        "cost basis": view.cost_basis,
        "bound by": view.bound,
    }
    if not here.short:
        return row
    short = f"does not fit: {here.short / 1e9:,.3g} GB short on each chip"
    return dict.fromkeys(row, "") | {"machine": row["machine"], "bound by": short}


def _plain(value: float) -> str:
    """Three digits, or all before the point; nothing is said of what is not known."""
    if not math.isfinite(value):
        return "not known"
    return figures(value, 3)


def _charts(shown: str, scenario: Scenario, views: list[View], fitting: list[View]) -> list[Any]:
    """The pictures of one choice."""
    names = [view.name for view in views]
    if shown == "Overview":
        return pictures.overview(fitting, scenario.concurrency)
    if shown in ("Price", "Energy"):
        return [
            pictures.front(views, scenario.concurrency, "dollars" if shown == "Price" else "joules")
        ]
    if shown == "Time":
        return [pictures.times(views)]
    if shown == "Sensitivities":
        _say_out_of_memory(fitting)
        return [pictures.tornado(view, other) for view in fitting for other in ("tpot", "dollars")]
    with st.spinner("the step in detail (the first of its kind compiles)"):
        steps = [step_of(one, scenario) for one in scenario.machines]
    if shown == "Kernels":
        return [pictures.kernels(steps), pictures.energies(names, steps, scenario.concurrency)]
    return [memory_placement(list(zip(names, steps, strict=True)))]


def _say_out_of_memory(views: list[View]) -> None:
    for view in views:
        if lost := pictures.knobs_out_of_memory(view):
            st.caption(f"{view.name}: with less {', '.join(lost)} the model has no room.")


def _exports(scenario: Scenario, views: list[View]) -> None:
    """What can be taken away."""
    st.subheader("Export")
    columns = st.columns(4)
    files = [
        ("rows (CSV)", functools.partial(export.rows_text, scenario), "rows.csv"),
        ("numbers (CSV)", functools.partial(export.numbers_text, views), "numbers.csv"),
        ("Python", functools.partial(export.python_of, scenario, views), "same_numbers.py"),
        ("picture (PNG)", functools.partial(_picture, st.session_state.charts), "picture.png"),
    ]
    for column, (label, content, name) in zip(columns, files, strict=True):
        empty = name == "picture.png" and not st.session_state.charts
        column.download_button(
            label, content, name, key=f"take-{name}", on_click="ignore", disabled=empty
        )
    own = [one for one in scenario.machines if not export.is_library(one)]
    for one in own:
        name = f"{export.stem_of(one)}.toml"
        text = export.chip_text(one, scenario)
        st.download_button(name, text, name, key=f"take-{name}", on_click="ignore")
    st.caption(
        "`perfmodel predict serving rows.csv --out predictions.csv` gives the same numbers, with dragged "
        "chips beside it; the link in the address bar shows this page again."
    )


def _picture(charts: list[Any]) -> bytes:
    """What is drawn, as one picture."""
    return as_png(joined(charts))


main()
