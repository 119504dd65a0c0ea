"""Results of InferenceX (InferenceMAX before): what `utils/process_result.py` makes of a run.

Keys as that file of github.com/SemiAnalysisAI/InferenceX writes them; times are in s. Lists of them
(`agg_bmk.json`) and rows of its web service, with `metrics` in a table of their own, have the same names.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from perfmodel.calibration.ingest.content import Content, Options, Row, cell, number, word
from perfmodel.calibration.ingest.serving import NEEDED, framework_word, measured
from perfmodel.inference.pools import POOLS

LENGTH_RATIO = 0.9
"""Mean over nominal length: uniform between 0.8 and 1 (`benchmark_serving.py` of InferenceX)."""

REQUESTS_PER_USER = "10"
"""As its scripts have it (`num_prompts` is ten times `max_concurrency`)."""


def is_result(content: Content) -> bool:
    """Whether it is one, or a list of them."""
    return any("conc" in record and _hardware(record) for record in content.records)


def rows(content: Content, options: Options) -> Iterator[Row | str]:
    """A row for each result, or why there is none."""
    for place, record in enumerate(content.records, 1):
        metrics = record.get("metrics")
        found = _row(record | (metrics if isinstance(metrics, dict) else {}))
        yield f"result {place} {found}" if isinstance(found, str) else found


def _row(record: Mapping[str, Any]) -> Row | str:
    times = [1e3 * number(record, f"mean_{name}") for name in ("ttft", "tpot")]
    if all(math.isnan(time) for time in times):
        return "has neither mean_ttft nor mean_tpot"
    row = dict.fromkeys((*NEEDED, "concurrency"), "")
    row |= {"chip": _hardware(record), "model": word(record, "model")}
    row |= {"precision": word(record, "precision").lower()}
    row |= {"framework": framework_word(word(record, "framework"))}
    row |= {"isl": cell(number(record, "isl")), "osl": cell(number(record, "osl"))}
    row |= {"concurrency": cell(number(record, "conc")), "requests_per_user": REQUESTS_PER_USER}
    row |= {"length_ratio": str(LENGTH_RATIO)} | _drafts(record)
    return row | (_pools(record) if _is(record, "disagg") else _ranks(record)) | measured(*times)


def _hardware(record: Mapping[str, Any]) -> str:
    """The chip, whose runner may follow after a hyphen: h200-cw."""
    return word(record, "hw", "hardware").split("-")[0]


def _is(record: Mapping[str, Any], key: str) -> bool:
    """Whether a key holds true, as JSON or as a word."""
    return str(record.get(key, "")).lower() == "true"


def _drafts(record: Mapping[str, Any]) -> Row:
    """Where tokens are drafted, their number is to be asked for: the file does not say it."""
    drafts = word(record, "spec_decoding", "spec_method", "mtp").lower() not in ("", "none", "off")
    return {"speculative_tokens": ""} if drafts else {}


def _spread(record: Mapping[str, Any], pool: str) -> tuple[int, dict[str, str]]:
    """Chips and ranks of one worker: where attention has data ranks, they are as many as the chips."""
    chips = int(number(record, f"{pool}tp") if not math.isnan(number(record, f"{pool}tp")) else 1)
    stages = int(number(record, f"{pool}pp") if not math.isnan(number(record, f"{pool}pp")) else 1)
    experts = number(record, f"{pool}ep")
    data = _is(record, f"{pool}dp_attention")
    ranks = {"tp": "1" if data else str(chips), "dp": str(chips) if data else "1"}
    ranks |= {"ep": cell(experts) or "1", "pp": str(stages)}
    return chips * stages, ranks


def _ranks(record: Mapping[str, Any]) -> Row:
    own = "decode_" if "tp" not in record and "decode_tp" in record else ""
    chips, ranks = _spread(record, own)
    return {"mode": "serving", "n_chips": str(chips)} | ranks


def _pools(record: Mapping[str, Any]) -> Row:
    chips = [number(record, f"num_{pool}_gpu") for pool in POOLS]
    row = {"mode": "disaggregated", "n_chips": cell(sum(chips))}
    for pool in POOLS:
        row |= {f"{pool}_workers": cell(number(record, f"{pool}_num_workers"))}
        row |= {f"{pool}_{name}": rank for name, rank in _spread(record, f"{pool}_")[1].items()}
    return row
