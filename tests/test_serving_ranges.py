"""Ranges of services: fitted to runs, wider where less is known, and holding where something was left out."""

from pathlib import Path

import numpy as np
import pytest
from command import run

from perfmodel.calibration.serving_ranges import Evidence, fit_ranges, left_out
from perfmodel.library.serving_ranges import MODELLED, MODELS, Grades, load_ends

SPREADS = {"measured": 0.05, "relative": 0.1, "new": 0.3}


@pytest.fixture(scope="module")
def runs() -> list[Evidence]:
    """Sixty stacks, whose runs are off by as much as their grade says."""
    random = np.random.default_rng(0)
    found: list[Evidence] = []
    for stack in range(60):
        grade, shift = MODELS[stack % 3], random.normal()
        for _ in range(20):
            off = SPREADS[grade] * (0.8 * shift + 0.6 * random.normal())
            words = (f"chip {stack % 5}", f"framework {stack % 4}", f"model {stack}", "fp8")
            found.append(Evidence(Grades("fitted", grade), off, off, True, *words))
    return found


def test_ranges_hold_nine_tenths_of_each_grade(runs: list[Evidence]):
    inside = fit_ranges(runs).hold(runs)
    for grade in MODELS:
        own = [held for held, one in zip(inside, runs, strict=True) if one.grades.model == grade]
        assert 0.8 < np.mean(own) < 0.97, grade


def test_a_grade_less_sure_is_never_narrower(runs: list[Evidence]):
    fitted = fit_ranges(runs)
    for grades in (fitted.chip, fitted.model):
        steps = list(grades.values())
        assert steps[0] == 0 and steps == sorted(steps)
    assert fitted.model["new"] > fitted.model["relative"] > 0
    turned = [
        one._replace(grades=Grades("fitted", MODELS[2 - MODELS.index(one.grades.model)]))
        for one in runs
    ]
    assert max(fit_ranges(turned).model.values()) == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("name", ["model", "chip", "framework"])
def test_ranges_hold_where_something_is_left_out(runs: list[Evidence], name: str):
    assert 0.8 < left_out(runs, name).mean() < 0.97


def test_the_shipped_ranges_widen_with_what_is_not_known():
    ends = [[load_ends(Grades(chip, model)).tpot for model in MODELS] for chip in MODELLED]
    high = np.array([[pair[1] for pair in row] for row in ends])
    low = np.array([[pair[0] for pair in row] for row in ends])
    assert (np.diff(high, axis=0) >= 0).all() and (np.diff(high, axis=1) >= 0).all()
    assert (np.diff(low, axis=0) <= 0).all() and (np.diff(low, axis=1) <= 0).all()
    assert (low < 1).all() and (high > 1).all()


def test_runs_without_a_fit_are_refused(tmp_path: Path):
    status, _, err = run("validate", "--runs", tmp_path / "runs.csv")
    assert status == 2 and "--fit-ranges" in err
    status, _, err = run("validate", "--fit-ranges")
    assert status == 2 and "--out" in err
