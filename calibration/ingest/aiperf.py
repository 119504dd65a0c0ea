"""AIPerf and genai-perf: `profile_export_aiperf.json`, `profile_export_genai_perf.json`, and the same as CSV.

Metrics have their mean under `avg` and their unit beside (docs/reference/json-export-schema.md of
github.com/ai-dynamo/aiperf; genai-perf, of github.com/triton-inference-server/perf_analyzer, has the same).
Inter-token latency is (request latency - TTFT) / (output tokens - 1): TPOT.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from perfmodel.calibration.ingest.content import Content, Options, Row, cell, number, word
from perfmodel.calibration.ingest.serving import NEEDED, framework_word, load, measured

TTFT, ITL = "time_to_first_token", "inter_token_latency"

LENGTHS = ("input_sequence_length", "output_sequence_length")

MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "sec": 1e3}

USERS = ("loadgen.concurrency", "perf_analyzer.stimulus.concurrency", "concurrency")
RATES = ("loadgen.request_rate", "perf_analyzer.stimulus.request_rate", "request_rate")
MODELS = ("endpoint.model_names", "models.items", "model_names", "model")
BACKENDS = ("endpoint.backend", "backend")
"""Where `input_config` has them: of AIPerf, of genai-perf, and of genai-perf before 0.0.13."""


def is_json(content: Content) -> bool:
    """Whether it is JSON with AIPerf's metrics."""
    return content.has(TTFT, "request_latency") or content.has(TTFT, ITL)


def is_csv(content: Content) -> bool:
    """Whether it is a CSV with them."""
    return content.header[:2] == ["metric", "avg"] and "time to first token" in content.text.lower()


def rows(content: Content, options: Options) -> Iterator[Row | str]:
    """A row for each export, or why there is none."""
    for record in content.records or [_of_csv(content)]:
        yield _row(record)


def _row(record: Mapping[str, Any]) -> Row | str:
    config = record.get("input_config")
    config = config if isinstance(config, dict) else {}
    isl, osl = (_mean(record, name) for name in LENGTHS)
    requests = _mean(record, "request_count")
    times = [_milliseconds(record, name) for name in (TTFT, ITL)]
    if all(math.isnan(time) for time in times):
        return "it has no mean of time_to_first_token and none of inter_token_latency: was it streamed?"
    row = dict.fromkeys((*NEEDED, "concurrency"), "") | {"mode": "serving"}
    row |= {"isl": cell(isl), "osl": cell(osl), "model": _model(config)}
    row |= {"framework": framework_word(word({"at": _first(config, BACKENDS)}, "at"))}
    users, rate = (number({"at": _first(config, at)}, "at") for at in (USERS, RATES))
    if not math.isnan(users) or not math.isnan(rate):
        row.pop("concurrency")
        row |= load(users, rate, requests, _mean(record, "request_throughput"))
    return row | measured(*times)


def _mean(record: Mapping[str, Any], name: str) -> float:
    """The mean of a metric."""
    found = record.get(name)
    return number(found, "avg") if isinstance(found, dict) else math.nan


def _milliseconds(record: Mapping[str, Any], name: str) -> float:
    """The mean of a time, in ms."""
    found = record.get(name)
    unit = word(found, "unit") if isinstance(found, dict) else ""
    return _mean(record, name) * MILLISECONDS.get(unit, math.nan)


def _first(config: Mapping[str, Any], places: tuple[str, ...]) -> Any:
    """What stands at the first of some places that there are, whose steps have dots between."""
    for place in places:
        at: Any = config
        for step in place.split("."):
            at = at.get(step) if isinstance(at, dict) else None
        if at is not None:
            return at
    return None


def _model(config: Mapping[str, Any]) -> str:
    """The only model of a run; empty where there are none or several."""
    found = _first(config, MODELS)
    names = found if isinstance(found, list) else [found]
    plain = [one.get("name") if isinstance(one, dict) else one for one in names]
    return str(plain[0]) if len(plain) == 1 and plain[0] else ""


METRIC = re.compile(r"(.+?)(?: \((.+)\))?")
"""Of a line of the CSV: the name of a metric, and its unit."""


def _of_csv(content: Content) -> dict[str, dict[str, str]]:
    """The metrics of a CSV as JSON has them; the unit of a length may be left out."""
    found: dict[str, dict[str, str]] = {}
    for line in content.cells:
        match = METRIC.fullmatch(line[0].strip().lower()) if len(line) > 1 else None
        if match:
            name = match[1].replace(" ", "_")
            found.setdefault(name, {"unit": match[2] or "", "avg": line[1]})
    return found
