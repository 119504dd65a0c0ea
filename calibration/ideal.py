r"""The plain roofline of a served model, a rival on the same rows.

Each decode step reads all weights and the whole cache once at the rate of the datasheet, and
multiplies at the peak, with no constant and no traffic around it:

$$\text{TPOT} = \max(\text{bytes} / \text{bandwidth}, \text{FLOPs} / \text{peak})$$
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.pools import decoding
from perfmodel.calibration.runs import Run
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.cases import case_of, of_rows
from perfmodel.inference.placement import place
from perfmodel.units import Scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import Transformer, parameters


def ideal_tpot(chip: Chip, plan: Plan, model: Transformer, traffic: Traffic) -> Scalar:
    """Time per output token at the rates of the datasheet, in s."""
    middle = traffic.prompt + traffic.output / 2
    placed = place(chip, plan, model, traffic.users, middle)
    flops = 2 * parameters(model, active=True) * traffic.users / plan.chips
    reading = (placed.size + placed.cache_size) / chip.main.bandwidth
    return jnp.maximum(reading, flops / chip.matrix[plan.format.matrix])


Rival = Callable[[Chip, Plan, Transformer, Traffic], Scalar]


def rival_tpots(rival: Rival, runs: Sequence[Run], folder: Path) -> list[float]:
    """TPOT of each run by a rival, in s, of pools their decode workers'; `nan` where it cannot be said."""
    alike: dict = {}
    for place_of, run in enumerate(runs):
        try:
            case = case_of(place_of, decoding(run.cells), folder)
        except InputError:
            continue
        alike.setdefault(case.form, []).append(case)
    found = [float("nan")] * len(runs)
    for cases in alike.values():
        tpots = of_rows(rival, [(case, case.splits[0]) for case in cases])
        for case, tpot in zip(cases, np.asarray(tpots), strict=True):
            found[case.place] = float(tpot)
    return found
