"""Area of dies: hand counts, limits, and gradients against finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from silicon import gpu, made_of, nothing, number, slope

from perfmodel.errors import InputError
from perfmodel.hardware import area
from perfmodel.hardware.parts import Parts
from perfmodel.hardware.technology import stacked
from perfmodel.library.technology import load_constants, load_technology, silicon, with_macro

CONSTANTS = load_constants().values.area
NODES = ("n16", "n7", "n5", "n3", "n2")
SIZES = ("sram", "registers", "matrix", "vector", "double", "cores", "stacks", "link", "crossbar")


def mm2(parts: Parts, node: str = "n5", memory: str = "hbm3e") -> float:
    return float(area.die_area(parts, made_of(node, memory), CONSTANTS)) * 1e6


def test_sram_takes_its_macro_and_what_is_around_it():
    # 24.7 Mb/mm2 at N7: 100 MB are 32.39 mm2 of macros.
    found = area.tiles(Parts(sram=100e6), silicon("n7"), CONSTANTS)
    assert float(found["sram"]) * 1e6 == pytest.approx(32.389 * float(CONSTANTS.sram), rel=1e-3)


def test_an_hbm_interface_is_its_phy_its_controller_and_its_fabric():
    # At N5: PHY 10.45 mm2, and 552.7 M transistors at 138 a um2: 4.005 mm2.
    made = made_of("n5", "hbm3e")
    found = float(area.interface_area(made.memory, made.node, CONSTANTS)) * 1e6
    fabric = float(CONSTANTS.stack * area.logic_scale(made.node, CONSTANTS)) * 1e6
    assert found == pytest.approx(10.45 + 4.005 + fabric, rel=1e-3)


def test_a_device_off_the_package_takes_its_phy_and_the_fabric_of_its_channels():
    # At N7, 91.2 a um2: 90.4 M transistors are 0.991 mm2, of 32 bits; a channel of LPDDR has 64.
    fabric = float(CONSTANTS.channel) * 1e6
    made = made_of("n7", "gddr6")
    found = float(area.interface_area(made.memory, made.node, CONSTANTS)) * 1e6
    assert found == pytest.approx(4.25 + 0.991 + fabric, rel=2e-3)
    wide = made_of("n7", "lpddr5x")
    found = float(area.interface_area(wide.memory, wide.node, CONSTANTS)) * 1e6
    assert found == pytest.approx(2 * (1.45 + 0.992 + fabric), rel=2e-3)


def test_constants_hold_at_n7():
    assert float(area.logic_scale(silicon("n7"), CONSTANTS)) == pytest.approx(1)


@pytest.mark.parametrize("name", SIZES)
def test_more_of_a_part_takes_more_area(name: str):
    grown, exact = slope(lambda x: area.die_area(change(gpu(), name, x), MADE, CONSTANTS), 1.0)
    assert grown == pytest.approx(exact, rel=2e-2)
    assert grown > 0


MADE = made_of()


def change(parts: Parts, name: str, factor) -> Parts:
    return eqx.tree_at(lambda p: getattr(p, name), parts, getattr(parts, name) * factor)


def test_a_newer_node_makes_a_smaller_die():
    sizes = [mm2(gpu(), node) for node in NODES]
    assert sizes == sorted(sizes, reverse=True)


def test_a_gpu_of_the_size_of_an_h100_takes_about_its_die():
    assert mm2(gpu()) == pytest.approx(814, rel=0.3)


def test_nothing_but_a_base_takes_what_is_fixed_and_a_stacked_die_not_even_that():
    scale = float(area.logic_scale(silicon("n5"), CONSTANTS))
    assert mm2(nothing()) == pytest.approx(float(CONSTANTS.fixed) * 1e6 * scale**0.5, rel=1e-4)
    assert mm2(Parts(sram=0.0, base=0.0)) == 0.0


def test_gradients_are_finite_where_there_is_nothing(precision: str):
    made, constants = load_technology(), load_constants().values.area

    def both(parts: Parts) -> jax.Array:
        size = area.die_area(parts, made, constants)
        return size + area.reticle_slack(size) + area.edge_slack(parts, made, size)

    slopes = jax.grad(both)(nothing())
    assert all(jnp.isfinite(leaf) for leaf in jax.tree.leaves(slopes))
    assert float(slopes.stacks) != 0 and float(slopes.sram) != 0


def test_nodes_and_memories_run_under_one_vmap():
    pairs = [(node, memory) for node in NODES for memory in ("hbm3e", "hbm4", "gddr7", "hbf")]
    table = stacked([made_of(*pair) for pair in pairs])
    found = jax.vmap(area.die_area, in_axes=(None, 0, None))(gpu(), table, CONSTANTS)
    assert [float(x) for x in found * 1e6] == pytest.approx([mm2(gpu(), *pair) for pair in pairs])


def test_a_wafer_has_nothing_of_a_package():
    node = silicon("n5")
    cores = Parts(sram=44e9, matrix=16 * 9e5, cores=9e5, stacks=6, link=1e12)
    alone = eqx.tree_at(lambda p: (p.stacks, p.link), cores, (number(0.0), number(0.0)))
    assert area.wafer_area(cores, node, CONSTANTS) == area.wafer_area(alone, node, CONSTANTS)


def test_the_reticle_is_858_square_millimetres():
    assert float(area.reticle_slack(number(858e-6))) == pytest.approx(0, abs=1e-6)
    assert float(area.reticle_slack(number(900e-6))) < 0


def test_six_stacks_and_nvlink_fit_around_a_large_die_and_twelve_do_not():
    # 6 x 11 mm and 514 GB/s at 22 GB/s a mm: 89 mm of 4 x 28.5.
    assert float(area.used_edge(gpu(), made_of())) * 1e3 == pytest.approx(66 + 23.1, rel=1e-2)
    assert float(area.edge_slack(gpu(), made_of(), number(814e-6))) > 0
    assert float(area.edge_slack(gpu(stacks=12), made_of(), number(814e-6))) < 0


def test_sram_bandwidth_stops_at_what_was_shipped():
    wse = area.sram_rate_slack(number(44e9), number(21e15))
    assert float(wse) == pytest.approx(0, abs=2e-3)
    assert float(area.sram_rate_slack(number(44e9), number(42e15))) < 0
    assert jnp.isfinite(area.sram_rate_slack(number(0.0), number(0.0)))


def test_mram_on_the_die_is_denser_than_sram_and_does_not_leak():
    node = silicon("n5")
    swapped = with_macro(node, "stt-mram")
    assert float(swapped.sram_density) > 2 * float(node.sram_density)
    assert float(swapped.sram_leakage) == 0 and float(with_macro(node, "edram").sram_leakage) > 0
    named = silicon("n5+stt-mram")
    assert float(named.sram_density) == float(swapped.sram_density)
    # A whole chip's 1.45 MB/mm2: its macros are as much denser as SRAM's are than a chip of SRAM.
    whole = 1.45e12 * float(load_constants().values.area.sram)
    assert float(silicon("n16+edram").sram_density) == pytest.approx(whole, rel=1e-5)


def test_a_technology_that_lacks_a_fact_says_which():
    with pytest.raises(InputError, match=r"no capacity; a chip cannot be planned"):
        load_technology(memory="host")
    with pytest.raises(
        InputError, match="unknown year '1999'; prices are known for 2023, 2025, 2026"
    ):
        load_technology(year="1999")
    with pytest.raises(InputError, match="does not lie on a die"):
        with_macro(silicon("n5"), "hbm3e")


def test_memory_has_become_dearer():
    prices = [float(made_of(year=year).memory.price) * 1e9 for year in ("2023", "2025", "2026")]
    assert prices == pytest.approx([7, 10, 15])
