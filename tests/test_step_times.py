"""Times of steps between the points of a grid: exact where they are linear in each axis."""

import math

import numpy as np
import pytest

from perfmodel.inference.step_times import StepTimes, _rising

AXES = ([1.0, 2.0, 5.0, 9.0], [64.0, 100.0, 1000.0], [32.0, 40.0, 900.0], [16.0, 20.0, 128.0])


def true(sequences: float, context: float, new: float, attended: float) -> float:
    """Linear in each of four, and in no two together."""
    return (1 + sequences) * (2 + 1e-2 * context) * (3 + 1e-3 * new) * (5 - 1e-2 * attended)


def grid() -> StepTimes:
    one, two, three, four = AXES
    decode = [[true(n, c, 0.0, 0.0) for c in two] for n in one]
    prompt = [[true(0.0, 0.0, q, a) for a in four] for q in three]
    mixed = [[[[true(n, c, q, a) for a in four] for q in three] for c in two] for n in one]
    return StepTimes(*AXES, decode, prompt, mixed)


def places(seed: int) -> list[float]:
    """Between points, before the first and beyond the last."""
    random = np.random.default_rng(seed)
    return [float(axis[0] / 2 + random.uniform() * 1.5 * axis[-1]) for axis in AXES]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_linear_is_read_off_exactly(seed: int):
    times, (n, c, q, a) = grid(), places(seed)
    assert times.decode_seconds(n, c) == pytest.approx(true(n, c, 0.0, 0.0))
    assert times.prompt_seconds(q, a) == pytest.approx(true(0.0, 0.0, q, a))
    assert times.mixed_seconds(n, c, q, a) == pytest.approx(true(n, c, q, a))


def test_points_of_the_grid_are_what_was_priced():
    times, (one, two, three, four) = grid(), AXES
    random = np.random.default_rng(0)
    mixed = random.uniform(1, 2, [len(axis) for axis in AXES])
    bent = times._replace(mixed=mixed.tolist(), decode=mixed[:, :, 0, 0].tolist())
    for i, j, k, m in ((0, 0, 0, 0), (3, 2, 2, 2), (1, 1, 1, 1), (2, 0, 1, 2)):
        assert bent.mixed_seconds(one[i], two[j], three[k], four[m]) == pytest.approx(
            mixed[i, j, k, m]
        )
        assert bent.decode_seconds(one[i], two[j]) == pytest.approx(mixed[i, j, 0, 0])
    between = bent.decode_seconds((one[1] + one[2]) / 2, two[1])
    assert between == pytest.approx((mixed[1, 1, 0, 0] + mixed[2, 1, 0, 0]) / 2)


RISING = [(1.0, 256.0), (32.0, 8192.0), (1.0, 1.0), (1.0, 1.4), (32.0, 33.0)]


@pytest.mark.parametrize(("first", "last"), RISING)
def test_numbers_rise_evenly_in_logarithms_and_are_two_at_least(first: float, last: float):
    found = _rising(first, last)
    assert found[0] == first and found[-1] == max(last, math.ceil(first * 1.25))
    assert len(found) >= 2 and np.all(np.diff(found) >= 1) and np.all(found == np.round(found))
    large = found[found > 16]
    assert np.all(large[1:] / large[:-1] < 1.35)
    assert len(found) <= 2 + math.log(max(last / first, 1.25)) / math.log(1.25)


def test_about_fourteen_thousand_points_are_priced():
    # docs/simulate.md: 256 sequences and 8,192 tokens of a step, three contexts, six reaches.
    assert len(_rising(1.0, 256.0)) * 3 * len(_rising(32.0, 8192.0)) * 6 == pytest.approx(
        14_000, rel=0.3
    )
