"""What a search maximises, minimises, limits or traces a front against, each by a name with its unit.

A new one is an entry of `OBJECTIVES`; studies, limits, fronts and reports take it from here.
"""

from collections.abc import Callable
from typing import NamedTuple

from perfmodel.design.system import Served, SystemCost
from perfmodel.units import Scalar

MILLION = 1e6


class Outcome(NamedTuple):
    """What a system gives under a workload, and what it costs, in SI units.

    - `sold`: output tokens/s that are paid for; `revenue`: USD/s for them.
    - `memory`: bytes of main memory of all chips.
    """

    served: Served
    spent: SystemCost
    sold: Scalar
    revenue: Scalar
    memory: Scalar


class Objective(NamedTuple):
    """How it is computed, whether more is better, and whether a relative gain of it is one of money."""

    of: Callable[[Outcome], Scalar]
    larger: bool = True
    in_usd: bool = False


OBJECTIVES = {
    "tokens_per_s_per_user": Objective(lambda seen: 1 / seen.served.tpot),
    "tokens_per_s_per_mm2": Objective(lambda seen: seen.served.rate / (seen.spent.area * 1e6)),
    "tokens_per_s_per_watt": Objective(lambda seen: seen.served.rate / seen.spent.power),
    "tokens_per_s_per_usd": Objective(lambda seen: seen.served.rate / seen.spent.paid, in_usd=True),
    "tokens_per_s": Objective(lambda seen: seen.served.rate),
    "revenue_per_usd": Objective(lambda seen: seen.revenue / seen.spent.running, in_usd=True),
    "revenue_per_watt": Objective(lambda seen: seen.revenue / seen.spent.power),
    "usd_per_million_tokens": Objective(
        lambda seen: MILLION * seen.spent.running / seen.sold, larger=False, in_usd=True
    ),
    "joules_per_million_tokens": Objective(lambda seen: MILLION * seen.served.energy, larger=False),
    "memory_bytes_per_token_per_s": Objective(
        lambda seen: seen.memory / seen.served.rate, larger=False
    ),
    "ttft_ms": Objective(lambda seen: 1e3 * seen.served.ttft, larger=False),
    "tpot_ms": Objective(lambda seen: 1e3 * seen.served.tpot, larger=False),
}

LARGER = tuple(name for name, one in OBJECTIVES.items() if one.larger)
SMALLER = tuple(name for name, one in OBJECTIVES.items() if not one.larger)
