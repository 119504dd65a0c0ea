"""Fitted parameters from their files, the most specific that there are.

A folder of fitted parameters holds `prior.toml`, with a section for each way of
execution, and one file for each chip. A section of a chip's file is named by kernel
family, framework and format; what it does not say, the next more general one does.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx

from perfmodel.errors import InputError
from perfmodel.hardware.efficiency import (
    CollectiveEfficiency,
    DecodeEfficiency,
    Efficiency,
    ElementwiseEfficiency,
    HostEfficiency,
    MatmulEfficiency,
    MixtureEfficiency,
    PrefillEfficiency,
    parameters,
)
from perfmodel.library.files import ROOT, read_toml
from perfmodel.units import to_si
from perfmodel.workload.plan import Plan

FITTED = ROOT.parent / "calibration" / "fitted"

FAMILIES: dict[str, type[eqx.Module]] = {
    "matmul": MatmulEfficiency,
    "decode": DecodeEfficiency,
    "prefill": PrefillEfficiency,
    "elementwise": ElementwiseEfficiency,
    "mixture": MixtureEfficiency,
    "collective": CollectiveEfficiency,
    "host": HostEfficiency,
}

SMOOTH = "smooth"
"""The framework section of the smooth form: the fastest kernel measured for each shape."""


def key(field: dataclasses.Field) -> str:
    """How a parameter is written in a file: with its unit where it has one."""
    unit = field.metadata["unit"]
    return field.name if unit == "1" else f"{field.name}_{unit}"


def from_file(kind: type[eqx.Module], section: dict[str, Any]) -> dict[str, float]:
    """The parameters that a section gives, in SI."""
    found = {}
    for field in parameters(kind):
        if key(field) in section:
            unit = field.metadata["unit"]
            scale = 1.0 if unit == "1" else to_si(1.0, unit, "s")
            found[field.name] = section[key(field)] * scale
    return found


@functools.cache
def read_fitted(folder: Path, stem: str) -> dict[str, Any]:
    """A file of fitted parameters; empty where there is none."""
    path = folder / f"{stem}.toml"
    return read_toml(path) if path.exists() else {}


def formats_of(plan: Plan) -> dict[str, str]:
    """The format that each family's section is named by."""
    return dict.fromkeys(FAMILIES, plan.weights) | {"decode": plan.cache, "prefill": plan.cache}


def sections(
    stem: str, family: str, framework: str, dtype: str, folder: Path
) -> list[dict[str, Any]]:
    """Sections of a chip's file that speak of a family, the most general first."""
    table = read_fitted(folder, stem).get(family, {})
    frameworks = dict.fromkeys([SMOOTH, framework])
    return [table.get(f, {}).get(d, {}) for f in frameworks for d in dict.fromkeys(["bf16", dtype])]


def load_efficiency(stem: str, execution: str, plan: Plan, folder: Path = FITTED) -> Efficiency:
    """The fitted parameters of a chip for a plan: prior, smooth form, framework, format."""
    prior = read_prior(execution, folder)
    framework = plan.framework or SMOOTH
    families = {
        family: _family(family, prior, sections(stem, family, framework, dtype, folder))
        for family, dtype in formats_of(plan).items()
    }
    return Efficiency(**families, crossing=prior["crossing"])


def read_prior(execution: str, folder: Path = FITTED) -> dict[str, Any]:
    """Where a chip starts from: of the folder, or as shipped where the folder has none.

    **Raises:**

    - `InputError`: when neither says anything of this way of execution.
    """
    for place in (folder, FITTED):
        if execution in read_fitted(place, "prior"):
            return read_fitted(place, "prior")[execution]
    raise InputError(f"{folder / 'prior.toml'} has no section for {execution} chips.")


class Interval(NamedTuple):
    """Factors on a prediction between which 90 % of measurements are expected."""

    low: float
    high: float


def load_interval(
    stem: str, execution: str, family: str, plan: Plan, folder: Path = FITTED
) -> Interval:
    """The interval of a family's predictions: of the most specific fit, else the prior's."""
    dtype = formats_of(plan)[family]
    found = [read_prior(execution, folder)["interval"]]
    found += sections(stem, family, plan.framework or SMOOTH, dtype, folder)
    given = [section for section in found if "low" in section][-1]
    return Interval(given["low"], given["high"])


def _family(family: str, prior: dict[str, Any], found: list[dict[str, Any]]) -> Any:
    kind, values = FAMILIES[family], {}
    for section in (prior[family], *found):
        values |= from_file(kind, section)
    missing = [f.name for f in parameters(kind) if f.name not in values]
    if missing:
        raise InputError(f"the fitted parameters of {family} lack {', '.join(missing)}.")
    return kind(**values)
