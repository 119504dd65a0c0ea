"""How well serving runs are predicted: errors, the order of configurations, one measured point each.

Errors are |predicted / measured - 1|. Kendall's tau is the share of pairs in the right order less the
share in the wrong one.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.data.inferencex import Run, once


class Graded(NamedTuple):
    """A run with what was predicted: TTFT and TPOT in s, whether every user had room, and rivals' TPOT."""

    run: Run
    ttft: float
    tpot: float
    room: bool
    rivals: dict[str, float] = {}


def record(name: str, graded: Sequence[Graded]) -> dict[str, Any]:
    """Errors of a group of runs; those of TTFT where no request waited for room."""
    tpot = errors([one.tpot for one in graded], [one.run.tpot for one in graded])
    roomy = [one for one in graded if one.room]
    ttft = errors([one.ttft for one in roomy], [one.run.ttft for one in roomy])
    weights = once([one.run for one in graded])
    return {
        "group": name,
        "n": len(graded),
        "tpot_mape": _mean(tpot),
        "tpot_median": _median(tpot),
        "tpot_median_once": weighted_median(tpot, weights),
        "tpot_bias": _median(np.log([one.tpot / one.run.tpot for one in graded])),
        **{f"{rival}_tpot_median": _rival(graded, rival) for rival in RIVALS},
        "configurator_n": int(np.sum(np.isfinite(_answers(graded, "configurator")))),
        "ttft_n": len(roomy),
        "ttft_mape": _mean(ttft),
        "ttft_median": _median(ttft),
        "kendall_tau": tau_within(graded, of_chip),
        "kendall_tau_fixed": tau_within(graded, of_traffic),
    }


RIVALS = ("roofline", "operators", "configurator")
"""A plain roofline, a roofline of every operator, and AIConfigurator."""


def _rival(graded: Sequence[Graded], rival: str) -> float | None:
    """Median error of a rival's TPOT, where it has an answer."""
    off = errors(_answers(graded, rival), [one.run.tpot for one in graded])
    return _median(off[np.isfinite(off)])


def _answers(graded: Sequence[Graded], rival: str) -> list[float]:
    return [one.rivals.get(rival, np.nan) for one in graded]


def errors(predicted: Sequence[float], measured: Sequence[float]) -> np.ndarray:
    """Relative errors."""
    return np.abs(np.asarray(predicted, float) / np.asarray(measured, float) - 1)


def _mean(values: np.ndarray) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def _median(values: np.ndarray) -> float | None:
    return round(float(np.median(values)), 4) if len(values) else None


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float | None:
    """The value with half of the weight on either side."""
    if not len(values):
        return None
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / np.sum(weights)
    return round(float(values[order][np.searchsorted(share, 0.5)]), 4)


def of_chip(run: Run) -> Hashable:
    """Runs of one model on one chip."""
    return run.cells["model"], run.cells["chip"]


def of_traffic(run: Run) -> Hashable:
    """Deployments of one model on one chip under the same traffic."""
    return of_chip(run), tuple(run.cells[name] for name in ("isl", "osl", "concurrency"))


def tau_within(graded: Sequence[Graded], key: Any) -> float | None:
    """Kendall's tau of TPOT, the mean over groups of at least three different configurations."""
    groups: dict[Hashable, list[Graded]] = {}
    for one in graded:
        groups.setdefault(key(one.run), []).append(one)
    taus = [tau(group) for group in groups.values() if len({g.run.config for g in group}) >= 3]
    known = [value for value in taus if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def tau(graded: Sequence[Graded]) -> float | None:
    """Kendall's tau (b) of TPOT; `None` where nothing differs."""
    predicted = np.array([one.tpot for one in graded])
    measured = np.array([one.run.tpot for one in graded])
    upper = np.triu_indices(len(graded), 1)
    a, b = (np.sign(np.subtract.outer(x, x))[upper] for x in (predicted, measured))
    norm = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / norm) if norm > 0 else None


ANCHOR = ("1024", "1024", "16")
"""Lengths and users of the run that each configuration is measured once at, or the nearest."""


def anchored(graded: Sequence[Graded]) -> list[Graded]:
    """Predictions of TPOT scaled by one measured run of the same configuration, which is left out."""
    return [one for group in _by_config(graded) for one in _scaled(group)]


def _by_config(graded: Sequence[Graded]) -> Iterator[list[Graded]]:
    groups: dict[Hashable, list[Graded]] = {}
    for one in graded:
        groups.setdefault(one.run.config, []).append(one)
    yield from groups.values()


def _scaled(group: list[Graded]) -> list[Graded]:
    anchor = min(group, key=lambda one: _distance(one.run))
    scale = anchor.run.tpot / anchor.tpot
    return [one._replace(tpot=one.tpot * scale) for one in group if one is not anchor]


def _distance(run: Run) -> float:
    asked = [float(run.cells[name]) for name in ("isl", "osl", "concurrency")]
    return sum(abs(np.log(x / float(y))) for x, y in zip(asked, ANCHOR, strict=True))
