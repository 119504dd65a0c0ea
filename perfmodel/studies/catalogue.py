"""Studies by name. Each is a module of this package, named as the study, with dashes for underscores."""

import importlib

from perfmodel.errors import InputError
from perfmodel.studies.answer import Study

MODULES = (
    "peak_bandwidth",
    "capacity",
)
"""In the order of the claims."""


def names() -> list[str]:
    """What `perfmodel study` can be asked."""
    return [module.replace("_", "-") for module in MODULES]


def find(name: str) -> Study:
    """A study by its name, or by the number of its claim.

    **Raises:**

    - `InputError`: for an unknown one.
    """
    wanted = name.strip().lower().replace("_", "-")
    for study in studies():
        if wanted in (study.name, study.question.lower()):
            return study
    raise InputError(f"there is no study {name[:40]!r}; there are {', '.join(names())}.")


def studies() -> list[Study]:
    """All of them."""
    found = [importlib.import_module(f"perfmodel.studies.{module}") for module in MODULES]
    return [module.STUDY for module in found]
