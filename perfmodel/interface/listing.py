"""`perfmodel chips` and `perfmodel models`: what the library holds, with its sources."""

from typing import Any

from perfmodel.interface.tables import Table, table_of
from perfmodel.library.chip import chip_files
from perfmodel.library.fitted import FITTED, read_fitted
from perfmodel.library.model import ModelFacts, model_facts, model_files
from perfmodel.library.schema import ChipFile, TierFile
from perfmodel.units import show


def chips_table() -> Table:
    """Every chip of the library; bf16 is its dense rate."""
    return table_of("Chips", [_chip_row(*one) for one in sorted(chip_files().items())])


def chips_records() -> list[dict[str, Any]]:
    """The same with numbers in SI units, for JSON; null where a chip has none."""
    return [_chip_record(*one) for one in sorted(chip_files().items())]


def _chip_record(stem: str, file: ChipFile) -> dict[str, Any]:
    tiers = [tier for tier in (file.private, file.shared) if tier is not None]
    main = file.main
    return {
        "chip": stem,
        "maker": file.vendor,
        "year": file.year,
        "execution": file.execution,
        "bf16_flop_per_s": file.matrix["bf16"].si("FLOP/s") if "bf16" in file.matrix else None,
        "sram_bytes": sum(tier.capacity.si("byte") for tier in tiers) or None,
        "main_bytes": None if main is None else main.capacity.si("byte"),
        "bandwidth_bytes_per_s": None if main is None else main.bandwidth.si("byte/s"),
        "parameters": "fitted" if read_fitted(FITTED, stem) else "prior",
    }


def _chip_row(stem: str, file: ChipFile) -> dict[str, str]:
    return {
        "chip": stem,
        "maker": file.vendor,
        "year": str(file.year),
        "execution": file.execution,
        "bf16": _rate(file),
        "SRAM": _capacity([file.private, file.shared]),
        "main": _capacity([file.main]),
        "bandwidth": "" if file.main is None else show(file.main.bandwidth.si("byte/s"), "B/s"),
        "parameters": "fitted" if read_fitted(FITTED, stem) else "prior",
    }


def _rate(file: ChipFile) -> str:
    return show(file.matrix["bf16"].si("FLOP/s"), "FLOP/s") if "bf16" in file.matrix else ""


def _capacity(tiers: list[TierFile | None]) -> str:
    size = sum(tier.capacity.si("byte") for tier in tiers if tier is not None)
    return show(size, "B") if size else ""


def models_table() -> Table:
    """Every model of the library."""
    return table_of("Models", [model_row(model_facts(stem)) for stem in sorted(model_files())])


def model_row(facts: ModelFacts) -> dict[str, str]:
    """One model."""
    return {
        "model": facts.name,
        "parameters": f"{facts.parameters / 1e9:,.2f} B",
        "active": f"{facts.active / 1e9:,.2f} B",
        "cache a token": show(facts.cache_bytes, "B"),
        "layers": str(facts.layers),
        "format": facts.native,
    }


def model_details(facts: ModelFacts) -> list[dict[str, str]]:
    """One model, a quantity a row, in whole numbers; caches in bf16, states in fp32."""
    rows = {
        "parameters, language model": f"{facts.parameters:,}",
        "parameters that a token uses": f"{facts.active:,}",
        "parameters, vision": _counted(facts.vision),
        "parameters, audio": _counted(facts.audio),
        "parameters in all": _counted(facts.total),
        "format": facts.native,
        "weights, language model": f"{facts.weight_bytes:,.0f} B",
        "cache a token": f"{facts.cache_bytes:,.0f} B",
        "cache a token, windows full": f"{facts.long_cache_bytes:,.0f} B",
        "cache a sequence: full windows, states": f"{facts.once_bytes:,.0f} B",
        "layers": str(facts.layers),
    }
    rows |= {"format of the cache": facts.cache} if facts.cache else {}
    rows |= {"time": f"not predicted: {facts.unpriced}"} if facts.unpriced else {}
    rows |= {"read as": facts.priced_as} if facts.priced_as else {}
    return [{"quantity": name, "value": value} for name, value in rows.items()]


def _counted(count: int | None) -> str:
    return (
        "not counted: its fields are not all there, or not known" if count is None else f"{count:,}"
    )
