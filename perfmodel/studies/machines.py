"""Machines that serve a model, and what the model of inference says of them, many at once.

A machine is some chips of one kind. Prompts are computed on machines of the same kind, apart from
decode steps; so a user waits for whole decode steps only, and a token costs the time that the step
takes of the machine, and its share of the time that its prompt takes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from perfmodel.breakdown import BOUND_OF, BOUNDS, JOULES, SECONDS
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment import Deployment, resolve_or_error
from perfmodel.inference.disaggregated import Pool, prompt_cost
from perfmodel.inference.evaluate import ResolvedRow, evaluate_rows
from perfmodel.inference.overflow import CachePool
from perfmodel.inference.placement import cache_bytes, place, weight_bytes
from perfmodel.inference.serving_row import LOAD, GivenRanks, to_request
from perfmodel.inference.step import Cost, decode_step
from perfmodel.library.fitted import FITTED
from perfmodel.library.fitted_intervals import Interval
from perfmodel.library.ledger import hour
from perfmodel.library.model import load_model
from perfmodel.studies.claim import Progress
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.model import Transformer, traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request


class Machine(NamedTuple):
    """Chips that serve one copy of a model.

    - `family`: what it is called in a comparison; `chip`: in the library.
    - `tp`, `pp`, `ep`: tensor, pipeline and expert ranks.
    - `weights`, `cache`: formats; empty: the model's own, and bf16.
    - `change`: makes another chip of it, of the same form.
    """

    family: str
    chip: str
    tp: float = 1.0
    pp: float = 1.0
    ep: float = 1.0
    weights: str = ""
    cache: str = ""
    change: Callable[[Chip], Chip] | None = None

    @property
    def chips(self) -> float:
        """How many."""
        return self.tp * self.pp

    @property
    def name(self) -> str:
        """Chips and family."""
        return f"{self.chips:.0f} x {self.family}"

    @property
    def hour(self) -> float:
        """USD/s of all its chips."""
        return hour(self.chip).value * self.chips


SERVED = {
    "H100": ("h100-sxm", "fp8", "fp8"),
    "B200": ("b200-sxm", "fp8", "fp8"),
    "WSE-3": ("wse-3", "bf16", ""),
    "LPU v1": ("lpu-v1", "int8", ""),
    "LP30": ("lp30", "fp8", ""),
}
"""Families, each with its chip and in the formats of weights and cache that its vendor serves."""


def served(
    family: str,
    tp: float = 1.0,
    pp: float = 1.0,
    change: Callable[[Chip], Chip] | None = None,
) -> Machine:
    """Chips of a family of `SERVED`."""
    chip, weights, cache = SERVED[family]
    return Machine(family, chip, tp, pp, 1.0, weights, cache, change)


MIN_SECONDS = 1e-15
"""Seconds below which a kernel takes none."""


class Load(NamedTuple):
    """What is asked of a machine: users at once, tokens of each request, in and out."""

    concurrency: float
    isl: float
    osl: float


class Question(NamedTuple):
    """A machine, a model of the library, and a load."""

    machine: Machine
    model: str
    load: Load


class Observation(NamedTuple):
    """What the model of inference says of one question.

    - `step`: seconds of a decode step, in the middle of the outputs.
    - `prompt`: seconds of the machine for one prompt.
    - `joules`: of one output token, its prompt's share included; `idle`: of them, static power.
    - `slack`: bytes free on a chip at full length; negative: short.
    - `bounds`, `prompt_bounds`: shares of the step, and of the prompt, by each of `BOUNDS`.
    - `kernels`: seconds of the step by kernel; `kernel_bounds`: their shares by each of `BOUNDS`.
    """

    asked: Question
    step: float
    prompt: float
    joules: float
    idle: float
    slack: float
    bounds: dict[str, float]
    prompt_bounds: dict[str, float]
    kernels: dict[str, float]
    kernel_bounds: dict[str, dict[str, float]]

    @property
    def deployment(self) -> Deployment:
        """The machine's chip with the model."""
        return deployment_of(self.asked.machine, self.asked.model)

    @property
    def interval(self) -> Interval:
        """The factors between which nine of ten measured times are expected."""
        return self.deployment.intervals.tpot

    @property
    def fits(self) -> bool:
        """Whether weights and cache fit."""
        return self.slack >= 0

    @property
    def speed(self) -> float:
        """Tokens/s of one user."""
        return 1 / self.step

    @property
    def waits(self) -> float:
        """Share of the step that is latency and network: nothing is read or computed."""
        return self.bounds["latency"] + self.bounds["network"]

    @property
    def held(self) -> float:
        """Seconds of the machine for one output token, its prompt's share included."""
        load = self.asked.load
        return self.step / load.concurrency + self.prompt / load.osl

    @property
    def decoding(self) -> float:
        """Share of that time that is of the decode step."""
        return self.step / self.asked.load.concurrency / self.held

    @property
    def dollars(self) -> float:
        """USD of one output token."""
        return self.held * self.asked.machine.hour


class TracedResult(NamedTuple):
    """The same, traced; `busy`: seconds of the machine for one prompt."""

    step: Cost
    prompt: Cost
    busy: Scalar
    slack: Scalar


def _look(chip: Chip, plan: Plan, model: Transformer, request: Request) -> TracedResult:
    users, prompt, output = request.concurrency, request.isl, request.osl
    step = decode_step(chip, plan, model, users, prompt + output / 2)
    prompts, busy = prompt_cost(Pool(chip, plan, jnp.ones_like(users)), model, request)
    slack = place(chip, plan, model, users, prompt + output).slack
    return TracedResult(step, prompts, busy, slack)


def observe(asked: Sequence[Question], progress: Progress) -> list[Observation]:
    """What is said of each question; those of one form together.

    **Raises:**

    - `InputError`: for a chip, model or format that is not known.
    """
    pairs = dict.fromkeys((one.machine, one.model) for one in asked)
    deployments = {pair: deployment_of(*pair) for pair in pairs}
    groups: dict = {}
    for i, one in enumerate(asked):
        groups.setdefault(deployments[one.machine, one.model].form, []).append(i)
    found: dict[int, Observation] = {}
    for done, places in enumerate(groups.values()):
        progress(done, len(groups))
        rows = [_row(asked[i], deployments[asked[i].machine, asked[i].model]) for i in places]
        look = evaluate_rows(_look, rows)
        found |= {i: _seen(asked[i], look, k) for k, i in enumerate(places)}
    progress(len(groups), len(groups))
    return [found[i] for i in range(len(asked))]


def deployment_of(machine: Machine, model: str) -> Deployment:
    """A machine's chip with a model, looked up."""
    given = resolve_or_error(machine.chip, model, machine.weights, machine.cache, "", FITTED)
    if isinstance(given, str):
        raise InputError(given)
    return given if machine.change is None else given._replace(chip=machine.change(given.chip))


def model_bytes(model: str, weights: str) -> float:
    """Of the weights of a model in a format."""
    return float(weight_bytes(traced(load_model(model)), Plan(weights=weights)))


def weight_size(given: Deployment) -> float:
    """Bytes of the weights, on all chips of a copy."""
    return float(weight_bytes(given.model, given.plan))


def cache_size(given: Deployment, users: float, context: float) -> float:
    """Bytes of the caches of some users, on all chips of a copy."""
    return float(cache_bytes(given.model, given.plan, as_scalar(users), as_scalar(context)))


def _row(asked: Question, given: Deployment) -> tuple[ResolvedRow, Parallelism]:
    machine, load = asked.machine, asked.load
    parallelism = Parallelism(machine.tp, machine.pp, machine.ep, 1.0)
    given_ranks = GivenRanks(machine.chips, *parallelism)
    row = ResolvedRow(0, given, _request(load), given_ranks, "serving", [parallelism], CachePool())
    return row, parallelism


def _request(load: Load) -> Request:
    numbers = dict.fromkeys(LOAD, 0.0) | {"requests_per_user": np.inf, "length_ratio": 1.0}
    users = {"isl": load.isl, "osl": load.osl, "concurrency": load.concurrency}
    return to_request(numbers | users, "serving")


def _seen(asked: Question, look: TracedResult, place: int) -> Observation:
    step = float(look.step.time[place])
    bounds = np.asarray(look.step.breakdown.seconds[place])
    terms: dict[str, np.ndarray] = {}
    for label, parts in zip(look.step.labels, look.step.kernels.seconds[place], strict=True):
        terms[label] = terms.get(label, 0.0) + np.asarray(parts)
    joules = np.asarray(look.step.breakdown.joules[place]) / asked.load.concurrency
    joules = joules + np.asarray(look.prompt.breakdown.joules[place]) / asked.load.osl
    return Observation(
        asked,
        step,
        float(look.busy[place]),
        float(np.sum(joules)),
        float(joules[JOULES.index("idle")]),
        float(look.slack[place]),
        _by_bound(bounds),
        _by_bound(np.asarray(look.prompt.breakdown.seconds[place])),
        {label: float(np.sum(parts)) for label, parts in terms.items()},
        {label: _by_bound(parts) for label, parts in terms.items()},
    )


def _by_bound(seconds: np.ndarray) -> dict[str, float]:
    """Shares of a step by each of `BOUNDS`, from its seconds by term."""
    shares = dict.fromkeys(BOUNDS, 0.0)
    for name, value in zip(SECONDS, seconds, strict=True):
        shares[BOUND_OF[name]] += float(value) / max(float(np.sum(seconds)), MIN_SECONDS)
    return shares
