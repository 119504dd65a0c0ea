"""Measured serving runs of the AIConfigurator package, as rows of the serving schema, and their grades.

The runs are those of InferenceX (SemiAnalysis): a closed loop of some users, ten requests each,
whose lengths are uniform between 0.8 and 1 of the nominal ones. Which runs are sound, which models
and chips are held out and which stay closed was decided before any of them was fitted.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from perfmodel.calibration.aiconfigurator import locate
from perfmodel.library.model import load_model
from perfmodel.workload.transformer import Mixture

TABLE = "silicon_sample.csv"

LENGTH_RATIO = 0.9
"""Mean over nominal length: uniform between 0.8 and 1 (`benchmark_serving.py` of InferenceX)."""

Part = Literal["fit", "heldout", "closed"]

CLOSED_MODELS = ("Llama-3.1-8B", "Qwen3-32B", "Qwen3-235B")
HELD_OUT_MODELS = ("gpt-oss-120b", "Qwen3.5", "Kimi-K2.5", "GLM-5")
HELD_OUT_CHIPS = ("b300_sxm",)
CLOSED_CHIPS = ("gb300",)
HOPPER = ("h100_sxm", "h200_sxm")
"""Where SGLang's caches are in bf16, if nothing else is said; else caches are in fp8: assumed from
launch scripts of InferenceX, for the table does not say."""

CACHES: dict[tuple[str, str, str], str] = {
    ("Kimi-K2.5", "int4", "h200_sxm"): "bf16",
    ("Kimi-K2.5", "int4", "b200_sxm"): "bf16",
    ("gpt-oss", "fp4", "h100_sxm"): "bf16",
    ("gpt-oss", "fp4", "h200_sxm"): "bf16",
    ("Qwen3.5", "fp8", "h200_sxm"): "fp8",
}
"""Caches by model, precision and system, where the launch script says so, or leaves it to the framework
and the checkpoint (`kimik2.5_int4_*.sh`, `gptoss_fp4_h*.sh`, `qwen3.5_fp8_h200.sh` of InferenceX)."""

EIGHT = ("h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm")
"""Systems of eight chips: runs on more are not of one machine."""

SPREAD = 1.3
"""Largest over smallest TPOT of runs with equal settings: beyond it, something else differed."""


class Run(NamedTuple):
    """One measured run.

    - `cells`: its row of the serving schema.
    - `ttft`, `tpot`: measured means, in s.
    - `part`: whether it may be fitted on, is held out, or stays closed until the end.
    - `best`: whether it is of the best grade.
    - `spoiled`: why it is known to measure something else; empty where nothing is known.
    - `config`: what is alike in all runs of one deployment, whatever the lengths and the users.
    """

    cells: dict[str, str]
    ttft: float
    tpot: float
    part: Part
    best: bool
    spoiled: str
    config: tuple[str, ...]


def read_runs(source: str = "aiconfigurator", closed: bool = False) -> list[Run]:
    """All runs but those that stay closed; with `closed`, those alone.

    **Raises:**

    - `InputError`: when the package is not there.
    """
    folder: Any = locate(source).parent
    path = folder / TABLE
    with io.StringIO(path.read_text(encoding="utf-8"), newline="") as file:
        rows = list(csv.DictReader(file))
    grades = _best(rows)
    runs = [_run(row, best) for row, best in zip(rows, grades, strict=True)]
    return [run for run in runs if (run.part == "closed") == closed]


def _users(row: dict[str, str]) -> str:
    found = re.search(r"silicon_concurrency=(\d+)", row["silicon_data_source"])
    return found[1] if found else ""


_NOT_SETTINGS = (
    "id", "silicon_data_source", "backend_version", "silicon_ttft_ms", "silicon_tpot_ms"
)  # fmt: skip


def _best(rows: Sequence[dict[str, str]]) -> list[bool]:
    """One machine, users known, and equal settings measured alike."""
    settings = [
        (_users(row), *(text for name, text in row.items() if name not in _NOT_SETTINGS))
        for row in rows
    ]
    sound = [_sound(row) for row in rows]
    times: dict[tuple, list[float]] = {}
    for key, row, fine in zip(settings, rows, sound, strict=True):
        if fine:
            times.setdefault(key, []).append(float(row["silicon_tpot_ms"]))
    return [
        fine and max(times[key]) <= SPREAD * min(times[key])
        for key, fine in zip(settings, sound, strict=True)
    ]


def _sound(row: dict[str, str]) -> bool:
    chips = _number(row, "tp_size") * _number(row, "pp_size")
    too_many = row["system"] in EIGHT and chips > 8
    return row["mode"] == "agg" and "Users/" not in row["silicon_data_source"] and not too_many


def _number(row: dict[str, str], name: str) -> float:
    return float(row[name] or 1)


def _part(row: dict[str, str]) -> Part:
    model, system = row["model_path"], row["system"]
    if row["mode"] != "agg" or system in CLOSED_CHIPS or _has(model, CLOSED_MODELS):
        return "closed"
    return "heldout" if system in HELD_OUT_CHIPS or _has(model, HELD_OUT_MODELS) else "fit"


def _has(text: str, words: Sequence[str]) -> bool:
    return any(word in text for word in words)


def _deepseek(row: dict[str, str]) -> bool:
    return _has(row["model_path"], ("DeepSeek-R1", "DeepSeek-V3"))


Rule = Callable[[dict[str, str]], bool]

SPOILED: dict[str, Rule] = {
    "GB200: tp is the count of all chips of a disaggregated deployment": lambda row: (
        row["system"] == "gb200"
    ),
    "DeepSeek on TensorRT-LLM: some runs speculate, and do not say so": lambda row: (
        _deepseek(row) and row["backend"] == "trtllm"
    ),
    "DeepSeek on SGLang, B200 in fp4 and B300: compilation inside the mean": lambda row: (
        _deepseek(row)
        and row["backend"] == "sglang"
        and (
            row["system"] == "b300_sxm" or (row["system"], row["precision"]) == ("b200_sxm", "fp4")
        )
    ),
    "gpt-oss on H100 with 512 users: TPOT of eight users": lambda row: (
        "gpt-oss" in row["model_path"] and row["system"] == "h100_sxm" and _users(row) == "512"
    ),
}
"""Groups that are known to measure something else."""


def _run(row: dict[str, str], best: bool) -> Run:
    cells = _cells(row) if row["mode"] == "agg" else {}
    spoiled = next((why for why, rule in SPOILED.items() if rule(row)), "")
    config = tuple(cells.get(name, "") for name in _CONFIG)
    ttft, tpot = (float(row[f"silicon_{name}_ms"] or "nan") / 1e3 for name in ("ttft", "tpot"))
    return Run(cells, ttft, tpot, _part(row), best, spoiled, config)


_CONFIG = ("chip", "model", "precision", "framework", "tp", "ep", "dp")


def _cells(row: dict[str, str]) -> dict[str, str]:
    """The row as the schema has it: how the chips are counted is `_chips`."""
    chips = _chips(row)
    spread = _number(row, "tp_size") == 1 and chips > 1
    experts = _number(row, "moe_ep_size") > 1 or _cannot_cut(row, chips)
    return {
        "chip": row["system"],
        "n_chips": str(chips),
        "model": row["model_path"].removeprefix("zhipuai/"),
        "precision": row["precision"],
        "kv_precision": _cache(row),
        "mode": "serving",
        "tp": "1" if spread else str(chips),
        "pp": "1",
        "ep": str(chips) if experts else ("1" if chips == 1 or not spread else str(chips)),
        "dp": str(chips) if spread else "1",
        "isl": row["isl"],
        "osl": row["osl"],
        "concurrency": _users(row),
        "framework": row["backend"],
        "length_ratio": str(LENGTH_RATIO),
        "requests_per_user": "5" if _chats(row) else "10",
    }


def _chats(row: dict[str, str]) -> bool:
    """Whether a user sends five requests, not ten (`glm5_fp8_h200.sh`)."""
    return "GLM-5" in row["model_path"] and row["system"] == "h200_sxm"


def _cache(row: dict[str, str]) -> str:
    for (model, precision, system), cache in CACHES.items():
        if model in row["model_path"] and (precision, system) == (row["precision"], row["system"]):
            return cache
    return "bf16" if row["backend"] == "sglang" and row["system"] in HOPPER else "fp8"


SCALED = 128
"""Columns that share a scale in fp8 checkpoints of mixtures."""


def _cannot_cut(row: dict[str, str], ranks: int) -> bool:
    """Whether tensor ranks would cut through the blocks that share a scale, which vLLM and SGLang refuse."""
    stacks = load_model(row["model_path"].removeprefix("zhipuai/")).stacks
    inner = [s.layer.feed_forward for s in stacks if isinstance(s.layer.feed_forward, Mixture)]
    return row["precision"] == "fp8" and any(one.inter % (SCALED * ranks) for one in inner)


def _chips(row: dict[str, str]) -> int:
    """Tensor ranks are all chips of a run; where there is one, data ranks are, which the table gives
    by those of the experts: their product with the tensor ranks of experts counts chips twice."""
    sizes = (_number(row, name) for name in ("tp_size", "moe_tp_size", "moe_ep_size"))
    return int(next((size for size in sizes if size > 1), 1))


def columns(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The cells of runs, by column."""
    return {name: [run.cells[name] for run in runs] for name in runs[0].cells}


def once(runs: Sequence[Run]) -> np.ndarray:
    """Weights that count each distinct measurement as one."""
    keys = [(run.ttft, run.tpot) for run in runs]
    counts = {key: keys.count(key) for key in set(keys)}
    return np.array([1 / counts[key] for key in keys])
