"""A quantity of a chip, predicted without it and known: a row of the report."""

from typing import NamedTuple


class Scored(NamedTuple):
    """One row of the report: a quantity of a chip, as predicted without it and as known.

    - `kind`: of die, or form of product; `split`: what the prediction has not seen.
    """

    chip: str
    quantity: str
    kind: str
    predicted: float
    known: float
    split: str = "leave-one-out"

    @property
    def error(self) -> float:
        """Relative."""
        return self.predicted / self.known - 1
