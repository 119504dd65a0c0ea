"""The command line keeps to its contract: columns, names, help, exit statuses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command import COMMAND, predict, run

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference import serving_predictions
from perfmodel.inference.candidates import Parallelism, candidates
from perfmodel.inference.deployment import resolve_deployment
from perfmodel.inference.serving_predictions import OUTPUTS
from perfmodel.inference.serving_row import GivenRanks, read_row
from perfmodel.interface.cli.help import help_text
from perfmodel.kernels.kernel import AbstractKernel, column
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.files import stems
from perfmodel.library.fitted import FITTED
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.units import Scalar
from perfmodel.workload.plan import Plan

GEMM = {"op": "gemm", "chip": "h100", "dtype": "bf16", "m": "32", "n": "4096", "k": "4096"}
PREDICTED = ["predicted_us", "low_us", "high_us", "bound", "basis", "error"]
SERVED = {
    "chip": "h100",
    "model": "llama-3.2-1b",
    "isl": "512",
    "osl": "64",
    "concurrency": "4",
    "n_chips": "1",
}
PLAN = ["n_chips", "tp", "pp", "ep", "dp", "replicas", "concurrency"]

COMMANDS = [
    "predict kernels",
    "predict serving",
    "calibrate",
    "measure",
    "validate",
    "reproduce",
    "search",
    "study",
    "simulate",
    "sweep",
    "explain",
    "chips",
    "models",
    "explore",
    "doctor",
]


@pytest.mark.parametrize("command", [*COMMANDS, "quickstart"])
def test_help_shows_an_example(command: str):
    status, out, err = run(*command.split(), "--help")
    assert (status, err) == (0, "")
    assert f"Example: perfmodel {command}" in " ".join(out.split())


@pytest.mark.parametrize("command", [*COMMANDS, "quickstart"])
def test_every_command_speaks_json(command: str):
    assert "--json" in run(*command.split(), "--help")[1]


def test_json_is_all_that_stands_on_stdout(tmp_path: Path):
    (tmp_path / "in.csv").write_text("op,chip,dtype,m,n,k\ngemm,h100,bf16,1,,1\n")
    out, page = tmp_path / "out.csv", tmp_path / "page.html"
    words = ["predict", "kernels", tmp_path / "in.csv", "--out", out, "--report", page, "--json"]
    status, said, _ = run(*words)
    found = json.loads(said)
    assert status == 0 and found.pop("first_error").startswith("n is missing")
    assert found == {"out": str(out), "rows": 1, "errors": 1} and page.exists()


def test_help_keeps_brackets_and_puts_examples_last():
    def command():
        """Design a chip.

        Example: perfmodel design [space]

        Keys of [optimiser] are
        in the study.
        """

    text = help_text(command)
    assert text.splitlines()[2] == r"Keys of \[optimiser] are in the study."
    assert text.endswith(r"Example: perfmodel design \[space]")


def test_perfmodel_alone_says_what_to_try():
    status, out, _ = run()
    assert status in (0, 2)
    assert "Try:" in out and "perfmodel quickstart" in out


def test_help_lists_every_command():
    status, out, _ = run("--help")
    assert status == 0
    assert all(command.split()[0] in out for command in COMMANDS)


def test_a_command_group_alone_prints_its_help():
    status, out, err = run("predict")
    assert (status, err) == (2, "")
    assert "kernels" in out and "serving" in out


def test_help_comes_within_a_second():
    """Processor time, best of two, for other programs share the machine."""
    seconds = []
    for _ in range(2):
        start = os.times()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)
        end = os.times()
        user, system = (end[i] - start[i] for i in (2, 3))  # of children
        seconds.append(user + system)
    assert min(seconds) < 1.0


def test_kernel_rows_come_back_with_the_columns_of_the_contract(tmp_path: Path):
    row = {"note": "a, b", **GEMM, "memo": 'two\nlines "quoted"', "empty": ""}
    found = predict("kernels", tmp_path, [row])
    assert list(found[0]) == [*row, *PREDICTED]
    assert {name: found[0][name] for name in row} == row
    assert 0 < float(found[0]["low_us"]) < float(found[0]["predicted_us"])
    assert float(found[0]["predicted_us"]) < float(found[0]["high_us"])
    assert found[0]["bound"] in ("compute", "exponential", "sram", "memory", "latency", "network")
    assert found[0]["basis"] in ("fitted", "sibling", "prior")
    assert found[0]["error"] == ""


def test_the_path_of_a_chip_file_serves_as_a_chip(tmp_path: Path):
    """A copy of L4's file under another name: it takes the same parameters of its architecture."""
    own, wrong = tmp_path / "my-l4.toml", tmp_path / "wrong.toml"
    own.write_bytes(stems("chips")["l4"].read_bytes())
    wrong.write_text("name = 3")
    rows = [GEMM | {"chip": str(name)} for name in ("l4", own, wrong, tmp_path / "none.toml")]
    found = predict("kernels", tmp_path, rows)
    assert found[0]["predicted_us"] == found[1]["predicted_us"] != ""
    assert "wrong.toml" in found[2]["error"] and "none.toml" in found[3]["error"]
    assert run("explain", *(f"{name}={value}" for name, value in rows[1].items()))[0] == 0


def test_an_input_column_that_is_also_an_output_is_replaced_in_its_place(tmp_path: Path):
    found = predict("kernels", tmp_path, [{"Error": "old", **GEMM, "predicted_us": "1"}])
    assert list(found[0]) == ["error", *GEMM, "predicted_us", "low_us", "high_us", "bound", "basis"]
    assert found[0]["error"] == "" and float(found[0]["predicted_us"]) != 1


def test_predicting_a_prediction_changes_nothing(tmp_path: Path):
    predict("kernels", tmp_path, [GEMM])
    once = (tmp_path / "out.csv").read_bytes()
    status, *_ = run("predict", "kernels", tmp_path / "out.csv", "--out", tmp_path / "out.csv")
    assert (status, (tmp_path / "out.csv").read_bytes()) == (0, once)


def test_a_wrong_kernel_row_keeps_its_place_and_the_others_are_predicted(tmp_path: Path):
    wrong = [{"op": "gem"}, {"m": "x"}, {"chip": "h1000"}, {"dtype": ""}, {"m": "-1"}, {"k": "nan"}]
    rows = [one for fault in wrong for one in (GEMM | fault, GEMM)]
    found = predict("kernels", tmp_path, rows)
    bad, good = found[::2], found[1::2]
    assert [{name: row[name] for name in GEMM} for row in found] == rows
    assert all(row["error"] and not row["predicted_us"] and not row["bound"] for row in bad)
    assert all(not row["error"] and float(row["predicted_us"]) > 0 for row in good)


FP8_PROMPT = {
    "op": "attention_prefill",
    "chip": "b200",
    "framework": "trtllm",
    "dtype": "fp8",
    "batch": "1",
    "q_len": "1024",
    "heads": "64",
    "kv_heads": "8",
    "head_dim": "128",
}


@pytest.mark.long
def test_a_kernel_is_given_every_rate_that_its_plan_asks_for(tmp_path: Path):
    """Prompts and sparse attention in fp8; blocks that Ada multiplies in bf16; a chip without bf16."""
    sparse = {"op": "sparse_attention", "chip": "h100", "dtype": "fp8", "batch": "1"}
    rows = [
        FP8_PROMPT,
        FP8_PROMPT | {"op": "mla_prefill", "ctx_len": "1024"},
        FP8_PROMPT | {"chip": "l40s", "head_dim": "64"},  # multiplied in 16 bits there
        FP8_PROMPT | {"chip": "corsair", "dtype": "int8", "framework": ""},
        sparse | {"ctx_len": "4096", "heads": "128"},
        GEMM | {"chip": "l40s", "framework": "trtllm", "dtype": "fp8_block"},
    ]
    found = predict("kernels", tmp_path, rows)
    assert all(row["error"] == "" and float(row["predicted_us"]) > 0 for row in found)


def test_a_kernel_that_cannot_be_priced_costs_no_other_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Undeclared(AbstractKernel):
        op = "undeclared"
        family = "elementwise"
        flops: Scalar = column()

        def count(self, chip: Chip, plan: Plan) -> list[Work]:
            return [Work(demand=Resources(matrix=self.flops), dtype="fp4")]

    monkeypatch.setitem(KERNELS, "undeclared", Undeclared)
    names = ("h100-sxm", "h200-sxm")
    rows = [GEMM | {"op": "undeclared", "chip": name, "flops": "1e9"} for name in names]
    found = predict("kernels", tmp_path, [*rows, GEMM | {"flops": ""}])
    assert all(row["predicted_us"] == "" for row in found[:2])
    said = [row["error"].partition(" lists no matrix rate for fp4")[0] for row in found]
    assert said == [*names, ""] and float(found[2]["predicted_us"]) > 0


def test_a_service_that_cannot_be_priced_costs_no_other_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def outcomes(cases):
        if any(case.request.isl == 1000 for case in cases):
            raise InputError("this cannot be priced.")
        return [{"tpot_ms": "1", "error": ""} for _ in cases]

    monkeypatch.setattr(serving_predictions, "_outcomes", outcomes)
    rows = [SERVED, SERVED | {"isl": "1000"}, SERVED | {"isl": "2000"}]
    found = predict("serving", tmp_path, rows)
    assert [row["tpot_ms"] for row in found] == ["1", "", "1"]
    assert [row["error"] for row in found] == ["", "this cannot be priced.", ""]


def test_every_row_wrong_is_no_failure_of_the_run(tmp_path: Path):
    found = predict("kernels", tmp_path, [GEMM | {"m": "0"}])
    assert found[0]["predicted_us"] == "" and "greater than zero" in found[0]["error"]


def test_spellings_of_one_row_have_one_prediction(tmp_path: Path):
    rows = [
        GEMM | spelled
        for spelled in (
            {},
            {"chip": "H100 SXM"},
            {"chip": "h100_sxm"},
            {"op": "GEMM", "dtype": "BF16"},
            {"m": " 32 "},
        )
    ]
    found = predict("kernels", tmp_path, rows)
    assert len({row["predicted_us"] for row in found}) == 1


@pytest.mark.long
def test_serving_rows_come_back_with_the_columns_of_the_contract(tmp_path: Path):
    rows = [
        SERVED | {"memo": "kept", "mode": "", "tp": "", "speculative_tokens": ""} | change
        for change in (
            {},
            {"chip": "H100_SXM", "model": "meta-llama/Llama-3.2-1B"},
            {"n_chips": "8", "tp": "2"},
            {"mode": "Static-Batch"},
            {"mode": "single stream", "concurrency": ""},
            {"mode": "offline", "concurrency": ""},
            {"isl": "1000000000", "concurrency": "1000", "mode": "static_batch"},
            {"mode": "disagregated"},
            {"speculative_tokens": "17"},
            {"concurrency": ""},
            {"osl": "nan"},
            {"model": "lama-3.2-1x"},
        )
    ]
    found = predict("serving", tmp_path, rows)
    assert list(found[0]) == [*rows[0], "pp", "ep", "dp", "replicas", *OUTPUTS, "error"]
    assert {"ttft_ms", "ttft_ms_low", "ttft_ms_high", "tpot_ms", "tpot_ms_low", "fits"} <= {
        *found[0]
    }
    assert all(row["memo"] == "kept" for row in found)
    first, spelled, spread, batch, alone, offline, big = found[:7]
    assert first["error"] == "" and first["fits"] == "true"
    assert float(first["tpot_ms_low"]) < float(first["tpot_ms"]) < float(first["tpot_ms_high"])
    assert [first[name] for name in PLAN] == ["1", "1", "1", "1", "1", "1", "4"]
    assert spelled["tpot_ms"] == first["tpot_ms"]
    assert [spread[name] for name in ("tp", "pp", "dp", "n_chips")] == ["2", "1", "4", "8"]
    assert float(batch["ttft_ms"]) > float(first["ttft_ms"])
    assert alone["concurrency"] == "1" and float(offline["concurrency"]) > 4
    assert big["fits"] == "false" and "bytes short" in big["error"]
    assert not any(big[name] for name in OUTPUTS if name != "fits")
    said = ["unknown mode 'disagregated'", "speculative_tokens is 17", "concurrency is missing"]
    said += ["osl is 'nan', which is not a number", "the nearest are llama-3.2-1b"]
    for row, sentence in zip(found[7:], said, strict=True):
        assert sentence in row["error"]
        assert not any(row[name] for name in OUTPUTS)


FRAMEWORKS = ("", "trtllm", "vllm", "sglang")
"""The smooth form first."""

NO_SLOWER = 1.03
"""TPOT of the smooth form over the fastest framework's, at most in the median: what fits leave open."""

SERVED_BY_ALL = [
    {"chip": "h100-sxm", "model": "gpt-oss-120b", "precision": "mxfp4", "kv_precision": "bf16"},
    {"chip": "h200-sxm", "model": "minimax-m2.5", "precision": "fp8", "kv_precision": "fp8"},
]


@pytest.mark.slow
@pytest.mark.parametrize("served", SERVED_BY_ALL, ids=lambda served: served["model"])
def test_the_best_schedule_serves_no_slower_than_the_fastest_framework(
    served: dict[str, str], tmp_path: Path
):
    loads = [(isl, users) for isl in ("1024", "8192") for users in ("4", "16", "64")]
    rows = [
        served | {"tp": "8", "osl": "1024", "isl": isl, "concurrency": users, "framework": name}
        for name in FRAMEWORKS
        for isl, users in loads
    ]
    found = predict("serving", tmp_path, rows)
    assert not any(row["error"] for row in found)
    times = np.array([float(row["tpot_ms"]) for row in found]).reshape(len(FRAMEWORKS), -1)
    ratios = times[0] / times[1:].min(axis=0)
    assert 0.6 < np.median(ratios) <= NO_SLOWER, ratios


def test_lengths_are_nominal_times_the_ratio(tmp_path: Path):
    """1,000 and 100 tokens at a ratio of 0.5 are 500 and 50."""
    full = SERVED | {"isl": "500", "osl": "50", "length_ratio": "", "length_spread": "0.1"}
    half = full | {"isl": "1000", "osl": "100", "length_ratio": "0.5"}
    found = predict("serving", tmp_path, [full, half])
    assert found[0]["ttft_ms"] == found[1]["ttft_ms"]
    assert found[0]["tpot_ms"] == found[1]["tpot_ms"]


def weights(precision: str, chip: str = "b200", model: str = "llama-3.1-8b") -> str:
    return resolve_deployment(chip, model, precision, "", "", FITTED).plan.weights


@pytest.mark.parametrize(
    ("precision", "format"),
    [
        ("", "bf16"),
        ("FP8", "fp8"),
        ("fp16", "fp16"),
        ("fp16/int8", "int8"),
        ("fp16 / FP8-block", "fp8_block"),
        ("fp4", "nvfp4"),
        ("mxfp4", "mxfp4"),
    ],
)
def test_precision_is_of_the_weights(precision: str, format: str):
    assert weights(precision) == format


def test_no_precision_is_the_models_own():
    assert weights("", model="gpt-oss-20b") == weights("fp4", model="gpt-oss-20b") == "mxfp4"
    assert weights("", model="deepseek-v3").startswith("fp8")


def test_a_format_that_the_chip_has_no_unit_for_is_unpacked():
    assert weights("fp4", chip="h100") == "w4a16_nvfp4"


@pytest.mark.parametrize("precision", ["fp9", "fp16/", "x/int8", "fp16/fp8/int8"])
def test_another_precision_is_refused(precision: str):
    with pytest.raises(InputError, match=r"precision.*allowed are"):
        weights(precision)


def test_the_cache_is_bf16_unless_it_says_another():
    assert resolve_deployment("h100", "llama-3.1-8b", "", "", "", FITTED).plan.cache == "bf16"
    assert resolve_deployment("h100", "llama-3.1-8b", "", "FP8", "", FITTED).plan.cache == "fp8"
    with pytest.raises(InputError, match="unknown kv_precision 'f8'; the nearest are fp8"):
        resolve_deployment("h100", "llama-3.1-8b", "", "f8", "", FITTED)


def spread(**given: object) -> list[Parallelism]:
    cells = {"isl": "1", "osl": "1", "concurrency": "1"} | {k: str(v) for k, v in given.items()}
    return candidates(
        read_row(cells)[0], resolve_deployment("h100", "llama-3.1-8b", "", "", "", FITTED)
    )


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"n_chips": 8}, (8, 1, 1)),
        ({"n_chips": 16}, (8, 2, 1)),
        ({"n_chips": 6}, (2, 3, 1)),
        ({"n_chips": 8, "pp": 2}, (4, 2, 1)),
        ({"n_chips": 8, "dp": 2}, (4, 1, 2)),
        ({"n_chips": 8, "tp": 2, "pp": 2, "dp": 2}, (2, 2, 2)),
        ({"pp": 3}, (1, 3, 1)),
        ({"dp": 3}, (1, 1, 3)),
    ],
)
def test_chips_are_tensor_times_pipeline_times_data_ranks(given: dict, found: tuple):
    first = spread(**given)[0]
    assert (first.tp, first.pp, first.dp) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n_chips": 4, "tp": 2, "pp": 2, "dp": 2}, "n_chips is tp x pp x dp"),
        ({"n_chips": 8, "dp": 3}, "n_chips is 8, dp is 3: that cannot be"),
        ({"tp": 3}, "does not divide the 32 heads"),
        ({"pp": 1000}, "not be more than the 32 layers"),
        ({"n_chips": 1.5}, "whole numbers"),
        ({"n_chips": 0}, "greater than zero"),
        ({"tp": -2}, "greater than zero"),
        ({"length_ratio": 0}, "greater than zero"),
        ({"speculative_tokens": "x"}, "not a number"),
        ({"mode": "seving"}, "unknown mode 'seving'; the nearest are serving"),
        ({"isl": ""}, "isl is missing"),
        ({"osl": "1_000"}, "not a number"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(given: dict, said: str):
    with pytest.raises(InputError, match=said):
        spread(**given)


@pytest.mark.parametrize("name", ["speculative_tokens", "acceptance", "prefix_tokens", "isl"])
def test_no_number_of_a_row_is_below_zero(name: str):
    with pytest.raises(InputError, match=f"{name} is '-0.5'; allowed are numbers"):
        read_row({"isl": "100", "osl": "1", "concurrency": "1"} | {name: "-0.5"})


def test_a_cached_prefix_is_shorter_than_its_prompt():
    row = {"isl": "100", "osl": "1", "concurrency": "1"}
    assert read_row(row | {"prefix_tokens": "99"})[1].prefix_tokens == 99
    with pytest.raises(InputError, match="less than the 100 tokens of isl"):
        read_row(row | {"prefix_tokens": "100"})


def test_more_expert_ranks_than_experts_are_refused():
    ranks, _ = read_row({"isl": "1", "osl": "1", "concurrency": "1", "ep": "256"})
    with pytest.raises(InputError, match="not be more than the 8 experts"):
        candidates(ranks, resolve_deployment("h100", "mixtral-8x7b-v0.1", "", "", "", FITTED))


@pytest.mark.parametrize(
    ("model", "ranks"),
    [("llama-3.1-8b", {(1, 1, 1, 8, 1)}), ("mixtral-8x7b-v0.1", {(2, 1, 2, 1, 4)})],
)
def test_data_ranks_and_replicas_are_tried_where_chips_are_given(model: str, ranks: set):
    given = GivenRanks(8.0, *[float("nan")] * 5)
    ways = candidates(given, resolve_deployment("h100", model, "", "", "", FITTED))
    assert ranks <= {tuple(map(int, way)) for way in ways}
    assert all(way.chips == 8 for way in ways) and len(ways) == len({*ways})


def test_chips_and_models_are_listed_and_shown():
    for command, name, key in (("chips", "H100", "chip"), ("models", "llama-3.1-70b", "name")):
        status, out, err = run(command, "--json")
        assert (status, err) == (0, "") and len(json.loads(out)) > 30
        status, out, err = run(command, name, "--json")
        assert (status, err) == (0, "") and json.loads(out)[key]
        assert run(command, name)[0] == 0


def test_brackets_in_a_chip_file_are_no_markup(tmp_path: Path):
    text = (Path(FITTED).parents[1] / "library" / "chips" / "l4.toml").read_text()
    (tmp_path / "my.toml").write_text(text.replace('"L4"', '"[bold]L4[/x] :smile:"'))
    status, out, _ = run("chips", tmp_path / "my.toml")
    assert status == 0 and "[bold]L4[/x] :smile:" in out


def test_explain_says_what_binds(tmp_path: Path):
    status, out, _ = run("explain", *(f"{k}={v}" for k, v in GEMM.items()), "--json")
    found = json.loads(out)
    assert status == 0
    assert sum(found["terms_us"].values()) == pytest.approx(found["time_us"], rel=1e-4)
    (tmp_path / "in.csv").write_text(",".join(GEMM) + "\n" + ",".join(GEMM.values()) + "\n")
    assert run("explain", f"{tmp_path / 'in.csv'}:1", "--json")[1] == out


@pytest.mark.long
def test_explain_names_launches_that_overlap():
    row = "chip=b200 n_chips=8 model=llama-3.1-8b isl=512 osl=64 concurrency=4"
    status, out, _ = run("explain", *row.split(), "--json")
    found = json.loads(out)
    below = [one for one in found["kernels"] if one["time_us"] < 0]
    assert status == 0 and [one["kernel"] for one in below] == ["launch overlap"]
    assert all(one["bound"] == "latency" for one in below)
    assert sum(one["share"] for one in found["kernels"]) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x"], "No such command 'x'"),
        (["--bogus"], "No such option: --bogus"),
        (["predict", "kernels"], "Missing argument 'rows'"),
        (["predict", "kernels", "a.csv"], "Missing option '--out'"),
        (["predict", "kernels", "a.csv", "--out"], "--out"),
        (["predict", "kernels", "a.csv", "b.csv", "--out", "o"], "unexpected extra argument"),
        (["chips", "--jsn"], "No such option: --jsn"),
        (["calibrate", "--data", "a", "--out", "b", "--rows", "x"], "'--rows'"),
        (["calibrate", "--data", "a", "--out", "b", "--rows", "0"], "'--rows'"),
        (["calibrate", "--data", "a", "--out", "b", "--seed", "-1"], "'--seed'"),
        (["search", "s.toml", "--out", "o", "--starts", "1" + "0" * 30], "'--starts'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(words: list[str], said: str):
    status, out, err = run(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("perfmodel: ") and said in err
    assert err.endswith("--help` shows what is allowed.\n")


@pytest.mark.long
def test_a_reader_that_leaves_is_no_error():
    for words in (["chips", "--json"], ["--help"]):
        command = subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert command.stdout is not None and command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""
        assert command.wait(30) in (0, 1)
        command.stderr.close()


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """Programs started in the background are deaf to SIGINT, and so are those that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.long
@pytest.mark.usefixtures("hears_interrupts")
def test_an_interrupt_ends_with_130_and_no_traceback(tmp_path: Path):
    """When one row is done it reads, compiles or computes; many rows keep it from being done."""
    head, row = "op,chip,dtype,m,n,k\n", "gemm,h100,bf16,{},64,64\n"
    (tmp_path / "in.csv").write_text(head + row.format(1))
    words = ["predict", "kernels", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]
    began = time.perf_counter()
    subprocess.run([*COMMAND, *words], check=True, capture_output=True)
    taken = time.perf_counter() - began
    (tmp_path / "out.csv").unlink()
    (tmp_path / "in.csv").write_text(head + "".join(map(row.format, range(1, 400_000))))
    command = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE)
    time.sleep(taken)
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (130, b"perfmodel: stopped.\n")
    assert os.listdir(tmp_path) == ["in.csv"]


@pytest.mark.usefixtures("hears_interrupts")
def test_an_interrupt_that_python_could_not_raise_comes_again():
    """JAX's callback on garbage swallows a Ctrl-C; here a finaliser does."""
    script = (
        "import signal, time\n"
        "import perfmodel.interface.cli as cli\n"
        "class Deaf:\n"
        "    def __del__(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "def app(**_):\n"
        "    one = Deaf()\n"
        "    del one\n"
        "    time.sleep(20)\n"
        "cli.app = app\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=15)
    assert (done.returncode, done.stderr) == (130, b"perfmodel: stopped.\n")


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_seconds(tmp_path: Path):
    """About 3 s alone on two cores; 30 s allow for other programs and for the compiler."""
    rows = "".join(f"gemm,h100,bf16,{i % 8192 + 1},4096,{i % 999 + 1}\n" for i in range(100_000))
    (tmp_path / "in.csv").write_text("op,chip,dtype,m,n,k\n" + rows)
    start = time.perf_counter()
    status, *_ = run("predict", "kernels", tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    assert status == 0 and time.perf_counter() - start < 30


@pytest.mark.slow
def test_five_thousand_served_rows_take_seconds(tmp_path: Path):
    """About 2 s alone on two cores, and as long to compile."""
    rows = "".join(f"h100,llama-3.2-1b,{i + 1},64,{i % 64 + 1},1\n" for i in range(5000))
    (tmp_path / "in.csv").write_text("chip,model,isl,osl,concurrency,n_chips\n" + rows)
    start = time.perf_counter()
    status, *_ = run("predict", "serving", tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    assert status == 0 and time.perf_counter() - start < 60
