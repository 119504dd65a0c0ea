"""A cache that overflows the SRAM: more chips, a slow edge, or a pool of HBM."""

import pytest
from command import predict_changes

# 8 texts of 60,000 tokens: 63 GB of cache beside 16 GB of weights, on wafers of 39.6 GB.
CELLS = {"model": "llama-3.1-8b", "isl": "60000", "osl": "1000", "concurrency": "8"}
CELLS |= {"mode": "static_batch", "chip": "wse-3"}
POOL = {"kv_overflow": "pool", "kv_pool_chip": "h100", "kv_pool_chips": "8"}


def _predicted(*changes: dict[str, str]) -> list[dict[str, str]]:
    return predict_changes(CELLS, *changes)


@pytest.mark.long
def test_more_chips_are_fast_an_edge_is_slow_and_a_pool_is_between():
    one = {"n_chips": "1"}
    chips, edge, pool, none = _predicted(
        {"kv_overflow": "chips"}, one | {"kv_overflow": "edge"}, one | POOL, one
    )
    assert float(chips["n_chips"]) > 1 and chips["running"] == "8"
    # What is left on one wafer beside the weights holds two texts: eight run in four waves.
    assert none["running"] == "2" and edge["running"] == pool["running"] == "8"
    assert edge["n_chips"] == pool["n_chips"] == "1" and edge["fits"] == pool["fits"] == "true"
    times = [float(row["tpot_ms"]) for row in (chips, edge)]
    assert times[0] < times[1]
    # At least 16 + 63 - 39.6 GB at 150 GB/s.
    assert times[1] > 1e3 * (16 + 63 - 39.7) / 150
    assert float(pool["tpot_ms"]) <= times[1] * 1.01
    assert float(pool["usd_per_million_output_tokens"]) > 0


@pytest.mark.long
def test_weights_stay_on_the_chip():
    (big,) = _predicted({"model": "llama-3.1-70b", "n_chips": "1", "kv_overflow": "edge"})
    assert big["fits"] == "false" and "bytes short" in big["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kv_overflow": "disk"}, "unknown kv_overflow 'disk'"),
        ({"kv_overflow": "edge", "chip": "lpu-v1"}, "no memory outside; give kv_overflow pool"),
        ({"kv_overflow": "pool"}, "give kv_pool_chip and kv_pool_chips"),
        ({"kv_pool_chip": "h100"}, "is for kv_overflow pool"),
        (POOL | {"kv_pool_chip": "wse-3"}, "no main memory"),
        (POOL | {"kv_pool_chips": "many"}, "allowed are whole numbers"),
    ],
)
def test_a_way_that_cannot_be_is_refused_in_one_sentence(change: dict[str, str], said: str):
    (found,) = _predicted(change)
    assert said in found["error"] and found["tpot_ms"] == ""
