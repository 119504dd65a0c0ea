"""Mixture of experts: experts touched, tiles padded, the hottest rank."""

import equinox as eqx
import jax
import pytest

from perfmodel.hardware.chip import Chip
from perfmodel.kernels.moe import Moe
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.kernels.residency import Residency, replay_read_time
from perfmodel.kernels.routing import Load, balanced, loads, power_law, random
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.workload.backend import SMOOTH_MOE
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit; `random` carries a guard of 1e-6."""

EXPERT = 3 * 1024 * 512
"""Numbers of one expert: gate, value and the way back, 1024 by 512."""


def run(
    tokens: float = 64,
    tensor: float = 1,
    ranks: float = 1,
    routing: float = 0,
    name: str = "h100-sxm",
    gated: float = 1,
    residency: Residency | None = None,
    replay: bool = False,
    chip: Chip | None = None,
) -> Work:
    """Two of eight experts of 1024 x 512 for each token; 64 tokens touch all."""
    sizes = [as_scalar(x) for x in (tokens, 1024, 512, 2, 8, tensor, ranks, routing, gated)]
    chip = load_chip(name) if chip is None else chip
    (work,) = Moe(*sizes, residency=residency).count(chip, Plan(integer=True, replay=replay))
    return work


def load(way, tokens: float, active: float, experts: float, ranks: float = 1) -> Load:
    return way(*map(as_scalar, (tokens, active, experts, ranks)))


def test_one_token_touches_the_experts_it_is_sent_to():
    for way in (balanced, random):
        assert load(way, 1, 8, 256).experts == pytest.approx(8, rel=ROUNDING)
    assert run(tokens=1).demand.main == pytest.approx(2 * EXPERT * 2, rel=ROUNDING)


def test_two_tokens_may_meet_at_an_expert_unless_they_take_turns():
    # 8 (1 - (3/4)^2) = 3.5 of 4.
    assert load(random, 2, 2, 8).experts == pytest.approx(3.5, rel=ROUNDING)
    assert load(balanced, 2, 2, 8).experts == 4


def test_many_tokens_touch_every_expert_and_no_more():
    for way in (balanced, random):
        assert load(way, 1e6, 2, 8).experts == pytest.approx(8, rel=ROUNDING)
    assert load(random, 3, 8, 8).experts == pytest.approx(8, rel=ROUNDING)


def law(*sizes: float) -> Load:
    return power_law(1.01, *map(as_scalar, sizes))


def test_loads_of_a_power_law_leave_experts_untouched():
    # 64 tokens to 8 of 256: loads from 1 to 51; a half at least rounds to one.
    assert 128 < float(law(64, 8, 256, 1).experts) < 256
    assert law(64, 8, 256, 1).pairs == 512


def test_few_pairs_go_to_the_experts_that_would_have_most():
    # 16 pairs over 256 experts: every load rounds to zero, and 16 experts get one each.
    assert law(2, 8, 256, 1).experts == pytest.approx(16, rel=0.05)


def test_a_power_law_makes_a_rank_hot_but_gives_no_token_twice_to_an_expert():
    found = law(1024, 8, 256, 32)
    assert 2 < float(found.pairs) / 256 < 8
    # One expert on each rank takes each of 1,024 tokens once at most.
    assert float(law(1024, 8, 256, 256).pairs) <= 1024


def test_a_random_rank_is_hotter_by_its_noise():
    # 4 ranks of a mean of 32 pairs: 32 + sqrt(2 x 32 x ln 4).
    assert load(random, 64, 2, 8, 4).pairs == pytest.approx(32 + 9.4192, rel=1e-4)


def test_a_routing_is_chosen_by_its_place():
    sizes = [as_scalar(x) for x in (64, 8, 256, 4)]
    assert loads(as_scalar(0), *sizes).pairs == 128
    assert loads(as_scalar(1), *sizes).pairs == pytest.approx(float(law(64, 8, 256, 4).pairs))
    assert loads(as_scalar(3), *sizes).experts == pytest.approx(
        float(load(random, 64, 8, 256, 4).experts)
    )


def test_every_expert_touched_is_read_once():
    assert run().demand.main == pytest.approx(8 * EXPERT * 2, rel=ROUNDING)


def test_each_token_multiplies_with_its_own_experts_alone():
    # 64 tokens x 2 experts.
    assert run().demand.matrix == pytest.approx(2 * 128 * EXPERT, rel=ROUNDING)


def test_an_expert_without_a_gate_has_two_sides():
    assert run(gated=0).demand.matrix == pytest.approx(2 * 128 * EXPERT * 2 / 3, rel=ROUNDING)


def test_tensor_ranks_share_experts_and_expert_ranks_divide_them():
    for demand in (run(tensor=4).demand, run(ranks=4).demand):
        assert demand.matrix == pytest.approx(2 * 128 * EXPERT / 4, rel=ROUNDING)
        assert demand.main == pytest.approx(8 * EXPERT * 2 / 4, rel=ROUNDING)


def test_tokens_of_an_expert_are_padded_to_a_tile():
    chip = load_chip("h100-sxm")
    share = run().shares.matrix
    assert share is not None
    # 16 tokens for each expert, in tiles of 16, 32, 64 and 128 rows.
    expected = [float(chip.efficiency.moe.sustained) * 16 / rows for rows in SMOOTH_MOE.row_tiles]
    assert share.tolist() == pytest.approx(expected, rel=ROUNDING)


def test_tiles_are_fed():
    feed = run().demand.shared
    assert feed is not None
    # Tiles of 16 x 128: up 8 x 8 of 1024 steps, down 8 x 8 of 512: 98,304 steps of 144 numbers.
    assert feed[0] == pytest.approx(98_304 * 144 * 2, rel=ROUNDING)


def narrow(plan: Plan, chip: Chip, columns: float | Scalar) -> Scalar:
    """Share of the cores at work with tiles of 16 rows: 8 experts, one tile of rows each."""
    sizes = [as_scalar(x) for x in (64, 4096, columns, 2, 8, 1, 1, 0, 1)]
    (work,) = Moe(*sizes, residency=None).count(chip, plan)
    return work.occupancy[0]


def test_each_product_has_waves_of_its_own():
    chip = load_chip("h100-sxm")
    whole = eqx.tree_at(lambda c: c.efficiency.moe.wave_quantisation, chip, as_scalar(1.0))
    # Up 8 x 2 tiles of 4096 steps on 132 cores: one wave. Down 8 x 32 of 128 steps: two.
    steps, waves = 16 * 4096 + 256 * 128, 4096 + 2 * 128
    assert narrow(Plan(integer=True), whole, 128) == pytest.approx(
        steps / 132 / waves, rel=ROUNDING
    )


def test_a_narrow_slice_leaves_cores_idle():
    chip = load_chip("h100-sxm")
    shares = [float(narrow(Plan(), chip, columns)) for columns in (128, 512, 2048, 8192)]
    assert shares == sorted(shares)
    assert shares[0] < 0.3 and shares[-1] > 0.9


@pytest.mark.parametrize("exact", [False, True])
def test_the_share_of_cores_has_a_slope_over_columns(exact: bool):
    chip, plan = load_chip("h100-sxm"), Plan(integer=exact)
    slope = jax.grad(lambda columns: narrow(plan, chip, columns))(as_scalar(200.0))
    step = narrow(plan, chip, 202.0) - narrow(plan, chip, 198.0)
    assert float(slope) == pytest.approx(float(step) / 4, rel=0.02)
    assert float(slope) != 0


PERMUTED, BETWEEN, SUMMED = 1_310_720, 786_432, 131_072
"""Permuted 10 x 128 x 1024; between 12 x 128 x 512; summed 2 x 64 x 1024."""


def waits(chip: Chip) -> Scalar:
    """Of 128 pairs, 8 experts, dot products of 1024 and 512 numbers."""
    fitted = chip.efficiency.moe
    return (
        fitted.launch
        + 128 * fitted.per_pair
        + 8 * fitted.per_expert
        + (1024 + 512) * fitted.per_dot_element
    )


def test_passes_between_the_products_take_their_own_time():
    chip = load_chip("h100-sxm")
    fitted = chip.efficiency.moe
    traffic = fitted.permute_passes * PERMUTED + fitted.intermediate_passes * BETWEEN + SUMMED
    passes = traffic / (chip.shared.bandwidth * fitted.l2_bandwidth)
    expected = waits(chip) + passes + fitted.prologue * 8 * 16 / chip.cores
    # What spills of 2 MB from 50 MB of cache is below a millionth. Each expert fills one tile.
    assert run().latency[0] == pytest.approx(float(expected), rel=1e-4)


def test_experts_that_fit_the_cache_are_read_from_it_when_replayed():
    chip, weights = load_chip("l40s"), 8 * EXPERT * 2
    again = run(name="l40s", replay=True).demand.main
    share = replay_read_time(chip, chip.efficiency.moe, as_scalar(weights))
    assert again == pytest.approx(weights * float(share), rel=ROUNDING)
    # 25 MB in a cache of 96 MB.
    assert again is not None and again < weights / 2


@pytest.mark.parametrize("name", ["lpu-v1", "wse-3"])
def test_resident_experts_are_read_where_they_live(name: str):
    demand = run(name=name).demand
    assert demand.main == demand.far == 0
    assert demand.private is not None and demand.shared is not None
    expected = 8 * EXPERT * 2 + PERMUTED + BETWEEN + SUMMED
    assert demand.private + demand.shared == pytest.approx(expected, rel=ROUNDING)


def test_experts_that_overflow_come_from_far_memory():
    demand = run(name="wse-3", residency=Residency(private=0.5, far=0.5)).demand
    assert demand.far == pytest.approx(4 * EXPERT * 2, rel=ROUNDING)


def test_latency_counts_routing_and_crossings():
    chip = load_chip("wse-3")
    expected = waits(chip) + mesh_traversal_time(chip, 6.0)
    assert run(name="wse-3").latency == pytest.approx(float(expected), rel=ROUNDING)


def test_vector_units_multiply_no_rows_of_an_expert_that_are_not_there():
    # Four tokens to two of eight experts: one row for each; matrix units pad it to 16.
    for name, multiplied in (("m3-ultra", 1), ("h100-sxm", 16)):
        sustained = load_chip(name).efficiency.moe.sustained
        best = max(as_values(run(tokens=4, name=name).shares.matrix))
        assert best == pytest.approx(float(sustained) / multiplied, rel=ROUNDING)


@pytest.mark.parametrize(("name", "cores"), [("tpu-v6e", 1), ("h100-sxm", 132)])
def test_a_core_that_fetches_ahead_fills_one_pipeline_for_all_its_tiles(name: str, cores: float):
    # 64 tokens give each of 8 experts 16 rows: 8 and 8 tiles of 128 columns, 128 in all, on each core
    # one behind the other unless the next is fetched ahead.
    def latency(prologue: float) -> Values:
        chip = load_chip(name)
        chip = eqx.tree_at(lambda c: c.efficiency.moe.prologue, chip, as_scalar(prologue))
        return as_values(run(chip=chip).latency)[0]

    rounds = 128 / cores
    waits = min(rounds, 1.0) if name == "tpu-v6e" else rounds
    assert latency(1.0) - latency(0.0) == pytest.approx(waits, rel=1e-4)


def test_activations_between_the_products_by_hand():
    # 128 pairs, 512 columns, gate and value: SiLU is an exponential and four FLOP for each column.
    demand = run().demand
    assert demand.exponential == pytest.approx(128 * 512, rel=ROUNDING)
    assert demand.vector == pytest.approx(4 * 128 * 512, rel=ROUNDING)


def test_the_busiest_of_random_ranks_by_hand():
    # 256 pairs over 8 ranks: 32, and the square root of 2 x 32 x ln 8 more.
    found = load(random, 128, 2, 64, 8)
    assert found.pairs == pytest.approx(32 + (64 * 2.0794415) ** 0.5, rel=ROUNDING)
    # Of its 8 experts each is missed by 128 tokens with (1 - 1/32)^128.
    assert found.experts == pytest.approx(8 * (1 - (31 / 32) ** 128), rel=1e-4)
    # One expert on each rank: no token goes there twice.
    assert load(random, 2, 2, 2, 2).pairs == 2


def test_balanced_pairs_are_spread_over_ranks_and_experts():
    # 12 pairs of 4 ranks: 3 on each, which touch 3 experts; one pair is still a pair.
    assert load(balanced, 6, 2, 64, 4) == (3, 3)
    assert load(balanced, 1, 2, 64, 4) == (1, 1)
