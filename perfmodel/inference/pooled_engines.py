"""Prefill and decode workers that serve some requests together, each with a scheduler of its own.

A request goes to the prefill worker that has the fewest (turns of a session always to the same), its keys and
values cross the network, and the decode worker that has the fewest goes on. Of all workers the one whose time
is least takes its next step, so that none sees what comes from another too late.
"""

import heapq
import itertools
import math
import zlib
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.inference.scheduler import Engine, Outcome, Policy, Timeline, TraceRequest, Traffic
from perfmodel.inference.step_times import StepTimes


class Workers(NamedTuple):
    """Equal workers: the seconds of their steps, the policy of each, and how many."""

    times: StepTimes
    policy: Policy
    workers: int


class Inbox:
    """Requests that others send to a worker, as its traffic.

    - `taken`: numbers of those that it took, in order.

    **Arguments:**

    - `answered`: told a request's number and when the worker is done with it, in s.
    """

    def __init__(self, answered: Callable[[int, float], None]) -> None:
        self._coming: list[tuple[float, int, TraceRequest]] = []
        self._answered = answered
        self.taken = array("q")
        self._open = 0
        self._ends: list[float] = []  # a heap: of those that are simulated, but may be open yet

    def put(self, time: float, number: int, request: TraceRequest) -> None:
        """A request comes at some time, in s."""
        self._open += 1
        heapq.heappush(self._coming, (time, number, request))

    def next_time(self) -> float:
        """When the next request comes, in s; infinite where none is on its way."""
        return self._coming[0][0] if self._coming else math.inf

    def take(self) -> TraceRequest:
        """That request."""
        _, number, request = heapq.heappop(self._coming)
        self.taken.append(number)
        return request._replace(number=number)

    def answered(self, request: TraceRequest, now: float) -> None:
        """The worker is done with it."""
        heapq.heappush(self._ends, now)
        self._answered(request.number, now)

    def open_at(self, time: float) -> int:
        """Requests that the worker has at some time, in s: a step is simulated before its time has passed."""
        while self._ends and self._ends[0] <= time:
            heapq.heappop(self._ends)
            self._open -= 1
        return self._open


class PooledEngines:
    """Prefill and decode workers that serve some traffic; `run` does it.

    **Arguments:**

    - `transfer`: seconds in which the keys and values of a prompt of some tokens cross the network.
    """

    def __init__(
        self,
        prefill: Workers,
        decode: Workers,
        transfer: Callable[[int], float],
        traffic: Traffic,
    ) -> None:
        self.policies = prefill.policy, decode.policy
        self.transfer, self.traffic, self.outcome = transfer, traffic, Outcome()
        self.requests: dict[int, TraceRequest] = {}
        self.inboxes = (
            [Inbox(self._prompt_done) for _ in range(prefill.workers)],
            [Inbox(self._answered) for _ in range(decode.workers)],
        )
        self.prefill, self.decode = (
            [Engine(one.times, one.policy, inbox) for inbox in inboxes]
            for one, inboxes in zip((prefill, decode), self.inboxes, strict=True)
        )
        # Of those whose time is the same the first goes on.
        self.engines = [*self.decode, *self.prefill]

    def run(self, progress: Callable[[int], None] = lambda answered: None) -> Outcome:
        """Serve all requests; `progress` is told how many are answered."""
        while True:
            engine = min(self.engines, key=Engine.wakes)
            sent = self.traffic.next_time()
            if min(sent, engine.wakes()) == math.inf:
                return self._joined()
            if sent <= engine.wakes():
                self._send(self.traffic.take())
                continue
            engine.horizon = self._horizon(engine)
            engine.advance()
            progress(self.outcome.answered)

    def _send(self, request: TraceRequest) -> None:
        """Give a request to a prefill worker, or refuse it."""
        number, (first, second) = self.outcome.add(request), self.policies
        why = first.refused(request.isl, 1) or second.refused(request.isl, request.osl)
        if why:
            self.outcome.refusals[why] += 1
            self.traffic.answered(request, request.arrival)
            return
        self.requests[number] = request
        inboxes = self.inboxes[0]
        inbox = _least_busy(inboxes, request.arrival)
        if request.session:
            inbox = inboxes[zlib.crc32(request.session.encode()) % len(inboxes)]
        inbox.put(request.arrival, number, request._replace(osl=1))

    def _prompt_done(self, number: int, now: float) -> None:
        """A prompt is computed: a decode worker goes on when its keys and values are there."""
        request = self.requests[number]
        inbox = _least_busy(self.inboxes[1], now)
        inbox.put(now + self.transfer(request.isl), number, request)

    def _answered(self, number: int, now: float) -> None:
        """The last token has come."""
        self.outcome.answered += 1
        self.outcome.end = max(self.outcome.end, now)
        self.traffic.answered(self.requests.pop(number), now)

    def _horizon(self, engine: Engine) -> float:
        """Until when nothing can come to a worker that is not on its way yet."""
        answers = (one.next_answer() for one in self.decode if one is not engine)
        prompts = () if engine in self.prefill else map(Engine.wakes, self.prefill)
        return min(self.traffic.next_time(), *prompts, *answers)

    def _joined(self) -> Outcome:
        """What came of the requests: of the prompt's part what prefill workers say, else decode workers."""
        whole = self.outcome
        for inboxes, engines, names in zip(
            self.inboxes, (self.prefill, self.decode), (PROMPT, ANSWER), strict=True
        ):
            for (inbox, engine), name in itertools.product(
                zip(inboxes, engines, strict=True), names
            ):
                np.asarray(getattr(whole, name))[np.asarray(inbox.taken, int)] = getattr(
                    engine.outcome, name
                )
        for inbox, engine in zip(self.inboxes[1], self.decode, strict=True):
            waited = np.asarray(engine.outcome.queueing)
            np.asarray(whole.queueing)[np.asarray(inbox.taken, int)] += waited
        for engine in self.prefill:
            whole.loaded.update(engine.outcome.loaded)
        whole.steps = sum(one.outcome.steps for one in self.engines)
        whole.preemptions = sum(one.outcome.preemptions for one in self.engines)
        whole.timeline = Timeline.of_all([one.outcome.timeline for one in self.engines])
        return whole


PROMPT, ANSWER = ("queueing", "cached"), ("ttft", "tpot", "end_to_end")
"""What the workers of each pool say of a request."""


def _least_busy(inboxes: Sequence[Inbox], time: float) -> Inbox:
    """That of the worker which has the fewest requests at some time, in s."""
    return min(inboxes, key=lambda inbox: inbox.open_at(time))
