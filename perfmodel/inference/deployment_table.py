"""Deployments priced: every way to spread a model on every stack of chip, framework and formats, for every
number of users, in few compiled functions."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.errors import InputError
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.evaluate import NAMES, ResolvedRow, mapped_once, resolve_row
from perfmodel.inference.framework_support import refusal, slow_kernels
from perfmodel.inference.question import Question, stacks
from perfmodel.inference.service import Service
from perfmodel.inference.serving_predictions import AT_WALL, basis_said, loop_of, priced_numbers
from perfmodel.inference.sweep_points import Segment, SweepPoints, request_at, serve_segments
from perfmodel.library.fitted_intervals import ServingIntervals
from perfmodel.trees import map_leaves

Progress = Callable[[int, int], None]


def silent(done: int, of: int) -> None:
    """The progress of what nobody waits for."""


ROWS_AT_A_TIME = 512
"""Deployments that are priced at a time."""


class DeploymentTable(NamedTuple):
    """Deployments by column, one place each; and what was not priced.

    - `numbers`: by column of the serving schema; `words`: likewise.
    - `joules`: of one output token, by term.
    - `refused`: how many were refused, by reason.
    - `programs`: functions that were compiled.
    """

    numbers: dict[str, np.ndarray]
    words: dict[str, np.ndarray]
    joules: np.ndarray
    refused: collections.Counter[str]
    programs: int

    @property
    def size(self) -> int:
        """Deployments."""
        return len(self.joules)

    def take(self, places: np.ndarray) -> "DeploymentTable":
        """Some of them."""
        numbers = {name: column[places] for name, column in self.numbers.items()}
        words = {name: column[places] for name, column in self.words.items()}
        return self._replace(numbers=numbers, words=words, joules=self.joules[places])

    def alike(self, words: Sequence[str], numbers: Sequence[str]) -> np.ndarray:
        """A number for each deployment, the same for those that are alike in some columns."""
        columns = [self.words[name].astype(str) for name in words]
        columns += [np.nan_to_num(self.numbers[name]) for name in numbers]
        codes = [np.unique(column, return_inverse=True)[1] for column in columns]
        return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].ravel()

    def row(self, place: int) -> dict[str, Any]:
        """One of them, by column."""
        numbers = {name: float(column[place]) for name, column in self.numbers.items()}
        return {name: column[place] for name, column in self.words.items()} | numbers


def joined(tables: Sequence[DeploymentTable]) -> DeploymentTable:
    """Several tables as one; a column that one of them does not have is empty there."""
    return DeploymentTable(
        _columns([table.numbers for table in tables], [table.size for table in tables], np.nan),
        _columns([table.words for table in tables], [table.size for table in tables], ""),
        np.concatenate([table.joules for table in tables]),
        sum((table.refused for table in tables), collections.Counter[str]()),
        sum(table.programs for table in tables),
    )


def _columns(
    tables: Sequence[dict[str, np.ndarray]], sizes: Sequence[int], empty: Any
) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for table in tables for name in table)
    kind = object if isinstance(empty, str) else float
    return {
        name: np.concatenate(
            [
                table.get(name, np.full(size, empty, kind))
                for table, size in zip(tables, sizes, strict=True)
            ]
        )
        for name in names
    }


def price_aggregated(question: Question, calibration: Path, progress: Progress) -> DeploymentTable:
    """All deployments in which prompts and decode steps share their chips.

    **Raises:**

    - `InputError`: where no stack can be priced at all; it says why.
    """
    refused: collections.Counter[str] = collections.Counter()
    segments = segments_of(question, calibration, refused)
    if not segments:
        raise InputError(refused.most_common(1)[0][0])
    return price_segments(segments, question, progress)._replace(refused=refused)


def segments_of(
    question: Question, calibration: Path, refused: collections.Counter[str]
) -> list[Segment]:
    """All of them that can be priced; the others are counted among the `refused`, by reason."""
    segments: list[Segment] = []
    for cells in stacks(question, question.chips):
        for count in question.n_chips:
            try:
                segments += _segments(question, cells, count, calibration, refused)
            except InputError as wrong:
                refused[str(wrong)] += 1
    return segments


def price_segments(
    segments: Sequence[Segment], question: Question, progress: Progress
) -> DeploymentTable:
    """Every way of some segments at every point, in the order of the segments."""
    forms = _by_form(segments)
    tables = {
        id(segment): _table(segment, served)
        for group, services in zip(forms, _served(forms, question, progress), strict=True)
        for segment, served in zip(group, services, strict=True)
    }
    return joined([tables[id(segment)] for segment in segments])._replace(programs=len(forms))


def _segments(
    question: Question,
    cells: dict[str, str],
    count: float,
    calibration: Path,
    refused: collections.Counter[str],
) -> Iterator[Segment]:
    """The deployments of a stack on some chips, without and with drafted tokens: every way that its framework
    does not refuse."""
    load = {"requests_per_s": f"{question.requests_per_s}"} if question.open_loop else ONE_USER
    cells = cells | {"n_chips": f"{count:.0f}"} | load
    resolved = resolve_row(0, cells, calibration)
    for drafts in (False, True):
        drafted = tuple(n for n in question.drafted if (n > 0) == drafts)
        if not drafted:
            continue
        why = [refusal(resolved.deployment, way, drafts) for way in resolved.candidates]
        refused.update(filter(None, why))
        ways = [way for way, reason in zip(resolved.candidates, why, strict=True) if not reason]
        if ways:
            asked = question._replace(speculative_tokens=drafted)
            yield segment_of(asked, resolved, cells, ways)


ONE_USER = {"concurrency": "1"}
"""What a stack is looked up with; the numbers of users then take its place."""


def segment_of(
    question: Question, resolved: ResolvedRow, cells: dict[str, str], ways: list[Parallelism]
) -> Segment:
    """Some ways to spread a stack, at every number of users and of drafted tokens."""
    users = {} if question.open_loop else {"concurrency": question.users}
    choices = users | {"speculative_tokens": question.drafted}
    axes = np.meshgrid(*choices.values(), indexing="ij")
    named = {name: axis.ravel() for name, axis in zip(choices, axes, strict=True)}
    return segment_at(resolved, cells, ways, named)


def segment_at(
    resolved: ResolvedRow,
    cells: dict[str, str],
    ways: list[Parallelism],
    axes: dict[str, np.ndarray],
) -> Segment:
    """Some ways to spread a stack at points whose numbers are given, one array for each column."""
    points = SweepPoints(cells, axes, {}, len(next(iter(axes.values()))))
    request = request_at(cells, points, resolved.mode)
    return Segment(resolved._replace(request=request, candidates=ways), points)


def _by_form(segments: Iterable[Segment]) -> list[list[Segment]]:
    forms: dict[Hashable, list[Segment]] = {}
    for segment in segments:
        forms.setdefault(segment.resolved.form, []).append(segment)
    return list(forms.values())


def _served(
    forms: Sequence[Sequence[Segment]], question: Question, progress: Progress
) -> list[list[Service]]:
    """Services of the segments of each form; forms are compiled side by side."""
    drafts = max(question.drafted) > 0
    threads = (os.cpu_count() or 1) + 1  # one of them traces
    with concurrent.futures.ThreadPoolExecutor(min(len(forms), threads)) as pool:
        tasks = [
            pool.submit(
                serve_segments,
                group,
                drafts,
                ROWS_AT_A_TIME,
                loop_of(group[0].resolved),
                mapped_once,
            )
            for group in forms
        ]
        for done, _ in enumerate(concurrent.futures.as_completed(tasks), 1):
            progress(done, len(tasks))
        return [task.result() for task in tasks]


def _table(segment: Segment, served: Service) -> DeploymentTable:
    """Numbers and words of a segment: every way at every point."""
    resolved, points = segment.resolved, segment.points
    ways = Parallelism(*np.array(resolved.candidates).T[..., None])
    shape = (len(resolved.candidates), points.size)
    served = map_leaves(lambda x: np.asarray(x, float).reshape(*shape, *x.shape[1:]), served)
    numbers, basis = priced_numbers(resolved, ways, served)
    del numbers[AT_WALL]
    numbers |= ways._asdict() | points.axes | extra_numbers(served, resolved.request.osl)
    numbers |= range_numbers(resolved.deployment.intervals.at(ways.ranks))
    if resolved.open_loop:
        rate = resolved.request.requests_per_s
        numbers |= {"requests_per_s": rate, "utilisation": rate / served.max_requests_per_s}
        numbers |= {"max_running": served.max_running}
    flat = {name: np.broadcast_to(x, shape).ravel() for name, x in numbers.items()}
    words = words_of(resolved, points.cells) | {"cost_basis": basis, "mode": resolved.mode}
    return table_of(flat, words, served, programs=0)


def table_of(
    numbers: dict[str, Any], words: dict[str, str], served: Service, programs: int
) -> DeploymentTable:
    """Deployments with their numbers, and words that all of them share."""
    bounds = np.array(BOUNDS, object)[np.argmax(served.seconds, axis=-1)].ravel()
    count = bounds.size
    return DeploymentTable(
        {name: np.broadcast_to(x, count) for name, x in numbers.items()},
        {name: np.full(count, word, object) for name, word in words.items()} | {"bound": bounds},
        np.asarray(served.joules).reshape(count, -1),
        collections.Counter(),
        programs,
    )


def extra_numbers(served: Service, osl: Any) -> dict[str, Any]:
    """Numbers of a service that limits are put on, besides the columns of the serving schema."""
    return {
        "end_to_end_ms": 1e3 * (served.ttft + np.maximum(osl - 1, 0.0) * served.tpot),
        "free_bytes": served.slack,
        "max_requests_per_s": served.max_requests_per_s,
    }


def range_numbers(intervals: ServingIntervals) -> dict[str, Any]:
    """High ends of the 90 % ranges, as factors; arrays where deployments differ."""
    return {"ttft_high": intervals.ttft.high, "tpot_high": intervals.tpot.high}


def words_of(resolved: ResolvedRow, cells: dict[str, str]) -> dict[str, str]:
    """What a row names; a format that it leaves out as it was chosen."""
    plan = resolved.deployment.plan
    chosen = {"precision": plan.weights, "kv_precision": plan.cache}
    words = {name: cells.get(name, "") or chosen.get(name, "") for name in NAMES}
    warning = slow_kernels(resolved.deployment)
    return words | {"basis": basis_said(resolved.deployment), "warning": warning}
