"""A random forest trained on the same rows of kernels (Breiman, Machine Learning 45, 2001).

It learns log time from the sizes and from the roofline's FLOPs and bytes.
"""

import importlib.util

import numpy as np

from perfmodel.calibration.baselines.roofline import Counts
from perfmodel.calibration.data.measurements import Measurements

TREES = 200


def has_forest() -> bool:
    """Whether scikit-learn is installed."""
    return importlib.util.find_spec("sklearn") is not None


def forest(
    train: Measurements, seen: Counts, test: Measurements, asked: Counts, seed: int
) -> np.ndarray:
    """Times of the `test` rows, in s, by a forest that was trained on the `train` rows."""
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(n_estimators=TREES, random_state=seed, n_jobs=-1)
    model.fit(_features(train, seen), np.log(train.time))
    return np.exp(model.predict(_features(test, asked)))


def _features(rows: Measurements, counted: Counts) -> np.ndarray:
    """Logarithms of the sizes, FLOPs and bytes; one is added, for some are zero."""
    return np.log1p(np.stack([*rows.columns.values(), counted.flops, counted.moved], axis=1))
