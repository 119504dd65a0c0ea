"""Sparse attention: an indexer, a choice, and attention over what is chosen."""

import pytest

from perfmodel.kernels.sparse import FORMS, Text, sparse
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""

TWINS = 1e-3
"""Relative: smooth minima bend by less, a factor of eight from their corner."""


def run(
    kind: str, queries: float, context: float, topk: float = 0, name: str = "h100-sxm"
) -> list[Work]:
    """Two sequences, eight heads, a cache in fp8."""
    prompt = 1.0 if queries > 1 else 0.0
    text = Text(*[as_scalar(x) for x in (2, queries, context, prompt)])
    plan = Plan(cache="fp8")
    return sparse(load_chip(name), plan, text, as_scalar(8), as_scalar(topk), FORMS[kind])


def test_the_indexer_reads_a_key_of_each_entry():
    # 2 x 65,536 keys of 128 bytes, in fp8; 2 x 65,536 scores of 4 bytes stay in the cache.
    indexer, _, _ = run("dsa", 1, 65536)
    assert indexer.demand.main == pytest.approx(2 * 65536 * 128, rel=TWINS)
    assert indexer.demand.matrix == pytest.approx(2 * 64 * 128 * 2 * 65536, rel=ROUNDING)


def test_the_indexer_of_a_prompt_looks_back():
    # 100 tokens after 900: each sees 950 entries on average.
    indexer, _, _ = run("dsa", 100, 1000)
    assert indexer.demand.matrix == pytest.approx(2 * 64 * 128 * 200 * 950, rel=ROUNDING)


def test_scores_are_read_twice_and_what_is_picked_is_written():
    _, choice, _ = run("dsa", 1, 65536)
    assert choice.demand.shared == pytest.approx(2 * (65536 + 2048) * 8, rel=ROUNDING)


def test_attention_sees_what_is_picked():
    # 2 x 2,048 latents of 576 bytes, whatever the context; 8 heads.
    _, _, attention = run("dsa", 1, 65536)
    assert attention.demand.main == pytest.approx(2 * 2048 * 576, rel=TWINS)
    assert attention.demand.matrix == pytest.approx(2 * 1088 * 8 * 2 * 2048, rel=ROUNDING)


def test_a_row_may_pick_fewer():
    _, _, attention = run("dsa", 1, 65536, topk=512)
    assert attention.demand.matrix == pytest.approx(2 * 1088 * 8 * 2 * 512, rel=ROUNDING)


def test_kernels_are_padded_to_what_may_be_picked():
    # A hundred tokens: 2,048 entries are multiplied all the same, but only those there are read.
    _, _, attention = run("dsa", 1, 100)
    assert attention.demand.matrix == pytest.approx(2 * 1088 * 8 * 2 * 2048, rel=ROUNDING)
    assert attention.demand.main == pytest.approx(2 * 100 * 576, rel=TWINS)


def test_queries_of_a_prompt_share_the_cache_in_main_memory():
    # 2 x 4,096 tokens of 576 bytes, once; each of 2 x 4,096 queries gathers 2,048 of them.
    _, _, attention = run("dsa", 4096, 4096)
    assert attention.demand.main == pytest.approx(2 * 4096 * 576, rel=TWINS)
    assert attention.demand.shared == pytest.approx(2 * 4096 * 2048 * 576, rel=ROUNDING)


def test_compressed_entries_stand_for_four_tokens():
    # An indexer over 16,384 entries; 512 of them and a window of 128 are seen.
    indexer, _, attention = run("csa", 1, 65536)
    assert indexer.demand.matrix == pytest.approx(2 * 64 * 128 * 2 * 16384, rel=ROUNDING)
    assert attention.demand.matrix == pytest.approx(2 * 1024 * 8 * 2 * 640, rel=ROUNDING)


def test_heavily_compressed_entries_are_all_seen_without_an_indexer():
    # 65,536 / 128 = 512 entries and a window of 128.
    indexer, choice, attention = run("hca", 1, 65536)
    assert indexer.demand.matrix == 0 and indexer.latency == choice.latency == 0
    assert attention.demand.matrix == pytest.approx(2 * 1024 * 8 * 2 * 640, rel=ROUNDING)


def test_few_heads_of_keys_and_values_are_read():
    # MiniMax: 4 heads with 128 numbers of a key and 128 of a value.
    _, _, attention = run("msa", 1, 65536)
    assert attention.demand.main == pytest.approx(2 * 2048 * 4 * 256, rel=TWINS)


@pytest.mark.parametrize("name", ["lpu-v1", "wse-3"])
def test_a_resident_cache_leaves_main_memory_alone(name: str):
    for work in run("dsa", 1, 65536, name=name):
        assert not work.demand.main and not work.demand.far
