"""Measured serving runs of the AIConfigurator package, as rows of the serving schema, and their grades.

The runs are those of InferenceX (SemiAnalysis): a closed loop of some users, ten requests each,
whose lengths are uniform between 0.8 and 1 of the nominal ones. Which runs are sound, which models
and chips are held out and which stay closed was decided before any of them was fitted. How the pools of
disaggregated runs are read (`pools.py`) was decided before one of their times was looked at.
"""

import csv
import functools
import io
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NamedTuple

from perfmodel.calibration.data.aiconfigurator import locate
from perfmodel.calibration.data.inferencex_pools import PLAN, chips_of, pool_cells, size_of
from perfmodel.library.model import load_model
from perfmodel.workload.transformer import Mixture

TABLE = "silicon_sample.csv"

LENGTH_RATIO = 0.9
"""Mean over nominal length: uniform between 0.8 and 1 (`benchmark_serving.py` of InferenceX)."""

Part = Literal["fit", "heldout", "closed", "disaggregated"]

OPEN: tuple[Part, ...] = ("fit", "heldout")
"""Parts that may be looked at."""

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


def read_runs(source: str = "aiconfigurator", parts: Collection[Part] = OPEN) -> list[Run]:
    """The runs of some parts.

    **Raises:**

    - `InputError`: when the package is not there.
    """
    folder: Any = locate(source).parent
    path = folder / TABLE
    with io.StringIO(path.read_text(encoding="utf-8"), newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [_cells(row) for row in rows]
    runs = [_run(*each) for each in zip(rows, cells, _best(rows, cells), strict=True)]
    return [run for run in runs if run.part in parts]


def _users(row: dict[str, str]) -> str:
    found = re.search(r"silicon_concurrency=(\d+)", row["silicon_data_source"])
    return found[1] if found else ""


_NOT_SETTINGS = (
    "id", "silicon_data_source", "backend_version", "silicon_ttft_ms", "silicon_tpot_ms"
)  # fmt: skip


def _best(rows: Sequence[dict[str, str]], cells: Sequence[dict[str, str]]) -> list[bool]:
    """One machine, users known, and equal settings measured alike."""
    settings = [
        (*own.values(), *(text for name, text in row.items() if name not in _NOT_SETTINGS))
        for row, own in zip(rows, cells, strict=True)
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
    chips = size_of(row, "tp_size") * size_of(row, "pp_size")
    too_many = row["system"] in EIGHT and chips > 8
    return "Users/" not in row["silicon_data_source"] and not too_many


def _part(row: dict[str, str]) -> Part:
    model, system = row["model_path"], row["system"]
    if row["mode"] != "agg":
        return "disaggregated"
    if system in CLOSED_CHIPS or _has(model, CLOSED_MODELS):
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


def _run(row: dict[str, str], cells: dict[str, str], best: bool) -> Run:
    config = tuple(cells.get(name, "") for name in _CONFIG)
    ttft, tpot = (float(row[f"silicon_{name}_ms"] or "nan") / 1e3 for name in ("ttft", "tpot"))
    return Run(cells, ttft, tpot, _part(row), best, _spoiled(row), config)


def _spoiled(row: dict[str, str]) -> str:
    return next((why for why, rule in SPOILED.items() if rule(row)), "")


_CONFIG = ("chip", "model", "precision", "framework", "tp", "ep", "dp", *PLAN)


def _cells(row: dict[str, str]) -> dict[str, str]:
    """The row as the schema has it; empty where its plan is not known."""
    plan = _plan(row) if row["mode"] == "agg" else _pools(row)
    if not plan:
        return {}
    return {
        "chip": row["system"],
        "model": _model(row),
        "precision": row["precision"],
        "kv_precision": _cache(row),
        "mode": "serving" if row["mode"] == "agg" else "disaggregated",
        "isl": row["isl"],
        "osl": row["osl"],
        "concurrency": _users(row),
        "framework": row["backend"],
        "length_ratio": str(LENGTH_RATIO),
        "requests_per_user": "5" if _chats(row) else "10",
    } | plan


def _pools(row: dict[str, str]) -> dict[str, str]:
    """The pools of a run that is worth reading: its users are known, and it measures what it says."""
    users = _users(row)
    return pool_cells(row, users) if users and not _spoiled(row) else {}


def _plan(row: dict[str, str]) -> dict[str, str]:
    """How one machine is spread: how its chips are counted is `chips_of`."""
    chips = chips_of(row)
    spread = size_of(row, "tp_size") == 1 and chips > 1
    experts = size_of(row, "moe_ep_size") > 1 or _cannot_cut(row, chips)
    return {
        "n_chips": str(chips),
        "tp": "1" if spread else str(chips),
        "pp": "1",
        "ep": str(chips) if experts or spread else "1",
        "dp": str(chips) if spread else "1",
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
    return row["precision"] == "fp8" and any(n % (SCALED * ranks) for n in _inner(_model(row)))


@functools.cache
def _inner(model: str) -> tuple[float, ...]:
    """Columns of an expert, of each mixture of a model."""
    layers = [stack.layer.feed_forward for stack in load_model(model).stacks]
    return tuple(float(one.inter) for one in layers if isinstance(one, Mixture))


def _model(row: dict[str, str]) -> str:
    return row["model_path"].removeprefix("zhipuai/")


def columns(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The cells of runs, by column."""
    return {name: [run.cells[name] for run in runs] for name in runs[0].cells}
