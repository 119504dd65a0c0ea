"""Attention of decode steps: bytes of the cache, splits, blocks."""

import dataclasses

import jax.numpy as jnp
import pytest
from attention import EXACT, ROUNDING, decode, prefill, shape

from perfmodel.kernels.attention import latent
from perfmodel.kernels.attention_decode import attention_decode
from perfmodel.kernels.backends.flash_attention_2 import FLASH_ATTENTION_2
from perfmodel.kernels.backends.flash_attention_3 import FLASH_ATTENTION_3
from perfmodel.kernels.backends.trtllm_gen import TRTLLM_GEN_MLA
from perfmodel.kernels.backends.xqa import XQA, XQA_HOPPER
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.kernels.residency import Residency
from perfmodel.library.chip import load_chip
from perfmodel.units import as_scalar, as_values

MLA = tuple(map(as_scalar, (128, 512, 64)))


@pytest.mark.parametrize("kv", [8, 2, 1])
def test_a_cache_is_read_once_for_each_head_that_it_has(kv: float):
    # 2 sequences x kv heads x 1024 tokens x (128 + 128) numbers of 2 bytes; never x 8 query heads.
    assert decode(shape(8, kv)).demand.main == 2 * kv * 1024 * 256 * 2


def test_the_format_of_the_cache_sets_its_bytes():
    half = decode(shape(8, 2), dataclasses.replace(EXACT, cache="fp8"))
    assert half.demand.main == 2 * 2 * 1024 * 256


@pytest.mark.parametrize("kv", [8, 2, 1])
def test_every_query_head_multiplies_with_every_token(kv: float):
    demand = decode(shape(8, kv)).demand
    # 2 x 8 x 1024 pairs; key and value of 128, a product and a sum for each number.
    assert demand.exponential == 16_384
    assert demand.matrix == 16_384 * 2 * 256


def test_a_block_for_each_query_head_feeds_the_cache_again_and_main_memory_serves_a_share_of_that():
    # TensorRT-LLM falls back where 4 x batch x kv heads x context/128 blocks fill no chip:
    # here 4 x 2 x 1 x 8 = 64 of 132 cores.
    alone = decode(shape(8, 1), dataclasses.replace(EXACT, attention_backend=XQA)).demand
    together = decode(shape(8, 1)).demand
    assert alone.shared is not None and together.shared is not None
    assert alone.main is not None and together.main is not None
    # 2 sequences x 8 heads x (128 + 128) numbers of 2 bytes go in and out, whoever reads the cache.
    fresh = 2 * 8 * 256 * 2
    assert jnp.all(alone.shared - fresh == 8 * (together.shared - fresh))
    again = float(load_chip("h100-sxm").efficiency.attention_decode.kv_reread)
    assert alone.main == pytest.approx(float(together.main) * (1 + 7 * again), rel=ROUNDING)


@pytest.mark.parametrize("cache", ["bf16", "fp8"])
def test_plain_vector_code_pays_for_each_number_whatever_its_format(cache: str):
    # 2 sequences x 64 heads, each with 1024 tokens x (128 + 128) numbers of the one cache they share.
    plan = dataclasses.replace(EXACT, attention_backend=XQA_HOPPER, cache=cache)
    found, fitted = (
        decode(shape(64, 1), plan).demand,
        load_chip("h100-sxm").efficiency.attention_decode,
    )
    assert found.vector == pytest.approx(
        float(fitted.flop_per_element) * 2 * 64 * 1024 * 256, rel=ROUNDING
    )


def test_heads_in_groups_are_left_to_matrix_units():
    grouped_heads = decode(
        shape(64, 8), dataclasses.replace(EXACT, attention_backend=XQA_HOPPER, cache="fp8")
    )
    assert grouped_heads.demand.vector == 0 and decode(shape(64, 1)).demand.vector is None


def test_a_window_bounds_what_is_read_and_multiplied():
    demand = decode(shape(8, 2), window=256.0).demand
    assert demand.main == 2 * 2 * 256 * 256 * 2
    assert demand.exponential == 2 * 8 * 256


def test_a_window_longer_than_the_text_changes_nothing():
    assert decode(shape(8, 2), window=5000.0).demand.main == decode(shape(8, 2)).demand.main


def test_absorbed_latents_are_read_once_for_all_heads():
    demand = decode(latent(*MLA)).demand
    # 512 + 64 numbers for each token; 128 heads multiply with 576 and with 512 of them.
    # Two blocks of 64 heads read it; main memory serves a share of the second reading.
    again = float(load_chip("h100-sxm").efficiency.attention_decode.kv_reread)
    assert demand.main == pytest.approx(2 * 1024 * 576 * 2 * (1 + again), rel=ROUNDING)
    assert demand.matrix == 2 * 128 * 1024 * 2 * (576 + 512)


@pytest.mark.parametrize(("heads", "blocks"), [(16, 1), (32, 2), (128, 1)])
def test_latents_on_blackwell_are_read_by_sixteen_heads_at_a_time_up_to_32(heads: int, blocks: int):
    plan = dataclasses.replace(EXACT, attention_backend=TRTLLM_GEN_MLA)
    shared = decode(latent(as_scalar(heads), *MLA[1:]), plan).demand.shared
    # 1024 tokens are sixteen tiles of 64; queries of 576 and outputs of 512 numbers besides.
    assert shared == 2 * blocks * 1024 * 576 * 2 + 2 * heads * (576 + 512) * 2


def test_flash_attention_3_gives_each_part_as_many_tiles_as_fill_the_cores():
    # 2 x 2 blocks of 8 tiles on 132 cores: one tile for each part, eight parts, no choice.
    found = decode(
        shape(8, 2), dataclasses.replace(EXACT, attention_backend=FLASH_ATTENTION_3)
    ).occupancy
    assert found.tolist() == pytest.approx([32 / 132] * 4, rel=ROUNDING)


def test_a_cache_is_split_to_fill_the_cores():
    # 4 blocks on 132 cores: 16, 33 or 66 parts would fill them half, once, twice; 8 tiles allow 8.
    found = decode(shape(8, 2)).occupancy
    assert found.tolist() == pytest.approx([4 / 132, *[32 / 132] * 3], rel=ROUNDING)


def test_a_split_cache_pays_for_its_reduction():
    chip, latency = load_chip("h100-sxm"), decode(shape(8, 2)).latency
    fitted = chip.efficiency.attention_decode
    # 8 parts of 2 x 8 x 128 outputs, 4 bytes out and 4 back.
    traffic = 8 * 8 * 2048 / (chip.shared.bandwidth * fitted.feed)
    expected = float(fitted.splitkv_reduction + traffic)
    assert latency[1] - latency[0] == pytest.approx(expected, rel=1e-4)  # of a difference


def test_a_cache_is_read_where_it_lives():
    demand = decode(shape(8, 2), name="wse-3", residency=Residency(private=0.75, far=0.25)).demand
    cache = 2 * 2 * 1024 * 256 * 2
    assert (demand.private, demand.main, demand.far) == (0.75 * cache, 0, 0.25 * cache)


def test_a_dataflow_machine_crosses_its_cores_four_times():
    chip = load_chip("wse-3")
    for work, fitted in (
        (decode(shape(8, 2), name="wse-3"), chip.efficiency.attention_decode),
        (prefill(shape(8, 2), name="wse-3"), chip.efficiency.attention_prefill),
    ):
        expected = float(fitted.launch + mesh_traversal_time(chip, 4.0))
        assert work.latency == pytest.approx(expected, rel=ROUNDING)


def test_vector_units_multiply_no_queries_that_are_not_there():
    # Four queries of each cache; matrix units take 16. 1,024 tokens are eight tiles of 128.
    for name, multiplied in (("m3-ultra", 4), ("h100-sxm", 16)):
        sustained = float(load_chip(name).efficiency.attention_decode.sustained)
        share = as_values(decode(shape(8, 2), name=name).shares.matrix)
        assert share == pytest.approx(sustained * 4 / multiplied, rel=ROUNDING)


def test_one_core_that_fetches_ahead_waits_for_the_first_part_of_a_cache_alone():
    # Two sequences and four heads of 1,024 x 256 numbers of 2 bytes are one stream on the one core of a TPU.
    chip = load_chip("tpu-v6e")
    fitted, feed, fresh = chip.efficiency.attention_decode, 2 * 4 * 1024 * 256 * 2, 2 * 2 * 8 * 256
    stream = feed / float(chip.shared.bandwidth * fitted.feed)
    filled = stream / (stream + float(fitted.block_start))
    share = (feed + fresh) / (feed / (float(fitted.feed) * filled) + fresh)
    found = as_values(decode(shape(8, 4), name="tpu-v6e").shares.shared)[0]
    assert found == pytest.approx(share, rel=ROUNDING)


def test_a_group_s_rows_pad_what_the_matrix_units_take():
    # 2 heads of a group fill 2 of 16 rows; 8 tiles of 128 tokens, no padding of tokens.
    chip = load_chip("h100-sxm")
    share = decode(shape(4, 2)).shares.matrix
    assert share is not None
    expected = float(chip.efficiency.attention_decode.sustained) * 2 / 16
    assert jnp.ravel(share)[0] == pytest.approx(expected, rel=ROUNDING)


def test_a_last_tile_is_multiplied_whole():
    # 1,025 tokens are nine tiles of 128, of which 127 places are empty.
    chip = load_chip("h100-sxm")
    work = attention_decode(chip, EXACT, as_scalar(2), as_scalar(1025), shape(32, 2))
    expected = float(chip.efficiency.attention_decode.sustained) * 1025 / 1152
    assert work.shares.matrix is not None
    assert jnp.ravel(work.shares.matrix)[0] == pytest.approx(expected, rel=ROUNDING)


def test_a_window_that_cuts_a_tile_reads_one_more():
    # 256 of 1,024 tokens: two tiles and the one that is cut; of a text as long as it, two.
    cut = decode(shape(8, 2), window=256.0).demand.shared
    whole = attention_decode(
        load_chip("h100-sxm"), EXACT, as_scalar(2), as_scalar(256), shape(8, 2), window=256.0
    ).demand.shared
    # 2 sequences x 2 heads x 128 tokens x 256 numbers of 2 bytes are one tile of each block.
    assert cut is not None and whole is not None
    assert jnp.all(cut - whole == 2 * 2 * 128 * 256 * 2)


def test_queries_and_outputs_pass_once_and_each_sequence_takes_its_time():
    chip = load_chip("h100-sxm")
    fitted = chip.efficiency.attention_decode
    latency = decode(shape(8, 2)).latency[0]
    # 2 x 8 heads x 256 numbers of 2 bytes.
    passes = 8192 * float(fitted.rope_passes) / float(chip.main.bandwidth * fitted.streaming)
    expected = float(fitted.launch) + 2 * float(fitted.per_sequence) + passes
    assert float(latency) == pytest.approx(expected, rel=1e-4)


def test_copies_of_a_backend_take_their_time_besides():
    chip = load_chip("h100-sxm")
    plain, copied = (
        decode(shape(16, 2), dataclasses.replace(EXACT, attention_backend=b), window=w).latency[0]
        for b, w in ((FLASH_ATTENTION_2, 256.0), (FLASH_ATTENTION_2, 4096.0))
    )
    # A window of any length leaves groups apart: no transposes, and no split.
    assert float(plain) == float(copied)
    folded = decode(
        shape(16, 2), dataclasses.replace(EXACT, attention_backend=FLASH_ATTENTION_2)
    ).latency[0]
    more = float(folded - plain)
    assert more == pytest.approx(float(chip.efficiency.attention_decode.extra_pass), rel=1e-3)
