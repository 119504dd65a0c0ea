"""A serving engine's scheduler, step by step: continuous batching, first come first served.

Each step every sequence that decodes gives a token, and prompts fill what is left of a budget of tokens;
where a framework keeps prompts apart they take steps of their own, first. A request is let in when its prompt
has capacity in the KV cache, beside a share of the output still to come. Where a step finds no capacity, the
request that was let in last loses its cache and is computed anew, from the front of the queue.

Steps in which nothing begins, ends or comes are taken together: each has the time of the middle one.
"""

import heapq
import math
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from perfmodel.hardware.parameters import delay_of_prompt
from perfmodel.inference.cache_tiers import BLOCK, LowerTiers, Tier
from perfmodel.inference.step_times import StepTimes


class Speculation(NamedTuple):
    """Tokens that are drafted in each decode step, and the share of them that hold, each after those before.

    A step gives one token and as many more as drafts hold: j of them or more with probability acceptance^j.
    """

    drafts: float = 0.0
    acceptance: float = 0.0

    def _shares(self) -> list[float]:
        """Of steps that give at least one token, two, and so on."""
        count = math.ceil(self.drafts)
        whole = [min(self.drafts - j, 1.0) * self.acceptance ** (j + 1) for j in range(count)]
        return [1.0, *whole]

    @property
    def tokens_per_step(self) -> float:
        """On average."""
        return sum(self._shares())

    @property
    def variance(self) -> float:
        """Of the tokens of a step."""
        square = sum((2 * j + 1) * share for j, share in enumerate(self._shares()))
        return square - self.tokens_per_step**2

    def steps_for(self, tokens: int, random: np.random.Generator) -> int:
        """Steps that give some tokens: drawn, where drafts may fail."""
        mean = self.tokens_per_step
        if self.variance <= 0 or tokens <= 0:
            return math.ceil(tokens / mean)
        drawn = random.normal(tokens / mean, math.sqrt(tokens * self.variance / mean**3))
        return round(min(max(drawn, math.ceil(tokens / (1 + math.ceil(self.drafts)))), tokens))


NO_SPECULATION = Speculation()


class Policy(NamedTuple):
    """What a scheduler may do, all data ranks of one replica together.

    - `max_num_seqs`: requests that are computed at once; `max_num_batched_tokens`: tokens of a step.
    - `chunked_prefill`: whether prompts are cut to fill the budget; `separate_prefill`: whether they take
      steps of their own.
    - `admitted_output`: share of the output still to come, of all that are in, which must have capacity
      when one more is let in.
    - `kv_capacity`: tokens of KV cache; `kv_per_sequence`: that each takes beside its own, such as states.
    - `delay`, `delay_per_token`: seconds from a request to the scheduler's queue, of any request and for each
      token of its prompt.
    - `read_interval`: decode steps from one time that the queue is read to the next. It is read after each
      step with prompts, and where nothing runs at once (SGLang, `scheduler_recv_skipper.py`: decode steps
      weigh 1, others 1,000).
    - `schedules_ahead`: whether a step is scheduled when the one before it begins: what comes or ends in that
      one is seen a step later.
    - `speculation`: of decode steps.
    - `tiers`: below the KV cache, to which blocks go that it evicts.
    - `prefilled`: whether prompts come with their keys and values and first token, which others computed.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    chunked_prefill: bool
    separate_prefill: bool
    admitted_output: float
    kv_capacity: float
    kv_per_sequence: float
    delay: float
    schedules_ahead: bool = False
    speculation: Speculation = NO_SPECULATION
    delay_per_token: float = 0.0
    read_interval: int = 1
    prefilled: bool = False
    tiers: tuple[Tier, ...] = ()

    def delay_of(self, request: "TraceRequest") -> float:
        """Seconds from a request to the scheduler's queue."""
        return delay_of_prompt(self.delay, self.delay_per_token, request.isl)

    def refused(self, isl: int, osl: int) -> str:
        """Why a request can never be answered; empty where it can."""
        if isl + osl + self.kv_per_sequence > self.kv_capacity:
            return f"longer than the KV cache of {self.kv_capacity:,.0f} tokens"
        if not self.chunked_prefill and isl > self.max_num_batched_tokens:
            return (
                f"prompts longer than max_num_batched_tokens of {self.max_num_batched_tokens:,} tokens, "
                "which are not cut"
            )
        return ""


class TraceRequest(NamedTuple):
    """When a request is sent, in s, its tokens in and out, and the hashes of its prompt's blocks.

    - `session`: whose turns follow one another; empty: none's.
    - `prefix_tokens`: of the prompt, that are in the cache whatever was sent before.
    - `number`: its place among all that are sent to several engines; -1 where there is one.
    """

    arrival: float
    isl: int
    osl: int
    hash_ids: tuple[int, ...] = ()
    session: str = ""
    prefix_tokens: int = 0
    number: int = -1


class Traffic(Protocol):
    """Requests in the order in which they are sent."""

    def next_time(self) -> float:
        """When the next request is sent, in s; infinite where none is on its way."""
        ...

    def take(self) -> TraceRequest:
        """That request."""
        ...

    def answered(self, request: TraceRequest, now: float) -> None:
        """Its last token has come, or it was refused."""
        ...


class Sequence:
    """A request in the engine.

    - `target`: tokens to compute before the next one comes; `computed`: of these.
    - `start`, `end`: decode steps of the engine between which it decodes.
    - `private`: tokens of cache that are its own, as of `start`; `shared`: its blocks that others may read.
    - `cached`: tokens that were in the cache when it was first let in; below zero before.
    - `loaded`: when its blocks have come from the tiers below, in s.
    - `restarts`: how often it was put out; `kept`: tokens of the cache it had then that are still there.
    """

    __slots__ = (
        *("request", "number", "ready", "target", "computed", "generated", "cached", "admitted"),
        *("first", "start", "end", "private", "shared", "running", "restarts", "kept", "loaded"),
    )

    def __init__(self, request: TraceRequest, number: int, ready: float) -> None:
        self.request, self.number, self.ready = request, number, ready
        self.target, self.computed, self.generated, self.cached = request.isl, 0, 0, -1
        self.admitted = self.first = math.nan
        self.start = self.end = self.restarts = 0
        self.private = self.kept = self.loaded = 0.0
        self.shared: list[int] = []
        self.running = False

    def __lt__(self, other: "Sequence") -> bool:
        """Whether it is in the queue first."""
        return (self.ready, self.number) < (other.ready, other.number)


class PrefixCache:
    """Blocks of prompts that are in the KV cache: in use, or idle until their place is needed (LRU).

    **Arguments:**

    - `evicted`: told a block whose place was needed.
    """

    def __init__(self, evicted: Callable[[int], None] = lambda block: None) -> None:
        self.evicted = evicted
        self.users: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()

    def hits(self, hash_ids: tuple[int, ...], most: int) -> list[int]:
        """The first blocks of a prompt that are there, `most` at most."""
        found: list[int] = []
        for block in hash_ids[:most]:
            if block not in self.users and block not in self.idle:
                break
            found.append(block)
        return found

    def idle_of(self, blocks: list[int]) -> int:
        """How many of some blocks are idle."""
        return sum(block in self.idle for block in blocks)

    def use(self, blocks: list[int]) -> None:
        """One more request reads them."""
        for block in blocks:
            self.idle.pop(block, None)
            self.users[block] = self.users.get(block, 0) + 1

    def release(self, blocks: list[int]) -> int:
        """One request less does: how many are idle now."""
        freed = 0
        for block in reversed(blocks):  # the end of a prompt goes first
            self.users[block] -= 1
            if not self.users[block]:
                del self.users[block]
                self.idle[block] = None
                freed += 1
        return freed

    def evict(self, room: float) -> None:
        """Forget idle blocks until the others take no more than `room` tokens."""
        while self.idle and len(self.idle) * BLOCK > room:
            self.evicted(self.idle.popitem(last=False)[0])


class Timeline:
    """Running and waiting requests and the KV cache's use over time, as means of equal spans of time.

    Where there are too many spans, two become one.
    """

    MAX_SPANS = 512

    def __init__(self) -> None:
        self.span = 1e-3
        self.sums: list[list[float]] = []

    def add(self, start: float, end: float, values: tuple[float, float, float]) -> None:
        """Some values hold from `start` to `end`, in s."""
        while end >= self.span * self.MAX_SPANS:
            self._coarsen()
        i = int(start / self.span)
        while start < end:
            while len(self.sums) <= i:
                self.sums.append([0.0, 0.0, 0.0])
            stop = min(end, (i + 1) * self.span)
            for k, value in enumerate(values):
                self.sums[i][k] += value * (stop - start)
            start, i = stop, i + 1

    def means(self, seconds: float) -> tuple[float, float, float]:
        """Of each over some seconds."""
        sums = [sum(column) for column in zip(*self.sums, strict=True)] or [0.0, 0.0, 0.0]
        running, waiting, used = (one / max(seconds, 1e-12) for one in sums)
        return running, waiting, used

    @classmethod
    def of_all(cls, timelines: "list[Timeline]") -> "Timeline":
        """The sum of several."""
        whole = cls()
        while whole.span < max(one.span for one in timelines):
            whole.span *= 2
        for one in timelines:
            while one.span < whole.span:
                one._coarsen()
            while len(whole.sums) < len(one.sums):
                whole.sums.append([0.0, 0.0, 0.0])
            for mine, others in zip(whole.sums, one.sums, strict=False):
                mine[:] = [a + b for a, b in zip(mine, others, strict=True)]
        return whole

    def _coarsen(self) -> None:
        self.sums.append([0.0, 0.0, 0.0])
        pairs = zip(self.sums[::2], self.sums[1::2], strict=False)
        self.sums = [[a + b for a, b in zip(*pair, strict=True)] for pair in pairs]
        self.span *= 2


class Outcome:
    """What came of each request, in the order in which they were sent, and of the engine.

    - `arrival`, `queueing`, `ttft`, `tpot`, `end_to_end`: in s; `nan`: refused, or no TPOT of one token.
    - `cached`: tokens of each prompt that were in the cache.
    - `isl`, `osl`: of each.
    - `refusals`: how many requests can never be answered, by reason.
    - `loaded`: tokens of prompts that came from tiers below the KV cache, by name.
    - `steps`, `preemptions`: in all; `end`: when the last token came, in s.
    """

    COLUMNS = ("arrival", "queueing", "ttft", "tpot", "end_to_end", "cached", "isl", "osl")

    def __init__(self) -> None:
        self.arrival, self.queueing, self.ttft, self.tpot = (array("d") for _ in range(4))
        self.end_to_end, self.cached, self.isl, self.osl = (array("d") for _ in range(4))
        self.timeline = Timeline()
        self.refusals: Counter[str] = Counter()
        self.loaded: Counter[str] = Counter()
        self.steps = self.preemptions = self.answered = 0
        self.end = 0.0

    def add(self, request: TraceRequest) -> int:
        """A request that was sent: its number."""
        values = (
            request.arrival,
            math.nan,
            math.nan,
            math.nan,
            math.nan,
            0,
            request.isl,
            request.osl,
        )
        for name, value in zip(self.COLUMNS, values, strict=True):
            getattr(self, name).append(value)
        return len(self.arrival) - 1

    def finish(self, sequence: Sequence, now: float) -> None:
        """Its last token has come."""
        i, request = sequence.number, sequence.request
        self.queueing[i] = sequence.admitted - sequence.ready
        self.ttft[i] = sequence.first - request.arrival
        self.end_to_end[i] = now - request.arrival
        self.cached[i] = sequence.cached
        if request.osl > 1:
            self.tpot[i] = (now - sequence.first) / (request.osl - 1)
        self.answered += 1
        self.end = now


class Chunk(NamedTuple):
    """New tokens of a prompt in a step."""

    sequence: Sequence
    tokens: int


class Engine:
    """An engine that serves some traffic; `run` does it."""

    def __init__(self, times: StepTimes, policy: Policy, traffic: Traffic) -> None:
        self.times, self.policy, self.traffic = times, policy, traffic
        self.lower = LowerTiers(policy.tiers)
        self.outcome, self.cache = Outcome(), PrefixCache(self.lower.add)
        self.outcome.loaded = self.lower.loaded
        self.now, self.step = 0.0, 0
        self.coming: list[Sequence] = []  # a heap: sent, but not in the queue yet
        self.scheduled = 0.0  # until when requests were read that may be in the next step
        self.unread = 0  # decode steps since
        self.horizon = math.inf  # until when the traffic knows what comes
        self.leaving, self.leaving_tokens = 0, 0.0  # ended, but scheduled with those still in
        self.waiting: deque[Sequence] = deque()
        self.prefilling: list[Sequence] = []
        self.decoding: list[
            tuple[int, int, int, Sequence]
        ] = []  # a heap by the step of the last token
        self.admitted: list[Sequence] = []  # in order; some have left since
        self.put_out: list[
            Sequence
        ] = []  # that wait to be computed anew, the first of them at the end
        self.running = self.decodes = 0
        self.used = 0.0  # tokens of the KV cache
        # Of those that decode, less the engine's tokens for each; of all that are in, with these.
        self.context_sum = self.output_to_come = 0.0
        self.tokens = policy.speculation.tokens_per_step  # that a sequence gets in a step
        self.checked = 1 + math.ceil(policy.speculation.drafts)  # that it takes of the budget
        self.random = np.random.default_rng(0)

    def run(self, progress: Callable[[int], None] = lambda answered: None) -> Outcome:
        """Serve all requests; `progress` is told how many are answered."""
        while self.advance():
            progress(self.outcome.answered)
        return self.outcome

    def advance(self) -> bool:
        """Read the queue and take a step, or several that are alike. False: nothing is there or comes."""
        if not self._receive():
            return False
        chunks, alike = self._schedule()
        if not self.running:
            return True
        start, load = self.now, (self.running, len(self.waiting), self.used)
        if chunks:
            self._step_with(chunks)
        elif not self.decodes:
            self._wait()
        else:
            self._decode(self._steps_alike() if alike else 1)
        self.leaving, self.leaving_tokens = 0, 0.0
        self._finish()
        self.outcome.timeline.add(start, self.now, load)
        return True

    def _wait(self) -> None:
        """Let time pass until blocks have come from a tier below, or a request comes."""
        self.now = min(self._next_loaded(), max(self._next_coming(), self.now), self.horizon)
        self.scheduled, self.unread = self.now, 0

    def _next_loaded(self) -> float:
        """When the next prompt that waits for blocks has them, in s."""
        return min(
            (one.loaded for one in self.prefilling if one.loaded > self.now), default=math.inf
        )

    def wakes(self) -> float:
        """When it has something to do next, in s; infinite where nothing is there or on its way."""
        return self.now if self.running or self.waiting else max(self.now, self._next_coming())

    def next_answer(self) -> float:
        """When its next last token can come, at the earliest, in s."""
        if not self.decodes or self.waiting or self.prefilling:
            return self.wakes()
        seconds = self.times.decode_seconds(self.decodes, self._mean_context())
        return self.now + (self._next_to_end().end - self.step) * seconds

    def _receive(self) -> bool:
        """Queue what has come; where nothing is to do, wait for the next. False: there is none."""
        if not self.running and not self.waiting:
            self.now = max(self.now, self._next_coming())
        if self.now == math.inf:
            return False
        if not self.running:
            self.scheduled, self.leaving, self.leaving_tokens = self.now, 0, 0.0
            self.unread = 0
        while (sent := self.traffic.next_time()) + self.policy.delay <= self.scheduled:
            self._send(self.traffic.take(), sent)
        while self.coming and self.coming[0].ready <= self.scheduled:
            self.waiting.append(heapq.heappop(self.coming))
        return True

    def _next_coming(self) -> float:
        """When the next request is in the queue, at the earliest: one not sent yet may be without tokens."""
        ready = self.coming[0].ready if self.coming else math.inf
        return min(ready, self.traffic.next_time() + self.policy.delay)

    def _send(self, request: TraceRequest, sent: float) -> None:
        """Let a request go to the queue, or refuse it."""
        number = self.outcome.add(request)
        why = self.policy.refused(request.isl, request.osl)
        if why:
            self.outcome.refusals[why] += 1
            self.traffic.answered(request, request.arrival)
        else:
            ready = sent + self.policy.delay_of(request)
            heapq.heappush(self.coming, Sequence(request, number, ready))

    def _schedule(self) -> tuple[list[Chunk], bool]:
        """Prompts of the next step; and whether those after it are alike, as none was put out."""
        budget = self.policy.max_num_batched_tokens
        if self.policy.separate_prefill:
            chunks = self._prompts(budget)
            return chunks, not chunks and not self._make_capacity()
        put_out = self._make_capacity()
        beside = budget - self.checked * self.decodes
        return self._prompts(beside, admit=not put_out), not put_out

    def _prompts(self, budget: int, admit: bool = True) -> list[Chunk]:
        """Prompts that were begun, then those that are let in, as far as the budget goes."""
        chunks: list[Chunk] = []
        for sequence in self.prefilling:
            budget = self._cut(sequence, budget, chunks)
        while admit and self.waiting and budget > 0 and self._admit(budget):
            started = self.admitted[-1]
            if started.computed < started.target:
                budget = self._cut(started, budget, chunks)
            else:
                budget -= self.checked
        return chunks

    def _cut(self, sequence: Sequence, budget: int, chunks: list[Chunk]) -> int:
        """Put what the budget has of a prompt into the step: the rest of the budget."""
        if sequence.loaded > self.now:
            return budget
        left = sequence.target - sequence.computed
        tokens = min(left, budget) if self.policy.chunked_prefill else left
        if tokens > 0:
            chunks.append(Chunk(sequence, tokens))
        return budget - max(tokens, 0)

    def _admit(self, budget: int) -> bool:
        """Let in the first that waits, if the KV cache and the budget allow it."""
        sequence, policy = self.waiting[0], self.policy
        if self.running + self.leaving >= policy.max_num_seqs:
            return False
        hits = self._hits(sequence.request)
        lower = self._lower_hits(sequence.request, len(hits))
        blocks = len(hits) + len(lower)
        there = max(blocks * BLOCK, int(sequence.kept), sequence.request.prefix_tokens)
        prefilled = policy.prefilled and not sequence.restarts
        cached = sequence.target if prefilled else min(there, sequence.target - 1)
        tokens, private = sequence.target - cached, sequence.target - blocks * BLOCK
        if not policy.chunked_prefill and tokens > budget and self.running:
            return False
        needs = private + policy.kv_per_sequence
        needs += BLOCK * (self.cache.idle_of(hits) + len(lower))
        to_come = self._output_left() + sequence.request.osl - sequence.generated
        reserved = max(policy.admitted_output * to_come, self.checked * self.decodes)
        held = self.used + self.leaving_tokens
        if self.running and held + needs + reserved > policy.kv_capacity:
            return False
        if lower:
            sequence.loaded = self.lower.load(lower, self.now)
        self._let_in(sequence, hits + lower, cached, needs)
        return True

    def _hits(self, request: TraceRequest) -> list[int]:
        """The first blocks of a prompt that are in the cache."""
        if not request.hash_ids:
            return []
        return self.cache.hits(request.hash_ids, request.isl // BLOCK)

    def _lower_hits(self, request: TraceRequest, there: int) -> list[int]:
        """Blocks of a prompt after those in the cache that are in tiers below."""
        if not self.policy.tiers or self.policy.prefilled:
            return []
        own = request.hash_ids[there : request.isl // BLOCK]
        return [one for one in self.lower.found(own) if not self.cache.hits((one,), 1)]

    def _let_in(self, sequence: Sequence, hits: list[int], cached: int, needs: float) -> None:
        self.waiting.popleft()
        if sequence.restarts:
            self.put_out.pop()
        self.cache.use(hits)
        self.used += needs
        self.cache.evict(self.policy.kv_capacity - self.used)
        sequence.shared, sequence.private = hits, sequence.target - len(hits) * BLOCK
        sequence.computed, sequence.running = cached, True
        if sequence.cached < 0:
            sequence.cached, sequence.admitted = cached, self.now
        self.running += 1
        self.output_to_come += sequence.request.osl - sequence.generated
        self.admitted.append(sequence)
        if sequence.computed < sequence.target:
            self.prefilling.append(sequence)
        else:
            self._begin_decoding(sequence)

    def _output_left(self) -> float:
        """Tokens still to come of all that are in."""
        return self.output_to_come - self.decodes * self.step * self.tokens

    def _make_capacity(self) -> bool:
        """Put out those that were let in last until each that decodes has capacity for its next token."""
        put_out = False
        while (
            self.used + self.checked * self.decodes > self.policy.kv_capacity and self.running > 1
        ):
            self._put_out()
            put_out = True
        return put_out

    def _put_out(self) -> None:
        """Take the cache of the one that was let in last, which is then the first to wait."""
        sequence = self.admitted.pop()
        while not sequence.running:
            sequence = self.admitted.pop()
        self.outcome.preemptions += 1
        kept = float(sequence.computed)
        if sequence in self.prefilling:
            self.prefilling.remove(sequence)
            self.output_to_come -= sequence.request.osl - sequence.generated
        else:
            self._stop_decoding(sequence)
            kept += (self.step - sequence.start) * self.tokens
        self._free(sequence)
        sequence.target = sequence.request.isl + sequence.generated
        sequence.computed = 0
        sequence.restarts += 1
        sequence.kept = kept
        self.waiting.appendleft(sequence)
        self.put_out.append(sequence)

    def _steps_alike(self) -> int:
        """Decode steps until a sequence ends, the KV cache is full, or a request comes that may be let in."""
        steps = self._next_to_end().end - self.step
        free = self.policy.kv_capacity - self.used
        steps = min(steps, int(free / (self.decodes * self.checked)))
        if not self.waiting:
            coming = min(self._next_coming(), self.horizon) - self.now
            seconds = self.times.decode_seconds(self.decodes, self._mean_context() + 1)
            until = math.ceil(max(min(coming / seconds, steps), 0.0))
            steps = min(steps, self._steps_until_read(until + self.policy.schedules_ahead))
        elif self.leaving:
            return 1
        if (loaded := self._next_loaded()) < math.inf:
            seconds = self.times.decode_seconds(self.decodes, self._mean_context() + 1)
            steps = min(steps, math.ceil((loaded - self.now) / seconds))
        return max(steps, 1)

    def _steps_until_read(self, steps: int) -> int:
        """Steps until the queue is read, some steps from now or later."""
        steps = max(steps, 1)
        return steps + -(self.unread + steps) % self.policy.read_interval

    def _next_to_end(self) -> Sequence:
        """The sequence whose last token comes first."""
        while True:
            _, _, restarts, sequence = self.decoding[0]
            if sequence.running and sequence.restarts == restarts:
                return sequence
            heapq.heappop(self.decoding)

    def _mean_context(self) -> float:
        """Tokens in the caches of those that decode."""
        return self.context_sum / self.decodes + self.step * self.tokens

    def _decode(self, steps: int) -> None:
        """Decode steps with nothing beside."""
        context = self._mean_context() + self.tokens * (steps + 1) / 2
        self._advance(steps, steps * self.times.decode_seconds(self.decodes, context), steps)

    def _advance(self, steps: int, seconds: float, decoded: int) -> None:
        """Let time pass in which each that decodes gives some tokens."""
        self._read(steps, seconds / steps)
        self.now += seconds
        self.outcome.steps += steps
        self.step += decoded
        self.used += decoded * self.decodes * self.tokens
        self.cache.evict(self.policy.kv_capacity - self.used)
        if self.put_out:
            self._overwrite()

    def _read(self, steps: int, each: float) -> None:
        """The queue is read after each `read_interval` of some steps, of `each` seconds."""
        interval, passed = self.policy.read_interval, self.unread + steps
        if passed >= interval:
            last = steps - passed % interval
            self.scheduled = self.now + each * (last - self.policy.schedules_ahead)
        self.unread = passed % interval

    def _overwrite(self) -> None:
        """Those that were put out keep what no other has taken; the last tokens of the first go first."""
        free = self.policy.kv_capacity - self.used
        for sequence in reversed(self.put_out):
            sequence.kept = max(min(sequence.kept, free), 0.0)
            free -= sequence.kept

    def _step_with(self, chunks: list[Chunk]) -> None:
        """A step with prompts, and beside them those that decode, unless prompts are apart."""
        new = sum(chunk.tokens for chunk in chunks)
        attended = sum(n * (sequence.computed + n / 2) for sequence, n in chunks) / new
        self.unread = self.policy.read_interval - 1
        if self.policy.separate_prefill or not self.decodes:
            self._advance(1, self.times.prompt_seconds(new, attended), 0)
        else:
            load = self.decodes, self._mean_context() + 1
            self._advance(1, self.times.mixed_seconds(*load, new, attended), 1)
        for sequence, tokens in chunks:
            sequence.computed += tokens
            if sequence.computed == sequence.target:
                self._begin_decoding(sequence)
        self.prefilling = [one for one in self.prefilling if one.computed < one.target]

    def _begin_decoding(self, sequence: Sequence) -> None:
        """A prompt is computed and gives a token: its blocks may be read by others."""
        if math.isnan(sequence.first):
            sequence.first = self.now
        if sequence.request.hash_ids:
            self._publish(sequence)
        self.output_to_come -= sequence.request.osl - sequence.generated
        sequence.generated += 1
        sequence.start = self.step
        left = sequence.request.osl - sequence.generated
        sequence.end = self.step + self.policy.speculation.steps_for(left, self.random)
        self.decodes += 1
        self.context_sum += sequence.target - sequence.start * self.tokens
        self.output_to_come += sequence.end * self.tokens
        heapq.heappush(self.decoding, (sequence.end, sequence.number, sequence.restarts, sequence))

    def _publish(self, sequence: Sequence) -> None:
        """Let others read the whole blocks of a prompt, of those that are not there already."""
        request = sequence.request
        own = request.hash_ids[len(sequence.shared) : request.isl // BLOCK]
        for block in own:
            if not self.cache.hits((block,), 1):
                self.cache.use([block])
                sequence.shared.append(block)
                sequence.private -= BLOCK

    def _stop_decoding(self, sequence: Sequence) -> None:
        decoded = (self.step - sequence.start) * self.tokens
        sequence.generated = min(sequence.generated + round(decoded), sequence.request.osl - 1)
        sequence.private += decoded
        self.decodes -= 1
        self.context_sum -= sequence.target - sequence.start * self.tokens
        self.output_to_come -= sequence.end * self.tokens

    def _free(self, sequence: Sequence) -> None:
        """Give its part of the KV cache back; blocks that others may read stay as long as they can."""
        self.used -= sequence.private + self.policy.kv_per_sequence
        self.used -= BLOCK * self.cache.release(sequence.shared)
        sequence.shared, sequence.running = [], False
        self.running -= 1

    def _finish(self) -> None:
        """Let go of those that are answered."""
        while self.decodes and (sequence := self._next_to_end()).end <= self.step:
            self._stop_decoding(sequence)
            before = self.used
            self._free(sequence)
            if self.policy.schedules_ahead:
                self.leaving += 1
                self.leaving_tokens += before - self.used
            self.outcome.finish(sequence, self.now)
            self.traffic.answered(sequence.request, self.now)
        if len(self.admitted) > 2 * self.running + MAX_LEFT:
            self.admitted = [one for one in self.admitted if one.running]


MAX_LEFT = 1024
"""Sequences that have left before they are taken off the list of those that were let in."""
