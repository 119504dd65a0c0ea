"""Strict JAX for every test: shapes and types checked, no silent promotion, both precisions."""

from collections.abc import Iterator

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

with install_import_hook("perfmodel", "beartype.beartype"):
    import perfmodel.breakdown
    import perfmodel.calibration.calibrate
    import perfmodel.design.search
    import perfmodel.inference.serving
    import perfmodel.library.model  # noqa: F401


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test in single and in double precision."""
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", False)
