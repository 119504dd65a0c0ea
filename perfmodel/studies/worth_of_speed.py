r"""Q15: is speed worth paying for? Revenue for each dollar and each joule, where fast tokens cost more.

A token at $s$ tokens/s sells for $p_0 (s/s_0)^\gamma$, up to the highest multiple that anybody pays. The
exponent is near nothing where providers of one open model compete, and about two in the fast tier of a
closed one.
"""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.library.economics import market
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import COUNT, Draws, middle, share, show
from perfmodel.studies.machine_families import HBM, SRAM, Cloud, cloud
from perfmodel.studies.searched_machines import designed

EXPONENTS = np.linspace(0.0, 3.0, 31)


def exponents() -> tuple[float, float]:
    """Of price over speed: between offers of one open model, and of a closed model's fast tier."""
    facts = market()
    slow, fast = facts.offers["deepseek-r1-slow"], facts.offers["deepseek-r1-fast"]
    price = fast.output.si("USD/token") / slow.output.si("USD/token")
    speed = fast.speed.si("1/s") / slow.speed.si("1/s")
    tier = np.log(facts.premium["price"].value) / np.log(facts.premium["speed"].value)
    return float(np.log(price) / np.log(speed)), float(tier)


def revenue(
    found: Cloud, spent: np.ndarray, families: tuple[str, ...], exponent: np.ndarray
) -> np.ndarray:
    """The most that some families earn for each unit of `spent`, in usual prices, for each draw."""
    usual = market().demand["usual"].si("1/s")
    most = market().premium["price"].value
    multiple = np.minimum((found.speed / usual) ** exponent, most)
    earned = np.where(found.of(families)[:, None], multiple / spent, 0.0)
    return np.max(earned, axis=0)


def ratio(found: Cloud, spent: np.ndarray, exponent: np.ndarray | float) -> np.ndarray:
    """Revenue of SRAM machines over that of GPUs, each at its best batch."""
    drawn = np.broadcast_to(np.asarray(exponent), (COUNT,))
    return revenue(found, spent, SRAM, drawn) / revenue(found, spent, (HBM,), drawn)


def designed_ratio(exponent: float) -> float:
    """The same of chips that a search designs: SRAM alone over HBM, each at its best speed."""
    usual, most = market().demand["usual"].si("1/s"), market().premium["price"].value
    best = {
        hbm: max(min((one.speed / usual) ** exponent, most) / one.dollars for one in front)
        for hbm, front in designed().items()
    }
    return best[False] / best[True]


PER_DOLLAR, PER_JOULE = "per USD", "per J"


def _rows(found: Cloud) -> list[dict[str, Any]]:
    """Exponent, what is spent, and SRAM's revenue over GPUs' with its range."""
    spent = {PER_DOLLAR: found.dollars, PER_JOULE: found.joules}
    return [
        {"exponent": float(exponent), "what": what}
        | middle(ratio(found, paid, exponent)).columns("ratio")
        for exponent in EXPONENTS
        for what, paid in spent.items()
    ]


def _figure(rows: list[dict[str, Any]]) -> Figure:
    return Figure(
        "What speed must be worth for SRAM to earn more",
        "lines",
        Axis("exponent", "exponent of a token's price over its speed"),
        Axis("ratio", "SRAM's revenue over GPUs'", "times", log=True),
        Axis("what", "revenue"),
        rows,
        rule=1.0,
    )


class Earned(NamedTuple):
    """SRAM's revenue for a dollar over that of GPUs.

    - `tier`, `open`: draws at the exponents of a closed model's fast tier, and of offers of one open model.
    - `drawn`: at exponents drawn evenly between both; `above`: exponents at which SRAM earns more.
    - `new`: the first two of searched chips.
    """

    tier: np.ndarray
    open: np.ndarray
    drawn: np.ndarray
    above: list[float]
    new: tuple[float, float]


def run(progress: Progress) -> Answer:
    found = cloud(progress, Draws())
    rows = _rows(found)
    one = _earned(found, rows)
    shown = [tuple(row.values()) for row in rows if round(10 * row["exponent"]) % 5 == 0]
    most = show(market().premium["price"].value, 1)
    return Answer(
        _said(one),
        share(one.drawn > 1),
        "The exponent of price over speed, drawn evenly between both markets, decides more than machines do.",
        Table(["exponent", "revenue", "SRAM over GPU", "low", "high"], shown),
        _figure(rows),
        _numbers(one),
        (f"No one is known to pay more than {most} times: there the price stops.",),
    )


def _earned(found: Cloud, rows: list[dict[str, Any]]) -> Earned:
    open_, tier = exponents()
    drawn = np.random.default_rng(1).uniform(open_, tier, COUNT)
    above = [row["exponent"] for row in rows if row["what"] == PER_DOLLAR and row["ratio"] >= 1]
    first, second, third = (ratio(found, found.dollars, e) for e in (tier, open_, drawn))
    return Earned(first, second, third, above, (designed_ratio(tier), designed_ratio(open_)))


def _said(one: Earned) -> str:
    (open_, tier), premium = exponents(), market().premium
    at_tier, above = middle(one.tier), one.above
    between = f"between exponents of {show(above[0])} and {show(above[-1])}" if above else "nowhere"
    return (
        f"{show(premium['price'].value, 1)} times the price for {show(premium['speed'].value)} times the "
        f"speed is an exponent of {show(tier)}: there SRAM earns {show(at_tier.median)} times as much for a "
        f"dollar as GPUs ({at_tier.range}); at {show(open_)}, as between "
        f"offers of one open model, {show(middle(one.open).median)} times. SRAM earns more {between}; above, "
        f"GPUs reach the highest price too. Among chips that a search designs SRAM alone earns "
        f"{show(one.new[0])} and {show(one.new[1])} times as much as with HBM."
    )


def _numbers(one: Earned) -> dict[str, float]:
    open_, tier = exponents()
    return {
        "exponent_tier": tier,
        "exponent_open": open_,
        "exponent_needed": one.above[0] if one.above else float("inf"),
        "sram_over_gpu_at_tier": middle(one.tier).median,
        "sram_over_gpu_open": middle(one.open).median,
        "designed_at_tier": one.new[0],
        "designed_open": one.new[1],
    }
