"""`perfmodel chips` and `perfmodel models`: what the library holds, with its sources."""

from perfmodel.interface.tables import Table, table_of
from perfmodel.library.chip import chip_files
from perfmodel.library.fitted import FITTED, read_fitted
from perfmodel.library.model import ModelFacts, model_facts, model_files
from perfmodel.library.schema import ChipFile, TierFile
from perfmodel.units import show


def chips_table() -> Table:
    """Every chip of the library; bf16 is its dense rate."""
    return table_of("Chips", [_chip_row(*one) for one in sorted(chip_files().items())])


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


def model_row(facts: ModelFacts, whole: bool = False) -> dict[str, str]:
    """One model; `whole`: in whole numbers."""
    counts = [
        f"{count:,}" if whole else f"{count / 1e9:,.2f} B"
        for count in (facts.parameters, facts.active)
    ]
    cache = f"{facts.cache_bytes:,.0f} B in bf16" if whole else show(facts.cache_bytes, "B")
    return {
        "model": facts.name,
        "parameters": counts[0],
        "active": counts[1],
        "cache a token": cache,
        "layers": str(facts.layers),
        "format": facts.native,
    }
