"""How many whole-model evaluations a second: `python -m benchmarks.speed --json OUT.json`.

One evaluation is a whole Llama-3.1-70B decode step (every kernel of every layer, tensor
8, placement, collectives) in float32, with every number of the hardware varying. Each core is
a device with its share of the designs, as in sweeps.
"""

import argparse
import functools
import importlib.util
import itertools
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.timing import Pace, pace, timed
from perfmodel.batching import spread
from perfmodel.files import write_json
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.service import serve
from perfmodel.inference.step import decode_step
from perfmodel.library.chip import load_chip
from perfmodel.library.model import load_model
from perfmodel.units import as_scalar
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request
from perfmodel.xla import prepare_for_millions

BATCH = 8192
"""Designs evaluated together on each device."""

SPREAD = 0.1
"""Standard deviation of the logarithm of each number of the hardware."""


def varied(chip: Chip, count: int) -> Chip:
    """`count` chips, every number of each off by a random factor."""
    leaves, form = jax.tree.flatten(chip)
    keys = jax.random.split(jax.random.PRNGKey(0), len(leaves))
    factors = [jnp.exp(SPREAD * jax.random.normal(key, (count,))) for key in keys]
    return jax.tree.unflatten(form, [leaf * f for leaf, f in zip(leaves, factors, strict=True)])


class Rate(NamedTuple):
    """Evaluations a second by the clock, and of one processor; seconds to compile, cold and kept on disk."""

    wall: float
    processor: float
    compile: float
    again: float


def rate(function: Callable[[Chip], Any], chip: Chip, batch: int) -> Rate:
    """How fast a function of a chip is, of `batch` chips on each device, compiled as JAX does by itself."""
    count = batch * len(jax.devices())
    chips = spread(varied(chip, count))
    compiled, cold = _compiled(function, chips)
    jax.clear_caches()
    again = _compiled(function, chips)[1]
    return Rate(*pace(lambda: jax.block_until_ready(compiled(chips)), count), cold, again)


def _compiled(function: Callable[[Chip], Any], chips: Chip) -> Any:
    """The function of many chips, and the seconds that it took to trace and to compile."""
    began = time.perf_counter()
    compiled = jax.jit(jax.vmap(function)).lower(chips).compile()
    return compiled, time.perf_counter() - began


def subject(model: str, weights: str) -> tuple[Chip, Callable[[Chip], jax.Array]]:
    """A chip, and the time of a whole decode step on eight of it."""
    plan = Plan(tp=8.0, ep=8.0, weights=weights, cache="fp8")
    shape = traced(load_model(model))
    chip = restrict(load_chip("h100-sxm", plan), ["bf16", plan.format.matrix, "fp8"])

    def step(one: Chip) -> jax.Array:
        return decode_step(one, plan, shape, as_scalar(32.0), as_scalar(4096.0)).time

    return chip, step


def served() -> tuple[Chip, Callable[[Chip], jax.Array]]:
    """The same chip, and the TPOT and TTFT of Llama-3.1-70B in a closed loop."""
    plan = Plan(tp=8.0, weights="fp8", cache="fp8")
    shape, chip = traced(load_model("llama-3.1-70b")), subject("llama-3.1-70b", "fp8")[0]
    request = Request(32.0, 4096.0, 512.0, 1.0)

    def service(one: Chip) -> jax.Array:
        found = serve(one, plan, shape, request)
        return found.tpot + found.ttft

    return chip, service


def measure(batch: int = BATCH) -> dict[str, Any]:
    """Run the benchmark."""
    chip, step = subject("llama-3.1-70b", "fp8")
    found = _named("evaluations", "", rate(step, chip, batch))
    slopes = rate(jax.value_and_grad(step), chip, batch)
    found |= _named("gradients", "gradient_", slopes)
    others = {"deepseek_r1": subject("deepseek-r1", "fp8_block"), "service": served()}
    for name, (one, function) in others.items():
        found |= _named(name, f"{name}_", rate(function, one, batch))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {
        "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
        "batch": batch,
        "devices": len(jax.devices()),
        "platform": jax.default_backend(),
        "peers": peers(),
    }


def _named(rates: str, compiling: str, found: Rate) -> dict[str, float]:
    return {
        f"{rates}_per_s": found.wall,
        f"{rates}_per_processor_s": found.processor,
        f"{compiling}compile_s": found.compile,
        f"{compiling}compile_again_s": found.again,
    }


# Other programs that predict a decode step, timed where they are installed; none of them has a gradient

USERS, CONTEXT, TENSOR = 32, 4096, 8

STEPS = 10_000
"""Steps of one run, of a program that takes microseconds for each."""


def aiconfigurator() -> Pace:
    """Its compiled engine (extra `data`), which interpolates in tables of H100: the hardware cannot vary."""
    logging.getLogger("aiconfigurator_core").setLevel(logging.ERROR)
    from aiconfigurator_core import AicEngine
    from aiconfigurator_core.sdk.engine import compile_engine

    formats: dict[str, Any] = {"gemm_quant_mode": "fp8", "kvcache_quant_mode": "fp8"}
    asked = "meta-llama/Meta-Llama-3.1-70B", "h100_sxm", "vllm"
    engine = AicEngine.from_spec(compile_engine(*asked, tp_size=TENSOR, **formats))

    def steps() -> None:
        for more in range(STEPS):
            engine.decode_step_latency(USERS, CONTEXT + more % 1000, 2)

    return pace(steps, STEPS)


def genz() -> Pace:
    """GenZ (`uv pip install genz-llm`), on chips whose bandwidth varies."""
    from GenZ import decode_moddeling  # pyright: ignore[reportMissingImports]

    asked: dict[str, Any] = {"model": "meta-llama/Llama-3.1-70B", "batch_size": USERS}
    asked |= {"input_tokens": CONTEXT, "output_tokens": 1, "tensor_parallel": TENSOR}
    chip = {"Flops": 1979, "Memory_size": 80, "ICN": 450, "real_values": True}
    bandwidths = itertools.count(3350)

    def step() -> None:
        system = chip | {"Memory_BW": next(bandwidths)}
        decode_moddeling(**asked, system_name=system, system_eff=1, bits="int8")

    return pace(step, 1)


PEERS: dict[str, tuple[str, Callable[[], Pace]]] = {
    "aiconfigurator": ("aiconfigurator_core", aiconfigurator),
    "genz": ("GenZ", genz),
}
"""What is timed, by name, with the package that it needs."""


def peers() -> dict[str, dict[str, float]]:
    """Steps a second of those that are installed."""
    found = {n: run() for n, (package, run) in PEERS.items() if importlib.util.find_spec(package)}
    return {
        name: {"per_s": one.wall, "per_processor_s": one.processor} for name, one in found.items()
    }


# In processes of their own

READY = "import perfmodel as pm; pm.load_chip, pm.decode_step"
"""Until a step can be priced: JAX and Equinox, which `import perfmodel` leaves until they are used."""

ROW = "chip,model,isl,osl,concurrency\nh100,llama-3.1-70b,1000,100,8\n"


def starting() -> dict[str, float]:
    """Seconds that a fresh process takes before it is of use: the median of three of each kind.

    - `import_s`, `ready_s`: of `import perfmodel`, and until a step can be priced, less Python's own start.
    - `help_s`, `first_row_s`: of `perfmodel --help`, and of `perfmodel predict serving` of one row.
    """
    bare = process_seconds("-c", "pass")
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder) / "rows.csv", Path(folder) / "out.csv"
        rows.write_text(ROW)
        words = "predict", "serving", str(rows), "--out", str(out)
        first = process_seconds("-m", "perfmodel", *words)
    return {
        "import_s": process_seconds("-c", "import perfmodel") - bare,
        "ready_s": process_seconds("-c", READY) - bare,
        "help_s": process_seconds("-m", "perfmodel", "--help"),
        "first_row_s": first,
    }


def process_seconds(*words: str) -> float:
    """Of Python with some words, by the clock, with nothing compiled before."""
    command, times = [sys.executable, *words], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            settings = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
            run = functools.partial(subprocess.run, command, check=True, env=settings)
            times.append(timed(lambda run=run: run(stdout=subprocess.DEVNULL))[0])
    return sorted(times)[1]


def on_devices(count: int) -> dict[str, float]:
    """How fast sweeps and searches are with a number of devices on the processor."""
    return _scaling({"JAX_NUM_CPU_DEVICES": str(count), "JAX_PLATFORMS": "cpu"})


def on_accelerators() -> dict[str, dict[str, float]]:
    """The same on GPUs, or what else JAX has; nothing where it has none."""
    kind = jax.default_backend()
    return {} if kind == "cpu" else {kind: _scaling({})}


def _scaling(more: dict[str, str]) -> dict[str, float]:
    """Of a process with some more settings."""
    settings = os.environ | more
    command = [sys.executable, "-m", "benchmarks.scaling"]
    found = subprocess.run(command, env=settings, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)


def main() -> None:
    """Run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--batch", type=int, default=BATCH, help="designs on each device")
    numbers = {"type": int, "nargs": "*", "default": [], "metavar": "N"}
    parser.add_argument(
        "--devices",
        **numbers,
        help="time a sweep and a search on so many, and on GPUs where there are some, too",
    )
    options = parser.parse_args()
    found: dict[str, Any] = starting()
    found["scaling"] = {str(count): on_devices(count) for count in options.devices}
    if options.devices:
        found["scaling"] |= on_accelerators()
    prepare_for_millions()
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        found |= measure(options.batch)
    for name, value in found.items():
        print(f"{name:32s} {value:,.3f}" if isinstance(value, float) else f"{name:32s} {value}")
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
