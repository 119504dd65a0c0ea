"""Linear attention: a state of fixed size."""

import pytest

from perfmodel.kernels.home import Home
from perfmodel.kernels.launch import crossing_time
from perfmodel.kernels.recurrent import recurrent
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""


def run(queries: float, name: str = "h100-sxm", home: Home | None = None, batch: float = 2) -> Work:
    """Four heads with states of 8 x 16, for two sequences."""
    sizes = [as_scalar(x) for x in (batch, queries, 4, 8, 16)]
    return recurrent(load_chip(name), Plan(), *sizes, home=home)


def test_a_state_is_read_and_written_once():
    # 2 x 4 x 8 x 16 = 1,024 numbers of 4 bytes, in and out.
    assert run(1).demand.main == pytest.approx(8192, abs=1)


def test_the_bytes_of_a_state_do_not_grow_with_the_text():
    assert run(640).demand.main == pytest.approx(8192, abs=1)


def test_queries_keys_values_and_outputs_pass_through_sram():
    # 2 sequences x 4 heads x 2 x (8 + 16) numbers of 2 bytes, beside the state.
    assert run(1).demand.shared == pytest.approx(8192 + 768, rel=ROUNDING)


def test_one_token_costs_its_state():
    # Within a chunk of one token: 2 x (8 + 16); reading and updating the state: 4 x 8 x 16.
    assert run(1).demand.matrix == pytest.approx(2 * 4 * (48 + 512), rel=ROUNDING)


def test_each_token_of_a_prompt_costs_a_chunk_and_its_state():
    # Within a chunk of 64: 2 x 64 x (8 + 16) for each token.
    expected = 2 * 6400 * 4 * (2 * 64 * 24 + 512)
    assert run(6400).demand.matrix == pytest.approx(expected, rel=ROUNDING)


def test_what_a_long_prompt_moves_does_not_fit_in_sram():
    # 2 x 6.4e6 x 4 x 2 x 24 numbers of 2 bytes; 66 + 50 MiB of them stay.
    moved = 2 * 2 * 6.4e6 * 4 * 2 * 24
    expected = 8192 + moved - (66 + 50) * 2**20
    assert run(6.4e6).demand.main == pytest.approx(expected, rel=1e-4)  # p-norm: 1e-5 of it


def test_states_live_where_they_are_placed():
    demand = run(1, home=Home(shared=0.75, far=0.25)).demand
    assert demand.far == pytest.approx(2048)
    assert demand.main == pytest.approx(0.0, abs=1)


@pytest.mark.parametrize("name", ["lpu-v1", "wse-3"])
def test_resident_states_leave_main_memory_alone(name: str):
    demand = run(1, name).demand
    assert demand.main == demand.far == 0
    assert demand.private is not None and demand.shared is not None
    assert demand.private + demand.shared == pytest.approx(8192 + 768, rel=ROUNDING)


def test_a_dataflow_machine_crosses_its_cores_twice():
    chip = load_chip("wse-3")
    # The bend at one lifts the launch by 0.25 %.
    expected = chip.efficiency.elementwise.launch + crossing_time(chip, 2.0)
    assert run(1, "wse-3").latency == pytest.approx(float(expected), rel=0.003)
