"""What a search makes of a chip's numbers, what serves a workload, and what its figures are: by ratios."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.design import problem as problems
from perfmodel.design import system
from perfmodel.design.chip import ChipDesign, Platform, build, chip_parameters, cores, parts
from perfmodel.design.problem import Problem
from perfmodel.design.resolve import resolve_study
from perfmodel.design.study import Study
from perfmodel.design.system import Pool, Served, Workload, delayed
from perfmodel.design.variables import CHIP_VARIABLES, turn, turn_file
from perfmodel.errors import InputError
from perfmodel.hardware.power import CLOCK, Activity, drawn
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.technology import load_constants, load_technology, silicon
from perfmodel.units import as_scalar, as_values
from perfmodel.workload.plan import Plan

BASE = load_chip("h100-sxm", Plan())
WAFER = load_chip("wse-3", Plan())
H100 = {"sram_mb": 50e6, "sram_tb_per_s": 5.5e12, "stacks": 6.0, "tflops": 989e12}


def values(**changes: float) -> dict[str, Any]:
    return {name: as_scalar(value) for name, value in (H100 | changes).items()}


def stuff(node: str = "n5", memory: str = "hbm3e", base: Any = BASE, old: str = "n5") -> Platform:
    return Platform(base, silicon(old), load_technology(node, memory), load_constants().values)


def made(of: Platform | None = None, power: float = 700.0, **changes: float) -> ChipDesign:
    of = of or stuff()
    return build(chip_parameters(values(**changes), of.base), of, as_scalar(power))


def test_what_a_study_does_not_name_is_as_the_base_has_it_for_each_core():
    one = chip_parameters(values(tflops=2 * float(BASE.matrix["bf16"])), BASE)
    assert float(one.vector) == pytest.approx(2 * float(BASE.vector))
    assert float(one.exponential) == pytest.approx(2 * float(BASE.exponential))
    assert float(one.clock) == float(BASE.clock)
    assert float(one.link) == float(BASE.scale_up.bandwidth)
    own = chip_parameters(values(clock_ghz=1e9, vector_tflops=5e12, link_gb_per_s=1e11), BASE)
    assert [float(n) for n in (own.clock, own.vector, own.link)] == pytest.approx([1e9, 5e12, 1e11])


def test_cores_are_as_many_as_the_compute_asks_for_at_the_clock():
    twice = chip_parameters(values(tflops=2 * float(BASE.matrix["bf16"])), BASE)
    assert float(cores(twice, BASE)) == pytest.approx(2 * float(BASE.cores))
    slow = twice._replace(clock=BASE.clock / 2)
    assert float(cores(slow, BASE)) == pytest.approx(4 * float(BASE.cores))


def test_a_dies_parts_are_those_of_its_numbers():
    one = chip_parameters(values(tflops=2 * float(BASE.matrix["bf16"])), BASE)
    found, count = parts(one, BASE), 2 * float(BASE.cores)
    assert float(found.cores) == pytest.approx(count)
    assert float(found.registers) == pytest.approx(262_144 * count)
    assert float(found.sram) == pytest.approx(50e6 + 2 * float(BASE.private.capacity), rel=1e-5)
    assert float(found.matrix) == pytest.approx(float(one.compute / one.clock))
    assert float(found.vector) == pytest.approx(float(one.vector / one.clock))
    assert float(found.crossbar) == pytest.approx(5.5e12) and float(found.threaded) == 1
    assert float(found.stacks) == 6 and float(found.double) == 0
    assert float(found.link) == float(one.link) and float(found.clock) == float(one.clock)
    wafer = parts(chip_parameters(values(), WAFER), WAFER)
    nothing = (wafer.registers, wafer.crossbar, wafer.threaded)
    assert [float(n) for n in nothing] == [0, 0, 0]
    assert float(wafer.sram) == pytest.approx(50e6)


def test_a_chip_has_the_memory_of_its_stacks_and_the_sram_of_its_design():
    chip = made(stacks=3.0).chip
    memory = load_technology("n5", "hbm3e").memory
    assert float(chip.main.capacity) == pytest.approx(3 * float(memory.capacity))
    assert float(chip.main.bandwidth) == pytest.approx(3 * float(memory.bandwidth))
    host = float(load_constants().values.power.host)
    assert float(chip.main.energy) == pytest.approx(float(memory.energy) + host)
    assert float(chip.main.usable) == float(BASE.main.usable)
    assert (float(chip.shared.capacity), float(chip.shared.bandwidth)) == pytest.approx(
        (50e6, 5.5e12)
    )
    assert float(chip.shared.usable) == pytest.approx(0.9)
    assert float(chip.shared.multicast) == float(BASE.shared.multicast)
    assert float(chip.scale_up.bandwidth) == float(BASE.scale_up.bandwidth)
    assert np.isnan(float(chip.price)) and float(chip.peak_power) == 700


def test_a_wafer_serves_from_the_sram_beside_its_cores():
    of = stuff(base=WAFER, old=chip_files()["wse-3"].node)
    chip = made(of, sram_mb=44e9, sram_tb_per_s=2e16, tflops=float(WAFER.matrix["bf16"])).chip
    assert float(chip.private.capacity) == pytest.approx(44e9)
    assert float(chip.private.bandwidth) == pytest.approx(2e16)


def test_a_wafer_costs_its_wafer_with_the_share_that_works_and_its_memory_alone():
    of = stuff(base=WAFER, old=chip_files()["wse-3"].node)
    numbers = {"sram_mb": 4e10, "sram_tb_per_s": 2e16, "tflops": float(WAFER.matrix["bf16"])}
    none, six = (made(of, stacks=n, **numbers) for n in (0.0, 6.0))
    memory = of.technology.memory
    assert float(six.cost - none.cost) == pytest.approx(
        6 * float(memory.capacity * memory.price), rel=1e-3
    )
    assert float(none.cost) >= float(of.technology.node.wafer) and float(none.edge) == 10
    assert "stacks" not in none.blocks


def test_energies_follow_the_node_and_the_square_of_the_voltage():
    n5, n3 = silicon("n5"), silicon("n3")
    for node in ("n5", "n3"):
        new = silicon(node)
        chip = made(stuff(node)).chip
        assert float(chip.matrix_energy["bf16"] / BASE.matrix_energy["bf16"]) == pytest.approx(
            float(new.matrix_energy / n5.matrix_energy), rel=1e-4
        )
        vector = float(new.vector_energy / n5.vector_energy)
        assert float(chip.vector_energy / BASE.vector_energy) == pytest.approx(vector, rel=1e-4)
        assert float(chip.exponential_energy / BASE.exponential_energy) == pytest.approx(
            vector, rel=1e-4
        )
        array = float(new.sram_energy / n5.sram_energy)
        assert float(chip.shared.energy / BASE.shared.energy) == pytest.approx(array, rel=1e-4)
        assert float(chip.private.energy / BASE.private.energy) == pytest.approx(array, rel=1e-4)
    assert float(n3.matrix_energy) != float(n5.matrix_energy)
    fast, slow = (made(clock_ghz=f * float(BASE.clock)) for f in (1.2, 1.0))
    squared = float(fast.chip.matrix_energy["bf16"] / slow.chip.matrix_energy["bf16"])
    assert squared > 1
    for pick in (lambda c: c.vector_energy, lambda c: c.shared.energy, lambda c: c.private.energy):
        assert float(pick(fast.chip) / pick(slow.chip)) == pytest.approx(squared, rel=1e-4)


def test_a_chip_at_rest_draws_what_its_parts_take_without_work_and_the_square_of_the_voltage():
    of = stuff()

    def at_rest(**changes: float) -> tuple[float, float]:
        """As made, and as its parts draw at nominal voltage."""
        one, found = chip_parameters(values(**changes), BASE), made(of, **changes)
        nominal = dataclasses.replace(parts(one, BASE), clock=as_scalar(CLOCK))
        plain = drawn(nominal, found.area, Activity(), of.technology, of.constants.power)
        return float(found.idle), float(plain)

    idle, plain = at_rest()
    assert idle == pytest.approx(plain, rel=1e-4) and 50 < idle < 300
    idle, plain = at_rest(clock_ghz=1.2 * float(BASE.clock))
    fast, slow = (made(of, clock_ghz=f * float(BASE.clock)).chip for f in (1.2, 1.0))
    squared = float(fast.vector_energy / slow.vector_energy)
    assert idle == pytest.approx(squared * plain, rel=1e-4) and squared > 1


def test_a_core_of_twice_the_compute_brings_its_own_sram_and_rates():
    one, two = (made(tflops=n * float(BASE.matrix["bf16"])).chip for n in (1, 2))
    for pick in (lambda c: c.private.capacity, lambda c: c.private.bandwidth, lambda c: c.vector):
        assert float(pick(two)) == pytest.approx(2 * float(pick(one)), rel=1e-5)
        assert float(pick(one)) == pytest.approx(float(pick(BASE)), rel=1e-5)
    for kind, rate in BASE.matrix.items():
        assert float(two.matrix[kind]) == pytest.approx(2 * float(rate), rel=1e-5)


def test_knobs_turn_their_facts_and_no_others():
    for name, knob in CHIP_VARIABLES.items():
        turned = turn(BASE, {name: 3.0})
        old, new = (jax.tree_util.tree_flatten_with_path(chip)[0] for chip in (BASE, turned))
        changed = {
            ".".join(str(getattr(key, "name", getattr(key, "key", ""))) for key in path)
            for (path, a), (_, b) in zip(old, new, strict=True)
            if float(a) and float(b) / float(a) == pytest.approx(3)
        }
        assert changed and all(
            any(place == field or place.startswith(field + ".") for field in knob.fields)
            for place in changed
        ), (name, changed)
    assert turn(BASE, {}) is BASE
    both = turn(BASE, {"stacks": 2.0, "bandwidth": 3.0})
    assert float(both.main.bandwidth / BASE.main.bandwidth) == pytest.approx(6)
    assert float(both.main.capacity / BASE.main.capacity) == pytest.approx(2)
    with pytest.raises(InputError, match="there is no knob 'srm'"):
        turn(BASE, {"srm": 2.0})


def test_a_file_with_its_knobs_turned_says_so():
    file = chip_files()["h100-sxm"]
    new = turn_file(file, {"stacks": 2.0, "compute": 0.5})
    assert file.main is not None and new.main is not None
    assert new.main.capacity.value == pytest.approx(2 * file.main.capacity.value)
    assert new.main.bandwidth.value == pytest.approx(2 * file.main.bandwidth.value)
    assert new.matrix["bf16"].value == pytest.approx(0.5 * file.matrix["bf16"].value)
    assert new.matrix["bf16"].confidence == "estimate" and "times 0.5" in str(
        new.matrix["bf16"].note
    )
    assert new.name == f"{file.name}, memory stacks x 2, compute x 0.5" and not new.aliases
    assert turn_file(file, {}).name == file.name
    with pytest.raises(InputError, match="there is no knob"):
        turn_file(file, {"srm": 2.0})


ASKED = {
    "objective": {"minimise": "usd_per_million_tokens"},
    "constraints": {"power_w": 1000, "tokens_per_s_per_user": 20, "tpot_ms": 40, "system_usd": 1e5},
    "workload": [{"model": "llama-3.1-8b", "batch": 8, "context": 1024}],
    "space": {"memory": ["hbm3e", "none"], "tensor": {"low": 1, "high": 8}, "workers": 2},
}


@pytest.fixture(scope="module")
def asked() -> Problem:
    return resolve_study(Study.model_validate(ASKED))


SERVED = Served(*map(as_scalar, (0.5, 0.02, 400.0, 2.0)))


def part(**changes: Any) -> Pool:
    plan = dataclasses.replace(Plan(tp=2.0), **changes)
    return Pool(made(), plan, as_scalar(3.0))


def test_a_slower_service_takes_longer_and_no_more_energy():
    slow = delayed(SERVED, as_scalar(2.0))
    assert [float(n) for n in slow] == pytest.approx([1.0, 0.04, 200.0, 2.0])


def test_a_system_owns_the_chips_of_all_its_pools(asked: Problem):
    one = part()
    assert float(one.chips) == 6
    money = system.cost_of([one, one], asked.owner, as_scalar(100.0))
    assert float(money.area) == pytest.approx(12 * float(one.design.area))
    each = float(one.design.cost / (1 - asked.owner.margin))
    assert float(money.paid) == pytest.approx(12 * each) and float(money.power) == 100
    alone = system.cost_of([one], asked.owner, as_scalar(50.0))
    assert float(money.running) == pytest.approx(2 * float(alone.running))


def test_figures_of_a_system_are_those_of_their_names(asked: Problem):
    one = part()
    load = asked.workloads[0]
    found = {n: float(v) for n, v in problems.figures(asked, [one], load, SERVED).items()}
    money = problems.system_cost(asked, [one], SERVED)
    assert float(money.power) == pytest.approx(400 * 2)
    area, paid, running = (float(n) for n in (money.area, money.paid, money.running))
    sold = 400 * float(asked.owner.busy)
    assert found["tokens_per_s_per_user"] == pytest.approx(50) and found["tokens_per_s"] == 400
    assert found["tokens_per_s_per_mm2"] == pytest.approx(400 / (1e6 * area))
    assert found["tokens_per_s_per_watt"] == pytest.approx(0.5)
    assert found["tokens_per_s_per_usd"] == pytest.approx(400 / paid)
    assert found["usd_per_million_tokens"] == pytest.approx(1e6 * running / sold)
    assert found["joules_per_million_tokens"] == pytest.approx(2e6)
    assert found["ttft_ms"] == pytest.approx(500) and found["tpot_ms"] == pytest.approx(20)
    memory = 6 * float(one.design.chip.main.capacity)
    assert found["memory_bytes_per_token_per_s"] == pytest.approx(memory / 400)
    # A dollar for a million tokens at 100 tokens/s, and half the exponent at 50.
    earned = sold * 1e-6 * 0.5**0.5
    assert found["revenue_per_usd"] == pytest.approx(earned / running)
    assert found["revenue_per_watt"] == pytest.approx(earned / 800)


def test_slacks_are_logarithms_of_what_a_limit_leaves(asked: Problem):
    table = {name: as_scalar(n) for name, n in (("tokens_per_s_per_user", 50), ("tpot_ms", 20))}
    found: Any = problems.Assessment(as_scalar(0.0), [table], [], [], [])
    order = dict(zip(asked.on_figures, problems.user_slacks(asked, found), strict=True))
    assert float(order["tokens_per_s_per_user"]) == pytest.approx(np.log(50 / 20))
    assert float(order["tpot_ms"]) == pytest.approx(np.log(40 / 20))
    one = part()
    least = problems._system_slacks(asked, [one])
    paid = float(problems.system_cost(asked, [one], SERVED).paid)
    assert [float(n) for n in least] == pytest.approx([np.log(1e5 / paid)], rel=1e-4)
    area, power, rate, edge = problems._chip_slacks(asked, [one])
    assert float(area) == pytest.approx(np.log(858e-6 / float(one.design.area)), rel=1e-3)
    assert float(power) == pytest.approx(np.log(700 / float(one.design.idle)), rel=1e-4)
    assert (float(rate), float(edge)) == (float(one.design.rate), float(one.design.edge))


def test_of_several_workloads_the_least_slack_counts():
    rows = [[as_scalar(1.0), as_scalar(-2.0)], [as_scalar(0.5), as_scalar(3.0)]]
    assert [float(n) for n in problems._tightest(rows)] == [0.5, -2.0]


def test_boards_at_their_limit_do_the_same_work_in_more_time():
    found = system.at_limit(SERVED, as_scalar(0.5))
    assert [float(n) for n in found] == pytest.approx([1.0, 0.04, 200.0, 4.0])
    assert [float(n) for n in system.at_limit(SERVED, as_scalar(1.0))] == pytest.approx(
        [0.5, 0.02, 400.0, 2.0]
    )


def test_what_was_paid_once_is_written_off_rented_or_forgotten(asked: Problem):
    one = part()
    pool = one._replace(design=one.design._replace(development=as_scalar(1000.0)))
    # Equal parts over its life, and a year's interest on the half that is owed on average.
    life, interest = float(asked.owner.life), float(asked.owner.interest)
    owned = 6 * 1000 * (1 / life + interest / 2 / (365.25 * 86400))

    def once(basis: str) -> float:
        costs = [
            system.cost_of([each], asked.owner, as_scalar(50.0), basis) for each in (pool, one)
        ]
        return float(costs[0].running) - float(costs[1].running)

    assert once("owner") == pytest.approx(owned, rel=1e-2) and once("marginal") == 0
    assert once("rental") > owned
    price = float(system.chip_price(pool.design, asked.owner))
    assert price == pytest.approx(float(one.design.cost / (1 - asked.owner.margin)) + 1000)


def test_a_cache_of_five_years_is_written_over_the_cells_that_hold_it(
    monkeypatch: pytest.MonkeyPatch,
):
    """Of 20 bytes for 4 users of 100 tokens, three quarters in main memory, the rest on the die."""
    found: Any = Kept(0.0)
    found.cache = Parted(0.75, 0.15, 0.1)
    monkeypatch.setattr(system, "place", lambda *_: found)
    load: Any = Workload(None, Plan(), *map(as_scalar, (12.0, 0.0, 90.0, 30.0, 1.0)))._replace(  # pyright: ignore[reportArgumentType]
        context=None
    )
    one = part()
    chip = one.design.chip
    # Four of a request's tokens are written for each that is put out; 400 of these a second, three workers.
    written = 20 / (4 * 120) * 4 * 400 / 3 * 5 * 365.25 * 24 * 3600
    cells = float(chip.main.capacity), float(chip.private.capacity + chip.shared.capacity)
    for endurance, worn in (
        ((1e3, 1e12), np.log(1e3 * cells[0] / (0.75 * written))),
        ((1e12, 10.0), np.log(10.0 * cells[1] / (0.25 * written))),
    ):
        pool = one._replace(design=one.design._replace(endurance=tuple(map(as_scalar, endurance))))
        assert float(system.wear_slack([pool], load, SERVED)) == pytest.approx(worn, rel=1e-3)
    decoding = load._replace(context=as_scalar(100.0), prompt=None, output=None)
    assert float(system.tokens_written(decoding)) == 1 and float(system.tokens_written(load)) == 4


def test_users_tokens_and_sizes_of_a_workload_move_with_what_is_asked(asked: Problem):
    around = {"batch": as_scalar(2.0), "context": as_scalar(3.0), "model": as_scalar(8.0)}
    load = system.in_scenario(asked.workloads[0], around)
    assert load.context is not None and (float(load.batch), float(load.context)) == (16, 3072)
    model = asked.workloads[0].model
    assert float(load.model.hidden) == pytest.approx(2 * float(model.hidden))
    assert float(load.model.vocabulary) == float(model.vocabulary)


def test_a_longer_request_keeps_its_share_of_output(asked: Problem):
    load = asked.workloads[0]._replace(
        context=None, prompt=as_scalar(300.0), output=as_scalar(100.0)
    )
    longer = system.with_context(load, as_scalar(800.0))
    assert longer.prompt is not None and longer.output is not None
    assert (float(longer.prompt), float(longer.output)) == (600, 200)
    assert float(load.longest) == 400 and float(longer.longest) == 800
    assert float(load._replace(context=as_scalar(7.0)).longest) == 7


class Parted(NamedTuple):
    """Shares of a cache by tier."""

    main: float
    private: float
    shared: float


class Kept:
    """What a chip keeps: `slack` bytes left of a tier, weights and cache."""

    size, cache_size = 60.0, 20.0

    def __init__(self, slack: float) -> None:
        self.slack = slack


def test_room_is_the_memory_over_what_is_kept_in_the_tightest_pool(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[float, float]] = []

    def place(chip: Any, plan: Plan, model: Any, users: Any, longest: Any) -> Any:
        seen.append((float(users), float(longest)))
        return Kept([80.0, -40.0][len(seen) - 1])

    monkeypatch.setattr(system, "place", place)
    load: Any = Workload(None, Plan(), *map(as_scalar, (12.0, 100.0, 90.0, 10.0, 1.0)))  # pyright: ignore[reportArgumentType]
    pools = [part(dp=4.0), part()]
    assert float(system.capacity_slack(pools, load)) == pytest.approx(np.log(40 / 80))
    # Prompts come one to each replica; decoding users are shared among the workers of the last pool.
    assert seen == [(4.0, 100.0), (4.0, 100.0)]
    seen.clear()
    assert float(
        system.capacity_slack(pools[:1], load._replace(batch=as_scalar(6.0)))
    ) == pytest.approx(np.log(2))
    assert seen == [(2.0, 100.0)]


def test_a_chip_of_whole_cores_has_one_at_least(asked: Problem):
    one = made()
    for count, whole in ((132.9, 132), (0.4, 1)):
        chip = eqx.tree_at(lambda c: c.cores, one.chip, as_scalar(count))
        assert float(problems._integer_cores(one._replace(chip=chip)).chip.cores) == whole


def test_softened_chips_choose_less_surely_and_are_else_the_same():
    soft = problems.softened(BASE, as_scalar(0.5))
    old, new = (jax.tree_util.tree_flatten_with_path(c)[0] for c in (BASE, soft))
    for (path, a), (_, b) in zip(old, new, strict=True):
        factor = 0.5 if getattr(path[-1], "name", "") == "selection_sharpness" else 1.0
        assert float(b) == pytest.approx(factor * float(a), nan_ok=True)


def test_an_objective_is_the_mean_of_its_figures_logarithms_over_workloads(
    monkeypatch: pytest.MonkeyPatch,
):
    loads = [
        {"model": "llama-3.1-8b", "batch": 8, "context": 1024, "weight": weight}
        for weight in (1, 3)
    ]
    mix = {"tokens_per_s": 1.0, "tpot_ms": 3.0}
    study = Study.model_validate(ASKED | {"objective": {"mix": mix}, "workload": loads})
    problem = resolve_study(study)
    tables = [dict(zip(mix, numbers, strict=True)) for numbers in ((8.0, 2.0), (1.0, 4.0))]
    names = problem.weights

    def figures(_: Any, parts: Any, load: Workload, one: Served) -> dict[str, Any]:
        return {n: as_scalar(tables[int(float(load.weight) == 3)].get(n, 1.0)) for n in names}

    monkeypatch.setattr(problems, "figures", figures)
    monkeypatch.setattr(problems, "served", lambda *_: SERVED)
    found = problems.assess_pools(problem, [[part()], [part()]], problem.workloads, as_scalar(2.0))
    first, second = np.log(8) / 4 - 3 * np.log(2) / 4, -3 * np.log(4) / 4
    assert float(found.objective) == pytest.approx(first / 4 + 3 * second / 4, rel=1e-5)
    assert float(found.served[0].tpot) == pytest.approx(0.04)


def test_nothing_is_lost_where_a_figure_is_zero():
    assert float(problems._score("tokens_per_s", as_scalar(0.0))) == pytest.approx(
        np.log(1e-20), rel=1e-3
    )
    assert float(problems._score("tpot_ms", as_scalar(2.0))) == pytest.approx(-np.log(2))


def test_memory_of_a_system_is_that_of_all_its_chips(asked: Problem):
    one = part()
    each = float(one.design.chip.main.capacity)
    assert float(problems.main_memory_bytes([one, one])) == pytest.approx(12 * each)
    limits = {"power_w": 1000, "system_memory_gb": 100, "system_mm2": 1e4, "chip_usd": 1e4}
    study = Study.model_validate(ASKED | {"constraints": limits})
    chip, mm2, gb = problems._system_slacks(resolve_study(study), [one])
    assert float(gb) == pytest.approx(np.log(100 / (6e-9 * each + 1e-3)), rel=1e-4)
    assert float(mm2) == pytest.approx(np.log(1e4 / (6e6 * float(one.design.area))), rel=1e-4)
    price = float(one.design.cost / (1 - asked.owner.margin))
    assert float(chip) == pytest.approx(np.log(1e4 / price), rel=1e-4)


def test_a_memory_at_the_price_that_is_asked_for(asked: Problem):
    found = problems.technology(asked, jnp.zeros(2, int), {"memory_usd_per_gb": as_scalar(5e-9)})
    assert float(found.memory.price) == pytest.approx(5e-9)
    usual = problems.technology(asked, jnp.array([0, 0]), {})
    assert float(usual.memory.price) == pytest.approx(float(asked.memories.price[0]))
    assert float(problems.technology(asked, jnp.array([0, 1]), {}).memory.capacity) == 0


def test_quantities_are_exponentials_of_the_vector_and_those_that_are_held(asked: Problem):
    x = as_values(np.log([1.0, 2.0, 3.0, 4.0, 5.0]))
    found = problems.quantities(asked, x)
    assert [float(found[n]) for n in asked.names] == pytest.approx([1, 2, 3, 4, 5])
    assert float(found["workers"]) == 2
    two, some = dataclasses.replace(asked, pools=2), map(as_scalar, (1.0, 2.0))
    pools = problems.own_values(two, dict(zip(("prefill.a", "decode.a"), some, strict=True)))
    assert [float(pool["a"]) for pool in pools] == [1, 2] and len(pools[0]) == 1
