"""A small model begins an answer and a large one goes on."""

import pytest
from command import predict_changes

CELLS = {"chip": "h100", "n_chips": "1", "model": "llama-3.2-1b", "isl": "1000", "osl": "500"}
CELLS |= {"concurrency": "16", "boss_model": "llama-3.1-8b", "boss_n_chips": "1"}


def _predicted(*changes: dict[str, str]) -> list[dict[str, str]]:
    return predict_changes(CELLS, *changes)


def test_the_more_the_boss_writes_the_slower_and_the_times_lie_between_the_models():
    alone = {"boss_model": "", "boss_n_chips": ""}
    worker, little, much, boss = _predicted(
        alone, {"boss_share": "0.2"}, {"boss_share": "0.8"}, alone | {"model": "llama-3.1-8b"}
    )
    times = [float(row["tpot_ms"]) for row in (worker, little, much)]
    assert times == sorted(times)
    assert little["n_chips"] == "2" and boss["n_chips"] == "1"
    rate = float(much["output_tokens_per_s_per_chip"]) * 2
    total = float(much["tpot_with_first_ms"]) * 500 / 1e3
    assert rate == pytest.approx(16 * 500 / total, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"boss_share": "1"}, "between zero and one"),
        ({}, "between zero and one"),
        ({"boss_share": "0.5", "boss_model": "llama-9"}, "boss: "),
        ({"boss_share": "0.5", "boss_model": "llama-3.1-70b"}, "boss: "),
        ({"boss_share": "0.5", "concurrency": ""}, "concurrency is missing"),
        ({"boss_share": "0.5", "mode": "offline"}, "for mode serving"),
    ],
)
def test_a_relay_that_cannot_be_is_refused_in_one_sentence(change: dict[str, str], said: str):
    (found,) = _predicted(change)
    assert said in found["error"] and found["tpot_ms"] == ""
