"""Q7: what binds prompts and decode steps, and are attention and feed-forward different machines?"""

import numpy as np

from perfmodel.studies.answer import Answer, Axis, Figure, Progress, Study, Table, show
from perfmodel.studies.draws import Draws, share
from perfmodel.studies.machines import Asked, Load, Machine, Seen, observe, time_interval

MODEL, SPARSE = "llama-3.1-70b", "gpt-oss-120b"
CONTEXT = 4096.0
USERS = tuple(2.0**i for i in range(11))

MACHINES = [
    (Machine("H100", "h100-sxm", 8, weights="fp8", cache="fp8"), MODEL),
    (Machine("B200", "b200-sxm", 8, weights="fp8", cache="fp8"), MODEL),
    (Machine("WSE-3", "wse-3", 1, 16, weights="bf16"), MODEL),
    (Machine("LPU v1", "lpu-v1", 8, 80, weights="int8"), MODEL),
    (Machine("H100", "h100-sxm", 8), SPARSE),
]

READS = ("memory", "sram")
PRODUCTS = ("projection", "output", "up", "down", "experts")
"""Kernels that multiply with weights."""


def read(shares: dict[str, float]) -> float:
    """Share of a time that is reading."""
    return sum(shares[name] for name in READS)


def products(seen: Seen) -> tuple[float, float]:
    """Parts of the seconds of products with weights: of arithmetic, and of reading.

    Both go on at once; the longer one's part is larger, by the fourth power.
    """
    there = [label for label in seen.kernels if label in PRODUCTS]
    return (
        sum(seen.kernels[n] * seen.kernel_bounds[n]["compute"] for n in there),
        sum(seen.kernels[n] * read(seen.kernel_bounds[n]) for n in there),
    )


def critical(found: list[Seen]) -> float:
    """Users from which on products with weights compute longer than they read; infinite if never."""
    for seen in found:
        arithmetic, reading = products(seen)
        if arithmetic > reading:
            return seen.asked.load.users
    return float("inf")


def run(progress: Progress) -> Answer:
    asked = [Asked(m, model, Load(u, CONTEXT, 1.0)) for m, model in MACHINES for u in USERS]
    seen = observe(asked, progress)
    groups = [seen[i : i + len(USERS)] for i in range(0, len(seen), len(USERS))]
    gpu, wafer, lpu = groups[0], groups[2], groups[3]
    marks = [critical(group) for group in groups]
    drawn, held = Draws(), []
    for one in (gpu[0], gpu[5], groups[1][0], wafer[0], lpu[0]):
        factor = drawn.factor(time_interval(one.asked.machine, one.asked.model))
        # What a prediction is off by is taken to be waiting: reads and products are counted.
        waits = one.bounds["latency"] + one.bounds["network"] + factor - 1
        held.append((read(one.bounds) > one.bounds["compute"]) & (read(one.bounds) > waits))
    waits = [one.bounds["latency"] + one.bounds["network"] for one in (gpu[0], wafer[0], lpu[0])]
    computes = gpu[0].prompt_bounds["compute"]
    reads = read(gpu[0].prompt_bounds)
    sparse = f"and {_mark(marks[4])} for the sparse gpt-oss-120b"
    said = (
        f"On eight H100 a prompt of {CONTEXT:,.0f} tokens computes {show(100 * computes)} % of its time and "
        f"reads {show(100 * reads)} %. One user's decode step waits: {show(100 * waits[0])} % on H100, "
        f"{show(100 * waits[1])} % on wafers, {show(100 * waits[2])} % on LPUs. Products with weights turn "
        f"from reading to computing at {_mark(marks[0])} users on H100 {sparse}, at {_mark(marks[2])} on "
        f"wafers, while attention always reads ({show(100 * read(gpu[-1].kernel_bounds['attention']))} % at "
        f"{USERS[-1]:,.0f} users)."
    )
    return Answer(
        said,
        share(np.stack(held).all(axis=0) * float(computes > reads)),
        "Counts are exact; what times are off by is taken to be waiting, and drawn from the fit's interval.",
        _table(groups, marks),
        _figure(groups),
        (
            "Eight GPUs share a step: on one the reads are eight times longer and the waiting is as long.",
            "On wafers every layer is a stage of its own, so a batch is cut into as many parts as layers.",
            "Arithmetic includes the power limit, at which a chip slows down.",
        ),
        {
            "prompt_compute_share": computes,
            "critical_users_h100": marks[0],
            "critical_users_b200": marks[1],
            "critical_users_wafer": marks[2],
            "critical_users_sparse": marks[4],
            "wait_share_h100": waits[0],
            "wait_share_wafer": waits[1],
            "wait_share_lpu": waits[2],
        },
    )


def _mark(users: float) -> str:
    return f"{users:,.0f}" if np.isfinite(users) else f"more than {USERS[-1]:,.0f}"


def _table(groups: list[list[Seen]], marks: list[float]) -> Table:
    names = ["machine", "model", "users", "reads %", "computes %", "waits %"]
    names += ["attention reads %", "prompt computes %", "products compute from users"]
    rows = []
    for group, mark in zip(groups, marks, strict=True):
        for one in group[::5]:
            waits = 1 - read(one.bounds) - one.bounds["compute"] - one.bounds["exponential"]
            shares = (read(one.bounds), one.bounds["compute"], waits)
            rest = (read(one.kernel_bounds["attention"]), one.prompt_bounds["compute"])
            row = (one.asked.machine.name, one.asked.model, int(one.asked.load.users))
            rows.append((*row, *(100 * s for s in (*shares, *rest)), _mark(mark)))
    return Table(names, rows)


def _figure(groups: list[list[Seen]]) -> Figure:
    rows = []
    for group in groups:
        one = group[0].asked
        name = one.machine.name if one.model == MODEL else f"{one.machine.name}, sparse"
        for seen in group:
            arithmetic, reading = products(seen)
            part = 100 * arithmetic / max(arithmetic + reading, 1e-12)
            rows.append({"users": seen.asked.load.users, "part": part, "machine": name})
    return Figure(
        "Products with weights: from reading to computing",
        "lines",
        Axis("users", "users of a machine", "users", log=True),
        Axis("part", "part of arithmetic, beside reading", "%"),
        Axis("machine", "machine"),
        rows,
        rule=50.0,
    )


STUDY = Study(
    name="bounds",
    question="Q7",
    title="What binds prompts and decode steps?",
    claim="Prefill is compute-bound and decode memory-bound; attention and feed-forward are separate pools.",
    source="podcast notes on Cerebras and Groq; Stratechery, The Inference Shift, 2026-05",
    test="a prompt computes longer than it reads; reading is most of a step of one user on every machine",
    seconds=40,
    run=run,
)
