"""What `recommend` is asked in plain values: the same from Python and from the command."""

import json
from typing import Any

import numpy as np
import pytest
from command import run

import perfmodel as pm
from perfmodel.errors import InputError
from perfmodel.inference.question import INFINITE, Question, ask, check
from perfmodel.interface.recommend import cells_of

SMALL: dict[str, Any] = {"model": "llama-3.2-1b", "isl": 512, "osl": 64}


def test_one_value_is_a_list_of_one_and_what_is_left_out_is_free():
    one = ask(**SMALL, chip="h100-sxm", n_chips=8)
    several = ask(**SMALL, chip=["h100-sxm"], n_chips=[8.0])
    assert str(one) == str(several)  # a rate that is not given is nan, which equals nothing
    assert one.chips == ("h100-sxm",) and one.n_chips == (8.0,)
    assert one.concurrency == one.frameworks == one.modes == ()
    assert one.limits.tpot_ms == INFINITE and not one.open_loop


def test_numbers_may_be_text_or_an_array():
    many = (1.0, 4.0)
    assert ask(**SMALL, concurrency=["1", "4"]).concurrency == many
    assert ask(**SMALL, concurrency=np.array([1, 4])).concurrency == many  # pyright: ignore


def test_words_are_taken_however_they_are_spelled():
    found = ask(**SMALL, objective="Cost", mode="Attention-FFN")
    assert found.objective == "cost" and found.modes == ("attention_ffn",)


def test_other_names_are_columns_of_the_serving_schema():
    cells = ask(**SMALL, length_ratio=0.9, burst=False, usd_per_chip_hour=2.5).cells
    assert cells == {"length_ratio": "0.9", "burst": "false", "usd_per_chip_hour": "2.5"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"lenght_ratio": 0.9}, "unknown column 'lenght_ratio'; the nearest are length_ratio"),
        ({"n_chips": 0}, "n_chips is '0'; allowed are numbers greater than zero"),
        ({"n_chips": 1.5}, "allowed are whole numbers"),
        ({"concurrency": [1, -1]}, "concurrency is '-1'"),
        ({"requests_per_s": 0.0}, "requests_per_s is '0.0'"),
        ({"isl": float("nan")}, "isl is 'nan', which is not a number"),
        ({"objective": "joy"}, "unknown objective 'joy'"),
        ({"mode": ["both"]}, "unknown mode 'both'"),
        ({"isl": None}, "isl is missing; give a number"),
        ({"n_chips": [[1, 2], [3]]}, "n_chips is '.1, 2.', which is not a number"),
        ({"n_chips": [""]}, "n_chips is missing"),
        ({"concurrency": [8, None]}, "concurrency is missing"),
        ({"tpot_ms": "fast"}, "tpot_ms is 'fast', which is not a number"),
        ({"ttft_ms": [100]}, "ttft_ms is .100., which is not a number"),
        ({"model": None}, "model is None; give a name as text"),
        ({"chip": 5}, "chip is 5; give a name as text"),
        ({"framework": ["vllm", 5]}, "framework is 5; give a name as text"),
        ({"objective": None}, "objective is None; give a name as text"),
        ({"confidence": None}, "confidence is missing"),
        ({"confidence": 79.5}, "confidence is 79.5; allowed are whole numbers"),
        (
            {"framework_version": "vllm-0.5"},
            "give one of .*, trtllm-1.0, trtllm-engine, vllm-0.12, .* as framework",
        ),
    ],
)
def test_what_cannot_be_asked_is_said_to_be_so(asked: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        ask(**SMALL | asked)


def test_none_is_what_is_left_out_and_text_may_be_a_number():
    names = ("chip", "n_chips", "concurrency", "framework", "tpot_ms")
    left_out: dict[str, Any] = dict.fromkeys(names)
    assert str(ask(**SMALL, **left_out)) == str(ask(**SMALL))
    texts: dict[str, Any] = {"tpot_ms": "10", "confidence": "90", "speculative_tokens": "1"}
    found = ask(**SMALL, **texts)
    assert (found.limits.tpot_ms, found.confidence, found.speculative_tokens) == (10, 90, (1,))


@pytest.mark.parametrize("top", [None, "", "few", 1.5, 0])
def test_a_number_of_rows_that_there_cannot_be_is_refused(top: Any):
    with pytest.raises(InputError, match="top is"):
        pm.recommend(**SMALL, chip="h100-sxm", n_chips=1, top=top)


@pytest.mark.parametrize("framework", ["tgi", "nccl", "TensorRT-LLM"])
def test_a_framework_whose_serving_is_not_known_is_not_recommended(framework: str):
    question = ask(**SMALL, chip="h100-sxm", n_chips=1, framework=framework)
    with pytest.raises(InputError, match=r"give cerebras, sambanova, sglang, trtllm, vllm, "):
        check(question)


def test_an_older_version_is_a_framework():
    check(ask(**SMALL, chip="h100-sxm", n_chips=1, framework="vllm-0.5"))


def test_a_range_that_there_is_not_is_refused_before_any_work():
    question: Question = ask(**SMALL, chip="h100-sxm", n_chips=1, confidence=95)
    with pytest.raises(InputError, match="the levels are 50, 80, 90"):
        check(question)


def test_a_column_that_is_an_option_is_not_set_twice():
    with pytest.raises(InputError, match="n_chips has an option of its own; give --n-chips"):
        cells_of(["n_chips=8"])


ASKED: dict[str, Any] = {"chip": "h100-sxm", "n_chips": 1, "framework": "vllm", "precision": "fp8"}
LIMITS: dict[str, Any] = {"tpot_ms": 10, "confidence": 50, "objective": "cost"}


@pytest.mark.long
def test_python_and_the_command_give_the_same_rows():
    found = pm.recommend(**SMALL, **ASKED, **LIMITS, concurrency=[1, 16], length_ratio=0.9)
    options = [f"--{k.replace('_', '-')}={v}" for k, v in (SMALL | ASKED | LIMITS).items()]
    words = [*options, "--concurrency", "1,16", "--set", "length_ratio=0.9", "--json"]
    status, out, err = run("recommend", *words)
    assert (status, err) == (0, "")
    assert json.loads(out) == found.as_dict()
    (best,) = found.deployments
    assert best["concurrency"] == 16 and best["tpot_ms_at_confidence"] <= 10
    assert "h100-sxm" in str(found) and "<td>vllm</td>" in found._repr_html_()
    assert "prefill_chip" not in str(found)
