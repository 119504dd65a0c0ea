"""Measured rows of the serving schema: read, looked up, and those of one form priced together."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from perfmodel.calibration.ingest.tools import refuse_results
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, rows_of
from perfmodel.inference.evaluate import ResolvedRow
from perfmodel.library.files import named
from perfmodel.workload.plan import REPLICA_RANKS

Run = TypeVar("Run")


class Asked(Protocol):
    """A row that was looked up."""

    @property
    def resolved(self) -> ResolvedRow:
        """As `resolve_row` gives it."""
        ...


OneAsked = TypeVar("OneAsked", bound=Asked)


class MeasuredRows(NamedTuple, Generic[Run]):
    """Runs that can be compared, in the order of their rows, and a sentence for each row that cannot."""

    runs: list[Run]
    left_out: list[str]


def read_measured_rows(
    path: Path,
    columns: Sequence[str],
    compare: Callable[[Sequence[Mapping[str, str]]], MeasuredRows[Run]],
) -> MeasuredRows[Run]:
    """The rows of a CSV of the serving schema.

    **Arguments:**

    - `columns`: of what was measured, of which the file needs one.
    - `compare`: rows with what is predicted of them.

    **Raises:**

    - `InputError`: when the file has no measured column, or none of its rows can be compared.
    """
    refuse_results(path)
    cells = cells_of(read_csv(path))
    if not set(columns) & set(cells):
        raise InputError(f"{path} has neither {' nor '.join(columns)}; it has {named(cells)}.")
    found = compare(rows_of(cells))
    if not found.runs:
        raise InputError(found.left_out[0] if found.left_out else f"{path} has no rows.")
    return found


def priced_by_form(
    rows: Sequence[Mapping[str, str]],
    ask: Callable[[int, dict[str, str]], OneAsked],
    price: Callable[[Sequence[OneAsked]], Sequence[Run | str]],
    progress: Callable[[int, int], None],
) -> MeasuredRows[Run]:
    """Rows looked up, and priced form by form.

    **Arguments:**

    - `ask`: a row by its place; raises `InputError` for one that cannot be compared.
    - `price`: of rows of one form each run, or what is wrong with it.
    - `progress`: told how many forms are done, of how many.
    """
    said: dict[int, str] = {}
    forms: dict[Any, list[OneAsked]] = {}
    for place, row in enumerate(rows):
        try:
            asked = ask(place, dict(row))
        except InputError as wrong:
            said[place] = str(wrong)
            continue
        forms.setdefault(asked.resolved.form, []).append(asked)
    found: dict[int, Run] = {}
    for done, group in enumerate(forms.values()):
        progress(done, len(forms))
        for asked, outcome in zip(group, price(group), strict=True):
            if isinstance(outcome, str):
                said[asked.resolved.place] = outcome
            else:
                found[asked.resolved.place] = outcome
    progress(len(forms), len(forms))
    sentences = [f"row {place + 1} is left out: {said[place]}" for place in sorted(said)]
    return MeasuredRows([found[place] for place in sorted(found)], sentences)


def check_one_deployment(resolved: ResolvedRow) -> None:
    """Refuse a row whose ranks leave several deployments, of which one was measured."""
    if len(resolved.candidates) > 1:
        raise InputError(
            f"its ranks leave {len(resolved.candidates)} deployments; give {', '.join(REPLICA_RANKS)} of the "
            "one that was measured."
        )
