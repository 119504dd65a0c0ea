"""How many whole-model evaluations a second: `python -m benchmarks.speed --json OUT.json`.

One evaluation is a whole Llama-3.1-70B decode step (every kernel of every layer, tensor
8, placement, collectives) in float32, with every number of the hardware varying.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from perfmodel.files import write_whole
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.step import decode_step
from perfmodel.library.chip import load_chip
from perfmodel.library.model import load_model
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.transformer import traced

BATCH = 32_768
"""Designs evaluated together."""

SECONDS = 5.0
"""For which each function runs, at least."""

SPREAD = 0.1
"""Standard deviation of the logarithm of each number of the hardware."""


def varied(chip: Chip, count: int, seed: int = 0) -> Chip:
    """`count` chips, every number of each off by a random factor."""
    leaves, form = jax.tree.flatten(chip)
    keys = jax.random.split(jax.random.PRNGKey(seed), len(leaves))
    factors = [jnp.exp(SPREAD * jax.random.normal(key, (count,))) for key in keys]
    return jax.tree.unflatten(form, [leaf * f for leaf, f in zip(leaves, factors, strict=True)])


def rate(function: Callable[[Chip], Any], chips: Chip, count: int) -> tuple[float, float]:
    """Evaluations a second, the median of repeats, and seconds to compile."""
    began = time.perf_counter()
    compiled = jax.jit(function).lower(chips).compile()
    compile_seconds = time.perf_counter() - began
    jax.block_until_ready(compiled(chips))
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < 3:
        began = time.perf_counter()
        jax.block_until_ready(compiled(chips))
        times.append(time.perf_counter() - began)
    return count / sorted(times)[len(times) // 2], compile_seconds


def import_seconds() -> float:
    """Until a step can be priced, in a fresh process, less the start of Python itself."""
    return _process("import perfmodel as pm; pm.load_chip, pm.decode_step") - _process("pass")


def _process(code: str) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - began)
    return sorted(times)[1]


def measure(batch: int = BATCH) -> dict[str, Any]:
    """Run the benchmark."""
    plan = Plan(tensor=8.0, weights="fp8", cache="fp8")
    model = traced(load_model("llama-3.1-70b"))
    chip = restrict(load_chip("h100-sxm", plan), ["bf16", "fp8"])
    chips = varied(chip, batch)

    def step(one: Chip) -> jax.Array:
        return decode_step(one, plan, model, as_scalar(32.0), as_scalar(4096.0)).time

    evaluations, compile_seconds = rate(jax.vmap(step), chips, batch)
    gradients, gradient_compile = rate(jax.vmap(jax.value_and_grad(step)), chips, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "evaluations_per_s": evaluations,
        "gradients_per_s": gradients,
        "compile_s": compile_seconds,
        "gradient_compile_s": gradient_compile,
        "import_s": import_seconds(),
        "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
        "batch": batch,
        "peers": {},
    }


def main() -> None:
    """Run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--batch", type=int, default=BATCH, help="designs evaluated together")
    options = parser.parse_args()
    found = measure(options.batch)
    for name, value in found.items():
        print(f"{name:20s} {value:,.3f}" if isinstance(value, float) else f"{name:20s} {value}")
    if options.json:
        write_whole(options.json, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
