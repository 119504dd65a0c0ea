"""`vllm bench serve` (and `benchmark_serving.py` before it) and SGLang's `bench_serving`.

Keys as `vllm/benchmarks/serve.py` (github.com/vllm-project/vllm) and `python/sglang/bench_serving.py`
(github.com/sgl-project/sglang) write them. Lengths are means over the requests that were answered.
"""

import math
from collections.abc import Iterator
from typing import Any

from perfmodel.calibration.ingest.content import Content, Options, Row, cell, number, word
from perfmodel.calibration.ingest.serving import NEEDED, framework_word, load, measured, stated

TIMES = ("mean_ttft_ms", "mean_tpot_ms")
COUNTS = ("completed", "total_input_tokens", "total_output_tokens")


def is_sglang(content: Content) -> bool:
    """Whether it is SGLang's: it counts its tokens anew."""
    return _is_bench(content) and content.has("total_output_tokens_retokenized")


def is_vllm(content: Content) -> bool:
    """Whether it is vLLM's, or of a script that writes the same keys."""
    return _is_bench(content) and not is_sglang(content)


def _is_bench(content: Content) -> bool:
    return content.has("total_input_tokens", "mean_ttft_ms") or content.has(
        "total_input_tokens", "median_ttft_ms"
    )


def rows(content: Content, options: Options) -> Iterator[Row | str]:
    """A row for each result, or why there is none."""
    for place, record in enumerate(content.records, 1):
        lacks = [key for key in (*COUNTS, *TIMES) if math.isnan(number(record, key))]
        if lacks:
            yield f"result {place} has no {' and no '.join(lacks)}"
        elif word(record, "ramp_up_strategy"):
            yield f"result {place} is of a rate that ramped up, not of one load"
        elif number(record, "completed") <= 0:
            yield f"result {place}: no request was answered"
        else:
            yield _row(record)


def _row(record: dict[str, Any]) -> Row:
    requests = number(record, "num_prompts", "completed")
    rate = number(record, "request_rate")
    users = number(record, "max_concurrency")
    row = dict.fromkeys(NEEDED, "")
    row |= {"model": word(record, "model_id"), "mode": "serving"}
    row |= {"framework": framework_word(word(record, "backend", "endpoint_type"))}
    row |= _lengths(record) | load(users, rate, requests, number(record, "request_throughput"))
    row |= measured(*(number(record, key) for key in TIMES))
    return row | stated(record)


LIKE_LENGTHS = 0.02
"""By which the ratios of prompts and of answers may differ, and still be one `length_ratio`."""


def _lengths(record: dict[str, Any]) -> Row:
    """Nominal lengths with their ratio, where the file has them and lengths were random; else means."""
    isl, osl = (number(record, key) / number(record, "completed") for key in COUNTS[1:])
    drawn = word(record, "dataset_name").startswith("random")
    nominal = [
        number(record, f"random_{end}_len") if drawn else math.nan for end in ("input", "output")
    ]
    ratios = isl / nominal[0], osl / nominal[1]
    if (
        not all(math.isfinite(ratio) for ratio in ratios)
        or abs(ratios[0] / ratios[1] - 1) > LIKE_LENGTHS
    ):
        return {"isl": cell(isl), "osl": cell(osl)}
    ratio = cell(math.sqrt(ratios[0] * ratios[1]))
    return {"isl": cell(nominal[0]), "osl": cell(nominal[1]), "length_ratio": ratio}
