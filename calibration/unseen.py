"""Where the parameters of a chip start that was never measured: from the chips that were.

From the chip that speaks for its architecture, if it was measured; else from all measured
chips with the same framework and format; else with the same framework; else from the smooth forms;
else the prior. A sibling speaks alone. Fits of other architectures speak together with the
prior by the median of each parameter: one odd fit carries nothing over.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp

from perfmodel.calibration.calibrate import plan_of, section_of
from perfmodel.calibration.fit import from_free, to_free
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.rows import Key
from perfmodel.library.chip import chip_files, load_chip, origin
from perfmodel.library.efficiency import (
    FAMILIES,
    LEFT_TO,
    SMOOTH,
    WIDER,
    Origin,
    from_file,
    load_efficiency,
    read_fitted,
    read_prior,
    sibling,
    without_box,
)


def bare(key: Key, folder: Path) -> Chip:
    """The chip of a key as its datasheet has it: every fitted parameter is the prior's."""
    file = chip_files()[key.chip]
    plan = plan_of(key, file.architecture)
    prior = load_efficiency(Origin("", file.execution, ""), plan, folder)
    return eqx.tree_at(lambda c: c.efficiency, load_chip(key.chip, plan, folder), prior)


class Start(NamedTuple):
    """Parameters of a family, the factors of their 90 % interval, and the chips they come from."""

    fitted: Any
    low: float
    high: float
    chips: tuple[str, ...]


def start(key: Key, sources: Collection[str], folder: Path) -> Start:
    """Where a chip starts that no fit has seen.

    **Arguments:**

    - `key`: its operation, framework and format.
    - `sources`: chips that may speak for it; itself never does.
    - `folder`: of their fitted parameters.

    **Returns:**

    A sibling's interval is widened; without a sibling the interval is the prior's.
    """
    file = chip_files()[key.chip]
    prior, (family, _, _) = read_prior(file.execution, folder), section_of(key)
    speaker = sibling(origin(key.chip, file), folder)
    found = _speakers(key, sorted(set(sources) - {key.chip}), speaker, folder)
    kind, sections = FAMILIES[family], [section for _, section in found]
    chips = tuple(dict.fromkeys(chip for chip, _ in found))
    alone = chips == (speaker,)
    chosen = [without_box(section) if alone else section for section in sections]
    values = [from_file(kind, prior[family] | section) for section in chosen + [{}] * (not alone)]
    free = jnp.stack([to_free(kind(**value)) for value in values])
    fitted = from_free(kind, jnp.median(free, axis=0))
    if not alone:
        return Start(fitted, prior["interval"]["low"], prior["interval"]["high"], chips)
    return Start(fitted, sections[0]["low"] / WIDER, sections[0]["high"] * WIDER, chips)


def _speakers(
    key: Key, sources: Collection[str], speaker: str, folder: Path
) -> list[tuple[str, dict[str, Any]]]:
    """The sections that speak for a key, with their chips: of the first way that finds any."""
    family, framework, dtype = section_of(key)
    tables = {chip: read_fitted(folder, chip).get(family, {}) for chip in sources}
    near = {chip: table for chip, table in tables.items() if chip == speaker}
    ways = [
        (near, framework, dtype),
        *((near, other, dtype) for other in LEFT_TO.get(family, ())),
        (tables, framework, dtype),
        (tables, framework, None),
        (tables, SMOOTH, dtype),
        (tables, SMOOTH, "bf16"),
    ]
    return next((found for way in ways if (found := list(_of(*way)))), [])


def _of(
    tables: dict[str, Any], framework: str, dtype: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections of a framework in a format, or in any."""
    for chip, table in tables.items():
        for name, section in table.get(framework, {}).items():
            if dtype in (None, name):
                yield chip, section
