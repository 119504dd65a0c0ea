"""Requests through a scheduler on a deployment: its policy, what comes of each request, and the summary."""

import dataclasses
import math
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.cache_tiers import Tier
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment import model_name
from perfmodel.inference.evaluate import (
    ASKED_OPTIONS,
    NAMES,
    VERSION,
    ResolvedRow,
    plan_of,
    resolve_row,
    server_options_of,
    with_ranks,
)
from perfmodel.inference.placement import cache_bytes, kv_cache_capacity
from perfmodel.inference.scheduler import Engine, Outcome, Policy, Speculation, Timeline
from perfmodel.inference.serving_predictions import basis_said
from perfmodel.inference.serving_row import RANKS
from perfmodel.inference.step_times import StepTimes, price_steps
from perfmodel.inference.traffic import TrafficOf, Workload
from perfmodel.library.framework import version_of
from perfmodel.trees import map_leaves
from perfmodel.units import as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan

DEPLOYMENT = (*NAMES, VERSION, *RANKS, *ASKED_OPTIONS, "acceptance", "read_interval")
"""Columns of what serves, and of how it is started."""

ANY_TRAFFIC = {"isl": "1024", "osl": "1024", "concurrency": "1"}
"""Cells that a serving row must have, which a server's steps do not depend on."""

PAGE = 16
"""Tokens of a page of KV cache (vLLM's block_size): half of the last one of a sequence is empty."""

USUAL_LENGTH = 4096.0
"""Tokens of a sequence at which the cache of models with windows or states is taken to grow as it does."""

MAX_SEQUENCES = 8192
"""That steps are priced for; more decode as on the line through the last points."""


class GivenTier(NamedTuple):
    """Memory below the KV cache of one replica: its name, bytes, and bytes/s at which blocks come back."""

    name: str
    capacity: float
    bandwidth: float


class SchedulerOptions(NamedTuple):
    """What a server is started with; `None`: the framework's default.

    - `max_num_seqs`, `max_num_batched_tokens`: of each data rank; `chunked_prefill`: whether prompts are cut.
    - `memory_fraction`: share of memory that the server may use; without a framework of weights and cache.
    - `kv_capacity_tokens`: tokens of KV cache of one replica, as a server prints it when it starts.
    - `tiers`: memory below the KV cache of one replica; none if not given.
    """

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    chunked_prefill: bool | None = None
    memory_fraction: float | None = None
    kv_capacity_tokens: float | None = None
    tiers: tuple[GivenTier, ...] = ()


class Server(NamedTuple):
    """A deployment, the seconds of its steps, its scheduler's policy, of one replica, and what it is told."""

    resolved: ResolvedRow
    parallelism: Parallelism
    times: StepTimes
    policy: Policy
    options: SchedulerOptions

    @property
    def replicas(self) -> int:
        """Copies of the model, each with a scheduler of its own."""
        return round(self.parallelism.replicas)

    @property
    def kv_capacity(self) -> float:
        """Tokens of KV cache of all replicas."""
        return self.policy.kv_capacity * self.replicas

    @property
    def chips(self) -> float:
        """In all."""
        return self.parallelism.chips

    def description(self) -> dict[str, Any]:
        """The deployment and the scheduler, as they were taken, for the summary."""
        return {
            "basis": basis_said(self.resolved.deployment),
            "deployment": deployment_of(self),
            "scheduler": scheduler_of(self.policy),
            "assumptions": list(ASSUMPTIONS),
        }

    def run(self, traffic_of: TrafficOf, progress: Callable[[int], None]) -> Outcome:
        """Serve requests, as `simulate` does."""
        outcomes: list[Outcome] = []
        for i in range(self.replicas):
            before = sum(one.answered for one in outcomes)
            engine = Engine(self.times, self.policy, traffic_of(i, self.replicas))
            outcomes.append(engine.run(now_and_then(progress, before)))
        return outcomes[0] if len(outcomes) == 1 else joined(outcomes)

    def serving(self, workload: Workload) -> "Server":
        """The same server as it meets some requests.

        Where users stay in step the host's part of a prompt is the time from an answer to it, and tokens of a
        step are as servers are launched for equal lengths: both as in the closed form.
        """
        if workload.in_step is None:
            return self
        users, new_tokens = workload.in_step
        chip, plan = self.resolved.deployment.chip, self.resolved.deployment.plan
        decoding = max(users / self.parallelism.dp / self.parallelism.replicas, 1.0)
        asked = self.options.max_num_batched_tokens or self.resolved.request.max_num_batched_tokens
        tokens = float(
            asked or version_of(plan).batched_tokens(new_tokens, decoding, chip.main.capacity)
        )
        return self._replace(
            policy=self.policy._replace(
                max_num_batched_tokens=round(tokens * self.parallelism.dp),
                delay=float(chip.efficiency.host.turnaround),
            )
        )


class Simulated(Protocol):
    """A deployment whose requests can be simulated."""

    @property
    def kv_capacity(self) -> float:
        """Tokens of KV cache, in all."""
        ...

    @property
    def chips(self) -> float:
        """In all."""
        ...

    def description(self) -> dict[str, Any]:
        """The deployment and the scheduler, as they were taken, for the summary."""
        ...

    def run(self, traffic_of: TrafficOf, progress: Callable[[int], None]) -> Outcome:
        """Serve requests."""
        ...

    def serving(self, workload: Workload) -> "Simulated":
        """The same server as it meets some requests."""
        ...


def server_of(cells: dict[str, str], options: SchedulerOptions, calibration: Path) -> Server:
    """The server of cells of `DEPLOYMENT`: on the first way to spread the model on which it fits.

    **Raises:**

    - `InputError`: for a row that names no such server.
    """
    if cells.get("ffn_chip", "").strip():
        raise InputError(
            "feed-forward layers on chips of their own are not simulated; leave ffn_chip out."
        )
    resolved = resolve_row(0, cells | ANY_TRAFFIC, calibration)
    for parallelism in resolved.candidates:
        plan, policy = started(resolved, parallelism, options)
        if policy.kv_capacity > 0:
            return priced(resolved, parallelism, plan, policy, options)
    raise no_capacity(resolved, resolved.candidates[0])


def no_capacity(resolved: ResolvedRow, way: Parallelism) -> InputError:
    """What is said of a model whose weights leave no KV cache."""
    given = resolved.deployment
    return InputError(
        f"the weights of {model_name(given)} leave no KV cache on {way.chips:.0f} x {given.stem}; give "
        "more chips, a smaller format, or a larger --memory-fraction."
    )


def started(
    resolved: ResolvedRow, parallelism: Parallelism, options: SchedulerOptions
) -> tuple[Plan, Policy]:
    """The plan of a server, spread in one way, and its scheduler's policy without speculation."""
    plan = with_options(with_ranks(plan_of([resolved]), parallelism), options, resolved)
    return plan, policy_of(resolved.deployment.chip, plan, resolved.deployment.model, options)


def priced(
    resolved: ResolvedRow,
    parallelism: Parallelism,
    plan: Plan,
    policy: Policy,
    options: SchedulerOptions,
) -> Server:
    """The server of a plan and a policy: its steps are priced."""
    chip, model = resolved.deployment.chip, resolved.deployment.model
    most = min(policy.max_num_seqs, MAX_SEQUENCES, policy.kv_capacity)
    drafts, acceptance = (
        float(getattr(resolved.request, name)) for name in ("speculative_tokens", "acceptance")
    )
    policy = policy._replace(
        speculation=Speculation(drafts, acceptance),
        read_interval=max(round(float(resolved.request.read_interval)), 1),
    )
    times = price_steps(chip, plan, model, most, policy.max_num_batched_tokens, drafts)
    return Server(resolved, parallelism, times, policy, options)


def with_options(plan: Plan, options: SchedulerOptions, resolved: ResolvedRow) -> Plan:
    """A plan whose server is started with those options that are given."""
    names = ("memory_fraction", "max_num_seqs", "max_num_batched_tokens")
    given = {name: as_scalar(x) for name in names if (x := getattr(options, name)) is not None}
    server = map_leaves(as_scalar, server_options_of(resolved))
    return dataclasses.replace(plan, server=dataclasses.replace(server, **given))


def policy_of(chip: Chip, plan: Plan, model: Transformer, options: SchedulerOptions) -> Policy:
    """The policy of one replica's scheduler, with all its data ranks; a KV cache below zero does not fit."""
    version, ranks = version_of(plan), round(float(plan.dp))
    sequences = round(float(plan.server.max_num_seqs))
    tokens = round(float(plan.server.max_num_batched_tokens))
    chunked = options.chunked_prefill
    capacity, per_sequence = kv_tokens(chip, plan, model)
    each = token_bytes(model, plan)
    return Policy(
        sequences * ranks,
        tokens * ranks,
        version.chunks_prefill if chunked is None else chunked,
        version.separates_prefill,
        version.admitted_output,
        options.kv_capacity_tokens or capacity,
        per_sequence,
        float(chip.efficiency.host.first_token),
        version.schedules_ahead,
        delay_per_token=float(chip.efficiency.host.per_prompt_token),
        tiers=tuple(
            Tier(one.name, one.capacity / each, one.bandwidth / each) for one in options.tiers
        ),
    )


def kv_tokens(chip: Chip, plan: Plan, model: Transformer) -> tuple[float, float]:
    """Tokens of KV cache of one replica, and those that a sequence takes beside its own: states, a page."""
    length = USUAL_LENGTH
    whole, each = bytes_of_sequence(model, plan)
    capacity = float(kv_cache_capacity(chip, plan, model)) / each * float(plan.dp)
    return capacity, max(whole - each * length, 0.0) / each + PAGE / 2


def bytes_of_sequence(model: Transformer, plan: Plan) -> tuple[float, float]:
    """Bytes of cache on a chip of a sequence of `USUAL_LENGTH`, and of each further token of it."""
    length = USUAL_LENGTH
    half, whole = (
        float(cache_bytes(model, plan, plan.dp, as_scalar(n))) for n in (length / 2, length)
    )
    # Where a sequence's cache hardly grows, it is as if each token had its share of it.
    return whole, max((whole - half) / (length / 2), MIN_GROWTH * whole / length)


def token_bytes(model: Transformer, plan: Plan) -> float:
    """Bytes of a token of cache on all chips that have its sequence, copies included."""
    return bytes_of_sequence(model, plan)[1] * float(plan.chips) / float(plan.dp)


MIN_GROWTH = 1e-3
"""Of a sequence's cache with each token, over the mean of all its tokens."""


def simulate(
    server: Simulated,
    traffic_of: TrafficOf,
    progress: Callable[[int], None] = lambda answered: None,
) -> Outcome:
    """Serve requests.

    **Arguments:**

    - `traffic_of`: the traffic of a replica, from its number and how many there are.
    - `progress`: told how many requests are answered.
    """
    return server.run(traffic_of, progress)


PROGRESS_EVERY = 256
"""Requests between two reports of progress."""


def now_and_then(progress: Callable[[int], None], before: int) -> Callable[[int], None]:
    """Progress told only once for some requests."""
    told = [-PROGRESS_EVERY]

    def tell(answered: int) -> None:
        if answered >= told[0] + PROGRESS_EVERY:
            told[0] = answered
            progress(before + answered)

    return tell


def joined(outcomes: list[Outcome]) -> Outcome:
    """What came of the requests of all replicas together, by the time at which they were sent."""
    whole = Outcome()
    order = np.argsort(np.concatenate([one.arrival for one in outcomes]), kind="stable")
    for name in Outcome.COLUMNS:
        values = np.concatenate([getattr(one, name) for one in outcomes])[order]
        setattr(whole, name, array("d", values.tobytes()))
    for one in outcomes:
        whole.refusals.update(one.refusals)
        whole.steps += one.steps
        whole.preemptions += one.preemptions
        whole.answered += one.answered
        whole.loaded.update(one.loaded)
        whole.end = max(whole.end, one.end)
    whole.timeline = Timeline.of_all([one.timeline for one in outcomes])
    return whole


class Limits(NamedTuple):
    """On TTFT and TPOT of a request that counts as goodput, in s; infinite: none."""

    ttft: float = math.inf
    tpot: float = math.inf


NO_LIMITS = Limits()

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
PERCENTILES = (50, 90, 95, 99)
TIMES = ("queueing", "ttft", "tpot", "end_to_end")


def statistics(values: Any) -> dict[str, float | None]:
    """Mean and percentiles of those that are there, in ms where they are in s."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)] * 1e3
    if not len(known):
        return dict.fromkeys(STATISTICS)
    found = [known.mean(), *np.percentile(known, PERCENTILES)]
    return dict(zip(STATISTICS, map(float, found), strict=True))


def summarise(server: Simulated, outcome: Outcome, limits: Limits) -> dict[str, Any]:
    """What came of all requests: numbers with their unit in the key."""
    done = np.isfinite(np.asarray(outcome.end_to_end))
    prompts, outputs = (float(np.sum(np.asarray(x)[done])) for x in (outcome.isl, outcome.osl))
    seconds = max(outcome.end - (outcome.arrival[0] if outcome.arrival else 0.0), 1e-12)
    running, waiting, used = outcome.timeline.means(outcome.end)
    summary: dict[str, Any] = {
        "requests": len(outcome.arrival),
        "answered": outcome.answered,
        "refused": outcome.refusals,
        "seconds": seconds,
        **{f"{name}_ms": statistics(getattr(outcome, name)) for name in TIMES},
        "requests_per_s": outcome.answered / seconds,
        "output_tokens_per_s": outputs / seconds,
        "output_tokens_per_s_per_chip": outputs / seconds / server.chips,
        "total_tokens_per_s": (prompts + outputs) / seconds,
        "running": running,
        "waiting": waiting,
        "kv_use": used / server.kv_capacity,
        "preemptions": outcome.preemptions,
        "cache_hit_rate": float(np.sum(outcome.cached)) / max(prompts, 1.0),
        **{f"cache_hit_rate_{n}": x / max(prompts, 1.0) for n, x in outcome.loaded.items()},
        "steps": outcome.steps,
    }
    return summary | _goodput(outcome, limits, seconds) | server.description()


def _goodput(outcome: Outcome, limits: Limits, seconds: float) -> dict[str, Any]:
    """Requests that keep the limits; nothing where none are given."""
    if limits == NO_LIMITS:
        return {}
    share = goodput_share(outcome.ttft, outcome.tpot, limits)
    good = share * len(outcome.arrival) / seconds
    return {"goodput_requests_per_s": good, "goodput_share": share}


def goodput_share(ttft: Any, tpot: Any, limits: Limits) -> float:
    """Share of requests that keep the limits, from TTFT and TPOT of each, in s; `nan`: refused, no TPOT."""
    good = (np.asarray(ttft) <= limits.ttft) & (np.nan_to_num(np.asarray(tpot)) <= limits.tpot)
    return float(np.mean(good)) if len(good) else 0.0


def deployment_of(server: Server) -> dict[str, Any]:
    """The deployment of a server, as it was taken."""
    deployment = server.resolved.deployment
    names = ("framework", "weights", "cache")
    plan = {name: getattr(deployment.plan, name) or "" for name in names}
    ranks = {name: float(value) for name, value in server.parallelism._asdict().items()}
    return {
        "chip": deployment.stem,
        "n_chips": server.parallelism.chips,
        "model": model_name(deployment),
        "precision": plan["weights"],
        "kv_precision": plan["cache"],
        "framework": plan["framework"],
        **ranks,
    }


def scheduler_of(policy: Policy) -> dict[str, Any]:
    """The policy of a scheduler, as it was taken."""
    return {
        "max_num_seqs": policy.max_num_seqs,
        "max_num_batched_tokens": policy.max_num_batched_tokens,
        "chunked_prefill": policy.chunked_prefill,
        "separate_prefill": policy.separate_prefill,
        "admitted_output": policy.admitted_output,
        "schedules_ahead": policy.schedules_ahead,
        "kv_capacity_tokens": policy.kv_capacity,
        "speculative_tokens": policy.speculation.drafts,
        "tokens_per_step": policy.speculation.tokens_per_step,
        "delay_ms": policy.delay * 1e3,
        "delay_per_token_us": policy.delay_per_token * 1e6,
        "read_interval": policy.read_interval,
        **{f"{one.name}_tokens": one.tokens for one in policy.tiers},
        **{f"{one.name}_tokens_per_s": one.tokens_per_s for one in policy.tiers},
    }


ASSUMPTIONS = (
    "Step times are the model's, between points of a grid.",
    "The host's part of the first token stands before the queue: t0, of users in step their turnaround, and "
    "what each token of the prompt takes.",
    "All data ranks of a replica share one queue, one budget and one KV cache.",
    "Each answer has exactly its output_length, which the scheduler knows where it reserves output.",
    "Drafted tokens hold with one probability, whatever came before; a request's number of steps is drawn.",
    "Blocks of 512 tokens are shared by hash and forgotten by last use; outputs are not shared.",
    "Blocks come back from a tier below the KV cache one after the other, while others are computed.",
    "A request that was put out finds what of its cache no other has overwritten.",
)
