"""How well anchored stacks are predicted: one run of each deployment, or of each stack, is the anchor.

The runs are the open ones of InferenceX (`fit` and `heldout`); what is scored is no anchor.

`python -m perfmodel.calibration.anchor_accuracy` prints the spreads that `perfmodel.calibration.anchors`
holds, and errors with and without anchors; with `--prior-only` as if no kernel of any chip were measured.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.anchors import AnchorRun, FittedStack, anchor_runs, fit_stack
from perfmodel.calibration.data.inferencex import Run, open_runs, rows_of_runs
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.serving_metrics import distance_from_anchor
from perfmodel.files import write_toml
from perfmodel.library.anchors import Stack
from perfmodel.library.files import read_toml
from perfmodel.library.fitted import FITTED, SERVING, SIBLINGS


class Scored(NamedTuple):
    """Runs that are no anchors.

    - `errors`: ln(measured / predicted) of TPOT and TTFT, of shape (n, 2); `nan` where not compared.
    - `inside`: 1 where the measured time lies in the 90 % range, 0 where not; `nan` likewise.
    """

    errors: np.ndarray
    inside: np.ndarray

    def as_dict(self) -> dict[str, list[float]]:
        """Of TPOT and TTFT: the median |error|, the factor that holds 90 %, and the share in the range."""
        off = np.abs(np.expm1(-self.errors))
        return {
            "median": np.nanmedian(off, axis=0).round(4).tolist(),
            "factor_90": np.exp(np.nanquantile(np.abs(self.errors), 0.9, axis=0)).round(3).tolist(),
            "inside": np.nanmean(self.inside, axis=0).round(3).tolist(),
        }


class Measured(NamedTuple):
    """A run, and its times as they were predicted without factors."""

    run: Run
    anchor: AnchorRun


def measured_runs(runs: Sequence[Run], folder: Path = FITTED) -> list[Measured]:
    """The runs that can be compared with predictions from a folder of fitted parameters."""
    found = anchor_runs(rows_of_runs(runs), folder).runs
    return [Measured(runs[one.place], one) for one in found]


def stack(one: Measured) -> Stack:
    """One run of each stack is the anchor."""
    return one.anchor.stack


def deployment(one: Measured) -> tuple[Stack, tuple[float, ...]]:
    """One run of each deployment is the anchor."""
    return one.anchor.stack, one.anchor.ranks


def leave_anchors_out(
    runs: Sequence[Measured], key: Callable[[Measured], Hashable], anchors: int = 1
) -> Scored:
    """Score the runs that are no anchors: these are the `anchors` of each group nearest to 16 users.

    **Arguments:**

    - `anchors`: 0 scores the same runs as 1 does, without factors.
    """
    scores = [_of_stack(own, key, anchors) for own in grouped((stack(r), r) for r in runs).values()]
    return Scored(*(np.concatenate(part) for part in zip(*scores, strict=True)))


def _of_stack(
    runs: Sequence[Measured], key: Callable[[Measured], Hashable], anchors: int
) -> tuple[np.ndarray, np.ndarray]:
    groups = [
        sorted(own, key=lambda one: distance_from_anchor(one.run))
        for own in grouped((key(one), one) for one in runs).values()
    ]
    taken = [one.anchor for own in groups for one in own[:anchors]]
    rest = [one.anchor for own in groups for one in own[max(anchors, 1) :]]
    fitted = fit_stack(taken) if taken else None
    found = [_score(one, fitted) for one in rest]
    return np.array([f[0] for f in found]).reshape(-1, 2), np.array([f[1] for f in found]).reshape(
        -1, 2
    )


def _score(one: AnchorRun, fitted: FittedStack | None) -> tuple[np.ndarray, np.ndarray]:
    """Errors and whether they are in the range, of TPOT and TTFT."""
    scale = fitted.at(one.ranks) if fitted else None
    ends = (scale.tpot, scale.ttft) if scale else (one.before.tpot, one.before.ttft)
    known = np.isfinite(one.measured)
    errors = -one.missed(np.log(scale.factors) if scale else np.zeros(2))
    low, high = np.log(np.array(ends)).T
    inside = (low <= errors) & (errors <= high)
    return np.where(known, errors, np.nan), np.where(known, inside, np.nan)


def spreads(runs: Sequence[Measured]) -> dict[str, list[float]]:
    """Standard deviations of ln(measured / predicted), of TPOT and of TTFT.

    Between runs of a deployment, and between the means of the deployments of a stack.
    """
    errors = [(one, _score(one.anchor, None)[0]) for one in runs]
    own = {key: np.array(e) for key, e in grouped((deployment(r), e) for r, e in errors).items()}
    means = grouped(
        (key[0], np.nanmean(e, axis=0))
        for key, e in own.items()
        if np.isfinite(e).any(axis=0).all()
    )
    return {
        "load": _pooled(list(own.values())),
        "deployment": _pooled([np.array(each) for each in means.values()]),
    }


def _pooled(groups: Sequence[np.ndarray]) -> list[float]:
    """The standard deviation within groups."""
    squares = sum(np.nansum((x - np.nanmean(x, axis=0)) ** 2, axis=0) for x in groups)
    free = sum(np.maximum(np.isfinite(x).sum(axis=0) - 1, 0) for x in groups)
    return np.sqrt(squares / free).round(3).tolist()


def report(folder: Path = FITTED) -> dict[str, Any]:
    """Spreads of the open runs; of each part errors with no, one and three anchors of each group."""
    runs = measured_runs(open_runs(), folder)
    found: dict[str, Any] = {"runs": len(runs), "spreads": spreads(runs)}
    for part, own in grouped((one.run.part, one) for one in runs).items():
        for name, key in (("stack", stack), ("deployment", deployment)):
            for n in (0, 1, 3):
                found[f"{part}, {n} of each {name}"] = leave_anchors_out(own, key, n).as_dict()
    return found


def prior_only(folder: Path) -> Path:
    """Write a folder in which no chip has parameters of its own, or of a sibling."""
    prior = read_toml(FITTED / "prior.toml")
    write_toml(folder / "prior.toml", {name: x for name, x in prior.items() if name != SIBLINGS})
    shutil.copyfile(FITTED / f"{SERVING}.toml", folder / f"{SERVING}.toml")
    return folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        chosen = prior_only(Path(place)) if "--prior-only" in sys.argv else FITTED
        print(json.dumps(report(chosen), indent=1))
