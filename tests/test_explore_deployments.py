"""The explorer's deployments: what it asks `recommend`, links that come back, and the page."""

import json
import shlex
from typing import Any

import pytest
from command import run

from perfmodel.errors import InputError
from perfmodel.inference.question import ask
from perfmodel.inference.recommend import answer
from perfmodel.interface.explore.requirements import (
    Requirements,
    command_of,
    from_query,
    question_of,
    to_query,
)
from perfmodel.interface.explore.scenario import Scenario, machine
from perfmodel.interface.explore.scenario import to_query as scenario_query
from perfmodel.interface.explore.serve import PAGE
from perfmodel.interface.plots.deployments import deployments, speed_limits
from perfmodel.library.fitted import FITTED

pytestmark = pytest.mark.filterwarnings("default")  # of Streamlit and what it draws with

SMALL = Scenario(
    (machine("h100-sxm", 1, precision="fp8", framework="vllm"),), "llama-3.2-1b", 512, 64, 4
)
STRICT = Requirements(1000.0, 10.0, 2000.0, 50, "cost", "given")


@pytest.mark.parametrize("one", [Requirements(), STRICT, Requirements(tpot_ms=12.5)])
def test_a_link_brings_back_the_requirements(one: Requirements):
    assert from_query(to_query(one)) == one


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"ttft_ms": ["-1"]}, "ttft_ms is '-1'; allowed are numbers greater than zero"),
        ({"confidence": ["95"]}, "confidence '95'; allowed are 50, 80, 90"),
        ({"objective": ["joy"]}, "allowed are throughput, cost, energy, speed"),
    ],
)
def test_a_link_that_cannot_be_read_is_said_to_be_so(query: dict[str, list[str]], said: str):
    with pytest.raises(InputError, match=said):
        from_query(query)


def test_a_format_that_all_machines_give_is_asked_and_others_are_free():
    two = SMALL._replace(machines=(*SMALL.machines, machine("b200-sxm", 8, framework="vllm")))
    asked = question_of(Requirements(), two)
    assert asked.chips == ("h100-sxm", "b200-sxm") and asked.n_chips == (1, 8)
    assert asked.frameworks == ("vllm",) and asked.precisions == ()
    assert asked.concurrency == ()


@pytest.mark.long
def test_the_page_asks_what_its_command_asks():
    found = answer(question_of(STRICT, SMALL), FITTED, 10)
    program, *words = shlex.split(command_of(STRICT, SMALL))
    status, out, err = run(*words, "--json")
    assert (program, status, err) == ("perfmodel", 0, "")
    assert json.loads(out) == found.as_dict()


def test_limits_on_speed_are_drawn():
    """10 ms are 100 tokens/s; 640 ms for 64 more tokens are 100 tokens/s too."""
    question = ask(
        model="llama-3.2-1b", isl=512, osl=65, ttft_ms=100, tpot_ms=10, end_to_end_ms=640
    )
    assert [rule["x"] for rule in speed_limits(question)] == pytest.approx([100, 100])


@pytest.mark.long
def test_what_breaks_a_limit_is_crossed_out():
    pytest.importorskip("altair", reason="needs the extra app")
    question = question_of(STRICT._replace(users="free"), SMALL)
    found = answer(question, FITTED, 10)
    over = [row for row in found.front if not row["keeps_limits"]]
    said = json.dumps(deployments(question, found).to_dict())
    assert over and said.count('breaks a limit"') >= len(over)


@pytest.fixture
def app() -> Any:
    """The page with a small machine, its deployments shown."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="needs the extra app")
    found = testing.AppTest.from_file(str(PAGE), default_timeout=300)
    query = scenario_query(SMALL) | to_query(STRICT) | {"show": ["Deployments"]}
    for name, values in query.items():
        found.query_params[name] = values
    return found


@pytest.mark.long
def test_deployments_are_computed_when_they_are_asked_for(app: Any):
    app.run()
    assert not app.exception and not app.error and len(app.table) == 1
    assert app.number_input(key="tpot_ms").value == 10
    app.button(key="recommend").click().run()
    assert not app.exception and not app.error
    (row,) = app.table[1].value.to_dict("records")
    assert row["chips"] == "1 x h100-sxm" and row["users"] == "4"
    app.number_input(key="tpot_ms").set_value(20.0).run()
    assert len(app.table) == 1 and "20.0" in app.query_params["tpot_ms"]


@pytest.mark.long
def test_limits_that_nothing_keeps_are_one_sentence(app: Any):
    app.run()
    app.number_input(key="tpot_ms").set_value(0.01).run()
    app.button(key="recommend").click().run()
    assert not app.exception and len(app.table) == 1
    assert app.error[0].value.startswith("no deployment keeps the limits at 50 % confidence")


@pytest.mark.long
def test_requirements_stay_while_something_else_is_shown(app: Any):
    app.run()
    app.number_input(key="ttft_ms").set_value(None).run()
    app.selectbox(key="objective").set_value("energy").run()
    app.segmented_control(key="shown").set_value("Price").run()
    assert "objective" in app.query_params and "ttft_ms" not in app.query_params
    app.segmented_control(key="shown").set_value("Deployments").run()
    assert not app.exception and app.number_input(key="ttft_ms").value is None
    assert app.selectbox(key="objective").value == "energy"
    assert app.number_input(key="tpot_ms").value == 10
