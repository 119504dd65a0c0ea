"""What `recommend` is asked: a model, chips, load, limits; and the rows of the serving schema among which it
chooses."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.evaluate import VERSION
from perfmodel.inference.framework_support import check_serves, serving_frameworks
from perfmodel.inference.serving_predictions import COLUMNS
from perfmodel.inference.serving_row import number
from perfmodel.library.chip import chip_file
from perfmodel.library.files import word_of
from perfmodel.library.fitted_intervals import Interval
from perfmodel.library.framework import older_versions
from perfmodel.library.model import draft_layers, load_model, load_priced, published
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
    speculative_tokens: tuple[float, ...] = ()
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
    def drafted(self) -> tuple[float, ...]:
        """Numbers of drafted tokens that are tried: as asked, else none, and one where the model has layers
        for it."""
        return self.speculative_tokens or ((0.0, 1.0) if draft_layers(self.model) else (0.0,))

    @property
    def users(self) -> tuple[float, ...]:
        """Numbers of users that are tried: as asked, else from one on, four in each doubling."""
        if self.concurrency or self.open_loop:
            return self.concurrency or (np.nan,)
        most = USERS_PER_CHIP * max(self.n_chips)
        steps = np.geomspace(1.0, 2.0**17, 4 * 17 + 1).round()
        return tuple(np.unique(steps[steps <= max(most, LEAST_USERS)]).tolist())


Words = str | Sequence[str]
Numbers = float | str | Sequence[float] | Sequence[str]
"""One, or several; a number may be written as text."""


def ask(
    *,
    model: str,
    isl: float,
    osl: float,
    chip: Words = (),
    n_chips: Numbers = (),
    concurrency: Numbers = (),
    requests_per_s: float | None = None,
    ttft_ms: float | None = None,
    tpot_ms: float | None = None,
    end_to_end_ms: float | None = None,
    usd_per_million: float | None = None,
    framework: Words = (),
    precision: Words = (),
    kv_precision: Words = (),
    speculative_tokens: Numbers = (),
    mode: Words = (),
    prefill_chip: Words = (),
    decode_chip: Words = (),
    ffn_chip: Words = (),
    objective: str = "throughput",
    confidence: int = 80,
    usd_per_chip_hour: float | None = None,
    **columns: Any,
) -> Question:
    """A question in plain values: what is left out is chosen, a limit that is left out does not hold.

    **Arguments:**

    - as `recommend` has them; `columns`: further ones of the serving schema.

    **Raises:**

    - `InputError`: for what is not a number above zero, and for a column that the schema does not have.
    """
    if VERSION in columns:
        words = ", ".join(older_versions())
        raise InputError(f"{VERSION} is part of framework here; give one of {words} as framework.")
    quote = {} if usd_per_chip_hour is None else {"usd_per_chip_hour": f"{usd_per_chip_hour}"}
    limits = (ttft_ms, tpot_ms, end_to_end_ms, usd_per_million)
    return Question(
        model=_word("model", model),
        chips=_words("chip", chip),
        n_chips=_numbers("n_chips", n_chips),
        isl=_number("isl", isl),
        osl=_number("osl", osl),
        concurrency=_numbers("concurrency", concurrency),
        requests_per_s=number("requests_per_s", _text(requests_per_s)),
        frameworks=_words("framework", framework),
        precisions=_words("precision", precision),
        kv_precisions=_words("kv_precision", kv_precision) or ("",),
        speculative_tokens=_numbers("speculative_tokens", speculative_tokens),
        modes=tuple(word_of(word, MODES, "mode") for word in _words("mode", mode)),
        prefill_chips=_words("prefill_chip", prefill_chip),
        decode_chips=_words("decode_chip", decode_chip),
        ffn_chips=_words("ffn_chip", ffn_chip),
        limits=Limits(*map(_limit, Limits._fields, limits)),
        objective=word_of(_word("objective", objective), list(OBJECTIVES), "objective"),
        confidence=whole_number("confidence", confidence),
        cells={word_of(name, COLUMNS, "column"): _text(x) for name, x in columns.items()} | quote,
    )


SEVERAL = (
    *("chip", "n_chips", "concurrency", "framework", "precision", "kv_precision"),
    *("speculative_tokens", "mode", "prefill_chip", "decode_chip", "ffn_chip"),
)
"""What a question may give several of, with commas where it is text."""


def ask_cells(cells: Mapping[str, str]) -> Question:
    """A question in text: a row of a file, or options of a command; what is empty is left out.

    **Raises:**

    - `InputError`: for what is missing or wrong.
    """
    given = {name: cell for name, cell in cells.items() if cell.strip()}
    missing = [name for name in ("model", "isl", "osl") if name not in given]
    if missing:
        raise InputError(
            f"{missing[0]} is missing; give --{missing[0]}, or a column of --questions."
        )
    return ask(**{name: _cell_of(name, cell) for name, cell in given.items()})


def _cell_of(name: str, cell: str) -> Any:
    return [one.strip() for one in cell.split(",")] if name in SEVERAL else cell.strip()


def _word(name: str, given: Any) -> str:
    """One word.

    **Raises:**

    - `InputError`: for anything but text.
    """
    if not isinstance(given, str | Path):
        raise InputError(f"{name} is {given!r:.40}; give a name as text.")
    return str(given)


def _words(name: str, given: Any) -> tuple[str, ...]:
    """One word, or several; none where it is empty.

    **Raises:**

    - `InputError`: for anything but text.
    """
    return tuple(filter(None, (_word(name, one) for one in _items(given))))


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    """One number, or several; none where it is empty."""
    return tuple(_number(name, one) for one in _items(given))


def _items(given: Any) -> Iterable[Any]:
    """What is in a list or an array, or one value alone; nothing of None."""
    if given is None:
        return ()
    if isinstance(given, np.ndarray):
        return cast(list[Any], given.ravel().tolist())
    alone = isinstance(given, str | Path) or not isinstance(given, Collection)
    return [given] if alone else cast(Collection[Any], given)


def _number(name: str, given: Any) -> float:
    """One number above zero.

    **Raises:**

    - `InputError`: for anything else.
    """
    if given is None or f"{given}" == "":
        raise InputError(f"{name} is missing; give a number.")
    return number(name, f"{given}")


def whole_number(name: str, given: Any) -> int:
    """A whole number above zero.

    **Raises:**

    - `InputError`: for anything else.
    """
    value = _number(name, given)
    if value != round(value):
        raise InputError(f"{name} is {given!r:.40}; allowed are whole numbers.")
    return int(value)


def _limit(name: str, given: Any) -> float:
    """A limit; without bound where none is given."""
    if given is None:
        return INFINITE
    try:
        return float(given)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {given!r:.40}, which is not a number.") from None


def _text(value: Any) -> str:
    """A value as a cell of the serving schema; None is an empty one."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else f"{value}"


USERS_PER_CHIP, LEAST_USERS = 128.0, 256.0
"""Users of each chip, and users in any case, up to which numbers are tried where none is given."""

POOLS_FROM = 16
"""Chips from which on pools are tried where no mode is asked for: two machines of eight."""


def check(question: Question) -> None:
    """Find out before any work whether the question can be answered.

    **Raises:**

    - `InputError`: saying what was given, and what is allowed.
    """
    load_priced(question.model)
    for framework in question.frameworks:
        check_serves(framework)
    named = (*question.prefill_chips, *question.decode_chips, *question.ffn_chips)
    for chip in (*question.chips, *named):
        chip_file(chip)
    if question.open_loop and (named or {*question.modes} - {AGGREGATED}):
        raise InputError(
            "requests_per_s is for mode aggregated alone; of two kinds of chips give concurrency instead."
        )
    Interval(1.0, 1.0).bound(question.confidence)
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


def pairs(
    question: Question, firsts: Sequence[str], seconds: Sequence[str]
) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Every two chips, with the cells of each framework and format that both have; where they have none in
    common, the cell is empty: the chip's own."""
    for first, second in itertools.product(firsts, seconds):
        frameworks = _both(frameworks_of(question, first), frameworks_of(question, second))
        formats = _both(formats_of(question, first), formats_of(question, second))
        for words in itertools.product(frameworks, formats, question.kv_precisions):
            names = ("framework", "precision", "kv_precision")
            shared = {"model": question.model} | loads(question)
            yield first, second, shared | dict(zip(names, words, strict=True))


def _both(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in first if word in second) or ("",)


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
