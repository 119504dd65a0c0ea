"""Chips that frameworks run on, and ways to spread a model that they refuse."""

import math
from pathlib import Path

import pytest
from command import run

from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv
from perfmodel.inference import framework_support
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment import Deployment, resolve_or_error
from perfmodel.inference.framework_support import (
    refusal,
    serving_frameworks,
    sizes_of,
    slow_kernels,
    unsupported_pairs,
)
from perfmodel.library.chip import chip_files
from perfmodel.library.files import read_as, stems
from perfmodel.library.fitted import FITTED
from perfmodel.library.framework import FrameworkFile, Layout, find_version, frameworks
from perfmodel.workload.precision import FORMATS


def deployment(
    framework: str, model: str = "qwen3-235b-a22b", chip: str = "h100-sxm", precision: str = "fp8"
) -> Deployment:
    found = resolve_or_error(chip, model, precision, "fp8", framework, FITTED)
    assert isinstance(found, Deployment), found
    return found


def spread(tp: float = 1, pp: float = 1, ep: float = 1, dp: float = 1) -> Parallelism:
    return Parallelism(float(tp), float(pp), float(ep), float(dp))


def test_a_framework_runs_on_the_chips_that_its_documents_list():
    assert serving_frameworks("hopper") == ("sglang", "trtllm", "vllm")
    assert serving_frameworks("cdna3") == ("sglang", "vllm")
    assert serving_frameworks("rubin") == ("trtllm", "vllm")
    assert serving_frameworks("tpu") == serving_frameworks("gaudi") == ("vllm",)
    assert serving_frameworks("wse") == ("cerebras",) and serving_frameworks("rdu") == (
        "sambanova",
    )
    assert serving_frameworks("lpu") == serving_frameworks("cdna5") == ()


def test_every_architecture_that_a_framework_names_is_some_chips():
    known = {file.architecture for file in chip_files().values()}
    for name in frameworks():
        version = find_version(name)
        formats = (version.slow_weights, version.slow_cache, version.refused_weights)
        for table in formats:
            assert table.keys() <= FORMATS.keys()
            assert {a for one in table.values() for a in one.architectures} <= known
        assert version.platforms.keys() <= known


def test_attention_architectures_are_platforms():
    for name in frameworks():
        version = find_version(name)
        assert version.attention.keys() <= version.platforms.keys()


ACCEPTED = [
    ("vllm", spread(tp=4)),
    ("vllm", spread(tp=8, ep=8)),
    ("vllm", spread(tp=2, ep=8, dp=4)),
    ("vllm", spread(tp=4, pp=2)),
    ("sglang", spread(tp=8, ep=4)),
    ("sglang", spread(ep=8, dp=8)),
    ("trtllm", spread(tp=8, ep=2)),
    ("trtllm", spread(ep=16, dp=16)),
    ("", spread(tp=8, ep=3)),
]


@pytest.mark.parametrize("framework, asked", ACCEPTED)
def test_what_a_framework_documents_is_accepted(framework: str, asked: Parallelism):
    assert refusal(deployment(framework), asked) == ""


REFUSED = [
    # 1,536 columns of an expert over 8 tensor ranks: 192 are no whole blocks of 128.
    ("vllm", spread(tp=8), "experts of 1536 columns over 8 tensor ranks have 192 each"),
    ("sglang", spread(tp=8), "SGLang takes a multiple of 128"),
    ("trtllm", spread(tp=8), "TensorRT-LLM takes a multiple of 128"),
    ("vllm", spread(tp=8, ep=4), "ep is 4, but vLLM takes 1 or all 8 ranks (tp x dp)"),
    ("sglang", spread(tp=8, ep=3), "ep is 3, but must divide the 8 ranks"),
    ("sglang", spread(tp=1, ep=24, dp=24), "in SGLang it must divide the 128 experts"),
    ("trtllm", spread(tp=2, ep=8, dp=4), "allowed are tp 1 with any dp, or dp 1"),
    ("vllm", spread(tp=3, ep=3), "tp is 3, but must divide the 64 heads of qwen3-235b-a22b"),
    ("", spread(tp=3), "tp is 3, but must divide the 64 heads"),
    ("", spread(tp=1, pp=95), "pp is 95, but may not be more than the 94 layers"),
    ("", spread(tp=1, ep=2), "ep is 2, but may not be more than the 1 ranks (tp x dp)"),
    ("", spread(tp=1, ep=256, dp=256), "ep is 256, but may not be more than the 128 experts"),
]


@pytest.mark.parametrize("framework, asked, said", REFUSED)
def test_a_refusal_says_what_was_asked_and_what_is_allowed(
    framework: str, asked: Parallelism, said: str
):
    found = refusal(deployment(framework), asked)
    assert said in found and found.endswith(".") and "\n" not in found


def test_experts_need_not_divide_in_vllm():
    # 128 over 24: vLLM gives some ranks 6 and others 5.
    assert refusal(deployment("vllm"), spread(ep=24, dp=24)) == ""


def test_heads_of_keys_and_values_are_split_or_copied_whole():
    # 24 query heads and 8 of keys and values: 6 ranks split the first alone.
    asked = spread(tp=6)
    for framework in ("vllm", "sglang"):
        found = refusal(deployment(framework, "llama-3.2-3b", precision="bf16"), asked)
        assert "it must divide the 8 heads of keys and values, or they it" in found
    # TensorRT-LLM rounds up: each rank has two.
    assert refusal(deployment("trtllm", "llama-3.2-3b", precision="bf16"), asked) == ""


def test_blocks_count_where_a_chip_unpacks_them():
    assert "192 each" in refusal(deployment("vllm", chip="a100-sxm-80gb"), spread(tp=8))
    assert refusal(deployment("vllm", precision="bf16"), spread(tp=8)) == ""


def test_sizes_of_all_kinds_of_layers_count():
    sizes = sizes_of(deployment("vllm", "deepseek-r1"))
    # 3 dense layers of 18,432 columns; 256 experts of 2,048, and one that is shared.
    assert sizes.columns == (2048.0, 18432.0) and sizes.expert_columns == (2048.0,)
    assert sizes.heads == (128.0,) and sizes.kv_heads == () and sizes.attended == (128.0 * 128,)
    # 2,048 shared columns over 32: 64 are half a block.
    found = refusal(deployment("vllm", "deepseek-r1"), spread(tp=32, ep=32))
    assert "matrices of 2048 columns over 32 tensor ranks have 64 each" in found


def test_a_dense_model_has_no_expert_ranks():
    assert "llama-3.3-70b has no experts" in refusal(
        deployment("vllm", "llama-3.3-70b"), spread(tp=2, ep=2)
    )


SEVERAL = [
    # Of several layers that cannot be shared out the one with the fewest is named.
    ("heads", (6.0, 16.0, 20.0), spread(tp=8), "tp is 8, but must divide the 6 heads of qwen3"),
    ("kv_heads", (3.0, 5.0, 8.0), spread(tp=8, ep=8), "must divide the 3 heads of keys"),
    (
        "expert_columns",
        (8.0, 1000.0, 1004.0),
        spread(tp=8),
        "experts of 8 columns over 8 tensor ranks",
    ),
    ("columns", (1024.0, 1032.0, 2056.0), spread(tp=8, ep=8), "matrices of 1032 columns over 8"),
    ("experts", (24.0, 128.0), spread(ep=32, dp=32), "may not be more than the 24 experts"),
]


@pytest.mark.parametrize("name, numbers, asked, said", SEVERAL)
def test_of_several_layers_the_smallest_that_does_not_fit_is_named(
    name: str,
    numbers: tuple[float, ...],
    asked: Parallelism,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
):
    own = deployment("vllm")
    sizes = sizes_of(own)._replace(**{name: numbers})
    monkeypatch.setattr(framework_support, "sizes_of", lambda _: sizes)
    assert said in refusal(own, asked)


def test_drafts_are_made_on_one_stage_where_the_framework_says_so():
    asked = spread(tp=4, pp=2)
    assert refusal(deployment("vllm"), asked, speculates=True) == ""
    for framework in ("sglang", "trtllm"):
        assert refusal(deployment(framework), asked) == ""
        assert "drafts tokens with pp 1 alone" in refusal(deployment(framework), asked, True)


def test_weights_without_kernels_are_refused_or_slow():
    hopper = {name: deployment(name, "deepseek-r1", precision="fp4") for name in frameworks()[1:]}
    assert "NVFP4 weights on Blackwell alone" in refusal(hopper["trtllm"], spread(tp=8))
    assert slow_kernels(hopper["trtllm"]) == ""
    for name in ("sglang", "vllm"):
        assert refusal(hopper[name], spread(tp=8)) == ""
        assert "weight-only Marlin" in slow_kernels(hopper[name])
    blackwell = deployment("vllm", "deepseek-r1", "b200-sxm", "fp4")
    assert slow_kernels(blackwell) == slow_kernels(deployment("", "deepseek-r1")) == ""
    ampere = slow_kernels(deployment("vllm", chip="a100-sxm-80gb"))
    assert "fp8 weights as weight-only" in ampere and "FlashAttention 2 reads no KV cache" in ampere


@pytest.mark.parametrize("framework", ["sglang", "vllm"])
@pytest.mark.parametrize("chip", ["mi300x", "mi355x"])
def test_int4_on_rocm_is_said_to_be_slow_and_widens_the_range(framework: str, chip: str):
    slow, fast = (deployment(framework, "kimi-k2", chip, word) for word in ("int4", "fp8"))
    assert "Triton kernels, which may take 3.9 times" in slow_kernels(slow)
    assert (
        slow_kernels(fast)
        == slow_kernels(deployment(framework, "kimi-k2", "h200-sxm", "int4"))
        == ""
    )
    # ln 3.9 = 1.361; the range of other weights has a high end of exp(h): exp(hypot(h, 1.361)).
    for wide, plain in zip(slow.intervals[:2], fast.intervals[:2], strict=True):
        assert wide.low == plain.low
        assert wide.high == pytest.approx(
            math.exp(math.hypot(math.log(plain.high), 1.361)), rel=1e-3
        )


ROWS = """chip,model,precision,framework,n_chips,tp,isl,osl,concurrency
mi300x,kimi-k2,int4,sglang,8,8,1024,1024,16
mi300x,deepseek-r1,fp8,sglang,8,8,1024,1024,16
mi300x,kimi-k2,int4,sglang,8,8,1024,1024,64
"""


@pytest.mark.slow
def test_the_command_says_which_rows_have_slow_kernels_and_widens_them(tmp_path: Path):
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text(ROWS)
    status, _, said = run("predict", "serving", rows, "--out", out)
    assert status == 0 and said.count("Triton") == 1
    assert "rows 1, 3: " in said
    cells = cells_of(read_csv(out))
    wide, plain, _ = (
        float(high) / float(tpot)
        for high, tpot in zip(cells["tpot_ms_high"], cells["tpot_ms"], strict=True)
    )
    assert wide > 1.5 * plain


@pytest.mark.long
def test_a_recommendation_says_so(tmp_path: Path):
    words = ("--model", "kimi-k2", "--chip", "mi300x", "--n-chips", "8", "--precision", "int4")
    load = ("--isl", "1024", "--osl", "1024", "--framework", "sglang", "--tpot-ms", "500")
    status, shown, said = run("recommend", *words, *load, "--concurrency", "16")
    assert status == 0 and "Triton" in shown + said


ELSEWHERE = ("--model", "llama-3.1-8b", "--isl", "100", "--osl", "10", "--concurrency", "1")
FOREIGN = "vLLM does not run on wse-3; of the frameworks known these do: cerebras."


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ("predict", "serving", "--chip", "wse-3", "--framework", "vllm", *ELSEWHERE),
        ("simulate", "--chip", "wse-3", "--framework", "vllm", *ELSEWHERE),
        (
            "explain",
            "chip=wse-3",
            "framework=vllm",
            "model=llama-3.1-8b",
            "isl=100",
            "osl=10",
            "concurrency=1",
        ),
    ],
)
def test_every_command_says_that_a_framework_does_not_run_on_a_chip(words: tuple[str, ...]):
    status, _, said = run(*words)
    assert status == 0 and said.count(FOREIGN) == 1, said


@pytest.mark.long
def test_a_sweep_says_it_once_for_each_chip(tmp_path: Path):
    grid = tmp_path / "grid.toml"
    grid.write_text(
        'chip = ["h100-sxm", "wse-3"]\nframework = "vllm"\nmodel = "llama-3.1-8b"\n'
        "isl = 100\nosl = 10\nconcurrency = [1, 2]\n"
    )
    status, _, said = run("sweep", grid, "--out", tmp_path / "points.csv")
    assert status == 0 and said.count("does not run on") == said.count(FOREIGN) == 1, said


def test_what_runs_or_is_unknown_is_not_warned_of():
    assert unsupported_pairs(["h100-sxm", "mi300x", "wse-3"], ["", "gemma"]) == []
    assert unsupported_pairs(["h100-sxm", "b200"], ["vllm", "trtllm", "vllm-0.5"]) == []
    assert unsupported_pairs(["nowhere"], ["vllm"]) == []


def test_rules_are_inherited_one_by_one():
    old, new = find_version("trtllm-engine"), find_version("trtllm")
    assert old.layout == new.layout and old.platforms == new.platforms
    assert not find_version("").layout.forbids("even_experts")


def test_a_rule_without_a_source_is_a_fault(tmp_path: Path):
    text = stems("frameworks")["vllm"].read_text()
    path = tmp_path / "mine.toml"
    path.write_text(
        text.replace('value = true, source = "columns"', 'value = true, source = "nowhere"')
    )
    with pytest.raises(InputError, match="source 'nowhere' is not listed"):
        read_as(FrameworkFile, path)
    assert Layout().even_experts is None
