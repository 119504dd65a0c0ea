"""KV-cache capacity as servers print it when they start, beside what is predicted.

Rows are of `library/published/kv_capacity.csv`. A hash of what was served halves them, before any error was
looked at: forms and amounts were chosen on the development half, the other is looked at to report.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.metrics import grouped
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, rows_of
from perfmodel.inference.evaluate import ResolvedRow, resolve_row
from perfmodel.inference.server_memory import server_memories
from perfmodel.library.files import ROOT

MEMORY = "memory"
"""The name of the set."""

GIB = 2.0**30

PARTS = ("development", "held out")

IDENTITY = ("chip", "model", "precision", "framework", "tp", "source")
"""What a row is hashed by."""

CHOSEN_WITH = "a form was chosen with it"
"""In the note of a row that is of the development half whatever its hash says."""


class CapacityRow(NamedTuple):
    """A server's KV cache as it printed it, and as predicted, in tokens or in GiB of a chip."""

    part: str
    chip: str
    model: str
    software: str
    tp: str
    unit: str
    measured: float
    predicted: float
    error: str
    source: str

    @property
    def off(self) -> float:
        """Predicted over measured, less 1; `nan` where nothing is predicted."""
        return self.predicted / self.measured - 1

    def as_dict(self) -> dict[str, Any]:
        """Its words and numbers by name; what is not predicted is none."""
        known = np.isfinite(self.predicted)
        numbers = {"predicted": self.predicted, "off": round(self.off, 4)}
        return self._asdict() | (numbers if known else dict.fromkeys(numbers))


def capacity_rows(calibration: Path) -> list[CapacityRow]:
    """Every published capacity beside its prediction."""
    rows = list(rows_of(cells_of(read_csv(ROOT / "published" / "kv_capacity.csv"))))
    found: list[CapacityRow | None] = [None] * len(rows)
    resolved: list[ResolvedRow] = []
    for place, cells in enumerate(rows):
        try:
            resolved.append(resolve_row(place, cells | {"concurrency": "1"}, calibration))
        except InputError as wrong:
            found[place] = _row(cells, float("nan"), float("nan"), str(wrong))
    for one, gib, tokens in _capacities(resolved):
        found[one.place] = _row(rows[one.place], gib, tokens, "")
    return [row for row in found if row is not None]


def _capacities(resolved: Sequence[ResolvedRow]) -> Iterator[tuple[ResolvedRow, float, float]]:
    """Each row with GiB of KV cache on a chip, and tokens of it on a data rank."""
    for rows in grouped((row.form, row) for row in resolved).values():
        for row, memory in zip(rows, server_memories(rows), strict=True):
            yield row, memory.kv_cache / GIB, memory.kv_capacity_tokens


def _row(cells: dict[str, str], gib: float, tokens: float, error: str) -> CapacityRow:
    """A row in tokens where its server printed them, else in GiB."""
    in_tokens = bool(cells["kv_tokens"])
    unit, measured = ("tokens", cells["kv_tokens"]) if in_tokens else ("GiB", cells["kv_gib"])
    words = (cells["chip"], cells["model"], cells["software"], cells["tp"])
    numbers = (float(measured), tokens if in_tokens else gib)
    return CapacityRow(part_of(cells), *words, unit, *numbers, error, cells["source"])


def part_of(cells: dict[str, str]) -> str:
    """The half that a row is of."""
    if CHOSEN_WITH in cells["note"]:
        return PARTS[0]
    identity = "|".join(cells[name] for name in IDENTITY)
    return PARTS[hashlib.sha256(identity.encode()).digest()[0] % 2]


def capacity_metrics(rows: Sequence[CapacityRow]) -> list[dict[str, Any]]:
    """Errors of each half, of each framework, and of all."""
    groups = {"all": list(rows)}
    groups |= grouped((row.part, row) for row in rows)
    groups |= grouped((row.software.split()[0], row) for row in rows)
    return [_metrics(name, own) for name, own in groups.items()]


def _metrics(name: str, rows: Sequence[CapacityRow]) -> dict[str, Any]:
    off = np.array([row.off for row in rows if np.isfinite(row.off)])
    errors = np.abs(off)
    numbers = {"median": np.median, "mape": np.mean, "worst": np.max}
    found = {key: round(float(of(errors)), 4) if len(off) else None for key, of in numbers.items()}
    bias = round(float(np.median(off)), 4) if len(off) else None
    return (
        {"group": name, "n": len(rows), "unpredicted": len(rows) - len(off)}
        | found
        | {"bias": bias}
    )
