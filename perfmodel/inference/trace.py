"""Requests of a trace, read from JSON lines or CSV as a stream."""

import csv
import heapq
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from perfmodel.errors import InputError
from perfmodel.inference.scheduler import TraceRequest
from perfmodel.library.files import named

FIELDS = ("timestamp", "input_length", "output_length")
"""What each line of a trace has; `hash_ids` and `session` may stand beside."""

UNITS = {"s": 1.0, "ms": 1e-3}
"""Of timestamps, in s."""

MAX_LINE = 1 << 20
"""Bytes of a line."""

MAX_TOKENS = 10_000_000
"""Of a prompt or an answer: ten times the longest context of a model."""

MAX_SECONDS = 1e9
"""Between the first request and the last: 31 years."""

WINDOW = 10_000
"""Lines that are put in order of their time, where they are not."""

SAMPLE = 1000
"""Lines from which the number of all is estimated."""

LINES_NAMED = 5
"""Lines that are left out and named, at most."""


Line = dict[str, Any]
"""A line of a trace by key or column."""

OTHERS = {
    "results of vllm bench serve or SGLang's bench_serving": ("request_throughput", "mean_ttft_ms"),
    "results of genai-perf or AIPerf": ("input_config",),
    "the Azure LLM inference trace": ("timestamp", "contexttokens", "generatedtokens"),
    "BurstGPT's trace": ("timestamp", "request tokens", "response tokens"),
    "a data set of conversations (ShareGPT)": ("conversations",),
    "requests of OpenAI's batch interface": ("custom_id", "body"),
    "requests that perfmodel simulate wrote": ("arrival_s", "queueing_ms"),
    "rows of perfmodel predict serving": ("chip", "model", "isl"),
}
"""Files of other tools, by keys or columns that they have."""


class Trace:
    """Requests of a file of JSON lines or CSV.

    - `left_out`, `complaints`: lines that are left out, and what is said of the first of them.
    - `reordered`: requests that stood after a later one; they are put in order.
    - `read`, `size`: bytes of the file.
    - `first_timestamp`: that time 0 stands for, in s.

    **Raises:**

    - `InputError`: for a file that cannot be read, or that is no trace.
    """

    def __init__(self, path: Path, unit: str = "s") -> None:
        self.path, self.unit = path, unit
        self.left_out = self.reordered = self.read = self.size = 0
        self.complaints: list[str] = []
        self.first_timestamp = math.nan
        try:
            self.size = path.stat().st_size
            head = next(((n, line) for n, line in self._lines() if line.strip()), None)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror}; give a trace in JSON lines or CSV."
            ) from None
        if head is None:
            raise InputError(f"{path} is empty; {_HAS}.")
        self._header_line, first = head
        self.columns = None if first.lstrip().startswith(("{", "[")) else _cells(first.lower())
        self._check(first)

    def expected_requests(self) -> int:
        """About how many lines there are, from the length of the first."""
        lengths = [
            len(line) + 1 for (_, line), _ in zip(self._lines(), range(SAMPLE), strict=False)
        ]
        return max(round(self.size * len(lengths) / sum(lengths)), 1)

    def _check(self, first: str) -> None:
        """Refuse what is no trace by its first line."""
        keys = self.columns
        if keys is None:
            try:
                found = json.loads(first)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                raise InputError(
                    f"{self.path} is no trace: its first line is no JSON object; {_HAS}, as an object on "
                    "each line or as columns of a CSV file."
                )
            keys = [str(key) for key in cast(dict[Any, Any], found)]
        folded = [key.lower().strip() for key in keys]
        missing = [name for name in FIELDS if name not in folded]
        if not missing:
            return
        what = [word for word, marks in OTHERS.items() if set(marks) <= set(folded)]
        seems = f"{self.path} looks like {what[0]}" if what else f"{self.path} is no trace"
        raise InputError(
            f"{seems}: it has {named(keys, 8)}; {_HAS}, and lacks {', '.join(missing)}."
        )

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Lines with their numbers; one that is too long comes as empty."""
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                if len(line) == MAX_LINE and line[-1:] != b"\n":
                    while (line := file.readline(MAX_LINE)) and line[-1:] != b"\n":
                        pass
                    self._complain(number, f"is longer than {MAX_LINE:,} bytes")
                    line = b""
                self.read = file.tell()
                yield number, line.decode("utf-8-sig", errors="replace").rstrip("\r\n")

    def _complain(self, number: int, said: str) -> None:
        self.left_out += 1
        if len(self.complaints) < LINES_NAMED:
            self.complaints.append(f"line {number:,} {said}")

    def requests(self) -> Iterator[TraceRequest]:
        """Requests in the order of their time, which is 0 at the first."""
        self.left_out = self.reordered = 0
        self.complaints, window, count = [], list[tuple[float, int, TraceRequest]](), 0
        latest = -math.inf
        for number, request in self._good_lines():
            self.reordered += request.arrival < latest
            latest = max(latest, request.arrival)
            heapq.heappush(window, (request.arrival, number, request))
            if len(window) > WINDOW:
                yield from self._timed(heapq.heappop(window))
            count += 1
        while window:
            yield from self._timed(heapq.heappop(window))
        if not count:
            said = f"; the first: {self.complaints[0]}" if self.complaints else ""
            raise InputError(f"{self.path} has no line that is a request{said}; {_HAS}.")

    def _timed(self, entry: tuple[float, int, TraceRequest]) -> Iterator[TraceRequest]:
        """A request with its time after the first, where it can be."""
        arrival, number, request = entry
        if math.isnan(self.first_timestamp):
            self.first_timestamp = self._last = arrival
        if arrival < self._last:
            self._complain(number, f"comes before requests {WINDOW:,} lines above it")
        elif arrival - self.first_timestamp > MAX_SECONDS:
            self._complain(
                number, f"is {arrival - self.first_timestamp:.3g} s after the first request"
            )
        else:
            self._last = arrival
            yield request._replace(arrival=arrival - self.first_timestamp)

    def _good_lines(self) -> Iterator[tuple[int, TraceRequest]]:
        self.first_timestamp = self._last = math.nan
        for number, text in self._lines():
            if not text.strip() or (self.columns is not None and number == self._header_line):
                continue
            try:
                yield number, _request(self._parse(text), UNITS[self.unit])
            except InputError as wrong:
                self._complain(number, str(wrong))

    def _parse(self, text: str) -> Line:
        """A line by key."""
        if self.columns is not None:
            return dict(zip(self.columns, _cells(text), strict=False))
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError("is no JSON") from None
        if not isinstance(found, dict):
            raise InputError("is no JSON object")
        return cast(Line, found)


_HAS = f"a trace has {', '.join(FIELDS)}"


def _cells(line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line]), list[str]())]
    except csv.Error:
        raise InputError("is no line of a CSV file") from None


def _request(line: Line, unit: float) -> TraceRequest:
    """The request of a line."""
    timestamp, isl, osl = (_number(line, name) for name in FIELDS)
    if not 0 <= timestamp * unit < MAX_TIMESTAMP:
        raise InputError(f"has timestamp {timestamp:g}; allowed is 0 to {MAX_TIMESTAMP / unit:g}")
    for name, tokens in (("input_length", isl), ("output_length", osl)):
        if not 1 <= tokens <= MAX_TOKENS or tokens != round(tokens):
            raise InputError(
                f"has {name} {tokens:g}; allowed are whole numbers from 1 to {MAX_TOKENS:,}"
            )
    session = line.get("session")
    words = "" if session is None else str(session)
    return TraceRequest(timestamp * unit, int(isl), int(osl), _hashes(line.get("hash_ids")), words)


MAX_TIMESTAMP = 1e11
"""In s: the year 5138, where time begins in 1970."""


def _number(line: Line, name: str) -> float:
    value = line.get(name)
    if value is None or value == "":
        raise InputError(f"has no {name}")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"has {name} {str(value)[:40]!r}, which is no number")
    return number


def _hashes(value: Any) -> tuple[int, ...]:
    """Hashes of a prompt's blocks: a list, or numbers in a cell."""
    if value is None or value == "":
        return ()
    words = re.findall(r"-?\d+", value) if isinstance(value, str) else value
    try:
        return tuple(int(word) for word in words)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"has hash_ids {str(value)[:40]!r}, which is no list of numbers") from None
