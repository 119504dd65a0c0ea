"""The eight faults found in other models, each forbidden."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.design.multistart import finite_by_value
from perfmodel.errors import InputError
from perfmodel.inference.service import Service, serve
from perfmodel.inference.step import decode_step
from perfmodel.kernels.attention import grouped
from perfmodel.kernels.attention_decode import attention_decode
from perfmodel.kernels.registry import KERNELS, cost
from perfmodel.kernels.routing import random
from perfmodel.library.chip import REQUIRED_FACTS, chip_files, load_chip
from perfmodel.library.model import load_model
from perfmodel.resources import NAMES
from perfmodel.units import as_scalar, to_si
from perfmodel.workload.model import parameters, traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import FORMATS, look_up
from perfmodel.workload.request import static_batch

ROUNDING = 1e-5
"""Relative: some fifty steps of the last digit of float32."""


def test_grouped_queries_read_the_cache_once():
    heads = grouped(as_scalar(32.0), as_scalar(4.0), as_scalar(128.0))
    sizes = (as_scalar(16.0), as_scalar(2048.0))
    demand = attention_decode(load_chip("h100-sxm"), Plan(integer=True), *sizes, heads).demand
    # 16 sequences x 4 heads of the cache x 2,048 tokens x 2 x 128 numbers x 2 bytes; not 32 heads.
    assert demand.main == pytest.approx(16 * 4 * 2048 * 2 * 128 * 2, rel=ROUNDING)


def _known(name: str) -> bool:
    file = chip_files()[name]
    known = all(getattr(file, field) is not None for field in REQUIRED_FACTS)
    return known and None not in (file.power.peak, file.power.idle) and "bf16" in file.matrix


@pytest.mark.long
@pytest.mark.parametrize("execution", ["launched", "scheduled", "dataflow"])
def test_no_chip_draws_more_than_its_peak_power(execution: str):
    rows = [
        ("gemm", {"m": 16384.0, "n": 8192.0, "k": 8192.0}),
        ("elementwise", {"tokens": 16384.0, "hidden": 8192.0, "kind": 0.0}),
    ]

    @jax.jit
    def power(chip):
        arrays = [(op, {k: as_scalar(v) for k, v in sizes.items()}) for op, sizes in rows]
        costs = [cost(chip, KERNELS[op](**row).count(chip, Plan())) for op, row in arrays]
        return jnp.stack([one.energy / one.time for one in costs])

    for name in filter(_known, chip_files()):
        chip = load_chip(name)
        if chip.execution == execution:
            table = {"bf16": chip.matrix["bf16"]}, {"bf16": chip.matrix_energy["bf16"]}
            chip = dataclasses.replace(chip, matrix=table[0], matrix_energy=table[1])
            limit = float(chip.peak_power) * (1 + ROUNDING)
            assert np.all(np.asarray(power(chip)) <= limit), name


@pytest.mark.long
def test_layers_and_the_head_share_the_power_of_a_wafer():
    # Hungry products: every region is at its limit, the head's too.
    chip, model = load_chip("wse-3"), traced(load_model("llama-3.2-1b"))
    hungry = jax.tree.map(lambda x: 20 * x, chip.matrix_energy)
    chip = dataclasses.replace(chip, matrix_energy=hungry)
    step = decode_step(chip, Plan(), model, as_scalar(65536.0), as_scalar(16.0))
    assert float(step.energy) <= float(chip.peak_power * step.time) * (1 + ROUNDING)


def test_weights_on_a_wafer_do_not_stream():
    chip, plan = load_chip("wse-3"), Plan(pp=4.0)
    model = traced(load_model("llama-3.1-70b"))
    step = _decoded(chip, plan, model, 1.0, 2048.0)
    demand = dict(zip(NAMES, np.asarray(step.breakdown.demand), strict=True))
    assert demand["main"] == 0 and demand["far"] == 0
    # 70.55e9 weights but the 1.05e9 of the embedding, 2 bytes each: 139.0 GB, and the cache.
    assert 139e9 < demand["private"] < 141e9
    assert step.placement.slack > 0
    # 141 GB over four edges of 150 GB/s are 0.235 s a token; 445 tokens/s were measured.
    assert step.time < 0.235 / 20


@jax.jit
def _decoded(chip, plan, model, batch, context):
    return decode_step(chip, plan, model, as_scalar(batch), as_scalar(context))


def test_a_gigabyte_is_a_thousand_million_bytes():
    assert to_si(80.0, "GB", "byte") == 80e9
    assert to_si(3.35, "TB/s", "byte/s") == 3.35e12
    assert float(load_chip("h100-sxm").main.bandwidth) == pytest.approx(3.35e12, rel=1e-3)
    assert to_si(1.0, "GiB", "byte") == 2**30


def test_what_is_not_listed_is_refused():
    with pytest.raises(InputError, match="unknown chip"):
        load_chip("h100-ultra-max")
    with pytest.raises(InputError, match="unknown model"):
        load_model("llama-9-1000b")
    with pytest.raises(InputError, match="unknown dtype"):
        look_up("fp7")
    assert "fp7" not in FORMATS
    with pytest.raises(InputError, match="no matrix rate"):
        load_chip("a100-sxm-80gb").rates("fp4")


def test_a_mixture_reads_the_experts_touched_and_multiplies_the_active_ones():
    sizes = {"tokens": 4.0, "hidden": 4096.0, "inter": 1536.0, "topk": 8.0, "experts": 128.0}
    row = {k: as_scalar(v) for k, v in (sizes | {"tp": 1.0, "ep": 1.0, "routing": 3.0}).items()}
    (work,) = KERNELS["moe"](**row).count(load_chip("h100-sxm"), Plan())
    expert = 3 * 4096 * 1536
    # 4 tokens x 8 experts x 2 FLOP a weight; of 128 experts 128 (1 - (15/16)^4) = 29.1 are touched.
    assert work.demand.matrix == pytest.approx(2 * 32 * expert, rel=1e-3)
    found = random(*map(as_scalar, (4.0, 8.0, 128.0, 1.0)))
    assert found.experts == pytest.approx(29.1, abs=0.1)
    assert work.demand.main is not None
    assert float(jnp.max(work.demand.main)) < 0.3 * 128 * expert * 2


def test_a_mixture_uses_fewer_weights_than_it_has():
    model = load_model("qwen3-30b-a3b")
    # 30.5e9 in all, 3.3e9 active, as published.
    assert parameters(model, active=True) < 0.15 * parameters(model)


def test_a_search_keeps_the_best_not_the_last():
    # What breaks a limit is infinite.
    assert finite_by_value(np.array([-1.0, -3.0, np.inf, -2.0])) == [1, 3, 0]


def test_a_search_passes_over_what_is_not_a_number():
    assert finite_by_value(np.array([np.nan, 1.0])) == [1]


def test_efficiency_has_a_slope_everywhere():
    chip = load_chip("h100-sxm")

    def time(cores, sram, m):
        moved = dataclasses.replace(
            chip, cores=cores, shared=dataclasses.replace(chip.shared, capacity=sram)
        )
        row = {"m": m, "n": as_scalar(4100.0), "k": as_scalar(4099.0)}
        return jnp.log(cost(moved, KERNELS["gemm"](**row).count(moved, Plan())).time)

    slope = jax.jit(jax.vmap(jax.grad(time, (0, 1, 2)), (None, None, 0)))
    cores, sram, rows = slope(chip.cores, chip.shared.capacity, jnp.linspace(200.0, 9000.0, 40))
    assert np.all(np.asarray(cores) != 0)
    assert np.all(np.asarray(sram) < 0)  # activations spill less
    assert np.all(np.asarray(rows) > 0)


@jax.jit
def _served(chip, plan, model, request) -> Service:
    return serve(chip, plan, model, request)


@pytest.mark.long
def test_time_per_output_token_is_a_decode_step():
    chip, plan = load_chip("h100-sxm"), Plan()
    model = traced(load_model("llama-3.2-1b"))
    served = _served(chip, plan, model, static_batch(as_scalar(8.0), 1000.0, 201.0))
    step = _decoded(chip, plan, model, 8.0, 1000.0 + 201.0 / 2)
    assert served.tpot == pytest.approx(float(step.time), rel=ROUNDING)
    total = float(served.ttft) + 200 * float(served.tpot)
    assert served.total == pytest.approx(total, rel=ROUNDING)
    # The definition others report: (total - TTFT) / (n - 1).
    assert (served.total - served.ttft) / 200 == pytest.approx(float(step.time), rel=ROUNDING)
