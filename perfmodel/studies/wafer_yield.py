"""Q10: at what core size does the yield of a wafer-scale part collapse?"""

from typing import NamedTuple

import jax
import numpy as np

from perfmodel.hardware.cost import wafer_scale_cost
from perfmodel.hardware.yields import negative_binomial, poisson, wafer_scale
from perfmodel.library.chip import chip_files
from perfmodel.library.economics import Spread, market, spread
from perfmodel.library.schema import si_or
from perfmodel.library.technology import load_node, silicon
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, Middle, middle, share, show
from perfmodel.units import as_values

WAFER = "wse-3"
CORES = np.geomspace(0.01, 60.0, 41)
"""Areas of a core, in mm2: from a fifth of a WSE-3's to twenty times an H100's SM."""

COLLAPSE_YIELD = 0.5
"""Yield below which it is called a collapse."""

MIN_COST_FACTOR = 2.0
"""Share of the system's parts by which yield would have to raise them to drive up costs: twofold."""

_yields = jax.jit(jax.vmap(wafer_scale))
_cost = jax.vmap(wafer_scale_cost, (None, 0))


def facts() -> tuple[float, float, float]:
    """Area of the part in m2, cores made, and the share of them that may be bad."""
    file = chip_files()[WAFER]
    made = market().wafer["cores"].si("1")
    return si_or(file.area, "m2"), made, 1 - si_or(file.cores, "1") / made


def yields(core: np.ndarray, defects: np.ndarray | float, spares: float) -> np.ndarray:
    """Share of wafers that work with cores of some mm2 and defects on a m2.

    Spare area is the same share at every size of core.
    """
    area = facts()[0]
    cores = area * 1e6 / core
    shape = np.broadcast_shapes(np.shape(core), np.shape(defects))
    columns = [np.broadcast_to(x, shape).ravel() for x in (area, defects, cores, spares)]
    return np.asarray(_yields(*map(as_values, columns))).reshape(shape)


def collapse(defects: np.ndarray, spares: float) -> np.ndarray:
    """The smallest core at which fewer than half of all wafers work, in mm2, for each draw."""
    good = yields(CORES[:, None], defects, spares) >= COLLAPSE_YIELD
    first = np.argmin(good, axis=0)
    return np.where(good.all(axis=0), np.inf, CORES[first])


class Known(NamedTuple):
    """What is known of a wafer that is sold.

    - `area`: in m2; `core`: in mm2; `spares`: share of its cores.
    - `defects`: on a m2; `parts`: of a system, in USD.
    """

    area: float
    core: float
    spares: float
    defects: Spread
    parts: float

    @property
    def works(self) -> float:
        """Share of wafers that work, in the middle."""
        return float(yields(np.array(self.core), self.defects.value, self.spares))

    @property
    def drawn(self) -> np.ndarray:
        """Draws of defects on a m2."""
        low, high = self.defects.low, 3 * self.defects.high
        return Draws().of(Spread(self.defects.value, low, high))

    @property
    def size(self) -> Middle:
        """Of the core, in mm2, at which yield collapses."""
        return middle(collapse(self.drawn, self.spares))


def known() -> Known:
    """Facts of the wafer and of its node."""
    area, made, spares = facts()
    node = load_node(chip_files()[WAFER].node)
    assert node.defects is not None
    parts = market().wafer["parts"].si("USD")
    return Known(area, area * 1e6 / made, spares, spread(node.defects, "1/m2"), parts)


def run(progress: Progress) -> Answer:
    progress(0, 1)
    one = known()
    now = yields(np.array(one.core), one.drawn, one.spares)
    wafer = np.asarray(_cost(silicon(chip_files()[WAFER].node), as_values(now)))
    least = float(np.min(wafer))
    progress(1, 1)
    return Answer(
        _said(one, least / one.parts),
        share((now < COLLAPSE_YIELD) | ((wafer - least) / one.parts > MIN_COST_FACTOR - 1)),
        "Defects are drawn from half to three times what TSMC said of N5; fields are alike and independent.",
        _table(one.defects.value, one.spares),
        _figure(one.defects, one.spares),
        _numbers(one, least / one.parts),
        _caveats(one),
    )


def _numbers(one: Known, added: float) -> dict[str, float]:
    return {
        "yield": one.works,
        "defects_per_wafer": one.defects.value * one.area,
        "collapse_mm2": one.size.median,
        "collapse_low": one.size.low,
        "collapse_high": one.size.high,
        "wafer_share_of_parts": added,
    }


def _said(one: Known, added: float) -> str:
    works, size = one.works, one.size
    return (
        f"With {show(one.defects.value * one.area)} defects on a wafer and {show(100 * one.spares)} % of "
        f"{show(one.core)} mm2 cores spare, {show(100 * works, 3)} % of wafers work; half of them would fail "
        f"only with cores of {show(size.median)} mm2 ({size.range}), "
        f"{show(size.median / one.core)} times as large, and even a wafer thrown away for each good one "
        f"would add {show(100 * added)} % to the {one.parts:,.0f} USD of a system's parts."
    )


def _caveats(one: Known) -> tuple[str, ...]:
    whole = float(poisson(as_values(one.area), as_values(one.defects.value)))
    alone = (
        f"one wafer in {show(1 / whole, 1)} would work"
        if whole > 1e-12
        else "no wafer would ever work"
    )
    return (
        "Each of 84 fields must do with its own spare cores; wires and power are not in it.",
        f"Without spare cores {alone}.",
    )


def _table(defects: float, spares: float) -> Table:
    rows = []
    for core in (0.05, 0.2, 1.0, 3.0, 6.0, 10.0):
        for part in (0.01, spares, 0.15):
            values = yields(np.array(core), defects * np.array([0.5, 1.0, 3.0]), part)
            rows.append((core, 100 * part, *(round(100 * float(v), 2) for v in values)))
    names = ["core mm2", "spare %", "yield % at half the defects", "as measured", "at three times"]
    return Table(names, rows)


def _figure(known: Spread, spares: float) -> Figure:
    rows = [
        {"core": float(core), "yield": 100 * float(good), "defects": f"{defects / 1e4:.2f} a cm2"}
        for defects in (0.5 * known.value, known.value, 3.0 * known.value)
        for core, good in zip(CORES, yields(CORES, defects, spares), strict=True)
    ]
    die = float(negative_binomial(as_values(814e-6), as_values(known.value)))
    return Figure(
        f"Wafers that work with {show(100 * spares)} % spare cores",
        "lines",
        Axis("core", "area of a core", "mm2", log=True),
        Axis("yield", "wafers that work", "%"),
        Axis("defects", "defects"),
        rows,
        rule=100 * die,
    )
