"""`perfmodel chips` and `perfmodel models`: what the library holds, with its sources."""

from perfmodel.library.chip import chip_files
from perfmodel.library.fitted import FITTED, read_fitted
from perfmodel.library.model import model_facts, model_files
from perfmodel.library.schema import ChipFile, TierFile
from perfmodel.units import show

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
