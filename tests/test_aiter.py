"""AMD's libraries: what their benchmark times, and whose parameters AMD's chips take."""

import jax.numpy as jnp
import pytest

from perfmodel.kernels.backends import backends_of
from perfmodel.kernels.gemm import Gemm
from perfmodel.kernels.registry import cost
from perfmodel.library.chip import chip_files, load_chip, origin
from perfmodel.library.fitted_intervals import basis_of
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan


def plan_of(framework: str, chip: str, **given) -> Plan:
    return Plan(
        weights="fp8_block",
        framework=framework or None,
        **given,
        **backends_of(framework, chip_files()[chip].architecture),
    )


def product(rows: float) -> Gemm:
    m, n, k = map(as_scalar, (rows, 7168.0, 2048.0))
    return Gemm(m, n, k)


def time_of(framework: str, chip: str, rows: float = 16.0, **given) -> float:
    plan = plan_of(framework, chip, **given)
    work = product(rows).count(load_chip(chip, plan), plan)
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
def test_fewer_units_are_hardly_faster_where_memory_binds(rows: float):
    # Measured, MI308X over MI300X at up to 16 rows: 1.02.
    few, many = (time_of("aiter", chip, rows, replay=True) for chip in ("mi308x", "mi300x"))
    assert 0.85 < few / many < 1.5
