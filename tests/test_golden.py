"""No number of the program changes unseen: all are as `python -m benchmarks.golden freeze` left them."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.golden import run
from benchmarks.golden.sets import SETS, Set, rows
from benchmarks.golden.values import (
    Change,
    Numbers,
    Tolerance,
    changes,
    plain,
    read,
    said,
    tolerance,
    tolerances,
    write,
)
from perfmodel.errors import InputError

ROOT = Path(__file__).parents[1]


def _check(*only: str) -> None:
    """Some sets, or cases, in float32, as users run them."""
    found: list[Change] = []
    for name, cases in run.wanted(only).items():
        _frozen(name, cases)
        found += run.compared(name, cases, double=False)
    assert not found, "\n".join(said(found))


def _frozen(name: str, cases: Sequence[str]) -> None:
    missing = [case for case in cases if case not in read(name)]
    if missing:
        words = ",".join(missing)
        pytest.skip(f"no golden values: python -m benchmarks.golden freeze --only {words}")


@pytest.mark.long
def test_a_sample_of_kernels_and_services_is_as_it_was():
    _check(*run.sample())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernels", "services", "outputs"])
def test_every_row_and_output_is_as_it_was(name: str):
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for n in ("presets", "studies") for case in SETS[n].names()])
def test_every_preset_and_study_is_as_it_was(case: str):
    _check(case)


@pytest.mark.slow
def test_every_row_and_output_is_as_it_was_in_double_precision():
    names = ("kernels", "services", "outputs")
    for name, cases in run.wanted(names).items():
        _frozen(name, cases)
    command = [sys.executable, "-m", "benchmarks.golden", "check", "--only", ",".join(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_rows_are_told_apart_and_the_sample_is_of_them():
    cases = [case for name in ("kernels", "services") for case in rows(name)["case"].to_pylist()]
    assert len(set(cases)) == len(cases) == 450
    sample = run.sample()
    assert len(set(sample)) == len(sample) == 60 and set(sample) <= set(cases)


def test_searches_may_end_a_little_elsewhere_and_all_else_may_not():
    assert tolerance("k000", "kernels", double=True).relative == 1e-6
    assert tolerance("k000", "kernels", double=False).relative == 3e-5
    assert tolerance("joules", "presets", double=True).relative == 1e-3
    assert tolerance("hybrid", "studies", double=False).relative == 1e-3
    searches = {case for name in SETS for case in SETS[name].names()}
    assert set(tolerances()["searches"]) <= {*SETS, *searches}


def test_a_change_is_what_is_off_by_more_than_allowed_or_is_not_there():
    old = {"time_s": 1.0, "bound": "memory", "slack": 0.0, "gone": 1.0}
    new = {"time_s": 1.0 + 1e-5, "bound": "compute", "slack": 1e-4, "more": 2.0}
    assert [c.quantity for c in changes("a", old, new, Tolerance(1e-6, {}))] == [
        "time_s", "bound", "slack", "gone", "more",
    ]  # fmt: skip
    kept = Tolerance(3e-5, {"slack": 1e-3})
    assert [c.quantity for c in changes("a", old, new, kept)] == ["bound", "gone", "more"]


def test_numbers_of_nested_content_have_the_path_of_their_keys_and_labels_are_left_out():
    content = {"title": "8 x H100", "best": {"node": "n5", "mm2": [1.5, None]}, "seconds": 3.0}
    assert plain(content) == {"best.node": "n5", "best.mm2.0": 1.5, "best.mm2.1": "none"}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Numbers]:
    """A set of one case whose number can be changed, and a change log."""
    number: Numbers = {"time_s": 0.1 + 0.2}
    one = Set(lambda: ["one"], lambda cases: iter([(case, dict(number)) for case in cases]))
    monkeypatch.setattr(run, "SETS", {"kernels": one})
    monkeypatch.setattr(run, "CHANGELOG", tmp_path / "CHANGELOG.md")
    monkeypatch.setattr("benchmarks.golden.values.VALUES", tmp_path)
    run.CHANGELOG.write_text("## 1\n\n### Wrong answers\n\n- One.\n\n## 0\n\n- Old.\n")
    yield number


def test_what_changes_is_frozen_only_with_a_reason_which_is_told(small: Numbers):
    assert run.freeze([], "") == 2 and read("kernels") == {}
    assert run.freeze([], "First.") == 0
    assert read("kernels") == {"one": {"time_s": 0.1 + 0.2}}
    assert run.freeze([], "") == 0 and run.check([], double=True) == 0
    small["time_s"] = 0.4
    assert run.check([], double=True) == 1 and run.freeze([], "") == 2
    assert run.freeze([], "Second.") == 0 and read("kernels") == {"one": {"time_s": 0.4}}
    log = run.CHANGELOG.read_text()
    assert log.index("- One.") < log.index("### Golden rows") < log.index("- First.")
    assert log.index("- First.") < log.index("- Second. (1 values changed") < log.index("## 0")


def test_a_value_that_is_as_it_was_to_the_tolerance_stays(small: Numbers):
    write("kernels", {"one": {"time_s": 0.1 + 0.2 + 1e-9}, "gone": {"time_s": 1.0}})
    assert run.freeze([], "") == 0
    assert read("kernels")["one"] == {"time_s": 0.1 + 0.2 + 1e-9}


def test_a_word_that_is_no_set_and_no_case_is_refused():
    with pytest.raises(InputError, match="kernel: neither a set nor a case"):
        run.wanted(["kernel"])
