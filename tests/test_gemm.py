"""Matrix products: FLOPs, bytes, tiles and splits, worked by hand."""

import equinox as eqx
import jax.numpy as jnp
import pytest

from perfmodel.hardware.chip import Chip
from perfmodel.kernels.gemm import TILES, Gemm
from perfmodel.kernels.occupancy import memory_fill_time, mesh_traversal_time, wave_occupancy
from perfmodel.kernels.residency import Residency
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar, as_values
from perfmodel.workload.plan import Plan

EXACT = Plan(integer=True)
ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""

WHOLE = 2 * TILES.index((128, 128))
"""Place of the alternative of 128 x 128 tiles with k whole; with k split it is the next one."""


def product(chip: Chip, m: float, n: float, k: float, plan: Plan = EXACT, **more) -> Work:
    """The work of a product of plain sizes."""
    return Gemm(as_scalar(m), as_scalar(n), as_scalar(k), **more).product(chip, plan)


def h100(sram: float = 1e8) -> Chip:
    """An H100 with 132 cores and as many bytes of shared SRAM alone."""
    chip = load_chip("h100-sxm")
    sizes = (as_scalar(sram), as_scalar(0.0))
    return eqx.tree_at(lambda c: (c.shared.capacity, c.private.capacity), chip, sizes)


def test_a_product_multiplies_and_adds_for_each_of_its_steps():
    # 2 x 256 x 512 x 1024.
    assert product(h100(), 256, 512, 1024).demand.matrix == 268_435_456


def test_small_activations_stay_in_sram_and_weights_are_read_once():
    # 512 x 1024 weights of 2 bytes; 0.8 MB of activations in 100 MB of SRAM.
    assert product(h100(), 256, 512, 1024).demand.main == pytest.approx(1_048_576, rel=ROUNDING)


def test_large_activations_spill_to_main_memory():
    # Inputs and results 2 x (8192 x 1024 + 8192 x 1024) = 33,554,432 bytes; of them 100,000 stay.
    moved = 2 * (8192 * 1024 + 8192 * 1024)
    found = product(h100(sram=1e5), 8192, 1024, 1024).demand.main
    assert found == pytest.approx(2 * 1024 * 1024 + moved - 1e5, rel=ROUNDING)


@pytest.mark.parametrize(
    ("dtype", "size"), [("bf16", 2), ("fp8", 1), ("w8a16", 1), ("int4", 0.5 + 2 / 128)]
)
def test_a_format_sets_the_bytes_of_weights(dtype: str, size: float):
    found = product(h100(), 1, 512, 1024, Plan(weights=dtype, integer=True))
    assert found.demand.main == pytest.approx(512 * 1024 * size, rel=ROUNDING)


def test_tiles_are_fed_rows_and_columns():
    # 2 x 4 tiles, each of 1024 steps of 128 rows and 128 columns of 2 bytes.
    feed = product(h100(), 256, 512, 1024).demand.shared
    assert feed is not None
    assert feed[WHOLE] == feed[WHOLE + 1] == 8 * 1024 * (128 + 128) * 2


def test_k_is_split_until_no_core_idles_or_parts_get_short():
    chip = h100()
    fitted = chip.efficiency.gemm
    found = product(chip, 256, 512, 1024)
    # 8 tiles on 132 cores allow 16 parts of k, but parts of 128 steps only 8: 64 tiles.
    expected = 128 / (128 + fitted.prologue) * 64 / 132
    assert found.occupancy[WHOLE + 1] == pytest.approx(float(expected), rel=ROUNDING)
    whole = 1024 / (1024 + fitted.prologue) * 8 / 132
    assert found.occupancy[WHOLE] == pytest.approx(float(whole), rel=ROUNDING)


def test_a_split_pays_for_its_reduction():
    chip = h100()
    fitted = chip.efficiency.gemm
    found = product(chip, 256, 512, 1024)
    # 8 partial sums of 256 x 512, 4 bytes out and 4 back.
    traffic = 8 * 8 * 256 * 512 / chip.shared.bandwidth
    assert found.demand.main is not None
    start = fitted.launch + memory_fill_time(chip, fitted.memory_ramp, found.demand.main)
    assert found.latency[WHOLE] == start
    expected = float(start + fitted.splitk_reduction + traffic)
    assert found.latency[WHOLE + 1] == pytest.approx(expected, rel=ROUNDING)


def issued(chip: Chip) -> float:
    """Share of the matrix peak that issue and power leave to work that lasts."""
    fitted, energy, peak = chip.efficiency.gemm, chip.matrix_energy["bf16"], chip.matrix["bf16"]
    drawn = fitted.energy_factor * energy * peak / chip.headroom
    return float((fitted.sustained**-4 + drawn**4) ** -0.25)


def test_rows_that_a_tile_pads_are_not_useful():
    chip = h100()
    share = product(chip, 1, 512, 1024).shares.matrix
    assert share is not None
    # One row of 128.
    assert share[WHOLE] == pytest.approx(issued(chip) / 128, rel=ROUNDING)


def test_a_chip_of_more_power_multiplies_faster():
    chip = h100()
    rich = eqx.tree_at(lambda c: c.peak_power, chip, 2 * chip.peak_power)
    assert issued(chip) < issued(rich) < float(chip.efficiency.gemm.sustained)


def test_short_kernels_of_a_benchmark_end_before_the_power_limit_holds():
    chip, sizes = h100(), (256, 512, 1024)
    short = product(chip, *sizes, plan=Plan(replay=True)).shares.matrix
    lasting = product(chip, *sizes).shares.matrix
    assert short is not None and lasting is not None
    assert short[WHOLE] > lasting[WHOLE]


def test_operands_wait_for_each_step_of_k():
    chip = h100()
    fitted = chip.efficiency.gemm
    share = product(chip, 256, 512, 1024).shares.shared
    assert share is not None
    # A tile of 128 x 128 in bf16 takes 512 bytes for each step; one read serves two cores.
    expected = float(2 * fitted.feed * 512 / (512 + fitted.step_overhead))
    assert share[WHOLE] == pytest.approx(expected, rel=ROUNDING)


def test_weights_are_read_from_their_home():
    found = product(h100(), 1, 512, 1024, residency=Residency(shared=0.5, main=0.3, far=0.2)).demand
    assert found.main == pytest.approx(0.3 * 1_048_576, rel=ROUNDING)
    assert found.far == pytest.approx(0.2 * 1_048_576, rel=ROUNDING)


@pytest.mark.parametrize("name", ["lpu-v1", "wse-3"])
def test_resident_weights_leave_main_and_far_memory_alone(name: str):
    found = product(load_chip(name), 4, 512, 1024).demand
    # Weights 512 x 1024, inputs 4 x 1024 and results 4 x 512, of 2 bytes.
    assert found.main == found.far == 0
    assert found.private is not None and found.shared is not None
    expected = 2 * (512 * 1024 + 4 * 1024 + 4 * 512)
    assert found.private + found.shared == pytest.approx(expected, rel=ROUNDING)
    assert found.matrix == 2 * 4 * 512 * 1024


def test_weights_that_overflow_a_wafer_come_over_its_edge():
    found = product(
        load_chip("wse-3"), 4, 512, 1024, residency=Residency(private=0.25, far=0.75)
    ).demand
    assert found.far == pytest.approx(0.75 * 1_048_576, rel=ROUNDING)


def test_a_dataflow_product_crosses_its_cores_twice():
    chip = load_chip("wse-3")
    crossing = chip.efficiency.hop_cycles * jnp.sqrt(chip.cores) / chip.clock
    expected = chip.efficiency.gemm.launch + 2 * crossing
    assert product(chip, 4, 512, 1024).latency == pytest.approx(float(expected), rel=ROUNDING)


def test_only_dataflow_machines_cross_their_cores():
    assert (
        mesh_traversal_time(load_chip("lpu-v1"), 2.0)
        == mesh_traversal_time(load_chip("h100-sxm"), 2.0)
        == 0
    )


def test_main_memory_serves_few_bytes_at_once_and_many_after_a_while():
    # 2 us at 3.35 TB/s are 6.7 MB: a thousandth of that waits a thousandth of the time, much more all of it.
    chip, fill = load_chip("h100-sxm"), as_scalar(2e-6)
    bytes_in_flight = float(chip.main.bandwidth) * 2e-6
    found = memory_fill_time(
        chip, fill, as_values([0.0, 1e-3 * bytes_in_flight, 1e3 * bytes_in_flight])
    )
    assert found == pytest.approx([0.0, 2e-9, 2e-6], rel=1e-3)


def test_a_part_wave_takes_as_long_as_a_whole_one():
    # 1.5 blocks a core: with whole waves two rounds, else 1.5; half of the weight on each: 1.75.
    rounds = as_values([1.5])
    for rounding, share in ((1.0, 0.75), (0.0, 1.0), (0.5, 1.5 / 1.75)):
        found = wave_occupancy(rounds, as_scalar(rounding), exact=True)
        assert found[0] == pytest.approx(share, rel=ROUNDING)


def test_fewer_blocks_than_cores_leave_cores_idle():
    assert wave_occupancy(as_values([0.25]), as_scalar(0.5), exact=True)[0] == 0.25
    # The bend at one lifts the divisor by 0.01 / (4 x 0.75) = 0.33 %.
    smooth = wave_occupancy(as_values([0.25, 100.0]), as_scalar(0.5), exact=False)
    assert smooth.tolist() == pytest.approx([0.25, 1.0], rel=0.004)


def test_vector_units_multiply_no_rows_that_are_not_there():
    # One row, and tiles of 16 to 256 columns, which divide 4,096.
    chip = load_chip("m3-ultra")
    found = product(chip, 1, 4096, 4096).shares.matrix
    assert found == pytest.approx(float(chip.efficiency.gemm.sustained), rel=ROUNDING)
    # Three rows in tiles of two: four; matrix units take 16 at least. Four, and 16, fill their tiles.
    for name, multiplied in (("grace", 4), ("xeon-6980p", 16)):
        few, full = (
            jnp.max(as_values(product(load_chip(name), m, 4096, 4096).shares.matrix))
            for m in (3, multiplied)
        )
        assert few / full == pytest.approx(3 / multiplied, rel=ROUNDING)


def test_one_core_that_fetches_ahead_fills_one_pipeline_for_all_its_tiles():
    # 2,048 x 4,096 outputs in tiles of 128 x 128 are 512 on one core, each of 1,024 steps.
    chip = load_chip("tpu-v6e")
    found = as_values(product(chip, 2048, 4096, 1024).occupancy)[WHOLE]
    steps, fill = 512 * 1024, float(chip.efficiency.gemm.prologue)
    assert found == pytest.approx(steps / (steps + fill), rel=ROUNDING)
