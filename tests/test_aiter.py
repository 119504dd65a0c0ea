"""AMD's libraries: what their benchmark times, and whose parameters AMD's chips take."""

import jax.numpy as jnp
import pytest

from perfmodel.calibration.rescale import clock_of
from perfmodel.kernels.backends import backends_of
from perfmodel.kernels.gemm import Gemm
from perfmodel.kernels.occupancy import blocks_in_flight, in_flight_gain
from perfmodel.kernels.registry import cost
from perfmodel.library.chip import chip_files, load_chip, origin
from perfmodel.library.fitted import read_prior
from perfmodel.library.fitted_intervals import basis_of, load_interval, prior_range
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan


def plan_of(framework: str, chip: str, **given) -> Plan:
    return Plan(
        weights="fp8_block",
        framework=framework or None,
        **given,
        **backends_of(framework, chip_files()[chip].architecture),
    )


def product(rows: float, columns: float = 7168.0, depth: float = 2048.0) -> Gemm:
    m, n, k = map(as_scalar, (rows, columns, depth))
    return Gemm(m, n, k)


def time_of(framework: str, chip: str, *sizes: float, **given) -> float:
    plan = plan_of(framework, chip, **given)
    work = product(*sizes).count(load_chip(chip, plan), plan)
    return float(cost(load_chip(chip, plan), work).time)


def test_the_tuner_times_the_product_alone():
    plan = plan_of("aiter", "mi355x", replay=True)
    work = product(16.0)
    assert len(work.count(load_chip("mi355x", plan), plan)) == 1
    served = plan_of("vllm", "mi355x")
    assert len(work.count(load_chip("mi355x", served), served)) == 2


def test_no_cache_holds_the_tuner_s_operands():
    plan = plan_of("aiter", "mi355x", replay=True)
    (work,) = product(16.0).count(load_chip("mi355x", plan), plan)
    # Weights of one byte, activations of one, results of two.
    moved = 7168 * 2048 + 16 * 2048 + 2 * 16 * 7168
    assert jnp.allclose(jnp.asarray(work.demand.main), moved, rtol=1e-5)


@pytest.mark.parametrize("framework", ["", "sglang", "vllm"])
def test_frameworks_on_amd_take_the_tuner_s_parameters(framework: str):
    own, tuned = (
        load_chip("mi355x", plan_of(name, "mi355x")).efficiency for name in (framework, "aiter")
    )
    assert own.gemm.sustained == tuned.gemm.sustained
    assert own.moe.streaming == tuned.moe.streaming


def test_chips_of_the_same_architecture_take_them():
    for chip, basis in {"mi300x": "fitted", "mi325x": "sibling", "mi355x": "fitted"}.items():
        assert basis_of(origin(chip, chip_files()[chip]), "gemm") == basis


@pytest.mark.parametrize("rows", [1.0, 4.0, 16.0])
@pytest.mark.parametrize(
    ("columns", "depth"),
    [(1536.0, 7168.0), (3584.0, 5120.0), (5120.0, 12800.0), (25600.0, 5120.0)],
)
def test_fewer_units_are_as_fast_where_memory_binds(rows: float, columns: float, depth: float):
    # Measured, MI308X over MI300X at up to 16 rows: 1.02 in the median, as at the widest weights.
    few, many = (
        time_of("aiter", chip, rows, columns, depth, replay=True) for chip in ("mi308x", "mi300x")
    )
    assert 0.98 < few / many < 1.25


def test_a_core_draws_what_its_blocks_have_in_flight_up_to_what_it_reads():
    chip = load_chip("mi308x", plan_of("aiter", "mi308x", replay=True))
    # 7.27 TB/s over 80 units are 90.9 GB/s for each. One block draws half of its peak of 56.6 GB/s, two
    # draw 56.6, and of four 63.6 are read.
    most = blocks_in_flight(chip, as_scalar(0.5))
    gains = in_flight_gain(chip, jnp.array([0.3, 1.0, 2.0, 4.0]), most)
    expected = [28.3 / 45.44, 28.3 / 45.44, 56.6 / 45.44, 63.6 / 45.44]
    assert gains.tolist() == pytest.approx(expected, rel=1e-3)


def test_on_other_chips_a_block_on_each_core_draws_all():
    chip = load_chip("mi300x", plan_of("aiter", "mi300x", replay=True))
    assert float(blocks_in_flight(chip, as_scalar(0.5))) == 1.0
    assert in_flight_gain(chip, jnp.array([0.3, 4.0]), as_scalar(1.0)).tolist() == [1.0, 1.0]


def efficiency_of(chip: str, dtype: str):
    plan = Plan(
        weights=dtype, framework="vllm", **backends_of("vllm", chip_files()[chip].architecture)
    )
    return load_chip(chip, plan).efficiency


@pytest.mark.parametrize("chip", ["mi300x", "mi308x", "mi455x"])
def test_what_an_architecture_has_no_fit_of_starts_from_its_vendor_s_other_chip(chip: str):
    # MI355X at 2.4 GHz: launches take cycles, shares of rates and what main memory takes do not.
    cycles = clock_of("mi355x") / clock_of(chip)
    own, near = (efficiency_of(name, "fp8").moe for name in (chip, "mi355x"))
    assert float(own.launch) == pytest.approx(float(near.launch) * cycles, rel=1e-5)
    assert float(own.streaming) == pytest.approx(float(near.streaming))


def test_what_was_measured_of_an_architecture_stays_its_own():
    own, near = (efficiency_of(name, "fp8_block").gemm for name in ("mi308x", "mi355x"))
    assert float(own.sustained) == pytest.approx(0.3673)  # mi300x.toml
    assert float(near.sustained) == pytest.approx(0.4345)


def test_a_relative_leaves_the_basis_and_the_interval_of_the_prior():
    source = origin("mi455x", chip_files()["mi455x"])
    plan = Plan(weights="fp8", framework="vllm")
    assert basis_of(source, "moe") == "prior"
    expected = prior_range(read_prior("launched"), "moe")
    assert load_interval(source, "moe", plan) == (expected["low"], expected["high"])
