"""How fits of other chips speak together for a chip that was never measured.

Those with its framework and format speak; else with its framework; else the smooth forms. Fits of chips of
its kind, which feed their matrix units alike, speak once more; and fits of other frameworks on chips of its
kind speak once, except on how many kernels and passes a framework adds. The prior is one voice. Each
parameter is the weighted median at the chip's clock: one odd fit carries nothing over.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.calibrate import plan_of, section_of
from perfmodel.calibration.clocks import at_clock
from perfmodel.calibration.fit import from_free, to_free
from perfmodel.hardware.parameters import parameters
from perfmodel.kernels.choices import product_format
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.prompts import prompt_format
from perfmodel.library.chip import chip_files
from perfmodel.library.fitted import FAMILIES, SMOOTH, from_file
from perfmodel.units import as_values

READ_SHARED_MEMORY = ("hopper", "blackwell", "rubin")
"""Architectures whose matrix units read shared memory themselves (wgmma, tcgen05): a kind. Those of all
others are fed from registers."""

PRIOR_FROM = ("h100-sxm", "a100-sxm-80gb")
"""Chips that the prior was made from: left out, they do not hear it. Its clock is their geometric mean."""

Fits = dict[str, dict[str, dict[str, Any]]]
"""The sections of one family of a chip: by framework, then by format."""


class Voice(NamedTuple):
    """A fit: its chip and parameters, the clock, and its votes on all parameters and on a framework's."""

    chip: str
    section: dict[str, Any]
    clock: float
    votes: float = 1.0
    framework_votes: float = 1.0


def voices(key: Key, tables: dict[str, Fits]) -> list[Voice]:
    """The fits that speak for a key: of its framework, and of chips of its kind."""
    _, framework, _ = section_of(key)
    formats, alike = _formats(key), _alike(key, tables)
    ways = (framework, formats), (framework, ()), (SMOOTH, formats), (SMOOTH, ("bf16",))
    same = nearest_fits(tables, ways)
    found = [Voice(c, s, clock_of(c), 1.0 + (c in alike), 1.0 + (c in alike)) for c, s in same]
    others = {name for table in alike.values() for name in table} - {framework, SMOOTH}
    for name in sorted(others):
        found += [Voice(c, s, clock_of(c), 1.0, 0.0) for c, s in fits_of(alike, name, formats)]
    return found


def _alike(key: Key, tables: dict[str, Fits]) -> dict[str, Fits]:
    """Those of chips of a key's kind; none for collectives, which are cut for links, not for cores."""
    if section_of(key)[0] == "collective":
        return {}
    own = _reads_shared_memory(key.chip)
    return {chip: table for chip, table in tables.items() if _reads_shared_memory(chip) == own}


def together(key: Key, found: Sequence[Voice], prior: dict[str, Any]) -> Any:
    """The weighted median of each parameter among the voices and the prior, at the chip's clock."""
    kind, clock = FAMILIES[section_of(key)[0]], clock_of(key.chip)
    if key.chip not in PRIOR_FROM or not any(voice.framework_votes for voice in found):
        between = float(np.sqrt(np.prod([clock_of(chip) for chip in PRIOR_FROM])))
        found = [*found, Voice("", {}, between)]
    ratios = [clock / voice.clock if clock and voice.clock else 1.0 for voice in found]
    modules = [kind(**from_file(kind, prior | voice.section)) for voice in found]
    fits = [at_clock(module, ratio) for module, ratio in zip(modules, ratios, strict=True)]
    added = np.array([field.metadata["owner"] == "framework" for field in parameters(kind)])
    votes = np.array([np.where(added, voice.framework_votes, voice.votes) for voice in found])
    free = np.array([to_free(fit) for fit in fits])
    columns = zip(free.T, votes.T, strict=True)
    return from_free(kind, as_values([weighted_median(*column) for column in columns]))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value at half of the weight, which lies at the middle of each value's own."""
    order = np.argsort(values, stable=True)
    order = order[weights[order] > 0]
    middles = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(weights.sum() / 2, middles, values[order]))


def nearest_fits(
    tables: dict[str, Fits], ways: Sequence[tuple[str, tuple[str, ...]]]
) -> list[tuple[str, dict[str, Any]]]:
    """The sections, with their chips, of the first framework and formats that any chip has."""
    return next(filter(None, (list(fits_of(tables, *way)) for way in ways)), [])


def fits_of(
    tables: dict[str, Fits], framework: str, formats: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections of a framework in some formats, or in any where none is given, with their chips."""
    for chip, table in tables.items():
        for name, section in table.get(framework, {}).items():
            if name in formats or not formats:
                yield chip, section


def _formats(key: Key) -> tuple[str, ...]:
    """Formats whose fits speak for a key's: its own, and bf16 where its kernel multiplies in that."""
    family, _, dtype = section_of(key)
    plan = plan_of(key, chip_files()[key.chip].architecture)
    multiplied = {
        "gemm": product_format,
        "attention_prefill": prompt_format,
        "mla_prefill": prompt_format,
    }
    known = family in multiplied and multiplied[family](plan) == "bf16"
    return tuple(dict.fromkeys((dtype, "bf16"))) if known else (dtype,)


def _reads_shared_memory(chip: str) -> bool:
    return chip_files()[chip].architecture in READ_SHARED_MEMORY


def clock_of(chip: str) -> float:
    """Of its datasheet, in 1/s; 0 where it has none, as nothing then follows it."""
    clock = chip_files()[chip].clock
    return clock.si("1/s") if clock else 0.0
