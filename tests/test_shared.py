"""What fits of all chips say of one that was never measured, and how the variances of that are fitted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.calibration.joint import (
    JOINT_FAMILIES,
    START,
    Curvature,
    fit_components,
    left_out,
    missed,
    standard_errors,
)
from perfmodel.calibration.protocol import MEASURED
from perfmodel.calibration.rescale import rescale_to_clock
from perfmodel.calibration.sections import key_of, section_of
from perfmodel.calibration.shared import (
    read_components,
    read_shared,
    shared_parameters,
    written_components,
)
from perfmodel.calibration.similarity import (
    JITTER,
    Alike,
    Components,
    Fitted,
    Known,
    alike,
    posterior_mean,
    relative_rate,
)
from perfmodel.hardware.parameters import GemmEfficiency, parameters
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.fitted import FAMILIES, FITTED, SMOOTH, from_file, read_fitted, read_prior
from perfmodel.units import as_values

NOTHING = -40.0
"""Logarithm of a variance that does not count."""


def components(**given: float) -> Components:
    """Variances of which only the family's, and those given, count."""
    common = np.full((2, 6), NOTHING)
    common[:, 0] = given.get("common", NOTHING)
    chip = np.full((2, 5), NOTHING)
    chip[:, 0] = given.get("chip", NOTHING)
    return Components(*map(as_values, (common, chip, np.zeros(5), 0.0)))


def fitted(chip: str, dtype: str = "bf16") -> Fitted:
    return Fitted(chip, "trtllm", dtype, dtype)


def expected(
    found: Components, chips: list[str], values: list[float], errors: list[float]
) -> float:
    """Of one parameter of an H100."""
    fits = [fitted(chip) for chip in chips]
    pairs, asked = (
        Alike(*map(as_values, alike(ones, fits))) for ones in (fits, [fitted("h100-sxm")])
    )
    known = Known(pairs, as_values(values)[:, None], as_values(errors)[:, None])
    return float(posterior_mean(found, known, asked, jnp.zeros(1, int))[0, 0])


def test_one_fit_counts_by_what_it_has_in_common_over_all_that_it_varies_by():
    # Variance of the family 1, of the fit's error 0.5 squared: 1 / (1 + 0.25) of its 2.
    found = expected(components(common=0.0), ["l40s"], [2.0], [0.5])
    assert found == pytest.approx(2.0 / (1.25 + JITTER), rel=1e-4)


def test_what_no_row_depended_on_says_nothing():
    found = expected(components(common=0.0), ["l40s", "b200-sxm"], [2.0, 1.0], [100.0, 0.01])
    assert found == pytest.approx(1.0, abs=0.01)


def test_the_nearer_of_two_chips_counts_more():
    # B200's matrix units read shared memory and have HBM, as H100's; L40S's do not.
    found = expected(components(chip=0.0), ["l40s", "b200-sxm"], [-1.0, 1.0], [0.3, 0.3])
    assert found > 0.1


def test_formats_are_alike_by_the_bytes_of_their_operands():
    same, _ = alike([fitted("h100-sxm", "fp8")], [fitted("h100-sxm", "int8"), fitted("h100-sxm")])
    assert same[3, 0].tolist() == [1.0, 0.0]


def test_narrower_formats_fill_a_pipeline_in_more_steps():
    kind: Any = GemmEfficiency
    before = kind(**from_file(kind, read_prior("launched")["gemm"]))
    after = rescale_to_clock(before, 1.0, relative_rate(Key("gemm", "b200-sxm", "trtllm", "fp8")))
    assert float(after.prologue) == pytest.approx(2 * float(before.prologue), rel=1e-5)
    assert float(after.feed) == pytest.approx(float(before.feed))


def test_blocks_that_are_multiplied_in_bf16_take_its_rate():
    assert relative_rate(Key("gemm", "l40s", "trtllm", "fp8_block")) == 1.0


@pytest.mark.parametrize("family", JOINT_FAMILIES)
def test_the_key_of_a_section_is_filed_there(family: str):
    for framework, formats in read_fitted(FITTED, "l40s").get(family, {}).items():
        for dtype in formats:
            key = key_of(family, "l40s", framework, dtype)
            assert section_of(key) == (family, framework, dtype)


def shipped() -> list[Curvature]:
    """Fits to products, each parameter told as well as any other."""
    found = []
    for chip in MEASURED:
        for framework, formats in read_fitted(FITTED, chip)["gemm"].items():
            for dtype in formats if framework != SMOOTH else ():
                size = len(list(parameters(FAMILIES["gemm"])))
                key = key_of("gemm", chip, framework, dtype)
                found.append(Curvature(key, np.eye(size) / size, np.full(size, 0.3)))
    return found


@pytest.fixture(scope="module")
def parts():
    return list(left_out(shipped(), FITTED, 0))


@pytest.mark.slow
def test_adam_lowers_the_error_on_chips_that_are_left_out(parts):
    start = jax.tree.map(as_values, START)
    before, after = (
        np.mean([float(missed(found, part)) for part in parts])
        for found in (start, fit_components(parts))
    )
    assert after < before


@pytest.mark.long
def test_the_error_has_the_gradient_of_finite_differences(parts):
    start = jax.tree.map(as_values, START)

    def error(moved: float) -> float:
        return float(missed(start._replace(error=start.error + moved), parts[0]))

    slope = float(jax.grad(missed)(start, parts[0]).error)
    assert slope == pytest.approx((error(0.05) - error(-0.05)) / 0.1, rel=0.03)


def test_variances_are_read_as_they_are_written():
    start = jax.tree.map(as_values, START)
    again = read_components(written_components(start))
    for one, other in zip(start, again, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-3)


def test_errors_are_written_by_family_chip_framework_and_format():
    table = standard_errors(shipped()[:1])
    assert table["gemm"]["a100-sxm-80gb"]["vllm"]["bf16"]["launch"] == 0.3


def test_the_shipped_errors_are_of_shipped_fits():
    for family, chips in read_shared(FITTED)["errors"].items():
        for chip, served in chips.items():
            for framework, formats in served.items():
                fits = read_fitted(FITTED, chip)[family][framework]
                assert set(formats) <= set(fits), (family, chip, framework)
    assert set(read_shared(FITTED)["errors"]["gemm"]) == set(MEASURED)


@pytest.mark.parametrize("chip", ["a100-sxm-80gb", "rtx-pro-6000", "gaudi3", "tpu-v7"])
def test_what_is_expected_of_a_chip_is_finite_and_within_bounds(chip: str):
    free = shared_parameters(
        Key("gemm", chip, "vllm", "bf16"), MEASURED, FITTED, read_prior("launched")["gemm"]
    )
    assert free is not None and bool(jnp.all(jnp.isfinite(free)))


def test_a_family_that_is_not_pooled_is_left_to_the_median():
    prior = read_prior("launched")["collective"]
    assert (
        shared_parameters(Key("all_reduce", "l40s", "nccl", "bf16"), MEASURED, FITTED, prior)
        is None
    )
