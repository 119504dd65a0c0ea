"""`perfmodel quickstart`: one question, answered with tables and pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.columns import Columns, Value, as_cells, is_empty
from perfmodel.design.report import SearchReport, areas
from perfmodel.design.report import as_dict as report_dict
from perfmodel.design.run import search_study
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE
from perfmodel.design.starting_points import grid_best
from perfmodel.design.study import Study
from perfmodel.inference.explanation import step_cost
from perfmodel.inference.serving_predictions import PLAN, predict_values
from perfmodel.interface.pages.page import usd_note
from perfmodel.interface.plots.bars import breakdown, floorplans
from perfmodel.interface.plots.steps import NamedSteps, step_rooflines
from perfmodel.interface.plots.theme import save
from perfmodel.interface.tables import Table, table_of
from perfmodel.library.fitted import FITTED
from perfmodel.units import figures

STEPS = 8


COMMON = {"model": "llama-3.1-70b", "isl": "4096", "osl": "256"}
FP8 = {"precision": "fp8", "kv_precision": "fp8"}

MACHINES = {
    "8 x H100": {"chip": "h100-sxm", "n_chips": "8", **FP8},
    "8 x B200": {"chip": "b200-sxm", "n_chips": "8", **FP8},
    "4 x WSE-3": {"chip": "wse-3", "n_chips": "4", "precision": "bf16"},
    "576 x LPU v1": {"chip": "lpu-v1", "n_chips": "576", "tp": "8", "precision": "int8"},
}
"""Each in the format its vendor serves; as many wafers as hold eight users, and the LPUs of Groq's system."""

BATCHES = ("1", "8")

CAVEATS = (
    "Fitted: the kernels of H100 and B200.",
    "WSE-3 and LPU v1 rest on a few published speeds; their ranges say so.",
)

USD = (
    "USD are of owning the machines (cost basis owner: chips, host, network, site, electricity), busy all "
    "the time; --json says what is in them."
)
"""What USD are of, for a terminal."""

NEXT = (
    "Next: perfmodel recommend --model llama-3.3-70b --chip b200-sxm --n-chips 8 --isl 4096 --osl 512 "
    "--ttft-ms 2000 --tpot-ms 25"
)
"""What to ask after it."""


class Answer(NamedTuple):
    """Both tables, columns of the predictions of machines, sentences, and the pictures written."""

    machines: Table
    predicted: Columns
    designs: Table
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
    for i, (name, cells) in enumerate(MACHINES.items()):
        progress(1 + i, STEPS, f"kernels of {name}")
        steps.append((name, step_cost(cells | COMMON | _plan(found, 2 * i), FITTED)))
    progress(5, STEPS, "searching")
    chips = search_chips()
    progress(7, STEPS, "drawing")
    designs = [_design_row(*one) for one in zip(GOALS, chips, strict=True)]
    return Answer(
        table_of("Llama-3.1-70B, 4,096 tokens of context, decoding", rows),
        found,
        table_of(
            "A chip of the H100's area and power, eight of them, searched by gradient", designs
        ),
        _said(rows, found, chips),
        _draw(out, steps, chips),
    )


def as_dict(answer: Answer) -> dict[str, Any]:
    """For JSON."""
    rows = enumerate(answer.machines.records())
    return {
        "machines": [row | _numbers(answer.predicted, i) for i, row in rows],
        "designs": answer.designs.records(),
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


def _numbers(predicted: Columns, place: int) -> dict[str, float | None]:
    values = {name: predicted[name][place] for name in NUMERIC_COLUMNS}
    return {name: None if is_empty(one) else float(one) for name, one in values.items()}


CASES = [(machine, batch) for machine in MACHINES for batch in BATCHES]
"""Every machine with every batch."""


def predict_machines() -> Columns:
    """Predicted columns of `CASES`."""
    rows = [COMMON | MACHINES[name] | {"concurrency": batch} for name, batch in CASES]
    names = dict.fromkeys(name for row in rows for name in row)
    cells = {name: [row.get(name, "") for row in rows] for name in names}
    return predict_values(cells, len(CASES), FITTED)


def _machine_row(name: str, batch: str, found: Columns, i: int) -> dict[str, str]:
    values = {column: found[column][i] for column in found}
    slow, fast = (1e3 / float(values[f"tpot_ms_{end}"]) for end in ("high", "low"))
    room = float(batch if is_empty(values["running"]) else values["running"])
    return {
        "machine": name,
        "users": batch if room >= float(batch) else f"{batch}, {room:,.0f} running",
        "tokens/s/user": f"{float(values['output_tokens_per_s_per_user']):,.0f}",
        "90 % range": f"{slow:,.0f} to {fast:,.0f}",
        "TPOT (ms)": f"{float(values['tpot_ms']):.2f}",
        "bound by": str(values["bound"]) if values["fits"] == "true" else "does not fit",
        "USD/M tokens": _known(values["usd_per_million_output_tokens"]),
        "cost basis": str(values["cost_basis"]),
        "J/token": _known(values["joules_per_output_token"]),
    }


def _known(value: Value) -> str:
    return "not known" if is_empty(value) else f"{float(value):,.2f}"


def _plan(found: Columns, place: int) -> dict[str, str]:
    return {name: as_cells(found[name])[place] for name in PLAN}


class Goal(NamedTuple):
    """What a searched chip is for: its name, the objective and its unit, the batch."""

    name: str
    objective: str
    unit: str
    batch: float


GOALS = [
    Goal("one user, fast", "tokens_per_s_per_user", "tokens/s/user", 1),
    Goal("64 users, cheap", "tokens_per_s_per_mm2", "tokens/s/mm2", 64),
]


AREA = 814.0
"""Of the H100's die, in mm2."""


def _study(goal: Goal) -> Study:
    workload = {"model": COMMON["model"], "batch": goal.batch, "context": 4096, "chips": 8}
    asked = {
        "objective": {"maximise": goal.objective},
        "constraints": {"area_mm2": AREA, "power_w": 700},
        "workload": [workload],
        "optimiser": {"starts": 64},
    }
    return Study.model_validate(asked)


def search_chips() -> list[SearchReport]:
    """Both chips; both goals are one problem with other weights, compiled once."""
    return [search_study(_study(goal)) for goal in GOALS]


def _design_row(goal: Goal, found: SearchReport) -> dict[str, str]:
    report = report_dict(found)
    parts = report["best"]
    on_grid, _ = grid_best(found.problem, found.space.integer, CONSTRAINT_TOLERANCE)
    return {
        "goal": goal.name,
        "SRAM": f"{parts['sram_mb']:,.0f} MB",
        "SRAM rate": f"{parts['sram_tb_per_s']:,.0f} TB/s",
        "HBM": f"{parts['stacks']:.0f} stacks",
        "bf16": f"{parts['tflops']:,.0f} TFLOP/s",
        "die": f"{report['chips'][0]['area_mm2']:,.0f} mm2",
        "reached": f"{figures(report['objective'])} {goal.unit}",
        "best of a grid": figures(found.objective(on_grid)),
    }


def _said(rows: list[dict[str, str]], predicted: Columns, chips: list[SearchReport]) -> list[str]:
    """The answer in sentences."""
    speeds, prices = (
        predicted[name]
        for name in ("output_tokens_per_s_per_user", "usd_per_million_output_tokens")
    )
    alone = [i for i, (_, batch) in enumerate(CASES) if batch == "1"]
    priced = [i for i in alone if not is_empty(prices[i])]
    fastest = rows[max(alone, key=lambda i: float(speeds[i]))]
    cheapest = rows[min(priced, key=lambda i: float(prices[i]))]
    best = chips[0].space.in_study_units(chips[0].best.unit)
    return [
        f"For one user {fastest['machine']} is fastest ({fastest['tokens/s/user']} tokens/s, bound by "
        f"{fastest['bound by']}), and {cheapest['machine']} cheapest "
        f"({cheapest['USD/M tokens']} USD per million tokens).",
        f"For one user the gradient puts {best['sram_mb']:,.0f} MB of SRAM beside "
        f"{best['stacks']:.0f} stacks of HBM on the "
        "H100's area: the weights of eight chips do not fit in SRAM, so memory bandwidth pays best.",
    ]


def _draw(out: Path, steps: NamedSteps, chips: list[SearchReport]) -> list[Path]:
    bars = [(name, 1e3 * step.cost.breakdown.by_bound()) for name, step in steps]
    title = "Llama-3.1-70B, one user: where the time of a token goes"
    charts = {
        "breakdown.png": breakdown(bars, title),
        "roofline.png": step_rooflines(steps, "Kernels of a decode step, one user"),
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
    unused = {name: max(AREA - sum(parts.values()), 0.0) for name, parts in dies.items()}
    return [(name, parts | {"unused": unused[name]}) for name, parts in dies.items()]
