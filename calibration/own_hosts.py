"""`calibrate --ops serving` on one's own runs: the hosts of their server, and the factors of their stacks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.anchors import (
    AnchorRun,
    FittedStack,
    read_anchor_runs,
    stack_scales,
    write_stacks,
)
from perfmodel.calibration.data.inferencex import Run
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.own_server import FittedServers, OwnServers, fit_servers
from perfmodel.calibration.sections import copy_fitted, in_units
from perfmodel.calibration.serving import groups_of, host_file
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, rows_of, write_toml
from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.inference.evaluate import resolve_row
from perfmodel.library.fitted import SMOOTH, hosts_of
from perfmodel.library.framework import older_versions
from perfmodel.locking import lock_folder


class OwnRun(NamedTuple):
    """A run with its cells, and as it is compared with a prediction."""

    run: Run
    anchor: AnchorRun

    @property
    def framework(self) -> str:
        """By its name in files."""
        return self.run.cells["framework"] or SMOOTH


class OwnHost(NamedTuple):
    """A host that was fitted: its runs, of them those with a TTFT, and what it was before."""

    host: HostEfficiency
    before: HostEfficiency
    runs: int
    ttft_runs: int


class OwnCalibration(NamedTuple):
    """Hosts by framework, and stacks."""

    hosts: dict[str, OwnHost]
    stacks: list[FittedStack]


def calibrate_own(
    path: Path,
    out: Path,
    folder: Path,
    warn: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> OwnCalibration:
    """Fit the hosts of the frameworks of a file and the factors of its stacks, and write a whole folder.

    **Arguments:**

    - `path`: a CSV of the serving schema with `measured_tpot_ms`, all of whose chips run the same
      software: CUDA, or ROCm.
    - `folder`: of the parameters to start from.
    - `warn`: called with a sentence for each row that is left out.
    - `progress`: called with groups of rows done and groups in all.

    **Raises:**

    - `InputError`: when no run of the file can be compared.
    """
    own = read_own_runs(path, folder, warn, progress)
    stem, *others = {host_file(one.run.cells["chip"]) for one in own}
    if others:
        raise InputError(f"{path} has chips of CUDA and of ROCm; give a file of each.")
    servers = _servers(own, folder)
    fitted = fit_servers(servers)
    frameworks = _distinct([one.framework for one in own])
    found = {
        name: _own_host(name, own, before, after)
        for name, before, after in zip(frameworks, servers.hosts, fitted.hosts, strict=True)
    }
    stacks = _stacks(own, fitted)
    with lock_folder(out, "calibration"):
        copy_fitted(folder, out)
        write_toml(out / f"{stem}.toml", {"host": _sections(path, own, found, stem, folder)})
        write_stacks(stacks, folder, out)
    return OwnCalibration(found, stacks)


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _servers(own: Sequence[OwnRun], folder: Path) -> OwnServers:
    """Runs by form, with the servers (one of each framework) and stacks in the order of the file."""
    frameworks = _distinct([one.framework for one in own])
    stacks = _distinct([one.anchor.stack for one in own])
    groups = groups_of([one.run for one in own], folder)
    places = [id(run) for group in groups for run in group.runs]
    ordered = {id(one.run): one for one in own}
    each = [ordered[place] for place in places]
    hosts = [
        _host_before(next(one.run for one in own if one.framework == name), folder)
        for name in frameworks
    ]
    return OwnServers(
        groups,
        hosts,
        np.array([frameworks.index(one.framework) for one in each]),
        np.array([stacks.index(one.anchor.stack) for one in each]),
    )


def _host_before(run: Run, folder: Path) -> HostEfficiency:
    return resolve_row(0, run.cells, folder).deployment.chip.efficiency.host


def _own_host(
    framework: str, own: Sequence[OwnRun], before: HostEfficiency, after: HostEfficiency
) -> OwnHost:
    measured = [one.anchor.measured for one in own if one.framework == framework]
    return OwnHost(after, before, len(measured), sum(bool(np.isfinite(m[1])) for m in measured))


def _stacks(own: Sequence[OwnRun], fitted: FittedServers) -> list[FittedStack]:
    runs = grouped((one.anchor.stack, one.anchor) for one in own)
    return [
        stack_scales(runs[stack], fitted.factors[i], fitted.variances[i])
        for i, stack in enumerate(_distinct([one.anchor.stack for one in own]))
    ]


def read_own_runs(
    path: Path,
    folder: Path,
    warn: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[OwnRun]:
    """The runs of a CSV of the serving schema whose TPOT was measured; TTFT is `nan` where it was not.

    **Arguments:**

    - `warn`: called with a sentence for each row that is left out.

    **Raises:**

    - `InputError`: when no run of the file can be compared.
    """
    found = read_anchor_runs(path, folder, progress)
    rows, runs, left_out = rows_of(cells_of(read_csv(path))), [], list(found.left_out)
    for one in found.runs:
        tpot, ttft = one.measured
        framework = "" if one.stack.framework == SMOOTH else one.stack.framework
        if np.isnan(tpot):
            left_out.append(f"row {one.place + 1} is left out: measured_tpot_ms is empty.")
        elif framework in older_versions():
            left_out.append(f"row {one.place + 1} is left out: {framework} is no host of today.")
        else:
            cells = rows[one.place] | {"framework": framework}
            runs.append(OwnRun(Run(cells, float(ttft), float(tpot), "fit", True, "", ()), one))
    for line in left_out:
        warn(line)
    if not runs:
        raise InputError(f"{path} has no run with a TPOT; give measured_tpot_ms.")
    return runs


def own_runs(path: Path, folder: Path, warn: Callable[[str], None]) -> list[Run]:
    """The same, without what they are compared with."""
    return [one.run for one in read_own_runs(path, folder, warn)]


# What is written


OF_TTFT = ("burst", "first_token_us", "per_prompt_token_us", "turnaround_us")
"""What runs without TTFT do not say: it stays as it was."""


def _sections(
    path: Path, own: Sequence[OwnRun], found: dict[str, OwnHost], stem: str, folder: Path
) -> dict[str, Any]:
    """The hosts of a file, with those that were fitted in their places."""
    hosts = hosts_of(stem, folder)
    for framework, one in found.items():
        before = hosts.get(framework, {}).get("bf16", {})
        numbers = in_units(one.host)
        told = {name: x for name, x in numbers.items() if one.ttft_runs or name not in OF_TTFT}
        stacks = [run.anchor.stack for run in own if run.framework == framework]
        report = {
            "source": path.name,
            "runs": one.runs,
            "chips": sorted({stack.chip for stack in stacks}),
            "models": sorted({stack.model for stack in stacks}),
        }
        hosts = hosts | {framework: {"bf16": before | told | {"report": report}}}
    return hosts
