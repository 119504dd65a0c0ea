"""Requests on pools of prefill and decode workers (mode `disaggregated`), by the steps and the transfer of
the closed form (`disaggregated.py`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.disaggregated import Pool, prompt_transfer
from perfmodel.inference.evaluate import ResolvedRow
from perfmodel.inference.pooled_engines import PooledEngines, Workers
from perfmodel.inference.pools import (
    POOLS,
    SIDE_COLUMNS,
    PooledCandidate,
    PooledRow,
    resolve_disaggregated,
)
from perfmodel.inference.scheduler import NO_SPECULATION, Outcome
from perfmodel.inference.serving_row import DISAGGREGATED, mode_of
from perfmodel.inference.simulation import (
    ANY_TRAFFIC,
    ASSUMPTIONS,
    DEPLOYMENT,
    SchedulerOptions,
    Server,
    Simulated,
    deployment_of,
    no_capacity,
    now_and_then,
    priced,
    scheduler_of,
    server_of,
    started,
)
from perfmodel.inference.traffic import TrafficOf, Workload
from perfmodel.library.fitted_intervals import widest
from perfmodel.units import Scalar, as_scalar, as_values

POOL_COLUMNS = (
    "mode",
    *(f"{pool}_{name}" for pool in POOLS for name in ("workers", *SIDE_COLUMNS)),
)
"""Columns of pools."""

ANY_DEPLOYMENT = (*DEPLOYMENT, *POOL_COLUMNS)
"""Columns of what serves, of one pool or two."""

LENGTHS = tuple(float(2**k) for k in range(25))
"""Tokens of a prompt between which the time of its transfer is linear."""


class PooledServer(NamedTuple):
    """Prefill and decode workers: a server of each, how many, and seconds of transfer at `LENGTHS`."""

    sides: tuple[Server, Server]
    workers: tuple[int, int]
    transfer: tuple[float, ...]

    @property
    def kv_capacity(self) -> float:
        """Tokens of KV cache of all workers."""
        pairs = zip(self.sides, self.workers, strict=True)
        return sum(side.policy.kv_capacity * count for side, count in pairs)

    @property
    def chips(self) -> float:
        """Of both pools."""
        pairs = zip(self.sides, self.workers, strict=True)
        return sum(side.chips * count for side, count in pairs)

    def transfer_seconds(self, tokens: int) -> float:
        """In which the keys and values of a prompt cross the network."""
        return float(np.interp(tokens, LENGTHS, self.transfer))

    def serving(self, workload: Workload) -> "PooledServer":
        """The same: prompts meet no decode steps that users could be in step with."""
        return self

    def run(self, traffic_of: TrafficOf, progress: Callable[[int], None]) -> Outcome:
        """Serve requests."""
        first, second = (
            Workers(side.times, side.policy, count)
            for side, count in zip(self.sides, self.workers, strict=True)
        )
        engines = PooledEngines(first, second, self.transfer_seconds, traffic_of(0, 1))
        return engines.run(now_and_then(progress, 0))

    def description(self) -> dict[str, Any]:
        """The deployment and the schedulers, as they were taken, for the summary."""
        first, second = map(deployment_of, self.sides)
        chips = dict.fromkeys((str(first["chip"]), str(second["chip"])))
        both = {"chip": " and ".join(chips), "n_chips": self.chips}
        for pool, one, count in zip(POOLS, (first, second), self.workers, strict=True):
            both |= {f"{pool}_workers": count} | {
                f"{pool}_{name}": one[name] for name in SIDE_COLUMNS
            }
        names = ("model", "precision", "kv_precision", "framework")
        intervals = widest([side.resolved.deployment.intervals for side in self.sides])
        return {
            "basis": intervals.basis,
            "deployment": {name: second[name] for name in names} | both,
            "scheduler": scheduler_of(self.sides[1].policy)
            | {"kv_capacity_tokens": self.kv_capacity},
            "prefill_scheduler": scheduler_of(self.sides[0].policy),
            "transfer_ms_of_1024_tokens": 1e3 * self.transfer_seconds(1024),
            "assumptions": [*ASSUMPTIONS, *OF_POOLS],
        }


OF_POOLS = (
    "A request goes to the prefill worker with the fewest, turns of a session to the same; its keys and "
    "values to the decode worker with the fewest.",
    "Transfers do not wait for one another; the whole prompt is sent, and the first token is the user's when "
    "the decode worker lets the request in.",
)


def any_server_of(cells: dict[str, str], options: SchedulerOptions, calibration: Path) -> Simulated:
    """The server of cells of `ANY_DEPLOYMENT`: of one pool or, in mode `disaggregated`, of two.

    **Raises:**

    - `InputError`: for a row that names no such server.
    """
    if mode_of(cells.get("mode", "")) == DISAGGREGATED:
        return pooled_server_of(cells, options, calibration)
    return server_of(cells, options, calibration)


def pooled_server_of(
    cells: dict[str, str], options: SchedulerOptions, calibration: Path
) -> PooledServer:
    """Prefill and decode workers, spread in the first way in which both hold the model.

    **Arguments:**

    - `options`: tokens of a step, whether prompts are cut and tiers are of prefill workers, sequences and
      tokens of KV cache of decode workers.

    **Raises:**

    - `InputError`: for a row that names none.
    """
    pooled = resolve_disaggregated(0, cells | ANY_TRAFFIC, calibration)
    asked = (
        options._replace(max_num_seqs=None, kv_capacity_tokens=None),
        options._replace(max_num_batched_tokens=None, chunked_prefill=None, tiers=()),
    )
    lacking: list[tuple[ResolvedRow, Parallelism]] = []
    for candidate in pooled.candidates:
        ways = zip(pooled.sides, candidate.parallelisms, asked, strict=True)
        short = [way[:2] for way in ways if started(*way)[1].kv_capacity <= 0]
        if not short:
            return _pooled(pooled, candidate, asked)
        lacking += short
    raise no_capacity(*lacking[0])


def _pooled(
    pooled: PooledRow,
    candidate: PooledCandidate,
    options: tuple[SchedulerOptions, SchedulerOptions],
) -> PooledServer:
    """The workers of one way; the host before a prompt is the decode worker's, as in the closed form."""
    ways = list(zip(pooled.sides, candidate.parallelisms, options, strict=True))
    (plan, first), (other, second) = (started(*way) for way in ways)
    delay = {"delay": second.delay, "delay_per_token": second.delay_per_token}
    first = first._replace(**delay)
    second = second._replace(delay=0.0, delay_per_token=0.0, chunked_prefill=True, prefilled=True)
    prefill = priced(*ways[0][:2], plan, first, options[0])
    prefill = prefill._replace(policy=prefill.policy._replace(speculation=NO_SPECULATION))
    decode = priced(*ways[1][:2], other, second, options[1])
    chips = [side.deployment.chip for side in pooled.sides]
    counts = [as_scalar(count) for count in candidate.workers]
    pools = Pool(chips[0], plan, counts[0]), Pool(chips[1], other, counts[1])
    model = pooled.sides[1].deployment.model

    def seconds(tokens: Scalar) -> Scalar:
        return prompt_transfer(*pools, model, tokens)

    transfer = jax.vmap(seconds)(as_values(LENGTHS))
    workers = round(candidate.workers[0]), round(candidate.workers[1])
    return PooledServer((prefill, decode), workers, tuple(map(float, transfer)))
