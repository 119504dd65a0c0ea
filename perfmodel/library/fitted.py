"""Fitted parameters from their files, the most specific that there are.

A folder of fitted parameters holds `prior.toml`, with a section for each way of
execution, and one file for each chip. A section of a chip's file is named by kernel
family, framework and format; what it does not say, the next more general one does. Such a section is of one
`release` of the framework; those of others are in `releases.toml`, whole, by chip and release.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.errors import InputError
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
    rescaled,
)
from perfmodel.library.board import load_board
from perfmodel.library.files import ROOT, read_as, read_toml, stems
from perfmodel.library.framework import host_name, releases_of, software_on
from perfmodel.library.schema import ChipFile
from perfmodel.units import as_scalar, to_si
from perfmodel.workload.plan import Plan

FITTED = ROOT.parent / "calibration" / "fitted"


def own_folder(folder: Path) -> Path | None:
    """A folder of fitted parameters by its whole path; `None`: the shipped one, which every machine has."""
    return None if folder == FITTED else folder.absolute()


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
"""The table of the prior that names the reference chip of an architecture, whose parameters others take."""

ATTENTION_FAMILIES = ("attention_decode", "attention_prefill", "mla_decode", "mla_prefill")
"""Families whose parameters are filed by the format of the cache, not of the weights."""

PREFILL_FAMILIES = ("attention_prefill", "mla_prefill")
"""Those of them for which it also matters whether the products are in the cache's format."""

UNPACKED_CACHE = "bf16_fp8"
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
    return {key(field): (field.name, unit_scale(field)) for field in parameters(kind)}


def from_file(kind: type[eqx.Module], section: dict[str, Any]) -> dict[str, float]:
    """The parameters that a section gives, in SI."""
    written = _written(kind).items()
    return {field: section[name] * unit for name, (field, unit) in written if name in section}


def unit_scale(field: dataclasses.Field) -> float:
    """The unit in which a parameter is written in a file, in SI."""
    unit = field.metadata["unit"]
    return 1.0 if unit == "1" else to_si(1.0, unit, "s")


@functools.cache
def read_fitted(folder: Path, stem: str) -> dict[str, Any]:
    """A file of fitted parameters; empty where there is none."""
    path = folder / f"{stem}.toml"
    return read_toml(path) if path.exists() else {}


def section_name(family: str, dtype: str, cache: str) -> str:
    """The format that a family's section is named by; `cache` is empty where there is none."""
    if family in PREFILL_FAMILIES and (dtype, cache) == ("bf16", "fp8"):
        return UNPACKED_CACHE
    return cache or dtype


def formats_of(plan: Plan, family: str) -> list[str]:
    """The names of the sections of a family, the most general first."""
    if family not in ATTENTION_FAMILIES:
        return ["bf16", plan.weights]
    own = section_name(family, plan.weights, plan.cache)
    near = [UNPACKED_CACHE, "fp8"] if family in PREFILL_FAMILIES and plan.cache == "fp8" else []
    return ["bf16", *near, own]


class Origin(NamedTuple):
    """Whose parameters are wanted: the chip's name, its way of execution, its architecture, its clock in 1/s.

    What follows the clock stays as it is where that is 0, not known. `like` is the chip of the library
    that a file of one's own starts from, where both are of one architecture.
    """

    stem: str
    execution: str
    architecture: str
    clock: float = 0.0
    like: str = ""


VENDOR_LIBRARIES = {"collective": ("nccl",), "gemm": ("aiter",), "moe": ("aiter",)}
"""Whose kernels run where a framework's own were not measured: on PCIe its all-reduces are NCCL's
(`CustomAllreduce` of vLLM and SGLang serves no more than two cards there, TensorRT-LLM's none without
access of peers); AMD's products and mixtures are the fastest that aiter's tuner finds."""

OF_THE_SERVER = {
    key(f)
    for kind in FAMILIES.values()
    for f in parameters(kind)
    if f.metadata["owner"] == "server"
}
"""Parameters of the server that a chip was measured in: they say nothing of another chip's."""


def sibling(origin: Origin, folder: Path) -> str:
    """The reference chip: the one that the chip starts from, if it was measured, else the measured one of the
    same architecture; empty where there is none.
    """
    if origin.like and read_fitted(folder, origin.like):
        return origin.like
    return read_fitted(folder, "prior").get(SIBLINGS, {}).get(origin.architecture, "")


RELATIVES = "relatives"
"""The table of the prior that names, for an architecture, a measured chip of another one of its vendor."""


@functools.cache
def relative_table(origin: Origin, family: str, folder: Path) -> dict[str, Any]:
    """The sections of a family of the relative of an architecture, at the chip's clock.

    They start what neither the chip nor the reference of its architecture was measured in. How far they lie
    from measured times is not known of one chip: they bring no interval along, so that the prior's holds.
    """
    near = read_fitted(folder, "prior").get(RELATIVES, {}).get(origin.architecture, "")
    if not near:
        return {}
    ratio = origin.clock / _clock(near) if origin.clock else 1.0
    return {
        framework: {name: _at_clock(family, one, ratio) for name, one in formats.items()}
        for framework, formats in read_fitted(folder, near).get(family, {}).items()
    }


@functools.cache
def _clock(chip: str) -> float:
    """Of a chip of the library, in 1/s."""
    clock = read_as(ChipFile, stems("chips")[chip]).clock
    assert clock is not None, chip
    return clock.si("1/s")


def _at_clock(family: str, section: dict[str, Any], ratio: float) -> dict[str, float]:
    """The parameters of a section on a chip whose clock is `ratio` times as high, within their bounds."""
    moved = {}
    for field in parameters(FAMILIES[family]):
        if key(field) in section:
            scale = unit_scale(field)
            moved[key(field)] = float(rescaled(field, section[key(field)] * scale, ratio)) / scale
    return moved


def sections(
    origin: Origin, family: str, framework: str, formats: list[str], folder: Path, replay: bool
) -> list[dict[str, Any]]:
    """Sections of a family, the most general first: the relative's, the chip's or its sibling's.

    Neither a sibling nor a service (what is not a benchmark's replay) stands in the measured server.
    """
    own = read_fitted(folder, origin.stem).get(family)
    table = own or read_fitted(folder, sibling(origin, folder)).get(family, {})
    general = (*VENDOR_LIBRARIES.get(family, ()), SMOOTH)
    frameworks = [*(name for name in general if name != framework), framework]
    near = relative_table(origin, family, folder)
    found = [
        one.get(f, {}).get(d, {}) for one in (near, table) for f in frameworks for d in formats
    ]
    return found if own and replay else [without_server(section) for section in found]


def without_server(section: dict[str, Any]) -> dict[str, Any]:
    """A section without what belongs to the server that its chip was measured in."""
    return {name: value for name, value in section.items() if name not in OF_THE_SERVER}


RELEASES = "releases"
"""The file of sections of other releases than those that the chips' own files are of."""

RELEASE = "release"
"""Of which release a section is."""


class ReleaseFit(NamedTuple):
    """The section of the measured release nearest to the one asked for, empty where that is the chip's own
    file's; and whether it is the one.
    """

    section: dict[str, Any]
    exact: bool


def release_fit(
    origin: Origin, family: str, framework: str, plan: Plan, folder: Path
) -> ReleaseFit:
    """The fit of a plan's release to this chip's own rows: other chips tell nothing of a release.

    Of two that are equally near, the newer.
    """
    names = (family, framework, formats_of(plan, family)[-1])
    own = _section(read_fitted(folder, origin.stem), *names)
    fits = _section(read_fitted(folder, RELEASES), origin.stem, *names)
    fits = ({own[RELEASE]: {}} if RELEASE in own else {}) | fits
    known = releases_of(framework)[::-1]
    if plan.release not in known or not fits.keys() & set(known):
        return ReleaseFit({}, False)
    asked = known.index(plan.release)
    nearest = min(fits.keys() & set(known), key=lambda name: _distance(known.index(name), asked))
    return ReleaseFit(fits[nearest], nearest == plan.release)


def _distance(place: int, asked: int) -> tuple[int, int]:
    return abs(place - asked), place


def _section(table: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        table = table.get(name, {})
    return table


def all_sections(
    origin: Origin, family: str, framework: str, plan: Plan, folder: Path
) -> list[dict[str, Any]]:
    """Sections of a family for a plan, the most general first; that of its release is the last."""
    formats = formats_of(plan, family)
    found = sections(origin, family, framework, formats, folder, plan.replay)
    if not plan.release:
        return found
    last = release_fit(origin, family, framework, plan, folder).section
    return [*found, last if plan.replay else without_server(last)]


def load_efficiency(origin: Origin, plan: Plan, folder: Path = FITTED) -> Efficiency:
    """The fitted parameters of a chip for a plan: prior, smooth form, framework, format."""
    prior = read_prior(origin.execution, folder)
    framework = plan.framework or SMOOTH
    version = software_on(plan, origin.architecture)
    plain = version.fusions.all_reduce if plan.unfused_all_reduce else None
    whose = {"collective": plain.fits} if plain else {}

    def found(family: str, plan: Plan) -> Any:
        found = all_sections(origin, family, whose.get(family, framework), plan, folder)
        return told(family, found)

    def told(family: str, found: list[dict[str, Any]]) -> Any:
        return _family(family, prior, [*found, version.section(family)])

    families = {family: found(family, plan) for family in FAMILIES}
    families["unquantised"] = found("gemm", dataclasses.replace(plan, weights=plan.unquantised))
    families["host"] = told("host", host_sections(origin, plan, folder))
    board = load_board(origin.like or origin.stem, origin.execution, folder)
    hop_cycles = as_scalar((prior | version.section("mesh"))["hop_cycles"])
    return Efficiency(**families, board=board, hop_cycles=hop_cycles)


SERVING = "serving"
"""The file of what serving runs say: the host's parameters, by framework, for all launched chips."""


ROCM = ("cdna3", "cdna4", "cdna5")
"""Architectures whose frameworks run on ROCm of today."""

SERVING_ROCM = "serving-rocm"
"""The same of runs on ROCm: what a section does not say there, or of older versions, is as in `SERVING`."""


def host_sections(origin: Origin, plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Sections of the host of launched chips: of the folder, or as shipped."""
    if origin.execution != "launched":
        return []
    own = host_name(plan.framework or SMOOTH, plan.framework_version)
    frameworks = dict.fromkeys([SMOOTH, plan.framework or SMOOTH, own])
    found = [_host(SERVING, framework, folder) for framework in frameworks]
    rocm = _host(SERVING_ROCM, plan.framework or SMOOTH, folder)
    today = origin.architecture in ROCM and not plan.framework_version
    return [*found, rocm] if rocm and today else found


def _host(stem: str, framework: str, folder: Path) -> dict[str, Any]:
    return hosts_of(stem, folder).get(framework, {}).get("bf16", {})


def hosts_of(stem: str, folder: Path) -> dict[str, Any]:
    """Sections of the host of a file, by framework."""
    return (read_fitted(folder, stem) or read_fitted(FITTED, stem)).get("host", {})


def all_hosts(folder: Path) -> list[dict[str, Any]]:
    """Sections of the host of every framework, with the runs that they are fitted to."""
    tables = [hosts_of(stem, folder) for stem in (SERVING, SERVING_ROCM)]
    sections = [one for table in tables for formats in table.values() for one in formats.values()]
    return [section for section in sections if "report" in section]


def read_prior(execution: str, folder: Path = FITTED) -> dict[str, Any]:
    """Where a chip starts from: of the folder, or as shipped where the folder has none.

    **Raises:**

    - `InputError`: when neither says anything of this way of execution.
    """
    for place in (folder, FITTED):
        if execution in read_fitted(place, "prior"):
            return read_fitted(place, "prior")[execution]
    raise InputError(f"{folder / 'prior.toml'} has no section for {execution} chips.")


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
