"""`perfmodel predict serving`: TTFT, TPOT, throughput, energy and price, for each row of a table.

TTFT: the time of a prompt alone, or of all prompts of a static batch together; queues are
not in it yet. TPOT: the time of one decode step with the whole batch in flight.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.breakdown import BOUNDS
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, with_columns, write_csv
from perfmodel.hardware.chip import Chip, restrict
from perfmodel.inference.serving import Service, largest_batch, serve
from perfmodel.interface.alike import gather, in_blocks, stack, structure
from perfmodel.interface.kernels import OVERFLOW, as_text
from perfmodel.kernels.rows import framework_of, number_of, word_of
from perfmodel.library.chip import chip_files, find_chip, load_chip, origin
from perfmodel.library.economics import load_economics, running_cost
from perfmodel.library.efficiency import load_interval
from perfmodel.library.files import named
from perfmodel.library.model import load_model
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.framework import backend
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import FORMATS, runnable
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import Mixture, Transformer, traced

MODES = ("serving", "offline", "static_batch", "single_stream")
NOT_MODELLED = ("disaggregated",)
"""Modes of the schema that cannot be predicted yet."""

LARGEST_FREE_BATCH = 4096.0
"""Sequences of an offline run whose batch is not given, at most."""


class Setting(NamedTuple):
    """A chip, a model and formats, which rows share, and what is often asked of them.

    - `stem`: the chip's name in the library.
    - `low`, `high`: factors of the interval.
    - `form`: what the compiled function depends on.
    - `heads`, `experts`: the most query heads of any layer; the fewest experts, `nan` without any.
    - `domain`: chips that fast links join.
    """

    chip: Chip
    plan: Plan
    model: Transformer
    stem: str
    low: float
    high: float
    form: Hashable
    heads: float
    experts: float
    domain: float


def setting(
    chip: str, model: str, precision: str, cache: str, framework: str, calibration: Path
) -> Setting:
    """Look up what a row names.

    **Raises:**

    - `InputError`: for a name that is not known, or a format that the chip cannot run.
    """
    stem, software = find_chip(chip), framework_of(framework)
    shape = load_model(model)
    file = chip_files()[stem]
    weights = runnable(_weights(precision, shape), file.matrix, stem)
    stored = _cache(cache)
    plan = Plan(
        weights=weights,
        cache=stored,
        framework=software or None,
        backend=backend(software, file.architecture, stored),
    )
    kinds = {"bf16", plan.format.matrix}
    loaded = restrict(load_chip(stem, plan, calibration), kinds)
    families = [
        load_interval(origin(stem, file), f, plan, calibration) for f in ("matmul", "decode")
    ]
    low, high = min(f.low for f in families), max(f.high for f in families)
    model_traced = traced(shape)
    return Setting(
        loaded,
        plan,
        model_traced,
        stem,
        low,
        high,
        structure((loaded, plan, model_traced)),
        query_heads(model_traced),
        fewest_experts(model_traced),
        float(loaded.scale_up.size),
    )


def _weights(precision: str, model: Transformer) -> str:
    """The format of the weights: of mixes the second part, the model's own where none is given."""
    if not precision.strip():
        return model.native
    words = [word_of(word, [*FORMATS, "fp4"], "precision") for word in precision.split("/")]
    if len(words) > 2:
        raise InputError(
            f"precision is {precision[:40]!r}; allowed are one format, or two as in fp16/int8."
        )
    if words[-1] == "fp4":
        return "mxfp4" if model.native == "mxfp4" else "nvfp4"
    return words[-1]


def _cache(word: str) -> str:
    return word_of(word, list(FORMATS), "kv_precision") if word.strip() else "bf16"


class Row(NamedTuple):
    """Numbers of a row; `nan` where a cell is empty."""

    n_chips: float
    tp: float
    pp: float
    ep: float
    dp: float
    isl: float
    osl: float
    concurrency: float
    length_ratio: float
    speculative_tokens: float


WHOLE = ("n_chips", "tp", "pp", "ep", "dp")
PLAN = (*WHOLE, "concurrency")
"""Columns that are written out as chosen where they were empty."""


def read_row(cells: dict[str, str]) -> Row:
    """The numbers of a row.

    **Raises:**

    - `InputError`: for a cell that is not a number greater than zero, or one that is missing.
    """
    numbers = {name: _number(name, cells.get(name, "").strip()) for name in Row._fields}
    mode = mode_of(cells.get("mode", ""))
    for name in ("isl", "osl"):
        if np.isnan(numbers[name]):
            raise InputError(f"{name} is missing; give a number of tokens greater than zero.")
    if numbers["speculative_tokens"] > 0:
        raise InputError(
            "speculative_tokens is given, but speculation is not modelled yet; leave it empty."
        )
    if mode == "single_stream":
        numbers["concurrency"] = 1.0
    if np.isnan(numbers["concurrency"]) and mode != "offline":
        raise InputError("concurrency is missing; give the number of sequences in flight.")
    if np.isnan(numbers["length_ratio"]):
        numbers["length_ratio"] = 1.0
    return Row(**numbers)


def mode_of(given: str) -> str:
    """The mode that a cell means; serving where it is empty.

    **Raises:**

    - `InputError`: for an unknown one, or one that is not modelled yet.
    """
    if not given.strip():
        return MODES[0]
    word = word_of(given, [*MODES, *NOT_MODELLED], "mode")
    if word in NOT_MODELLED:
        raise InputError(f"mode is {word}; modelled so far are {', '.join(MODES)}.")
    return word


def _number(name: str, text: str) -> float:
    if not text:
        return float("nan")
    number = number_of(text)
    if np.isnan(number):
        raise InputError(f"{name} is {text[:40]!r}, which is not a number.")
    lowest = 0.0 if name == "speculative_tokens" else np.nextafter(0.0, 1.0)
    if not lowest <= number <= 1e9:
        raise InputError(
            f"{name} is {text[:40]!r}; allowed are numbers greater than zero up to 1e9."
        )
    if name in WHOLE and number != round(number):
        raise InputError(f"{name} is {text[:40]!r}; allowed are whole numbers.")
    return number


class Split(NamedTuple):
    """A way to spread a model over chips."""

    tp: float
    pp: float
    ep: float
    dp: float


SIZES = tuple(2.0**i for i in range(11))
"""Numbers of chips tried where none is given: the smallest on which the model fits is taken."""


def splits(row: Row, given: Setting) -> list[Split]:
    """Every way to spread a row's model that agrees with what the row gives.

    **Raises:**

    - `InputError`: when there is none.
    """
    heads = given.heads
    if not np.isnan(row.tp) and heads % row.tp:
        near = [size for size in SIZES if heads % size == 0]
        raise InputError(
            f"tp is {row.tp:.0f}, which does not divide the {heads:.0f} heads of {row_name(given)}; "
            f"the nearest that does is {min(near, key=lambda size: abs(size - row.tp)):.0f}."
        )
    if row.pp > given.model.layers:
        raise InputError(
            f"pp is {row.pp:.0f}, but may not be more than the {given.model.layers:.0f} layers "
            f"of {row_name(given)}."
        )
    if row.ep > given.experts:
        raise InputError(
            f"ep is {row.ep:.0f}, but may not be more than the {given.experts:.0f} experts "
            f"of {row_name(given)}."
        )
    found = [
        Split(tp, pp, _experts(row, given, tp * dp), dp)
        for count in _counts(row)
        for dp in ((1.0,) if np.isnan(row.dp) else (row.dp,))
        for tp, pp in _layouts(row, given, count / dp)
    ]
    if not found:
        raise InputError(
            f"{_given(row)}: that cannot be, for n_chips is tp x pp x dp; leave one of them empty."
        )
    return list(dict.fromkeys(found))


def _counts(row: Row) -> list[float]:
    """Numbers of chips to try: multiples of what the row gives."""
    if not np.isnan(row.n_chips):
        return [row.n_chips]
    step = np.nanprod([row.tp, row.pp, row.dp])
    return [size * float(step) for size in SIZES]


def _given(row: Row) -> str:
    """The parallelism that a row gives, for a sentence."""
    numbers = {name: getattr(row, name) for name in ("n_chips", "tp", "pp", "dp")}
    return ", ".join(f"{name} is {n:.0f}" for name, n in numbers.items() if not np.isnan(n))


def row_name(given: Setting) -> str:
    """The model's name, for a sentence."""
    return str.__str__(given.model.name)


def query_heads(model: Transformer) -> float:
    """The most query heads of any layer."""
    attentions = [
        stack.layer.attention for stack in model.stacks if stack.layer.attention is not None
    ]
    return max((float(attention.heads) for attention in attentions), default=1.0)


def fewest_experts(model: Transformer) -> float:
    """The fewest experts of any layer that has some; `nan` where none has."""
    counts = [
        float(stack.layer.feed_forward.experts)
        for stack in model.stacks
        if isinstance(stack.layer.feed_forward, Mixture)
    ]
    return min(counts, default=float("nan"))


def _layouts(row: Row, given: Setting, count: float) -> list[tuple[float, float]]:
    """Tensor and pipeline ranks of `count` chips; launched ones take all tensor ranks of a domain."""
    if given.chip.execution == "dataflow" and np.isnan(row.tp):
        ranks = [1.0]
    elif not np.isnan(row.tp):
        ranks = [row.tp]
    else:
        most = min(given.domain, count if np.isnan(row.pp) else count / row.pp)
        ranks = [n for n in SIZES if n <= most and given.heads % n == 0 and count % n == 0]
        ranks = ranks[-1:] if given.chip.execution == "launched" else ranks
    stages = [
        (tp, count / tp) for tp in ranks if count % tp == 0 and count / tp <= given.model.layers
    ]
    return [split for split in stages if np.isnan(row.pp) or row.pp == split[1]]


def _experts(row: Row, given: Setting, ranks: float) -> float:
    """Experts are spread over all ranks of a stage, as far as there are experts."""
    if not np.isnan(row.ep):
        return row.ep
    return 1.0 if np.isnan(given.experts) else min(ranks, given.experts)


@eqx.filter_jit
def _served(plan: Plan, block: tuple[Chip, Transformer, dict]) -> tuple[Service, Scalar]:
    """Serve each row of a block; its batch, where that was free."""

    def one(chip: Chip, model: Transformer, row: dict):
        split = dataclasses.replace(
            plan, tensor=row["tp"], pipeline=row["pp"], expert=row["ep"], data=row["dp"]
        )
        length = row["prompt"] + row["output"]
        free = jnp.minimum(largest_batch(chip, split, model, length), LARGEST_FREE_BATCH)
        batch = jnp.where(row["batch"] > 0, row["batch"], free)
        together = jnp.where(row["together"] > 0, 1.0, batch)
        traffic = Traffic(batch, row["prompt"], row["output"], together)
        return serve(chip, split, model, traffic), batch

    return jax.vmap(one)(*block)


class Case(NamedTuple):
    """A row that can be predicted: its place, what it names, its numbers, and the ways to spread it."""

    place: int
    setting: Setting
    row: Row
    mode: str
    splits: list[Split]


def predict_serving(
    rows: Path, out: Path, calibration: Path, progress: Callable[[int, int], None]
) -> dict[str, list[str]]:
    """Predict every row of a CSV file and write the same rows with the predictions."""
    table = read_csv(rows)
    cells = cells_of(table)
    for name in ("chip", "model"):
        if name not in cells:
            raise InputError(f"{rows} has no column {name!r}; it has {named(cells)}.")
    columns = predict_cells(cells, len(table), calibration, progress)
    write_csv(out, with_columns(table, columns))
    return columns


def predict_cells(
    cells: dict[str, list[str]],
    count: int,
    calibration: Path,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> dict[str, list[str]]:
    """The columns that a prediction adds to a table of `count` rows."""
    errors = [""] * count
    alike: dict = {}
    read = {name: column for name, column in cells.items() if name in READ}
    for place in range(count):
        try:
            row = {name: column[place] for name, column in read.items()}
            case = case_of(place, row, calibration)
        except InputError as wrong:
            errors[place] = str(wrong)
            continue
        alike.setdefault(case.setting.form, []).append(case)
    results: list[dict[str, str]] = [{} for _ in range(count)]
    for done, cases in enumerate(alike.values()):
        progress(done, len(alike))
        for case, result in zip(cases, _outcomes(cases), strict=True):
            results[case.place] = result
            errors[case.place] = result.pop("error")
    progress(len(alike), len(alike))
    names = [*PLAN, *OUTPUTS]
    columns = {name: [result.get(name, "") for result in results] for name in names}
    for name in PLAN:
        given = cells.get(name, [""] * count)
        columns[name] = [chosen or cell for chosen, cell in zip(columns[name], given, strict=True)]
    return columns | {"error": errors}


def case_of(place: int, cells: dict[str, str], calibration: Path) -> Case:
    """A row of the serving schema.

    **Raises:**

    - `InputError`: for a row that cannot be predicted.
    """
    words = [cells.get(name, "").strip() for name in NAMES]
    given = _known(*words, calibration)
    if isinstance(given, str):
        raise InputError(given)
    row = read_row(cells)
    return Case(place, given, row, mode_of(cells.get("mode", "")), splits(row, given))


NAMES = ("chip", "model", "precision", "kv_precision", "framework")
READ = (*NAMES, "mode", *Row._fields)
"""Columns that are read; the others pass through."""


@functools.cache
def _known(
    chip: str, model: str, precision: str, cache: str, framework: str, calibration: Path
) -> Setting | str:
    """The setting of a row, or what is wrong with its names: each is looked up once."""
    try:
        return setting(chip, model, precision, cache, framework, calibration)
    except InputError as wrong:
        return str(wrong)


OUTPUTS = (
    "ttft_ms",
    "ttft_ms_low",
    "ttft_ms_high",
    "tpot_ms",
    "tpot_ms_low",
    "tpot_ms_high",
    "output_tokens_per_s_per_user",
    "output_tokens_per_s_per_chip",
    "total_tokens_per_s",
    "joules_per_output_token",
    "usd_per_million_output_tokens",
    "fits",
    "bound",
)


def _outcomes(cases: list[Case]) -> list[dict[str, str]]:
    """Serve all cases in every way, and take the best way of each."""
    rows = [(case, split) for case in cases for split in case.splits]
    settings = list({id(case.setting): case.setting for case in cases}.values())
    where = {id(one): i for i, one in enumerate(settings)}
    which = np.array([where[id(case.setting)] for case, _ in rows])
    trees = gather(stack([(one.chip, one.model) for one in settings]), which)
    served, batch = in_blocks(
        functools.partial(_served, settings[0].plan), (*trees, _numbers(rows))
    )
    ends = np.cumsum([len(case.splits) for case in cases])
    found = []
    for case, end in zip(cases, ends, strict=True):
        best = _best(case, served, slice(end - len(case.splits), end))
        one = jax.tree.map(lambda leaf, best=best: leaf[best], served)
        found.append(_outcome(case, rows[best][1], one, float(batch[best])))
    return found


def _numbers(rows: list[tuple[Case, Split]]) -> dict[str, np.ndarray]:
    """What the rows of a block are, by column; -1 where the batch is free, or starts together."""
    columns = {
        "prompt": [case.row.isl * case.row.length_ratio for case, _ in rows],
        "output": [case.row.osl * case.row.length_ratio for case, _ in rows],
        "batch": [np.nan_to_num(case.row.concurrency, nan=-1.0) for case, _ in rows],
        "together": [
            1.0 if case.mode in ("serving", "single_stream") else -1.0 for case, _ in rows
        ],
    } | {name: [getattr(split, name) for _, split in rows] for name in Split._fields}
    number = as_scalar(0.0).dtype
    return {name: np.asarray(values, number) for name, values in columns.items()}


def _best(case: Case, served: Service, among: slice) -> int:
    """The fewest chips on which it fits, then the fastest."""
    chips = np.array([split.tp * split.pp * split.dp for split in case.splits])
    short = np.maximum(-served.slack[among], 0.0)
    chips = np.where(short > 0, np.inf, chips)
    return among.start + int(np.lexsort((served.tpot[among], short, chips))[0])


def _outcome(case: Case, split: Split, served: Service, batch: float) -> dict[str, str]:
    """The cells of one row."""
    given, row = case.setting, case.row
    chips = split.tp * split.pp * split.dp
    output = row.osl * row.length_ratio
    rate = batch * output / served.total
    dollars = price_of(given.stem, chips, float(served.energy), float(1 / rate))
    fits = served.slack >= 0
    error = "" if fits else _short(given, split, served)
    bound = int(np.argmax(served.seconds))
    if not np.isfinite([served.ttft, served.tpot, rate]).all():
        return {"error": OVERFLOW}
    numbers = {
        "n_chips": chips,
        **split._asdict(),
        "concurrency": batch,
        "ttft_ms": served.ttft * 1e3,
        "ttft_ms_low": served.ttft * 1e3 * given.low,
        "ttft_ms_high": served.ttft * 1e3 * given.high,
        "tpot_ms": served.tpot * 1e3,
        "tpot_ms_low": served.tpot * 1e3 * given.low,
        "tpot_ms_high": served.tpot * 1e3 * given.high,
        "output_tokens_per_s_per_user": 1 / served.tpot,
        "output_tokens_per_s_per_chip": rate / chips,
        "total_tokens_per_s": rate * (1 + row.isl / row.osl),
        "joules_per_output_token": served.energy,
        "usd_per_million_output_tokens": 1e6 * dollars,
    }
    cells = dict(zip(numbers, as_text(np.array(list(numbers.values()))), strict=True))
    return cells | {"fits": "true" if fits else "false", "bound": BOUNDS[bound], "error": error}


def price_of(stem: str, chips: float, joules: float, seconds: float) -> float:
    """USD of `seconds` on `chips`, and of the electricity for `joules`; `nan` where a price is not known."""
    economics = load_economics()
    return running_cost(stem) * chips * seconds + joules * economics.overhead * economics.tariff


def _short(given: Setting, split: Split, served: Service) -> str:
    chips = split.tp * split.pp * split.dp
    return (
        f"{row_name(given)} does not fit on {chips:.0f} x {given.stem}: "
        f"{-served.slack:.4g} bytes short on each chip; use more chips, a smaller batch or format."
    )
