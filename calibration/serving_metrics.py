"""How well serving runs and published results are predicted: errors, the order of configurations.

Errors are |predicted / measured - 1|. Kendall's tau is the share of pairs in the right order less the
share in the wrong one.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from perfmodel.calibration.data.inferencex import Run
from perfmodel.calibration.metrics import HIGH, LOW, grouped, relative_errors, weighted_quantile

BASELINES = ("roofline", "operators", "configurator")
"""A plain roofline, a roofline of every operator, and AIConfigurator."""

WORDS = ("chip", "model", "framework", "mode")
"""What a row is of."""


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None


def _median(values: Sequence[float] | np.ndarray) -> float | None:
    return round(float(np.median(values)), 4) if len(values) else None


# Measured runs


class ScoredRun(NamedTuple):
    """A run with what was predicted: TTFT and TPOT in s, whether no user waited, and baselines' TPOT."""

    run: Run
    ttft: float
    tpot: float
    all_running: bool
    baselines: dict[str, float] = {}


def run_metrics(name: str, scored: Sequence[ScoredRun]) -> dict[str, Any]:
    """Errors of a group of runs; those of TTFT where it was measured and no request waited for room."""
    tpot = _tpot_errors(scored, [one.tpot for one in scored])
    running = [one for one in scored if one.all_running and np.isfinite(one.run.ttft)]
    ttft = relative_errors([one.ttft for one in running], [one.run.ttft for one in running])
    answers = {n: [one.baselines.get(n, np.nan) for one in scored] for n in BASELINES}
    off = {n: _tpot_errors(scored, tpots) for n, tpots in answers.items()}
    known = {n: errors[np.isfinite(errors)] for n, errors in off.items()}
    return {
        "group": name,
        "n": len(scored),
        "tpot_mape": _mean(tpot),
        "tpot_median": _median(tpot),
        "tpot_median_once": median_of_distinct(tpot, [(o.run.ttft, o.run.tpot) for o in scored]),
        "tpot_bias": _median(np.log([one.tpot / one.run.tpot for one in scored])),
        **{f"{baseline}_tpot_median": _median(errors) for baseline, errors in known.items()},
        "configurator_n": len(known["configurator"]),
        "ttft_n": len(running),
        "ttft_mape": _mean(ttft),
        "ttft_median": _median(ttft),
        "ttft_bias": _median(np.log([one.ttft / one.run.ttft for one in running])),
        "kendall_tau": tau_within(scored, of_chip),
        "kendall_tau_fixed": tau_within(scored, of_traffic),
    }


def _tpot_errors(scored: Sequence[ScoredRun], predicted: Sequence[float]) -> np.ndarray:
    return relative_errors(predicted, [one.run.tpot for one in scored])


def median_of_distinct(values: np.ndarray, keys: Sequence[Hashable]) -> float | None:
    """The median where copies, which share a key, weigh as one."""
    if not len(values):
        return None
    counts = Counter(keys)
    weights = np.array([1 / counts[key] for key in keys])
    return round(float(np.quantile(values, 0.5, weights=weights, method="inverted_cdf")), 4)


def of_chip(run: Run) -> Hashable:
    """Runs of one model on one chip."""
    return run.cells["model"], run.cells["chip"]


def of_traffic(run: Run) -> Hashable:
    """Deployments of one model on one chip under the same traffic."""
    return of_chip(run), tuple(run.cells[name] for name in ("isl", "osl", "concurrency"))


def tau_within(scored: Sequence[ScoredRun], key: Callable[[Run], Hashable]) -> float | None:
    """Kendall's tau of TPOT, the mean over groups of at least three different configurations."""
    groups = grouped((key(one.run), one) for one in scored).values()
    taus = [tau(group) for group in groups if len({one.run.config for one in group}) >= 3]
    return _mean([value for value in taus if not np.isnan(value)])


def tau(scored: Sequence[ScoredRun]) -> float:
    """Kendall's tau (b) of TPOT; `nan` where nothing differs."""
    found = kendalltau([one.tpot for one in scored], [one.run.tpot for one in scored])
    return float(found.statistic)  # pyright: ignore[reportAttributeAccessIssue]


ANCHOR = ("1024", "1024", "16")
"""Lengths and users of the run that each configuration is measured once at, or the nearest."""


def anchored(scored: Sequence[ScoredRun]) -> list[ScoredRun]:
    """Predictions of TPOT scaled by one measured run of the same configuration, which is left out."""
    groups = grouped((one.run.config, one) for one in scored).values()
    return [one for group in groups for one in _scaled(group)]


def _scaled(group: list[ScoredRun]) -> list[ScoredRun]:
    anchor = min(group, key=lambda one: distance_from_anchor(one.run))
    scale = anchor.run.tpot / anchor.tpot
    return [one._replace(tpot=one.tpot * scale) for one in group if one is not anchor]


def distance_from_anchor(run: Run) -> float:
    """How far a run's lengths and users are from those of `ANCHOR`: the sum of their |logarithms|."""
    asked = [float(run.cells[name]) for name in ("isl", "osl", "concurrency")]
    return sum(abs(np.log(x / float(y))) for x, y in zip(asked, ANCHOR, strict=True))


def metrics_of_runs(scored: Sequence[ScoredRun], name: str, every: bool) -> list[dict[str, Any]]:
    """By part, then by model, chip and framework; and with one measured point each.

    **Arguments:**

    - `every`: of all runs, not of those of the best grade alone.
    """
    best = [one for one in scored if one.run.reliable or every]
    found = [run_metrics(f"{name}, with what measures something else", best)]
    sound = [one for one in best if not one.run.fault]
    for part, own in grouped((one.run.part, one) for one in sound).items():
        found.append(run_metrics(part, own))
        found.append(run_metrics(f"{part}, one measured point per configuration", anchored(own)))
        groups = grouped((f"{part} / {name}", one) for one in own for name in _names(one.run))
        found += [run_metrics(key, group) for key, group in sorted(groups.items())]
    return found


def _names(run: Run) -> list[str]:
    words = (run.cells[name] for name in ("model", "chip", "framework"))
    return [" / ".join(words), *(f"by {name} / {run.cells[name]}" for name in WORDS)]


# Runs with equal lengths

MOST_USERS = (8, 16, 32, 64)
"""Users up to which runs have a line together."""


def metrics_of_equal_lengths(scored: Sequence[ScoredRun]) -> list[dict[str, Any]]:
    """Of all runs; by framework, model and chip; and by framework and users."""
    found = [run_metrics("all", scored)]
    for key in (("framework",), ("model",), ("chip",), ("framework", "model", "chip")):
        groups = grouped((" / ".join(one.run.cells[word] for word in key), one) for one in scored)
        found += [run_metrics(group, own) for group, own in sorted(groups.items())]
    loads = grouped((_load(one.run), one) for one in scored)
    return found + [run_metrics(_load_name(*load), own) for load, own in sorted(loads.items())]


def _load(run: Run) -> tuple[str, int]:
    """The framework of a run, and the least users of its line."""
    users = float(run.cells["concurrency"])
    return run.cells["framework"], max([1, *(most + 1 for most in MOST_USERS if users > most)])


def _load_name(framework: str, least: int) -> str:
    most = [most for most in MOST_USERS if most >= least]
    return (
        f"{framework}, {least} to {most[0]} users"
        if most
        else f"{framework}, {least} users and more"
    )


# Published results


class Comparison(NamedTuple):
    """A published value, of `WORDS`, beside its prediction; `nan` where there is none, and why in `error`.

    - `inside`: 1 where it lies in the stated range, 0 where not; `nan` where there is none.
    - `basis`: how the chip runs kernels, and what its prediction rests on; empty where the value is known to
      measure something else.
    """

    set: str
    group: str
    words: tuple[str, ...]
    published: float
    predicted: float
    error: str
    inside: float = float("nan")
    basis: str = ""


JOINT_GROUPS = (("MLPerf", "TensorRT-LLM"), ("MLPerf", "TensorRT-LLM", "Argonne"))
"""Groups of published throughput that also have a joint line: HBM machines tuned to be fast, and with
those of 2024 that were not."""


def metrics_of_published(rows: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Errors of a set together, by group, by chip of a group, and by chip, model, framework and mode."""
    groups = grouped((key, row) for row in rows for key in _keys(row))
    return [_published_metrics(key, found) for key, found in sorted(groups.items())]


def _keys(row: Comparison) -> Iterable[tuple[str, ...]]:
    yield from ((row.set,), (row.set, row.group), (row.set, row.group, row.words[0]))
    yield from ((row.set, " and ".join(g)) for g in JOINT_GROUPS if row.group.startswith(g))
    yield from ((row.set, f"by {n}", word) for n, word in zip(WORDS, row.words, strict=True))
    yield from (("by basis", row.basis),) if row.basis else ()


def _published_metrics(key: tuple[str, ...], rows: Sequence[Comparison]) -> dict[str, Any]:
    known = [row for row in rows if np.isfinite(row.predicted)]
    off = _published_errors(known)
    distinct = {(row.words, row.published): row for row in known}
    return {
        "group": " / ".join(key),
        "n": len(known),
        "unpredicted": len(rows) - len(known),
        "median_once": _median(_published_errors(list(distinct.values()))),
        "coverage90": _mean([row.inside for row in known if np.isfinite(row.inside)]),
        "factors90": _factors(known),
        "median": _median(off),
        "mape": _mean(off),
        "bias": _median(np.log([row.predicted / row.published for row in known])),
    }


def _published_errors(rows: Sequence[Comparison]) -> np.ndarray:
    return relative_errors([row.predicted for row in rows], [row.published for row in rows])


def _factors(rows: Sequence[Comparison]) -> list[float] | None:
    """Factors on a predicted time between which 90 % of the published ones lie.

    Published over predicted time is predicted over published speed. Chips weigh by the root of their rows: a
    chip's rows share what it is off by.
    """
    if not rows:
        return None
    counts = Counter(row.words[0] for row in rows)
    weights = np.array([counts[row.words[0]] ** -0.5 for row in rows])
    logs = np.log([row.predicted / row.published for row in rows])
    return [float(f"{end:.4g}") for end in np.exp(weighted_quantile(logs, weights, [LOW, HIGH]))]
