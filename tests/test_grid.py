"""Grids of sweeps: which point is which, and what an axis may be."""

from pathlib import Path

import numpy as np
import pytest

from perfmodel.errors import InputError
from perfmodel.inference.grid import Grid, Range, read_grid

SMALL = 'chip = ["h100-sxm", "l4"]\nmodel = "llama-3.2-1b"\nisl = [100, 200]\nosl = 10\n'


def grid_of(folder: Path, text: str) -> Grid:
    path = folder / "grid.toml"
    path.write_text(text)
    return read_grid(path)


def test_points_are_all_combinations_and_the_last_axis_is_the_fastest(tmp_path: Path):
    grid = grid_of(
        tmp_path,
        f"{SMALL}concurrency = [1, 2, 4]\ntp = [1, 2]\nburst = true\n"
        "[hardware]\nclock = [0.5, 1.0]\n",
    )
    assert (grid.combinations, grid.points_per_combination, grid.points) == (4, 12, 48)
    words = [grid.cells(i) for i in range(4)]
    assert [(one["chip"], one["tp"]) for one in words] == [
        *(("h100-sxm", "1"), ("h100-sxm", "2"), ("l4", "1"), ("l4", "2")),
    ]
    assert {one["burst"] for one in words} == {"true"}
    numbers, factors = grid.numbers(np.arange(12))
    points = zip(numbers["isl"], numbers["concurrency"], factors["clock"], strict=True)
    assert [tuple(map(float, point)) for point in points][:5] == [
        *((100, 1, 0.5), (100, 1, 1), (100, 2, 0.5), (100, 2, 1), (100, 4, 0.5)),
    ]
    assert numbers["isl"].tolist() == [100] * 6 + [200] * 6
    assert set(numbers["osl"]) == {10}
    some, _ = grid.numbers(np.array([11]))
    assert (some["isl"][0], some["concurrency"][0]) == (200, 4)


def test_a_range_has_both_ends_evenly_or_in_logarithms():
    assert Range(low=1, high=4, points=4).values() == [1, 2, 3, 4]
    assert Range(low=1, high=1000, points=4, spacing="log").values() == [1, 10, 100, 1000]
    assert Range(low=-1, high=1, points=2).values() == [-1, 1]


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("{low = 4, high = 4, points = 2}", "low 4 is not below high 4"),
        ("{low = 0, high = 4, points = 2, spacing = 'log'}", "it must be above zero"),
        ("{low = 1, high = 4, points = 1}", "greater than or equal to 2"),
        ("{low = 1, high = 4, points = 100001}", "less than or equal to 100000"),
        ("[]", "it is empty; give at least one"),
        ("[1, -1]", "concurrency is '-1'"),
    ],
)
def test_an_axis_that_cannot_be_is_said_to_be_so(axis: str, said: str, tmp_path: Path):
    with pytest.raises(InputError, match=said):
        grid_of(tmp_path, f"{SMALL}concurrency = {axis}\n")


@pytest.mark.parametrize("factor", ["0.001", "1000.0"])
def test_a_factor_is_from_a_thousandth_to_a_thousand(factor: str, tmp_path: Path):
    assert grid_of(tmp_path, f"{SMALL}[hardware]\nclock = {factor}\n").points == 4
    beyond = {"0.001": "0.00099", "1000.0": "1001.0"}[factor]
    with pytest.raises(InputError, match=r"hardware"):
        grid_of(tmp_path, f"{SMALL}[hardware]\nclock = {beyond}\n")


def test_ten_billion_points_are_the_most(tmp_path: Path):
    def text(scales: int) -> str:
        axes = [f"{name} = {{low = 1, high = 1000, points = 1000}}" for name in ("isl", "osl")]
        axes += ["concurrency = {low = 1, high = 100, points = 100}", "[hardware]"]
        axes += [f"clock = {{low = 0.5, high = 1.0, points = {scales}}}"]
        return "\n".join(['chip = "l4"', 'model = "llama-3.2-1b"', *axes])

    assert grid_of(tmp_path, text(100)).points == 10**10
    with pytest.raises(InputError, match=r"it has 1\.01e\+10 points; allowed are 10,000,000,000"):
        grid_of(tmp_path, text(101))


def test_an_empty_cell_is_no_number(tmp_path: Path):
    grid = grid_of(tmp_path, f'{SMALL}mode = "offline"\nconcurrency = ["", 4]\n')
    assert np.isnan(grid.inner["concurrency"][0]) and grid.inner["concurrency"][1] == 4
    assert grid_of(tmp_path, f"{SMALL}prefix_tokens = [5000]\n").inner["prefix_tokens"] == [5000]
