"""Q7: what binds prompts and decode steps, and are attention and feed-forward different machines?"""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, share, show
from perfmodel.studies.machines import Load, Machine, Observation, Question, observe, served

MODEL, SPARSE = "llama-3.1-70b", "gpt-oss-120b"
CONTEXT = 4096.0
USERS = tuple(2.0**i for i in range(11))

MACHINES = [
    (served("H100", 8), MODEL),
    (served("B200", 8), MODEL),
    (served("WSE-3", 1, 16), MODEL),
    (served("LPU v1", 8, 80), MODEL),
    (Machine("H100", "h100-sxm", 8), SPARSE),
]

READS = ("memory", "sram")
PRODUCTS = ("projection", "output", "up", "down", "experts")
"""Kernels that multiply with weights."""


def read(shares: dict[str, float]) -> float:
    """Share of a time that is reading."""
    return sum(shares[name] for name in READS)


def products(seen: Observation) -> tuple[float, float]:
    """Parts of the seconds of products with weights: of arithmetic, and of reading.

    Both go on at once; the longer one's part is larger, by the fourth power.
    """
    there = [label for label in seen.kernels if label in PRODUCTS]
    return (
        sum(seen.kernels[n] * seen.kernel_bounds[n]["compute"] for n in there),
        sum(seen.kernels[n] * read(seen.kernel_bounds[n]) for n in there),
    )


def critical(found: list[Observation]) -> float:
    """Users from which on products with weights compute longer than they read; infinite if never."""
    for seen in found:
        arithmetic, read_ = products(seen)
        if arithmetic > read_:
            return seen.asked.load.concurrency
    return float("inf")


class Groups(NamedTuple):
    """What each of `MACHINES` does, at every number of users."""

    h100: list[Observation]
    b200: list[Observation]
    wafer: list[Observation]
    lpu: list[Observation]
    sparse: list[Observation]

    @property
    def marks(self) -> list[float]:
        """Users from which on products compute, for each machine."""
        return [critical(group) for group in self]

    @property
    def waits(self) -> tuple[float, float, float]:
        """Share of one user's step that waits, on H100, wafers and LPUs."""
        return self.h100[0].waits, self.wafer[0].waits, self.lpu[0].waits


def groups(progress: Progress) -> Groups:
    """Every machine with every number of users."""
    asked = [Question(m, model, Load(u, CONTEXT, 1.0)) for m, model in MACHINES for u in USERS]
    seen = observe(asked, progress)
    return Groups(*(seen[i : i + len(USERS)] for i in range(0, len(seen), len(USERS))))


def reading(found: Groups) -> np.ndarray:
    """Draws in which reading is most of a step on every machine: one user, and 32 on H100."""
    drawn, held = Draws(), []
    for one in (found.h100[0], found.h100[5], found.b200[0], found.wafer[0], found.lpu[0]):
        factor = drawn.factor(one.interval)
        # What a prediction is off by is taken to be waiting: reads and products are counted.
        longer = read(one.bounds) > one.waits + factor - 1
        held.append((read(one.bounds) > one.bounds["compute"]) & longer)
    return np.all(held, axis=0)


def run(progress: Progress) -> Answer:
    found = groups(progress)
    prompt = found.h100[0].prompt_bounds
    return Answer(
        _said(found),
        share(reading(found) * float(prompt["compute"] > read(prompt))),
        "Counts are exact; what times are off by is taken to be waiting, and drawn from the fit's interval.",
        _table(found),
        _figure(found),
        _numbers(found),
    )


def _said(found: Groups) -> str:
    prompt, alone, marks = found.h100[0].prompt_bounds, found.waits, found.marks
    sparse = f"and {_mark(marks[4])} for the sparse gpt-oss-120b"
    attention = read(found.h100[-1].kernel_bounds["attention"])
    return (
        f"On eight H100 a prompt of {CONTEXT:,.0f} tokens computes {show(100 * prompt['compute'])} % of its "
        f"time and reads {show(100 * read(prompt))} %. One user's decode step waits: "
        f"{show(100 * alone[0])} % on H100, {show(100 * alone[1])} % on wafers, {show(100 * alone[2])} % on "
        f"LPUs. Products with weights turn from reading to computing at {_mark(marks[0])} users on H100 "
        f"{sparse}, at {_mark(marks[2])} on wafers, while attention always reads "
        f"({show(100 * attention)} % at {USERS[-1]:,.0f} users)."
    )


def _numbers(found: Groups) -> dict[str, float]:
    machines = ("h100", "b200", "wafer", "lpu", "sparse")
    marks = dict(zip(machines, found.marks, strict=True))
    alone = zip(("h100", "wafer", "lpu"), found.waits, strict=True)
    return (
        {"prompt_compute_share": found.h100[0].prompt_bounds["compute"]}
        | {f"critical_users_{name}": mark for name, mark in marks.items() if name != "lpu"}
        | {f"wait_share_{name}": part for name, part in alone}
    )


def _mark(users: float) -> str:
    return f"{users:,.0f}" if np.isfinite(users) else f"more than {USERS[-1]:,.0f}"


def _table(found: Groups) -> Table:
    names = ["machine", "model", "users", "reads %", "computes %", "waits %"]
    names += ["attention reads %", "prompt computes %", "products compute from users"]
    rows = []
    for group, mark in zip(found, found.marks, strict=True):
        rows += [(*_row(one), _mark(mark)) for one in group[::5]]
    return Table(names, rows)


def _row(one: Observation) -> tuple[Any, ...]:
    """A machine with some users, and shares of its times in per cent."""
    rest = 1 - read(one.bounds) - one.bounds["compute"] - one.bounds["exponential"]
    shares = (read(one.bounds), one.bounds["compute"], rest)
    others = (read(one.kernel_bounds["attention"]), one.prompt_bounds["compute"])
    row = (one.asked.machine.name, one.asked.model, int(one.asked.load.concurrency))
    return *row, *(100 * s for s in (*shares, *others))


def _figure(found: Groups) -> Figure:
    rows = []
    for group in found:
        one = group[0].asked
        name = one.machine.name if one.model == MODEL else f"{one.machine.name}, sparse"
        for seen in group:
            arithmetic, read_ = products(seen)
            part = 100 * arithmetic / max(arithmetic + read_, 1e-12)
            rows.append({"users": seen.asked.load.concurrency, "part": part, "machine": name})
    return Figure(
        "Products with weights: from reading to computing",
        "lines",
        Axis("users", "users of a machine", "users", log=True),
        Axis("part", "part of arithmetic, beside reading", "%"),
        Axis("machine", "machine"),
        rows,
        rule=50.0,
    )
