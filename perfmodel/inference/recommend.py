"""The best deployments under limits: which chips, framework, formats, ranks and users.

Limits are kept with the probability that is asked for; the objective is of the prediction itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.attention_ffn_table import price_attention_ffn
from perfmodel.inference.chips_left_out import chips_left_out
from perfmodel.inference.deployment import fewest_experts
from perfmodel.inference.deployment_table import (
    DeploymentTable,
    Progress,
    joined,
    price_aggregated,
    silent,
)
from perfmodel.inference.deployment_words import chip_kinds_of, in_words, machine_of
from perfmodel.inference.evaluate import NAMES
from perfmodel.inference.fleet import price_fleets
from perfmodel.inference.limits import (
    broken,
    closest,
    keeps,
    limited_numbers,
    reasons,
    serves,
)
from perfmodel.inference.mixed_fleet import cheapest_mix
from perfmodel.inference.pooled_table import price_disaggregated
from perfmodel.inference.pools import CHIP_COLUMNS, FEED_FORWARD, POOLS, SIDE_COLUMNS
from perfmodel.inference.question import (
    AGGREGATED,
    ATTENTION_FFN,
    DISAGGREGATED,
    OBJECTIVES,
    Objective,
    Question,
    ask,
    check,
    modes_of,
    whole_number,
)
from perfmodel.inference.recommendation import Recommendation
from perfmodel.inference.serving_predictions import ATTENTION_FFN_OUTPUTS
from perfmodel.inference.serving_row import DEFAULTS
from perfmodel.inference.wall_power import joules_at_wall
from perfmodel.library.anchors import MEASURED_RANGE
from perfmodel.library.fitted import FITTED
from perfmodel.library.fitted_check import check_fitted
from perfmodel.library.model import load_model

LIMITED_BY_MEMORY = "KV-cache capacity"
LIMITED_BY_USERS = "concurrency asked"
MORE_NOT_TRIED = "more users not tried"
LIMITED_BY_OBJECTIVE = "objective"
"""What a deployment may be limited by, besides limits and a rate of requests: capacity, the users that were
asked for or tried, or that more of them make worse what counts."""

PREDICTION = 50
"""Confidence, in %, of the prediction itself."""


def recommend(
    *,
    calibration: Path | None = None,
    top: int = 10,
    progress: Progress = silent,
    **asked: Any,
) -> Recommendation:
    """The best deployments under limits, as `perfmodel recommend` finds them.

    Several chips, numbers, formats, frameworks or modes are a list; what is left out is chosen.

    **Arguments:**

    - `model`, `isl`, `osl`: a name or the path of a config.json; input and output tokens of a request.
    - `chip`, `n_chips`: chips, and how many in all.
    - `concurrency`: users, each with one request open; or `requests_per_s`: requests that come at a rate, for
      which without `n_chips` the fewest chips are found.
    - `ttft_ms`, `tpot_ms`, `end_to_end_ms`, `usd_per_million`: limits, in ms and USD per million
      output tokens.
    - `framework`, `precision`, `kv_precision`, `speculative_tokens`, `mode`: what is tried.
    - `prefill_chip`, `decode_chip`, `ffn_chip`: chips of two pools, and of feed-forward layers.
    - `objective`: `throughput`, `cost`, `energy` or `speed`.
    - `confidence`: 50, 80 or 90: the probability with which each limit is kept, in %.
    - `usd_per_chip_hour`: a quote: it replaces all other costs of a chip, in USD.
    - `top`: how many, at most, each spread in another way or on other chips.
    - `calibration`: a folder of fitted parameters; as shipped where it is not given.
    - any other name: a further column of the serving schema, such as `length_ratio=0.9`.

    **Raises:**

    - `InputError`: for a question that cannot be answered; where nothing keeps the limits it says what comes
      closest, and by how much.
    """
    if calibration is not None:
        check_fitted(calibration)
    return answer(ask(**asked), calibration or FITTED, whole_number("top", top), progress)


def answer(
    question: Question,
    calibration: Path,
    top: int = 10,
    progress: Progress = silent,
) -> Recommendation:
    """The best deployments that keep the limits of a question.

    **Arguments:**

    - `top`: how many, at most, each spread in another way or on other chips.

    **Raises:**

    - `InputError`: for a question that cannot be answered; where nothing keeps the limits it says what comes
      closest, and by how much.
    """
    check(question)
    table = price(question, calibration, progress)
    objective = OBJECTIVES[question.objective]
    bounded = limited_numbers(table, question.confidence)
    breaks, serving = broken(bounded, question.limits), serves(table, bounded)
    usable = serving & keeps(bounded, question.limits)
    if not usable.any():
        raise InputError(_nothing_keeps(table, bounded, question))
    order = best_first(table, objective, usable)
    if not len(order):
        raise InputError(_not_known(objective))
    layouts = _layouts(table)
    firsts = order[np.sort(np.unique(layouts[order], return_index=True)[1])]
    chosen = firsts[:top]
    rows = [_row(question, table, place, bounded) for place in chosen]
    for rank, (row, place) in enumerate(zip(rows, chosen, strict=True), 1):
        row |= {"rank": rank, "limited_by": _limited_by(question, table, layouts, place, breaks)}
        row |= {"worse": _worse(row, rows[0], objective) if rank > 1 else ""}
    return Recommendation(
        rows,
        front_of_each(table, serving, usable),
        table.size,
        dict(table.refused + reasons(table, bounded, question)),
        chips_left_out(question, table, bounded, order, calibration),
        _caution(table, bounded, question, chosen[0]),
        _assumptions(question, table, rows),
        cheapest_mix(question, table, firsts, calibration),
    )


def _with_utilisation(table: DeploymentTable, question: Question) -> DeploymentTable:
    """With the rate at which requests come, and its share of the most that can be answered."""
    if not question.open_loop:
        return table
    rate = np.full(table.size, question.requests_per_s)
    load = {"requests_per_s": rate, "utilisation": rate / table.numbers["max_requests_per_s"]}
    return table._replace(numbers=table.numbers | load)


def price(question: Question, calibration: Path, progress: Progress) -> DeploymentTable:
    """Every deployment of the modes that are tried, priced."""
    aggregated = price_aggregated if question.n_chips else _price_fleets
    prices = {
        AGGREGATED: aggregated,
        DISAGGREGATED: price_disaggregated,
        ATTENTION_FFN: price_attention_ffn,
    }
    tables: list[DeploymentTable] = []
    wrong: list[InputError] = []
    for mode in modes_of(question):
        try:
            tables.append(prices[mode](question, calibration, progress))
        except InputError as error:
            wrong.append(error)
    if not tables:
        raise wrong[0]
    table = _with_utilisation(joined(tables), question)
    table.refused.update(str(error) for error in wrong)
    return table


def _price_fleets(question: Question, calibration: Path, progress: Progress) -> DeploymentTable:
    """Fleets; of a model without experts replicas alone, for data ranks are the same there."""
    dense = np.isnan(fewest_experts(load_model(question.model)))
    once = {"dp": "1"} | question.cells if dense else question.cells
    return price_fleets(question._replace(cells=once), calibration, progress)


def _not_known(objective: Objective) -> str:
    """What is said where no deployment that keeps the limits has the number that is wanted."""
    quote = "give --usd-per-chip-hour, or " if objective.column.startswith("usd") else ""
    return f"{objective.meaning} are not known for any of these chips; {quote}ask for another objective."


def _nothing_keeps(
    table: DeploymentTable, bounded: dict[str, np.ndarray], question: Question
) -> str:
    """What is said where nothing keeps the limits."""
    free = table.numbers["free_bytes"]
    if not (free >= 0).any():
        return (
            f"{question.model} fits in no way on the chips given: at best {-free.max() / 1e9:.4g} GB are "
            "short on each chip for weights and one sequence; give more chips, a smaller format or shorter "
            "texts."
        )
    serving = serves(table, bounded)
    if not serving.any():
        most = table.numbers["n_chips"].max()
        return f"no fleet of up to {most:.0f} chips carries the rate; give fewer requests."
    place, over = closest(serving, bounded, question)
    return (
        f"no deployment keeps the limits at {question.confidence} % confidence; the closest is "
        f"{in_words(table.row(place))} with {over}: allow more, give more chips, or a lower --confidence."
    )


# Choice


def best_first(table: DeploymentTable, objective: Objective, usable: np.ndarray) -> np.ndarray:
    """Places of the deployments that keep the limits, the best first; of equal ones that which answers a
    request soonest."""
    goal = np.log(table.numbers[objective.column]) * (-1 if objective.most else 1)
    places = np.flatnonzero(usable & np.isfinite(goal))
    if not len(places):
        return places
    steps = np.rint((goal[places] - goal[places].min()) / EQUAL)
    return places[np.lexsort((table.numbers["end_to_end_ms"][places], steps))]


EQUAL = 1e-3
"""Difference of logarithms of objectives that count as equal: fleets of one size differ by rounding, and
users beyond those that run by nothing."""


SPREAD = ("n_chips", "tp", "pp", "ep", "dp", "replicas", "speculative_tokens")


def _layouts(table: DeploymentTable) -> np.ndarray:
    """A number for each deployment, the same for those that differ in their users alone; for requests that
    come at a rate the same for all numbers of one replica."""
    apart = REPLICATED if "requests_per_s" in table.numbers else ()
    words = [name for name in (*NAMES, "mode") if name in table.words]
    spread = [name for name in table.numbers if _is_spread(name) and name not in apart]
    return table.alike(words, spread)


def _is_spread(name: str) -> bool:
    """Whether a column says how a model is spread."""
    sides = tuple(f"{side}_" for side in (*POOLS, FEED_FORWARD))
    return name in SPREAD or (name.startswith(sides) and name not in ATTENTION_FFN_OUTPUTS)


REPLICATED = ("n_chips", "replicas")
"""In what fleets of one kind of replica differ."""


def _limited_by(
    question: Question,
    table: DeploymentTable,
    layouts: np.ndarray,
    place: int,
    breaks: dict[str, np.ndarray],
) -> str:
    """What stops a deployment from taking more users: the limit that the next number of them breaks."""
    numbers = table.numbers
    if question.open_loop:
        return "requests_per_s"
    pooled = table.words["mode"][place] == DISAGGREGATED  # whose other users are with the prompts
    if not pooled and numbers["running"][place] < 0.999 * numbers["concurrency"][place]:
        return LIMITED_BY_MEMORY
    more = np.flatnonzero(
        (layouts == layouts[place]) & (numbers["concurrency"] > numbers["concurrency"][place])
    )
    if not len(more):
        return LIMITED_BY_USERS if question.concurrency else MORE_NOT_TRIED
    next_one = more[np.argmin(numbers["concurrency"][more])]
    names = [name for name, where in breaks.items() if where[next_one]]
    return ", ".join(names) or LIMITED_BY_OBJECTIVE


def _worse(row: dict[str, Any], best: dict[str, Any], objective: Objective) -> str:
    """By how much a deployment falls short of the best."""
    off = row[objective.column] / best[objective.column] - 1
    word = "fewer" if objective.most else "more"
    return f"{100 * abs(off):.1f} % {word} {objective.meaning}"


def _row(
    question: Question, table: DeploymentTable, place: int, bounded: dict[str, np.ndarray]
) -> dict[str, Any]:
    """A deployment in the columns of the serving schema, with the ends of its ranges."""
    row = question.cells | {"isl": question.isl, "osl": question.osl} | table.row(place)
    row = {name: value for name, value in row.items() if name not in FACTORS}
    if row["chip"] and not row.get("ffn_chip"):
        rate = np.array([row["output_tokens_per_s_per_chip"]])
        at_wall = joules_at_wall(str(row["chip"]), table.joules[place].sum()[None], rate)
        row["joules_per_output_token_at_wall"] = float(at_wall[0])
    row |= {"fits": "true", "error": ""}
    ends = {f"{name}_at_confidence": float(bounded[name][place]) for name in ("ttft_ms", "tpot_ms")}
    return row | ends


FACTORS = ("ttft_high", "tpot_high")
"""Numbers of the table that the ends of a row's ranges have in them."""


# Front


def front_of_each(
    table: DeploymentTable, serves: np.ndarray, usable: np.ndarray
) -> list[dict[str, Any]]:
    """Of each machine and mode, what no other deployment beats in speed of a user and of a chip.

    `machine` has chips of both kinds together; `chips` says how a deployment shares them out.
    """
    numbers = table.numbers
    found: list[dict[str, Any]] = []
    words = [
        table.words[name].astype(str) for name in ("mode", *CHIP_COLUMNS) if name in table.words
    ]
    keys = np.stack([*words, numbers["n_chips"].astype(str)], axis=1)
    machines = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    for machine in range(machines.max() + 1):
        own = np.flatnonzero((machines == machine) & serves)
        for place in own[_front(table, own)]:
            row = table.row(place)
            found.append(
                {"machine": chip_kinds_of(row), "chips": machine_of(row)}
                | {"keeps_limits": bool(usable[place])}
                | {name: row[name] for name in FRONT_COLUMNS if name in row}
            )
    return found


FRONT_COLUMNS = (
    *("mode", *CHIP_COLUMNS, "n_chips", "framework", "precision"),
    *("kv_precision", "tp", "pp", "ep", "dp", "replicas", "speculative_tokens"),
    *(f"{pool}_workers" for pool in POOLS),
    *(f"{side}_{rank}" for side in (*POOLS, FEED_FORWARD) for rank in SIDE_COLUMNS[1:]),
    *("concurrency", "ttft_ms", "tpot_ms", "output_tokens_per_s_per_user"),
    *("output_tokens_per_s_per_chip", "usd_per_million_output_tokens", "joules_per_output_token"),
)


def _front(table: DeploymentTable, own: np.ndarray) -> np.ndarray:
    """Places among `own`, from the fastest user on."""
    speed, chip = (
        table.numbers[name][own]
        for name in ("output_tokens_per_s_per_user", "output_tokens_per_s_per_chip")
    )
    order = np.lexsort((-chip, -speed))
    most = np.maximum.accumulate(chip[order])
    return order[np.r_[True, chip[order][1:] > most[:-1]]] if len(order) else order


# Caution


def _caution(
    table: DeploymentTable, bounded: dict[str, np.ndarray], question: Question, chosen: int
) -> dict[str, Any]:
    """What it costs to keep limits with that confidence, and the measurement that would give most back."""
    objective = OBJECTIVES[question.objective]
    plain = limited_numbers(table, PREDICTION)
    loose = serves(table, plain) & keeps(plain, question.limits)
    best = best_first(table, objective, loose)
    goal = table.numbers[objective.column]
    here = float(goal[chosen])
    found: dict[str, Any] = {
        "objective": objective.column,
        "at_confidence": here,
        "at_prediction": float(goal[best[0]]) if len(best) else here,
    }
    return found | _worth_of_measuring(table, question, objective, here)


def _worth_of_measuring(
    table: DeploymentTable, question: Question, objective: Objective, here: float
) -> dict[str, Any]:
    """The stack whose best deployment would be chosen if one of its runs were measured, and the gain."""
    numbers = table.numbers
    narrow = {
        f"{name}_high": np.minimum(numbers[f"{name}_high"], high)
        for name, high in MEASURED_RANGE.items()
    }
    measured = limited_numbers(table._replace(numbers=numbers | narrow), question.confidence)
    usable = serves(table, measured) & keeps(measured, question.limits)
    best = best_first(table, objective, usable)
    if not len(best):
        return {}
    place = int(best[0])
    gain = numbers[objective.column][place] / here - 1
    gain = gain if objective.most else -gain
    if gain <= 1e-3:
        return {}
    return {"measure": in_words(table.row(place)), "gain_if_measured": float(gain)}


def _assumptions(
    question: Question, table: DeploymentTable, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    acceptance = question.cells.get("acceptance") or DEFAULTS["acceptance"]
    drafts = {"acceptance": float(acceptance)} if max(question.drafted) > 0 else {}
    return drafts | {
        "confidence": question.confidence,
        "objective": question.objective,
        "isl": question.isl,
        "osl": question.osl,
        "modes": list(modes_of(question)),
        "cost_basis": rows[0]["cost_basis"],
        "programs": table.programs,
    }
