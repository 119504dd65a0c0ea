"""KV-cache capacity as servers print it: shares of memory, what a process keeps, windows, and bad input."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from command import predict, run
from test_checkpoint_formats import LLAMA_405B, META

from perfmodel.calibration.kv_capacity import capacity_metrics, capacity_rows
from perfmodel.inference.memory_reserve import prompt_window, usable_main_memory
from perfmodel.inference.placement import kv_cache_capacity, weight_bytes
from perfmodel.inference.service import max_sequences, memory_of
from perfmodel.library.chip import chip_file, load_chip
from perfmodel.library.fitted import FITTED
from perfmodel.library.framework import find_version
from perfmodel.library.model import load_model
from perfmodel.trees import replace
from perfmodel.units import as_scalar
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.server import ServerOptions

GIB = 2.0**30
ONE = {"chip": "h100-sxm", "n_chips": 1, "model": "llama-3.1-8b", "isl": 1024, "osl": 1024}
VLLM = ServerOptions(max_num_seqs=1024, max_num_batched_tokens=8192)


def usable(plan: Plan, chip: str = "h100-sxm", model: str = "llama-3.1-8b") -> float:
    """GiB for weights and cache."""
    shape = traced(load_model(model))
    return float(usable_main_memory(load_chip(chip), plan, shape, weight_bytes(shape, plan))) / GIB


def test_vllm_takes_its_share_of_what_the_driver_reports_without_activations():
    # 0.92 x 79.19 GiB; 0.25 of the process; 14.2 x 1,024 x 128,256 and 2.5 x 2 x 8,192 x 4,096 bytes.
    plan = Plan(framework="vllm", server=VLLM)
    activations = (14.2 * 1024 * 128256 + 2.5 * 2 * 8192 * 4096) / GIB
    assert usable(plan) == pytest.approx(0.92 * 79.19 - 0.25 - activations, rel=1e-4)
    several = Plan(framework="vllm", server=VLLM, tp=2.0)
    assert usable(plan) - usable(several) == pytest.approx(1.85, rel=1e-3)


def test_a_given_share_is_taken_in_place_of_the_default():
    half = Plan(framework="vllm", server=ServerOptions(memory_fraction=0.5))
    assert usable(half) == pytest.approx(0.5 * 79.19 - 0.25, rel=1e-4)
    # Without a framework it is of the capacity as sold: 80 GB.
    assert usable(Plan(server=ServerOptions(memory_fraction=0.5))) == pytest.approx(40e9 / GIB)
    assert usable(Plan()) == pytest.approx(0.92 * 80e9 / GIB)


def test_sglang_keeps_memory_by_its_rule_of_thumb():
    # 512 + 1.5 x 8,192 + 2 x 256 + 128 MiB of 79.19 GiB; the share is of what its process (0.6 GiB) leaves.
    options = ServerOptions(
        max_num_batched_tokens=8192, graph_sequences=256, graph_sequences_wide=512
    )
    reserved = (512 + 1.5 * 8192 + 2 * 256 + 128) / 1024
    share = 1 - reserved / 79.19
    plan = Plan(framework="sglang", server=options)
    assert usable(plan) == pytest.approx(share * (79.19 - 0.6), rel=1e-4)


RULES = [
    # MiB kept: 512, 1.5 a token of a step, 2 a sequence of the largest graph, 128 a chip.
    ({}, {}, 512 + 1.5 * 8192 + 2 * 256 + 128, 0.6),
    ({"tp": 2.0}, {}, 512 + 1.5 * 8192 + 2 * 256 + 2 * 128, 2.1),
    # From four chips of a replica on graphs are of 512 sequences; a stage more is a chip more alone.
    ({"tp": 4.0}, {}, 512 + 1.5 * 8192 + 2 * 512 + 4 * 128, 2.1),
    ({"tp": 2.0, "pp": 2.0}, {}, 512 + 1.5 * 8192 + 2 * 256 + 4 * 128, 2.1),
    # 3 a sequence of each data rank, where there are several.
    ({"dp": 2.0}, {}, 512 + 1.5 * 8192 + 2 * 256 + 3 * 2 * 256 + 2 * 128, 2.1),
    # 10 GiB at least, and 2 GiB more where tokens are drafted.
    ({}, {"max_num_batched_tokens": 1024}, 10 * 1024, 0.6),
    ({}, {"max_num_batched_tokens": 1024, "speculative_tokens": 1.0}, 12 * 1024, 0.6),
]


@pytest.mark.parametrize(("ranks", "options", "mebibytes", "process"), RULES)
def test_sglang_keeps_more_for_ranks_and_drafts_and_ten_gibibytes_at_least(
    ranks: dict[str, Any], options: dict[str, float], mebibytes: float, process: float
):
    usual = {"max_num_batched_tokens": 8192, "graph_sequences": 256, "graph_sequences_wide": 512}
    plan = Plan(framework="sglang", server=ServerOptions(**usual | options), **ranks)
    share = 1 - mebibytes / 1024 / 79.19
    assert usable(plan) == pytest.approx(share * (79.19 - process), rel=1e-4)


def test_cards_below_sixty_gibibytes_keep_what_the_rule_says():
    options = {"max_num_batched_tokens": 1024, "graph_sequences": 16, "graph_sequences_wide": 16}
    plan = Plan(framework="sglang", server=ServerOptions(**options))
    total = chip_file("l40s")[1].main.reported.si("byte") / GIB  # pyright: ignore[reportOptionalMemberAccess]
    share = 1 - (512 + 1.5 * 1024 + 2 * 16 + 128) / 1024 / total
    assert usable(plan, "l40s", "llama-3.2-1b") == pytest.approx(share * (total - 0.6), rel=1e-4)


def test_tensorrt_llm_takes_a_share_of_what_weights_leave_free():
    plan = Plan(framework="trtllm")
    weights = float(weight_bytes(traced(load_model("llama-3.1-8b")), plan)) / GIB
    assert usable(plan) - weights == pytest.approx(0.9 * (79.19 - 0.9 - weights), rel=1e-4)


def test_a_known_deployment_is_given_more_where_its_default_leaves_next_to_nothing():
    # DeepSeek-R1 in fp8 on four B200: SGLang's rule leaves less than its weights take, 0.95 leaves room.
    server = replace(lambda s: s.raises, VLLM, as_scalar(1.0))
    plan = Plan(framework="sglang", weights="fp8_block", cache="bf16", tp=4.0, server=server)
    assert usable(plan, "b200-sxm", "deepseek-r1") == pytest.approx(0.95 * (178.35 - 2.1), rel=1e-4)
    told = Plan(
        framework="sglang", weights="fp8_block", tp=4.0, server=ServerOptions(memory_fraction=0.8)
    )
    assert usable(told, "b200-sxm", "deepseek-r1") == pytest.approx(0.8 * (178.35 - 2.1), rel=1e-4)


def test_memory_has_a_gradient_in_capacity_share_and_tokens():
    shape, chip = traced(load_model("llama-3.1-8b")), load_chip("h100-sxm")

    def free(capacity: jax.Array, share: jax.Array, tokens: jax.Array) -> jax.Array:
        server = ServerOptions(share, max_num_batched_tokens=tokens, max_num_seqs=256.0)
        machine = replace(lambda c: c.main.capacity, chip, capacity)
        return kv_cache_capacity(machine, Plan(framework="vllm", server=server), shape)

    at = (jnp.asarray(80e9), jnp.asarray(0.9), jnp.asarray(8192.0))
    by_capacity, by_share, by_tokens = jax.grad(free, (0, 1, 2))(*at)
    assert by_capacity == pytest.approx(0.9 * 79.19 * GIB / 80e9, rel=1e-3)
    assert by_share == pytest.approx(79.19 * GIB, rel=1e-3)
    assert by_tokens == pytest.approx(-2.5 * 2 * 4096, rel=1e-3)


def test_releases_have_their_own_share():
    memory = find_version("vllm").memory
    assert memory is not None
    defaults = [memory.default_of(release) for release in ("0.12.0", "0.20.0", "0.22.0", "")]
    assert [one and one.value for one in defaults] == [0.9, 0.9, 0.92, 0.92]


def test_a_windowed_layer_keeps_one_prompt_step_of_one_sequence():
    shape, chip = traced(load_model("gemma-4-31b")), load_chip("h200-sxm")
    plan = Plan(framework="vllm", server=VLLM)
    assert float(prompt_window(plan)) == 8192 and float(prompt_window(Plan())) == 0
    length = as_scalar(262144.0)
    found = memory_of(chip, plan, shape, length)
    # As many whole sequences as are printed: prompts of one more step are of one sequence alone.
    assert float(max_sequences(chip, plan, shape, length)) == 2
    assert 2 < float(found.kv_capacity) / 262144 < 3


def test_drafted_tokens_take_a_layer_more():
    shape = traced(load_model("deepseek-r1"))
    plain, drafting = (
        float(
            weight_bytes(
                shape, Plan(weights="fp8_block", server=ServerOptions(speculative_tokens=n))
            )
        )
        for n in (0.0, 1.0)
    )
    # The last of 61 layers: 11.5 billion parameters.
    assert drafting - plain == pytest.approx(11.5e9, rel=0.02)


def test_every_card_reports_about_what_it_is_sold_with():
    for chip in ("h100-sxm", "h200-sxm", "b200-sxm", "mi300x", "l40s", "gb10"):
        main = chip_file(chip)[1].main
        assert main is not None and main.reported is not None
        assert 0.95 < main.reported.si("byte") / main.capacity.si("byte") < 1.08


@pytest.mark.slow
def test_servers_of_public_logs_hold_what_is_predicted(tmp_path: Path):
    one = {"model": "gemma-4-31b", "framework_version": "0.19.0", "precision": "bf16"}
    lengths = {"isl": 261120, "osl": 1024, "concurrency": 8}
    config = tmp_path / "llama-405b" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps(LLAMA_405B | {"quantization_config": META}))
    eight = {"model": config, "n_chips": 8, "tp": 8, "concurrency": 8}
    rows = [
        ONE | one | lengths | {"chip": "h200-sxm", "framework": "vllm"},
        ONE | eight | {"framework": "vllm-0.5", "max_num_batched_tokens": 131072},
    ]
    gemma, llama = predict("serving", tmp_path, rows)
    # 626,949 tokens, 2.39 sequences; weights of 57.75 GiB a card and 79,392 tokens.
    assert float(gemma["kv_capacity_tokens"]) == pytest.approx(626_949, rel=0.01)
    assert gemma["running"] == "2" and gemma["fits"] == "true"
    assert float(llama["weights_gb_per_chip"]) * 1e9 / GIB == pytest.approx(57.75, rel=0.02)
    assert llama["fits"] == "true"


@pytest.mark.long
def test_users_beyond_the_sequences_of_a_server_wait(tmp_path: Path):
    served = ONE | {"framework": "vllm", "concurrency": 64}
    free, bound = predict("serving", tmp_path, [served, served | {"max_num_seqs": 16}])
    assert (free["running"], bound["running"]) == ("64", "16")
    assert float(bound["ttft_ms"]) > 2 * float(free["ttft_ms"])
    assert bound["concurrency"] == "64" and bound["fits"] == "true"


BAD = {
    "memory_fraction": ("0", "1.5", "-0.5", "much"),
    "max_num_seqs": ("0", "-1", "1.5"),
}


def test_wrong_options_of_a_server_are_refused_in_one_sentence(tmp_path: Path):
    served = ONE | {"framework": "vllm", "concurrency": 4}
    rows = [served | {name: value} for name, values in BAD.items() for value in values]
    for row in predict("serving", tmp_path, rows):
        given = next(name for name in BAD if row[name])
        assert row["error"].startswith(f"{given} is '{row[given]}'")
        assert row["error"].endswith(("9.", "on.", "number.")) and not row["tpot_ms"]


@pytest.mark.long
def test_reproduce_prints_every_capacity_and_its_medians(tmp_path: Path):
    status, text, err = run("reproduce", "--sets", "memory", "--out", tmp_path / "found")
    assert (status, err) == (0, "")
    assert "KV-cache capacity" in text and "held out" in text and "gemma-4-31b" in text
    report = json.loads((tmp_path / "found" / "reproduce.json").read_text())
    assert len(report["capacity_rows"]) >= 15
    assert (tmp_path / "found" / "memory.csv").is_file()


@pytest.mark.long
def test_capacity_is_within_five_per_cent_in_the_median():
    rows = capacity_rows(FITTED)
    found = {one["group"]: one for one in capacity_metrics(rows)}
    assert found["all"]["median"] < 0.05 and found["held out"]["median"] < 0.05
    assert not any(row.error for row in rows)
    assert abs(found["development"]["n"] - found["held out"]["n"]) <= 5


def test_models_say_what_fits_on_chips():
    words = (
        "models",
        "llama-3.1-70b",
        "--chip",
        "h100-sxm",
        "--n-chips",
        "4",
        "--framework",
        "vllm",
    )
    status, text, err = run(*words)
    assert (status, err) == (0, "") and "KV cache of a data rank" in text
    status, text, _ = run(*words, "--json")
    found = json.loads(text)
    # 141.1 GB over four; a quarter of 327,680 bytes for each token.
    assert found["weights_gb_per_chip"] == pytest.approx(141.1 / 4, rel=1e-3)
    tokens = found["kv_cache_gb_per_chip"] * 1e9 / (327_680 / 4)
    assert found["kv_capacity_tokens"] == pytest.approx(tokens, rel=1e-3)
    assert found["sequences"] == pytest.approx(found["kv_capacity_tokens"] / 8192, rel=1e-3)
    status, _, err = run("models", "llama-3.1-70b", "--chip", "h100-sxm", "--memory-fraction", "2")
    assert status == 2 and "memory_fraction is '2'" in err
    status, _, err = run("models", "--chip", "h100-sxm")
    assert status == 2 and "--chip needs a model" in err


@pytest.mark.long
def test_explain_says_what_a_server_holds():
    row = [
        f"{name}={value}" for name, value in (ONE | {"framework": "vllm", "concurrency": 4}).items()
    ]
    status, text, err = run("explain", *row, "--json")
    assert (status, err) == (0, "")
    found = json.loads(text)
    assert found["weights_gb_per_chip"] == pytest.approx(16.06, rel=1e-3)
    assert found["kv_capacity_tokens"] > 400_000 and found["running"] == 4
