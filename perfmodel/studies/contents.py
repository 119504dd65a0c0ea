"""Studies by name. Each is a module of this package, named as the study, with dashes for underscores."""

import importlib

from perfmodel.kernels.kernel_table import word_of
from perfmodel.library.files import fold
from perfmodel.studies.answer import Study

MODULES = (
    "peak_bandwidth",
    "capacity",
    "cache_overflow",
    "hops",
    "node_choice",
    "memory_prices",
    "bounds",
    "hybrid",
    "hbm_demand",
    "wafer_yield",
    "other_memories",
    "speed_and_price",
    "energy",
    "token_prices",
    "worth_of_speed",
    "crossover",
)
"""In the order of the claims."""


def names() -> list[str]:
    """What `perfmodel study` can be asked."""
    return [module.replace("_", "-") for module in MODULES]


def find(name: str) -> Study:
    """A study by its name, or by the number of its claim.

    **Raises:**

    - `InputError`: for an unknown one, with the nearest.
    """
    found = studies()
    claims = {fold(study.question).removeprefix("q"): study.name for study in found}
    wanted = claims.get(fold(name).removeprefix("q")) or word_of(name, names(), "study")
    return next(study for study in found if study.name == wanted)


def studies() -> list[Study]:
    """All of them."""
    found = [importlib.import_module(f"perfmodel.studies.{module}") for module in MODULES]
    return [module.STUDY for module in found]
