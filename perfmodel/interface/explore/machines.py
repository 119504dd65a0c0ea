"""What the explorer shows of a machine: service at every load, what moves it, one step in detail.

Every number comes from the same compiled function as `perfmodel predict serving`: a machine's
loads and its turned knobs are rows of one block.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.design.making import price_factor, purchase_factor
from perfmodel.design.variables import CHIP_VARIABLES, turn
from perfmodel.errors import InputError
from perfmodel.inference.best_deployment import best_candidate
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.evaluate import (
    ResolvedRow,
    block_of,
    evaluate_block,
    plan_of,
    resolve_row,
    with_ranks,
)
from perfmodel.inference.explanation import Step, step_at
from perfmodel.inference.service import Service, serve
from perfmodel.inference.serving_predictions import output_rate, priced_numbers
from perfmodel.interface.explore.scenario import Machine, Scenario
from perfmodel.library.chip import chip_file
from perfmodel.library.fitted import FITTED
from perfmodel.library.ledger import chip_cost
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

LOADS = tuple(2**i for i in range(11))
"""Users of a machine on the curve of speed against price."""

KNOB_CHANGE = 0.1
"""Share by which a knob is turned down and up to see what it moves."""

AUTOMATIC = ("fp8", "int8", "bf16")
"""Formats of the weights that are taken where none is given: the first that the chip multiplies."""


class ServicePoint(NamedTuple):
    """Service of one machine at one load: s, tokens/s, J and USD; `nan` where it is not known.

    - `speed`: tokens/s of one user; `rate`: of all users.
    - `joules`, `dollars`: of one output token, and of a million; `hour`: USD of one chip for an hour.
    - `short`: bytes missing on a chip; zero where it fits.
    """

    concurrency: float
    ttft: float
    tpot: float
    speed: float
    rate: float
    joules: float
    dollars: float
    hour: float
    short: float


class View(NamedTuple):
    """All that is shown of a machine.

    - `name`: in words; `parallelism`: how it spreads the model; `precision`: of its weights.
    - `cost_basis`: what its USD are of.
    - `here`: at the users asked for; `loads`: the curve.
    - `low`, `high`: factors of the 90 % range of the time of a token.
    - `bounds`: seconds of a step by what binds; `bound`: the largest.
    - `sensitivities`: of `tpot` and `dollars`, by knob, the relative change when it is turned down and up;
      `nan` where the model then does not fit.
    """

    name: str
    parallelism: Parallelism
    precision: str
    cost_basis: str
    here: ServicePoint
    loads: list[ServicePoint]
    low: float
    high: float
    bounds: np.ndarray
    bound: str
    sensitivities: dict[str, dict[str, tuple[float, float]]]


def precision_of(one: Machine) -> str:
    """The format of a machine's weights."""
    if one.precision:
        return one.precision
    _, file = chip_file(one.chip)
    return next((word for word in AUTOMATIC if word in file.matrix), "bf16")


def cells_of(one: Machine, scenario: Scenario) -> dict[str, str]:
    """The row of the serving schema that a machine is, but for its factors."""
    word = precision_of(one)
    ranks = {name: str(count) for name, count in one.ranks}
    return {
        "chip": one.chip,
        "n_chips": str(one.size),
        "model": scenario.model,
        "precision": word,
        "kv_precision": one.kv_precision or ("fp8" if word == "fp8" else ""),
        "framework": one.framework,
        "isl": str(scenario.isl),
        "osl": str(scenario.osl),
        "concurrency": str(scenario.concurrency),
        "cost_basis": scenario.cost_basis,
    } | ranks


def name_of(one: Machine) -> str:
    """A machine in words: its chips, and in brackets what is given or changed of it."""
    words = [one.framework, one.precision, one.kv_precision and f"{one.kv_precision} cache"]
    words += [f"{name} {count}" for name, count in one.ranks]
    words += [f"{CHIP_VARIABLES[name].label} x {value:g}" for name, value in one.factors]
    name, given = f"{one.size} x {Path(one.chip).stem}", ", ".join(filter(None, words))
    return f"{name} ({given})" if given else name


def ranks_of(parallelism: Parallelism) -> str:
    """Ranks above one, in words."""
    above = [f"{name} {count:.0f}" for name, count in parallelism._asdict().items() if count > 1]
    return ", ".join(above) or "tp 1"


def view(one: Machine, scenario: Scenario, calibration: Path = FITTED) -> View:
    """Everything about one machine.

    **Raises:**

    - `InputError`: for a machine that cannot be priced.
    """
    resolved = resolve_row(0, cells_of(one, scenario), calibration)
    parallelism = _parallelism(one, resolved)
    concurrency = np.array(
        [scenario.concurrency, *LOADS] + [scenario.concurrency] * 2 * len(CHIP_VARIABLES), float
    )
    factors = _factors(one, scenario, len(LOADS) + 1)
    served = _serve(resolved, [parallelism] * len(concurrency), concurrency, factors)
    points = _points(resolved, parallelism, served, factors["price"])
    if not np.isfinite(points[0].tpot) or points[0].tpot <= 0:
        raise InputError(f"{name_of(one)} has no time for this model; use more chips.")
    here, loads, moved = points[0], points[1 : len(LOADS) + 1], points[len(LOADS) + 1 :]
    bounds = np.asarray(served.seconds[0])
    later = resolved.deployment.intervals.at(parallelism.ranks).tpot
    return View(
        name_of(one),
        parallelism,
        precision_of(one),
        chip_cost(one.chip, resolved.asked_cost).basis,
        here,
        loads,
        later.low,
        later.high,
        bounds,
        BOUNDS[int(bounds.argmax())],
        _sensitivities(here, moved),
    )


def _parallelism(one: Machine, resolved: ResolvedRow) -> Parallelism:
    """The way to spread the model that `predict serving` takes."""
    count = len(resolved.candidates)
    if count == 1:
        return resolved.candidates[0]
    concurrency = np.full(count, resolved.request.concurrency)
    own = {name: np.full(count, one.factor(name)) for name in CHIP_VARIABLES}
    served = _serve(resolved, resolved.candidates, concurrency, own)
    return resolved.candidates[best_candidate(resolved, served)]


def _factors(one: Machine, scenario: Scenario, plain: int) -> dict[str, np.ndarray]:
    """Factors of each row: as they are, then each knob down and up; of the price with what is dragged."""
    rows = {
        name: np.full(plain + 2 * len(CHIP_VARIABLES), one.factor(name)) for name in CHIP_VARIABLES
    }
    for i, name in enumerate(CHIP_VARIABLES):
        rows[name][plain + 2 * i] *= 1 - KNOB_CHANGE
        rows[name][plain + 2 * i + 1] *= 1 + KNOB_CHANGE
    return rows if scenario.free else rows | {"price": purchase_factor(one.chip, rows)}


def priced(one: Machine, scenario: Scenario) -> dict[str, float]:
    """Factors of a machine, with that of its price as the ledger has it."""
    if scenario.free or not one.factors:
        return dict(one.factors)
    own = {name: np.array([value]) for name, value in one.factors}
    price = one.factor("price") * float(price_factor(one.chip, own)[0])
    return dict(one.factors) | {"price": price}


def _serve(
    resolved: ResolvedRow,
    parallelisms: list[Parallelism],
    concurrency: np.ndarray,
    factors: dict[str, np.ndarray],
) -> Service:
    """Services of one machine: a row for each parallelism, number of users and set of factors."""
    chips, models, numbers = block_of([(resolved, parallelism) for parallelism in parallelisms])
    single = numbers.request.concurrency.dtype
    numbers = eqx.tree_at(lambda n: n.request.concurrency, numbers, concurrency.astype(single))
    turned = turn(chips, {name: value.astype(single) for name, value in factors.items()})
    return evaluate_block(serve, plan_of([resolved]), (turned, models, numbers))


def _points(
    resolved: ResolvedRow, parallelism: Parallelism, served: Service, price: np.ndarray
) -> list[ServicePoint]:
    """All that was served, priced as `predict serving` prices it."""
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, float), served)
    numbers, _ = priced_numbers(resolved, parallelism, exact, price)
    columns = (
        exact.concurrency,
        exact.ttft,
        exact.tpot,
        numbers["output_tokens_per_s_per_user"],
        output_rate(resolved.request, exact),
        numbers["joules_per_output_token"],
        numbers["usd_per_million_output_tokens"],
        numbers["usd_per_chip_hour"],
        np.maximum(-exact.slack, 0.0),
    )
    return [ServicePoint(*map(float, row)) for row in zip(*columns, strict=True)]


def _sensitivities(
    here: ServicePoint, moved: list[ServicePoint]
) -> dict[str, dict[str, tuple[float, float]]]:
    def change(name: str, point: ServicePoint) -> float:
        lost = point.short > 0 and not here.short
        return float("nan") if lost else getattr(point, name) / getattr(here, name) - 1

    return {
        name: {
            knob: (change(name, moved[2 * i]), change(name, moved[2 * i + 1]))
            for i, knob in enumerate(CHIP_VARIABLES)
        }
        for name in ("tpot", "dollars")
    }


@functools.lru_cache(maxsize=256)
def view_of(one: Machine, scenario: Scenario) -> View | str:
    """The same, kept; or what is wrong, in one sentence."""
    try:
        return view(one, scenario)
    except InputError as wrong:
        return str(wrong)


@functools.lru_cache(maxsize=64)
def step_of(one: Machine, scenario: Scenario) -> Step:
    """The decode step of a machine in detail."""
    resolved = resolve_row(0, cells_of(one, scenario), FITTED)
    chip = turn(resolved.deployment.chip, dict(one.factors))
    turned = resolved._replace(deployment=resolved.deployment._replace(chip=chip))
    return step_at(turned, _parallelism(one, resolved))._replace(
        name=f"{one.size} x {Path(one.chip).stem}"
    )


def plan_and_request(one: Machine, scenario: Scenario, view: View) -> tuple[Plan, Request]:
    """How a machine spreads the model, and what is asked of it; of replicas, one and its share."""
    resolved = resolve_row(0, cells_of(one, scenario), FITTED)
    request = resolved.request.shared(view.parallelism.replicas)
    return with_ranks(plan_of([resolved]), view.parallelism), request
