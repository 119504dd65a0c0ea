"""Sparse attention: an indexer, a choice, and attention over what is chosen."""

import jax.numpy as jnp
import pytest

from perfmodel.hardware.chip import restrict
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.kernels.residency import Residency
from perfmodel.kernels.sparse_attention import (
    KINDS,
    Sequences,
    SparseAttention,
    form_of,
    index_matrix,
    sparse_attention,
)
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar, as_values
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""

TWINS = 1e-3
"""Relative: smooth minima bend by less, a factor of eight from their corner."""


def run(
    kind: str,
    queries: float,
    context: float,
    topk: float = 0,
    name: str = "h100-sxm",
    heads: float = 8,
    residency: Residency | None = None,
    **sizes: float,
) -> list[Work]:
    """Two sequences, eight heads, a cache in fp8."""
    prompt = 1.0 if queries > 1 else 0.0
    text = Sequences(*[as_scalar(x) for x in (2, queries, context, prompt)])
    form = form_of(as_scalar(KINDS.index(kind)))
    form = form._replace(**{name: as_scalar(size) for name, size in sizes.items()})
    plan, most = Plan(cache="fp8"), as_scalar(topk)
    return sparse_attention(load_chip(name), plan, text, as_scalar(heads), most, form, residency)


def test_the_indexer_reads_a_key_of_each_entry():
    # 2 x 65,536 keys of 128 bytes in fp8 and a scale of 4; 2 x 65,536 scores of 4 bytes stay in the cache.
    indexer, *_ = run("dsa", 1, 65536)
    assert indexer.demand.main == pytest.approx(2 * 65536 * 132, rel=TWINS)
    assert indexer.demand.shared == pytest.approx(2 * 65536 * (132 + 4), rel=ROUNDING)
    assert indexer.demand.matrix == pytest.approx(2 * 64 * 128 * 2 * 65536, rel=ROUNDING)


def test_scores_are_multiplied_in_fp8_and_rectified_by_vector_units():
    # Of 64 heads: two instructions of two FLOP each for a score.
    indexer, *_ = run("dsa", 1, 65536)
    assert indexer.dtype == "fp8"
    assert indexer.demand.vector == pytest.approx(4 * 64 * 2 * 65536, rel=ROUNDING)


def test_matrix_units_wait_while_scores_are_rectified():
    chip = load_chip("h100-sxm")
    fitted = float(chip.efficiency.gemm.sustained)
    # A score of one head: 256 FLOP in fp8, then 4 of the vector units.
    products, sums = (
        256 / (float(as_values(chip.rates("fp8").matrix)) * fitted),
        4 / float(chip.vector),
    )
    indexer, *_ = run("dsa", 1, 65536)
    expected = fitted * products / (products + sums)
    assert float(as_values(indexer.shares.matrix)) == pytest.approx(expected, rel=ROUNDING)


def test_keys_in_16_bits_are_multiplied_in_them():
    # MiniMax's: 256 FLOP in bf16, given as a share of the rate in fp8.
    chip = load_chip("h100-sxm")
    fitted = float(chip.efficiency.gemm.sustained)
    slow, fast = (float(as_values(chip.rates(k).matrix)) for k in ("bf16", "fp8"))
    products, sums = 256 / (slow * fitted), 4 / float(chip.vector)
    indexer, *_ = run("msa", 1, 65536)
    expected = slow / fast * fitted * products / (products + sums)
    assert float(as_values(indexer.shares.matrix)) == pytest.approx(expected, rel=ROUNDING)


def test_without_units_for_fp8_scores_are_multiplied_in_bf16():
    assert index_matrix(load_chip("a100-sxm")) == "bf16"
    assert index_matrix(restrict(load_chip("h100-sxm"), ["bf16", "fp8"])) == "fp8"


def test_the_indexer_of_a_prompt_looks_back():
    # 100 tokens after 900: they see 901, 902 to 1,000 entries.
    indexer, *_ = run("dsa", 100, 1000)
    assert indexer.demand.matrix == pytest.approx(2 * 64 * 128 * 200 * 950.5, rel=ROUNDING)


def test_scores_are_read_twice_and_what_is_picked_is_written():
    _, choice, *_ = run("dsa", 1, 65536)
    assert choice.demand.shared == pytest.approx(2 * (65536 + 2048) * 8, rel=ROUNDING)


def test_blocks_have_one_score_and_keys_in_bf16_whatever_the_cache():
    # 2 x 65,536 keys of 256 bytes; 2 x 512 scores of 4 bytes; 512 blocks are read, 16 picked.
    indexer, choice, *_ = run("msa", 1, 65536)
    assert indexer.demand.main == pytest.approx(2 * 65536 * 256, rel=TWINS)
    assert indexer.demand.shared == pytest.approx(2 * 65536 * 256 + 2 * 512 * 4, rel=ROUNDING)
    assert choice.demand.shared == pytest.approx(2 * (512 + 16) * 8, rel=ROUNDING)


def test_attention_sees_what_is_picked():
    # 2 x 2,048 latents of 576 bytes, whatever the context; 8 heads.
    *_, attention, prompt = run("dsa", 1, 65536, residency=Residency(far=1.0))
    assert attention.demand.far == pytest.approx(2 * 2048 * 576, rel=TWINS)
    assert attention.demand.matrix == pytest.approx(2 * 1088 * 8 * 2 * 2048, rel=ROUNDING)
    assert prompt.demand.matrix == prompt.latency == 0


def test_a_decode_step_splits_what_is_picked_and_sums_the_parts():
    # 2 blocks of 32 tiles of 64 entries on 132 cores: none split, then as many as half, once, twice fill.
    *_, attention, _ = run("dsa", 1, 65536)
    assert attention.occupancy.shape == attention.latency.shape == (4,)
    assert attention.latency[3] > attention.latency[0]
    assert jnp.all(attention.occupancy[1:] > attention.occupancy[0])


def test_a_row_may_pick_fewer():
    *_, attention, _ = run("dsa", 1, 65536, topk=512)
    assert attention.demand.matrix == pytest.approx(2 * 1088 * 8 * 2 * 512, rel=ROUNDING)


def test_kernels_are_padded_to_what_may_be_picked():
    # A hundred tokens: 2,048 entries are multiplied all the same, but only those there are read.
    *_, attention, _ = run("dsa", 1, 100, residency=Residency(far=1.0))
    assert attention.demand.matrix == pytest.approx(2 * 1088 * 8 * 2 * 2048, rel=ROUNDING)
    assert attention.demand.far == pytest.approx(2 * 100 * 576, rel=TWINS)


def test_the_choice_of_an_earlier_layer_is_seen_without_an_indexer():
    indexer, choice, attention, _ = run("dsa", 1, 65536, index_heads=0, index_key=0)
    assert indexer.demand.matrix == indexer.demand.main == choice.demand.shared == 0
    assert attention.demand.matrix == pytest.approx(2 * 1088 * 8 * 2 * 2048, rel=ROUNDING)


def test_queries_of_a_prompt_share_the_cache_in_main_memory():
    # 2 x 4,096 tokens of 576 bytes, once; each of 2 x 4,096 queries gathers 2,048 of them.
    *_, decode, attention = run("dsa", 4096, 4096)
    assert attention.demand.main == pytest.approx(2 * 4096 * 576, rel=TWINS)
    assert attention.demand.shared == pytest.approx(2 * 4096 * 2048 * 576, rel=ROUNDING)
    assert attention.demand.exponential == pytest.approx(2 * 4096 * 8 * 2048, rel=ROUNDING)
    assert not jnp.any(as_values(decode.demand.matrix)) and jnp.all(decode.latency == 0)


@pytest.mark.parametrize(("heads", "blocks"), [(8, 1), (64, 1), (128, 2)])
def test_a_prompt_has_a_block_for_each_query_and_64_heads(heads: float, blocks: float):
    # 2 x 2 queries on 132 cores, far from the corner of the smooth minimum.
    *_, attention = run("dsa", 2, 4096, heads=heads)
    assert float(attention.occupancy) == pytest.approx(4 * blocks / 132, rel=TWINS)


def test_compressed_entries_stand_for_four_tokens():
    # An indexer over 16,384 entries; 512 of them and a window of 128 are seen.
    indexer, _, attention, _ = run("csa", 1, 65536)
    assert indexer.demand.matrix == pytest.approx(2 * 64 * 128 * 2 * 16384, rel=ROUNDING)
    assert indexer.demand.main == pytest.approx(2 * 16384 * 132, rel=TWINS)
    assert attention.demand.matrix == pytest.approx(2 * 1024 * 8 * 2 * 640, rel=ROUNDING)


def test_heavily_compressed_entries_are_all_seen_without_an_indexer():
    # 65,536 / 128 = 512 entries and a window of 128.
    indexer, choice, attention, _ = run("hca", 1, 65536)
    assert indexer.demand.matrix == 0 and indexer.latency == choice.latency == 0
    assert attention.demand.matrix == pytest.approx(2 * 1024 * 8 * 2 * 640, rel=ROUNDING)


def test_heavily_compressed_entries_of_a_prompt_are_those_before_each_token():
    # 257 tokens after 8,191: 8,448 / 128 = 66 entries for the last, one fewer on average; and 128 tokens.
    *_, attention = run("hca", 257, 8448)
    assert attention.demand.matrix == pytest.approx(2 * 1024 * 8 * 2 * 257 * (65 + 128), rel=1e-5)
    # The windows of all hold 257 + 127 tokens; 66 entries besides.
    assert attention.demand.main == pytest.approx(2 * (66 + 384) * 512, rel=TWINS)


def test_a_window_longer_than_the_text_is_seen_up_to_each_token():
    # Without entries: tokens 1, 2 to 64 see as many.
    *_, attention = run("hca", 64, 64, ratio=float("inf"))
    assert attention.demand.exponential == pytest.approx(2 * 8 * 64 * 65 / 2, rel=ROUNDING)
    assert attention.demand.main == pytest.approx(2 * 64 * 512, rel=TWINS)


def test_few_heads_of_keys_and_values_are_read():
    # MiniMax: 4 heads with 128 numbers of a key and 128 of a value.
    *_, attention, _ = run("msa", 1, 65536)
    assert attention.demand.main == pytest.approx(2 * 2048 * 4 * 256, rel=TWINS)
    assert attention.demand.matrix == pytest.approx(2 * 256 * 8 * 2 * 2048, rel=ROUNDING)


@pytest.mark.parametrize("name", ["lpu-v1", "wse-3"])
def test_a_resident_cache_leaves_main_memory_alone(name: str):
    for queries in (1, 8):
        for work in run("dsa", queries, 65536, name=name):
            assert not work.demand.main and not work.demand.far


def test_a_cache_is_read_where_it_lives():
    far = Residency(far=1.0)
    for queries in (1, 8):
        indexer, _, *attention = run("dsa", queries, 65536, residency=far)
        assert indexer.demand.far == pytest.approx(2 * 65536 * 132, rel=ROUNDING)
        read = float(sum(jnp.max(as_values(work.demand.far)) for work in attention))
        # Eight queries pick 16,384 of 65,536 entries, near the corner of the smooth minimum.
        assert read == pytest.approx(2 * queries * 2048 * 576, rel=TWINS if queries == 1 else 0.01)


def test_a_dataflow_machine_crosses_its_cores_twice_for_scores_and_four_times_for_attention():
    chip = load_chip("wse-3")
    indexer, _, decode, _ = run("dsa", 1, 65536, name="wse-3")
    *_, prompt = run("dsa", 8, 65536, name="wse-3")
    fitted = chip.efficiency
    twice = float(fitted.elementwise.launch + mesh_traversal_time(chip, 2.0))
    often = float(fitted.attention_decode.launch + mesh_traversal_time(chip, 4.0))
    assert float(indexer.latency) == pytest.approx(twice, rel=ROUNDING)
    assert float(decode.latency) == pytest.approx(often, rel=ROUNDING)
    assert float(prompt.latency) == pytest.approx(often, rel=ROUNDING)


@pytest.mark.parametrize(("kind", "picked"), [("hca", float("inf")), ("csa", 512), ("dsa", 2048)])
def test_a_kind_picks_as_many_entries_as_its_own_where_a_row_does_not_say(kind: str, picked: float):
    sizes = dict.fromkeys(("batch", "q_len", "heads"), as_scalar(1.0))
    kind_of = as_scalar(KINDS.index(kind))
    row = SparseAttention(**sizes, ctx_len=as_scalar(4096.0), kind=kind_of, phase=as_scalar(0.0))
    assert float(as_scalar(row.form.default_topk)) == picked
