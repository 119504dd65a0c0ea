"""Scripts that start servers: options that are documented, numbers of the row, and shells that read them."""

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from perfmodel.interface.launch_script import launch_name, launch_script
from perfmodel.interface.launch_server import server_of
from perfmodel.library.checkpoint import checkpoint
from perfmodel.library.chip import chip_files
from perfmodel.library.launch_options import launch_options, node_chips, options_of
from perfmodel.library.model import model_files

Row = dict[str, Any]

BASE: Row = {
    "chip": "h100-sxm",
    "n_chips": 8,
    "model": "qwen3-235b-a22b",
    "precision": "fp8",
    "kv_precision": "fp8",
    "mode": "serving",
    "tp": 4,
    "pp": 1,
    "ep": 4,
    "dp": 1,
    "replicas": 1,
    "isl": 1024,
    "osl": 512,
    "concurrency": 64,
    "speculative_tokens": 0,
}
POOLS: Row = {
    "mode": "disaggregated",
    "chip": "",
    "prefill_chip": "h100-sxm",
    "prefill_workers": 2,
    "prefill_tp": 4,
    "prefill_ep": 4,
    "decode_chip": "h200-sxm",
    "decode_workers": 1,
    "decode_tp": 1,
    "decode_ep": 8,
    "decode_dp": 8,
}
WAYS: dict[str, Row] = {
    "one server": {},
    "attention DP": {"tp": 1, "ep": 8, "dp": 8},
    "copies on a host": {"replicas": 4, "tp": 2, "ep": 2, "n_chips": 8},
    "two stages": {"pp": 2},
    "two hosts, one model": {"tp": 16, "ep": 16, "n_chips": 16},
    "two hosts, data ranks": {"tp": 1, "ep": 16, "dp": 16, "n_chips": 16},
    "copies over hosts": {"tp": 16, "ep": 16, "replicas": 2, "n_chips": 32},
    "a rack": {"chip": "gb200", "tp": 1, "ep": 16, "dp": 16, "precision": "fp4", "n_chips": 16},
    "drafts": {"speculative_tokens": 2},
    "a dense model": {"model": "llama-3.1-8b", "precision": "bf16", "tp": 1, "ep": 1, "dp": 2},
    "weights made online": {"model": "mixtral-8x7b-v0.1", "precision": "fp8"},
    "no checkpoint": {"precision": "int4"},
    "half precision": {"model": "llama-2-7b", "precision": "fp16", "ep": 1, "kv_precision": "fp16"},
    "a long prompt": {"isl": 100_000},
    "pools": POOLS,
    "pools over hosts": POOLS | {"decode_dp": 16, "decode_ep": 16},
    "text, as in a table": {name: str(cell) for name, cell in BASE.items()},
}
FRAMEWORKS = ("vllm", "sglang", "trtllm")
CASES = [(framework, way) for framework in FRAMEWORKS for way in WAYS]


@functools.cache
def script_of(framework: str, way: str = "one server", **cells: Any) -> str:
    return launch_script(BASE | WAYS[way] | {"framework": framework} | cells)


@pytest.mark.parametrize("framework, way", CASES)
def test_every_option_is_documented(framework: str, way: str):
    script = script_of(framework, way)
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", script))
    keys = {
        key
        for file in re.findall(r"<<'EOF'\n(.*?)\nEOF\n", script, re.S)
        for key in re.findall(r"^\s*(\w+):", file, re.M)
    }
    assert options and options | keys <= options_of(framework)


@pytest.mark.parametrize("framework, way", CASES)
def test_a_shell_reads_every_script(framework: str, way: str):
    done = subprocess.run(
        ["bash", "-n"], input=script_of(framework, way), text=True, capture_output=True
    )
    assert done.returncode == 0 and not done.stderr


def options(script: str) -> dict[str, list[str]]:
    """Values of every option of a script."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"(--[a-z][\w-]*)[ =]?(\S*)", script):
        found.setdefault(name, []).append(value)
    return found


def test_vllm_has_the_numbers_of_the_row():
    found = options(script_of("vllm"))
    # One prompt of 1,024 tokens rides on a step of 64: 1,088, in multiples of 256.
    assert found["--max-num-seqs"] == ["64"] and found["--max-num-batched-tokens"] == ["1280"]
    assert found["--tensor-parallel-size"] == ["4"] and "--enable-expert-parallel" in found
    assert found["--max-model-len"] == ["1536"] and found["--gpu-memory-utilization"] == ["0.92"]
    assert found["--kv-cache-dtype"] == ["fp8"] and "--quantization" not in found
    assert "Qwen/Qwen3-235B-A22B-FP8" in script_of("vllm")
    assert "--enable-expert-parallel" not in script_of("vllm", ep=1)


def test_a_data_rank_has_its_share_of_sequences():
    # 64 users on 8 data ranks: vLLM and TensorRT-LLM count those of a rank, SGLang all.
    vllm, trtllm = (options(script_of(name, "attention DP")) for name in ("vllm", "trtllm"))
    assert vllm["--max-num-seqs"] == ["8"] and vllm["--data-parallel-size"] == ["8"]
    assert trtllm["--max_batch_size"] == ["8"] and trtllm["--tp_size"] == ["8"]
    assert "enable_attention_dp: true" in script_of("trtllm", "attention DP")
    sglang = options(script_of("sglang", "attention DP"))
    assert sglang["--max-running-requests"] == ["64"] and sglang["--tp-size"] == ["8"]
    assert sglang["--dp-size"] == ["8"] and sglang["--moe-dense-tp-size"] == ["1"]
    # 1,024 + 8 tokens on each of 8 ranks, which SGLang divides by them again.
    assert sglang["--chunked-prefill-size"] == [str(1280 * 8)]


def test_drafts_are_tokens_of_the_sequences():
    vllm = script_of("vllm", "drafts")
    # 1,024 + 64 x 3 tokens.
    assert options(vllm)["--max-num-batched-tokens"] == ["1280"]
    assert '"num_speculative_tokens": 2' in vllm
    sglang = options(script_of("sglang", "drafts"))
    assert sglang["--speculative-num-steps"] == ["2"]
    assert sglang["--speculative-num-draft-tokens"] == ["3"]
    assert "max_draft_len: 2" in script_of("trtllm", "drafts")


def test_hosts_of_one_server():
    model = options(script_of("vllm", "two hosts, one model"))
    assert model["--nnodes"] == ["2"] and "--headless" in model
    ranks = options(script_of("vllm", "two hosts, data ranks"))
    assert ranks["--data-parallel-size-local"] == ["8"] and "--nnodes" not in ranks
    assert options(script_of("sglang", "two hosts, one model"))["--nnodes"] == ["2"]
    assert "srun --nodes 2 --ntasks 16 --ntasks-per-node 8" in script_of(
        "trtllm", "two hosts, one model"
    )
    # A tray of an NVL72 has four: 16 are four hosts.
    assert options(script_of("sglang", "a rack"))["--nnodes"] == ["4"]
    assert node_chips(72) == 4 and node_chips(8) == node_chips(2) == 8


def test_copies_share_a_host():
    script = script_of("vllm", "copies on a host")
    assert "# 4 copies of 2 chips, 4 on a host of 8" in script and "seq 0 3" in script
    assert options(script)["--max-num-seqs"] == ["16"]
    # Data ranks of a model without experts are copies, too.
    assert "# 2 copies of 1 chips" in script_of("trtllm", "a dense model")
    assert "HIP_VISIBLE_DEVICES" in script_of("vllm", "copies on a host", chip="mi300x")


def test_prefill_and_decode_are_servers_of_their_own():
    script = script_of("sglang", "pools")
    assert options(script)["--disaggregation-mode"] == ["prefill", "decode"]
    assert (
        options(script)["--tp-size"] == ["4", "8"]
        and "PREFILL_HOSTS:-prefill-0 prefill-1" in script
    )
    # 64 users on 2 prefill workers; on 8 data ranks of one decode worker.
    assert options(script)["--max-running-requests"] == ["32", "64"]
    vllm = script_of("vllm", "pools")
    assert vllm.count("NixlConnector") == 2 and options(vllm)["--prefiller-ports"] == ["8100"]
    trtllm = script_of("trtllm", "pools")
    assert "trtllm-serve disaggregated -c" in trtllm and trtllm.count("backend: NIXL") == 2
    assert trtllm.count("disable_overlap_scheduler") == 1


def test_routers_are_told_of_every_worker(tmp_path: Path):
    done = run(script_of("sglang", "pools"), tmp_path, "python", ROLE="router")
    assert "--prefill http://prefill-0:8100 8998 --prefill http://prefill-1:8200 9098" in done
    assert "--decode http://decode-0:8150" in done
    run(script_of("trtllm", "pools"), tmp_path, "trtllm-serve", ROLE="router")
    lines = (tmp_path / "trtllm-disaggregated.yaml").read_text().splitlines()
    assert lines[3:8] == [
        "context_servers:",
        "  num_instances: 2",
        "  urls:",
        '    - "prefill-0:8100"',
        '    - "prefill-1:8200"',
    ]


def run(script: str, folder: Path, program: str, **variables: str) -> str:
    """What a script calls, where its program only says how it was called."""
    fake = folder / program
    fake.write_text('#!/bin/bash\necho "$@"\n')
    fake.chmod(0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin"} | variables
    done = subprocess.run(
        ["bash"], input=script, text=True, capture_output=True, cwd=folder, env=env, check=True
    )
    return done.stdout.strip()


def test_a_script_calls_the_server_as_it_says(tmp_path: Path):
    said = run(
        script_of("vllm", "two hosts, data ranks"), tmp_path, "vllm", NODE_RANK="1", MASTER_ADDR="a"
    )
    assert said.startswith("serve Qwen/Qwen3-235B-A22B-FP8 --host 0.0.0.0 --port 8000")
    assert "--data-parallel-start-rank 8 --data-parallel-address a" in said and "--headless" in said
    first = run(
        script_of("vllm", "two hosts, one model"), tmp_path, "vllm", NODE_RANK="0", MASTER_ADDR="a"
    )
    assert "--node-rank 0" in first and "--headless" not in first
    copies = run(script_of("vllm", "copies on a host"), tmp_path, "vllm").splitlines()
    assert {re.findall(r"--port (\d+)", line)[0] for line in copies} == {
        "8000",
        "8100",
        "8200",
        "8300",
    }
    assert "enable_chunked_prefill: true" in (
        run(script_of("trtllm"), tmp_path, "trtllm-serve")
        and (tmp_path / "trtllm.yaml").read_text()
    )


def test_weights_are_a_checkpoint_or_made_or_asked_for():
    made = script_of("vllm", "weights made online")
    assert "mistralai/Mixtral-8x7B-v0.1" in made and options(made)["--quantization"] == ["fp8"]
    assert "MODEL:?no checkpoint" in script_of("trtllm", "weights made online")
    assert "MODEL:?no checkpoint of qwen3-235b-a22b in int4" in script_of("vllm", "no checkpoint")
    assert options(script_of("vllm", "half precision"))["--dtype"] == ["float16"]
    assert checkpoint("deepseek-ai/DeepSeek-R1-0528", "nvfp4") == "nvidia/DeepSeek-R1-0528-NVFP4"
    assert checkpoint("deepseek-r1", "fp8_block") == "deepseek-ai/DeepSeek-R1"
    assert checkpoint("gpt-3-175b", "bf16") == ""


def checkpoint_in(script: str) -> str:
    """The checkpoint that a script loads; empty where it asks for one."""
    return next(iter(re.findall(r"MODEL:-([^}]+)", script)), "")


def test_checkpoints_that_a_maker_quantised_are_for_its_chips():
    llama: Row = {"model": "llama-3.1-8b", "ep": 1}
    assert checkpoint_in(script_of("vllm", **llama)) == "nvidia/Llama-3.1-8B-Instruct-FP8"
    amd = script_of("sglang", chip="mi300x", **llama)
    assert checkpoint_in(amd) == "amd/Llama-3.1-8B-Instruct-FP8-KV"
    assert "--quantization" not in options(amd)
    # Without one of AMD's, weights are made from those in 16 bits.
    made = script_of("vllm", chip="mi300x", model="nemotron-3-nano-30b-a3b")
    assert checkpoint_in(made) == "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
    assert options(made)["--quantization"] == ["fp8"] and "# Weights are quantised to fp8" in made
    # No document says that a TPU's plugin makes them.
    asked = script_of("vllm", chip="tpu-v6e", **llama)
    assert "no checkpoint of llama-3.1-8b in fp8 for tpu-v6e is known" in asked
    assert "no checkpoint" in script_of(
        "vllm", chip="mi355x", model="deepseek-r1", precision="nvfp4"
    )


def test_each_pool_loads_what_its_chips_can():
    cells: Row = {"model": "llama-3.1-8b", "prefill_ep": 1, "decode_ep": 1, "decode_chip": "mi300x"}
    found = re.findall(r"MODEL:-([^}]+)", script_of("sglang", "pools", **cells))
    assert found == ["nvidia/Llama-3.1-8B-Instruct-FP8", "amd/Llama-3.1-8B-Instruct-FP8-KV"]


def test_quantisers_are_for_chips_of_the_library():
    known = {file.architecture for file in chip_files().values()}
    makers = {name.split("/")[0] for file in model_files().values() for name in file.variants}
    for maker, one in launch_options().quantiser.items():
        assert maker in makers and set(one.architectures) <= known
    for online in launch_options().online.values():
        assert set(online.architectures) <= known


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.1-70b", "gemma-4-31b", "LLaMA v3.1 8B"])
def test_every_format_is_of_one_variant(model: str):
    formats = ("bf16", "nvfp4" if "gemma" in model else "fp8")
    plain, quantised = (checkpoint(model, weights).split("/")[1].lower() for weights in formats)
    assert quantised.startswith(plain) and plain.endswith(("-instruct", "-it"))


def test_an_id_says_which_variant_is_meant():
    base = {"model": "meta-llama/Llama-3.1-8B", "ep": 1}
    # The base model is published in 16 bits alone.
    assert checkpoint_in(script_of("vllm", **base)) == "meta-llama/Llama-3.1-8B"
    assert options(script_of("vllm", **base))["--quantization"] == ["fp8"]
    assert "no checkpoint" in script_of("trtllm", **base)
    meta = checkpoint("meta-llama/Meta-Llama-3.1-8B-Instruct", "fp8")
    assert meta == "nvidia/Llama-3.1-8B-Instruct-FP8"
    assert checkpoint("deepseek-ai/DeepSeek-V3-0324", "nvfp4") == ""
    # The model's name alone takes what there is.
    assert checkpoint("kimi-k2", "int4") == "moonshotai/Kimi-K2-Thinking"


def ports_of(port: int) -> set[int]:
    """Ports that SGLang takes with attention DP: its own, and 233 to 246 above (`PortArgs`)."""
    return {port, *range(port + 233, port + 247)}


def test_servers_on_a_host_have_ports_of_their_own(tmp_path: Path):
    copies = {"tp": 1, "dp": 2, "ep": 2, "replicas": 4}
    copied = run(script_of("sglang", **copies), tmp_path, "python")
    workers = [
        run(
            script_of("sglang", "pools", **{f"{role}_dp": 2}),
            tmp_path,
            "python",
            ROLE=role,
            WORKER=n,
        )
        for role in ("prefill", "decode")
        for n in "01234567"
    ]
    for said, count in ((copied, 4), ("\n".join(workers), 16)):
        ports = [ports_of(int(port)) for port in re.findall(r"(?<!-bootstrap)-port (\d+)", said)]
        others = [{int(port)} for port in re.findall(r"-bootstrap-port (\d+)", said)]
        assert len(ports) == count and len(set.union(*ports, *others)) == 15 * count + len(others)


def test_a_format_of_the_cache_without_an_option_is_said():
    # TensorRT-LLM takes fp8, nvfp4 and auto, which follows the checkpoint.
    cells: Row = {"model": "llama-3.1-8b", "ep": 1, "kv_precision": "bf16"}
    said = script_of("trtllm", **cells)
    assert "  dtype: auto" in said and "KV cache in bf16, for which there is no option" in said
    assert "for which there is no option" not in script_of("trtllm", precision="bf16", **cells)
    for framework in ("vllm", "sglang"):
        script = script_of(framework, **cells)
        assert options(script)["--kv-cache-dtype"] == ["bfloat16"] and "no option" not in script


def test_requests_that_come_at_a_rate_may_be_more_than_on_average():
    cells: Row = {"replicas": 2, "n_chips": 8, "concurrency": 20.4, "requests_per_s": 3}
    assert server_of(BASE | cells | {"max_running": 600}).sequences == 300
    assert server_of(BASE | cells).sequences == 4096
    # Users of a closed loop are never more.
    assert server_of(BASE | {"max_running": 600}).sequences == 64


UNKNOWN: dict[str, tuple[Row, str]] = {
    "no framework": ({"framework": ""}, "names no framework"),
    "an older one": ({"framework": "vllm-0.5"}, "No command of vllm-0.5 is known"),
    "an older version": (
        {"framework": "vllm", "framework_version": "vllm-0.5"},
        "No command of vllm",
    ),
    "a framework that is not modelled": ({"framework": "tgi"}, "No command of tgi is known"),
    "collectives alone": ({"framework": "nccl"}, "No command of nccl is known"),
    "a chip of none": ({"framework": "vllm", "chip": "lp30"}, "vLLM does not run on lp30"),
    "attention apart": (
        {"framework": "vllm", "ffn_chip": "lp30", "ffn_tp": 8},
        "attention and feed-forward on different chips",
    ),
}


@pytest.mark.parametrize("cells, said", UNKNOWN.values(), ids=UNKNOWN)
def test_what_has_no_command_is_said_with_its_ranks(cells: Row, said: str):
    script = launch_script(BASE | cells)
    assert said in script and "--" not in script and "tp 4, pp 1, ep 4, dp 1" in script
    assert ("ffn_tp 8" in script) == ("ffn_tp" in cells)


def test_notes_say_what_the_options_leave_open():
    assert "pieces of at most 16384 tokens" in script_of("vllm", "a long prompt")
    assert "tpu-inference" in script_of("vllm", chip="tpu-v6e", precision="bf16")
    assert "No option is known for a KV cache in int8" in script_of("trtllm", kv_precision="int8")


def test_names_say_what_is_started():
    row = BASE | {"framework": "vllm", "chip": "B200 SXM"}
    assert (
        launch_name(row) == "vllm-b200-sxm.sh"
        and launch_name(row | {"rank": 1}) == "01-vllm-b200-sxm.sh"
    )
    pools = BASE | POOLS | {"framework": "sglang"}
    assert launch_name(pools) == "sglang-h100-sxm-h200-sxm-disaggregated.sh"
    assert launch_name(BASE | {"framework": "", "chip": "lp30"}) == "none-lp30.sh"


def test_a_name_cannot_leave_its_comment():
    script = launch_script(BASE | {"framework": "x\nrm -rf /"})
    assert "\nrm" not in script


def test_users_that_are_not_given_are_as_many_as_a_rank_takes():
    server = server_of(BASE | {"concurrency": float("nan"), "replicas": 2})
    assert server.sequences == 4096 and server.copies == 2


def test_every_framework_has_a_documented_version():
    file = launch_options()
    assert (
        set(file.documented) == {one.framework for one in file.program.values()} == set(FRAMEWORKS)
    )
