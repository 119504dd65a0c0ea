"""Problems of the contest of searches: study files in short, from 6 to 27 variables."""

from typing import Any

from perfmodel.design.study import Study

CHIP = {
    "clock_ghz": {"low": 0.8, "high": 2.2},
    "vector_tflops": {"low": 10, "high": 200},
    "exponential_t_per_s": {"low": 1, "high": 30},
    "link_gb_per_s": {"low": 50, "high": 1800},
}
BATCH = {"low": 1, "high": 512}
NODES, MEMORIES = ["n7", "n5", "n3"], ["hbm3", "hbm3e", "hbm4"]
POOL = {"tensor": {"low": 1, "high": 16}, "workers": {"low": 1, "high": 64}}


def _decode(model: str = "llama-3.1-70b", **more: Any) -> dict[str, Any]:
    return {"model": model, "batch": 64, "context": 4096} | more


def _study(goal: dict, loads: list[dict], space: dict, **limits: float) -> Study:
    return Study.model_validate(
        {
            "objective": goal,
            "constraints": {"power_w": 1000, **limits},
            "workload": loads,
            "space": space,
        }
    )


def _pools(goal: dict, chip: dict, **limits: float) -> Study:
    load = {"model": "llama-3.1-70b", "batch": 256, "prompt": 4096, "output": 512}
    return _study(goal, [load], {"prefill": POOL | chip, "decode": POOL | chip}, **limits)


SPEED, USD = {"maximise": "tokens_per_s_per_user"}, {"minimise": "usd_per_million_tokens"}
JOULES, DENSE = {"minimise": "joules_per_million_tokens"}, {"maximise": "tokens_per_s_per_mm2"}
MIX = {"mix": {"usd_per_million_tokens": 2, "tokens_per_s_per_user": 1}}
CLOCK_AND_LINK = {name: CHIP[name] for name in ("clock_ghz", "link_gb_per_s")}
TENSOR = {"tensor": {"low": 1, "high": 64}}

PROBLEMS: dict[str, Study] = {
    "speed": _study(SPEED, [_decode(batch=1, chips=8)], CLOCK_AND_LINK),
    "density": _study(DENSE, [_decode(chips=8)], CLOCK_AND_LINK),
    "cost": _study(
        USD, [_decode()], CLOCK_AND_LINK | TENSOR | {"batch": BATCH}, tokens_per_s_per_user=20
    ),
    "energy": _study(JOULES, [_decode(chips=8)], CHIP, tokens_per_s_per_user=30),
    "nodes": _study(USD, [_decode(chips=8)], CLOCK_AND_LINK | {"node": NODES, "memory": MEMORIES}),
    "sram or hbm": _study(
        USD, [_decode()], CLOCK_AND_LINK | TENSOR | {"memory": ["none", *MEMORIES]}
    ),
    "all choices": _study(
        {"maximise": "revenue_per_usd"},
        [_decode()],
        CHIP
        | {"node": NODES, "memory": MEMORIES, "batch": BATCH, "tensor": {"low": 1, "high": 16}}
        | {"pipeline": {"low": 1, "high": 8}, "data": {"low": 1, "high": 8}},
    ),
    "mixture": _study(USD, [_decode("qwen3-30b-a3b")], CHIP | {"tensor": {"low": 1, "high": 4}}),
    "three loads": _study(
        MIX,
        [
            _decode("llama-3.1-8b"),
            _decode(chips=8),
            _decode(context=32768, batch=8, chips=8),
        ],
        CHIP,
    ),
    "two pools": _pools(USD, {}, ttft_ms=2000, tpot_ms=40),
    "two pools, all": _pools(USD, CHIP, ttft_ms=2000, tpot_ms=40),
}
"""By name. Those with `node`, `memory` and ranks have many discrete choices."""

QUICK = ("speed", "cost", "nodes")
"""Of a quick run; also those that slow baselines are run on."""
