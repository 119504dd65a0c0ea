"""Points of a grid, priced many at a time: the same service, and the same choice, as of a row."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import pyarrow as pa

from perfmodel.batching import BLOCKS, block_size, by_blocks, gather, one_by_one_on_error, stack
from perfmodel.breakdown import BOUNDS
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.best_deployment import best_candidates
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.evaluate import (
    Block,
    ResolvedRow,
    RowNumbers,
    mapped,
    mapped_once,
    resolve_row,
    server_options_of,
)
from perfmodel.inference.grid import Grid
from perfmodel.inference.kernel_predictions import OVERFLOW
from perfmodel.inference.service import Service
from perfmodel.inference.serving_predictions import (
    AT_WALL,
    MAX_COMPILED_FORMS,
    OUTPUTS,
    PLAN,
    basis_said,
    loop_of,
    memory_error,
    output_rate,
    priced_numbers,
    queue_error,
)
from perfmodel.inference.serving_row import (
    DEFAULTS,
    NO_CONCURRENCY,
    RANKS,
    overrule,
    prefix_too_long,
    read_numbers,
    to_request,
)
from perfmodel.trees import leaf_names, map_leaves
from perfmodel.units import as_scalar
from perfmodel.workload.request import Request

T = TypeVar("T")

ANY_LENGTHS = {"isl": "1", "osl": "1"}
"""Numbers with which words and ranks are looked up; those of the points then take their place."""


class SweepPoints(NamedTuple):
    """Points that share their words and ranks, `cells`: numbers and factors of each, and how many."""

    cells: dict[str, str]
    axes: dict[str, np.ndarray]
    factors: dict[str, np.ndarray]
    size: int


class Segment(NamedTuple):
    """Points, and what they ask: a resolved row whose numbers are arrays."""

    resolved: ResolvedRow
    points: SweepPoints


class Pricer:
    """Prices ranges of points of a grid, with what was compiled for the ranges before."""

    def __init__(self, grid: Grid, calibration: Path):
        self.grid, self.calibration = grid, calibration
        self.speculates = bool(np.nansum(grid.inner.get("speculative_tokens", 0.0)) > 0)
        self.schema = schema_of(grid)
        loads = [name for name in ("concurrency", "requests_per_s") if name in grid.inner]
        self.any = ANY_LENGTHS | dict.fromkeys(loads, "1")
        self.forms: set[Hashable] = set()

    def table(self, start: int, stop: int) -> pa.Table:
        """The points from `start` to `stop` with their predictions, in their order."""
        tables: dict[int, pa.Table] = {}
        by_form: dict[Hashable, list[Segment]] = {}
        for first, points in self._combinations(start, stop):
            cells = points.cells | self.any
            try:
                resolved = resolve_row(first, cells, self.calibration)
            except InputError as wrong:
                tables[first] = self._as_table(points, {"error": str(wrong)})
                continue
            request = request_at(cells, points, resolved.mode)
            resolved = resolved._replace(request=request)
            by_form.setdefault(resolved.form, []).append(Segment(resolved, points))
        for form, segments in by_form.items():
            self._clear_compiled(form)
            priced = one_by_one_on_error(self._priced, segments, lambda wrong: {"error": wrong})
            for segment, columns in zip(segments, priced, strict=True):
                tables[segment.resolved.place] = self._as_table(segment.points, columns)
        return pa.concat_tables([tables[first] for first in sorted(tables)])

    def _combinations(self, start: int, stop: int) -> Iterator[tuple[int, SweepPoints]]:
        """Of the points from `start` to `stop`, those of each combination of words and ranks."""
        each = self.grid.points_per_combination
        for combination in range(start // each, (stop - 1) // each + 1):
            zero = combination * each
            places = np.arange(max(start, zero), min(stop, zero + each)) - zero
            numbers = self.grid.numbers(places)
            yield zero, SweepPoints(self.grid.cells(combination), *numbers, len(places))

    def _clear_compiled(self, form: Hashable) -> None:
        """Let go of what was compiled before it takes too many maps of memory."""
        if form not in self.forms and len(self.forms) >= MAX_COMPILED_FORMS:
            jax.clear_caches()
            self.forms.clear()
        self.forms.add(form)

    def _priced(self, segments: Sequence[Segment]) -> list[dict[str, Any]]:
        """Predicted columns of segments of one form."""
        serving = loop_of(segments[0].resolved)
        how = size_and_price(self.grid.points)
        services = serve_segments(segments, self.speculates, how[0], serving, how[1])
        return [_predicted(*pair) for pair in zip(segments, services, strict=True)]

    def _as_table(self, points: SweepPoints, columns: dict[str, Any]) -> pa.Table:
        """Columns as given, then as predicted; what is not there is null."""
        factors = {f"hardware.{name}": values for name, values in points.factors.items()}
        plain = points.cells | points.axes | factors

        def column(name: str, kind: pa.DataType) -> pa.Array:
            chosen = _array(columns.get(name), kind, points.size)
            return chosen.fill_null(_array(plain.get(name), kind, points.size))

        arrays = [column(field.name, field.type) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)


FEW_POINTS = 4096
"""Points of a grid that a second or two prices, however its programs are compiled: compiling them to run
often takes ten seconds a form."""


def size_and_price(points: int) -> tuple[int, Callable[..., Any]]:
    """Rows that are priced at a time for a grid of so many points, and what prices them."""
    if points > FEW_POINTS:
        return block_size(points), mapped
    return block_size(min(points, BLOCKS[1])), mapped_once


def serve_segments(
    segments: Sequence[Segment],
    speculates: bool,
    size: int,
    serving: Callable[..., T],
    price: Callable[..., Any] = mapped,
) -> list[T]:
    """Services of segments of one form: of each, every way at every point.

    **Arguments:**

    - `size`: rows that are priced at a time; `price`: what prices them.
    - `serving`: a function of chip, plan, model and request, such as `loop_of` gives.
    """
    first = segments[0].resolved.deployment
    plan = dataclasses.replace(first.plan, speculates=speculates)
    deployments = [segment.resolved.deployment for segment in segments]
    trees = stack([(deployment.chip, deployment.model) for deployment in deployments])
    sizes = [segment.points.size * len(segment.resolved.candidates) for segment in segments]
    which = np.repeat(np.arange(len(segments)), sizes)
    numbers, factors = _joined(map(_numbers, segments)), _joined(map(_scales, segments))
    parts = leaf_names(first.chip)

    def take(places: np.ndarray) -> Block:
        chip, model = gather(trees, which[places])
        return _scaled(chip, parts, gather(factors, places)), model, gather(numbers, places)

    served = by_blocks(functools.partial(price, serving, plan), len(which), take, size)
    ends = np.cumsum(sizes)
    return [gather(served, slice(end - n, end)) for end, n in zip(ends, sizes, strict=True)]


def schema_of(grid: Grid) -> pa.Schema:
    """Names and types of the columns: what the file lists, the choices, the predictions."""
    words = {name: pa.string() for name in grid.outer if name not in RANKS}
    numbers = dict.fromkeys((*grid.inner, *(f"hardware.{n}" for n in grid.hardware)), pa.float64())
    ranks = dict.fromkeys((name for name in grid.outer if name in RANKS), pa.float64())
    types = {name: (words | ranks)[name] for name in grid.outer} | numbers
    types |= {name: pa.float64() for name in PLAN if name not in types}
    types |= dict.fromkeys(OUTPUTS, pa.from_numpy_dtype(as_scalar(0.0).dtype))
    words = dict.fromkeys(("cost_basis", "basis", "bound", "error"), pa.string())
    return pa.schema(types | {"fits": pa.bool_()} | words)


def _array(values: Any, kind: pa.DataType, size: int) -> pa.Array:
    """A column: one value for all points, or one for each; empty cells and what is not finite are null."""
    if isinstance(values, str):
        values = None if not values else values if kind == pa.string() else float(values)
    if values is None or isinstance(values, str | float):
        return pa.repeat(pa.scalar(values, kind), size)
    if isinstance(values, pa.Array):
        return values.cast(kind)
    return pa.array(values, mask=~np.isfinite(values)).cast(kind)


def request_at(cells: dict[str, str], points: SweepPoints, mode: str) -> Request:
    """What is asked at each point."""
    numbers = {name: np.full(points.size, value) for name, value in read_numbers(cells).items()}
    for name, values in points.axes.items():
        numbers[name] = np.where(np.isnan(values), DEFAULTS.get(name, np.nan), values)
    return to_request(overrule(numbers, cells), mode)


def _per_candidate(values: np.ndarray, resolved: ResolvedRow) -> np.ndarray:
    """The values of all points, once for each way to spread the model."""
    return np.tile(values, len(resolved.candidates))


def _numbers(segment: Segment) -> RowNumbers:
    """What is asked at every point in every way."""
    resolved, kind = segment.resolved, as_scalar(0.0).dtype
    server = server_options_of(resolved)
    request, memory, server = map_leaves(
        lambda x: _per_candidate(np.broadcast_to(x, segment.points.size), resolved),
        (resolved.request, resolved.pool.memory, server),
    )
    ranks = np.repeat(np.array(resolved.candidates), segment.points.size, axis=0)
    numbers = RowNumbers(request, Parallelism(*ranks.T), memory, server)
    return map_leaves(lambda x: np.asarray(x, kind), numbers)


def _scales(segment: Segment) -> dict[str, np.ndarray]:
    factors, resolved = segment.points.factors, segment.resolved
    return {name: _per_candidate(values, resolved) for name, values in factors.items()}


def _joined(parts: Iterable[T]) -> T:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _scaled(chips: Chip, parts: list[str], factors: dict[str, np.ndarray]) -> Chip:
    """Chips with some of their numbers times the factors of each."""
    if not factors:
        return chips
    leaves, form = jax.tree.flatten(chips)
    for i, part in enumerate(parts):
        name = part if part in factors else part.split(".")[0]
        if name in factors:
            leaves[i] = leaves[i] * factors[name].astype(leaves[i].dtype)
    return jax.tree.unflatten(form, leaves)


def _predicted(segment: Segment, served: Service) -> dict[str, Any]:
    """Predicted columns of a segment: at each point the best of its ways."""
    parallelisms = np.array(segment.resolved.candidates)
    chips = np.asarray(Parallelism(*parallelisms.T).chips)
    by_candidate = map_leaves(
        lambda x: x.reshape(len(parallelisms), segment.points.size, *x.shape[1:]), served
    )
    best = best_candidates(segment.resolved, by_candidate)
    chosen = map_leaves(lambda x: x[best, np.arange(segment.points.size)], by_candidate)
    return _columns(segment, chosen, chips[best], Parallelism(*parallelisms[best].T))


def _columns(
    segment: Segment, served: Service, chips: np.ndarray, ways: Parallelism
) -> dict[str, Any]:
    """What is written of points, each served in its best way."""
    resolved, factors = segment.resolved, segment.points.factors
    deployment, request = resolved.deployment, resolved.request
    rate = output_rate(request, served)
    numbers, basis = priced_numbers(resolved, ways, served)
    columns = ways._asdict() | numbers
    if factors or resolved.pool.chips:  # the wall is known of hardware as it is sold, of one kind
        del columns[AT_WALL]
    fits = served.slack >= 0
    bounds = np.array(BOUNDS, object)[np.argmax(served.seconds, axis=-1)]
    errors = _faults(resolved, np.isfinite(served.ttft + served.tpot + rate))
    wrong = errors != ""
    for i in np.flatnonzero(~wrong & ~fits):
        errors[i] = memory_error(deployment, chips[i], float(served.slack[i]))
    grows = fits & ~wrong & np.asarray(request.requests_per_s >= served.max_requests_per_s)
    for i in np.flatnonzero(grows):
        each = float(np.broadcast_to(request.requests_per_s, len(errors))[i])
        errors[i] = queue_error(resolved, each, chips[i], float(served.max_requests_per_s[i]))
    empty = wrong | grows | ~fits
    for name, values in columns.items():
        columns[name] = np.where(wrong if name in PLAN else empty, np.nan, values)
    words = {
        "fits": (fits, wrong),
        "bound": (bounds, empty),
        "cost_basis": (np.full(len(errors), basis, object), empty),
        "basis": (np.full(len(errors), basis_said(deployment), object), empty),
        "error": (errors, errors == ""),
    }
    return columns | {name: pa.array(x, mask=mask) for name, (x, mask) in words.items()}


def _faults(resolved: ResolvedRow, finite: np.ndarray) -> np.ndarray:
    """What is wrong with each point; empty where nothing is."""
    prefix, isl = np.asarray(resolved.request.prefix_tokens), np.asarray(resolved.request.isl)
    faults = np.where(finite, "", OVERFLOW).astype(object)
    for i in np.flatnonzero(prefix >= isl):
        faults[i] = prefix_too_long(prefix[i], isl[i])
    if resolved.mode != "offline" and not resolved.open_loop:
        faults[np.isnan(resolved.request.concurrency)] = NO_CONCURRENCY
    return faults
