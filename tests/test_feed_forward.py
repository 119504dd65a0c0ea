"""Mixture of experts: experts touched, tiles padded, the hottest rank."""

import pytest

from perfmodel.kernels.feed_forward import ROWS, hottest, mixture, touched
from perfmodel.kernels.home import Home
from perfmodel.kernels.launch import crossing_time
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit; `touched` carries a guard of 1e-6."""

EXPERT = 3 * 1024 * 512
"""Numbers of one expert: gate, value and the way back, 1024 by 512."""


def run(
    tokens: float = 64,
    tensor: float = 1,
    ranks: float = 1,
    skew: float = 0,
    name: str = "h100-sxm",
    gated: float = 1,
    home: Home | None = None,
) -> Work:
    """Two of eight experts of 1024 x 512 for each token; 64 tokens touch all (7.99999992)."""
    sizes = [as_scalar(x) for x in (tokens, 1024, 512, 2, 8, tensor, ranks, skew, gated)]
    return mixture(load_chip(name), Plan(integer=True), *sizes, home=home)


def test_one_token_touches_the_experts_it_is_sent_to():
    assert touched(*map(as_scalar, (1, 256, 8))) == pytest.approx(8, rel=ROUNDING)
    assert run(tokens=1).demand.main == pytest.approx(2 * EXPERT * 2, rel=ROUNDING)


def test_two_tokens_may_meet_at_an_expert():
    # 8 (1 - (3/4)^2) = 3.5 of 4.
    assert touched(*map(as_scalar, (2, 8, 2))) == pytest.approx(3.5, rel=ROUNDING)


def test_many_tokens_touch_every_expert_and_no_more():
    assert touched(*map(as_scalar, (1e6, 8, 2))) == pytest.approx(8, rel=ROUNDING)
    assert touched(*map(as_scalar, (3, 8, 8))) == pytest.approx(8, rel=ROUNDING)


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
    expected = [float(chip.efficiency.mixture.sustained) * 16 / rows for rows in ROWS]
    assert share.tolist() == pytest.approx(expected, rel=ROUNDING)


def test_tiles_are_fed_and_activations_move():
    feed = run().demand.shared
    assert feed is not None
    # Tiles of 16 x 128: up 8 x 8 of 1024 steps, down 8 x 8 of 512: 98,304 steps of 144 numbers.
    # Permuted 2 x 64 x 1024 + 4 x 128 x 1024; between 12 x 128 x 512; returned as permuted.
    moved = 655_360 + 786_432 + 655_360
    assert feed[0] == pytest.approx(98_304 * 144 * 2 + moved, rel=ROUNDING)


def test_even_loads_have_no_hottest_rank():
    # A guard of 1e-6 keeps the slope finite.
    for ranks in (1, 4, 8):
        assert hottest(*map(as_scalar, (8, ranks, 0))) == 1
    assert hottest(*map(as_scalar, (8, 1, 1))) == pytest.approx(1, abs=2e-6)


def test_skewed_loads_make_a_rank_hot():
    # Four ranks of two experts: 1 + sqrt(2 ln 4 / 2).
    assert hottest(*map(as_scalar, (8, 4, 1))) == pytest.approx(2.177410, rel=ROUNDING)
    even, skewed = run(ranks=4).demand.matrix, run(ranks=4, skew=1).demand.matrix
    assert even is not None and skewed is not None
    assert skewed / even == pytest.approx(2.177410, rel=ROUNDING)


@pytest.mark.parametrize("name", ["lpu-v1", "wse-3"])
def test_resident_experts_are_read_where_they_live(name: str):
    demand = run(name=name).demand
    assert demand.main == demand.far == 0
    assert demand.private is not None and demand.shared is not None
    moved = 655_360 + 786_432 + 655_360
    expected = 8 * EXPERT * 2 + moved
    assert demand.private + demand.shared == pytest.approx(expected, rel=ROUNDING)


def test_experts_that_overflow_come_from_far_memory():
    demand = run(name="wse-3", home=Home(private=0.5, far=0.5)).demand
    assert demand.far == pytest.approx(4 * EXPERT * 2, rel=ROUNDING)


def test_latency_counts_routing_and_crossings():
    chip = load_chip("wse-3")
    fitted = chip.efficiency.mixture
    expected = fitted.launch + 128 * fitted.route + crossing_time(chip, 6.0)
    assert run(name="wse-3").latency == pytest.approx(float(expected), rel=ROUNDING)
