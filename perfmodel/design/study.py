"""What a search is asked: objective, constraints, workload, space and optimiser, from a file."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from perfmodel.errors import InputError
from perfmodel.library.files import first_fault, read_toml

Objective = Literal["tokens_per_s_per_user", "tokens_per_s_per_mm2"]


class Table(BaseModel):
    """A table of a study: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectiveTable(Table):
    """What is to be as large as possible."""

    maximise: Objective


class ConstraintsTable(Table):
    """Limits on one chip."""

    area_mm2: float = Field(gt=0, allow_inf_nan=False)
    power_w: float = Field(gt=0, allow_inf_nan=False)


class WorkloadTable(Table):
    """A model served by `chips` equal chips: `batch` sequences with `context` tokens each, decoding."""

    model: str
    precision: str = "fp8"
    kv_precision: str = "fp8"
    batch: float = Field(gt=0, le=1e6)
    context: float = Field(gt=0, le=1e8)
    chips: int = Field(ge=1, le=100_000)
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Bounds(Table):
    """The least and the most of a variable."""

    low: float = Field(gt=0, allow_inf_nan=False)
    high: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> "Bounds":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


class SpaceTable(Table):
    """What is free, and of what the chip is made; `base` gives cores, links and fitted parameters."""

    base: str = "h100-sxm"
    memory: str = "hbm3e"
    sram_mb: Bounds = Bounds(low=10, high=1500)
    sram_tb_per_s: Bounds = Bounds(low=1, high=200)
    stacks: Bounds = Bounds(low=0.25, high=6)
    tflops: Bounds = Bounds(low=20, high=2000)


class OptimiserTable(Table):
    """How to search: `starts` in one `vmap`, `steps` of descent, a `seed`."""

    starts: int = Field(default=64, ge=1, le=100_000)
    steps: int = Field(default=300, ge=10, le=100_000)
    seed: int = Field(default=0, ge=0)


class Study(Table):
    """A study file."""

    objective: ObjectiveTable
    constraints: ConstraintsTable
    workload: list[WorkloadTable] = Field(min_length=1)
    space: SpaceTable = SpaceTable()
    optimiser: OptimiserTable = OptimiserTable()


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
