"""How many evaluations a second: by the clock, and for each second of one processor."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

SECONDS = 5.0
"""For which each function runs, at least."""


class Pace(NamedTuple):
    """Evaluations a second, the median of repeats: by the clock; of one processor."""

    wall: float
    processor: float


def pace(run: Callable[[], Any], count: int, seconds: float = SECONDS) -> Pace:
    """Of a function that makes `count` evaluations and is done when it returns; it runs once before."""
    run()
    times: list[tuple[float, float]] = []
    while sum(wall for wall, _ in times) < seconds or len(times) < 3:
        began = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    wall, processor = (sorted(column)[len(times) // 2] for column in zip(*times, strict=True))
    return Pace(count / wall, count / processor)
