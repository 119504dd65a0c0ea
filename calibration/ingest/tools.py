"""The tools whose results are read, each recognised by what is in a file."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from perfmodel.calibration.ingest import (
    aiperf,
    bench_serve,
    inferencex,
    llama_bench,
    nccl_tests,
    products,
)
from perfmodel.calibration.ingest.content import Content, Options, Row, peek, read_content
from perfmodel.errors import InputError

Schema = Literal["serving", "kernels"]


def _as_they_are(content: Content, found: Sequence[Row]) -> list[Row]:
    return list(found)


class Tool(NamedTuple):
    """A tool, or one way in which it writes.

    - `name`: as a sentence has it; `looks_for`: what in a file tells it.
    - `schema`: of its rows.
    - `recognises`, `rows`: of `Content`; a text in place of a row says why there is none.
    - `finish`: rows with what only all of them tell.
    """

    name: str
    looks_for: str
    schema: Schema
    recognises: Callable[[Content], bool]
    rows: Callable[[Content, Options], Iterator[Row | str]]
    finish: Callable[[Content, Sequence[Row]], list[Row]] = _as_they_are


TOOLS = (
    Tool(
        "a result of SGLang's bench_serving",
        "JSON with total_output_tokens_retokenized",
        "serving",
        bench_serve.is_sglang,
        bench_serve.rows,
    ),
    Tool(
        "a result of vllm bench serve",
        "JSON with total_input_tokens and mean_ttft_ms",
        "serving",
        bench_serve.is_vllm,
        bench_serve.rows,
    ),
    Tool(
        "an export of AIPerf or genai-perf",
        "JSON with time_to_first_token",
        "serving",
        aiperf.is_json,
        aiperf.rows,
    ),
    Tool(
        "an export of AIPerf or genai-perf",
        "a CSV that begins Metric,avg",
        "serving",
        aiperf.is_csv,
        aiperf.rows,
    ),
    Tool(
        "a result of InferenceX",
        "JSON with hw and conc",
        "serving",
        inferencex.is_result,
        inferencex.rows,
    ),
    Tool(
        "llama-bench output",
        "JSON with n_prompt, n_gen and avg_ts",
        "serving",
        llama_bench.is_json,
        llama_bench.rows,
    ),
    Tool(
        "llama-bench output",
        "a CSV with these columns",
        "serving",
        llama_bench.is_csv,
        llama_bench.rows,
    ),
    Tool(
        "llama-bench output",
        "a printed table with model, test and t/s",
        "serving",
        llama_bench.is_markdown,
        llama_bench.rows,
    ),
    Tool(
        "nccl-tests output",
        "a printed table with size, count, type, time, algbw and busbw",
        "kernels",
        nccl_tests.is_table,
        nccl_tests.rows,
        nccl_tests.finish,
    ),
    Tool(
        "a table of matrix products",
        "a CSV with M, N and K, or with M and a column for each provider",
        "kernels",
        products.is_table,
        products.rows,
    ),
)


class Reading(NamedTuple):
    """What a file gave: its tool, rows, and a sentence for each result that gave none."""

    path: Path
    tool: Tool
    rows: list[Row]
    left_out: list[str]


def recognise(content: Content) -> Tool | None:
    """The tool that wrote a file; none where it is of no kind that is known."""
    return next((tool for tool in TOOLS if tool.recognises(content)), None)


def read_results(path: Path, options: Options) -> Reading:
    """The rows of a file.

    **Raises:**

    - `InputError`: when it cannot be read, is of no kind that is known, or has no row.
    """
    content = read_content(path)
    tool = recognise(content)
    if tool is None:
        kinds = "; ".join(f"{one.looks_for} ({one.name})" for one in TOOLS)
        raise InputError(f"{path} is of no kind that is known; looked for were {kinds}.")
    found = list(tool.rows(content, options))
    left_out = [*content.faults, *(one for one in found if isinstance(one, str))]
    rows = tool.finish(content, [one for one in found if not isinstance(one, str)])
    if not rows:
        why = left_out[0] if left_out else "it holds none"
        raise InputError(f"{path} is {tool.name}, but no result of it can be read: {why}.")
    return Reading(path, tool, rows, left_out)


PEEK = 200_000
"""Characters at the beginning of a file that tell whether it is another tool's; JSON is read whole."""


def refuse_results(path: Path) -> None:
    """Refuse a file that is another tool's, where rows of this library are wanted.

    **Raises:**

    - `InputError`: with the command that makes rows of it.
    """
    if not os.path.isfile(path):
        return
    try:
        tool = recognise(peek(path, PEEK))
    except InputError:
        return
    if tool is not None:
        raise InputError(
            f"{path} is {tool.name}, not a CSV with the columns that are read here; run `perfmodel ingest "
            f"{path} --out rows.csv`, which asks for all that it does not say, and give rows.csv."
        )
