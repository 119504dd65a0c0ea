"""How far measured serving runs lie from predictions that rest on none of their kind.

A model, chip, framework or vendor is left out at a time: hosts are fitted again without its runs, a chip and
the chips of a vendor lose what was fitted to their kernels, and its runs are predicted as any row is. Of a
model or chip the host is that of the same framework; of a framework or vendor one host of all other runs.

Hosts are fitted here; runs are predicted here or on the workers of a cluster, with the same numbers.
"""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.data.inferencex import Run
from perfmodel.calibration.decisions import throughput_of
from perfmodel.calibration.fit import from_free, solve_each
from perfmodel.calibration.measured_runs import PredictedRuns, score_runs
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.own_hosts import own_runs
from perfmodel.calibration.sections import copy_fitted, in_units
from perfmodel.calibration.serving import (
    RunGroup,
    fitted_runs,
    groups_of,
    host_file,
    host_of,
    initial_host,
    problem_of,
    software_of_run,
)
from perfmodel.calibration.serving_metrics import ScoredRun, run_metrics
from perfmodel.cluster import check_address, gathered, workers
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, rows_of, table_of_texts, write_csv, write_toml
from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.inference.serving_predictions import predict_cells
from perfmodel.library.chip import chip_files, find_chip
from perfmodel.library.files import word_of
from perfmodel.library.fitted import FITTED, hosts_of, own_folder
from perfmodel.library.model import find_model

LEFT_OUT: dict[str, Callable[[Run], str]] = {
    "model": lambda run: find_model(run.cells["model"]),
    "chip": lambda run: find_chip(run.cells["chip"]),
    "framework": lambda run: software_of_run(run)[0],
    "vendor": lambda run: chip_files()[find_chip(run.cells["chip"])].vendor,
}
"""What may be left out, and what a run has of it."""

OF_CHIPS = ("chip", "vendor")
"""Those with which fits of kernels are left out, too."""

OF_ONE_HOST = ("model", "chip")
"""Those whose runs share a host with others of their framework."""

Software = tuple[str, str]
"""A file of hosts and a framework."""


class LeftOut(NamedTuple):
    """What is left out, its runs, and the host that is fitted without them."""

    by: str
    name: str
    runs: list[Run]
    host: HostEfficiency


def software_of(run: Run) -> Software:
    """Whose host a run has."""
    return host_file(run.cells["chip"]), host_of(run)


def runs_of(
    source: str, files: Sequence[Path], folder: Path, warn: Callable[[str], None]
) -> list[Run]:
    """The runs of the package that hosts may be fitted to, and those of files of the serving schema.

    **Raises:**

    - `InputError`: when the package or a file is not there, or no run of a file can be compared.
    """
    own = [run for path in files for run in own_runs(path, folder, warn)]
    return fitted_runs(source) + own


def score_left_out(
    runs: Sequence[Run],
    names: Sequence[str],
    folder: Path,
    progress: Callable[[int, int], None],
    cluster: str = "",
) -> list[dict[str, Any]]:
    """Errors of runs, of each that is left out and of all together.

    **Arguments:**

    - `names`: of `LEFT_OUT`.
    - `folder`: of the fits that all else is taken from.
    - `cluster`: the Ray cluster that predicts; this process if empty.

    **Raises:**

    - `InputError`: for another name, when nothing would be left to fit, and for a cluster that is not there.
    """
    check_address(cluster)
    asked = [word_of(name, tuple(LEFT_OUT), "--left-out") for name in names or [""]]
    left_out = fits_without(runs, asked, folder)
    if not left_out:
        raise InputError(
            f"the runs are of one {' and one '.join(names)}: nothing is left to fit; give more by --runs."
        )
    scored: dict[tuple[str, str], list[Scored]] = {}
    for one, found in zip(left_out, _predict(left_out, folder, cluster, progress), strict=True):
        scored.setdefault((one.by, one.name), []).extend(found)
    together = grouped((by, run) for (by, _), own in scored.items() for run in own)
    groups = {f"one {by} left out at a time": own for by, own in together.items()}
    groups |= {f"{by} {name} left out": own for (by, name), own in sorted(scored.items())}
    return [left_out_metrics(name, own) for name, own in groups.items()]


PACKAGES = ("numpy", "equinox")
"""Whose versions predictions depend on, beside JAX."""


def _predict(
    left_out: Sequence[LeftOut], folder: Path, cluster: str, progress: Callable[[int, int], None]
) -> list[list["Scored"]]:
    """The runs of each that is left out, predicted here or on a cluster."""
    own = own_folder(folder)
    with workers(cluster, [own] if own else [], PACKAGES) as run:
        found = run(functools.partial(predict_left_out, own), left_out)
        return gathered(found, len(left_out), progress)


# The fits without them


def fits_without(runs: Sequence[Run], names: Sequence[str], folder: Path) -> list[LeftOut]:
    """Each that is left out, with a host that is fitted to other runs; without those that have no others."""
    groups = {
        software: groups_of(own, folder)
        for software, own in grouped((software_of(run), run) for run in runs).items()
    }
    every = [group for own in groups.values() for group in own]
    found: list[LeftOut] = []
    for by in names:
        for some in groups.values() if by in OF_ONE_HOST else [every]:
            found += _of_groups(by, some)
    return found


def _of_groups(by: str, groups: Sequence[RunGroup]) -> list[LeftOut]:
    """Those left out of some groups, all fitted at once."""
    runs = [run for group in groups for run in group.runs]
    whose = np.array([LEFT_OUT[by](run) for run in runs])
    names = sorted(set(whose)) if len(set(whose)) > 1 else []
    if not names:
        return []
    kept = whose != np.array(names)[:, None]
    hosts = hosts_of_some(groups, kept)
    return [
        LeftOut(by, name, [run for run, own in zip(runs, ~some, strict=True) if own], host)
        for name, some, host in zip(names, kept, hosts, strict=True)
    ]


def hosts_of_some(groups: Sequence[RunGroup], kept: np.ndarray) -> list[HostEfficiency]:
    """The hosts of some of the runs of groups, for each row of `kept`, of shape (hosts, runs)."""
    problem = problem_of(groups, initial_host())
    shares = kept * np.sqrt(kept.shape[1] / kept.sum(axis=1, keepdims=True))
    prior = np.ones((len(kept), len(problem.start)))
    free = solve_each(problem, np.concatenate([shares, shares, prior], axis=1))
    return [from_free(HostEfficiency, one) for one in free]


@contextlib.contextmanager
def folder_without(one: LeftOut, folder: Path) -> Iterator[Path]:
    """A folder of fitted parameters with a host of other runs, and without the chips that are left out."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        copy_fitted(folder, out)
        if one.by in OF_CHIPS:
            for chip in {find_chip(run.cells["chip"]) for run in one.runs}:
                (out / f"{chip}.toml").unlink(missing_ok=True)
        for stem, frameworks in grouped({software_of(run) for run in one.runs}).items():
            hosts = hosts_of(stem, folder)
            fresh = {name: {"bf16": _section(hosts.get(name, {}), one)} for name in frameworks}
            write_toml(out / f"{stem}.toml", {"host": hosts | fresh})
        yield out


def _section(formats: dict[str, Any], one: LeftOut) -> dict[str, Any]:
    before = formats.get("bf16", {})
    report = before.get("report", {"source": "", "runs": 0, "chips": [], "models": []})
    models = [name for name in report["models"] if one.by in OF_ONE_HOST and name != one.name]
    return before | in_units(one.host) | {"report": report | {"models": models}}


# What is written

RESULT = "left_out.csv"
"""Name of the file that has a line for each that was left out."""

FIGURES = (
    "tpot_median",
    "tpot_mape",
    "tpot_bias",
    "throughput_median",
    "ttft_median",
    "coverage90",
)
"""Errors of TPOT, of tokens/s per chip and of TTFT, and the share of runs in the range of TPOT."""


def write_left_out(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the figures of each, as shares; empty where there is none."""
    names = ("group", "n", *FIGURES)
    texts = {
        name: ["" if one[name] is None else f"{one[name]}" for one in records] for name in names
    }
    write_csv(path, table_of_texts(texts))


def read_left_out(path: Path) -> list[dict[str, Any]]:
    """The figures of a file that `write_left_out` wrote."""
    rows = rows_of(cells_of(read_csv(path)))
    return [
        {"group": row["group"], "n": int(row["n"])}
        | {name: float(row[name]) if row[name] else None for name in FIGURES}
        for row in rows
    ]


# Their runs


class Scored(NamedTuple):
    """A run with what was predicted, and whether its TPOT lies in the 90 % range."""

    run: ScoredRun
    inside: bool


def predict_left_out(folder: Path | None, one: LeftOut) -> list[Scored]:
    """The runs of what is left out that fit by the model's account.

    **Arguments:**

    - `folder`: of the fits that all else is taken from; `None`: the shipped one.
    """
    names = dict.fromkeys(name for run in one.runs for name in run.cells)
    cells = {name: [run.cells.get(name, "") for run in one.runs] for name in names}
    with folder_without(one, folder or FITTED) as out:
        rows = rows_of(predict_cells(cells, len(one.runs), out, lambda *_: None))
    fitting = [row for row in rows if row["fits"] == "true"]
    return [
        Scored(run, float(row["tpot_ms_low"]) <= 1e3 * run.run.tpot <= float(row["tpot_ms_high"]))
        for run, row in zip(score_runs(PredictedRuns(one.runs, rows), {}), fitting, strict=True)
    ]


def left_out_metrics(group: str, found: Sequence[Scored]) -> dict[str, Any]:
    """Errors of TPOT, TTFT and tokens/s per chip, and the share of runs in the range."""
    runs = [one.run for one in found]
    off = [abs(predicted_throughput(one) / throughput_of(one.run) - 1) for one in runs]
    known = [error for error in off if np.isfinite(error)]
    throughput = round(float(np.median(known)), 4) if known else None
    share = round(float(np.mean([one.inside for one in found])), 4) if found else None
    return run_metrics(group, runs) | {"throughput_median": throughput, "coverage90": share}


def predicted_throughput(one: ScoredRun) -> float:
    """Output tokens/s per chip, as `throughput_of` has it of what was measured."""
    return throughput_of(one.run._replace(ttft=one.ttft, tpot=one.tpot))
