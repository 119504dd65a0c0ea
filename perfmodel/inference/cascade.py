r"""A cascade: a small model that begins an answer and a large one that goes on with it.

The small model writes all but a share $s$ of the output; the large one reads the prompt and what is written,
and writes the rest. Of $C$ users as many are with each as the time spent there is of the whole, so that both
are asked together, in rounds that close in on it:

$$
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from perfmodel.columns import Columns, Value, is_empty
from perfmodel.errors import InputError
from perfmodel.inference.serving_row import number
from perfmodel.library.fitted_intervals import basis_in, weakest
from perfmodel.library.ledger import ENDS, joint_basis

Cells = dict[str, list[str]]
Predict = Callable[[Cells, int, Path], Columns]

MODEL_COLUMNS = (
    "model",
    "chip",
    "n_chips",
    "precision",
    "kv_precision",
    "tp",
    "pp",
    "ep",
    "dp",
    "framework",
)
SHARE = "large_share"
READ = (*(f"large_{name}" for name in MODEL_COLUMNS), SHARE)
"""Columns."""

OLD_NAMES = tuple(name.replace("large_", "boss_") for name in READ)

ROUNDS = 4
"""Of the shares of users, which each other close in on it."""

MIN_USERS = 0.05
"""Users with one of the models, at least: so that it has a time even where hardly anyone is there."""

BY_TOKENS = (
    "joules_per_output_token",
    "joules_per_output_token_at_wall",
)


def cascaded_rows(cells: Cells) -> list[int]:
    """Places of rows that name a large model.

    **Raises:**

    - `InputError`: for columns as they were called before, which must not be lost unseen.
    """
    old = [name for name in cells if name in OLD_NAMES and any(cells[name])]
    if old:
        raise InputError(
            f"columns that begin with boss_ begin with large_ now; rename {', '.join(old)}."
        )
    return [i for i, name in enumerate(cells.get("large_model", [])) if name.strip()]


def predict_cascades(
    cells: Cells, places: Sequence[int], calibration: Path, predict: Predict
) -> Columns:
    """What rows with a small and a large model come to; `places` are theirs."""
    rows = [{name: column[i] for name, column in cells.items()} for i in places]
    errors, shares = ["" for _ in rows], np.full(len(rows), 0.5)
    for i, row in enumerate(rows):
        try:
            _check(row)
        except InputError as wrong:
            errors[i] = str(wrong)
    answers: list[dict[str, Value]] = [{} for _ in rows]
    good = [i for i, error in enumerate(errors) if not error]
    for _ in range(ROUNDS if good else 0):
        row_pairs = [_rows_of_both(rows[i], float(shares[i])) for i in good]
        sides = [
            _predicted([row_pair[k] for row_pair in row_pairs], calibration, predict)
            for k in (0, 1)
        ]
        for i, small, large in zip(good, sides[0], sides[1], strict=True):
            answers[i], shares[i] = _joined(rows[i], small, large, float(shares[i]))
    names = list(dict.fromkeys(name for answer in answers for name in answer)) or ["error"]
    columns: Columns = {name: [answer.get(name, "") for answer in answers] for name in names}
    columns["error"] = [
        error or answer.get("error", "") for error, answer in zip(errors, answers, strict=True)
    ]
    return columns


def _check(row: dict[str, str]) -> None:
    share = number(SHARE, row.get(SHARE, "").strip())
    if not share < 1:
        raise InputError(
            f"{SHARE} is {row.get(SHARE, '')[:40]!r}; give the share of the output that the large "
            "model writes, between zero and one."
        )
    if row.get("mode", "").strip() not in ("", "serving"):
        raise InputError("large_model is for mode serving; leave mode empty.")
    for name in ("isl", "osl", "concurrency"):
        if np.isnan(number(name, row.get(name, "").strip())):
            raise InputError(f"{name} is missing; with large_model give isl, osl and concurrency.")


def _rows_of_both(row: dict[str, str], with_small: float) -> tuple[dict[str, str], dict[str, str]]:
    """The small model's row and the large one's."""
    shared = {name: text for name, text in row.items() if name not in READ}
    isl, osl, concurrency = (float(row[name]) for name in ("isl", "osl", "concurrency"))
    share = float(row[SHARE])
    written = (1 - share) * osl
    small = shared | {
        "osl": f"{written}",
        "concurrency": f"{max(concurrency * with_small, MIN_USERS)}",
    }
    large = shared | {name: row.get(f"large_{name}", "") for name in MODEL_COLUMNS}
    large["chip"] = large["chip"] or row.get("chip", "")
    large |= {"isl": f"{isl + written}", "osl": f"{share * osl}"}
    return small, large | {"concurrency": f"{max(concurrency * (1 - with_small), MIN_USERS)}"}


def _predicted(
    rows: list[dict[str, str]], calibration: Path, predict: Predict
) -> list[dict[str, Value]]:
    names = {name for row in rows for name in row}
    cells = {name: [row.get(name, "") for row in rows] for name in names}
    columns = predict(cells, len(rows), calibration)
    return [{name: column[i] for name, column in columns.items()} for i in range(len(rows))]


def _joined(
    row: dict[str, str], small: dict[str, Value], large: dict[str, Value], before: float
) -> tuple[dict[str, Value], float]:
    """The values of both together, and the share of users that are with the small model."""
    for name, side in (("small model", small), ("large model", large)):
        if side["error"]:
            return {"error": f"{name}: {side['error']}", "fits": side["fits"]}, before
    osl, concurrency, share = float(row["osl"]), float(row["concurrency"]), float(row[SHARE])
    parts = ((1 - share) * osl, share * osl)
    cells: dict[str, Value] = {"fits": "true", "bound": small["bound"], "error": ""}
    for end in ("", "_low", "_high"):
        times = [
            _seconds(side, tokens, end) for side, tokens in zip((small, large), parts, strict=True)
        ]
        first = float(small[f"ttft_ms{end}"])
        cells[f"ttft_ms{end}"] = small[f"ttft_ms{end}"]
        cells[f"tpot_ms{end}"] = (sum(times) * 1e3 - first) / max(osl - 1, 1e-9)
    seconds = [
        _seconds(side, tokens, "") for side, tokens in zip((small, large), parts, strict=True)
    ]
    total, chips = sum(seconds), float(small["n_chips"]) + float(large["n_chips"])
    if seconds[1] > seconds[0]:
        cells["bound"] = large["bound"]
    rate = concurrency * osl / total
    cells |= {
        "n_chips": small["n_chips"],
        "large_n_chips": large["n_chips"],
        "concurrency": row["concurrency"],
        "tpot_with_first_ms": total / osl * 1e3,
        "output_tokens_per_s_per_user": 1e3 / float(cells["tpot_ms"]),
        "output_tokens_per_s_per_chip": rate / chips,
        "total_tokens_per_s": rate * (1 + float(row["isl"]) / osl),
        "running": float(small["running"]) + float(large["running"]),
    }
    cells |= _costs((small, large), rate, chips)
    cells["basis"] = weakest(basis_in(str(side["basis"])) for side in (small, large))
    for name in BY_TOKENS:
        sides = (side[name] for side in (small, large))
        small_joules, large_joules = (
            np.nan if is_empty(joules) else float(joules) for joules in sides
        )
        cells[name] = (1 - share) * small_joules + share * large_joules
    return cells, seconds[0] / total


def _costs(sides: Sequence[dict[str, Value]], rate: float, chips: float) -> dict[str, Value]:
    """USD of an hour of all chips, over the chips and over `rate` tokens a second, with their range."""
    hours = {end: sum(_hour(side, end) for side in sides) for end in ENDS}
    return {
        f"usd_per_million_output_tokens{end}": hour / 3600 / rate * 1e6
        for end, hour in hours.items()
    } | {
        "usd_per_chip_hour": hours[""] / chips,
        "cost_basis": joint_basis(str(side["cost_basis"]) for side in sides),
    }


def _hour(side: dict[str, Value], end: str) -> float:
    """USD of an hour of all chips of one side, at an end of their range; `nan` where it is not known."""
    million = side[f"usd_per_million_output_tokens{end}"]
    if is_empty(million):
        return float("nan")
    rate = float(side["output_tokens_per_s_per_chip"]) * float(side["n_chips"])
    return 3600e-6 * float(million) * rate


def _seconds(side: dict[str, Value], tokens: float, end: str) -> float:
    """From asking a model to its last token."""
    later = max(tokens - 1, 0.0) * float(side[f"tpot_ms{end}"])
    return (float(side[f"ttft_ms{end}"]) + later) / 1e3
