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
from perfmodel.inference import overflow
from perfmodel.inference.candidates import Parallelism, candidates
from perfmodel.inference.deployment import Deployment, resolve_or_error
from perfmodel.inference.overflow import CachePool, overflow_of, with_overflow
from perfmodel.inference.service import max_sequences
from perfmodel.inference.serving_row import ServingRow, mode_of, read_row
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request
from perfmodel.workload.transformer import Transformer
from perfmodel.xla import to_run_once


class ResolvedRow(NamedTuple):
    """A row that can be predicted: its place, what it names, its numbers, and the ways to spread it."""

    place: int
    deployment: Deployment
    row: ServingRow
    mode: str
    candidates: list[Parallelism]
    pool: CachePool

    @property
    def form(self) -> Hashable:
        """What the compiled function depends on."""
        return self.deployment.form, self.row.arrives, self.deployment.plan.overflows


NAMES = ("chip", "model", "precision", "kv_precision", "framework")

READ = (*NAMES, "mode", "burst", *ServingRow._fields, *overflow.READ)
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
    given = resolve_or_error(*words, calibration)
    if isinstance(given, str):
        raise InputError(given)
    given = given if attends else given._replace(heads=UNLIMITED_HEADS)
    row, mode = read_row(cells), mode_of(cells.get("mode", ""))
    copies = mode == "offline" and not np.isnan(row.n_chips)
    overflows, pool = overflow_of(cells, given.chip, given.stem)
    if overflows:
        given = given._replace(plan=dataclasses.replace(given.plan, overflows=True))
    return ResolvedRow(place, given, row, mode, candidates(row, given, copies), pool)


def rows_by_form(rows: Sequence[dict[str, str]], calibration: Path) -> list[list[ResolvedRow]]:
    """Rows of the serving schema, those of one form together; without those that cannot be predicted."""
    found: dict[Hashable, list[ResolvedRow]] = {}
    for place, cells in enumerate(rows):
        with contextlib.suppress(InputError):
            resolved = resolve_row(place, cells, calibration)
            found.setdefault(resolved.form, []).append(resolved)
    return list(found.values())


MAX_SEQUENCES = 4096.0
"""Sequences on one data rank, at most, where their number is not given: the largest that SGLang takes by
itself (`max_running_requests` of each data-parallel worker: `_resolve_max_num_reqs`, `model_runner.py`). vLLM
and TensorRT-LLM take 1,024 and 2,048 by themselves, and are told more for offline runs."""


Arguments = tuple[Chip, Plan, Transformer, Request]
"""Of one row."""

T = TypeVar("T")

Block = tuple[Chip, Transformer, dict]
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
    found = _run_row(function, plan, jax.tree.map(lambda leaf: leaf[0, ...], block))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], found)


@to_run_once
def _run_row(function: Callable[..., Any], plan: Plan, row: Block) -> Any:
    chip, model, numbers = row
    return function(*request_of(chip, plan, model, numbers))


def evaluate_block(function: Callable[..., T], plan: Plan, block: Block) -> T:
    """The same of rows that are a block already."""
    return map_rows(functools.partial(mapped, function, plan), block)


def plan_of(rows: Sequence[ResolvedRow]) -> Plan:
    """The plan of rows of one form, without its ranks."""
    drafts = any(resolved.row.speculative_tokens > 0 for resolved in rows)
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


def _mapped(function: Callable[..., Any], plan: Plan, block: Block) -> Any:
    # Traced once as one row, then mapped: half the time of mapping each operation as it is traced.
    of_row = jax.jit(lambda chip, model, row: function(*request_of(chip, plan, model, row)))
    return jax.vmap(of_row)(*block)


_mapped_many, _mapped_few = eqx.filter_jit(_mapped), to_run_once(_mapped)


def request_of(chip: Chip, plan: Plan, model: Transformer, row: dict) -> Arguments:
    """The plan and the request of a row; where users are free, as many as there is room for."""
    ranked = with_ranks(plan, row)
    if plan.overflows:
        chip = with_overflow(chip, ranked, row["pool_room"], row["pool_rate"], row["pool_energy"])
    length = row["isl"] + row["osl"]
    free = jnp.minimum(max_sequences(chip, ranked, model, length), MAX_SEQUENCES * ranked.dp)
    users = jnp.where(row["concurrency"] > 0, row["concurrency"], free)
    batch_size = jnp.where(row["continuous_batching"] > 0, 1.0, users)
    return chip, ranked, model, as_request(row | {"concurrency": users}, batch_size)


REQUEST = tuple(field.name for field in dataclasses.fields(Request) if field.name != "batch_size")
"""Numbers of a row that a request is made of."""


def as_request(row: dict, batch_size: Scalar | float = 1.0) -> Request:
    """What is asked of a machine, from the numbers of a row."""
    return Request(batch_size=batch_size, **{name: row[name] for name in REQUEST})


def with_ranks(plan: Plan, row: dict) -> Plan:
    """The plan with the ranks of a row."""
    return dataclasses.replace(plan, **{name: row[name] for name in Parallelism._fields})


def numbers_of(rows: Sequence[tuple[ResolvedRow, Parallelism]]) -> dict[str, np.ndarray]:
    """What the rows of a block are, by column."""
    found = [
        request_numbers(resolved.row, resolved.mode) | resolved.pool.numbers | parallelism._asdict()
        for resolved, parallelism in rows
    ]
    number = as_scalar(0.0).dtype
    return {name: np.asarray([numbers[name] for numbers in found], number) for name in found[0]}


def request_numbers(row: ServingRow, mode: str) -> dict[str, Any]:
    """What is asked of a row, or of many that share a mode; -1 where the number of users is free."""
    return {
        "isl": row.isl * row.length_ratio,
        "osl": row.osl * row.length_ratio,
        "concurrency": np.nan_to_num(row.concurrency, nan=-1.0),
        "continuous_batching": 0.0 if mode == "static_batch" else 1.0,
        "requests_per_user": row.requests_per_user,
        "speculative_tokens": row.speculative_tokens,
        "acceptance": row.acceptance,
        "prefix_tokens": row.prefix_tokens * row.length_ratio,
        "requests_per_s": np.nan_to_num(row.requests_per_s),
    }
