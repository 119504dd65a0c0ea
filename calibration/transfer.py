"""Where the parameters of a chip start that was never measured: transferred from the chips that were.

From the reference chip of its architecture, if that was measured: alone. Else half way, in free numbers,
between two: of each parameter the weighted median of other chips' fits and of the prior, each rescaled to the
chip's clock and to the rate of the format, so that one odd fit carries nothing over; and the mean that the
model of `calibration.similarity` expects given all fits.

Of the median: fits of the chip's framework and format count once; else of its framework; else those of the
smooth form. Fits of chips of its kind, which feed their matrix units alike, count once more; and fits of
other frameworks on chips of its kind count once, except on how many kernels and passes a framework adds. The
prior counts once.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.calibration.data.measurements import plan_of
from perfmodel.calibration.fit import from_free, to_free
from perfmodel.calibration.metrics import weighted_quantile
from perfmodel.calibration.rescale import PRIOR_CHIPS, clock_of, prior_clock, rescale_to_clock
from perfmodel.calibration.sections import key_of, section_of
from perfmodel.calibration.shared import shared_parameters
from perfmodel.calibration.similarity import multiplied, reads_shared_memory, relative_rate
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import parameters
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.chip import chip_files, load_chip, origin
from perfmodel.library.fitted import (
    FAMILIES,
    SMOOTH,
    VENDOR_LIBRARIES,
    Origin,
    from_file,
    load_efficiency,
    read_fitted,
    read_prior,
    sibling,
    without_server,
)
from perfmodel.library.fitted_intervals import SIBLING_WIDENING, prior_range
from perfmodel.units import as_values

# Fits of other chips, pooled

FamilyFits = dict[str, dict[str, dict[str, Any]]]
"""The sections of one family of a chip: by framework, then by format."""


class ReferenceFit(NamedTuple):
    """A fit of another chip: its parameters, the clock, its weight, on a framework's parameters apart, and
    the rate of its format over that of bf16.
    """

    chip: str
    section: dict[str, Any]
    clock: float
    weight: float = 1.0
    framework_weight: float = 1.0
    rate: float = 1.0


def reference_fits(key: Key, tables: dict[str, FamilyFits]) -> list[ReferenceFit]:
    """The fits that are pooled for a key: of its framework, and of chips of its kind."""
    family, framework, _ = section_of(key)
    formats, alike = _formats(key), _same_kind(key, tables)
    ways = (framework, formats), (framework, ()), (SMOOTH, formats), (SMOOTH, ("bf16",))

    def reference(fit: "Fit", *weights: float) -> ReferenceFit:
        rate = relative_rate(key_of(family, fit.chip, fit.framework, fit.dtype))
        return ReferenceFit(fit.chip, fit.section, clock_of(fit.chip), *weights, rate=rate)

    found = []
    for fit in nearest_fits(tables, ways):
        weight = 1.0 + (fit.chip in alike)
        found.append(reference(fit, weight, weight))
    others = {name for table in alike.values() for name in table} - {framework, SMOOTH}
    for name in sorted(others):
        found += [reference(fit, 1.0, 0.0) for fit in fits_of(alike, name, formats)]
    return found


def _same_kind(key: Key, tables: dict[str, FamilyFits]) -> dict[str, FamilyFits]:
    """Those of chips of a key's kind; none for collectives, which are cut for links, not for cores."""
    if section_of(key)[0] == "collective":
        return {}
    own = reads_shared_memory(key.chip)
    return {chip: table for chip, table in tables.items() if reads_shared_memory(chip) == own}


def _formats(key: Key) -> tuple[str, ...]:
    """Formats whose fits count for a key's: its own, and bf16 where its kernel multiplies in that."""
    dtype = section_of(key)[2]
    return tuple(dict.fromkeys((dtype, "bf16"))) if multiplied(key) == "bf16" else (dtype,)


def pool(key: Key, fits: Sequence[ReferenceFit], prior: dict[str, Any]) -> Any:
    """The weighted median of each parameter over fits and the prior, at the chip's clock and rate."""
    kind, clock = FAMILIES[section_of(key)[0]], clock_of(key.chip)
    if key.chip not in PRIOR_CHIPS or not any(fit.framework_weight for fit in fits):
        fits = [*fits, ReferenceFit("", {}, prior_clock())]
    ratios = [clock / fit.clock if clock and fit.clock else 1.0 for fit in fits]
    rates = [relative_rate(key) / fit.rate for fit in fits]
    modules = [kind(**from_file(kind, prior | fit.section)) for fit in fits]
    rescaled = map(rescale_to_clock, modules, ratios, rates)
    added = np.array([field.metadata["owner"] == "framework" for field in parameters(kind)])
    weights = np.array([np.where(added, fit.framework_weight, fit.weight) for fit in fits])
    free = np.array([to_free(one) for one in rescaled])
    columns = zip(free.T, weights.T, strict=True)
    return from_free(kind, as_values([float(weighted_quantile(*one, 0.5)) for one in columns]))


class Fit(NamedTuple):
    """A section of another chip, and where it stands."""

    chip: str
    framework: str
    dtype: str
    section: dict[str, Any]


def nearest_fits(
    tables: dict[str, FamilyFits], ways: Sequence[tuple[str, tuple[str, ...]]]
) -> list[Fit]:
    """The sections of the first framework and formats that any chip has."""
    return next(filter(None, (list(fits_of(tables, *way)) for way in ways)), [])


def fits_of(
    tables: dict[str, FamilyFits], framework: str, formats: tuple[str, ...]
) -> Iterator[Fit]:
    """The sections of a framework in some formats, or in any where none is given."""
    for chip, table in tables.items():
        for name, section in table.get(framework, {}).items():
            if name in formats or not formats:
                yield Fit(chip, framework, name, section)


# Where a chip starts


class InitialParameters(NamedTuple):
    """Parameters of a family, the factors of their 90 % interval, and the chips they come from."""

    fitted: Any
    low: float
    high: float
    chips: tuple[str, ...]


MEDIAN_ALONE = (("gemm", "bf16"), ("attention_decode", "bf16"))
"""Families and formats of which every chip has fits to choose from: there the median alone is nearer on chips
that are left out, 10 against 12 % on products and 25 against 28 % on decode."""


def initial_parameters(key: Key, sources: Collection[str], folder: Path) -> InitialParameters:
    """Where a held-out chip starts.

    **Arguments:**

    - `key`: its operation, framework and format.
    - `sources`: chips whose fits may be used; never its own.
    - `folder`: of their fitted parameters.

    **Returns:**

    A reference chip's interval is widened; without one the interval is the prior's.
    """
    file = chip_files()[key.chip]
    prior, (family, framework, dtype) = read_prior(file.execution, folder), section_of(key)
    others = sorted(set(sources) - {key.chip})
    tables = {chip: read_fitted(folder, chip).get(family, {}) for chip in others}
    near = {chip: table for chip, table in tables.items() if _is_reference(chip, key, folder)}
    names = (framework, *VENDOR_LIBRARIES.get(family, ()))
    for chip, _, _, section in nearest_fits(near, [(name, (dtype,)) for name in names]):
        own = from_file(FAMILIES[family], prior[family] | without_server(section))
        ends = section["low"] / SIBLING_WIDENING, section["high"] * SIBLING_WIDENING
        return InitialParameters(FAMILIES[family](**own), *ends, (chip,))
    fits, expected = reference_fits(key, tables), prior_range(prior, family)
    chips = tuple(dict.fromkeys(fit.chip for fit in fits))
    pooled = pool(key, fits, prior[family])
    alone = (family, dtype) in MEDIAN_ALONE
    shared = None if alone else shared_parameters(key, others, folder, prior[family])
    if shared is not None:
        pooled = from_free(FAMILIES[family], (to_free(pooled) + shared) / 2)
    return InitialParameters(pooled, expected["low"], expected["high"], chips)


def _is_reference(chip: str, key: Key, folder: Path) -> bool:
    """Whether a chip is the key's architecture's reference; of collectives, also one on PCIe of another."""
    files = chip_files()
    links = [files[name].scale_up for name in (chip, key.chip)]
    plain = all(link and link.technology == "pcie" for link in links)
    if plain and section_of(key)[0] == "collective":
        return True
    return chip == sibling(origin(key.chip, files[key.chip]), folder)


def chip_with_prior(key: Key, folder: Path) -> Chip:
    """The chip of a key as its datasheet has it: every fitted parameter is the prior's."""
    file = chip_files()[key.chip]
    plan = plan_of(key, file.architecture)
    prior = load_efficiency(Origin("", file.execution, ""), plan, folder)
    return eqx.tree_at(lambda c: c.efficiency, load_chip(key.chip, plan, folder), prior)
