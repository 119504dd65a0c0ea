"""A serving engine's scheduler written plainly: one step at a time, every sum anew, nothing kept beside.

What `perfmodel.inference.scheduler` takes together and adds up as it goes is counted here from the sequences
themselves. Without tiers and shared blocks; drafts always hold or there are none.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from perfmodel.inference.scheduler import Policy, TraceRequest
from perfmodel.inference.step_times import StepTimes


@dataclass
class Served:
    """A request, and what became of it."""

    request: TraceRequest
    ready: float
    prompt_left: int = 0
    cache: float = 0.0
    given: int = 0
    again: int = 0
    kept: float = 0.0
    admitted: float = math.nan
    first: float = math.nan
    end: float = math.nan
    cached: float = math.nan

    @property
    def to_come(self) -> int:
        return self.request.osl - self.given


@dataclass
class PlainEngine:
    """Requests that are sent whatever is open, through a policy."""

    times: StepTimes
    policy: Policy
    requests: list[TraceRequest]
    now: float = 0.0
    read_until: float = 0.0
    unread: int = 0
    steps: int = 0
    preemptions: int = 0
    gone: list[float] = field(default_factory=list)
    running: list[Served] = field(default_factory=list)
    waiting: list[Served] = field(default_factory=list)

    def run(self) -> list[Served]:
        """Each request that is not refused, as it was served."""
        policy = self.policy
        every = [Served(one, one.arrival + policy.delay_of(one)) for one in self.requests
                 if not policy.refused(one.isl, one.osl)]  # fmt: skip
        coming = sorted(every, key=lambda one: one.ready)
        while coming or self.waiting or self.running:
            if not self.running and not self.waiting:
                self.now = max(self.now, coming[0].ready)
            if not self.running:
                self.read_until, self.unread, self.gone = self.now, 0, []
            while coming and coming[0].ready <= self.read_until:
                self.waiting.append(coming.pop(0))
            self.step()
        return every

    @property
    def decoding(self) -> list[Served]:
        return [one for one in self.running if not one.prompt_left]

    @property
    def per_step(self) -> int:
        return 1 + int(self.policy.speculation.drafts)

    @property
    def used(self) -> float:
        return sum(one.cache + self.policy.kv_per_sequence for one in self.running)

    def step(self) -> None:
        """One step: of prompts, of those that decode, or of both."""
        separate, budget = self.policy.separate_prefill, self.policy.max_num_batched_tokens
        put_out = False if separate else self.make_room()
        beside = budget if separate else budget - self.per_step * len(self.decoding)
        decoding = list(self.decoding)
        chunks = self.prompts(beside, admit=not put_out)
        if separate and not chunks:
            self.make_room()
        begun = [one for one in self.decoding if one not in decoding]
        decoding = [one for one in decoding if one in self.running] + begun
        if not self.running:
            return
        self.pass_time(chunks, [] if separate and chunks else decoding)

    def make_room(self) -> bool:
        """Put out the last let in until each that decodes has room for its next tokens."""
        before = self.preemptions
        policy = self.policy
        while len(self.running) > 1 and (
            self.used + self.per_step * len(self.decoding) > policy.kv_capacity
        ):
            last = self.running.pop()
            last.kept = last.cache if not last.prompt_left else last.cache - last.prompt_left
            last.again, last.cache, last.prompt_left = last.again + 1, 0.0, 0
            self.waiting.insert(0, last)
            self.preemptions += 1
        return self.preemptions > before

    def prompts(self, budget: float, admit: bool) -> list[tuple[Served, int]]:
        """Prompts of a step: begun ones first."""
        chunks: list[tuple[Served, int]] = []
        for one in [one for one in self.running if one.prompt_left]:
            budget -= self.cut(one, budget, chunks)
        while admit and self.waiting and budget > 0 and self.let_in(budget):
            one = self.running[-1]
            budget -= self.cut(one, budget, chunks) if one.prompt_left else self.per_step
        return chunks

    def cut(self, one: Served, budget: float, chunks: list[tuple[Served, int]]) -> int:
        tokens = (
            min(one.prompt_left, int(budget)) if self.policy.chunked_prefill else one.prompt_left
        )
        if tokens <= 0:
            return 0
        chunks.append((one, tokens))
        return tokens

    def let_in(self, budget: float) -> bool:
        one, policy = self.waiting[0], self.policy
        if len(self.running) + len(self.gone) >= policy.max_num_seqs:
            return False
        length = one.request.isl + one.given
        cached = min(max(int(one.kept), one.request.prefix_tokens), length - 1)
        if not policy.chunked_prefill and length - cached > budget and self.running:
            return False
        to_come = one.to_come + sum(other.to_come for other in self.running)
        to_come += sum(self.past_end(other) for other in self.decoding)
        reserve = max(policy.admitted_output * to_come, self.per_step * len(self.decoding))
        held = self.used + sum(self.gone) + length + policy.kv_per_sequence
        if self.running and held + reserve > policy.kv_capacity:
            return False
        one.cache, one.prompt_left = length, length - cached
        if math.isnan(one.admitted):
            one.admitted, one.cached = self.now, cached
        self.running.append(self.waiting.pop(0))
        return True

    def past_end(self, one: Served) -> int:
        """Tokens that the last step gives beyond the last that is asked."""
        return -one.to_come % self.per_step

    def pass_time(self, chunks: list[tuple[Served, int]], decoding: list[Served]) -> None:
        new, interval = sum(n for _, n in chunks), self.policy.read_interval
        context = np.mean([one.cache for one in decoding]) if decoding else 0.0
        load = len(decoding), float(context)
        ahead = self.policy.schedules_ahead
        if chunks:
            reach = [one.cache - one.prompt_left + n / 2 for one, n in chunks]
            attended = float(np.dot(reach, [n for _, n in chunks])) / new
            seconds = self.times.prompt_seconds(new, attended)
            if decoding:
                seconds = self.times.mixed_seconds(load[0], load[1] + 1, new, attended)
            self.unread = interval - 1
        else:
            seconds = self.times.decode_seconds(load[0], load[1] + self.per_step)
        self.unread += 1
        if self.unread >= interval:
            self.read_until, self.unread = self.now + (0 if ahead else seconds), 0
        self.now += seconds
        self.steps += 1
        self.gone = []
        for one in decoding:
            one.given, one.cache = one.given + self.per_step, one.cache + self.per_step
        for one, tokens in chunks:
            one.prompt_left -= tokens
            if not one.prompt_left:
                one.given += 1
                one.first = self.now if math.isnan(one.first) else one.first
        self.keep()
        for one in [one for one in self.decoding if one.to_come <= 0]:
            one.end = self.now
            self.running.remove(one)
            if ahead:
                self.gone.append(one.cache + self.policy.kv_per_sequence)

    def keep(self) -> None:
        """Those that were put out keep what no other has taken."""
        free = self.policy.kv_capacity - self.used
        for one in self.waiting:
            if one.again:
                one.kept = max(min(one.kept, free), 0.0)
                free -= one.kept
