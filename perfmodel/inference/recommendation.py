"""The answer of `recommend`: as plain numbers, and as a table to look at."""

import math
from typing import Any, NamedTuple, cast

from perfmodel.results import rows_as_html, rows_as_text

SHOWN = (
    *("mode", "chip", "prefill_chip", "decode_chip", "ffn_chip", "n_chips", "framework"),
    *("precision", "kv_precision", "tp", "pp", "ep", "dp", "replicas", "concurrency"),
    *("ttft_ms", "tpot_ms"),
    *("output_tokens_per_s_per_user", "output_tokens_per_s_per_chip"),
    *("usd_per_million_output_tokens", "joules_per_output_token", "limited_by"),
)
"""Columns that are printed; `deployments` has all."""


ADDED = (
    *("rank", "limited_by", "worse", "launch", "warning", "end_to_end_ms", "free_bytes"),
    *("utilisation", "max_requests_per_s", "max_requests_per_s_within_limits", "max_running"),
    *("ttft_ms_at_confidence", "tpot_ms_at_confidence"),
)
"""Columns that a deployment has besides those of the serving schema."""


class Recommendation(NamedTuple):
    """The answer. It prints its deployments as a table, in a terminal and in a notebook.

    - `deployments`: the best, each with its rank, the limit that stops it, and why it is not better.
    - `front`: of each machine, what no other of it beats in tokens/s per user and per chip.
    - `considered`: deployments that were priced; `refused`: those that were not chosen, by reason.
    - `chips_left_out`: chips that were named and on which nothing keeps the limits, and why.
    - `caution`: what keeping limits at the end of the range costs, and which measurement would be worth most.
    - `assumptions`: of the answer, by name.
    - `mix`: of requests that come at a rate, kinds of replicas that carry it together for less than one kind.
    """

    deployments: list[dict[str, Any]]
    front: list[dict[str, Any]]
    considered: int
    refused: dict[str, int]
    chips_left_out: dict[str, str]
    caution: dict[str, Any]
    assumptions: dict[str, Any]
    mix: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, lists and words; what is not known or has no bound is None."""
        return {name: _plain(value) for name, value in self._asdict().items()}

    def __str__(self) -> str:
        return rows_as_text(self.deployments, SHOWN)

    def _repr_html_(self) -> str:
        """For a notebook."""
        return rows_as_html(self.deployments, SHOWN)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in cast(dict[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast(list[Any], value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
