"""Chips whose die area, power limit, or cost to make is known: what the model of them is held against."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx

from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, rows_of
from perfmodel.hardware.cost import Die
from perfmodel.hardware.parts import Parts
from perfmodel.hardware.power import Activity
from perfmodel.hardware.technology import Device, Technology
from perfmodel.library.chip import chip_files
from perfmodel.library.files import ROOT
from perfmodel.library.schema import ChipFile, TierFile, si_or, stacks_of
from perfmodel.library.technology import device, silicon, wires
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.precision import MatrixKind

PLACE = ROOT / "published"

PORT = 64
"""Bytes a clock between a GPU's core and its L2 (LLMCompass: a crossbar port of 64 bytes)."""


def _rows(name: str) -> list[dict[str, str]]:
    return rows_of(cells_of(read_csv(PLACE / name)))


class KnownDie(NamedTuple):
    """A die of `dies.csv`: `kind` is monolithic, chiplet or wafer; `area` in m2."""

    name: str
    kind: str
    parts: Parts
    technology: Technology
    area: float


def known_dies() -> list[KnownDie]:
    """Dies of published area, with what was made of each part, sold as enabled or not."""
    return [_die(row) for row in _rows("dies.csv")]


def _die(row: dict[str, str]) -> KnownDie:
    def number(name: str, size: float = 1.0) -> float:
        return float(row[name]) * size

    clock = number("clock_ghz", 1e9)
    parts = Parts(
        sram=number("sram_mb", 1e6),
        registers=number("registers_mb", 1e6),
        matrix=number("matrix_flop_per_clock"),
        vector=number("vector_flop_per_clock"),
        double=number("fp64_flop_per_clock"),
        cores=number("cores"),
        stacks=number("devices"),
        link=number("link_gb_per_s", 1e9),
        bridge=number("bridge_gb_per_s", 1e9),
        bonds=number("bonds_gb_per_s", 1e9),
        crossbar=number("threaded") * number("cores") * PORT * clock,
        clock=clock,
        threaded=number("threaded"),
        graphics=number("graphics"),
        base=number("base"),
    )
    made = _technology(row["node"], row["memory"])
    return KnownDie(row["die"], row["kind"], parts, made, number("area_mm2", 1e-6))


def _technology(node: str, memory: str, link: str = "nvlink") -> Technology:
    """Of a chip; one without memory gets an interface of no device, which counts for nothing."""
    return Technology(silicon(node), device(memory or "hbm3"), wires(link))


class KnownPower(NamedTuple):
    """A chip of `powers.csv`: `form` is module, card, production or wafer; `power` in W.

    - `area`: of all its dies, in m2; `activity`: everything at its peak.
    """

    name: str
    form: str
    parts: Parts
    area: float
    activity: Activity
    technology: Technology
    power: float


def known_powers() -> list[KnownPower]:
    """Chips with a published power limit, as the library describes them."""
    return [_power(row) for row in _rows("powers.csv")]


def _power(row: dict[str, str]) -> KnownPower:
    file = chip_files()[row["chip"]]
    area = float(row["silicon_mm2"]) * 1e-6 if row["silicon_mm2"] else si_or(file.area, "m2")
    limit = float(row["power_w"]) if row["power_w"] else si_or(file.power.peak, "W")
    made, parts, activity = described(file)
    return KnownPower(row["chip"], row["form"], parts, area, activity, made, limit)


def described(file: ChipFile) -> tuple[Technology, Parts, Activity]:
    """A chip of the library as technology, parts that draw static power, and its peak rates."""
    link = file.scale_up.technology if file.scale_up else "nvlink"
    made = _technology(file.node, file.main.technology if file.main else "", link)
    bandwidth = _of(file.main, "bandwidth")
    parts = Parts(
        sram=_of(file.private, "capacity") + _of(file.shared, "capacity"),
        stacks=stacks_of(file.main) or bandwidth / float(made.memory.bandwidth),
        clock=si_or(file.clock, "1/s"),
    )
    activity = Activity(
        matrix=_bf16_rate(file),
        vector=si_or(file.vector, "FLOP/s", missing=0.0),
        sram=_of(file.private, "bandwidth"),
        shared=_of(file.shared, "bandwidth"),
        memory=bandwidth,
        link=file.scale_up.bandwidth.si("byte/s") if file.scale_up else 0.0,
    )
    return made, parts, activity


BITS: dict[MatrixKind, int] = {"fp32": 32, "bf16": 16, "fp8": 8, "int8": 8, "fp4": 4}
"""Of a number, by kind of matrix unit."""


def _bf16_rate(file: ChipFile) -> float:
    """FLOP/s in bf16; of a chip that does not multiply it, as many as the same bits a second are."""
    if "bf16" in file.matrix:
        return file.matrix["bf16"].si("FLOP/s")
    return max(rate.si("FLOP/s") * BITS[kind] for kind, rate in file.matrix.items()) / BITS["bf16"]


OPERANDS = 0.0117
"""Bytes from shared SRAM for a bf16 FLOP of a product, in tiles of 128 x 256: (128 + 256) x 2 bytes over
2 x 128 x 256 FLOPs for each step of depth."""


class MeasuredPower(NamedTuple):
    """A row of `measured_powers.csv`: a chip that is idle, awake without work, or busy; in W."""

    name: str
    state: str
    activity: Activity
    power: float


def measured_powers() -> list[MeasuredPower]:
    """What chips were seen to draw, and what they did."""
    return [_measured(row) for row in _rows("measured_powers.csv")]


def _measured(row: dict[str, str]) -> MeasuredPower:
    flops = float(row["bf16_tflop_per_s"]) * 1e12
    memory = float(row["memory_tb_per_s"]) * 1e12
    activity = Activity(matrix=flops, shared=OPERANDS * flops, memory=memory)
    return MeasuredPower(row["chip"], row["state"], activity, float(row["power_w"]))


def _of(tier: TierFile | None, name: str) -> float:
    if tier is None:
        return 0.0
    return getattr(tier, name).si("byte" if name == "capacity" else "byte/s")


class KnownCost(NamedTuple):
    """A chip of `costs.csv`: its dies, its memory devices and how many, and USD to make it.

    - `devices`: how many; `used`: whether the figure takes part in a fit and in scores.
    """

    name: str
    dies: Sequence[Die]
    memory: Device
    devices: Scalar
    cost: float
    used: bool


def known_costs() -> list[KnownCost]:
    """Chips whose cost to make an analyst has published."""
    return [_cost(row) for row in _rows("costs.csv")]


def _cost(row: dict[str, str]) -> KnownCost:
    count = float(row["stacks"])
    made = device(row["memory"], row["year"])
    capacity = as_scalar(float(row["memory_gb"]) * 1e9 / count)
    memory = eqx.tree_at(lambda m: m.capacity, made, capacity)
    dies = [_dies(text) for text in row["dies"].split(" + ")]
    used = row["used"] == "yes"
    return KnownCost(row["chip"], dies, memory, as_scalar(count), float(row["known_usd"]), used)


def _dies(text: str) -> Die:
    """`8 x 115 n5 stacked` is eight dies of 115 mm2 at N5 that lie on others."""
    found = re.fullmatch(r"(\d+) x ([\d.]+) (\w+)( stacked)?", text)
    if found is None:
        raise InputError(f"{text!r} names no dies; write `8 x 115 n5 stacked` in costs.csv.")
    return Die(float(found[2]) * 1e-6, silicon(found[3]), float(found[1]), float(bool(found[4])))


class KnownEnergy(NamedTuple):
    """A row of `energies.csv`: a measured run, its output tokens/s and joules of one at the wall.

    - `limit`: of its boards in W where the run lowered it, else `nan`.
    """

    chip: str
    chips: float
    model: str
    precision: str
    prompt: float
    output: float
    users: float
    rate: float
    joules: float
    limit: float


def known_energies() -> list[KnownEnergy]:
    """Runs whose power was measured at the wall."""
    return [_energy(row) for row in _rows("energies.csv")]


def _energy(row: dict[str, str]) -> KnownEnergy:
    numbers = ("n_chips", "isl", "osl", "users_per_chip", "tokens_per_s", "joules_per_token")
    chips, prompt, output, users, rate, joules = (float(row[name]) for name in numbers)
    names = (row["model"], row["precision"])
    limit = float(row["limit_w"] or "nan")
    return KnownEnergy(row["chip"], chips, *names, prompt, output, users, rate, joules, limit)


class KnownOwner(NamedTuple):
    """A row of `owners.csv`: what owning a chip costs for an hour, or a million tokens at a rate."""

    chip: str
    quantity: str
    rate: float
    cost: float


def known_owners() -> list[KnownOwner]:
    """Published costs of owning; `rate` is nan where the cost is of an hour."""
    return [
        KnownOwner(
            row["chip"],
            row["quantity"],
            float(row["tokens_per_s_per_chip"] or "nan"),
            float(row["known_usd"]),
        )
        for row in _rows("owners.csv")
    ]
