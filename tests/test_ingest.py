"""`perfmodel ingest`: others' results as rows, through the command; what is missing is asked for at once."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from command import run

VLLM = {
    **{"date": "20260401-101112", "endpoint_type": "vllm", "backend": "vllm", "label": None},
    **{"model_id": "meta-llama/Llama-3.1-8B-Instruct", "num_prompts": 160, "request_rate": "inf"},
    **{
        "tokenizer_id": "meta-llama/Llama-3.1-8B-Instruct",
        "burstiness": 1.0,
        "max_concurrency": 16,
    },
    **{
        "duration": 30.1,
        "completed": 160,
        "total_input_tokens": 163840,
        "total_output_tokens": 20480,
    },
    **{"request_throughput": 5.3, "output_throughput": 680.4, "total_token_throughput": 6123.6},
    **{"mean_ttft_ms": 75.4, "median_ttft_ms": 70.1, "mean_tpot_ms": 9.5, "median_tpot_ms": 9.4},
}
"""As `vllm bench serve --save-result` writes it."""

SGLANG = {
    **{"backend": "sglang", "dataset_name": "random", "request_rate": float("inf")},
    **{"max_concurrency": 32, "random_input_len": 1000, "random_output_len": 200},
    **{"random_range_ratio": 0.8, "duration": 20.0, "completed": 320, "total_input_tokens": 288000},
    **{"total_output_tokens": 57600, "total_output_tokens_retokenized": 57111},
    **{
        "request_throughput": 16.0,
        "mean_ttft_ms": 120.0,
        "mean_tpot_ms": 11.0,
        "concurrency": 31.5,
    },
}
"""As SGLang's `bench_serving` writes a line."""

AIPERF = {
    **{"schema_version": "1.1", "aiperf_version": "0.8.0"},
    "input_config": {
        "endpoint": {"model_names": ["openai/gpt-oss-120b"], "type": "chat", "streaming": True},
        "loadgen": {"concurrency": 4, "request_count": 40},
    },
    "request_throughput": {"unit": "requests/sec", "avg": 0.82},
    "request_latency": {"unit": "ms", "avg": 2413.5, "p50": 2431.75},
    "request_count": {"unit": "requests", "avg": 40.0},
    "time_to_first_token": {"unit": "ms", "avg": 195.84, "p50": 175.05},
    "inter_token_latency": {"unit": "ms", "avg": 35.2, "p50": 34.73},
    "output_sequence_length": {"unit": "tokens", "avg": 64.0},
    "input_sequence_length": {"unit": "tokens", "avg": 256.0},
}

GENAI_PERF_CSV = """Metric,avg,min,max,p99,p95,p90,p75,p50,p25
Time To First Token (ms),"1,146.31",249.48,"3,485.23","3,457.97","3,349.56","3,215.06",1330,640.07,286
Time To Second Token (ms),26.05,0.00,133.51,96.12,36.56,34.88,34.35,33.55,1.78
Request Latency (ms),"6,406.20","5,371.47","9,608.72","9,436.13","9,046.58","9,028.16","6,549.60",5690,5
Inter Token Latency (ms),30.35,27.59,35.60,35.23,33.88,32.53,31.05,30.13,29.04
Output Sequence Length (tokens),174.45,164.00,187.00,186.22,183.10,180.10,177.00,174.00,171.75
Input Sequence Length (tokens),"3,000.05","2,999.00","3,001.00","3,001.00","3,001.00","3,000.00",3,3,3

Metric,Value
Output Token Throughput (per sec),261.25
Request Throughput (per sec),1.50
"""

INFERENCEX = {
    **{
        "hw": "h200-cw",
        "conc": 64,
        "image": "vllm/vllm-openai:v0.11.0",
        "model": "openai/gpt-oss-120b",
    },
    **{"infmax_model_prefix": "gptoss", "framework": "vllm", "precision": "fp4"},
    **{"spec_decoding": "none", "disagg": False, "isl": 1024, "osl": 1024, "is_multinode": False},
    **{"tp": 4, "ep": 1, "dp_attention": "false", "tput_per_gpu": 2000.0, "mean_ttft": 0.21},
    **{"median_ttft": 0.2, "mean_tpot": 0.0105, "median_tpot": 0.0104},
}

LLAMA = {
    **{
        "build_commit": "8cf427ff",
        "cpu_info": "AMD Ryzen 7",
        "gpu_info": "NVIDIA GeForce RTX 4090",
    },
    **{"backends": "CUDA", "model_filename": "models/Qwen2.5-7B-Instruct-Q4_K_M.gguf"},
    **{"model_type": "qwen2 7B Q4_K - Medium", "type_k": "f16", "type_v": "f16"},
    **{"split_mode": "layer", "n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ns": 64000000},
    **{"avg_ts": 8000.0, "stddev_ts": 10.0},
}

LLAMA_MARKDOWN = """| model                  |     size | params | backend | ngl |  test |             t/s |
| ---------------------- | -------: | -----: | ------- | --: | ----: | ---: |
| qwen2 7B Q4_K - Medium | 4.36 GiB | 7.62 B | CUDA |  -1 | pp512 | 7340.20 ± 23.45 |
| qwen2 7B Q4_K - Medium | 4.36 GiB | 7.62 B | CUDA |  -1 | tg128 @ d512 | 116.71 ± 0.60 |
| qwen2 7B Q4_K - Medium | 4.36 GiB | 7.62 B | CUDA |  -1 | pp512+tg128 | 400.00 ± 0.60 |

build: 8cf427ff (5163)
"""

NCCL_TABLE = """# nThread 1 nGpus 1 minBytes 1048576 maxBytes 2097152 step: 2(factor) warmup iters: 5
#
# Using devices
#  Rank  0 Group  0 Pid    490 on node-a device  0 [0000:0f:00] NVIDIA A100-SXM4-40GB
#  Rank  1 Group  0 Pid    491 on node-a device  1 [0000:15:00] NVIDIA A100-SXM4-40GB
#  Rank  2 Group  0 Pid    492 on node-b device  0 [0000:0f:00] NVIDIA A100-SXM4-40GB
#  Rank  3 Group  0 Pid    493 on node-b device  1 [0000:15:00] NVIDIA A100-SXM4-40GB
#
#                                                              out-of-place                       in-place
#  size  count  type  redop  root  time  algbw  busbw  #wrong  time  algbw  busbw  #wrong
#   (B)  (elements)                      (us)  (GB/s)  (GB/s)          (us)  (GB/s)  (GB/s)
     1048576  262144  bfloat16  none  -1  110.0  9.53  7.15  0  109.0  9.62  7.21  0
     2097152  524288  bfloat16  none  -1  130.0  16.13  12.10  0  129.0  16.26  12.19  0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 9.6
"""

TWO_LOCAL = """# nThread 1 nGpus 2 minBytes 1073741824 maxBytes 2147483648 step: 2(factor) warmup iters: 5
#  size  count  type  redop  root  time  algbw  busbw #wrong  time  algbw  busbw #wrong
  1073741824  268435456  float  sum  -1  9306.7  115.37  115.37  0  9291.5  115.56  115.56  0
"""
"""Without the lines of ranks, of which bandwidths tell."""

PRODUCTS = """M,N,K,dtype,time_ms,tflops,gpu
8192,8192,8192,torch.bfloat16,1.52,723.4,NVIDIA H100 80GB HBM3
16,12288,5376,float8_e4m3fn,0.0454,46.5,NVIDIA H100 80GB HBM3
"""

PROVIDERS = """batch_size,torch-bf16,fp8-tensor-w-token-a
1.0,2.87,4.73
16.0,46.5,71.7
"""


def write(folder: Path, content: Any, name: str = "result") -> Path:
    """A file, whose name says nothing."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def ingest(folder: Path, content: Any, *options: object) -> list[dict[str, str]]:
    """The rows that a file's content gives."""
    path, out = write(folder, content), folder / "rows.csv"
    status, _, err = run("ingest", path, "--out", out, *options)
    assert status == 0, err
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def holds(row: dict[str, str], **cells: str) -> bool:
    return {name: row.get(name) for name in cells} == cells


def test_vllm_bench_serve(tmp_path: Path):
    (row,) = ingest(tmp_path, VLLM, "--chip", "NVIDIA H100 80GB HBM3", "--tp", 1)
    assert holds(row, chip="h100-sxm", n_chips="1", tp="1", pp="1", dp="1", framework="vllm")
    assert holds(row, isl="1024", osl="128", concurrency="16", requests_per_user="10")
    assert holds(row, model="meta-llama/Llama-3.1-8B-Instruct", mode="serving", source="result")
    assert holds(row, measured_ttft_ms="75.4", measured_tpot_ms="9.5")


def test_what_was_written_beside_a_result_is_read(tmp_path: Path):
    written = VLLM | {"gpu": "H200", "tp": "2", "version": "0.19.0"}
    (row,) = ingest(tmp_path, written)
    assert holds(row, chip="h200-sxm", n_chips="2", tp="2", framework_version="0.19.0")


def test_an_open_loop_is_a_rate(tmp_path: Path):
    asked = VLLM | {"request_rate": 5.0, "max_concurrency": None, "gpu": "H100", "tp": 1}
    (row,) = ingest(tmp_path, asked)
    assert holds(row, requests_per_s="5") and not row.get("concurrency")
    (held,) = ingest(tmp_path, asked | {"request_rate": 50.0, "max_concurrency": 16})
    assert holds(held, concurrency="16") and not held.get("requests_per_s")
    (at_once,) = ingest(tmp_path, asked | {"request_rate": "inf"})
    assert holds(at_once, concurrency="160", requests_per_user="1")


def test_sglang_lines_with_random_lengths(tmp_path: Path):
    lines = "\n".join([json.dumps(SGLANG), "{broken", json.dumps(SGLANG | {"max_concurrency": 64})])
    options = ("--chip", "h100", "--model", "llama-3.1-8b", "--n-chips", 1)
    status, out, err = run(
        "ingest", write(tmp_path, lines), "--out", tmp_path / "rows.csv", *options, "--json"
    )
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert [row["concurrency"] for row in found["rows"]] == ["32", "64"]
    assert holds(found["rows"][0], isl="1000", osl="200", length_ratio="0.9", framework="sglang")
    assert len(found["left_out"]) == 1 and "line 2" in found["left_out"][0]
    assert found["files"][0]["tool"].endswith("bench_serving") and found["schema"] == "serving"


def test_aiperf_and_genai_perf(tmp_path: Path):
    options = ("--chip", "b200", "--framework", "trtllm", "--tp", 2)
    (row,) = ingest(tmp_path, AIPERF, *options)
    assert holds(row, model="openai/gpt-oss-120b", concurrency="4", isl="256", osl="64", tp="2")
    assert holds(row, measured_ttft_ms="195.84", measured_tpot_ms="35.2", requests_per_user="10")
    old = AIPERF | {
        "input_config": {"model": ["gpt-oss-120b"], "concurrency": 8, "backend": "vllm"}
    }
    (row,) = ingest(tmp_path, old, "--chip", "b200", "--tp", 1)
    assert holds(row, model="gpt-oss-120b", concurrency="8", framework="vllm")
    more = ("--model", "llama-3.1-8b", "--concurrency", 10)
    (row,) = ingest(tmp_path, GENAI_PERF_CSV, *options, *more)
    assert holds(row, measured_ttft_ms="1146.31", measured_tpot_ms="30.35", isl="3000.05")
    assert holds(row, osl="174.45", concurrency="10")


def test_inferencex(tmp_path: Path):
    spread = INFERENCEX | {"hw": "mi355x", "ep": 8, "tp": 8, "dp_attention": "true"}
    nothing = {"hw": "h200", "conc": 4}
    status, _, err = run(
        *("ingest", write(tmp_path, [INFERENCEX, spread, nothing]), "--out", tmp_path / "rows.csv")
    )
    assert status == 0 and "result 3 has neither mean_ttft nor mean_tpot" in err
    with (tmp_path / "rows.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert holds(first, chip="h200-sxm", n_chips="4", tp="4", ep="1", dp="1", length_ratio="0.9")
    assert holds(first, measured_ttft_ms="210", measured_tpot_ms="10.5", requests_per_user="10")
    assert holds(second, chip="mi355x", n_chips="8", tp="1", ep="8", dp="8")


def test_drafted_tokens_are_asked_for(tmp_path: Path):
    path = write(tmp_path, INFERENCEX | {"spec_decoding": "mtp"})
    status, _, err = run("ingest", path, "--out", tmp_path / "rows.csv")
    assert status == 2 and "--speculative-tokens" in err


def test_pools_of_inferencex(tmp_path: Path):
    pools = {"disagg": True, "is_multinode": True, "num_prefill_gpu": 4, "num_decode_gpu": 8}
    for pool, workers, ranks in (("prefill", 1, 4), ("decode", 2, 4)):
        pools |= {f"{pool}_tp": ranks, f"{pool}_ep": 1, f"{pool}_dp_attention": "false"}
        pools |= {f"{pool}_num_workers": workers}
    (row,) = ingest(tmp_path, INFERENCEX | pools)
    assert holds(row, mode="disaggregated", n_chips="12", decode_workers="2", prefill_tp="4")


def test_llama_bench(tmp_path: Path):
    tests = [LLAMA, LLAMA | {"n_prompt": 0, "n_gen": 128, "n_depth": 2048, "avg_ts": 125.0}]
    prompt, answer = ingest(tmp_path, tests)
    assert holds(
        prompt, chip="rtx-4090", n_chips="1", model="Qwen2.5-7B-Instruct", precision="int4"
    )
    assert holds(prompt, isl="512", measured_ttft_ms="64", mode="single_stream")
    assert holds(answer, isl="2048", osl="128", measured_tpot_ms="8", framework="llama.cpp")
    names = list(tests[0])
    lines = [",".join(f'"{test[name]}"' for name in names) for test in tests]
    assert ingest(tmp_path, "\n".join([",".join(names), *lines])) == [prompt, answer]
    options = ("--chip", "rtx-4090", "--n-chips", 1, "--model", "qwen2.5-7b")
    printed = ingest(tmp_path, LLAMA_MARKDOWN, *options)
    assert [row["isl"] for row in printed] == ["512", "512"]
    assert float(printed[1]["measured_tpot_ms"]) == pytest.approx(1e3 / 116.71)


def test_nccl_tests_with_ranks(tmp_path: Path):
    path, out = write(tmp_path, NCCL_TABLE), tmp_path / "rows.csv"
    status, _, err = run("ingest", path, "--out", out)
    assert status == 2 and "--op (" in err and "--chip" not in err
    first, second = ingest(tmp_path, NCCL_TABLE, "--op", "all_gather")
    assert holds(first, op="all_gather", chip="a100-sxm-40gb", n_gpus="4", n_nodes="2")
    assert holds(first, bytes="1048576", latency_us="110", dtype="bf16", framework="nccl")
    assert second["latency_us"] == "130"
    named = "# Collective test starting: all_gather_perf\n" + NCCL_TABLE
    assert ingest(tmp_path, named) == [first, second]


def test_bandwidths_tell_ranks(tmp_path: Path):
    (row,) = ingest(tmp_path, TWO_LOCAL, "--chip", "a100-pcie-80gb")
    assert holds(row, op="all_reduce", n_gpus="2", n_nodes="1", bytes="1073741824", dtype="fp32")
    eight = TWO_LOCAL.replace("nGpus 2", "nGpus 8").replace("115.37  115.37", "115.37  201.90")
    (row,) = ingest(tmp_path, eight, "--chip", "h100")
    assert holds(row, n_gpus="8", n_nodes="1")


def test_products(tmp_path: Path):
    first, second = ingest(tmp_path, PRODUCTS)
    assert holds(first, op="gemm", chip="h100-sxm", m="8192", dtype="bf16", latency_us="1520")
    assert holds(second, dtype="fp8", latency_us="45.4")


def test_a_column_for_each_provider(tmp_path: Path):
    status, _, err = run("ingest", write(tmp_path, PROVIDERS), "--out", tmp_path / "rows.csv")
    assert status == 2 and err.count("\n") == 1
    assert all(f"--{name} (" in err for name in ("chip", "n", "k", "unit"))
    options = ("--chip", "h100", "--n", 4096, "--k", 4096, "--unit", "tflops")
    rows = ingest(tmp_path, PROVIDERS, *options)
    assert [row["label"] for row in rows[:2]] == ["torch-bf16", "fp8-tensor-w-token-a"]
    # 2 x 16 x 4096 x 4096 operations at 46.5 TFLOP/s
    assert float(rows[2]["latency_us"]) == pytest.approx(2 * 16 * 4096**2 / 46.5e12 * 1e6)
    named = "M,N,K,cuBLAS (TFLOPS),Triton (TFLOPS)\n256,256,256,10.0,8.0\n"
    asked = ("--chip", "h100", "--dtype", "fp16", "--provider", "triton")
    (row,) = ingest(tmp_path, named, *asked)
    assert float(row["latency_us"]) == pytest.approx(2 * 256**3 / 8e12 * 1e6)


@pytest.mark.long
def test_rows_are_read_by_predict(tmp_path: Path):
    ingest(tmp_path, [VLLM | {"gpu": "H100", "tp": 1}])
    status, out, err = run(
        "predict", "serving", tmp_path / "rows.csv", "--out", tmp_path / "p.csv", "--json"
    )
    assert (status, err) == (0, "")
    assert set(json.loads(out)["median_errors"]) == {"ttft_ms", "tpot_ms"}
    ingest(tmp_path, PRODUCTS)
    status, out, err = run("predict", "kernels", tmp_path / "rows.csv", "--out", tmp_path / "p.csv")
    assert (status, err) == (0, "") and "2 rows" in out and "0 with an error" in out


def test_all_that_is_missing_is_asked_for_in_one_sentence(tmp_path: Path):
    path = write(
        tmp_path, VLLM | {"backend": "openai", "endpoint_type": "openai", "model_id": "mine"}
    )
    status, _, err = run("ingest", path, "--out", tmp_path / "rows.csv")
    assert status == 2 and err.count("\n") == 1
    assert all(f"--{name} (" in err for name in ("chip", "n-chips", "model", "framework", "tp"))
    assert not (tmp_path / "rows.csv").exists()


def test_options_are_taken_over_files_and_it_is_said(tmp_path: Path):
    path, out = write(tmp_path, VLLM | {"gpu": "H100", "tp": 1}), tmp_path / "rows.csv"
    status, _, err = run("ingest", path, "--out", out, "--model", "llama-3.1-70b")
    assert status == 0 and "model is meta-llama/Llama-3.1-8B-Instruct there" in err


def test_one_bad_file_costs_only_itself(tmp_path: Path):
    good = write(tmp_path, VLLM | {"gpu": "H100", "tp": 1}, "good")
    strange, empty = write(tmp_path, "hello, world\n", "strange"), write(tmp_path, "", "empty")
    out = tmp_path / "rows.csv"
    status, said, err = run("ingest", strange, good, empty, tmp_path / "none", "--out", out)
    assert status == 0 and "1 rows of 1 files" in said
    assert err.count("is of no kind that is known; looked for were") == 2 and "no file" in err
    status, _, err = run("ingest", strange, "--out", out)
    assert status == 2 and err.count("\n") == 1 and "vllm bench serve" in err and "algbw" in err


def test_serving_runs_and_kernels_are_kept_in_files_of_their_own(tmp_path: Path):
    serving, kernels = write(tmp_path, VLLM, "a"), write(tmp_path, PRODUCTS, "b")
    status, _, err = run("ingest", serving, kernels, "--out", tmp_path / "rows.csv")
    assert status == 2 and "a file of rows of each" in err


@pytest.mark.parametrize(
    ("content", "tool"),
    [
        (NCCL_TABLE, "nccl-tests output"),
        (PRODUCTS, "a table of matrix products"),
        (VLLM, "vllm bench"),
    ],
)
def test_other_commands_name_the_tool_and_the_way(content: Any, tool: str, tmp_path: Path):
    path, out = write(tmp_path, content), tmp_path / "out"
    for words in (
        ("predict", "kernels", path, "--out", out),
        ("predict", "serving", path, "--out", out),
        ("calibrate", "--data", path, "--out", out),
        ("calibrate", "--data", path, "--ops", "serving", "--out", out),
        ("calibrate", "--anchor", path, "--out", out),
    ):
        status, _, err = run(*words)
        assert status == 2 and err.count("\n") == 1, words
        assert tool in err and f"perfmodel ingest {path}" in err


def test_missing_columns_of_kernels_are_named_together(tmp_path: Path):
    path = write(tmp_path, "x,y\n1,2\n", "rows.csv")
    status, _, err = run("calibrate", "--data", path, "--out", tmp_path / "out")
    assert status == 2
    assert "no columns op, chip, dtype, latency_us" in err and "microseconds" in err


@pytest.mark.parametrize(
    "content", [[], {}, [1, 2], "[" * 100, '{"a": 1}', "\x00", "| model | test |"]
)
def test_strange_files_are_one_sentence(content: Any, tmp_path: Path):
    status, _, err = run("ingest", write(tmp_path, content), "--out", tmp_path / "rows.csv")
    assert status == 2 and err.count("\n") == 1


def test_a_name_that_is_not_known_is_asked_for_and_said(tmp_path: Path):
    path = write(tmp_path, NCCL_TABLE.replace("A100-SXM4-40GB", "RTX 6000D"))
    status, _, err = run("ingest", path, "--out", tmp_path / "rows.csv", "--op", "all_gather")
    assert status == 2 and "--chip (" in err and "'NVIDIA RTX 6000D' is not in the library" in err


def test_a_format_of_llama_cpp_that_is_not_known_is_asked_for(tmp_path: Path):
    path = write(tmp_path, [LLAMA | {"model_type": "qwen2 7B Q6_K"}])
    status, _, err = run("ingest", path, "--out", tmp_path / "rows.csv")
    assert status == 2 and "--precision (" in err


def test_a_release_that_was_not_measured_is_said_and_left_out(tmp_path: Path):
    path, out = (
        write(tmp_path, VLLM | {"gpu": "H100", "tp": 1, "version": "9.9"}),
        tmp_path / "rows.csv",
    )
    status, _, err = run("ingest", path, "--out", out)
    assert status == 0 and "framework_version 9.9 was not measured; known are" in err
    assert "framework_version" not in out.read_text().splitlines()[0]


def test_what_is_no_single_load_or_product_is_left_out(tmp_path: Path):
    good = VLLM | {"gpu": "H100", "tp": 1}
    lines = "\n".join(map(json.dumps, [good, good | {"ramp_up_strategy": "linear"}]))
    status, _, err = run("ingest", write(tmp_path, lines), "--out", tmp_path / "rows.csv")
    assert status == 0 and "ramped up" in err
    batched = "batch,M,N,K,dtype,ms,gpu\n1,64,64,64,f16,0.1,H100\n4,64,64,64,f16,0.1,H100\n"
    status, _, err = run("ingest", write(tmp_path, batched), "--out", tmp_path / "rows.csv")
    assert status == 0 and "of a batch" in err


def test_options_of_the_other_schema_are_said_to_be_idle(tmp_path: Path):
    path, out = write(tmp_path, PRODUCTS), tmp_path / "rows.csv"
    status, _, err = run("ingest", path, "--out", out, "--isl", 5, "--framework", "trtllm")
    assert status == 0 and "--isl is not taken" in err and "--framework" not in err
    with out.open(newline="") as file:
        assert {row["framework"] for row in csv.DictReader(file)} == {"trtllm"}
    status, _, err = run(
        "ingest", write(tmp_path, VLLM), "--out", out, "--tp", 1, "--chip", "h100", "--k", 3
    )
    assert status == 0 and "--k is not taken" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--unit", "parsec"], "--unit"), (["--n", "many"], "--n"), (["--tp", "-1"], "--tp")],
)
def test_options_are_checked(options: list[str], said: str, tmp_path: Path):
    path = write(tmp_path, PROVIDERS)
    status, _, err = run("ingest", path, "--out", tmp_path / "rows.csv", *options)
    assert status == 2 and err.count("\n") == 1 and said in err
