"""What rows of the serving schema share, whatever tool measured them: users, rates, ranks, names."""

import math
from collections.abc import Mapping
from typing import Any

from perfmodel.calibration.ingest.content import Row, cell, word

NEEDED = ("chip", "n_chips", "model", "framework", "isl", "osl")
"""Columns without which a run cannot be predicted."""

FRAMEWORKS = {
    **{"vllm": "vllm", "vllm-chat": "vllm", "openai+vllm": "vllm"},
    **dict.fromkeys(("sglang", "sglang-native", "sglang-oai", "sglang-oai-chat"), "sglang"),
    **dict.fromkeys(("trt", "trtllm", "trt-llm", "tensorrt-llm", "tensorrtllm"), "trtllm"),
    "atom": "atom",
}
"""Frameworks by the words of `--backend` (vLLM, SGLang) and of InferenceX; others, as an API of OpenAI's
kind, do not say what serves."""

STATED = {
    "chip": ("chip", "gpu", "gpu_name"),
    "n_chips": ("n_chips", "num_gpus"),
    "model": ("model",),
    "precision": ("precision", "quantization"),
    "kv_precision": ("kv_precision", "kv_cache_dtype"),
    "framework": ("framework",),
    "framework_version": ("framework_version", "version"),
    "tp": ("tp", "tensor_parallel_size"),
    "pp": ("pp", "pipeline_parallel_size"),
    "ep": ("ep",),
    "dp": ("dp", "data_parallel_size"),
    "prefix_tokens": ("prefix_tokens",),
    "speculative_tokens": ("speculative_tokens",),
}
"""Columns, and the keys under which a user may have written them beside a result (`--metadata` of vLLM)."""


def stated(record: Mapping[str, Any]) -> Row:
    """What a user wrote beside a result."""
    found = {column: word(record, *keys) for column, keys in STATED.items()}
    return {column: text for column, text in found.items() if text}


def framework_word(text: str) -> str:
    """The framework that a tool's word means; empty where it is only the kind of an API."""
    plain = text.lower().removeprefix("dynamo-").removesuffix("-disagg")
    return FRAMEWORKS.get(plain, "")


RATE_BINDS = 0.9
"""Share of the rate asked for from which it, and not the most users at once, is what held the load."""


def load(users: float, rate: float, requests: float, answered: float) -> Row:
    """Users of a closed loop, with the requests of each, or the rate of an open one.

    **Arguments:**

    - `users`: at most at once; `nan`: all requests at once.
    - `rate`: at which they were sent, in 1/s; `inf` or `nan`: as soon as a user was free.
    - `requests`: in all; `answered`: of them in a second.
    """
    limited = math.isfinite(users) and users > 0
    if math.isfinite(rate) and rate > 0 and not (limited and answered < RATE_BINDS * rate):
        return {"requests_per_s": cell(rate)}
    closed = min(users, requests) if limited and requests > 0 else users if limited else requests
    rounds = requests / closed if closed > 0 else math.nan
    return {"concurrency": cell(closed), "requests_per_user": cell(rounds)}


def measured(ttft_ms: float, tpot_ms: float) -> Row:
    """The measured means."""
    return {"measured_ttft_ms": cell(ttft_ms), "measured_tpot_ms": cell(tpot_ms)}
