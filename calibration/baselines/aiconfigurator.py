"""AIConfigurator, a baseline on the same serving runs: its own interpolation of the tables.

`aiconfigurator_core` (Apache-2.0, `data` extra) prices a step with its Rust engine and a batch with
`run_agg`. It is asked with the checkpoint of the run's precision, the newest tables of the framework,
and the mean lengths; what it says to TPOT is taken as it is.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.calibration.baselines.roofline import decoding
from perfmodel.calibration.data.aiconfigurator_columns import FACTS
from perfmodel.calibration.data.inferencex import LENGTH_RATIO, Run
from perfmodel.kernels.kernel_table import software_of

CONTEXT_TOKENS = 8192
"""Tokens of prompts in a step: vLLM's `max-num-batched-tokens` in the launch scripts."""


def aiconfigurator_tpots(runs: Sequence[Run]) -> list[float]:
    """TPOT of each run, in s, of pools that of the decode workers; `nan` where the package has no answer."""
    logging.disable(logging.ERROR)
    try:
        return [_answer(tuple(_question(decoding(run.cells)).items())) for run in runs]
    finally:
        logging.disable(logging.NOTSET)


def _question(cells: dict[str, str]) -> dict[str, str]:
    names = ("model", "precision", "chip", "framework", "tp", "ep", "dp", "n_chips")
    found = {name: cells[name] for name in (*names, "isl", "osl", "concurrency", "kv_precision")}
    return found | {"framework": software_of(cells["framework"])[0]}


@functools.cache
def _answer(question: tuple[tuple[str, str], ...]) -> float:
    asked = dict(question)
    try:
        return float(_asked(asked)) / 1e3
    except Exception:  # the package raises errors of many kinds where a table lacks a shape
        return float("nan")


def _asked(asked: dict[str, str]) -> float:
    """TPOT in ms."""
    from aiconfigurator_core.sdk.backends.factory import get_backend
    from aiconfigurator_core.sdk.config import RuntimeConfig

    data = int(float(asked["dp"]))
    users = max(1, int(float(asked["concurrency"])) // data)
    lengths = {name: round(float(asked[name]) * LENGTH_RATIO) for name in ("isl", "osl")}
    found = get_backend(asked["framework"]).run_agg(
        _model(asked),
        _tables(asked["chip"], asked["framework"]),
        RuntimeConfig(batch_size=users, isl=lengths["isl"], osl=lengths["osl"]),
        ctx_tokens=CONTEXT_TOKENS,
    )
    table = found.get_summary_df()
    return table["tpot"].iloc[0] if len(table) else np.nan


def _model(asked: dict[str, str]) -> Any:
    from aiconfigurator_core.sdk import common
    from aiconfigurator_core.sdk.config import ModelConfig
    from aiconfigurator_core.sdk.models import get_model

    name = asked["model"].split("/")[-1], asked["precision"]
    checkpoint = next(one for one in FACTS.checkpoints if (one.model, one.precision) == name)
    chips, experts = (int(float(asked[name])) for name in ("n_chips", "ep"))
    config = ModelConfig(
        tp_size=int(float(asked["tp"])),
        attention_dp_size=int(float(asked["dp"])),
        moe_tp_size=chips // experts,
        moe_ep_size=experts,
        kvcache_quant_mode=common.KVCacheQuantMode[
            "fp8" if asked["kv_precision"] == "fp8" else "bfloat16"
        ],
    )
    if checkpoint.format:
        config.gemm_quant_mode = common.GEMMQuantMode[checkpoint.format]
        config.moe_quant_mode = common.MoEQuantMode[checkpoint.format]
    return get_model(checkpoint.path, config, asked["framework"])


@functools.cache
def _tables(system: str, framework: str) -> Any:
    from aiconfigurator_core.sdk import perf_database as tables

    newest = tables.get_latest_database_version(system, framework) or ""
    return tables.get_database(system, framework, newest)
