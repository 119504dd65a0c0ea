"""Kernels that read, do little, and write."""

import math

import pytest

from perfmodel.kernels.elementwise import KINDS, elementwise
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""


def run(kind: str, name: str = "h100-sxm", tokens: float = 16, hidden: float = 2048) -> Work:
    """The work of one kind; 32,768 elements unless said otherwise."""
    return elementwise(load_chip(name), Plan(), as_scalar(tokens), as_scalar(hidden), KINDS[kind])


@pytest.mark.parametrize(
    ("kind", "size", "flops", "exponentials"),
    [
        # Bytes for each element: residual and input in, sum and norm out: 4 x 2.
        ("norm", 8, 6, 0),
        ("rope", 4, 3, 0),
        # Gate and value in, a product out: 3 x 2.
        ("activation", 6, 4, 1),
        ("add", 6, 1, 0),
        ("softmax", 4, 4, 1),
        # Twice read as bf16, once written as one byte.
        ("quantise", 5, 2, 0),
        ("embedding", 4, 0, 0),
        # Twice read as fp32.
        ("sample", 8, 6, 1),
    ],
)
def test_each_kind_counts_its_bytes_and_operations(kind, size, flops, exponentials):
    demand = run(kind).demand
    assert demand.shared == size * 32768
    assert demand.vector == flops * 32768
    assert demand.exponential == exponentials * 32768


def test_what_was_just_written_is_still_in_sram():
    assert run("norm").demand.main == pytest.approx(0.0, abs=1.0)


def test_an_embedding_is_read_from_main_memory():
    assert run("embedding").demand.main == pytest.approx(2 * 32768, rel=ROUNDING)


def test_what_does_not_fit_goes_through_main_memory():
    # 8 bytes of 2^30 elements, of which 66 + 50 MiB stay: 70 times as much, so p-norms are sharp.
    kept = (66 + 50) * 2**20
    found = run("norm", tokens=2**15, hidden=2**15).demand.main
    assert found == pytest.approx(8 * 2**30 - kept, rel=ROUNDING)


def test_few_elements_use_few_cores():
    # 16 blocks of 2048 on 132 cores; (16/132)^4 / 4 = 5e-5 below that.
    assert run("norm").occupancy == pytest.approx(16 / 132, rel=1e-4)
    assert run("norm", tokens=2**15).occupancy == pytest.approx(1.0, rel=ROUNDING)


def test_only_launched_machines_launch():
    fitted = load_chip("h100-sxm").efficiency.elementwise
    assert run("norm").latency == fitted.launch
    assert run("norm", "lpu-v1").latency == 0


def test_fused_kernels_use_no_main_memory_and_all_bytes_stay_on_the_chip():
    for name in ("lpu-v1", "wse-3"):
        demand = run("norm", name).demand
        assert demand.main is None
        assert demand.private is not None and demand.shared is not None
        assert demand.private + demand.shared == pytest.approx(8 * 32768, rel=ROUNDING)


def test_a_dataflow_machine_pays_for_each_crossing():
    chip = load_chip("wse-3")
    for kind, crossings in (("norm", 1), ("rope", 0), ("softmax", 2)):
        expected = float(mesh_traversal_time(chip, float(crossings)))
        assert math.isclose(run(kind, "wse-3").latency, expected, rel_tol=ROUNDING)
