"""Chips that are sold and beat the best design: a descent begins at each of them.

A study cannot say all that a sold chip is (several dies, kernels of its own), so one may stay ahead; that
is told first.
"""

import numpy as np

from perfmodel.design.nearby import with_designs
from perfmodel.design.pose import NO_MEMORY
from perfmodel.design.problem import Problem
from perfmodel.design.reoptimise import found_at, reoptimised
from perfmodel.design.search import Found, Result
from perfmodel.design.shelf import Rival
from perfmodel.design.space import Space
from perfmodel.design.state import BETTER
from perfmodel.design.study import Study
from perfmodel.hardware.chip import Chip
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.known import described
from perfmodel.units import as_scalar

MOST_STARTS = 3
"""Sold chips at which a descent begins, at most: those that are ahead by most."""


def ahead(rivals: list[Rival], best: Found) -> list[Rival]:
    """Chips that keep every limit and are better than a design, the best first."""
    better = [one for one in rivals if not one.broken and one.value < best.value - BETTER]
    return sorted(better, key=lambda one: one.value)


def from_sold(
    study: Study, space: Space, problem: Problem, result: Result, rivals: list[Rival]
) -> Result:
    """A result with the designs that descents from the chips ahead of it found."""
    lanes, best = study.optimiser.lanes, result.designs[0]
    starts = [_start(study, space, problem, one, best) for one in ahead(rivals, best)[:MOST_STARTS]]
    found = [reoptimised(problem, start, space.whole, lanes) for start in starts]
    return with_designs(result, [one for one in found if one is not None])


def _start(study: Study, space: Space, problem: Problem, one: Rival, best: Found) -> Found:
    """A sold chip as far as the study can say it, in as many copies and with as many users as suit it."""
    chip = load_chip(one.name, problem.loads[0].plan)
    parts = variables(one.name, chip)
    plain = [name.rsplit(".", 1)[-1] for name in space.names]
    own = [
        np.log(parts[name]) if parts.get(name) else at
        for name, at in zip(plain, one.vector, strict=True)
    ]
    unit = np.clip((np.array(own) - space.low) / (space.high - space.low), 0.0, 1.0)
    return found_at(problem, unit, _choice(study, one.name, best.choice))


def variables(name: str, chip: Chip) -> dict[str, float]:
    """A chip of the library in the variables of studies, in SI."""
    home = chip.private if chip.execution == "dataflow" else chip.shared
    parts = described(chip_files()[name])[1]
    found = {
        "sram_mb": home.capacity,
        "sram_tb_per_s": home.bandwidth,
        "stacks": parts.stacks,
        "tflops": chip.matrix["bf16"],
        "clock_ghz": chip.clock,
        "vector_tflops": chip.vector,
        "exponential_t_per_s": chip.exponential,
        "link_gb_per_s": chip.scale_up.bandwidth,
        "power_w": chip.peak_power,
    }
    return {name: float(as_scalar(value)) for name, value in found.items()}


def _choice(study: Study, name: str, default: np.ndarray) -> np.ndarray:
    """Its node and its memory where the study has them, else those of the best design."""
    file, space = chip_files()[name], study.space
    own = (file.node, NO_MEMORY if file.main is None else file.main.technology)
    options = (space.node, space.memory)
    return np.array(
        [
            names.index(mine) if mine in names else int(other)
            for mine, names, other in zip(own, options, default, strict=True)
        ],
        np.int32,
    )
