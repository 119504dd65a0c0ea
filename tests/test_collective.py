"""Collectives: steps and bytes of each algorithm and topology."""

import equinox as eqx
import jax.numpy as jnp
import pytest

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.network import Topology
from perfmodel.kernels.backends.nccl import NCCL, VLLM
from perfmodel.kernels.collective import Kind, collective
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""

SIZE = 1e6
"""Bytes of the vector in these tests."""

KINDS: tuple[Kind, ...] = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "point_to_point",
)


def machine(topology: Topology, reduces: bool = False) -> Chip:
    """Eight chips to a domain; steps of 3 us within, 10 us between; 1 us to start."""
    chip = load_chip("h100-sxm")
    network = eqx.tree_at(lambda n: n.latency, chip.scale_up, as_scalar(3e-6))
    network = type(network)(
        network.bandwidth, network.latency, 8.0, network.energy, topology, reduces
    )
    times = (as_scalar(1e-6), as_scalar(1.0), as_scalar(10e-6))
    chip = eqx.tree_at(lambda c: c.scale_up, chip, network)
    return eqx.tree_at(
        lambda c: (
            c.efficiency.collective.launch,
            c.efficiency.collective.step_latency,
            c.scale_out.latency,
        ),
        chip,
        times,
    )


def run(chip: Chip, kind: Kind, ranks: float, nodes: float = 1) -> Work:
    """A collective over a vector of `SIZE` bytes."""
    return collective(chip, Plan(), kind, as_scalar(ranks), as_scalar(nodes), as_scalar(SIZE))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topology", ["switch", "torus"])
def test_one_rank_costs_nothing(kind: Kind, topology: Topology):
    chip = machine(topology, reduces=topology == "switch")
    found = run(chip, kind, 1)
    assert found.demand.network is not None
    assert not jnp.any(found.demand.network) and not jnp.any(found.latency)
    assert found.demand.fabric == 0


def test_a_switch_that_adds_has_three_ways_to_reduce():
    found = run(machine("switch", reduces=True), "all_reduce", 8)
    # In the switch S 9/8; one shot 7 S; two shots 2 S 7/8.
    assert found.demand.network is not None
    sent = [1.125 * SIZE, 7 * SIZE, 1.75 * SIZE]
    assert found.demand.network.tolist() == pytest.approx(sent, rel=ROUNDING)
    # 1 us to start, and 2, 1 and 2 steps of 3 us.
    assert found.latency.tolist() == pytest.approx([7e-6, 4e-6, 7e-6], rel=ROUNDING)
    assert found.demand.fabric == 0


def test_a_plain_switch_has_two_ways_to_reduce():
    found = run(machine("switch"), "all_reduce", 8).demand.network
    assert found is not None
    assert found.tolist() == pytest.approx([7 * SIZE, 1.75 * SIZE], rel=ROUNDING)


@pytest.mark.parametrize(
    ("topology", "ranks", "steps"),
    # A ring of 4: 2 x 3 steps. Two rings across 2 x 2: 4 x (2 - 1).
    [("link", 4, 6), ("torus", 4, 4), ("mesh", 4, 4)],
)
def test_neighbours_take_more_steps(topology: Topology, ranks: float, steps: float):
    found = run(machine(topology), "all_reduce", ranks)
    assert found.demand.network is not None
    assert found.demand.network.tolist() == pytest.approx([1.5 * SIZE], rel=ROUNDING)
    assert found.latency.tolist() == pytest.approx([1e-6 + steps * 3e-6], rel=ROUNDING)


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
def test_a_gather_or_a_scatter_is_half_of_an_all_reduce(kind: Kind):
    chip = machine("link")
    half, whole = run(chip, kind, 4), run(chip, "all_reduce", 4)
    assert half.demand.network is not None and whole.demand.network is not None
    assert 2 * half.demand.network[0] == pytest.approx(float(whole.demand.network[0]))
    assert half.latency[0] - 1e-6 == pytest.approx(float(whole.latency[0] - 1e-6) / 2)


def test_a_message_is_sent_whole_in_one_step():
    found = run(machine("switch"), "point_to_point", 2)
    assert found.demand.network is not None
    assert found.demand.network.tolist() == [SIZE]
    assert found.latency.tolist() == pytest.approx([4e-6], rel=ROUNDING)


def test_two_domains_use_the_fabric_with_a_part_each():
    found = run(machine("switch"), "all_reduce", 16)
    # Within eight as before; between two, 2 x (S/8) / 2, and two steps of 10 us.
    assert found.demand.fabric == pytest.approx(SIZE / 8, rel=ROUNDING)
    assert found.demand.network is not None
    assert found.demand.network[-1] == pytest.approx(1.75 * SIZE, rel=ROUNDING)
    assert found.latency[-1] == pytest.approx(7e-6 + 20e-6, rel=ROUNDING)


def test_domains_may_be_smaller_than_the_network_allows():
    # Eight ranks in two nodes: four within, and (S/4) between.
    found = run(machine("switch"), "all_reduce", 8, nodes=2).demand
    assert found.fabric == pytest.approx(SIZE / 4, rel=ROUNDING)


def test_half_of_what_all_send_to_all_leaves_a_domain_of_two():
    # Nobody else can send it: S/2 of each chip is for the other domain.
    found = run(machine("switch"), "all_to_all", 16)
    assert found.demand.fabric == pytest.approx(SIZE / 2, rel=ROUNDING)
    assert found.demand.network is not None
    assert found.demand.network[-1] == pytest.approx(SIZE * 7 / 8, rel=ROUNDING)


def test_a_message_between_domains_leaves_by_the_fabric():
    demand = run(machine("switch"), "point_to_point", 2, nodes=2).demand
    assert demand.fabric == SIZE
    assert demand.network is not None and demand.network.tolist() == [0]


def by_nccl(kind: Kind, ranks: float, size: float, name: str = "h100-sxm") -> Work:
    chip, plan = load_chip(name), Plan(collective_backend=NCCL)
    return collective(chip, plan, kind, as_scalar(ranks), as_scalar(1), as_scalar(size))


def test_nccl_tries_rings_and_the_switch_with_flags_and_without():
    work = by_nccl("all_reduce", 8, 8e6)
    # A ring sends 2 x 7/8 of 8 MB, with flags twice as much; the switch 9/8 of 8 MB.
    assert work.demand.network is not None
    assert work.demand.network.tolist() == pytest.approx([28e6, 14e6, 9e6])


def test_nccl_shakes_hands_and_fills_its_pipeline_where_there_are_no_flags():
    chip, work = load_chip("h100-sxm"), by_nccl("all_reduce", 8, 8e6)
    fitted = chip.efficiency.collective
    # Two passes; 14 MB at the sustained rate, in as many pieces as take the least time.
    time = 14e6 / float(chip.scale_up.bandwidth * fitted.sustained)
    more = 2 * float(fitted.handshake) + 2 * (float(fitted.pipeline_fill) * time) ** 0.5
    assert float(work.latency[1] - work.latency[0]) == pytest.approx(more, rel=1e-4)


def test_a_gather_of_nccl_is_a_ring_and_copies_its_own_part():
    chip, work = load_chip("h100-sxm"), by_nccl("all_gather", 4, 8e6)
    assert work.demand.network is not None
    assert work.demand.network.tolist() == pytest.approx([12e6, 6e6])
    fitted = chip.efficiency.collective
    # Three steps, and a copy of 2 MB.
    copy = 2e6 / float(chip.main.bandwidth * fitted.copy_bandwidth)
    hops = 3 * float(chip.scale_up.latency * fitted.step_latency)
    assert float(work.latency[0]) == pytest.approx(float(fitted.launch) + hops + copy, rel=1e-4)


@pytest.mark.parametrize(("ranks", "levels"), [(2, 0), (4, 1), (8, 2)])
def test_each_level_of_host_bridges_takes_its_share(ranks: float, levels: int):
    fitted = load_chip("l40s").efficiency.collective
    share = by_nccl("all_reduce", ranks, 8e6, "l40s").shares.network
    assert share is not None
    left = float(fitted.sustained) * float(fitted.host_bridge_rate) ** levels
    assert float(share) == pytest.approx(left, rel=1e-4)


def test_frameworks_leave_all_reduces_on_pcie_to_nccl():
    chip, sizes = load_chip("l40s"), [as_scalar(x) for x in (4, 1, SIZE)]
    own, nccl = (
        collective(chip, Plan(collective_backend=one), "all_reduce", *sizes) for one in (VLLM, NCCL)
    )
    assert own.latency.tolist() == nccl.latency.tolist()


@pytest.mark.parametrize("framework", ["vllm", "sglang", "trtllm"])
def test_what_nccl_reaches_on_a_chip_speaks_for_frameworks_that_were_not_measured_there(
    framework: str,
):
    nccl, own = (
        load_chip("l40s", Plan(framework=f)).efficiency.collective for f in ("nccl", framework)
    )
    assert own == nccl


def test_bridges_of_a_server_are_not_carried_over_to_another_chip():
    plan = Plan(framework="nccl", replay=True)
    l40s, l4, served = (
        load_chip(n, p) for n, p in (("l40s", plan), ("l4", plan), ("l40s", Plan()))
    )
    assert l4.efficiency.collective.handshake == l40s.efficiency.collective.handshake
    bridges = [one.efficiency.collective.host_bridge_rate for one in (l40s, l4, served)]
    assert bridges[0] != bridges[1] == bridges[2]


def test_nccl_sends_to_all_at_once_but_flagged_messages_in_pieces():
    chip, work = load_chip("h100-sxm"), by_nccl("all_to_all", 8, 8e6)
    fitted = chip.efficiency.collective
    hop = float(chip.scale_up.latency * fitted.step_latency)
    copy = 1e6 / float(chip.main.bandwidth * fitted.copy_bandwidth)
    # One step, and 1 MB for each of eight in pieces of 8,192 bytes; 7 of 8 MB leave, flagged ones twice.
    expected = float(fitted.launch) + hop * (1 + 1e6 / 8192) + copy
    assert float(work.latency[0]) == pytest.approx(expected, rel=1e-4)
    assert work.demand.network is not None
    assert work.demand.network.tolist() == pytest.approx([14e6, 7e6])


def test_the_switch_that_adds_takes_two_steps_of_nccl_and_its_own_filling():
    chip, work = load_chip("h100-sxm"), by_nccl("all_reduce", 8, 8e6)
    fitted = chip.efficiency.collective
    hop = float(chip.scale_up.latency * fitted.step_latency)
    time = 9e6 / float(chip.scale_up.bandwidth * fitted.sustained)
    filled = 2 * float(fitted.handshake) + 2 * (float(fitted.pipeline_fill) * time) ** 0.5
    assert float(work.latency[2]) == pytest.approx(
        float(fitted.launch) + 2 * hop + filled, rel=1e-4
    )
    # A ring: seven steps there and seven back.
    assert float(work.latency[0]) == pytest.approx(float(fitted.launch) + 14 * hop, rel=1e-4)
