"""How well deployments are chosen: predictions pick one of the measured configurations under a limit on TPOT.

A configuration is ranks and users; a group is what is asked: chip, model, format, framework and lengths.
Chosen is the configuration of most predicted output tokens/s per chip whose TPOT keeps the limit with some
probability; where none does, the one that comes closest. Nothing is fitted to these choices.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.data.inferencex import LENGTH_RATIO, Run
from perfmodel.calibration.metrics import grouped
from perfmodel.errors import InputError
from perfmodel.library.fitted_intervals import LEVELS, Interval

GROUP = ("chip", "model", "framework", "isl", "osl")
"""What is asked. How many chips a deployment has is chosen, so throughput is per chip."""

CHOSEN = ("precision", "n_chips", "tp", "ep", "dp", "concurrency")
"""What is chosen."""

MIN_CONFIGURATIONS = 3
"""Of a group, at least: fewer are no choice."""

LIMITS = (0.01, 0.02, 0.03, 0.05, 0.1)
"""Limits on TPOT, in s: from 100 to 10 tokens/s per user. Taken where some configurations of a group keep it
and some break it."""

MAX_EXCESS = 1.1
"""Measured TPOT over the limit, beyond which a choice has broken it."""


# Measured configurations


class Configurations(NamedTuple):
    """Measured configurations, or options of decisions, an entry each; times in s, output tokens/s per chip.

    - `run`: the place of one run that measured it.
    - `tpot`, `throughput`: measured, the mean of repeats.
    - `predicted`, `high`: TPOT, infinite where it does not fit, and the factor to the high end of its range.
    - `predicted_throughput`: 0 where it does not fit.
    - `configurator`: TPOT by AIConfigurator; `nan` where it has no answer.
    """

    run: np.ndarray
    tp: np.ndarray
    users_per_chip: np.ndarray
    tpot: np.ndarray
    throughput: np.ndarray
    predicted: np.ndarray
    high: np.ndarray
    predicted_throughput: np.ndarray
    configurator: np.ndarray

    def at(self, places: np.ndarray) -> "Configurations":
        """Those of some places."""
        return Configurations(*(column[places] for column in self))


def configurations_of(
    runs: Sequence[Run], predicted: Sequence[dict[str, str]], configurator: Sequence[float]
) -> Configurations:
    """What sound runs measured, with what was predicted of each run, by group."""
    places = [i for i, run in enumerate(runs) if run.sound]
    same = grouped((_configuration(runs[i]), i) for i in places)
    repeats = [same[key] for key in sorted(same)]
    first = [own[0] for own in repeats]
    given = [runs[i].cells for i in first]
    rows = [predicted[i] for i in first]
    tpot, high = _numbers(rows, "tpot_ms"), _numbers(rows, "tpot_ms_high")
    return Configurations(
        np.array(first),
        _numbers(given, "tp"),
        _numbers(given, "concurrency") / _numbers(given, "n_chips"),
        np.array([np.mean([runs[i].tpot for i in own]) for own in repeats]),
        np.array([np.mean([throughput_of(runs[i]) for i in own]) for own in repeats]),
        np.nan_to_num(tpot / 1e3, nan=np.inf),
        np.nan_to_num(high / tpot, nan=1.0),
        np.nan_to_num(_numbers(rows, "output_tokens_per_s_per_chip"), nan=0.0),
        np.array([configurator[i] for i in first]),
    )


def _configuration(run: Run) -> tuple[tuple[str, ...], ...]:
    return group_of(run), tuple(run.cells[name] for name in CHOSEN)


def group_of(run: Run) -> tuple[str, ...]:
    """What is asked."""
    return tuple(run.cells[name] for name in GROUP)


def _numbers(rows: Sequence[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in rows])


def throughput_of(run: Run) -> float:
    """Output tokens/s per chip as measured: users times mean length over a request's time, per chip."""
    length = float(run.cells["osl"]) * LENGTH_RATIO
    request = run.ttft + run.tpot * (length - 1)
    return float(run.cells["concurrency"]) * length / request / float(run.cells["n_chips"])


# Decisions


class Options(NamedTuple):
    """A decision is a group with a limit on TPOT, in s; its options are the group's configurations.

    Every entry is an option, those of a decision one after another.
    """

    decision: np.ndarray
    limit: np.ndarray
    of: Configurations

    @property
    def starts(self) -> np.ndarray:
        """The first option of each decision."""
        return np.unique(self.decision, return_index=True)[1]


def options_of(configurations: Configurations, groups: Sequence[Any]) -> Options:
    """Every group of `MIN_CONFIGURATIONS`, under each of `LIMITS` that is a choice.

    **Raises:**

    - `InputError`: when there is no such group.
    """
    members = grouped((group, place) for place, group in enumerate(groups)).values()
    asked = [
        (np.array(own), limit)
        for own in members
        if len(own) >= MIN_CONFIGURATIONS
        for limit in LIMITS
        if _is_choice(configurations.tpot[own], limit)
    ]
    if not asked:
        raise InputError(
            f"no chip, model and lengths have {MIN_CONFIGURATIONS} measured configurations to choose among, "
            "some of which keep a limit and some do not; give more runs by --data."
        )
    sizes = [len(own) for own, _ in asked]
    decision = np.repeat(np.arange(len(asked)), sizes)
    limits = np.repeat([limit for _, limit in asked], sizes)
    return Options(decision, limits, configurations.at(np.concatenate([own for own, _ in asked])))


def _is_choice(tpot: np.ndarray, limit: float) -> bool:
    return bool((tpot <= limit).any() and (tpot > MAX_EXCESS * limit).any())


def best_options(
    options: Options, tpot: np.ndarray, throughput: np.ndarray, allowed: np.ndarray | bool = True
) -> np.ndarray:
    """Of each decision the option of most throughput whose TPOT keeps the limit; where none does, of least
    TPOT.
    """
    keeps = tpot <= options.limit
    value = np.where(keeps, -throughput, tpot)
    forbidden = ~np.broadcast_to(allowed, keeps.shape)
    return np.lexsort((value, ~keeps, forbidden, options.decision))[options.starts]


def regrets(options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Whether each option breaks its limit, and what throughput is lost with it as a share of the best.

    Regret is 1 - throughput / that of the best option which keeps the limit as measured; 1 where the limit is
    broken. Below 0 it is that of an option which exceeds the limit by less than `MAX_EXCESS`.
    """
    given = options.of
    best = given.throughput[best_options(options, given.tpot, given.throughput)][options.decision]
    broken = given.tpot > MAX_EXCESS * options.limit
    return broken, np.where(broken, 1.0, 1 - given.throughput / best)


class Outcome(NamedTuple):
    """What comes of each decision: whether its limit is broken, regret, and the option.

    `nan` where there is no answer. Of chance it is what is expected, and there are no options.
    """

    broken: np.ndarray
    regret: np.ndarray
    option: np.ndarray


POINT, MOST_RANKS, CONFIGURATOR, CHANCE = (
    "confidence 50 %",
    "most tensor ranks, as measured",
    "AIConfigurator",
    "chance",
)
"""Who chooses: the prediction itself, a rule, another program, and nobody."""


CONFIDENCES = {f"confidence {level} %": level for level in LEVELS}
"""Predictions that choose, by the probability with which they keep a limit."""


def outcomes_of(options: Options) -> dict[str, Outcome]:
    """By who chooses: predictions at each confidence, then baselines."""
    broken, regret = regrets(options)
    choices = choices_of_predictions(options) | choices_of_baselines(options)
    found = {name: Outcome(broken[at] + 0.0, regret[at], at) for name, at in choices.items()}
    unknown = np.where(answered(options), 0.0, np.nan)
    asked = found[CONFIGURATOR]
    found[CONFIGURATOR] = Outcome(asked.broken + unknown, asked.regret + unknown, asked.option)
    broken, regret = (_mean_of_each(options, values) for values in (broken, regret))
    return found | {CHANCE: Outcome(broken, regret, np.array([], int))}


def choices_of_predictions(options: Options) -> dict[str, np.ndarray]:
    """The option of each decision at each confidence; at 50 % by the prediction itself."""
    given, throughput = options.of, options.of.predicted_throughput
    ends = {name: bound(given, level) for name, level in CONFIDENCES.items()}
    return {name: best_options(options, end, throughput) for name, end in ends.items()}


def choices_of_baselines(options: Options) -> dict[str, np.ndarray]:
    """The option of each decision by a rule and by AIConfigurator, whose throughput is users over TPOT.

    The rule deploys the most tensor ranks and finds the users by measuring: it knows what predictions do not.
    """
    given = options.of
    most = given.tp == np.maximum.reduceat(given.tp, options.starts)[options.decision]
    throughput = given.users_per_chip / given.configurator
    return {
        MOST_RANKS: best_options(options, given.tpot, given.throughput, most),
        CONFIGURATOR: best_options(options, given.configurator, throughput),
    }


def bound(given: Configurations, level: int) -> np.ndarray:
    """TPOT that is not exceeded with the probability of a level, in s."""
    return given.predicted * Interval(1.0, given.high).bound(level)


def answered(options: Options) -> np.ndarray:
    """Whether AIConfigurator answers every option of a decision."""
    return np.logical_and.reduceat(np.isfinite(options.of.configurator), options.starts)


def _mean_of_each(options: Options, values: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values + 0.0, options.starts) / np.bincount(options.decision)
