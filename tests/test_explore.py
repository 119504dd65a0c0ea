"""The explorer: the numbers of `predict serving`, links that come back, exports that run."""

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.csv
import pytest
from command import run
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.design.making import price_factor
from perfmodel.design.variables import CHIP_VARIABLES, turn, turn_file
from perfmodel.errors import InputError
from perfmodel.inference.serving_predictions import predict_cells
from perfmodel.interface.explore import export, pictures
from perfmodel.interface.explore.machines import LOADS, cells_of, name_of, priced, view, view_of
from perfmodel.interface.explore.scenario import (
    MAX_FACTOR,
    RANK_NAMES,
    Machine,
    Scenario,
    from_query,
    machine,
    to_query,
)
from perfmodel.interface.explore.serve import PAGE, command
from perfmodel.interface.plots.theme import styled
from perfmodel.library.chip import build, chip_file, load_chip
from perfmodel.library.fitted import FITTED
from perfmodel.workload.plan import Plan

LLAMA_1B_ON_H100 = Scenario((Machine("h100-sxm", 1),), "llama-3.2-1b", 512, 64, 4)
TURNED = LLAMA_1B_ON_H100._replace(
    machines=(machine("h100-sxm", 1, {"bandwidth": 2.0, "price": 0.5}),)
)

factors = st.dictionaries(
    st.sampled_from(list(CHIP_VARIABLES)), st.sampled_from([0.25, 0.5, 1.0, 1.1, 2.0, MAX_FACTOR])
)
machines = st.builds(
    machine,
    st.sampled_from(["h100-sxm", "wse-3", "lpu-v1"]),
    st.integers(1, 100_000),
    factors,
    st.sampled_from(["", "fp8", "bf16"]),
    st.sampled_from(["", "fp8"]),
    st.sampled_from(["", "vllm", "vllm-0.5"]),
    st.dictionaries(st.sampled_from(RANK_NAMES), st.integers(1, 100_000) | st.none()),
)
scenarios = st.builds(
    Scenario,
    st.lists(machines, min_size=1, max_size=4).map(tuple),
    st.sampled_from(["llama-3.1-70b", "deepseek-v3"]),
    st.integers(1, 10_000_000),
    st.integers(1, 1_000_000),
    st.integers(1, 1_000_000),
    st.sampled_from(["", "rental", "marginal"]),
    st.booleans(),
)


@given(scenarios)
@settings(max_examples=25, deadline=None)
def test_a_link_brings_back_the_scenario(scenario: Scenario):
    assert from_query(to_query(scenario)) == scenario


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"machine": ["h100"]}, "write for example 8"),
        ({"machine": ["0*h100"]}, "greater than zero"),
        ({"machine": ["1.5*h100"]}, "whole numbers"),
        ({"machine": ["8*h100:,srm=2"]}, "what can be changed is sram"),
        ({"machine": ["8*h100:,sram=1e9"]}, "allowed are factors"),
        ({"machine": ["8*h100:,sram=x"]}, "not a number"),
        ({"machine": ["8*h100:,tp=1.5"]}, "whole numbers"),
        ({"machine": ["8*h100:,tp="]}, "greater than zero"),
        ({"concurrency": ["-1"]}, "greater than zero"),
        ({"isl": ["1e300"]}, "greater than zero up to 1e9"),
        ({"free": ["perhaps"]}, "allowed are yes and no"),
    ],
)
def test_a_link_that_cannot_be_read_is_said_to_be_so(query: dict[str, list[str]], said: str):
    with pytest.raises(InputError, match=said):
        from_query(query)


def test_a_knob_turns_a_chip_as_it_turns_its_file():
    chip = load_chip("h100")
    _, file = chip_file("h100")
    for name in ("stacks", "compute", "price"):
        one, other = (
            turn(chip, {name: 3.0}),
            build("h100-sxm", turn_file(file, {name: 3.0}), Plan(), FITTED),
        )
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_stacks_bring_size_and_bandwidth_beside_bandwidth_alone():
    before, after = load_chip("h100"), turn(load_chip("h100"), {"stacks": 2.0, "bandwidth": 1.5})
    assert float(after.main.capacity / before.main.capacity) == pytest.approx(2)
    assert float(after.main.bandwidth / before.main.bandwidth) == pytest.approx(3)


def test_an_unknown_knob_is_refused():
    with pytest.raises(InputError, match="there is no knob 'dies'; a chip has sram"):
        turn(load_chip("h100"), {"dies": 2.0})


@pytest.fixture(scope="module")
def shown() -> Any:
    """A small machine as the page shows it."""
    return view(LLAMA_1B_ON_H100.machines[0], LLAMA_1B_ON_H100)


GIVEN = machine("h100-sxm", 4, {}, "bf16", "fp8", "vllm", {"tp": 2})
"""A machine with a framework, formats and some ranks; the others are chosen."""

COPIES = machine("h100-sxm", 2, ranks={"replicas": 2})


@pytest.mark.long
@pytest.mark.parametrize("one", [LLAMA_1B_ON_H100.machines[0], GIVEN, COPIES], ids=name_of)
def test_a_machine_has_the_numbers_of_predict_serving(one: Machine):
    shown = view(one, LLAMA_1B_ON_H100)
    cells = {name: [value] for name, value in cells_of(one, LLAMA_1B_ON_H100).items()}
    found = {name: values[0] for name, values in predict_cells(cells, 1, FITTED).items()}
    for name, count in shown.parallelism._asdict().items():
        assert float(found[name]) == count == dict(one.ranks).get(name, count)
    for column, value in (
        ("ttft_ms", 1e3 * shown.here.ttft),
        ("tpot_ms", 1e3 * shown.here.tpot),
        ("joules_per_output_token", shown.here.joules),
        ("usd_per_million_output_tokens", shown.here.dollars),
        ("tpot_ms_low", 1e3 * shown.here.tpot * shown.low),
    ):
        assert float(found[column]) == pytest.approx(value, rel=1e-4)
    assert found["bound"] == shown.bound


def test_ranks_that_cannot_be_are_one_sentence():
    said = view_of(machine("h100-sxm", 8, ranks={"tp": 3}), LLAMA_1B_ON_H100)
    assert isinstance(said, str) and said.startswith("tp is 3, which does not divide the 32 heads")


def test_what_is_given_of_a_machine_is_in_its_name():
    assert name_of(GIVEN) == "4 x h100-sxm (vllm, bf16, fp8 cache, tp 2)"


def test_the_curve_falls_in_speed_with_users_and_knobs_move_it(shown: Any):
    assert [point.concurrency for point in shown.loads] == list(LOADS)
    assert all(a.speed >= b.speed for a, b in zip(shown.loads, shown.loads[1:], strict=False))
    (slower, faster), (_, cheaper) = (
        shown.sensitivities[name]["bandwidth"] for name in ("tpot", "dollars")
    )
    assert slower > 0 > faster and cheaper < 0
    assert (
        shown.sensitivities["tpot"]["price"] == (0, 0)
        and shown.sensitivities["dollars"]["price"][0] < 0
    )


def test_a_drag_moves_speed_and_price_as_it_says(shown: Any):
    """Twice the memory bandwidth is faster; at half the price of the chip it is cheaper too."""
    turned = view(TURNED.machines[0], TURNED)
    assert turned.here.speed > shown.here.speed
    assert turned.here.dollars < 0.6 * shown.here.dollars


def test_what_is_dragged_is_priced_by_the_ledger_unless_it_is_free(shown: Any):
    one = machine("h100-sxm", 1, {"stacks": 2.0, "price": 0.5})
    paid = view(one, LLAMA_1B_ON_H100)
    free = view(one, LLAMA_1B_ON_H100._replace(free=True))
    factor = float(price_factor("h100-sxm", {"stacks": np.array([2.0])})[0])
    assert paid.here.tpot == free.here.tpot and factor > 1.1
    assert priced(one, LLAMA_1B_ON_H100)["price"] == pytest.approx(0.5 * factor)
    assert paid.here.hour > 1.05 * free.here.hour
    assert paid.sensitivities["dollars"]["stacks"][1] > free.sensitivities["dollars"]["stacks"][1]
    assert view(TURNED.machines[0]._replace(factors=()), TURNED).here == shown.here


def test_the_bars_of_a_token_sum_to_its_tpot(shown: Any):
    crowd = view(LLAMA_1B_ON_H100.machines[0], LLAMA_1B_ON_H100._replace(concurrency=256))
    for one in (shown, crowd):
        parts = pictures.parts_of_token(one)
        assert sum(parts.values()) == pytest.approx(1e3 * one.here.tpot, rel=1e-5)
        assert min(parts.values()) >= 0
    assert parts["prompts"] > 0.1 * sum(parts.values())


def test_a_drag_takes_less_than_300_ms(shown: Any):
    """Processor time of the model and of the pictures, best of three, once it is compiled."""
    seconds, specs = [], []
    for i in range(3):
        start = time.process_time()
        turned = view(machine("h100-sxm", 1, {"sram": 1.5 + i}), LLAMA_1B_ON_H100)
        charts = pictures.overview([turned, *[shown] * 3], LLAMA_1B_ON_H100.concurrency)
        specs = [styled(chart, "bottom").to_dict(validate=False) for chart in charts]
        seconds.append(time.process_time() - start)
    assert len(specs) == 4 and min(seconds) < 0.3


def test_machines_of_one_kind_are_told_apart_by_their_place():
    names = ["8 x h100 (SRAM size x 2)", "4 x wse-3 (price x 2)", "8 x h100"]
    assert pictures.short_names(names) == [
        "8 x h100, machine 1",
        "4 x wse-3",
        "8 x h100, machine 3",
    ]


def test_the_exported_python_is_a_program(shown: Any):
    text = export.python_of(LLAMA_1B_ON_H100, [shown])
    compile(text, "same_numbers.py", "exec")
    assert "pm.Plan(tp=1" not in text and "weights='bf16'" not in text


@pytest.mark.slow
def test_the_exported_python_gives_the_same_numbers(shown: Any):
    scenario = LLAMA_1B_ON_H100._replace(
        machines=(LLAMA_1B_ON_H100.machines[0], TURNED.machines[0], GIVEN, COPIES)
    )
    views = [view(one, scenario) for one in scenario.machines]
    space: dict[str, Any] = {}
    exec(export.python_of(scenario, views), space)
    for one in views:
        served = space["found"][one.name]
        assert float(served.tpot) == pytest.approx(one.here.tpot, rel=1e-4)
        assert float(served.ttft) == pytest.approx(one.here.ttft, rel=1e-4)
        assert float(served.energy) == pytest.approx(one.here.joules, rel=1e-4)


@pytest.mark.slow
def test_exported_rows_and_chips_give_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # A file has the boards of its execution: those of the H100 SXM were measured, these were not.
    turned = TURNED.machines[0]._replace(chip="h100-nvl")
    scenario = TURNED._replace(machines=(turned,))
    (tmp_path / f"{export.stem_of(turned)}.toml").write_text(export.chip_text(turned, scenario))
    (tmp_path / "rows.csv").write_text(export.rows_text(scenario))
    monkeypatch.chdir(tmp_path)
    assert run("chips", f"{export.stem_of(turned)}.toml")[0] == 0
    assert run("predict", "serving", "rows.csv", "--out", "out.csv")[::2] == (0, "")
    (found,) = pyarrow.csv.read_csv("out.csv").to_pylist()
    here = view(turned, scenario).here
    assert found["tpot_ms"] == pytest.approx(1e3 * here.tpot, rel=1e-4)
    assert found["usd_per_million_output_tokens"] == pytest.approx(here.dollars, rel=1e-4)


def test_exported_numbers_hold_every_load(shown: Any):
    text = export.numbers_text([shown]).encode()
    found = pyarrow.csv.read_csv(io.BytesIO(text)).to_pylist()
    assert len(found) == 1 + len(LOADS)
    assert found[0]["tpot_ms"] == pytest.approx(1e3 * shown.here.tpot)


def test_a_machine_that_cannot_be_is_one_sentence():
    said = view_of(Machine("nothing", 1), LLAMA_1B_ON_H100)
    assert isinstance(said, str) and said.endswith(".") and "unknown chip" in said


def test_the_page_is_served_on_this_machine_alone():
    words = command(8501, browser=False)
    assert "--server.address=127.0.0.1" in words and "--browser.gatherUsageStats=false" in words


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page, started with a small scenario."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="needs the extra app")
    found = testing.AppTest.from_file(str(PAGE), default_timeout=300)
    for name, values in to_query(LLAMA_1B_ON_H100).items():
        found.query_params[name] = values
    return found


pytestmark = pytest.mark.filterwarnings("default")  # of Streamlit and what it draws with


def first(app: Any) -> str:
    """The first machine's speed as the page shows it."""
    return app.table[0].value.iloc[0]["tokens/s per user"]


def test_the_page_shows_numbers_and_follows_a_drag(app: Any):
    app.run()
    assert not app.exception and not app.error
    speed = first(app)
    app.select_slider(key="bandwidth-0").set_value(2.0).run()
    assert not app.exception and first(app) != speed
    assert "1*h100-sxm:,bandwidth=2" in app.query_params["machine"]


def test_a_first_visit_explains_itself_and_a_link_does_not(app: Any):
    from perfmodel.interface.explore.welcome import WELCOME

    app.run()
    assert not [one for one in app.caption if one.value == WELCOME]
    app.session_state.first_visit = True
    app.run()
    assert [one for one in app.caption if one.value == WELCOME] and WELCOME.count(". ") == 2
    per_chip = float(app.table[0].value.iloc[0]["tokens/s per chip"].replace(",", ""))
    assert per_chip > float(first(app).replace(",", ""))  # several users on one chip


def test_a_link_brings_back_the_picture_that_was_shown(app: Any):
    app.query_params["show"] = "Time"
    app.run()
    assert app.segmented_control(key="shown").value == "Time"
    app.segmented_control(key="shown").set_value("Energy").run()
    assert "Energy" in app.query_params["show"] and not app.exception
    app.query_params["show"] = "nothing like it"
    app.run()
    assert not app.exception and not app.error


def test_every_control_of_the_page_works(app: Any):
    app.run()
    for shown in ("Price", "Energy", "Time", "Sensitivities"):
        app.segmented_control(key="shown").set_value(shown).run()
        assert not app.exception and not app.error
    for name in CHIP_VARIABLES:
        app.select_slider(key=f"{name}-0").set_value(1.5)
    app.number_input(key="concurrency-of-traffic").set_value(16).run()
    assert not app.exception and not app.error
    paid = app.table[0].value.iloc[0]["USD/h a chip"]
    app.toggle(key="free").set_value(True).run()
    assert float(app.table[0].value.iloc[0]["USD/h a chip"]) < float(paid)
    assert "yes" in app.query_params["free"]
    assert "16" in app.query_params["concurrency"]


def test_ranks_of_the_page_are_given_and_empty_again(app: Any):
    app.run()
    app.number_input(key="count-0").set_value(2)
    app.number_input(key="replicas-0").set_value(2).run()
    assert not app.exception and not app.error
    assert app.query_params["machine"] == "2*h100-sxm:,replicas=2"
    app.number_input(key="replicas-0").set_value(None).run()
    assert not app.exception and app.query_params["machine"] == "2*h100-sxm"


@pytest.mark.slow
def test_kernels_memory_and_formats_are_shown(app: Any):
    app.run()
    for shown in ("Kernels", "Memory"):
        app.segmented_control(key="shown").set_value(shown).run()
        assert not app.exception and not app.error
    app.selectbox(key="weights-0").set_value("bf16").run()
    assert not app.exception and not app.error


@pytest.mark.slow
def test_a_machine_that_is_too_small_is_told_so_and_the_page_stays(app: Any):
    app.run()
    app.selectbox(key="model").set_value("llama-3.1-405b").run()
    assert not app.exception
    assert "does not fit" in str(app.table[0].value)


@pytest.mark.slow
def test_a_wrong_link_starts_the_page_as_if_there_were_none(app: Any):
    app.query_params["machine"] = ["8*nothing-like-it"]
    app.query_params["model"] = ["llama-3.2-1b"]
    app.run()
    assert not app.exception
    assert "unknown chip" in app.error[0].value


def test_wrong_uploads_are_one_sentence(app: Any):
    app.run()
    upload = app.file_uploader(key="config")
    upload.set_value(("config.json", json.dumps({"a": 1}).encode(), "application/json")).run()
    assert not app.exception and len(app.error) == 1
    assert "config.json" in app.error[0].value and "Traceback" not in app.error[0].value
    app.file_uploader(key="config").set_value([])
    chip = app.file_uploader(key="chip")
    chip.set_value(("my.toml", os.urandom(100), "application/toml")).run()
    assert not app.exception and any("my.toml" in error.value for error in app.error)


def test_a_chip_of_ones_own_is_taken(app: Any):
    app.run()
    text = export.chip_text(TURNED.machines[0], TURNED)
    app.file_uploader(key="chip").set_value(("my.toml", text.encode(), "application/toml")).run()
    assert not app.exception and not app.error
    assert app.selectbox(key="chip-0").options[0].endswith("(loaded)")
