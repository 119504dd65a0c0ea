"""The pages on accuracy say what the shipped reports say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy import RESULT
from perfmodel.calibration import acceptance
from perfmodel.calibration.protocol import read_result

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_the_pages_on_accuracy_and_the_errors_of_kernels_are_what_the_benchmark_writes(
    tmp_path: Path,
):
    out = tmp_path / "accuracy.md"
    command = [sys.executable, "-m", "benchmarks.accuracy", "--out", str(out)]
    model = out.with_name("model.md")
    model.write_text(re.sub(r"[\d.]+ %", "0.0 %", (ROOT / "docs" / "model.md").read_text()))
    held = re.findall(r"^Held out: .*$", (ROOT / "docs" / "model.md").read_text(), re.M)
    subprocess.run(command, cwd=ROOT, check=True)
    assert held and re.findall(r"^Held out: .*$", model.read_text(), re.M) == held
    for page in ("accuracy.md", "accuracy-tables.md"):
        assert out.with_name(page).read_text() == (ROOT / "docs" / page).read_text()


def test_the_page_says_of_every_line_whether_it_is_met():
    """By the result that is kept: each line once, and those that are missed by name."""
    page = (ROOT / "docs" / "accuracy.md").read_text()
    lines = acceptance.summary(read_result(RESULT))
    assert [line[0] for line in lines] == [target.name for target in acceptance.targets().kernels]
    missed = re.search(r"\*\*Missed: (.*)\.\*\*", page)
    assert missed and missed[1].split("; ") == [line[0] for line in lines if line[5] == "no"]
