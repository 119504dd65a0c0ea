"""Other programs that predict a decode step, timed where they are installed; none of them has a gradient.

AIConfigurator (extra `data`) reads tables of one chip: its hardware cannot vary. GenZ (`uv pip
install genz-llm`) takes any bandwidth and FLOP/s.
"""

import importlib.util
import itertools
import logging
from collections.abc import Callable
from typing import Any

from benchmarks.timing import Pace, pace

USERS, CONTEXT, TENSOR = 32, 4096, 8

STEPS = 10_000
"""Steps of one run, of a program that takes microseconds for each."""


def aiconfigurator() -> Pace:
    """Its compiled engine, which interpolates in tables of H100; contexts vary."""
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
    """GenZ, on chips whose bandwidth varies."""
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
