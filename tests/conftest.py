"""Strict JAX for every test: shapes and types checked, no silent promotion, both precisions."""

import os
from collections.abc import Iterator

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

with install_import_hook("perfmodel", "beartype.beartype"):
    import perfmodel.breakdown
    import perfmodel.calibration.calibrate
    import perfmodel.design.multistart
    import perfmodel.inference.service
    import perfmodel.library.model  # noqa: F401

QUICK = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if jax.__version_info__ < (0, 11):  # later ones do not know it, and end at once
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
"""Tests that are not slow run each program once or twice: compiling takes long, and so a quarter as long.
The slow tests compile as users do."""


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is compiled."""
    if "not slow" in config.option.markexpr:
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK])


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test in single and in double precision."""
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", False)
