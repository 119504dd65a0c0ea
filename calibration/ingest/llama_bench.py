"""llama.cpp's `llama-bench`: JSON, JSON lines, CSV and the table that it prints.

As tools/llama-bench/README.md of github.com/ggml-org/llama.cpp has them: `pp` tests time a prompt alone, `tg`
tests tokens after a prompt of `n_depth`, for one sequence.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from perfmodel.calibration.ingest.content import Content, Options, Row, cell, number, word
from perfmodel.calibration.ingest.serving import NEEDED, measured

KEYS = ("model_filename", "n_prompt", "n_gen", "avg_ts")

MARKDOWN = re.compile(r"^\|\s*model\s*\|.*\|\s*test\s*\|\s*t/s\s*\|", re.M)

FORMATS = {
    **{
        "F32": "fp32",
        "BF16": "bf16",
        "F16": "fp16",
        "Q8_0": "int8",
        "Q4_0": "int4",
        "Q4_1": "int4",
    },
    **{"Q4_K": "int4", "IQ4_NL": "int4", "IQ4_XS": "int4", "MXFP4": "mxfp4"},
}
"""Formats of GGUF files by the nearest of this library; of other bits a user has to say one."""

FORMAT = re.compile(r"\b(BF16|F16|F32|MXFP4|I?Q\d_[0-9A-Z]+)(?:_[SML])?\b")


def is_json(content: Content) -> bool:
    """Whether it is JSON."""
    return content.has(*KEYS)


def is_csv(content: Content) -> bool:
    """Whether it is a CSV."""
    return set(KEYS) <= set(content.header)


def is_markdown(content: Content) -> bool:
    """Whether it is the printed table."""
    return MARKDOWN.search(content.text) is not None


def rows(content: Content, options: Options) -> Iterator[Row | str]:
    """A row for each test, or why there is none."""
    printed = _printed(content.text) if is_markdown(content) else content.table()
    for place, record in enumerate(content.records or printed, 1):
        found = _row(record)
        yield f"test {place} {found}" if isinstance(found, str) else found


def _row(record: Mapping[str, Any]) -> Row | str:
    prompt, answer, depth = (number(record, key) for key in ("n_prompt", "n_gen", "n_depth"))
    depth = 0.0 if math.isnan(depth) else depth
    rate = number(record, "avg_ts")
    if not rate > 0:
        return "has no tokens per second (avg_ts)"
    if prompt > 0 and answer > 0:
        return "is of a prompt and an answer in one time, which says neither TTFT nor TPOT"
    row = dict.fromkeys(NEEDED, "") | {"framework": "llama.cpp", "mode": "single_stream"}
    row |= {"concurrency": "1", "requests_per_user": "1", "model": _model(record)} | _chips(record)
    row |= {"precision": _format(record), "kv_precision": _cache(record)}
    if prompt > 0:
        row |= {"isl": cell(prompt + depth), "osl": "1", "prefix_tokens": cell(depth)}
        return row | measured(1e3 * prompt / rate, math.nan)
    return (
        row | {"isl": cell(max(depth, 1.0)), "osl": cell(answer)} | measured(math.nan, 1e3 / rate)
    )


def _chips(record: Mapping[str, Any]) -> Row:
    """The chip, and how many: layers are split over several GPUs, or rows of them (`split_mode`)."""
    names = [
        name.strip() for name in word(record, "gpu_info", "cpu_info").split(",") if name.strip()
    ]
    if not names:
        return {}
    many = len(names) if word(record, "split_mode") != "none" else 1
    stages = "1" if word(record, "split_mode") in ("row", "tensor") else str(many)
    ranks = {"pp": stages, "tp": str(many // int(stages))}
    return {"chip": names[0], "n_chips": str(many)} | ranks


def _model(record: Mapping[str, Any]) -> str:
    """A model's name from that of its file, without its format and parts."""
    stem = word(record, "model_filename").replace("\\", "/").rsplit("/", 1)[-1]
    plain = re.sub(r"-\d{5}-of-\d{5}$", "", re.sub(r"\.gguf$", "", stem, flags=re.I))
    return re.sub(r"[-._](?:I?Q\d\w*|BF16|F16|F32|MXFP4\w*)$", "", plain, flags=re.I)


def _format(record: Mapping[str, Any]) -> str:
    """The format of the weights; empty where it has to be asked for."""
    found = FORMAT.search(word(record, "model_type").upper())
    return FORMATS.get(found[1], "") if found else ""


def _cache(record: Mapping[str, Any]) -> str:
    return {"bf16": "bf16", "q8_0": "int8"}.get(word(record, "type_k").lower(), "fp16")


TEST = re.compile(r"(pp|tg)\s?(\d+)(?:\+(tg)(\d+))?(?: @ d(\d+))?")
"""As the table names tests: pp512, tg128, pp512+tg128, tg128 @ d4096."""


def _printed(text: str) -> Iterator[Row]:
    """The tests of the printed table, in the keys of JSON."""
    names: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if MARKDOWN.match(line):
            names = cells
        elif names and len(cells) == len(names) and not set(line) <= set("|-: "):
            yield _test(dict(zip(names, cells, strict=True)))


def _test(row: Row) -> Row:
    found = TEST.fullmatch(row["test"])
    sizes = {"n_prompt": "0", "n_gen": "0", "n_depth": "0"}
    if found:
        kinds = {"pp": "n_prompt", "tg": "n_gen"}
        sizes |= {kinds[found[1]]: found[2]} | ({"n_gen": found[4]} if found[3] else {})
        sizes |= {"n_depth": found[5] or "0"}
    rate = row["t/s"].split("±")[0].strip() if found else ""
    return {"model_type": row["model"], "avg_ts": rate} | sizes
