"""What must be kept whatever is asked: room, chips, users and their time; as users call it."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from command import predict, run

from perfmodel.inference.evaluate import resolve_row, with_ranks
from perfmodel.inference.placement import kv_cache_capacity
from perfmodel.inference.service import max_sequences
from perfmodel.library.fitted import FITTED
from perfmodel.units import as_scalar

Cells = dict[str, str]


class Machine(NamedTuple):
    """A way to spread Llama-3.1-70B: a row, and the bytes of cache of one token on one chip."""

    cells: Cells
    token: float


HEADS, HEAD, LAYERS = 8, 128, 80
TOKEN = 2 * 2 * HEADS * HEAD * LAYERS  # keys and values of all layers in bf16

LLAMA = {"model": "llama-3.1-70b", "osl": "100", "concurrency": "32"}
H100 = LLAMA | {"chip": "h100-sxm", "n_chips": "8", "precision": "fp8"}
MACHINES = {
    "LPU pipeline": Machine(
        LLAMA | {"chip": "lpu-v1", "n_chips": "576", "tp": "8", "pp": "72", "precision": "int8"},
        TOKEN / 576,
    ),
    "wafers": Machine(LLAMA | {"chip": "wse-3", "n_chips": "16", "pp": "16"}, TOKEN / 16),
    "H100, tensor ranks": Machine(H100 | {"tp": "8"}, TOKEN / 8),
    "H100, stages": Machine(H100 | {"pp": "8"}, TOKEN / 8),
    "H100, both": Machine(H100 | {"tp": "2", "pp": "4"}, TOKEN / 8),
    "H100, data ranks": Machine(H100 | {"tp": "4", "dp": "2"}, TOKEN / 4),
    "GB200": Machine(LLAMA | {"chip": "gb200", "n_chips": "16", "tp": "8", "pp": "2"}, TOKEN / 16),
}


@pytest.mark.parametrize("name", MACHINES)
def test_sequences_that_fit_fall_by_one_at_a_time_as_texts_grow(name: str):
    """By at most one on each data rank; and they are those counted by hand."""
    machine = MACHINES[name]
    case = resolve_row(0, machine.cells | {"isl": "1000"}, FITTED)
    chip, model = case.deployment.chip, case.deployment.model
    (split,) = case.candidates
    plan = with_ranks(case.deployment.plan, split)
    wanted = np.arange(1.15, 40.0, 0.3)
    lengths = float(kv_cache_capacity(chip, plan, model)) / machine.token / wanted
    counts = [float(max_sequences(chip, plan, model, as_scalar(n))) / split.dp for n in lengths]
    assert counts == np.floor(wanted).tolist()


LONG = {"LPU pipeline": ("1700", "1800", "1900", "6000"), "H100, stages": ("4000", "200000")}


@pytest.mark.long
def test_users_beyond_the_room_wait_and_all_others_run(tmp_path: Path):
    rows = [MACHINES[name].cells | {"isl": isl} for name, each in LONG.items() for isl in each]
    found = predict("serving", tmp_path, rows)
    running = [float(row["running"]) for row in found]
    assert running[:3] == [32, 32, 32] and running[4] == 32
    # 576 chips of 220 MB hold 19 texts of 6,100 tokens or more beside 70 GB; eight H100 hold 7.
    assert 15 < running[3] < 32 and running[5] == 7
    prices = [float(row["usd_per_million_output_tokens"]) for row in found]
    assert prices[0] < prices[1] < prices[2] < 1.05 * prices[0] < prices[3] < 4 * prices[0]
    assert all(row["fits"] == "true" and not row["error"] for row in found)


@pytest.mark.long
def test_eight_users_of_576_lpus_are_served_at_once(tmp_path: Path):
    cells = MACHINES["LPU pipeline"].cells | {"pp": "", "isl": "4096", "osl": "256"}
    alone, eight = predict("serving", tmp_path, [cells | {"concurrency": n} for n in ("1", "8")])
    assert eight["running"] == "8" and float(eight["tpot_ms"]) < 1.2 * float(alone["tpot_ms"])


SMALL = {"chip": "h100-sxm", "model": "llama-3.2-1b", "isl": "2000", "osl": "200"}
SMALL |= {"concurrency": "48", "burst": "false"}

RANKS = (
    {},
    {"tp": "4"},
    {"pp": "4"},
    {"dp": "4"},
    {"tp": "2", "dp": "2", "pp": "4"},
)


@pytest.mark.long
def test_chips_used_are_chips_asked_for_in_every_mode(tmp_path: Path):
    modes = ({}, {"mode": "static_batch"}, {"mode": "single_stream"}, {"mode": "offline"})
    rows = [SMALL | mode | ranks | {"n_chips": "16"} for mode in modes for ranks in RANKS]
    for row in predict("serving", tmp_path, rows):
        assert row["n_chips"] == "16" and not row["error"]
        assert float(row["tp"]) * float(row["pp"]) * float(row["dp"]) == 16


POOLS = (
    {},
    {"tp": "8"},
    {"n_chips": "12"},
    {"prefill_workers": "3"},
    {"prefill_workers": "2", "decode_tp": "4", "prefill_tp": "2"},
    {"prefill_pp": "2", "decode_pp": "4", "decode_tp": "1"},
    {"decode_dp": "2", "prefill_tp": "1"},
)


@pytest.mark.long
def test_pools_use_the_chips_asked_for_and_keep_the_ranks_given(tmp_path: Path):
    asked = [SMALL | {"mode": "disaggregated", "n_chips": "32"} | given for given in POOLS]
    for row, given in zip(predict("serving", tmp_path, asked), asked, strict=True):
        chips = 0.0
        for pool in ("prefill", "decode"):
            own = {rank: float(row[f"{pool}_{rank}"]) for rank in ("workers", "tp", "pp", "dp")}
            chips += np.prod([*own.values()])
            assert own["tp"] == float(given.get("tp") or given.get(f"{pool}_tp") or own["tp"])
        assert chips == float(row["n_chips"]) == float(given["n_chips"]) and not row["error"]
        assert all(row[name] == cell for name, cell in given.items())


@pytest.mark.long
def test_pools_are_balanced_so_that_more_chips_answer_more(tmp_path: Path):
    load = SMALL | {"mode": "disaggregated", "isl": "8000", "concurrency": "256"}
    found = predict("serving", tmp_path, [load | {"n_chips": n} for n in ("2", "4", "8", "16")])
    rates = [float(row["total_tokens_per_s"]) for row in found]
    assert np.all(np.diff(rates) > 0)
    forced = [load | {"n_chips": "16", "prefill_workers": n} for n in ("1", "4", "12")]
    best = 1.0001 * rates[-1]
    assert all(
        float(row["total_tokens_per_s"]) <= best for row in predict("serving", tmp_path, forced)
    )


HALVES = ({}, {"tp": "4"}, {"ffn_tp": "4"}, {"n_chips": "12", "ffn_tp": "8"}, {"n_chips": "7"})


@pytest.mark.long
def test_attention_and_feed_forward_use_the_chips_asked_for(tmp_path: Path):
    asked = [SMALL | {"ffn_chip": "h100-sxm", "n_chips": "16"} | given for given in HALVES]
    for row, given in zip(predict("serving", tmp_path, asked), asked, strict=True):
        halves = [
            [float(row[f"{half}{rank}"]) for rank in ("tp", "pp", "dp")] for half in ("", "ffn_")
        ]
        assert sum(map(np.prod, halves)) == float(row["n_chips"]) == float(given["n_chips"])
        assert all(row[name] == cell for name, cell in given.items()) and not row["error"]


IMPOSSIBLE = (
    (
        {"mode": "disaggregated", "concurrency": "", "requests_per_s": "1"},
        "requests_per_s is for mode serving, not for disaggregated",
    ),
    ({"mode": "disaggregated", "n_chips": "16", "prefill_workers": "1", "prefill_tp": "1"}
     | {"decode_workers": "1", "decode_tp": "8"}, "the chips of both pools"),
    ({"mode": "disaggregated", "n_chips": "1"}, "the chips of both pools"),
    ({"ffn_chip": "h100-sxm", "n_chips": "16", "tp": "8", "pp": "1", "ffn_tp": "4", "ffn_pp": "1"},
     "the chips of attention and feed-forward layers together"),
)  # fmt: skip


def test_chips_that_cannot_all_be_used_are_refused(tmp_path: Path):
    found = predict("serving", tmp_path, [SMALL | change for change, _ in IMPOSSIBLE])
    for row, (_, said) in zip(found, IMPOSSIBLE, strict=True):
        assert said in row["error"] and not row["tpot_ms"]


CROWD = {"concurrency": "4000", "isl": "20000", "n_chips": "2"}


@pytest.mark.long
def test_users_that_wait_are_in_the_time_to_first_token_in_every_mode(tmp_path: Path):
    """Little's law: users are answers a second times seconds from a request to its last token."""
    modes = ({}, {"framework": "vllm"}, {"mode": "offline"}, {"mode": "disaggregated"})
    modes += ({"ffn_chip": "h100-sxm"}, {"mode": "static_batch"})
    rows = [SMALL | CROWD | mode for mode in modes]
    for row in predict("serving", tmp_path, rows):
        assert row["fits"] == "true" and not row["error"]
        ttft, tpot = (float(row[f"{name}_ms"]) / 1e3 for name in ("ttft", "tpot"))
        answers = float(row["output_tokens_per_s_per_chip"]) * float(row["n_chips"]) / 200
        running, decoding = float(row["running"]), 199 * tpot
        assert running < 4000 and answers * decoding < 1.001 * running
        if row.get("mode") == "static_batch":  # the last wave ends when the mean is half way
            assert ttft + decoding < 4000 / answers < 2.1 * (ttft + decoding)
        else:
            assert answers * (ttft + decoding) == pytest.approx(4000, rel=1e-3)


@pytest.mark.long
def test_only_weights_and_one_sequence_must_fit(tmp_path: Path):
    full = {"chip": "h100-sxm", "n_chips": "1", "concurrency": "64", "osl": "100", "isl": "1000"}
    small, large = predict(
        "serving", tmp_path, [full | {"model": name} for name in ("llama-3.1-8b", "llama-3.1-70b")]
    )
    assert small["fits"] == "true" and not small["error"]
    assert large["fits"] == "false" and "weights and one sequence are" in large["error"]
    numbers = [name for name in large if name.endswith(("_ms", "_s", "_user", "_chip", "tokens"))]
    assert not any(large[name] for name in numbers) and not large["running"]


@pytest.mark.slow
def test_a_rack_serves_as_many_tokens_a_chip_offline_as_a_node(tmp_path: Path):
    """MLPerf has DeepSeek-R1 on 8 and on 72 GB300 within a few per cent of each other."""
    cells = {"model": "deepseek-r1", "chip": "gb300", "precision": "nvfp4", "mode": "offline"}
    cells |= {"isl": "800", "osl": "3880", "concurrency": ""}
    node, rack = predict("serving", tmp_path, [cells | {"n_chips": n} for n in ("8", "72")])
    each = [float(row["output_tokens_per_s_per_chip"]) for row in (node, rack)]
    assert each[1] == pytest.approx(each[0], rel=0.1)
    # More sequences on 72 chips than on 8, as there is more room.
    assert float(rack["running"]) > 8 * float(node["running"])


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
def test_users_running_fall_by_one_at_a_time_as_called(name: str, tmp_path: Path):
    machine = MACHINES[name]
    lengths = np.geomspace(3000, 120_000, 60).round()
    rows = [machine.cells | {"isl": f"{isl:.0f}", "concurrency": "64"} for isl in lengths]
    found = predict("serving", tmp_path, rows)
    running = [float(row["running"] or 0) for row in found]
    # A text grows by 6.5 % from one row to the next, and sequences fall by no more, or by one each rank.
    ranks = float(machine.cells.get("dp", "1"))
    assert running[0] > 2 * running[-1]
    for before, after in itertools.pairwise(running):
        assert before >= after >= before / 1.07 - ranks


SLIPS = {"tpp": "tp", "conurrency": "concurrency", "decode_worker": "decode_workers"}


def test_a_column_that_no_one_reads_is_named_with_the_nearest_that_is(tmp_path: Path):
    names = [*SMALL, *SLIPS, "ttft_slo", "measured_ttft_ms", "note"]
    (tmp_path / "in.csv").write_text(
        ",".join(names) + "\n" + ",".join([*SMALL.values(), "4", "4", "1", "500", "7", "mine"])
    )
    status, _, err = run("predict", "serving", tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    lines = err.splitlines()
    assert status == 0 and len(lines) == len(SLIPS) + 1
    for line, (slip, meant) in zip(lines, SLIPS.items(), strict=False):
        assert f"column {slip} is not read; the nearest that is: {meant}." in line
    assert lines[-1].endswith("columns that are not read: ttft_slo.")
    (tmp_path / "kernels.csv").write_text(
        "op,chip,dtype,m,n,k,framewrk\ngemm,h100,bf16,8,8,8,vllm\n"
    )
    status, _, err = run(
        "predict", "kernels", tmp_path / "kernels.csv", "--out", tmp_path / "k.csv"
    )
    assert status == 0 and "column framewrk is not read; the nearest that is: framework." in err
