"""The page on accuracy says what the shipped reports say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_on_accuracy_is_what_the_benchmark_writes(tmp_path: Path):
    out = tmp_path / "accuracy.md"
    command = [sys.executable, "-m", "benchmarks.accuracy", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert out.read_text() == (ROOT / "docs" / "accuracy.md").read_text()
