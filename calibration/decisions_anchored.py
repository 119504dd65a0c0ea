"""Predictions of measured runs as they are once one run of each deployment was measured."""

from collections.abc import Sequence
from pathlib import Path

from perfmodel.calibration.anchor_accuracy import Measured, deployment, measured_runs, stack
from perfmodel.calibration.anchors import Scale, fit_stack
from perfmodel.calibration.data.inferencex import Run
from perfmodel.calibration.decisions import throughput_of
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.serving_metrics import distance_from_anchor

Row = dict[str, str]


def anchored_predictions(runs: Sequence[Run], predicted: Sequence[Row], folder: Path) -> list[Row]:
    """Rows of predictions with TPOT, its high end and throughput as anchors scale them.

    The anchor of a deployment is its sound run nearest to 16 users. What cannot be compared stays as it is.
    """
    places = [i for i, run in enumerate(runs) if run.sound]
    sound = [runs[i] for i in places]
    rows = [*predicted]
    found = measured_runs(sound, folder)
    for own in grouped((stack(one), one) for one in found).values():
        deployments = grouped((deployment(one), one) for one in own).values()
        anchors = [min(some, key=lambda one: distance_from_anchor(one.run)) for some in deployments]
        fitted = fit_stack([one.anchor for one in anchors])
        for one in own:
            place = places[one.anchor.place]
            rows[place] = _scaled(predicted[place], one, fitted.at(one.anchor.ranks))
    return rows


def _scaled(row: Row, one: Measured, scale: Scale) -> Row:
    """A row with the times of an anchored stack."""
    if row["fits"] != "true":
        return row
    before = one.anchor.times
    after = before + one.anchor.slopes @ (scale.factors - 1)
    new, old = (throughput_of(one.run._replace(tpot=x[0], ttft=x[1])) for x in (after, before))
    tpot, column = 1e3 * after[0], "output_tokens_per_s_per_chip"
    changed = {"tpot_ms": tpot, "tpot_ms_high": tpot * scale.tpot.high}
    changed[column] = float(row[column]) * new / old
    return row | {name: f"{value:.6g}" for name, value in changed.items()}
