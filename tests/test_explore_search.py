"""The explorer's search: the study that a page comes to, and the search that runs beside the page."""

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from perfmodel.design.resolve import resolve_study
from perfmodel.design.study import read_study
from perfmodel.interface.explore import search_job
from perfmodel.interface.explore.scenario import Machine, Scenario, to_query
from perfmodel.interface.explore.search_job import GOALS, SearchJob, limits_of, study_text
from perfmodel.interface.explore.serve import PAGE

SMALL = Scenario((Machine("h100-sxm", 1),), "llama-3.2-1b", 512, 64, 4)

pytestmark = pytest.mark.filterwarnings("default")  # of Streamlit and what it draws with


def text_of(chip: str = "h100-sxm", goal: str = "usd_per_million_tokens") -> str:
    one = Machine(chip, 1)
    return study_text(one, SMALL, goal, *limits_of(one))


@pytest.mark.parametrize("goal", GOALS)
def test_what_is_on_the_page_becomes_a_study_that_can_be_read(goal: str, tmp_path: Path):
    (tmp_path / "study.toml").write_text(text_of(goal=goal))
    study = read_study(tmp_path / "study.toml")
    assert study.objective.weights == {goal: 1.0}
    assert study.constraints.power_w == 700 and study.constraints.area == pytest.approx(814)
    (load,) = study.workload
    assert (load.batch, load.context, load.precision) == (4, 512 + 64 / 2, "fp8")
    assert resolve_study(study).options == (1, 2)  # its memory, or none


def test_a_wafer_is_searched_among_wafers():
    """44 GB of SRAM lie outside what a study allows where it says nothing."""
    space = tomllib.loads(text_of("wse-3"))["space"]
    assert space["sram_mb"]["low"] == 10 and space["sram_mb"]["high"] == pytest.approx(88_000)
    assert limits_of(Machine("wse-3", 1)) == (46_225, 23_000)


def test_a_chip_that_names_no_area_and_power_gets_a_reticle_and_a_kilowatt():
    assert limits_of(Machine("tpu-v5p", 1)) == (858, 1000)


@pytest.mark.long
def test_a_study_that_cannot_be_searched_is_one_sentence():
    found = SearchJob(text_of().replace("llama-3.2-1b", "llama-3.2-1x"))
    found.wait()
    assert not found.running and not found.report()
    assert "the nearest are llama-3.2-1b" in found.wrong()
    assert str(found.folder) not in found.wrong()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page with a small machine, whose searches are short."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="needs the extra app")
    monkeypatch.setattr(search_job, "STARTS", 2)
    found = testing.AppTest.from_file(str(PAGE), default_timeout=300)
    for name, values in to_query(SMALL).items():
        found.query_params[name] = values
    return found


@pytest.mark.slow
def test_a_search_begins_on_the_page_and_its_design_is_shown(app: Any):
    app.run()
    app.selectbox(key="goal").set_value("tokens_per_s_per_user").run()
    app.button(key="search").click().run()
    running: SearchJob = app.session_state.job
    assert not app.exception and app.button(key="search").disabled
    running.wait()
    app.run()
    assert not app.exception and not app.error
    cells = [str(table.value) for table in app.table]
    assert any("tokens_per_s_per_user" in text for text in cells)
    assert (running.folder / "report.html").exists()


@pytest.mark.slow
def test_a_search_that_is_stopped_shows_what_it_has(app: Any):
    running = SearchJob(text_of())
    while running.running and not (running.folder / "checkpoint.npz").exists():
        time.sleep(0.05)
    running.stop()
    running.wait()
    done, steps, words = running.progress()
    assert 0 <= done < steps and (words.startswith("best") or words == "descending")
    assert running.report() or running.wrong()
