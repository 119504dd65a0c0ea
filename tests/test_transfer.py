"""How fits of other chips are pooled for a chip that was never measured, and what a clock changes."""

import numpy as np
import pytest

from perfmodel.calibration.fit import to_free
from perfmodel.calibration.metrics import weighted_quantile
from perfmodel.calibration.protocol import MEASURED
from perfmodel.calibration.rescale import clock_of, rescale_to_clock
from perfmodel.calibration.transfer import (
    ReferenceFit,
    chip_with_prior,
    initial_parameters,
    pool,
    reference_fits,
)
from perfmodel.hardware.parameters import parameters
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.fitted import FAMILIES, FITTED, from_file, read_fitted, read_prior

PRIOR = read_prior("launched", FITTED)


def key(chip: str, op: str = "gemm", framework: str = "trtllm", cache: str = "") -> Key:
    return Key(op, chip, framework, "bf16", cache)


def tables(family: str, chips: tuple[str, ...] = MEASURED) -> dict:
    return {chip: read_fitted(FITTED, chip).get(family, {}) for chip in chips}


def weights_of(of: Key, family: str) -> set[tuple[str, float, float]]:
    others = tuple(chip for chip in MEASURED if chip != of.chip)
    return {
        (v.chip, v.weight, v.framework_weight) for v in reference_fits(of, tables(family, others))
    }


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        ([3.0, 1.0, 2.0], [1.0, 1.0, 1.0], 2.0),
        ([1.0, 2.0], [1.0, 1.0], 1.5),
        ([1.0, 2.0, 9.0], [1.0, 1.0, 0.0], 1.5),
        # Middles of the weights at 1, 2.5 and 3.5 of 4: half of it, 2, is two thirds of the way.
        ([1.0, 4.0, 9.0], [2.0, 1.0, 1.0], 3.0),
    ],
)
def test_the_median_lies_at_half_of_the_weight(values, weights, expected):
    assert weighted_quantile(np.array(values), np.array(weights), 0.5) == pytest.approx(expected)


def test_what_cores_do_takes_cycles_and_energy_follows_the_square_of_the_clock():
    before = FAMILIES["gemm"](**from_file(FAMILIES["gemm"], PRIOR["gemm"]))
    after = rescale_to_clock(before, 2.0)
    factors = {
        f.name: getattr(after, f.name) / getattr(before, f.name) for f in parameters(type(before))
    }
    expected = {"launch": 0.5, "splitk_reduction": 0.5, "energy_factor": 4.0}
    for name, factor in factors.items():
        assert float(factor) == pytest.approx(expected.get(name, 1.0)), name


def test_no_clock_leads_out_of_the_bounds():
    for family, kind in FAMILIES.items():
        if family == "host":
            continue
        prior = kind(**from_file(kind, PRIOR[family]))
        for ratio in (1e-3, 1e3):
            found = rescale_to_clock(prior, ratio)
            for field in parameters(kind):
                low, high = field.metadata["low"], field.metadata["high"]
                assert low * 0.999 <= float(getattr(found, field.name)) <= high * 1.001


def test_fits_of_its_framework_count_once_and_of_its_kind_once_more():
    assert weights_of(key("b200-sxm"), "gemm") == {
        ("h100-sxm", 2.0, 2.0),
        ("l40s", 1.0, 1.0),
        ("h100-sxm", 1.0, 0.0),  # vLLM's and SGLang's, not of how many kernels TensorRT-LLM adds
    }


def test_an_unpacked_cache_is_multiplied_as_one_in_bf16():
    found = weights_of(key("b200-sxm", "attention_prefill", cache="fp8"), "attention_prefill")
    assert ("h100-sxm", 2.0, 2.0) in found  # whose own fp8 cache is multiplied in fp8


def test_the_prior_does_not_count_for_the_chips_that_made_it():
    other = {name: 0.9 * value for name, value in PRIOR["gemm"].items()}
    for chip, moves in (("h100-sxm", False), ("a100-sxm-80gb", False), ("l40s", True)):
        of = key(chip, framework="vllm")
        found = reference_fits(of, tables("gemm", tuple(set(MEASURED) - {chip})))
        ours, theirs = (to_free(pool(of, found, prior)) for prior in (PRIOR["gemm"], other))
        assert bool((ours != theirs).any()) == moves, chip


def test_one_fit_alone_is_that_fit_at_the_clock_of_the_chip():
    section = read_fitted(FITTED, "l40s")["gemm"]["trtllm"]["bf16"]
    found = pool(key("h100-sxm"), [ReferenceFit("l40s", section, clock_of("l40s"))], PRIOR["gemm"])
    slower = clock_of("l40s") / clock_of("h100-sxm")
    assert float(found.launch) == pytest.approx(section["launch_us"] * 1e-6 * slower, rel=1e-3)
    assert float(found.energy_factor) == pytest.approx(
        section["energy_factor"] / slower**2, rel=1e-2
    )
    assert float(found.feed) == pytest.approx(section["feed"], rel=1e-3)


def test_a_chip_that_is_only_akin_is_one_fit_among_others():
    assert set(initial_parameters(key("rtx-pro-6000"), MEASURED, FITTED).chips) == set(MEASURED)


@pytest.mark.parametrize("framework", ["nccl", "vllm"])
def test_collectives_over_pcie_are_those_of_another_chip_on_pcie(framework):
    found = initial_parameters(key("rtx-pro-6000", "all_reduce", framework), MEASURED, FITTED)
    assert found.chips == ("l40s",)


@pytest.mark.slow
def test_every_start_is_finite():
    for op in ("gemm", "attention_decode", "attention_prefill", "moe", "all_reduce"):
        for chip in (*MEASURED, "rtx-pro-6000", "mi300x"):
            of = key(chip, op, cache="bf16" if "attention" in op else "")
            found = initial_parameters(of, MEASURED, FITTED).fitted
            assert all(np.isfinite(float(getattr(found, f.name))) for f in parameters(type(found)))
            assert chip_with_prior(of, FITTED).clock > 0
