"""Shapes of models: what they count, cache and keep."""

import math

import jax
import jax.numpy as jnp
import pytest

from perfmodel.workload.attention import Compressed, Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.model import (
    Layer,
    Stack,
    Transformer,
    cache_numbers,
    layer_parameters,
    parameters,
    traced,
)

WINDOW_ONLY = Compressed(4, 16, 8, 2, 6, window=32)
SPARSE = Compressed(4, 16, 8, 2, 6, 32, 4, 2, 8, index_heads=3, index_key=5, index_most=7)
HEAVY = Compressed(4, 16, 8, 2, 6, window=32, ratio=128, overlap=1, pending=128)


def model(*layers: Layer, **changes) -> Transformer:
    """A small model of the given layers."""
    return Transformer(10, 100, tuple(Stack(layer, 3) for layer in layers), **changes)


def alone(attention) -> Transformer:
    """A model of three layers of attention alone."""
    return model(Layer(attention, None))


def weights(attention, hidden: int) -> int:
    """Weights of attention."""
    return layer_parameters(Layer(attention, None), hidden)


def test_grouped_attention_counts_its_four_projections():
    # Llama-3.1-8B: queries and output 4096 x 4096, keys and values 4096 x 1024 each.
    assert weights(Grouped(32, 8, 128, 128), 4096) == 2 * 4096 * 4096 + 2 * 4096 * 1024


def test_multi_query_attention_caches_one_key_and_one_value():
    assert Grouped(71, 1, 64, 64).cached() == 128


def test_keys_and_values_may_differ_in_size():
    # MiMo-V2: queries 64 x 192, keys 4 x 192, values 4 x 128, output 64 x 128.
    expected = 4096 * (64 * 192 + 4 * 192 + 4 * 128 + 64 * 128)
    assert weights(Grouped(64, 4, 192, 128), 4096) == expected


def test_an_output_gate_adds_as_many_columns_as_it_gates():
    plain = weights(Grouped(16, 2, 256, 256), 2048)
    assert weights(Grouped(16, 2, 256, 256, gate=256), 2048) - plain == 2048 * 16 * 256
    assert weights(Grouped(16, 2, 256, 256, gate=1), 2048) - plain == 2048 * 16


def test_values_made_from_keys_need_no_projection_but_are_cached():
    joint = Grouped(16, 2, 512, 512, joint=1)
    apart = Grouped(16, 2, 512, 512)
    assert weights(apart, 2816) - weights(joint, 2816) == 2816 * 2 * 512
    assert joint.cached() == apart.cached()


def test_an_indexer_of_grouped_attention_has_many_queries_and_one_key():
    # MiniMax-M3: 4 queries and 1 key of 128; the key is cached beside keys and values.
    indexed = Grouped(64, 4, 128, 128, index_heads=4, index_key=128, index_most=2048)
    plain = Grouped(64, 4, 128, 128)
    assert weights(indexed, 6144) - weights(plain, 6144) == 6144 * 5 * 128
    assert indexed.cached() - plain.cached() == 128


def test_a_window_stops_the_cache():
    attention = Grouped(8, 2, 16, 16, window=100)
    assert attention.cache_numbers(60) == 60 * 64
    assert attention.cache_numbers(100) == attention.cache_numbers(5000) == 100 * 64


def test_latent_attention_counts_both_bottlenecks():
    # DeepSeek-V3: 7168 x (1536 + 576), 1536 x 128 x 192, 512 x 128 x 256, 128 x 128 x 7168.
    expected = 7168 * 2112 + 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168
    assert weights(Latent(128, 1536, 512, 64, 128, 128), 7168) == expected


def test_latent_attention_without_a_query_bottleneck_projects_from_the_stream():
    # DeepSeek-V2-Lite: queries 2048 x 16 x 192.
    expected = 2048 * 576 + 2048 * 16 * 192 + 512 * 16 * 256 + 16 * 128 * 2048
    assert weights(Latent(16, 0, 512, 64, 128, 128), 2048) == expected


def test_latent_attention_caches_the_latent_the_rotary_key_and_the_indexer_key():
    assert Latent(128, 1536, 512, 64, 128, 128).cached() == 576
    assert Latent(128, 1536, 512, 64, 128, 128, 0, 64, 128, 2048).cached() == 704


def test_compressed_attention_counts_its_bottlenecks():
    # Queries 10 x 8 and 8 x 64; the key 10 x 16; output 2 groups of 32 x 6, then 12 x 10.
    plain = 10 * 8 + 8 * 64 + 10 * 16 + 2 * 32 * 6 + 12 * 10
    assert weights(WINDOW_ONLY, 10) == plain
    # One entry for each token: its value and its weight, 16 each.
    assert weights(HEAVY, 10) == plain + 10 * 2 * 16
    # Two entries, of 16 and of the indexer's 5; its queries 8 x 3 x 5, its weights 10 x 3.
    assert weights(SPARSE, 10) == plain + 10 * 2 * 2 * 21 + 8 * 15 + 10 * 3


def test_compressed_attention_keeps_a_window_entries_and_what_is_pending():
    assert WINDOW_ONLY.cache_numbers(20) == 20 * 16
    assert WINDOW_ONLY.cache_numbers(1000) == 32 * 16
    # 1024 tokens are 8 entries of 128; 128 tokens wait with value and weight.
    assert HEAVY.cache_numbers(1024) == 32 * 16 + 8 * 16 + 2 * 128 * 16
    # 1024 tokens are 256 entries of 4, of 16 + 5 numbers; 8 tokens wait twice.
    assert SPARSE.cache_numbers(1024) == 32 * 16 + 256 * 21 + 2 * 2 * 8 * 21


def test_a_recurrent_state_does_not_grow():
    attention = Recurrent(32, 128, 128, 12352, 8192, 4, kind="gdn")
    assert (
        attention.cache_numbers(10) == attention.cache_numbers(100_000) == 32 * 128 * 128 + 8192 * 3
    )
    assert attention.cached() == 0


def test_low_rank_gates_count_both_products():
    attention = Recurrent(4, 8, 8, 100, 96, 4, gate_rank=8, gate_columns=64, kind="kda")
    assert weights(attention, 10) == 10 * 100 + 8 * 64 + 32 * 10


def test_a_mixture_counts_experts_router_and_shared_part():
    # Mixtral-8x7B: 8 x 3 x 4096 x 14336 and a router of 4096 x 8.
    mixture = Mixture(8, 2, 14336)
    assert mixture.parameters(4096) == 8 * 3 * 4096 * 14336 + 4096 * 8
    assert mixture.parameters(4096, active=True) == 2 * 3 * 4096 * 14336 + 4096 * 8
    shared = Mixture(8, 2, 14336, shared=100)
    assert shared.parameters(4096) - mixture.parameters(4096) == 3 * 4096 * 100


def test_experts_in_a_bottleneck_are_as_wide_as_it():
    # Nemotron 3 Super: without gates, 1024 wide, reached by two products of 4096 x 1024.
    mixture = Mixture(512, 22, 2688, width=1024, gated=False)
    assert mixture.parameters(4096) == 512 * 2 * 1024 * 2688 + 4096 * 512 + 2 * 4096 * 1024


def test_biases_of_experts_that_rest_are_not_active():
    mixture = Mixture(4, 1, 10, bias=7)
    plain = Mixture(4, 1, 10)
    assert mixture.parameters(5) - plain.parameters(5) == 4 * 7
    assert mixture.parameters(5, active=True) - plain.parameters(5, active=True) == 7


def test_a_tied_head_is_counted_once():
    layer = Layer(None, Dense(30), 5)
    assert parameters(model(layer)) == 2 * 1000 + 3 * (900 + 5)
    assert parameters(model(layer, tied=True)) == 1000 + 3 * (900 + 5)


def test_a_token_uses_the_head_but_not_the_embedding():
    layer = Layer(None, Dense(30), 5)
    assert parameters(model(layer), active=True) == 1000 + 3 * (900 + 5)


def test_the_cache_adds_up_over_stacks():
    layers = [Layer(Grouped(2, 1, 4, 4), None), Layer(Grouped(2, 1, 4, 4, window=10), None)]
    assert cache_numbers(model(*layers)) == 3 * 8 + 3 * 8
    assert cache_numbers(model(*layers), 100) == 3 * 8 * 100 + 3 * 8 * 10


def test_layers_without_attention_cache_nothing():
    assert cache_numbers(model(Layer(None, Dense(30)))) == 0


@pytest.mark.parametrize("attention", [WINDOW_ONLY, SPARSE, HEAVY, Grouped(2, 1, 4, 4, window=10)])
def test_traced_models_count_the_same(attention):
    plain, other = alone(attention), traced(alone(attention))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(other))
    assert math.isclose(jax.jit(parameters)(other), parameters(plain), rel_tol=1e-6)
    kept = jax.jit(cache_numbers)(other, jnp.asarray(1000.0))
    assert math.isclose(kept, cache_numbers(plain, 1000), rel_tol=1e-6)


def test_experts_without_a_bottleneck_can_be_counted_when_traced():
    plain = model(Layer(None, Mixture(8, 2, 30)))
    assert math.isclose(jax.jit(parameters)(traced(plain)), parameters(plain), rel_tol=1e-6)


def test_two_ranks_share_the_projections():
    attention = Recurrent(4, 8, 8, 100, 96, 4, kind="gdn")
    assert attention.inputs(10, 2) == [(10, 50)]
    (rows, columns), (last, hidden) = SPARSE.outputs(10, 2)
    assert (rows, columns, last, hidden) == (32, 6, 6, 10)
