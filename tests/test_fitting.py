"""The race of two ways of fitting runs, and says who reached the loss when."""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import fitting


@pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None,
    reason="the measurements are not installed on this platform",
)
@pytest.mark.slow
def test_the_benchmark_of_fitting_writes_both_methods(tmp_path: Path, monkeypatch):
    out = tmp_path / "fitting.json"
    words = ["--json", str(out), "--rows", "40", "--tables", "1", "--longest", "0.2"]
    monkeypatch.setattr(sys, "argv", ["fitting", *words])
    # Optax's own arithmetic mixes whole and real numbers.
    with jax.numpy_dtype_promotion("standard"):
        fitting.main()
    (found,) = json.loads(out.read_text())["tables"]
    assert found["rows"] == 40 and found["loss"] > 0
    second, first = found["levenberg_marquardt"], found["adam"]
    assert second["loss"] <= fitting.NEAR * found["loss"] and second["seconds"] > 0
    assert first["seconds"] is None or first["loss"] <= fitting.NEAR * found["loss"]
