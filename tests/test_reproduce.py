"""Published and measured results beside predictions: what is graded how, and what is reported."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import run

from perfmodel.calibration.baselines.roofline import decoding
from perfmodel.calibration.data.inferencex import PLAN, TABLE, Part, Run, read_runs
from perfmodel.calibration.published_results import (
    FINE_FACTORS,
    METRICS,
    PUBLISHED,
    best_factor,
    sets_of,
)
from perfmodel.calibration.serving_metrics import (
    Comparison,
    ScoredRun,
    anchored,
    median_of_distinct,
    metrics_of_published,
    run_metrics,
    tau,
    tau_within,
)
from perfmodel.errors import InputError
from perfmodel.library.chip import find_chip
from perfmodel.library.files import ROOT
from perfmodel.library.model import find_model

PLAIN = {
    "id": "1",
    "silicon_data_source": "s; silicon_concurrency=16; x",
    "backend": "vllm",
    "backend_version": "0.1",
    "model_path": "meta-llama/Llama-3.1-70B",
    "system": "h200_sxm",
    "precision": "fp8",
    "mode": "agg",
    "isl": "1024",
    "osl": "1024",
    "tp_size": "4",
    "pp_size": "1",
    "attention_dp_size": "1",
    "moe_tp_size": "4",
    "moe_ep_size": "1",
    "silicon_ttft_ms": "100",
    "silicon_tpot_ms": "10",
}

RANKS = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
EMPTY = {f"{pool}_{name}": "" for pool in ("prefill", "decode") for name in ("num_workers", *RANKS)}


def pool(name: str, workers: str, *ranks: str) -> dict[str, str]:
    """The columns of a pool: its workers, then tensor, data, and the experts' tensor and expert ranks."""
    return {f"{name}_num_workers": workers} | {
        f"{name}_{column}": size for column, size in zip(RANKS, ranks, strict=True)
    }


DEEPSEEK = {"model_path": "deepseek-ai/DeepSeek-R1", "backend": "sglang", "mode": "disagg"}
POOLED = (
    DEEPSEEK
    | {"isl": "8192", "silicon_data_source": "s; silicon_concurrency=256; measured=2026-02-07"}
    | pool("prefill", "2", "1", "8", "1", "8")
    | pool("decode", "1", "1", "32", "1", "32")
)
"""A run of two pools that says how many workers they have."""


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., str]:
    """A checkout of the package with some runs, as changes to a plain one."""

    def write(*changes: dict[str, str]) -> str:
        folder = tmp_path / "systems"
        (folder / "data").mkdir(parents=True)
        with (folder / TABLE).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(PLAIN | EMPTY))
            writer.writeheader()
            writer.writerows(PLAIN | EMPTY | change for change in changes)
        return str(tmp_path)

    return write


def test_a_run_becomes_a_row_of_the_serving_schema(package: Callable[..., str]):
    (found,) = read_runs(package({}))
    assert (found.ttft, found.tpot) == (0.1, 0.01)
    assert (found.part, found.reliable, found.fault) == ("fit", True, "")
    wanted = {"chip": "h200_sxm", "n_chips": "4", "tp": "4", "dp": "1", "concurrency": "16"}
    assert wanted.items() <= found.cells.items()
    assert found.cells["length_ratio"] == "0.9"


def test_data_ranks_are_counted_once(package: Callable[..., str]):
    ranks = {"tp_size": "1", "attention_dp_size": "64", "moe_tp_size": "8", "moe_ep_size": "8"}
    (found,) = read_runs(package(ranks | {"model_path": "deepseek-ai/DeepSeek-R1"}))
    wanted = {"n_chips": "8", "tp": "1", "dp": "8", "ep": "8"}
    assert wanted.items() <= found.cells.items()


def plans(source: str) -> list[tuple[str, ...]]:
    runs = read_runs(source, {"disaggregated"})
    return [tuple(run.cells.get(name, "") for name in PLAN) for run in runs]


def test_pools_are_read_as_they_are_stated(package: Callable[..., str]):
    tensor = pool("prefill", "1", "8", "1", "8", "1") | pool("decode", "4", "8", "1", "1", "8")
    found = plans(package(POOLED, POOLED | tensor))
    assert found == [(*"2188", "1", "1", "32", "32"), tuple("18114881")]


@pytest.mark.parametrize(
    ("users", "day", "plan"),
    [
        ("4", "2026-02-07", tuple("18811881")),  # one recipe
        ("32", "2026-02-07", ("",) * 8),  # one decode worker or six
        ("4", "2026-02-13", ("",) * 8),  # from then on it may speculate
        ("5", "2026-02-07", ("",) * 8),  # no recipe
    ],
)
def test_workers_that_are_not_stated_are_those_of_the_only_recipe(
    package: Callable[..., str], users: str, day: str, plan: tuple[str, ...]
):
    source = {"silicon_data_source": f"s; silicon_concurrency={users}; measured={day}T00"}
    ranks = pool("prefill", "", "8", "1", "1", "8") | pool("decode", "", "8", "1", "1", "8")
    row = DEEPSEEK | {"system": "b200_sxm", "isl": "8192"} | source | ranks
    assert plans(package(row)) == [plan]


def test_a_decode_worker_has_its_share_of_the_users(package: Callable[..., str]):
    row = POOLED | pool("decode", "4", "8", "1", "1", "8")
    (run,) = read_runs(package(row), {"disaggregated"})
    wanted = {"mode": "serving", "concurrency": "64", "tp": "8", "ep": "8", "n_chips": "8"}
    assert wanted.items() <= decoding(run.cells).items()


def test_recipes_say_where_they_are_from():
    with (ROOT / "published" / "recipes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert find_chip(row["system"]) and row["source"]
            assert all(int(row[name]) > 0 for name in PLAN)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"model_path": "openai/gpt-oss-120b"}, "heldout"),
        ({"system": "b300_sxm"}, "heldout"),
        ({"model_path": "Qwen/Qwen3-32B"}, "closed"),
        ({"system": "gb300"}, "closed"),
        (POOLED, "disaggregated"),
    ],
)
def test_what_is_held_out_and_what_stays_closed(
    package: Callable[..., str], change: dict[str, str], part: Part
):
    source = package(change)
    assert [run.part for run in read_runs(source, {part})] == [part]
    assert bool(read_runs(source)) == (part == "heldout")


def test_runs_that_differ_although_their_settings_do_not_are_not_of_the_best_grade(
    package: Callable[..., str],
):
    other, users = {"silicon_tpot_ms": "14"}, "s; silicon_concurrency=32"
    source = package({}, other, {"silicon_data_source": users}, {"silicon_data_source": "Users/a"})
    assert [one.reliable for one in read_runs(source)] == [False, False, True, False]


def test_copies_of_a_measurement_weigh_as_one(package: Callable[..., str]):
    runs = read_runs(package({}, {}, {"silicon_tpot_ms": "11"}))
    keys = [(run.ttft, run.tpot) for run in runs]
    assert keys[0] == keys[1] != keys[2]
    assert median_of_distinct(np.array([1.0, 2.0, 3.0]), keys) == 2.0
    assert median_of_distinct(np.array([1.0, 2.0, 3.0, 4.0]), [*"aab", "c"]) == 3.0


def _scored(config: str, tpot: float, predicted: float, users: str = "16") -> ScoredRun:
    cells = {"model": "m", "chip": "c", "isl": "1024", "osl": "1024", "concurrency": users}
    return ScoredRun(Run(cells, 1.0, tpot, "fit", True, "", (config,)), 1.0, predicted, True)


def test_kendall_s_tau_counts_pairs_in_order():
    right = [_scored(name, x, 2 * x) for name, x in zip("abc", (1.0, 2.0, 3.0), strict=True)]
    assert tau(right) == pytest.approx(1.0)
    assert tau([right[0], right[1]._replace(tpot=9.0), right[2]]) == pytest.approx(1 / 3)
    assert tau_within(right[:2], lambda run: run.cells["model"]) is None


def test_a_record_of_errors_is_json_and_counts_the_answers_of_a_rival():
    group = [_scored("a", 2.0, 1.0), _scored("b", 4.0, 3.0)]
    found = run_metrics("all", [group[0]._replace(baselines={"configurator": 1.5}), group[1]])
    assert json.loads(json.dumps(found))["configurator_n"] == 1
    assert found["configurator_tpot_median"] == pytest.approx(0.25)  # 1.5 for a measured 2


def test_one_measured_point_scales_its_configuration_and_is_left_out():
    group = [_scored("a", 2.0, 1.0), _scored("a", 4.0, 3.0, users="64")]
    (other,) = anchored(group)
    assert other.run.tpot == 4.0 and other.tpot == pytest.approx(6.0)


def test_published_rows_name_what_the_library_has_and_where_they_are_from():
    for name in PUBLISHED.values():
        with (ROOT / "published" / name).open(newline="") as file:
            for row in csv.DictReader(file):
                assert find_chip(row["chip"]) == row["chip"]
                assert find_model(row["model"]) == row["model"]
                assert row["metric"] in METRICS and float(row["value"]) > 0
                assert row["source"] and row["address"], row["id"]


def test_caches_are_those_of_the_launch_scripts(package: Callable[..., str]):
    kimi = {"model_path": "moonshotai/Kimi-K2.5", "precision": "int4"}
    glm = {"model_path": "zhipuai/GLM-5", "backend": "sglang"}
    found = read_runs(package(kimi, glm, {}))
    assert [run.cells["kv_precision"] for run in found] == ["bf16", "bf16", "fp8"]
    assert [run.cells["requests_per_user"] for run in found] == ["10", "5", "10"]


def test_a_constant_is_fitted_to_the_models_that_are_not_left_out():
    errors = np.log(np.array([FINE_FACTORS * 2.0, FINE_FACTORS * 2.0, FINE_FACTORS * 0.5]))
    keys = [("c", "a"), ("c", "a"), ("c", "b")]
    assert best_factor(errors, keys, [("c", "a")]) == pytest.approx(0.5, rel=0.01)
    assert best_factor(errors, keys, [("c", "b")]) == pytest.approx(2.0, rel=0.01)
    assert best_factor(errors, keys, []) == 1.0


def test_an_unknown_set_is_refused():
    known = "throughput, single-stream, energy, memory, serving, decisions, equal-lengths, closed"
    with pytest.raises(InputError, match=f"allowed are {known}"):
        sets_of(["speeds"])


def test_software_of_2024_is_in_a_line_of_its_own_beside_the_machines_tuned_to_be_fast():
    words = ("h100-sxm", "llama-2-70b", "trtllm", "offline")
    named = ("MLPerf v5.0", "TensorRT-LLM 0.14.0", "Argonne LLM-Inference-Bench", "LMSYS")
    rows = [Comparison("throughput", name, words, 100.0, 90.0, "") for name in named]
    lines = {row["group"]: row["n"] for row in metrics_of_published(rows)}
    assert lines["throughput / MLPerf and TensorRT-LLM"] == 2
    assert lines["throughput / MLPerf and TensorRT-LLM and Argonne"] == 3


@pytest.mark.slow
def test_single_stream_speeds_come_out_beside_what_is_published(tmp_path: Path):
    out = tmp_path / "out"
    status, text, err = run("reproduce", "--sets", "single-stream", "--out", out)
    assert (status, err) == (0, "") and "lpu-v1" in text
    report = json.loads((out / "reproduce.json").read_text())
    groups = {one["group"].split(" / ")[-1]: one for one in report["published"]}
    assert groups["lpu-v1"]["median"] < 0.15
    assert abs(groups["wse-3"]["bias"]) < np.log(2)
    assert (out / "single-stream.png").exists() and (out / "rows.csv").exists()


@pytest.mark.slow
def test_decisions_come_out_with_every_choice(package: Callable[..., str], tmp_path: Path):
    runs = [
        {"silicon_data_source": f"s; silicon_concurrency={users}", "silicon_tpot_ms": tpot}
        for users, tpot in (("4", "9"), ("16", "15"), ("64", "28"))
    ]
    out, page = tmp_path / "out", tmp_path / "page.html"
    words = ("--sets", "decisions", "--data", package(*runs), "--out", out, "--report", page)
    status, text, err = run("reproduce", *words)
    assert (status, err) == (0, "") and "confidence 80 %" in text
    report = json.loads((out / "reproduce.json").read_text())
    assert report["serving"] == [] and {"all", "part fit"} <= {
        one["group"] for one in report["decisions"]
    }
    assert all(one["n"] == 2 for one in report["decisions"] if one["group"] == "all")
    with (out / "decisions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    limits = sorted({float(row["limit_ms"]) for row in rows})
    assert limits == pytest.approx([10, 20])
    assert "x the limit breaks it" in page.read_text() and "llama-3.1-70b" in page.read_text()


B200 = {"system": "b200_sxm"}
OWN = "/Users/someone/runs.csv; silicon_concurrency={users}; x"
"""Where AIConfigurator's authors ran it: all lengths are equal."""


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"backend": "trtllm", "backend_version": "1.0.0rc3"}, ("trtllm-1.0", "")),
        ({"backend": "trtllm", "backend_version": "1.1.0rc2"}, ("trtllm", "")),
        ({"backend_version": "0.12.0"}, ("vllm-0.12", "")),
        ({"backend": "sglang", "model_path": "Qwen/Qwen3.5-397B-A17B"}, ("sglang", "")),
        ({"backend": "sglang", "model_path": "deepseek-ai/DeepSeek-R1"} | B200, ("sglang", "10")),
        ({"backend": "sglang", "model_path": "Qwen/Qwen3.5-397B-A17B"} | B200, ("sglang", "30")),
        ({"model_path": "Qwen/Qwen3.5-397B-A17B"} | B200, ("vllm", "")),
    ],
)
def test_a_run_says_its_version_and_how_often_requests_are_read(
    package: Callable[..., str], change: dict[str, str], wanted: tuple[str, str]
):
    (found,) = read_runs(package(change))
    assert (found.cells["framework"], found.cells["read_interval"]) == wanted


@pytest.mark.long
def test_runs_with_equal_lengths_come_out_by_framework_model_chip_and_users(
    package: Callable[..., str], tmp_path: Path
):
    runs = [{"silicon_data_source": OWN.format(users=users)} for users in (4, 16, 16)]
    wrong = {"system": "h100_sxm", "model_path": "openai/gpt-oss-120b"}
    faulty = wrong | {"silicon_data_source": OWN.format(users=512)}
    out = tmp_path / "out"
    words = ("--sets", "equal-lengths", "--data", package(*runs, {}, faulty), "--out", out)
    status, text, err = run("reproduce", *words)
    assert (status, err) == (0, "") and "Users in step" in text
    groups = json.loads((out / "reproduce.json").read_text())["equal_lengths"]
    counts = {one["group"]: one["n"] for one in groups}
    assert counts["all"] == counts["vllm"] == counts["h200_sxm"] == 3
    assert counts["vllm, 1 to 8 users"] == 1 and counts["vllm, 9 to 16 users"] == 2
    assert all(one["ttft_n"] == one["n"] for one in groups)
    assert all(abs(np.expm1(abs(one["ttft_bias"]))) < 2 for one in groups)


def test_a_package_without_runs_of_equal_lengths_is_refused(package: Callable[..., str]):
    status, _, err = run("reproduce", "--sets", "equal-lengths", "--data", package({}))
    assert status == 2 and "has no such runs" in err


def test_blocks_that_share_a_scale_are_not_cut(package: Callable[..., str]):
    ranks = {"model_path": "MiniMaxAI/MiniMax-M2.5", "tp_size": "8", "moe_tp_size": "8"}
    eight, four = read_runs(
        package(ranks, {**ranks, "tp_size": "4", "moe_tp_size": "4"})
    )  # 1,536 columns of an expert are 12 blocks
    assert (eight.cells["ep"], four.cells["ep"]) == ("8", "1")
