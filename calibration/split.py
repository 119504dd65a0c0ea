"""Which rows train, and which are held out: decided by a hash of the shape, before any fit.

The same shape falls on the same side on every chip, framework and format. Three parts:
`train`; `development`, to look at while choosing forms; `heldout`, looked at to report only.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.calibration.data.measurements import Measurements

TRAIN, DEVELOPMENT = 0.6, 0.7
"""Upper ends of the training and development parts of the hash's range [0, 1)."""

PARTS = ("train", "development", "heldout")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hashed(op: str, columns: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """A number in [0, 1) for each row: a hash of the operation, its sizes and a seed.

    A size that is not a number does not enter.
    """
    salt = f"{op}/{seed}" if seed else op
    h = np.full(len(columns[0]), zlib.crc32(salt.encode()), np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            given = ~np.isnan(column)
            whole = np.round(np.where(given, column, 0.0)).astype(np.int64).astype(np.uint64)
            h = np.where(given, _mix(h * _GOLDEN + whole + np.uint64(1)), h)
    return (h >> np.uint64(11)).astype(np.float64) / 2.0**53


def part_of(op: str, columns: Sequence[np.ndarray]) -> np.ndarray:
    """The part that each row belongs to."""
    u = hashed(op, columns)
    return np.array(PARTS)[np.searchsorted([TRAIN, DEVELOPMENT], u, side="right")]


def pick(
    op: str, columns: Sequence[np.ndarray], among: np.ndarray, most: int, seed: int
) -> np.ndarray:
    """Indices of at most `most` rows of those marked by `among`, in the order of a seeded hash."""
    candidates = np.flatnonzero(among)
    order = np.argsort(hashed(op, columns, seed + 1)[candidates], kind="stable")
    return np.sort(candidates[order[:most]])


# The splits of the protocol

MAX_TRAINED_SIZE = 4096
"""Largest n and k that train in the split by size."""

HELD_OUT_MODELS = 1 / 3
"""Share of the models that the split by model leaves out."""

MODEL_COLUMNS = ("hidden", "inter", "topk", "experts")

FEW_SHOT_ROWS = 32
"""Rows of each table from which a chip that was never measured is fitted."""


UNTRAINED = ("chip", "architecture", "vendor", "version")
"""Splits in which no row of a table trains."""


class Rows(NamedTuple):
    """Places of a table's rows: those that train, that give the interval, and that are reported."""

    train: np.ndarray
    development: np.ndarray
    test: np.ndarray


def split_table(split: str, table: Measurements, rows: int, reported: int, seed: int) -> Rows:
    """Which rows of a table play which part in a split.

    **Arguments:**

    - `rows`: that train, at most; `reported`: that give the interval or are reported, at most.
    """
    op, shape, parts = table.key.op, table.shape, part_of(table.key.op, table.shape)
    inside, outside = _sides(split, table)
    most = (dict.fromkeys(UNTRAINED, 0) | {"fewshot": FEW_SHOT_ROWS}).get(split, rows)

    def some(part: str, side: np.ndarray, most: int) -> np.ndarray:
        return pick(op, shape, (parts == part) & side, most, seed)

    train = some("train", inside, most)
    development = some("development", inside, reported) if most > FEW_SHOT_ROWS else train
    return Rows(train, development, some("heldout", outside, reported))


def _sides(split: str, table: Measurements) -> tuple[np.ndarray, np.ndarray]:
    """Rows that a fit may see, and rows that may be reported."""
    if split == "size":
        small = np.maximum(table.columns["n"], table.columns["k"]) <= MAX_TRAINED_SIZE
        return small, ~small
    if split == "model":
        models = [table.columns[name] for name in MODEL_COLUMNS]
        held_out = hashed("model", models) < HELD_OUT_MODELS
        return ~held_out, held_out
    every = np.ones(len(table.time), bool)
    return every, every
