"""`perfmodel doctor`: what this installation has, and what it lacks."""

import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

from perfmodel.calibration.data.aiconfigurator import VERSION, locate
from perfmodel.errors import InputError
from perfmodel.interface.tables import Table
from perfmodel.library.chip import chip_files
from perfmodel.library.files import stems
from perfmodel.library.fitted import FITTED
from perfmodel.package_versions import version

CORE = ("jax", "equinox", "optax", "numpy", "pyarrow", "pydantic", "typer")

EXTRAS = {
    "plots": ("pictures and reports", "altair", "vl-convert-python"),
    "fit": ("calibrate, and the random forest of validate", "optimistix", "scikit-learn"),
    "data": ("measured kernels and serving runs", "aiconfigurator-core"),
    "cluster": ("--cluster, s3:// and gs://", "ray", "fsspec", "s3fs", "gcsfs"),
    "app": ("perfmodel explore", "streamlit"),
}
"""What each extra is for, and its packages."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox")


class Finding(NamedTuple):
    """One thing looked at: its kind, its name, whether it is there, what was found, what to do."""

    kind: str
    name: str
    good: bool
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at versions, devices, extras, data, caches."""
    return [
        Finding("system", "Python", True, f"{platform.python_version()}, {platform.platform()}"),
        *_core(),
        *_devices(),
        *(_extra(name) for name in EXTRAS),
        _library(),
        _fitted(),
        _measured(),
        _cache(),
        _browser(),
    ]


def _core() -> list[Finding]:
    found = {name: version(name) for name in ("perfmodel", *CORE)}
    return [
        Finding("package", name, bool(number), number or "no metadata")
        for name, number in found.items()
    ]


def _devices() -> list[Finding]:
    import jax

    try:
        found = jax.devices()
    except RuntimeError as error:
        words = " ".join(str(error).split())[:200]
        return [Finding("device", "JAX", False, words, "set JAX_PLATFORMS=cpu")]
    names = ", ".join(f"{one.platform}:{one.id} {one.device_kind}" for one in found)
    cores = os.cpu_count() or 1
    return [Finding("device", "JAX", True, f"{names}; {cores} processor cores")]


def _extra(name: str) -> Finding:
    use, *packages = EXTRAS[name]
    found = {package: version(package) for package in packages}
    missing = [package for package, number in found.items() if not number]
    if missing:
        advice = f"for {use}: pip install 'perfmodel[{name}]'"
        return Finding("extra", name, False, f"without {', '.join(missing)}", advice)
    return Finding("extra", name, True, ", ".join(f"{p} {n}" for p, n in found.items()))


def _library() -> Finding:
    counts = {name: len(stems(name)) for name in ("chips", "models", "technologies")}
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    return Finding("data", "library", all(counts.values()), words)


def _fitted() -> Finding:
    names = sorted({path.stem for path in FITTED.glob("*.toml")} & set(chip_files()))
    return Finding("data", "fitted parameters", bool(names), f"{len(names)}: {', '.join(names)}")


def _measured() -> Finding:
    try:
        place = locate("aiconfigurator")
    except InputError:
        advice = "for calibrate and validate: pip install 'perfmodel[data]'"
        return Finding("data", "measurements", False, "aiconfigurator-core not found", advice)
    number = version("aiconfigurator-core")
    if number != VERSION:
        advice = f"the collections were checked in {VERSION}: install that"
        return Finding("data", "measurements", False, f"aiconfigurator-core {number}", advice)
    return Finding("data", "measurements", place.is_dir(), f"aiconfigurator-core {number}")


def _cache() -> Finding:
    """Where compiled functions are kept, and how much of them."""
    place = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    if not place:
        return Finding("cache", "compiled", False, "kept nowhere", "set JAX_COMPILATION_CACHE_DIR")
    folder = Path(place)
    size = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    words = f"{place}, {size / 1e6:,.0f} MB"
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not os.access(there, os.W_OK):
        return Finding("cache", "compiled", False, words, "cannot be written: every run compiles")
    return Finding("cache", "compiled", True, words)


def _browser() -> Finding:
    """For the explorer; none is needed on a machine that another one looks at."""
    found = next((place for name in BROWSERS if (place := shutil.which(name))), "")
    return Finding("browser", "explore", True, found or "none found; give the link to another one")


def findings_table(findings: list[Finding]) -> Table:
    """What is printed."""
    rows = [
        (f"{one.kind} {one.name}", "ok" if one.good else "missing", one.found, one.advice)
        for one in findings
    ]
    return Table("This installation", ["", "", "found", "what to do"], rows)
