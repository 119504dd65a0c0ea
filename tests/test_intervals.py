"""A prior is wider than a fit, and says so."""

import csv
from pathlib import Path

import numpy as np
import pytest
from command import run
from scipy.stats import norm
from scipy.stats import t as student

from perfmodel.calibration.intervals import (
    TableErrors,
    kernel_ranges,
    range_of,
    spread_of,
)
from perfmodel.calibration.serving_metrics import Comparison, metrics_of_published
from perfmodel.errors import InputError
from perfmodel.inference.deployment import resolve_or_error
from perfmodel.library.chip import chip_files, origin
from perfmodel.library.fitted import FAMILIES, FITTED, read_prior
from perfmodel.library.fitted_intervals import (
    BASES,
    LEVELS,
    Interval,
    ServingIntervals,
    basis_of,
    load_interval,
    weakest,
    widest,
)
from perfmodel.workload.plan import Plan


def _intervals(chip: str, model: str, framework: str = "") -> ServingIntervals:
    given = resolve_or_error(chip, model, "", "", framework, FITTED)
    assert not isinstance(given, str), given
    return given.intervals


@pytest.mark.parametrize(
    ("chip", "model", "framework", "basis"),
    [
        ("h100-sxm", "llama-3.1-70b", "", "fitted"),
        ("h100-sxm", "llama-3.3-70b", "", "fitted"),  # of the same shape
        ("b200-sxm", "deepseek-r1", "sglang", "fitted"),
        ("h100-sxm", "deepseek-r1", "trtllm", "sibling"),  # no run of this chip with that host
        ("h100-sxm", "qwen3-32b", "", "sibling"),  # a model that no run had
        ("gb300", "llama-3.1-70b", "", "sibling"),  # kernels are fitted, the host is others'
        ("gh200", "llama-3.1-70b", "", "sibling"),
        ("gaudi3", "llama-3.1-70b", "", "prior"),
        ("tpu-v6e", "llama-3.1-70b", "", "prior"),
        ("rubin", "llama-3.1-70b", "", "prior"),
        ("m3-ultra", "llama-3.1-70b", "", "prior"),
        ("mi300x", "llama-3.1-70b", "vllm", "prior"),
        ("wse-3", "llama-3.1-70b", "", "prior"),
        ("lpu-v1", "llama-3.1-70b", "", "prior"),
    ],
)
def test_services_say_what_they_rest_on(chip: str, model: str, framework: str, basis: str):
    assert _intervals(chip, model, framework).basis == basis


def test_a_service_is_the_less_sure_the_weaker_its_basis():
    fitted, sibling, prior, wafer = (
        _intervals(chip, "llama-3.1-70b") for chip in ("h100-sxm", "gh200", "gaudi3", "wse-3")
    )
    for name in ("tpot", "ttft"):
        ends = [getattr(one, name) for one in (fitted, sibling, prior)]
        assert ends[2].low <= ends[1].low < ends[0].low < 1, name
        assert 1 < ends[0].high <= ends[1].high < ends[2].high, name
        assert ends[0].high / ends[0].low < ends[1].high / ends[1].low, name
    assert wafer.tpot.low < prior.tpot.low and wafer.tpot.high > prior.tpot.high
    # Runs of all frameworks beside the best schedule: few are faster, most are slower.
    assert fitted.tpot == pytest.approx((0.9648, 1.687))


@pytest.mark.parametrize("framework", ["vllm", "sglang", "trtllm"])
def test_no_end_of_a_weaker_basis_lies_inside_that_of_a_fit(framework: str):
    chip = {"trtllm": "h200-sxm", "vllm": "h200-sxm", "sglang": "h200-sxm"}[framework]
    model = "deepseek-r1" if framework == "sglang" else "llama-3.1-70b"
    fit, other = _intervals(chip, model, framework), _intervals("gaudi3", model, framework)
    assert (fit.basis, other.basis) == ("fitted", "prior")
    for name in ("tpot", "ttft"):
        assert getattr(other, name).low <= getattr(fit, name).low
        assert getattr(other, name).high >= getattr(fit, name).high


def test_what_is_not_exceeded_with_a_probability_is_a_power_of_the_high_end():
    shipped = Interval(0.5, 2.0)
    # 1.2816 / 1.6449 = 0.7791 and 2 ** 0.7791 = 1.716; 0.8416 / 1.6449 = 0.5116 and 2 ** 0.5116 = 1.426.
    assert [shipped.bound(level) for level in LEVELS] == pytest.approx([1, 1.426, 1.716], rel=1e-3)
    many = Interval(np.array([0.5, 1.0]), np.array([2.0, 1.0])).bound(80)
    assert many == pytest.approx([1.426, 1.0], rel=1e-3)


def test_levels_are_quantiles_of_the_normal_distribution():
    for confidence, deviations in LEVELS.items():
        assert norm.cdf(deviations) == pytest.approx(confidence / 100, abs=1e-4)
    with pytest.raises(InputError, match="the levels are 50, 80, 90"):
        Interval(0.5, 2.0).bound(95)


def test_the_intervals_of_two_kinds_of_chips_are_those_of_the_less_sure():
    fitted, prior = _intervals("h100-sxm", "llama-3.1-70b"), _intervals("wse-3", "llama-3.1-70b")
    assert widest([fitted, prior]).basis == "prior"
    assert widest([fitted, prior]).tpot == prior.tpot
    assert weakest(["fitted", "sibling"]) == "sibling" and weakest(["fitted"]) == "fitted"


@pytest.mark.parametrize("stem", chip_files())
def test_every_family_of_every_chip_has_a_basis_and_a_range_around_one(stem: str):
    of = origin(stem, chip_files()[stem])
    for family in FAMILIES:
        assert basis_of(of, family) in BASES
        ends = load_interval(of, family, Plan())
        assert ends.low < 1 < ends.high


@pytest.mark.parametrize(
    "family", ["gemm", "attention_decode", "attention_prefill", "moe", "collective"]
)
def test_kernels_of_the_prior_are_less_sure_than_fitted_ones(family: str):
    fitted, prior = (
        load_interval(origin(stem, chip_files()[stem]), family, Plan(framework="vllm"))
        for stem in ("h100-sxm", "gaudi3")
    )
    assert prior.low < fitted.low and prior.high > fitted.high


def test_the_prior_holds_the_ranges_that_the_protocol_gives():
    prior = read_prior("launched")
    for name, ends in kernel_ranges().items():
        assert prior[name]["low"] == pytest.approx(ends.low, rel=1e-3), name
        assert prior[name]["high"] == pytest.approx(ends.high, rel=1e-3), name


def test_a_table_without_bias_has_the_range_of_its_normal_distribution():
    # 90 % within 10 %: 1.645 spreads are about 0.1 in the logarithm.
    one = TableErrors("a", 0.0, 0.1)
    assert spread_of(one) == pytest.approx(0.1 / 1.645, rel=0.01)
    found = range_of([one])
    assert (found.low, found.high) == pytest.approx((np.exp(-0.1), np.exp(0.1)), rel=0.003)


def test_predictions_that_are_too_fast_have_their_range_above_one():
    # Predicted / measured is 0.5 throughout: measured times are twice the predicted ones.
    found = range_of([TableErrors("a", float(np.log(0.5)), 0.5001)])
    assert (found.low, found.high) == pytest.approx((2.0, 2.0), rel=0.01)


def range_of_few(factors: list[float]) -> np.ndarray:
    """The 90 % range of one more of few independent factors of measured over predicted times.

    Their logarithms are taken as normal, of unknown mean and spread: Student's prediction interval.
    """
    logs, count = np.log(factors), len(factors)
    half = student.ppf(0.95, count - 1) * np.std(logs, ddof=1) * np.sqrt(1 + 1 / count)
    return np.exp(np.mean(logs) + np.array([-half, half]))


def test_few_factors_have_the_range_of_student():
    # Logarithms -1, 0, 1: mean 0, spread 1; 2.92 x 1 x sqrt(4/3) is 3.3717.
    found = range_of_few([float(np.exp(x)) for x in (-1, 0, 1)])
    assert np.log(found) == pytest.approx([-3.3717, 3.3717], rel=1e-4)


def test_the_range_of_wafers_holds_their_published_speeds_each_left_out():
    # Measured over predicted times of WSE-3 from the other models (`reproduce --sets single-stream`).
    dense = [0.840, 0.823, 1.182, 1.195, 0.836, 0.554, 0.864]
    mixtures = [0.945, 1.014, 1.223, 1.089, 1.514, 0.613]
    few, prior = range_of_few([*dense, *mixtures]), read_prior("dataflow")
    given = prior["service"]["prior"]
    assert given == prior["interval"]
    assert given["low"] < few[0] and few[1] < given["high"]


def test_chips_weigh_equally_however_many_tables_they_have():
    exact, slow = TableErrors("a", 0.0, 0.01), TableErrors("b", float(np.log(0.5)), 0.501)
    found = range_of([exact] * 50 + [slow])
    assert found.low == pytest.approx(1.0, rel=0.02) and found.high == pytest.approx(2.0, rel=0.02)


def _published(chip: str, factor: float) -> Comparison:
    words = (chip, "m", "", "")
    return Comparison("throughput", "g", words, 1.0, factor, "", 1.0, "launched, prior")


def test_published_results_by_basis_give_the_range_of_services():
    rows = [_published("a", factor) for factor in np.linspace(0.8, 1.2, 101)]
    found = {one["group"]: one for one in metrics_of_published(rows)}["by basis / launched, prior"]
    # Of 101 equal steps of 0.004 the 5th and the 95th percentile, in logarithms.
    assert found["factors90"] == pytest.approx([0.82, 1.18], abs=0.003)
    assert found["coverage90"] == 1.0 and found["n"] == 101


def test_chips_of_published_results_weigh_by_the_root_of_their_rows():
    # 100 rows weigh 10, one row 1: an eleventh of the weight, so its factor is the upper end.
    rows = [_published("a", 1.0)] * 100 + [_published("b", 3.0)]
    found = {one["group"]: one for one in metrics_of_published(rows)}["by basis / launched, prior"]
    assert found["factors90"][0] == pytest.approx(1.0)
    assert found["factors90"][1] > 2.5


def test_rows_of_kernels_say_what_they_rest_on(tmp_path: Path):
    asked = [("h100-sxm", "fitted"), ("h200-nvl", "sibling"), ("gaudi3", "prior")]
    lines = ["op,chip,dtype,m,n,k", *(f"gemm,{chip},bf16,64,4096,4096" for chip, _ in asked)]
    lines.append("gemm,h100-sxm,bf16,,4096,4096")
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    run("predict", "kernels", tmp_path / "rows.csv", "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["basis"] for row in found] == ["fitted", "sibling", "prior", ""]
    widths = [float(row["high_us"]) / float(row["low_us"]) for row in found[:3]]
    assert widths == sorted(widths)
