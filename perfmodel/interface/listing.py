"""`perfmodel chips` and `perfmodel models`: what the library holds, with its sources."""

from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.library.chip import build, chip_file, chip_files
from perfmodel.library.fitted import FITTED, read_fitted
from perfmodel.library.model import find_model, load_model, model_files
from perfmodel.library.schema import ChipFile, Quantity, TierFile
from perfmodel.units import show
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up
from perfmodel.workload.transformer import cache_numbers, parameters


class Fact(NamedTuple):
    """A number of a file: where it stands, the number as published, its source, how far to trust it."""

    field: str
    value: str
    confidence: str
    source: str


def facts(file: ChipFile) -> list[Fact]:
    """Every number of a chip's file."""
    return _facts(file, file.sources, "")


def _facts(table: Any, sources: dict[str, str], prefix: str) -> list[Fact]:
    if isinstance(table, Quantity):
        trust = table.confidence + (", recalled" if table.recalled else "")
        note = f" ({table.note})" if table.note else ""
        unit = "" if table.unit == "1" else f" {table.unit}"
        return [Fact(prefix, f"{table.value:,g}{unit}", trust, sources[table.source] + note)]
    if isinstance(table, dict):
        items = list(table.items())
    elif hasattr(type(table), "model_fields"):
        items = [(name, getattr(table, name)) for name in type(table).model_fields]
    else:
        return []
    return [
        fact
        for name, value in items
        for fact in _facts(value, sources, f"{prefix}.{name}".lstrip("."))
    ]


CHIP_NAMES = (
    *("chip", "maker", "year", "execution", "bf16"),
    *("SRAM", "main", "bandwidth", "parameters"),
)
MODEL_NAMES = ("model", "parameters", "active", "cache a token", "layers", "format")
"""Columns of `perfmodel chips` and `perfmodel models`."""


def chip_rows() -> list[tuple[str, ...]]:
    """Name, maker, year, execution, dense bf16, SRAM, main memory and its bandwidth, whether fitted."""
    return [
        (
            stem,
            file.vendor,
            str(file.year),
            file.execution,
            _rate(file),
            _capacity([file.private, file.shared]),
            _capacity([file.main]),
            "" if file.main is None else show(file.main.bandwidth.si("byte/s"), "B/s"),
            "fitted" if read_fitted(FITTED, stem) else "prior",
        )
        for stem, file in sorted(chip_files().items())
    ]


def _rate(file: ChipFile) -> str:
    return show(file.matrix["bf16"].si("FLOP/s"), "FLOP/s") if "bf16" in file.matrix else ""


def _capacity(tiers: list[TierFile | None]) -> str:
    size = sum(tier.capacity.si("byte") for tier in tiers if tier is not None)
    return show(size, "B") if size else ""


def read_chip(name: str) -> tuple[str, ChipFile]:
    """A chip of the library, or of a file, checked as far as it can be.

    **Raises:**

    - `InputError`: for an unknown chip, or a file that is wrong.
    """
    stem, file = chip_file(name)
    if not stem.endswith(".toml"):
        return stem, file
    own = Path(stem).stem
    build(own, file, Plan(), FITTED)
    return own, file


class ModelFacts(NamedTuple):
    """What a model's shape says: parameters in all and active, cache bytes of a token, layers, format."""

    name: str
    parameters: int
    active: int
    cache_bytes: float
    layers: int
    native: str


def model_facts(name: str) -> ModelFacts:
    """Counts of a model of the library, or of a config.json.

    **Raises:**

    - `InputError`: for an unknown model, or a file that is wrong.
    """
    model = load_model(name)
    cache = float(cache_numbers(model)) * look_up("bf16").weight
    label = str.__str__(model.name) or name
    return ModelFacts(
        label,
        int(parameters(model)),
        int(parameters(model, active=True)),
        cache,
        int(model.layers),
        model.native,
    )


def model_rows() -> list[tuple[str, ...]]:
    """Name, parameters, active parameters, cache for a token in bf16, layers, published format."""
    rows = [model_facts(stem) for stem in sorted(model_files())]
    return [
        (
            row.name,
            f"{row.parameters / 1e9:,.2f} B",
            f"{row.active / 1e9:,.2f} B",
            show(row.cache_bytes, "B"),
            str(row.layers),
            row.native,
        )
        for row in rows
    ]


def model_sources(name: str) -> dict[str, str]:
    """Where a model's numbers come from."""
    if name.endswith(".json"):
        return {"config": name}
    return model_files()[find_model(name)].sources
