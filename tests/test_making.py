"""Chips of the library as they are made, and what the ledger asks for one with some variables turned."""

import numpy as np
import pytest

from perfmodel.design.making import (
    MadeChip,
    dies_of,
    is_wafer,
    made_chip,
    making_cost,
    price_factor,
    purchase_factor,
)
from perfmodel.design.variables import CHIP_VARIABLES
from perfmodel.hardware.area import RETICLE_AREA
from perfmodel.hardware.cost import price
from perfmodel.library.chip import chip_file, chip_files
from perfmodel.library.economics import load_ownership
from perfmodel.library.known import described
from perfmodel.library.ledger import memory_apart, price_alone
from perfmodel.library.technology import load_constants
from perfmodel.units import as_scalar
from perfmodel.workload.precision import MatrixKind

CONSTANTS = load_constants().values
UP_AND_DOWN = np.array([1 / 16, 0.25, 0.9, 1.0, 1.1, 4.0, 16.0])


def made(name: str) -> MadeChip:
    return made_chip(chip_file(name)[1])


@pytest.mark.long
def test_every_chip_of_the_library_as_it_is_keeps_its_price():
    asked = dict.fromkeys(CHIP_VARIABLES, np.ones(1))
    for name in chip_files():
        assert price_factor(name, asked) == pytest.approx(1.0, abs=1e-5), name


@pytest.mark.parametrize("name", ["h100-sxm", "wse-3", "lpu-v1", "m3-ultra", "tpu-v6e", "mi355x"])
def test_more_of_anything_is_never_cheaper_and_nothing_is_free_of_charge(name: str):
    for variable in CHIP_VARIABLES:
        found = price_factor(name, {variable: UP_AND_DOWN})
        assert np.all(found > 0) and np.all(np.diff(found) >= -1e-6), variable


def test_price_itself_and_what_a_chip_lacks_change_nothing():
    assert price_factor("h100-sxm", {"price": UP_AND_DOWN, "links": np.ones(7)}) == pytest.approx(1)
    assert price_factor("wse-3", {"stacks": UP_AND_DOWN}) == pytest.approx(1)


def test_a_second_set_of_stacks_is_paid_at_cost_and_margin():
    """Of the H100 5 stacks of 16 GB more: their bytes, package, interfaces on the die, and what is lost."""
    file = chip_file("h100-sxm")[1]
    factor = float(price_factor("h100-sxm", {"stacks": np.array([2.0])})[0])
    more = (factor - 1) * price_alone(file)
    one = made("h100-sxm")
    memory = float(price(one.technology.memory.price * 80e9, load_ownership()))
    assert memory < more < 2.5 * memory


def test_faster_memory_without_more_bytes_costs_interfaces_not_bytes():
    asked = {"bandwidth": np.array([2.0, 1.0]), "stacks": np.array([1.0, 2.0])}
    faster, larger = price_factor("h100-sxm", asked) - 1
    assert 0.1 * larger < faster < 0.5 * larger


def test_without_a_price_it_moves_as_its_cost():
    one = made("tpu-v6e")
    before, after = (
        float(making_cost(one, factors, CONSTANTS)) for factors in ({}, {"compute": as_scalar(4)})
    )
    found = price_factor("tpu-v6e", {"compute": np.array([4.0])})
    assert found == pytest.approx(after / before, rel=1e-5)


def test_memory_that_is_bought_apart_is_paid_as_the_ledger_pays_it():
    asked = {"stacks": np.array([2.0]), "price": np.array([0.5])}
    file = chip_file("epyc-9965")[1]
    own, memory = price_alone(file) - memory_apart(file), memory_apart(file)
    more = float(price_factor("epyc-9965", asked)[0]) - 1
    assert 0 < more < 0.1  # interfaces on the die alone
    found = purchase_factor("epyc-9965", asked) * (own + memory)
    assert found == pytest.approx(0.5 * (1 + more) * own + 2 * memory)


@pytest.mark.parametrize("kind", ["fp32", "fp8", "fp4"])
def test_a_chip_of_any_format_has_parts(kind: MatrixKind):
    """1e15 FLOP/s of 8 bits are as many bits a second as half as many of bf16."""
    file = chip_file("h100-sxm")[1]
    rate = file.matrix["bf16"].model_copy(update={"value": 1e15, "unit": "FLOP/s"})
    peak = described(file.model_copy(update={"matrix": {kind: rate}}))[2]
    assert float(peak.matrix) == pytest.approx(1e15 * {"fp32": 2, "fp8": 0.5, "fp4": 0.25}[kind])


def test_a_wafer_that_grows_is_as_many_wafers_as_its_area():
    one = made("wse-3")
    before = float(making_cost(one, {}, CONSTANTS))
    after = float(making_cost(one, {"sram": as_scalar(2)}, CONSTANTS))
    assert 1.3 < after / before < 2.0  # more than half of it is SRAM


def test_dies_are_as_few_as_the_reticle_allows_and_a_wafer_is_one():
    files = chip_files()
    known = {"h100-sxm": 1, "b200-sxm": 2, "wse-3": 1, "ipu-bow": 1, "mi250x": 2, "tpu-v6e": 1}
    assert {name: dies_of(files[name]) for name in known} == known
    assert is_wafer(files["wse-2"]) and not is_wafer(files["ipu-bow"])
    assert pytest.approx(858e-6) == RETICLE_AREA


def test_a_die_beyond_the_reticle_costs_as_two():
    """Sixteen times the SRAM of an H100 does not fit one field; the cost stays smooth and finite."""
    one = made("h100-sxm")
    costs = [float(making_cost(one, {"sram": as_scalar(x)}, CONSTANTS)) for x in (1, 8, 15.9, 16)]
    assert costs == sorted(costs) and costs[3] / costs[2] < 1.01
