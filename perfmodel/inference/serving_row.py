"""A row of the serving schema: what is asked, and the chips and ranks that it gives."""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.errors import InputError
from perfmodel.kernels.kernel_table import number_of
from perfmodel.library.files import word_of
from perfmodel.workload.request import MAX_SPECULATIVE_TOKENS, Request, request_of

DISAGGREGATED = "disaggregated"

MODES = ("serving", "offline", "static_batch", "single_stream", DISAGGREGATED)


class GivenRanks(NamedTuple):
    """Chips and ranks that a row gives; `nan` where it leaves one out."""

    n_chips: float
    tp: float
    pp: float
    ep: float
    dp: float
    replicas: float = float("nan")


RANKS = GivenRanks._fields

LOAD = (
    *("isl", "osl", "concurrency", "length_ratio", "requests_per_user", "speculative_tokens"),
    *("acceptance", "prefix_tokens", "requests_per_s", "length_spread", "read_interval"),
    *("max_num_batched_tokens", "max_num_seqs", "memory_fraction"),
)
"""Columns of what is asked."""


def read_row(cells: dict[str, str]) -> tuple[GivenRanks, Request]:
    """What a row gives and asks, in plain numbers.

    **Raises:**

    - `InputError`: for a cell that is not a number greater than zero, or one that is missing.
    """
    numbers = read_numbers(cells)
    ranks = GivenRanks(*(numbers[name] for name in RANKS))
    return ranks, to_request(numbers, mode_of(cells.get("mode", "")))


def to_request(numbers: dict[str, Any], mode: str) -> Request:
    """What the numbers of a row, or of many, ask for; `nan` users: as many as fill the KV cache."""
    request = {name: numbers[name] for name in LOAD if name != "length_ratio"}
    for name in ("isl", "osl", "prefix_tokens"):
        request[name] = numbers[name] * numbers["length_ratio"]
    request["requests_per_s"] = np.nan_to_num(numbers["requests_per_s"])
    spread = numbers["length_spread"]
    request["length_spread"] = np.where(
        np.isnan(spread), spread_below(numbers["length_ratio"]), spread
    )
    continuous = float(mode != "static_batch")
    return request_of(request | {"batch_size": 1.0, "continuous_batching": continuous})


def read_numbers(cells: dict[str, str]) -> dict[str, float]:
    """The numbers of a row by column; `nan` where a cell without a default is empty.

    **Raises:**

    - `InputError`: for a cell that is not a number greater than zero, or one that is missing.
    """
    numbers = {name: number(name, cells.get(name, "").strip()) for name in (*RANKS, *LOAD)}
    mode = mode_of(cells.get("mode", ""))
    for name in ("isl", "osl"):
        if np.isnan(numbers[name]):
            raise InputError(f"{name} is missing; give a number of tokens greater than zero.")
    numbers = overrule(numbers, cells)
    _check_load(numbers, mode)
    for name, meant in DEFAULTS.items():
        numbers[name] = meant if np.isnan(numbers[name]) else numbers[name]
    if numbers["speculative_tokens"] > MAX_SPECULATIVE_TOKENS:
        raise InputError(
            f"speculative_tokens is {numbers['speculative_tokens']:.0f}; allowed are at most "
            f"{MAX_SPECULATIVE_TOKENS}."
        )
    if numbers["acceptance"] > 1:
        raise InputError(f"acceptance is {numbers['acceptance']:g}; allowed is a share up to 1.")
    if numbers["prefix_tokens"] >= numbers["isl"]:
        raise InputError(prefix_too_long(numbers["prefix_tokens"], numbers["isl"]))
    return numbers


def overrule(numbers: dict[str, Any], cells: dict[str, str]) -> dict[str, Any]:
    """Numbers of a row, or of many, with what its words say in their place: a single user, no burst."""
    single = mode_of(cells.get("mode", "")) == "single_stream"
    users = {"concurrency": 1.0} if single else {}
    bursts = {} if burst_of(cells.get("burst", "")) else {"requests_per_user": np.inf}
    return numbers | users | bursts


def _check_load(numbers: dict[str, float], mode: str) -> None:
    """Either users are given, or the rate at which requests come."""
    has_users, has_rate = (
        not np.isnan(numbers[name]) for name in ("concurrency", "requests_per_s")
    )
    if has_rate and mode != MODES[0]:
        raise InputError(f"requests_per_s is for mode serving, not for {mode}; leave it empty.")
    if has_users and has_rate:
        raise InputError(
            "concurrency and requests_per_s are both given; give users who wait for their answers, "
            "or requests that come at a rate."
        )
    if not has_users and not has_rate and mode != "offline":
        raise InputError(NO_CONCURRENCY)


DEFAULTS = {
    "length_ratio": 1.0,
    "requests_per_user": 10.0,
    "speculative_tokens": 0.0,
    "acceptance": 0.85,
    "prefix_tokens": 0.0,
    "max_num_batched_tokens": 0.0,
    "read_interval": 1.0,
    "max_num_seqs": 0.0,
    "memory_fraction": 0.0,
}
"""What an empty cell means. Of drafted second tokens 85 to 90 % are accepted (DeepSeek-V3 Technical
Report, arXiv 2412.19437, section 5.4.3)."""


SHARE_OF_MEMORY = "allowed is a share of memory above 0 and up to 1, such as 0.9"


def spread_below(ratio: Any) -> Any:
    """Half of the range of lengths over their mean, where the longest are the nominal ones; 0: all equal."""
    return np.maximum(1 / ratio - 1, 0.0)


NO_CONCURRENCY = (
    "concurrency is missing; give the number of sequences in flight, or requests_per_s."
)


def prefix_too_long(prefix: float, isl: float) -> str:
    """What is said of a cached prefix that is as long as the prompt."""
    return f"prefix_tokens is {prefix:.0f}, but must be less than the {isl:.0f} tokens of isl."


def mode_of(cell: str) -> str:
    """The mode that a cell means; serving where it is empty.

    **Raises:**

    - `InputError`: for an unknown one.
    """
    return word_of(cell, list(MODES), "mode") if cell.strip() else MODES[0]


def burst_of(cell: str) -> bool:
    """Whether all users send their first request at once; true where the cell is empty.

    **Raises:**

    - `InputError`: for another word than true or false.
    """
    return not cell.strip() or word_of(cell, ["true", "false"], "burst") == "true"


def number(name: str, text: str) -> float:
    """The number in a cell; `nan` where it is empty.

    **Raises:**

    - `InputError`: for what is no number, or none that is allowed in this column.
    """
    if not text:
        return float("nan")
    value = number_of(text)
    if np.isnan(value):
        raise InputError(f"{name} is {text[:40]!r}, which is not a number.")
    if name == "memory_fraction" and not 0 < value <= 1:
        raise InputError(f"memory_fraction is {text[:40]!r}; {SHARE_OF_MEMORY}.")
    if name == "max_num_seqs" and (value < 1 or value != round(value)):
        raise InputError(f"max_num_seqs is {text[:40]!r}; allowed are whole numbers from 1 on.")
    may_be_zero = ("speculative_tokens", "acceptance", "prefix_tokens", "length_spread")
    lowest = 0.0 if name in may_be_zero else np.nextafter(0.0, 1.0)
    if not lowest <= value <= 1e9:
        raise InputError(
            f"{name} is {text[:40]!r}; allowed are numbers greater than zero up to 1e9."
        )
    if (name in RANKS or name.endswith("_workers")) and value != round(value):
        raise InputError(f"{name} is {text[:40]!r}; allowed are whole numbers.")
    return value
