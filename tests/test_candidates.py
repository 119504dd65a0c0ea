"""Ways to spread a model: all that agree with what is given, none else, the first the one that is meant."""

import itertools

import numpy as np
import pytest

from perfmodel.errors import InputError
from perfmodel.inference.candidates import Parallelism, candidates
from perfmodel.inference.deployment import Deployment, resolve_or_error
from perfmodel.inference.serving_row import GivenRanks
from perfmodel.library.fitted import FITTED

OPEN = float("nan")


def deployment(model: str = "llama-3.1-8b", chip: str = "h100-sxm") -> Deployment:
    found = resolve_or_error(chip, model, "", "", "", FITTED)
    assert isinstance(found, Deployment), found
    return found


DENSE, MIXTURE = deployment(), deployment("qwen3-30b-a3b")
"""32 heads and 32 layers; 32 heads, 48 layers and 128 experts."""


def given(**ranks: float) -> GivenRanks:
    return GivenRanks(**dict.fromkeys(GivenRanks._fields, OPEN) | ranks)


def by_hand(one: Deployment, chips: int, experts: float) -> set[Parallelism]:
    """Every product of whole numbers that makes the chips, with experts on all ranks of a stage or on one."""
    found: set[Parallelism] = set()
    sizes = [n for n in range(1, chips + 1) if chips % n == 0]
    for tp, pp, dp, replicas in itertools.product(sizes, repeat=4):
        whole = tp * pp * dp * replicas == chips and one.heads % tp == 0 and pp <= one.layers
        if not whole or tp > one.domain or (np.isnan(experts) and replicas > 1):
            continue
        spread = {1.0} if np.isnan(experts) else {1.0, min(tp * dp, experts)}
        found |= {Parallelism(*map(float, (tp, pp, ep, dp, replicas))) for ep in spread}
    return found


@pytest.mark.parametrize("one", [DENSE, MIXTURE], ids=["dense", "experts"])
@pytest.mark.parametrize("chips", [1, 6, 16, 96])
def test_all_ways_on_some_chips_are_tried_once_and_no_other(one: Deployment, chips: int):
    found = candidates(given(n_chips=float(chips)), one)
    assert len(found) == len(set(found))
    assert set(found) == by_hand(one, chips, float(one.experts))


def test_on_launched_chips_the_most_tensor_ranks_come_first_and_on_others_the_fewest():
    found = candidates(given(n_chips=8.0, dp=1.0), DENSE)
    assert [way.tp for way in found] == [8, 4, 2, 1]
    # An LPU's chips are a pipeline: 64 of them have every divisor that its domain joins.
    scheduled = candidates(given(n_chips=8.0, dp=1.0), deployment(chip="lpu-v1"))
    assert [way.tp for way in scheduled] == sorted(way.tp for way in scheduled)


def test_wafers_follow_one_another():
    found = candidates(given(n_chips=4.0, dp=1.0), deployment(chip="wse-3"))
    assert [(way.tp, way.pp) for way in found] == [(1, 4)]


def test_without_a_number_of_chips_the_ranks_given_are_multiplied():
    found = candidates(given(tp=2.0, dp=3.0), DENSE)
    assert {(way.tp, way.dp, way.replicas) for way in found} == {(2, 3, 1)}
    stages = [way.pp for way in found]
    assert stages == [1, 2, 4, 8, 16, 32]  # powers of two, as far as there are layers
    assert {way.ep for way in candidates(given(tp=2.0, dp=3.0, pp=1.0), MIXTURE)} == {6, 1}


def test_what_is_given_is_kept():
    found = candidates(given(n_chips=16.0, pp=2.0, ep=4.0, replicas=2.0), MIXTURE)
    assert found and all((way.pp, way.ep, way.replicas) == (2, 4, 2) for way in found)
    assert {(way.tp, way.dp) for way in found} == {(4, 1), (2, 2), (1, 4)}


@pytest.mark.parametrize(
    ("ranks", "one", "said"),
    [
        ({"tp": 3.0}, DENSE, "tp is 3, which does not divide the 32 heads of llama-3.1-8b; the nearest "
                             "that does is 2."),
        ({"tp": 7.0}, DENSE, "the nearest that does is 8."),
        ({"tp": 16.0}, DENSE, "tp is 16, but the fast links of h100-sxm join 8 chips; the nearest that "
                              "works is tp 8, with pp or dp for the rest."),
        ({"pp": 33.0}, DENSE, "pp is 33, but may not be more than the 32 layers of llama-3.1-8b."),
        ({"ep": 2.0}, DENSE, "ep is 2, but llama-3.1-8b has no experts; leave it empty, or give 1."),
        ({"ep": 129.0}, MIXTURE, "ep is 129, but may not be more than the 128 experts of qwen3-30b-a3b."),
        ({"n_chips": 8.0, "tp": 2.0, "pp": 2.0, "dp": 1.0}, DENSE,
         "n_chips is 8, tp is 2, pp is 2, dp is 1: that cannot be, for n_chips is tp x pp x dp; leave one "
         "of them empty."),
        ({"n_chips": 8.0, "tp": 3.0 - 1.0, "replicas": 3.0}, DENSE,
         "n_chips is 8, tp is 2, replicas is 3: that cannot be, for n_chips is tp x pp x dp x replicas;"),
    ],
)  # fmt: skip
def test_ranks_that_cannot_be_are_said_with_the_nearest_that_can(
    ranks: dict[str, float], one: Deployment, said: str
):
    with pytest.raises(InputError) as wrong:
        candidates(given(**ranks), one)
    assert said in str(wrong.value)


def test_the_last_that_can_be_is_taken():
    assert candidates(given(pp=32.0, tp=1.0), DENSE) and candidates(given(ep=128.0), MIXTURE)
    assert candidates(given(ep=1.0), DENSE) and candidates(given(tp=8.0), DENSE)
