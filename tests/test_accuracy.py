"""The page on accuracy says what the shipped reports say."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks import protocol
from perfmodel.interface import kept, musts

ROOT = Path(__file__).parents[1]


def test_the_page_on_accuracy_is_what_the_benchmark_writes(tmp_path: Path):
    out = tmp_path / "accuracy.md"
    command = [sys.executable, "-m", "benchmarks.accuracy", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert out.read_text() == (ROOT / "docs" / "accuracy.md").read_text()


def test_the_page_says_of_every_line_whether_it_is_met():
    """By the result that is kept: each line once, and those that are missed by name."""
    page = (ROOT / "docs" / "accuracy.md").read_text()
    lines = musts.summary(kept.read(protocol.KEPT))
    assert [line[0] for line in lines] == [must.name for must in musts.MUSTS]
    missed = re.search(r"\*\*Missed: (.*)\.\*\*", page)
    assert missed and missed[1].split("; ") == [line[0] for line in lines if line[5] == "no"]
