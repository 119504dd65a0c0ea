"""Requests that are sent to a server: of users in a closed loop, at a rate, or as they come, as a stream."""

import heapq
import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from perfmodel.inference.scheduler import TraceRequest, Traffic

TrafficOf = Callable[[int, int], Traffic]
"""The traffic of a replica, from its number and how many there are."""


class Lengths(NamedTuple):
    """Tokens in and out of requests: means, and half of the range over the mean, in which they lie evenly.

    - `prefix_tokens`: of each prompt that are in the cache whatever was sent before.
    """

    isl: float
    osl: float
    spread: float = 0.0
    prefix_tokens: float = 0.0

    @classmethod
    def below(cls, isl: float, osl: float, length_ratio: float) -> "Lengths":
        """Those whose mean over nominal is a ratio and whose longest are nominal: 0.9 from 0.8 on."""
        return cls(isl * length_ratio, osl * length_ratio, 1 / length_ratio - 1)

    def request(
        self, arrival: float, random: np.random.Generator, left: float = 1.0
    ) -> TraceRequest:
        """One that is sent at some time, in s, a share of whose answer is `left`."""
        shares = 1 + self.spread * random.uniform(-1.0, 1.0, 2) if self.spread else (1.0, 1.0)
        isl, osl = (max(round(x), 1) for x in (self.isl * shares[0], self.osl * shares[1] * left))
        return TraceRequest(arrival, isl, osl, prefix_tokens=round(self.prefix_tokens))


class ClosedLoop:
    """Users with one request open each, who send the next when one is answered; all begin at once.

    **Arguments:**

    - `spread_start`: whether of each first answer some share is left, as of users who began long ago.
    """

    def __init__(
        self, users: int, requests: int, lengths: Lengths, seed: int, spread_start: bool = False
    ) -> None:
        self._random, self._lengths = np.random.default_rng(seed), lengths
        self._left = requests
        self._ready = [0.0] * min(users, requests)
        self._first = len(self._ready) if spread_start else 0

    def next_time(self) -> float:
        """When the next request is sent, in s; infinite where none is on its way."""
        return self._ready[0] if self._ready and self._left else math.inf

    def take(self) -> TraceRequest:
        """That request."""
        self._left -= 1
        self._first -= 1
        left = self._random.uniform() if self._first >= 0 else 1.0
        return self._lengths.request(heapq.heappop(self._ready), self._random, left)

    def answered(self, request: TraceRequest, now: float) -> None:
        """Its user sends the next."""
        heapq.heappush(self._ready, now)


class OpenLoop:
    """Requests that come whatever is open, in the order of their time; turns of a session wait."""

    def __init__(self, requests: Iterator[TraceRequest]) -> None:
        self._requests = requests
        self._next = next(requests, None)
        self._sessions: dict[str, deque[TraceRequest]] = {}
        self._ready: list[TraceRequest] = []

    def next_time(self) -> float:
        """When the next request is sent, in s; infinite where none is on its way."""
        self._pass_open_sessions()
        times = [one.arrival for one in (self._next, *self._ready[:1]) if one is not None]
        return min(times, default=math.inf)

    def _pass_open_sessions(self) -> None:
        """Put off turns whose session still waits for an answer."""
        while (one := self._next) is not None and one.session in self._sessions:
            self._sessions[one.session].append(one)
            self._next = next(self._requests, None)

    def take(self) -> TraceRequest:
        """That request."""
        self._pass_open_sessions()
        one = self._next
        if self._ready and (one is None or self._ready[0].arrival <= one.arrival):
            return heapq.heappop(self._ready)
        assert one is not None
        self._next = next(self._requests, None)
        if one.session:
            self._sessions[one.session] = deque()
        return one

    def answered(self, request: TraceRequest, now: float) -> None:
        """The next turn of its session may be sent."""
        if not request.session:
            return
        turns = self._sessions[request.session]
        if turns:
            turn = turns.popleft()
            heapq.heappush(self._ready, turn._replace(arrival=max(turn.arrival, now)))
        else:
            del self._sessions[request.session]


def at_a_rate(
    requests_per_s: float, requests: int, lengths: Lengths, seed: int, burstiness: float = 1.0
) -> Iterator[TraceRequest]:
    """Requests that come at a rate.

    **Arguments:**

    - `burstiness`: shape of the gamma distribution of the times between requests, as `vllm bench serve` has
      it: 1 is Poisson, less has bursts.
    """
    random, now = np.random.default_rng(seed), 0.0
    for _ in range(requests):
        yield lengths.request(now, random)
        now += random.gamma(burstiness, 1 / (requests_per_s * burstiness))


def routed(requests: Iterator[TraceRequest], replica: int, replicas: int) -> Iterator[TraceRequest]:
    """Those that a router sends to one replica: one after the other, a session always to the same."""
    for count, request in enumerate(requests):
        key = zlib.crc32(request.session.encode()) if request.session else count
        if key % replicas == replica:
            yield request


class InStep(NamedTuple):
    """Users who begin together and whose prompts and answers are of equal length: how many, and new tokens of
    each prompt.
    """

    users: float
    new_tokens: float


class Workload(NamedTuple):
    """Requests that are sent to all replicas of a server; `in_step`: of users who stay in step, if any."""

    of_replica: TrafficOf
    in_step: InStep | None = None


def closed_workload(
    users: int, requests: int, lengths: Lengths, seed: int, spread_start: bool = False
) -> Workload:
    """Users in a closed loop, shared out among replicas."""

    def of_replica(i: int, replicas: int) -> Traffic:
        own_users, own_requests = (n // replicas + (i < n % replicas) for n in (users, requests))
        return ClosedLoop(own_users, own_requests, lengths, seed + i, spread_start)

    in_step = None
    if lengths.spread <= 0 and not spread_start:
        in_step = InStep(users, lengths.isl - lengths.prefix_tokens)
    return Workload(of_replica, in_step)


def open_workload(requests: Callable[[], Iterator[TraceRequest]]) -> Workload:
    """Requests that come as they come, which replicas take in turn; each reads them anew."""

    def of_replica(i: int, replicas: int) -> Traffic:
        return OpenLoop(routed(requests(), i, replicas))

    return Workload(of_replica)
