"""How soon two ways of fitting reach the same loss: `python -m benchmarks.fitting --json OUT.json`.

Adam (optax, first order) against Levenberg-Marquardt (optimistix) on the training rows of a few
tables, from the prior. Adam is given two learning rates; the better one counts. Compiling is
counted apart.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import numpy as np
import optax

from perfmodel.calibration.data.aiconfigurator import locate, tables
from perfmodel.calibration.data.measurements import plan_of
from perfmodel.calibration.fit import MAX_STEPS, Problem, Table, problem_of, solve
from perfmodel.calibration.split import part_of, pick
from perfmodel.files import write_json
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.units import Scalar, Values

TABLES = {
    "gemm H100 TRT-LLM bf16": ("gemm", "h100_sxm", "trtllm", "bf16"),
    "attention_decode H100 vLLM bf16": ("attention_decode", "h100_sxm", "vllm", "bf16"),
    "moe H100 TRT-LLM fp8_block": ("moe", "h100_sxm", "trtllm", "fp8_block"),
}

RATES = (0.03, 0.1)
"""Learning rates of Adam."""

NEAR = 1.01
"""Times the loss that Levenberg-Marquardt ends at: the loss that both are to reach."""


FEWER = (5, 10, 20, 40)
"""Steps of Levenberg-Marquardt after which its loss is looked at."""


class Race(NamedTuple):
    """One method on one table: seconds to the loss (none if not reached), the best loss, and its cost."""

    seconds: float | None
    loss: float
    steps: int
    compile_seconds: float


def table_of(op: str, system: str, framework: str, dtype: str, rows: int) -> tuple[Any, Table]:
    """A chip as its prior has it, and training rows of one table."""
    found = next(
        one
        for one in tables(locate("aiconfigurator"), op, system)
        if (one.key.framework, one.key.dtype, one.key.cache or dtype) == (framework, dtype, dtype)
    )
    training = pick(op, found.shape, part_of(op, found.shape) == "train", rows, seed=0)
    architecture = chip_files()[found.key.chip].architecture
    plan = plan_of(found.key, architecture)
    prior = Path("no folder: the prior as shipped")
    return load_chip(found.key.chip, plan, prior), Table(plan, found.take(training))


def second_order(asked: Problem, most: int) -> Race:
    """Levenberg-Marquardt, of at most so many steps."""
    run: Any = eqx.filter_jit(lambda start: solve(asked._replace(start=start), most))
    began = time.perf_counter()
    compiled = run.lower(asked.start).compile()
    compile_seconds = time.perf_counter() - began
    began = time.perf_counter()
    free, steps = jax.block_until_ready(compiled(asked.start))
    seconds = time.perf_counter() - began
    return Race(seconds, float(asked.loss(free)), int(steps), compile_seconds)


def first_order(asked: Problem, rate: float, goal: float, longest: float) -> Race:
    """Adam, until the goal is reached or the time is up."""
    optimiser = optax.adam(rate)

    @jax.jit
    def step(free: Values, state: Any) -> tuple[Values, Any, Scalar]:
        loss, slope = jax.value_and_grad(asked.loss)(free)
        updates, state = optimiser.update(slope, state)
        return free + cast(Values, updates), state, loss

    free, state = asked.start, optimiser.init(asked.start)
    began = time.perf_counter()
    jax.block_until_ready(step(free, state))
    compile_seconds = time.perf_counter() - began
    began, best, steps = time.perf_counter(), np.inf, 0
    while best > goal and time.perf_counter() - began < longest:
        free, state, loss = jax.block_until_ready(step(free, state))
        best, steps = min(best, float(loss)), steps + 1
    seconds = time.perf_counter() - began if best <= goal else None
    return Race(seconds, best, steps, compile_seconds)


def compare(name: str, rows: int, longest: float) -> dict[str, Any]:
    """Both methods on one table."""
    chip, table = table_of(*TABLES[name], rows)
    asked = problem_of(chip, [table])
    last = second_order(asked, MAX_STEPS)
    shorter = (second_order(asked, most) for most in FEWER)
    second = next((one for one in shorter if one.loss <= NEAR * last.loss), last)
    runs = [first_order(asked, rate, NEAR * last.loss, longest) for rate in RATES]
    first = min(runs, key=lambda one: (one.seconds is None, one.seconds or one.loss))
    found = {"levenberg_marquardt": second._asdict(), "adam": first._asdict()}
    return {"table": name, "rows": len(table.rows.time), "loss": last.loss} | found


def main() -> None:
    """Race, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--rows", type=int, default=2000, help="training rows of each table")
    parser.add_argument("--tables", type=int, default=len(TABLES), help="how many tables")
    parser.add_argument("--longest", type=float, default=60.0, help="of one run of Adam, in s")
    asked = parser.parse_args()
    found = []
    print(f"{'table':34} {'method':20} {'seconds':>8} {'compile':>8} {'steps':>6} {'loss':>9}")
    for name in list(TABLES)[: asked.tables]:
        found.append(compare(name, asked.rows, asked.longest))
        for method in ("levenberg_marquardt", "adam"):
            run = Race(**found[-1][method])
            seconds = f"> {asked.longest:g}" if run.seconds is None else f"{run.seconds:.2f}"
            cost = f"{run.compile_seconds:8.2f} {run.steps:6} {run.loss:9.5f}"
            print(f"{name:34} {method:20} {seconds:>8} {cost}", flush=True)
    write_json(asked.json, {"tables": found})


if __name__ == "__main__":
    main()
