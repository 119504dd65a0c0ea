"""Q14: do tokens sold at a thirtieth of the closed models' price cover what they cost?"""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.library.economics import Sold, Spread, market, spread
from perfmodel.library.ledger import hour
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, middle, share, show
from perfmodel.studies.machines import Load, Machine, Observation, Question, observe

SOLD = ("deepseek-v4-flash", "deepseek-v4-pro", "gpt-oss-120b")
"""Models with a published price whose provider says what is served."""

CHIP = "b200-sxm"
RANKS = (1, 2, 4, 8)
USERS = (8.0, 32.0, 128.0, 512.0)
PROMPT, OUTPUT = 4096.0, 1024.0
"""Tokens of a request: four in for each out, none of them cached."""

SPEED = 20.0
"""Tokens/s that a user gets at least: faster than one reads."""


class Offer(NamedTuple):
    """A model as sold: draws of what a request costs and of what it brings, for each output token."""

    name: str
    seen: Observation
    cost: np.ndarray
    revenue: float
    output: float


def offer(name: str, seen: list[Observation], draws: Draws) -> Offer:
    """The cheapest machine for a model at `SPEED`."""
    sold: Sold = market().tokens[name]
    there = [s for s in seen if s.asked.model == sold.model and s.fits and s.speed >= SPEED]
    best = min(there, key=lambda s: s.dollars)
    slow = draws.factor(best.interval)
    rate = draws.of(hour(CHIP)) * best.asked.machine.chips
    price = sold.output.si("USD/token")
    revenue = price + sold.input.si("USD/token") * PROMPT / OUTPUT
    busy = np.minimum(draws.fact(market().demand["busy"], "1"), 1.0)
    return Offer(name, best, best.held * slow * rate / busy, revenue, price)


def offers(progress: Progress) -> list[Offer]:
    """Each model on its cheapest machine, in the order of `SOLD`."""
    machines = [Machine("B200", CHIP, n, ep=n) for n in RANKS]
    models = [market().tokens[name].model for name in SOLD]
    loads = [Load(u, PROMPT, OUTPUT) for u in USERS]
    asked = [Question(m, model, load) for model in models for m in machines for load in loads]
    seen, draws = observe(asked, progress), Draws()
    return [offer(name, seen, draws) for name in SOLD]


def run(progress: Progress) -> Answer:
    found, closed = offers(progress), spread(market().closed["output"], "USD/token")
    covered = np.all([one.cost < one.revenue for one in found], axis=0)
    return Answer(
        _said(found, closed),
        share(covered),
        "Times, the price of a GPU-hour (owner's to on-demand) and utilisation (0.3 to 1) are drawn.",
        Table.of([_row(one, closed) for one in found]),
        _figure(found),
        _numbers(found, closed),
    )


def _said(found: list[Offer], closed: Spread) -> str:
    first = found[0]
    cost, (low, high) = middle(1e6 * first.cost), _times_closed(first, closed)
    return (
        f"{first.name} sells at {show(1e6 * first.output)} USD per million output tokens, 1/{low:.0f} "
        f"to 1/{high:.0f} of closed models; with their input they bring {show(1e6 * first.revenue)} and "
        f"cost an owner of B200 {show(cost.median)} ({cost.range}), a margin of "
        f"{show(100 * _margin(first))} %. Prices bring {_times(found)} what they cost."
    )


def _times_closed(one: Offer, closed: Spread) -> tuple[float, float]:
    """Price of closed models over an open one's."""
    return closed.low / one.output, closed.high / one.output


def _margin(one: Offer) -> float:
    return middle(1 - one.cost / one.revenue).median


def _numbers(found: list[Offer], closed: Spread) -> dict[str, float]:
    low, high = _times_closed(found[0], closed)
    return (
        {f"cost_{one.name}": 1e6 * middle(one.cost).median for one in found}
        | {f"revenue_{one.name}": 1e6 * one.revenue for one in found}
        | {"margin": _margin(found[0]), "closed_over_open_low": low, "closed_over_open_high": high}
    )


def _times(offers: list[Offer]) -> str:
    """How many times its cost each price brings."""
    found = [f"{show(one.revenue / middle(one.cost).median)} times ({one.name})" for one in offers]
    return ", ".join(found)


def _row(one: Offer, closed: Spread) -> dict[str, Any]:
    """A model, the machine that serves it, and what it costs and brings."""
    return {
        "model": one.name,
        "machine": one.seen.asked.machine.name,
        "users": int(one.seen.asked.load.concurrency),
        "tokens/s a user": one.seen.speed,
        "output price, USD/M": 1e6 * one.output,
        "revenue, USD/M": 1e6 * one.revenue,
        **middle(1e6 * one.cost).columns("cost"),
        "covered in % of draws": 100 * share(one.cost < one.revenue),
        "closed over it": closed.value / one.output,
    }


def _figure(offers: list[Offer]) -> Figure:
    rows = [
        {"model": one.name} | middle(1e6 * drawn).columns("usd") | {"what": what}
        for one in offers
        for what, drawn in (
            ("owner's cost", one.cost),
            ("revenue, input and output", np.array([one.revenue])),
        )
    ]
    return Figure(
        "What open tokens cost and bring",
        "points",
        Axis("usd", "for each million output tokens, with their input", "USD", log=True),
        Axis("model", "model"),
        Axis("what", ""),
        rows,
    )
