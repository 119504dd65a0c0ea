"""Where the parameters of a chip start that was never measured: from the chips that were.

From the chip that speaks for its architecture, if it was measured: alone. Else from the fits of all measured
chips together, and the prior (`voices`).
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx

from perfmodel.calibration.calibrate import plan_of, section_of
from perfmodel.calibration.voices import nearest_fits, together, voices
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.chip import chip_files, load_chip, origin
from perfmodel.library.fitted import (
    FAMILIES,
    LEFT_TO,
    WIDER,
    Origin,
    from_file,
    load_efficiency,
    prior_range,
    read_fitted,
    read_prior,
    sibling,
    without_server,
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
    prior, (family, framework, dtype) = read_prior(file.execution, folder), section_of(key)
    tables = {
        chip: read_fitted(folder, chip).get(family, {})
        for chip in sorted(set(sources) - {key.chip})
    }
    near = {chip: table for chip, table in tables.items() if _speaks_alone(chip, key, folder)}
    names = (framework, *LEFT_TO.get(family, ()))
    for chip, section in nearest_fits(near, [(name, (dtype,)) for name in names]):
        own = from_file(FAMILIES[family], prior[family] | without_server(section))
        ends = section["low"] / WIDER, section["high"] * WIDER
        return Start(FAMILIES[family](**own), *ends, (chip,))
    found, expected = voices(key, tables), prior_range(prior, family)
    ends = expected["low"], expected["high"]
    chips = tuple(dict.fromkeys(voice.chip for voice in found))
    return Start(together(key, found, prior[family]), *ends, chips)


def _speaks_alone(chip: str, key: Key, folder: Path) -> bool:
    """Whether a chip speaks for the key's architecture; of collectives, also one on PCIe for another."""
    files = chip_files()
    links = [files[name].scale_up for name in (chip, key.chip)]
    plain = all(link and link.technology == "pcie" for link in links)
    if plain and section_of(key)[0] == "collective":
        return True
    return chip == sibling(origin(key.chip, files[key.chip]), folder)
