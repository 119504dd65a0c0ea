"""What a file of facts may say; the door where units become SI.

Every number names its unit, its source and how far to trust it. What is unknown is
absent. A number nobody published may be estimated, but then says so.
"""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from perfmodel.hardware.chip import Execution
from perfmodel.hardware.network import Topology
from perfmodel.units import parse, to_si
from perfmodel.workload.precision import MatrixKind

Confidence = Literal["datasheet", "vendor-claim", "third-party", "derived", "estimate"]
"""How far to trust a number: `derived` follows from other facts, `estimate` is a guess with a reason."""


class Strict(BaseModel):
    """A table of a file: unknown keys are errors, and so are texts and true where a number belongs.

    - `source`: a key of the file's `[sources]`; `note`: what a reader should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Quantity(Strict):
    """A number as published.

    - `value`, `unit`: as in the source.
    - `source`: a key of the file's `[sources]`.
    - `confidence`: how far to trust it.
    - `low`, `high`: between what it is believed to lie, in the same unit, where that is said.
    - `recalled`: whether it was written from memory and is still to be checked at its source.
    - `note`: what a reader should know.
    """

    value: float = Field(ge=0, allow_inf_nan=False)
    unit: str
    source: str
    confidence: Confidence
    low: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    high: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    recalled: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _lies_in_its_range(self) -> "Quantity":
        if not (self.low or 0.0) <= self.value <= (math.inf if self.high is None else self.high):
            raise ValueError(f"{self.value:g} does not lie between its low and high")
        return self

    def si(self, dimension: str) -> float:
        """The number in SI."""
        return to_si(self.value, self.unit, dimension)


def in_si(table: BaseModel, names: Iterable[str]) -> dict[str, float]:
    """Fields of a table in SI, `nan` where absent; what each measures, its type has checked."""
    found: dict[str, Quantity | None] = {name: getattr(table, name) for name in names}
    return {
        name: math.nan if one is None else one.value * parse(one.unit)[0]
        for name, one in found.items()
    }


def measures(dimension: str, positive: bool = False, most: float = math.inf) -> AfterValidator:
    """A quantity of a dimension, which its unit must have."""
    return AfterValidator(functools.partial(_measured, dimension, positive, most))


def _measured(dimension: str, positive: bool, most: float, quantity: Quantity) -> Quantity:
    value = quantity.si(dimension)
    if positive and value <= 0:
        raise ValueError("must be greater than zero")
    if value > most:
        raise ValueError(f"must be at most {most:g}")
    return quantity


Bytes = Annotated[Quantity, measures("byte")]
BytesPerSecond = Annotated[Quantity, measures("byte/s")]
FlopsPerSecond = Annotated[Quantity, measures("FLOP/s", positive=True)]
ExponentialsPerSecond = Annotated[Quantity, measures("exp/s", positive=True)]
Hertz = Annotated[Quantity, measures("1/s", positive=True)]
Seconds = Annotated[Quantity, measures("s")]
Count = Annotated[Quantity, measures("1", positive=True)]
Share = Annotated[Quantity, measures("1", most=1.0)]
Watts = Annotated[Quantity, measures("W", positive=True)]
Area = Annotated[Quantity, measures("m2", positive=True)]
Dollars = Annotated[Quantity, measures("USD", positive=True)]
DollarsPerSecond = Annotated[Quantity, measures("USD/s", positive=True)]
JoulesPerByte = Annotated[Quantity, measures("J/byte")]
JoulesPerFlop = Annotated[Quantity, measures("J/FLOP")]
JoulesPerExponential = Annotated[Quantity, measures("J/exp")]


class TierFile(Strict):
    """One memory tier.

    - `kind`: what it is, for a reader.
    - `technology`: a file of `technologies`, which gives the energy of a byte.
    - `capacity`, `bandwidth`: of the whole chip.
    - `usable`: share of the bandwidth that a long stream of reads gets.
    - `multicast`: cores that one read serves; `parts`: that keep copies of their own of what
      all cores read. One where absent.
    - `staged`: 1 for a scratchpad that kernels fill themselves; a cache where absent.
    - `block_bandwidth`: that one block of work draws; `core_bandwidth`: that a core reads with several;
      an even share of `bandwidth` where absent.
    - `stacks`: devices of its technology (stacks of HBM, chips of GDDR, channels of DDR), where counted.
    - `reported`: capacity as the driver reports it to software (`total_memory` of PyTorch); as sold where
      absent.
    """

    kind: str
    technology: str
    capacity: Bytes
    bandwidth: BytesPerSecond
    usable: Share
    multicast: Count | None = None
    parts: Count | None = None
    staged: Share | None = None
    block_bandwidth: BytesPerSecond | None = None
    core_bandwidth: BytesPerSecond | None = None
    stacks: Count | None = None
    reported: Bytes | None = None


class NetworkFile(Strict):
    """A network of equal chips; `bandwidth` counts one direction of all links of one chip.

    - `kind`: what it is, for a reader.
    - `technology`: a file of `technologies`, which gives the energy of a byte.
    - `topology`: how chips are joined.
    - `bandwidth`: one direction of all links of one chip.
    - `latency`: of a message from chip to chip.
    - `size`: chips that it joins.
    - `reduces`: whether switches add what goes through them.
    """

    kind: str
    technology: str
    topology: Topology
    bandwidth: BytesPerSecond
    latency: Seconds
    size: Count
    reduces: bool = False


class PowerFile(Strict):
    """Idle and peak power of one chip with its memory.

    - `idle`: without work; `peak`: the limit of its power.
    """

    idle: Watts | None = None
    peak: Watts | None = None


class MoneyFile(Strict):
    """What one chip costs.

    - `price`: to buy; `rental`: by the hour, all in.
    - `of`: what the price is for: a chip or a card without the host around it, a system with it, or a
      processor's socket, beside which memory is bought apart.
    """

    price: Dollars | None = None
    rental: DollarsPerSecond | None = None
    of: Literal["chip", "card", "socket", "system"] = "chip"


class Sourced(Strict):
    """A file whose facts name their sources.

    - `sources`: titles, publishers or addresses, by the key that facts name.
    - `name`: as people call it; `aliases`: other names of it.
    """

    sources: dict[str, str]

    @model_validator(mode="after")
    def _sources_are_named(self) -> "Sourced":
        unknown = {part.source for _, part in sourced(self)} - set(self.sources)
        if unknown:
            raise ValueError(
                f"source {sorted(unknown)[0]!r} is not listed under [sources], which has "
                f"{', '.join(self.sources) or 'nothing'}"
            )
        return self


class ChipFile(Sourced):
    """A chip. See `docs/add-a-chip.md` for an example of each table.

    - `vendor`, `year`: who made it, and when it was first sold.
    - `execution`: whether kernels are launched one by one, scheduled ahead, or spread over cores as dataflow.
    - `architecture`: whose kernels and fitted parameters it has.
    - `node`: a file of `technologies`: its process.
    - `cores`: streaming multiprocessors, compute units or tiles; `clock`: at which `matrix` was published.
    - `matrix`: dense peak rates, by format; `vector`, `exponential`: of the other units.
    - `private`, `shared`: SRAM of each core, and of all; `main`: memory of weights and KV cache; `far`: more
      behind a link.
    - `scale_up`, `scale_out`: networks of a node or rack, and beyond it.
    - `power`, `area`, `money`: of the chip; `area` of all its compute dies.
    - `matrix_rows`: that its units multiply at once, where they are fewer than a matrix unit's 16.
    - `without`: formats that its units do not take, though `matrix` has the rate of their width.
    - `like`: the chip of the library that a file of one's own takes from what it does not say.
    - `hypothetical`: what no chip could be is then a warning, not an error (`library.plausibility`).
    """

    name: str
    vendor: str
    year: int = Field(ge=1970, le=2100)
    aliases: list[str] = []
    execution: Execution
    architecture: str
    node: str
    cores: Count | None = None
    clock: Hertz | None = None
    matrix: dict[MatrixKind, FlopsPerSecond]
    matrix_rows: Count | None = None
    without: list[Literal["bf16"]] = []
    vector: FlopsPerSecond | None = None
    exponential: ExponentialsPerSecond | None = None
    private: TierFile | None = None
    shared: TierFile | None = None
    main: TierFile | None = None
    far: TierFile | None = None
    scale_up: NetworkFile | None = None
    scale_out: NetworkFile | None = None
    power: PowerFile = PowerFile()
    area: Area | None = None
    money: MoneyFile = MoneyFile()
    note: str = ""
    like: str = ""
    hypothetical: bool = False


def sourced(table: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of a file that names its source, with where it stands."""
    if hasattr(table, "source"):
        yield place, table
        return
    if isinstance(table, BaseModel):
        table = {name: getattr(table, name) for name in type(table).model_fields}
    if isinstance(table, list):
        table = dict(enumerate(table))
    for name, part in table.items() if isinstance(table, dict) else ():
        yield from sourced(part, f"{place}.{name}".lstrip("."))


Length = Annotated[Quantity, measures("m")]
Volts = Annotated[Quantity, measures("V", positive=True)]
PerArea = Annotated[Quantity, measures("byte/m2", positive=True)]
DollarsPerByte = Annotated[Quantity, measures("USD/byte", positive=True)]
Surface = Annotated[Quantity, measures("m2")]


class MemoryTechnology(Sourced):
    """A memory technology: what one device of it holds, moves, costs and takes of a die.

    - `kind`: `memory`.
    - `capacity`, `bandwidth`: of one device.
    - `energy`, `write_energy`: of reading and writing a byte; as reading where writing is absent.
    - `latency`: of a read, as the host sees it; `idle`: power of a device that is not used.
    - `pins`: data pins of one device.
    - `interface_area`, `controller_transistors`, `edge`: on the host, for one device.
    - `footprint`: of a device on the interposer.
    - `density`: of memories that lie on the die itself.
    - `endurance`: writes that a cell survives.
    - `prices`: by year.
    """

    kind: Literal["memory"]
    name: str
    energy: JoulesPerByte
    write_energy: JoulesPerByte | None = None
    capacity: Bytes | None = None
    bandwidth: BytesPerSecond | None = None
    pins: Count | None = None
    interface_area: Area | None = None
    controller_transistors: Count | None = None
    edge: Length | None = None
    footprint: Surface | None = None
    idle: Annotated[Quantity, measures("W")] | None = None
    latency: Seconds | None = None
    density: PerArea | None = None
    endurance: Count | None = None
    prices: dict[str, DollarsPerByte] = {}
    note: str = ""


class LinkTechnology(Sourced):
    """A link technology: what sending a byte costs, and what a byte/s takes of a die.

    - `kind`: `link`.
    - `energy`: of a byte that is sent; `area`, `edge`: of a die, for each byte/s.
    """

    kind: Literal["link"]
    name: str
    energy: JoulesPerByte
    area: Annotated[Quantity, measures("m2/(byte/s)")] | None = None
    edge: Annotated[Quantity, measures("m/(byte/s)")] | None = None
    note: str = ""


class NodeTechnology(Sourced):
    """A process node: how dense its logic and SRAM are, what they spend, and what a wafer costs.

    - `kind`: `node`.
    - `logic_density`: transistors by area.
    - `sram_energy`: of a byte that is read; `matrix_energy`: of a FLOP, by format; `vector_energy`,
      `exponential_energy`: of the other units.
    - `bit_cell`: of high-density SRAM; `sram_density`: of macros.
    - `voltage`, `least_voltage`: nominal, and the lowest that SRAM keeps working at.
    - `clock`: of products, and the range of it.
    - `leakage`, `sram_leakage`: of idle logic by area, of SRAM by what it holds.
    - `wafer`: price of one of 300 mm; `defects`: killing ones by area.
    - `design`: of a large chip, once, without its software; `masks`: of one set.
    """

    kind: Literal["node"]
    name: str
    logic_density: Count
    sram_density: PerArea
    bit_cell: Area | None = None
    sram_energy: JoulesPerByte
    matrix_energy: dict[MatrixKind, JoulesPerFlop]
    vector_energy: JoulesPerFlop
    exponential_energy: JoulesPerExponential
    voltage: Volts | None = None
    least_voltage: Volts | None = None
    clock: Hertz | None = None
    leakage: Annotated[Quantity, measures("W/m2")] | None = None
    sram_leakage: Annotated[Quantity, measures("W/byte")] | None = None
    wafer: Dollars | None = None
    defects: Annotated[Quantity, measures("1/m2")] | None = None
    design: Dollars | None = None
    masks: Dollars | None = None
    note: str = ""


def si_or(quantity: Quantity | None, dimension: str, missing: float = math.nan) -> float:
    """The number in SI, or `missing` where it is absent."""
    return missing if quantity is None else quantity.si(dimension)


def stacks_of(main: TierFile | None) -> float:
    """Devices of a main memory, where its file counts them; 0 where it does not."""
    return 0.0 if main is None else si_or(main.stacks, "1", missing=0.0)


Verdict = Literal["identified", "weak", "prior"]
"""How much the data say: the spread is less than half of the prior's, less than 0.85 of it, or as wide."""


class ConstantFile(Strict):
    """One constant.

    - `value`, `unit`: after the fit; `spread`: standard deviation of its logarithm.
    - `prior`, `prior_spread`: before it, with their `source`.
    """

    value: float = Field(gt=0, allow_inf_nan=False)
    unit: str
    spread: float = Field(ge=0, allow_inf_nan=False)
    prior: float = Field(gt=0, allow_inf_nan=False)
    prior_spread: float = Field(ge=0, allow_inf_nan=False)
    verdict: Verdict
    source: str
