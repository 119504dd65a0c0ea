"""`perfmodel quickstart`: one question, answered with tables and pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.columns import Values, as_cells, is_empty
from perfmodel.design.report import SearchReport, areas
from perfmodel.design.report import as_dict as report_dict
from perfmodel.design.run import search_study
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE
from perfmodel.design.starting_points import grid_best
from perfmodel.design.study import (
    ConstraintsTable,
    Larger,
    ObjectiveTable,
    OptimiserTable,
    Study,
    WorkloadTable,
)
from perfmodel.inference.explanation import Step, step_cost
from perfmodel.inference.serving_predictions import PLAN, predict_values
from perfmodel.interface.pages.page import usd_note
from perfmodel.interface.plots import breakdown, floorplans, save
from perfmodel.interface.plots.steps import step_rooflines
from perfmodel.library.fitted import FITTED
from perfmodel.units import figures

STEPS = 8


class Machine(NamedTuple):
    """A system that serves the model: what it is called, its chips and formats."""

    name: str
    cells: dict[str, str]


COMMON = {"model": "llama-3.1-70b", "isl": "4096", "osl": "256"}

MACHINES = [
    Machine(
        "8 x H100", {"chip": "h100-sxm", "n_chips": "8", "precision": "fp8", "kv_precision": "fp8"}
    ),
    Machine(
        "8 x B200", {"chip": "b200-sxm", "n_chips": "8", "precision": "fp8", "kv_precision": "fp8"}
    ),
    Machine("4 x WSE-3", {"chip": "wse-3", "n_chips": "4", "precision": "bf16"}),
    Machine("576 x LPU v1", {"chip": "lpu-v1", "n_chips": "576", "tp": "8", "precision": "int8"}),
]
"""Each in the format its vendor serves; as many wafers as hold eight users, and the LPUs of Groq's system."""

BATCHES = ("1", "8")

NAMES = [
    "machine",
    "users",
    "tokens/s/user",
    "90 % range",
    "TPOT (ms)",
    "bound by",
    "USD/M tokens",
    "cost basis",
    "J/token",
]
NAMES_OF_DESIGNS = ["goal", "SRAM", "SRAM rate", "HBM", "bf16", "die", "reached", "best of a grid"]

CAVEATS = (
    "Fitted: the kernels of H100 and B200.",
    "WSE-3 and LPU v1 rest on a few published speeds; their ranges say so.",
)


class Answer(NamedTuple):
    """Rows of both tables, columns of the predictions of machines, sentences, and the pictures written."""

    machines: list[tuple[str, ...]]
    predicted: Values
    designs: tuple[list[str], list[tuple[str, ...]]]
    said: list[str]
    pictures: list[Path]


def run(out: Path, progress: Callable[..., None]) -> Answer:
    """Answer the question and draw it.

    **Raises:**

    - `InputError`: when pictures cannot be drawn or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress(0, STEPS, "serving")
    found = predict_machines()
    rows = [_machine_row(*case, found, i) for i, case in enumerate(CASES)]
    steps = []
    for i, machine in enumerate(MACHINES):
        progress(1 + i, STEPS, f"kernels of {machine.name}")
        steps.append(step_cost(machine.cells | COMMON | _plan(found, 2 * i), FITTED))
    progress(5, STEPS, "searching")
    chips = search_chips()
    progress(7, STEPS, "drawing")
    pictures = _draw(out, steps, chips)
    designs = (
        NAMES_OF_DESIGNS,
        [_design_row(*one) for one in zip(GOALS, chips, strict=True)],
    )
    return Answer(rows, found, designs, _said(rows, found, chips), pictures)


def as_dict(answer: Answer) -> dict[str, Any]:
    """For JSON."""
    names, designs = answer.designs
    return {
        "machines": [
            dict(zip(NAMES, row, strict=True)) | _numbers(answer.predicted, i)
            for i, row in enumerate(answer.machines)
        ],
        "designs": [dict(zip(names, row, strict=True)) for row in designs],
        "said": [*answer.said, *CAVEATS, usd_note()],
        "pictures": [str(path) for path in answer.pictures],
    }


NUMERIC_COLUMNS = (
    "n_chips",
    "output_tokens_per_s_per_chip",
    "usd_per_million_output_tokens",
    "usd_per_chip_hour",
)
"""Columns of the predictions that JSON has as numbers."""


def _numbers(predicted: Values, place: int) -> dict[str, float | None]:
    values = {name: predicted[name][place] for name in NUMERIC_COLUMNS}
    return {name: None if is_empty(one) else float(one) for name, one in values.items()}


CASES = [(machine, batch) for machine in MACHINES for batch in BATCHES]
"""Every machine with every batch."""


def predict_machines() -> Values:
    """Predicted columns of `CASES`."""
    names = {name for machine in MACHINES for name in machine.cells}
    cells = {name: [machine.cells.get(name, "") for machine, _ in CASES] for name in names}
    cells |= {name: [value] * len(CASES) for name, value in COMMON.items()}
    cells["concurrency"] = [batch for _, batch in CASES]
    return predict_values(cells, len(CASES), FITTED)


def _machine_row(machine: Machine, batch: str, found: Values, i: int) -> tuple[str, ...]:
    slow, fast = (1e3 / float(found[f"tpot_ms_{end}"][i]) for end in ("high", "low"))
    values = {column: found[column][i] for column in found}
    price, joules = values["usd_per_million_output_tokens"], values["joules_per_output_token"]
    room = float(batch if is_empty(values["running"]) else values["running"])
    return (
        machine.name,
        batch if room >= float(batch) else f"{batch}, {room:,.0f} running",
        f"{float(values['output_tokens_per_s_per_user']):,.0f}",
        f"{slow:,.0f} to {fast:,.0f}",
        f"{float(values['tpot_ms']):.2f}",
        str(values["bound"]) if values["fits"] == "true" else "does not fit",
        "not known" if is_empty(price) else f"{float(price):,.2f}",
        str(values["cost_basis"]),
        "not known" if is_empty(joules) else f"{float(joules):,.2f}",
    )


def _plan(found: Values, place: int) -> dict[str, str]:
    return {name: as_cells(found[name])[place] for name in PLAN}


class Goal(NamedTuple):
    """What a searched chip is for: its name, the objective and its unit, the batch."""

    name: str
    objective: Larger
    unit: str
    batch: float


GOALS = [
    Goal("one user, fast", "tokens_per_s_per_user", "tokens/s/user", 1),
    Goal("64 users, cheap", "tokens_per_s_per_mm2", "tokens/s/mm2", 64),
]


AREA = 814.0
"""Of the H100's die, in mm2."""


def _study(goal: Goal) -> Study:
    return Study(
        objective=ObjectiveTable(maximise=goal.objective),
        constraints=ConstraintsTable(area_mm2=AREA, power_w=700),
        workload=[WorkloadTable(model="llama-3.1-70b", batch=goal.batch, context=4096, chips=8)],
        optimiser=OptimiserTable(starts=64),
    )


def search_chips() -> list[SearchReport]:
    """Both chips; both goals are one problem with other weights, compiled once."""
    return [search_study(_study(goal)) for goal in GOALS]


def _design_row(goal: Goal, found: SearchReport) -> tuple[str, ...]:
    report = report_dict(found)
    parts = report["best"]
    on_grid, _ = grid_best(found.problem, found.space.integer, CONSTRAINT_TOLERANCE)
    return (
        goal.name,
        f"{parts['sram_mb']:,.0f} MB",
        f"{parts['sram_tb_per_s']:,.0f} TB/s",
        f"{parts['stacks']:.0f} stacks",
        f"{parts['tflops']:,.0f} TFLOP/s",
        f"{report['chips'][0]['area_mm2']:,.0f} mm2",
        f"{figures(report['objective'])} {goal.unit}",
        figures(found.objective(on_grid)),
    )


def _said(rows: list[tuple[str, ...]], predicted: Values, chips: list[SearchReport]) -> list[str]:
    """The answer in sentences."""
    speeds, prices = (
        predicted[name]
        for name in ("output_tokens_per_s_per_user", "usd_per_million_output_tokens")
    )
    alone = [i for i, (_, batch) in enumerate(CASES) if batch == "1"]
    fastest = rows[max(alone, key=lambda i: float(speeds[i]))]
    cheapest = rows[
        min((i for i in alone if not is_empty(prices[i])), key=lambda i: float(prices[i]))
    ]
    best = chips[0].space.in_study_units(chips[0].best.unit)
    sram, stacks = (best[name] for name in ("sram_mb", "stacks"))
    return [
        f"For one user {fastest[0]} is fastest ({fastest[2]} tokens/s, bound by {fastest[5]}), and "
        f"{cheapest[0]} cheapest ({cheapest[6]} USD per million tokens).",
        f"For one user the gradient puts {sram:,.0f} MB of SRAM beside {stacks:.0f} stacks of HBM on the "
        "H100's area: the weights of eight chips do not fit in SRAM, so memory bandwidth pays best.",
    ]


def _draw(out: Path, steps: list[Step], chips: list[SearchReport]) -> list[Path]:
    named = [(machine.name, step) for machine, step in zip(MACHINES, steps, strict=True)]
    bars = [(name, 1e3 * step.cost.breakdown.by_bound()) for name, step in named]
    title = "Llama-3.1-70B, one user: where the time of a token goes"
    charts = {
        "breakdown.png": breakdown(bars, title),
        "roofline.png": step_rooflines(named, "Kernels of a decode step, one user"),
        "design.png": floorplans(_plans(chips), "The searched chips, on the H100's area"),
    }
    for name, chart in charts.items():
        save(chart, out / name)
    return [out / name for name in charts]


H100 = {"sram_mb": 50e6, "sram_tb_per_s": 5.5e12, "stacks": 6.0, "tflops": 989e12}
"""As built, with six sites for HBM (NVIDIA H100 whitepaper, 2022; the rate of its L2 is measured)."""


def _plans(chips: list[SearchReport]) -> list[tuple[str, dict[str, float]]]:
    """How the dies of the H100 and of the searched chips are spent, by the same model, in mm2."""
    problem = chips[0].problem
    h100 = np.array([np.log(H100[name]) for name in problem.names])
    dies = {"H100, modelled": areas(problem, h100)}
    for goal, chip in zip(GOALS, chips, strict=True):
        dies[goal.name] = areas(problem, chip.best_logarithms)
    return [
        (name, parts | {"unused": max(AREA - sum(parts.values()), 0.0)})
        for name, parts in dies.items()
    ]
