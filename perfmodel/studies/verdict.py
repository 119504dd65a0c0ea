"""Whose machines decide a claim: those that there are, or those that a search designs."""

from typing import NamedTuple

import numpy as np

from perfmodel.studies.answer import show
from perfmodel.studies.draws import middle, share


class Verdict(NamedTuple):
    """What both say of a claim; the better machines decide.

    - `known`, `new`: share of draws in which it is true of machines that there are, and of searched ones.
    - `price`: of a token of the best searched machine over that of the best there is, decode alone.
    """

    known: float
    new: float
    price: float

    @property
    def share(self) -> float:
        """Of draws in which the claim is true of the machines that decide."""
        return self.new if self.price < 1 else self.known

    @property
    def said(self) -> str:
        """Both shares, and which of them counts."""
        whose = "searched machines" if self.price < 1 else "machines that there are"
        return (
            f"The claim is true of machines that there are in {100 * self.known:.0f} % of draws, and of "
            f"searched ones in {100 * self.new:.0f} %; the best token of these costs {show(self.price)} "
            f"times the best of those, decode alone, so the verdict is that of {whose}."
        )

    @property
    def numbers(self) -> dict[str, float]:
        """For the numbers of an answer."""
        return {
            "share_known": self.known,
            "share_designed": self.new,
            "designed_over_known": self.price,
        }


class Side(NamedTuple):
    """Machines of one making, as draws: whether the claim is true of them, and USD of their best token."""

    true: np.ndarray
    dollars: np.ndarray


def verdict(known: Side, new: Side) -> Verdict:
    """Of machines that there are, and of those that a search designs, by the median price of a token."""
    price = middle(new.dollars).median / middle(known.dollars).median
    return Verdict(share(known.true), share(new.true), price)
