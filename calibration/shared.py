"""Shared parameters: what all fits say together of a chip that was never measured.

The file `shared.toml` holds the variances of the model of `calibration.similarity` and the standard errors of
the fits of each section. `perfmodel calibrate --joint` writes it.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from perfmodel.calibration.fit import from_free, to_free
from perfmodel.calibration.rescale import clock_of, prior_clock, rescale_to_clock
from perfmodel.calibration.sections import key_of, section_of
from perfmodel.calibration.similarity import (
    FEATURES,
    ON_CHIP,
    OWNERS,
    SAME,
    Components,
    Fitted,
    Known,
    alike,
    posterior_mean,
    relative_rate,
)
from perfmodel.hardware.parameters import parameters
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.fitted import (
    FAMILIES,
    FITTED,
    from_file,
    read_fitted,
)
from perfmodel.units import Values, as_values

SHARED = "shared"
"""The file of shared parameters."""

COMMON_CLOCK = 2e9
"""Clock at which fits of all chips are compared, in 1/s."""

PADDED = 64
"""Fits of a family are padded to a multiple of this, so that few functions are compiled."""


class FamilyFits(NamedTuple):
    """Fits of a family, their free numbers less the prior's at the common clock, and the errors of these."""

    fits: list[Fitted]
    values: np.ndarray
    errors: np.ndarray


def family_fits(
    family: str, chips: Collection[str], errors: dict[str, Any], folder: Path, prior: dict[str, Any]
) -> FamilyFits:
    """The fits of some chips to a family of which the standard errors are known.

    **Arguments:**

    - `errors`: of the family: by chip, framework and format.
    - `prior`: the section of the family.
    """
    kind, fits, values, spread = FAMILIES[family], [], [], []
    start = _at_common_clock(kind(**from_file(kind, prior)), prior_clock(), 1.0)
    for chip, framework, dtype, section in _sections(family, chips, folder):
        own = errors.get(chip, {}).get(framework, {}).get(dtype)
        if own is None:
            continue
        key = key_of(family, chip, framework, dtype)
        fitted = kind(**from_file(kind, prior | section))
        values.append(_at_common_clock(fitted, clock_of(chip), relative_rate(key)) - start)
        spread.append([own[f.name] for f in parameters(kind)])
        fits.append(Fitted.of(key))
    return FamilyFits(fits, np.array(values), np.array(spread))


def _sections(family: str, chips: Collection[str], folder: Path) -> Any:
    for chip in sorted(chips):
        for framework, formats in read_fitted(folder, chip).get(family, {}).items():
            for dtype, section in formats.items():
                yield chip, framework, dtype, section


def _at_common_clock(fitted: Any, clock: float, rate: float) -> np.ndarray:
    """Free numbers at the common clock, of a format as fast as bf16."""
    return np.asarray(to_free(rescale_to_clock(fitted, COMMON_CLOCK / clock, 1 / rate)), float)


def known_fits(found: FamilyFits, size: int = 0) -> Known:
    """The fits as the model takes them, padded with fits that have nothing in common with any.

    **Arguments:**

    - `size`: how many there are with these, at least; a multiple of `PADDED`.
    """
    count = len(found.fits)
    missing = -max(count, size) % PADDED + max(count, size) - count
    pairs = alike(found.fits, found.fits, count + missing)
    rows = ((0, 0), (0, missing), (0, 0))
    beside = ((0, missing), (0, 0))
    return Known(
        alike=type(pairs)(*(as_values(np.pad(one, rows)) for one in pairs)),
        values=as_values(np.pad(found.values, beside)),
        errors=as_values(np.pad(found.errors, beside)),
    )


def owners_of(family: str) -> Values:
    """Of each parameter of a family its place among `OWNERS`."""
    owned = [field.metadata["owner"] == "framework" for field in parameters(FAMILIES[family])]
    return as_values(owned).astype(int)


def read_components(table: dict[str, Any]) -> Components:
    """The variances of a file, as logarithms."""

    def logs(name: str, parts: tuple[str, ...]) -> Values:
        return as_values(np.log([[table[name][owner][part] for part in parts] for owner in OWNERS]))

    distance = as_values(np.log([table["distance"][name] for name in FEATURES]))
    error = as_values(np.log(table["error"]))
    return Components(logs("common", SAME), logs("per_chip", ON_CHIP), distance, error)


def written_components(found: Components) -> dict[str, Any]:
    """The same as they are written, to three digits."""

    def table(names: tuple[str, ...], logs: Any) -> dict[str, float]:
        return {n: float(f"{np.exp(x):.3g}") for n, x in zip(names, np.asarray(logs), strict=True)}

    def by_owner(names: tuple[str, ...], logs: Any) -> dict[str, Any]:
        return {owner: table(names, row) for owner, row in zip(OWNERS, logs, strict=True)}

    return {
        "common": by_owner(SAME, found.common),
        "per_chip": by_owner(ON_CHIP, found.chip),
        "distance": table(FEATURES, found.distance),
        "error": float(f"{np.exp(float(found.error)):.3g}"),
    }


def shared_parameters(
    key: Key, sources: Collection[str], folder: Path, prior: dict[str, Any]
) -> Values | None:
    """The free numbers expected of a chip given the fits of others; none where none are of its family.

    **Arguments:**

    - `sources`: chips whose fits may be used; never its own.
    - `prior`: the section of the family.
    """
    file, (family, _, _) = read_shared(folder), section_of(key)
    others = tuple(sorted(set(sources) - {key.chip}))
    found = family_fits(family, others, file.get("errors", {}).get(family, {}), folder, prior)
    if not found.fits:
        return None
    known = known_fits(found)
    asked = alike([Fitted.of(key)], found.fits, known.values.shape[0])
    asked = type(asked)(*map(as_values, asked))
    moved = _posterior_mean(read_components(file), known, asked, owners_of(family))[0]
    kind = FAMILIES[family]
    start = _at_common_clock(kind(**from_file(kind, prior)), prior_clock(), 1.0)
    expected = from_free(kind, as_values(start) + moved)
    clock = clock_of(key.chip) or COMMON_CLOCK
    return to_free(rescale_to_clock(expected, clock / COMMON_CLOCK, relative_rate(key)))


_posterior_mean = jax.jit(posterior_mean)


def read_shared(folder: Path) -> dict[str, Any]:
    """The file of a folder, or as shipped where the folder has none."""
    return read_fitted(folder, SHARED) or read_fitted(FITTED, SHARED)
