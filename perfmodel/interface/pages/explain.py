"""`perfmodel explain`: what binds, kernel by kernel and term by term, as tables, as JSON, and its page."""

from typing import Any

import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.inference.explanation import Explanation, Line, Step
from perfmodel.interface.pages.page import FITTED_BASIS, Page, Picture, sources_of
from perfmodel.interface.plots import bars
from perfmodel.interface.plots.steps import joules_of, memory_placement, step_rooflines
from perfmodel.interface.tables import Table
from perfmodel.units import figures


def kernel_times(found: Explanation) -> Any:
    """The time of each kernel, by what binds."""
    lines: list[Line] = [line for line in found.lines if abs(line.share) > 0.005] or found.lines
    return bars.breakdown([(x.label, x.parts * 1e6) for x in lines], found.title, "us")


def explain_page(found: Explanation, cells: dict[str, str]) -> Page:
    """Where the time, the energy and the memory of one kernel or of a decode step go."""
    first = found.lines[0]
    most = BOUNDS[int(np.sum([line.parts for line in found.lines], axis=0).argmax())]
    said = [
        f"{found.title} takes {figures(found.time * 1e6)} us. Most of it is bound by {most}; "
        f"the slowest is {first.label} with {100 * first.share:.0f} %."
    ]
    parts: list[Table | Picture] = [
        Picture(kernel_times(found), "Each kernel's time, by what binds it."),
        *tables_of(found),
    ]
    if found.step is not None:
        parts += _step_pictures(found.step)
    named = [cells.get(name, "") for name in ("chip", "model")]
    return Page(found.title, said, parts, FITTED_BASIS, sources_of(named[:1], named[1:]))


def _step_pictures(step: Step) -> list[Picture]:
    named = [(step.name, step)]
    joules = joules_of(step.cost)
    total = sum(joules.values())
    return [
        Picture(
            step_rooflines(named, "Roofline of the kernels"),
            "Against the memory that holds the weights. Below the line: latency, other limits, or the "
            "share of a peak that is reached.",
        ),
        Picture(
            bars.energy([(step.name, joules)], f"Energy of the step: {total:,.3g} J on all chips"),
            "idle: static power while the step runs, as far as it is known.",
        ),
        Picture(
            memory_placement(named),
            f"Free on each chip: {float(step.cost.placement.slack) / 1e9:,.3g} GB.",
        ),
    ]


def tables_of(found: Explanation) -> list[Table]:
    """Kernels by time, with what binds them, and terms of time, the largest first."""
    terms = sorted(((n, s) for n, s in found.terms.items() if s > 0), key=lambda one: -one[1])
    kernels = [(x.label, *_time(x.time, found), x.bound) for x in found.lines]
    memory = [(MEMORY_WORDS[name], figures(value)) for name, value in found.memory.items()]
    return [
        Table("Kernels", ["kernel", "us", "share", "bound by"], kernels),
        Table("Terms", ["term", "us", "share"], [(name, *_time(s, found)) for name, s in terms]),
        *([Table("Memory", ["quantity", "value"], memory)] if memory else []),
    ]


MEMORY_WORDS = {
    "weights_gb_per_chip": "weights on a chip (GB)",
    "kv_capacity_tokens": "KV cache of a data rank (tokens)",
    "running": "sequences that decode at once",
}
"""What columns of memory are called."""


def _time(seconds: float, found: Explanation) -> tuple[str, str]:
    """In us, and its share of all."""
    return figures(seconds * 1e6), f"{100 * seconds / found.time:.1f} %"


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """For JSON."""
    lines = [
        {"kernel": x.label, "time_us": x.time * 1e6, "share": x.share, "bound": x.bound}
        for x in explanation.lines
    ]
    terms = {name: seconds * 1e6 for name, seconds in explanation.terms.items()}
    return {
        "title": explanation.title,
        "time_us": explanation.time * 1e6,
        "kernels": lines,
        "terms_us": terms,
    } | explanation.memory
