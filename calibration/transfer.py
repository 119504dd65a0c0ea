"""Where the parameters of a chip start that was never measured: transferred from the chips that were.

From the reference chip of its architecture, if that was measured: alone. Else pooled: of each parameter the
weighted median of other chips' fits and of the prior, each rescaled to the chip's clock, so that one odd fit
carries nothing over. Fits of the chip's framework and format count once; else of its framework; else those of
the smooth form. Fits of chips of its kind, which feed their matrix units alike, count once more; and fits of
other frameworks on chips of its kind count once, except on how many kernels and passes a framework adds. The
prior counts once.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.data.measurements import plan_of
from perfmodel.calibration.fit import from_free, to_free
from perfmodel.calibration.metrics import weighted_quantile
from perfmodel.calibration.sections import section_of
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import parameters
from perfmodel.kernels.attention_prefill import prompt_format
from perfmodel.kernels.gemm import product_format
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

# Parameters on a chip with another clock


def rescale_to_clock(fitted: Any, ratio: float) -> Any:
    """The parameters of a family on a chip whose clock is `ratio` times as high, within their bounds.

    What cores do takes cycles: to start kernels and blocks, to reduce, to append. In cycles split-K's
    reduction in bf16 takes 3,400 to 5,600 on A100, H100, B200 and L40S, whose clocks lie between 1.4 and
    2.5 GHz, and TensorRT-LLM's start of a prompt in bf16 20,000 to 25,000. What main memory and a power limit
    take does not follow the clock.

    The energy of a product follows the square of the voltage, and that the clock: near the highest clock, by
    the alpha-power law (Sakurai and Newton, IEEE JSSC 25, 1990) with an exponent of 1.3 and a threshold of
    0.35 V, d ln V / d ln f is 0.7 at 0.75 V and 1.0 at 1 V. At 1.8 GHz `energy_factor` in bf16 is 2.1
    to 3.1 in the fits of TensorRT-LLM, or of vLLM where it has none, on A100, H100, B200, L40S and B60; as
    fitted it is 1.7 to 5.9.
    """
    kind = type(fitted)
    return kind(**{f.name: _rescaled(f, getattr(fitted, f.name), ratio) for f in parameters(kind)})


def _rescaled(field: Field, value: Any, ratio: float) -> Any:
    ends = field.metadata["low"], field.metadata["high"]
    return jnp.clip(value * ratio ** field.metadata["clock"], *ends)


def clock_of(chip: str) -> float:
    """Of its datasheet, in 1/s; 0 where it has none, as nothing then follows it."""
    clock = chip_files()[chip].clock
    return clock.si("1/s") if clock else 0.0


# Fits of other chips, pooled

SHARED_MEMORY_OPERANDS = ("hopper", "blackwell", "rubin")
"""Architectures whose matrix units read shared memory themselves (wgmma, tcgen05): a kind. Those of all
others are fed from registers."""

PRIOR_CHIPS = ("h100-sxm", "a100-sxm-80gb")
"""Chips that the prior was made from: for them it does not count. Its clock is their geometric mean."""

FamilyFits = dict[str, dict[str, dict[str, Any]]]
"""The sections of one family of a chip: by framework, then by format."""


class ReferenceFit(NamedTuple):
    """A fit of another chip: its parameters, the clock, and its weight, on a framework's parameters apart."""

    chip: str
    section: dict[str, Any]
    clock: float
    weight: float = 1.0
    framework_weight: float = 1.0


def reference_fits(key: Key, tables: dict[str, FamilyFits]) -> list[ReferenceFit]:
    """The fits that are pooled for a key: of its framework, and of chips of its kind."""
    _, framework, _ = section_of(key)
    formats, alike = _formats(key), _same_kind(key, tables)
    ways = (framework, formats), (framework, ()), (SMOOTH, formats), (SMOOTH, ("bf16",))
    found = []
    for chip, section in nearest_fits(tables, ways):
        weight = 1.0 + (chip in alike)
        found.append(ReferenceFit(chip, section, clock_of(chip), weight, weight))
    others = {name for table in alike.values() for name in table} - {framework, SMOOTH}
    for name in sorted(others):
        fits = fits_of(alike, name, formats)
        found += [ReferenceFit(c, section, clock_of(c), 1.0, 0.0) for c, section in fits]
    return found


def _same_kind(key: Key, tables: dict[str, FamilyFits]) -> dict[str, FamilyFits]:
    """Those of chips of a key's kind; none for collectives, which are cut for links, not for cores."""
    if section_of(key)[0] == "collective":
        return {}
    own = _reads_shared_memory(key.chip)
    return {chip: table for chip, table in tables.items() if _reads_shared_memory(chip) == own}


def _reads_shared_memory(chip: str) -> bool:
    return chip_files()[chip].architecture in SHARED_MEMORY_OPERANDS


def _formats(key: Key) -> tuple[str, ...]:
    """Formats whose fits count for a key's: its own, and bf16 where its kernel multiplies in that."""
    family, _, dtype = section_of(key)
    plan = plan_of(key, chip_files()[key.chip].architecture)
    multiplied = {
        "gemm": product_format,
        "attention_prefill": prompt_format,
        "mla_prefill": prompt_format,
    }
    known = family in multiplied and multiplied[family](plan) == "bf16"
    return tuple(dict.fromkeys((dtype, "bf16"))) if known else (dtype,)


def pool(key: Key, fits: Sequence[ReferenceFit], prior: dict[str, Any]) -> Any:
    """The weighted median of each parameter over fits and the prior, at the chip's clock."""
    kind, clock = FAMILIES[section_of(key)[0]], clock_of(key.chip)
    if key.chip not in PRIOR_CHIPS or not any(fit.framework_weight for fit in fits):
        between = float(np.sqrt(np.prod([clock_of(chip) for chip in PRIOR_CHIPS])))
        fits = [*fits, ReferenceFit("", {}, between)]
    ratios = [clock / fit.clock if clock and fit.clock else 1.0 for fit in fits]
    modules = [kind(**from_file(kind, prior | fit.section)) for fit in fits]
    rescaled = [rescale_to_clock(one, ratio) for one, ratio in zip(modules, ratios, strict=True)]
    added = np.array([field.metadata["owner"] == "framework" for field in parameters(kind)])
    weights = np.array([np.where(added, fit.framework_weight, fit.weight) for fit in fits])
    free = np.array([to_free(one) for one in rescaled])
    columns = zip(free.T, weights.T, strict=True)
    return from_free(kind, as_values([float(weighted_quantile(*one, 0.5)) for one in columns]))


def nearest_fits(
    tables: dict[str, FamilyFits], ways: Sequence[tuple[str, tuple[str, ...]]]
) -> list[tuple[str, dict[str, Any]]]:
    """The sections, with their chips, of the first framework and formats that any chip has."""
    return next(filter(None, (list(fits_of(tables, *way)) for way in ways)), [])


def fits_of(
    tables: dict[str, FamilyFits], framework: str, formats: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections of a framework in some formats, or in any where none is given, with their chips."""
    for chip, table in tables.items():
        for name, section in table.get(framework, {}).items():
            if name in formats or not formats:
                yield chip, section


# Where a chip starts


class InitialParameters(NamedTuple):
    """Parameters of a family, the factors of their 90 % interval, and the chips they come from."""

    fitted: Any
    low: float
    high: float
    chips: tuple[str, ...]


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
    for chip, section in nearest_fits(near, [(name, (dtype,)) for name in names]):
        own = from_file(FAMILIES[family], prior[family] | without_server(section))
        ends = section["low"] / SIBLING_WIDENING, section["high"] * SIBLING_WIDENING
        return InitialParameters(FAMILIES[family](**own), *ends, (chip,))
    fits, expected = reference_fits(key, tables), prior_range(prior, family)
    chips = tuple(dict.fromkeys(fit.chip for fit in fits))
    pooled = pool(key, fits, prior[family])
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
