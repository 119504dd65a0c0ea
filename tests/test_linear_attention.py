"""Linear attention: a state of fixed size."""

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from perfmodel.calibration.data.aiconfigurator_columns import summed
from perfmodel.kernels.linear_attention import States, linear_attention
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.kernels.registry import KERNELS
from perfmodel.kernels.residency import Residency
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""

TWINS = 1e-3
"""Relative: smooth minima bend by less, a factor of four from their corner."""


def run(
    queries: float,
    name: str = "h100-sxm",
    residency: Residency | None = None,
    batch: float = 2,
    kind: float = 0,
    replay: bool = False,
) -> Work:
    """Four heads with states of 8 x 16 and two heads of keys, for two sequences."""
    states = States(*[as_scalar(x) for x in (4, 8, 16, 2, kind)])
    prompt = as_scalar(1.0 if queries > 1 else 0.0)
    sizes = as_scalar(batch), as_scalar(queries)
    return linear_attention(load_chip(name), Plan(replay=replay), *sizes, states, prompt, residency)


def test_a_state_is_read_and_written_once():
    # 2 x 4 x 8 x 16 = 1,024 numbers of 4 bytes, in and out.
    assert run(1).demand.main == pytest.approx(8192, abs=1)


def test_a_prompt_copies_its_states_besides():
    # 4,096 bytes, in, out, and as often as fitted; of 3 MB a rounding error leaves the cache.
    copies = load_chip("h100-sxm").efficiency.linear_attention.state_copies
    assert run(640).demand.main == pytest.approx(4096 * (2 + float(copies)), rel=0.01)


def test_a_token_passes_through_sram():
    # Convolved, in and out: 2 sequences x 2 x 2 bytes x (2 x 2 x 8 + 4 x 16) = 768;
    # queries, keys, values and outputs: 2 x 4 heads x 2 x (8 + 16) numbers of 2 bytes = 768.
    assert run(1).demand.shared == pytest.approx(8192 + 768 + 768, rel=ROUNDING)


def test_gates_of_keys_are_read():
    # Kimi: 8 more gates of 4 bytes for each of 2 x 4 heads.
    assert run(1, kind=1).demand.shared == pytest.approx(8192 + 1536 + 256, rel=ROUNDING)


def test_one_token_costs_its_state():
    # Within a chunk of one token: 2 x (8 + 16 + 2 x 8 + 16); the state: 2 x 8 x 16 x 3.
    assert run(1).demand.matrix == pytest.approx(2 * 4 * (112 + 768), rel=ROUNDING)


def test_a_scan_without_the_delta_rule_costs_less():
    # Mamba-2: 2 x (8 + 16) and 2 x 8 x 16 x 2.
    assert run(1, kind=2).demand.matrix == pytest.approx(2 * 4 * (48 + 512), rel=ROUNDING)


def test_each_token_of_a_prompt_costs_a_chunk_and_its_state():
    expected = 2 * 6400 * 4 * (64 * 112 + 768)
    assert run(6400).demand.matrix == pytest.approx(expected, rel=TWINS)


def test_what_a_long_prompt_moves_does_not_fit_in_sram():
    # 12.8e6 tokens; each holds 2 x (2 x 2 x 8 + 4 x 16) = 192 bytes of inputs, 4 x 2 x 48 = 384 of
    # queries to outputs, and 2 x 4 x (8 + 2 x 16 + 8 x 16 / 64) = 336 between the kernels.
    fitted, room = (
        load_chip("h100-sxm").efficiency.linear_attention,
        load_chip("h100-sxm").shared.capacity,
    )
    tokens = 2 * 6.4e6
    moved = tokens * (2 * 192 + float(fitted.token_passes) * 384)
    away = 1 - float(fitted.l2_capacity * room) / (tokens * 912)
    expected = 4096 * (2 + float(fitted.state_copies)) + moved * away
    assert run(6.4e6).demand.main == pytest.approx(expected, rel=TWINS)


def test_a_prompt_waits_for_each_chunk():
    fitted = load_chip("h100-sxm").efficiency.linear_attention
    # 640 tokens are ten chunks; 6,400 are a hundred: ninety more.
    waits = run(6400).latency - run(640).latency
    assert waits == pytest.approx(90 * float(fitted.per_chunk), rel=TWINS)


def test_a_launched_chip_keeps_nothing_in_private_memory():
    assert run(1).demand.private == 0


def test_replayed_states_stay_in_the_cache():
    served, replayed = run(1).demand.main, run(1, replay=True).demand.main
    assert served is not None and replayed is not None and replayed < 0.01 * served


def test_states_live_where_they_are_placed():
    demand = run(1, residency=Residency(shared=0.75, far=0.25)).demand
    assert demand.far == pytest.approx(2048)
    assert demand.main == pytest.approx(0.0, abs=1)


@pytest.mark.parametrize("name", ["lpu-v1", "wse-3"])
def test_resident_states_leave_main_memory_alone(name: str):
    demand = run(1, name).demand
    assert demand.main == demand.far == 0
    assert demand.private is not None and demand.shared is not None
    assert demand.private + demand.shared == pytest.approx(8192 + 1536, rel=ROUNDING)


def test_a_dataflow_machine_crosses_its_cores_twice():
    chip = load_chip("wse-3")
    expected = chip.efficiency.linear_attention.launch + mesh_traversal_time(chip, 2.0)
    assert run(1, "wse-3").latency == pytest.approx(float(expected), rel=ROUNDING)


@pytest.mark.parametrize(("queries", "phase"), [(1.0, 1.0), (64.0, 0.0)])
def test_a_prompt_is_known_by_its_phase_or_its_length(queries: float, phase: float):
    chip = load_chip("h100-sxm")
    row = {"batch": 1.0, "q_len": queries, "heads": 4.0, "head_dim": 64.0, "phase": phase}
    row = {name: as_scalar(value) for name, value in row.items()}
    [work] = KERNELS["linear_attention"](**row).count(chip, Plan())
    assert jnp.all(
        work.latency
        > chip.efficiency.linear_attention.launch + chip.efficiency.linear_attention.prompt_launch
    )


def _measured(**changed: list) -> pa.Table:
    rows = {
        "batch_size": [1, 1, 2],
        "seq_len": [64, 64, 64],
        "num_k_heads": [2, 2, 2],
        "head_k_dim": [128, 128, 128],
        "num_v_heads": [4, 4, 4],
        "head_v_dim": [128, 128, 128],
        "phase": ["context"] * 3,
        "d_model": [1024] * 3,
        "kernel_source": ["causal_conv1d_fn", "chunk_gated_delta_rule", "causal_conv1d_fn"],
        "latency": [0.004, 0.04, 0.005],
    }
    return pa.table(rows | changed)


def test_kernels_of_one_shape_are_added_and_a_shape_that_lacks_one_is_left_out():
    [(columns, time)] = summed(_measured(), "sglang", "gdn")
    assert np.allclose(time, [44e-6]) and columns["key_heads"].tolist() == [2.0]


def test_another_way_to_do_the_same_is_not_added():
    sources = ["causal_conv1d_update", "fused_recurrent_kda_packed_decode", "kda_fused_decode"]
    table = _measured(kernel_source=sources, batch_size=[1, 1, 1], phase=["generation"] * 3)
    [(_, time)] = summed(table, "sglang", "kda")
    assert np.allclose(time, [44e-6])


def test_prompts_that_were_timed_with_the_host_are_not_read():
    assert list(summed(_measured(), "vllm", "kda")) == []


def test_a_prompt_launches_several_kernels_and_takes_its_rows_chunk_and_sequences():
    fitted = load_chip("h100-sxm").efficiency.linear_attention
    # 640 tokens: rows of a chunk of 64 and nine chunks in a chain, for two sequences.
    serial = 64 * float(fitted.per_row) + 9 * float(fitted.per_chunk)
    expected = float(fitted.launch + fitted.prompt_launch) + serial + 2 * float(fitted.per_sequence)
    assert float(run(640).latency) == pytest.approx(expected, rel=TWINS)
    # Kimi's has gates of keys, and kernels of its own for them.
    more = float(run(640, kind=1).latency - run(640).latency)
    assert more == pytest.approx(float(fitted.kda_launch), rel=TWINS)


def test_a_decoded_token_waits_for_its_launch_alone():
    for kind in range(3):
        launch = float(load_chip("h100-sxm").efficiency.linear_attention.launch)
        assert float(run(1, kind=kind).latency) == pytest.approx(launch, rel=ROUNDING)


@pytest.mark.parametrize(("queries", "chunks"), [(1, 1), (256, 4)])
def test_cores_take_a_block_for_each_chunk_head_and_32_values(queries: float, chunks: float):
    # Two sequences, four heads of 16 values: half a tile; on 132 cores.
    found = run(queries).occupancy
    assert float(found) == pytest.approx(2 * chunks * 4 * 16 / 32 / 132, rel=TWINS)


@pytest.mark.parametrize(
    ("kind", "flops"),
    # A chunk of 64: scores and values 2 x 64 x (8 + 16); the delta rule 2 x 64 x (2 x 8 + 16) more, and
    # asks the state besides reading and updating it: 2 x 8 x 16 each.
    [(0, 3072 + 4096 + 768), (2, 3072 + 512)],
)
def test_products_of_a_prompt_by_hand(kind: float, flops: float):
    assert run(6400, kind=kind).demand.matrix == pytest.approx(2 * 6400 * 4 * flops, rel=TWINS)


def test_what_a_token_holds_between_kernels():
    states = States(*[as_scalar(x) for x in (4, 8, 16, 2, 0)])
    # Brought: 2 x (2 x 2 x 8 + 4 x 16) = 192; each head 2 x 2 x 24 = 96: 384; changed by the delta rule
    # 2 x 4 x (8 + 2 x 16 + 8 x 16 / 64) = 336.
    assert (states.inputs, states.token, states.live) == (192, 384, 912)
    assert states.size == 4 * 4 * 8 * 16
