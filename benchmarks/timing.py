"""Times of a function: by the clock, and of processors."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

SECONDS = 5.0
"""For which each function runs, at least."""


class Stopwatch:
    """Seconds by the clock and of processors since it was made."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Both."""
        return time.perf_counter() - self.wall, time.process_time() - self.processor


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Of one call that is done when it returns."""
    watch = Stopwatch()
    run()
    return watch.read()


def fastest(run: Callable[[], Any], repeats: int) -> float:
    """The least seconds of processors of some calls."""
    return min(timed(run)[1] for _ in range(repeats))


class Pace(NamedTuple):
    """Evaluations a second, the median of repeats: by the clock; of one processor."""

    wall: float
    processor: float


def pace(run: Callable[[], Any], count: int) -> Pace:
    """Of a function that makes `count` evaluations and is done when it returns; it runs once before."""
    run()
    times: list[tuple[float, float]] = []
    while sum(wall for wall, _ in times) < SECONDS or len(times) < 3:
        times.append(timed(run))
    wall, processor = (sorted(column)[len(times) // 2] for column in zip(*times, strict=True))
    return Pace(count / wall, count / processor)
