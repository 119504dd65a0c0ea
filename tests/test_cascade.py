"""A small model begins an answer and a large one goes on."""

import math
from pathlib import Path
from typing import Any

import pytest
from command import predict_changes, run

from perfmodel.columns import Columns
from perfmodel.errors import InputError
from perfmodel.inference.cascade import cascaded_rows, predict_cascades

CELLS = {"chip": "h100", "n_chips": "1", "model": "llama-3.2-1b", "isl": "1000", "osl": "500"}
CELLS |= {"concurrency": "16", "large_model": "llama-3.1-8b", "large_n_chips": "1"}


def _predicted(*changes: dict[str, str]) -> list[dict[str, str]]:
    return predict_changes(CELLS, *changes)


@pytest.mark.slow
def test_the_more_the_large_model_writes_the_slower_and_the_times_lie_between_the_models():
    alone = {"large_model": "", "large_n_chips": ""}
    small, less, more, large = _predicted(
        alone, {"large_share": "0.2"}, {"large_share": "0.8"}, alone | {"model": "llama-3.1-8b"}
    )
    times = [float(row["tpot_ms"]) for row in (small, less, more)]
    assert times == sorted(times)
    assert (less["n_chips"], less["large_n_chips"], large["n_chips"]) == ("1", "1", "1")
    rate = float(more["output_tokens_per_s_per_chip"]) * 2
    total = float(more["tpot_with_first_ms"]) * 500 / 1e3
    assert rate == pytest.approx(16 * 500 / total, rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"large_share": "1"}, "between zero and one"),
        ({}, "between zero and one"),
        ({"large_share": "0.5", "large_model": "llama-9"}, "large model: "),
        ({"large_share": "0.5", "large_model": "llama-3.1-70b"}, "large model: "),
        ({"large_share": "0.5", "concurrency": ""}, "concurrency is missing"),
        ({"large_share": "0.5", "mode": "offline"}, "for mode serving"),
    ],
)
def test_a_cascade_that_cannot_be_is_refused_in_one_sentence(change: dict[str, str], said: str):
    (found,) = _predicted(change)
    assert said in found["error"] and found["tpot_ms"] == ""


def test_columns_as_they_were_called_are_refused_with_their_new_names():
    with pytest.raises(InputError, match="begin with large_ now; rename boss_model, boss_share"):
        cascaded_rows({"boss_model": ["llama-3.1-8b"], "boss_share": ["0.5"], "boss_tp": [""]})


def test_a_row_with_two_models_has_no_one_step_to_explain():
    words = [f"{name}={value}" for name, value in (CELLS | {"large_share": "0.5"}).items()]
    status, _, err = run("explain", *words)
    assert status == 2 and "large_model is for two pools or two models" in err


# Two models of known times: of 100 tokens the small one writes 60, in 0.1 + 59 x 0.005 s, the large one
# reads 1,060 and writes 40, in 0.2 + 39 x 0.02 s.
BY_HAND = {"model": "small", "large_model": "large", "chip": "a", "large_chip": "", "isl": "1000"}
BY_HAND |= {"osl": "100", "concurrency": "11", "large_share": "0.4", "mode": "serving"}
SMALL: dict[str, Any] = {"ttft_ms": 100.0, "tpot_ms": 5.0, "n_chips": 1.0, "bound": "memory"}
SMALL |= {"output_tokens_per_s_per_chip": 1000.0, "usd_per_million_output_tokens": 1.0}
SMALL |= {"joules_per_output_token": 1.0, "joules_per_output_token_at_wall": 2.0, "running": 3.0}
SMALL |= {"cost_basis": "cost", "basis": "measured", "fits": "true", "error": ""}
LARGE = SMALL | {"ttft_ms": 200.0, "tpot_ms": 20.0, "n_chips": 2.0, "bound": "compute"}
LARGE |= {"usd_per_million_output_tokens": 5.0, "joules_per_output_token": 6.0, "running": 4.0}


def with_ranges(row: dict[str, Any]) -> dict[str, Any]:
    """All ends are a tenth off."""
    names = ("ttft_ms", "tpot_ms", "usd_per_million_output_tokens")
    low, high = (
        {f"{n}_{end}": x * row[n] for n in names} for end, x in (("low", 0.9), ("high", 1.1))
    )
    return row | low | high


def cascade(**changes: Any) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """A row predicted of `SMALL` and `LARGE`, and the rows that were asked, in their order."""
    asked: list[dict[str, str]] = []
    known = {"small": SMALL, "large": LARGE | changes.pop("large", {})}

    def predict(cells: dict[str, list[str]], count: int, _: Path) -> Columns:
        rows = [{name: column[i] for name, column in cells.items()} for i in range(count)]
        asked.extend(rows)
        found = [with_ranges(known[row["model"]]) for row in rows]
        return {name: [row[name] for row in found] for name in found[0]}

    row = BY_HAND | changes
    columns = predict_cascades({n: [x] for n, x in row.items()}, [0], Path(), predict)
    return {name: column[0] for name, column in columns.items()}, asked


def test_each_model_has_its_part_of_the_text_and_its_share_of_the_users():
    _, asked = cascade()
    small, large = asked[-2:]
    assert (float(small["isl"]), float(small["osl"])) == (1000, 60)
    assert (float(large["isl"]), float(large["osl"])) == (1060, 40)
    assert large["chip"] == "a" and "large_model" not in small
    seconds = 0.1 + 59 * 0.005, 0.2 + 39 * 0.02
    with_small = seconds[0] / sum(seconds)
    assert float(small["concurrency"]) == pytest.approx(11 * with_small)
    assert float(large["concurrency"]) == pytest.approx(11 * (1 - with_small))
    _, alone = cascade(concurrency="0.1")
    assert float(alone[-2]["concurrency"]) == 0.05  # so that it has a time
    _, elsewhere = cascade(large_chip="b")
    assert elsewhere[-1]["chip"] == "b"


def test_both_models_together_are_the_sum_of_their_parts():
    found, _ = cascade()
    total = 0.1 + 59 * 0.005 + 0.2 + 39 * 0.02
    rate = 11 * 100 / total
    hour = 3600e-6 * (1.0 * 1000 * 1 + 5.0 * 1000 * 2)  # USD of both for an hour
    expected = {
        "ttft_ms": 100, "ttft_ms_low": 90, "ttft_ms_high": 110,
        "tpot_ms": (1e3 * total - 100) / 99, "tpot_ms_high": 1.1 * (1e3 * total - 100) / 99,
        "tpot_with_first_ms": 10 * total, "output_tokens_per_s_per_chip": rate / 3,
        "output_tokens_per_s_per_user": 99 / (total - 0.1), "total_tokens_per_s": 11 * rate,
        "running": 7, "n_chips": 1, "large_n_chips": 2, "joules_per_output_token": 0.6 + 0.4 * 6,
        "joules_per_output_token_at_wall": 2, "usd_per_chip_hour": hour / 3,
        "usd_per_million_output_tokens": hour / 3600 / rate * 1e6,
        "usd_per_million_output_tokens_low": 0.9 * hour / 3600 / rate * 1e6,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert (found["bound"], found["fits"], found["error"]) == ("compute", "true", "")


def test_what_takes_longer_binds_and_what_is_not_known_of_one_is_not_known():
    quick = {"ttft_ms": 10.0, "tpot_ms": 1.0, "joules_per_output_token": ""}
    found, _ = cascade(large=quick | {"usd_per_million_output_tokens": 0.0})
    assert found["bound"] == "memory"
    assert math.isnan(found["joules_per_output_token"])
    wrong, _ = cascade(large={"error": "too large", "fits": "false"})
    assert wrong["error"] == "large model: too large" and wrong["fits"] == "false"
