"""How many whole-model evaluations a second: `python -m benchmarks.speed --json OUT.json`.

One evaluation is a whole Llama-3.1-70B decode step (every kernel of every layer, tensor
8, placement, collectives) in float32, with every number of the hardware varying. Each core is
a device with its share of the designs, as in sweeps.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from perfmodel.compiling import OFTEN, Options, keep_memory, supported
from perfmodel.files import write_whole
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.alike import spread
from perfmodel.inference.serving import serve
from perfmodel.inference.step import decode_step
from perfmodel.interface.sweep import use_all_cores
from perfmodel.library.chip import load_chip
from perfmodel.library.model import load_model
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import traced

BATCH = 8192
"""Designs evaluated together on each device."""

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


class Rate(NamedTuple):
    """Evaluations a second, the median of repeats; a second of one processor; seconds to compile."""

    wall: float
    processor: float
    compile: float


def rate(
    function: Callable[[Chip], Any], chip: Chip, batch: int, options: Options | None = None
) -> Rate:
    """How fast a function of a chip is, of `batch` chips on each device."""
    count = batch * len(jax.devices())
    chips = jax.tree.map(spread, varied(chip, count))
    began = time.perf_counter()
    compiled = jax.jit(jax.vmap(function)).lower(chips).compile(compiler_options=options)
    compile_seconds = time.perf_counter() - began
    jax.block_until_ready(compiled(chips))
    times: list[tuple[float, float]] = []
    while sum(wall for wall, _ in times) < SECONDS or len(times) < 3:
        began = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(chips))
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    wall, processor = (sorted(column)[len(times) // 2] for column in zip(*times, strict=True))
    return Rate(count / wall, count / processor, compile_seconds)


def import_seconds(code: str) -> float:
    """Of some code, in a fresh process, less the start of Python itself."""
    return _process(code) - _process("pass")


READY = "import perfmodel as pm; pm.load_chip, pm.decode_step"
"""Until a step can be priced: JAX and Equinox, which `import perfmodel` leaves until they are used."""


def _process(code: str) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - began)
    return sorted(times)[1]


def subject(model: str, weights: str, tensor: float) -> tuple[Chip, Callable[[Chip], jax.Array]]:
    """A chip, and the time of a whole decode step on as many as its ranks."""
    plan = Plan(tensor=tensor, expert=tensor, weights=weights, cache="fp8")
    shape = traced(load_model(model))
    chip = restrict(load_chip("h100-sxm", plan), ["bf16", plan.format.matrix, "fp8"])

    def step(one: Chip) -> jax.Array:
        return decode_step(one, plan, shape, as_scalar(32.0), as_scalar(4096.0)).time

    return chip, step


def served() -> tuple[Chip, Callable[[Chip], jax.Array]]:
    """The same chip, and the TPOT and TTFT of Llama-3.1-70B in a closed loop."""
    plan = Plan(tensor=8.0, weights="fp8", cache="fp8")
    shape, chip = traced(load_model("llama-3.1-70b")), subject("llama-3.1-70b", "fp8", 8.0)[0]
    traffic = Traffic(32.0, 4096.0, 512.0, 1.0)

    def service(one: Chip) -> jax.Array:
        found = serve(one, plan, shape, traffic)
        return found.tpot + found.ttft

    return chip, service


def measure(batch: int = BATCH) -> dict[str, Any]:
    """Run the benchmark."""
    chip, step = subject("llama-3.1-70b", "fp8", 8.0)
    values = rate(step, chip, batch)
    gradients = rate(jax.value_and_grad(step), chip, batch, supported(OFTEN))
    found = {
        "evaluations_per_s": values.wall,
        "gradients_per_s": gradients.wall,
        "evaluations_per_processor_s": values.processor,
        "gradients_per_processor_s": gradients.processor,
        "compile_s": values.compile,
        "gradient_compile_s": gradients.compile,
    }
    for name, (one, function) in others().items():
        other = rate(function, one, batch)
        found |= {f"{name}_per_s": other.wall, f"{name}_per_processor_s": other.processor}
        found |= {f"{name}_compile_s": other.compile}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {
        "import_s": import_seconds("import perfmodel"),
        "ready_s": import_seconds(READY),
        "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
        "batch": batch,
        "devices": len(jax.devices()),
        "peers": {},
    }


def others() -> dict[str, tuple[Chip, Callable[[Chip], jax.Array]]]:
    """What is timed besides."""
    return {"deepseek_r1": subject("deepseek-r1", "fp8_block", 8.0), "service": served()}


def main() -> None:
    """Run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--batch", type=int, default=BATCH, help="designs on each device")
    options = parser.parse_args()
    use_all_cores()
    keep_memory()
    found = measure(options.batch)
    for name, value in found.items():
        print(f"{name:32s} {value:,.3f}" if isinstance(value, float) else f"{name:32s} {value}")
    if options.json:
        write_whole(options.json, json.dumps(found, indent=1).encode())


if __name__ == "__main__":
    main()
