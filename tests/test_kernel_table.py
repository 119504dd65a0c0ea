"""Rows of the kernel schema: what a cell means, and what is said of one that means nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.errors import InputError
from perfmodel.kernels.kernel_table import Group, Key, groups_of, software_of
from perfmodel.kernels.registry import KERNELS

GEMM = {"op": "gemm", "chip": "h100", "dtype": "bf16", "m": "32", "n": "64", "k": "128"}
ATTENTION = {
    "op": "attention_prefill",
    "chip": "h100",
    "dtype": "bf16",
    "batch": "2",
    "q_len": "100",
    "heads": "32",
    "kv_heads": "8",
    "head_dim": "128",
}
MOE = {
    "op": "moe",
    "chip": "h100",
    "dtype": "fp8",
    "tokens": "64",
    "hidden": "4096",
    "inter": "1024",
    "topk": "8",
    "experts": "64",
}


def one(cells: dict[str, str]) -> tuple[Group | None, str]:
    groups, errors = groups_of({name: [value] for name, value in cells.items()}, 1)
    return (groups[0] if groups else None), str(errors[0])


def sound(cells: dict[str, str]) -> Group:
    group, error = one(cells)
    assert group is not None and error == ""
    return group


def test_a_row_becomes_a_key_and_its_sizes():
    group = sound(GEMM)
    assert group.key == Key("gemm", "h100-sxm", "", "bf16")
    assert {name: float(values[0]) for name, values in group.columns.items()} == {
        "m": 32.0,
        "n": 64.0,
        "k": 128.0,
    }


@pytest.mark.parametrize(
    ("column", "word", "means"),
    [
        ("op", " GEMM ", "gemm"),
        ("op", "Gemm", "gemm"),
        ("chip", "H100 SXM", "h100-sxm"),
        ("chip", "h100_sxm", "h100-sxm"),
        ("dtype", "BF16", "bf16"),
        ("dtype", "FP8-block", "fp8_block"),
        ("framework", "vLLM", "vllm"),
        ("framework", "trt-llm", "trtllm"),
        ("framework", "TensorRT-LLM", ""),
        ("framework", "DeepSpeed", ""),
        ("framework", "llama.cpp", ""),
        ("framework", "sambaflow", ""),
        ("framework", "Vendor Cloud", ""),
        ("framework", " ", ""),
    ],
)
def test_how_a_word_is_spelled_does_not_matter(column: str, word: str, means: str):
    assert getattr(sound(GEMM | {column: word}).key, column) == means


@pytest.mark.parametrize(
    ("column", "word", "said"),
    [
        ("op", "gem", "unknown op 'gem'; the nearest are gemm; allowed are gemm, "),
        ("op", "", "op is missing; allowed are gemm, "),
        ("op", "quantum_attention", "unknown op 'quantum_attention'"),
        ("chip", "h1000", "unknown chip 'h1000'; the nearest are h100-sxm"),
        ("chip", "", "chip is missing"),
        ("dtype", "bf61", "unknown dtype 'bf61'; the nearest are bf16"),
        ("dtype", "", "dtype is missing; allowed are fp32"),
        ("framework", "vlm", "unknown framework 'vlm'; the nearest are vllm"),
        ("framework", "vllm-0.5", "unknown framework 'vllm-0.5'; the nearest are vllm"),
    ],
)
def test_an_unknown_word_is_answered_with_the_nearest(column: str, word: str, said: str):
    assert said in one(GEMM | {column: word})[1]


@pytest.mark.parametrize(
    "word", ["nan", "abc", "1_000", "0x10", "1,5", "\u0661\u0662", "true", "--1", "1e", "{}", "{0}"]
)
def test_what_is_not_a_number_is_quoted(word: str):
    assert one(GEMM | {"m": word})[1] == f"m is {word!r}, which is not a number."


@pytest.mark.parametrize("word", ["0", "-1", "inf", "-inf", "1e400", "1e16", "-0.0"])
def test_a_number_out_of_range_is_quoted_with_the_range(word: str):
    said = f"m is {word!r}; allowed are numbers greater than zero up to 1e15."
    assert one(GEMM | {"m": word})[1] == said


@pytest.mark.parametrize("word", ["32", " 32 ", "32.0", "+32", "3.2e1"])
def test_usual_spellings_of_a_number_are_the_same(word: str):
    assert sound(GEMM | {"m": word}).columns["m"][0] == 32


def test_a_size_that_is_missing_is_named_in_the_row_or_in_the_header():
    without = {name: value for name, value in GEMM.items() if name != "k"}
    assert one(GEMM | {"k": ""})[1] == "k is missing; give a number greater than zero."
    assert one(without)[1] == "k is missing; give a number greater than zero."


def test_sizes_that_no_number_can_hold_together_are_refused():
    """Each is allowed alone; 1e15 cubed passes what single precision can hold."""
    assert "multiply" in one(GEMM | dict.fromkeys("mnk", "1e15"))[1]


@pytest.mark.parametrize("name", ["op", "chip", "dtype"])
def test_a_column_that_all_rows_need_stops_the_run(name: str):
    with pytest.raises(InputError, match=f"no column '{name}'; it has "):
        one({other: value for other, value in GEMM.items() if other != name})


def test_a_table_of_thousands_of_columns_is_not_listed():
    with pytest.raises(InputError) as caught:
        groups_of({f"c{i}": ["1"] for i in range(5000)}, 1)
    assert len(str(caught.value)) < 300


def test_the_context_is_the_prompt_unless_it_is_longer():
    assert sound(ATTENTION).columns["ctx_len"][0] == 100
    assert sound(ATTENTION | {"ctx_len": ""}).columns["ctx_len"][0] == 100
    assert sound(ATTENTION | {"ctx_len": "300"}).columns["ctx_len"][0] == 300
    assert (
        "q_len is 100, but may not be more than ctx_len, which is 50"
        in (one(ATTENTION | {"ctx_len": "50"})[1])
    )


@pytest.mark.parametrize("word", ["", "0"])
def test_no_window_is_empty_or_zero(word: str):
    assert sound(ATTENTION | {"window": word}).columns["window"][0] == 0


def test_a_negative_window_is_refused():
    assert "allowed are numbers from zero" in one(ATTENTION | {"window": "-1"})[1]


@pytest.mark.parametrize(
    ("word", "choice"),
    [("", 0), ("true", 0), ("True", 0), ("1", 0), ("false", 1), ("FALSE", 1), ("0", 1), ("no", 1)],
)
def test_attention_is_causal_unless_it_says_not(word: str, choice: int):
    assert sound(ATTENTION | {"causal": word}).columns["causal"][0] == choice


def test_another_word_for_causal_is_refused():
    assert one(ATTENTION | {"causal": "maybe"})[1] == (
        "unknown causal 'maybe'; allowed are true, false."
    )


def test_the_cache_has_the_format_of_the_row_unless_it_says_another():
    assert sound(ATTENTION | {"kv_dtype": ""}).key.cache == "bf16"
    assert sound(ATTENTION | {"kv_dtype": "FP8"}).key.cache == "fp8"
    assert "unknown kv_dtype 'f8'; the nearest are fp8" in one(ATTENTION | {"kv_dtype": "f8"})[1]


def test_a_kernel_without_a_cache_does_not_read_its_format():
    assert sound(GEMM | {"kv_dtype": "anything"}).key.cache == ""


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (ATTENTION | {"kv_heads": "64"}, "kv_heads is 64, but may not be more than heads"),
        (MOE | {"topk": "65"}, "topk is 65, but may not be more than experts"),
        (
            {"op": "all_reduce", "chip": "h100", "dtype": "bf16", "bytes": "9"}
            | {"n_gpus": "4", "n_nodes": "8"},
            "n_nodes is 8, but may not be more than n_gpus",
        ),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(cells: dict[str, str], said: str):
    assert said in one(cells)[1]


def test_routing_is_balanced_unless_it_says_not():
    assert sound(MOE).columns["routing"][0] == 0
    assert sound(MOE | {"routing": "power_law_1.2"}).columns["routing"][0] == 2
    assert "allowed are balanced, power_law_1.01" in one(MOE | {"routing": "x"})[1]


def test_a_wrong_row_keeps_its_place_and_stops_no_other():
    cells = {name: [value] * 3 for name, value in GEMM.items()} | {"m": ["1", "x", "3"]}
    groups, errors = groups_of(cells, 3)
    assert [bool(error) for error in errors] == [False, True, False]
    assert list(groups[0].places) == [0, 2]
    assert list(groups[0].columns["m"]) == [1, 3]


WORD = st.one_of(st.text(max_size=6), st.sampled_from(["", "0", "1", "-1", "nan", "1e308", "32"]))


@pytest.mark.long
@settings(max_examples=80, deadline=None)
@given(
    op=st.sampled_from([*KERNELS]),
    words=st.lists(WORD, min_size=12, max_size=12),
    names=st.permutations(["chip", "dtype", "framework", "kv_dtype"]),
)
def test_any_cells_give_either_sizes_that_are_numbers_or_a_sentence(
    op: str, words: list[str], names: list[str]
):
    operation = KERNELS[op]
    columns = [*operation.sizes(), *operation.options(), *operation.words()]
    good = {"op": op, "chip": "h100", "dtype": "bf16"} | dict.fromkeys(operation.sizes(), "8")
    cells = good | dict(zip(columns, words, strict=False)) | {names[0]: words[-1]}
    group, error = one(cells)
    assert (group is None) == bool(error)
    assert len(error.splitlines()) <= 1
    if group is not None:
        assert all(np.isfinite(values).all() for values in group.columns.values())


DECODE = {
    "op": "attention_decode",
    "chip": "h100",
    "dtype": "bf16",
    "batch": "2",
    "ctx_len": "100",
    "heads": "8",
    "kv_heads": "8",
    "head_dim": "64",
}


def test_the_largest_number_is_allowed_and_one_more_is_not():
    assert sound(GEMM | {"m": "1e15", "n": "1", "k": "1"}).columns["m"][0] == 1e15
    assert "m is '1000000000000001'; allowed" in one(GEMM | {"m": "1000000000000001"})[1]


def test_sizes_may_multiply_to_the_largest_product_and_no_further():
    assert sound(GEMM | dict.fromkeys("mnk", "1e12"))
    assert "multiply to more than 1e+36" in one(GEMM | dict.fromkeys("mnk", "1.1e12"))[1]
    # Ones, and a window of nothing, do not count.
    most = {"batch": "1e15", "ctx_len": "1e15", "heads": "1e6", "kv_heads": "1", "head_dim": "1"}
    assert sound(DECODE | most)
    assert "multiply" in one(DECODE | most | {"heads": "1e7"})[1]


def test_as_many_heads_of_keys_as_of_queries_are_allowed():
    assert sound(DECODE).columns["kv_heads"][0] == 8
    assert (
        "kv_heads is 9, but may not be more than heads, which is 8"
        in (one(DECODE | {"kv_heads": "9"})[1])
    )


def test_a_size_that_is_not_given_bounds_no_other():
    linear = {"op": "linear_attention", "chip": "h100", "dtype": "bf16", "batch": "1"}
    linear |= {"heads": "8", "head_dim": "64", "q_len": "5"}
    assert sound(linear | {"ctx_len": "0"}).columns["q_len"][0] == 5
    assert "may not be more than ctx_len, which is 1" in one(linear | {"ctx_len": "1"})[1]


def test_a_format_of_the_cache_means_nothing_where_there_is_none():
    assert sound(GEMM | {"kv_dtype": "bogus"}).key.cache == ""
    assert sound(DECODE | {"kv_dtype": " "}).key.cache == "bf16"
    assert sound(DECODE | {"kv_dtype": "fp8"}).key.cache == "fp8"
    assert "unknown kv_dtype 'bogus'" in one(DECODE | {"kv_dtype": "bogus"})[1]


@pytest.mark.parametrize(
    ("word", "means"),
    [
        ("", ("", "")),
        (" ", ("", "")),
        ("vLLM", ("vllm", "")),
        ("vllm-0.5", ("vllm", "vllm-0.5")),
        ("TRTLLM-engine", ("trtllm", "trtllm-engine")),
        ("DeepSpeed", ("", "")),
    ],
)
def test_an_older_framework_shares_the_rules_of_todays(word: str, means: tuple[str, str]):
    assert software_of(word) == means


def test_the_first_fault_of_a_row_is_said():
    assert one(GEMM | {"m": "x", "n": "y"})[1] == "m is 'x', which is not a number."
    assert one(GEMM | {"m": "x", "chip": "h1000"})[1].startswith("unknown chip")


def test_a_long_cell_is_quoted_from_its_beginning():
    said = one(GEMM | {"m": "x" * 60})[1]
    assert said == f"m is {'x' * 40!r}, which is not a number."


def test_rows_of_one_key_are_one_group_whatever_lies_between():
    cells = {name: [value] * 3 for name, value in GEMM.items()} | {"dtype": ["bf16", "fp8", "BF16"]}
    groups, _ = groups_of(cells, 3)
    assert [(group.key.dtype, list(group.places)) for group in groups] == [
        ("bf16", [0, 2]),
        ("fp8", [1]),
    ]
