"""A small model begins an answer and a large one goes on."""

import pytest
from command import predict_changes, run

from perfmodel.errors import InputError
from perfmodel.inference.cascade import cascaded_rows

CELLS = {"chip": "h100", "n_chips": "1", "model": "llama-3.2-1b", "isl": "1000", "osl": "500"}
CELLS |= {"concurrency": "16", "large_model": "llama-3.1-8b", "large_n_chips": "1"}


def _predicted(*changes: dict[str, str]) -> list[dict[str, str]]:
    return predict_changes(CELLS, *changes)


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
