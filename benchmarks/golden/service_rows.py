"""Rows of the serving schema that are kept: every mode, on machines of all three kinds, with every way to pay
for memory and time.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from benchmarks.golden.kernel_rows import SEED, Row, drawn
from perfmodel.errors import InputError
from perfmodel.inference.evaluate import resolve_row
from perfmodel.library.fitted import FITTED

SERVED = (
    ("h100-sxm h200-sxm", "8", "llama-3.1-70b", "fp8", "fp8", "vllm"),
    ("wse-3", "4", "llama-3.1-70b", "bf16", "", ""),
    ("lpu-v1", "576", "llama-3.1-70b", "int8", "", ""),
    ("b200-sxm gb200", "8", "deepseek-r1", "nvfp4", "fp8", "trtllm"),
    ("a100-sxm-80gb a100-pcie-80gb", "2", "llama-3.1-8b", "bf16", "", "sglang"),
    ("mi300x mi325x", "8", "llama-3.1-70b", "fp8", "", "vllm"),
    ("h100-sxm gh200", "4", "mixtral-8x7b-v0.1", "bf16", "", "vllm"),
    ("b200-sxm b300-sxm", "4", "llama-3.3-70b", "nvfp4", "fp8", ""),
    ("h200-sxm", "8", "deepseek-v3", "fp8", "", "sglang"),
    ("b300-sxm h100-sxm", "4", "gpt-oss-120b", "", "fp8", "vllm"),
    ("h100-sxm h200-sxm", "8", "qwen3-235b-a22b", "fp8", "", "sglang"),
    ("l40s rtx-4090", "4", "llama-3.1-8b", "fp8", "fp8", "vllm"),
    ("rtx-pro-6000", "2", "qwen3-32b", "nvfp4", "", "vllm"),
    ("h200-sxm", "8", "qwen3.5-122b-a10b", "bf16", "", "sglang"),
    ("b200-sxm", "8", "deepseek-v3.2", "fp8", "fp8", "trtllm"),
    ("b200-sxm", "8", "deepseek-v4-flash", "", "", "vllm"),
    ("h100-sxm", "4", "gemma-3-27b", "bf16", "", ""),
    ("b200-sxm", "8", "minimax-m3", "fp8", "", ""),
    ("h100-sxm", "8", "nemotron-h-56b", "bf16", "", ""),
    ("h100-sxm", "4", "kimi-linear-48b-a3b", "bf16", "", ""),
    ("arc-pro-b60", "2", "llama-3.1-8b", "bf16", "", "vllm"),
    ("mi300x", "8", "llama-2-70b", "fp16", "", "vllm-rocm-0.6"),
    ("h100-sxm", "4", "llama-3-70b", "fp8", "fp8", "trtllm-engine"),
    ("h100-sxm a100-sxm-80gb", "4", "llama-2-13b", "fp16", "", "vllm-0.5"),
    ("a100-sxm-80gb", "4", "llama-3.1-70b", "fp16/int8", "", ""),
    ("l40s", "4", "llama-3.1-70b", "fp16/int4", "fp8", "DeepSpeed"),
    ("mi355x", "8", "deepseek-r1", "mxfp4", "", ""),
    ("gaudi3 gaudi2", "8", "llama-3.1-70b", "bf16", "", ""),
    ("tpu-v6e", "8", "llama-3.1-8b", "int8", "", ""),
    ("trainium2", "16", "llama-3.1-70b", "bf16", "", ""),
    ("m3-ultra", "1", "qwen3-30b-a3b", "int4", "", "llama.cpp"),
    ("epyc-9754 xeon-6980p", "2", "llama-3.1-8b", "int8", "", ""),
    ("rubin", "4", "llama-3.1-405b", "fp8/fp4", "fp8", ""),
    ("lp30", "256", "llama-3.1-70b", "fp8", "", ""),
    ("wormhole-n300", "8", "llama-3.1-8b", "fp8", "", ""),
    ("sn40l", "16", "llama-3.1-70b", "bf16", "", ""),
    ("wse-3", "4", "gpt-oss-120b", "", "", ""),
)
"""Chips, their number, model, formats of weights and cache, framework: machines of all three kinds, models of
every build, mixes of formats, older software and spellings of software that is not modelled."""

LENGTHS = (("1024", "256"), ("8192", "1024"), ("100", "1500"), ("32768", "128"))
USERS = ("1", "4", "16", "64", "200")

WAYS: tuple[Row, ...] = (
    {},
    {"mode": "offline", "concurrency": ""},
    {"mode": "static_batch"},
    {"mode": "single_stream", "concurrency": ""},
    {"speculative_tokens": "3", "acceptance": "0.7"},
    {"prefix_tokens": "80", "length_ratio": "0.9"},
    {"tp": "2", "n_chips": ""},
    {"burst": "false", "requests_per_user": "4"},
    {"n_chips": "", "concurrency": "2"},
)
"""What is asked of a service beyond its lengths and users."""

ARRIVALS = ("0.2", "2")

APART = "isl=4000 osl=500 concurrency=64"
"""Of rows with two kinds of chips."""

POOLS = (
    "prefill_chip=h100-sxm prefill_tp=4 decode_chip=h200-sxm decode_tp=8",
    "prefill_chip=h200-sxm prefill_tp=2 prefill_workers=2 decode_chip=h200-sxm decode_tp=4",
    "prefill_chip=h100-sxm decode_chip=h100-sxm speculative_tokens=2",
)
LATENT_POOLS = (
    "prefill_chip=b200-sxm prefill_tp=4 decode_chip=b200-sxm decode_tp=8 decode_ep=8 prefix_tokens=1000",
    "prefill_chip=gb200 prefill_tp=8 decode_chip=b200-sxm decode_tp=1 decode_dp=8 decode_ep=8",
)
DENSE = "mode=disaggregated model=llama-3.1-70b precision=fp8 framework=vllm"
LATENT = "mode=disaggregated model=deepseek-r1 precision=nvfp4"
SMALL = "mode=disaggregated model=llama-3.1-8b chip=mi300x decode_chip=gaudi3 decode_workers=2"
"""Pools of workers for prompts and for decode steps."""

FEED_FORWARD = (
    "model=deepseek-r1 chip=h200-sxm tp=8 ffn_chip=h100-sxm ffn_tp=1 ffn_dp=16 ffn_ep=16",
    "model=deepseek-r1 chip=h200-sxm tp=8 ffn_chip=h200-sxm ffn_tp=8 ffn_pp=2 link_gb_per_s=50 link_us=5",
    "model=qwen3-235b-a22b chip=h100-sxm tp=4 ffn_chip=h100-sxm ffn_tp=4",
    "model=qwen3-235b-a22b chip=h100-sxm tp=2 ffn_chip=h200-sxm ffn_tp=8 speculative_tokens=1",
)
"""Feed-forward layers on chips of their own, in fp8."""

CASCADE = (
    "chip=h100-sxm n_chips=1 model=llama-3.1-8b framework=vllm isl=1000 osl=500 concurrency=32 "
    "large_model=llama-3.1-70b large_n_chips=4"
)
LARGE_MODELS = (
    "large_share=0.1",
    "large_share=0.5 large_chip=h200-sxm large_tp=4",
    "large_share=0.9 large_precision=fp8",
)
"""A small model that begins an answer, and a large one that goes on."""

LONG = "model=llama-3.1-70b isl=60000 osl=500"
OVERFLOWS = (
    "chip=wse-3 n_chips=4 concurrency=8 kv_overflow=edge",
    "chip=wse-3 n_chips=4 concurrency=32 kv_overflow=edge",
    "chip=wse-3 n_chips=4 concurrency=16 kv_overflow=pool kv_pool_chip=h100-sxm kv_pool_chips=8",
    "chip=wse-3 n_chips=4 concurrency=16 kv_overflow=chips",
    "chip=lpu-v1 n_chips=576 precision=int8 concurrency=8 kv_overflow=pool kv_pool_chip=h200-sxm "
    "kv_pool_chips=16",
)
"""Caches that overflow the SRAM of a machine."""


def _special() -> list[Row]:
    """Rows with more than one kind of chips, or more than one model."""
    rows = [f"{DENSE} {APART} {row}" for row in POOLS]
    rows += [f"{LATENT} {APART} {row}" for row in LATENT_POOLS]
    rows += [f"{SMALL} {APART}"]
    rows += [f"precision=fp8 {APART} {row}" for row in FEED_FORWARD]
    rows += [f"{CASCADE} {row}" for row in LARGE_MODELS]
    rows += [f"{LONG} {row}" for row in OVERFLOWS]
    return [dict(cell.split("=", 1) for cell in row.split()) for row in rows]


SERVICES = 150


def services() -> list[Row]:
    """Rows of the serving schema."""
    random = np.random.default_rng(SEED + 1)
    special = [*_arriving(random), *_special()]
    plain = filter(_served, _plain(random))
    rows = [*special, *itertools.islice(plain, SERVICES - len(special))]
    return [{"case": f"s{i:03d}"} | row for i, row in enumerate(rows)]


def _plain(random: np.random.Generator) -> Iterator[Row]:
    """Every service in turn, each time asked for another thing."""
    for turn in itertools.count():
        for place, service in enumerate(SERVED):
            way = WAYS[(turn + place) % len(WAYS)]
            yield _service(service, random) | {"concurrency": drawn(random, USERS)} | way


def _arriving(random: np.random.Generator) -> Iterator[Row]:
    """Requests that come at a rate, on machines of all kinds."""
    for service, rate in itertools.product(SERVED[:4], ARRIVALS):
        yield _service(service, random) | {"requests_per_s": rate}


def _service(service: tuple[str, ...], random: np.random.Generator) -> Row:
    chips, count, model, precision, cache, framework = service
    row = {"chip": drawn(random, tuple(chips.split())), "n_chips": count, "model": model}
    row |= {"precision": precision, "kv_precision": cache, "framework": framework}
    prompt, output = LENGTHS[int(random.integers(len(LENGTHS)))]
    return row | {"isl": prompt, "osl": output}


def _served(row: Row) -> bool:
    """Whether a row can be predicted."""
    try:
        resolve_row(0, row, FITTED)
    except InputError:
        return False
    return True
