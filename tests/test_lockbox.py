"""The lockbox: the same groups on every machine, about three in ten."""

from perfmodel.calibration.lockbox import SHARE, locked


def test_three_groups_in_ten_are_locked():
    drawn = [locked("gemm", 256 * n, 512 * k) for n in range(1, 60) for k in range(1, 60)]
    assert abs(sum(drawn) / len(drawn) - SHARE) < 0.03


def test_a_group_is_drawn_by_its_names_alone():
    assert locked("mi355x", "glm-5", "vllm") == locked("MI355X", "GLM-5 ", "vllm")
    assert {locked("mi355x", "glm-5", name) for name in "abcdefghij"} == {True, False}
