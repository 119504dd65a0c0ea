"""Fitted parameters from their files, the most specific that there are.

A folder of fitted parameters holds `prior.toml`, with a section for each way of
execution, and one file for each chip. A section of a chip's file is named by kernel
family, framework and format; what it does not say, the next more general one does.
"""

import dataclasses
import functools
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Execution
from perfmodel.hardware.parameters import (
    AttentionDecodeEfficiency,
    AttentionPrefillEfficiency,
    CollectiveEfficiency,
    Efficiency,
    ElementwiseEfficiency,
    GemmEfficiency,
    HostEfficiency,
    LinearAttentionEfficiency,
    MoeEfficiency,
    parameters,
)
from perfmodel.library.files import ROOT, read_toml
from perfmodel.library.framework import frameworks, version_of
from perfmodel.units import to_si
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import FORMATS

FITTED = ROOT.parent / "calibration" / "fitted"

FAMILIES: dict[str, type[eqx.Module]] = {
    "gemm": GemmEfficiency,
    "attention_decode": AttentionDecodeEfficiency,
    "attention_prefill": AttentionPrefillEfficiency,
    "mla_decode": AttentionDecodeEfficiency,
    "mla_prefill": AttentionPrefillEfficiency,
    "elementwise": ElementwiseEfficiency,
    "linear_attention": LinearAttentionEfficiency,
    "moe": MoeEfficiency,
    "collective": CollectiveEfficiency,
    "host": HostEfficiency,
}

SIBLINGS = "siblings"
"""The table of the prior that names, for an architecture, the measured chip that speaks for it."""

WIDER = 1.15
"""How much wider the interval of a sibling's parameters is, at both ends. With it 83 % (latent decode) to
96 % (decode) of the rows of chips that were left out lie inside (protocol.csv, split `chip`)."""

BASES = ("fitted", "sibling", "prior")
"""Where parameters come from, the surest first: measurements of the chip, of its sibling, or neither."""

CACHED = ("attention_decode", "attention_prefill", "mla_decode", "mla_prefill")
"""Families whose parameters are filed by the format of the cache, not of the weights."""

PROMPTS = ("attention_prefill", "mla_prefill")
"""Those of them for which it also matters whether the products are in the cache's format."""

UNPACKED = "bf16_fp8"
"""The section of an fp8 cache that is multiplied in bf16; `fp8` is that of one multiplied as it is."""

SMOOTH = "smooth"
"""The framework section of the smooth form: the fastest kernel measured for each shape."""


def key(field: dataclasses.Field) -> str:
    """How a parameter is written in a file: with its unit where it has one."""
    unit = field.metadata["unit"]
    return field.name if unit == "1" else f"{field.name}_{unit}"


@functools.cache
def _written(kind: type[eqx.Module]) -> dict[str, tuple[str, float]]:
    """The parameters of a family by how they are written in a file: field, and unit in SI."""
    return {key(field): (field.name, _scale(field)) for field in parameters(kind)}


def from_file(kind: type[eqx.Module], section: dict[str, Any]) -> dict[str, float]:
    """The parameters that a section gives, in SI."""
    written = _written(kind).items()
    return {field: section[name] * unit for name, (field, unit) in written if name in section}


NOT_FITTED = ("run", "technology")
"""Files of a folder that hold no chip's parameters: how it was made, and constants of area and power."""

FACTORS = {"low": (1e-3, 1e3), "high": (1e-3, 1e3)}
"""The interval of a section, and between what its factors may lie."""

FIRST_FACTORS = {"first_low": (1e-3, 1e3), "first_high": (1e-3, 1e3)}
"""The same for TTFT, in sections of the host."""

ROUNDED = 1e-3
"""Parameters are written to four digits, so that one at its bound may lie beyond it by this share."""


def check_fitted(folder: Path) -> None:
    """Read every file of a folder of fitted parameters, so that a wrong one is said before any work.

    **Raises:**

    - `InputError`: when there is no folder, nothing in it, or a file of it is wrong.
    """
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder {folder}; give one that `perfmodel calibrate` wrote.")
    stems = [path.stem for path in sorted(folder.glob("*.toml")) if path.stem not in NOT_FITTED]
    if not stems:
        raise InputError(
            f"{folder} holds no fitted parameters (*.toml); give a folder that `perfmodel calibrate` wrote."
        )
    for stem in stems:
        content, check = read_fitted(folder, stem), _check_prior if stem == "prior" else _check_chip
        try:
            check(content)
        except InputError as error:
            raise InputError(f"{folder / stem}.toml: {error}") from None


def _check_prior(content: dict[str, Any]) -> None:
    ways = {name: table for name, table in content.items() if name != SIBLINGS}
    for execution, section in _tables(ways, "", get_args(Execution)):
        families = dict(section)
        _check_number(f"{execution}.hop_cycles", families.pop("hop_cycles", None), *HOP_CYCLES)
        for basis, ends in _tables(families.pop(SERVICE, {}), f"{execution}.{SERVICE}.", BASES):
            _check_section(f"{execution}.{SERVICE}.{basis}", ends, FACTORS, FACTORS)
        known = {family: _bounds(kind) for family, kind in FAMILIES.items()} | {"interval": FACTORS}
        _check_names(execution, families, known, needed=known)
        for family, section in _tables(families, f"{execution}.", known):
            allowed = known[family] | FACTORS
            _check_section(f"{execution}.{family}", section, allowed, known[family])


def _check_chip(content: dict[str, Any]) -> None:
    for family, served in _tables(content, "", FAMILIES):
        factors = FACTORS | (FIRST_FACTORS if family == "host" else {})
        bounds = _bounds(FAMILIES[family]) | factors
        for framework, formats in _tables(served, f"{family}.", (SMOOTH, *frameworks())):
            for dtype, section in _tables(formats, f"{family}.{framework}.", (*FORMATS, UNPACKED)):
                numbers = {name: value for name, value in section.items() if name != "report"}
                needed = factors if factors.keys() & numbers.keys() else ()
                _check_section(f"{family}.{framework}.{dtype}", numbers, bounds, needed)


def _tables(
    content: dict[str, Any], where: str, known: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables in a table, each of a name that is known."""
    _check_names(where.rstrip(".") or "the file", content, known)
    for name, table in content.items():
        if not isinstance(table, dict):
            raise InputError(f"{where}{name} is {str(table)[:40]!r}, but must be a table.")
        yield name, table


def _check_names(
    where: str, given: Collection[str], known: Collection[str], needed: Collection[str] = ()
) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(f"{where} has {unknown[0][:40]!r}; allowed are {', '.join(known)}.")
    missing = [name for name in needed if name not in given]
    if missing:
        raise InputError(f"{where} lacks {missing[0]!r}; add it.")


def _check_section(
    where: str,
    section: dict[str, Any],
    bounds: dict[str, tuple[float, float]],
    needed: Collection[str],
) -> None:
    _check_names(where, section, bounds, needed)
    for name, value in section.items():
        _check_number(f"{where}.{name}", value, *bounds[name])


def _check_number(where: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low * (1 - ROUNDED) <= value <= high * (1 + ROUNDED):
        given = "missing" if value is None else str(value)[:40]
        raise InputError(f"{where} is {given}; allowed are numbers from {low:.4g} to {high:.4g}.")


def _scale(field: dataclasses.Field) -> float:
    """The unit in which a parameter is written in a file, in SI."""
    unit = field.metadata["unit"]
    return 1.0 if unit == "1" else to_si(1.0, unit, "s")


def _bounds(kind: type[eqx.Module]) -> dict[str, tuple[float, float]]:
    """Between what each parameter may lie, as it is written in a file."""
    return {
        key(f): (f.metadata["low"] / _scale(f), f.metadata["high"] / _scale(f))
        for f in parameters(kind)
    }


HOP_CYCLES = _bounds(Efficiency)["hop_cycles"]
"""Between what the cycles to cross a core may lie."""


@functools.cache
def read_fitted(folder: Path, stem: str) -> dict[str, Any]:
    """A file of fitted parameters; empty where there is none."""
    path = folder / f"{stem}.toml"
    return read_toml(path) if path.exists() else {}


def section_name(family: str, dtype: str, cache: str) -> str:
    """The format that a family's section is named by; `cache` is empty where there is none."""
    if family in PROMPTS and (dtype, cache) == ("bf16", "fp8"):
        return UNPACKED
    return cache or dtype


def formats_of(plan: Plan, family: str) -> list[str]:
    """The names of the sections that speak of a family, the most general first."""
    if family not in CACHED:
        return ["bf16", plan.weights]
    own = section_name(family, plan.weights, plan.cache)
    near = [UNPACKED, "fp8"] if family in PROMPTS and plan.cache == "fp8" else []
    return ["bf16", *near, own]


class Origin(NamedTuple):
    """Whose parameters are wanted: the chip's name, its way of execution, its architecture."""

    stem: str
    execution: str
    architecture: str


LEFT_TO = {"collective": ("nccl",)}
"""Whose kernels run where a framework's own were not measured: on PCIe its all-reduces are NCCL's
(`CustomAllreduce` of vLLM and SGLang serves no more than two cards there, TensorRT-LLM's none without
access of peers)."""

OF_THE_SERVER = {
    key(f)
    for kind in FAMILIES.values()
    for f in parameters(kind)
    if f.metadata["owner"] == "server"
}
"""Parameters of the server that a chip was measured in: they say nothing of another chip's."""


def sibling(origin: Origin, folder: Path) -> str:
    """The measured chip that speaks for one of the same architecture; empty where none does."""
    return read_fitted(folder, "prior").get(SIBLINGS, {}).get(origin.architecture, "")


def sections(
    origin: Origin, family: str, framework: str, formats: list[str], folder: Path, replay: bool
) -> list[dict[str, Any]]:
    """Sections that speak of a family, the most general first: of the chip's file, or of its sibling's.

    Neither a sibling nor a service (what is not a benchmark's replay) stands in the measured server.
    """
    own = read_fitted(folder, origin.stem).get(family)
    table = own or read_fitted(folder, sibling(origin, folder)).get(family, {})
    general = (*LEFT_TO.get(family, ()), SMOOTH)
    frameworks = [*(name for name in general if name != framework), framework]
    found = [table.get(f, {}).get(d, {}) for f in frameworks for d in formats]
    return found if own and replay else [without_server(section) for section in found]


def without_server(section: dict[str, Any]) -> dict[str, Any]:
    """A section without what belongs to the server that its chip was measured in."""
    return {name: value for name, value in section.items() if name not in OF_THE_SERVER}


def load_efficiency(origin: Origin, plan: Plan, folder: Path = FITTED) -> Efficiency:
    """The fitted parameters of a chip for a plan: prior, smooth form, framework, format."""
    prior = read_prior(origin.execution, folder)
    framework = plan.framework or SMOOTH
    version = version_of(plan)
    plain = version.fusions.all_reduce if plan.reduces_apart else None
    whose = {"collective": plain.fits} if plain else {}

    def found(family: str, plan: Plan) -> Any:
        names = family, whose.get(family, framework), formats_of(plan, family)
        return told(family, sections(origin, *names, folder, plan.replay))

    def told(family: str, found: list[dict[str, Any]]) -> Any:
        return _family(family, prior, [*found, version.section(family)])

    families = {family: found(family, plan) for family in FAMILIES}
    families["unquantised"] = found("gemm", dataclasses.replace(plan, weights=plan.unquantised))
    families["host"] = told("host", host_sections(origin, plan, folder))
    return Efficiency(**families, hop_cycles=prior["hop_cycles"])


SERVING = "serving"
"""The file of what serving runs say: the host's parameters, by framework, for all launched chips."""


def host_sections(origin: Origin, plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Sections that speak of the host of launched chips: of the folder, or as shipped."""
    if origin.execution != "launched":
        return []
    table = (read_fitted(folder, SERVING) or read_fitted(FITTED, SERVING)).get("host", {})
    frameworks = dict.fromkeys([SMOOTH, plan.framework or SMOOTH])
    return [table.get(framework, {}).get("bf16", {}) for framework in frameworks]


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


def basis_of(origin: Origin, family: str, folder: Path = FITTED) -> str:
    """Where a family's parameters come from: one of `BASES`."""
    if read_fitted(folder, origin.stem).get(family):
        return "fitted"
    return "sibling" if read_fitted(folder, sibling(origin, folder)).get(family) else "prior"


def weakest(bases: Iterable[str]) -> str:
    """The basis of what rests on several."""
    return max(bases, key=BASES.index)


def load_interval(origin: Origin, family: str, plan: Plan, folder: Path = FITTED) -> Interval:
    """The interval of a family's predictions: of the most specific fit, else the prior's.

    A sibling's is widened.
    """
    prior, formats = read_prior(origin.execution, folder), formats_of(plan, family)
    found = [prior_range(prior, family)]
    found += sections(origin, family, plan.framework or SMOOTH, formats, folder, plan.replay)
    given = [section for section in found if "low" in section][-1]
    wider = WIDER if basis_of(origin, family, folder) == "sibling" else 1.0
    return Interval(given["low"] / wider, given["high"] * wider)


SERVICE = "service"
"""The table of the prior with the intervals of services that were not fitted, by their basis."""


def prior_range(prior: dict[str, Any], family: str) -> dict[str, float]:
    """What the prior expects of a family: as measured of it, else of all families."""
    return prior[family] if "low" in prior[family] else prior["interval"]


class ServingIntervals(NamedTuple):
    """Factors on TPOT and on TTFT between which 90 % of measurements are expected, and the basis of the
    weakest part.
    """

    tpot: Interval
    ttft: Interval
    basis: str


def load_serving_intervals(
    origin: Origin,
    plan: Plan,
    families: Collection[str],
    model: str = "",
    folder: Path = FITTED,
) -> ServingIntervals:
    """Of the serving runs where these had the chip and the model; else as wide as published results lie.

    **Arguments:**

    - `families`: of the kernels that the model runs.
    - `model`: the name under which the runs may have had it; empty where they had not.
    """
    hosts = [section for section in host_sections(origin, plan, folder) if "low" in section]
    kernels = [basis_of(origin, family, folder) for family in families]
    basis = weakest([*kernels, _host_basis(hosts, origin, model)])
    if basis == "fitted":
        last = hosts[-1]
        first = Interval(last["first_low"], last["first_high"])
        return ServingIntervals(Interval(last["low"], last["high"]), first, basis)
    given = service_section(origin.execution, basis, folder)
    ends = Interval(given["low"], given["high"])
    return ServingIntervals(*_at_least(ends, hosts), basis)


def _host_basis(hosts: Sequence[dict[str, Any]], origin: Origin, model: str) -> str:
    """A host was fitted to runs of some chips and models; elsewhere it is that of their siblings."""
    runs = hosts[-1].get("report", {}) if hosts else {}
    seen = origin.stem in runs.get("chips", ()) and model in runs.get("models", ())
    return "fitted" if seen else "sibling"


def _at_least(ends: Interval, hosts: Sequence[dict[str, Any]]) -> tuple[Interval, Interval]:
    """Intervals of TPOT and TTFT no narrower than those of a fit; TTFT widens as TPOT does, for nobody
    publishes it.
    """
    if not hosts:
        return ends, ends
    last = hosts[-1]
    below, above = min(ends.low / last["low"], 1.0), max(ends.high / last["high"], 1.0)
    tpot = Interval(last["low"] * below, last["high"] * above)
    return tpot, Interval(last["first_low"] * below, last["first_high"] * above)


def service_section(execution: str, basis: str, folder: Path = FITTED) -> dict[str, float]:
    """The interval of services whose weakest part has a basis: of the folder, or as shipped."""
    own = read_prior(execution, folder).get(SERVICE, {})
    return own.get(basis) or read_prior(execution)[SERVICE][basis]


def hosted_models(plan: Plan, folder: Path = FITTED) -> list[str]:
    """Models that the runs had to which the host of a plan's framework is fitted."""
    sections = host_sections(Origin("", "launched", ""), plan, folder)
    return sections[-1].get("report", {}).get("models", []) if sections else []


def widest(every: Sequence[ServingIntervals]) -> ServingIntervals:
    """Of what is served by several kinds of chips."""
    tpot, ttft = (
        Interval(min(one.low for one in ends), max(one.high for one in ends))
        for ends in ([one.tpot for one in every], [one.ttft for one in every])
    )
    return ServingIntervals(tpot, ttft, weakest(one.basis for one in every))


def _family(family: str, prior: dict[str, Any], found: list[dict[str, Any]]) -> Any:
    kind, values = FAMILIES[family], {}
    for section in (prior[family], *found):
        values |= from_file(kind, section)
    missing = [f.name for f in parameters(kind) if f.name not in values]
    if missing:
        raise InputError(f"the fitted parameters of {family} lack {', '.join(missing)}.")
    return _of_values(kind, tuple(values.items()), str(jnp.result_type(float)))


@functools.cache
def _of_values(kind: type[eqx.Module], values: tuple[tuple[str, float], ...], number: str) -> Any:
    """A family's parameters, which most plans and many chips share.

    **Arguments:**

    - `number`: of what precision they are, for the same values may be wanted in another.
    """
    # Within a traced function they would be that function's own, and of no use to the next.
    with jax.ensure_compile_time_eval():
        return kind(**dict(values))
