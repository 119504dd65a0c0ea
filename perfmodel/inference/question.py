"""What `recommend` is asked: a model, chips, load, limits; and the rows of the serving schema among which it
chooses."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.framework_support import serving_frameworks
from perfmodel.library.chip import chip_file
from perfmodel.library.files import word_of
from perfmodel.library.model import load_model, published
from perfmodel.workload.precision import runnable

INFINITE = float("inf")

AGGREGATED, DISAGGREGATED, ATTENTION_FFN = "aggregated", "disaggregated", "attention_ffn"
MODES = (AGGREGATED, DISAGGREGATED, ATTENTION_FFN)


class Limits(NamedTuple):
    """What a deployment must keep; infinite: anything."""

    ttft_ms: float = INFINITE
    tpot_ms: float = INFINITE
    end_to_end_ms: float = INFINITE
    usd_per_million_output_tokens: float = INFINITE


class Objective(NamedTuple):
    """The column that the best deployment has most of, or least; and what it is, in words."""

    column: str
    most: bool
    meaning: str


OBJECTIVES = {
    "throughput": Objective("output_tokens_per_s_per_chip", True, "output tokens/s per chip"),
    "cost": Objective("usd_per_million_output_tokens", False, "USD per million output tokens"),
    "energy": Objective("joules_per_output_token", False, "J per output token"),
    "speed": Objective("output_tokens_per_s_per_user", True, "tokens/s per user"),
}


class Question(NamedTuple):
    """What is asked. A list that is empty leaves the choice to `recommend`.

    - `chips`: that serve, or that do prompts and decode steps, or attention and feed-forward layers.
    - `n_chips`: numbers of chips, of both kinds together; empty with `requests_per_s`: as few as carry it.
    - `concurrency`: users of a closed loop; `requests_per_s`: `nan`, or requests that come at a rate.
    - `confidence`: in %, of the range at whose end limits are kept.
    - `cells`: further columns of the serving schema, as they are.
    """

    model: str
    chips: tuple[str, ...]
    n_chips: tuple[float, ...]
    isl: float
    osl: float
    concurrency: tuple[float, ...] = ()
    requests_per_s: float = float("nan")
    frameworks: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    kv_precisions: tuple[str, ...] = ("",)
    speculative_tokens: tuple[float, ...] = (0.0,)
    modes: tuple[str, ...] = ()
    prefill_chips: tuple[str, ...] = ()
    decode_chips: tuple[str, ...] = ()
    ffn_chips: tuple[str, ...] = ()
    limits: Limits = Limits()
    objective: str = "throughput"
    confidence: int = 80
    cells: dict[str, str] = {}

    @property
    def open_loop(self) -> bool:
        """Whether requests come at a rate."""
        return not np.isnan(self.requests_per_s)

    @property
    def users(self) -> tuple[float, ...]:
        """Numbers of users that are tried: as asked, else from one on, four in each doubling."""
        if self.concurrency or self.open_loop:
            return self.concurrency or (np.nan,)
        most = USERS_PER_CHIP * max(self.n_chips)
        steps = np.geomspace(1.0, 2.0**17, 4 * 17 + 1).round()
        return tuple(np.unique(steps[steps <= max(most, LEAST_USERS)]).tolist())


USERS_PER_CHIP, LEAST_USERS = 128.0, 256.0
"""Users of each chip, and users in any case, up to which numbers are tried where none is given."""

POOLS_FROM = 16
"""Chips from which on pools are tried where no mode is asked for: two machines of eight."""

NEAR_FORMATS = {"fp8": ("fp8_block",), "fp4": ("nvfp4", "mxfp4")}
"""Words that stand for the format of the same width that a checkpoint has."""


def check(question: Question) -> None:
    """Find out before any work whether the question can be answered.

    **Raises:**

    - `InputError`: saying what was given, and what is allowed.
    """
    load_model(question.model)
    for chip in (*question.chips, *question.prefill_chips, *question.decode_chips):
        chip_file(chip)
    word_of(question.objective, list(OBJECTIVES), "objective")
    for mode in question.modes:
        word_of(mode, list(MODES), "mode")
    if not (question.chips or (question.prefill_chips and question.decode_chips)):
        raise InputError("chip is missing; give --chip, one or several with commas.")
    if not question.n_chips and not question.open_loop:
        raise InputError(
            "n_chips is missing; give --n-chips, or --requests-per-s to find the fewest chips."
        )
    if question.concurrency and question.open_loop:
        raise InputError(
            "concurrency and requests_per_s are both given; give users who wait for their answers, "
            "or requests that come at a rate."
        )
    for name, limit in question.limits._asdict().items():
        if not limit > 0:
            raise InputError(f"the limit on {name} is {limit:g}; allowed are numbers above zero.")


def modes_of(question: Question) -> tuple[str, ...]:
    """Modes that are tried: as asked, else pools where their chips are given or there are many chips."""
    if question.modes:
        return question.modes
    modes = (AGGREGATED,) if question.chips else ()
    named = question.prefill_chips or question.decode_chips
    many = max(question.n_chips, default=0.0) >= POOLS_FROM
    pools = (DISAGGREGATED,) if (named or many) and not question.open_loop else ()
    return (*modes, *pools, *((ATTENTION_FFN,) if question.ffn_chips else ()))


def stacks(question: Question, chips: Sequence[str]) -> Iterator[dict[str, str]]:
    """Cells of every chip with every framework that runs on it, in every format."""
    for chip in chips:
        formats = formats_of(question, chip)
        choices = (frameworks_of(question, chip), formats, question.kv_precisions)
        for framework, precision, cache in itertools.product(*choices):
            words = {"chip": chip, "framework": framework, "model": question.model}
            yield words | {"precision": precision, "kv_precision": cache} | loads(question)


def loads(question: Question) -> dict[str, str]:
    """Cells of what is asked, without users."""
    lengths = {"isl": f"{question.isl:.10g}", "osl": f"{question.osl:.10g}"}
    return question.cells | lengths


def frameworks_of(question: Question, chip: str) -> tuple[str, ...]:
    """Frameworks that are tried on a chip: as asked, else all that run on it; else the smooth form."""
    if question.frameworks:
        return question.frameworks
    return serving_frameworks(chip_file(chip)[1].architecture) or ("",)


def formats_of(question: Question, chip: str) -> tuple[str, ...]:
    """Formats of the weights that are tried: as asked, else those that are published and that the chip
    multiplies; the model's own where there is none."""
    if question.precisions:
        return question.precisions
    stem, file = chip_file(chip)
    native = load_model(question.model).native
    ours = [f for f in sorted(published(question.model)) if runnable(f, file.matrix, stem) == f]
    return tuple(sorted(ours, key=lambda word: word != native)) or (native,)
