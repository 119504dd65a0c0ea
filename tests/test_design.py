"""The search: what a design is made of, what its limits leave, and that it finds more than a grid."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.design.chip import VARIABLES, Design, area, build, from_logarithms
from perfmodel.design.problem import LIMITS, Problem, judge, pose
from perfmodel.design.search import assess, kept, shrink, start, to_vectors
from perfmodel.design.study import Study, read_study
from perfmodel.errors import InputError
from perfmodel.interface.search import run_search
from perfmodel.library.chip import load_chip
from perfmodel.library.floorplan import Floorplan, load_floorplan
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

STUDY = """
[objective]
maximise = "tokens_per_s_per_user"
[constraints]
area_mm2 = 814
power_w = 700
[[workload]]
model = "llama-3.1-8b"
batch = 8
context = 4096
chips = 2
[optimiser]
starts = 8
steps = 300
"""

H100 = Design(50e6, 5.5e12, 5.0, 989e12)
"""Close to what an H100 has."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def problem(study: Path) -> Problem:
    return pose(read_study(study))


def run(study: Path, out: Path, resume: bool = False, seed: int | None = None) -> dict:
    # Adam of optax adds integers to floats, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        return run_search(study, out, resume, None, seed, lambda done, of: None)


@pytest.fixture(scope="module")
def found(study: Path) -> dict:
    return run(study, study.parent / "found")


def test_a_design_survives_the_way_to_logarithms_and_back():
    back = from_logarithms(H100.logarithms())
    for name in VARIABLES:
        assert float(getattr(back, name)) == pytest.approx(float(getattr(H100, name)), rel=1e-5)


def test_the_area_is_the_sum_of_the_parts():
    floor = Floorplan(2.0, 3.0, 1.0, 5.0, 7.0, 1.0, 1.0, 1.0, 11.0, 1.0)
    base = load_chip("h100-sxm", Plan())
    links = float(base.scale_up.bandwidth)
    # 8 / 2 + 3 * 3 + 2 * 7 + 1 * 5 + links * 11
    found = area(Design(8.0, 3.0, 2.0, 1.0), base, Floorplan(*map(as_scalar, floor)))
    assert float(found) == pytest.approx(32 + 11 * links, rel=1e-6)


def test_the_parts_of_the_h100_make_its_die():
    base = load_chip("h100-sxm", Plan())
    floor = Floorplan(*map(as_scalar, load_floorplan("hbm3")))
    design = Design(base.shared.capacity, base.shared.bandwidth, 6.0, base.matrix["bf16"])
    # Its parts were taken from the same die; they are rounded to a percent.
    assert float(area(design, base, floor)) == pytest.approx(814e-6, rel=0.02)


def test_twice_the_compute_is_twice_the_cores():
    base, floor = load_chip("h100-sxm", Plan()), Floorplan(*map(as_scalar, load_floorplan()))
    twice = Design(*(getattr(H100, n) * (2.0 if n == "compute" else 1.0) for n in VARIABLES))
    one, two = (build(design, base, floor, as_scalar(700.0)) for design in (H100, twice))
    for pick in (lambda c: c.cores, lambda c: c.matrix["bf16"], lambda c: c.private.capacity):
        assert float(pick(two)) == pytest.approx(2 * float(pick(one)), rel=1e-5)
    assert float(two.main.capacity) == pytest.approx(float(one.main.capacity))


def test_a_design_too_large_has_negative_slack_and_a_gradient_that_leads_back(problem: Problem):
    large = Design(1500e6, 150e12, 6.0, 2000e12).logarithms()
    die, slope = jax.jit(jax.value_and_grad(lambda v: judge(problem, v).slack[0]))(large)
    assert LIMITS[0] == "area" and float(die) < 0
    assert np.isfinite(slope).all() and (np.asarray(slope) < 0).all()


def test_starts_are_spread_over_the_whole_space():
    with jax.numpy_dtype_promotion("standard"):
        one, other = (to_vectors(start(64, s).free, jnp.zeros(4), jnp.ones(4)) for s in (0, 1))
    assert (np.histogram(np.asarray(one[:, 0]), 4, (0, 1))[0] > 10).all()
    assert (np.asarray(one) != np.asarray(other)).any()


def test_the_best_comes_first_and_broken_limits_not_at_all():
    slack = np.zeros((3, 4))
    slack[1, 0] = -1.0
    found = kept(np.zeros((3, 4)), np.array([1.0, 3.0, 2.0]), slack)
    assert [one.objective for one in found] == [2.0, 1.0]


def test_shrinking_makes_the_area_fit(problem: Problem):
    large = Design(1000e6, 100e12, 4.0, 1500e12).logarithms()
    small = shrink(problem, large[None])[0]
    slack = assess(problem, small[None])[1][0]
    assert float(slack[LIMITS.index("area")]) > -1e-3
    assert float(small[2]) == float(large[2])


def test_the_search_beats_a_grid_of_the_same_model(found: dict):
    # Whole stacks cost the design less than a percent; the grid may have parts of a stack.
    assert found["objective_continuous"] > found["grid"]["objective"]
    assert found["objective"] > 0.99 * found["grid"]["objective"]


def test_the_best_design_keeps_every_limit(found: dict):
    assert all(limit["slack"] > -1e-3 for limit in found["constraints"].values())
    assert found["best"]["stacks"] == pytest.approx(round(found["best"]["stacks"]), abs=1e-4)


def test_whole_numbers_cost_little_and_are_reported(found: dict):
    assert 0.8 < found["objective_exact"] / found["objective"] < 1.05


def test_what_is_found_is_written(found: dict, study: Path):
    folder = study.parent / "found"
    assert json.loads((folder / "result.json").read_text())["objective"] == found["objective"]
    for name in ("designs.csv", "report.html", "checkpoint.eqx"):
        assert (folder / name).stat().st_size > 0


def test_a_search_taken_up_again_finds_the_same(found: dict, study: Path):
    again = run(study, study.parent / "found", resume=True)
    assert again["best"] == found["best"] and again["objective"] == found["objective"]


def test_the_checkpoint_of_another_study_is_refused(found: dict, study: Path):
    with pytest.raises(InputError, match="belongs to another study"):
        run(study, study.parent / "found", resume=True, seed=7)


def test_a_damaged_checkpoint_is_refused(found: dict, study: Path, tmp_path: Path):
    whole = (study.parent / "found" / "checkpoint.eqx").read_bytes()
    (tmp_path / "checkpoint.eqx").write_bytes(whole[:-100])
    with pytest.raises(InputError, match="damaged"):
        run(study, tmp_path, resume=True)


def test_a_study_that_nothing_can_satisfy_says_what_to_raise(study: Path, tmp_path: Path):
    path = tmp_path / "tight.toml"
    path.write_text(STUDY.replace("area_mm2 = 814", "area_mm2 = 20"))
    with pytest.raises(InputError, match="raise a limit"):
        run(path, tmp_path / "out")


def test_a_study_has_defaults_for_all_but_what_it_is_about():
    assert set(Study.model_fields) == {"objective", "constraints", "workload", "space", "optimiser"}
    assert {n for n, f in Study.model_fields.items() if f.is_required()} == {
        "objective",
        "constraints",
        "workload",
    }
