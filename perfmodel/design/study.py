"""What a search is asked: objective, constraints, workloads, space and optimiser, from a file."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from perfmodel.design.objectives import LARGER, OBJECTIVES, SMALLER
from perfmodel.errors import InputError
from perfmodel.library.files import first_fault, in_words, read_toml

if TYPE_CHECKING:
    Larger = Smaller = Figure = str
else:
    Larger, Smaller, Figure = Literal[LARGER], Literal[SMALLER], Literal[tuple(OBJECTIVES)]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

AREAS = {"reticle": 858.0, "wafer": 46_225.0}
"""In mm2: 26 mm x 33 mm, which a scanner exposes at once (ASML); the square of a wafer (Cerebras)."""


def _area(given: Any) -> Any:
    """Words for areas are those of `AREAS`; all else is a number."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not (0 < given < math.inf if is_number else isinstance(given, str) and given in AREAS):
        words = " or ".join(map(repr, AREAS))
        raise ValueError(f"it is {in_words(given)}, not a number greater than 0, {words}")
    return given


Area = Annotated[float | str, BeforeValidator(_area)]


class Table(BaseModel):
    """A table of a study: unknown keys are errors, and so are texts and true where a number belongs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PriceTable(Table):
    """What users pay for speed.

    - `usd_per_million_tokens`: at `tokens_per_s` of a user.
    - `tokens_per_s`: the speed to which others are compared.
    - `exponent`: of the speed's ratio to it, by which the price is multiplied.
    """

    usd_per_million_tokens: Positive = 1.0
    tokens_per_s: Positive = 100.0
    exponent: float = Field(default=0.5, ge=0, le=4)


class ObjectiveTable(Table):
    """What is to be as large or as small as possible, or a mix of several with weights.

    - `maximise`, `minimise`: one figure.
    - `mix`: weights of several figures, of logarithms.
    - `price`: what users pay for speed, where revenue is asked for.
    - `front`: a figure against which a Pareto front is traced.
    - `cost_basis`: what USD are of.
    """

    maximise: Larger | None = None
    minimise: Smaller | None = None
    mix: dict[Figure, Positive] = {}
    front: Figure | None = None
    price: PriceTable = PriceTable()
    cost_basis: Literal["owner", "rental", "marginal"] = "owner"

    @model_validator(mode="after")
    def _one(self) -> "ObjectiveTable":
        given = [bool(one) for one in (self.maximise, self.minimise, self.mix)]
        if sum(given) != 1:
            raise ValueError("give one of maximise, minimise and mix")
        if self.front in self.weights:
            raise ValueError(f"front is {self.front}, the objective itself; give another figure")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Share of each figure in the objective."""
        only = self.maximise or self.minimise
        table = {only: 1.0} if only else {str(name): w for name, w in self.mix.items()}
        return {name: weight / sum(table.values()) for name, weight in table.items()}


class HardwareConstraints(Table):
    """Limits of one chip, of the whole system, and on every figure that may be an objective.

    - `area_mm2`: of one die: a number, `reticle` (858) or `wafer` (46,225).
    - `power_w`: of one chip, which slows down at its limit.
    - `chip_usd`: what one chip costs; `system_usd`, `system_mm2`, `system_memory_gb`: of all chips, dies and
      main memories together.
    - `tokens_per_s_per_user`: the least; `tokens_per_s`, `tokens_per_s_per_mm2`, `tokens_per_s_per_watt`,
      `tokens_per_s_per_usd`: the least output of all users, of the whole system or for each of its units.
    - `revenue_per_usd`, `revenue_per_watt`: the least revenue, for each USD of cost and for each W.
    - `usd_per_million_tokens`, `joules_per_million_tokens`: the most for output tokens.
    - `memory_bytes_per_token_per_s`: the most main memory for each token/s.
    - `ttft_ms`, `tpot_ms`: the most, in the mean.
    """

    area_mm2: Area = "reticle"
    power_w: Positive
    chip_usd: Positive | None = None
    system_usd: Positive | None = None
    system_mm2: Positive | None = None
    system_memory_gb: Positive | None = None

    @property
    def area(self) -> float:
        """Of one die, in mm2."""
        return AREAS[self.area_mm2] if isinstance(self.area_mm2, str) else self.area_mm2

    @property
    def figures(self) -> dict[str, float]:
        """Limits on what users see."""
        given = {name: getattr(self, name) for name in OBJECTIVES}
        return {name: limit for name, limit in given.items() if limit is not None}


if TYPE_CHECKING:
    ConstraintsTable = HardwareConstraints
else:
    # And on everything that may be an objective.
    ConstraintsTable = create_model(
        "ConstraintsTable",
        __base__=HardwareConstraints,
        **dict.fromkeys(OBJECTIVES, (Positive | None, None)),
    )


class WorkloadTable(Table):
    """A model served by `chips` equal chips to `batch` users at once.

    Either they decode with `context` tokens each, or each brings `prompt` tokens and takes
    `output`, and prompts run among decode steps.

    - `model`: a name of the library, or a file; `precision`, `kv_precision`: formats of weights and KV cache.
    - `batch`: users at once; `chips`: that serve them.
    - `context`: tokens of each user while decoding.
    - `prompt`, `output`: tokens of a request.
    - `weight`: of this workload among several.
    """

    model: str
    precision: str = "fp8"
    kv_precision: str = "fp8"
    batch: float = Field(gt=0, le=1e6)
    context: float | None = Field(default=None, gt=0, le=1e8)
    prompt: float | None = Field(default=None, ge=1, le=1e8)
    output: float | None = Field(default=None, ge=2, le=1e8)
    chips: int = Field(default=1, ge=1, le=100_000)
    weight: Positive = 1.0

    @model_validator(mode="after")
    def _one(self) -> "WorkloadTable":
        pair = (self.prompt is not None, self.output is not None)
        if (self.context is not None) == any(pair) or pair[0] != pair[1]:
            raise ValueError("give either context, or prompt and output")
        return self


class Bounds(Table):
    """The least and the most of a variable.

    - `low`, `high`: both included; equal: the variable is held there.
    """

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _in_order(self) -> "Bounds":
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


def _as_bounds(value: Any) -> Any:
    """A number alone is a variable that is fixed there."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"low": value, "high": value} if is_number else value


Range = Annotated[Bounds, BeforeValidator(_as_bounds)]
Names = Annotated[
    list[str],
    Field(min_length=1, max_length=64),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
]


CHANNELS = Bounds(low=1, high=24)
"""Of memories off the package: server processors have 12 of DDR5; the die's edge limits them, too."""


class ChipTable(Table):
    """What is free on a chip; each with bounds, or one number to hold it there.

    Absent: SRAM, its rate, stacks and compute have bounds as below; the others are those of `base`,
    as many for each core; `power_w`, to which a chip is provisioned, is the limit. `channels` are devices
    of a memory that takes no place on the interposer (channels of LPDDR and DDR, chips of GDDR), `stacks`
    of the others; a study that gives neither, and has such a memory, has `CHANNELS`.

    - `sram_mb`, `sram_tb_per_s`: SRAM, and the rate of reading it.
    - `stacks`, `channels`: devices of main memory, on the interposer and off the package.
    - `tflops`: dense peak of the matrix units, in bf16.
    - `clock_ghz`: of the cores, with their voltage.
    - `vector_tflops`, `exponential_t_per_s`: of the other units.
    - `link_gb_per_s`: one direction of all links of a chip.
    - `power_w`: to which a chip is provisioned.
    - `tensor`, `pipeline`, `data`: ranks of the model.
    - `workers`: of a pool.
    """

    sram_mb: Range = Bounds(low=10, high=1500)
    sram_tb_per_s: Range = Bounds(low=1, high=200)
    stacks: Range = Bounds(low=0.25, high=6)
    tflops: Range = Bounds(low=20, high=2000)
    clock_ghz: Range | None = None
    vector_tflops: Range | None = None
    exponential_t_per_s: Range | None = None
    link_gb_per_s: Range | None = None
    power_w: Range | None = None
    tensor: Range | None = None
    pipeline: Range | None = None
    data: Range | None = None
    workers: Range | None = None
    channels: Range | None = None


class SpaceTable(ChipTable):
    """What is free, and of what the chips are made.

    - `base`: gives cores, links and fitted parameters, but no node and no memory.
    - `memory`, `node`: technologies to choose from, whatever the base has; memory `none`: SRAM alone.
    - `year`: of memory prices; `link`: technology of the links.
    - `batch`, `context`: users and tokens, instead of the workloads'.
    - `memory_usd_per_gb`: price of the memory, instead of the year's.
    - `prefill`, `decode`: bounds of each of two pools of chips, where a service has two.
    - `start`: a design to start from, beside the others.
    """

    base: str = "h100-sxm"
    memory: Names = ["hbm3e"]
    node: Names = ["n5"]
    link: str = "nvlink"
    year: str = "2026"
    batch: Range | None = None
    context: Range | None = None
    memory_usd_per_gb: Range | None = None
    prefill: ChipTable | None = None
    decode: ChipTable | None = None
    start: dict[str, Positive] = {}

    @model_validator(mode="after")
    def _both(self) -> "SpaceTable":
        if (self.prefill is None) != (self.decode is None):
            raise ValueError("give both prefill and decode, or neither")
        return self


class SystemTable(Table):
    """How the system is made.

    - `volume`: chips that are made, of all designs together, over which each design's development and
      masks are spread; absent: these are left out.
    - `cooling`: of packages, which limits their power; absent: `power_w` alone does.
    """

    volume: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    cooling: Literal["air", "liquid"] | None = None


class OptimiserTable(Table):
    """How to search.

    - `starts`: at most; `steps`: of descent from each, at most; `seed`: of the starting points.
    - `method`: of descent; `adam` and `lbfgs` take `steps` between two updates of the multipliers.
    - `batch_size`: starts that descend together in one `vmap`.
    - `points`: of the Pareto front.
    """

    method: Literal["sqp", "adam", "lbfgs"] = "sqp"
    starts: int = Field(default=64, ge=1, le=100_000)
    batch_size: int = Field(default=1, ge=1, le=100_000)
    steps: int = Field(default=72, ge=10, le=100_000)
    seed: int = Field(default=0, ge=0)
    points: int = Field(default=16, ge=3, le=256)


class Study(Table):
    """A study file.

    - `objective`: what is to be best; `constraints`: what is kept.
    - `workload`: models and their users, at least one.
    - `space`: what is free; `system`: how it is made; `optimiser`: how it is searched.
    """

    objective: ObjectiveTable
    constraints: ConstraintsTable
    workload: list[WorkloadTable] = Field(min_length=1)
    space: SpaceTable = SpaceTable()
    system: SystemTable = SystemTable()
    optimiser: OptimiserTable = OptimiserTable()

    @model_validator(mode="after")
    def _pools(self) -> "Study":
        if self.space.prefill and any(load.prompt is None for load in self.workload):
            raise ValueError("two pools serve prompts: give prompt and output of each workload")
        return self

    @model_validator(mode="after")
    def _power(self) -> "Study":
        for chip in (self.space, self.space.prefill, self.space.decode):
            if chip and chip.power_w and chip.power_w.high > self.constraints.power_w:
                raise ValueError(
                    f"space.power_w reaches {chip.power_w.high:g}, but constraints.power_w is "
                    f"{self.constraints.power_w:g}; lower one or raise the other"
                )
        return self

    @model_validator(mode="after")
    def _first_tokens(self) -> "Study":
        asked = {*self.objective.weights, *self.constraints.figures, self.objective.front}
        if "ttft_ms" in asked and any(load.prompt is None for load in self.workload):
            raise ValueError(
                "ttft_ms is asked for, but users who only decode have no first token; give prompt and "
                "output of each workload"
            )
        return self


def read_study(path: Path) -> Study:
    """A study from a TOML file.

    **Raises:**

    - `InputError`: naming the file, the key and what is wrong with it.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a study in TOML.")
    try:
        return Study.model_validate(read_toml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}.") from None
