"""Versions of what a figure depends on."""

import importlib.metadata
import platform
from collections.abc import Iterable


def version(package: str) -> str:
    """Of a package; empty where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python and of `packages`."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
