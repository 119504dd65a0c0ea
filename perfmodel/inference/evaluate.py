"""Rows of the serving schema that can be predicted, and their service, all of one form at once."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.batching import BLOCKS, gather, map_rows, stack
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference import overflow, quote
from perfmodel.inference.candidates import Parallelism, candidates
from perfmodel.inference.deployment import Deployment, resolve_or_error
from perfmodel.inference.overflow import CachePool, PoolMemory, overflow_of, with_overflow
from perfmodel.inference.service import (
    Service,
    allowed_sequences,
    max_sequences,
    of_replicas,
)
from perfmodel.inference.serving_row import LOAD, RANKS, GivenRanks, mode_of, read_row
from perfmodel.library.ledger import NOTHING_ASKED, AskedCost
from perfmodel.trees import map_leaves
from perfmodel.units import as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request
from perfmodel.workload.server import ServerOptions
from perfmodel.xla import jit, to_run_once


class ResolvedRow(NamedTuple):
    """A row that can be predicted: its place, what it names, what it asks, and the ways to spread it.

    - `request`: of plain numbers; `nan` users where as many as fill the KV cache are served.
    - `ranks`: as the row gives them.
    """

    place: int
    deployment: Deployment
    request: Request
    ranks: GivenRanks
    mode: str
    candidates: list[Parallelism]
    pool: CachePool
    asked_cost: AskedCost = NOTHING_ASKED

    @property
    def form(self) -> Hashable:
        """What the compiled function depends on."""
        return self.deployment.form, self.open_loop, self.deployment.plan.overflows

    @property
    def open_loop(self) -> bool:
        """Whether requests come at a rate, and not when others are answered."""
        return bool(np.all(self.request.requests_per_s > 0))


NAMES = ("chip", "model", "precision", "kv_precision", "framework")
"""Columns of words that are read back as they are written."""

VERSION = "framework_version"
"""A release of the framework; empty: the newest."""

READ = (*NAMES, VERSION, "mode", "burst", *RANKS, *LOAD, *overflow.READ, *quote.READ)
"""Columns that are read of every row."""


UNLIMITED_HEADS = 2.0**14
"""Of chips that have no attention: any number of tensor ranks divides them."""


def resolve_row(
    place: int, cells: dict[str, str], calibration: Path, attends: bool = True
) -> ResolvedRow:
    """A row of the serving schema; its chips have no attention where not `attends`.

    **Raises:**

    - `InputError`: for a row that cannot be predicted.
    """
    words = [cells.get(name, "").strip() for name in NAMES]
    deployment = resolve_or_error(*words, calibration, cells.get(VERSION, "").strip())
    if isinstance(deployment, str):
        raise InputError(deployment)
    deployment = deployment if attends else deployment._replace(heads=UNLIMITED_HEADS)
    (ranks, request), mode = read_row(cells), mode_of(cells.get("mode", ""))
    overflows, pool = overflow_of(cells, deployment.chip, deployment.stem)
    if overflows:
        deployment = deployment._replace(plan=dataclasses.replace(deployment.plan, overflows=True))
    parallelisms = candidates(ranks, deployment)
    asked = quote.asked_cost(cells, (deployment.stem, pool.stem))
    return ResolvedRow(place, deployment, request, ranks, mode, parallelisms, pool, asked)


def rows_by_form(rows: Sequence[dict[str, str]], calibration: Path) -> list[list[ResolvedRow]]:
    """Rows of the serving schema, those of one form together; without those that cannot be predicted."""
    by_form: dict[Hashable, list[ResolvedRow]] = {}
    for place, cells in enumerate(rows):
        with contextlib.suppress(InputError):
            resolved = resolve_row(place, cells, calibration)
            by_form.setdefault(resolved.form, []).append(resolved)
    return list(by_form.values())


MAX_SEQUENCES = 4096.0
"""Sequences on one data rank, at most, where their number is not given: the largest that SGLang takes by
itself (`max_running_requests` of each data-parallel worker: `_resolve_max_num_reqs`, `model_runner.py`). vLLM
and TensorRT-LLM take 1,024 and 2,048 by themselves, and are told more for offline runs."""


Arguments = tuple[Chip, Plan, Transformer, Request]
"""Of one row."""

T = TypeVar("T")


class RowNumbers(NamedTuple):
    """What is asked of rows of one form, spread in one way each, with what memory their caches share, and
    how their servers are started."""

    request: Request
    parallelism: Parallelism
    memory: PoolMemory
    server: ServerOptions


Block = tuple[Chip, Transformer, RowNumbers]
"""Chips, models and numbers of rows of one form, on a leading axis."""


def evaluate_rows(function: Callable[..., T], rows: Sequence[tuple[ResolvedRow, Parallelism]]) -> T:
    """A function of chip, plan, model and request, for rows of one form: compiled once, a leading axis."""
    plan, block = plan_of([resolved for resolved, _ in rows]), block_of(rows)
    return (
        evaluate_block(function, plan, block)
        if len(rows) > 1
        else _evaluate_row(function, plan, block)
    )


def _evaluate_row(function: Callable[..., T], plan: Plan, block: Block) -> T:
    """The same of a single row, which is compiled in two thirds of the time without an axis of rows."""
    result = _run_row(function, plan, map_leaves(lambda leaf: leaf[0, ...], block))
    return map_leaves(lambda leaf: np.asarray(leaf)[None], result)


def _of_row(function: Callable[..., Any], plan: Plan, row: Block) -> Any:
    """A service is of all replicas, whatever else of one."""
    result = function(*arguments_of(plan, *row))
    return (
        of_replicas(result, row[2].parallelism.replicas) if isinstance(result, Service) else result
    )


_run_row = to_run_once(_of_row)


def evaluate_block(function: Callable[..., T], plan: Plan, block: Block) -> T:
    """The same of rows that are a block already."""
    return map_rows(functools.partial(mapped, function, plan), block)


def plan_of(rows: Sequence[ResolvedRow]) -> Plan:
    """The plan of rows of one form, without its ranks."""
    drafts = any(resolved.request.speculative_tokens > 0 for resolved in rows)
    return dataclasses.replace(rows[0].deployment.plan, speculates=drafts)


def block_of(rows: Sequence[tuple[ResolvedRow, Parallelism]]) -> Block:
    """Chips, models and numbers of rows of one form, on a leading axis."""
    deployments = list(
        {id(resolved.deployment): resolved.deployment for resolved, _ in rows}.values()
    )
    where = {id(deployment): i for i, deployment in enumerate(deployments)}
    which = np.array([where[id(resolved.deployment)] for resolved, _ in rows])
    trees = gather(
        stack([(deployment.chip, deployment.model) for deployment in deployments]), which
    )
    return *trees, numbers_of(rows)


def mapped(function: Callable[..., Any], plan: Plan, block: Block) -> Any:
    """A function of chip, plan, model and request over a block of rows; compiled once a form and size."""
    few = len(jax.tree.leaves(block)[0]) <= BLOCKS[0]
    return (_mapped_few if few else _mapped_many)(function, plan, block)


def mapped_once(function: Callable[..., Any], plan: Plan, block: Block) -> Any:
    """The same, compiled in a quarter of the time, for a few thousand rows."""
    return _mapped_few(function, plan, block)


def _mapped(function: Callable[..., Any], plan: Plan, block: Block) -> Any:
    # Traced once as one row, then mapped: half the time of mapping each operation as it is traced.
    return jax.vmap(jit(functools.partial(_of_row, function, plan)))(block)


_mapped_many, _mapped_few = eqx.filter_jit(_mapped), to_run_once(_mapped)


def arguments_of(plan: Plan, chip: Chip, model: Transformer, numbers: RowNumbers) -> Arguments:
    """The plan and the request of one replica; where users are free, as many as fill the KV cache."""
    replicas = numbers.parallelism.replicas
    request, ranked = numbers.request.shared(replicas), started_plan(plan, numbers)
    if plan.overflows:
        chip = with_overflow(chip, ranked, numbers.memory.shared(replicas))
    most = jnp.minimum(allowed_sequences(ranked, request), MAX_SEQUENCES * ranked.dp)
    free = jnp.minimum(max_sequences(chip, ranked, model, request.isl + request.osl), most)
    concurrency = jnp.where(request.concurrency > 0, request.concurrency, free)
    batch_size = jnp.where(request.continuous_batching > 0, 1.0, concurrency)
    request = dataclasses.replace(request, concurrency=concurrency, batch_size=batch_size)
    return chip, ranked, model, request


def started_plan(plan: Plan, numbers: RowNumbers) -> Plan:
    """The plan with the ranks of a row, of one replica, and with the options of its server."""
    return dataclasses.replace(with_ranks(plan, numbers.parallelism), server=numbers.server)


def server_options_of(resolved: ResolvedRow) -> ServerOptions:
    """How the server of a row, or of many, is started: as it asks, else as its framework does by itself.

    A row that gives its tensor ranks is of a deployment that is known, whose share of memory is raised where
    it must be; where they are open, others are chosen. Numbers are plain ones, or arrays.
    """
    default, request = resolved.deployment.plan.server, resolved.request
    known = {name: float(getattr(default, name)) for name in OPTIONS}
    known["raises"] = 0.0 if np.isnan(resolved.ranks.tp) else 1.0
    asked = {name: np.asarray(getattr(request, name)) for name in ASKED_OPTIONS}
    chosen = {name: np.where(x > 0, x, known[name]) for name, x in asked.items()}
    shape = chosen["memory_fraction"].shape
    leaves = [chosen.get(name, np.full(shape, known[name])) for name in OPTIONS]
    return jax.tree.unflatten(jax.tree.structure(default), leaves)


OPTIONS = tuple(field.name for field in dataclasses.fields(ServerOptions))

ASKED_OPTIONS = (
    "memory_fraction",
    "max_num_seqs",
    "max_num_batched_tokens",
    "speculative_tokens",
)
"""Options of a server that are columns of the serving schema."""


def with_ranks(plan: Plan, parallelism: Parallelism) -> Plan:
    """The plan with the ranks of a row, of one replica."""
    ranks = parallelism._asdict()
    del ranks["replicas"]
    return dataclasses.replace(plan, **ranks)


def numbers_of(rows: Sequence[tuple[ResolvedRow, Parallelism]]) -> RowNumbers:
    """What the rows of a block are, on a leading axis."""
    numbers = [
        RowNumbers(
            resolved.request,
            parallelism,
            resolved.pool.memory,
            server_options_of(resolved),
        )
        for resolved, parallelism in rows
    ]
    number = as_scalar(0.0).dtype
    return jax.tree.map(lambda *leaves: np.asarray(leaves, number), *numbers)
